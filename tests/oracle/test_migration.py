"""A library of the original application becomes one of this program: nothing is lost, nothing is doubled."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from image_search.errors import SchemaError, UnreadableImage
from image_search.records import NewImage, SearchFilter
from image_search.settings import Settings
from image_search.stores.oracle import OracleStore
from image_search.stores.oracle.connection import connect
from image_search.stores.oracle.migration import migrate
from image_search.stores.oracle.schema import read_tables
from tests.fakes import make_embeddings
from tests.oracle.parser import find_faults, make_linter
from tests.oracle.wire.faults import Cut
from tests.oracle.wire.server import Server
from tests.oracle.wired import make_settings, serve_nothing

# As the original application made them, with a column that an administrator added.
ORIGINAL_TABLES = (
    "CREATE TABLE images (image_id NUMBER GENERATED ALWAYS AS IDENTITY PRIMARY KEY, image_data BLOB, "
    "file_name VARCHAR2(255), file_type VARCHAR2(50), upload_date TIMESTAMP DEFAULT CURRENT_TIMESTAMP, "
    "generation_prompt CLOB, added_by_others VARCHAR2(10))",
    "CREATE TABLE embedding_models (model_id NUMBER GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
    "model_name VARCHAR2(255), model_version VARCHAR2(50), is_current CHAR(1) CHECK (is_current IN ('Y', 'N')), "
    "vector_dimension NUMBER)",
    "CREATE TABLE image_embeddings (embedding_id NUMBER GENERATED ALWAYS AS IDENTITY PRIMARY KEY, image_id NUMBER, "
    "model_id NUMBER, embedding VECTOR, CONSTRAINT fk_image_embedding FOREIGN KEY (image_id) REFERENCES images, "
    "CONSTRAINT fk_model_embedding FOREIGN KEY (model_id) REFERENCES embedding_models)",
    "CREATE VECTOR INDEX image_embedding_idx ON image_embeddings (embedding) ORGANIZATION NEIGHBOR PARTITIONS "
    "WITH DISTANCE DOT",
    "CREATE TABLE image_descriptions (description_id NUMBER GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
    "image_id NUMBER, description CLOB, "
    "CONSTRAINT fk_image_description FOREIGN KEY (image_id) REFERENCES images)",
    "CREATE INDEX idx_image_prompt ON images (generation_prompt) INDEXTYPE IS ctxsys.context",
    "CREATE INDEX idx_image_description ON image_descriptions (description) INDEXTYPE IS ctxsys.context",
    "CREATE TABLE table_of_others (others_id NUMBER PRIMARY KEY, parent NUMBER, "
    "CONSTRAINT fk_elsewhere FOREIGN KEY (parent) REFERENCES table_of_others)",
)


@dataclass(frozen=True)
class Original:
    """A database of the original application, its server, and settings for it."""

    server: Server
    settings: Settings

    @property
    def changes(self) -> list[str]:
        return [sql for sql in self.server.statements if not sql.startswith("SELECT")]

    def run(self, statement: str, values: object = ()) -> list[tuple[Any, ...]]:
        """Look or change behind the wire."""
        connection = sqlite3.connect(self.server.database.path)
        rows = connection.execute(statement, values).fetchall()  # type: ignore[arg-type]
        connection.commit()
        connection.close()
        return rows


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Original]:
    """Four images, the last with the bytes of the first; one model listed twice; doubles of everything."""
    vectors = [f"'{json.dumps(row.tolist())}'" for row in make_embeddings(4)]
    images = ((b"one", "'a.png'", "'old prompt 猫'"), (b"two", "'b.png'", "NULL"), (b"three", "NULL", "NULL"))
    rows = [
        "INSERT INTO images (image_data, file_name, generation_prompt, file_type, added_by_others) "
        f"VALUES (HEXTORAW('{data.hex()}'), {name}, {prompt}, 'png', 'kept')"
        for data, name, prompt in (*images, (b"one", "'c.png'", "NULL"))
    ]
    rows += [
        "INSERT INTO embedding_models (model_name, model_version, is_current, vector_dimension) "
        f"VALUES ('Japanese Stable CLIP', 'vit-l-16', '{is_current}', 16)"
        for is_current in "NY"
    ]
    embeddings = [(1, 1, vectors[3]), (1, 2, vectors[0]), (2, 1, vectors[1]), (3, 2, vectors[2]), (4, 2, vectors[0])]
    rows += [
        f"INSERT INTO image_embeddings (image_id, model_id, embedding) VALUES ({image}, {model}, {vector})"
        for image, model, vector in (*embeddings, ("NULL", 1, vectors[0]), (2, 1, "NULL"))
    ]
    texts = (
        (2, "'older'"),
        (2, "'newer 庭'"),
        (2, "NULL"),
        (4, "'of the double'"),
        ("NULL", "'of nothing'"),
        (3, "NULL"),
    )
    rows += [
        f"INSERT INTO image_descriptions (image_id, description) VALUES ({image}, {text})" for image, text in texts
    ]
    with serve_nothing(tmp_path / "original.db") as server:
        settings = make_settings(server)
        with connect(settings) as session:
            for statement in (*ORIGINAL_TABLES, *rows):
                session.execute(statement)
            session.connection.commit()
        server.events.clear()
        yield Original(server, settings)


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


def take_snapshot(database: Original) -> list[Any]:
    tables = ("images", "image_embeddings", "image_descriptions", "embedding_models")
    return [database.run(f"SELECT * FROM {table} ORDER BY 1") for table in tables]


def test_dry_run_counts_what_is_doubled_and_changes_nothing(database: Original) -> None:
    before = take_snapshot(database)
    report = "\n".join(migrate(database.settings, read_image, dry_run=True))
    assert "1 models that are listed twice." in report
    assert "3 descriptions that are empty or belong to nothing." in report
    assert "1 descriptions beside a newer one of the same image." in report
    assert "2 embeddings that are empty or belong to nothing." in report
    assert "1 images have the same bytes as an older one. Nothing was changed." in report
    assert take_snapshot(database) == before
    assert database.changes == []


def test_images_embeddings_and_texts_are_kept(database: Original) -> None:
    list(migrate(database.settings, read_image))
    store = OracleStore.open(database.settings)
    assert [model.is_current for model in store.list_models()] == [True]
    newest = store.list_images()
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
    assert [hit.image_id for hit in store.list_images(["猫"])] == [1]
    assert store.find_known_hashes([hashlib.sha256(b"three").hexdigest()]) != {}


def test_columns_that_others_added_stay(database: Original) -> None:
    list(migrate(database.settings, read_image))
    assert set(database.run("SELECT added_by_others FROM images")) == {("kept",)}


def test_upgrade_adds_everything_the_script_defines(database: Original) -> None:
    list(migrate(database.settings, read_image))
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
    assert "ALTER TABLE IMAGES MODIFY (DETAILS NOT NULL)" in changes
    upload_date = "UPLOAD_DATE DEFAULT SYS_EXTRACT_UTC(SYSTIMESTAMP) NOT NULL"
    assert f"ALTER TABLE IMAGES MODIFY ({upload_date})" in changes
    assert "MODIFY (EMBEDDING NOT NULL)" in changes
    assert not re.search(r"MODIFY \(\w+ NUMBER|IDENTITY\)", changes)
    assert changes.index("SEARCH_TEXT NOT NULL") < changes.index("CREATE UNIQUE INDEX IF NOT EXISTS")


def test_interrupted_migration_is_started_again(database: Original) -> None:
    database.server.faults.add(Cut("before"), "execute", "search_text = :")
    with pytest.raises(Exception, match="lost"):
        list(migrate(database.settings, read_image))
    list(migrate(database.settings, read_image))
    assert OracleStore.open(database.settings).count_images() == 3


def test_embeddings_can_go_on_under_the_name_of_the_loaded_model(database: Original) -> None:
    report = list(
        migrate(database.settings, read_image, adopt=("stabilityai/japanese-stable-clip-vit-l-16", "abc", 16))
    )
    assert any("now belong to" in sentence for sentence in report)
    model = OracleStore.open(database.settings).get_or_create_model(
        "stabilityai/japanese-stable-clip-vit-l-16", "abc", 16
    )
    assert (model.model_id, model.is_current) == (1, True)


def test_embeddings_of_another_dimension_are_not_adopted(database: Original) -> None:
    report = list(migrate(database.settings, read_image, adopt=("other", "1", 768)))
    assert any("another dimension than other" in sentence for sentence in report)


def test_image_that_cannot_be_read_stops_before_the_keys_are_added(database: Original) -> None:
    database.run("UPDATE images SET image_data = ? WHERE image_id = 2", (b"broken",))
    with pytest.raises(SchemaError, match="image_id 2"):
        list(migrate(database.settings, read_image))
    assert not [change for change in database.changes if "CONSTRAINT" in change]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE embedding_models SET vector_dimension = NULL", "Fill in EMBEDDING_MODELS"),
        ("UPDATE embedding_models SET vector_dimension = 768", "another dimension"),
        ("UPDATE images SET image_data = NULL", "no bytes"),
    ],
)
def test_error_that_only_a_person_can_put_right_stops_at_once(database: Original, damage: str, message: str) -> None:
    database.run(damage)
    with pytest.raises(SchemaError, match=message):
        list(migrate(database.settings, read_image))
    assert database.changes == []


def test_vectors_that_are_not_of_length_1_are_told(database: Original) -> None:
    database.run("UPDATE image_embeddings SET embedding = ?", (np.full(16, 2, np.float32).tobytes(),))
    assert any("not of length 1" in sentence for sentence in migrate(database.settings, read_image, dry_run=True))


def test_empty_schema_has_nothing_to_migrate(tmp_path: Path) -> None:
    with serve_nothing(tmp_path / "empty.db") as server, pytest.raises(SchemaError, match="--create-schema"):
        list(migrate(make_settings(server), read_image))


def test_every_change_of_the_tables_parses(database: Original) -> None:
    list(migrate(database.settings, read_image))
    linter = make_linter()
    altering = [change for change in database.changes if change.startswith(("ALTER TABLE", "DROP INDEX"))]
    assert len(altering) > 30
    for change in altering:
        assert find_faults(linter, change) == [], change


def test_images_are_read_and_stored_in_few_round_trips(database: Original) -> None:
    for number in range(100):
        database.run("INSERT INTO images (image_data, file_name) VALUES (?, ?)", (f"bytes {number}".encode(), "x.png"))
    database.server.events.clear()
    list(migrate(database.settings, read_image))
    described = [event.rows for event in database.server.events if "SET content_sha256" in event.sql]
    assert sum(described) == 104
    assert len(described) == 6  # batches of 20
    assert len(database.server.events) < 200


def test_image_that_was_never_stored_is_named(database: Original) -> None:
    database.run("UPDATE images SET image_data = ? WHERE image_id = 2", (b"",))
    report: list[str] = []
    with pytest.raises(SchemaError, match="image_id 2"):
        deque(map(report.append, migrate(database.settings, read_image, dry_run=True)))
    assert "Image 2: IMAGE_DATA is an EMPTY_BLOB(): the picture was never stored." in report


def test_long_migration_says_how_far_it_is(database: Original, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("image_search.stores.oracle.migration._REPORT_SECONDS", 0)
    sentences = list(migrate(database.settings, read_image))
    assert "4 of 4 pictures read, about 0 minutes left." in sentences
    assert sentences[0].startswith("Stop the original application")
