"""Images as Redis hashes.

A hash holds the whole record as one JSON document, the preview, an embedding for each model, and beside them what the
index reads: exact values as tags, times and sizes as numbers, words as tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from image_search.records import ImageRecord
from image_search.stores.documents import dump_record, list_searchable


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
