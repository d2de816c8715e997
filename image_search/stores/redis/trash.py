"""The trash of a library in Redis and what is remembered of it, and the lock that guards both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from image_search.errors import StoreError
from image_search.originals import Originals
from image_search.records import DeletedImage, Hits, ImageRecord, SearchHit, TrashReason
from image_search.stores.base import ImageStore
from image_search.stores.documents import (
    decode_deleted,
    join_deleted,
    load_deleted,
    load_record,
    make_deleted,
    restore,
    trash,
)
from image_search.stores.redis.client import Connection
from image_search.stores.redis.writes import (
    Changes,
    change_images,
    forget_deleted,
    keep_deleted_paths,
    read_images,
    remember_deleted,
    remove_image,
)
from image_search.stores.search_fields import count_microseconds

_CHUNK = 500

EnsureLocked = Callable[[Any], None]


class RedisTrash(ImageStore):
    """The part of RedisStore that moves images to the trash, back, and out of the library."""

    originals: Originals
    _server: Connection

    @contextmanager
    def _writing(self, contents: Mapping[str, bytes] = {}) -> Iterator[tuple[Any, EnsureLocked]]:
        """The client of the only writer, and what checks that it is still the only one.

        contents: originals that are written first, and removed again if the block fails.
        """
        with self._server.writing() as ensure_locked, self._server.client() as client:
            self._delete_orphaned_originals()
            try:
                self.originals.write(contents)
                yield client, ensure_locked
            except BaseException:
                with suppress(StoreError), self._server.client() as client, client.pipeline() as pipeline:
                    ensure_locked(pipeline)  # else another program may be adding the same images by now
                    self._delete_unused_originals(contents)
                raise

    def _delete_orphaned_originals(self) -> None:
        # While no other program can add the same image again. The next one finishes what a crash left undone.
        with self._server.client() as client:
            key = self._server.make_key("removed_originals")
            removed = {sha256.decode() for sha256 in client.smembers(key)}
            if removed:
                self._delete_unused_originals(removed)
                client.srem(key, *removed)

    def _delete_unused_originals(self, hashes: Iterable[str]) -> None:
        wanted = list(hashes)
        self.originals.delete(set(wanted) - self._find_all_hashes(wanted).keys())

    # --- hashes -----------------------------------------------------------------------------------------------------

    def _read_map(self, name: str, fields: Sequence[str]) -> dict[str, bytes]:
        """The fields of one hash of the library that are there."""
        if not fields:
            return {}
        with self._server.client() as client:
            values = client.hmget(self._server.make_key(name), fields)
        return {field: value for field, value in zip(fields, values, strict=True) if value is not None}

    def _find_known_hashes(self, hashes: list[str]) -> dict[str, int]:
        return {sha256: int(image_id) for sha256, image_id in self._read_map("hashes", hashes).items()}

    def _find_trashed(self, hashes: list[str]) -> dict[str, tuple[int, str]]:
        """image_id and reason of those in the trash."""
        found = self._read_map("trashed_hashes", hashes)
        parts = {sha256: value.decode().partition(" ") for sha256, value in found.items()}
        return {sha256: (int(image_id), reason) for sha256, (image_id, _, reason) in parts.items()}

    def _find_all_hashes(self, hashes: list[str]) -> dict[str, int]:
        """image_ids, live or in the trash."""
        trashed = {sha256: image_id for sha256, (image_id, _) in self._find_trashed(hashes).items()}
        return trashed | self._find_known_hashes(hashes)

    def _find_deleted_hashes(self, hashes: list[str]) -> set[str]:
        trashed = {sha256 for sha256, (_, reason) in self._find_trashed(hashes).items() if reason == "deleted"}
        return trashed | self._read_map("deleted", hashes).keys()

    def _list_remembered(self, hashes: list[str]) -> dict[str, DeletedImage]:
        """Records of deleted images, with paths as they are stored."""
        found = self._read_map("deleted", hashes)
        return {sha256: load_deleted(sha256, document) for sha256, document in found.items()}

    def _keep_remembered(self, image_ids: Sequence[int]) -> Callable[[Any], None]:
        """Commands for a transaction in which images lose paths: those of the trash stay remembered at theirs."""
        trashed = [one.document for one in read_images(self._server, image_ids).values() if not one.document.is_live]
        remembered = self._list_remembered([document.sha256 for document in trashed])

        def keep(pipeline: Any) -> None:
            for deleted in remembered.values():
                remember_deleted(pipeline, self._server, deleted)

        return keep

    def _find_latest_deleted(self, hashes: list[str]) -> str:
        """Of several deleted images, remembered or in the trash, the one that was deleted last."""
        if len(hashes) == 1:
            return hashes[0]
        times = {sha256: deleted.deleted_at for sha256, deleted in self._list_remembered(hashes).items()}
        trashed = {image_id: sha256 for sha256, (image_id, _) in self._find_trashed(hashes).items()}
        for image_id, record in self._find_images(list(trashed)).items():
            times[trashed[image_id]] = record.deleted_at or datetime.min
        return max(hashes, key=lambda sha256: times.get(sha256, datetime.min))

    # --- trash ------------------------------------------------------------------------------------------------------

    def _trash_images(self, image_ids: list[int], reason: TrashReason, deleted_at: datetime) -> int:
        trashed = 0

        def put(changes: Changes) -> None:
            nonlocal trashed
            live = changes.list_live()
            trashed = len(live)
            for image_id in live:
                changes.documents[image_id] = trash(changes.documents[image_id], reason, deleted_at)

        with self._writing() as (_, ensure_locked):
            change_images(self._server, image_ids, put, ensure_locked=ensure_locked)
        return trashed

    def _restore_images(self, image_ids: list[int]) -> int:
        restored = 0

        def put(changes: Changes) -> None:
            nonlocal restored
            parked = [image_id for image_id in changes.found if not changes.documents[image_id].is_live]
            restored = len(parked)
            for image_id in parked:
                changes.documents[image_id] = restore(changes.documents[image_id])

        with self._writing() as (_, ensure_locked):
            found = read_images(self._server, image_ids).values()
            remembered = self._list_remembered([one.document.sha256 for one in found if not one.document.is_live])

            def forget(pipeline: Any) -> None:
                for deleted in remembered.values():
                    forget_deleted(pipeline, self._server, deleted)

            change_images(self._server, image_ids, put, forget, ensure_locked)
        return restored

    def _list_trash(self, limit: int, offset: int) -> Hits:
        key = self._server.make_key("trash")
        members, total = self._server.ask(("ZREVRANGE", key, offset, offset + limit - 1), ("ZCARD", key))
        return self._read_hits([(None, int(member)) for member in members], int(total))

    def _empty_trash(self, image_ids: list[int] | None, before: datetime | None) -> int:
        end = "+inf" if before is None else f"({count_microseconds(before)}"
        with self._writing() as (client, ensure_locked):
            parked = [int(member) for member in client.zrangebyscore(self._server.make_key("trash"), "-inf", end)]
            if image_ids is not None:
                parked = sorted({*parked} & {*image_ids})
            for start in range(0, len(parked), _CHUNK):
                self._remove_images(client, parked[start : start + _CHUNK], ensure_locked)
            self._delete_orphaned_originals()
        return len(parked)

    def _remove_images(self, client: Any, image_ids: list[int], ensure_locked: EnsureLocked) -> None:
        documents = [values.document for values in read_images(self._server, image_ids).values()]
        remembered = self._list_remembered([document.sha256 for document in documents])
        with client.pipeline() as pipeline:
            ensure_locked(pipeline)
            pipeline.multi()
            for document in documents:
                remove_image(pipeline, self._server, document)
                if document.record.trash_reason == "deleted":
                    deleted = join_deleted(remembered.get(document.sha256), make_deleted(document))
                    remember_deleted(pipeline, self._server, deleted)
            pipeline.execute()

    # --- remembered -------------------------------------------------------------------------------------------------

    def list_deleted(self, after: str = "", limit: int = 1000) -> list[DeletedImage]:
        start = f"({after}" if after else "-"
        with self._server.client() as client:
            found = client.zrangebylex(self._server.make_key("deleted_order"), start, "+", start=0, num=limit)
        return [decode_deleted(one) for one in self._list_remembered([sha.decode() for sha in found]).values()]

    def _add_deleted(self, deleted: list[DeletedImage]) -> None:
        hashes = [one.content_sha256 for one in deleted]
        with self._writing() as (client, ensure_locked):
            gone = {sha256 for sha256, (_, reason) in self._find_trashed(hashes).items() if reason != "deleted"}
            held = self._find_known_hashes(hashes).keys() | gone
            remembered = self._list_remembered(hashes)
            with client.pipeline() as pipeline:
                ensure_locked(pipeline)
                pipeline.multi()
                for one in deleted:
                    if one.content_sha256 not in held:
                        joined = join_deleted(remembered.get(one.content_sha256), one)
                        remembered[one.content_sha256] = joined
                        remember_deleted(pipeline, self._server, joined)
                pipeline.execute()

    def forget_deleted(self, hashes: Sequence[str] | None = None) -> int:
        with self._writing() as (client, ensure_locked):
            if hashes is None:
                hashes = [sha256.decode() for sha256 in client.hkeys(self._server.make_key("deleted"))]
            remembered = self._list_remembered(list(dict.fromkeys(hashes)))
            trashed = [image_id for image_id, _ in self._find_trashed(list(remembered)).values()]
            with client.pipeline() as pipeline:
                ensure_locked(pipeline)
                pipeline.multi()
                for deleted in remembered.values():
                    forget_deleted(pipeline, self._server, deleted)
                for values in read_images(self._server, trashed).values():
                    keep_deleted_paths(pipeline, self._server, values.document)
                pipeline.execute()
        return len(remembered)

    # --- records ----------------------------------------------------------------------------------------------------

    def _read_field(self, image_ids: Sequence[int], field: str) -> dict[int, bytes]:
        """One field of those of these images that have it, live or in the trash, of one moment."""
        if not image_ids:
            return {}
        makers = (self._server.make_image_key, self._server.make_trash_key)
        keys = [(image_id, make(image_id)) for make in makers for image_id in image_ids]
        values = self._server.ask(*(("HGET", key, field) for _, key in keys))
        return {image_id: value for (image_id, _), value in zip(keys, values, strict=True) if value is not None}

    def _find_images(self, image_ids: list[int]) -> dict[int, ImageRecord]:
        found = self._read_field(image_ids, "record")
        return {image_id: load_record(document) for image_id, document in found.items()}

    def _read_hits(self, found: Sequence[tuple[float | None, int]], total: int) -> Hits:
        records = self._find_images([image_id for _, image_id in found])
        hits = (SearchHit(records[image_id], distance) for distance, image_id in found if image_id in records)
        return Hits(tuple(hits), total)
