"""The trash: what goes there, comes back and leaves it for good, a film always as one; and images whose file is gone.

An operation on one frame of a film applies to all of its frames.

A missing disk must not look like deleted files. A file is gone only if its folder was listed and the listing lacks it.
The files of a folder that cannot be listed (no permission, a disk error, a share that is away, an unmounted disk), or
that is empty where files were, are not gone.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from unicodedata import normalize

from image_search.errors import ImageSearchError, UnreadableImage
from image_search.images import make_printable
from image_search.records import ImageRecord, SearchHit
from image_search.registration.changes import restore_with_paths
from image_search.registration.files import is_missing, locate
from image_search.registration.films import list_frames, remember_film
from image_search.registration.uploads import list_uploaded, remove_uploaded
from image_search.stores.base import UNFINISHED_SAMPLES, ImageStore
from image_search.stores.text import sanitize

_PAGE = 1000


class TrashChanged(ImageSearchError):
    """The trash holds other images than when a person looked at it."""


def trash_images(store: ImageStore, image_ids: Sequence[int]) -> int:
    """Move images to the trash, and of films all frames. Returns how many images and films. Raises StoreError."""
    return move_to_trash(store, image_ids)[0]


def move_to_trash(store: ImageStore, image_ids: Sequence[int]) -> tuple[int, list[int]]:
    """The same; returns also those of image_ids that were not in the trash before, which an undo brings back."""
    records = [record for record in _find(store, image_ids) if record.deleted_at is None]
    frames = {film: list_frames(store, film) for film in _group_by_film(records)}
    singles = [record.image_id for record in records if record.frame is None]
    count = store.trash_images(singles) if singles else 0
    for film, parts in frames.items():
        count += store.trash_images([part.image_id for part in parts]) > 0
        remember_film(store, film, tuple(sorted({path for part in parts for path in part.paths})))
    return count, [record.image_id for record in records]


def restore_images(store: ImageStore, image_ids: Sequence[int]) -> int:
    """Bring images back from the trash, and of films all frames. Returns how many images and films it was.

    The paths where their files turned up meanwhile are theirs as well.
    """
    records = _find(store, image_ids)
    singles = [record for record in records if record.frame is None and record.deleted_at is not None]
    count = restore_with_paths(store, singles) if singles else 0
    for parts in _list_trashed(store, _group_by_film(records)).values():
        count += restore_with_paths(store, parts) > 0
    return count


def empty_trash(store: ImageStore, image_ids: Sequence[int] | None = None, before: datetime | None = None) -> int:
    """Remove images in the trash for good, and of films all frames. Returns how many images and films it was.

    image_ids: these; None: all. before: only those deleted earlier (UTC). A film that was uploaded goes with its
    frames; any other file stays.
    """
    if image_ids is None:
        trashed = [image for image in store.iterate_trash() if image.frame]
        frames = [part for part in trashed if before is None or (part.deleted_at and part.deleted_at < before)]
    else:
        records = _find(store, image_ids)
        frames = [part for parts in _list_trashed(store, _group_by_film(records)).values() for part in parts]
        singles = [record.image_id for record in records if record.frame is None]
        image_ids = [*singles, *(part.image_id for part in frames)]
    uploaded = list_uploaded(store, frames)
    count = store.empty_trash(image_ids, before) if image_ids is None or image_ids else 0
    remove_uploaded(store, uploaded)
    return count - len(frames) + len(_group_by_film(frames))


def empty_known_trash(store: ImageStore, version: str) -> int:
    """Remove the whole trash for good, as long as it holds what it did: version is that of list_trash.

    Returns how many images it was. Raises TrashChanged, and then removes nothing.
    """
    image_ids = [image.image_id for image in store.iterate_trash()]
    if _make_version(image_ids) != version:
        raise TrashChanged("The trash has changed meanwhile. Look at it again before you empty it.")
    return empty_trash(store, image_ids)  # and nothing that comes into it now


def delete_images(store: ImageStore, image_ids: Sequence[int]) -> int:
    """Delete images for good, live or in the trash, and of films all frames. Returns how many images and films."""
    trash_images(store, image_ids)
    return empty_trash(store, image_ids)


def list_trash(
    store: ImageStore, limit: int | None = None, offset: int = 0
) -> tuple[list[tuple[SearchHit, int]], int, str]:
    """A page of the trash in which a film stands once, with the number of its frames; how many entries there are; and
    the version of the trash, which changes with the images in it.

    limit: None for all. An image counts 0 frames. The latest deleted come first.
    """
    first: dict[object, ImageRecord] = {}
    counts: dict[object, int] = {}
    image_ids: list[int] = []
    for image in store.iterate_trash():
        image_ids.append(image.image_id)
        key = image.frame.film_sha256 if image.frame else image.image_id
        first[key] = _choose_earlier(first.get(key), image)
        counts[key] = counts.get(key, 0) + (image.frame is not None)
    entries = [(SearchHit(image), counts[key]) for key, image in first.items()]
    return entries[offset:][:limit], len(entries), _make_version(image_ids)


def _make_version(image_ids: Sequence[int]) -> str:
    return hashlib.sha256(repr(sorted(image_ids)).encode()).hexdigest()[:16]


def _choose_earlier(before: ImageRecord | None, image: ImageRecord) -> ImageRecord:
    """The earlier one of two frames, which stands for the film."""
    if before is None:
        return image
    return min(before, image, key=lambda either: either.frame.frame_ms if either.frame else 0)


def _find(store: ImageStore, image_ids: Sequence[int]) -> list[ImageRecord]:
    """Those of these images that there are, live or in the trash, each once."""
    return list(store.find_images(image_ids).values())


def _group_by_film(records: Sequence[ImageRecord]) -> list[str]:
    return list(dict.fromkeys(record.frame.film_sha256 for record in records if record.frame))


def _list_trashed(store: ImageStore, films: Sequence[str]) -> dict[str, list[ImageRecord]]:
    trashed: dict[str, list[ImageRecord]] = {}
    for image in store.iterate_trash() if films else ():
        if image.frame and image.frame.film_sha256 in films:
            trashed.setdefault(image.frame.film_sha256, []).append(image)
    return trashed


def empty_old_trash(store: ImageStore, days: int) -> int:
    """Remove for good what has been in the trash for that many days; nothing for 0. Returns as empty_trash does."""
    if not days:
        return 0
    return empty_trash(store, before=datetime.now(UTC).replace(tzinfo=None) - timedelta(days=days))


def trash_samples(store: ImageStore, folder: str | os.PathLike[str]) -> int:
    """Move the images to the trash that lie in the folder of samples and nowhere else. Returns how many there were.

    Samples that are still to be registered stay out.
    """
    store.set_setting(UNFINISHED_SAMPLES, None)
    top = os.path.abspath(folder)
    moved = 0
    after = ""
    while page := store.list_paths(top, after, _PAGE):
        images = store.get_images(list(dict.fromkeys(image_id for _, image_id in page)))
        samples = [image.image_id for image in images if all(path.startswith(top + os.sep) for path in image.paths)]
        moved += store.trash_images(samples)
        after = page[-1][0]
    return moved


# Images whose file is gone: found by listing folders, and moved to the trash.


@dataclass(frozen=True)
class GoneFile:
    """The path of a registered image where its file is no longer."""

    path: str
    image_id: int


@dataclass(frozen=True)
class GoneFiles:
    """files that are gone, and a sentence for every folder of which it is not known."""

    files: tuple[GoneFile, ...]
    warnings: tuple[str, ...]


def find_gone_files(store: ImageStore, folder: str | os.PathLike[str]) -> GoneFiles:
    """Files below a folder that images were registered from and that are gone.

    Raises UnreadableImage when the folder itself cannot be listed or is empty: then most likely a disk is not mounted.
    """
    top = locate(folder)
    if os.path.isfile(top):
        raise UnreadableImage(f"{make_printable(top)} is a file. Name its folder.")
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


def trash_gone_files(store: ImageStore, files: Sequence[GoneFile]) -> tuple[int, int]:
    """Forget these paths, and move images without any other path to the trash.

    Returns how many images were moved, and how many paths were forgotten of images that stay. Those in the trash come
    back by themselves, with all a person said of them, when their file is registered again.
    """
    gone = {file.path for file in files}
    moved = forgotten = 0
    for start in range(0, len(files), _PAGE):
        records = list(_list_images(store, files[start : start + _PAGE]))
        has_other = [any(path not in gone for path in record.paths) for record in records]
        lost = [record.image_id for record, other in zip(records, has_other, strict=True) if not other]
        moved += store.trash_images(lost, "gone")
        kept = (record for record, other in zip(records, has_other, strict=True) if other)
        forgotten += store.remove_paths([path for record in kept for path in record.paths if path in gone])
    return moved, forgotten


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
