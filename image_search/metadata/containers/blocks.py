"""EXIF: the few tags that say something in words, out of a TIFF structure that may be damaged or malicious.

Pillow decodes every tag, texts as Latin-1 and values as large as their entry claims; a block with thousands of entries
that all point at the same bytes then costs gigabytes. Here only wanted tags are looked at, each once, and bytes become
text in the encoding they were written in.
"""

from __future__ import annotations

import codecs
import re
import struct
from collections.abc import Iterator
from xml.etree import ElementTree

from image_search.metadata.text import MAX_TEXT_BYTES, clean_text, decode_text

# The text of EXIF UserComment: eight bytes name its character code, and not every program keeps to what they say.

_ORDINARY = re.compile(r"[\t\n\r -~、-〗ぁ-ヿ！-｠]")  # what sentences and settings are full of, in either script

_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_PREFIX = re.compile(r'\Acharset="?(?:ascii|unicode|jis)"? ', re.IGNORECASE)  # as exiv2 prints and some programs write

_ODD = re.compile(r"[^\t\r\n -~\xa0-ɏ‐-‧、-ヿ一-鿿！-～가-힣\U00010000-\U0001ffff]")


def decode_user_comment(value: bytes, order: str = ">") -> str:
    """Text of a UserComment with or without its character code; order is the block's byte order, "<" or ">"."""
    code, text = _name_code(value[:8]), value[8:]
    if code == "UNICODE":
        return _decode_unicode(text, order)
    if code == "JIS":
        return _decode_jis(text)
    if not code:  # ComfyUI and Fooocus write the text at once
        text = value
    return _PREFIX.sub("", decode_text(text if text[:2] in _MARKS else _cut_padding(text)).strip("\0"))


def _cut_padding(text: bytes) -> bytes:
    """Cut off zeros at the end, but for one that may be half of a character of UTF-16."""
    size = len(text.rstrip(b"\0"))
    return text[: size + size % 2]


def _name_code(code: bytes) -> str:
    """UNICODE, ASCII or JIS, in any case, or "none"; "" where the eight bytes are text already."""
    name = code.rstrip(b"\0")
    padding = code[len(name) :]
    if name in (b"", b" " * 8):
        return "none"
    plain = name.rstrip(b" ") if name.isupper() else name if padding else b""
    known = {b"UNICODE": "UNICODE", b"ASCII": "ASCII", b"JIS": "JIS", b"UTF-8": "ASCII", b"UTF8": "ASCII"}
    return known.get(plain.upper(), "UNICODE" if code.startswith(b"UNICODE") else "")


def _decode_unicode(text: bytes, order: str) -> str:
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return clean_text(text.decode("utf-16", "replace"))
    if b"\x00" not in text.rstrip(b"\x00"):
        # Without zeros it is UTF-16 without Latin letters, or mislabelled UTF-8: that has blanks and no odd signs.
        try:
            reading = text.rstrip(b"\x00").decode("utf-8")
            if " " in reading and not _ODD.search(reading):
                return clean_text(reading)
        except UnicodeDecodeError:
            pass
    # The standard leaves the byte order open, and programs differ from the block they write into.
    even = text[: len(text) // 2 * 2]
    readings = [even.decode(name, "replace").rstrip("\x00") for name in ("utf-16-be", "utf-16-le")]
    if order == "<":
        readings.reverse()
    return clean_text(max(readings, key=lambda reading: len(_ORDINARY.findall(reading[:4096]))))


def _decode_jis(text: bytes) -> str:
    for name in ("iso2022_jp", "cp932", "euc_jp"):
        try:
            return clean_text(text.rstrip(b"\x00").decode(name))
        except UnicodeDecodeError:
            continue
    return decode_text(text)


Exif = dict[str, str | tuple[float, ...]]  # numbers as a tuple

_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_TAGS = {
    0x010E: "ImageDescription",
    0x010F: "Make",
    0x0110: "Model",
    0x0131: "Software",
    0x0132: "DateTime",
    0x013B: "Artist",
    0x4746: "Rating",
    0x829A: "ExposureTime",
    0x829D: "FNumber",
    0x8827: "ISO",
    0x9003: "DateTimeOriginal",
    0x9004: "DateTimeDigitized",
    0x920A: "FocalLength",
    0x927C: "MakerNote",
    0x9286: "UserComment",
    0x9C9B: "XPTitle",
    0x9C9C: "XPComment",
    0x9C9E: "XPKeywords",
    0x9C9F: "XPSubject",
    0xA434: "LensModel",
}
_GPS_DATE = {29: "GPSDateStamp"}
_GPS_TAGS = _GPS_DATE | {1: "GPSLatitudeRef", 2: "GPSLatitude", 3: "GPSLongitudeRef", 4: "GPSLongitude"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_RATIONAL = 5
_WHOLE = {3: "H", 4: "I"}
_MAX_ENTRIES = 1024
_LONG_TAGS = {0x010E, 0x010F, 0x0110, 0x9286, 0x9C9C}  # where generators put their settings
_MAX_SHORT_TEXT = 64 << 10  # bytes


def read_exif(data: bytes, read_gps: bool = False) -> Exif:
    """The readable tags of _TAGS, and with read_gps the position as (degrees, minutes, seconds).

    Never fails: what cannot be read is left out.
    """
    data = data.removeprefix(b"Exif\x00\x00")
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        return {}
    found: Exif = {}
    (first,) = struct.unpack_from(order + "I", data, 4)
    directories = [(first, _TAGS)]
    for tag, kind, value in _walk_directory(data, first, order):
        if tag in (_EXIF_IFD, _GPS_IFD) and kind in (4, 13) and len(value) >= 4:
            (offset,) = struct.unpack_from(order + "I", value)
            if tag == _EXIF_IFD:
                directories.append((offset, _TAGS))
            else:
                directories.append((offset, _GPS_TAGS if read_gps else _GPS_DATE))
    for offset, names in directories:
        for tag, kind, value in _walk_directory(data, offset, order):
            if tag not in names or names[tag] in found:
                continue
            if kind == _RATIONAL:
                found[names[tag]] = _read_rationals(value[:24], order)
            elif kind in _WHOLE:
                width = struct.calcsize(_WHOLE[kind])
                found[names[tag]] = tuple(
                    map(float, struct.unpack_from(order + _WHOLE[kind], value.ljust(width, b"\0")))
                )
            elif text := _read_text(names[tag], value, order):
                found[names[tag]] = text
    return found


def _walk_directory(data: bytes, offset: int, order: str) -> Iterator[tuple[int, int, bytes]]:
    """(tag, type, bytes of the value) of each wanted entry of the directory at this offset."""
    if offset + 2 > len(data):
        return
    (count,) = struct.unpack_from(order + "H", data, offset)
    wanted = _TAGS.keys() | _GPS_TAGS.keys() | {_EXIF_IFD, _GPS_IFD}
    seen = set()
    for entry in range(offset + 2, min(offset + 2 + 12 * min(count, _MAX_ENTRIES), len(data) - 11), 12):
        tag, kind, length = struct.unpack_from(order + "HHI", data, entry)
        if tag not in wanted or tag in seen:  # the same bytes claimed a thousand times are read once
            continue
        seen.add(tag)
        size = min(_SIZES.get(kind, 1) * length, MAX_TEXT_BYTES if tag in _LONG_TAGS else _MAX_SHORT_TEXT)
        start = entry + 8
        if size > 4:
            (start,) = struct.unpack_from(order + "I", data, start)
        yield tag, kind, data[start : start + size]


def _read_text(name: str, value: bytes, order: str) -> str:
    if name == "UserComment":
        return decode_user_comment(value, order)
    if name == "MakerNote" and (len(value) > 32 or not value.isascii()):
        return ""  # cameras keep their own bytes here, Fooocus one word
    if name.startswith("XP"):
        return value.decode("utf-16-le", "replace").split("\x00", 1)[0].strip()
    return decode_text(value.rstrip(b"\x00")).strip()


def _read_rationals(value: bytes, order: str) -> tuple[float, ...]:
    numbers = struct.unpack(f"{order}{len(value) // 8 * 2}I", value[: len(value) // 8 * 8])
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return tuple(top / bottom if bottom else 0.0 for top, bottom in pairs)


# XMP: the properties that say something in words, out of a packet of RDF.

Xmp = dict[str, list[str]]

MAX_PACKET = 4 << 20  # bytes; photographs have a few KiB, but ComfyUI keeps graphs here, too

_DC = "http://purl.org/dc/elements/1.1/"
_EXIF = "http://ns.adobe.com/exif/1.0/"
_ACDSEE = "http://ns.acdsee.com/iptc/1.0/"
_PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_WANTED = {
    f"{{{_DC}}}description": "description",
    f"{{{_DC}}}title": "title",
    f"{{{_DC}}}subject": "subject",
    f"{{{_EXIF}}}UserComment": "UserComment",
    f"{{{_EXIF}}}DateTimeOriginal": "DateTimeOriginal",
    f"{{{_EXIF}}}DateTimeDigitized": "DateTimeDigitized",
    f"{{{_DC}}}date": "date",
    f"{{{_XMP}}}CreateDate": "CreateDate",
    f"{{{_XMP}}}CreatorTool": "CreatorTool",
    f"{{{_XMP}}}Rating": "Rating",
    "{http://www.digikam.org/ns/1.0/}TagsList": "TagsList",
    "{http://ns.adobe.com/lightroom/1.0/}hierarchicalSubject": "hierarchicalSubject",
    "{http://ns.microsoft.com/photo/1.0/}LastKeywordXMP": "LastKeyword",
    "{http://ns.iview-multimedia.com/mediapro/1.0/}CatalogSets": "CatalogSets",
    "{http://ns.iview-multimedia.com/mediapro/1.0/}People": "People",
    "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}PersonInImage": "PersonInImage",
    "{http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/}AltTextAccessibility": "AltText",
    f"{{{_PHOTOSHOP}}}DateCreated": "DateCreated",
    f"{{{_PHOTOSHOP}}}Headline": "Headline",
    f"{{{_PHOTOSHOP}}}Credit": "Credit",
    f"{{{_ACDSEE}}}caption": "caption",
    f"{{{_ACDSEE}}}keywords": "keywords",
    f"{{{_ACDSEE}}}categories": "categories",
    f"{{{_ACDSEE}}}rating": "stars",
    "{http://ns.microsoft.com/photo/1.0/}Rating": "percent",
    "{http://ns.adobe.com/tiff/1.0/}DateTime": "DateTime",
    "{http://ns.adobe.com/tiff/1.0/}Make": "Make",
    "{http://ns.adobe.com/tiff/1.0/}Model": "Model",
    "{http://ns.adobe.com/exif/1.0/aux/}Lens": "Lens",
    "{http://cipa.jp/exif/1.0/}LensModel": "Lens",
    "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType": "DigitalSourceType",
}
# Names of people in regions of the image: Metadata Working Group, Microsoft.
_FACES = {
    "{http://www.metadataworkinggroup.com/schemas/regions/}Name",
    "{http://ns.microsoft.com/photo/1.2/t/Region#}PersonDisplayName",
}
# Categories of ACDSee's tree that the image is in.
_ASSIGNED = re.compile(r"""<Category Assigned=["']1["']>([^<]{1,200})""")
# Settings of generators, whatever namespace they chose.
_GENERATED = {"prompt", "workflow", "parameters", "generation_data"}
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"


def read_xmp(packet: bytes) -> Xmp:
    """The values of the wanted properties by their short name, in the default language; {} for what is no XMP."""
    root = _parse(packet)
    if root is None:
        return {}
    found: Xmp = {}
    for description in root.iter(f"{{{_RDF}}}Description"):
        for key, value in description.items():
            if (name := _WANTED.get(key) or _name_generated(key)) and value.strip():
                found.setdefault(name, [clean_text(value)])
        for child in description:
            name = _WANTED.get(child.tag) or _name_generated(child.tag)
            if name and (values := _read_values(child)):
                found.setdefault(name, values)
    if faces := [name for element in root.iter() for name in _list_faces(element)]:
        found["faces"] = list(dict.fromkeys(faces))
    if categories := _ASSIGNED.findall("\n".join(found.pop("categories", []))[:MAX_TEXT_BYTES]):
        found["keywords"] = [*found.get("keywords", []), *categories]
    for percent in found.pop("percent", []):
        if percent.isdecimal() and 0 < int(percent[:4]) < 100:  # 1, 25, 50, 75 and 99 are one star to five
            found.setdefault("stars", [str(1 + round(int(percent[:4]) / 25))])
    return found


def _name_generated(tag: str) -> str | None:
    name = tag.rpartition("}")[2].lower()
    return f"generated:{name}" if name in _GENERATED else None


def _list_faces(element: ElementTree.Element) -> Iterator[str]:
    given = [(element.tag, element.text), *element.attrib.items()]
    for name, value in given:
        if name in _FACES and value and value.strip():
            yield clean_text(value).strip()


def _parse(packet: bytes) -> ElementTree.Element | None:
    if len(packet) > MAX_PACKET:
        return None
    marks = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"<\0": "utf-16-le", b"\0<": "utf-16-be"}
    encoding = marks.get(packet[:2]) or _find_encoding(packet)
    text = packet.decode(encoding, "replace").strip("\x00 \r\n\t")
    # XMP has no document type. Without one an XML bomb has no entities to expand.
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        return None
    begin, end = text.find("<"), text.rfind(">")
    try:
        return ElementTree.fromstring(clean_text(text[begin : end + 1]))
    except (ElementTree.ParseError, ValueError):
        return None


_DECLARED = re.compile(rb"""<\?xml[^>]{1,100}encoding\s{0,9}=\s{0,9}["']([\w.-]{1,40})["']""")


def _find_encoding(packet: bytes) -> str:
    """The encoding that an XML declaration names, or UTF-8."""
    declared = _DECLARED.match(packet.lstrip(codecs.BOM_UTF8)[:200])
    try:
        name = codecs.lookup(declared[1].decode()).name if declared else "utf-8"
    except LookupError:
        name = "utf-8"
    # Of others that codecs know, some decode no text, and UTF-16 has a mark.
    return "utf-8-sig" if name in ("utf-8", "ascii") or not name.startswith(_TEXT_CODECS) else name


_TEXT_CODECS = ("iso8859", "cp", "shift_jis", "euc", "gb", "big5", "koi8", "mac", "latin")


def _read_values(element: ElementTree.Element) -> list[str]:
    items = element.findall(f"*/{{{_RDF}}}li")
    if not items:
        text = element.text or element.get(f"{{{_RDF}}}resource") or ""
        return [clean_text(text)] if text.strip() else []
    if items[0].get(_LANGUAGE):  # the default language, or the first that says something
        spoken = [item for item in items if (item.text or "").strip()]
        items = sorted(spoken, key=lambda item: item.get(_LANGUAGE) != "x-default")[:1]
    return [clean_text(item.text) for item in items if item.text and item.text.strip()]


# IPTC: caption, keywords, title and date, out of Photoshop's resource blocks or bare records.

_IPTC_RESOURCE = 0x0404
_DATASETS = {
    5: "title",
    25: "keywords",
    55: "date",
    60: "time",
    62: "digitized date",
    63: "digitized time",
    105: "headline",
    120: "caption",
}
_MAX_DATASETS = 2000


def read_iptc(data: bytes) -> dict[str, list[str]]:
    """The values by name, in the order of the file; {} where there are none."""
    data = data.removeprefix(b"Photoshop 3.0\x00")
    if data[:4] == b"8BIM":
        data = b"".join(value for resource, value in walk_resources(data) if resource == _IPTC_RESOURCE)
    found: dict[str, list[str]] = {}
    for dataset, value in _walk_records(data):
        text = decode_text(value).strip("\x00").strip()
        if dataset in _DATASETS and text:
            found.setdefault(_DATASETS[dataset], []).append(text)
    return found


def walk_resources(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, value) of every resource of Photoshop."""
    position = 0
    while position + 12 <= len(data) and data[position : position + 4] == b"8BIM":
        (resource,) = struct.unpack_from(">H", data, position + 4)
        name = data[position + 6] + 1
        start = position + 6 + name + name % 2
        if start + 4 > len(data):
            return
        (size,) = struct.unpack_from(">I", data, start)
        yield resource, data[start + 4 : start + 4 + size]
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
