"""An image as the grid shows it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from image_search.records import ImageRecord, SearchHit
from image_search.search.searcher import FoundHit

# Types every browser of the last years can draw; any other is offered as a download.
DRAWABLE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/avif", "image/bmp")
_MAX_ALT = 250  # characters


def get_version(image: ImageRecord) -> str:
    """A short name of the image's content, which makes the address of its preview immutable."""
    return f"{image.content_sha256[:16]}-{image.recipe}"


def make_tile(hit: SearchHit, moments: int = 0) -> dict[str, Any]:
    """A hit as the page's script takes it, ready for JSON. Values that are None are unknown.

    relevance: 0 to 1, 0.5 is the line. text: whether text was recognised in it. month: of the time it was taken,
    "2024-05". moments: other frames of the same film that the tile stands for.
    """
    image = hit.image
    taken_at = image.text.taken_at
    return {
        "id": image.image_id,
        "name": image.file_name,
        "version": get_version(image),
        "width": image.width,
        "height": image.height,
        "color": image.dominant_color,
        "alt": _describe(image),
        "rating": image.rating,
        "month": f"{taken_at:%Y-%m}" if taken_at else None,
        "frame_ms": image.frame.frame_ms if image.frame else None,
        "moments": moments,
        "original": image.frame is None and image.file_type in DRAWABLE_TYPES,
        "size": image.byte_size,
        "distance": None if hit.distance is None else round(hit.distance, 6),
        "relevance": None if not isinstance(hit, FoundHit) or hit.relevance is None else round(hit.relevance, 3),
        "found_by": hit.found_by if isinstance(hit, FoundHit) else None,
        "found_in_text": isinstance(hit, FoundHit) and hit.found_in_text,
        "text": bool(image.recognized_text),
    }


def find_cutoff(hits: Sequence[FoundHit]) -> int:
    """How many hits from the first on are relevant on the whole; all of them where it cannot be told.

    Where the sum of the evidence for and against relevance is largest: one stray hit further down moves nothing.
    """
    if any(hit.relevance is None for hit in hits):
        return len(hits)
    sums = list(accumulate((hit.relevance or 0) - 0.5 for hit in hits))
    best = max(range(len(sums)), key=lambda place: (sums[place], place), default=-1)
    return best + 1 if sums and sums[best] >= 0 else 0


def _describe(image: ImageRecord) -> str:
    text = image.description or image.text.prompt or image.text.generation_prompt or image.file_name
    return " ".join(text.split())[:_MAX_ALT]
