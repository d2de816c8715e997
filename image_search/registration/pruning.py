"""Images whose file is gone: found by listing folders, and moved to the trash.

A disk that is not there must not look like files that were deleted. Gone is only a file whose folder was listed, and
which is not in that listing. Of a folder that cannot be listed (no right to, an error of the disk, a share that is
away, a disk that is not mounted), or that is empty where files were, nothing is gone.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from unicodedata import normalize

from image_search.errors import UnreadableImage
from image_search.images import make_printable
from image_search.records import ImageRecord
from image_search.registration.files import is_missing, locate
from image_search.registration.films import list_frames
from image_search.stores.base import ImageStore
from image_search.stores.text import sanitize

_PAGE = 1000


@dataclass(frozen=True)
class GoneFile:
    """The path of a registered image where its file is no longer."""

    path: str
    image_id: int


@dataclass(frozen=True)
class GoneFiles:
    """files that are gone, and a sentence for every folder of which it cannot be told."""

    files: tuple[GoneFile, ...]
    warnings: tuple[str, ...]


def find_gone_files(store: ImageStore, folder: str | os.PathLike[str]) -> GoneFiles:
    """Files below a folder that images were registered from and that are gone.

    Raises UnreadableImage when the folder itself cannot be listed or is empty: then most likely a disk is not mounted.
    """
    top = locate(folder)
    list_folder = cache(_list_folder)  # each folder once in a run
    if not list_folder(top):
        raise UnreadableImage(f"{make_printable(top)} is missing or empty. Mount its disk, or name another folder.")
    gone: list[GoneFile] = []
    unknown: Counter[str] = Counter()
    for path, image_id in _list_paths(store, top):
        place, name = os.path.split(path)
        names = list_folder(place)
        if not names:
            unknown[place] += not os.path.lexists(path)
        elif name not in names and _simplify(name) not in names and is_missing(path):
            gone.append(GoneFile(path, image_id))
    warnings = (
        f"{make_printable(place)} cannot be listed or is empty, so its {count} images stay. "
        "Mount its disk, or delete them on the page."
        for place, count in unknown.items()
        if count
    )
    return GoneFiles(tuple(gone), tuple(warnings))


def trash_gone_files(store: ImageStore, files: Sequence[GoneFile]) -> int:
    """Forget these paths, and move images without any other path to the trash. Returns how many images were moved.

    They come back by themselves, with all a person said of them, when their file is registered again.
    """
    gone = {file.path for file in files}
    moved = 0
    for start in range(0, len(files), _PAGE):
        records = list(_list_images(store, files[start : start + _PAGE]))
        has_other = [any(path not in gone for path in record.paths) for record in records]
        lost = [record.image_id for record, other in zip(records, has_other, strict=True) if not other]
        moved += store.trash_images(lost, "gone")
        kept = (record for record, other in zip(records, has_other, strict=True) if other)
        store.remove_paths([path for record in kept for path in record.paths if path in gone])
    return moved


def _list_images(store: ImageStore, files: Iterable[GoneFile]) -> Iterator[ImageRecord]:
    """The live images of these files, each once; of a film all its frames."""
    for record in store.get_images(list(dict.fromkeys(file.image_id for file in files))):
        if record.deleted_at is not None:
            continue
        if record.frame is None:
            yield record
            continue
        yield from list_frames(store, record.frame.film_sha256)


def _list_paths(store: ImageStore, folder: str) -> Iterator[tuple[str, int]]:
    after = ""
    while page := store.list_paths(folder, after, _PAGE):
        yield from page
        after = page[-1][0]


def _list_folder(folder: str) -> frozenset[str] | None:
    """The names in a folder, each also as it is written elsewhere; empty without visible ones, None if unlistable."""
    try:
        with os.scandir(folder) as entries:
            names = {entry.name for entry in entries}
    except (OSError, ValueError):
        return None
    if all(name.startswith(".") for name in names):  # a mount point may hold a hidden file that says so
        return frozenset()
    return frozenset(names | {_simplify(name) for name in names})


def _simplify(name: str) -> str:
    """A name as other file systems write it: composed, and without bytes that are no text."""
    return normalize("NFC", sanitize(name))
