"""IPTC: caption, keywords, title and date, out of Photoshop's resource blocks or bare records."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from image_search.metadata.bounds import decode_text

_IPTC_RESOURCE = 0x0404
_DATASETS = {5: "title", 25: "keywords", 55: "date", 60: "time", 105: "headline", 120: "caption"}
_MAX_DATASETS = 2000


def read_iptc(data: bytes) -> dict[str, list[str]]:
    """The values by name, in the order of the file; {} where there are none."""
    data = data.removeprefix(b"Photoshop 3.0\x00")
    records = b"".join(_walk_resources(data)) if data[:4] == b"8BIM" else data
    found: dict[str, list[str]] = {}
    for dataset, value in _walk_records(records):
        text = decode_text(value).strip("\x00").strip()
        if dataset in _DATASETS and text:
            found.setdefault(_DATASETS[dataset], []).append(text)
    return found


def _walk_resources(data: bytes) -> Iterator[bytes]:
    position = 0
    while position + 12 <= len(data) and data[position : position + 4] == b"8BIM":
        (resource,) = struct.unpack_from(">H", data, position + 4)
        name = data[position + 6] + 1
        start = position + 6 + name + name % 2
        if start + 4 > len(data):
            return
        (size,) = struct.unpack_from(">I", data, start)
        if resource == _IPTC_RESOURCE:
            yield data[start + 4 : start + 4 + size]
        position = start + 4 + size + size % 2


def _walk_records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(number of the dataset, value) of the application record, which is number 2."""
    position = 0
    for _ in range(_MAX_DATASETS):
        if position + 5 > len(data) or data[position] != 0x1C:
            return
        record, dataset, size = struct.unpack_from(">BBH", data, position + 1)
        position += 5
        if size & 0x8000:  # an extended dataset: the length of the length follows
            width = size & 0x7FFF
            size = int.from_bytes(data[position : position + width]) if width <= 4 else 0
            position += width
        if record == 2:
            yield dataset, data[position : position + size]
        position += size
