"""Where the file of a film is now: a registered path whose head, tail and size still hash the same."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from contextlib import suppress

from image_search.errors import OriginalMissing, StoreError, UnreadableFilm
from image_search.films import hash_film
from image_search.images import make_printable
from image_search.records import ImageRecord

_MAX_KEPT = 256

_hashes: OrderedDict[tuple[str, int, int, int], str] = OrderedDict()  # by path, inode, size and time
_lock = threading.Lock()


def find_film_file(image: ImageRecord) -> str:
    """The path of the film that an image is a frame of. A player asks for many ranges; the file is hashed once.

    Raises StoreError for an image that is no frame, and OriginalMissing, without a path, when no file is the film.
    """
    if image.frame is None:
        raise StoreError(f"Image {image.image_id} is not a frame of a film.")
    for path in image.paths:
        with suppress(OSError, ValueError, UnreadableFilm):
            if _hash(path) == image.frame.film_sha256:
                return path
    raise OriginalMissing(
        f"{make_printable(image.file_name)} was moved or changed since it was registered. Register its folder again."
    )


def _hash(path: str) -> str:
    status = os.stat(path)
    key = (path, status.st_ino, status.st_size, status.st_mtime_ns)
    with _lock:
        if key in _hashes:
            _hashes.move_to_end(key)
            return _hashes[key]
    film_sha256 = hash_film(path)
    with _lock:
        _hashes[key] = film_sha256
        while len(_hashes) > _MAX_KEPT:
            _hashes.popitem(last=False)
    return film_sha256
