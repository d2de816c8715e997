"""Compare a file with the library: known, moved, deleted earlier, new content of an image, or a new image."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from image_search.errors import ContentKnown, ImageNotFound, UnreadableImage
from image_search.images import hash_bytes, read_file
from image_search.records import KnownFile
from image_search.registration.deletions import Candidate, DeletedFiles
from image_search.registration.files import is_missing
from image_search.registration.pipeline import Patience
from image_search.registration.reader import ReadFile
from image_search.stores.base import Embeddings, ImageStore


@dataclass(frozen=True, slots=True)
class NewContent:
    """The file is to be read. replaces: the image whose file it was, and that has its old content nowhere else."""

    replaces: KnownFile | None = None


class ChangeDetector:
    """Compares files with the store by their hash. Safe to use from several threads.

    include_deleted: take in what a person deleted
    """

    def __init__(self, store: ImageStore, patience: Patience, include_deleted: bool = False) -> None:
        self._store = store
        self._call = patience.call
        self._deletions = DeletedFiles(store, patience)
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
