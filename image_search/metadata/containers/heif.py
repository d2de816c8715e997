"""Files of boxes. AVIF and HEIF: EXIF and XMP are items of the "meta" box, Content Credentials a box of their own."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import brotli

from image_search.metadata.containers.extracted import Extracted
from image_search.metadata.text import MAX_BLOCK_BYTES

_C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_CR3_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_MAX_BOXES = 2000
_MAX_ITEMS = 2000


def read_heif(data: bytes, found: Extracted) -> None:
    """Add what the boxes of an AVIF or HEIF file say; a truncated file gives what it has."""
    for kind, start, end in _walk_boxes(data, 0, len(data)):
        if kind == b"uuid" and data[start : start + 16] == _C2PA:
            found.add_c2pa(data[start + 16 : min(end, start + MAX_BLOCK_BYTES)])
        elif kind == b"meta":
            _read_meta(data, start + 4, end, found)


def read_jxl(data: bytes, found: Extracted) -> None:
    """Add what the boxes of a JPEG XL file say; the encoder compresses them by default."""
    for kind, start, end in _walk_boxes(data, 0, len(data)):
        value = data[start : min(end, start + MAX_BLOCK_BYTES)]
        if kind == b"brob":
            kind, value = value[:4], _decompress(value[4:])
        if kind == b"Exif" and len(value) > 4:
            (skipped,) = struct.unpack_from(">I", value)
            found.add_exif(value if value[:2] in (b"II", b"MM") else value[4 + skipped :])  # some leave the offset out
        elif kind == b"xml ":
            found.add_xmp(value)


def _decompress(data: bytes) -> bytes:
    """The first bytes of a Brotli stream, b"" of one that is damaged."""
    try:
        text: bytes = brotli.Decompressor().process(data, output_buffer_limit=MAX_BLOCK_BYTES)
    except brotli.error:
        return b""
    return text[:MAX_BLOCK_BYTES]


def read_cr3(data: bytes, found: Extracted) -> None:
    """Add what a RAW file of Canon says: EXIF directories, each in a box of its own inside "moov"."""
    for kind, start, end in _walk_boxes(data, 0, len(data)):
        if kind == b"uuid" and data[start : start + 16] == _CR3_XMP:
            found.add_xmp(data[start + 16 : min(end, start + MAX_BLOCK_BYTES)])
        for inner, begin, stop in _walk_boxes(data, start, end) if kind == b"moov" else ():
            for name, first, last in _walk_boxes(data, begin + 16, stop) if inner == b"uuid" else ():
                if name in (b"CMT1", b"CMT2"):
                    found.add_exif(data[first:last])


def _read_meta(data: bytes, start: int, end: int, found: Extracted) -> None:
    kinds: dict[int, bytes] = {}
    places: dict[int, tuple[int, int]] = {}
    try:
        for kind, begin, stop in _walk_boxes(data, start, end):
            if kind == b"iinf":
                kinds = dict(_walk_items(data, begin, stop))
            elif kind == b"iloc":
                places = dict(_walk_places(data[begin:stop]))
    except (struct.error, IndexError):
        return
    for item, kind in kinds.items():
        offset, size = places.get(item, (0, 0))
        value = data[offset : offset + min(size, MAX_BLOCK_BYTES)] if offset else b""
        if kind == b"Exif" and len(value) > 4:
            (skipped,) = struct.unpack_from(">I", value)
            found.add_exif(value[4 + skipped :])
        elif kind == b"mime" and (b"<x:xmpmeta" in value or b"<rdf:RDF" in value):
            found.add_xmp(value)


def _walk_boxes(data: bytes, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, start of the content, end) of every box."""
    end = min(end, len(data))
    for _ in range(_MAX_BOXES):
        if position + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", data, position)
        start = position + 8
        if size == 1 and position + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        stop = end if size == 0 else position + size
        if stop < start:
            return
        yield kind, start, min(stop, end)
        position = stop


def _walk_items(data: bytes, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """(item, its type) of every entry of the item information."""
    first = start + (6 if data[start] == 0 else 8)
    for kind, begin, _ in _walk_boxes(data, first, end):
        if kind == b"infe" and data[begin] >= 2:
            wide = data[begin] >= 3
            (item,) = struct.unpack_from(">I" if wide else ">H", data, begin + 4)
            name = begin + (10 if wide else 8)
            yield item, data[name : name + 4]


def _walk_places(box: bytes) -> Iterator[tuple[int, tuple[int, int]]]:
    """(item, (offset in the file, size)) of every item that is in one piece."""
    version = box[0]
    offset_size, length_size = box[4] >> 4, box[4] & 15
    base_size, index_size = box[5] >> 4, box[5] & 15 if version else 0
    wide = version >= 2
    position = 10 if wide else 8
    count = int.from_bytes(box[6:position])

    def take(size: int) -> int:
        nonlocal position
        position += size
        return int.from_bytes(box[position - size : position])

    for _ in range(min(count, _MAX_ITEMS)):
        item = take(4 if wide else 2)
        if version:
            take(2)  # the construction method
        take(2)
        base = take(base_size)
        extents = [(take(index_size), take(offset_size), take(length_size)) for _ in range(min(take(2), _MAX_ITEMS))]
        if position > len(box):
            return
        if len(extents) == 1:
            yield item, (base + extents[0][1], extents[0][2])
