"""Stealth PNG info: text in the lowest bits of the pixels, as NovelAI and an extension of AUTOMATIC1111 write it.

The bits run down the columns, the left one first, and in each byte from the highest bit: 15 bytes of a magic word,
the number of bits in 32 bits, the text, in UTF-8 or gzipped. The alpha channel holds one bit a pixel, or red, green and
blue three. Source: github.com/NovelAI/novelai-image-metadata, github.com/ashen-sensored/sd_webui_stealth_pnginfo.

Most images have none, so the magic word is looked at first. In a PNG it lies in the first column of the first rows,
and the first pixel of a row depends on no pixel but the one above: the rows are inflated, not decoded.
"""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image

from image_search.metadata.containers import PNG_SIGNATURE
from image_search.metadata.text import MAX_TEXT_BYTES, decompress

_MAGICS = {  # magic word: (bands, gzipped)
    b"stealth_pnginfo": ("A", False),
    b"stealth_pngcomp": ("A", True),
    b"stealth_rgbinfo": ("RGB", False),
    b"stealth_rgbcomp": ("RGB", True),
}
_MAGIC_BITS, _HEADER_BITS = 120, 152
_MAX_PIXELS = 50_000_000

_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,  # Pillow's word for a damaged PNG
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def read_stealth(data: bytes) -> str | None:
    """The hidden text of a PNG or lossless WebP, or None. Decodes the pixels only if the magic word may be there."""
    try:
        if data.startswith(PNG_SIGNATURE) and not _may_be_in_png(data):
            return None
        with Image.open(BytesIO(data)) as image:
            if image.width * image.height > _MAX_PIXELS or image.mode not in ("RGB", "RGBA"):
                return None
            return _read_bits(image)
    except _ERRORS:
        return None  # the decoder refuses this image, with its name


def _read_bits(image: Image.Image) -> str | None:
    for bands in ("A", "RGB"):
        if not set(bands) <= set(image.getbands()):
            continue
        header = _take_bits(image, bands, _HEADER_BITS)
        place, is_packed = _MAGICS.get(header[:15], ("", False))
        if place != bands:
            continue
        size = int.from_bytes(header[15:19])
        if not 0 < size <= len(bands) * image.width * image.height - _HEADER_BITS or size > 8 * MAX_TEXT_BYTES:
            return None
        payload = _take_bits(image, bands, _HEADER_BITS + size)[19:]
        text = decompress(payload, window_bits=31) if is_packed else payload
        return text.decode("utf-8", "replace")
    return None


def _take_bits(image: Image.Image, bands: str, count: int) -> bytes:
    """The lowest bits of the first pixels, down the columns, as bytes."""
    columns = min(-(-count // (len(bands) * image.height)), image.width)
    pixels = np.asarray(image.crop((0, 0, columns, image.height)))
    pixels = pixels[..., 3:] if bands == "A" else pixels[..., :3]
    return np.packbits((pixels & 1).transpose(1, 0, 2).reshape(-1)[:count]).tobytes()


def _may_be_in_png(data: bytes) -> bool:
    if len(data) < 33 or data[12:16] != b"IHDR":
        return False
    width, height, depth, kind, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    if depth != 8 or kind not in (2, 6) or width * height > _MAX_PIXELS:
        return False
    if interlaced or height * (3 if kind == 2 else 1) < _MAGIC_BITS:
        return bool(width * height >= _HEADER_BITS // 3)  # too small or too odd to look at cheaply
    return any(word in _MAGICS for word in _peek_first_column(data, width, 4 if kind == 6 else 3))


def _peek_first_column(data: bytes, width: int, channels: int) -> list[bytes]:
    """The text hidden in the first column: in the alpha channel, and in red, green and blue."""
    rows = _MAGIC_BITS if channels == 4 else _MAGIC_BITS // 3
    stride = 1 + width * channels
    scanlines = _inflate_rows(data, rows * stride)
    column = np.zeros((rows, channels), np.uint8)
    above = np.zeros(channels, np.uint8)
    for row in range(min(rows, len(scanlines) // stride)):
        start = row * stride
        pixel = np.frombuffer(scanlines, np.uint8, channels, start + 1)
        # With nothing to the left, "Up" and "Paeth" both add the pixel above, "Average" half of it.
        match scanlines[start]:
            case 2 | 4:
                pixel = pixel + above
            case 3:
                pixel = pixel + above // 2
        column[row] = above = pixel
    words = [np.packbits(column[: _MAGIC_BITS // 3, :3].reshape(-1) & 1).tobytes()]
    if channels == 4:
        words.append(np.packbits(column[:, 3] & 1).tobytes())
    return words


def _inflate_rows(data: bytes, size: int) -> bytes:
    """The first bytes of the scanlines, from as many chunks of pixel data as that takes."""
    stream = zlib.decompressobj()
    out = b""
    position = len(PNG_SIGNATURE)
    while position + 8 <= len(data) and len(out) < size:
        length, kind = struct.unpack_from(">I4s", data, position)
        start = position + 8
        if kind == b"IDAT":
            for begin in range(start, min(start + length, len(data)), 1 << 14):
                out += stream.decompress(data[begin : min(begin + (1 << 14), start + length)], size - len(out))
                if len(out) >= size or stream.eof:
                    return out
        position = start + length + 4
    return out
