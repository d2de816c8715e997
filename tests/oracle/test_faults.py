"""The Oracle store when the wire breaks or the database refuses, at any step: nothing half stays, and it is told."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from image_search.errors import SchemaError, StoreError, StoreFull, StoreUnavailable
from image_search.records import ImageText, SearchFilter
from image_search.stores.oracle import OracleStore
from image_search.stores.oracle import connection as connection_module
from tests.fakes import make_embeddings, make_image, make_images
from tests.oracle.wire.faults import Cut, Delay, Refuse
from tests.oracle.wire.server import Server
from tests.oracle.wired import make_settings, serve

TEXT = ImageText(generation_prompt="赤い猫", description="庭の猫", keywords=("猫", "庭"), generator="ComfyUI")
TABLESPACE_FULL = 1536


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(connection_module.random, "uniform", lambda *_: 0.0)
    with serve(tmp_path / "oracle.db") as server:
        yield server


@pytest.fixture
def store(server: Server) -> Iterator[OracleStore]:
    """Four images, the first with every kind of text, and a second model that is not current."""
    with OracleStore.open(make_settings(server)) as store:
        model = store.get_or_create_model("fake", "1", 16)
        store.add_images(model.model_id, [make_image("a.png", TEXT), *make_images(3)], make_embeddings(4))
        store.get_or_create_model("other", "1", 16)
        server.events.clear()
        yield store


def read_tables(server: Server) -> dict[str, list[Any]]:
    """All rows of all tables, as committed."""
    connection = sqlite3.connect(server.database.path)
    try:
        return {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in _TABLES}
    finally:
        connection.close()


_TABLES = ("images", "image_embeddings", "image_descriptions", "image_keywords", "embedding_models")


def count_events(server: Server, name: str) -> int:
    return sum(event.name == name for event in server.events)


# --- writes ---

WRITES: dict[str, Callable[[OracleStore], object]] = {
    "add_model": lambda store: store._add_model("third", "1", 8),  # what get_or_create_model writes
    "set_current_model": lambda store: store.set_current_model(2),
    "remove_model": lambda store: store.remove_model(2),
    "add_images": lambda store: store.add_images(1, [make_image("new.png", TEXT)], make_embeddings(1, seed=9)),
    "add_embeddings": lambda store: store.add_embeddings(2, [1, 2], make_embeddings(2)),
    "replace_embeddings": lambda store: store.add_embeddings(1, [1, 2], make_embeddings(2, seed=8)),
    "set_text": lambda store: store.set_text(1, ImageText(description="青い犬", keywords=("犬",))),
    "set_path": lambda store: store.set_path(1, "/moved/b.png", 5, 6),
    "trash_images": lambda store: store.trash_images([1, 2]),
}
each_write = pytest.mark.parametrize("name", WRITES)


@each_write
def test_write_that_is_refused_at_any_statement_leaves_nothing(name: str, server: Server, store: OracleStore) -> None:
    before = read_tables(server)
    store._get_dimension(1)
    for step in range(20):
        server.faults.add(Refuse(TABLESPACE_FULL), "execute", skip=step)
        server.events.clear()
        try:
            WRITES[name](store)
        except StoreFull:
            assert read_tables(server) == before
            assert not count_events(server, "commit")
            continue
        break
    assert step >= 1
    assert read_tables(server) != before
    assert count_events(server, "commit") == 1


@each_write
def test_commit_that_is_refused_leaves_nothing(name: str, server: Server, store: OracleStore) -> None:
    before = read_tables(server)
    server.faults.add(Refuse(TABLESPACE_FULL), "commit")
    with pytest.raises(StoreFull):
        WRITES[name](store)
    assert read_tables(server) == before


@each_write
def test_connection_cut_before_the_commit_leaves_nothing(name: str, server: Server, store: OracleStore) -> None:
    before = read_tables(server)
    told = []
    for step in range(20):
        server.faults.clear()
        for change in ("INSERT INTO ", "\nSET ", "DELETE FROM ", "MERGE INTO "):
            server.faults.add(Cut("before"), "execute", change, skip=step)
        try:
            WRITES[name](store)
        except StoreUnavailable as error:
            told.append(str(error))
            assert read_tables(server) == before
            continue
        break
    assert told
    assert all("Nothing of the last change was kept" in sentence for sentence in told)
    assert read_tables(server) != before


@each_write
@pytest.mark.parametrize("when", ["before", "after"])
def test_connection_cut_at_the_commit_is_told_as_uncertain_and_not_tried_again(
    name: str, when: Any, server: Server, store: OracleStore
) -> None:
    before = read_tables(server)
    server.faults.add(Cut(when), "commit")
    with pytest.raises(StoreUnavailable, match="not certain"):
        WRITES[name](store)
    assert count_events(server, "commit") == 1
    assert (read_tables(server) == before) == (when == "before")


@pytest.mark.parametrize("number", [1, 60, 2291, 2292])
def test_write_that_met_another_writer_is_rolled_back_and_done_again(
    number: int, server: Server, store: OracleStore
) -> None:
    server.faults.add(Refuse(number), "execute", "INSERT INTO image_embeddings")
    [image_id] = store.add_images(1, [make_image("new.png")], make_embeddings(1))
    assert store.get_image(image_id).file_name == "new.png"
    assert len(read_tables(server)["images"]) == 5
    assert [event.name for event in server.events if event.name in ("rollback", "commit")] == ["rollback", "commit"]


def test_clash_that_stays_is_told_and_leaves_nothing(server: Server, store: OracleStore) -> None:
    before = read_tables(server)
    server.faults.add(Refuse(2291), "execute", "INSERT INTO image_embeddings", times=99)
    with pytest.raises(StoreError, match="Run again"):
        store.add_images(1, [make_image("new.png")], make_embeddings(1))
    assert read_tables(server) == before


def test_write_asks_first_whether_its_connection_is_alive(server: Server, store: OracleStore) -> None:
    server.faults.add(Cut("before"), "ping")
    store.set_current_model(2)
    assert [event.name for event in server.events if event.name in ("ping", "commit")] == ["ping", "ping", "commit"]


def test_write_after_all_connections_have_died_begins_on_a_new_one(server: Server, store: OracleStore) -> None:
    server.kill_sessions()
    store.set_current_model(2)
    assert [model.is_current for model in store.list_models()] == [False, True]


# --- reads ---

READS: dict[str, Callable[[OracleStore], object]] = {
    "list_models": lambda store: store.list_models(),
    "find_known_hashes": lambda store: store.find_known_hashes(["0" * 64]),
    "find_known_files": lambda store: store.find_known_files(["/a"]),
    "find_images_without_embedding": lambda store: store.find_images_without_embedding(2),
    "search_embedding": lambda store: store.search_embedding(1, make_embeddings(1)[0]),
    "list_images_with_words": lambda store: store.list_images(["猫"]),
    "list_images": lambda store: store.list_images(),
    "count_images": lambda store: store.count_images(SearchFilter(has_prompt=True)),
    "count_values": lambda store: store.count_values("keyword"),
    "get_images": lambda store: store.get_images([1, 2]),
    "read_original": lambda store: store.read_original(1),
    "read_preview": lambda store: store.read_preview(1),
    "get_embedding": lambda store: store.get_embedding(1, 1).tolist(),
    "list_trash": lambda store: store.list_trash(),
    "sample_embeddings": lambda store: store.sample_embeddings(1, 2).tolist(),
    "get_status": lambda store: store.get_status(),
}
each_read = pytest.mark.parametrize("name", READS)


@each_read
@pytest.mark.parametrize("when", ["before", "after", "midway"])
def test_read_is_done_again_once_when_the_connection_is_cut(
    name: str, when: Any, server: Server, store: OracleStore
) -> None:
    expected = READS[name](store)
    server.faults.add(Cut(when), "execute")
    assert READS[name](store) == expected
    server.faults.add(Cut(when), "execute", times=2)
    with pytest.raises(StoreUnavailable, match="lost"):
        READS[name](store)


def test_read_that_is_cut_amid_its_rows_is_done_again_whole(server: Server, store: OracleStore) -> None:
    store.add_images(1, make_images(300)[3:], make_embeddings(297, seed=5))
    expected = [hit.image_id for hit in store.list_images(limit=300)]
    server.faults.add(Cut("midway"), "fetch", skip=1)
    assert [hit.image_id for hit in store.list_images(limit=300)] == expected
    assert len(expected) == 300


def test_read_after_all_connections_have_died_begins_on_a_new_one(server: Server, store: OracleStore) -> None:
    server.kill_sessions()
    assert store.count_images() == 4


@pytest.mark.parametrize("name", ["count_images", "search_embedding", "read_preview"])
def test_read_that_takes_too_long_is_given_up_and_not_done_again(
    name: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "_CALL_TIMEOUT_MS", 200)
    with OracleStore.open(make_settings(server)) as store:
        model = store.get_or_create_model("fake", "1", 16)
        store.add_images(model.model_id, make_images(1), make_embeddings(1))
        server.events.clear()
        server.faults.add(Delay(5), "execute")
        with pytest.raises(StoreUnavailable, match=r"too long.*DPY-4024"):
            READS[name](store)
        assert count_events(server, "execute") == 1
        READS[name](store)  # the connection has come through it


@pytest.mark.parametrize("name", [*READS, *WRITES])
def test_no_connection_is_kept(name: str, server: Server, store: OracleStore) -> None:
    {**READS, **WRITES}[name](store)
    pool = store._connections._pool
    assert pool.busy == 0
    server.faults.add(Refuse(1013), times=999)
    with pytest.raises(StoreError):
        {**READS, **WRITES}[name](store)
    assert pool.busy == 0


@pytest.mark.parametrize(
    "name", ["search_embedding", "list_images_with_words", "list_images", "get_images", "read_preview"]
)
def test_page_of_results_is_one_query(name: str, server: Server, store: OracleStore) -> None:
    READS[name](store)  # the first one also looks at the schema, at the model and for indexes
    server.events.clear()
    READS[name](store)
    assert count_events(server, "execute") == 1


def test_many_hashes_are_asked_for_in_few_statements_of_few_shapes(server: Server, store: OracleStore) -> None:
    store.count_images()
    server.events.clear()
    assert len(store.find_known_hashes([f"{n:064x}" for n in range(2500)])) == 0
    store.find_known_hashes([f"{n:064x}" for n in range(2400)])
    assert (len(server.statements), len(set(server.statements))) == (6, 1)


# --- the schema ---


def test_schema_that_is_not_there_is_told_with_the_command(server: Server) -> None:
    server.faults.add(Refuse(942), "execute", "image_search_schema")
    with OracleStore.open(make_settings(server)) as store:
        with pytest.raises(SchemaError, match="--create-schema"):
            store.count_images()
        assert store.count_images() == 0  # it is looked at until it is there, and then no more
        server.events.clear()
        store.count_images()
        assert len(server.statements) == 1


def test_schema_of_another_version_is_refused(server: Server) -> None:
    connection = sqlite3.connect(server.database.path)
    connection.execute("UPDATE image_search_schema SET schema_version = 99")
    connection.commit()
    with OracleStore.open(make_settings(server)) as store, pytest.raises(SchemaError, match="version 99"):
        store.count_images()


def test_database_without_vectors_is_refused(server: Server) -> None:
    server.version = "19.24.0.0.0"
    with OracleStore.open(make_settings(server)) as store, pytest.raises(SchemaError, match=r"23\.4"):
        store.count_images()


# --- the end ---


def test_closing_twice_does_nothing_more(server: Server, store: OracleStore) -> None:
    store.close()
    server.events.clear()
    store.close()
    assert server.events == []


def test_call_that_hangs_is_given_up_some_day(store: OracleStore) -> None:
    connection = store._connections._acquire(is_checked=False)
    assert 10_000 <= connection.call_timeout <= 120_000
    connection.close()
