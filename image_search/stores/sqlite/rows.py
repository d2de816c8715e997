"""Rows of the SQLite tables as records, and which images a query is about."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

from image_search.records import ImageRecord, KnownFile, SearchFilter
from image_search.stores.errors import image_not_found
from image_search.stores.sql import LIVE, RECORD_COLUMNS, Condition, list_conditions, list_folder_bounds, make_record
from image_search.stores.text import make_query_tokens, sanitize

T = TypeVar("T")

# An object for a placeholder of IN (SELECT value FROM json_each(?)): any number of values, in one query.
EACH = "(SELECT value FROM json_each(?))"

_TIMES = [RECORD_COLUMNS.split(", ").index(f"i.{name}") for name in ("upload_date", "deleted_at", "taken_at")]


def dump_values(values: Iterable[int | str]) -> str:
    """Numbers or texts for the placeholder of EACH."""
    return json.dumps(list(values))


def build_where(filter: SearchFilter, terms: Sequence[str] = ()) -> Condition:
    """A WHERE clause on live images i and the values of its placeholders."""
    occurring = [sanitize(word) for word in (*filter.words, *terms) if word.strip()]
    conditions = [(LIVE, []), *list_conditions(filter), *(_match_word(word) for word in occurring)]
    clause = "WHERE " + " AND ".join(sql.replace("%s", "?") for sql, _ in conditions)
    values = [value for _, given in conditions for value in given]
    return clause, list(map(adapt, values))


def adapt(value: object) -> object:
    """A value as its column holds it."""
    return format_time(value) if isinstance(value, datetime) else value


def format_time(moment: datetime) -> str:
    """Fixed width, so that the order of the texts is the order of the times."""
    return moment.isoformat(sep=" ", timespec="microseconds")


def _match_word(word: str) -> Condition:
    tokens, is_prefix = make_query_tokens(word)
    if not tokens:
        return "0", []
    phrase = f'"{" ".join(tokens)}"' + ("*" if is_prefix else "")
    return "i.image_id IN (SELECT rowid FROM image_words WHERE image_words MATCH %s)", [phrase]


def find_records(connection: sqlite3.Connection, image_ids: Iterable[int]) -> dict[int, ImageRecord]:
    """Those of these images that exist, live or in the trash. One statement."""
    rows = connection.execute(
        f"SELECT {RECORD_COLUMNS}, i.details, (SELECT json_group_array(file_path) FROM (SELECT p.file_path "
        "FROM image_paths p WHERE p.image_id = i.image_id ORDER BY p.path_id DESC)) "
        f"FROM images i LEFT JOIN image_descriptions d USING (image_id) WHERE i.image_id IN {EACH}",
        [dump_values(image_ids)],
    )
    return {row[0]: _make_record(row) for row in rows}


def get_record(connection: sqlite3.Connection, image_id: int) -> ImageRecord:
    """One record, live or in the trash. Raises ImageNotFound."""
    records = find_records(connection, [image_id])
    if image_id not in records:
        raise image_not_found(image_id)
    return records[image_id]


def get_live_record(connection: sqlite3.Connection, image_id: int) -> ImageRecord:
    """One record. Raises ImageNotFound, also for an image in the trash."""
    record = get_record(connection, image_id)
    if record.deleted_at is not None:
        raise image_not_found(image_id)
    return record


def find_hashes(connection: sqlite3.Connection, hashes: Sequence[str], condition: str = "true") -> dict[str, int]:
    """Those of these hashes that images have, live or in the trash, with image_id."""
    known: dict[str, int] = {}
    for chunk in iterate_in_chunks(hashes):
        rows = connection.execute(
            f"SELECT i.content_sha256, i.image_id FROM images i WHERE i.content_sha256 IN ({_mark(chunk)}) "
            f"AND {condition}",
            [bytes.fromhex(sha256) for sha256 in chunk],
        )
        known.update((sha256.hex(), image_id) for sha256, image_id in rows)
    return known


FIND_KNOWN_FILES = (
    "SELECT p.file_path, p.image_id, p.byte_size, p.modified_ns, i.content_sha256, i.film_sha256 "
    f"FROM image_paths p JOIN images i USING (image_id) WHERE p.file_path IN {EACH} AND {LIVE}"
)


def find_known_files(connection: sqlite3.Connection, paths: Iterable[str]) -> dict[str, KnownFile]:
    """Those of these stored paths that live images have."""
    rows = connection.execute(FIND_KNOWN_FILES, [dump_values(paths)])
    return {
        path: KnownFile(image_id, byte_size, modified_ns, sha256.hex(), film and film.hex())
        for path, image_id, byte_size, modified_ns, sha256, film in rows
    }


def list_paths(connection: sqlite3.Connection, folder: str, after: str, limit: int) -> list[tuple[str, int]]:
    """Stored paths of live images below a folder, ascending, behind a path, with one image_id each."""
    found: list[tuple[str, int]] = []
    for low, high in list_folder_bounds(folder):
        found += connection.execute(
            "SELECT p.file_path, min(p.image_id) FROM image_paths p JOIN images i USING (image_id) "
            f"WHERE p.file_path >= ? AND p.file_path < ? AND p.file_path > ? AND {LIVE} "
            "GROUP BY p.file_path ORDER BY p.file_path LIMIT ?",
            (low, high, after, limit),
        )
    return sorted(found)[:limit]


def iterate_in_chunks(values: Sequence[T], size: int = 500) -> Iterator[Sequence[T]]:
    """Slices small enough for the number of placeholders of any SQLite."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def read_counters(connection: sqlite3.Connection) -> dict[str, int]:
    """The highest id ever given out in each table: additions and removals since are known by these alone."""
    counters = {"images": 0, "image_embeddings": 0, "removals": 0}
    counters.update(connection.execute("SELECT name, seq FROM sqlite_sequence WHERE name <> 'image_paths'"))
    return counters


def _mark(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _make_record(row: Sequence[Any]) -> ImageRecord:
    *columns, details, paths = row
    for index in _TIMES:
        columns[index] = columns[index] and datetime.fromisoformat(columns[index])
    return make_record(columns, details, json.loads(paths))
