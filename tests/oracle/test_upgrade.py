"""Libraries of the original application and of schema 1 become ones of schema 2, over the wire."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from image_search.errors import StoreError
from image_search.records import ImageText, SearchFilter
from image_search.settings import ROOT
from image_search.stores.oracle import OracleStore, schema
from image_search.stores.oracle.connection import Session, connect
from image_search.stores.oracle.migration import migrate
from image_search.stores.oracle.schema import find_version, read_statements
from tests.fakes import make_embeddings, make_image
from tests.oracle.test_migration import read_image
from tests.oracle.test_store import ORIGINAL_ROWS, ORIGINAL_TABLES
from tests.oracle.wire.server import Server
from tests.oracle.wired import make_settings, serve_nothing

SCHEMA_1 = ROOT / "tests" / "fixtures" / "schema1" / "create_all_tables.sql"

# As the program of schema 1 wrote them.
ROWS_1 = (
    "INSERT INTO embedding_models (model_name, model_version, vector_dimension, is_current) "
    "VALUES ('fake', '1', 2, 'Y')",
    *(
        "INSERT INTO images (content_sha256, file_name, file_path, modified_ns, file_type, byte_size, width, height, "
        "image_data, preview, generation_prompt, details, search_text) "
        f"VALUES (HEXTORAW('{number:064x}'), '{name}', {path}, 5, 'image/png', 3, 64, 48, HEXTORAW('010203'), "
        f"HEXTORAW('04'), {prompt}, '{details}', 'old')"
        for number, (name, path, prompt, details) in enumerate(
            [
                ("cat2.png", "'/photos/cat2.png'", "'葛城の猫'", '{"keywords": ["山"], "camera": "NIKON"}'),
                ("x.png", "'/x.png'", "NULL", "{}"),
                ("x.png", "'/x.png'", "NULL", "{}"),
                ("cat10.png", "NULL", "NULL", "{}"),
            ],
            start=1,
        )
    ),
    "INSERT INTO image_embeddings (image_id, model_id, embedding) VALUES (1, 1, TO_VECTOR('[0.6, 0.8]'))",
    "INSERT INTO image_descriptions (image_id, description) VALUES (1, 'A café')",
    "INSERT INTO image_keywords (image_id, keyword) VALUES (1, '山')",
)


def run(server: Server, *statements: str) -> None:
    with connect(make_settings(server)) as session:
        for statement in statements:
            session.execute(statement)
        session.connection.commit()


def find_schema_version(server: Server) -> int | None:
    with connect(make_settings(server)) as session:
        return find_version(session)


@pytest.fixture(params=[True, False], ids=["with Oracle Text", "without"])
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    with serve_nothing(tmp_path / "oracle.db", has_text=request.param) as server:
        yield server


@pytest.fixture
def schema_1(server: Server) -> Server:
    run(server, *read_statements(SCHEMA_1.read_text(encoding="utf-8")), *ROWS_1)
    return server


def check_library_1(store: OracleStore) -> None:
    records = store.get_images([1, 2, 3, 4])
    assert records[0].text == ImageText(
        generation_prompt="葛城の猫", description="A café", keywords=("山",), camera="NIKON"
    )
    assert [record.file_path for record in records] == ["/photos/cat2.png", None, "/x.png", None]
    assert [hit.image_id for hit in store.list_images(order="name")] == [1, 4, 2, 3]
    assert [hit.image_id for hit in store.list_images(["cafe"])] == [1]
    assert [hit.image_id for hit in store.list_images(["葛城"])] == [1]
    assert store.count_images(SearchFilter(camera="NIKON", keyword="山", folder="/photos")) == 1
    assert store.count_values("folder") == {"": 1, "/photos": 1}
    assert store.read_original(1) == b"\x01\x02\x03"
    assert [hit.image_id for hit in store.search_embedding(1, np.array([0.6, 0.8], np.float32))] == [1]
    assert store.has_held_images()


def test_library_of_schema_1_is_migrated_when_it_is_opened(schema_1: Server, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), OracleStore.open(make_settings(schema_1)) as store:
        check_library_1(store)
        assert len([message for message in caplog.messages if "migrated the library to schema 2" in message]) == 1
    assert find_schema_version(schema_1) == 2


def test_migration_that_breaks_off_goes_on_where_it_stopped(schema_1: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    execute, left = Session.execute, [0]

    def break_off(session: Session, sql: str, *arguments: object) -> int:
        left[0] -= 1
        if not left[0]:
            raise StoreError("broken off")
        return execute(session, sql, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(schema, "_BATCH", 2)
    for step in range(8, 60, 7):
        left[0] = step
        with monkeypatch.context() as patch:
            patch.setattr(Session, "execute", break_off)
            try:
                list(schema.create_schema(make_settings(schema_1)))
            except StoreError:
                assert find_schema_version(schema_1) == 1
                continue
        break
    with OracleStore.open(make_settings(schema_1)) as store:
        check_library_1(store)
    assert find_schema_version(schema_1) == 2


def test_migrated_schema_has_the_columns_of_a_new_one(schema_1: Server, tmp_path: Path) -> None:
    with OracleStore.open(make_settings(schema_1)) as store:
        store.count_images()
    with serve_nothing(tmp_path / "new.db", has_text=schema_1.database.has_text) as new:
        list(schema.create_schema(make_settings(new)))
        for name, table in new.database.tables.items():
            migrated = schema_1.database.tables[name]
            assert migrated.columns == {key: migrated.columns[key] for key in migrated.columns}
            assert dict(sorted(migrated.columns.items())) == dict(sorted(table.columns.items())), name
            assert sorted(migrated.constraints) == sorted(table.constraints), name
        assert sorted(schema_1.database.indexes) == sorted(new.database.indexes)


def test_library_of_the_original_application_is_migrated_and_a_second_time_nothing_happens(server: Server) -> None:
    # The wire server takes neither a default in the session's zone nor a text for a vector.
    tables = [text.replace("CURRENT_TIMESTAMP", "SYS_EXTRACT_UTC(SYSTIMESTAMP)") for text in ORIGINAL_TABLES]
    rows = [re.sub(r"'(\[[^']*\])'", r"TO_VECTOR('\1')", text) for text in ORIGINAL_ROWS]
    run(server, *tables, *rows)
    settings = make_settings(server)
    assert "1 images have the same bytes" in list(migrate(settings, read_image, dry_run=True))[-1]
    list(migrate(settings, read_image))
    assert list(migrate(settings, read_image)) == ["The schema is up to date (version 2). Nothing was changed."]
    with OracleStore.open(settings) as store:
        hits = store.search_embedding(1, make_embeddings(2)[1])
        assert [(hit.image.file_name, hit.image.text.description) for hit in hits] == [
            ("two.png", "twice"),
            ("one.png", None),
        ]
        assert len(store.list_images(["猫"])) == 2
        store.add_images(1, [make_image("new.png")], make_embeddings(1))
        assert store.count_images() == 3
