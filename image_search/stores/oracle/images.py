"""Work on the rows of one image, on a session inside a transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import oracledb

from image_search.records import ImageRecord, NewImage
from image_search.stores.errors import image_not_found
from image_search.stores.oracle import sql
from image_search.stores.oracle.connection import Session
from image_search.stores.oracle.rows import (
    bind_content,
    bind_image,
    bind_keywords,
    bind_loras,
    bind_path,
    bind_record,
    is_storable,
    make_record,
)
from image_search.stores.text import make_new_record


def find_hashes(session: Session, hashes: Sequence[str]) -> dict[str, tuple[int, datetime | None]]:
    """Those of these hashes that images have, with image_id and, in the trash, the time of deletion."""
    rows = session.query_chunks(sql.find_hashes, [bytes.fromhex(sha256) for sha256 in hashes])
    return {sha256.hex(): (image_id, deleted_at) for sha256, image_id, deleted_at in rows}


def get_live_record(session: Session, image_id: int, or_trashed: bool = False) -> ImageRecord:
    """The record of a live image. Raises ImageNotFound, without or_trashed also for one in the trash."""
    for record in map(make_record, session.query_chunks(sql.get_records, [image_id])):
        if record.deleted_at is None or or_trashed:
            return record
    raise image_not_found(image_id)


def change_record(
    session: Session, image_id: int, change: Callable[[ImageRecord], ImageRecord], or_trashed: bool = False
) -> bool:
    """Write what a change makes of a record. Returns whether that is anything else. Raises ImageNotFound."""
    record = get_live_record(session, image_id, or_trashed)
    changed = change(record)
    if changed == record:
        return False
    update_record(session, changed)
    return True


def update_record(session: Session, record: ImageRecord) -> None:
    """Write everything that is derived from the texts and facts of an image."""
    session.execute(sql.UPDATE_RECORD, {**bind_record(record), "image_id": record.image_id})
    for statement in (sql.DELETE_DESCRIPTION, sql.DELETE_KEYWORDS, sql.DELETE_LORAS):
        session.execute(statement, {"image_id": record.image_id})
    _insert_texts(session, record)


def insert_image(session: Session, image: NewImage, has_data: bool) -> int:
    """Insert everything but embedding and path. has_data: whether the database keeps the original."""
    record = make_new_record(0, image, datetime.min)
    binds = bind_image(image, record, has_data)
    image_id = session.insert(sql.INSERT_IMAGE, binds, returning="image_id", types=_list_null_types(binds))
    _insert_texts(session, replace(record, image_id=image_id))
    return image_id


def update_content(session: Session, record: ImageRecord, image: NewImage, has_data: bool) -> None:
    """Write the new content of an image, of which this is the record; recognised lines are forgotten."""
    binds = {**bind_content(image, has_data), "image_id": record.image_id}
    session.execute(sql.UPDATE_CONTENT, binds, _list_null_types(binds))
    update_record(session, record)


def _insert_texts(session: Session, record: ImageRecord) -> None:
    if record.text.description is not None:
        binds = {"image_id": record.image_id, "description": record.text.description}
        session.execute(sql.INSERT_DESCRIPTION, binds)
    session.execute_many(sql.INSERT_KEYWORD, bind_keywords(record))
    session.execute_many(sql.INSERT_LORA, bind_loras(record))


def insert_path(session: Session, image_id: int, file_path: str, byte_size: int, modified_ns: int | None) -> None:
    """Give an image a path as its latest; another one loses it, except a frame of the same film."""
    if is_storable(file_path):
        session.execute(sql.TAKE_PATH, {"file_path": file_path, "image_id": image_id})
        session.execute(sql.INSERT_PATH, bind_path(image_id, file_path, byte_size, modified_ns))


def _list_null_types(binds: Mapping[str, object]) -> dict[str, object]:
    # A NULL shows no type; as text it would neither go into a BLOB nor stand beside a time.
    types = {"upload_date": oracledb.DB_TYPE_TIMESTAMP, "image_data": oracledb.DB_TYPE_BLOB}
    return {name: kind for name, kind in types.items() if name in binds and binds[name] is None}
