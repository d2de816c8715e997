"""Images as documents of Elasticsearch, under the SHA-256 of their content, and what is asked of them.

No text of a person ever stands in a query: exact values are digests, words are plain tokens (phrases.py).
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from image_search.records import ImageRecord, SearchFilter
from image_search.stores.base import Embeddings
from image_search.stores.documents import (
    WITH_PROMPT,
    count_microseconds,
    dump_record,
    list_filter_tags,
    list_searchable,
)
from image_search.stores.text import sanitize, tokenize_query

Query = dict[str, Any]

# A page may begin far down; what that costs is paid by who asks for it.
SETTINGS = {"number_of_shards": 1, "auto_expand_replicas": "0-1", "max_result_window": 1_000_000}
_COUNTED = {"type": "keyword", "index": False, "ignore_above": 8000}  # characters; an entry may have 32,766 bytes
MAPPINGS: dict[str, Any] = {
    "dynamic": "strict",
    "properties": {
        "record": {"type": "keyword", "index": False, "doc_values": False},
        "preview": {"type": "binary"},
        "vectors": {"type": "object", "enabled": False},  # by model_id, base64: as they were given, to the last bit
        "models": {"type": "long"},
        "tags": {"type": "keyword"},
        "words": {"type": "text", "analyzer": "whitespace", "norms": False},
        **{name: {"type": "long"} for name in ("image_id", "upload_date", "taken_at", "pixels", "shuffle")},
        **dict.fromkeys(("file_type", "generator", "generation_model", "keyword"), _COUNTED),
    },
}


def make_fields(record: ImageRecord, modified_ns: int | None) -> dict[str, Any]:
    """The fields that follow from a record."""
    return {
        **list_searchable(record),
        "record": dump_record(record, modified_ns),
        "file_type": record.file_type,
        "generator": record.text.generator,
        "generation_model": record.text.generation_model,
        "keyword": list(record.text.keywords),
    }


def add_embedding(models: Sequence[int], model_id: int, embedding: Embeddings) -> dict[str, Any]:
    """The fields that follow from an embedding. models: those the image had one of before."""
    row = np.ascontiguousarray(embedding, np.float32)
    return {
        make_vector_field(model_id): row.tolist(),
        "vectors": {str(model_id): pack(row.tobytes())},
        "models": sorted({*models, model_id}),
    }


def drop_embedding(models: Sequence[int], model_id: int) -> dict[str, Any]:
    """The fields to set when an embedding is taken away."""
    return {
        make_vector_field(model_id): None,
        "vectors": {str(model_id): None},
        "models": sorted({*models} - {model_id}),
    }


def make_vector_field(model_id: int) -> str:
    """The field that holds the embeddings of a model."""
    return f"embedding_{int(model_id)}"


def pack(data: bytes) -> str:
    """Bytes as text."""
    return base64.b64encode(data).decode()


def unpack(text: str) -> bytes:
    """The bytes pack was given."""
    return base64.b64decode(text)


def unpack_embedding(text: str) -> Embeddings:
    """The embedding whose bytes pack was given."""
    return np.frombuffer(unpack(text), np.float32).copy()


def build_query(filter: SearchFilter, words: Sequence[str] = (), model_id: int | None = None) -> Query:
    """The query for images that qualify, have all words, and have an embedding of the model."""
    conditions = list(_list_conditions(filter))
    conditions += [_match_word(word) for word in (*filter.words, *words) if word.strip()]
    if model_id is not None:
        conditions.append({"term": {"models": model_id}})
    if filter.has_prompt is False:
        return {"bool": {"filter": conditions, "must_not": [{"term": {"tags": WITH_PROMPT}}]}}
    return {"bool": {"filter": conditions}}


def build_nearest(query: Query, field: str, embedding: Embeddings) -> Query:
    """The query that scores what qualifies by 1 plus the inner product, which is never negative but for rounding."""
    script = f"Math.max(0.0, dotProduct(params.embedding, '{field}') + 1.0)"
    return {"script_score": {"query": query, "script": {"source": script, "params": {"embedding": embedding.tolist()}}}}


def _list_conditions(filter: SearchFilter) -> Iterator[Query]:
    yield from _match_times("taken_at", filter.taken_from, filter.taken_to)
    yield from _match_times("upload_date", filter.registered_from, filter.registered_to)
    for tags in list_filter_tags(filter):
        yield {"terms": {"tags": tags}}
    if filter.min_pixels is not None:
        yield {"range": {"pixels": {"gte": filter.min_pixels}}}
    if filter.has_prompt:
        yield {"term": {"tags": WITH_PROMPT}}


def _match_times(field: str, start: datetime | None, end: datetime | None) -> Iterator[Query]:
    bounds = {name: count_microseconds(moment) for name, moment in (("gte", start), ("lt", end)) if moment is not None}
    if bounds:
        yield {"range": {field: bounds}}


def _match_word(word: str) -> Query:
    phrase = tokenize_query(sanitize(word))
    return {"match_phrase": {"words": phrase}} if phrase else {"match_none": {}}
