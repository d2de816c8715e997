"""The trash in the SQLite tables, and what is remembered of images that were removed from it.

Parked embeddings are outside the searched ones. Searchers of other processes see them go by the log of removals, and
come back under new embedding_ids. Functions that change something run inside the caller's write transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime

from image_search.records import DeletedImage
from image_search.stores.sqlite.rows import (
    EACH,
    dump_values,
    find_hashes,
    find_known_files,
    find_records,
    format_time,
    iterate_in_chunks,
)
from image_search.stores.sqlite.writes import delete_records
from image_search.stores.text import decode_path

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
        [format_time(deleted_at), reason, ids],
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
        values.append(format_time(before))
    chosen = [row[0] for row in connection.execute(f"SELECT image_id FROM images WHERE {condition}", values)]
    for chunk in iterate_in_chunks(chosen):
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
    delete_records(connection, find_records(connection, image_ids).values())


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
            "INSERT OR IGNORE INTO deleted_images VALUES (?, ?)", (sha256, format_time(image.deleted_at))
        )
        connection.executemany(
            "INSERT OR IGNORE INTO deleted_paths (file_path, content_sha256) VALUES (?, ?)",
            [(path, sha256) for path in image.paths],
        )


def forget(connection: sqlite3.Connection, hashes: Iterable[str]) -> int:
    """Forget remembered hashes. Returns how many there were."""
    values = [(bytes.fromhex(sha256),) for sha256 in dict.fromkeys(hashes)]
    return connection.executemany("DELETE FROM deleted_images WHERE content_sha256 = ?", values).rowcount
