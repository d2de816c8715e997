"""Open a picture from anywhere without harm: whatever is wrong with it, UnreadableImage says so in one sentence.

A picture is decoded once, upright, in RGB and no larger than previews and models need. A file that lies about itself is
bounded three ways: by its bytes, by the pixels it announces (checked before they are decoded), and by decoding one
large picture at a time, so that memory does not grow with the number of threads.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import threading
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from math import ceil, sqrt
from pathlib import Path
from unicodedata import normalize

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from image_search.errors import UnreadableImage
from image_search.settings import Settings

MAX_FILE_BYTES = 512 * 2**20
MAX_IMAGE_PIXELS = Settings.max_image_pixels
MAX_DETAILED_PIXELS = 9_000_000  # a screen of 3840 x 2160, a page of A4 at 300 dots to the inch
PREVIEW_SIDE = 768
SMALL_SIDE = 200  # pixels that a small preview keeps at least; a tile of the page has 170

# A decoded picture keeps at least this many pixels on its sides when it is reduced by a whole number, which costs next
# to nothing. Previews may be a little smaller than PREVIEW_SIDE for that; models look at 224 to 384 pixels.
_SHORT_SIDE, _LONG_SIDE = 480, 704
_MODEL_SIDE = 400  # a preview with this short a side is enough for models
_MAX_PREVIEW_SOURCE_PIXELS = 8_000_000  # of a reduced picture; strips of extreme proportions exceed it otherwise
_LARGE = 24_000_000  # pixels decoded at once by one thread, from which on the others wait
_MAX_PROFILE = 16_384
_SMALL_CHUNK = b"SMAL"

# EPS starts Ghostscript, WMF needs Windows, the others have no decoder of their own.
_REFUSED_FORMATS = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"}
_HEIF_SUFFIXES = {".heic", ".heif", ".hif"}

_one_large_picture = threading.Lock()

# Pillow warns of every odd tag; the pictures open all the same. Its warning of huge pictures must not be lost, though.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.simplefilter("error", Image.DecompressionBombWarning)


@dataclass(frozen=True, slots=True)
class DecodedPicture:
    """A picture, ready for an encoder.

    image:         RGB, upright, reduced to what encoders and previews need; of the preview's size unless a side of it
                   were too short for encoders.
    width, height: pixels of the original, upright.
    file_type:     MIME type found by decoding.
    icc_profile:   colour profile of the pixels, b"" for sRGB or unknown.
    """

    image: Image.Image
    width: int
    height: int
    file_type: str
    icc_profile: bytes = b""


def open_image(path: str | os.PathLike[str], max_pixels: int = MAX_IMAGE_PIXELS) -> Image.Image:
    """The picture in a file: upright, RGB, reduced. Raises UnreadableImage naming the file."""
    return decode_image(read_file(path), Path(path).name, max_pixels).image


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file. Raises UnreadableImage when it cannot be read, is empty or is far too large."""
    name = make_printable(os.fspath(path))
    try:
        # A named pipe would wait for its writer for ever, so only plain files are opened.
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
    return decode_image(read_file(path), Path(path).name, max_pixels, most_pixels=MAX_DETAILED_PIXELS).image


def decode_image(
    data: bytes, name: str, max_pixels: int = MAX_IMAGE_PIXELS, most_pixels: int | None = None
) -> DecodedPicture:
    """Decode the first frame of a picture. name is for the message. Raises UnreadableImage.

    most_pixels: reduce it to so many, rather than to what previews and models need.
    """
    name = make_printable(name)
    Image.MAX_IMAGE_PIXELS = max_pixels  # Pillow checks embedded pictures and later frames by itself
    try:
        with Image.open(io.BytesIO(data), formats=_list_formats()) as image:
            _check_size(image.size, max_pixels)
            return _decode(image, most_pixels)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImage(
            f"{name} has more than {max_pixels} pixels. Save it smaller, or raise MAX_IMAGE_PIXELS."
        ) from error
    except UnidentifiedImageError as error:
        raise UnreadableImage(f"{name} is {_guess_content(data)}.") from error
    except MemoryError as error:
        raise UnreadableImage(f"{name} needs more memory than there is. Save the picture smaller.") from error
    # Decoders answer broken files with whatever goes wrong inside them: OSError, SyntaxError, ValueError, KeyError ...
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UnreadableImage(
            f"{name} is damaged or of an unusual kind ({reason}). Copy it again, or save it as PNG."
        ) from error


def make_preview(picture: DecodedPicture) -> bytes:
    """The picture as WebP of PREVIEW_SIDE pixels at most; never enlarged, and at least one pixel on each side.

    A larger one carries a small one for grids, as a chunk of its own behind the pixels, which programs that draw WebP
    pass over (RFC 9649, "Unknown Chunks"): a quarter of the pixels to send and to decode, and no second file to keep.
    """
    preview = _shrink_to_preview(picture.image)
    file = _encode_webp(preview, 80, picture.icc_profile)
    factor = min(preview.size) // SMALL_SIDE
    if factor < 2:
        return file
    small = _encode_webp(preview.reduce(factor), 75, picture.icc_profile)
    chunks = file[12:]
    if not chunks.startswith(b"VP8X"):  # announces that there is more than pixels
        sides = [(side - 1).to_bytes(3, "little") for side in preview.size]
        chunks = _make_chunk(b"VP8X", b"\0\0\0\0" + b"".join(sides)) + chunks
    return _make_chunk(b"RIFF", b"WEBP" + chunks + _make_chunk(_SMALL_CHUNK, small))


def read_small_preview(preview: bytes) -> bytes:
    """The small WebP in a preview; the whole of one that has none."""
    place = 12
    while place + 8 <= len(preview):
        size = int.from_bytes(preview[place + 4 : place + 8], "little")
        if preview[place : place + 4] == _SMALL_CHUNK:
            return preview[place + 8 : place + 8 + size]
        place += 8 + size + size % 2
    return preview


def _encode_webp(image: Image.Image, quality: int, icc_profile: bytes) -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=quality, method=0, icc_profile=icc_profile)
    return file.getvalue()


def _make_chunk(name: bytes, content: bytes) -> bytes:
    return name + len(content).to_bytes(4, "little") + content + b"\0" * (len(content) % 2)


def hash_bytes(data: bytes) -> str:
    """SHA-256 as 64 hexadecimal digits: the identity of an image."""
    return hashlib.sha256(data).hexdigest()


def make_printable(path: str) -> str:
    """A path fit for a message: composed, on one line, and encodable whatever bytes the name has."""
    text = normalize("NFC", path).encode("utf-8", "backslashreplace").decode()
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def list_picture_suffixes() -> frozenset[str]:
    """Lower-case suffixes, with their dot, of files that are looked at when a folder is read."""
    formats = {*_list_formats(), "MPO"}  # MPO is opened as JPEG
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in formats}
    return frozenset(known | _HEIF_SUFFIXES)


@cache
def _list_formats() -> tuple[str, ...]:
    Image.init()
    try:
        from pillow_heif import register_heif_opener  # optional: Pillow has no decoder for HEIC
    except ImportError:
        pass
    else:
        register_heif_opener()
    return tuple(name for name in Image.ID if name not in _REFUSED_FORMATS)


def _guess_content(data: bytes) -> str:
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"):
        return "a HEIC picture. Install the Python package pillow-heif and run again, or save it as JPEG"
    if data.startswith((b"%PDF", b"%!PS", b"\xc5\xd0\xd3\xc6")):
        return "a PDF or PostScript document, not a picture. Save it as PNG"
    return "not a picture, or of a format that is not known here. Save it as PNG or JPEG"


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    if min(size) < 1:
        raise ValueError("it has no pixels")
    if size[0] * size[1] > max_pixels:
        raise Image.DecompressionBombError


def _decode(image: Image.Image, most_pixels: int | None) -> DecodedPicture:
    width, height = image.size
    kind = "JPEG" if image.format == "MPO" else image.format or ""
    file_type = Image.MIME.get(kind, f"image/x-{kind.lower()}")
    if kind == "JPEG":
        # The decoder itself skips what is not needed: a quarter of the time for a photograph of 12 megapixels.
        factor = max(s for s in (1, 2, 4, 8) if s <= _choose_reduction(image.size, most_pixels))
        image.draft(None, (width // factor, height // factor))
    # A progressive JPEG is held whole before it is scaled.
    held = width * height if image.info.get("progressive") else image.width * image.height
    with _one_large_picture if held > _LARGE else nullcontext():
        image.load()
        if _read_orientation(image) > 4:
            width, height = height, width
        _turn_upright(image)
        has_rgb_profile = image.mode in ("RGB", "RGBA", "P")
        reduced = _convert_to_rgb(_reduce(image, most_pixels))
    if not most_pixels and min(reduced.size) * PREVIEW_SIDE >= _MODEL_SIDE * max(reduced.size):
        reduced = _shrink_to_preview(reduced)  # once, for the preview and the encoder
    profile = image.info.get("icc_profile") or b""
    keep = has_rgb_profile and isinstance(profile, bytes) and len(profile) <= _MAX_PROFILE
    return DecodedPicture(reduced, width, height, file_type, profile if keep else b"")


def _choose_reduction(size: tuple[int, int], most_pixels: int | None) -> int:
    short, long = sorted(size)
    if most_pixels:
        return ceil(sqrt(short * long / most_pixels))
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
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged camera data do not make the picture unreadable
        return 1


def _turn_upright(image: Image.Image) -> None:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:
        # It turns the pixels first and then mends the camera data; data that it cannot mend are of no interest here.
        return


def _reduce(image: Image.Image, most_pixels: int | None) -> Image.Image:
    """Shrink by a whole number, before colours are converted: that is less work and less memory."""
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode.startswith("I;16"):
        image = image.convert("I").point(lambda value: value / 257).convert("L")  # convert alone clips to white
    elif "transparency" in image.info or image.mode == "PA":
        image = image.convert("RGBA")
    elif image.mode == "P":
        image = image.convert("RGB")
    factor = _choose_reduction(image.size, most_pixels)
    return image.reduce(factor) if factor > 1 else image


def _convert_to_rgb(image: Image.Image) -> Image.Image:
    """RGB from any mode: transparency composed on white, whole and floating point numbers scaled instead of clipped."""
    if image.mode in ("I", "F"):
        return _scale_to_bytes(image).convert("RGB")
    if image.mode in ("LA", "La", "RGBA", "RGBa"):
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _scale_to_bytes(image: Image.Image) -> Image.Image:
    values = np.nan_to_num(np.asarray(image, np.float64), posinf=0, neginf=0)
    low, top = min(0.0, values.min()), values.max()
    # The usual white points; beyond them the brightest value is white.
    high = next((white for white in (1.0, 255.0, 65535.0) if top <= white and (white > 1 or image.mode == "F")), top)
    return Image.fromarray(((values - low) * (255 / (high - low))).astype(np.uint8))
