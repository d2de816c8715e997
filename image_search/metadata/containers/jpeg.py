"""JPEG: comments, EXIF, XMP, IPTC and Content Credentials in the segments before the pixels."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from image_search.metadata.bounds import MAX_BLOCK_BYTES, decode_text
from image_search.metadata.containers.found import Found

SIGNATURE = b"\xff\xd8"
_XMP = b"http://ns.adobe.com/xap/1.0/\x00"
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\x00"
_APP1, _APP11, _APP13, _COMMENT = 0xE1, 0xEB, 0xED, 0xFE
_MAX_SEGMENTS = 2000


def read_jpeg(data: bytes, found: Found) -> None:
    """Add what the segments of a JPEG say; a truncated file gives what it has."""
    photoshop = b""
    extended = b""
    for marker, value in _walk_segments(data):
        if marker == _APP1 and value.startswith(b"Exif\x00"):
            found.add_exif(value)
        elif marker == _APP1 and value.startswith(_XMP):
            found.add_xmp(value.removeprefix(_XMP))
        elif marker == _APP1 and value.startswith(_EXTENDED_XMP) and len(extended) < MAX_BLOCK_BYTES:
            extended += value[len(_EXTENDED_XMP) + 40 :]  # past a digest of 32 bytes, the length and the offset
        elif marker == _APP13 and value.startswith(b"Photoshop 3.0\x00") and len(photoshop) < MAX_BLOCK_BYTES:
            photoshop += value.removeprefix(b"Photoshop 3.0\x00")
        elif marker == _APP11 and value[:2] == b"JP":
            found.add_c2pa(value[8:])
        elif marker == _COMMENT:
            found.add_text("JPEG:Comment", decode_text(value.rstrip(b"\x00")))
    if extended:
        found.add_xmp(extended)
    if photoshop:
        found.add_iptc(photoshop)


def _walk_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 2
    for _ in range(_MAX_SEGMENTS):
        if data[position : position + 1] != b"\xff":
            return
        while data[position + 1 : position + 2] == b"\xff":  # fill bytes
            position += 1
        if position + 4 > len(data):
            return
        marker, size = struct.unpack_from(">BH", data, position + 1)
        if marker in (0xD9, 0xDA):  # end, or the beginning of the pixels
            return
        yield marker, data[position + 4 : position + 2 + size]
        position += 2 + max(size, 2)
