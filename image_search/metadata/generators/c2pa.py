"""Services that sign their pictures with Content Credentials (C2PA) and write no settings: only who made it is known.

A manifest store is nested boxes of CBOR, of which two text values are wanted: they lie uncompressed behind their keys,
and are read from there, without a CBOR decoder and without verifying the signature. A camera's manifest names no
generator.
"""

from __future__ import annotations

import re

from image_search.metadata.containers.extracted import Extracted
from image_search.metadata.generators.generation import Generation

_MADE_BY_MODEL = re.compile(
    rb"digitalsourcetype/(?:compositeWithTrainedAlgorithmicMedia|trainedAlgorithmicMedia|compositeSynthetic)"
)
_KEYS = re.compile(rb"claim_generator_info|claim_generator|softwareAgent")
_NAME_KEY = b"dname"  # CBOR for the key "name": text of four bytes
_WINDOW = 256  # bytes between a key and its object's name
_MAX_KEYS = 200

# The first of these that a claim names; a service before the company whose library signs for it.
_SERVICES = (
    ("dall", "DALL-E"),
    ("chatgpt", "ChatGPT"),
    ("gpt-", "ChatGPT"),
    ("openai", "ChatGPT"),
    ("firefly", "Firefly"),
    ("adobe", "Firefly"),
    ("designer", "Microsoft Designer"),
    ("bing", "Microsoft Designer"),
    ("microsoft", "Microsoft Designer"),
    ("google", "Gemini"),
    ("gemini", "Gemini"),
    ("imagen", "Gemini"),
    ("midjourney", "Midjourney"),
    ("stability", "Stability"),
    ("black forest", "Flux"),
)


def read_content_credentials(found: Extracted) -> Generation | None:
    """The service by its claim, or by what its XMP says of the source; None unless a model made the picture."""
    credit = " ".join(found.xmp.get("Credit", [])).lower()
    source = " ".join(found.xmp.get("DigitalSourceType", []))
    if "google ai" in credit:
        return Generation("Gemini")
    if found.c2pa and _MADE_BY_MODEL.search(found.c2pa):
        names = _read_claims(found.c2pa)
    elif "rainedAlgorithmicMedia" in source:
        names = " ".join((*found.xmp.get("CreatorTool", []), credit)).lower()
    else:
        return None
    service = next((name for sign, name in _SERVICES if sign in names), None)
    return Generation(service or "Content Credentials")


def _read_claims(manifest: bytes) -> str:
    """The values of the wanted keys, in lower case."""
    names = []
    for number, key in enumerate(_KEYS.finditer(manifest)):
        if number >= _MAX_KEYS:
            break
        value = _read_text(manifest, key.end())
        if value is None:  # an object: its name
            place = manifest.find(_NAME_KEY, key.end(), key.end() + _WINDOW)
            value = _read_text(manifest, place + len(_NAME_KEY)) if place >= 0 else None
        if value:
            names.append(value)
    return " ".join(names).lower()


def _read_text(manifest: bytes, position: int) -> str | None:
    """A CBOR text of up to 64 KiB at this position, or None."""
    first = manifest[position] if position < len(manifest) else 0
    if not 0x60 <= first <= 0x79:
        return None
    width = {0x78: 1, 0x79: 2}.get(first, 0)
    size = int.from_bytes(manifest[position + 1 : position + 1 + width]) if width else first - 0x60
    start = position + 1 + width
    return manifest[start : start + size].decode("utf-8", "replace")
