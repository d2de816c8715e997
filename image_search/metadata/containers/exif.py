"""EXIF: the few tags that say something in words, out of a TIFF structure that may be damaged or malicious.

Pillow decodes every tag, texts as Latin-1 and values as large as their entry claims; a block with thousands of entries
that all point at the same bytes then costs gigabytes. Here only wanted tags are looked at, each once, and bytes become
text in the encoding they were written in.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from image_search.metadata.bounds import MAX_TEXT_BYTES, decode_text
from image_search.metadata.containers.user_comment import decode_user_comment

Exif = dict[str, str | tuple[float, ...]]

_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_TAGS = {
    0x010E: "ImageDescription",
    0x010F: "Make",
    0x0110: "Model",
    0x0131: "Software",
    0x013B: "Artist",
    0x9003: "DateTimeOriginal",
    0x9004: "DateTimeDigitized",
    0x927C: "MakerNote",
    0x9286: "UserComment",
    0x9C9B: "XPTitle",
    0x9C9C: "XPComment",
    0x9C9E: "XPKeywords",
    0x9C9F: "XPSubject",
    0xA434: "LensModel",
}
_GPS_TAGS = {1: "GPSLatitudeRef", 2: "GPSLatitude", 3: "GPSLongitudeRef", 4: "GPSLongitude"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_RATIONAL = 5
_MAX_ENTRIES = 1024
_LONG_TAGS = {0x010E, 0x010F, 0x0110, 0x9286, 0x9C9C}  # where generators put their settings
_MAX_SHORT_TEXT = 64 << 10  # bytes


def read_exif(data: bytes, read_gps: bool = False) -> Exif:
    """The tags of _TAGS that are there and readable, and the place as (degrees, minutes, seconds) if asked.

    Never fails: what cannot be read is left out.
    """
    data = data.removeprefix(b"Exif\x00\x00")
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        return {}
    found: Exif = {}
    (first,) = struct.unpack_from(order + "I", data, 4)
    directories = [(first, _TAGS)]
    for tag, kind, value in _walk_directory(data, first, order):
        if tag in (_EXIF_IFD, _GPS_IFD) and kind in (4, 13) and len(value) >= 4:
            (offset,) = struct.unpack_from(order + "I", value)
            if tag == _EXIF_IFD:
                directories.append((offset, _TAGS))
            elif read_gps:
                directories.append((offset, _GPS_TAGS))
    for offset, names in directories:
        for tag, kind, value in _walk_directory(data, offset, order):
            if tag not in names or names[tag] in found:
                continue
            if kind == _RATIONAL:
                found[names[tag]] = _read_rationals(value[:24], order)
            elif text := _read_text(names[tag], value, order):
                found[names[tag]] = text
    return found


def _walk_directory(data: bytes, offset: int, order: str) -> Iterator[tuple[int, int, bytes]]:
    """(tag, type, bytes of the value) of each wanted entry of the directory at this offset."""
    if offset + 2 > len(data):
        return
    (count,) = struct.unpack_from(order + "H", data, offset)
    wanted = _TAGS.keys() | _GPS_TAGS.keys() | {_EXIF_IFD, _GPS_IFD}
    seen = set()
    for entry in range(offset + 2, min(offset + 2 + 12 * min(count, _MAX_ENTRIES), len(data) - 11), 12):
        tag, kind, length = struct.unpack_from(order + "HHI", data, entry)
        if tag not in wanted or tag in seen:  # the same bytes claimed a thousand times are read once
            continue
        seen.add(tag)
        size = min(_SIZES.get(kind, 1) * length, MAX_TEXT_BYTES if tag in _LONG_TAGS else _MAX_SHORT_TEXT)
        start = entry + 8
        if size > 4:
            (start,) = struct.unpack_from(order + "I", data, start)
        yield tag, kind, data[start : start + size]


def _read_text(name: str, value: bytes, order: str) -> str:
    if name == "UserComment":
        return decode_user_comment(value, order)
    if name == "MakerNote" and (len(value) > 32 or not value.isascii()):
        return ""  # cameras keep their own bytes here, Fooocus one word
    if name.startswith("XP"):
        return value.decode("utf-16-le", "replace").split("\x00", 1)[0].strip()
    return decode_text(value.rstrip(b"\x00")).strip()


def _read_rationals(value: bytes, order: str) -> tuple[float, ...]:
    numbers = struct.unpack(f"{order}{len(value) // 8 * 2}I", value[: len(value) // 8 * 8])
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return tuple(top / bottom if bottom else 0.0 for top, bottom in pairs)
