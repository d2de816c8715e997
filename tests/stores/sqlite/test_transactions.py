"""A search is one read transaction, and few statements in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from image_search.errors import StoreError
from image_search.records import ImageText
from image_search.search import Searcher
from image_search.search.query import Query
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.sqlite import SqliteStore
from image_search.stores.sqlite import database as sqlite_connections
from tests.fakes import COLOURS, FakeEncoder, draw_image, make_embeddings, make_image

pytestmark = pytest.mark.engine("sqlite")

QUERY = make_embeddings(1, seed=7)[0]


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that a connection runs, as it is written."""
    seen: list[str] = []
    connect = sqlite3.connect

    def connect_traced(*arguments: object, **options: object) -> sqlite3.Connection:
        connection = connect(*arguments, **options)  # type: ignore[call-overload]
        connection.set_trace_callback(seen.append)
        return connection  # type: ignore[no-any-return]

    monkeypatch.setattr(sqlite_connections.sqlite3, "connect", connect_traced)
    return seen


@pytest.fixture
def store(tmp_path: Path, statements: list[str]) -> Iterator[SqliteStore]:
    """A library of 200 images whose index is up to date."""
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library.db")) as store:
        assert isinstance(store, SqliteStore)
        model = store.get_or_create_model("fake", "1", 16)
        images = [make_image(f"{n}.png", ImageText(description=f"number {n}")) for n in range(200)]
        store.add_images(model.model_id, images, make_embeddings(200))
        store.search_embedding(1, QUERY)
        store.index.wait()
        store.search_embedding(1, QUERY)  # has the embeddings counted
        statements.clear()
        yield store


def test_search_of_the_store_is_one_transaction_with_three_statements(
    store: SqliteStore, statements: list[str]
) -> None:
    assert len(store.search_embedding(1, QUERY, 16)) == 16
    tables = ["sqlite_sequence", "image_embeddings", "images i"]  # counters, candidates, records
    assert statements[0] == "BEGIN"
    assert statements[-1] == "COMMIT"
    assert len(statements) == 2 + len(tables)
    assert all(table in statement for table, statement in zip(tables, statements[1:-1], strict=True))


@pytest.mark.parametrize("text", ["red", "nothing else", "rare"], ids=["colour", "words", "named in a text"])
def test_search_by_words_is_one_transaction(tmp_path: Path, statements: list[str], text: str) -> None:
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/words.db")) as store:
        assert isinstance(store, SqliteStore)
        searcher = Searcher(store, FakeEncoder())
        images = [make_image(f"{n}.png", ImageText(description="rare" if n == 3 else None)) for n in range(30)]
        pictures = [draw_image(COLOURS[n % len(COLOURS)]) for n in range(30)]
        store.add_images(searcher.get_model().model_id, images, searcher.encoder.encode_images(pictures))
        plan = searcher.plan(Query(text=text))
        searcher.rank(plan)
        store.index.wait()  # the index in the background has transactions of its own
        statements.clear()
        assert len(searcher.rank(plan).hits) == 16
        assert [s for s in statements if s.startswith(("BEGIN", "COMMIT", "ROLLBACK"))] == ["BEGIN", "COMMIT"]


def test_snapshot_does_not_see_later_writes_and_ends(store: SqliteStore) -> None:
    with store.snapshot():
        assert store.count_images() == 200
        store.add_images(1, [make_image("late.png")], make_embeddings(1, seed=9))
        assert store.count_images() == 200
        with store.snapshot():
            assert store.count_images() == 200
        assert store.count_images() == 200
    assert store.count_images() == 201


def test_error_of_the_database_in_a_snapshot_is_a_store_error(store: SqliteStore) -> None:
    with store.snapshot():
        with pytest.raises(StoreError, match="refused: no such table"), store._database.reading() as connection:
            connection.execute("SELECT * FROM nowhere")
        assert store.count_images() == 200


def test_totals_follow_every_change_and_belong_to_the_moment_of_the_search(store: SqliteStore) -> None:
    assert store.search_embedding(1, QUERY).total == 200
    with store.snapshot():
        assert store.search_embedding(1, QUERY).total == 200
        with ThreadPoolExecutor(1) as other:
            other.submit(store.trash_images, [1, 2]).result()
            assert other.submit(store.search_embedding, 1, QUERY).result().total == 198
        assert store.search_embedding(1, QUERY).total == 200
    store.add_images(1, [make_image(f"more {n}.png") for n in range(5)], make_embeddings(5, seed=3))
    store.restore_images([1])
    store.delete_images([10, 11, 201])
    store.replace_image(20, 1, make_image("other.png"), QUERY)
    assert store.search_embedding(1, QUERY).total == 201
    assert store.search_embedding(1, QUERY).total == len(store.search_embedding(1, QUERY, 1000))


def test_backup_that_was_copied_into_place_gets_the_mode_where_no_search_waits_for_a_write(tmp_path: Path) -> None:
    path = tmp_path / "library.db"
    for expected in ("delete", "wal"):
        with open_store(Settings(database_url=f"sqlite:///{path}")) as store:
            store.get_or_create_model("model", "1", 8)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert connection.execute(f"PRAGMA journal_mode = {expected}").fetchone() == (expected,)
