"""WebP: the chunks of a RIFF file that hold EXIF, XMP and Content Credentials."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from image_search.metadata.bounds import MAX_BLOCK_BYTES
from image_search.metadata.containers.found import Found

_MAX_PARTS = 10_000  # a long animation has a part for each frame


def read_webp(data: bytes, found: Found) -> None:
    """Add what the chunks of a WebP say; a truncated file gives what it has."""
    for kind, value in walk_webp(data):
        if kind == b"EXIF":
            found.add_exif(value)
        elif kind == b"XMP ":
            found.add_xmp(value)
        elif kind == b"C2PA":
            found.add_c2pa(value)


def walk_webp(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, content, cut at a bound) of every chunk."""
    position = 12
    for _ in range(_MAX_PARTS):
        if position + 8 > len(data):
            return
        kind, size = struct.unpack_from("<4sI", data, position)
        yield kind, data[position + 8 : position + 8 + min(size, MAX_BLOCK_BYTES)]
        position += 8 + size + size % 2
