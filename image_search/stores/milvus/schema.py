"""The collections of a library in Milvus, their rows, and the expressions that choose among them.

image_search_records: a row for each image, live or in the trash, with everything but its original and preview.
image_search_vectors_N: a row for each embedding of model N of a live image, with the fields that filters ask for.
image_search_entries: a row for each setting and for each deleted image that is remembered.
image_search_state: one row, which says what of the others counts. A row is written at once or not at all, so it takes
the place of transactions.
image_search_writers: a row for each program that writes or waits to write (client.py).

Values that no filter compares are in one text of a row, the document. One too long for a field is kept beside the
originals, under the SHA-256 of what it holds; the document names the image, so no two images share one.

Schema 1 had the images in image_search_images and their embeddings in image_search_embeddings_N.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from pymilvus import DataType

from image_search.errors import StoreError
from image_search.originals import Originals
from image_search.records import EmbeddingModel, ImageRecord, NewImage, SearchFilter
from image_search.stores.base import Embeddings
from image_search.stores.documents import (
    NEVER,
    Document,
    count_microseconds,
    drop_paths,
    dump_document,
    exact_key,
    list_filter_keys,
    list_filter_ranges,
    list_keys,
    list_numbers,
    load_document,
)
from image_search.stores.reads import SCHEMA_VERSION, newer_schema
from image_search.stores.text import get_folder, list_searchable, make_sort_name, sanitize
from image_search.stores.tokens import make_index_tokens, make_query_tokens

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


def prepare_library(client: Any, is_lite: bool, location: str, originals: Originals) -> None:
    """Make the collections of a new library, or check those that are there. Only one program may do it at once.

    originals: where documents are that are too long for a field.
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
        _migrate(client, originals)
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
    for name_of_field in () if is_lite else looked_up:  # Milvus Lite cannot, and reads all rows
        indexes.add_index(name_of_field, index_type="INVERTED")
    # Strong: what was added is found by the next search of any client. One shard: a batch is visible at once.
    client.create_collection(name, schema=schema, consistency_level="Strong", num_shards=1)
    client.create_index(name, indexes, sync=False)  # nothing is in it yet that could be waited for
    client.load_collection(name)


def _read_content(client: Any) -> dict[str, Any] | None:
    rows = client.query(STATE, filter='name == "state"', output_fields=["content"])
    return json.loads(rows[0]["content"]) if rows else None


# Expressions.
#
# Texts of people never get into an expression: equal texts are found by a digest of theirs, and words by the tokens of
# stores/tokens.py, which have no character that means anything in an expression or to LIKE. Expression templates would
# do for servers, but Milvus Lite does not know them.

_MAX_NUMBER = 2**62


def make_words(record: ImageRecord) -> str:
    """The tokens of an image in their order, each between blanks."""
    return f" {make_index_tokens(list_searchable(record))} "


def tokenize_query(word: str) -> str | None:
    """The piece of make_words that is there where this word occurs; None when a word is found nowhere."""
    tokens, is_prefix = make_query_tokens(sanitize(word))
    return " " + " ".join(tokens) + ("" if is_prefix else " ") if tokens else None


def match_ids(image_ids: Iterable[int], operator: str = "in") -> str:
    """The condition that an image is one of these, or is none of these (operator "not in")."""
    return f"image_id {operator} [{', '.join(str(int(image_id)) for image_id in image_ids)}]"


def match_any(field: str, keys: Iterable[str]) -> str:
    """The condition that a field has one of these keys."""
    return f"{field} in [{', '.join(_quote(key) for key in keys)}]"


def match_marks(marks: Sequence[str]) -> str:
    """The condition that an image has one of these marks."""
    if len(marks) == 1:
        return f"array_contains(marks, {_quote(marks[0])})"
    return f"array_contains_any(marks, [{', '.join(map(_quote, marks))}])"


def match_phrase(phrase: str | None, besides: Sequence[int] = ()) -> str:
    """The condition that a phrase occurs; besides: images in whose words it occurs where no field holds them."""
    if phrase is None:
        return "image_id < 0"
    condition = f"words like {_quote(f'%{phrase}%')}"
    return f"({condition} or {match_ids(besides)})" if besides else condition


def list_conditions(filter: SearchFilter) -> Iterator[str]:
    """A condition for every field that is set, except words."""
    for is_wanted, keys in list_filter_keys(filter):
        yield match_marks(keys) if is_wanted else f"not {match_marks(keys)}"
    for name, low, high in list_filter_ranges(filter):
        if low is not None:
            yield f"{name} >= {min(int(low), _MAX_NUMBER)}"
        if high is not None:
            yield f"{name} < {int(high)} and {name} > {NEVER}"


def _quote(text: str) -> str:
    # Reached only by digests and tokens; the last defence should either ever change.
    if any(character in text for character in '"\\\r\n'):
        raise ValueError(f"{text!r} is no part of an expression")
    return f'"{text}"'


# Rows.

_SHORT = 1000  # characters; compressing less saves nothing
_FILE, _PACKED = "file:", "zlib:"

Row = dict[str, Any]


@dataclass(frozen=True)
class Stored:
    """An image as it is stored.

    preview: the name of its file. parked: embeddings and their recipes by model_id, of an image in the trash. A live
    image has some only while it comes back, or gets new content: then they are all its embeddings.
    """

    document: Document
    preview: str
    parked: Mapping[int, tuple[Embeddings, int]] = field(default_factory=dict)

    @property
    def record(self) -> ImageRecord:
        return self.document.record

    def change(self, document: Document) -> Stored:
        return replace(self, document=document)


def name_preview(content_sha256: str) -> str:
    """The name of an image's preview among the originals: its own, for images that look alike share none."""
    return hashlib.sha256(f"preview of {content_sha256}".encode()).hexdigest()


def name_new_preview(content_sha256: str, preview: bytes) -> str:
    """The name of a preview that replaces another."""
    return name_preview(f"{content_sha256} {hashlib.sha256(preview).hexdigest()}")


def check_image(image: NewImage) -> None:
    """Raise StoreError for an image without a preview."""
    if not isinstance(image.preview, bytes):
        raise StoreError(f"{image.file_name} came without its preview. Nothing of its batch was kept.")


def make_row(stored: Stored) -> tuple[Row, dict[str, bytes]]:
    """The row of an image, and the file that holds its document where the row cannot."""
    document, record = stored.document, stored.record
    words, is_cut = _fit_words(make_words(record) if document.is_live else " ")
    text, files = fit_text(_dump(stored))
    numbers = list_numbers(record)
    folders = [exact_key("b", get_folder(path)) for path in document.paths] if document.is_live else []
    row: Row = {
        **numbers,
        "taken_at": numbers["taken_order"],
        "rating": -1 if record.rating is None else record.rating,
        "deleted_at": NEVER if record.deleted_at is None else count_microseconds(record.deleted_at),
        "content_sha256": document.sha256,
        "sort_name": make_sort_name(record.file_name),
        "marks": list(dict.fromkeys([*folders, *list_keys(document)]))[:MAX_MARKS],
        "words": words,
        "words_cut": is_cut,
        "document": text,
        "nothing": _NOTHING,
    }
    return row, files


def copy_filter_fields(row: Mapping[str, Any]) -> Row:
    """The part of an image's row that is also stored with each of its embeddings."""
    return {"image_id": row["image_id"], **{name: row[name] for name in FILTER_FIELDS}}


def read_row(row: Mapping[str, Any], originals: Originals) -> Stored:
    """The image of a row with its document."""
    values = json.loads(read_text(row["document"], originals))
    if "document" not in values:  # of schema 1
        return _read_old_row(int(row["image_id"]), values)
    parked = {
        int(model_id): (np.frombuffer(base64.b64decode(packed), np.float32).copy(), recipe)
        for model_id, (packed, recipe) in values.get("parked", {}).items()
    }
    return Stored(load_document(values["document"]), values["preview"], parked)


def _read_old_row(image_id: int, values: dict[str, Any]) -> Stored:
    names = ("details", "generation_prompt", "description", "generator", "generation_model")
    text = [*(values.pop(name) for name in names), _write_moment(values.pop("taken_at"))]
    moment = _write_moment(values.pop("upload_date"))
    document = load_document(json.dumps({**values, "image_id": image_id, "upload_date": moment, "text": text}))
    return Stored(document, name_preview(document.sha256))


def _write_moment(microseconds: int | None) -> str | None:
    return None if microseconds is None else str(np.datetime64(microseconds, "us"))


def list_files(row: Mapping[str, Any], originals: Originals) -> list[str]:
    """The names of the files an image has among the originals. The row needs content_sha256 and document."""
    return [row["content_sha256"], read_row(row, originals).preview, *list_text_files(row["document"])]


def list_text_files(text: str) -> list[str]:
    """The name of the file fit_text made of a text, if it did."""
    return [text.removeprefix(_FILE)] if text.startswith(_FILE) else []


def _dump(stored: Stored) -> str:
    values: dict[str, Any] = {"document": dump_document(stored.document), "preview": stored.preview}
    if stored.parked:
        values["parked"] = {
            str(model_id): [base64.b64encode(np.asarray(embedding, np.float32).tobytes()).decode(), recipe]
            for model_id, (embedding, recipe) in stored.parked.items()
        }
    return json.dumps(values, ensure_ascii=False)


def fit_text(text: str) -> tuple[str, dict[str, bytes]]:
    """A text as a field holds it, and the file that holds it where the field cannot."""
    if len(text) <= _SHORT:
        return text, {}
    packed = zlib.compress(text.encode())
    short = _PACKED + base64.b64encode(packed).decode()
    if len(short) <= MAX_BYTES:
        return short, {}
    name = hashlib.sha256(packed).hexdigest()
    return _FILE + name, {name: packed}


def read_text(text: str, originals: Originals) -> str:
    """The text fit_text was given."""
    if text.startswith(_FILE):
        return zlib.decompress(originals.read(text.removeprefix(_FILE))).decode()
    if text.startswith(_PACKED):
        return zlib.decompress(base64.b64decode(text.removeprefix(_PACKED))).decode()
    return text


def _fit_words(words: str) -> tuple[str, bool]:
    encoded = words.encode()
    if len(encoded) <= MAX_BYTES:
        return words, False
    end = encoded.rindex(b" ", 0, MAX_BYTES) if b" " in encoded[1:MAX_BYTES] else 0
    return encoded[: end + 1].decode(), True


# Copies the images of schema 1 into the collections of schema 2, which are new and empty.


_MIGRATED = 200


def _migrate(client: Any, originals: Originals) -> None:
    """Copy every image and its embeddings; rows of images that do not count are left behind."""
    state = read_state(client)
    for name in (OLD_IMAGES, *(name_old_embeddings(model.model_id) for model in state.models)):
        client.load_collection(name)
    taken: set[str] = set()
    # From the latest image on: a path that several images had is that of the latest one.
    for end in range(state.last_image_id, 0, -_MIGRATED):
        condition = f"image_id > {end - _MIGRATED} and image_id <= {end}"
        if state.removed:
            condition += f" and {match_ids(state.removed, 'not in')}"
        found = client.query(OLD_IMAGES, filter=condition, output_fields=["image_id", "document"])
        rows: dict[int, Row] = {}
        for old in sorted(found, key=lambda row: -int(row["image_id"])):
            stored = read_row(old, originals)
            paths = [path for path in stored.document.paths if path in taken]
            taken.update(stored.document.paths)
            row, files = make_row(stored.change(drop_paths(stored.document, paths)))
            originals.write(files)
            rows[int(row["image_id"])] = row
        if rows:
            client.upsert(IMAGES, list(rows.values()))
        for model in state.models:
            _copy_embeddings(client, model.model_id, rows)


def _copy_embeddings(client: Any, model_id: int, rows: dict[int, Row]) -> None:
    if not rows:
        return
    fields = ["image_id", "embedding"]
    found = client.query(name_old_embeddings(model_id), filter=match_ids(rows), output_fields=fields)
    copies = [
        copy_filter_fields(rows[int(old["image_id"])])
        | {"embedding": np.array(old["embedding"], np.float32), "recipe": 1}
        for old in found
    ]
    if copies:
        client.upsert(name_embeddings(model_id), copies)
