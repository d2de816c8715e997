"""The trash: what goes there, comes back and leaves it for good, a film always as one.

Of whichever frame of a film that is asked, all of them follow.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from image_search.records import ImageRecord, SearchHit
from image_search.registration.deletions import restore_with_paths
from image_search.registration.films import list_frames, remember_film
from image_search.registration.uploads import list_uploaded, remove_uploaded
from image_search.stores.base import ImageStore

_PAGE = 1000


def trash_images(store: ImageStore, image_ids: Sequence[int]) -> int:
    """Move images to the trash, and of films all frames. Returns how many images and films. Raises StoreError."""
    records = _find(store, image_ids)
    films = _group_by_film(record for record in records if record.deleted_at is None)
    frames = {film: list_frames(store, film) for film in films}
    singles = [record.image_id for record in records if record.frame is None]
    count = store.trash_images(singles) if singles else 0
    for film, parts in frames.items():
        count += store.trash_images([part.image_id for part in parts]) > 0
        remember_film(store, film, tuple(sorted({path for part in parts for path in part.paths})))
    return count


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
    """Remove images in the trash for good, and of films all frames. Returns how many images it was.

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
    return count


def delete_images(store: ImageStore, image_ids: Sequence[int]) -> int:
    """Delete images for good, live or in the trash, and of films all frames. Returns how many images it was."""
    trash_images(store, image_ids)
    return empty_trash(store, image_ids)


def list_trash(store: ImageStore, limit: int, offset: int) -> tuple[list[tuple[SearchHit, int]], int]:
    """A page of the trash in which a film stands once, with the number of its frames; and how many entries there are.

    An image counts 0 frames. The latest deleted come first.
    """
    first: dict[object, ImageRecord] = {}
    counts: dict[object, int] = {}
    for image in store.iterate_trash():
        key = image.frame.film_sha256 if image.frame else image.image_id
        first[key] = _choose_earlier(first.get(key), image)
        counts[key] = counts.get(key, 0) + (image.frame is not None)
    entries = [(SearchHit(image), counts[key]) for key, image in first.items()]
    return entries[offset : offset + limit], len(entries)


def _choose_earlier(before: ImageRecord | None, image: ImageRecord) -> ImageRecord:
    """Of two frames the earlier one stands for the film."""
    if before is None:
        return image
    return min(before, image, key=lambda either: either.frame.frame_ms if either.frame else 0)


def _find(store: ImageStore, image_ids: Sequence[int]) -> list[ImageRecord]:
    """Those of these images that there are, live or in the trash, each once."""
    return list(store.find_images(image_ids).values())


def _group_by_film(records: Iterator[ImageRecord] | Sequence[ImageRecord]) -> list[str]:
    return list(dict.fromkeys(record.frame.film_sha256 for record in records if record.frame))


def _list_trashed(store: ImageStore, films: Sequence[str]) -> dict[str, list[ImageRecord]]:
    trashed: dict[str, list[ImageRecord]] = {}
    for image in store.iterate_trash() if films else ():
        if image.frame and image.frame.film_sha256 in films:
            trashed.setdefault(image.frame.film_sha256, []).append(image)
    return trashed


def empty_old_trash(store: ImageStore, days: int) -> int:
    """Remove for good what has been in the trash for so many days; nothing for 0. Returns how many images it was."""
    if not days:
        return 0
    return empty_trash(store, before=datetime.now(UTC).replace(tzinfo=None) - timedelta(days=days))


def trash_samples(store: ImageStore, folder: str | os.PathLike[str]) -> int:
    """Move the images to the trash that lie in the folder of samples and nowhere else. Returns how many there were."""
    top = os.path.abspath(folder)
    moved = 0
    after = ""
    while page := store.list_paths(top, after, _PAGE):
        images = store.get_images(list(dict.fromkeys(image_id for _, image_id in page)))
        samples = [image.image_id for image in images if all(path.startswith(top + os.sep) for path in image.paths)]
        moved += store.trash_images(samples)
        after = page[-1][0]
    return moved
