"""The SQLite schema: the four tables and two views of create_all_tables.sql, and what SQLite needs beside them.

Beside the contract's tables there are image_previews (kept out of images, so that reading a column of many images
stays narrow), image_keywords and image_words (indexes, kept by triggers and by the store), removals (a log by which
searchers in other processes learn what is gone) and removed_originals (files that are still to be deleted).
"""

from __future__ import annotations

import sqlite3
import time

from image_search.errors import SchemaError

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
