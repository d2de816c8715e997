"""A record as one JSON document, and as exact tags and numbers to search by, for engines without tables.

Exact values are searched as digests: any length, any characters, nothing for a query language to misunderstand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

from image_search.records import EmbeddingModel, ImageRecord, ImageText, KnownFile, NewImage, SearchFilter
from image_search.stores.base import find_model, model_is_current, model_not_found
from image_search.stores.text import dump_details, load_text, sanitize, tokenize_document

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
        "words": tokenize_document([text.generation_prompt, text.description, *text.keywords, record.file_name]),
        "image_id": record.image_id,
        "upload_date": count_microseconds(record.upload_date),
        "taken_at": count_microseconds(text.taken_at) if text.taken_at else None,
        "pixels": record.width * record.height,
        "shuffle": int(record.content_sha256[:12], 16),  # an order that has nothing to do with the pictures
    }


def list_filter_tags(filter: SearchFilter) -> Iterator[list[str]]:
    """For each condition on an exact value the tags of which an image must have one."""
    if filter.folder is not None:
        yield [exact_key("f", filter.folder.rstrip("/\\"))]
    if filter.file_types:
        yield [exact_key("t", file_type) for file_type in filter.file_types]
    if filter.orientation is not None:
        yield [filter.orientation]
    if filter.generator is not None:
        yield [exact_key("g", filter.generator)]
    if filter.generation_model is not None:
        yield [exact_key("m", filter.generation_model)]
    if filter.keyword is not None:
        yield [exact_key("k", filter.keyword)]


def count_microseconds(moment: datetime) -> int:
    """Since 1970; exact as float64 until the year 2255."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def exact_key(kind: str, value: str) -> str:
    """An exact value of any length and any characters, as a tag without a special one."""
    return kind + hashlib.sha256(sanitize(value).encode()).hexdigest()[:24]


def _list_tags(record: ImageRecord) -> Iterator[str]:
    text = record.text
    yield exact_key("n", record.file_name)
    yield exact_key("t", record.file_type)
    yield "square" if record.width == record.height else "landscape" if record.width > record.height else "portrait"
    if text.generation_prompt is not None:
        yield WITH_PROMPT
    if text.generator is not None:
        yield exact_key("g", text.generator)
    if text.generation_model is not None:
        yield exact_key("m", text.generation_model)
    for keyword in text.keywords:
        yield exact_key("k", keyword)
    if record.file_path is not None:
        yield exact_key("p", record.file_path)
        yield from {
            exact_key("f", record.file_path[:end])
            for end, character in enumerate(record.file_path)
            if character in "/\\"
        }


# The models of a library as one list, for engines that keep it in one document and change it at once.


def load_models(document: str | bytes | None) -> list[EmbeddingModel]:
    """The models dump_models was given; [] where nothing is stored."""
    return [EmbeddingModel(**values) for values in json.loads(document or "[]")]


def dump_models(models: Iterable[EmbeddingModel]) -> str:
    """All models as one document, so that exactly one of them is the current one at any moment."""
    return json.dumps([asdict(model) for model in models], ensure_ascii=False)


def add_model(
    models: list[EmbeddingModel], model_id: int, name: str, version: str, dimension: int
) -> list[EmbeddingModel]:
    """With this model, current if none is; the same list if name and version are in it already."""
    if find_model(models, name, version):
        return models
    is_current = not any(model.is_current for model in models)
    return [*models, EmbeddingModel(model_id, name, version, dimension, is_current)]


def switch_model(models: list[EmbeddingModel], model_id: int) -> list[EmbeddingModel]:
    """With this model as the current one. Raises StoreError when it is not there."""
    if all(model.model_id != model_id for model in models):
        raise model_not_found(model_id)
    return [replace(model, is_current=model.model_id == model_id) for model in models]


def drop_model(models: list[EmbeddingModel], model_id: int) -> list[EmbeddingModel]:
    """Without this model. Raises StoreError when it is the current one or not there."""
    model = next((model for model in models if model.model_id == model_id), None)
    if model is None:
        raise model_not_found(model_id)
    if model.is_current:
        raise model_is_current(model_id)
    return [other for other in models if other != model]
