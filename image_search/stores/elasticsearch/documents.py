"""Images as documents of Elasticsearch, under their image_id, and the queries that find them.

No text of a user ever stands in a query: exact values are digests, words are plain tokens (stores/text.py).
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from image_search.records import DeletedImage, SearchFilter
from image_search.stores.base import Embeddings
from image_search.stores.documents import Document, dump_deleted, dump_document
from image_search.stores.search_fields import (
    LIVE,
    count_microseconds,
    get_sort_name,
    list_counted,
    list_filter_keys,
    list_filter_ranges,
    list_keys,
    list_model_keys,
    list_numbers,
    list_texts,
    make_deleted_path_key,
    make_model_key,
)
from image_search.stores.text import is_beginning_query, sanitize, tokenize_document, tokenize_query

Query = dict[str, Any]

# Elasticsearch Serverless chooses these itself and refuses them.
SIZING = {"number_of_shards": 1, "auto_expand_replicas": "0-1", "max_result_window": 1_000_000}
# Every beginning of a token is one, too, so that beginnings are found by one look-up and as many as there are.
ANALYSIS = {
    "filter": {"beginnings": {"type": "edge_ngram", "min_gram": 2, "max_gram": 250}},
    "analyzer": {"beginnings": {"type": "custom", "tokenizer": "whitespace", "filter": ["beginnings"]}},
}
# In UTF-16 units of at most 3 bytes each; an entry may have 32,766 bytes.
_EXACT = {"type": "keyword", "ignore_above": 10_922}
_COUNTED = {**_EXACT, "index": False}
_KEPT = {"type": "keyword", "index": False, "doc_values": False}
_NOT_READ = {"type": "object", "enabled": False}
_BEGINNINGS = {
    "type": "text",
    "analyzer": "beginnings",
    "search_analyzer": "whitespace",
    "index_options": "docs",
    "norms": False,
}
_NUMBERS = ("image_id", "upload_date", "taken_at", "taken_order", "pixels", "rating", "recipe", "shuffle", "deleted_at")
_COUNTED_FIELDS = (
    "generator",
    "generation_model",
    "lora",
    "file_type",
    "keyword",
    "camera",
    "lens",
    "rating",
    "folder",
    "kind",
    "film",
)
MAPPINGS: dict[str, Any] = {
    "dynamic": "strict",
    "properties": {
        "record": _KEPT,
        "preview": {"type": "binary"},
        "vectors": _NOT_READ,  # by model_id, base64: as they were given, to the last bit
        "recipes": _NOT_READ,  # of the embeddings, by model_id
        "models": {"type": "keyword"},
        "content_sha256": {"type": "keyword"},
        "tags": {"type": "keyword"},
        "words": {"type": "text", "analyzer": "whitespace", "norms": False, "fields": {"beginnings": _BEGINNINGS}},
        "sort_name": _COUNTED,
        "paths": _COUNTED,
        **{name: {"type": "long"} for name in _NUMBERS},
        **{f"counted_{name}": _COUNTED for name in _COUNTED_FIELDS},
    },
}
# Of deleted images that are remembered, under their hash.
DELETED_MAPPINGS: dict[str, Any] = {
    "dynamic": "strict",
    "properties": {"content_sha256": {"type": "keyword"}, "paths": {"type": "keyword"}, "deleted": _KEPT},
}


def describe_vector_field(dimension: int) -> dict[str, Any]:
    """A field of embeddings that every search compares one by one, so that the nearest are exact."""
    return {
        "type": "dense_vector",
        "dims": dimension,
        "index": True,
        "similarity": "max_inner_product",
        "index_options": {"type": "flat"},
    }


def choose_vector_field(dimension: int, taken: Sequence[str]) -> str:
    """One field for each dimension, and one more only while several models of a dimension are there at once.

    An index may have 1,000 fields and never loses one.
    """
    number = 1
    while (field := f"vector_{dimension}" + (f"_{number}" if number > 1 else "")) in taken:
        number += 1
    return field


def make_fields(document: Document) -> dict[str, Any]:
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


def make_embedding_fields(
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
            str(model_id): None if embedding is None else pack(np.ascontiguousarray(embedding, np.float32).tobytes())
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


def pack(data: bytes) -> str:
    """Bytes as text."""
    return base64.b64encode(data).decode()


def unpack(text: str) -> bytes:
    """The bytes pack was given."""
    return base64.b64decode(text)


def unpack_embedding(text: str) -> Embeddings:
    """The embedding whose bytes pack was given."""
    return np.frombuffer(unpack(text), np.float32).copy()


# Queries.


def build_query(filter: SearchFilter, terms: Sequence[str] = (), model_id: int | None = None) -> Query:
    """The query for live images that qualify, have all terms, and have an embedding of the model."""
    conditions: list[Query] = [match_keys([LIVE])]
    excluded: list[Query] = []
    for is_wanted, keys in list_filter_keys(filter):
        (conditions if is_wanted else excluded).append(match_keys(keys))
    conditions += _list_ranges(filter)
    conditions += [_match_term(term) for term in (*filter.words, *terms) if term.strip()]
    if model_id is not None:
        conditions.append(match_model(model_id))
    return {"bool": {"filter": conditions, **({"must_not": excluded} if excluded else {})}}


def build_nearest(query: Query, field: str, embedding: Embeddings) -> Query:
    """The query that scores what qualifies by 1 plus the inner product, which is never negative but for rounding."""
    script = f"Math.max(0.0, dotProduct(params.embedding, '{field}') + 1.0)"
    return {"script_score": {"query": query, "script": {"source": script, "params": {"embedding": embedding.tolist()}}}}


def build_neighbours(query: Query, field: str, embedding: Embeddings, count: int) -> Query:
    """The query for `count` nearest images, for clusters without scripts. The search must request as many hits."""
    return {
        "knn": {
            "field": field,
            "query_vector": embedding.tolist(),
            "num_candidates": count,
            "filter": query,
        }
    }


def read_neighbour_score(score: float) -> float:
    """The inner product that max_inner_product makes a positive score of."""
    return score - 1 if score >= 1 else 1 - 1 / score


def match_keys(keys: Sequence[str]) -> Query:
    """The condition that an image has one of these keys."""
    return {"terms": {"tags": list(keys)}}


def match_model(model_id: int, min_recipe: int = 0) -> Query:
    """The condition that an image has an embedding of a model, of at least this recipe."""
    return {"term": {"models": make_model_key(model_id, min_recipe)}}


def _list_ranges(filter: SearchFilter) -> Iterator[Query]:
    for field, low, high in list_filter_ranges(filter):
        bounds = {name: bound for name, bound in (("gte", low), ("lt", high)) if bound is not None}
        yield {"range": {field: bounds}}


def _match_term(term: str) -> Query:
    tokens = tokenize_query(sanitize(term))
    if not tokens:
        return {"match_none": {}}
    if is_beginning_query(sanitize(term)):
        return {"term": {"words.beginnings": tokens}}
    return {"match_phrase": {"words": tokens}}
