"""The samples go to the trash, and what has lain in it long enough leaves it for good."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from image_search.registration.films.deleting import empty_trash
from image_search.stores.base import ImageStore

_PAGE = 1000


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
