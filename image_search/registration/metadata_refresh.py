"""Read again what the files of registered images say, and write what a person said of images into XMP sidecars.

Reading again serves after an upgrade that understands more of the files; only the file's layer is written, what a
person said of an image stays as it is. Sidecars lie beside the files; originals are never touched.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from image_search.errors import ImageNotFound, UnreadableImage
from image_search.images import hash_bytes, make_printable, read_file
from image_search.metadata import find_sidecars
from image_search.metadata.sidecars import separate_edits, write_sidecar
from image_search.records import ImageRecord, ImageText, SearchFilter
from image_search.registration.files import FoundFile, is_film, is_missing, locate
from image_search.registration.reader import ImageReader
from image_search.registration.uploads import list_uploaded
from image_search.stores.base import ImageStore
from image_search.stores.text import make_file_name

FILE_BATCH = 500  # asked for in one query

Outcome = Literal["updated", "unchanged", "no text", "failed"]


@dataclass(frozen=True, slots=True)
class TextUpdate:
    """The outcome of one file.

    source:  the generator, "caption" for what people and cameras wrote, "" when the file says nothing or failed
    warning: a sentence a person should know, "" if all is well; why, when it failed
    """

    path: str
    outcome: Outcome
    source: str = ""
    warning: str = ""


@dataclass(frozen=True, slots=True)
class _ReadText:
    path: str
    content_sha256: str
    text: ImageText


def update_texts(
    store: ImageStore, files: Iterable[FoundFile], reader: ImageReader | None = None
) -> Iterator[TextUpdate]:
    """Store what each file says with its image, which is found by content, or failing that by its file name.

    Text from a file replaces the text that was stored of it; a file that says nothing changes nothing. In the order of
    the files, a bounded number of them ahead. Films are passed over. May raise StoreError.
    """
    waiting = (file for file in files if not is_film(file.path))
    while batch := list(islice(waiting, FILE_BATCH)):
        results = [_read_text(file.path, reader or ImageReader()) for file in batch]
        known = store.find_known_hashes([item.content_sha256 for item in results if isinstance(item, _ReadText)])
        for item in results:
            yield _store_text(store, item, known) if isinstance(item, _ReadText) else item


def _read_text(path: str, reader: ImageReader) -> _ReadText | TextUpdate:
    try:
        data = read_file(path)
    except UnreadableImage as error:
        return TextUpdate(path, "failed", warning=str(error))
    sidecars, _ = separate_edits(find_sidecars(Path(path)))
    text = reader.read_text(data, os.path.basename(path), sidecars)
    return _ReadText(path, hash_bytes(data), text)


def _store_text(store: ImageStore, item: _ReadText, known: dict[str, int]) -> TextUpdate:
    name = make_printable(item.path)
    warning = ""
    image_id = known.get(item.content_sha256)
    if image_id is None:
        same_name = store.list_images(limit=1, filter=SearchFilter(file_name=make_file_name(item.path)))
        if not same_name:
            return TextUpdate(item.path, "failed", warning=f"{name} is not registered. Run register_images.py first.")
        if same_name.total > 1:
            reason = f"{name} is not registered as it is now, and {same_name.total} images have its name."
            return TextUpdate(item.path, "failed", warning=f"{reason} Run register_images.py first.")
        image_id = same_name[0].image_id
        warning = f"{name} has other content than the registered image of this name; it was found by name only."
    if replace(item.text, raw={}) == ImageText():
        return TextUpdate(item.path, "no text", warning=warning)
    source = item.text.generator or "caption"
    try:
        is_changed = store.set_text(image_id, item.text)
    except ImageNotFound:
        return TextUpdate(item.path, "failed", warning=f"{name} was deleted from the library meanwhile.")
    return TextUpdate(item.path, "updated" if is_changed else "unchanged", source, warning)


_PAGE = 1000


@dataclass
class SidecarReport:
    """Counts of files. failures: a sentence for each that has no sidecar now, though it should.

    missing: files that are not there just now; without_file: images with something to say that have no file, as uploads
    """

    written: int = 0
    unchanged: int = 0
    missing: int = 0
    without_file: int = 0
    failures: list[str] = field(default_factory=list)


def write_sidecars(store: ImageStore, folders: Sequence[str | os.PathLike[str]] = ()) -> SidecarReport:
    """Write the sidecars of all images and films, or below some folders; what is not said any more is taken away.

    Raises StoreError.
    """
    report = SidecarReport()
    films: set[str] = set()  # the edits of a frame are those of its film
    tops = [locate(folder) for folder in folders]
    for image in _list_images(store, tops):
        own = image.paths
        if image.frame is not None:
            if image.frame.film_sha256 in films:
                continue
            films.add(image.frame.film_sha256)
            kept = set(map(str, list_uploaded(store, [image])))  # they go with the film, and so would the sidecar
            own = tuple(path for path in own if path not in kept)
        paths = [path for path in own if not tops or any(_is_below(path, top) for top in tops)]
        report.without_file += not own and not image.edits.is_empty
        for path in paths:
            if is_missing(path):
                report.missing += not image.edits.is_empty
                continue
            try:
                is_written = write_sidecar(Path(path), image.edits)
            except UnreadableImage as error:
                report.failures.append(str(error))
                continue
            report.written += is_written
            report.unchanged += not is_written and not image.edits.is_empty
    return report


def _list_images(store: ImageStore, folders: Sequence[str]) -> Iterator[ImageRecord]:
    """Live images, each once."""
    if not folders:
        last = 0
        while image_ids := store.list_image_ids(last, _PAGE):
            yield from store.get_images(image_ids)
            last = image_ids[-1]
        return
    seen: set[int] = set()
    for folder in folders:
        after = ""
        while page := store.list_paths(folder, after, _PAGE):
            fresh = list(dict.fromkeys(image_id for _, image_id in page if image_id not in seen))
            seen.update(fresh)
            yield from store.get_images(fresh)
            after = page[-1][0]


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip(os.sep) + os.sep)
