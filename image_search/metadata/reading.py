"""From a file's bytes to ImageText: containers find, generators and photographs understand, the rest stays unparsed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from image_search.metadata.bounds import MAX_DESCRIPTION_CHARACTERS, MAX_KEPT_CHARACTERS, clean_text, cut_text
from image_search.metadata.containers import find_texts
from image_search.metadata.containers.found import Found
from image_search.metadata.containers.stealth import read_stealth
from image_search.metadata.generators import recognise
from image_search.metadata.generators.generation import Generation
from image_search.metadata.photographs import NO_CAPTION, read_photograph
from image_search.records import ImageText

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
    generation = recognise(found)
    if generation is None and (hidden := read_stealth(data)):
        found.add_text("stealth", hidden)
        generation = recognise(found)
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


def _list_unparsed(found: Found) -> str | None:
    """The text chunks nobody knows, a line for each."""
    chunks = ((name, text.strip()) for name, text in found.texts.items() if not _TECHNICAL.fullmatch(name))
    return "\n".join(f"{name}: {text}" for name, text in chunks if not NO_CAPTION.fullmatch(text)) or None


def _keep_raw(found: Found) -> dict[str, str]:
    kept: dict[str, str] = {}
    left = MAX_KEPT_TOTAL
    for name, text in found.texts.items():
        if left <= 0:
            break
        kept[name] = cut_text(text, min(left, MAX_KEPT_CHARACTERS))
        left -= len(kept[name])
    return kept
