"""What pictures say about themselves: prompts, captions, keywords, dates and cameras.

Two stages that never mix: containers (where the text is) and generators, photographs (what it means).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from image_search.metadata.containers import find_texts
from image_search.metadata.containers.extracted import Extracted
from image_search.metadata.containers.stealth import read_stealth
from image_search.metadata.generators import detect_generator
from image_search.metadata.generators.generation import Generation
from image_search.metadata.photo import NO_CAPTION, read_photograph
from image_search.metadata.text import MAX_DESCRIPTION_CHARACTERS, MAX_KEPT_CHARACTERS, clean_text, cut_text
from image_search.records import ImageText

# From a file's bytes to ImageText: containers find, generators and photographs understand, the rest stays unparsed.

MAX_KEPT_TOTAL = 1 << 20  # characters of all raw texts together

# PNG chunks by which programs talk to themselves.
_TECHNICAL = re.compile(
    r"(?:date|png|exif|tiff|jpeg|icc|photoshop|xmp|thumb|thumbnail|filename|dc|pdf|svg|aux|crs|iptc|gif|sidecar):.*"
    r"|software|source|creation time|generation time|disclaimer|warning|create-date|modify-date|signature|dpi"
    r"|.*profile.*",
    re.DOTALL | re.IGNORECASE,
)


def read_image_text(data: bytes, *, sidecars: Mapping[str, bytes] | None = None, read_gps: bool = False) -> ImageText:
    """What a picture says about itself, out of the bytes of its file and of the files beside it (name to content).

    Never raises because of what the bytes are, and takes bounded time and memory; an empty ImageText when nothing is
    there. Pixels are decoded only for text hidden in their lowest bits, when its magic word may be there. latitude and
    longitude are read only with read_gps.
    """
    found = find_texts(data, sidecars or {}, read_gps)
    generation = detect_generator(found)
    if generation is None and (hidden := read_stealth(data)):
        found.add_text("stealth", hidden)
        generation = detect_generator(found)
    written = generation.write() if generation else None
    photograph = read_photograph(found, has_generator=bool(written))
    captions = [photograph.pop("description", None), None if written else _list_unparsed(found)]
    described = clean_text("\n".join(text for text in captions if text)).strip()
    description = cut_text(described, MAX_DESCRIPTION_CHARACTERS) or None
    return ImageText(description=description, raw=_keep_raw(found), **photograph, **_make_values(generation, written))


def _make_values(generation: Generation | None, written: str | None) -> dict[str, Any]:
    if generation is None:
        return {}
    values = {
        "generation_prompt": written,
        "generator": generation.generator,
        "prompt": generation.prompt,
        "negative_prompt": generation.negative_prompt,
        "generation_model": generation.model,
        "sampler": generation.sampler,
    }
    cleaned = {name: cut_text(clean_text(text)) for name, text in values.items() if text}
    return {
        **cleaned,
        "seed": generation.seed,
        "steps": generation.steps,
        "cfg": generation.cfg,
        "generated_size": generation.size,
    }


def _list_unparsed(found: Extracted) -> str | None:
    """The text chunks of unknown meaning, a line for each."""
    chunks = ((name, text.strip()) for name, text in found.texts.items() if not _TECHNICAL.fullmatch(name))
    return "\n".join(f"{name}: {text}" for name, text in chunks if not NO_CAPTION.fullmatch(text)) or None


def _keep_raw(found: Extracted) -> dict[str, str]:
    kept: dict[str, str] = {}
    left = MAX_KEPT_TOTAL
    for name, text in found.texts.items():
        if left <= 0:
            break
        kept[name] = cut_text(text, min(left, MAX_KEPT_CHARACTERS))
        left -= len(kept[name])
    return kept


# Files beside a picture that speak about it: cat.txt or cat.png.txt, cat.json, cat.xmp.

_SUFFIXES = (".txt", ".json", ".xmp")


def find_sidecars(path: Path) -> dict[str, bytes]:
    """Name to content of the files beside a picture, each up to a bound; {} when there are none or they cannot be read.

    A file of the full name (cat.png.txt) comes before one that pictures of several formats would share (cat.txt).
    """
    found: dict[str, bytes] = {}
    for suffix in _SUFFIXES:
        for candidate in (path.with_name(path.name + suffix), path.with_suffix(suffix)):
            try:
                with candidate.open("rb") as file:
                    found[candidate.name] = file.read(4 * MAX_KEPT_CHARACTERS)
            except (OSError, ValueError):
                continue
            break
    return found
