"""A record as one JSON document, and as exact tags and numbers to search by, for engines without tables.

Exact values are searched as digests: any length, any characters, nothing for a query language to misunderstand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

from image_search.records import ImageRecord, ImageText, KnownFile, NewImage, SearchFilter
from image_search.stores.phrases import make_stream
from image_search.stores.storable_text import dump_details, load_text, make_storable

WITH_PROMPT = "prompt"

_EPOCH = datetime(1970, 1, 1)


def make_record(image_id: int, image: NewImage, upload_date: datetime) -> ImageRecord:
    """The record of a new image."""
    return ImageRecord(
        image_id=image_id,
        content_sha256=image.content_sha256,
        file_name=image.file_name,
        file_type=image.file_type,
        byte_size=len(image.data),
        width=image.width,
        height=image.height,
        upload_date=image.upload_date or upload_date,
        file_path=image.file_path,
        text=image.text,
    )


def dump_record(record: ImageRecord, modified_ns: int | None) -> str:
    """A record and the modification time of its file."""
    text = record.text
    values = {
        **asdict(replace(record, text=ImageText())),
        "upload_date": record.upload_date.isoformat(),
        "modified_ns": modified_ns,
        "text": [
            dump_details(text),
            text.generation_prompt,
            text.description,
            text.generator,
            text.generation_model,
            text.taken_at.isoformat() if text.taken_at else None,
        ],
    }
    return json.dumps(values, ensure_ascii=False)


def load_record(document: str | bytes) -> ImageRecord:
    """The record dump_record was made of."""
    values = json.loads(document)
    del values["modified_ns"]
    details, prompt, description, generator, model, taken_at = values["text"]
    values["text"] = load_text(
        details, prompt, description, generator, model, datetime.fromisoformat(taken_at) if taken_at else None
    )
    values["upload_date"] = datetime.fromisoformat(values["upload_date"])
    return ImageRecord(**values)


def load_modified_ns(document: str | bytes) -> int | None:
    """The modification time that was given to dump_record."""
    modified_ns: int | None = json.loads(document)["modified_ns"]
    return modified_ns


def load_known_file(document: str | bytes) -> tuple[str, KnownFile]:
    """The path of an image's file, and what is known of it."""
    values = json.loads(document)
    return values["file_path"], KnownFile(values["image_id"], values["byte_size"], values["modified_ns"])


def list_searchable(record: ImageRecord) -> dict[str, Any]:
    """What searches and filters read of a record: tags a list, words a row of tokens, the others numbers or None."""
    text = record.text
    return {
        "tags": list(_list_tags(record)),
        "words": make_stream([text.generation_prompt, text.description, *text.keywords, record.file_name]),
        "image_id": record.image_id,
        "upload_date": count_microseconds(record.upload_date),
        "taken_at": count_microseconds(text.taken_at) if text.taken_at else None,
        "pixels": record.width * record.height,
        "shuffle": int(record.content_sha256[:12], 16),  # an order that has nothing to do with the pictures
    }


def list_filter_tags(filter: SearchFilter) -> Iterator[list[str]]:
    """For each condition on an exact value the tags of which an image must have one."""
    if filter.folder is not None:
        yield [make_tag("f", filter.folder.rstrip("/\\"))]
    if filter.file_types:
        yield [make_tag("t", file_type) for file_type in filter.file_types]
    if filter.orientation is not None:
        yield [filter.orientation]
    if filter.generator is not None:
        yield [make_tag("g", filter.generator)]
    if filter.generation_model is not None:
        yield [make_tag("m", filter.generation_model)]
    if filter.keyword is not None:
        yield [make_tag("k", filter.keyword)]


def count_microseconds(moment: datetime) -> int:
    """Since 1970; exact as float64 until the year 2255."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def make_tag(kind: str, value: str) -> str:
    """An exact value of any length and any characters, as a tag without a special one."""
    return kind + hashlib.sha256(make_storable(value).encode()).hexdigest()[:24]


def _list_tags(record: ImageRecord) -> Iterator[str]:
    text = record.text
    yield make_tag("n", record.file_name)
    yield make_tag("t", record.file_type)
    yield "square" if record.width == record.height else "landscape" if record.width > record.height else "portrait"
    if text.generation_prompt is not None:
        yield WITH_PROMPT
    if text.generator is not None:
        yield make_tag("g", text.generator)
    if text.generation_model is not None:
        yield make_tag("m", text.generation_model)
    for keyword in text.keywords:
        yield make_tag("k", keyword)
    if record.file_path is not None:
        yield make_tag("p", record.file_path)
        yield from {
            make_tag("f", record.file_path[:end])
            for end, character in enumerate(record.file_path)
            if character in "/\\"
        }
