"""Rows of the SQLite tables as records, and back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from image_search.records import ImageRecord, ImageText, NewImage
from image_search.stores.refusals import no_image
from image_search.stores.sqlite_filters import format_time
from image_search.stores.storable_text import dump_details, load_text
from image_search.stores.words import make_index_tokens

_COLUMNS = """i.image_id, i.content_sha256, i.file_name, i.file_type, i.byte_size, i.width, i.height, i.upload_date,
  i.file_path, i.details, i.generation_prompt, d.description, i.generator, i.generation_model, i.taken_at"""


def find_records(connection: sqlite3.Connection, image_ids: Sequence[int]) -> dict[int, ImageRecord]:
    """Those of these images that exist, in one query."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM images i LEFT JOIN image_descriptions d USING (image_id) "
        "WHERE i.image_id IN (SELECT value FROM json_each(?))",
        [json.dumps(list(image_ids))],
    )
    return {row[0]: _make_record(row) for row in rows}


def get_record(connection: sqlite3.Connection, image_id: int) -> ImageRecord:
    """One record. Raises ImageNotFound."""
    records = find_records(connection, [image_id])
    if image_id not in records:
        raise no_image(image_id)
    return records[image_id]


def insert_image(connection: sqlite3.Connection, image: NewImage, upload_date: datetime) -> int:
    """Insert everything but the original and the embedding. Returns the image_id."""
    text = image.text
    image_id = connection.execute(
        "INSERT INTO images (content_sha256, file_name, file_path, modified_ns, file_type, byte_size, width, height, "
        "upload_date, generation_prompt, generator, generation_model, taken_at, details) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            bytes.fromhex(image.content_sha256),
            image.file_name,
            image.file_path,
            image.modified_ns,
            image.file_type,
            len(image.data),
            image.width,
            image.height,
            format_time(image.upload_date or upload_date),
            *_list_text_columns(text),
        ),
    ).lastrowid
    assert image_id is not None
    connection.execute("INSERT INTO image_previews VALUES (?, ?)", (image_id, image.preview))
    _insert_description(connection, image_id, text)
    connection.execute(
        "INSERT INTO image_words (rowid, tokens) VALUES (?, ?)", (image_id, _make_tokens(text, image.file_name))
    )
    return image_id


def replace_text(connection: sqlite3.Connection, record: ImageRecord, text: ImageText) -> None:
    """Replace everything an image says about itself."""
    connection.execute(
        "UPDATE images SET generation_prompt = ?, generator = ?, generation_model = ?, taken_at = ?, details = ? "
        "WHERE image_id = ?",
        (*_list_text_columns(text), record.image_id),
    )
    connection.execute("DELETE FROM image_descriptions WHERE image_id = ?", (record.image_id,))
    _insert_description(connection, record.image_id, text)
    _replace_words(connection, record, text, record.file_name)


def replace_file(
    connection: sqlite3.Connection, record: ImageRecord, file_path: str, file_name: str, modified_ns: int | None
) -> None:
    """Remember where an image's file is now, and its name."""
    connection.execute(
        "UPDATE images SET file_path = ?, modified_ns = ?, file_name = ? WHERE image_id = ?",
        (file_path, modified_ns, file_name, record.image_id),
    )
    if file_name != record.file_name:
        _replace_words(connection, record, record.text, file_name)


def delete_records(connection: sqlite3.Connection, records: Sequence[ImageRecord]) -> None:
    """Delete images with all rows that belong to them."""
    for record in records:
        _delete_words(connection, record)
        connection.execute("DELETE FROM images WHERE image_id = ?", (record.image_id,))


def iterate_in_chunks(values: Sequence[Any], size: int = 500) -> Iterator[Sequence[Any]]:
    """Slices small enough for the number of placeholders of any SQLite."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _make_record(row: tuple[Any, ...]) -> ImageRecord:
    image_id, sha256, file_name, file_type, byte_size, width, height, upload_date, file_path, details, *text = row
    generation_prompt, description, generator, generation_model, taken_at = text
    return ImageRecord(
        image_id=image_id,
        content_sha256=sha256.hex(),
        file_name=file_name,
        file_type=file_type,
        byte_size=byte_size,
        width=width,
        height=height,
        upload_date=datetime.fromisoformat(upload_date),
        file_path=file_path,
        text=load_text(
            details,
            generation_prompt,
            description,
            generator,
            generation_model,
            datetime.fromisoformat(taken_at) if taken_at else None,
        ),
    )


def _list_text_columns(text: ImageText) -> tuple[str | None, ...]:
    taken_at = format_time(text.taken_at) if text.taken_at else None
    return text.generation_prompt, text.generator, text.generation_model, taken_at, dump_details(text)


def _insert_description(connection: sqlite3.Connection, image_id: int, text: ImageText) -> None:
    if text.description is not None:
        connection.execute(
            "INSERT INTO image_descriptions (image_id, description) VALUES (?, ?)", (image_id, text.description)
        )


def _replace_words(connection: sqlite3.Connection, record: ImageRecord, text: ImageText, file_name: str) -> None:
    _delete_words(connection, record)
    connection.execute(
        "INSERT INTO image_words (rowid, tokens) VALUES (?, ?)", (record.image_id, _make_tokens(text, file_name))
    )


def _delete_words(connection: sqlite3.Connection, record: ImageRecord) -> None:
    # The index keeps no copy of the text, so it must be told again what it was given.
    connection.execute(
        "INSERT INTO image_words (image_words, rowid, tokens) VALUES ('delete', ?, ?)",
        (record.image_id, _make_tokens(record.text, record.file_name)),
    )


def _make_tokens(text: ImageText, file_name: str) -> str:
    return make_index_tokens([text.generation_prompt, text.description, *text.keywords, file_name])
