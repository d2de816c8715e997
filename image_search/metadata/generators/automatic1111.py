"""AUTOMATIC1111's web UI and its descendants, and other programs that write the same text."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass

from image_search.metadata.generators.generation import Generation, as_name, read_settings
from image_search.metadata.text import Fields

# AUTOMATIC1111's text layout, which many programs borrow: prompt, "Negative prompt: ...", one line of settings.

_NEGATIVE = re.compile(r"(?:^|\n)[ \t]*negative prompt:[ \t]*", re.IGNORECASE)
_NEGATIVE_INSIDE = re.compile(r"(?<=[\s,.])negative prompt:[ \t]*", re.IGNORECASE)
_STEPS_LINE = re.compile(r"(?:^|\n)[ \t]*steps: ?\d", re.IGNORECASE)
_STEPS_INSIDE = re.compile(r"steps: ?\d+, ?(?:sampler|size|seed|cfg scale|guidance scale)\b", re.IGNORECASE)
_SETTING = re.compile(r'(\w[\w \-/.]{0,60}):\s*("(?:\\.|[^\\"])*"|[^,\n]*)(?:,|\n|$)')
_RESOURCES = "Civitai resources: ["
_MODEL_KINDS, _LORA_KINDS = {"checkpoint", "model"}, {"lora", "lycoris", "locon", "dora"}
_MAX_SETTINGS = 64 << 10  # characters


@dataclass(frozen=True, slots=True)
class Infotext:
    """The three parts; settings by their name in lower case, as text."""

    prompt: str
    negative_prompt: str | None
    settings: dict[str, str]


def split_infotext(text: str) -> Infotext:
    """Take the text apart. Without settings or negative prompt all of it is prompt."""
    start = _find_settings(text)
    words, settings = text[:start], text[start:]
    negative = _NEGATIVE.search(words)
    if negative is None and settings and "\n" not in words:  # forms for one line turn line ends into blanks
        negative = _NEGATIVE_INSIDE.search(words)
    prompt = words[: negative.start()] if negative else words
    return Infotext(
        prompt=prompt.strip(),
        negative_prompt=words[negative.end() :].strip() if negative else None,
        settings=_split_settings(settings[:_MAX_SETTINGS]),
    )


def _find_settings(text: str) -> int:
    lines = list(_STEPS_LINE.finditer(text))
    # Wildcard templates are written below the settings and may have "Steps: 5" on a line of their own.
    full = [line for line in lines if _STEPS_INSIDE.match(text, line.start() + len(line[0]) - len(line[0].lstrip()))]
    if lines:
        return (full or lines)[-1].start()
    if inside := _STEPS_INSIDE.search(text):  # Draw Things puts it behind the last sentence
        return inside.start()
    last = text.rfind("\n") + 1
    return last if len(_SETTING.findall(text[last : last + _MAX_SETTINGS])) >= 3 else len(text)


def _split_settings(line: str) -> dict[str, str]:
    line, found, _ = line.partition(_RESOURCES)  # a list of objects, the last of the settings
    if found:
        line = line.rstrip().removesuffix(",")
    settings: dict[str, str] = {}
    for name, value in _SETTING.findall(line):
        settings.setdefault(name.strip().lower(), _unquote(value.strip()))
    return settings


def _unquote(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value[1:-1]


# "Version: ..." distinguishes them: Forge f2.0.1v1.10.1-..., reForge f1.0.0v2-v1.10.1..., EasyReforge f1.0.0-v1...
_VERSIONS = (
    (re.compile(r"classic"), "Forge Classic"),
    (re.compile(r"neo"), "Forge Neo"),
    (re.compile(r"f\d+(?:\.\d+)+-v"), "EasyReforge"),
    (re.compile(r"f\d+(?:\.\d+)+v\d+-v"), "reForge"),
    (re.compile(r"f\d"), "Forge"),
    (re.compile(r"Fooocus"), "Fooocus"),
    (re.compile(r"ComfyUI"), "ComfyUI"),
    (re.compile(r"Easy Diffusion"), "Easy Diffusion"),
)


def read_automatic1111(fields: Fields) -> Generation | None:
    """The text in "parameters", unless it is JSON, which is another program's."""
    text = fields.get("parameters")
    if not isinstance(text, str) or not text.strip() or text.lstrip().startswith("{"):
        return None
    return read_infotext(text)


def read_infotext(text: str, generator: str | None = None) -> Generation:
    """A text in AUTOMATIC1111's layout, which is kept as it is. The generator is found in it unless given."""
    parts = split_infotext(text)
    settings = parts.settings
    models, loras = _read_resources(text)
    return read_settings(
        generator or _name_generator(parts, text),
        settings,
        prompt=settings.get("raw prompt") or parts.prompt,
        negative_prompt=settings.get("raw negative prompt") or parts.negative_prompt,
        sampler=settings.get("sampler"),
        written=text.strip(),
        model=settings.get("model") or next(iter(models), None),
        extra=tuple(("Lora", name) for name in loras),
    )


def _read_resources(text: str) -> tuple[list[str], list[str]]:
    """Names of checkpoints and of LoRAs in Civitai's list, each resource an object."""
    names: dict[bool, list[str]] = {False: [], True: []}
    with suppress(ValueError, RecursionError):
        if (start := text.find(_RESOURCES)) >= 0:
            resources, _ = json.JSONDecoder().raw_decode(text[start + len(_RESOURCES) - 1 :])
            for resource in resources[:50]:
                name = as_name(resource.get("modelName")) if isinstance(resource, dict) else None
                kind = str(resource.get("type")).lower() if name else ""
                if name and kind in _MODEL_KINDS | _LORA_KINDS:
                    names[kind in _LORA_KINDS].append(name)
    return names[False], names[True]


def _name_generator(parts: Infotext, text: str) -> str:
    settings = parts.settings
    version = settings.get("version", "")
    for pattern, name in _VERSIONS:
        if pattern.match(version):
            return name
    if settings.get("app", "").lower().startswith("sd.next") or "pipeline" in settings or "backend" in settings:
        return "SD.Next"
    if "Civitai resources:" in text or "Civitai metadata:" in text:
        return "Civitai"
    return "AUTOMATIC1111"
