"""Rows of the Oracle tables as records, and records as binds."""

from __future__ import annotations

import array
from collections.abc import Sequence
from typing import Any

import numpy as np

from image_search.records import ImageRecord, ImageText, NewImage
from image_search.stores.base import Embeddings
from image_search.stores.oracle_words import make_search_text
from image_search.stores.storable_text import dump_details, load_text

# As many as the columns hold; what is longer is cut, and stays whole in the file itself.
FILE_NAME_LENGTH = 255
_PATH_BYTES = 4000
_GENERATOR_LENGTH = 255
_GENERATION_MODEL_LENGTH = 1000
_KEYWORD_LENGTH = 255

Row = Sequence[Any]
Binds = dict[str, object]


def make_record(row: Row) -> ImageRecord:
    """A row of oracle_sql's record columns. CLOBs come as str, RAW as bytes, TIMESTAMPs as datetimes without zone."""
    image_id, sha256, file_name, file_type, byte_size, width, height, upload_date, file_path, *text = row
    return ImageRecord(
        image_id=image_id,
        content_sha256=sha256.hex(),
        file_name=file_name,
        file_type=file_type,
        byte_size=byte_size,
        width=width,
        height=height,
        upload_date=upload_date,
        file_path=file_path,
        text=load_text(*text),
    )


def bind_image(image: NewImage, has_data: bool) -> Binds:
    """The binds of a new image. has_data: whether the database keeps the original."""
    return {
        "sha256": bytes.fromhex(image.content_sha256),
        **bind_file(image.file_name, image.file_path, image.modified_ns),
        "file_type": image.file_type,
        "byte_size": len(image.data),
        "width": image.width,
        "height": image.height,
        "upload_date": image.upload_date,
        **bind_text(image.text, image.file_name),
        "preview": image.preview,
        "image_data": image.data if has_data else None,
    }


def bind_file(file_name: str, file_path: str | None, modified_ns: int | None) -> Binds:
    """Where a file is. A path too long for its column is not remembered: the picture is still known by its hash."""
    fits = file_path is not None and len(file_path.encode()) <= _PATH_BYTES
    return {
        "file_name": file_name[:FILE_NAME_LENGTH],
        "file_path": file_path if fits else None,
        "modified_ns": modified_ns,
    }


def bind_text(text: ImageText, file_name: str) -> Binds:
    """Everything an image says about itself but description and keywords, which have tables of their own."""
    return {
        "generator": text.generator and text.generator[:_GENERATOR_LENGTH],
        "generation_model": text.generation_model and text.generation_model[:_GENERATION_MODEL_LENGTH],
        "taken_at": text.taken_at,
        "generation_prompt": text.generation_prompt,
        "details": dump_details(text),
        "search_text": make_search_text([file_name, text.generation_prompt, text.description, *text.keywords]),
    }


def bind_keywords(image_id: int, text: ImageText) -> list[Binds]:
    """One row for each keyword."""
    keywords = dict.fromkeys(keyword[:_KEYWORD_LENGTH] for keyword in text.keywords)
    return [{"image_id": image_id, "keyword": keyword} for keyword in keywords]


def to_vector(embedding: Embeddings) -> array.array[float]:
    """What the driver binds as a VECTOR of FLOAT32; it refuses numpy arrays and makes FLOAT64 of lists."""
    return array.array("f", np.ascontiguousarray(embedding, np.float32).tobytes())


def to_embedding(vector: Any) -> Embeddings:
    """A fetched VECTOR (array.array of float, or of double when another program wrote it) as float32 (dimension,)."""
    return np.asarray(vector, np.float32)
