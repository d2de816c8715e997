"""Tiny images that say something, written byte by byte, so that every container and every oddity can be had."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

SETTINGS = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 12345, Size: 512x768, Model: anything-v5"
INFOTEXT = f"白い猫, 1girl\nNegative prompt: low quality\n{SETTINGS}, Version: v1.10.1"


def make_image(mode: str = "RGB", size: tuple[int, int] = (8, 8), format: str = "PNG", **options: Any) -> bytes:
    """An image without words."""
    target = io.BytesIO()
    Image.new(mode, size, (200, 30, 90, 255)[: len(mode)]).save(target, format, **options)
    return target.getvalue()


# --- PNG --------------------------------------------------------------------------------------------------------------


def make_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def text_chunk(keyword: str, text: str | bytes) -> bytes:
    """tEXt, in Latin-1 as the standard says, or whatever bytes are given."""
    return make_chunk(
        b"tEXt", keyword.encode("latin-1") + b"\0" + (text if isinstance(text, bytes) else text.encode("latin-1"))
    )


def packed_chunk(keyword: str, text: str | bytes) -> bytes:
    data = text if isinstance(text, bytes) else text.encode()
    return make_chunk(b"zTXt", keyword.encode("latin-1") + b"\0\0" + zlib.compress(data))


def international_chunk(keyword: str, text: str | bytes, packed: bool = False) -> bytes:
    data = text if isinstance(text, bytes) else text.encode()
    head = keyword.encode("latin-1") + (b"\0\1\0" if packed else b"\0\0\0") + b"ja\0\xe7\x8c\xab\0"
    return make_chunk(b"iTXt", head + (zlib.compress(data) if packed else data))


def make_png(*chunks: bytes, after_pixels: bool = False, base: bytes | None = None) -> bytes:
    """A PNG with these chunks before or after its pixels."""
    data = base or make_image()
    place = data.index(b"IEND") - 4 if after_pixels else data.index(b"IDAT") - 4
    return data[:place] + b"".join(chunks) + data[place:]


def make_png_of(**texts: str | dict[str, Any]) -> bytes:
    """A PNG with one iTXt chunk for each keyword; objects as JSON."""
    given = {key: text if isinstance(text, str) else json.dumps(text) for key, text in texts.items()}
    return make_png(*(international_chunk(key, text) for key, text in given.items()))


def hide_text(
    text: str, bands: str, packed: bool, mode: str = "RGBA", size: tuple[int, int] = (64, 130)
) -> Image.Image:
    """An image with text in the lowest bits of these bands, down the columns."""
    payload = gzip.compress(text.encode()) if packed else text.encode()
    magic = f"stealth_{'png' if bands == 'A' else 'rgb'}{'comp' if packed else 'info'}".encode()
    bits = np.unpackbits(np.frombuffer(magic + struct.pack(">I", 8 * len(payload)) + payload, np.uint8))
    generator = np.random.default_rng(5)
    pixels = generator.integers(0, 256, (size[1], size[0], len(mode)), np.uint8)
    columns = np.ascontiguousarray((pixels[..., 3:] if bands == "A" else pixels[..., :3]).transpose(1, 0, 2)).reshape(
        -1
    )
    columns[: len(bits)] = (columns[: len(bits)] & 254) | bits
    hidden = columns.reshape(size[0], size[1], -1).transpose(1, 0, 2)
    if bands == "A":
        pixels[..., 3:] = hidden
    else:
        pixels[..., :3] = hidden
    return Image.fromarray(pixels, mode)


def save_image(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, format, **options)
    return target.getvalue()


# --- blocks -----------------------------------------------------------------------------------------------------------

IFD0, EXIF, GPS = 0, 0x8769, 0x8825


def make_exif(tags: dict[int, bytes | str], exif: dict[int, bytes | str] | None = None, order: str = ">") -> bytes:
    """An EXIF block with tags of the first directory and of the EXIF directory; text is ASCII, bytes are UNDEFINED."""
    head = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(order + "I", 8)
    directory = {**tags, EXIF: 0} if exif else dict(tags)
    size = 2 + 12 * len(directory) + 4
    first, values = _make_directory(directory, 8, order, pointer=8 + size + _count_bytes(tags))
    second, more = _make_directory(exif or {}, 8 + size + _count_bytes(tags), order)
    return b"Exif\0\0" + head + first + values + (second + more if exif else b"")


def make_gps(latitude: tuple[int, int, int], south: bool, longitude: tuple[int, int, int], west: bool) -> bytes:
    order = ">"
    head = b"MM\0*" + struct.pack(">I", 8)
    first = struct.pack(">HHHII", 1, GPS, 4, 1, 26) + bytes(4)
    start = 26 + 2 + 4 * 12 + 4
    entries = struct.pack(">H", 4)
    entries += struct.pack(">HHI4s", 1, 2, 2, b"S\0" if south else b"N\0")
    entries += struct.pack(">HHII", 2, 5, 3, start)
    entries += struct.pack(">HHI4s", 3, 2, 2, b"W\0" if west else b"E\0")
    entries += struct.pack(">HHII", 4, 5, 3, start + 24) + bytes(4)
    numbers = b"".join(struct.pack(order + "II", part, 1) for part in (*latitude, *longitude))
    return b"Exif\0\0" + head + first + entries + numbers


def _encode(value: bytes | str) -> bytes:
    return value if isinstance(value, bytes) else value.encode() + b"\0"


def _count_bytes(tags: dict[int, bytes | str]) -> int:
    return sum(len(_encode(value)) for value in tags.values() if len(_encode(value)) > 4)


def _make_directory(tags: dict[int, Any], place: int, order: str, pointer: int = 0) -> tuple[bytes, bytes]:
    start = place + 2 + 12 * len(tags) + 4
    entries, values = struct.pack(order + "H", len(tags)), b""
    for tag, value in sorted(tags.items()):
        if value == 0:
            entries += struct.pack(order + "HHII", tag, 4, 1, pointer)
            continue
        data = _encode(value)
        kind = 7 if isinstance(value, bytes) else 2
        if len(data) <= 4:
            entries += struct.pack(order + "HHI", tag, kind, len(data)) + data.ljust(4, b"\0")
        else:
            entries += struct.pack(order + "HHII", tag, kind, len(data), start + len(values))
            values += data
    return entries + bytes(4), values


def make_user_comment(text: str, code: str = "UNICODE", encoding: str = "utf-16-be") -> bytes:
    return code.encode().ljust(8, b"\0") + text.encode(encoding)


def make_xmp(properties: str, attributes: str = "") -> bytes:
    """An XMP packet around these elements."""
    names = {
        "dc": "http://purl.org/dc/elements/1.1/",
        "exif": "http://ns.adobe.com/exif/1.0/",
        "xmp": "http://ns.adobe.com/xap/1.0/",
        "aux": "http://ns.adobe.com/exif/1.0/aux/",
        "photoshop": "http://ns.adobe.com/photoshop/1.0/",
        "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    }
    spaces = " ".join(f'xmlns:{short}="{long}"' for short, long in names.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        f'{spaces} {attributes}>{properties}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def alternatives(name: str, text: str) -> str:
    return f'<{name}><rdf:Alt><rdf:li xml:lang="x-default">{text}</rdf:li></rdf:Alt></{name}>'


def make_iptc(records: list[tuple[int, str]], encoding: str = "utf-8") -> bytes:
    """A Photoshop resource block with these datasets of the application record."""
    data = b""
    for dataset, text in records:
        value = text.encode(encoding)
        data += struct.pack(">BBBH", 0x1C, 2, dataset, len(value)) + value
    return b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(data)) + data + b"\0" * (len(data) % 2)


def make_manifest(**texts: str) -> bytes:
    """The parts of a C2PA manifest store that are looked at, in CBOR, between boxes."""
    body = b"".join(
        bytes([0x60 + len(key)]) + key.encode() + b"\x78" + bytes([len(text)]) + text.encode()
        for key, text in texts.items()
    )
    return b"\0\0\1\0jumb\0\0\0\x20jumdc2pa" + body


# --- JPEG, WebP -------------------------------------------------------------------------------------------------------


def make_jpeg(*segments: tuple[int, bytes]) -> bytes:
    """A JPEG with these segments (marker, content) at its beginning."""
    data = make_image(format="JPEG")
    inserted = b"".join(struct.pack(">BBH", 255, marker, len(value) + 2) + value for marker, value in segments)
    return data[:2] + inserted + data[2:]


def make_webp(*parts: tuple[bytes, bytes]) -> bytes:
    """A WebP with these chunks behind its pixels."""
    data = make_image(format="WEBP")
    added = b"".join(kind + struct.pack("<I", len(value)) + value + b"\0" * (len(value) % 2) for kind, value in parts)
    return b"RIFF" + struct.pack("<I", len(data) + len(added) - 8) + data[8:] + added


def make_gif_with_xmp(packet: bytes) -> bytes:
    """The packet lies in the application extension as it is, not in blocks; a ramp of bytes ends it for others."""
    data = make_image(format="GIF")
    block = b"\x21\xff\x0bXMP DataXMP" + packet + b"\x01" + bytes(range(255, -1, -1)) + b"\0"
    place = data.index(b"\x2c", 13)
    return data[:place] + block + data[place:]
