"""The trash of a library in Elasticsearch and what is remembered of it, and the lock that guards both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from image_search.errors import StoreError
from image_search.originals import Originals
from image_search.records import DeletedImage, Hits, NewImage, SearchHit, TrashReason
from image_search.stores.base import ImageStore
from image_search.stores.documents import (
    Document,
    decode_deleted,
    join_deleted,
    load_deleted,
    load_document,
    load_record,
    make_deleted,
    restore,
    trash,
)
from image_search.stores.elasticsearch.client import Connection, Query, State, match_keys
from image_search.stores.elasticsearch.writes import (
    Changes,
    change_images,
    check_results,
    make_deleted_fields,
    read_documents,
)
from image_search.stores.reads import frame_is_known
from image_search.stores.search_fields import (
    TRASHED,
    count_microseconds,
    make_deleted_path_key,
    make_film_key,
    make_frame_key,
    make_path_key,
    make_trashed_path_key,
)

_CHUNK = 500


class ElasticsearchTrash(ImageStore):
    """The part of ElasticsearchStore that moves images to the trash, back, and out of the library."""

    originals: Originals
    _cluster: Connection

    @contextmanager
    def _writing(self, contents: Mapping[str, bytes] = {}) -> Iterator[Callable[[], None]]:
        """Hold the lock. Yields a function that checks that it is still held.

        contents: originals that are written first, and removed again if the block fails.
        """
        with self._cluster.writing() as ensure_locked:
            self._delete_orphaned_originals()
            try:
                self.originals.write(contents)
                yield ensure_locked
            except BaseException:
                with suppress(StoreError):
                    ensure_locked()  # else another program may be adding the same images by now
                    self._delete_unused_originals(contents)
                raise

    def _delete_orphaned_originals(self) -> None:
        # While no other program can add the same image again. The next one finishes what a crash left undone.
        removed = self._cluster.read_state()["removed_originals"]
        if removed:
            self._delete_unused_originals(removed)

            def forget(state: State) -> None:
                state["removed_originals"] = [sha256 for sha256 in state["removed_originals"] if sha256 not in removed]

            self._cluster.change_state(forget)

    def _delete_unused_originals(self, hashes: Iterable[str]) -> None:
        wanted = list(hashes)
        self.originals.delete(set(wanted) - self._find_documents_of(wanted).keys())

    # --- look-ups ---------------------------------------------------------------------------------------------------

    def _find_documents(self, field: str, values: Sequence[str], *conditions: Query) -> Iterator[Document]:
        """Images with one of these values in a field, ascending by image_id within each 500 values."""
        for start in range(0, len(values), _CHUNK):
            chosen: list[Query] = [{"terms": {field: list(values[start : start + _CHUNK])}}, *conditions]
            for hit in self._cluster.scan({"bool": {"filter": chosen}}, ["record"]):
                yield load_document(hit["_source"]["record"])

    def _find_documents_of(self, hashes: Sequence[str]) -> dict[str, Document]:
        """Images by hash, live or in the trash."""
        return {document.sha256: document for document in self._find_documents("content_sha256", hashes)}

    def _find_owners(self, wanted: Sequence[tuple[str, str | None]]) -> list[int]:
        """Images at any of these paths, live or in the trash, except frames of the film beside it."""
        owners: dict[int, None] = {}
        for film in dict.fromkeys(film for _, film in wanted):
            paths = [path for path, of in wanted if of == film]
            keys = [make_key(path) for make_key in (make_path_key, make_trashed_path_key) for path in paths]
            other: list[Query] = []
            if film is not None:
                other = [{"bool": {"filter": [], "must_not": [match_keys([make_film_key(film)])]}}]
            owners |= {document.image_id: None for document in self._find_documents("tags", keys, *other)}
        return list(owners)

    def _check_frames(self, images: Sequence[NewImage], known: Mapping[str, int]) -> None:
        """Raise StoreError for a frame of whose film and time another image is. known: image_ids by hash."""
        frames = {make_frame_key(image.frame): known.get(image.content_sha256) for image in images if image.frame}
        for document in self._find_documents("tags", list(frames)):
            frame = document.record.frame
            if frame is not None and document.image_id != frames.get(make_frame_key(frame), document.image_id):
                raise frame_is_known(document.image_id)

    def _find_known_hashes(self, hashes: list[str]) -> dict[str, int]:
        found = self._find_documents_of(hashes)
        return {sha256: document.image_id for sha256, document in found.items() if document.is_live}

    def _find_deleted_hashes(self, hashes: list[str]) -> set[str]:
        found = self._find_documents_of(hashes)
        trashed = {sha256 for sha256, document in found.items() if document.record.trash_reason == "deleted"}
        # One that is there was registered again by a program that ended before it could forget it.
        return trashed | (self._find_remembered(hashes).keys() - found.keys())

    def _find_deleted_paths(self, paths: list[str]) -> dict[str, str]:
        keys = list(map(make_deleted_path_key, paths))
        deleted = [make_deleted(document) for document in self._find_documents("tags", keys)]
        for start in range(0, len(keys), _CHUNK):
            deleted += self._search_remembered({"terms": {"paths": keys[start : start + _CHUNK]}})
        found: dict[str, str] = {}
        for one in sorted(deleted, key=lambda one: one.deleted_at):  # the latest counts
            found |= dict.fromkeys(one.paths, one.content_sha256)
        owners = self._find_documents("tags", list(map(make_path_key, paths)))
        live = {path for document in owners for path in document.paths}
        return {path: found[path] for path in paths if path in found and path not in live}

    # --- trash ------------------------------------------------------------------------------------------------------

    def _trash_images(self, image_ids: list[int], reason: TrashReason, deleted_at: datetime) -> int:
        trashed: set[int] = set()

        def put(changes: Changes) -> None:
            for image_id in changes.list_live():
                trashed.add(image_id)
                changes.documents[image_id] = trash(changes.documents[image_id], reason, deleted_at)

        with self._writing() as ensure_locked:
            change_images(self._cluster, image_ids, put, ensure_locked)
        return len(trashed)

    def _restore_images(self, image_ids: list[int]) -> int:
        restored: set[int] = set()

        def put(changes: Changes) -> None:
            for image_id in image_ids:
                if image_id in changes.found and not changes.documents[image_id].is_live:
                    restored.add(image_id)
                    changes.documents[image_id] = restore(changes.documents[image_id])

        with self._writing() as ensure_locked:
            change_images(self._cluster, image_ids, put, ensure_locked)
            documents = read_documents(self._cluster, restored).values()
            self._forget(list(self._find_remembered([document.sha256 for document in documents])))
        return len(restored)

    def _list_trash(self, limit: int, offset: int) -> Hits:
        order = [{"deleted_at": "desc"}, {"image_id": "desc"}]
        return self._list_hits(match_keys([TRASHED]), order, limit, offset)

    def _list_hits(
        self, query: Query, order: list[dict[str, str]], limit: int, offset: int, after: Sequence[object] = ()
    ) -> Hits:
        """after: the keys of the image behind which the list begins."""
        behind = {"search_after": list(after)} if after else {"from_": offset}
        hits, total = self._cluster.search(query=query, sort=order, size=limit, source=["record"], **behind)
        return Hits(tuple(SearchHit(load_record(hit["_source"]["record"])) for hit in hits), total)

    def _empty_trash(self, image_ids: list[int] | None, before: datetime | None) -> int:
        with self._writing() as ensure_locked:
            if image_ids is None:
                found = self._cluster.scan(match_keys([TRASHED]), ["record"])
                documents = [load_document(hit["_source"]["record"]) for hit in found]
            else:
                documents = list(read_documents(self._cluster, image_ids).values())
            chosen = [document for document in documents if _is_due(document, before)]
            for start in range(0, len(chosen), _CHUNK):
                self._remove_images(chosen[start : start + _CHUNK], ensure_locked)
            self._delete_orphaned_originals()
        return len(chosen)

    def _remove_images(self, documents: list[Document], ensure_locked: Callable[[], None]) -> None:
        hashes = [document.sha256 for document in documents]
        ensure_locked()
        self._remember([make_deleted(document) for document in documents if document.record.trash_reason == "deleted"])
        self._cluster.change_state(lambda state: state["removed_originals"].extend(hashes))
        operations = [{"delete": {"_id": str(document.image_id)}} for document in documents]
        check_results(self._cluster, self._cluster.write(operations))

    # --- remembered -------------------------------------------------------------------------------------------------

    def _search_remembered(self, query: Query, size: int = 10_000) -> list[DeletedImage]:
        """Records of deleted images by hash, with paths as they are stored."""
        hits, _ = self._cluster.search(
            index=self._cluster.deleted_index,
            query=query,
            sort=[{"content_sha256": "asc"}],
            size=size,
            source=["deleted"],
        )
        return [load_deleted(hit["_id"], hit["_source"]["deleted"]) for hit in hits]

    def _find_remembered(self, hashes: Sequence[str]) -> dict[str, DeletedImage]:
        found: dict[str, DeletedImage] = {}
        for start in range(0, len(hashes), _CHUNK):
            query = {"terms": {"content_sha256": list(hashes[start : start + _CHUNK])}}
            found |= {deleted.content_sha256: deleted for deleted in self._search_remembered(query)}
        return found

    def _remember(self, deleted: Sequence[DeletedImage]) -> None:
        """Remember deleted images, with what was remembered of them before."""
        joined = self._find_remembered([one.content_sha256 for one in deleted])
        for one in deleted:
            joined[one.content_sha256] = join_deleted(joined.get(one.content_sha256), one)
        operations: list[dict[str, Any]] = []
        for sha256, one in joined.items():
            operations += [{"index": {"_id": sha256}}, make_deleted_fields(one)]
        self._write_remembered(operations)

    def _forget(self, hashes: Sequence[str]) -> None:
        self._write_remembered([{"delete": {"_id": sha256}} for sha256 in hashes])

    def _write_remembered(self, operations: list[dict[str, Any]]) -> None:
        if operations:
            check_results(self._cluster, self._cluster.write(operations, self._cluster.deleted_index))

    def list_deleted(self, after: str = "", limit: int = 1000) -> list[DeletedImage]:
        query = {"range": {"content_sha256": {"gt": after}}} if after else {"match_all": {}}
        return [decode_deleted(deleted) for deleted in self._search_remembered(query, limit)]

    def _add_deleted(self, deleted: list[DeletedImage]) -> None:
        with self._writing() as ensure_locked:
            found = self._find_documents_of([one.content_sha256 for one in deleted])
            held = {sha256 for sha256, document in found.items() if document.record.trash_reason != "deleted"}
            ensure_locked()
            self._remember([one for one in deleted if one.content_sha256 not in held])

    def forget_deleted(self, hashes: Sequence[str] | None = None) -> int:
        forgotten = 0
        with self._writing() as ensure_locked:
            while True:
                if hashes is not None:
                    found = list(self._find_remembered(list(dict.fromkeys(hashes))))
                else:
                    found = [one.content_sha256 for one in self._search_remembered({"match_all": {}}, _CHUNK)]
                ensure_locked()
                self._forget(found)
                forgotten += len(found)
                if hashes is not None or not found:
                    return forgotten


def _is_due(document: Document, before: datetime | None) -> bool:
    deleted_at = document.record.deleted_at
    if deleted_at is None:
        return False
    return before is None or count_microseconds(deleted_at) < count_microseconds(before)
