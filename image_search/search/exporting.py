"""Images handed out of the library: safe and distinct file names, a contact sheet, and a ZIP archive as a stream."""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO
from unicodedata import normalize

from PIL import Image, ImageDraw, ImageFont, ImageOps

from image_search.errors import StoreError, StoreUnavailable
from image_search.images import is_printable
from image_search.records import ImageRecord
from image_search.stores.base import ImageStore

MAX_SHEET_IMAGES = 200  # images; a larger sheet is neither looked at nor a valid JPEG

_MAX_NAME = 150  # bytes; with rank and suffix well below what file systems take
_CELL, _CAPTION, _GAP = 240, 22, 8  # pixels
_PIECE = 2**18  # bytes written at a time
_BATCH = 500  # records read at a time


def make_safe_name(file_name: str, max_bytes: int = _MAX_NAME) -> str:
    """A name of one file on every system, whatever a stored file name holds: no folder, no character with a meaning.

    max_bytes: the longest stem in UTF-8; the suffix follows it.
    """
    kept = "".join(
        letter if is_printable(letter) and letter not in '<>:"/\\|?*' else "_"
        for letter in file_name.encode("utf-8", "replace").decode()
    )
    stem, dot, suffix = kept.rpartition(".")
    if not dot or len(suffix) > 10:
        stem, dot, suffix = kept, "", ""
    while len(stem.encode()) > max_bytes:
        stem = stem[:-1]
    return f"{stem}{dot}{suffix}".rstrip(". ") or "picture"


class FileNames:
    """Hands out distinct names: a.jpg, a (2).jpg, a (3).jpg. Names that differ in case only are the same file to
    Windows and macOS."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, file_name: str) -> str:
        """A safe name that was not handed out before."""
        name = make_safe_name(file_name, 230)
        stem, dot, suffix = name.rpartition(".") if "." in name[1:] else (name, "", "")
        numbered, number = name, self._counts.get(_fold(name), 0)
        while _fold(numbered) in self._counts:
            number += 1
            numbered = f"{stem} ({number}){dot}{suffix}"
        self._counts[_fold(name)] = max(number, 1)
        self._counts.setdefault(_fold(numbered), 1)
        return numbered


def _fold(name: str) -> str:
    return normalize("NFC", name).casefold()


class _Sink(io.RawIOBase):
    """Takes what ZipFile writes, until it is sent."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        taken = memoryview(data)  # type: ignore[arg-type]  # typeshed names no buffer here
        self._written += taken
        return taken.nbytes

    def drain(self) -> bytes:
        data = bytes(self._written)
        self._written.clear()
        return data


def stream_zip(
    store: ImageStore,
    image_ids: Sequence[int],
    describe_missing: Callable[[list[str]], tuple[str, str]],
    find_film: Callable[[ImageRecord], str],
) -> Iterator[bytes]:
    """The originals of these images as a ZIP archive, uncompressed; not more than one original is held in memory.

    Of frames it is their film, once. An original that cannot be read, and an image deleted meanwhile, end nothing.
    describe_missing: name and content of a text file that is added for them, of their file names; an image that is gone
    has none and is named by its number. find_film: the path of a frame's film; raises StoreError without one.
    """
    sink, names, missing, films = _Sink(), FileNames(), list[str](), set[str]()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for image in _list_images(store, image_ids, missing):
            if image.frame:
                if image.frame.film_sha256 in films:
                    continue
                films.add(image.frame.film_sha256)
            try:
                original, size = _open_original(store, image, find_film)
            except StoreUnavailable:
                raise  # an archive that breaks off is better than one that claims everything else is missing
            except (StoreError, OSError):
                missing.append(image.file_name)
                continue
            entry = zipfile.ZipInfo(names.add(image.file_name), image.upload_date.timetuple()[:6])
            entry.external_attr = 0o644 << 16
            entry.file_size = size
            with original, archive.open(entry, "w") as file:
                while piece := original.read(_PIECE):
                    file.write(piece)
                    yield sink.drain()
        if missing:
            name, content = describe_missing(missing)
            archive.writestr(names.add(name), content)
    yield sink.drain()


def _open_original(
    store: ImageStore, image: ImageRecord, find_film: Callable[[ImageRecord], str]
) -> tuple[BinaryIO, int]:
    """The file and its size in bytes."""
    if image.frame:
        film = open(find_film(image), "rb")  # noqa: SIM115  closed by the caller
        return film, os.fstat(film.fileno()).st_size
    data = store.read_original(image.image_id)
    return io.BytesIO(data), len(data)


def _list_images(store: ImageStore, image_ids: Sequence[int], missing: list[str]) -> Iterator[ImageRecord]:
    for start in range(0, len(image_ids), _BATCH):
        batch = image_ids[start : start + _BATCH]
        found = store.find_images(batch)
        live = {image_id: image for image_id, image in found.items() if image.deleted_at is None}
        missing += [f"#{image_id}" for image_id in batch if image_id not in live]
        yield from (live[image_id] for image_id in batch if image_id in live)


def draw_contact_sheet(store: ImageStore, captions: Mapping[int, str]) -> bytes:
    """Previews in rows, each with its caption below it, as a JPEG file. captions: at least one, by image_id."""
    columns = min(6, math.ceil(math.sqrt(len(captions))))
    rows = math.ceil(len(captions) / columns)
    size = columns * (_CELL + _GAP) + _GAP, rows * (_CELL + _CAPTION + _GAP) + _GAP
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for place, (image_id, caption) in enumerate(captions.items()):
        left = _GAP + place % columns * (_CELL + _GAP)
        top = _GAP + place // columns * (_CELL + _CAPTION + _GAP)
        preview = _open_preview(store, image_id)
        sheet.paste(preview, (left + (_CELL - preview.width) // 2, top + (_CELL - preview.height) // 2))
        while len(caption) > 4 and draw.textlength(caption, font) > _CELL:
            caption = f"{caption[:-4]}..."
        draw.text((left + 2, top + _CELL + 2), caption, "black", font)
    file = io.BytesIO()
    sheet.save(file, "JPEG", quality=88)
    return file.getvalue()


def _open_preview(store: ImageStore, image_id: int) -> Image.Image:
    try:
        preview = Image.open(io.BytesIO(store.read_preview(image_id))).convert("RGB")
    except (StoreError, OSError):
        return Image.new("RGB", (_CELL, _CELL), "lightgrey")
    return ImageOps.contain(preview, (_CELL, _CELL))
