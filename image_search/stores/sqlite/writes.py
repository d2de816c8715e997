"""Changes of images in the SQLite tables. Every function runs inside the caller's write transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import datetime

import numpy as np

from image_search.records import ImageRecord, NewImage
from image_search.stores.base import Embeddings
from image_search.stores.sql import list_columns, replace_content
from image_search.stores.sqlite.rows import adapt, format_time
from image_search.stores.text import dump_lines, get_folder, list_searchable, make_index_tokens, make_new_record


def insert_image(connection: sqlite3.Connection, image: NewImage, upload_date: datetime) -> int:
    """Insert everything but the original, paths and embedding. Returns the image_id."""
    record = make_new_record(0, image, upload_date)
    image_id = insert_record(connection, record, is_new=True)
    if image.recognized is not None:
        write_lines(connection, image_id, dump_lines(image.recognized))
    connection.execute("INSERT INTO image_previews VALUES (?, ?)", (image_id, image.preview))
    record = make_new_record(image_id, image, upload_date)
    _insert_texts(connection, record)
    insert_words(connection, record)
    return image_id


def date_back(connection: sqlite3.Connection, moment: datetime) -> None:
    """Give live images of a later time than this one (UTC), whose clock was ahead, this one."""
    connection.execute(
        "UPDATE images SET upload_date = ?1 WHERE deleted_at IS NULL AND upload_date > ?1", (format_time(moment),)
    )


def insert_record(connection: sqlite3.Connection, record: ImageRecord, is_new: bool = False) -> int:
    """Insert the row of images. is_new: with an image_id of its own. Returns the image_id."""
    columns = {
        "image_id": None if is_new else record.image_id,
        "content_sha256": bytes.fromhex(record.content_sha256),
        "file_type": record.file_type,
        "byte_size": record.byte_size,
        "width": record.width,
        "height": record.height,
        "upload_date": record.upload_date,
        "film_sha256": record.frame and bytes.fromhex(record.frame.film_sha256),
        "frame_ms": record.frame and record.frame.frame_ms,
        **list_columns(record),
    }
    row = connection.execute(
        f"INSERT INTO images ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
        [adapt(value) for value in columns.values()],
    )
    assert row.lastrowid is not None
    return row.lastrowid


def update_record(connection: sqlite3.Connection, old: ImageRecord, new: ImageRecord) -> None:
    """Write what differs between two states of one image; content and paths have functions of their own."""
    before, after = list_columns(old), list_columns(new)
    changed = {name: value for name, value in after.items() if value != before[name]}
    if changed:
        connection.execute(
            f"UPDATE images SET {', '.join(f'{name} = ?' for name in changed)} WHERE image_id = ?",
            [*map(adapt, changed.values()), new.image_id],
        )
    if _list_texts(old) != _list_texts(new):
        for table in ("image_descriptions", "image_keywords", "image_loras"):
            connection.execute(f"DELETE FROM {table} WHERE image_id = ?", [new.image_id])
        _insert_texts(connection, new)
    if make_tokens(old) != make_tokens(new):
        _delete_words(connection, old)
        insert_words(connection, new)


def update_content(connection: sqlite3.Connection, record: ImageRecord, image: NewImage) -> None:
    """Give an image new content; embeddings and the recognised text, which belong to the old one, are removed."""
    connection.execute(
        "UPDATE images SET content_sha256 = ?, file_type = ?, byte_size = ?, width = ?, height = ?, "
        "recognized_lines = NULL WHERE image_id = ?",
        (
            bytes.fromhex(image.content_sha256),
            image.file_type,
            image.byte_size,
            image.width,
            image.height,
            record.image_id,
        ),
    )
    connection.execute("UPDATE image_previews SET preview = ? WHERE image_id = ?", (image.preview, record.image_id))
    connection.execute("DELETE FROM image_embeddings WHERE image_id = ?", [record.image_id])
    update_record(connection, record, replace_content(record, image))


def write_lines(connection: sqlite3.Connection, image_id: int, lines: str | None) -> None:
    """Keep the lines of the recognised text (dump_lines)."""
    connection.execute("UPDATE images SET recognized_lines = ? WHERE image_id = ?", (lines, image_id))


def insert_path(
    connection: sqlite3.Connection, image_id: int, file_path: str, byte_size: int, modified_ns: int | None
) -> None:
    """Make a stored path the latest one of an image. Another image loses it, except a frame of the same film."""
    connection.execute(
        "DELETE FROM image_paths WHERE file_path = ?1 AND (image_id = ?2 OR image_id NOT IN (SELECT o.image_id "
        "FROM images i JOIN images o ON o.film_sha256 = i.film_sha256 WHERE i.image_id = ?2))",
        (file_path, image_id),
    )
    connection.execute(
        "INSERT INTO image_paths (image_id, file_path, folder, byte_size, modified_ns) VALUES (?, ?, ?, ?, ?)",
        (image_id, file_path, get_folder(file_path), byte_size, modified_ns),
    )


def insert_embedding(
    connection: sqlite3.Connection, image_id: int, model_id: int, embedding: Embeddings, recipe: int
) -> None:
    """Add the embedding of a live image; what it has already of this model stays."""
    connection.execute(
        "INSERT INTO image_embeddings (image_id, model_id, embedding, recipe) "
        "SELECT image_id, ?, ?, ? FROM images WHERE image_id = ? AND deleted_at IS NULL "
        "ON CONFLICT (image_id, model_id) DO NOTHING",
        (model_id, np.ascontiguousarray(embedding, "<f4").tobytes(), recipe, image_id),
    )


def delete_records(connection: sqlite3.Connection, records: Iterable[ImageRecord]) -> None:
    """Delete images with all rows that belong to them."""
    for record in records:
        _delete_words(connection, record)
        connection.execute("DELETE FROM images WHERE image_id = ?", (record.image_id,))


# The full-text index keeps no copy of the text: a removal must repeat the tokens that were added.


def insert_words(connection: sqlite3.Connection, record: ImageRecord) -> None:
    """Let an image be found by its words."""
    connection.execute("INSERT INTO image_words (rowid, tokens) VALUES (?, ?)", (record.image_id, make_tokens(record)))


def _delete_words(connection: sqlite3.Connection, record: ImageRecord) -> None:
    connection.execute(
        "INSERT INTO image_words (image_words, rowid, tokens) VALUES ('delete', ?, ?)",
        (record.image_id, make_tokens(record)),
    )


def make_tokens(record: ImageRecord) -> str:
    """The tokens of an image for the full-text index."""
    return make_index_tokens(list_searchable(record))


def _list_texts(record: ImageRecord) -> tuple[object, ...]:
    return record.text.description, record.keywords, record.text.loras


def _insert_texts(connection: sqlite3.Connection, record: ImageRecord) -> None:
    image_id = record.image_id
    if record.text.description is not None:
        connection.execute(
            "INSERT INTO image_descriptions (image_id, description) VALUES (?, ?)", (image_id, record.text.description)
        )
    for table, column, values in (
        ("image_keywords", "keyword", record.keywords),
        ("image_loras", "lora", record.text.loras),
    ):
        connection.executemany(
            f"INSERT OR IGNORE INTO {table} ({column}, image_id) VALUES (?, ?)", [(value, image_id) for value in values]
        )
