"""Find the texts of an image file: text chunks and comments, EXIF, XMP and IPTC blocks, by the kind of file.

Checksums are not verified.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import brotli

from image_search.metadata.containers.blocks import Exif, Xmp, read_exif, read_iptc, read_xmp, walk_resources
from image_search.metadata.text import (
    MAX_BLOCK_BYTES,
    MAX_CHUNKS,
    MAX_TEXT_BYTES,
    MAX_TOTAL_BYTES,
    clean_text,
    decode_text,
    decode_text_file,
    decompress,
)


@dataclass
class Extracted:
    """Everything found in a file; the name of a text tells where.

    texts: PNG text chunks by their keyword; others as "EXIF:UserComment", "XMP:description", "IPTC:caption",
           "JPEG:Comment", "GIF:Comment", "stealth", "sidecar:cat.txt".
    c2pa:  the manifest store of Content Credentials, undecoded.
    keeps_low_bits: whether text may be hidden in the lowest bits of the pixels, of a PNG or a lossless WebP.
    """

    texts: dict[str, str] = field(default_factory=dict)
    exif: Exif = field(default_factory=dict)
    xmp: Xmp = field(default_factory=dict)
    iptc: dict[str, list[str]] = field(default_factory=dict)
    c2pa: bytes = b""
    keeps_low_bits: bool = False
    read_gps: bool = False
    _spent: int = 0

    @property
    def is_full(self) -> bool:
        """Whether the file has said more than is read; everything added from now on is dropped."""
        return self._spent > MAX_TOTAL_BYTES or len(self.texts) >= MAX_CHUNKS

    def add_text(self, name: str, text: str) -> None:
        """Keep a text under its name, the second of the same name as "name (2)"."""
        text = clean_text(text[:MAX_TEXT_BYTES])
        if not text.strip() or self._is_spent(len(text)):
            return
        name = clean_text(name[:200]).strip() or "text"
        number, unique = 1, name
        while unique in self.texts:
            if self.texts[unique] == text:
                return
            number += 1
            unique = f"{name} ({number})"
        self.texts[unique] = text

    def add_exif(self, data: bytes) -> None:
        """Read an EXIF block, with or without the leading "Exif\\0\\0"."""
        if self._is_spent(min(len(data), MAX_BLOCK_BYTES)):  # of a TIFF file, the whole of it comes here
            return
        for name, value in read_exif(data, self.read_gps).items():
            self.exif.setdefault(name, value)
            if isinstance(value, str) and name not in _PLAIN_EXIF:
                self.add_text(f"EXIF:{name}", value)

    def add_xmp(self, data: bytes) -> None:
        """Read an XMP packet. The packet itself is not kept: it may say where the photograph was taken."""
        if self._is_spent(len(data)):
            return
        for name, values in read_xmp(data).items():
            if self.xmp.setdefault(name, values) is values and name in _XMP_TEXTS:
                self.add_text(f"XMP:{name}", "\n".join(values))
            elif name.startswith("generated:"):
                self.add_text(name.removeprefix("generated:"), values[0])  # as the same settings in a PNG chunk

    def add_iptc(self, data: bytes) -> None:
        """Read a Photoshop resource block or bare IPTC records."""
        if self._is_spent(len(data)):
            return
        for name, values in read_iptc(data).items():
            if self.iptc.setdefault(name, values) is values and name in ("caption", "headline", "title"):
                self.add_text(f"IPTC:{name}", "\n".join(values))

    def add_c2pa(self, data: bytes) -> None:
        """Keep the bytes of a C2PA manifest store; a JPEG brings them in several segments."""
        self.c2pa += data[: MAX_BLOCK_BYTES - len(self.c2pa)]

    def _is_spent(self, size: int) -> bool:
        self._spent += size
        return self.is_full


# Read by name; no language, so nothing to keep or to search as text.
_PLAIN_EXIF = frozenset(
    {"DateTime", "DateTimeOriginal", "DateTimeDigitized", "GPSDateStamp"}
    | {"LensModel", "GPSLatitudeRef", "GPSLongitudeRef"}
)
_XMP_TEXTS = frozenset({"description", "title", "UserComment", "CreatorTool", "Credit", "Headline"})


# PNG: text chunks before and after the pixels, EXIF, XMP, Content Credentials.

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_PNG_CHUNKS = 100_000  # a large image has one for every 8 KiB


def _read_png(data: bytes, found: Extracted) -> None:
    """Add what the chunks of a PNG say; a truncated file gives what it has."""
    found.keeps_low_bits = True
    for kind, value in _walk_png(data):
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"comf"):
            _read_text_chunk(kind, value, found)
        elif kind == b"eXIf":
            found.add_exif(value)
        elif kind == b"caBX":
            found.add_c2pa(value)
        elif kind == b"tIME" and len(value) == 7:
            year, *parts = struct.unpack(">H5B", value)
            found.add_text("PNG:tIME", f"{year:04}-" + "{:02}-{:02} {:02}:{:02}:{:02}".format(*parts))


def _walk_png(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of every chunk; the content of pixel data is empty."""
    position = len(PNG_SIGNATURE)
    for _ in range(_MAX_PNG_CHUNKS):
        if position + 8 > len(data):
            return
        size, kind = struct.unpack_from(">I4s", data, position)
        start = position + 8
        yield kind, b"" if kind in (b"IDAT", b"fdAT") else data[start : start + min(size, MAX_BLOCK_BYTES)]
        if kind == b"IEND":
            return
        position = start + size + 4


def _read_text_chunk(kind: bytes, value: bytes, found: Extracted) -> None:
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


def _read_raw_profile(kind: str, text: bytes, found: Extracted) -> None:
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


# JPEG: comments, EXIF, XMP, IPTC and Content Credentials in the segments before the pixels.

_XMP = b"http://ns.adobe.com/xap/1.0/\x00"
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\x00"
_APP1, _APP11, _APP13, _JPEG_COMMENT = 0xE1, 0xEB, 0xED, 0xFE
_MAX_SEGMENTS = 2000


def _read_jpeg(data: bytes, found: Extracted) -> None:
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
        elif marker == _JPEG_COMMENT:
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


def _read_raf(data: bytes, found: Extracted) -> None:
    """Add what the preview in a RAW file of Fujifilm says, a JPEG with the camera's EXIF."""
    if len(data) >= 92:
        offset, length = struct.unpack_from(">II", data, 84)
        _read_jpeg(data[offset : offset + length], found)


def _read_photoshop(data: bytes, found: Extracted) -> None:
    """Add what the resources of a Photoshop document say, which lie behind its palette."""
    readers = {0x0404: found.add_iptc, 0x0422: found.add_exif, 0x0424: found.add_xmp}
    start = 34 + int.from_bytes(data[26:30])
    for resource, value in walk_resources(data[start : start + MAX_BLOCK_BYTES]):
        readers.get(resource, len)(value)


# WebP: the chunks of a RIFF file that hold EXIF, XMP and Content Credentials.

_MAX_WEBP_CHUNKS = 10_000  # a long animation has a part for each frame


def _read_webp(data: bytes, found: Extracted) -> None:
    """Add what the chunks of a WebP say; a truncated file gives what it has."""
    readers = {b"EXIF": found.add_exif, b"XMP ": found.add_xmp, b"C2PA": found.add_c2pa}
    for kind, value in _walk_webp(data):
        readers.get(kind, len)(value)
        found.keeps_low_bits |= kind in (b"VP8L", b"ALPH")  # pixels, or their transparency, without loss


def _walk_webp(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, content, cut at a bound) of every chunk."""
    position = 12
    for _ in range(_MAX_WEBP_CHUNKS):
        if position + 8 > len(data):
            return
        kind, size = struct.unpack_from("<4sI", data, position)
        yield kind, data[position + 8 : position + 8 + min(size, MAX_BLOCK_BYTES)]
        position += 8 + size + size % 2


# GIF: comments and XMP in extension blocks.

_MAX_BLOCKS = 20_000
_GIF_COMMENT, _APPLICATION = 0xFE, 0xFF


def _read_gif(data: bytes, found: Extracted) -> None:
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
            if label == _GIF_COMMENT:
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


# TIFF: the file itself is the structure EXIF borrows; XMP and IPTC are values of two of its tags.

_XMP_TAG, _IPTC_TAG, _PHOTOSHOP_TAG = 700, 33723, 34377
_MAX_ENTRIES = 1024


def _read_tiff(data: bytes, found: Extracted) -> None:
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


# Files of boxes. AVIF and HEIF: EXIF and XMP are items of the "meta" box, Content Credentials a box of their own.

_C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_JP2_EXIF, _JP2_IPTC = b"JpgTiffExif->JP2", bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38")
_MAX_BOXES = _MAX_ITEMS = 2000


def _read_heif(data: bytes, found: Extracted) -> None:
    """Add what the boxes of an AVIF or HEIF file say; a truncated file gives what it has."""
    for kind, start, end in _walk_boxes(data, 0, len(data)):
        if kind == b"uuid" and data[start : start + 16] == _C2PA:
            found.add_c2pa(data[start + 16 : min(end, start + MAX_BLOCK_BYTES)])
        elif kind == b"meta":
            _read_meta(data, start + 4, end, found)


def _read_jxl(data: bytes, found: Extracted) -> None:
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


def _read_jp2(data: bytes, found: Extracted) -> None:
    """Add what the boxes of a JPEG 2000 file say."""
    readers = {_XMP_UUID: found.add_xmp, _JP2_EXIF: found.add_exif, _JP2_IPTC: found.add_iptc}
    for kind, start, end in _walk_boxes(data, 0, len(data)):
        if kind == b"uuid":
            readers.get(data[start : start + 16], len)(data[start + 16 : min(end, start + MAX_BLOCK_BYTES)])


def _decompress(data: bytes) -> bytes:
    """The first bytes of a Brotli stream, b"" of one that is damaged."""
    try:
        text: bytes = brotli.Decompressor().process(data, output_buffer_limit=MAX_BLOCK_BYTES)
    except brotli.error:
        return b""
    return text[:MAX_BLOCK_BYTES]


def _read_cr3(data: bytes, found: Extracted) -> None:
    """Add what a RAW file of Canon says: EXIF directories, each in a box of its own inside "moov"."""
    for kind, start, end in _walk_boxes(data, 0, len(data)):
        if kind == b"uuid" and data[start : start + 16] == _XMP_UUID:
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


# (where the signature is, the signature, who reads the rest)
_READERS: tuple[tuple[int, bytes, Callable[[bytes, Extracted], None]], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", _read_png),
    (0, b"\xff\xd8\xff", _read_jpeg),
    (8, b"WEBP", _read_webp),
    (0, b"GIF8", _read_gif),
    (0, b"II*\x00", _read_tiff),
    (0, b"MM\x00*", _read_tiff),
    (4, b"ftypcrx ", _read_cr3),
    (4, b"ftyp", _read_heif),
    (4, b"JXL ", _read_jxl),
    (4, b"jP  ", _read_jp2),
    (0, b"8BPS", _read_photoshop),
    (0, b"FUJIFILMCCD-RAW", _read_raf),
    # RAW files that are TIFF under a signature of their own.
    *((0, signature, _read_tiff) for signature in (b"IIRO", b"IIRS", b"MMOR", b"IIU\x00")),
)


def find_texts(data: bytes, sidecars: Mapping[str, bytes], read_gps: bool = False) -> Extracted:
    """Texts of a file and of the files beside it (name to content). Does not decode pixels; skips damaged parts."""
    found = Extracted(read_gps=read_gps)
    for position, signature, read in _READERS:
        if data[position : position + len(signature)] == signature:
            read(data, found)
            break
    for name, content in sidecars.items():
        if name.lower().endswith(".xmp"):
            found.add_xmp(content)
        else:
            found.add_text(f"sidecar:{name}", decode_text_file(content))
    return found
