"""PNG: text chunks before and after the pixels, EXIF, XMP, Content Credentials. Checksums are not looked at."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from image_search.metadata.bounds import MAX_BLOCK_BYTES, MAX_TEXT_BYTES, decode_text, decompress
from image_search.metadata.containers.found import Found

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_PARTS = 100_000  # a large picture has one for every 8 KiB


def read_png(data: bytes, found: Found) -> None:
    """Add what the chunks of a PNG say; a truncated file gives what it has."""
    for kind, value in walk_png(data):
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"comf"):
            _read_text_chunk(kind, value, found)
        elif kind == b"eXIf":
            found.add_exif(value)
        elif kind == b"caBX":
            found.add_c2pa(value)


def walk_png(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of every chunk; the content of pixel data is empty."""
    position = len(SIGNATURE)
    for _ in range(_MAX_PARTS):
        if position + 8 > len(data):
            return
        size, kind = struct.unpack_from(">I4s", data, position)
        start = position + 8
        yield kind, b"" if kind in (b"IDAT", b"fdAT") else data[start : start + min(size, MAX_BLOCK_BYTES)]
        if kind == b"IEND":
            return
        position = start + size + 4


def _read_text_chunk(kind: bytes, value: bytes, found: Found) -> None:
    if found.is_full:
        return
    keyword, _, rest = value.partition(b"\x00")
    if kind == b"zTXt":
        rest = decompress(rest[1:])
    elif kind == b"iTXt":
        is_compressed = rest[:1] == b"\x01"
        rest = b"".join(rest[2:].split(b"\x00", 2)[2:])  # past the language and the translated keyword
        if is_compressed:
            rest = decompress(rest)
    name = keyword.decode("latin-1")
    if name == "XML:com.adobe.xmp":
        found.add_xmp(rest)
    elif profile := re.fullmatch(r"Raw profile type (exif|APP1|iptc|8bim|xmp)", name):
        _read_raw_profile(profile[1], rest, found)
    else:
        found.add_text(name, decode_text(rest))


def _read_raw_profile(kind: str, text: bytes, found: Found) -> None:
    """ImageMagick's way to keep other formats' blocks: a name, a length, then hexadecimal digits."""
    parts = text[:MAX_TEXT_BYTES].split(None, 2)
    digits = re.sub(rb"[^0-9A-Fa-f]", b"", parts[2]) if len(parts) == 3 else b""
    block = bytes.fromhex(digits[: len(digits) // 2 * 2].decode())
    if kind == "xmp" or block.startswith(b"http://ns.adobe.com/xap"):
        found.add_xmp(block.rpartition(b"\x00")[2] if kind != "xmp" else block)
    elif kind in ("exif", "APP1"):
        found.add_exif(block)
    else:
        found.add_iptc(block)
