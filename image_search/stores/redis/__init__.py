"""Redis 8 with its query engine. Everything but the originals is in the memory of the server.

An image is one hash, and everything a batch changes is one MULTI/EXEC, so that readers see all of it or nothing, and
an append-only file keeps all of it or nothing. Before it, the originals are written to ORIGINALS_URL; after a deletion
they are removed. A lock with a lease lets one program at a time add, trash and remove images, and the transaction of
one that lost its lease is refused. The next writer removes the remains of a crash (originals of deleted
images). The trash is outside the index: no search has to leave it out.

Searches are exact scans (FLAT) with the filter in the same query.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np

from image_search.originals import Originals, open_separate_originals
from image_search.records import (
    DeletedImage,
    EmbeddingModel,
    Frame,
    Hits,
    ImageRecord,
    KnownFile,
    Order,
    SearchFilter,
    SearchHit,
    StoreStatus,
)
from image_search.settings import Settings
from image_search.stores.base import COUNTS_FRAMES, EVERYTHING, CountedField, Embeddings
from image_search.stores.document_store import Changes, DocumentStore, EnsureLocked, add_model, dump_models, load_models
from image_search.stores.documents import (
    NEWEST,
    Document,
    count_microseconds,
    decode_deleted,
    join_deleted,
    list_ranges_up_to,
    load_deleted,
    load_record,
    make_deleted,
    make_recognizer_key,
    name_frame,
    sort_counts,
)
from image_search.stores.redis.client import (
    Connection,
    build_expression,
    count,
    count_values,
    list_ids,
    list_nearest,
    list_page,
    list_tokens,
    make_vector_field,
    match_keys,
    match_model,
    match_ranges,
)
from image_search.stores.redis.writes import (
    change_images,
    find_members,
    find_owners,
    forget_deleted,
    keep_deleted_paths,
    make_counted_field,
    migrate,
    read_images,
    read_member,
    remember_deleted,
    remove_image,
    renew_words,
)
from image_search.stores.text import make_sort_name

_ORDERS: dict[Order, tuple[str, ...]] = {
    "registered": ("@upload_date", "DESC", "@image_id", "DESC"),
    "taken": ("@taken_order", "DESC", "@upload_date", "DESC", "@image_id", "DESC"),
    "name": ("@sort_name", "ASC", "@image_id", "ASC"),
}
_CHUNK = 500


class RedisStore(DocumentStore):
    """A library in one Redis server. Any number of threads and programs may use it at once."""

    def __init__(self, url: str, originals: Originals) -> None:
        super().__init__()
        self.originals = originals
        self._server = Connection(url, migrate, renew_words)

    @classmethod
    def open(cls, settings: Settings) -> RedisStore:
        """The store of DATABASE_URL, redis://user:password@host:6379/0?library=name. Connects to nothing yet."""
        originals = open_separate_originals(settings.originals_url, "Redis", settings.s3_endpoint_url)
        return cls(settings.database_url, originals)

    # --- models ---------------------------------------------------------------------------------------------------

    def _add_model(self, name: str, version: str, dimension: int) -> None:
        with self._server.client() as client:
            model_id = int(client.incr(self._server.make_key("last_model_id")))
        self._server.add_vector_field(model_id, dimension)  # first, so that no model is without its index
        self._change_models(lambda models: add_model(models, model_id, name, version, dimension))

    def list_models(self) -> list[EmbeddingModel]:
        with self._server.client() as client:
            return load_models(client.get(self._server.make_key("models")))

    def _change_models(self, change: Callable[[list[EmbeddingModel]], list[EmbeddingModel]]) -> None:
        key = self._server.make_key("models")

        def transact(pipeline: Any) -> None:
            models = change(load_models(pipeline.get(key)))
            pipeline.multi()
            pipeline.set(key, dump_models(models))

        with self._server.client() as client:
            client.transaction(transact, key)

    def _iterate_embedded(self, model_id: int) -> Iterator[list[int]]:
        while image_ids := list_ids(self._server, match_model(model_id), _CHUNK):
            yield image_ids
        with self._server.client() as client:
            trashed = [int(member) for member in client.zrange(self._server.make_key("trash"), 0, -1)]
        for start in range(0, len(trashed), _CHUNK):
            yield trashed[start : start + _CHUNK]

    # --- registration -----------------------------------------------------------------------------------------------

    def _find_deleted_paths(self, paths: list[str]) -> dict[str, str]:
        with self._server.client() as client:
            places = [(path, None) for path in paths]
            found = find_members(client, self._server, "deleted_paths", places)
            owners = find_members(client, self._server, "paths", places)
        hashes = {
            path: [sha256 for [sha256] in members]
            for path, members, owned in zip(paths, found, owners, strict=True)
            if members and not owned
        }
        return {path: self._find_latest_deleted(several) for path, several in hashes.items()}

    def _find_known_files(self, paths: list[str]) -> dict[str, KnownFile]:
        with self._server.client() as client:
            owners = find_members(client, self._server, "paths", [(path, None) for path in paths])
            first = {path: int(members[0][1]) for path, members in zip(paths, owners, strict=True) if members}
            found: dict[int, Document] = {}
            image_ids = list(dict.fromkeys(first.values()))
            for start in range(0, len(image_ids), _CHUNK):
                values = read_images(self._server, image_ids[start : start + _CHUNK])
                found |= {image_id: one.document for image_id, one in values.items()}
        files = {path: found[image_id].find_known_file(path) for path, image_id in first.items() if image_id in found}
        return {path: file for path, file in files.items() if file is not None}

    def _list_paths(self, folder: str, after: str, limit: int) -> list[tuple[str, int]]:
        found: dict[str, int] = {}
        with self._server.client() as client:
            for separator in ("/", "\\"):
                start = max(f"{folder}{separator}".encode(), after.encode() + b"\x01" if after else b"")
                end = folder.encode() + bytes([ord(separator) + 1])
                read = 0
                listed: dict[str, int] = {}
                # Frames of a film share a path, which is listed once.
                while len(listed) < limit:
                    members = client.zrangebylex(
                        self._server.make_key("paths"), b"[" + start, b"(" + end, start=read, num=_CHUNK
                    )
                    read += len(members)
                    for path, image_id in map(read_member, members):
                        listed.setdefault(path, image_id)
                    if len(members) < _CHUNK:
                        break
                found |= listed
        return sorted(found.items(), key=lambda item: item[0].encode())[:limit]

    def find_images_without_embedding(
        self, model_id: int, after_id: int = 0, limit: int = 1000, min_recipe: int = 0
    ) -> list[int]:
        return self._list_after(after_id, f"-{match_model(model_id, min_recipe)}", limit)

    def find_images_of_old_recipe(self, recipe: int, after_id: int = 0, limit: int = 1000) -> list[int]:
        return self._list_after(after_id, f"@recipe:[-inf ({int(recipe)}]", limit)

    def find_images_without_recognition(self, recognizer: str, after_id: int = 0, limit: int = 1000) -> list[int]:
        return self._list_after(after_id, f"-{match_keys([make_recognizer_key(recognizer)])}", limit)

    def _list_after(self, after_id: int, condition: str, limit: int) -> list[int]:
        return list_ids(self._server, f"@image_id:[({int(after_id)} +inf] {condition}", limit)

    # --- changes ----------------------------------------------------------------------------------------------------

    def _locking(self) -> AbstractContextManager[EnsureLocked]:
        return self._server.writing()

    def _read_documents(self, image_ids: Collection[int]) -> dict[int, Document]:
        return {image_id: values.document for image_id, values in read_images(self._server, image_ids).items()}

    def _change_images(
        self,
        image_ids: Iterable[int],
        change: Callable[[Changes], None],
        ensure_locked: EnsureLocked | None = None,
        forgotten: Collection[str] = (),
        removed: Collection[str] = (),
    ) -> None:
        remembered = self._list_remembered(list(forgotten))
        kept: dict[str, DeletedImage] = {}

        def put(changes: Changes) -> None:
            nonlocal kept
            change(changes)
            if ensure_locked is not None:
                found = [values.document for values in changes.found.values()]
                kept = self._list_remembered([document.sha256 for document in found if not document.is_live])

        def also(pipeline: Any) -> None:
            for deleted in kept.values():  # at the paths that an image in the trash loses
                remember_deleted(pipeline, self._server, deleted)
            for deleted in remembered.values():
                forget_deleted(pipeline, self._server, deleted)
            if removed:
                pipeline.sadd(self._server.make_key("removed_originals"), *removed)

        change_images(self._server, image_ids, put, also, ensure_locked)

    def _find_frames(self, frames: Sequence[Frame]) -> dict[Frame, int]:
        named = {name_frame(frame): frame for frame in frames}
        return {named[name]: int(image_id) for name, image_id in self._read_map("frames", list(named)).items()}

    def _find_owners(self, places: Sequence[tuple[str, str | None]]) -> list[int]:
        with self._server.client() as client:
            return find_owners(client, self._server, places)

    def _list_newer(self, moment: datetime) -> list[int]:
        return list_ids(self._server, f"@upload_date:[({count_microseconds(moment)} +inf]", _CHUNK)

    def _count_up_ids(self, number: int) -> int:
        with self._server.client() as client:
            return int(client.incrby(self._server.make_key("last_image_id"), number))

    def _list_removed_originals(self) -> set[str]:
        with self._server.client() as client:
            return {sha256.decode() for sha256 in client.smembers(self._server.make_key("removed_originals"))}

    def _forget_removed_originals(self, hashes: Collection[str]) -> None:
        with self._server.client() as client:
            client.srem(self._server.make_key("removed_originals"), *hashes)

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

    def _find_latest_deleted(self, hashes: list[str]) -> str:
        """The latest deleted of several images, remembered or in the trash."""
        if len(hashes) == 1:
            return hashes[0]
        times = {sha256: deleted.deleted_at for sha256, deleted in self._list_remembered(hashes).items()}
        trashed = {image_id: sha256 for sha256, (image_id, _) in self._find_trashed(hashes).items()}
        for image_id, record in self._find_images(list(trashed)).items():
            times[trashed[image_id]] = record.deleted_at or datetime.min
        return max(hashes, key=lambda sha256: times.get(sha256, datetime.min))

    # --- trash ------------------------------------------------------------------------------------------------------

    def _list_trash(self, limit: int, offset: int) -> Hits:
        key = self._server.make_key("trash")
        members, total = self._server.ask(("ZREVRANGE", key, offset, offset + limit - 1), ("ZCARD", key))
        return self._read_hits([(None, int(member)) for member in members], int(total))

    def _empty_trash(self, image_ids: list[int] | None, before: datetime | None) -> int:
        end = "+inf" if before is None else f"({count_microseconds(before)}"
        with self._writing() as ensure_locked, self._server.client() as client:
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
        with self._writing() as ensure_locked, self._server.client() as client:
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
        with self._writing() as ensure_locked, self._server.client() as client:
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

    # --- search -----------------------------------------------------------------------------------------------------

    def _build_expression(self, filter: SearchFilter, terms: Sequence[str] = ()) -> str:
        return build_expression(filter, terms, expand=partial(list_tokens, self._server))

    def _search_embedding(
        self, model_id: int, embedding: Embeddings, limit: int, offset: int, filter: SearchFilter
    ) -> Hits:
        expression = self._build_expression(filter)
        found, total = list_nearest(self._server, expression, model_id, embedding, offset + limit)
        return self._read_hits(found[offset:], total)

    def _list_images(
        self, terms: list[str], limit: int, offset: int, filter: SearchFilter, order: Order, after: ImageRecord | None
    ) -> Hits:
        expression = self._build_expression(filter, terms)
        if after is not None:
            offset += self._count_up_to(expression, order, after)
        image_ids, total = list_page(self._server, expression, _ORDERS[order], limit, offset)
        return self._read_hits([(None, image_id) for image_id in image_ids], total)

    def _count_up_to(self, expression: str, order: Order, after: ImageRecord) -> int:
        """How many images of a list are in front of one, itself included."""
        if order != "name":
            before = "" if expression == "*" else f"{expression} "
            ranges = list_ranges_up_to(after, NEWEST[order])
            return sum(count(self._server, before + match_ranges(several)) for several in ranges)
        low, high, key = 0, count(self._server, expression), (make_sort_name(after.file_name), after.image_id)
        while low < high:  # the engine has no ranges of texts
            middle = (low + high) // 2
            page = self._find_images(list_page(self._server, expression, _ORDERS[order], 1, middle)[0])
            if any((make_sort_name(record.file_name), image_id) <= key for image_id, record in page.items()):
                low = middle + 1
            else:
                high = middle
        return low

    def count_images(self, filter: SearchFilter = EVERYTHING) -> int:
        return count(self._server, self._build_expression(filter))

    def count_values(self, field: CountedField, filter: SearchFilter = EVERYTHING) -> dict[str, int]:
        counts: Counter[str] = Counter()
        films: defaultdict[str, set[bytes]] = defaultdict(set)
        names = map(make_counted_field, [field] if field in COUNTS_FRAMES else [field, "film"])
        for (values, *film), number in count_values(self._server, self._build_expression(filter), *names):
            for value in json.loads(values):
                if json.loads(film[0] or b"[]") if film else ():
                    films[value].add(film[0])
                else:
                    counts[value] += number
        counts.update({value: len(found) for value, found in films.items()})
        return sort_counts(counts.items(), field)

    # --- images -----------------------------------------------------------------------------------------------------

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

    def read_previews(self, image_ids: Sequence[int]) -> dict[int, bytes]:
        return self._read_field(image_ids, "preview")

    def get_embeddings(self, image_ids: Sequence[int], model_id: int) -> dict[int, Embeddings]:
        if model_id not in {model.model_id for model in self.list_models()}:
            return {}
        found = self._read_field(image_ids, make_vector_field(model_id))
        return {image_id: np.frombuffer(embedding, np.float32).copy() for image_id, embedding in found.items()}

    # --- the store as a whole -----------------------------------------------------------------------------------------

    def sample_embeddings(self, model_id: int, size: int) -> Embeddings:
        dimension = self._get_dimension(model_id)
        image_ids = list_ids(self._server, match_model(model_id), size, ("@shuffle", "ASC", "@image_id", "ASC"))
        rows = list(self.get_embeddings(image_ids, model_id).values())
        return np.array(rows, np.float32).reshape(len(rows), dimension)

    def list_settings(self, prefix: str = "") -> dict[str, str]:
        with self._server.client() as client:
            found = client.hgetall(self._server.make_key("settings"))
        settings = {name.decode(): value.decode() for name, value in found.items()}
        return {name: settings[name] for name in sorted(settings) if name.startswith(prefix)}

    def set_setting(self, name: str, value: str | None) -> None:
        with self._server.client() as client:
            if value is None:
                client.hdel(self._server.make_key("settings"), name)
            else:
                client.hset(self._server.make_key("settings"), name, value)

    def get_status(self) -> StoreStatus:
        models = self.list_models()
        with self._server.client() as client:
            version = client.info("server")["redis_version"]
            trashed = int(client.zcard(self._server.make_key("trash")))
        return StoreStatus(
            engine=f"Redis {version}",
            location=self._server.location,
            image_count=self.count_images(),
            models=tuple((model, count(self._server, match_model(model.model_id))) for model in models),
            trash_count=trashed,
        )

    def close(self) -> None:
        self._server.close()
