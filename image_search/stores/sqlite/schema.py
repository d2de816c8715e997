"""The SQLite schema: the tables and views of create_all_tables.sql, what SQLite needs beside them, and the migration.

Beside the contract's tables there are image_previews (kept out of images, so that reading a column of many images
stays narrow), image_words (an index, kept by the store), removals (a log by which searchers in other processes learn
what is gone) and removed_originals (files that are still to be deleted).
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path

from image_search.errors import SchemaError, StoreFull, StoreUnavailable
from image_search.records import ImageRecord
from image_search.stores.reads import SCHEMA_VERSION, newer_schema
from image_search.stores.sqlite.rows import find_records, insert_path, insert_record, insert_words
from image_search.stores.text import encode_path, load_details
from image_search.stores.tokens import TOKEN_RULE, TOKEN_SETTING, has_old_tokens

_LOG = logging.getLogger(__name__)

APPLICATION_ID = 0x696D7365  # "imse", to recognise foreign SQLite files
_PAGE_SIZE = 16_384  # five embeddings of 768 dimensions fit; of the default's 4,096 a quarter would stay empty

# AUTOINCREMENT: an id is never given out twice, so an id a user or a browser remembers never shows another image,
# and a searcher that has seen embedding n finds everything new above n.
# deleted_at leads the indexes of images: every list, count and filter begins with the live ones.
# images_by_text and the two by prompt are the conditions of stores/sql.py, letter by letter.
# IF NOT EXISTS: the migration makes what schema 1 lacks with the same statements.
_STATEMENTS = """
CREATE TABLE IF NOT EXISTS embedding_models (
  model_id         INTEGER PRIMARY KEY AUTOINCREMENT,
  model_name       TEXT NOT NULL,
  model_version    TEXT NOT NULL,
  vector_dimension INTEGER NOT NULL CHECK (vector_dimension > 0),
  is_current       TEXT NOT NULL DEFAULT 'N' CHECK (is_current IN ('Y', 'N')),
  UNIQUE (model_name, model_version)
);
CREATE UNIQUE INDEX IF NOT EXISTS one_current_model ON embedding_models (is_current) WHERE is_current = 'Y';

CREATE TABLE IF NOT EXISTS images (
  image_id          INTEGER PRIMARY KEY AUTOINCREMENT,
  content_sha256    BLOB NOT NULL UNIQUE CHECK (length(content_sha256) = 32),
  file_name         TEXT NOT NULL,
  sort_name         TEXT NOT NULL,
  file_type         TEXT NOT NULL,
  byte_size         INTEGER NOT NULL CHECK (byte_size > 0),
  width             INTEGER NOT NULL CHECK (width > 0),
  height            INTEGER NOT NULL CHECK (height > 0),
  recipe            INTEGER NOT NULL DEFAULT 1,
  upload_date       TEXT NOT NULL,
  deleted_at        TEXT,
  trash_reason      TEXT,
  generator         TEXT,
  generation_model  TEXT,
  taken_at          TEXT,
  camera            TEXT,
  lens              TEXT,
  rating            INTEGER,
  recognizer        TEXT,
  film_sha256       BLOB,
  frame_ms          INTEGER,
  generation_prompt TEXT,
  recognized_text   TEXT,
  recognized_lines  TEXT,
  details           TEXT NOT NULL DEFAULT '{}',
  UNIQUE (film_sha256, frame_ms)
);
CREATE INDEX images_by_upload_date ON images (deleted_at, upload_date);
CREATE INDEX images_by_taken_at ON images (deleted_at, taken_at, upload_date);
CREATE INDEX images_by_name ON images (deleted_at, sort_name);
CREATE INDEX images_by_file_name ON images (file_name);
CREATE INDEX images_by_file_type ON images (deleted_at, file_type);
CREATE INDEX images_by_size ON images (deleted_at, width, height);
CREATE INDEX images_by_generator ON images (deleted_at, generator);
CREATE INDEX images_by_generation_model ON images (deleted_at, generation_model);
CREATE INDEX images_by_camera ON images (deleted_at, camera);
CREATE INDEX images_by_lens ON images (deleted_at, lens);
CREATE INDEX images_by_rating ON images (deleted_at, rating);
CREATE INDEX images_by_film ON images (deleted_at, film_sha256);
CREATE INDEX images_by_text ON images (deleted_at, COALESCE(LENGTH(recognized_text), 0));
CREATE INDEX images_with_prompt ON images (deleted_at) WHERE generation_prompt IS NOT NULL;
CREATE INDEX images_without_prompt ON images (deleted_at) WHERE generation_prompt IS NULL;

CREATE TABLE IF NOT EXISTS image_paths (
  path_id     INTEGER PRIMARY KEY AUTOINCREMENT,
  image_id    INTEGER NOT NULL REFERENCES images ON DELETE CASCADE,
  file_path   TEXT NOT NULL,
  folder      TEXT NOT NULL,
  byte_size   INTEGER NOT NULL,
  modified_ns INTEGER,
  UNIQUE (file_path, image_id)
);
CREATE INDEX paths_by_image ON image_paths (image_id);
CREATE INDEX paths_by_folder ON image_paths (folder, image_id);

CREATE TABLE IF NOT EXISTS image_previews (
  image_id INTEGER PRIMARY KEY REFERENCES images ON DELETE CASCADE,
  preview  BLOB NOT NULL
);

CREATE TABLE IF NOT EXISTS image_embeddings (
  embedding_id INTEGER PRIMARY KEY AUTOINCREMENT,
  image_id     INTEGER NOT NULL REFERENCES images ON DELETE CASCADE,
  model_id     INTEGER NOT NULL REFERENCES embedding_models,
  embedding    BLOB NOT NULL,
  recipe       INTEGER NOT NULL DEFAULT 1,
  UNIQUE (image_id, model_id)
);
CREATE INDEX IF NOT EXISTS embeddings_by_model ON image_embeddings (model_id, image_id);

CREATE TABLE IF NOT EXISTS trashed_embeddings (
  image_id  INTEGER NOT NULL REFERENCES images ON DELETE CASCADE,
  model_id  INTEGER NOT NULL REFERENCES embedding_models,
  embedding BLOB NOT NULL,
  recipe    INTEGER NOT NULL DEFAULT 1,
  PRIMARY KEY (image_id, model_id)
);
CREATE INDEX trashed_embeddings_by_model ON trashed_embeddings (model_id);

CREATE TABLE IF NOT EXISTS image_descriptions (
  description_id INTEGER PRIMARY KEY,
  image_id       INTEGER NOT NULL UNIQUE REFERENCES images ON DELETE CASCADE,
  description    TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS image_keywords (
  keyword  TEXT NOT NULL,
  image_id INTEGER NOT NULL REFERENCES images ON DELETE CASCADE,
  PRIMARY KEY (keyword, image_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS keywords_by_image ON image_keywords (image_id);

CREATE TABLE IF NOT EXISTS image_loras (
  lora     TEXT NOT NULL,
  image_id INTEGER NOT NULL REFERENCES images ON DELETE CASCADE,
  PRIMARY KEY (lora, image_id)
) WITHOUT ROWID;
CREATE INDEX loras_by_image ON image_loras (image_id);

CREATE TABLE IF NOT EXISTS deleted_images (
  content_sha256 BLOB PRIMARY KEY,
  deleted_at     TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deleted_paths (
  file_path      TEXT NOT NULL,
  content_sha256 BLOB NOT NULL REFERENCES deleted_images ON DELETE CASCADE,
  PRIMARY KEY (file_path, content_sha256)
) WITHOUT ROWID;
CREATE INDEX deleted_paths_by_hash ON deleted_paths (content_sha256);

CREATE TABLE IF NOT EXISTS library_settings (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;

CREATE VIEW current_embedding_model AS
  SELECT model_id, model_name, model_version, vector_dimension FROM embedding_models WHERE is_current = 'Y';
CREATE VIEW current_image_embeddings AS
  SELECT e.embedding_id, e.image_id, e.embedding, e.model_id
  FROM image_embeddings e JOIN current_embedding_model m ON m.model_id = e.model_id;

CREATE TABLE IF NOT EXISTS removals (
  removal_id   INTEGER PRIMARY KEY AUTOINCREMENT,
  embedding_id INTEGER,
  model_id     INTEGER
);
CREATE TABLE IF NOT EXISTS removed_originals (content_sha256 BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TRIGGER log_removed_embedding AFTER DELETE ON image_embeddings BEGIN
  INSERT INTO removals (embedding_id, model_id) VALUES (old.embedding_id, old.model_id);
END;
CREATE TRIGGER log_moved_image AFTER UPDATE OF deleted_at ON images BEGIN
  INSERT INTO removals (embedding_id, model_id) VALUES (NULL, NULL);
END;
CREATE TRIGGER log_removed_image AFTER DELETE ON images BEGIN
  INSERT OR IGNORE INTO removed_originals VALUES (old.content_sha256);
END;
CREATE TRIGGER log_replaced_content AFTER UPDATE OF content_sha256 ON images BEGIN
  INSERT OR IGNORE INTO removed_originals VALUES (old.content_sha256);
END;

CREATE VIRTUAL TABLE image_words USING fts5 (tokens, content='', tokenize='ascii', prefix='1');
"""

# Statistics of ANALYZE for a large library: rows in all, and rows that have one value of the first column, of the
# first two, and so on. Without it SQLite takes deleted_at IS NULL for a rare condition and walks all images by it.
_STATISTICS = {
    "images": {
        "images_by_upload_date": "1000000 1000000 2",
        "images_by_taken_at": "1000000 1000000 2 1",
        "images_by_name": "1000000 1000000 2",
        "images_by_file_name": "1000000 2",
        "images_by_file_type": "1000000 1000000 200000",
        "images_by_size": "1000000 1000000 5000 500",
        "images_by_generator": "1000000 1000000 50000",
        "images_by_generation_model": "1000000 1000000 5000",
        "images_by_camera": "1000000 1000000 20000",
        "images_by_lens": "1000000 1000000 20000",
        "images_by_rating": "1000000 1000000 150000",
        "images_by_film": "1000000 1000000 1000",
        "images_by_text": "1000000 1000000 5000",
        "images_with_prompt": "500000 500000",
        "images_without_prompt": "500000 500000",
        "sqlite_autoindex_images_1": "1000000 1",
    },
    "image_paths": {
        "sqlite_autoindex_image_paths_1": "1000000 1 1",
        "paths_by_image": "1000000 1",
        "paths_by_folder": "1000000 100 1",
    },
    "image_embeddings": {
        "sqlite_autoindex_image_embeddings_1": "1000000 1 1",
        "embeddings_by_model": "1000000 1000000 1",
    },
    "image_keywords": {"image_keywords": "5000000 500 1", "keywords_by_image": "5000000 5 1"},
    "image_loras": {"image_loras": "1000000 500 1", "loras_by_image": "1000000 2 1"},
}


def prepare_database(connection: sqlite3.Connection, location: str) -> int:
    """Create the schema in an empty file, or check the one that is there. Safe when two processes do it at once.

    Returns the schema version: this program's, or an older one that is to be migrated. Raises SchemaError when the
    file holds something else or comes from a newer version of this program.
    """
    if _read_pragma(connection, "user_version") == 0:
        connection.execute(f"PRAGMA page_size = {_PAGE_SIZE}")
        _use_write_ahead_log(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _read_pragma(connection, "user_version") == 0:
                if connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                    raise SchemaError(_foreign(location))
                _create_schema(connection)
        except BaseException:
            connection.rollback()
            raise
        connection.commit()
    version = _read_pragma(connection, "user_version")
    if _read_pragma(connection, "application_id") != APPLICATION_ID:
        raise SchemaError(_foreign(location))
    if version > SCHEMA_VERSION:
        raise newer_schema(location, version)
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":  # a backup that was copied into place
        with suppress(sqlite3.OperationalError):  # another program reads it, or nothing can be written
            connection.execute("PRAGMA journal_mode = WAL")
    return version


def _create_schema(connection: sqlite3.Connection) -> None:
    """Make whatever of the schema is not there yet, inside the caller's transaction."""
    statement = ""
    for line in _STATEMENTS.splitlines():  # executescript would commit before every script
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
    connection.execute("ANALYZE library_settings")  # makes the table of statistics
    connection.execute("DELETE FROM sqlite_stat1")
    connection.executemany(
        "INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES (?, ?, ?)",
        [(table, index, stat) for table, indexes in _STATISTICS.items() for index, stat in indexes.items()],
    )
    connection.execute("ANALYZE sqlite_master")  # reads them; other connections do so when they open the file
    _write_token_rule(connection)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _read_pragma(connection: sqlite3.Connection, name: str) -> int:
    """The value of a pragma that is a number."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    # Changing the journal mode does not wait for busy_timeout, so two processes at their first start would collide.
    for attempt in range(50):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or attempt == 49:
                raise
            time.sleep(0.1)


def _foreign(location: str) -> str:
    return f"{location} is a SQLite database of another program. Name another file in DATABASE_URL."


def has_old_words(connection: sqlite3.Connection, location: str) -> bool:
    """Whether words are indexed by an older rule. Raises SchemaError for a newer one."""
    row = connection.execute("SELECT value FROM library_settings WHERE name = ?", [TOKEN_SETTING]).fetchone()
    return has_old_tokens(row and row[0], location)


def renew_words(connection: sqlite3.Connection, location: str) -> None:
    """Index the words of all images again, inside the caller's transaction."""
    connection.execute("INSERT INTO image_words (image_words) VALUES ('delete-all')")
    _LOG.warning("%s: indexing all words again, by rule %s", location, TOKEN_RULE)
    rows = connection.execute("SELECT image_id FROM images ORDER BY image_id")
    while chunk := rows.fetchmany(_CHUNK):
        for record in find_records(connection, [image_id for (image_id,) in chunk]).values():
            insert_words(connection, record)
    _write_token_rule(connection)


def _write_token_rule(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT OR REPLACE INTO library_settings VALUES (?, ?)", (TOKEN_SETTING, str(TOKEN_RULE)))


# A library of schema 1 becomes one of schema 2: a copy of the file first, then everything in one transaction.

_CHUNK = 1000
_MIN_FREE = 64 * 2**20  # bytes; what the smallest library needs


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
            if _read_pragma(db, "user_version") >= SCHEMA_VERSION:
                db.rollback()
                return
            copy = _copy_file(path)
            _remake_tables(db)
        except BaseException:
            db.rollback()
            raise
        db.commit()
    _LOG.warning("%s: migrated the library to schema %s; the file as it was is %s", path, SCHEMA_VERSION, copy.name)


def _copy_file(path: Path) -> Path:
    """Copy the library while this process is its only writer. Returns where to."""
    copy = path.with_name(f"{path.name}.schema1")
    part = path.with_name(f"{path.name}.schema1.part")
    needed = 2 * path.stat().st_size + _MIN_FREE  # the copy, and what the transaction writes
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


def _remake_tables(db: sqlite3.Connection) -> None:
    last_id = next((seq for (seq,) in db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'images'")), 0)
    for kind, name in db.execute(
        "SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view') "
        "OR type = 'index' AND tbl_name = 'images' AND sql IS NOT NULL"
    ).fetchall():
        db.execute(f"DROP {kind} {name}")
    db.execute("ALTER TABLE images RENAME TO images_of_schema_1")
    db.execute("DROP TABLE image_words")
    db.execute("ALTER TABLE image_embeddings ADD COLUMN recipe INTEGER NOT NULL DEFAULT 1")
    _create_schema(db)
    for record in _read_old_records(db):
        insert_record(db, record)
        insert_words(db, record)  # again, in the spelling of this version
    _move_paths(db)
    db.execute("DROP TABLE images_of_schema_1")
    if last_id:
        db.execute("DELETE FROM sqlite_sequence WHERE name = 'images'")
        db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('images', ?)", [last_id])
        db.execute("INSERT INTO library_settings (name, value) VALUES ('held_images', '1')")


def _read_old_records(db: sqlite3.Connection) -> Iterator[ImageRecord]:
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
