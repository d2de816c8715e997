"""TIFF: the file itself is the structure EXIF borrows; XMP and IPTC are values of two of its tags."""

from __future__ import annotations

import struct

from image_search.metadata.bounds import MAX_BLOCK_BYTES
from image_search.metadata.containers.found import Found

_XMP_TAG, _IPTC_TAG, _PHOTOSHOP_TAG = 700, 33723, 34377
_MAX_ENTRIES = 1024


def read_tiff(data: bytes, found: Found) -> None:
    """Add what the first directory of a TIFF says."""
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 8:
        return
    found.add_exif(data)
    (offset,) = struct.unpack_from(order + "I", data, 4)
    if offset + 2 > len(data):
        return
    (count,) = struct.unpack_from(order + "H", data, offset)
    for entry in range(offset + 2, min(offset + 2 + 12 * min(count, _MAX_ENTRIES), len(data) - 11), 12):
        tag, _, length, start = struct.unpack_from(order + "HHII", data, entry)
        value = data[start : start + min(4 * length, MAX_BLOCK_BYTES)]
        if tag == _XMP_TAG:
            found.add_xmp(value[:length])
        elif tag == _PHOTOSHOP_TAG:
            found.add_iptc(value[:length])
        elif tag == _IPTC_TAG:  # often declared as 32-bit numbers
            found.add_iptc(value)
