"""Photoshop documents as Pillow reads them: PSD of 8 bits a channel, without channels that are no colours."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from image_search.colors import encode_srgb
from image_search.repairs import ENOUGH, CutShort
from image_search.tiff import PACK_BITS, decompress

_HEADER = struct.Struct(">4sH6xHIIHH")  # signature, version, channels, height, width, bits, mode
_CHANNELS = {
    1: 1,
    2: 1,
    3: 3,
    4: 4,
    7: 1,
    8: 1,
    9: 3,
}  # colours by mode: grey, palette, RGB, CMYK, several, duotone, Lab
_RAW, _RUNS = 0, 1


def simplify_photoshop(data: bytes, check_size: Callable[[tuple[int, int]], None]) -> tuple[bytes, bool] | None:
    """The merged picture of a document as a plain PSD, and whether it is whole; None for one that Pillow gets right.

    Channels behind the colours are selections, or a transparency that the merged picture has on white already.
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
