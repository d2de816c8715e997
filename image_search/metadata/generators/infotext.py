"""AUTOMATIC1111's text layout, which many programs borrow: prompt, "Negative prompt: ...", one line of settings."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

_NEGATIVE = re.compile(r"(?:^|\n)[ \t]*negative prompt:[ \t]*", re.IGNORECASE)
_STEPS_LINE = re.compile(r"(?:^|\n)[ \t]*steps: ?\d", re.IGNORECASE)
_STEPS_INSIDE = re.compile(r"steps: ?\d+, ?(?:sampler|size|seed|cfg scale|guidance scale)\b", re.IGNORECASE)
_SETTING = re.compile(r'(\w[\w \-/.]{0,60}):\s*("(?:\\.|[^\\"])*"|[^,\n]*)(?:,|\n|$)')
_RESOURCES = re.compile(r",?\s*Civitai resources: (?=\[)")
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
    prompt = words[: negative.start()] if negative else words
    return Infotext(
        prompt=prompt.strip(),
        negative_prompt=words[negative.end() :].strip() if negative else None,
        settings=_split_settings(settings[:_MAX_SETTINGS]),
    )


def _find_settings(text: str) -> int:
    lines = list(_STEPS_LINE.finditer(text))
    if lines:
        return lines[-1].start()
    if inside := _STEPS_INSIDE.search(text):  # Draw Things puts it behind the last sentence
        return inside.start()
    last = text.rfind("\n") + 1
    return last if len(_SETTING.findall(text[last : last + _MAX_SETTINGS])) >= 3 else len(text)


def _split_settings(line: str) -> dict[str, str]:
    if resources := _RESOURCES.search(line):
        line = line[: resources.start()]  # a list of objects, the last of the settings
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
