"""Images as documents of Elasticsearch, read and changed as they are now, whether searches see it yet or not.

Elasticsearch has no transactions: the changes of several images are one request, and each image is changed whole, on
the condition that it is still as it was read.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from elasticsearch import NotFoundError

from image_search.errors import StoreUnavailable
from image_search.records import DeletedImage, SearchFilter
from image_search.stores.base import CountedField, Embeddings
from image_search.stores.document_store import Changes, Values, add_model, dump_models, load_models
from image_search.stores.documents import (
    Document,
    count_microseconds,
    drop_paths,
    dump_deleted,
    dump_document,
    join_deleted,
    list_counted,
    list_keys,
    list_model_keys,
    list_numbers,
    load_deleted,
    load_document,
    make_deleted_path_key,
)
from image_search.stores.elasticsearch.client import (
    Connection,
    Query,
    State,
    build_query,
    describe_vector_field,
    explain_refusal,
)
from image_search.stores.reads import find_model
from image_search.stores.text import list_searchable, make_sort_name
from image_search.stores.tokens import tokenize_document

_CHUNK = 500
_MAX_BUCKETS = 1000
_MAX_ID = 2**63 - 1

Fields = dict[str, Any]


def _make_fields(document: Document) -> dict[str, Any]:
    """The fields that follow from a document, all but embeddings and preview."""
    record = document.record
    return {
        **list_numbers(record),
        "deleted_at": count_microseconds(record.deleted_at) if record.deleted_at else None,
        "content_sha256": document.sha256,
        "sort_name": make_sort_name(record.file_name),
        "paths": document.paths if document.is_live else [],
        "tags": list_keys(document),
        "words": tokenize_document(list_searchable(record)),
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


def _pack(data: bytes) -> str:
    """Bytes as text."""
    return base64.b64encode(data).decode()


def unpack(text: str) -> bytes:
    """The bytes _pack was given."""
    return base64.b64decode(text)


def unpack_embedding(text: str) -> Embeddings:
    """The embedding whose bytes _pack was given."""
    return np.frombuffer(unpack(text), np.float32).copy()


def _list_moved(changes: Changes) -> list[int]:
    """The image_ids of those that go to the trash or come back."""
    return [
        image_id
        for image_id, values in changes.found.items()
        if values.document.is_live != changes.documents[image_id].is_live
    ]


def _list_fields(
    changes: Changes, fields: Mapping[int, str], kept: Mapping[int, Mapping[int, Embeddings]]
) -> dict[int, Fields]:
    """The fields to set of each image that changes. kept: the embeddings of those that move."""
    changed: dict[int, Fields] = {}
    moved = _list_moved(changes)
    for image_id, document in changes.documents.items():
        values: Fields = {}
        if image_id not in changes.found or changes.found[image_id].document != document:
            values |= _make_fields(document)
        if image_id in changes.previews:
            values["preview"] = _pack(changes.previews[image_id])
        embeddings = changes.embeddings.get(image_id, {})
        if image_id in moved:
            embeddings = {**kept.get(image_id, {}), **embeddings}
        if embeddings or image_id in moved:
            values |= _make_embedding_fields(changes.recipes.get(image_id, {}), embeddings, fields, document.is_live)
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


def list_paths_between(connection: Connection, query: Query, after: str, end: str, limit: int) -> dict[str, int]:
    """Paths behind one and before another, with one of their images."""
    found: dict[str, int] = {}
    sources = [{"path": {"terms": {"field": "paths"}}}]
    while len(found) < limit:
        pages = {
            "composite": {"size": min(limit, _MAX_BUCKETS), "sources": sources, "after": {"path": after}},
            "aggregations": {"first": {"min": {"field": "image_id"}}},
        }
        answer = connection.ask(query=query, size=0, aggregations={"pages": pages})
        buckets = answer["aggregations"]["pages"]["buckets"]
        for bucket in buckets:
            if bucket["key"]["path"] >= end:
                return found
            found[bucket["key"]["path"]] = int(bucket["first"]["value"])
        if not buckets:
            break
        after = buckets[-1]["key"]["path"]
    return found


def count_frames(connection: Connection, field: CountedField, filter: SearchFilter) -> Iterator[tuple[str, int]]:
    """The values of the frames of each film, and how many frames have each."""
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
    ensure_locked: Callable[[], None] | None = None,
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
        moved = _list_moved(changes)
        kept = read_embeddings(connection, moved) if moved else {}
        state = connection.read_state()
        fields = _list_fields(changes, {int(model_id): field for model_id, field in state["fields"].items()}, kept)
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
        if ensure_locked is not None:
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
        ids = list(dict.fromkeys((*ids, *changes.documents)))  # those that were new are there now


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


# Images that are remembered as deleted.


def search_remembered(connection: Connection, query: Query, size: int = 10_000) -> list[DeletedImage]:
    """Records of deleted images by hash, with paths as they are stored."""
    hits, _ = connection.search(
        connection.deleted_index, query=query, sort=[{"content_sha256": "asc"}], size=size, source=["deleted"]
    )
    return [load_deleted(hit["_id"], hit["_source"]["deleted"]) for hit in hits]


def find_remembered(connection: Connection, hashes: Sequence[str]) -> dict[str, DeletedImage]:
    """The same of these hashes, by hash."""
    found: dict[str, DeletedImage] = {}
    for start in range(0, len(hashes), _CHUNK):
        query = {"terms": {"content_sha256": list(hashes[start : start + _CHUNK])}}
        found |= {deleted.content_sha256: deleted for deleted in search_remembered(connection, query)}
    return found


def remember(connection: Connection, deleted: Sequence[DeletedImage]) -> None:
    """Remember deleted images, with what was remembered of them before."""
    joined = find_remembered(connection, [one.content_sha256 for one in deleted])
    for one in deleted:
        joined[one.content_sha256] = join_deleted(joined.get(one.content_sha256), one)
    operations: list[Fields] = []
    for sha256, one in joined.items():
        keys = [make_deleted_path_key(path) for path in one.paths]
        fields = {"content_sha256": sha256, "paths": keys, "deleted": dump_deleted(one)}
        operations += [{"index": {"_id": sha256}}, fields]
    _write_remembered(connection, operations)


def forget(connection: Connection, hashes: Iterable[str]) -> None:
    """Forget remembered images."""
    _write_remembered(connection, [{"delete": {"_id": sha256}} for sha256 in hashes])


def _write_remembered(connection: Connection, operations: list[Fields]) -> None:
    if operations:
        check_results(connection, connection.write(operations, connection.deleted_index))


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
    """Write the tokens of these images. Returns the ids of those that another program changed meanwhile."""
    operations: list[dict[str, Any]] = []
    for found in client.mget(index=connection.index, ids=ids, source_includes=["record"])["docs"]:
        if found["found"]:
            texts = list_searchable(load_document(found["_source"]["record"]).record)
            version = {f"if{name}": found[name] for name in ("_seq_no", "_primary_term")}
            operations += [{"update": {"_id": found["_id"], **version}}, {"doc": {"words": tokenize_document(texts)}}]
    if not operations:
        return []
    results = [
        item["update"] for item in client.bulk(index=connection.index, operations=operations, refresh=True)["items"]
    ]
    check_results(connection, [result for result in results if result["status"] not in (404, 409)])
    return [result["_id"] for result in results if result["status"] == 409]
