"""The trash of an Oracle library, and what is remembered of images that were removed from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from image_search.records import DeletedImage, TrashReason
from image_search.stores.oracle.connection import Session
from image_search.stores.oracle.rows import is_storable
from image_search.stores.oracle.sql import find_hashes, find_paths
from image_search.stores.text import decode_path

# Statements, like those of sql.py. values: a list of binds, ids or hashes.


def trash_images(values: str) -> str:
    """Move live images to the trash."""
    return f"""
UPDATE images
SET deleted_at = :deleted_at,
    trash_reason = :trash_reason
WHERE image_id IN ({values}) AND deleted_at IS NULL"""


def restore_images(values: str) -> str:
    """Bring images back from the trash."""
    return f"""
UPDATE images
SET deleted_at = NULL,
    trash_reason = NULL
WHERE image_id IN ({values}) AND deleted_at IS NOT NULL"""


def copy_embeddings(source: str, target: str, values: str) -> str:
    """Copy the embeddings of these images from one table into the other."""
    return f"""
INSERT INTO {target} (image_id, model_id, embedding, recipe)
SELECT e.image_id, e.model_id, e.embedding, e.recipe
FROM {source} e
WHERE e.image_id IN ({values})"""


def delete_embeddings(source: str, values: str) -> str:
    """Delete the embeddings of these images, after copy_embeddings."""
    return f"""
DELETE FROM {source}
WHERE image_id IN ({values})"""


LIST_TRASHED = """
SELECT i.image_id, i.deleted_at
FROM images i
WHERE i.deleted_at IS NOT NULL
ORDER BY i.image_id"""


def find_trashed(values: str) -> str:
    """Find the images that are in the trash."""
    return f"""
SELECT i.image_id, i.content_sha256
FROM images i
WHERE i.image_id IN ({values}) AND i.deleted_at IS NOT NULL"""


def remember_images(values: str) -> str:
    """Remember the hashes of the images that a user deleted."""
    return f"""
INSERT INTO deleted_images (content_sha256, deleted_at)
SELECT i.content_sha256, i.deleted_at
FROM images i
WHERE i.image_id IN ({values})
  AND i.trash_reason = 'deleted'
  AND NOT EXISTS (SELECT 1 FROM deleted_images d WHERE d.content_sha256 = i.content_sha256)"""


def remember_paths(values: str) -> str:
    """Remember the paths of the images that a user deleted."""
    return f"""
INSERT INTO deleted_paths (content_sha256, file_path)
SELECT i.content_sha256, p.file_path
FROM images i
JOIN image_paths p ON p.image_id = i.image_id
WHERE i.image_id IN ({values})
  AND i.trash_reason = 'deleted'
  AND NOT EXISTS (SELECT 1 FROM deleted_paths d
                  WHERE d.content_sha256 = i.content_sha256 AND d.file_path = p.file_path)"""


def delete_images(values: str) -> str:
    """Delete images; embeddings, texts and paths go with them (ON DELETE CASCADE)."""
    return f"""
DELETE FROM images
WHERE image_id IN ({values})"""


def find_deleted_hashes(values: str) -> str:
    """Those of these hashes that a user deleted: in the trash, or remembered."""
    return f"""
SELECT i.content_sha256
FROM images i
WHERE i.content_sha256 IN ({values}) AND i.deleted_at IS NOT NULL AND i.trash_reason = 'deleted'
UNION ALL
SELECT d.content_sha256
FROM deleted_images d
WHERE d.content_sha256 IN ({values})"""


def find_remembered(values: str) -> str:
    """Those of these hashes that are remembered."""
    return f"""
SELECT d.content_sha256
FROM deleted_images d
WHERE d.content_sha256 IN ({values})"""


def find_remembered_paths(values: str) -> str:
    """Those of these paths that are remembered, with their hashes, and when each was deleted."""
    return f"""
SELECT d.file_path, d.content_sha256, i.deleted_at
FROM deleted_paths d
JOIN deleted_images i ON i.content_sha256 = d.content_sha256
WHERE d.file_path IN ({values})"""


LIST_DELETED = """
SELECT d.content_sha256, d.deleted_at,
       (SELECT JSON_ARRAYAGG(p.file_path ORDER BY p.file_path RETURNING CLOB)
        FROM deleted_paths p
        WHERE p.content_sha256 = d.content_sha256) AS paths
FROM deleted_images d
WHERE d.content_sha256 > :after_sha256
ORDER BY d.content_sha256
FETCH FIRST :max_rows ROWS ONLY"""

INSERT_DELETED_IMAGE = """
INSERT INTO deleted_images (content_sha256, deleted_at)
VALUES (:sha256, :deleted_at)"""

INSERT_DELETED_PATH = """
INSERT INTO deleted_paths (content_sha256, file_path)
VALUES (:sha256, :file_path)"""

FORGET_ALL = """
DELETE FROM deleted_images"""


def forget_deleted(values: str) -> str:
    """Forget hashes; paths go with them (ON DELETE CASCADE)."""
    return f"""
DELETE FROM deleted_images
WHERE content_sha256 IN ({values})"""


# Work on a session inside a write transaction, or of a read.

_LIVE, _PARKED = "image_embeddings", "trashed_embeddings"


def move_to_trash(session: Session, image_ids: list[int], reason: TrashReason, deleted_at: datetime) -> int:
    """Move live images to the trash, and their embeddings out of reach of searches."""
    count = session.execute_chunks(trash_images, image_ids, {"trash_reason": reason, "deleted_at": deleted_at})
    _move_embeddings(session, _LIVE, _PARKED, image_ids)
    return count


def restore(session: Session, image_ids: list[int]) -> int:
    """Bring those of these images back that are in the trash."""
    forget(session, [row[1].hex() for row in session.query_chunks(find_trashed, image_ids)])
    count = session.execute_chunks(restore_images, image_ids)
    if count:
        _move_embeddings(session, _PARKED, _LIVE, image_ids)
    return count


def _move_embeddings(session: Session, source: str, target: str, image_ids: list[int]) -> None:
    session.execute_chunks(lambda values: copy_embeddings(source, target, values), image_ids)
    session.execute_chunks(lambda values: delete_embeddings(source, values), image_ids)


def list_trashed(session: Session, image_ids: list[int] | None, before: datetime | None) -> list[int]:
    """Those of these images (None: of all) that went into the trash before a time (None: ever)."""
    wanted = None if image_ids is None else set(image_ids)
    return [
        image_id
        for image_id, deleted_at in session.query(LIST_TRASHED)
        if (wanted is None or image_id in wanted) and (before is None or deleted_at < before)
    ]


def remove_trashed(session: Session, image_ids: list[int]) -> list[str]:
    """Remove those of these images that are in the trash, remembering those a user deleted. Returns their hashes."""
    rows = list(session.query_chunks(find_trashed, image_ids))
    removed = [row[0] for row in rows]
    for write_sql in (remember_images, remember_paths, delete_images):
        session.execute_chunks(write_sql, removed)
    return [row[1].hex() for row in rows]


def find_deleted(session: Session, hashes: list[str]) -> set[str]:
    """Those of these hashes that a user deleted."""
    rows = session.query_chunks(find_deleted_hashes, [bytes.fromhex(sha256) for sha256 in hashes])
    return {row[0].hex() for row in rows}


def find_deleted_paths(session: Session, paths: list[str]) -> dict[str, str]:
    """Those of these stored paths whose image a user deleted and that no live image has, with the hash it had."""
    deleted = list(session.query_chunks(find_remembered_paths, paths))
    rows = list(session.query_chunks(find_paths, paths))
    deleted += [row[:3] for row in rows if row[3] == "deleted"]
    found = {path: sha256.hex() for path, sha256, _ in sorted(deleted, key=lambda row: row[2])}  # the latest wins
    for path, _, deleted_at, *_ in rows:
        if deleted_at is None:
            found.pop(path, None)
    return found


def list_deleted(session: Session, after: str, limit: int) -> list[DeletedImage]:
    """Records of deleted images, ordered by hash, from behind a hash on."""
    binds = {"after_sha256": bytes.fromhex(after) or b"\0", "max_rows": limit}  # no bytes would be NULL
    return [
        DeletedImage(sha256.hex(), deleted_at, tuple(map(decode_path, json.loads(paths or "[]"))))
        for sha256, deleted_at, paths in session.query(LIST_DELETED, binds)
    ]


def add_deleted(session: Session, deleted: list[DeletedImage]) -> None:
    """Remember these, with stored paths, unless the image is live or its file is only gone."""
    hashes = [bytes.fromhex(item.content_sha256) for item in deleted]
    taken = {row[0] for row in session.query_chunks(find_hashes, hashes)}
    taken -= {row[0] for row in session.query_chunks(find_deleted_hashes, list(taken))}
    items = {sha256: item for sha256, item in zip(hashes, deleted, strict=True) if sha256 not in taken}
    known = {row[0] for row in session.query_chunks(find_remembered, list(items))}
    paths = {(path, sha256) for sha256, item in items.items() for path in item.paths if is_storable(path)}
    paths -= {row[:2] for row in session.query_chunks(find_remembered_paths, list({path for path, _ in paths}))}
    for sha256 in items.keys() - known:
        session.execute(INSERT_DELETED_IMAGE, {"sha256": sha256, "deleted_at": items[sha256].deleted_at})
    session.execute_many(INSERT_DELETED_PATH, [{"sha256": sha256, "file_path": path} for path, sha256 in sorted(paths)])


def forget(session: Session, hashes: Sequence[str] | None) -> int:
    """Forget these hashes, or all. Returns how many were remembered."""
    if hashes is None:
        return session.execute(FORGET_ALL)
    return session.execute_chunks(forget_deleted, [bytes.fromhex(sha256) for sha256 in dict.fromkeys(hashes)])
