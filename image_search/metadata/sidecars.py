"""Sidecars: files that describe the image beside them, and edits written as an XMP sidecar and read back.

The sidecar is NAME.EXT.xmp with dc:description, dc:subject and xmp:Rating, which other programs read. One that another
program wrote is merged into. A property of our own holds the user's words and the words they replaced, so that
reading the file again can tell the two layers apart.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, cast
from unicodedata import normalize
from xml.dom import minidom
from xml.parsers.expat import ExpatError

from image_search.errors import UnreadableImage
from image_search.metadata.containers.blocks import read_xmp
from image_search.metadata.text import MAX_KEPT_CHARACTERS, clean_text, load_object
from image_search.records import Edits

# Files that describe an image: cat.txt or cat.png.txt, cat.json, cat.xmp.

_SUFFIXES = (".txt", ".caption", ".json", ".xmp")


def find_sidecars(path: Path) -> dict[str, bytes]:
    """Name to content of the files beside an image, each up to a bound; {} when there are none or they cannot be read.

    A file of the full name (cat.png.txt) comes before one that images of several formats would share (cat.txt).
    Suffixes in capitals count, and the names of Google Takeout (cat.jpg.supplemental-metadata.json, cut or not). Last
    comes what a metadata.jsonl says of the image.
    """
    found: dict[str, bytes] = {}
    for suffix in _SUFFIXES:
        for candidate, is_certain in _list_candidates(path, suffix):
            try:
                if not candidate.is_file():  # a named pipe would wait for its writer
                    continue
                with candidate.open("rb") as file:
                    content = file.read(4 * MAX_KEPT_CHARACTERS)
            except (OSError, ValueError):
                continue
            if not is_certain and b"photoTakenTime" not in content:
                continue
            found[candidate.name] = content
            if not is_marked(found[candidate.name]):
                break  # our sidecar does not replace another program's
    if caption := _find_caption(path):
        found[_CAPTION_FILE] = caption
    return found


# A copy that Google Photos made has only the file of the original: IMG_1-edited.jpg, in any language and cut.
_EDITED = re.compile(r"(.+)-([^\d().-]{1,30})(\(\d+\))?(\.\w+)")
_NUMBERED = re.compile(r"(.+)(\(\d+\))(\.\w+)")
_FILM_OF_PHOTO = {".mp4", ".mov", ".mp"}
_PHOTOS = (".HEIC", ".heic", ".JPG", ".jpg", ".JPEG", ".jpeg")


def _list_candidates(path: Path, suffix: str) -> Iterator[tuple[Path, bool]]:
    """Paths beside an image, and whether the name alone says that they are its."""
    for written in (suffix, suffix.upper(), f".{suffix[1:].title()}"):
        yield path.with_name(path.name + written), True
        yield path.with_suffix(written), True
    if suffix == ".json":
        # Takeout cuts the name before .json at 46 characters; "(1)" of a second file of one name moves to the end.
        names = [(path.name, "", True)]
        if number := _NUMBERED.fullmatch(path.name):
            names.append((number[1] + number[3], number[2], True))
        if edited := _EDITED.fullmatch(path.name):
            original = edited[1] + edited[4]
            names.append((original, edited[3] or "", False))
            if not edited[3] and (number := _NUMBERED.fullmatch(original)):
                names.append((number[1] + number[3], number[2], False))
        if path.suffix.lower() in _FILM_OF_PHOTO:  # of a live photograph
            names += [(path.stem + kind, "", False) for kind in _PHOTOS]
        for name, count, is_certain in names:
            whole = f"{name}.supplemental-metadata"
            for end in range(min(len(whole), 46), min(len(name), 46) - 1, -1):
                yield path.with_name(f"{whole[:end]}{count}.json"), is_certain


# metadata.jsonl: one JSON object a line with the file_name and the caption of an image, as data sets have it, in the
# folder of the images or in that above. Source: Hugging Face Datasets, "ImageFolder".

_CAPTION_FILE = "metadata.jsonl"
_MAX_FILE_BYTES = 64 << 20
_CAPTIONS = ("text", "caption", "description", "prompt")
_LOG = logging.getLogger(__name__)
_one_reader = threading.Lock()  # else each thread would read the file, and report its faults


def _find_caption(path: Path) -> bytes:
    """The caption of an image as UTF-8; b"" where no metadata.jsonl has one."""
    for folder in path.parents[:2]:
        caption = _read_captions(folder / _CAPTION_FILE).get(normalize("NFC", path.relative_to(folder).as_posix()))
        if caption:
            return caption.encode("utf-8", "replace")
    return b""


def _read_captions(path: Path) -> dict[str, str]:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return {}
    with _one_reader:
        return _parse_captions(path, (status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=4)
def _parse_captions(path: Path, version: tuple[int, int]) -> dict[str, str]:
    """Captions by the path of their image below the folder; the first broken line is reported."""
    captions: dict[str, str] = {}
    broken = 0
    try:
        if version[1] > _MAX_FILE_BYTES or not path.is_file():
            return {}
        lines = path.read_bytes().decode("utf-8-sig", "replace").splitlines()
    except OSError:
        return {}
    for number, line in enumerate(lines, 1):
        entry = load_object(line)
        if entry is None:
            broken = broken or (number if line.strip() else 0)
        elif isinstance(name := entry.get("file_name"), str):
            caption = next((entry[key] for key in _CAPTIONS if isinstance(entry.get(key), str)), "")
            captions[normalize("NFC", name.replace("\\", "/").removeprefix("./"))] = caption
    if broken:
        _LOG.warning("%s: line %d is no JSON object, and was passed over. Other lines are read.", path, broken)
    return captions


# Edits as an XMP sidecar.

MAX_SIDECAR = 8 * 2**20  # bytes
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_DC = "http://purl.org/dc/elements/1.1/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_OURS = "urn:image-search:edits:1"
_WRITTEN_OUT, _PROTECTED = (9, 10, 13), 0xF8C0  # private use: characters that are to be written as references
_EMPTY = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}"></rdf:RDF></x:xmpmeta>'
# Field of Edits: namespace, prefix and name of the property, and the name read_xmp gives it.
_PROPERTIES = {
    "description": (_DC, "dc", "description", "description"),
    "keywords": (_DC, "dc", "subject", "subject"),
    "rating": (_XMP, "xmp", "Rating", "Rating"),
}


def is_marked(content: bytes) -> bool:
    """Whether a sidecar holds edits made in this program."""
    return _OURS.encode() in content


def separate_edits(sidecars: Mapping[str, bytes]) -> tuple[dict[str, bytes], Edits]:
    """The sidecars (name to content) as other programs wrote them, and the edits made in this program.

    Values that another program changed later belong to the file's layer.
    """
    kept, edits = dict(sidecars), Edits()
    for name, content in sidecars.items():
        if name.lower().endswith(".xmp") and is_marked(content):
            try:
                packet = _Packet(content)
            except UnreadableImage:
                continue  # read as any other
            edits = packet.edits
            packet.set_edits(Edits())
            kept[name] = packet.to_bytes()
    return kept, edits


def write_sidecar(image: Path, edits: Edits) -> bool:
    """Write the edits beside an image's file, and remove those that were withdrawn.

    Returns whether the sidecar was changed. Raises UnreadableImage when there is one that cannot be merged into or
    written; it is left as it is.
    """
    path = image.with_name(image.name + ".xmp")
    try:
        former = path.read_bytes() if path.exists() else b""
        if edits.is_empty and not is_marked(former):
            return False
        packet = _Packet(former)
        packet.set_edits(edits)
        content = packet.to_bytes()
        if content == former:
            return False
        if packet.is_empty:
            path.unlink()
        else:
            _write_file(path, content)
        return True
    except OSError as error:
        name = os.fspath(path).encode("utf-8", "backslashreplace").decode()
        raise UnreadableImage(
            f"{name} cannot be written ({error.strerror}). Check that you may write there."
        ) from error
    except UnreadableImage as error:
        name = os.fspath(path).encode("utf-8", "backslashreplace").decode()
        raise UnreadableImage(f"{name} is no XMP that can be added to, so it was left alone. {error}") from error


def _write_file(path: Path, content: bytes) -> None:
    """Write under another name first, so that the sidecar is whole at any moment."""
    handle, partial = tempfile.mkstemp(prefix=".", suffix=".xmp.part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_get_umask()
        os.chmod(partial, mode)
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(partial)
        raise


def _digest(values: list[str]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def _get_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _protect(node: minidom.Node) -> None:
    """Keep line ends in attributes, which minidom writes such that they are read as blanks."""
    protected = {code: chr(_PROTECTED + code) for code in _WRITTEN_OUT}
    if isinstance(node, minidom.Element):
        for attribute in node.attributes.values():
            attribute.value = attribute.value.translate(protected)
    elif isinstance(node, minidom.Text):
        node.data = node.data.replace("\r", protected[13])
    for child in node.childNodes:
        _protect(child)


class _Packet:
    """An XMP packet that can be changed. Raises UnreadableImage for what is none.

    Prefixes, comments and properties of other programs stay as they are, which ElementTree would rewrite.
    """

    def __init__(self, content: bytes) -> None:
        if len(content) > MAX_SIDECAR or b"<!DOCTYPE" in content or b"<!ENTITY" in content:
            raise UnreadableImage("It is too large, or has a document type.")
        try:
            self._document = minidom.parseString(content.strip() or _EMPTY.encode())
        except (ExpatError, ValueError, LookupError) as error:
            raise UnreadableImage(f"{error}.") from error
        found = self._document.getElementsByTagNameNS(_RDF, "RDF")
        if not found:
            raise UnreadableImage("It has no rdf:RDF.")
        self._rdf = found[0]
        self._prefix = self._rdf.prefix or "rdf"
        if not self._rdf.prefix:
            self._rdf.setAttribute("xmlns:rdf", _RDF)
        _protect(self._document)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is said in it."""
        return not any(isinstance(child, minidom.Element) for child in self._rdf.childNodes)

    @property
    def edits(self) -> Edits:
        """The edits in the marker; empty for a damaged one."""
        person = self._read_marker().get("person", {})
        description, keywords, rating = (person.get(name) for name in _PROPERTIES)
        return Edits(
            description if isinstance(description, str) else None,
            tuple(str(word) for word in keywords) if isinstance(keywords, list) else None,
            rating if isinstance(rating, int) and 0 <= rating <= 5 else None,
        )

    def set_edits(self, edits: Edits) -> None:
        """Store these edits, and restore the values of the file where an edit was withdrawn."""
        marker = self._read_marker()
        file: dict[str, list[str]] = {}
        for name in _PROPERTIES:
            current = self._read(name)
            is_ours = marker and marker["written"].get(name) == _digest(current)
            file[name] = list(marker["file"].get(name, [])) if is_ours else current
        self._remove_marker()
        person: dict[str, Any] = {}
        values = {"description": edits.description, "keywords": edits.keywords, "rating": edits.rating}
        for name, value in values.items():
            wanted = file[name]
            if value is not None:
                person[name] = list(value) if isinstance(value, tuple) else value
                words = value if isinstance(value, tuple) else (str(value),)
                wanted = [word for word in map(clean_text, words) if word.strip()]
            if wanted != self._read(name):
                self._write(name, wanted)
        if person:
            written = {name: _digest(self._read(name)) for name in person}
            kept = {name: file[name] for name in person}
            self._add_marker({"person": person, "file": kept, "written": written})

    def to_bytes(self) -> bytes:
        """The packet as UTF-8, the same for the same content."""
        text = "\n".join(node.toxml() for node in self._document.childNodes) + "\n"
        for code in _WRITTEN_OUT:
            text = text.replace(chr(_PROTECTED + code), f"&#{code};")
        return text.encode()

    def _read(self, name: str) -> list[str]:
        return list(read_xmp(self.to_bytes()).get(_PROPERTIES[name][3], []))

    def _list_descriptions(self) -> list[minidom.Element]:
        nodes = self._rdf.childNodes
        return [node for node in nodes if isinstance(node, minidom.Element) and node.localName == "Description"]

    def _write(self, name: str, values: list[str]) -> None:
        namespace, prefix, local, _ = _PROPERTIES[name]
        if name == "description" and self._write_default_language(values):
            return
        self._remove(namespace, local)
        if not values:
            return
        element = self._add_property(namespace, prefix, local)
        if name == "rating":
            self._add_text(element, values[0])
            return
        container = self._add(element, _RDF, "rdf", "Alt" if name == "description" else "Bag")
        for value in values:
            item = self._add(container, _RDF, "rdf", "li")
            if name == "description":
                item.setAttribute("xml:lang", "x-default")
            self._add_text(item, value)

    def _write_default_language(self, values: list[str]) -> bool:
        """Whether the caption is there in several languages, of which only the default is written."""
        for element in self._rdf.getElementsByTagNameNS(_DC, "description"):
            items = element.getElementsByTagNameNS(_RDF, "li")
            if len(items) > 1:
                default = next((item for item in items if item.getAttribute("xml:lang") == "x-default"), None)
                if default is None:
                    default = self._add(cast(minidom.Element, items[0].parentNode), _RDF, "rdf", "li")
                    default.setAttribute("xml:lang", "x-default")
                for child in list(default.childNodes):
                    default.removeChild(child).unlink()
                self._add_text(default, "\n".join(values))
                return True
        return False

    def _add_property(self, namespace: str, prefix: str, local: str) -> minidom.Element:
        """Add an empty property, in an rdf:Description of its own with the rdf:about of the others."""
        others = self._list_descriptions()
        about = others[0].getAttributeNS(_RDF, "about") if others else ""
        description = self._add(self._rdf, _RDF, "rdf", "Description")
        description.setAttributeNS(_RDF, f"{self._prefix}:about", about)
        return self._add(description, namespace, prefix, local)

    def _add(self, parent: minidom.Element, namespace: str, prefix: str, local: str) -> minidom.Element:
        prefix = self._prefix if namespace == _RDF else prefix
        element = self._document.createElementNS(namespace, f"{prefix}:{local}")
        if namespace != _RDF:
            element.setAttribute(f"xmlns:{prefix}", namespace)
        parent.appendChild(element)
        return element

    def _add_text(self, element: minidom.Element, text: str) -> None:
        if text:  # an empty text node would change the bytes, as it is lost when the packet is read
            element.appendChild(self._document.createTextNode(clean_text(text)))

    def _remove(self, namespace: str, local: str) -> None:
        """Remove a property, whether it is written as an element or as an attribute."""
        for description in self._list_descriptions():
            if description.hasAttributeNS(namespace, local):
                description.removeAttributeNS(namespace, local)
            for child in list(description.childNodes):
                if isinstance(child, minidom.Element) and (child.namespaceURI, child.localName) == (namespace, local):
                    description.removeChild(child).unlink()
            if not any(isinstance(child, minidom.Element) for child in description.childNodes) and all(
                name.startswith("xmlns") or name.endswith(":about") for name, _ in description.attributes.items()
            ):
                self._rdf.removeChild(description).unlink()

    def _read_marker(self) -> dict[str, Any]:
        for element in self._rdf.getElementsByTagNameNS(_OURS, "Edits"):
            with suppress(ValueError):
                text = "".join(str(node.data) for node in element.childNodes if isinstance(node, minidom.Text))
                marker = json.loads(text)
                if isinstance(marker, dict) and all(
                    isinstance(marker.get(name), dict) for name in ("person", "file", "written")
                ):
                    return cast(dict[str, Any], marker)
        return {}

    def _add_marker(self, marker: dict[str, Any]) -> None:
        element = self._add_property(_OURS, "imgsearch", "Edits")
        element.appendChild(self._document.createTextNode(json.dumps(marker)))

    def _remove_marker(self) -> None:
        self._remove(_OURS, "Edits")
