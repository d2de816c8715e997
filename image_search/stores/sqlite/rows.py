"""Rows of the SQLite tables as records, and back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from image_search.records import ImageRecord, ImageText, NewImage, SearchFilter
from image_search.stores.base import image_not_found
from image_search.stores.sql import Condition, list_conditions
from image_search.stores.sqlite.exact_search import Rows
from image_search.stores.sqlite.faiss_index import Ids
from image_search.stores.text import dump_details, load_text, make_index_tokens, make_query_tokens, sanitize

# A SearchFilter, and words that must occur, as conditions of a SQLite query over images i.


def build_where(filter: SearchFilter, words: Sequence[str] = ()) -> Condition:
    """A WHERE clause ("" when everything qualifies) and the values of its placeholders."""
    occurring = [sanitize(word) for word in (*filter.words, *words) if word.strip()]
    conditions = [*list_conditions(filter), *(_match_word(word) for word in occurring)]
    if not conditions:
        return "", []
    clause = "WHERE " + " AND ".join(sql.replace("%s", "?") for sql, _ in conditions)
    values = [value for _, given in conditions for value in given]
    return clause, [format_time(value) if isinstance(value, datetime) else value for value in values]


def format_time(moment: datetime) -> str:
    """Fixed width, so that the order of the texts is the order of the times."""
    return moment.isoformat(sep=" ", timespec="microseconds")


def _match_word(word: str) -> Condition:
    tokens, is_prefix = make_query_tokens(word)
    if not tokens:
        return "0", []
    phrase = f'"{" ".join(tokens)}"' + ("*" if is_prefix else "")
    return "i.image_id IN (SELECT rowid FROM image_words WHERE image_words MATCH %s)", [phrase]


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
        raise image_not_found(image_id)
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


# The embeddings of one model as one transaction on the SQLite tables sees them.

_CHUNK = 2048


class TableRows:
    """Reads embeddings by embedding_id through one connection."""

    def __init__(self, connection: sqlite3.Connection, model_id: int, dimension: int) -> None:
        self._connection = connection
        self._model_id = model_id
        self._dimension = dimension

    def read(self, embedding_ids: Ids) -> Rows:
        """Those of these that are there, in any order."""
        rows = self._connection.execute(
            "SELECT embedding_id, image_id, embedding FROM image_embeddings "
            "WHERE embedding_id IN (SELECT value FROM json_each(?))",
            [json.dumps(embedding_ids.tolist())],
        )
        return self._gather(rows.fetchall())

    def read_after(self, embedding_id: int, until: int | None = None) -> Iterator[Rows]:
        """Everything above this id, up to another one if given, ascending and in chunks."""
        # NOT INDEXED: in order of embedding_id, which is how the rows lie in the file.
        rows = self._connection.execute(
            "SELECT embedding_id, image_id, embedding FROM image_embeddings NOT INDEXED "
            "WHERE embedding_id > ? AND embedding_id <= ? AND model_id = ? ORDER BY embedding_id",
            (embedding_id, 2**63 - 1 if until is None else until, self._model_id),
        )
        while chunk := rows.fetchmany(_CHUNK):
            yield self._gather(chunk)

    def list_ids(self) -> Ids:
        """All embedding_ids, in no order."""
        rows = self._connection.execute(
            "SELECT embedding_id FROM image_embeddings WHERE model_id = ?", (self._model_id,)
        )
        return np.fromiter((row[0] for row in rows), np.int64)

    def list_removed(self, removal_id: int) -> Ids:
        """embedding_ids that were removed after this removal."""
        rows = self._connection.execute(
            "SELECT embedding_id FROM removals WHERE removal_id > ? AND model_id = ?", (removal_id, self._model_id)
        )
        return np.fromiter((row[0] for row in rows), np.int64)

    def count(self) -> int:
        """How many there are."""
        query = "SELECT count(*) FROM image_embeddings WHERE model_id = ?"
        return int(self._connection.execute(query, (self._model_id,)).fetchone()[0])

    def _gather(self, rows: list[Any]) -> Rows:
        return Rows(
            np.array([row[0] for row in rows], np.int64),
            np.array([row[1] for row in rows], np.int64),
            np.frombuffer(b"".join(row[2] for row in rows), "<f4").reshape(len(rows), self._dimension),
        )


def read_counters(connection: sqlite3.Connection) -> dict[str, int]:
    """The highest id ever given out in each table: what was added and removed since is told by these alone."""
    counters = {"images": 0, "image_embeddings": 0, "removals": 0}
    counters.update(connection.execute("SELECT name, seq FROM sqlite_sequence"))
    return counters
