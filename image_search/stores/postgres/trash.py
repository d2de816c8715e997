"""The trash of a PostgreSQL library, and what is remembered of images that were removed from it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from image_search.records import DeletedImage, TrashReason
from image_search.stores.postgres.database import Connection
from image_search.stores.postgres.rows import find_hashes, pack_hashes
from image_search.stores.text import decode_path


def trash_images(connection: Connection, image_ids: list[int], reason: TrashReason, now: datetime) -> int:
    """Move live images to the trash, and their embeddings out of reach of searches."""
    rows = connection.execute(
        "UPDATE images SET deleted_at = %s, trash_reason = %s "
        "WHERE image_id = ANY(%s::bigint[]) AND deleted_at IS NULL RETURNING image_id",
        [now, reason, image_ids],
    )
    trashed = [row[0] for row in rows]
    _move_embeddings(connection, "image_embeddings", "trashed_embeddings", trashed)
    return len(trashed)


def restore_images(connection: Connection, image_ids: list[int]) -> int:
    """Bring those of these images back that are in the trash."""
    rows = connection.execute(
        "UPDATE images SET deleted_at = NULL, trash_reason = NULL "
        "WHERE image_id = ANY(%s::bigint[]) AND deleted_at IS NOT NULL RETURNING image_id",
        [image_ids],
    )
    restored = [row[0] for row in rows]
    connection.execute(
        "DELETE FROM deleted_images WHERE content_sha256 IN "
        "(SELECT content_sha256 FROM images WHERE image_id = ANY(%s::bigint[]))",
        [restored],
    )
    _move_embeddings(connection, "trashed_embeddings", "image_embeddings", restored)
    return len(restored)


def _move_embeddings(connection: Connection, source: str, target: str, image_ids: list[int]) -> None:
    columns = "image_id, model_id, embedding, recipe"
    if image_ids:
        connection.execute(
            f"WITH moved AS (DELETE FROM {source} WHERE image_id = ANY(%s::bigint[]) RETURNING {columns}) "
            f"INSERT INTO {target} ({columns}) SELECT {columns} FROM moved",
            [image_ids],
        )


def empty_trash(connection: Connection, image_ids: list[int] | None, before: datetime | None) -> list[bytes]:
    """Remove images in the trash, remembering those a user deleted. Returns the hashes of all removed ones."""
    rows = connection.execute(
        "SELECT image_id, content_sha256 FROM images WHERE deleted_at IS NOT NULL "
        "AND (%s::bigint[] IS NULL OR image_id = ANY(%s::bigint[])) AND (%s::timestamp IS NULL OR deleted_at < %s)",
        [image_ids, image_ids, before, before],
    ).fetchall()
    removed = [row[0] for row in rows]
    for statement in (
        "INSERT INTO deleted_images SELECT content_sha256, deleted_at FROM images "
        "WHERE image_id = ANY(%s::bigint[]) AND trash_reason = 'deleted' ON CONFLICT DO NOTHING",
        "INSERT INTO deleted_paths SELECT i.content_sha256, p.file_path FROM images i JOIN image_paths p "
        "USING (image_id) WHERE i.image_id = ANY(%s::bigint[]) AND i.trash_reason = 'deleted' AND NOT EXISTS "
        "(SELECT 1 FROM deleted_paths d WHERE d.content_sha256 = i.content_sha256 AND d.file_path = p.file_path)",
        "DELETE FROM images WHERE image_id = ANY(%s::bigint[])",
    ):
        connection.execute(statement, [removed])
    return [row[1] for row in rows]


def find_deleted_hashes(connection: Connection, hashes: list[str]) -> set[str]:
    """Those of these hashes that a user deleted."""
    rows = connection.execute(
        "SELECT content_sha256 FROM images WHERE content_sha256 = ANY(%s::bytea[]) "
        "AND deleted_at IS NOT NULL AND trash_reason = 'deleted' "
        "UNION SELECT content_sha256 FROM deleted_images WHERE content_sha256 = ANY(%s::bytea[])",
        [pack_hashes(hashes)] * 2,
    )
    return {row[0].hex() for row in rows}


def find_deleted_paths(connection: Connection, paths: list[str]) -> dict[str, str]:
    """Those of these stored paths whose image a user deleted and that no live image has, with the hash it had."""
    rows = connection.execute(
        "SELECT d.file_path, d.content_sha256 FROM ("
        "SELECT file_path, content_sha256, deleted_at FROM deleted_paths JOIN deleted_images USING (content_sha256) "
        "WHERE file_path = ANY(%s::text[]) "
        "UNION ALL SELECT p.file_path, i.content_sha256, i.deleted_at "
        "FROM image_paths p JOIN images i USING (image_id) "
        "WHERE p.file_path = ANY(%s::text[]) AND i.deleted_at IS NOT NULL AND i.trash_reason = 'deleted') d "
        "WHERE NOT EXISTS (SELECT 1 FROM image_paths p JOIN images i USING (image_id) "
        "WHERE p.file_path = d.file_path AND i.deleted_at IS NULL) ORDER BY d.deleted_at",
        [paths, paths],
    )
    return {path: sha256.hex() for path, sha256 in rows}  # the latest wins


def list_deleted(connection: Connection, after: str, limit: int) -> list[DeletedImage]:
    """Records of deleted images, ordered by hash, from behind a hash on."""
    rows = connection.execute(
        "SELECT d.content_sha256, d.deleted_at, "
        "ARRAY(SELECT p.file_path FROM deleted_paths p WHERE p.content_sha256 = d.content_sha256 ORDER BY 1) "
        "FROM deleted_images d WHERE d.content_sha256 > %s ORDER BY d.content_sha256 LIMIT %s",
        [bytes.fromhex(after), limit],
    )
    return [DeletedImage(row[0].hex(), row[1], tuple(map(decode_path, row[2]))) for row in rows]


def add_deleted(connection: Connection, deleted: list[DeletedImage]) -> None:
    """Remember these, with stored paths, unless the image is live or its file is only gone."""
    hashes = [item.content_sha256 for item in deleted]
    known = find_hashes(connection, hashes, "trash_reason IS DISTINCT FROM 'deleted'")
    for item in deleted:
        if item.content_sha256 in known:
            continue
        sha256 = bytes.fromhex(item.content_sha256)
        connection.execute(
            "INSERT INTO deleted_images VALUES (%s, %s) ON CONFLICT DO NOTHING", [sha256, item.deleted_at]
        )
        connection.execute(
            "INSERT INTO deleted_paths SELECT %s, path FROM unnest(%s::text[]) AS path WHERE NOT EXISTS "
            "(SELECT 1 FROM deleted_paths d WHERE d.content_sha256 = %s AND d.file_path = path)",
            [sha256, list(item.paths), sha256],
        )


def forget_deleted(connection: Connection, hashes: Sequence[str] | None) -> int:
    """Forget these hashes, or all. Returns how many were remembered."""
    packed = None if hashes is None else pack_hashes(hashes)
    return connection.execute(
        "DELETE FROM deleted_images WHERE %s::bytea[] IS NULL OR content_sha256 = ANY(%s::bytea[])", [packed, packed]
    ).rowcount
