"""The frame and the scans of a JPEG, and how much of one is there.

A marker ends the data of a scan. Source: ITU-T T.81, B.1.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image, ImageChops

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_END_OF_SCAN = re.compile(rb"\xff[^\0\xff\xd0-\xd7]")
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # the last is that of JPEG-LS
_BETWEEN_SCANS = {0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xFE, _SOS, _EOI, *range(0xE0, 0xF0)}  # tables, notes, another scan
_FILLER = 1 << 14  # bytes; whether they are zeros or not shows in the first rows that are missing


def _walk_jpeg(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """(marker, where it is, where it ends, the marker behind it) of every part; the last is -1 at the end of the file.

    A scan ends with its data. The walk ends behind a part that is cut, and before a marker that cannot follow.
    """
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        if marker in (_SOI, _EOI):
            return
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4])
        if marker == _SOS:
            found = _END_OF_SCAN.search(data, end)
            end = found.start() if found else max(len(data.rstrip(b"\xff")), end)
        yield marker, place, end, data[end + 1] if end + 1 < len(data) else -1
        place = end


class _Jpeg(NamedTuple):
    """frame: its marker, 0 for none; bits: of a sample; scanned: the share of its components that have a scan.

    end: where the data of the last scan ends, 0 without one; has_whole_scan: whether one ends as it should.
    """

    frame: int = 0
    bits: int = 0
    scanned: float = 0
    end: int = 0
    has_whole_scan: bool = False

    @property
    def is_progressive(self) -> bool:
        return self.frame in (0xC2, 0xCA)


def read_jpeg(data: bytes) -> _Jpeg:
    """Read the frame and the scans of a JPEG."""
    found, components = _Jpeg(), 0
    for marker, place, end, following in _walk_jpeg(data):
        if marker in _FRAMES and place + 9 < len(data):
            found = found._replace(frame=marker, bits=data[place + 4])
            components = data[place + 9]
        elif marker == _SOS and end <= len(data):
            scanned = found.scanned + data[place + 4] / max(1, components)
            is_whole = found.has_whole_scan or following in _BETWEEN_SCANS
            found = found._replace(scanned=scanned, end=end, has_whole_scan=is_whole)
    return found


def complete_jpeg(data: bytes) -> Iterator[tuple[bytes, float]]:
    """The JPEG up to its last scan, and the share of its rows that is there, 1 for a progressive one with a whole scan.

    Nothing where no scan begins.
    """
    jpeg = read_jpeg(data)
    if jpeg.end:
        is_enough = jpeg.is_progressive and jpeg.has_whole_scan
        yield data[: jpeg.end] + b"\xff\xd9", 1.0 if is_enough else _measure_rows(data, jpeg)


def measure_jpeg(data: bytes) -> float:
    """The share of the rows that a JPEG has data for, whatever it says of its end; 1 for a progressive one."""
    jpeg = read_jpeg(data)
    return _measure_rows(data, jpeg) if jpeg.end and not jpeg.is_progressive else 1.0


def _measure_rows(data: bytes, jpeg: _Jpeg) -> float:
    """The share of the rows that are the same whatever follows the data."""
    shown = []
    for filler in (b"\0", b"\x55"):
        completed = data[: jpeg.end] + filler * _FILLER + b"\xff\xd9"
        with Image.open(io.BytesIO(completed), formats=["JPEG"]) as image:
            image.decodermaxblock = len(completed)
            image.draft(None, (max(1, image.width // 8), max(1, image.height // 8)))
            image.load()
            shown.append(image.copy())
    missing = ImageChops.difference(*shown).getbbox()
    rows = missing[1] / shown[0].height if missing else 1.0
    return rows if jpeg.is_progressive else min(rows, jpeg.scanned)
