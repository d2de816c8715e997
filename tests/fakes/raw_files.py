"""RAW files that tests write themselves: a DNG with a camera's preview, or with the sensor's values only."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _SRATIONAL = 1, 2, 3, 4, 5, 10
_FORMATS = {_BYTE: "B", _SHORT: "H", _LONG: "I", _RATIONAL: "I", _SRATIONAL: "i"}
Tags = dict[int, tuple[int, list[int] | bytes]]


def make_dng(
    preview: Image.Image | None = None, size: tuple[int, int] = (1280, 960), orientation: int = 1, level: int = 2000
) -> bytes:
    """A DNG of a grey sensor (16 bits, all of one level of 4095), taken on 2024-05-06 07:08:09 by a "Test One"."""
    width, height = size
    sensor = np.full((height, width), level, "<u2").tobytes()
    identity = [number for at in range(9) for number in (int(at % 4 == 0), 1)]
    camera: Tags = {
        271: (_ASCII, b"Test\0"), 272: (_ASCII, b"One\0"), 274: (_SHORT, [orientation]),
        306: (_ASCII, b"2024:05:06 07:08:09\0"), 50706: (_BYTE, [1, 4, 0, 0]), 50707: (_BYTE, [1, 1, 0, 0]),
        50708: (_ASCII, b"Test One\0"), 50721: (_SRATIONAL, identity), 50728: (_RATIONAL, [1, 1] * 3),
        50778: (_SHORT, [21]),
    }  # fmt: skip
    grid: Tags = {
        254: (_LONG, [0]), 256: (_LONG, [width]), 257: (_LONG, [height]), 258: (_SHORT, [16]), 259: (_SHORT, [1]),
        262: (_SHORT, [32803]), 273: (_LONG, [0]), 277: (_SHORT, [1]), 278: (_LONG, [height]),
        279: (_LONG, [len(sensor)]), 33421: (_SHORT, [2, 2]), 33422: (_BYTE, [0, 1, 1, 2]), 50717: (_SHORT, [4095]),
    }  # fmt: skip
    file = bytearray(struct.pack("<2sHI", b"II", 42, 8))
    if preview is None:
        _add_directory(file, grid | camera, sensor)
        return bytes(file)
    jpeg = io.BytesIO()
    preview.save(jpeg, "JPEG", quality=95)
    shown: Tags = {
        254: (_LONG, [1]), 256: (_LONG, [preview.width]), 257: (_LONG, [preview.height]), 258: (_SHORT, [8, 8, 8]),
        259: (_SHORT, [7]), 262: (_SHORT, [6]), 273: (_LONG, [0]), 277: (_SHORT, [3]), 278: (_LONG, [preview.height]),
        279: (_LONG, [len(jpeg.getvalue())]), 330: (_LONG, [0]),
    }  # fmt: skip
    places = _add_directory(file, shown | camera, jpeg.getvalue())
    struct.pack_into("<I", file, places[330], len(file))
    _add_directory(file, grid, sensor)
    return bytes(file)


def _add_directory(file: bytearray, tags: Tags, pixels: bytes) -> dict[int, int]:
    """Append a directory, what its entries point at, and its pixels; returns where the values of entries are."""
    start = len(file)
    file += struct.pack("<H", len(tags)) + bytes(12 * len(tags) + 4)
    places: dict[int, int] = {}
    for number, (tag, (kind, values)) in enumerate(sorted(tags.items())):
        packed = values if isinstance(values, bytes) else struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values)
        count = len(values) // 2 if kind in (_RATIONAL, _SRATIONAL) else len(values)
        places[tag] = start + 2 + 12 * number + 8
        struct.pack_into("<HHI", file, places[tag] - 8, tag, kind, count)
        if len(packed) <= 4:
            file[places[tag] : places[tag] + len(packed)] = packed
        else:
            struct.pack_into("<I", file, places[tag], len(file))
            file += packed + b"\0" * (len(packed) % 2)
    struct.pack_into("<I", file, places[273], len(file))
    file += pixels + b"\0" * (len(pixels) % 2)
    return places
