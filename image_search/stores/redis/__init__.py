"""Redis 8 with its query engine. Everything but the originals is in the memory of the server.

An image is one hash, and everything a batch changes is one MULTI/EXEC, so that readers see all of it or nothing, and
an append-only file keeps all of it or nothing. Before it, the originals are written to ORIGINALS_URL; after a deletion
they are removed. A lock with a lease lets one program at a time do that, and the transaction of one that lost its
lease is refused. Whatever a crash left behind (originals of deleted images) is removed by the next writer.

Searches are exact scans (FLAT) with the filter in the same query.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from image_search.errors import StoreError
from image_search.originals import Originals, open_separate_originals
from image_search.records import (
    EmbeddingModel,
    ImageRecord,
    ImageText,
    KnownFile,
    NewImage,
    SearchFilter,
    SearchHit,
    StoreStatus,
)
from image_search.settings import Settings
from image_search.stores.base import (
    EVERYTHING,
    CountedField,
    Embeddings,
    ImageStore,
    embedding_not_found,
    image_not_found,
)
from image_search.stores.documents import (
    add_model,
    drop_model,
    load_known_file,
    load_models,
    load_record,
    make_record,
    switch_model,
)
from image_search.stores.redis.client import Connection, make_vector_field
from image_search.stores.redis.query import (
    ALL,
    build_expression,
    count,
    count_values,
    list_ids,
    list_nearest,
    match_file_name,
    match_paths,
)
from image_search.stores.redis.writes import (
    NO_VALUES,
    Found,
    change_images,
    change_models,
    change_record,
    drop_embedding,
    make_fields,
    put_embedding,
    put_fields,
)

_NEWEST_FIRST = ("@upload_date", "DESC", "@image_id", "DESC")
_OLDEST_FIRST = ("@image_id", "ASC")
_CHUNK = 500


class RedisStore(ImageStore):
    """A library in one Redis server. Any number of threads and programs may use it at once."""

    def __init__(self, url: str, originals: Originals) -> None:
        super().__init__()
        self.originals = originals
        self._server = Connection(url)

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
        change_models(self._server, lambda models: add_model(models, model_id, name, version, dimension))

    def list_models(self) -> list[EmbeddingModel]:
        with self._server.client() as client:
            return load_models(client.get(self._server.make_key("models")))

    def set_current_model(self, model_id: int) -> None:
        change_models(self._server, lambda models: switch_model(models, model_id))

    def remove_model(self, model_id: int) -> None:
        change_models(self._server, lambda models: drop_model(models, model_id))
        self._dimensions.pop(model_id, None)

        def drop(pipeline: Any, found: Found) -> None:
            for image_id, values in found.items():
                drop_embedding(pipeline, self._server.make_image_key(image_id), values, model_id)

        # Nobody finds the embeddings any more; what a crash leaves of them only takes room.
        expression = build_expression(EVERYTHING, model_id=model_id)
        while image_ids := list_ids(self._server, expression, _OLDEST_FIRST, _CHUNK):
            change_images(self._server, image_ids, drop)

    # --- registration -----------------------------------------------------------------------------------------------

    def _find_known_hashes(self, hashes: list[str]) -> dict[str, int]:
        with self._server.client() as client:
            image_ids = client.hmget(self._server.make_key("hashes"), hashes)
        return {sha256: int(image_id) for sha256, image_id in zip(hashes, image_ids, strict=True) if image_id}

    def _find_known_files(self, paths: list[str]) -> dict[str, KnownFile]:
        known: dict[str, KnownFile] = {}
        for start in range(0, len(paths), _CHUNK):
            expression = match_paths(paths[start : start + _CHUNK])
            for document in self._read_records(list_ids(self._server, expression, _OLDEST_FIRST, ALL)):
                if document is not None:
                    path, file = load_known_file(document)
                    known[path] = file  # the latest picture of a path wins
        return known

    def _set_file(self, image_id: int, file_path: str, file_name: str, modified_ns: int | None) -> None:
        change_record(
            self._server,
            image_id,
            lambda record, _: (replace(record, file_path=file_path, file_name=file_name), modified_ns),
        )

    def _add_images(self, model_id: int, images: list[NewImage], embeddings: Embeddings) -> list[int]:
        # The first of equal pictures counts.
        first = {image.content_sha256: number for number, image in reversed(list(enumerate(images)))}
        with self._server.writing() as ensure_locked:
            self._delete_orphaned_originals()
            try:
                self.originals.write({image.content_sha256: image.data for image in images})
                known = self._find_known_hashes(list(first))
                new = [image for number, image in enumerate(images) if first[image.content_sha256] == number]
                new = [image for image in new if image.content_sha256 not in known]
                rows = {known[sha256]: embeddings[number] for sha256, number in first.items() if sha256 in known}
                added = self._reserve_ids(new)

                def insert(pipeline: Any, found: Found) -> None:
                    for image_id, values in found.items():
                        if model_id not in values.models:
                            key = self._server.make_image_key(image_id)
                            put_embedding(pipeline, key, values, model_id, rows[image_id])
                    for image_id, image in added.items():
                        key, row = self._server.make_image_key(image_id), embeddings[first[image.content_sha256]]
                        pipeline.hset(self._server.make_key("hashes"), image.content_sha256, image_id)
                        pipeline.hset(key, "preview", image.preview)
                        put_fields(
                            pipeline, key, make_fields(make_record(image_id, image, upload_date), image.modified_ns)
                        )
                        put_embedding(pipeline, key, NO_VALUES, model_id, row)

                upload_date = datetime.now(UTC).replace(tzinfo=None)
                change_images(self._server, list(rows), insert, ensure_locked)
            except BaseException:
                with suppress(StoreError), self._server.client() as client, client.pipeline() as pipeline:
                    ensure_locked(pipeline)  # else somebody may be adding the same pictures by now
                    self.originals.delete(first.keys() - self._find_known_hashes(list(first)).keys())
                raise
        known |= {image.content_sha256: image_id for image_id, image in added.items()}
        return [known[image.content_sha256] for image in images]

    def _reserve_ids(self, images: Sequence[NewImage]) -> dict[int, NewImage]:
        if not images:
            return {}
        with self._server.client() as client:
            last = int(client.incrby(self._server.make_key("last_image_id"), len(images)))
        return dict(zip(range(last - len(images) + 1, last + 1), images, strict=True))

    def _add_embeddings(self, model_id: int, image_ids: list[int], embeddings: Embeddings) -> None:
        rows = dict(zip(image_ids, embeddings, strict=True))

        def put(pipeline: Any, found: Found) -> None:
            for image_id, values in found.items():
                put_embedding(pipeline, self._server.make_image_key(image_id), values, model_id, rows[image_id])

        change_images(self._server, image_ids, put)

    def find_images_without_embedding(self, model_id: int, after_id: int = 0, limit: int = 1000) -> list[int]:
        expression = f"@image_id:[({int(after_id)} +inf] -@models:{{{int(model_id)}}}"
        return list_ids(self._server, expression, _OLDEST_FIRST, limit)

    def _set_text(self, image_id: int, text: ImageText) -> bool:
        return change_record(
            self._server, image_id, lambda record, modified_ns: (replace(record, text=text), modified_ns)
        )

    def _delete_images(self, image_ids: list[int]) -> int:
        deleted = 0

        def delete(pipeline: Any, found: Found) -> None:
            nonlocal deleted
            deleted = len(found)
            if found:
                hashes = [load_record(values.record).content_sha256 for values in found.values()]
                pipeline.delete(*(self._server.make_image_key(image_id) for image_id in found))
                pipeline.hdel(self._server.make_key("hashes"), *hashes)
                pipeline.sadd(self._server.make_key("removed_originals"), *hashes)

        change_images(self._server, image_ids, delete)
        with self._server.writing():
            self._delete_orphaned_originals()
        return deleted

    def _delete_orphaned_originals(self) -> None:
        # While nobody can add the same picture again. What a crash left undone is done by the next one.
        with self._server.client() as client:
            key = self._server.make_key("removed_originals")
            removed = {sha256.decode() for sha256 in client.smembers(key)}
            if removed:
                self.originals.delete(removed - self._find_known_hashes(list(removed)).keys())
                client.srem(key, *removed)

    # --- search -----------------------------------------------------------------------------------------------------

    def _search_embedding(
        self, model_id: int, embedding: Embeddings, limit: int, offset: int, filter: SearchFilter
    ) -> list[SearchHit]:
        found = list_nearest(self._server, build_expression(filter), model_id, embedding, offset + limit)
        page = found[offset : offset + limit]
        documents = self._read_records([image_id for _, image_id in page])
        return [
            SearchHit(load_record(document), distance)
            for (distance, _), document in zip(page, documents, strict=True)
            if document is not None  # deleted this moment
        ]

    def _search_words(self, words: list[str], limit: int, offset: int, filter: SearchFilter) -> list[SearchHit]:
        return self._list_newest(build_expression(filter, words), limit, offset)

    def _find_latest(self, limit: int, offset: int, filter: SearchFilter) -> list[SearchHit]:
        return self._list_newest(build_expression(filter), limit, offset)

    def _list_newest(self, expression: str, limit: int, offset: int) -> list[SearchHit]:
        image_ids = list_ids(self._server, expression, _NEWEST_FIRST, limit, offset)
        return [SearchHit(load_record(document)) for document in self._read_records(image_ids) if document is not None]

    def count_images(self, filter: SearchFilter = EVERYTHING) -> int:
        return count(self._server, build_expression(filter))

    def count_values(self, field: CountedField, filter: SearchFilter = EVERYTHING) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for value, number in count_values(self._server, build_expression(filter), field):
            for name in json.loads(value) if field == "keyword" else [value.decode()]:
                counts[name] += number
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    # --- one image --------------------------------------------------------------------------------------------------

    def get_images(self, image_ids: Sequence[int]) -> list[ImageRecord]:
        records = []
        for image_id, document in zip(image_ids, self._read_records(image_ids), strict=True):
            if document is None:
                raise image_not_found(image_id)
            records.append(load_record(document))
        return records

    def _read_records(self, image_ids: Sequence[int]) -> list[bytes | None]:
        if not image_ids:
            return []
        with self._server.client() as client, client.pipeline(transaction=False) as pipeline:
            for image_id in image_ids:
                pipeline.hget(self._server.make_image_key(image_id), "record")
            documents: list[bytes | None] = pipeline.execute()
        return documents

    def _read_field(self, image_id: int, field: str) -> bytes | None:
        with self._server.client() as client:
            value: bytes | None = client.hget(self._server.make_image_key(image_id), field)
        return value

    def read_original(self, image_id: int) -> bytes:
        return self.originals.read(self.get_image(image_id).content_sha256)

    def read_preview(self, image_id: int) -> bytes:
        preview = self._read_field(image_id, "preview")
        if preview is None:
            raise image_not_found(image_id)
        return preview

    def get_embedding(self, image_id: int, model_id: int) -> Embeddings:
        embedding = self._read_field(image_id, make_vector_field(model_id))
        if embedding is None or model_id not in {model.model_id for model in self.list_models()}:
            raise embedding_not_found(image_id, model_id)
        return np.frombuffer(embedding, np.float32).copy()

    def find_by_file_name(self, file_name: str) -> list[int]:
        return list_ids(self._server, match_file_name(file_name), _OLDEST_FIRST, ALL)

    # --- the store as a whole -----------------------------------------------------------------------------------------

    def sample_embeddings(self, model_id: int, size: int) -> Embeddings:
        dimension = self._get_dimension(model_id)
        expression = build_expression(EVERYTHING, model_id=model_id)
        image_ids = list_ids(self._server, expression, ("@shuffle", "ASC", "@image_id", "ASC"), size)
        embeddings = [self._read_field(image_id, make_vector_field(model_id)) for image_id in image_ids]
        rows = [np.frombuffer(embedding, np.float32) for embedding in embeddings if embedding is not None]
        return np.array(rows, np.float32).reshape(len(rows), dimension)

    def get_status(self) -> StoreStatus:
        models = self.list_models()
        with self._server.client() as client:
            version = client.info("server")["redis_version"]
        return StoreStatus(
            engine=f"Redis {version}",
            location=self._server.location,
            image_count=self.count_images(),
            models=tuple(
                (model, count(self._server, build_expression(EVERYTHING, model_id=model.model_id))) for model in models
            ),
            details={"originals": str(self.originals)},
        )

    def close(self) -> None:
        self._server.close()
