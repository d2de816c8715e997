"""A library of the original application becomes one of this program: nothing is lost, nothing is doubled."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import oracledb
import pytest

from image_search.errors import SchemaError, UnreadableImage
from image_search.records import NewImage, SearchFilter
from image_search.settings import Settings
from image_search.stores.oracle import OracleStore
from image_search.stores.oracle import migration as sql
from image_search.stores.oracle.migration import migrate
from image_search.stores.oracle.schema import read_tables
from tests.fakes import make_embeddings
from tests.oracle.parser import find_faults, make_linter
from tests.oracle.stand_in import StandIn, make_error

SETTINGS = Settings(db_user="imgsearch", db_password="Never_Shown_1", db_dsn="db.example:1521/FREEPDB1")

ORIGINAL_TABLES = """
CREATE TABLE images (image_id INTEGER PRIMARY KEY AUTOINCREMENT, image_data BLOB, file_name TEXT, file_type TEXT,
                     upload_date TEXT, generation_prompt TEXT, somebodys_own_column TEXT);
CREATE TABLE embedding_models (model_id INTEGER PRIMARY KEY AUTOINCREMENT, model_name TEXT, model_version TEXT,
                               is_current TEXT, vector_dimension INTEGER);
CREATE TABLE image_embeddings (embedding_id INTEGER PRIMARY KEY AUTOINCREMENT, image_id INTEGER REFERENCES images,
                               model_id INTEGER REFERENCES embedding_models, embedding BLOB);
CREATE TABLE image_descriptions (description_id INTEGER PRIMARY KEY AUTOINCREMENT,
                                 image_id INTEGER REFERENCES images, description TEXT);
"""

ORIGINAL_CONSTRAINTS = [
    ("IMAGES", "SYS_C1", "P", None),
    ("EMBEDDING_MODELS", "SYS_C2", "P", None),
    ("EMBEDDING_MODELS", "SYS_C3", "C", None),
    ("IMAGE_EMBEDDINGS", "SYS_C4", "P", None),
    ("IMAGE_EMBEDDINGS", "FK_IMAGE_EMBEDDING", "R", "NO ACTION"),
    ("IMAGE_EMBEDDINGS", "FK_MODEL_EMBEDDING", "R", "NO ACTION"),
    ("IMAGE_DESCRIPTIONS", "SYS_C5", "P", None),
    ("IMAGE_DESCRIPTIONS", "FK_IMAGE_DESCRIPTION", "R", "NO ACTION"),
    ("SOMEBODYS_TABLE", "FK_ELSEWHERE", "R", "NO ACTION"),
]


class OriginalStandIn(StandIn):
    """The database of the original application, whose tables can be altered."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.changes: list[str] = []
        with self._open() as connection:
            connection.execute("PRAGMA foreign_keys = OFF")
            for kind, name in connection.execute("SELECT type, name FROM sqlite_master").fetchall():
                if kind in ("table", "view") and not name.startswith("sqlite_"):
                    connection.execute(f"DROP {kind} {name}")
            connection.executescript(ORIGINAL_TABLES)
        self.answer(sql.FIND_CONSTRAINTS, ORIGINAL_CONSTRAINTS)
        self.answer(
            sql.FIND_OLD_INDEXES,
            [("IMAGE_EMBEDDING_IDX", "VECTOR"), ("IDX_IMAGE_PROMPT", "DOMAIN"), ("IDX_IMAGE_DESCRIPTION", "DOMAIN")],
        )
        self.answers.insert(0, (sql.FIND_COLUMNS, lambda _: self.list_columns()))

    def list_columns(self) -> list[tuple[str, str, str]]:
        with self._open() as connection:
            return [
                (table, column[1].upper(), "Y")
                for table in ("IMAGES", "EMBEDDING_MODELS", "IMAGE_EMBEDDINGS", "IMAGE_DESCRIPTIONS")
                for column in connection.execute(f"PRAGMA table_info ({table})")
            ]

    def define(self, connection: sqlite3.Connection, statement: str) -> None:
        self.changes.append(statement)
        match = re.fullmatch(r"ALTER TABLE (\w+) ADD \((\w+) +\w+.*?( DEFAULT '.*')?\)", statement)
        if match:
            connection.execute(f"ALTER TABLE {match[1]} ADD COLUMN {match[2]}{match[3] or ''}")


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OriginalStandIn:
    """Four images, the last with the bytes of the first; one model listed twice; doubles of everything."""
    stand_in = OriginalStandIn(tmp_path / "original.db")
    monkeypatch.setattr(oracledb, "connect", stand_in.connect)
    monkeypatch.setattr(oracledb, "create_pool", stand_in.create_pool)
    vectors = [row.tobytes() for row in make_embeddings(4)]
    images = [
        (b"one", "a.png", "old prompt 猫"),
        (b"two", "b.png", None),
        (b"three", None, None),
        (b"one", "c.png", None),
    ]
    with stand_in._open() as connection:
        connection.executemany(
            "INSERT INTO images "
            "(image_data, file_name, generation_prompt, file_type, upload_date, somebodys_own_column) "
            "VALUES (?, ?, ?, 'png', '2024-05-01 10:00:00.000000', 'kept')",
            images,
        )
        connection.executemany(
            "INSERT INTO embedding_models (model_name, model_version, is_current, vector_dimension) "
            "VALUES (?, ?, ?, 16)",
            [("Japanese Stable CLIP", "vit-l-16", "N"), ("Japanese Stable CLIP", "vit-l-16", "Y")],
        )
        connection.executemany(
            "INSERT INTO image_embeddings (image_id, model_id, embedding) VALUES (?, ?, ?)",
            [
                *[(1, 1, vectors[3]), (1, 2, vectors[0]), (2, 1, vectors[1]), (3, 2, vectors[2]), (4, 2, vectors[0])],
                *[(None, 1, vectors[0]), (2, 1, None)],
            ],
        )
        connection.executemany(
            "INSERT INTO image_descriptions (image_id, description) VALUES (?, ?)",
            [(2, "older"), (2, "newer 庭"), (2, None), (4, "of the double"), (None, "of nothing"), (3, None)],
        )
    return stand_in


def read_image(data: bytes, name: str) -> NewImage:
    if data == b"broken":
        raise UnreadableImage(f"{name} is not a picture.")
    return NewImage(
        content_sha256=hashlib.sha256(data).hexdigest(),
        file_name=name,
        file_type="image/png",
        width=64,
        height=48,
        data=data,
        preview=b"preview of " + data,
    )


def take_picture(database: StandIn) -> list[Any]:
    with database._open() as connection:
        tables = ("images", "image_embeddings", "image_descriptions", "embedding_models")
        return [connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in tables]


def open_migrated(database: OriginalStandIn) -> OracleStore:
    """The store over the migrated tables, with those that only create_all_tables.sql adds."""
    with database._open() as connection:
        connection.executescript(
            "CREATE TABLE IF NOT EXISTS image_search_schema (schema_version);"
            "INSERT INTO image_search_schema VALUES (1);"
            "CREATE TABLE IF NOT EXISTS image_keywords (image_id, keyword);"
        )
    return OracleStore.open(SETTINGS)


def test_a_dry_run_counts_what_is_doubled_and_changes_nothing(database: OriginalStandIn) -> None:
    before = take_picture(database)
    report = "\n".join(migrate(SETTINGS, read_image, dry_run=True))
    assert "1 models that are listed twice." in report
    assert "3 descriptions that are empty or belong to nothing." in report
    assert "1 descriptions beside a newer one of the same image." in report
    assert "2 embeddings that are empty or belong to nothing." in report
    assert "1 images have the same bytes as an older one. Nothing was changed." in report
    assert take_picture(database) == before
    assert database.changes == []
    assert not [text for text in database.statements if not text.lstrip().startswith("SELECT")]


def test_images_embeddings_and_texts_are_kept(database: OriginalStandIn) -> None:
    list(migrate(SETTINGS, read_image))
    store = open_migrated(database)
    assert [model.is_current for model in store.list_models()] == [True]
    newest = store.find_latest()
    assert [hit.image_id for hit in newest] == [3, 2, 1]
    assert [hit.image.file_name for hit in newest] == ["image3", "b.png", "a.png"]
    one, two = store.get_images([1, 2])
    assert one.text.generation_prompt == "old prompt 猫"
    assert one.text.description == "of the double"  # its own place was empty
    assert two.text.description == "newer 庭"
    assert (one.file_type, one.width, one.height, one.byte_size) == ("image/png", 64, 48, 3)
    assert store.read_original(1) == b"one"
    assert store.read_preview(3) == b"preview of three"
    vectors = make_embeddings(4)
    for image_id, vector in ((1, vectors[0]), (2, vectors[1]), (3, vectors[2])):
        assert np.array_equal(store.get_embedding(image_id, 1), vector)
    hits = store.search_embedding(1, vectors[1], filter=SearchFilter(words=("庭",)))
    assert [hit.image_id for hit in hits] == [2]
    assert [hit.image_id for hit in store.search_words(["猫"])] == [1]
    assert store.find_known_hashes([hashlib.sha256(b"three").hexdigest()]) != {}


def test_columns_of_somebody_else_stay(database: OriginalStandIn) -> None:
    list(migrate(SETTINGS, read_image))
    with database._open() as connection:
        assert set(connection.execute("SELECT somebodys_own_column FROM images")) == {("kept",)}


def test_everything_the_script_defines_is_added(database: OriginalStandIn) -> None:
    list(migrate(SETTINGS, read_image))
    changes = "\n".join(database.changes)
    for index in ("IMAGE_EMBEDDING_IDX", "IDX_IMAGE_PROMPT"):
        assert f'DROP INDEX "{index}"' in changes
    for table in ("IMAGES", "EMBEDDING_MODELS", "IMAGE_EMBEDDINGS", "IMAGE_DESCRIPTIONS"):
        for name, definition in read_tables()[table].constraints.items():
            wanted = "PRIMARY KEY" not in definition and name != "FK_MODEL_EMBEDDING"
            assert (f"ALTER TABLE {table} ADD {definition}" in changes) == wanted
    assert "ALTER TABLE IMAGE_EMBEDDINGS DROP CONSTRAINT FK_IMAGE_EMBEDDING" in changes
    assert "DROP CONSTRAINT FK_MODEL_EMBEDDING" not in changes
    assert "FK_ELSEWHERE" not in changes
    assert "ALTER TABLE IMAGES MODIFY (SEARCH_TEXT NOT NULL)" in changes
    assert "ALTER TABLE IMAGES MODIFY (FILE_NAME VARCHAR2(255 CHAR) NOT NULL)" in changes
    assert "ALTER TABLE IMAGES MODIFY (DETAILS DEFAULT '{}' NOT NULL)" in changes
    upload_date = "UPLOAD_DATE DEFAULT SYS_EXTRACT_UTC(SYSTIMESTAMP) NOT NULL"
    assert f"ALTER TABLE IMAGES MODIFY ({upload_date})" in changes
    assert "MODIFY (EMBEDDING NOT NULL)" in changes
    assert not re.search(r"MODIFY \(\w+ NUMBER|IDENTITY\)", changes)
    assert changes.index("SEARCH_TEXT NOT NULL") < changes.index("CREATE TABLE IF NOT EXISTS")


def test_an_interrupted_migration_is_started_again(database: OriginalStandIn) -> None:
    database.fail_once("SET search_text", make_error("ORA-03113"))
    with pytest.raises(Exception, match="lost"):
        list(migrate(SETTINGS, read_image))
    list(migrate(SETTINGS, read_image))
    assert open_migrated(database).count_images() == 3


def test_the_embeddings_can_go_on_under_the_name_of_the_loaded_model(database: OriginalStandIn) -> None:
    report = list(migrate(SETTINGS, read_image, adopt=("stabilityai/japanese-stable-clip-vit-l-16", "abc", 16)))
    assert any("now belong to" in sentence for sentence in report)
    model = open_migrated(database).get_or_create_model("stabilityai/japanese-stable-clip-vit-l-16", "abc", 16)
    assert (model.model_id, model.is_current) == (1, True)


@pytest.mark.usefixtures("database")
def test_embeddings_of_another_dimension_are_not_adopted() -> None:
    report = list(migrate(SETTINGS, read_image, adopt=("other", "1", 768)))
    assert any("another dimension than other" in sentence for sentence in report)


def test_a_picture_that_cannot_be_read_stops_before_the_keys_are_added(database: OriginalStandIn) -> None:
    with database._open() as connection:
        connection.execute("UPDATE images SET image_data = ? WHERE image_id = 2", (b"broken",))
    with pytest.raises(SchemaError, match="image_id 2"):
        list(migrate(SETTINGS, read_image))
    assert not [change for change in database.changes if "CONSTRAINT" in change]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE embedding_models SET vector_dimension = NULL", "Fill in EMBEDDING_MODELS"),
        ("UPDATE embedding_models SET vector_dimension = 768", "another dimension"),
        ("UPDATE images SET image_data = NULL", "no bytes"),
    ],
)
def test_what_only_a_person_can_put_right_stops_at_once(database: OriginalStandIn, damage: str, message: str) -> None:
    with database._open() as connection:
        connection.execute(damage)
    with pytest.raises(SchemaError, match=message):
        list(migrate(SETTINGS, read_image))
    assert database.changes == []


def test_vectors_that_are_not_of_length_1_are_told(database: OriginalStandIn) -> None:
    with database._open() as connection:
        connection.execute("UPDATE image_embeddings SET embedding = ?", (np.full(16, 2, np.float32).tobytes(),))
    assert any("not of length 1" in sentence for sentence in migrate(SETTINGS, read_image, dry_run=True))


def test_an_empty_schema_has_nothing_to_migrate(database: OriginalStandIn) -> None:
    database.answer(sql.FIND_COLUMNS, [])
    with pytest.raises(SchemaError, match="--create-schema"):
        list(migrate(SETTINGS, read_image))


def test_every_change_of_the_tables_parses(database: OriginalStandIn) -> None:
    list(migrate(SETTINGS, read_image))
    linter = make_linter()
    altering = [change for change in database.changes if change.startswith(("ALTER TABLE", "DROP INDEX"))]
    assert len(altering) > 30
    for change in altering:
        assert find_faults(linter, change) == [], change
