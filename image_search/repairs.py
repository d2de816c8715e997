"""Repair files that their decoders refuse: drop extras, fill in missing bytes, or decode odd kinds here."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from image_search.file_kinds import decode_cut_webp
from image_search.jpeg import complete_jpeg, measure_jpeg

ENOUGH = 0.9  # share of an image that must be there


class CutShort(Exception):
    """A file of which too little is there. share: how much, None where that is not known."""

    def __init__(self, share: float | None) -> None:
        super().__init__()
        self.share = share


_KEPT = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"sRGB"}
_SIZES = {b"gAMA": (4,), b"sRGB": (1,)}
_KEY_SIZES = {0: (2,), 2: (6,), 3: range(1, 257)}  # of tRNS, by colour type
_INDEXED = 3


def drop_png_extras(data: bytes) -> bytes:
    """The PNG with its pixels, palette, transparency and gamma only; text, profiles and damaged chunks are left out."""
    kept = [data[:8]]
    colors = data[25] if len(data) > 25 else 0
    for kind, start, end in _walk_png(data):
        chunk = data[start - 8 : end + 4]
        is_needed = kind[0:1].isupper() and (kind != b"PLTE" or colors == _INDEXED)
        is_whole = zlib.crc32(kind + data[start:end]) == int.from_bytes(data[end : end + 4])
        sizes = _KEY_SIZES.get(colors, ()) if kind == b"tRNS" else _SIZES.get(kind)
        is_fit = sizes is None or end - start in sizes
        if kind in _KEPT and (is_needed or (is_whole and is_fit)):
            kept.append(chunk)
    return b"".join(kept)


_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
# First column and row, and the steps to the next ones, of the passes of an interlaced PNG.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_STEP = 4096  # bytes that are inflated at once


def _count_png_bytes(data: bytes, max_pixels: int) -> int:
    """Bytes of the pixels of a PNG, with the filter of each row; 0 without a header."""
    header = find_png_chunk(data, b"IHDR")
    if len(header) != 13 or header[9] not in _CHANNELS:
        return 0
    width, height = int.from_bytes(header[:4]), int.from_bytes(header[4:8])
    if not 0 < width * height <= max_pixels:
        return 0
    bits, total = _CHANNELS[header[9]] * header[8], 0
    for left, top, across, down in _PASSES if header[12] else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        total += rows * (1 + (columns * bits + 7) // 8) if columns > 0 else 0
    return total


def _inflate_png(data: bytes, total: int) -> Iterator[bytes]:
    stream, left = zlib.decompressobj(), total
    for kind, start, end in _walk_png(data):
        for place in range(start, min(end, len(data)), _STEP) if kind == b"IDAT" else ():
            step, before = data[place : min(place + _STEP, end)], stream.copy()
            try:
                part = stream.decompress(step, left)
            except zlib.error:
                yield from _inflate_bytes(before, step, left)
                return
            left -= len(part)
            yield part
            if left <= 0:
                return


def _inflate_bytes(stream: Any, data: bytes, left: int) -> Iterator[bytes]:
    """The text before the byte that is damaged: zlib gives nothing of a call in which it finds damage."""
    for value in data:
        try:
            part = stream.decompress(bytes([value]), left)
        except zlib.error:
            return
        left -= len(part)
        yield part
        if left <= 0:
            return


def _measure_png(data: bytes, max_pixels: int) -> float:
    """The share of the pixels of a PNG that is there."""
    total = _count_png_bytes(data, max_pixels)
    return sum(map(len, _inflate_png(data, total))) / total if total else 1.0


def measure_share(data: bytes, kind: str, size: tuple[int, int]) -> float:
    """The share of an image that its JPEG or PNG has data for, whatever it says of its end. size: of the PNG."""
    return measure_jpeg(data) if kind == "JPEG" else _measure_png(data, size[0] * size[1])


def _complete_png(data: bytes, max_pixels: int) -> Iterator[tuple[bytes, float]]:
    """A PNG with its missing pixels in zeros, and the share of its pixels that is there; nothing without a header."""
    total = _count_png_bytes(data, max_pixels)
    start_of_pixels = next((start - 8 for kind, start, _ in _walk_png(data) if kind == b"IDAT"), 0)
    if total and start_of_pixels and data[12:16] == b"IHDR":
        pixels = b"".join(_inflate_png(data, total))
        body = zlib.compress(pixels + bytes(total - len(pixels)), 1)
        chunks = (_make_chunk(b"IDAT", body), _make_chunk(b"IEND", b""))
        yield data[:start_of_pixels] + b"".join(chunks), len(pixels) / total


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


# Files that are cut short: with zeros in the place of what is missing, which decoders take for pixels.

_FILLS = (b"\0", b"\x80", b"\xff", b"\x55")  # AV1 has no meaning for some bytes at some places


def complete_file(data: bytes, kind: str, reason: str, max_pixels: int) -> Iterator[tuple[bytes, float | None]]:
    """Yield whole files in place of one that is cut short, each with the share that is there; none for other files.

    kind: as file_kinds.name_format says; reason: why it was not decoded. Raises CutShort.
    """
    if kind in _COMPLETED:
        yield from _COMPLETED[kind](data, max_pixels)
        if "Truncated File Read" in reason:  # before the pixels
            raise CutShort(None)
    elif kind == "GIF":
        if "truncated" in reason:
            yield _complete_gif(data, max_pixels), None
    elif (length := _find_length(data, kind)) > len(data):
        if length * ENOUGH <= len(data):
            for fill in _FILLS:
                yield data + fill * (length - len(data)), len(data) / length
        raise CutShort(len(data) / length)
    elif length == 0:
        missing = int(len(data) * (1 / ENOUGH - 1))
        yield data + bytes(missing), 1.0
        if kind == "BMP":  # run-length encoded: rows of the first colour, the first of which ends that in hand
            yield data.removesuffix(b"\xff") + b"\0\0" + _make_bmp_rows(data) + b"\0\1", 1.0
        if any(sign in reason for sign in _SIGNS_OF_A_CUT):
            raise CutShort(None)


def _make_bmp_rows(data: bytes) -> bytes:
    sides: tuple[int, int] = struct.unpack_from("<ii", data, 18)
    width, height = (min(abs(side), 1 << 15) for side in sides)
    return (b"\xff\0" * (width // 255 + 1) + b"\0\0") * (height // 10 + 1)


_SIGNS_OF_A_CUT = (  # in Pillow's words
    "image file is truncated",
    "not enough image data",
    "index out of range",
    "Truncated File Read",
)


def _find_length(data: bytes, kind: str) -> int:
    """The length that a file announces, 0 where it does not."""
    if kind not in ("AVIF", "HEIC", "JPEG XL") or data[:2] == b"\xff\x0a":
        return 0
    position = 0
    while position + 8 <= len(data):
        size, start = int.from_bytes(data[position : position + 4]), position
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16])
        if size < 8:  # up to the end
            return 0
        position = start + size
    return position


# WebP: chunks, of which the image is one; in an animation each frame holds one. Source: RFC 9649.

_IMAGES = (b"VP8 ", b"VP8L", b"ANMF")
_HAS_EXIF, _HAS_XMP = 8, 4  # of the flags in VP8X


def _complete_webp(data: bytes, max_pixels: int) -> Iterator[tuple[bytes, float]]:
    """The file up to its image, or the first frame of an animation, filled up; the rest is left out."""
    place, kept = 12, bytearray()
    while place + 8 <= len(data):
        kind, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        end = place + 8 + size + size % 2
        if kind in _IMAGES:
            share = min(1.0, (len(data) - place) / (end - place))
            if share < ENOUGH:
                raise CutShort(share)
            if kind == b"VP8L" and end > len(data) and (partial := decode_cut_webp(data, max_pixels)):
                image, share = partial
                file = io.BytesIO()
                profile = data[38 : 38 + int.from_bytes(data[34:38], "little")] if data[30:34] == b"ICCP" else b""
                image.save(file, "WEBP", lossless=True, quality=0, method=0, icc_profile=profile)
                yield file.getvalue(), share
            for fill in _FILLS if end > len(data) else (b"",):
                body = bytes(kept) + data[place:end] + fill * (end - len(data))
                yield b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body, share
            return
        chunk = bytearray(data[place:end])
        if kind == b"VP8X" and len(chunk) > 8:
            chunk[8] &= ~(_HAS_EXIF | _HAS_XMP)
        kept += chunk
        place = end
    raise CutShort(None)


def _complete_gif(data: bytes, max_pixels: int) -> bytes:
    """Add codes for a tenth of the pixels at most: a zero is a pixel of the first colour. Raises CutShort."""
    position = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    while position + 10 <= len(data) and data[position] == 0x21:
        position = _skip_gif_blocks(data, position + 2)
    if position + 10 > len(data) or data[position] != 0x2C:
        raise CutShort(None)
    width, height = struct.unpack_from("<HH", data, position + 5)
    flags = data[position + 9]
    position += 11 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    while position < len(data) and data[position]:
        position += 1 + data[position]
    if position < len(data) or not width * height <= max_pixels:
        raise CutShort(None)
    blocks = int(width * height * (1 - ENOUGH) * 1.5) // 255 + 1  # a code has 12 bits at most
    return data + bytes(position - len(data)) + (b"\xff" + bytes(255)) * blocks + b"\0;"


_SOC, _SOT, _SOD, _EOC = b"\xff\x4f", b"\xff\x90", b"\xff\x93", b"\xff\xd9"
_PART_HEADER = struct.Struct(">2sHHIBB")  # of a tile-part: its marker, length, tile, bytes, number and count


def _complete_jpeg2000(data: bytes) -> Iterator[tuple[bytes, float]]:
    """Fill the rest of a tile-part, and tile-parts that are missing, with zeros, which are empty packets.

    The share counts tile-parts, weighted by the pixels of their tile. Source: ISO/IEC 15444-1, A.4.
    """
    start = _find_codestream(data)
    if start < 0 or data[start : start + 4] != _SOC + b"\xff\x51":
        return
    width, height, _, _, across, down, tile_left, tile_top = struct.unpack_from(">8I", data, start + 8)
    across, down = max(1, int(across)), max(1, int(down))
    columns = -(-(width - tile_left) // across)
    tiles = columns * -(-(height - tile_top) // down)

    def measure(tile: int) -> int:
        row, column = divmod(tile, max(1, columns))
        left: int = tile_left + column * across
        top: int = tile_top + row * down
        sides = min(width, left + across) - left, min(height, top + down) - top
        return int(max(0, sides[0]) * max(0, sides[1]))

    place = start + 2
    while data[place : place + 2] != _SOT:
        if data[place : place + 1] != b"\xff" or place > 1 << 20:
            return
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    found: set[tuple[int, int]] = set()
    counts, there, end = 1, 0.0, place
    while place + _PART_HEADER.size <= len(data) and data[place : place + 2] == _SOT and len(found) < 65_535:
        _, _, tile, length, number, count = _PART_HEADER.unpack_from(data, place)
        length = length or len(data) // 9 + len(data) - place  # "up to the end", which is missing
        if place + length > len(data) and _SOD not in data[place:]:
            break
        if (tile, number) not in found:
            there += min(1.0, (len(data) - place) / length) * measure(tile)
        found.add((tile, number))
        counts = max(counts, count)
        place = end = place + length
    if data[end : end + 2] not in (b"", b"\xff", _SOT):  # not cut, but damaged
        return
    share = there / max(1, (width - tile_left) * (height - tile_top) * counts)
    # Where the header is damaged, more may be missing than is there.
    if share < ENOUGH or not found or tiles * counts > 2 * len(found) or end > 2 * len(data):
        raise CutShort(min(1.0, max(0.0, share)))
    missing = [(tile, part) for tile in range(tiles) for part in range(counts) if (tile, part) not in found]
    size = len(data) // len(found)
    parts = (_PART_HEADER.pack(_SOT, 10, tile, 14 + size, part, counts) for tile, part in missing)
    body = data[:end] + bytes(max(0, end - len(data))) + b"".join(part + _SOD + bytes(size) for part in parts) + _EOC
    if start:  # the box goes up to the end
        head = start - 8 if body[start - 4 : start] == b"jp2c" else start - 16
        body = body[:head] + bytes(4) + b"jp2c" + body[start:]
    yield body, share


def _find_codestream(data: bytes) -> int:
    """Where the codestream of JPEG 2000 begins, alone or in its box; -1 where there is none."""
    place = 0 if data[:2] != _SOC else len(data)
    while place + 16 <= len(data):
        size = int.from_bytes(data[place : place + 4])
        head = 16 if size == 1 else 8
        if data[place + 4 : place + 8] == b"jp2c":
            return place + head
        size = int.from_bytes(data[place + 8 : place + 16]) if size == 1 else size
        if size < head:
            return -1
        place += size
    return 0 if data[:2] == _SOC else -1


_COMPLETED: dict[str, Callable[[bytes, int], Iterator[tuple[bytes, float]]]] = {
    "PNG": _complete_png,
    "JPEG": lambda data, _: complete_jpeg(data),
    "WebP": _complete_webp,
    "JPEG 2000": lambda data, _: _complete_jpeg2000(data),
}


# Kinds that Pillow does not decode, or decodes wrong.


def _correct_png(image: Image.Image, data: bytes) -> None:
    """Find cICP, and give the transparent colour the depth that the pixels have after decoding."""
    if len(cicp := find_png_chunk(data, b"cICP")) == 4:
        image.info["cicp"] = cicp
    depth, color = data[24], image.info.get("transparency")
    if isinstance(color, tuple) and depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in color)
    elif isinstance(color, int) and depth in (2, 4) and data[25] == 0:
        image.info["transparency"] = color * 255 // (2**depth - 1)
    if image.mode == "P" and not find_png_chunk(data, b"PLTE"):
        raise ValueError("its palette is missing")


def _correct_heif(image: Image.Image, data: bytes) -> None:
    """Find what cICP is in a PNG: primaries, transfer function, matrix and range by the numbers of ITU-T H.273."""
    place = data.find(b"colrnclx", 0, 1 << 16)
    if place < 0 or place + 12 > len(data):
        return
    primaries, transfer = struct.unpack_from(">HH", data, place + 8)
    if transfer in (16, 18) or not image.info.get("icc_profile"):  # HDR, or without a profile
        image.info["cicp"] = bytes([primaries & 255, transfer & 255, 0, 1])


def _correct_jpeg2000(image: Image.Image, data: bytes) -> None:
    """Find the ICC profile in the header."""
    end = data.find(b"jp2c")
    place = data.find(b"colr\2", 0, end if end >= 0 else 1 << 16)
    size = int.from_bytes(data[place - 4 : place]) if place >= 4 else 0
    if size > 11 and (profile := data[place + 7 : place - 4 + size]):
        image.info["icc_profile"] = profile


def _correct_bmp(_: Image.Image, data: bytes) -> None:
    if data[30:31] == b"\2" and data[14:15] != b"\x0c":
        raise ValueError("BMP of 16 colours, run-length encoded, which the decoder gets wrong")


# By Pillow's name of a format: what it passes over when it opens a file, put right before the pixels are decoded.
# A correction raises ValueError where they would be decoded wrong.
CORRECTIONS: dict[str, Callable[[Image.Image, bytes], None]] = {
    "PNG": _correct_png,
    "AVIF": _correct_heif,
    "HEIF": _correct_heif,
    "JPEG2000": _correct_jpeg2000,
    "BMP": _correct_bmp,
}


_BMP_JPEG, _BMP_PNG, _BMP_MASKS = 4, 5, (3, 6)  # values of its compression


def find_bmp_payload(data: bytes) -> bytes:
    """The JPEG or PNG that a BMP for printers holds; b"" for other BMPs."""
    if int.from_bytes(data[14:18], "little") < 40 or int.from_bytes(data[30:34], "little") not in (_BMP_JPEG, _BMP_PNG):
        return b""
    return data[int.from_bytes(data[10:14], "little") :]


def decode_odd_bmp(data: bytes, check_size: Callable[[tuple[int, int]], None]) -> tuple[Image.Image, bool] | None:
    """A BMP of four colours, or with bits of a pixel in an unusual order, and whether it is whole; None for others.

    check_size: refuses a size, by raising. Raises CutShort.
    """
    if len(data) < 70:
        return None
    start, header, width, height, _, bits, method = struct.unpack_from("<10xIIiiHHI", data)
    if header < 40 or width < 1 or not ((bits == 2 and method == 0) or (bits in (16, 32) and method in _BMP_MASKS)):
        return None
    check_size((width, abs(height)))
    stride = (width * bits + 31) // 32 * 4
    needed = start + stride * abs(height)
    is_whole = needed <= len(data)
    if not is_whole:
        if len(data) < ENOUGH * needed:
            raise CutShort(len(data) / needed)
        data += bytes(needed - len(data))
    rows = np.frombuffer(data, np.uint8, stride * abs(height), start).reshape(abs(height), stride)
    if bits == 2:
        indexes = (rows[:, :, None] >> np.array([6, 4, 2, 0], np.uint8) & 3).reshape(len(rows), -1)[:, :width]
        palette = np.frombuffer(data, np.uint8, 16, 14 + header).reshape(4, 4)
        pixels = palette[indexes][:, :, 2::-1]
    else:
        values = rows.view(f"<u{bits // 8}")[:, :width]
        masks = struct.unpack_from("<4I", data, 54)
        wanted = masks if masks[3] and (header >= 56 or method == 6) else masks[:3]
        pixels = np.stack([_read_mask(values, mask) for mask in wanted], -1)
    if height > 0:  # from below
        pixels = pixels[::-1]
    return Image.fromarray(np.ascontiguousarray(pixels)), is_whole


def _read_mask(values: Any, mask: int) -> Any:
    shift = (mask & -mask).bit_length() - 1 if mask else 0
    top = max(1, mask >> shift)
    return np.rint(((values.astype(np.int64) & mask) >> shift) * (255 / top)).astype(np.uint8)
