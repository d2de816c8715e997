"""XMP: the properties that say something in words, out of a packet of RDF."""

from __future__ import annotations

from xml.etree import ElementTree

from image_search.metadata.bounds import clean_text

Xmp = dict[str, list[str]]

MAX_PACKET = 1 << 19  # bytes; packets written by people's programs have a few KiB

_DC = "http://purl.org/dc/elements/1.1/"
_EXIF = "http://ns.adobe.com/exif/1.0/"
_PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_WANTED = {
    f"{{{_DC}}}description": "description",
    f"{{{_DC}}}title": "title",
    f"{{{_DC}}}subject": "subject",
    f"{{{_EXIF}}}UserComment": "UserComment",
    f"{{{_EXIF}}}DateTimeOriginal": "DateTimeOriginal",
    f"{{{_XMP}}}CreateDate": "CreateDate",
    f"{{{_XMP}}}CreatorTool": "CreatorTool",
    f"{{{_PHOTOSHOP}}}DateCreated": "DateCreated",
    f"{{{_PHOTOSHOP}}}Headline": "Headline",
    f"{{{_PHOTOSHOP}}}Credit": "Credit",
    "{http://ns.adobe.com/tiff/1.0/}Make": "Make",
    "{http://ns.adobe.com/tiff/1.0/}Model": "Model",
    "{http://ns.adobe.com/exif/1.0/aux/}Lens": "Lens",
    "{http://cipa.jp/exif/1.0/}LensModel": "Lens",
    "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType": "DigitalSourceType",
}
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"


def read_xmp(packet: bytes) -> Xmp:
    """The values of the wanted properties by their short name, in the default language; {} for what is no XMP."""
    root = _parse(packet)
    if root is None:
        return {}
    found: Xmp = {}
    for description in root.iter(f"{{{_RDF}}}Description"):
        for key, value in description.items():
            if key in _WANTED and value.strip():
                found.setdefault(_WANTED[key], [clean_text(value)])
        for child in description:
            if child.tag in _WANTED and (values := _read_values(child)):
                found.setdefault(_WANTED[child.tag], values)
    return found


def _parse(packet: bytes) -> ElementTree.Element | None:
    if len(packet) > MAX_PACKET:
        return None
    encoding = "utf-16" if packet[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = packet.decode(encoding, "replace").strip("\x00 \r\n\t")
    # XMP has no document type. Without one an XML bomb has no entities to expand.
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        return None
    begin, end = text.find("<"), text.rfind(">")
    try:
        return ElementTree.fromstring(clean_text(text[begin : end + 1]))
    except (ElementTree.ParseError, ValueError):
        return None


def _read_values(element: ElementTree.Element) -> list[str]:
    items = element.findall(f"*/{{{_RDF}}}li")
    if not items:
        text = element.text or element.get(f"{{{_RDF}}}resource") or ""
        return [clean_text(text)] if text.strip() else []
    if items[0].get(_LANGUAGE):
        items = [next((item for item in items if item.get(_LANGUAGE) == "x-default"), items[0])]
    return [clean_text(item.text) for item in items if item.text and item.text.strip()]
