"""Read again what the files of registered images say, and store it: after an upgrade that understands more of them.

Only the file's layer is written; what a person said of an image stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from image_search.errors import ImageNotFound, UnreadableImage
from image_search.images import hash_bytes, make_printable, read_file
from image_search.metadata import find_sidecars
from image_search.metadata.sidecars import separate_edits
from image_search.records import ImageText, SearchFilter
from image_search.registration.files import FoundFile, is_film
from image_search.registration.reader import ImageReader
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
