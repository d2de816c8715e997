"""Files that their decoders choke on: without what is not the picture, with what is missing, or decoded here."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageChops

from image_search.colors import scale_to_bytes

ENOUGH = 0.9  # share of a picture that must be there


class CutShort(Exception):
    """A file of which too little is there. share: how much, None where that is not known."""

    def __init__(self, share: float | None) -> None:
        super().__init__()
        self.share = share


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
# First column and row, and the steps to the next ones, of the passes of an interlaced PNG.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def _complete_png(data: bytes, max_pixels: int) -> tuple[bytes, float | None]:
    """A PNG with its missing pixels in zeros, and the share of its pixels that is there; None without a header."""
    header = find_png_chunk(data, b"IHDR")
    if len(header) != 13 or header[9] not in _CHANNELS:
        return data, None
    width, height = int.from_bytes(header[:4]), int.from_bytes(header[4:8])
    if not 0 < width * height <= max_pixels:
        return data, None
    bits = _CHANNELS[header[9]] * header[8]
    total = 0
    for left, top, across, down in _PASSES if header[12] else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        total += rows * (1 + (columns * bits + 7) // 8) if columns > 0 else 0
    pixels, stream, start_of_pixels = bytearray(), zlib.decompressobj(), 0
    for kind, start, end in _walk_png(data):
        if kind == b"IDAT" and len(pixels) < total:
            start_of_pixels = start_of_pixels or start - 8
            try:
                pixels += stream.decompress(data[start:end], total - len(pixels))
            except zlib.error:
                break
    body = zlib.compress(bytes(pixels) + bytes(total - len(pixels)), 1)
    chunks = (_make_chunk(b"IDAT", body), _make_chunk(b"IEND", b""))
    return data[:start_of_pixels] + b"".join(chunks), len(pixels) / total


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
    """Whole files in the place of one that is cut short, with the share of it that is there; nothing for other files.

    kind: as file_kinds.name_format says; reason: why it was not decoded. Raises CutShort.
    """
    if kind in ("PNG", "JPEG", "GIF"):
        if "truncated" not in reason:
            return
        if kind == "PNG":
            yield _complete_png(data, max_pixels)
        elif kind == "JPEG":
            share = _measure_jpeg(data)
            for end in (
                len(data),
                max(data.rfind(b"\xff\xda"), data.rfind(b"\xff\xc4")),
            ):  # within the last scan's header
                yield data[:end] + b"\xff\xd9", share
        else:
            yield _complete_gif(data, max_pixels), None
    elif kind == "TIFF":
        yield from _complete_tiff(data)
    elif kind == "JPEG 2000":
        yield from _complete_jpeg2000(data)
    elif (length := _find_length(data, kind)) > len(data):
        if length * ENOUGH <= len(data):
            for fill in _FILLS:
                yield data + fill * (length - len(data)), len(data) / length
        raise CutShort(len(data) / length)
    elif length == 0:
        yield data + bytes(int(len(data) * (1 / ENOUGH - 1))), 1.0


def _find_length(data: bytes, kind: str) -> int:
    """The length that a file announces, 0 where it does not."""
    if kind == "WebP":
        return 8 + int.from_bytes(data[4:8], "little")
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


def _measure_jpeg(data: bytes) -> float:
    """The share of the rows of a cut JPEG that can be decoded; of a progressive one 1 when a scan is whole."""
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        if image.info.get("progressive"):
            return 1.0 if data.count(b"\xff\xda") > 1 else 0.0
        [(name, box, offset, arguments), *_] = image.tile
        papers = []
        for color in (0, 255):  # rows that are not decoded differ
            paper = Image.new(image.mode, image.size, color)
            # The decoder without what ImageFile does around it, which gives nothing of a file that is cut short.
            decoder = Image._getdecoder(image.mode, name, arguments, image.decoderconfig)
            decoder.setimage(paper.im, box)
            decoder.decode(data[offset:])
            papers.append(paper)
    missing = ImageChops.difference(*papers).getbbox()
    return missing[1] / papers[0].height if missing else 1.0


def _complete_gif(data: bytes, max_pixels: int) -> bytes:
    """With codes for a tenth of the pixels at most: a zero is a pixel of the first colour. Raises CutShort."""
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
    """With zeros, which are empty packets, for the rest of a tile-part and for those that are missing.

    The share counts tile-parts, as their sizes are not known. Source: ISO/IEC 15444-1, A.4.
    """
    start = _find_codestream(data)
    if start < 0 or data[start : start + 4] != _SOC + b"\xff\x51":
        return
    width, height, _, _, across, down, tile_left, tile_top = struct.unpack_from(">8I", data, start + 8)
    tiles = -(-(width - tile_left) // max(1, across)) * -(-(height - tile_top) // max(1, down))
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
            there += min(1.0, (len(data) - place) / length)
        found.add((tile, number))
        counts = max(counts, count)
        place = end = place + length
    if data[end : end + 2] not in (b"", b"\xff", _SOT):  # not cut, but damaged
        return
    share = there / max(1, tiles * counts)
    if share < ENOUGH or not found:
        raise CutShort(share)
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


_TIFF_COMPRESSION = 259
_TIFF_PARTS = ((273, 279), (324, 325))  # tags: where the strips or tiles are, and their sizes


def _complete_tiff(data: bytes) -> Iterator[tuple[bytes, float | None]]:
    """Zeros in the place of plain pixels that are missing; the last whole strip in the place of compressed ones."""
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 8 or data[2:4] not in (b"*\0", b"\0*"):
        return
    entries = _read_directory(data, order)
    parts = next((pair for pair in _TIFF_PARTS if pair[0] in entries and pair[1] in entries), None)
    if parts is None:
        return
    (starts_at, starts_code, starts), (sizes_at, sizes_code, sizes) = (entries[tag] for tag in parts)
    places = list(zip(starts, sizes, strict=False))
    there, wanted = sum(min(size, max(0, len(data) - start)) for start, size in places), sum(sizes)
    if there >= wanted:
        return
    if there < ENOUGH * wanted:
        raise CutShort(there / wanted)
    if entries.get(_TIFF_COMPRESSION, (0, "", (1,)))[2][0] == 1:
        yield data + bytes(max(map(sum, places)) - len(data)), there / wanted
        return
    completed, last = bytearray(data), 0
    for number, (start, size) in enumerate(places):
        if start + size <= len(data):
            last = number
            continue
        for place, code, values in ((starts_at, starts_code, starts), (sizes_at, sizes_code, sizes)):
            struct.pack_into(order + code, completed, place + struct.calcsize(code) * number, values[last])
    yield bytes(completed), there / wanted


def _read_directory(data: bytes, order: str) -> dict[int, tuple[int, str, tuple[int, ...]]]:
    """Tag to place, code and values of the whole numbers in the first directory. Raises CutShort."""
    (directory,) = struct.unpack_from(order + "I", data, 4)
    if directory < 8:
        return {}
    (count,) = struct.unpack_from(order + "H", data, directory) if directory + 2 <= len(data) else (1,)
    if directory + 2 + 12 * count > len(data):  # most programs write it behind the pixels
        raise CutShort(None)
    entries = {}
    for place in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, kind, length = struct.unpack_from(order + "HHI", data, place)
        code, width = {3: ("H", 2), 4: ("I", 4)}.get(kind, ("", 0))
        start = place + 8
        if width * length > 4:
            (start,) = struct.unpack_from(order + "I", data, start)
        if start + width * length > len(data):
            raise CutShort(None)
        if code:
            entries[tag] = (start, code, struct.unpack_from(f"{order}{length}{code}", data, start))
    return entries


# Kinds that Pillow does not decode, or decodes wrong.


class Opened(NamedTuple):
    """A picture with what its file says of it, as Pillow gives it. orientation: in the numbers of EXIF."""

    image: Image.Image
    info: dict[str, Any]
    orientation: int


_TIFF_WEBP = 50001  # value of the tag Compression
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK, _LAB = 0, 1, 2, 5, 8
_COLORS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _CMYK: 4, _LAB: 3}


def decode_deep_tiff(data: bytes, check_size: Callable[[tuple[int, int]], None]) -> Opened | None:
    """A TIFF of more than 8 bits that Pillow garbles or refuses, or with WebP inside; None for others.

    check_size: refuses a size, by raising. Raises ValueError for one that is not decoded here either.
    """
    import tifffile

    try:
        file = tifffile.TiffFile(io.BytesIO(data))
    except Exception:
        return None
    with file:
        try:
            page: Any = file.pages.first
            size, photometric, kind = (page.imagewidth, page.imagelength), int(page.photometric), page.dtype
            is_deep, is_apart = page.bitspersample > 8 and kind is not None, page.planarconfig == 2
        except Exception:
            return None
        if page.compression == _TIFF_WEBP:
            check_size(size)
            return Opened(_join_webp(data, page, check_size), {}, 1)
        is_plain = kind == np.uint16 and photometric in (_BLACK_IS_ZERO, _RGB, _CMYK) and not is_apart
        if not is_deep or is_plain or (kind == np.float32 and photometric == _BLACK_IS_ZERO):
            return None
        if photometric not in _COLORS:
            return None
        check_size(size)
        try:
            pixels = page.asarray()
        except Exception as error:  # of a compression that Pillow knows
            if kind == np.uint16 and photometric in (_BLACK_IS_ZERO, _RGB, _CMYK):
                return None
            raise ValueError(f"TIFF of {page.bitspersample} bits: {error}") from error
        if is_apart and pixels.ndim == 3:
            pixels = np.moveaxis(pixels, 0, -1)
        pixels = pixels.reshape(size[1], size[0], -1)
        info = {"icc_profile": profile.value} if (profile := page.tags.get(34675)) else {}
        orientation = int(page.tags[274].value) if 274 in page.tags else 1
        has_alpha = photometric in (_BLACK_IS_ZERO, _RGB) and tuple(map(int, page.extrasamples))[:1] == (2,)
        return Opened(_make_image(pixels, photometric, has_alpha), info, orientation)


def _make_image(pixels: Any, photometric: int, has_alpha: bool) -> Image.Image:
    """pixels: rows, columns, samples."""
    colors, size = _COLORS[photometric], pixels.shape[1::-1]
    if photometric == _LAB and pixels.dtype.itemsize == 2:
        light = np.rint(pixels[..., :1].astype(np.uint16) / 257).astype(np.uint8)
        others = np.rint(pixels[..., 1:3].astype(np.int16) / 256).clip(-128, 127).astype(np.int8)
        return Image.frombytes("LAB", size, np.concatenate([light, others.view(np.uint8)], -1).tobytes())
    values = scale_to_bytes(pixels[..., :colors])
    if photometric == _WHITE_IS_ZERO:
        values = 255 - values
    image = Image.frombytes({1: "L", 3: "RGB", 4: "CMYK"}[colors], size, values.tobytes())
    if has_alpha and pixels.shape[2] > colors:
        image.putalpha(Image.fromarray(scale_to_bytes(pixels[..., colors])))
    return image


def _join_webp(data: bytes, page: Any, check_size: Callable[[tuple[int, int]], None]) -> Image.Image:
    """A TIFF whose strips or tiles are WebP files each, which Pillow's libtiff is built without."""
    image = Image.new("RGB", (page.imagewidth, page.imagelength), "white")
    width = page.tilewidth or page.imagewidth
    height = page.tilelength or page.rowsperstrip
    columns = -(-page.imagewidth // width)
    for number, (start, size) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        row, column = divmod(number, columns)
        with Image.open(io.BytesIO(data[start : start + size]), formats=["WEBP"]) as part:
            if part.width > width or part.height > height:
                raise ValueError("TIFF with parts larger than itself")
            check_size(part.size)
            image.paste(part.convert("RGB"), (column * width, row * height))
    return image


def find_cicp(data: bytes, image: Image.Image) -> bytes:
    """Primaries, transfer function, matrix and range by the numbers of ITU-T H.273, of PNG, AVIF and HEIC; else b""."""
    if image.format == "PNG":
        content = find_png_chunk(data, b"cICP")
        return content if len(content) == 4 else b""
    place = data.find(b"colrnclx", 0, 1 << 16) if image.format in ("AVIF", "HEIF") else -1
    if place < 0 or place + 12 > len(data):
        return b""
    primaries, transfer = struct.unpack_from(">HH", data, place + 8)
    is_hdr = transfer in (16, 18)
    return b"" if image.info.get("icc_profile") and not is_hdr else bytes([primaries & 255, transfer & 255, 0, 1])


def scale_png_transparency(image: Image.Image, data: bytes) -> None:
    """Give the transparent colour of a PNG the depth that its pixels have after decoding."""
    depth, color = data[24], image.info["transparency"]
    if isinstance(color, tuple) and depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in color)
    elif isinstance(color, int) and depth in (2, 4) and data[25] == 0:
        image.info["transparency"] = color * 255 // (2**depth - 1)


_BMP_JPEG, _BMP_PNG, _BMP_MASKS = 4, 5, (3, 6)  # values of its compression


def find_bmp_payload(data: bytes) -> bytes:
    """The JPEG or PNG that a BMP for printers holds; b"" for other BMPs."""
    if int.from_bytes(data[14:18], "little") < 40 or int.from_bytes(data[30:34], "little") not in (_BMP_JPEG, _BMP_PNG):
        return b""
    return data[int.from_bytes(data[10:14], "little") :]


def decode_odd_bmp(data: bytes, check_size: Callable[[tuple[int, int]], None]) -> Image.Image | None:
    """A BMP of four colours, or with bits of a pixel in an unusual order; None for others. check_size: as above."""
    if len(data) < 70:
        return None
    start, header, width, height, _, bits, method = struct.unpack_from("<10xIIiiHHI", data)
    if header < 40 or width < 1 or not ((bits == 2 and method == 0) or (bits in (16, 32) and method in _BMP_MASKS)):
        return None
    check_size((width, abs(height)))
    stride = (width * bits + 31) // 32 * 4
    if start + stride * abs(height) > len(data):
        return None
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
    return Image.fromarray(np.ascontiguousarray(pixels))


def _read_mask(values: Any, mask: int) -> Any:
    shift = (mask & -mask).bit_length() - 1 if mask else 0
    top = max(1, mask >> shift)
    return np.rint(((values.astype(np.int64) & mask) >> shift) * (255 / top)).astype(np.uint8)
