"""Compare a file with the library: known, moved, of a deleted image, new content of an image, or a new image.

A deleted image is remembered at every path where its file turns up; restoring the image gives it these paths. Content
that such a file gets later, when it is tagged, is remembered as well, with a mark in place of a path that names the
deleted image. It stays deleted as long as that image does.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from image_search.errors import ContentKnown, ImageNotFound, UnreadableImage
from image_search.images import hash_bytes, read_file
from image_search.records import DeletedImage, ImageRecord, KnownFile
from image_search.registration.files import FoundFile, is_missing
from image_search.registration.pipeline import ReadFile, Retry
from image_search.stores.base import Embeddings, ImageStore

_ORIGIN = "sha256:"  # in front of the hash of the deleted image; no absolute path begins so
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that is new or has changed.

    former:  the store's last knowledge of the path
    deleted: hash of the image that had this path until a person deleted it
    """

    file: FoundFile
    former: KnownFile | None = None
    deleted: str | None = None


class DeletedFiles:
    """Tells files of deleted images from others. Safe to use from several threads."""

    def __init__(self, store: ImageStore, retry: Retry) -> None:
        self._store = store
        self._call = retry.call
        self._lock = threading.Lock()
        self._trash: dict[str, list[ImageRecord]] | None = None  # by the hash of image, frame and film

    def is_deleted(self, candidate: Candidate, sha256: str) -> bool:
        """Whether a person deleted this content, or the image whose file this was; then the file is remembered with it.

        Raises StoreError.
        """
        origin = self._find_origin(candidate, sha256)
        if origin is None:
            return False
        now = datetime.now(UTC).replace(tzinfo=None)
        fresh = [DeletedImage(origin, now, (candidate.file.path,))] if candidate.deleted != origin else []
        if origin != sha256 and not self._call(self._store.find_deleted_hashes, [sha256]):
            fresh.append(DeletedImage(sha256, now, (_ORIGIN + origin,)))
        if fresh:
            self._call(self._store.add_deleted, fresh)
        return True

    def take_in(self, candidate: Candidate, sha256: str) -> Candidate:
        """Restore the image or film of the trash whose file this was before it was changed. It is the former one then.

        Raises StoreError.
        """
        origin = self._find_origin(candidate, sha256)
        if candidate.former is not None or origin in (None, sha256):
            return candidate
        with self._lock:
            if self._trash is None:
                self._trash = {}
                for image in self._call(lambda: list(self._store.iterate_trash())):
                    for key in (image.content_sha256, *([image.frame.film_sha256] if image.frame else ())):
                        self._trash.setdefault(key, []).append(image)
            images = self._trash.get(origin or "", [])
            if images and (frame := images[0].frame):
                images = self._trash[frame.film_sha256]
            if not images:
                return candidate
            self._call(restore_with_paths, self._store, images, (candidate.file.path,))
        first = images[0]
        film_sha256 = first.frame.film_sha256 if first.frame else None
        former = KnownFile(first.image_id, first.byte_size, None, first.content_sha256, film_sha256)
        return replace(candidate, former=former)

    def _find_origin(self, candidate: Candidate, sha256: str) -> str | None:
        """The hash of the deleted image or film that this file belongs to; None when it belongs to none."""
        deleted = candidate.deleted
        if not self._call(self._store.find_deleted_hashes, [sha256]):
            return deleted
        remembered = self._call(list_remembered, self._store, [sha256]).get(sha256)
        origins = _list_origins(remembered)  # none of the deleted image itself
        if not origins:
            return sha256
        still = self._call(self._store.find_deleted_hashes, origins)
        if not still:
            self._call(self._store.forget_deleted, [sha256])  # the image it comes from was restored, or forgotten
            return deleted if deleted != sha256 else None
        return next(origin for origin in origins if origin in still)


def _list_origins(remembered: DeletedImage | None) -> list[str]:
    """Hashes of the deleted images whose file had this content later."""
    paths = remembered.paths if remembered else ()
    return [path.removeprefix(_ORIGIN) for path in paths if path.startswith(_ORIGIN)]


def list_remembered(store: ImageStore, hashes: Iterable[str]) -> dict[str, DeletedImage]:
    """Records of these hashes as far as they are remembered, in few queries. Raises StoreError."""
    wanted = sorted(set(hashes))
    found: dict[str, DeletedImage] = {}
    place = 0
    while place < len(wanted):
        before = f"{max(int(wanted[place], 16) - 1, 0):064x}"  # the hash in front of it
        limit = 1 if len(wanted) == 1 else _PAGE
        page = store.list_deleted(before, limit)
        found |= {image.content_sha256: image for image in page}
        if len(page) < limit:
            break
        place = max(bisect_right(wanted, page[-1].content_sha256), place + 1)
    return {sha256: found[sha256] for sha256 in wanted if sha256 in found}


def restore_with_paths(store: ImageStore, images: Sequence[ImageRecord], paths: Sequence[str] = ()) -> int:
    """Bring images back from the trash, or all frames of one film, with the paths where their files turned up.

    paths: known besides. Returns how many were in the trash. Raises StoreError.
    """
    hashes = [image.content_sha256 for image in images]
    films = {image.frame.film_sha256 for image in images if image.frame}
    remembered = list_remembered(store, [*hashes, *films])
    count = store.restore_images([image.image_id for image in images])
    of_film = [path for one in remembered.values() for path in one.paths] if films else []
    for image in images:
        own = remembered[image.content_sha256].paths if image.content_sha256 in remembered else ()
        give_paths(store, image, [*paths, *of_film, *own])
    if films:
        store.forget_deleted(sorted(films))
    return count


def give_paths(store: ImageStore, image: ImageRecord, paths: Iterable[str]) -> None:
    """Give a live image those of these paths where there is a file, and no other live image. Raises StoreError."""
    turned_up = [path for path in dict.fromkeys(paths) if not path.startswith(_ORIGIN)]
    new = [path for path in turned_up if path not in image.paths and not is_missing(path)]
    known = store.find_known_files(new)
    for path in new:
        owner = known.get(path)
        if owner is None or (image.frame and owner.film_sha256 == image.frame.film_sha256):
            with suppress(ImageNotFound):  # deleted a moment ago
                store.set_path(image.image_id, path, image.byte_size, None)


@dataclass(frozen=True, slots=True)
class NewContent:
    """The file is to be read. replaces: the image whose file it was, and that has its old content nowhere else."""

    replaces: KnownFile | None = None


class ChangeDetector:
    """Compares files with the store by their hash. Safe to use from several threads.

    include_deleted: take in what a person deleted
    """

    def __init__(self, store: ImageStore, retry: Retry, include_deleted: bool = False) -> None:
        self._store = store
        self._call = retry.call
        self._deletions = DeletedFiles(store, retry)
        self._include_deleted = include_deleted

    def judge(self, candidate: Candidate, content_sha256: str) -> Literal["known", "moved", "deleted"] | NewContent:
        """The state of a file with this content. Updates the known paths. Raises StoreError."""
        known = self._call(self._store.find_known_hashes, [content_sha256])
        if content_sha256 in known:
            return self._add_path(candidate, known[content_sha256])
        if not self._include_deleted and self._is_deleted(candidate, content_sha256):
            return "deleted"
        if self._include_deleted:
            candidate = self._deletions.take_in(candidate, content_sha256)
        former = candidate.former
        if former is None or former.film_sha256 or former.content_sha256 == content_sha256:
            return NewContent()
        if self._is_elsewhere(former, candidate.file.path):
            return NewContent()
        return NewContent(former)

    def _add_path(self, candidate: Candidate, image_id: int) -> Literal["known", "moved"]:
        """A file whose content is registered: the same file touched, the file moved here, or a copy."""
        file, former = candidate.file, candidate.former
        try:
            paths = self._call(self._store.get_image, image_id).paths
            self._call(self._store.set_path, image_id, file.path, file.byte_size, file.modified_ns)
        except ImageNotFound:  # deleted a moment ago
            return "known"
        if former is not None and former.image_id == image_id:
            return "known"
        missing = [path for path in paths if path != file.path and is_missing(path)]
        has_moved = bool(paths) and len(missing) == len(paths)
        if has_moved:
            self._call(self._store.remove_paths, missing)
        return "moved" if has_moved or former is not None else "known"

    def _is_deleted(self, candidate: Candidate, content_sha256: str) -> bool:
        """Whether a person deleted this content, or the image that this file was before it was changed."""
        is_deleted = self._deletions.is_deleted(candidate, content_sha256)
        if is_deleted and candidate.former is not None:
            self._call(self._store.remove_paths, [candidate.file.path])
        return is_deleted

    def _is_elsewhere(self, former: KnownFile, path: str) -> bool:
        """Whether the former content of a path still exists at another path of its image."""
        try:
            others = [other for other in self._call(self._store.get_image, former.image_id).paths if other != path]
        except ImageNotFound:
            return False
        known = self._call(self._store.find_known_files, others)
        return any(_holds(other, former, known.get(other)) for other in others)


def _holds(path: str, former: KnownFile, known: KnownFile | None) -> bool:
    """Whether a file has this content; one that is as it was when it was read last is not read again."""
    try:
        status = os.stat(path)
        if known and (status.st_size, status.st_mtime_ns) == (known.byte_size, known.modified_ns):
            return True
        return status.st_size == former.byte_size and hash_bytes(read_file(path)) == former.content_sha256
    except (OSError, ValueError, UnreadableImage):
        return False


def replace_content(store: ImageStore, model_id: int, item: ReadFile, embedding: Embeddings) -> bool:
    """Give an image the new content of its file. May be called again after a failure.

    Returns False when the item is an image of its own after all: its former image was deleted, or has been given the
    content of another of its files meanwhile. Raises StoreError.
    """
    former, image = item.replaces, item.image
    if former is None or image.file_path is None:
        return False
    try:
        current = store.get_image(former.image_id)
        if current.deleted_at is not None:
            return False
        if current.content_sha256 != image.content_sha256:
            if current.content_sha256 != former.content_sha256:
                return False
            store.replace_image(former.image_id, model_id, image, embedding)
        store.set_path(former.image_id, image.file_path, image.byte_size, image.modified_ns)
    except (ImageNotFound, ContentKnown):
        return False
    return True
