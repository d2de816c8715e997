"""The SQLite schema: the four tables and two views of create_all_tables.sql, and what SQLite needs beside them.

Beside the contract's tables there are image_previews (kept out of images, so that reading a column of many images
stays narrow), image_keywords and image_words (indexes, kept by triggers and by the store), removals (a log by which
searchers in other processes learn what is gone) and removed_originals (files that are still to be deleted).
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from image_search.errors import ImageNotFound, SchemaError, StoreError, StoreFull, StoreUnavailable

APPLICATION_ID = 0x696D7365  # "imse", so that a foreign SQLite file is told apart
SCHEMA_VERSION = 1
_PAGE_SIZE = 16_384  # five embeddings of 768 dimensions fit; of the default's 4,096 a quarter would stay empty

# AUTOINCREMENT: an id is never given out twice, so an id a person or a browser remembers never shows another image,
# and a searcher that has seen embedding n finds everything new above n.
_STATEMENTS = """
CREATE TABLE embedding_models (
  model_id         INTEGER PRIMARY KEY AUTOINCREMENT,
  model_name       TEXT NOT NULL,
  model_version    TEXT NOT NULL,
  vector_dimension INTEGER NOT NULL CHECK (vector_dimension > 0),
  is_current       TEXT NOT NULL DEFAULT 'N' CHECK (is_current IN ('Y', 'N')),
  UNIQUE (model_name, model_version)
);
CREATE UNIQUE INDEX one_current_model ON embedding_models (is_current) WHERE is_current = 'Y';

CREATE TABLE images (
  image_id          INTEGER PRIMARY KEY AUTOINCREMENT,
  content_sha256    BLOB NOT NULL UNIQUE CHECK (length(content_sha256) = 32),
  file_name         TEXT NOT NULL,
  file_path         TEXT,
  modified_ns       INTEGER,
  file_type         TEXT NOT NULL,
  byte_size         INTEGER NOT NULL CHECK (byte_size > 0),
  width             INTEGER NOT NULL CHECK (width > 0),
  height            INTEGER NOT NULL CHECK (height > 0),
  upload_date       TEXT NOT NULL,
  generation_prompt TEXT,
  generator         TEXT,
  generation_model  TEXT,
  taken_at          TEXT,
  details           TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX images_by_file_name ON images (file_name);
CREATE INDEX images_by_file_path ON images (file_path);
CREATE INDEX images_by_upload_date ON images (upload_date);
CREATE INDEX images_by_taken_at ON images (taken_at);
CREATE INDEX images_by_file_type ON images (file_type);
CREATE INDEX images_by_size ON images (width, height);
CREATE INDEX images_by_generator ON images (generator);
CREATE INDEX images_by_generation_model ON images (generation_model);
CREATE INDEX images_with_prompt ON images (image_id) WHERE generation_prompt IS NOT NULL;
CREATE INDEX images_without_prompt ON images (image_id) WHERE generation_prompt IS NULL;

CREATE TABLE image_previews (
  image_id INTEGER PRIMARY KEY REFERENCES images ON DELETE CASCADE,
  preview  BLOB NOT NULL
);

CREATE TABLE image_embeddings (
  embedding_id INTEGER PRIMARY KEY AUTOINCREMENT,
  image_id     INTEGER NOT NULL REFERENCES images ON DELETE CASCADE,
  model_id     INTEGER NOT NULL REFERENCES embedding_models,
  embedding    BLOB NOT NULL,
  UNIQUE (image_id, model_id)
);
CREATE INDEX embeddings_by_model ON image_embeddings (model_id, image_id);

CREATE TABLE image_descriptions (
  description_id INTEGER PRIMARY KEY,
  image_id       INTEGER NOT NULL UNIQUE REFERENCES images ON DELETE CASCADE,
  description    TEXT NOT NULL
);

CREATE VIEW current_embedding_model AS
  SELECT model_id, model_name, model_version, vector_dimension FROM embedding_models WHERE is_current = 'Y';
CREATE VIEW current_image_embeddings AS
  SELECT e.embedding_id, e.image_id, e.model_id, e.embedding
  FROM image_embeddings e JOIN current_embedding_model m ON m.model_id = e.model_id;

CREATE TABLE removals (
  removal_id   INTEGER PRIMARY KEY AUTOINCREMENT,
  embedding_id INTEGER,
  model_id     INTEGER
);
CREATE TABLE removed_originals (content_sha256 BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TRIGGER log_removed_embedding AFTER DELETE ON image_embeddings BEGIN
  INSERT INTO removals (embedding_id, model_id) VALUES (old.embedding_id, old.model_id);
END;
CREATE TRIGGER log_removed_image AFTER DELETE ON images BEGIN
  INSERT INTO removals (embedding_id, model_id) VALUES (NULL, NULL);
  INSERT OR IGNORE INTO removed_originals VALUES (old.content_sha256);
END;

CREATE TABLE image_keywords (
  keyword  TEXT NOT NULL,
  image_id INTEGER NOT NULL REFERENCES images ON DELETE CASCADE,
  PRIMARY KEY (keyword, image_id)
) WITHOUT ROWID;
CREATE INDEX keywords_by_image ON image_keywords (image_id);
CREATE TRIGGER index_new_keywords AFTER INSERT ON images BEGIN
  INSERT OR IGNORE INTO image_keywords SELECT value, new.image_id FROM json_each(new.details, '$.keywords');
END;
CREATE TRIGGER index_changed_keywords AFTER UPDATE OF details ON images BEGIN
  DELETE FROM image_keywords WHERE image_id = new.image_id;
  INSERT OR IGNORE INTO image_keywords SELECT value, new.image_id FROM json_each(new.details, '$.keywords');
END;

CREATE VIRTUAL TABLE image_words USING fts5 (tokens, content='', tokenize='ascii', prefix='1');
"""


def prepare_database(connection: sqlite3.Connection, location: str) -> None:
    """Create the schema in an empty file, or check the one that is there. Safe when two processes do it at once.

    Raises SchemaError when the file holds something else or comes from a newer version of this program.
    """
    if _read_pragma(connection, "user_version") == 0:
        connection.execute(f"PRAGMA page_size = {_PAGE_SIZE}")
        _use_write_ahead_log(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _read_pragma(connection, "user_version") == 0:
                _create_schema(connection, location)
        except BaseException:
            connection.rollback()
            raise
        connection.commit()
    version = _read_pragma(connection, "user_version")
    if _read_pragma(connection, "application_id") != APPLICATION_ID:
        raise SchemaError(_foreign(location))
    if version != SCHEMA_VERSION:
        raise SchemaError(
            f"{location} has schema version {version}, this program knows version {SCHEMA_VERSION}. "
            "Use the version of the program that made it, or name another file in DATABASE_URL."
        )


def _create_schema(connection: sqlite3.Connection, location: str) -> None:
    if connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise SchemaError(_foreign(location))
    statement = ""
    for line in _STATEMENTS.splitlines():  # executescript would commit before every script
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


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


def _read_pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _foreign(location: str) -> str:
    return f"{location} is a SQLite database of another program. Name another file in DATABASE_URL."


# Connections to one SQLite file for many threads, and what its refusals mean to a person.

BUSY_SECONDS = 60  # another process writes a batch in well under a second; a person's script may take longer
_IDLE_CONNECTIONS = 8


class Connections:
    """Lends connections to one database file. The file is opened, and made if it is new, when first needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._prepared = False
        self._closed = False

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection inside a read transaction: all its queries see one state of the library."""
        with self._borrowed("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection inside a write transaction, the only one anywhere; committed when the block ends well."""
        with self._borrowed("BEGIN IMMEDIATE") as connection:
            yield connection

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def _borrowed(self, begin: str) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._take()
            try:
                connection.execute(begin)
                yield connection
                connection.commit()
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.rollback()
                raise
            finally:
                self._give_back(connection)
        except sqlite3.Error as error:
            raise explain_error(error, self.path) from error
        except OverflowError as error:
            raise ImageNotFound(f"No image has a number that large ({error}).") from error

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise StoreError(f"{self.path} was closed by this program.")
            if self._idle:
                return self._idle.pop()
        return self._connect()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < _IDLE_CONNECTIONS and not connection.in_transaction:
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self) -> sqlite3.Connection:
        self._make_folder()
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            # FULL: an original is deleted after its record, so a commit must not be undone by a power failure.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            # The system's page cache instead of one for each connection: single embeddings are read thrice as fast.
            connection.execute(f"PRAGMA mmap_size = {1 << 40}")
            if not self._prepared:
                prepare_database(connection, str(self.path))
                self._prepared = True
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_folder(self) -> None:
        # One level only: data/ of a fresh clone is made, a mistyped or unmounted path is not.
        folder = self.path.parent
        try:
            if folder.parent.is_dir():
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(
                f"The folder {folder} cannot be made ({error.strerror}). See DATABASE_URL."
            ) from error
        if not folder.is_dir():
            raise StoreUnavailable(f"The folder {folder} is not there. Make it, or correct DATABASE_URL.")


def explain_error(error: sqlite3.Error, path: Path) -> StoreError:
    """What went wrong in one sentence, with the file and what to do."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if code is not None else None
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreUnavailable(f"{path} is held by another program. Try again when it has finished.")
    if primary == sqlite3.SQLITE_FULL:
        return StoreFull(f"The disk of {path} is full. Nothing of this batch was kept; free some space and run again.")
    if primary == sqlite3.SQLITE_NOTADB:
        return SchemaError(f"{path} is not a SQLite database. Name another file in DATABASE_URL.")
    if primary == sqlite3.SQLITE_CORRUPT:
        return StoreError(f"{path} is damaged ({error}). Restore it from a copy, or register into a new file.")
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return StoreUnavailable(f"{path} cannot be written. Check the rights of the file and of its folder.")
    if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR):
        return StoreUnavailable(f"{path} cannot be read or written just now ({error}). Check the disk and the rights.")
    return StoreError(f"{path} refused: {error}.")
