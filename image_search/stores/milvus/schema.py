"""The collections of a library in Milvus, and the one row that says what of them counts.

image_search_records: a row for each image, live or in the trash, with everything but its original and preview.
image_search_vectors_N: a row for each embedding of model N of a live image, with the fields that filters ask for.
image_search_entries: a row for each setting and for each deleted image that is remembered.
image_search_state: one row. A row is written at once or not at all, so it takes the place of transactions.
image_search_writers: a row for each program that writes or waits to write (client.py).

Schema 1 had the images in image_search_images and their embeddings in image_search_embeddings_N.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from pymilvus import DataType

from image_search.records import EmbeddingModel
from image_search.stores.reads import SCHEMA_VERSION, newer_schema

_log = logging.getLogger(__name__)

IMAGES = "image_search_records"
ENTRIES = "image_search_entries"
STATE = "image_search_state"
OLD_IMAGES = "image_search_images"

MAX_BYTES = 65_535  # of a text field
MAX_MARKS = 4096  # of an array field

_NAME = 512  # bytes of the name of an entry
_MARK = 32
_NOTHING = [0.0, 0.0]  # every collection must have an embedding
_NUMBERS = ("taken_at", "upload_date", "pixels", "rating")

# Fields that filters and terms compare, in the images and with the embeddings.
FILTER_FIELDS = (*_NUMBERS, "marks", "words", "words_cut")


@dataclass(frozen=True)
class LibraryState:
    """Counters of the library, and changes that were begun and must be finished."""

    last_image_id: int = 0  # images with higher ids are not there yet: their batch is being written, or never was
    last_model_id: int = 0
    models: tuple[EmbeddingModel, ...] = ()
    has_cut_words: bool = False  # whether some image has more words than a field holds
    removed: tuple[int, ...] = ()  # removed images, of which rows may be left
    changed: tuple[int, ...] = ()  # images whose copies beside the embeddings may still be those of before
    hidden: tuple[int, ...] = ()  # those of them that no search finds meanwhile
    dropped: tuple[int, ...] = ()  # removed models, whose collection may be left

    @property
    def is_unfinished(self) -> bool:
        return bool(self.removed or self.changed or self.dropped)


def name_embeddings(model_id: int) -> str:
    """The collection of the embeddings of a model."""
    return f"image_search_vectors_{model_id}"


def name_old_embeddings(model_id: int) -> str:
    """The same of schema 1."""
    return f"image_search_embeddings_{model_id}"


def prepare_library(client: Any, is_lite: bool, location: str, migrate: Callable[[Any], None]) -> None:
    """Make the collections of a new library, or check those that are there. Only one program may do it at once.

    migrate: copies the images of schema 1 into the collections, which are new and empty.
    Raises SchemaError when they are of a newer version of this program.
    """
    if client.has_collection(STATE):
        client.load_collection(STATE)
    else:
        _make_state(client, is_lite)
    content = _read_content(client)
    version = SCHEMA_VERSION if content is None else content.get("schema_version", 0)
    if version > SCHEMA_VERSION:
        raise newer_schema(location, version)
    if version < SCHEMA_VERSION:
        _remake_collections(client, is_lite)
        migrate(client)
        write_state(client, read_state(client))  # the last step
        for name in (OLD_IMAGES, *(name_old_embeddings(model.model_id) for model in read_state(client).models)):
            client.drop_collection(name)
        _log.warning("%s: migrated the library to schema %s.", location, SCHEMA_VERSION)
    for name, make in ((IMAGES, _make_images), (ENTRIES, _make_entries)):
        if client.has_collection(name):
            client.load_collection(name)
        else:
            make(client, is_lite)
    if content is None:  # the last step of making a library
        write_state(client, LibraryState())
    for model in read_state(client).models:
        client.load_collection(name_embeddings(model.model_id))


def _remake_collections(client: Any, is_lite: bool) -> None:
    for name in (IMAGES, ENTRIES):
        if client.has_collection(name):  # of a migration that was interrupted
            client.drop_collection(name)
    _make_images(client, is_lite)
    _make_entries(client, is_lite)
    for model in read_state(client).models:
        make_embeddings_collection(client, model.model_id, model.dimension, is_lite)


def read_state(client: Any) -> LibraryState:
    """The state of the library as the last writer left it."""
    content = _read_content(client) or {}
    content.pop("schema_version", None)
    state = LibraryState(**content)
    return replace(
        state,
        models=tuple(EmbeddingModel(**model) for model in content.get("models", ())),
        removed=tuple(state.removed),
        changed=tuple(state.changed),
        hidden=tuple(state.hidden),
        dropped=tuple(state.dropped),
    )


def write_state(client: Any, state: LibraryState) -> None:
    """Make this the state of the library."""
    content = json.dumps({"schema_version": SCHEMA_VERSION, **asdict(state)}, ensure_ascii=False)
    client.upsert(STATE, [{"name": "state", "content": content, "nothing": _NOTHING}])


def make_embeddings_collection(client: Any, model_id: int, dimension: int, is_lite: bool) -> None:
    """An empty collection for the embeddings of a model, in place of what a crash left."""
    name = name_embeddings(model_id)
    if client.has_collection(name):
        client.drop_collection(name)
    schema = client.create_schema()
    schema.add_field("image_id", DataType.INT64, is_primary=True)
    schema.add_field("recipe", DataType.INT64)
    _add_filter_fields(schema)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=dimension)
    _make_collection(client, name, schema, "embedding", ("marks", "upload_date"), is_lite)


def _make_images(client: Any, is_lite: bool) -> None:
    schema = _make_schema(client, [("image_id", DataType.INT64, {"is_primary": True})])
    schema.add_field("content_sha256", DataType.VARCHAR, max_length=64)
    for name in ("taken_order", "deleted_at", "recipe", "shuffle"):
        schema.add_field(name, DataType.INT64)
    schema.add_field("sort_name", DataType.VARCHAR, max_length=2048)
    _add_filter_fields(schema)
    schema.add_field("document", DataType.VARCHAR, max_length=MAX_BYTES)
    _make_collection(client, IMAGES, schema, "nothing", ("content_sha256", "marks", "upload_date"), is_lite)


def _make_entries(client: Any, is_lite: bool) -> None:
    schema = _make_schema(client, [("name", DataType.VARCHAR, {"max_length": _NAME, "is_primary": True})])
    schema.add_field("kind", DataType.VARCHAR, max_length=16)
    _add_marks(schema)
    schema.add_field("content", DataType.VARCHAR, max_length=MAX_BYTES)
    _make_collection(client, ENTRIES, schema, "nothing", ("kind", "marks"), is_lite)


def _make_state(client: Any, is_lite: bool) -> None:
    schema = _make_schema(client, [("name", DataType.VARCHAR, {"max_length": 64, "is_primary": True})])
    schema.add_field("content", DataType.VARCHAR, max_length=MAX_BYTES)
    _make_collection(client, STATE, schema, "nothing", (), is_lite)


def _make_schema(client: Any, fields: list[tuple[str, DataType, dict[str, Any]]]) -> Any:
    schema = client.create_schema()
    for name, kind, options in fields:
        schema.add_field(name, kind, **options)
    schema.add_field("nothing", DataType.FLOAT_VECTOR, dim=len(_NOTHING))
    return schema


def _add_filter_fields(schema: Any) -> None:
    for name in _NUMBERS:
        schema.add_field(name, DataType.INT64)
    _add_marks(schema)
    schema.add_field("words", DataType.VARCHAR, max_length=MAX_BYTES)
    schema.add_field("words_cut", DataType.BOOL)


def _add_marks(schema: Any) -> None:
    schema.add_field("marks", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=MAX_MARKS, max_length=_MARK)


def _make_collection(
    client: Any, name: str, schema: Any, vector: str, looked_up: tuple[str, ...], is_lite: bool
) -> None:
    indexes = client.prepare_index_params()
    indexes.add_index(vector, index_type="FLAT", metric_type="IP")
    for field in () if is_lite else looked_up:  # Milvus Lite cannot, and reads all rows
        indexes.add_index(field, index_type="INVERTED")
    # Strong: what was added is found by the next search of any client. One shard: a batch is visible at once.
    client.create_collection(name, schema=schema, consistency_level="Strong", num_shards=1)
    client.create_index(name, indexes, sync=False)  # nothing is in it yet that could be waited for
    client.load_collection(name)


def _read_content(client: Any) -> dict[str, Any] | None:
    rows = client.query(STATE, filter='name == "state"', output_fields=["content"])
    return json.loads(rows[0]["content"]) if rows else None
