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


_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type


def complete_png(data: bytes, max_pixels: int) -> tuple[bytes, float]:
    """A PNG that is cut short with its missing rows in zeros, and the share of the rows that are there.

    The share is 0 where it cannot be told: of an interlaced one, and of one without a header.
    """
    header = find_png_chunk(data, b"IHDR")
    if len(header) != 13 or header[12] or header[9] not in _CHANNELS:
        return data, 0.0
    width, height = int.from_bytes(header[:4]), int.from_bytes(header[4:8])
    row = 1 + (width * _CHANNELS[header[9]] * header[8] + 7) // 8
    if not 0 < width * height <= max_pixels:
        return data, 0.0
    pixels, stream, start_of_pixels = bytearray(), zlib.decompressobj(), 0
    for kind, start, end in _walk_png(data):
        if kind == b"IDAT" and len(pixels) < row * height:
            start_of_pixels = start_of_pixels or start - 8
            try:
                pixels += stream.decompress(data[start:end], row * height - len(pixels))
            except zlib.error:
                break
    rows = len(pixels) // row
    body = zlib.compress(bytes(pixels[: rows * row]) + bytes(row * (height - rows)), 1)
    chunks = (_make_chunk(b"IDAT", body), _make_chunk(b"IEND", b""))
    return data[:start_of_pixels] + b"".join(chunks), rows / height


def _make_chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)


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
