"""A library of schema 1 becomes one of schema 2: a copy of the file first, then everything in one transaction."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

from image_search.errors import StoreFull, StoreUnavailable
from image_search.records import ImageRecord
from image_search.stores.errors import SCHEMA_VERSION
from image_search.stores.sqlite.schema import create_schema, read_pragma
from image_search.stores.sqlite.writes import insert_path, insert_record, insert_words
from image_search.stores.text import encode_path, load_details

_LOG = logging.getLogger(__name__)
_CHUNK = 1000
_LITTLE = 64 * 2**20  # bytes; what the smallest library needs


def migrate(path: Path, timeout: float) -> None:
    """Bring the library in this file to the schema of this program. Another process may do it at the same time.

    timeout: seconds to wait for another program that writes. Raises StoreFull before anything is changed when the disk
    has no room, and StoreError.
    """
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=timeout, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = OFF")  # else dropping the old table would take previews and embeddings along
        db.execute("PRAGMA legacy_alter_table = ON")  # else they would refer to the old table under its new name
        db.execute("BEGIN IMMEDIATE")
        try:
            if read_pragma(db, "user_version") >= SCHEMA_VERSION:
                db.rollback()
                return
            copy = _copy_file(path)
            _change(db)
        except BaseException:
            db.rollback()
            raise
        db.commit()
    _LOG.warning("%s: migrated the library to schema %s; the file as it was is %s", path, SCHEMA_VERSION, copy.name)


def _copy_file(path: Path) -> Path:
    """Copy the library while this process is its only writer. Returns where to."""
    copy = path.with_name(f"{path.name}.schema1")
    part = path.with_name(f"{path.name}.schema1.part")
    needed = 2 * path.stat().st_size + _LITTLE  # the copy, and what the transaction writes
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise StoreFull(
            f"{path} must be migrated to schema {SCHEMA_VERSION}, which needs {needed / 2**30:,.1f} GiB of free disk; "
            f"{free / 2**30:,.1f} GiB are free. Free some room and start again; nothing was changed."
        )
    try:
        os.close(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600))
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(part)) as target:
            source.backup(target)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(copy)
    except OSError as error:
        raise StoreUnavailable(
            f"{copy} cannot be written ({error.strerror}). Check the disk and the rights."
        ) from error
    return copy


def _change(db: sqlite3.Connection) -> None:
    last_id = next((seq for (seq,) in db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'images'")), 0)
    for kind, name in db.execute(
        "SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view') "
        "OR type = 'index' AND tbl_name = 'images' AND sql IS NOT NULL"
    ).fetchall():
        db.execute(f"DROP {kind} {name}")
    db.execute("ALTER TABLE images RENAME TO images_of_schema_1")
    db.execute("DROP TABLE image_words")
    db.execute("ALTER TABLE image_embeddings ADD COLUMN recipe INTEGER NOT NULL DEFAULT 1")
    create_schema(db)
    for record in _read_records(db):
        insert_record(db, record)
        insert_words(db, record)  # again, in the spelling of this version
    _move_paths(db)
    db.execute("DROP TABLE images_of_schema_1")
    if last_id:
        db.execute("DELETE FROM sqlite_sequence WHERE name = 'images'")
        db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('images', ?)", [last_id])
        db.execute("INSERT INTO library_settings (name, value) VALUES ('held_images', '1')")


def _read_records(db: sqlite3.Connection) -> Iterator[ImageRecord]:
    rows = db.execute(
        "SELECT i.image_id, i.content_sha256, i.file_name, i.file_type, i.byte_size, i.width, i.height, i.upload_date, "
        "i.details, i.generation_prompt, d.description, i.generator, i.generation_model, i.taken_at "
        "FROM images_of_schema_1 i LEFT JOIN image_descriptions d USING (image_id) ORDER BY i.image_id"
    )
    while chunk := rows.fetchmany(_CHUNK):
        for image_id, sha256, name, file_type, byte_size, width, height, upload_date, details, *text in chunk:
            prompt, description, generator, model, taken_at = text
            taken = datetime.fromisoformat(taken_at) if taken_at else None
            yield ImageRecord(
                image_id=image_id,
                content_sha256=sha256.hex(),
                file_name=name,
                file_type=file_type,
                byte_size=byte_size,
                width=width,
                height=height,
                upload_date=datetime.fromisoformat(upload_date),
                paths=(),
                **load_details(details, prompt, description, generator, model, taken),
            )


def _move_paths(db: sqlite3.Connection) -> None:
    # In this order a path that held several images ends at the latest one, which is what the file holds now.
    for image_id, path, byte_size, modified_ns in db.execute(
        "SELECT image_id, file_path, byte_size, modified_ns FROM images_of_schema_1 "
        "WHERE file_path IS NOT NULL ORDER BY image_id"
    ):
        insert_path(db, image_id, _restore_path(path), byte_size, modified_ns)


def _restore_path(path: str) -> str:
    """A path as it is stored now. Schema 1 wrote a byte that is not UTF-8 as it is spelt in Python: caf\\udce9.jpg."""
    return encode_path(re.sub(r"\\u(dc[89a-f][0-9a-f])", lambda match: chr(int(match.group(1), 16)), path))
