"""Rows of the SQLite tables: reading them as records, changing them, the trash, and what is remembered after it.

Every function that changes something runs inside the caller's write transaction. Parked embeddings are outside the
searched ones: searchers of other processes see them go by the log of removals, and come back under new embedding_ids.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

import numpy as np

from image_search.records import DeletedImage, ImageRecord, KnownFile, NewImage, SearchFilter
from image_search.stores.base import Embeddings
from image_search.stores.reads import image_not_found
from image_search.stores.sql import (
    LIVE,
    RECORD_COLUMNS,
    Condition,
    list_columns,
    list_conditions,
    list_folder_bounds,
    make_record,
    replace_content,
)
from image_search.stores.text import (
    decode_path,
    dump_lines,
    get_folder,
    list_searchable,
    make_new_record,
    name_after_paths,
    read_json,
    sanitize,
)
from image_search.stores.tokens import make_index_tokens, make_query_tokens

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
    return _format_time(value) if isinstance(value, datetime) else value


def _format_time(moment: datetime) -> str:
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
    return {row[0]: _make_record(row) for row in rows.fetchall()}


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
    for chunk in _iterate_in_chunks(hashes):
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


def _iterate_in_chunks(values: Sequence[T], size: int = 500) -> Iterator[Sequence[T]]:
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
        if columns[index]:
            columns[index] = datetime.fromisoformat(columns[index])
    return make_record(columns, details, read_json(paths))


# Changes.


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
        "UPDATE images SET upload_date = ?1 WHERE deleted_at IS NULL AND upload_date > ?1", (_format_time(moment),)
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
    if _make_tokens(old) != _make_tokens(new):
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
    condition = (
        "file_path = ?1 AND (image_id = ?2 OR image_id NOT IN (SELECT o.image_id "
        "FROM images i JOIN images o ON o.film_sha256 = i.film_sha256 WHERE i.image_id = ?2))"
    )
    _delete_paths(connection, condition, (file_path, image_id), image_id)
    connection.execute(
        "INSERT INTO image_paths (image_id, file_path, folder, byte_size, modified_ns) VALUES (?, ?, ?, ?, ?)",
        (image_id, file_path, get_folder(file_path), byte_size, modified_ns),
    )


def delete_paths(connection: sqlite3.Connection, paths: Iterable[str]) -> int:
    """Delete those of these stored paths that live images have. Returns how many they are."""
    known = find_known_files(connection, paths)
    condition = f"file_path IN {EACH} AND image_id IN (SELECT i.image_id FROM images i WHERE {LIVE})"
    _delete_paths(connection, condition, (dump_values(known),))
    return len(known)


def _delete_paths(
    connection: sqlite3.Connection, condition: str, values: Sequence[object], named_after: int | None = None
) -> None:
    """Delete paths; no image but named_after, which gets another path, keeps the name of one it lost."""
    lost = connection.execute(f"SELECT image_id, file_path FROM image_paths WHERE {condition}", values).fetchall()
    if not lost:
        return
    connection.execute(f"DELETE FROM image_paths WHERE {condition}", values)
    records = find_records(connection, {image_id for image_id, _ in lost} - {named_after})
    for record in name_after_paths(records, lost):
        update_record(connection, records[record.image_id], record)


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


def _delete_records(connection: sqlite3.Connection, records: Iterable[ImageRecord]) -> None:
    """Delete images with all rows that belong to them."""
    for record in records:
        _delete_words(connection, record)
        connection.execute("DELETE FROM images WHERE image_id = ?", (record.image_id,))


# The full-text index keeps no copy of the text: a removal must repeat the tokens that were added.


def insert_words(connection: sqlite3.Connection, record: ImageRecord) -> None:
    """Let an image be found by its words."""
    connection.execute("INSERT INTO image_words (rowid, tokens) VALUES (?, ?)", (record.image_id, _make_tokens(record)))


def _delete_words(connection: sqlite3.Connection, record: ImageRecord) -> None:
    connection.execute(
        "INSERT INTO image_words (image_words, rowid, tokens) VALUES ('delete', ?, ?)",
        (record.image_id, _make_tokens(record)),
    )


def _make_tokens(record: ImageRecord) -> str:
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


# The trash, and what is remembered of images that were removed from it.

_PARKED = "image_id, model_id, embedding, recipe"


def park(connection: sqlite3.Connection, image_ids: Sequence[int], deleted_at: datetime, reason: str) -> int:
    """Move those of these images that are live to the trash. Returns how many there were."""
    ids = dump_values(image_ids)
    live = f"SELECT image_id FROM images WHERE image_id IN {EACH} AND deleted_at IS NULL"
    connection.execute(
        f"INSERT INTO trashed_embeddings ({_PARKED}) SELECT {_PARKED} FROM image_embeddings WHERE image_id IN ({live})",
        [ids],
    )
    connection.execute(f"DELETE FROM image_embeddings WHERE image_id IN ({live})", [ids])
    moved = connection.execute(
        f"UPDATE images SET deleted_at = ?, trash_reason = ? WHERE image_id IN {EACH} AND deleted_at IS NULL",
        [_format_time(deleted_at), reason, ids],
    )
    return moved.rowcount


def unpark(connection: sqlite3.Connection, image_ids: Sequence[int]) -> int:
    """Bring those of these images back that are in the trash. Returns how many there were."""
    ids = dump_values(image_ids)
    connection.execute(
        "DELETE FROM deleted_images WHERE content_sha256 IN "
        f"(SELECT content_sha256 FROM images WHERE image_id IN {EACH} AND deleted_at IS NOT NULL)",
        [ids],
    )
    connection.execute(
        f"INSERT INTO image_embeddings ({_PARKED}) SELECT {_PARKED} FROM trashed_embeddings WHERE image_id IN {EACH}",
        [ids],
    )
    connection.execute(f"DELETE FROM trashed_embeddings WHERE image_id IN {EACH}", [ids])
    moved = connection.execute(
        f"UPDATE images SET deleted_at = NULL, trash_reason = NULL WHERE image_id IN {EACH} AND deleted_at IS NOT NULL",
        [ids],
    )
    return moved.rowcount


def list_trash(connection: sqlite3.Connection, limit: int, offset: int) -> list[int]:
    """image_ids in the trash, the latest deleted first."""
    rows = connection.execute(
        "SELECT image_id FROM images WHERE deleted_at IS NOT NULL "
        "ORDER BY deleted_at DESC, image_id DESC LIMIT ? OFFSET ?",
        (limit, offset),
    )
    return [row[0] for row in rows]


def remove_for_good(connection: sqlite3.Connection, image_ids: list[int] | None, before: datetime | None) -> int:
    """Remove images in the trash, and remember those that a user deleted. Returns how many were removed."""
    condition, values = "deleted_at IS NOT NULL", []
    if image_ids is not None:
        condition += f" AND image_id IN {EACH}"
        values.append(dump_values(image_ids))
    if before is not None:
        condition += " AND deleted_at < ?"
        values.append(_format_time(before))
    chosen = [row[0] for row in connection.execute(f"SELECT image_id FROM images WHERE {condition}", values)]
    for chunk in _iterate_in_chunks(chosen):
        _remove(connection, chunk)
    return len(chosen)


def _remove(connection: sqlite3.Connection, image_ids: Sequence[int]) -> None:
    ids = dump_values(image_ids)
    chosen = f"image_id IN {EACH} AND trash_reason = 'deleted'"
    connection.execute(
        f"INSERT OR IGNORE INTO deleted_images SELECT content_sha256, deleted_at FROM images WHERE {chosen}", [ids]
    )
    connection.execute(
        "INSERT OR IGNORE INTO deleted_paths (file_path, content_sha256) "
        f"SELECT p.file_path, i.content_sha256 FROM images i JOIN image_paths p USING (image_id) WHERE {chosen}",
        [ids],
    )
    _delete_records(connection, find_records(connection, image_ids).values())


def find_remembered(connection: sqlite3.Connection, hashes: Sequence[str]) -> set[str]:
    """Those of these hashes that are remembered as deleted."""
    rows = (
        connection.execute("SELECT 1 FROM deleted_images WHERE content_sha256 = ?", (bytes.fromhex(sha256),)).fetchone()
        for sha256 in hashes
    )
    return {sha256 for sha256, row in zip(hashes, rows, strict=True) if row}


def find_deleted_paths(connection: sqlite3.Connection, paths: Iterable[str]) -> dict[str, str]:
    """Those of these stored paths whose image a user deleted and that no live image has, with the hash it had."""
    rows = connection.execute(
        "WITH wanted AS (SELECT value AS file_path FROM json_each(?)) "
        "SELECT file_path, content_sha256, deleted_at FROM wanted JOIN deleted_paths USING (file_path) "
        "JOIN deleted_images USING (content_sha256) UNION ALL "
        "SELECT file_path, content_sha256, deleted_at FROM wanted JOIN image_paths USING (file_path) "
        "JOIN images USING (image_id) WHERE trash_reason = 'deleted' ORDER BY deleted_at",
        [dump_values(paths)],
    )
    deleted = {path: sha256.hex() for path, sha256, _ in rows}  # the latest wins
    live = find_known_files(connection, deleted)
    return {path: sha256 for path, sha256 in deleted.items() if path not in live}


def list_deleted(connection: sqlite3.Connection, after: str, limit: int) -> list[DeletedImage]:
    """Records of deleted images, ordered by hash, from behind a hash on."""
    rows = connection.execute(
        "SELECT content_sha256, deleted_at, (SELECT json_group_array(file_path) FROM "
        "(SELECT file_path FROM deleted_paths p WHERE p.content_sha256 = d.content_sha256 ORDER BY file_path)) "
        "FROM deleted_images d WHERE content_sha256 > ? ORDER BY content_sha256 LIMIT ?",
        (bytes.fromhex(after), limit),
    )
    return [
        DeletedImage(sha256.hex(), datetime.fromisoformat(moment), tuple(map(decode_path, json.loads(paths))))
        for sha256, moment, paths in rows
    ]


def remember(connection: sqlite3.Connection, deleted: Sequence[DeletedImage]) -> None:
    """Remember images (paths as stored) unless they are live or their file is only gone."""
    hashes = [image.content_sha256 for image in deleted]
    known = find_hashes(connection, hashes, "i.trash_reason IS NOT 'deleted'")
    for image in deleted:
        if image.content_sha256 in known:
            continue
        sha256 = bytes.fromhex(image.content_sha256)
        connection.execute(
            "INSERT OR IGNORE INTO deleted_images VALUES (?, ?)", (sha256, _format_time(image.deleted_at))
        )
        connection.executemany(
            "INSERT OR IGNORE INTO deleted_paths (file_path, content_sha256) VALUES (?, ?)",
            [(path, sha256) for path in image.paths],
        )


def forget(connection: sqlite3.Connection, hashes: Iterable[str]) -> int:
    """Forget remembered hashes. Returns how many there were."""
    values = [(bytes.fromhex(sha256),) for sha256 in dict.fromkeys(hashes)]
    return connection.executemany("DELETE FROM deleted_images WHERE content_sha256 = ?", values).rowcount
