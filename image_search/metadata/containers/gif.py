"""GIF: comments and XMP in extension blocks."""

from __future__ import annotations

from image_search.metadata.bounds import MAX_BLOCK_BYTES, decode_text
from image_search.metadata.containers.found import Found

_MAX_BLOCKS = 20_000
_COMMENT, _APPLICATION = 0xFE, 0xFF


def read_gif(data: bytes, found: Found) -> None:
    """Add what the extension blocks of a GIF say; a truncated file gives what it has."""
    if len(data) < 13:
        return
    position = 13 + _palette_size(data[10])
    for _ in range(_MAX_BLOCKS):
        kind = data[position : position + 1]
        if kind == b"\x21" and position + 2 <= len(data):
            label = data[position + 1]
            if label == _APPLICATION and data[position + 3 : position + 14] == b"XMP DataXMP":
                end = data.find(b"\x01\xff\xfe", position)  # the packet is not in blocks; this trailer follows it
                if end >= 0:
                    found.add_xmp(data[position + 14 : end])
            block, position = _join_blocks(data, position + 2)
            if label == _COMMENT:
                found.add_text("GIF:Comment", decode_text(block))
        elif kind == b"\x2c" and position + 10 <= len(data):
            _, position = _join_blocks(data, position + 11 + _palette_size(data[position + 9]))
        else:
            return


def _palette_size(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _join_blocks(data: bytes, position: int) -> tuple[bytes, int]:
    """The content of a chain of blocks (its first bytes, up to a bound), and where the chain ends."""
    parts = bytearray()
    while position < len(data) and data[position]:
        if len(parts) < MAX_BLOCK_BYTES:
            parts += data[position + 1 : position + 1 + data[position]]
        position += 1 + data[position]
    return bytes(parts), position + 1
