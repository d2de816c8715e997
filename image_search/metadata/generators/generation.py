"""The settings that a generator stored in one image, and their readable text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_STEPS = 1_000_000
MAX_SIDE = 100_000  # pixels; a seed that is linked where a size belongs is larger
_SIZE = re.compile(r"\D{0,3}(\d{1,6})\D{1,4}(\d{1,6})(?!\d)")


@dataclass(frozen=True, slots=True)
class Generation:
    """The settings of one picture; None where the generator does not say. prompt "" means: made without words.

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
