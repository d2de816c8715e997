"""Carries a library of schema 1 over into indexes of its own, image by image.

Every step can be done again. The version is written last and the old index removed after it (Connection).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from elasticsearch import NotFoundError

from image_search.stores.documents import drop_paths, load_document, load_models
from image_search.stores.elasticsearch.client import Connection, State, explain_refusal
from image_search.stores.elasticsearch.documents import (
    choose_vector_field,
    describe_vector_field,
    make_embedding_fields,
    make_fields,
    unpack_embedding,
)

_CHUNK = 100


def migrate(connection: Connection, client: Any, state: State, keep_lock: Callable[[], None]) -> None:
    """Write every image of schema 1 as schema 2 has it, and the vector fields into the state."""
    fields: dict[int, str] = {}
    for model in load_models(state["models"]):
        fields[model.model_id] = choose_vector_field(model.dimension, list(fields.values()))
        properties = {fields[model.model_id]: describe_vector_field(model.dimension)}
        client.indices.put_mapping(index=connection.index, properties=properties)
    state["fields"] = {str(model_id): field for model_id, field in fields.items()}
    taken: set[str] = set()
    after: dict[str, Any] = {}
    while True:
        # From the latest image on: a path that several images had is that of the latest one.
        sort = [{"image_id": "desc"}]
        try:
            answer = client.search(index=connection.name, query={"match_all": {}}, sort=sort, size=_CHUNK, **after)
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
            values = make_fields(document) | make_embedding_fields(recipes, embeddings, fields, is_live=True)
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
