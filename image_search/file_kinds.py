"""The kind of a file by its first bytes and its suffix. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Collection

# Suffixes of files that optional packages decode.
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif", ".heics", ".heifs"})
JXL_SUFFIXES = frozenset({".jxl"})
RAW_SUFFIXES = frozenset(
    [
        ".3fr",
        ".arw",
        ".bay",
        ".cap",
        ".cr2",
        ".cr3",
        ".crw",
        ".dcr",
        ".dng",
        ".erf",
        ".fff",
        ".gpr",
        ".iiq",
        ".k25",
        ".kdc",
        ".mdc",
        ".mef",
        ".mos",
        ".mrw",
        ".nef",
        ".nrw",
        ".orf",
        ".pef",
        ".ptx",
        ".pxn",
        ".r3d",
        ".raf",
        ".raw",
        ".rw2",
        ".rwl",
        ".sr2",
        ".srf",
        ".srw",
        ".x3f",
    ]
)
# Files that say something about images, and are read with them.
SIDECAR_SUFFIXES = frozenset({".txt", ".json", ".xmp"})
# Pictures by content that are none by purpose: downloads that are not done, and thumbnails of cameras.
_NEVER_OPENED = frozenset({".part", ".partial", ".crdownload", ".download", ".filepart", ".!ut", ".tmp", ".thm"})
SNIFFED_BYTES = 64  # of a file that are enough for looks_like_picture

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
)  # fmt: skip
# Kinds that are not read at all: what to call them, and what to do.
_OTHER_KINDS: tuple[tuple[int, tuple[bytes, ...], str], ...] = (
    (0, (b"%PDF", b"%!PS", b"\xc5\xd0\xd3\xc6"), "a PDF or PostScript document, not a picture. Save it as PNG"),
    (0, (b"\0\0\0\x0cJXL ", b"\xff\x0a"), "a JPEG XL picture. Install the Python package pillow-jxl-plugin (pip "
     "install -r requirements-formats.txt) and run again, or save it as JPEG"),
    (0, (b"PK\x03\x04", b"Rar!", b"7z\xbc\xaf", b"\x1f\x8b"), "an archive, not a picture. Unpack it"),
    (0, (b"\x1aE\xdf\xa3",), "a film, not a picture. Give it a suffix such as .webm or .mkv"),
    (0, (b"\0\x05\x16\x07",), "a file of macOS with facts about another file, not a picture. It can be deleted"),
)  # fmt: skip
_FILM_BRANDS = (b"isom", b"iso2", b"mp41", b"mp42", b"avc1", b"M4V ", b"qt  ", b"dash", b"3gp4", b"3gp5", b"MSNV")


def describe_content(data: bytes, formats: Collection[str] = ()) -> str:
    """How to call a file that no decoder takes, by its first bytes, and what to do with it; without the last stop.

    formats: those that have a decoder, as Pillow calls them.
    """
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
    text = data[:1024].lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if b"<svg" in text:
        return "an SVG drawing, which is not read. Save it as PNG"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page, not a picture. Download the picture itself"
    start = data[:1024].find(b"\xff\xd8\xff")
    if start > 0 and not name_format(data):
        return f"a JPEG behind {start} bytes that do not belong to it. Copy it again, or save it as PNG"
    if kind := name_format(data):
        return f"a {kind} file, but damaged or of a kind that cannot be decoded. Copy it again, or save it as PNG"
    return "not a picture, or of a format that is not known here. Save it as PNG or JPEG"


def may_hold_picture(suffix: str) -> bool:
    """Whether a file with this suffix (lower case), which no decoder claims, is worth opening."""
    return suffix not in _NEVER_OPENED | SIDECAR_SUFFIXES


def looks_like_picture(start: bytes, suffix: str, known: Collection[str]) -> bool:
    """Whether a file begins as a picture does.

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
