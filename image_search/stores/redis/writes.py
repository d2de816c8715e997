"""Changes of hashes and of the list of models: each one MULTI/EXEC, done again if somebody else was quicker."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from image_search.records import EmbeddingModel, ImageRecord
from image_search.stores.base import Embeddings, image_not_found
from image_search.stores.documents import (
    dump_models,
    dump_record,
    list_searchable,
    load_models,
    load_modified_ns,
    load_record,
)
from image_search.stores.redis.client import Connection, make_vector_field

# Images as Redis hashes.
#
# A hash holds the whole record as one JSON document, the preview, an embedding for each model, and beside them what the
# index reads: exact values as tags, times and sizes as numbers, words as tokens.


class Values(NamedTuple):
    """What is read of an image before it is changed."""

    record: bytes
    models: frozenset[int]  # those it has an embedding of


Found = Mapping[int, Values]  # by image_id
NO_VALUES = Values(b"", frozenset())


def make_fields(record: ImageRecord, modified_ns: int | None) -> Mapping[str, object]:
    """The fields that follow from a record; None: the hash has no such field."""
    text, searchable = record.text, list_searchable(record)
    return {
        **searchable,
        "tags": ",".join(searchable["tags"]),
        "record": dump_record(record, modified_ns),
        "file_type": record.file_type,
        "generator": text.generator,
        "generation_model": text.generation_model,
        "keywords": json.dumps(text.keywords, ensure_ascii=False) if text.keywords else None,
    }


def change_models(connection: Connection, change: Callable[[list[EmbeddingModel]], list[EmbeddingModel]]) -> None:
    """Replace the list of models by what change makes of it."""
    key = connection.make_key("models")

    def transact(pipeline: Any) -> None:
        models = change(load_models(pipeline.get(key)))
        pipeline.multi()
        pipeline.set(key, dump_models(models))

    with connection.client() as client:
        client.transaction(transact, key)


def change_images(
    connection: Connection,
    image_ids: Sequence[int],
    change: Callable[[Any, Found], None],
    ensure_locked: Callable[[Any], None] | None = None,
) -> None:
    """Change these images, as far as they exist. hold: what checks that the lock is still held (Connection.writing).

    change is given the pipeline to fill and what the images are now; it is called again if one changes meanwhile.
    """
    keys = [connection.make_image_key(image_id) for image_id in image_ids]
    with connection.client() as client:

        def transact(pipeline: Any) -> None:
            if ensure_locked is not None:
                ensure_locked(pipeline)
            with client.pipeline(transaction=False) as reader:  # all at once, while the pipeline watches
                for key in keys:
                    reader.hmget(key, "record", "models")
                values = reader.execute() if keys else []
            found = {
                image_id: Values(record, frozenset(map(int, filter(None, models.split(b",")))))
                for image_id, (record, models) in zip(image_ids, values, strict=True)
                if record is not None
            }
            pipeline.multi()
            change(pipeline, found)

        client.transaction(transact, *keys)


def change_record(
    connection: Connection,
    image_id: int,
    change: Callable[[ImageRecord, int | None], tuple[ImageRecord, int | None]],
) -> bool:
    """Replace a record and the modification time of its file. Returns whether they changed. Raises ImageNotFound."""
    changed = False

    def put(pipeline: Any, found: Found) -> None:
        nonlocal changed
        if image_id not in found:
            raise image_not_found(image_id)
        before = load_record(found[image_id].record), load_modified_ns(found[image_id].record)
        after = change(*before)
        changed = before != after
        if changed:
            put_fields(pipeline, connection.make_image_key(image_id), make_fields(*after))

    change_images(connection, [image_id], put)
    return changed


def put_fields(pipeline: Any, key: str, fields: Mapping[str, object]) -> None:
    """Set the fields of one hash; None: it has no such field."""
    absent = [name for name, value in fields.items() if value is None]
    if absent:
        pipeline.hdel(key, *absent)
    pipeline.hset(key, mapping={name: value for name, value in fields.items() if value is not None})


def put_embedding(pipeline: Any, key: str, values: Values, model_id: int, embedding: Embeddings) -> None:
    """Set the embedding of a model. values: what the image was before."""
    fields = {
        make_vector_field(model_id): np.ascontiguousarray(embedding, np.float32).tobytes(),
        "models": _join(values.models | {model_id}),
    }
    pipeline.hset(key, mapping=fields)


def drop_embedding(pipeline: Any, key: str, values: Values, model_id: int) -> None:
    """Take the embedding of a model away."""
    pipeline.hdel(key, make_vector_field(model_id))
    pipeline.hset(key, "models", _join(values.models - {model_id}))


def _join(model_ids: frozenset[int]) -> str:
    return ",".join(map(str, sorted(model_ids)))
