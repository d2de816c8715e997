"""The settings that a generator stored in one image, and AUTOMATIC1111's text, in which many programs write them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from image_search.metadata.text import Fields

MAX_STEPS = 1_000_000
MAX_SIDE = 100_000  # pixels; a seed that is linked where a size belongs is larger
_SIZE = re.compile(r"\D{0,3}(\d{1,6})\D{1,4}(\d{1,6})(?!\d)")


@dataclass(frozen=True, slots=True)
class Generation:
    """The settings of one image; None where the generator does not say. prompt "" means: made without words.

    written: the text as the generator wrote it, where that is meant for people.
    extra:   further settings, by name, for the text people read and search.
    """

    generator: str
    prompt: str | None = None
    negative_prompt: str | None = None
    model: str | None = None
    seed: str | None = None
    steps: int | None = None
    sampler: str | None = None
    cfg: float | None = None
    size: str | None = None
    written: str | None = None
    extra: tuple[tuple[str, str], ...] = ()

    def write(self) -> str | None:
        """The readable text: as written, or in AUTOMATIC1111's layout, which other programs can take; None if empty."""
        if self.written:
            return self.written
        settings = [
            ("Steps", self.steps),
            ("Sampler", self.sampler),
            ("CFG scale", self.cfg if self.cfg is None else f"{self.cfg:g}"),
            ("Seed", self.seed),
            ("Size", self.size),
            ("Model", self.model),
            *self.extra,
        ]
        lines = [
            self.prompt,
            self.negative_prompt and f"Negative prompt: {self.negative_prompt}",
            ", ".join(f"{name}: {value}" for name, value in settings if value not in (None, "")),
        ]
        return "\n".join(line.strip() for line in lines if line and line.strip()) or None


_ALIASES = {
    "prompt": ("prompt", "positiveprompt", "positive", "fullprompt"),
    "negative_prompt": ("negativeprompt", "negative", "uc", "fullnegativeprompt"),
    "model": (
        "model",
        "modelname",
        "basemodel",
        "basemodelname",
        "usestablediffusionmodel",
        "stablediffusionmodel",
        "modelweights",
        "sdmodel",
    ),
    "seed": ("seed", "noiseseed", "imageseed"),
    "steps": ("steps", "numinferencesteps"),
    "sampler": ("sampler", "samplername", "scheduler", "schedulername"),
    "cfg": ("cfgscale", "cfg", "guidancescale", "guidance", "scale"),
    "size": ("size", "resolution"),
}


def read_settings(generator: str, settings: Mapping[str, Any], **known: Any) -> Generation:
    """Settings under any of their usual names. Values that are known already are given by keyword."""
    plain = {re.sub(r"[ _-]", "", str(key)).lower(): value for key, value in settings.items()}

    def pick(field: str) -> Any:
        return next((plain[key] for key in _ALIASES[field] if plain.get(key) not in (None, "", [])), None)

    size = as_size(plain.get("width"), plain.get("height")) or as_size(pick("size"))
    found: dict[str, Any] = {
        "prompt": as_text(pick("prompt")),
        "negative_prompt": as_text(pick("negative_prompt")),
        "model": as_name(pick("model")),
        "seed": as_seed(pick("seed")),
        "steps": as_steps(pick("steps")),
        "sampler": as_name(pick("sampler")),
        "cfg": as_number(pick("cfg")),
        "size": size,
    }
    found |= {key: value for key, value in known.items() if value is not None}
    extra = found.pop("extra", ())
    if not any(label == "Lora" for label, _ in extra):
        extra = (*extra, *(("Lora", name) for name in _list_loras(plain)))
    return Generation(generator, extra=extra, **found)


_LORA_KEY = re.compile(r"loras?|lora\d{1,2}|useloramodel")


def _list_loras(plain: Mapping[str, Any]) -> list[str]:
    """Names of LoRAs: a name, "name : weight", an object, or a list of these or of [name, weight]."""
    values = [value for key, value in plain.items() if _LORA_KEY.fullmatch(key)]
    entries = [entry for value in values for entry in (value[:50] if isinstance(value, list) else [value])]
    names = []
    for entry in entries:
        if isinstance(entry, list) and entry:
            entry = entry[0]
        if isinstance(entry, dict):
            entry = entry.get("model") or entry.get("lora") or entry.get("file") or entry
        if (name := as_name(entry)) and name != "None":
            names.append(name.split(" : ")[0])
    return list(dict.fromkeys(names))[:50]


def fill_gaps(first: Generation, second: Generation | None) -> Generation:
    """The first, with what it does not say taken from the second."""
    if second is None:
        return first
    values = {
        name: getattr(first, name) if getattr(first, name) not in (None, "", ()) else getattr(second, name)
        for name in Generation.__slots__
    }
    return Generation(**values)


def as_text(value: Any) -> str | None:
    """Text, or the texts of a list on lines of their own; None for anything else."""
    if isinstance(value, list):
        parts = [part.get("prompt") if isinstance(part, dict) else part for part in value[:100]]
        return "\n".join(part for part in parts if part and isinstance(part, str)) or None
    return value if isinstance(value, str) else None


def as_name(value: Any) -> str | None:
    """A name, given as such or inside an object that describes the thing."""
    if isinstance(value, dict):
        names = (value.get(key) for key in ("model_name", "modelFileName", "name", "content", "key"))
        value = next((name for name in names if isinstance(name, str) and name), None)
    return value.strip()[:1000] or None if isinstance(value, str) else None


def as_seed(value: Any) -> str | None:
    """A seed as text, because some have more than 64 bits; hexadecimal ones as numbers; -1 says "any" and is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and math.isfinite(value):
        value = int(value)
    text = str(value).strip() if isinstance(value, int | str) else ""
    if re.fullmatch(r"0x[0-9A-Fa-f]{1,32}", text):
        text = str(int(text, 16))
    return text if re.fullmatch(r"-?\d{1,40}", text) and text != "-1" else None


def as_steps(value: Any) -> int | None:
    """A number of steps, or None for what cannot be one."""
    number = as_number(value)
    return int(number) if number is not None and 0 <= number <= MAX_STEPS else None


def as_number(value: Any) -> float | None:
    """A finite number, given as such or as text."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float | str)
        or (isinstance(value, str) and len(value) > 40)
    ):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def as_size(value: Any, height: Any = None) -> str | None:
    """ "832x1216" from two numbers, a list of two, or text such as "832 x 1216" and "(832, 1216)"."""
    if isinstance(value, list) and len(value) == 2 and height is None:
        value, height = value
    if height is not None:
        sides = as_number(value) or 0, as_number(height) or 0
        return f"{int(sides[0])}x{int(sides[1])}" if min(sides) >= 1 and max(sides) <= MAX_SIDE else None
    match = _SIZE.match(value[:60]) if isinstance(value, str) else None
    return f"{int(match[1])}x{int(match[2])}" if match and max(int(match[1]), int(match[2])) <= MAX_SIDE else None


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
