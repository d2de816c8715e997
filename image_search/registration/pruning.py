"""Images whose file is gone."""

from __future__ import annotations

import os

from image_search.errors import UnreadableImage
from image_search.image_files import make_printable
from image_search.records import ImageRecord, SearchFilter
from image_search.stores.base import ImageStore

_PAGE = 1000


def find_gone(store: ImageStore, folder: str | os.PathLike[str]) -> list[ImageRecord]:
    """Images that were registered from a file below this folder which is no longer there.

    Raises UnreadableImage when the folder itself is missing or empty: then most likely a disk is not mounted.
    """
    path = os.path.abspath(folder)
    try:
        is_empty = not os.listdir(path)
    except OSError:
        is_empty = True
    if is_empty:
        raise UnreadableImage(f"{make_printable(path)} is missing or empty. Mount its disk, or name another folder.")
    filter = SearchFilter(folder=path)
    gone: list[ImageRecord] = []
    for offset in range(0, store.count_images(filter), _PAGE):
        records = (hit.image for hit in store.find_latest(_PAGE, offset, filter))
        gone += [record for record in records if record.file_path and not os.path.exists(record.file_path)]
    return gone
