"""TIFF and Photoshop documents that Pillow garbles or refuses: deep samples, compressions it lacks, files cut short."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

from image_search.colors import encode_srgb, scale_to_bytes
from image_search.repairs import ENOUGH, CutShort


class Opened(NamedTuple):
    """An image with what its file says of it, as Pillow gives it. orientation: in the numbers of EXIF."""

    image: Image.Image
    info: dict[str, Any]
    orientation: int
    is_incomplete: bool = False


# Compressions by which each strip or tile is a file, and who decodes it; Pillow's libtiff is built without them.
_FILES_INSIDE = {
    50001: "WEBP", 34712: "JPEG2000", 33003: "JPEG2000", 33005: "JPEG2000", 34933: "PNG", 50002: "JXL", 52546: "JXL",
}  # fmt: skip
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK, _LAB, _ICC_LAB = 0, 1, 2, 5, 8, 9
_COLORS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _CMYK: 4, _LAB: 3, _ICC_LAB: 3}
_OF_PILLOW = {3, 4, 6}  # palette, mask, YCbCr
_ASSOCIATED, _UNASSOCIATED = 1, 2  # alpha, with colours multiplied by it or not
_PROFILE, _ORIENTATION = 34675, 274

CheckSize = Callable[[tuple[int, int]], None]


def decode_deep_tiff(data: bytes, check_size: CheckSize, has_failed: bool = False) -> Opened | None:
    """A TIFF that Pillow garbles or refuses; None for others.

    check_size: refuses a size, by raising. has_failed: Pillow has refused it. Raises ValueError for one that is not
    decoded here either.
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
        except Exception:
            return None
        info = {"icc_profile": profile.value} if (profile := page.tags.get(_PROFILE)) else {}
        orientation = int(page.tags[_ORIENTATION].value) if _ORIENTATION in page.tags else 1
        if page.compression in _FILES_INSIDE:
            check_size(size)
            image, is_whole = _join_files(data, page, check_size)
            return Opened(image, info, orientation, not is_whole)
        if photometric not in _COLORS or kind is None or not (has_failed or _is_garbled(page)):
            if has_failed and photometric not in _COLORS and photometric not in _OF_PILLOW:
                raise ValueError(f"TIFF of the kind {page.photometric.name}")
            return None
        check_size(size)
        try:
            pixels = page.asarray()
        except Exception as error:  # of a compression that Pillow knows
            if kind == np.uint16 and photometric in (_BLACK_IS_ZERO, _RGB, _CMYK) and not has_failed:
                return None
            if "imagecodecs" not in str(error):
                raise ValueError(f"TIFF of {page.bitspersample} bits: {error}") from error
            pixels = _read_parts(data, page, check_size)
        if page.planarconfig == 2 and pixels.ndim == 3:
            pixels = np.moveaxis(pixels, 0, -1)
        pixels = pixels.reshape(size[1], size[0], -1)
        alpha = next(map(int, page.extrasamples), 0) if photometric in (_BLACK_IS_ZERO, _RGB) else 0
        return Opened(_make_image(pixels, photometric, alpha), info, orientation)


_HORIZONTAL, _FLOATING_POINT = 2, 3  # predictors


def _read_parts(data: bytes, page: Any, check_size: CheckSize) -> npt.NDArray[Any]:
    """Pixels coded in a way for which tifffile wants a large package: rows, columns, samples; planes first if apart.

    Raises ValueError for one that libtiff does not know either.
    """
    kind, predictor, bits = page.dtype, int(page.predictor), page.bitspersample
    is_packed = kind == np.uint16 and 8 < bits < 16 and predictor == 1
    if not is_packed and (bits != 8 * kind.itemsize or predictor not in (1, _HORIZONTAL, _FLOATING_POINT)):
        raise ValueError(f"TIFF of {bits} bits: {_name_coding(page)}")
    is_apart = page.planarconfig == 2
    planes, samples = (page.samplesperpixel, 1) if is_apart else (1, page.samplesperpixel)
    width = page.tilewidth or page.imagewidth
    height = page.tilelength or min(page.rowsperstrip, page.imagelength)
    down, across = -(-page.imagelength // height), -(-page.imagewidth // width)
    check_size((across * width, down * height))
    pixels = np.zeros((planes, down * height, across * width, samples), kind)
    for index, (start, size) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        plane, row, column = (int(number) for number in np.unravel_index(index, (planes, down, across)))
        top, left = row * height, column * width
        rows = height if page.tilelength else min(height, page.imagelength - top)
        try:
            part = decompress(data[start : start + size], page.compression, (width * samples * bits + 7) // 8, rows)
        except Exception as error:
            raise ValueError(f"TIFF of {bits} bits: {_name_coding(page)}") from error
        if is_packed:
            numbers = _unpack_bits(part, bits)[:, : width * samples].reshape(rows, width, samples)
        else:
            numbers = _undo_predictor(part, predictor, kind, page.parent.byteorder, samples)
        pixels[plane, top : top + rows, left : left + width] = numbers
    shown: npt.NDArray[Any] = pixels[:, : page.imagelength, : page.imagewidth]
    return shown[..., 0] if is_apart else shown[0]


def _unpack_bits(part: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint16]:
    """Numbers of fewer than 16 bits that lie one behind the other in each row."""
    flags = np.unpackbits(part, axis=1)
    flags = flags[:, : flags.shape[1] // bits * bits].reshape(len(part), -1, bits)
    numbers = np.packbits(np.pad(flags, ((0, 0), (0, 0), (16 - bits, 0))), axis=2).view(">u2")[..., 0]
    return numbers.astype(np.uint16)


def _undo_predictor(
    part: npt.NDArray[np.uint8], predictor: int, kind: Any, order: str, samples: int
) -> npt.NDArray[Any]:
    """Bytes of rows as numbers: rows, columns, samples. Source: TIFF 6.0, section 14, and Adobe's Technical Note 3."""
    rows = len(part)
    if predictor == _FLOATING_POINT:  # differences of bytes, the highest bytes of all numbers of a row first
        sums = np.cumsum(part.reshape(rows, -1, samples), axis=1, dtype=np.uint8)
        by_number = np.ascontiguousarray(sums.reshape(rows, kind.itemsize, -1).transpose(0, 2, 1))
        numbers: npt.NDArray[Any] = by_number.view(kind.newbyteorder(">")).reshape(rows, -1, samples)
        return numbers
    whole = np.dtype(f"{order}u{kind.itemsize}")
    values = part.view(whole).reshape(rows, -1, samples).astype(whole.newbyteorder("="))
    if predictor == _HORIZONTAL:
        values = np.cumsum(values, axis=1, dtype=values.dtype)
    return values.view(kind)


def decompress(data: bytes, method: int, width: int, rows: int) -> npt.NDArray[np.uint8]:
    """Bytes as libtiff decompresses them, (rows, width): those of a grey TIFF of one strip. Raises OSError.

    method: by the number of TIFF.
    """
    entries = (
        (256, width),
        (257, rows),
        (258, 8),
        (259, method),
        (262, 1),
        (273, 122),
        (277, 1),
        (278, rows),
        (279, len(data)),
    )
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    file = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + directory + bytes(4) + data
    # Not by Image.open, which takes bytes for pixels, and may refuse so many.
    with TiffImagePlugin.TiffImageFile(io.BytesIO(file)) as image:
        bytes_of_rows: npt.NDArray[np.uint8] = np.asarray(image)
    return bytes_of_rows


def _name_coding(page: Any) -> str:
    """How the pixels of a page are coded, which has no decoder here."""
    predictor = f" with predictor {page.predictor.name}" if page.predictor != 1 else ""
    return f"compressed as {page.compression.name}{predictor}"


def _is_garbled(page: Any) -> bool:
    """Whether Pillow opens it, and gets it wrong."""
    photometric, kind, is_apart = int(page.photometric), page.dtype, page.planarconfig == 2
    if photometric in (_LAB, _ICC_LAB) and (is_apart or photometric == _ICC_LAB):
        return True
    if page.bitspersample <= 8:
        return is_apart and photometric == _WHITE_IS_ZERO
    return not (kind == np.uint16 and photometric in (_BLACK_IS_ZERO, _RGB, _CMYK) and not is_apart)


def _make_image(pixels: Any, photometric: int, alpha: int) -> Image.Image:
    """pixels: rows, columns, samples."""
    colors, size = _COLORS[photometric], pixels.shape[1::-1]
    if photometric in (_LAB, _ICC_LAB):
        light, others = pixels[..., :1], pixels[..., 1:3]
        if pixels.dtype.itemsize == 2:
            light = np.rint(light.astype(np.uint16) / 257)
            others = np.rint(others.astype(np.int16) / 256).clip(-128, 127).astype(np.int8).view(np.uint8)
        if photometric == _ICC_LAB:  # with zero in the middle
            others = others.astype(np.uint8) ^ 128
        return Image.frombytes("LAB", size, np.concatenate([light, others], -1).astype(np.uint8).tobytes())
    values = scale_to_bytes(pixels[..., :colors])
    if photometric == _WHITE_IS_ZERO:
        values = 255 - values
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[colors]
    if alpha not in (_ASSOCIATED, _UNASSOCIATED) or pixels.shape[2] <= colors:
        return Image.frombytes(mode, size, values.tobytes())
    opacity = scale_to_bytes(pixels[..., colors])
    if alpha == _ASSOCIATED:
        values = np.minimum(255, values.astype(np.uint16) * 255 // np.maximum(opacity, 1)[..., None]).astype(np.uint8)
    image = Image.frombytes(mode, size, values.tobytes())
    image.putalpha(Image.fromarray(opacity))
    return image


def _join_files(data: bytes, page: Any, check_size: CheckSize) -> tuple[Image.Image, bool]:
    """A TIFF whose strips or tiles are files each, and whether all are there. Raises CutShort."""
    image = Image.new("RGB", (page.imagewidth, page.imagelength), "white")
    width = page.tilewidth or page.imagewidth
    height = page.tilelength or page.rowsperstrip
    columns = -(-page.imagewidth // width)
    places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    whole = [place for place in enumerate(places) if sum(place[1]) <= len(data)]
    if len(whole) < ENOUGH * len(places):
        raise CutShort(len(whole) / len(places))
    for number, (start, size) in whole:
        row, column = divmod(number, columns)
        format = _FILES_INSIDE[page.compression]
        with Image.open(io.BytesIO(data[start : start + size]), formats=[format]) as part:
            if part.width > width or part.height > height:
                raise ValueError("TIFF with parts larger than itself")
            check_size(part.size)
            image.paste(part.convert("RGB"), (column * width, row * height))
    return image, len(whole) == len(places)


_LOW_BYTES = {"16L": "16B", "16B": "16L", "16N": "16B" if sys.byteorder == "little" else "16L"}


def has_deep_samples(image: Image.Image) -> bool:
    """Whether an opened TIFF, not decoded yet, has 16 bits a colour, of which Pillow keeps the high byte."""
    return image.mode == "RGB" and any(_name_raw_mode(tile)[1] in _LOW_BYTES for tile in image.tile)  # type: ignore[attr-defined]


def widen_samples(image: Image.Image, data: bytes) -> Image.Image:
    """A decoded image of deep samples; where they are small numbers, of 12 bits, it is scaled with its low bytes."""
    if max(high for _, high in image.getextrema()) > 63:  # type: ignore[misc]
        return image
    with Image.open(io.BytesIO(data), formats=["TIFF"]) as low:
        tiles = low.tile
        low.tile = [tile._replace(args=_swap_bytes(tile)) for tile in tiles]
        low.load()
        values = np.asarray(image).astype(np.uint16) << 8 | np.asarray(low)
    widened = Image.fromarray(scale_to_bytes(values))
    widened.info = image.info
    return widened


def _name_raw_mode(tile: Any) -> tuple[str, str]:
    """The mode of a tile's bytes and the size and order of its numbers: ("RGB", "16L")."""
    raw = tile.args if isinstance(tile.args, str) else (tile.args or ("",))[0]
    mode, _, order = str(raw).partition(";")
    return mode, order


def _swap_bytes(tile: Any) -> Any:
    mode, order = _name_raw_mode(tile)
    swapped = f"{mode};{_LOW_BYTES.get(order, order)}"
    return swapped if isinstance(tile.args, str) else (swapped, *tile.args[1:])


# Files that are cut short.

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _ROWS, _PLANES, _TILE_WIDTH, _TILE_HEIGHT = (
    256, 257, 258, 259, 277, 278, 284, 322, 323,
)  # fmt: skip
_PLAIN, _LZW, _JPEG, _DEFLATE, PACK_BITS = 1, 5, 7, (8, 32946), 32773
_MAX_PART = 16 << 20  # bytes of a strip that is filled up
_PARTS = ((273, 279), (324, 325))  # tags: where the strips or tiles are, and their sizes
_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_CODES = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


@dataclass(frozen=True, slots=True)
class _Values:
    """Whole numbers of a directory: where they are, their code for struct, and what they are."""

    place: int
    code: str
    values: tuple[int, ...]


def complete_tiff(data: bytes) -> Iterator[tuple[bytes, float | None]]:
    """A whole file in the place of one that is cut short, with the share of it that is there; nothing for others.

    Zeros take the place of pixels that are missing, and the last whole strip that of strips that cannot be filled up.
    Raises CutShort.
    """
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 16 or data[2:4] not in (b"*\0", b"\0*", b"+\0", b"\0+"):
        return
    entries = _read_directory(data, order)
    parts = next((pair for pair in _PARTS if pair[0] in entries and pair[1] in entries), None)
    if parts is None:
        return
    starts, sizes = (entries[tag] for tag in parts)
    places = list(zip(starts.values, sizes.values, strict=False))
    there, wanted = sum(min(size, max(0, len(data) - start)) for start, size in places), sum(sizes.values)
    if there >= wanted:
        return
    if there < ENOUGH * wanted:
        raise CutShort(there / wanted)
    method, length = _get(entries, _COMPRESSION, _PLAIN), _measure_part(entries)
    if method == _PLAIN:
        yield data + bytes(max(map(sum, places)) - len(data)), there / wanted
        return
    for is_filled_up in (True, False):
        completed, last, whole = bytearray(data), 0, 0.0
        for number, (start, size) in enumerate(places):
            replaced = places[last]
            if start + size <= len(data):
                last, whole = number, whole + size
                continue
            if is_filled_up and start < len(data) and (part := _fill_up(data[start:], method, length)):
                replaced = (len(completed), len(part))
                completed += part
                whole += len(data) - start
            for entry, value in zip((starts, sizes), replaced, strict=True):
                place = entry.place + struct.calcsize(entry.code) * number
                struct.pack_into(order + entry.code, completed, place, value)
        yield bytes(completed), whole / wanted


def _get(entries: dict[int, _Values], tag: int, default: int) -> int:
    return entries[tag].values[0] if tag in entries and entries[tag].values else default


def _measure_part(entries: dict[int, _Values]) -> int:
    """Bytes of the pixels of a strip or tile."""
    width = _get(entries, _TILE_WIDTH, _get(entries, _WIDTH, 1))
    rows = _get(entries, _TILE_HEIGHT, min(_get(entries, _ROWS, 1 << 32), _get(entries, _HEIGHT, 1)))
    samples = _get(entries, _SAMPLES, 1) if _get(entries, _PLANES, 1) == 1 else 1
    return min(rows * ((width * samples * _get(entries, _BITS, 1) + 7) // 8), _MAX_PART)


def _fill_up(data: bytes, method: int, length: int) -> bytes:
    """The beginning of a compressed strip with zeros behind it; b"" where that is not possible."""
    if method in _DEFLATE:
        return zlib.compress(_inflate(data).ljust(length, b"\0"), 1)
    if method == _LZW:
        return _pack_lzw(_unpack_lzw(data).ljust(length, b"\0"))
    if method == PACK_BITS:
        return data + bytes(2 * length)  # pairs of zeros are a zero each
    return data + b"\xff\xd9" if method == _JPEG else b""


def _inflate(data: bytes) -> bytes:
    stream, out = zlib.decompressobj(), bytearray()
    for start in range(0, len(data), 4096):
        try:
            out += stream.decompress(data[start : start + 4096], _MAX_PART)
        except zlib.error:
            break
    return bytes(out[:_MAX_PART])


# LZW as TIFF has it: codes of 9 to 12 bits, the highest bit first. Source: TIFF 6.0, section 13.
_CLEAR, _END, _FIRST = 256, 257, 258


def _unpack_lzw(data: bytes) -> bytes:
    """The text of a stream, up to where it is damaged or cut."""
    table: list[bytes] = []
    out, before = bytearray(), b""
    width, position = 9, 0
    while position + width <= 8 * len(data) and len(out) < _MAX_PART:
        start = position >> 3
        bits = int.from_bytes(data[start : start + 4].ljust(4, b"\0"), "big")
        code = bits >> 32 - width - (position & 7) & (1 << width) - 1
        position += width
        if code == _END:
            break
        if code == _CLEAR:
            table, before, width = [bytes([value]) for value in range(256)] + [b"", b""], b"", 9
            continue
        if not table or code > len(table) or (code == len(table) and not before):
            break
        text = table[code] if code < len(table) else before + before[:1]
        if before:
            table.append(before + text[:1])
            width = max(9, min(12, (len(table) + 1).bit_length()))
        out += text
        before = text
    return bytes(out[:_MAX_PART])


def _pack_lzw(text: bytes) -> bytes:
    """A stream of single bytes; the table is cleared before codes grow longer than 9 bits."""
    run = 250
    values = np.frombuffer(text, np.uint8).astype(np.uint16)
    codes = [part for start in range(0, len(values), run) for part in ([_CLEAR], values[start : start + run])]
    joined = np.concatenate([*codes, [_END]]).astype(np.uint16)
    return np.packbits((joined[:, None] >> np.arange(8, -1, -1) & 1).astype(np.uint8).reshape(-1)).tobytes()


def _read_directory(data: bytes, order: str) -> dict[int, _Values]:
    """The whole numbers in the first directory by their tag, of a TIFF or BigTIFF. Raises CutShort."""
    is_big = 43 in data[2:4]
    count_code, offset_code, first = ("Q", "Q", 8) if is_big else ("H", "I", 4)
    width = struct.calcsize(offset_code)
    (directory,) = struct.unpack_from(order + offset_code, data, first)
    if directory < 8:
        return {}
    start = directory + struct.calcsize(count_code)
    (count,) = struct.unpack_from(order + count_code, data, directory) if start <= len(data) else (1,)
    step = 4 + 2 * width
    if start + step * count > len(data):  # most programs write it behind the pixels
        raise CutShort(None)
    entries = {}
    for place in range(start, start + step * count, step):
        tag, kind, length = struct.unpack_from(f"{order}HH{offset_code}", data, place)
        begin = place + 4 + width
        if _WIDTHS.get(kind, 0) * length > width:
            (begin,) = struct.unpack_from(order + offset_code, data, begin)
        if begin + _WIDTHS.get(kind, 0) * length > len(data):
            raise CutShort(None)
        if code := _CODES.get(kind):
            entries[tag] = _Values(begin, code, struct.unpack_from(f"{order}{length}{code}", data, begin))
    return entries


# Photoshop documents as Pillow reads them: PSD of 8 bits a channel, without channels that are no colours.

_HEADER = struct.Struct(">4sH6xHIIHH")  # signature, version, channels, height, width, bits, mode
_CHANNELS = {1: 1, 2: 1, 3: 3, 4: 4, 7: 1, 8: 1, 9: 3}  # by mode: grey, palette, RGB, CMYK, several, duotone, Lab
_RAW, _RUNS = 0, 1


def simplify_photoshop(data: bytes, check_size: CheckSize) -> tuple[bytes, bool] | None:
    """The merged image of a document as a plain PSD, and whether it is whole; None for one that Pillow gets right.

    Channels behind the colours are selections, or a transparency that the merged image has on white already.
    check_size: refuses a size, by raising. Raises CutShort and ValueError.
    Source: Adobe Photoshop File Formats Specification.
    """
    if len(data) < _HEADER.size:
        return None
    _, version, channels, height, width, bits, mode = _HEADER.unpack_from(data)
    colors = _CHANNELS.get(mode, 0)
    is_large = version == 2
    if not 0 < colors <= channels or bits not in (8, 16, 32) or not (is_large or bits > 8 or channels > colors):
        return None
    check_size((width, height))
    sections, place = [], _HEADER.size
    for code in (">I", ">I", ">Q" if is_large else ">I"):  # palette, resources, layers
        start = place + struct.calcsize(code)
        place = start + int.from_bytes(data[place:start])
        sections.append(data[start:place])
    method = int.from_bytes(data[place : place + 2])
    place += 2
    row, rows = width * bits // 8, colors * height
    if method == _RUNS:
        size = channels * height * (4 if is_large else 2)
        counts = np.frombuffer(data[place : place + size].ljust(size, b"\xff"), ">u4" if is_large else ">u2")
        place += size
        wanted = int(counts[:rows].sum())
    elif method == _RAW:
        wanted = rows * row
    else:
        raise ValueError(f"its pixels are compressed by method {method}")
    share = min(1.0, (len(data) - place) / max(1, wanted))
    if share < ENOUGH:
        raise CutShort(max(0.0, share))
    body = data[place : place + wanted]
    if method == _RUNS:
        body = decompress(body + bytes(2 * row * height if share < 1 else 0), PACK_BITS, row, rows).tobytes()
    values = _scale(body.ljust(rows * row, b"\0"), bits)
    if bits == 32:  # light, whatever profile stands beside it
        sections[1] = b""
    parts = b"".join(len(part).to_bytes(4) + part for part in (*sections[:2], b""))
    header = _HEADER.pack(b"8BPS", 1, colors, height, width, 8, mode)
    return header + parts + _RAW.to_bytes(2) + values.tobytes(), share == 1


def _scale(body: bytes, bits: int) -> npt.NDArray[np.uint8]:
    if bits == 32:
        light = np.clip(np.nan_to_num(np.frombuffer(body, ">f4").astype(np.float32)), 0, 1)
        encoded: npt.NDArray[Any] = np.rint(encode_srgb(light) * 255)
        return encoded.astype(np.uint8)
    if bits == 16:
        return (np.frombuffer(body, ">u2") // 257).astype(np.uint8)
    return np.frombuffer(body, np.uint8)
