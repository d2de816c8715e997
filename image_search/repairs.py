"""PNG and GIF without what their decoders choke on and that is not the picture. Standard library only."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_CRITICAL = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"sRGB"}


def drop_png_extras(data: bytes) -> bytes:
    """The PNG with its pixels, palette, transparency and gamma only; text, profiles and damaged chunks are left out."""
    kept = [data[:8]]
    for kind, start, end in _walk_png(data):
        chunk = data[start - 8 : end + 4]
        is_whole = zlib.crc32(kind + data[start:end]) == int.from_bytes(data[end : end + 4])
        if kind in _CRITICAL and (is_whole or kind[0:1].isupper()):
            kept.append(chunk)
    return b"".join(kept)


def find_png_chunk(data: bytes, wanted: bytes) -> bytes:
    """The content of a chunk before the pixels; b"" where there is none."""
    for kind, start, end in _walk_png(data):
        if kind == wanted:
            return data[start:end]
        if kind == b"IDAT":
            break
    return b""


def _walk_png(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    position = 8
    while position + 12 <= len(data):
        size = int.from_bytes(data[position : position + 4])
        yield data[position + 4 : position + 8], position + 8, position + 8 + size
        if data[position + 4 : position + 8] == b"IEND":
            return
        position += 12 + size


def drop_gif_comments(data: bytes) -> bytes:
    """The GIF without long comments, which the decoder joins byte by byte: seconds for a few MiB."""
    if data.count(b"\x21\xfe") == 0 or len(data) < 65_536:
        return data
    kept, position = bytearray(), 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    start = 0
    while position + 2 <= len(data):
        if data[position] == 0x21:
            end = _skip_gif_blocks(data, position + 2)
            if data[position + 1] == 0xFE:
                kept += data[start:position]
                start = end
        elif data[position] == 0x2C and position + 10 <= len(data):
            flags = data[position + 9]
            end = _skip_gif_blocks(data, position + 11 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0))
        else:
            break
        position = end
    return bytes(kept + data[start:])


def _skip_gif_blocks(data: bytes, position: int) -> int:
    while position < len(data) and data[position]:
        position += 1 + data[position]
    return position + 1
