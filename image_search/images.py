"""Open an image from anywhere without harm: whatever is wrong with it, UnreadableImage says so in one sentence.

An image is decoded once, upright, in sRGB and no larger than previews and models need. A file that lies about itself is
bounded three ways: by its bytes, by the pixels it announces (checked before they are decoded), and by decoding one
large image at a time, so that memory does not grow with the number of threads.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import stat
import struct
import threading
import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.util import find_spec
from math import ceil, sqrt
from pathlib import Path
from typing import Any
from unicodedata import category, normalize

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from image_search.colors import MAX_PROFILE, convert_to_srgb, find_color_tags, scale_to_bytes
from image_search.errors import UnreadableImage
from image_search.file_kinds import (
    HEIF_SUFFIXES,
    RAW_SUFFIXES,
    add_article,
    check_icons,
    decode_raw,
    decode_webp,
    describe_content,
    is_raw,
    name_format,
    name_kind_within,
    read_box_size,
    read_jxl_size,
    register_decoders,
    silence_libtiff,
)
from image_search.repairs import (
    CORRECTIONS,
    ENOUGH,
    CutShort,
    complete_file,
    decode_odd_bmp,
    drop_gif_comments,
    drop_png_extras,
    find_bmp_payload,
    find_png_chunk,
    measure_share,
)
from image_search.settings import Settings
from image_search.tiff import complete_tiff, decode_deep_tiff, has_deep_samples, simplify_photoshop, widen_samples

MAX_FILE_BYTES = 512 * 2**20
# Version of the decoding that makes previews and embeddings. 1 kept the colour space of the file; 2 did not know cHRM,
# all primaries of cICP, Lab, and the depths of TIFF; 3 did not know Adobe RGB by EXIF, nor all codes of cICP.
RECIPE = 4
MAX_IMAGE_PIXELS = Settings.max_image_pixels
MAX_DETAILED_PIXELS = 9_000_000  # a screen of 3840 x 2160, a page of A4 at 300 dots to the inch
PREVIEW_SIDE = 768
SMALL_SIDE = 200  # pixels that a small preview keeps at least; a tile of the page has 170

# A decoded image keeps at least this many pixels on its sides when it is reduced by a whole number, which costs next
# to nothing. Previews may be a little smaller than PREVIEW_SIDE for that; models look at 224 to 384 pixels.
_SHORT_SIDE, _LONG_SIDE = 480, 704
_MODEL_SIDE = 400  # a preview with this short a side is enough for models
_MAX_PREVIEW_SOURCE_PIXELS = 8_000_000  # of a reduced image; strips of extreme proportions exceed it otherwise
_LARGE = 24_000_000  # pixels decoded at once by one thread, from which on the others wait
_LONG_STALL = 2_000_000  # pixels of a WebP, from which on Pillow's decoder keeps other threads waiting for long
_MAX_SIDE = 1_000_000  # pixels
_MAX_HELD = 40_000_000  # pixels that JPEG 2000 decodes at once, holding every thread of Python
_SMALL_CHUNK = b"SMAL"

# EPS starts Ghostscript, WMF needs Windows, the others have no decoder of their own.
_REFUSED_FORMATS = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"}

_one_large_image = threading.Lock()

# Pillow warns of every odd tag of images that still open. Its warning of huge images must not be lost, though.
for _name in ("PIL", "tifffile"):  # they log what they raise, too, without the name of the file
    logging.getLogger(_name).setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.simplefilter("error", Image.DecompressionBombWarning)
PngImagePlugin.MAX_TEXT_CHUNK = MAX_PROFILE  # its limit for profiles, too


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """An image, ready for an encoder.

    image:         sRGB, upright, reduced to what encoders and previews need; of the preview's size unless a side of it
                   were too short for encoders.
    width, height: pixels of the original, upright.
    file_type:     MIME type found by decoding.
    is_incomplete: the file is cut short; at least nine tenths of the rows are there.
    """

    image: Image.Image
    width: int
    height: int
    file_type: str
    is_incomplete: bool = False


def open_image(path: str | os.PathLike[str], max_pixels: int = MAX_IMAGE_PIXELS) -> Image.Image:
    """The image in a file, to search with: upright, RGB, reduced. Raises UnreadableImage naming the file."""
    return decode_image(read_file(path), Path(path).name, max_pixels, is_query=True).image


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file. Raises UnreadableImage when it cannot be read, is empty or is far too large."""
    name = make_printable(os.fspath(path))
    try:
        # Opening a named pipe waits indefinitely for its writer, so only plain files are opened.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UnreadableImage(f"{name} is not a file.")
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UnreadableImage(f"{name} cannot be read ({reason}). Check that it is there and that you may.") from error
    if not data:
        raise UnreadableImage(f"{name} is empty.")
    if len(data) > MAX_FILE_BYTES:
        raise UnreadableImage(f"{name} is larger than {MAX_FILE_BYTES >> 20} MiB. Save the picture smaller.")
    return data


def open_detailed_image(path: str | os.PathLike[str], max_pixels: int = MAX_IMAGE_PIXELS) -> Image.Image:
    """The image in a file, large enough for small print: upright, RGB, at most MAX_DETAILED_PIXELS.

    Raises UnreadableImage naming the file.
    """
    return decode_image(read_file(path), Path(path).name, max_pixels, target_pixels=MAX_DETAILED_PIXELS).image


def decode_image(
    data: bytes,
    name: str,
    max_pixels: int = MAX_IMAGE_PIXELS,
    target_pixels: int | None = None,
    is_query: bool = False,
) -> DecodedImage:
    """Decode the first frame of an image. name is for the message. Raises UnreadableImage.

    target_pixels: reduce it to so many, rather than to what previews and models need. is_query: to search with.
    """
    name = make_printable(name)
    Image.MAX_IMAGE_PIXELS = max_pixels  # Pillow checks embedded images and later frames by itself
    try:
        return _decode_or_rescue(data, max_pixels, target_pixels)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        said = f"{name} has more than {max_pixels} pixels. Save it smaller, or raise MAX_IMAGE_PIXELS."
        raise UnreadableImage(said) from error
    except UnidentifiedImageError as error:
        raise UnreadableImage(f"{name} is {describe_content(data, _list_formats(), is_query)}.") from error
    except CutShort as error:
        share = "" if error.share is None else f": {min(99, int(100 * error.share))}% of it is there"
        share += ", and JPEG XL is decoded whole only" if name_format(data) == "JPEG XL" else ""
        raise UnreadableImage(f"{name} is cut short{share}. Copy it again.") from error
    except ModuleNotFoundError as error:
        raise UnreadableImage(
            f"{name} is a RAW file of a camera, which is read with {error.name}. "
            "Run: pip install -r requirements-raw.txt; or save it as JPEG."
        ) from error
    except MemoryError as error:
        raise UnreadableImage(f"{name} needs more memory than there is. Save the picture smaller.") from error
    # Decoders answer broken files with whatever goes wrong inside them: OSError, SyntaxError, ValueError, KeyError ...
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        kind = "RAW" if is_raw(data) else name_format(data)
        if kind == "JPEG XL":  # whose decoder asks for another build of itself
            reason = "damaged or cut short, and decoded whole only"
        if within := name_kind_within(data):
            raise UnreadableImage(f"{name} is {within}. Save it as PNG or an ordinary JPEG.") from error
        state = f"{add_article(kind)} file that cannot be decoded" if kind else "damaged or of an unusual kind"
        raise UnreadableImage(f"{name} is {state} ({reason}). Copy it again, or save it as PNG.") from error


def make_preview(decoded: DecodedImage) -> bytes:
    """The image as WebP of PREVIEW_SIDE pixels at most; never enlarged, and at least one pixel on each side.

    A larger one carries a small one for grids, as a chunk of its own behind the pixels, which programs that draw WebP
    pass over (RFC 9649, "Unknown Chunks"): a quarter of the pixels to send and to decode, and no second file to keep.
    """
    preview = _shrink_to_preview(decoded.image)
    file = _encode_webp(preview, 80)
    factor = min(preview.size) // SMALL_SIDE
    if factor < 2:
        return file
    small = _encode_webp(preview.reduce(factor), 75)
    chunks = file[12:]
    if not chunks.startswith(b"VP8X"):  # announces that there is more than pixels
        sides = [(side - 1).to_bytes(3, "little") for side in preview.size]
        chunks = _make_chunk(b"VP8X", b"\0\0\0\0" + b"".join(sides)) + chunks
    return _make_chunk(b"RIFF", b"WEBP" + chunks + _make_chunk(_SMALL_CHUNK, small))


def looks_as_before(file_type: str, read_data: Callable[[], bytes]) -> bool:
    """Whether an image is decoded as by the previous recipe; False where that takes long to find out.

    read_data: its original, read for a PNG or a JPEG only.
    """
    if file_type == "image/png":
        return not any(map(partial(find_png_chunk, read_data()), (b"cICP", b"iCCP")))
    if file_type == "image/jpeg":
        with suppress(Exception), Image.open(io.BytesIO(read_data())) as image:
            return "icc_profile" in image.info or find_color_tags(image) is None
    return file_type in ("image/webp", "image/gif")


def read_small_preview(preview: bytes) -> bytes:
    """The small WebP in a preview; the whole of one that has none."""
    place = 12
    while place + 8 <= len(preview):
        size = int.from_bytes(preview[place + 4 : place + 8], "little")
        if preview[place : place + 4] == _SMALL_CHUNK:
            return preview[place + 8 : place + 8 + size]
        place += 8 + size + size % 2
    return preview


def find_dominant_color(decoded: DecodedImage) -> str:
    """The mean colour of the largest of eight groups of pixels, as "#rrggbb": what a tile shows until it is loaded."""
    small = decoded.image.resize((32, 32), Image.Resampling.BOX).quantize(8, Image.Quantize.FASTOCTREE)
    counts: Any = small.getcolors() or [(0, 0)]
    _, index = max(counts)
    red, green, blue = (small.getpalette() or [0, 0, 0])[3 * index : 3 * index + 3]
    return f"#{red:02x}{green:02x}{blue:02x}"


def _encode_webp(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=quality, method=0, icc_profile=b"")
    return file.getvalue()


def _make_chunk(name: bytes, content: bytes) -> bytes:
    return name + len(content).to_bytes(4, "little") + content + b"\0" * (len(content) % 2)


def hash_bytes(data: bytes) -> str:
    """SHA-256 as 64 hexadecimal digits: the identity of an image."""
    return hashlib.sha256(data).hexdigest()


def make_printable(path: str) -> str:
    """A path fit for a message: composed, on one line, and encodable whatever bytes the name has."""
    text = normalize("NFC", path).encode("utf-8", "backslashreplace").decode()
    return "".join(letter if is_printable(letter) else ascii(letter)[1:-1] for letter in text)


def is_printable(letter: str) -> bool:
    """Whether a character may stand in a name: also blanks, and the joiners in emoji and words; no other control."""
    return letter.isprintable() or category(letter) == "Zs" or letter in "\u200c\u200d"


@cache
def list_image_suffixes() -> frozenset[str]:
    """Lower-case suffixes, with their dot, of files that are looked at when a folder is read."""
    formats = {*_list_formats(), "MPO"}  # MPO is opened as JPEG
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in formats}
    known |= HEIF_SUFFIXES if "HEIF" in formats else set()
    return frozenset(known | RAW_SUFFIXES if find_spec("rawpy") else known)


@cache
def _list_formats() -> tuple[str, ...]:
    Image.init()
    register_decoders()
    silence_libtiff()
    return tuple(name for name in Image.ID if name not in _REFUSED_FORMATS)


def _decode_or_rescue(data: bytes, max_pixels: int, target_pixels: int | None) -> DecodedImage:
    if is_raw(data):
        return _decode_raw(data, max_pixels, target_pixels)
    kind = name_format(data)
    if kind == "GIF":
        data = drop_gif_comments(data)
    try:
        return _open_any(data, kind, max_pixels, target_pixels)
    except (Image.DecompressionBombError, CutShort):
        raise
    except Exception as error:
        return _rescue(data, kind, error, max_pixels, target_pixels)


def _open_any(
    data: bytes, kind: str, max_pixels: int, target_pixels: int | None, has_failed: bool = False
) -> DecodedImage:
    """Decode a file by the decoder that gets it right. has_failed: Pillow has refused it."""
    if kind == "TIFF" and (deep := decode_deep_tiff(data, lambda size: _check_size(size, max_pixels), has_failed)):
        decoded = _finish(deep.image, deep.image.size, "image/tiff", deep.info, deep.orientation, target_pixels)
        return replace(decoded, is_incomplete=deep.is_incomplete)
    if kind == "BMP" and (inner := find_bmp_payload(data)):
        return replace(_open(inner, max_pixels, target_pixels), file_type="image/bmp")
    if kind == "Photoshop" and (plain := simplify_photoshop(data, lambda size: _check_size(size, max_pixels))):
        return replace(_open(plain[0], max_pixels, target_pixels), is_incomplete=not plain[1])
    return _open(data, max_pixels, target_pixels)


def _rescue(data: bytes, kind: str, error: Exception, max_pixels: int, target_pixels: int | None) -> DecodedImage:
    """Repair and decode a file that does not decode as it is. Raises CutShort, or the error where nothing helps."""
    if kind == "PNG" and (plain := drop_png_extras(data)) != data:
        with suppress(Exception):
            return _open(plain, max_pixels, target_pixels)
    if kind == "BMP" and (odd := decode_odd_bmp(data, lambda size: _check_size(size, max_pixels))) is not None:
        image, is_whole = odd
        return replace(_finish(image, image.size, "image/bmp", {}, 1, target_pixels), is_incomplete=not is_whole)
    completed = complete_tiff(data) if kind == "TIFF" else complete_file(data, kind, str(error), max_pixels)
    try:
        for whole, share in completed:
            if share is not None and share < ENOUGH:
                raise CutShort(share) from error
            with suppress(Exception):
                decoded = _open_any(whole, kind, max_pixels, target_pixels)
                return replace(decoded, is_incomplete=kind != "PNG" or share is None or share < 1)
            if share is None:
                raise CutShort(None) from error
    except (struct.error, IndexError, OSError, SyntaxError):
        raise error from None
    if kind == "TIFF":
        return _open_any(data, kind, max_pixels, target_pixels, has_failed=True)
    raise error


def _decode_raw(data: bytes, max_pixels: int, target_pixels: int | None) -> DecodedImage:
    with _one_large_image:
        raw = decode_raw(data, lambda size: _check_size(size, max_pixels))
        info = {str(name): value for name, value in raw.image.info.items()}
        shown = _finish(raw.image, raw.image.size, raw.file_type, info, raw.orientation, target_pixels)
    width, height = raw.size if raw.orientation <= 4 else raw.size[::-1]
    return replace(shown, width=width, height=height)


def _open(data: bytes, max_pixels: int, target_pixels: int | None) -> DecodedImage:
    # The plugin of JPEG XL decodes when it opens, and AVIF's decoder has a limit of its own.
    if (size := read_jxl_size(data) or read_box_size(data)) is not None:
        _check_size(size, max_pixels)
    if data.startswith(b"icns"):
        check_icons(data)
    with Image.open(io.BytesIO(data), formats=_list_formats()) as image:
        _check_size(image.size, max_pixels)
        if correct := CORRECTIONS.get(image.format or ""):
            correct(image, data)
        return _decode(image, data, target_pixels)


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    if min(size) < 1:
        raise ValueError("it has no pixels")
    if size[0] * size[1] > max_pixels:
        raise Image.DecompressionBombError
    if max(size) > _MAX_SIDE:
        raise ValueError(f"longer than {_MAX_SIDE:,} pixels")


def _decode(image: Image.Image, data: bytes, target_pixels: int | None) -> DecodedImage:
    width, height = image.size
    kind = "JPEG" if image.format == "MPO" else image.format or ""
    file_type = Image.MIME.get(kind, f"image/x-{kind.lower()}")
    if kind == "JPEG":
        # The decoder itself skips what is not needed: a quarter of the time for a photograph of 12 megapixels.
        factor = max(s for s in (1, 2, 4, 8) if s <= _choose_reduction(image.size, target_pixels))
        image.draft(None, (width // factor, height // factor))
        image.decodermaxblock = len(data)  # type: ignore[attr-defined]  # arithmetic codes are not decoded in parts
    elif kind == "JPEG2000":
        _reduce_jpeg2000(image, target_pixels)
    # A progressive JPEG is held whole before it is scaled.
    held = width * height if image.info.get("progressive") else image.width * image.height
    with _one_large_image if held > _LARGE else nullcontext():
        loaded = None
        is_deep = kind == "TIFF" and has_deep_samples(image)
        if kind == "WEBP" and held > _LONG_STALL and not getattr(image, "is_animated", False):
            loaded = decode_webp(data, image.mode, image.size)
        if loaded is None:
            image.load()
        if is_deep:
            loaded = widen_samples(image, data)
        info: dict[Any, Any] = {**image.info, "color_tags": find_color_tags(image)}
        share = measure_share(data, kind, image.size) if _ends_blank(image, kind) else 1.0
        if share < ENOUGH:
            raise CutShort(share)
        decoded = _finish(loaded or image, (width, height), file_type, info, _read_orientation(image), target_pixels)
        return replace(decoded, is_incomplete=share < 1)


def _ends_blank(image: Image.Image, kind: str) -> bool:
    """Whether a decoded picture ends as decoders leave the rest of a file that is cut: a JPEG grey, a PNG zero."""
    width, height = image.size
    if kind == "JPEG":
        last = image.crop((width - 1, height - 1, width, height)).getextrema()
        ends = last if isinstance(last[0], tuple) else (last,)
        return all(126 <= low <= high <= 129 for low, high in ends)
    return kind == "PNG" and not image.crop((0, height - 1, width, height)).getbbox(alpha_only=False)


def _finish(
    image: Image.Image,
    size: tuple[int, int],
    file_type: str,
    info: dict[str, Any],
    orientation: int,
    target_pixels: int | None,
) -> DecodedImage:
    """Turn an image upright, reduce it, and convert it to sRGB. size: pixels of the file before it is turned."""
    width, height = size if orientation <= 4 else size[::-1]
    image = _turn_upright(image, orientation)
    reduced = convert_to_srgb(_reduce(image, target_pixels), info)
    if not target_pixels and min(reduced.size) * PREVIEW_SIDE >= _MODEL_SIDE * max(reduced.size):
        reduced = _shrink_to_preview(reduced)  # once, for the preview and the encoder
    return DecodedImage(reduced, width, height, file_type)


def _reduce_jpeg2000(image: Image.Image, target_pixels: int | None) -> None:
    """Leave out resolutions that are not needed; the decoder holds every thread of Python meanwhile."""
    levels = min(5, _choose_reduction(image.size, target_pixels).bit_length() - 1)
    if image.width * image.height >> 2 * levels > _MAX_HELD:
        raise ValueError(f"JPEG 2000 of {image.width:,} x {image.height:,} pixels takes too long to decode")
    image.reduce = levels  # type: ignore[assignment, method-assign]  # of this format a number, until it is loaded


def _choose_reduction(size: tuple[int, int], target_pixels: int | None) -> int:
    short, long = sorted(size)
    if target_pixels:
        return ceil(sqrt(short * long / target_pixels))
    wanted = min(short // _SHORT_SIDE, long // _LONG_SIDE)
    needed = int((short * long / _MAX_PREVIEW_SOURCE_PIXELS) ** 0.5)
    return max(1, wanted, needed)


def _shrink_to_preview(image: Image.Image) -> Image.Image:
    if max(image.size) <= PREVIEW_SIDE:
        return image
    preview = image.copy()
    preview.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE), Image.Resampling.HAMMING)  # half the time of BICUBIC
    return preview


def _read_orientation(image: Image.Image) -> int:
    if image.format == "JXL" and not getattr(image, "jpeg", False):
        return 1  # decoded upright; EXIF repeats what the decoder has done
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged camera data do not make the image unreadable
        return 1


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    if orientation not in _TURNS:
        return image
    turned = image.transpose(_TURNS[orientation])
    turned.info, turned.format = image.info, image.format
    return turned


def _reduce(image: Image.Image, target_pixels: int | None) -> Image.Image:
    """Shrink by a whole number, before colours are converted: that is less work and less memory."""
    if image.mode == "1" and "transparency" not in image.info:
        image = image.convert("L")
    elif image.mode.startswith("I;16"):
        image = _convert_16_bit(image)
    elif "transparency" in image.info or image.mode == "PA":
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    elif image.mode == "P":
        image = image.convert("RGB")
    factor = _choose_reduction(image.size, target_pixels)
    return image.reduce(factor) if factor > 1 else image


def _convert_16_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 bits to 8, on white where it is transparent (convert alone clips to white)."""
    values = np.asarray(image)
    # A PNG says how many bits count; cameras and scanners keep 10, 12 or 14 bits in a TIFF and say nothing.
    pixels = (values // 257).astype(np.uint8) if image.format == "PNG" else scale_to_bytes(values)
    if isinstance(image.info.get("transparency"), int):
        pixels = np.where(values == image.info["transparency"], 255, pixels).astype(np.uint8)
    return Image.fromarray(pixels)
