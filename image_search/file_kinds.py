"""The kind of a file by its first bytes and its suffix, and the decoders that are packages of their own."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from ctypes import CDLL, byref, c_char_p, c_int, c_size_t, c_void_p
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from image_search.jpeg import read_jpeg

# Suffixes of files that optional packages decode.
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif", ".heics", ".heifs"})
JXL_SUFFIXES = frozenset({".jxl"})
RAW_SUFFIXES = frozenset({
    ".3fr", ".arw", ".bay", ".cap", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr",
    ".iiq", ".k25", ".kdc", ".mdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".ptx",
    ".pxn", ".r3d", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
})  # fmt: skip
# Files that say something about images, and are read with them.
SIDECAR_SUFFIXES = frozenset({".txt", ".caption", ".json", ".jsonl", ".xmp"})
# Suffixes of files that are images by content but not by purpose: unfinished downloads, and thumbnails of cameras.
_NEVER_OPENED = frozenset({".part", ".partial", ".crdownload", ".download", ".filepart", ".!ut", ".tmp", ".thm"})
SNIFFED_BYTES = 64  # of a file that are enough for looks_like_image

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
# Signatures of files that have one, by position: what to call a file that no decoder takes.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "PNG"), (0, b"\xff\xd8\xff", "JPEG"), (0, b"GIF8", "GIF"), (8, b"WEBP", "WebP"),
    (0, b"II*\0", "TIFF"), (0, b"MM\0*", "TIFF"), (0, b"II+\0", "TIFF"), (0, b"MM\0+", "TIFF"), (0, b"BM", "BMP"),
    (0, b"8BPS", "Photoshop"), (0, b"\0\0\0\x0cjP  ", "JPEG 2000"), (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\x01\0", "icon"), (0, b"DDS ", "DDS"), (0, b"qoif", "QOI"), (0, b"SIMPLE  =", "FITS"),
    (8, b"avif", "AVIF"), (8, b"avis", "AVIF"), (0, b"FORM", "IFF"), (0, b"\x59\xa6\x6a\x95", "Sun raster"),
    *((8, brand, "HEIC") for brand in _HEIC_BRANDS), (0, b"\0\0\0\x0cJXL ", "JPEG XL"), (0, b"\xff\x0a", "JPEG XL"),
    (0, b"icns", "icon"), (0, b"P5", "PGM"), (0, b"P6", "PPM"), (0, b"\x0a\x05\x01", "PCX"),
    (0, b"PF\n", "PFM"), (0, b"P7\n", "PAM"), (0, b"II\xbc\1", "JPEG XR"), (0, b"gimp xcf", "GIMP (XCF)"),
    (0, b"v/1\1", "OpenEXR"), (0, b"#?RADIANCE", "Radiance HDR"), (0, b"AT&TFORM", "DjVu"), (0, b"BPG\xfb", "BPG"),
    (128, b"DICM", "DICOM"), (0, b"SDPX", "DPX"), (0, b"XPDS", "DPX"), (0, b"CSFCHUNK", "Clip Studio"),
    (0, b"FLIF", "FLIF"), (0, b"\x8aMNG\r\n", "MNG"), (0, b"\x8bJNG\r\n", "JNG"), (0, b"farbfeld", "farbfeld"),
    (0, b"\xabKTX ", "KTX"), (0, b"\xd7\xcd\xc6\x9a", "WMF"), (40, b" EMF", "EMF"), (0, b"\0\xffKA", "Affinity"),
    (0, b"\0\0\x02\0", "icon"),
)  # fmt: skip
# Kinds of images that have no decoder here.
_UNREAD = frozenset(
    {"JPEG XR", "GIMP (XCF)", "OpenEXR", "Radiance HDR", "DjVu", "BPG", "DICOM", "DPX", "Clip Studio", "FLIF", "MNG"}
    | {"JNG", "farbfeld", "KTX", "WMF", "EMF", "Affinity"}
)
# Kinds that are not read at all: what to call them, and what to do.
_OTHER_KINDS: tuple[tuple[int, tuple[bytes, ...], str], ...] = (
    (0, (b"%PDF", b"%!PS", b"\xc5\xd0\xd3\xc6"), "a PDF or PostScript document, not a picture. Save it as PNG"),
    (0, (b"\0\0\0\x0cJXL ", b"\xff\x0a"), "a JPEG XL picture. Install the Python package pillow-jxl-plugin (pip "
     "install -r requirements-formats.txt) and run again, or save it as JPEG"),
    (0, (b"PK\x03\x04", b"Rar!", b"7z\xbc\xaf", b"\x1f\x8b"), "an archive, not a picture. Unpack it"),
    (0, (b"\x1aE\xdf\xa3",), "a film, not a picture. Give it a suffix such as .webm or .mkv"),
    (8, (b"AVI ",), "a film, not a picture. Give it the suffix .avi"),
    (0, (b"FLV\1", b"\0\0\1\xba", b"\0\0\1\xb3"), "a film, not a picture. Save it as .mp4"),
    (0, (b"version https://git-lfs",), "a pointer of Git LFS, not the picture itself. Run: git lfs pull"),
    (0, (b"\0\x05\x16\x07",), "a file of macOS with facts about another file, not a picture. It can be deleted"),
)  # fmt: skip
_FILM_BRANDS = (b"isom", b"iso2", b"mp41", b"mp42", b"avc1", b"M4V ", b"qt  ", b"dash", b"3gp4", b"3gp5", b"MSNV")


def describe_content(data: bytes, formats: Collection[str] = (), is_query: bool = False) -> str:
    """How to call a file that no decoder takes, by its first bytes, and what to do with it; without the last stop.

    formats: those that have a decoder, as Pillow calls them. is_query: it is to be searched with, not registered.
    """
    description = _describe_content(data, formats)
    is_film = is_query and description.startswith("a film")
    return "a film, not a picture. Send a picture, for example one frame of it" if is_film else description


def _describe_content(data: bytes, formats: Collection[str]) -> str:
    brand = data[8:12] if data[4:8] == b"ftyp" else b""
    if brand in _HEIC_BRANDS and "HEIF" not in formats:
        return (
            "a HEIC picture. Install the Python package pillow-heif (pip install -r requirements-formats.txt) and run "
            "again, or save it as JPEG"
        )
    if brand in _FILM_BRANDS:
        return "a film, not a picture. Give it a suffix such as .mp4 or .mov"
    for position, signatures, description in _OTHER_KINDS:
        if "JPEG XL" in description and "JXL" in formats:
            continue
        if data[position:].startswith(signatures):
            return description
    text = data[:1024].replace(b"\0", b"").lstrip(b"\xff\xfe\xef\xbb\xbf \r\n\t").lower()
    if b"<svg" in text:
        return "an SVG drawing, which is not read. Save it as PNG"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page, not a picture. Download the picture itself"
    start = data[:1024].find(b"\xff\xd8\xff")
    if start > 0 and not name_format(data):
        return f"a JPEG behind {start} bytes that do not belong to it. Copy it again, or save it as PNG"
    if within := name_kind_within(data):
        return f"{within}. Save it as PNG or an ordinary JPEG"
    if name_format(data) == "PNG":
        return f"a PNG file, but damaged: {_explain_png(data)}. Copy it again, or save it as PNG"
    if data[1:4] == b"PNG" or data[12:16] == b"IHDR":
        return "a PNG file, but its first bytes are not as they were. Copy it again, and not as a text"
    if kind := name_format(data):
        return f"{add_article(kind)} file, {_explain_kind(kind)}"
    return "not a picture, or of a format that is not known here. Save it as PNG or JPEG"


def _explain_kind(kind: str) -> str:
    if kind in _UNREAD:
        return "which is not read. Save it as PNG"
    return "but damaged or of a kind that cannot be decoded. Copy it again, or save it as PNG"


_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # of a PNG, by its type of colour


def _explain_png(data: bytes) -> str:
    """Why a PNG is not one that can be decoded."""
    if data[12:16] != b"IHDR" or len(data) < 33:
        return "it has no header"
    if zlib.crc32(data[12:29]) != int.from_bytes(data[29:33]):
        return "its header has a wrong checksum"
    if data[24] not in _DEPTHS.get(data[25], ()):
        return f"its header says {data[24]} bits of colours of type {data[25]}"
    if data[12:16] == b"IHDR" and (data[27], data[28]) > (0, 1):
        return f"its header says filter method {data[27]} and interlace method {data[28]}"
    position = 8
    while position + 8 <= len(data):
        size, kind = int.from_bytes(data[position : position + 4]), data[position + 4 : position + 8]
        end = position + 8 + size
        name = f"its part {kind.decode('latin-1')!a}"
        if end + 4 > len(data):
            return f"{name} ends behind the end of the file"
        if kind[:1].isupper() and zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4]):
            return f"{name} has a wrong checksum"
        position = end + 4
    return "it has no pixels that can be decoded"


_FRAMES = {
    0xC3: "without loss", 0xC5: "of several resolutions", 0xC6: "of several resolutions", 0xC7: "without loss",
    0xCB: "without loss", 0xCD: "of several resolutions", 0xCE: "of several resolutions", 0xCF: "without loss",
}  # fmt: skip


def name_kind_within(data: bytes) -> str:
    """A kind of JPEG or PNG file that no decoder takes, in words; "" for the usual ones and other files."""
    kind = name_format(data)
    if kind == "JPEG":
        jpeg = read_jpeg(data)
        if jpeg.frame == 0xF7:
            return "a JPEG-LS file, which is not decoded"
        depth = f"of {jpeg.bits} bits a sample" if jpeg.bits > 8 else ""
        coding = " ".join(filter(None, (_FRAMES.get(jpeg.frame, ""), depth)))
        return f"a JPEG file {coding}, which is not decoded" if coding else ""
    if kind == "PNG" and data[12:16] == b"CgBI":
        return "a PNG file packed in Apple's own way for iPhones (CgBI), which is not decoded"
    return ""


def add_article(kind: str) -> str:
    """The name of a format with a or an."""
    return f"{'an' if kind.startswith(('AVIF', 'IFF', 'icon', 'OpenEXR', 'MNG', 'EMF', 'Affinity')) else 'a'} {kind}"


def may_hold_image(suffix: str) -> bool:
    """Whether a file with this suffix (lower case), which no decoder claims, is worth opening."""
    return suffix not in _NEVER_OPENED | SIDECAR_SUFFIXES


def looks_like_image(start: bytes, suffix: str, known: Collection[str]) -> bool:
    """Whether a file begins as an image does.

    start: its first SNIFFED_BYTES; suffix: in lower case, "" for none; known: suffixes of what can be decoded.

    Two letters are not enough (a text may begin with BM), and TIFF is the body of RAW and other files.
    """
    kind = name_format(start)
    if kind == "TIFF":
        return suffix.startswith(".tif") or not suffix
    if kind == "BMP":
        return int.from_bytes(start[14:18], "little") in (12, 40, 52, 56, 64, 108, 124) and start[6:10] == bytes(4)
    if kind in ("PGM", "PPM"):
        return bool(re.match(rb"P[56]\s+\d+\s+\d+\s+\d+\s", start))
    if kind in ("HEIC", "JPEG XL"):
        return {"HEIC": ".heic", "JPEG XL": ".jxl"}[kind] in known
    return kind in ("PNG", "JPEG", "GIF", "WebP", "AVIF", "JPEG 2000", "QOI", "Photoshop")


def name_format(data: bytes) -> str:
    """The format whose signature a file has, "" for none that is known here."""
    for position, signature, name in _SIGNATURES:
        if data[position : position + len(signature)] == signature:
            return name
    return ""


_USUAL_SUFFIXES = {
    "JPEG": ".jpg", "PNG": ".png", "GIF": ".gif", "WebP": ".webp", "AVIF": ".avif", "HEIC": ".heic", "TIFF": ".tif",
    "BMP": ".bmp", "JPEG 2000": ".jp2", "JPEG XL": ".jxl", "Photoshop": ".psd", "QOI": ".qoi",
}  # fmt: skip


def describe_misnamed(start: bytes) -> str:
    """How to call a file with the suffix of a film that begins as an image does, without the last stop; "" for others.

    start: its first SNIFFED_BYTES.
    """
    kind = name_format(start)
    if kind not in _USUAL_SUFFIXES or not looks_like_image(start, "", _USUAL_SUFFIXES.values()):
        return ""
    return f"{add_article(kind)} picture, not a film. Give it the suffix {_USUAL_SUFFIXES[kind]}"


# Formats whose decoders are packages of their own: RAW files of cameras (rawpy), HEIC and JPEG XL (Pillow's plugins).
#
# A RAW file gives the preview that the camera put in, which is what the photographer saw. Where that is missing or
# small, the sensor's values are developed at half their size.
#

_MIN_PREVIEW = 480  # pixels of the shorter side; a smaller preview is a thumbnail
_RAW_SIGNATURES = (
    (0, b"FUJIFILMCCD-RAW", "image/x-fuji-raf"), (4, b"ftypcrx ", "image/x-canon-cr3"),
    (0, b"IIRO", "image/x-olympus-orf"), (0, b"IIRS", "image/x-olympus-orf"), (0, b"MMOR", "image/x-olympus-orf"),
    (0, b"IIU\0", "image/x-panasonic-rw2"), (0, b"FOVb", "image/x-sigma-x3f"), (0, b"\0MRM", "image/x-minolta-mrw"),
    (6, b"HEAPCCDR", "image/x-canon-crw"), (8, b"CR\2", "image/x-canon-cr2"), (8, b"IIII", "image/x-raw"),
)  # fmt: skip
_TIFF = (b"II*\0", b"MM\0*")
_SUB_IFDS, _PHOTOMETRIC, _DNG_VERSION, _MAKE = 330, 262, 50706, 271
_SENSOR = {32803, 34892}  # values of PhotometricInterpretation: a filter array, and the same made linear
_MAKERS = {
    b"NIK": "image/x-nikon-nef", b"SON": "image/x-sony-arw", b"PEN": "image/x-pentax-pef", b"RIC": "image/x-pentax-pef",
    b"SAM": "image/x-samsung-srw", b"HAS": "image/x-hasselblad-3fr", b"KOD": "image/x-kodak-dcr",
}  # fmt: skip
_MAX_DIRECTORIES = 20
_MAX_ENTRIES = 1024
# EXIF orientation by LibRaw's number for it.
_ORIENTATIONS = {3: 3, 5: 8, 6: 6}


@dataclass(frozen=True, slots=True)
class RawImage:
    """image: as it lies in the file; orientation: how EXIF would say to turn it; size: of the sensor's image."""

    image: Image.Image
    orientation: int
    size: tuple[int, int]
    file_type: str


def register_decoders() -> None:
    """Make Pillow know the formats whose packages are installed."""
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    with suppress(ImportError):
        import pillow_jxl  # noqa: F401  registers itself


def silence_libtiff() -> None:
    """Keep libtiff from writing to stderr, with no file's name; Pillow raises what it found, too.

    The handlers belong to the library, so that this holds for every thread.
    """
    for tiff in _open_libraries("tiff"):
        with suppress(AttributeError):
            tiff.TIFFSetErrorHandler(None)
            tiff.TIFFSetWarningHandler(None)


def _open_libraries(name: str) -> Iterator[CDLL]:
    """A library that came with Pillow, or else the system's."""
    folder = Path(Image.__file__).parent
    bundled = [*folder.parent.glob(f"pillow.libs/lib{name}-*"), *folder.glob(f".dylibs/lib{name}.*")]
    for library in bundled or filter(None, [find_library(name)]):
        with suppress(OSError):
            yield CDLL(str(library))


def decode_webp(data: bytes, mode: str, size: tuple[int, int]) -> Image.Image | None:
    """Decode a still WebP without blocking other threads, as Pillow's decoder does; None where that is not possible."""
    pixels = np.empty((size[1], size[0], 4), np.uint8)
    for webp in _open_libraries("webp"):
        with suppress(AttributeError):
            decode = webp.WebPDecodeRGBAInto
            decode.restype, decode.argtypes = c_void_p, (c_char_p, c_size_t, c_void_p, c_size_t, c_int)
            if decode(data, len(data), pixels.ctypes.data, pixels.nbytes, 4 * size[0]):
                kept = "RGBA" if mode == "RGBA" else "RGBX"
                return Image.frombuffer(kept, size, pixels, "raw", kept, 0, 1)
    return None


def decode_cut_webp(data: bytes, max_pixels: int) -> tuple[Image.Image, float] | None:
    """Decode a still WebP that lacks its end: the image, white below, and its share of rows; None without any row.

    Raises DecompressionBombError.
    """
    width, height, rows = c_int(), c_int(), c_int()
    for webp in _open_libraries("webp"):
        with suppress(AttributeError):
            if not webp.WebPGetInfo(c_char_p(data), c_size_t(len(data)), byref(width), byref(height)):
                continue
            if width.value * height.value > max_pixels:
                raise Image.DecompressionBombError
            pixels = np.full((height.value, width.value, 4), 255, np.uint8)
            webp.WebPINewRGB.restype = c_void_p
            buffer = (c_void_p(pixels.ctypes.data), c_size_t(pixels.nbytes), c_int(4 * width.value))
            decoder = c_void_p(webp.WebPINewRGB(c_int(1), *buffer))  # 1 is RGBA
            webp.WebPIAppend(decoder, c_char_p(data), c_size_t(len(data)))
            webp.WebPIDecGetRGB.restype = c_void_p
            webp.WebPIDecGetRGB(decoder, byref(rows), None, None, None)
            webp.WebPIDelete(decoder)
            if rows.value:
                return Image.fromarray(pixels), rows.value / height.value
    return None


def is_raw(data: bytes) -> bool:
    """Whether a file is a RAW file of a camera, by its content."""
    return bool(name_raw_type(data))


def name_raw_type(data: bytes) -> str:
    """The MIME type of a RAW file, "" for what is none."""
    for position, signature, kind in _RAW_SIGNATURES:
        if data[position : position + len(signature)] == signature:
            is_bare = position != 8 or data[:4] in _TIFF
            if is_bare:
                return kind
    if data[:4] not in _TIFF:
        return ""
    maker, is_sensor = b"", False
    with suppress(struct.error):
        for tag, value in _walk_tiff(data):
            if tag == _DNG_VERSION:
                return "image/x-adobe-dng"
            is_sensor = is_sensor or (tag == _PHOTOMETRIC and int.from_bytes(value[:2], _order(data)) in _SENSOR)
            if tag == _MAKE and not maker:
                maker = value[:3]
    return _MAKERS.get(maker.upper(), "image/x-raw") if is_sensor else ""


def decode_raw(data: bytes, check_size: Callable[[tuple[int, int]], None]) -> RawImage:
    """The camera's preview of a RAW file, or the developed image. check_size: refuses a size, by raising.

    Raises ModuleNotFoundError without rawpy, and rawpy's errors or OSError for a damaged file.
    """
    import rawpy

    try:
        opened = rawpy.imread(io.BytesIO(data))
    except rawpy.LibRawError as error:  # in bytes
        raise ValueError(b" ".join(part for part in error.args if isinstance(part, bytes)).decode()) from error
    with opened as raw:
        size = (raw.sizes.width, raw.sizes.height)
        orientation = _ORIENTATIONS.get(raw.sizes.flip, 1)
        kind = name_raw_type(data)
        preview = _read_preview(raw)
        if preview is not None:
            check_size(preview.size)
            preview.load()
            return RawImage(preview, _choose_orientation(preview, orientation, size), size, kind)
        check_size(size)
        pixels = raw.postprocess(use_camera_wb=True, half_size=True, user_flip=0)
        return RawImage(Image.fromarray(pixels), orientation, size, kind)


def _read_preview(raw: Any) -> Image.Image | None:
    """The preview, not decoded yet; None where there is none that is large enough."""
    import rawpy

    try:
        found = raw.extract_thumb()
    except rawpy.LibRawError:
        return None
    if found.format == rawpy.ThumbFormat.JPEG:
        try:
            preview: Image.Image = Image.open(io.BytesIO(found.data), formats=["JPEG"])
        except OSError:
            return None
    elif found.format == rawpy.ThumbFormat.BITMAP:
        preview = Image.fromarray(found.data)
    else:
        return None
    wanted = min(_MIN_PREVIEW, raw.sizes.width, raw.sizes.height)
    return preview if min(preview.size) >= wanted else None


def _choose_orientation(preview: Image.Image, orientation: int, size: tuple[int, int]) -> int:
    """The EXIF orientation of a preview: 1 if it was turned already, else its own, else that of the sensor's image."""
    if orientation > 4 and (preview.width > preview.height) != (size[0] > size[1]):
        return 1
    with suppress(Exception):  # damaged camera data do not make the image unreadable
        return int(preview.getexif().get(0x0112, orientation))
    return orientation


def _order(data: bytes) -> Any:
    return "little" if data[:2] == b"II" else "big"


def _walk_tiff(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(tag, first bytes of the value) of the entries of all directories, and of those inside them."""
    order = "<" if data[:2] == b"II" else ">"
    waiting = list(struct.unpack_from(order + "I", data, 4))
    seen: set[int] = set()
    while waiting and len(seen) < _MAX_DIRECTORIES:
        start = waiting.pop(0)
        if start in seen or not 8 <= start <= len(data) - 2:
            continue
        seen.add(start)
        (count,) = struct.unpack_from(order + "H", data, start)
        count = min(count, _MAX_ENTRIES)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, length = struct.unpack_from(order + "HHI", data, entry)
            value = data[entry + 8 : entry + 12]
            width = {3: 2, 4: 4, 13: 4}.get(kind, 1)
            if width * length > 4:
                (offset,) = struct.unpack_from(order + "I", value)
                value = data[offset : offset + min(width * length, 4 * _MAX_DIRECTORIES)]
            if tag == _SUB_IFDS and width == 4:
                waiting += struct.unpack(f"{order}{len(value) // 4}I", value[: len(value) // 4 * 4])
            yield tag, value
        waiting += struct.unpack_from(order + "I", data, start + 2 + 12 * count)


def read_box_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that an AVIF or HEIC file announces first; None for other files and where there is none."""
    start = data.find(b"ispe", 0, 1 << 16) if data[4:8] == b"ftyp" else -1
    if start < 0 or len(data) < start + 16:
        return None
    width, height = struct.unpack_from(">II", data, start + 8)
    return width, height


# JPEG XL: its size, which the plugin tells only after decoding (ISO/IEC 18181-1, SizeHeader).

_JXL_BARE, _JXL_BOXED = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
_RATIOS = ((0, 0), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def read_jxl_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that a JPEG XL file announces; None for other files and where it cannot be found."""
    if data.startswith(_JXL_BOXED):
        start = data.find(_JXL_BARE, len(_JXL_BOXED), 1 << 20)
        while start >= 0 and data[start - 4 : start] != b"jxlc" and data[start - 8 : start - 4] != b"jxlp":
            start = data.find(_JXL_BARE, start + 1, 1 << 20)
    else:
        start = 0 if data.startswith(_JXL_BARE) else -1
    if start < 0:
        return None
    bits, position = int.from_bytes(data[start + 2 : start + 18], "little"), 0

    def take(count: int) -> int:
        nonlocal position
        position += count
        return bits >> position - count & (1 << count) - 1

    def take_side(is_small: int) -> int:
        return 8 * (take(5) + 1) if is_small else 1 + take((9, 13, 18, 30)[take(2)])

    is_small = take(1)
    height = take_side(is_small)
    ratio = take(3)
    width = height * _RATIOS[ratio][0] // _RATIOS[ratio][1] if ratio else take_side(is_small)
    return width, height


_MAX_ICON_SIDE, _MAX_ICONS = 1024, 100  # pixels of the largest kind of icon in an .icns file, icons of a file


def check_icons(data: bytes) -> None:
    """Refuse an .icns file with images larger than icons are: Pillow notices it when they are decoded."""
    place, icons = 8, 0
    while place + 8 < len(data):
        length, icons = int.from_bytes(data[place + 4 : place + 8], "big"), icons + 1
        if length < 8 or icons > _MAX_ICONS:
            raise ValueError("its list of icons is damaged")
        part = io.BytesIO(data[place + 8 : place + length])
        with suppress(UnidentifiedImageError), Image.open(part, formats=("PNG", "JPEG2000")) as icon:
            if max(icon.size) > _MAX_ICON_SIDE:
                raise ValueError(f"an icon of {icon.width:,} x {icon.height:,} pixels")
        place += length
