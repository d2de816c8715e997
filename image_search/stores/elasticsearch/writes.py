"""Images as documents of Elasticsearch, read and changed as they are now, whether searches see it yet or not.

Elasticsearch has no transactions: the changes of several images are one request, and each image is changed whole, on
the condition that it is still as it was read.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from elasticsearch import NotFoundError

from image_search.errors import StoreUnavailable
from image_search.records import DeletedImage, SearchFilter
from image_search.stores.base import CountedField, Embeddings
from image_search.stores.documents import (
    Document,
    add_model,
    drop_paths,
    dump_deleted,
    dump_document,
    dump_models,
    load_document,
    load_models,
)
from image_search.stores.elasticsearch.client import (
    Connection,
    State,
    build_query,
    describe_vector_field,
    explain_refusal,
)
from image_search.stores.reads import find_model, image_not_found
from image_search.stores.search_fields import (
    count_microseconds,
    get_sort_name,
    list_counted,
    list_keys,
    list_model_keys,
    list_numbers,
    list_texts,
    make_deleted_path_key,
)
from image_search.stores.text import tokenize_document

_CHUNK = 500
_MAX_ID = 2**63 - 1

Fields = dict[str, Any]


def _make_fields(document: Document) -> dict[str, Any]:
    """The fields that follow from a document, all but embeddings and preview."""
    record = document.record
    return {
        **list_numbers(record),
        "deleted_at": count_microseconds(record.deleted_at) if record.deleted_at else None,
        "content_sha256": document.sha256,
        "sort_name": get_sort_name(record),
        "paths": document.paths if document.is_live else [],
        "tags": list_keys(document),
        "words": tokenize_document(list_texts(record)),
        "record": dump_document(document),
        **{f"counted_{name}": values for name, values in list_counted(document).items()},
    }


def _make_embedding_fields(
    recipes: Mapping[int, int], embeddings: Mapping[int, Embeddings | None], fields: Mapping[int, str], is_live: bool
) -> dict[str, Any]:
    """The fields that follow from embeddings: in the trash no vector and no model, so that no search finds them.

    recipes: of all embeddings of the image, by model_id. embeddings: those to set; None: to take away. fields: the
    vector field of each model.
    """
    values: dict[str, Any] = {
        "models": list_model_keys(dict(recipes)) if is_live else [],
        "recipes": {str(model_id): recipes.get(model_id) for model_id in {*recipes, *embeddings}},
        "vectors": {
            str(model_id): None if embedding is None else _pack(np.ascontiguousarray(embedding, np.float32).tobytes())
            for model_id, embedding in embeddings.items()
        },
    }
    used = {fields[model_id] for model_id in recipes if model_id in fields}
    for model_id, embedding in embeddings.items():
        field = fields.get(model_id)
        if field is None:
            continue
        if is_live and embedding is not None:
            values[field] = np.asarray(embedding, np.float32).tolist()
        elif field not in used or not is_live:
            values[field] = None
    return values


def make_deleted_fields(deleted: DeletedImage) -> dict[str, Any]:
    """Record of a deleted image; paths as they are stored."""
    return {
        "content_sha256": deleted.content_sha256,
        "paths": [make_deleted_path_key(path) for path in deleted.paths],
        "deleted": dump_deleted(deleted),
    }


def _pack(data: bytes) -> str:
    """Bytes as text."""
    return base64.b64encode(data).decode()


def unpack(text: str) -> bytes:
    """The bytes _pack was given."""
    return base64.b64decode(text)


def unpack_embedding(text: str) -> Embeddings:
    """The embedding whose bytes _pack was given."""
    return np.frombuffer(unpack(text), np.float32).copy()


class Values(NamedTuple):
    """An image before it is changed. recipes: of its embeddings, by model_id."""

    document: Document
    recipes: dict[int, int]


class Changes:
    """Changes of several images: documents is edited in place, everything else follows from it."""

    def __init__(self, found: Mapping[int, Values]) -> None:
        self.found = found
        self.documents = {image_id: values.document for image_id, values in found.items()}
        self.recipes = {image_id: dict(values.recipes) for image_id, values in found.items()}
        self.previews: dict[int, bytes] = {}
        self.embeddings: dict[int, dict[int, Embeddings | None]] = {}

    def list_live(self) -> list[int]:
        """The image_ids of those that are not in the trash."""
        return [image_id for image_id, document in self.documents.items() if document.is_live]

    def put_embedding(self, image_id: int, model_id: int, embedding: Embeddings, recipe: int) -> None:
        """Add or replace an embedding."""
        self.recipes.setdefault(image_id, {})[model_id] = recipe
        self.embeddings.setdefault(image_id, {})[model_id] = embedding

    def drop_embedding(self, image_id: int, model_id: int) -> None:
        """Remove an embedding."""
        self.recipes[image_id].pop(model_id, None)
        self.embeddings.setdefault(image_id, {})[model_id] = None

    def list_moved(self) -> list[int]:
        """The image_ids of those that go to the trash or come back."""
        return [
            image_id
            for image_id, values in self.found.items()
            if values.document.is_live != self.documents[image_id].is_live
        ]

    def list_fields(self, fields: Mapping[int, str], kept: Mapping[int, Mapping[int, Embeddings]]) -> dict[int, Fields]:
        """The fields to set of each image that changes. kept: the embeddings of those that move."""
        changed: dict[int, Fields] = {}
        moved = self.list_moved()
        for image_id, document in self.documents.items():
            values: Fields = {}
            if image_id not in self.found or self.found[image_id].document != document:
                values |= _make_fields(document)
            if image_id in self.previews:
                values["preview"] = _pack(self.previews[image_id])
            embeddings = self.embeddings.get(image_id, {})
            if image_id in moved:
                embeddings = {**kept.get(image_id, {}), **embeddings}
            if embeddings or image_id in moved:
                values |= _make_embedding_fields(self.recipes.get(image_id, {}), embeddings, fields, document.is_live)
            if values:
                changed[image_id] = values
        return changed


def read_sources(connection: Connection, image_ids: Iterable[int], names: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """Those of these images that exist, live or in the trash, as the cluster gives them, with these fields."""
    ids = [str(image_id) for image_id in dict.fromkeys(image_ids) if 0 < image_id <= _MAX_ID]
    with connection.client() as client:
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            for found in client.mget(index=connection.index, ids=chunk, source_includes=names)["docs"]:
                if found["found"]:
                    yield int(found["_id"]), found


def read_documents(connection: Connection, image_ids: Iterable[int]) -> dict[int, Document]:
    """Those of these images that exist, live or in the trash."""
    sources = read_sources(connection, image_ids, ["record"])
    return {image_id: load_document(found["_source"]["record"]) for image_id, found in sources}


def read_embeddings(connection: Connection, image_ids: Iterable[int]) -> dict[int, dict[int, Embeddings]]:
    """All embeddings of these images, by image_id and model_id, live or in the trash."""
    return {
        image_id: {
            int(model_id): unpack_embedding(embedding)
            for model_id, embedding in (found["_source"].get("vectors") or {}).items()
            if embedding is not None
        }
        for image_id, found in read_sources(connection, image_ids, ["vectors"])
    }


def count_frames(connection: Connection, field: CountedField, filter: SearchFilter) -> Iterator[tuple[str, int]]:
    """For each film, the values of its frames and how many of them have each."""
    sources = [{name: {"terms": {"field": f"counted_{name}"}}} for name in ("film", field)]
    after: dict[str, Any] = {}
    while True:
        films = {"composite": {"size": _CHUNK, "sources": sources, **after}}
        answer = connection.ask(query=build_query(filter), size=0, aggregations={"films": films})
        buckets = answer["aggregations"]["films"]["buckets"]
        yield from ((bucket["key"][field], int(bucket["doc_count"])) for bucket in buckets)
        if len(buckets) < _CHUNK:
            return
        after = {"after": buckets[-1]["key"]}


def change_images(
    connection: Connection,
    image_ids: Iterable[int],
    change: Callable[[Changes], None],
    ensure_locked: Callable[[], None] = lambda: None,
) -> None:
    """Change images, as far as they exist; new ones are those that change adds.

    change: edits what is there; called again, with what became of all of them, if another program changed one
    meanwhile. Images that lose something are written before those that gain it.
    """
    ids = list(dict.fromkeys(image_ids))
    while True:
        sources = dict(read_sources(connection, ids, ["record", "recipes"]))
        found = {image_id: _read_values(one["_source"]) for image_id, one in sources.items()}
        with connection.client() as client:
            connection.has_old_words(client)  # refuses what a newer program has indexed; after the images were read
        changes = Changes(found)
        change(changes)
        moved = changes.list_moved()
        kept = read_embeddings(connection, moved) if moved else {}
        state = connection.read_state()
        fields = changes.list_fields({int(model_id): field for model_id, field in state["fields"].items()}, kept)
        operations: list[Fields] = []
        for image_id in sorted(fields, key=lambda image_id: _gains_path(changes, image_id)):
            if image_id in sources:
                version = {f"if{name}": sources[image_id][name] for name in ("_seq_no", "_primary_term")}
                operations += [{"update": {"_id": str(image_id), **version}}, {"doc": fields[image_id]}]
            else:
                # Its id is unique, so that a repeated request writes the same document again.
                operations += [{"index": {"_id": str(image_id)}}, fields[image_id]]
        if not operations:
            return
        ensure_locked()
        results = connection.write(operations)
        refused = [result for result in results if "error" in result and result["status"] not in (404, 409)]
        if refused:
            new = fields.keys() - sources.keys()
            if new:  # none of the batch stays
                connection.write([{"delete": {"_id": str(image_id)}} for image_id in new])
            check_results(connection, refused)
        if all(result["status"] != 409 for result in results):
            return


def change_document(
    connection: Connection, image_id: int, change: Callable[[Document], Document], or_trashed: bool = False
) -> bool:
    """Replace the document of a live image. Returns whether anything changed.

    Raises ImageNotFound, without or_trashed also for one in the trash.
    """
    changed = change_documents(connection, [image_id], change, or_trashed)
    if image_id not in changed:
        raise image_not_found(image_id)
    return changed[image_id]


def change_documents(
    connection: Connection, image_ids: Iterable[int], change: Callable[[Document], Document], or_trashed: bool = False
) -> dict[int, bool]:
    """Replace the documents of those of these images that are live, in one request. Returns whether each changed.

    or_trashed: of those in the trash, too.
    """
    changed: dict[int, bool] = {}

    def put(changes: Changes) -> None:
        nonlocal changed
        before = dict(changes.documents)
        ids = list(before) if or_trashed else changes.list_live()
        changes.documents |= {image_id: change(before[image_id]) for image_id in ids}
        changed = {
            image_id: changed.get(image_id, False) or changes.documents[image_id] != before[image_id]
            for image_id in ids
        }

    change_images(connection, image_ids, put)
    return changed


def check_results(connection: Connection, results: Iterable[dict[str, Any]]) -> None:
    """Raise the first refusal among the results of the operations of one request."""
    for result in results:
        if "error" in result:
            raise explain_refusal(result["status"], str(result["error"].get("reason")), connection.location)


def _read_values(source: Fields) -> Values:
    recipes = {
        int(model_id): recipe for model_id, recipe in (source.get("recipes") or {}).items() if recipe is not None
    }
    return Values(load_document(source["record"]), recipes)


def _gains_path(changes: Changes, image_id: int) -> bool:
    before = changes.found.get(image_id)
    return before is None or bool(set(changes.documents[image_id].paths) - set(before.document.paths))


# Models.


def count_up(state: State, counter: str, number: int) -> int:
    """Raise a counter of the library. Returns the new value."""
    state[counter] += number
    return int(state[counter])


def _choose_vector_field(dimension: int, taken: Sequence[str]) -> str:
    """One field for each dimension, and one more only while several models of a dimension are there at once.

    An index may have 1,000 fields and never loses one.
    """
    number = 1
    while (field := f"vector_{dimension}" + (f"_{number}" if number > 1 else "")) in taken:
        number += 1
    return field


def choose_field(state: State, dimension: int) -> str:
    """A vector field for one more model: none that a model which is there uses."""
    models = load_models(state["models"])
    return _choose_vector_field(dimension, [state["fields"][str(model.model_id)] for model in models])


def put_model(field: str, name: str, version: str, dimension: int, state: State) -> bool:
    """Add a model with this field; False when another program took the field meanwhile."""
    models = load_models(state["models"])
    if find_model(models, name, version) is None:
        if choose_field(state, dimension) != field:
            return False
        model_id = count_up(state, "last_model_id", 1)
        state["models"] = dump_models(add_model(models, model_id, name, version, dimension))
        state["fields"][str(model_id)] = field
    return True


# Carries a library of schema 1 over into indexes of its own, image by image.
#
# Every step can be done again. The version is written last and the old index removed after it (Connection).


_MIGRATED = 100


def migrate(connection: Connection, client: Any, state: State, keep_lock: Callable[[], None]) -> None:
    """Write every image of schema 1 as schema 2 has it, and the vector fields into the state."""
    fields: dict[int, str] = {}
    for model in load_models(state["models"]):
        fields[model.model_id] = _choose_vector_field(model.dimension, list(fields.values()))
        properties = {fields[model.model_id]: describe_vector_field(model.dimension)}
        client.indices.put_mapping(index=connection.index, properties=properties)
    state["fields"] = {str(model_id): field for model_id, field in fields.items()}
    taken: set[str] = set()
    after: dict[str, Any] = {}
    while True:
        # From the latest image on: a path that several images had is that of the latest one.
        sort = [{"image_id": "desc"}]
        try:
            answer = client.search(index=connection.name, query={"match_all": {}}, sort=sort, size=_MIGRATED, **after)
        except NotFoundError:  # nothing was ever kept in it
            return
        hits = answer["hits"]["hits"]
        if not hits:
            return
        operations: list[dict[str, Any]] = []
        for hit in hits:
            source = hit["_source"]
            document = load_document(source["record"])
            document = drop_paths(document, [path for path in document.paths if path in taken])
            taken.update(document.paths)
            embeddings = {
                int(model_id): unpack_embedding(embedding)
                for model_id, embedding in (source.get("vectors") or {}).items()
                if embedding is not None and int(model_id) in fields
            }
            recipes = dict.fromkeys(embeddings, 1)
            values = _make_fields(document) | _make_embedding_fields(recipes, embeddings, fields, is_live=True)
            operations += [
                {"index": {"_id": str(document.image_id)}},
                {**values, "preview": source["preview"]},
            ]
        answer = client.bulk(index=connection.index, operations=operations, refresh=True)
        for item in answer["items"]:
            for result in item.values():
                if "error" in result:
                    raise explain_refusal(result["status"], str(result["error"].get("reason")), connection.location)
        keep_lock()
        after = {"search_after": hits[-1]["sort"]}


def renew_words(connection: Connection, client: Any, _: State, keep_lock: Callable[[], None]) -> None:
    """Write the tokens of every image again, some at a time; one that changes meanwhile is read again."""
    after: dict[str, Any] = {}
    while True:
        sort = [{"image_id": "asc"}]
        answer = client.search(
            index=connection.index, query={"match_all": {}}, sort=sort, size=_MIGRATED, source=False, **after
        )
        if answer["timed_out"] or answer["_shards"]["failed"]:
            raise StoreUnavailable(f"{connection.location} answered in part only. Check the state of the cluster.")
        hits = answer["hits"]["hits"]
        if not hits:
            return
        ids = [hit["_id"] for hit in hits]
        while ids:
            ids = _renew_words(connection, client, ids)
        keep_lock()
        after = {"search_after": hits[-1]["sort"]}


def _renew_words(connection: Connection, client: Any, ids: Sequence[str]) -> list[str]:
    """Returns the ids of images that another program changed meanwhile."""
    operations: list[dict[str, Any]] = []
    for found in client.mget(index=connection.index, ids=ids, source_includes=["record"])["docs"]:
        if found["found"]:
            texts = list_texts(load_document(found["_source"]["record"]).record)
            version = {f"if{name}": found[name] for name in ("_seq_no", "_primary_term")}
            operations += [{"update": {"_id": found["_id"], **version}}, {"doc": {"words": tokenize_document(texts)}}]
    if not operations:
        return []
    results = [
        item["update"] for item in client.bulk(index=connection.index, operations=operations, refresh=True)["items"]
    ]
    check_results(connection, [result for result in results if result["status"] not in (404, 409)])
    return [result["_id"] for result in results if result["status"] == 409]
