"""Between containers and generators: the found texts as one mapping of keys to values, whatever carried them.

The same settings are a PNG chunk "prompt" in one file, "prompt:{...}" in the EXIF tag Make of another, and a key of a
JSON object in UserComment of a third. Here they all become the key "prompt".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

# Where programs put settings that are text or one JSON object; in the order in which they are believed.
_CARRIERS = re.compile(
    r"(?:parameters|Comment|EXIF:(?:UserComment|ImageDescription|Make|Model|XPComment)|XMP:(?:UserComment|description)"
    r"|JPEG:Comment|GIF:Comment|stealth|sidecar:.*)(?: \(\d+\))?",
    re.DOTALL,
)
_PREFIX = re.compile(r"\s*(prompt|workflow|parameters)\s*:\s*(?=\{)", re.IGNORECASE)
_LOOKS_GENERATED = re.compile(r"negative prompt:|\bsteps:\s*\d+.*\b(?:sampler|seed|cfg scale|size):", re.I | re.S)

Fields = dict[str, Any]


def make_fields(texts: Mapping[str, str]) -> Fields:
    """Keys to values: text, or what JSON gives. PNG chunks keep their keyword; JSON objects are spread out.

    A key found twice keeps its first value: chunks before carriers, carriers in the order of the file. Settings written
    as plain text become the key "parameters". The objects themselves are the value of "objects".
    """
    fields: Fields = {name: text for name, text in texts.items() if ":" not in name}
    objects: list[dict[str, Any]] = []
    fields["objects"] = objects
    for name, text in texts.items():
        if not _CARRIERS.fullmatch(name):
            continue
        if prefix := _PREFIX.match(text):
            fields.setdefault(prefix[1].lower(), text[prefix.end() :])
        elif settings := load_object(text):
            objects.append(settings)
            for key, value in settings.items():
                fields.setdefault(key, value)
        elif name == "stealth" or _LOOKS_GENERATED.search(text[-8192:]):
            fields.setdefault("parameters", text)
    for name in ("Software", "CreatorTool", "Make", "Model", "MakerNote"):
        for place in ("EXIF", "XMP"):
            if f"{place}:{name}" in texts:
                fields.setdefault(name, texts[f"{place}:{name}"])
    return fields


def load_object(value: Any) -> dict[str, Any] | None:
    """A JSON object, given as such or as text; None for anything else. Deep nesting and huge numbers are refused."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, str) or not value.lstrip("\ufeff \n\t").startswith("{"):
        return None
    try:
        loaded = json.loads(value.strip("\ufeff \n\t"))
    except (ValueError, RecursionError):
        return None
    return loaded if isinstance(loaded, dict) else None
