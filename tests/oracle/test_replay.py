"""What the Oracle store does when the database fails it: at any step, and nothing half stays."""

from __future__ import annotations

import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import oracledb
import pytest

from image_search.errors import ImageNotFound, SchemaError, StoreError, StoreFull, StoreUnavailable
from image_search.records import ImageText, SearchFilter
from image_search.settings import Settings
from image_search.stores import base as refusals
from image_search.stores.oracle import APPROXIMATE_ROWS, OracleStore
from image_search.stores.oracle import sql as oracle_sql
from tests.fakes import make_embeddings, make_image, make_images
from tests.oracle.stand_in import StandIn, make_error

SETTINGS = Settings(db_user="imgsearch", db_password="Never_Shown_1", db_dsn="db.example:1521/FREEPDB1")
TEXT = ImageText(generation_prompt="赤い猫", description="庭の猫", keywords=("猫", "庭"), generator="ComfyUI")


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn(tmp_path / "oracle.db")
    monkeypatch.setattr(oracledb, "create_pool", stand_in.create_pool)
    monkeypatch.setattr("image_search.stores.oracle.connection.time.sleep", lambda _: None)
    return stand_in


@pytest.fixture
def store(database: StandIn) -> OracleStore:  # noqa: ARG001 - it stands in for the driver's pool
    return OracleStore.open(SETTINGS)


@pytest.fixture
def filled(store: OracleStore) -> OracleStore:
    model = store.get_or_create_model("fake", "1", 16)
    store.add_images(model.model_id, [make_image("a.png", TEXT), *make_images(3)], make_embeddings(4))
    store.get_or_create_model("other", "1", 16)
    return store


def take_picture(database: StandIn) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables."""
    with database._open() as connection:
        tables = ("images", "image_embeddings", "image_descriptions", "image_keywords", "embedding_models")
        return {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in tables}


# --- writes ---

WRITES: dict[str, Callable[[OracleStore], object]] = {
    "add_model": lambda store: store._add_model("third", "1", 8),  # what get_or_create_model writes
    "set_current_model": lambda store: store.set_current_model(2),
    "remove_model": lambda store: store.remove_model(2),
    "add_images": lambda store: store.add_images(1, [make_image("new.png", TEXT)], make_embeddings(1, seed=9)),
    "add_embeddings": lambda store: store.add_embeddings(2, [1, 2], make_embeddings(2)),
    "set_text": lambda store: store.set_text(1, ImageText(description="青い犬", keywords=("犬",))),
    "set_file": lambda store: store.set_file(1, "/moved/b.png", 5),
    "delete_images": lambda store: store.delete_images([1, 2]),
}


def fail_at_step(database: StandIn, number: int) -> None:
    """Let the statement (or commit) of this number fail, counted from now."""
    counted = [0]

    def give(_: dict[str, Any]) -> Any:
        counted[0] += database.events[-1] not in ("acquire", "ping", "rollback")
        return make_error("ORA-01536") if counted[0] == number else NotImplemented

    database.answers[:] = [("", give)]


@pytest.mark.parametrize("name", WRITES)
def test_a_write_that_fails_at_any_step_leaves_nothing(name: str, database: StandIn, filled: OracleStore) -> None:
    picture = take_picture(database)
    filled._get_dimension(1)
    for number in range(1, 100):
        fail_at_step(database, number)
        database.events.clear()
        try:
            WRITES[name](filled)
        except StoreFull:
            assert take_picture(database) == picture
            assert "rollback" in database.events or "ping" not in database.events  # or it had only read so far
            continue
        break
    assert number >= 3  # at least one statement and the commit have failed
    assert take_picture(database) != picture
    assert database.events.count("commit") == 1


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.usefixtures("filled")
def test_a_write_is_not_done_again_when_the_connection_is_lost(name: str, database: StandIn) -> None:
    store = OracleStore.open(SETTINGS)
    database.events.clear()
    database.fail_once("commit", make_error("ORA-03113"))
    with pytest.raises(StoreUnavailable, match="not certain"):
        WRITES[name](store)
    assert database.events.count("commit") == 1


@pytest.mark.parametrize("name", WRITES)
def test_a_write_whose_connection_is_lost_before_the_commit_tells_that_nothing_was_kept(
    name: str, database: StandIn, filled: OracleStore
) -> None:
    picture = take_picture(database)
    for verb in ("INSERT", "UPDATE", "DELETE", "MERGE"):
        database.fail_once(f"\n{verb} ", make_error("ORA-03113"))
    with pytest.raises(StoreUnavailable, match="Nothing of the last change was kept"):
        WRITES[name](filled)
    assert take_picture(database) == picture


@pytest.mark.parametrize("code", ["ORA-00001", "ORA-00060", "ORA-02291", "ORA-02292"])
def test_a_write_that_met_another_writer_is_rolled_back_and_done_again(
    code: str, database: StandIn, filled: OracleStore
) -> None:
    database.fail_once("INSERT INTO image_embeddings", make_error(code))
    database.events.clear()
    [image_id] = filled.add_images(1, [make_image("new.png")], make_embeddings(1))
    assert filled.get_image(image_id).file_name == "new.png"
    assert database.events.index("rollback") < database.events.index("commit")
    assert len(take_picture(database)["images"]) == 5


def test_a_clash_that_stays_is_told_and_leaves_nothing(database: StandIn, filled: OracleStore) -> None:
    picture = take_picture(database)
    database.answer("INSERT INTO image_embeddings", make_error("ORA-02291"))
    with pytest.raises(StoreError, match="Run again"):
        filled.add_images(1, [make_image("new.png")], make_embeddings(1))
    assert take_picture(database) == picture


def test_an_exception_of_our_own_rolls_back_too(database: StandIn, filled: OracleStore) -> None:
    database.answer("INSERT INTO image_embeddings", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        filled.add_images(1, [make_image("new.png")], make_embeddings(1))
    assert len(take_picture(database)["images"]) == 4


def test_a_write_begins_on_a_connection_that_answers(database: StandIn, filled: OracleStore) -> None:
    database.fail_once("ping", make_error("DPY-4011"))
    filled.set_current_model(2)
    assert "drop" in database.events


# --- reads ---

READS: dict[str, Callable[[OracleStore], object]] = {
    "list_models": lambda store: store.list_models(),
    "find_known_hashes": lambda store: store.find_known_hashes(["0" * 64]),
    "find_known_files": lambda store: store.find_known_files(["/a"]),
    "find_images_without_embedding": lambda store: store.find_images_without_embedding(2),
    "search_embedding": lambda store: store.search_embedding(1, make_embeddings(1)[0]),
    "search_words": lambda store: store.search_words(["猫"]),
    "find_latest": lambda store: store.find_latest(),
    "count_images": lambda store: store.count_images(SearchFilter(has_prompt=True)),
    "count_values": lambda store: store.count_values("keyword"),
    "get_images": lambda store: store.get_images([1, 2]),
    "read_original": lambda store: store.read_original(1),
    "read_preview": lambda store: store.read_preview(1),
    "get_embedding": lambda store: store.get_embedding(1, 1).tolist(),
    "find_by_file_name": lambda store: store.find_by_file_name("a.png"),
    "sample_embeddings": lambda store: store.sample_embeddings(1, 2).tolist(),
    "get_status": lambda store: store.get_status(),
}


@pytest.mark.parametrize("name", READS)
def test_a_read_is_done_again_once_when_the_connection_is_lost(
    name: str, database: StandIn, filled: OracleStore
) -> None:
    expected = READS[name](filled)
    database.fail_once("\nSELECT", make_error("ORA-03135"))
    assert READS[name](filled) == expected
    database.answer("\nSELECT", make_error("ORA-03135"))
    with pytest.raises(StoreUnavailable, match="lost"):
        READS[name](filled)


@pytest.mark.parametrize("name", READS)
def test_a_read_that_takes_too_long_is_not_done_again(name: str, database: StandIn, filled: OracleStore) -> None:
    filled._get_dimension(1)
    database.fail_once("\nSELECT", make_error("DPY-4024"))
    with pytest.raises(StoreUnavailable, match="too long"):
        READS[name](filled)


@pytest.mark.parametrize("name", [*READS, *WRITES])
def test_no_connection_is_kept(name: str, database: StandIn, filled: OracleStore) -> None:
    {**READS, **WRITES}[name](filled)
    pool = filled._connections._pool
    assert pool.busy == 0
    database.answer("", make_error("ORA-01013"))
    with pytest.raises(StoreError):
        {**READS, **WRITES}[name](filled)
    assert pool.busy == 0


@pytest.mark.parametrize(
    ("name", "most"),
    [("search_embedding", 1), ("search_words", 1), ("find_latest", 1), ("get_images", 1), ("read_preview", 1)],
)
def test_a_page_of_results_is_one_query(name: str, most: int, database: StandIn, filled: OracleStore) -> None:
    READS[name](filled)  # the first one also looks at the schema, at the model and for indexes
    before = len(database.statements)
    READS[name](filled)
    assert len(database.statements) - before == most


def test_many_hashes_are_asked_for_in_few_statements_of_few_shapes(database: StandIn, filled: OracleStore) -> None:
    before = len(database.statements)
    assert len(filled.find_known_hashes([f"{n:064x}" for n in range(2500)])) == 0
    filled.find_known_hashes([f"{n:064x}" for n in range(2400)])
    asked = database.statements[before:]
    assert (len(asked), len(set(asked))) == (6, 1)


# --- what the driver gives ---


def test_rows_become_records_whatever_is_null_in_them(filled: OracleStore) -> None:
    bare, full = filled.get_images([2, 1])
    assert (bare.text, bare.file_path) == (ImageText(), None)
    assert full.text == TEXT
    assert len(full.content_sha256) == 64


@pytest.mark.parametrize("kind", ["f", "d"])
def test_an_embedding_is_float32_whatever_format_the_row_has(kind: str, database: StandIn, filled: OracleStore) -> None:
    database.answer(oracle_sql.GET_EMBEDDING, [(array.array(kind, [0.6, 0.8]),)])
    embedding = filled.get_embedding(1, 1)
    assert embedding.dtype == np.float32
    assert embedding == pytest.approx([0.6, 0.8])


def test_an_original_that_is_elsewhere_is_told_when_no_folder_is_set(database: StandIn, filled: OracleStore) -> None:
    database.answer(oracle_sql.READ_ORIGINAL, [(None, bytes(32))])
    with pytest.raises(StoreError, match="ORIGINALS_URL"):
        filled.read_original(1)


# --- the schema ---


def test_a_schema_that_is_not_there_is_told_with_the_command(database: StandIn, store: OracleStore) -> None:
    database.answer("image_search_schema", make_error("ORA-00942"))
    with pytest.raises(SchemaError, match="--create-schema"):
        store.count_images()


def test_a_schema_of_another_version_is_refused(database: StandIn, store: OracleStore) -> None:
    database.answer("image_search_schema", [(99,)])
    with pytest.raises(SchemaError, match="version 99"):
        store.count_images()


def test_a_database_without_vectors_is_refused(database: StandIn, store: OracleStore) -> None:
    database.version = "19.24.0.0.0"
    with pytest.raises(SchemaError, match=r"23\.4"):
        store.count_images()


def test_the_schema_is_looked_at_until_it_is_there_and_then_no_more(database: StandIn, store: OracleStore) -> None:
    database.answer("image_search_schema", make_error("ORA-00942"), NotImplemented)
    with pytest.raises(SchemaError):
        store.count_images()
    assert store.count_images() == 0
    before = len(database.statements)
    store.count_images()
    assert len(database.statements) - before == 1


# --- the vector index ---


@pytest.fixture
def indexed(database: StandIn, store: OracleStore) -> OracleStore:
    database.vector_index = "NEIGHBOR_PARTITIONS_IVF"
    model = store.get_or_create_model("fake", "1", 16)
    store.add_images(model.model_id, make_images(30), make_embeddings(30))
    return store


def test_an_index_is_asked_only_when_it_is_there(database: StandIn, filled: OracleStore) -> None:
    filled.search_embedding(1, make_embeddings(1)[0])
    assert oracle_sql.SEARCH_APPROXIMATELY not in database.statements


def test_an_index_answers_pages_that_do_not_overlap(database: StandIn, indexed: OracleStore) -> None:
    query = make_embeddings(1, seed=3)[0]
    pages = [hit.image_id for start in (0, 10, 20) for hit in indexed.search_embedding(1, query, 10, start)]
    assert oracle_sql.SEARCH_APPROXIMATELY in database.statements
    assert sorted(pages) == sorted(set(pages))
    assert len(pages) == 30


def test_an_index_that_gives_too_few_rows_is_followed_by_the_exact_search(
    database: StandIn, indexed: OracleStore
) -> None:
    query = make_embeddings(1, seed=3)[0]
    exact = [hit.image_id for hit in indexed.search_embedding(1, query, 16, filter=SearchFilter(has_prompt=False))]
    database.answer(oracle_sql.SEARCH_APPROXIMATELY, [])
    assert [hit.image_id for hit in indexed.search_embedding(1, query, 16)] == exact


def test_filters_and_far_pages_are_exact(database: StandIn, indexed: OracleStore) -> None:
    query = make_embeddings(1)[0]
    indexed.search_embedding(1, query, 16, filter=SearchFilter(min_pixels=1))
    indexed.search_embedding(1, query, 16, offset=APPROXIMATE_ROWS)
    assert oracle_sql.SEARCH_APPROXIMATELY not in database.statements


def test_an_index_that_is_made_later_is_noticed(
    database: StandIn, filled: OracleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("image_search.stores.oracle.schema.time.monotonic", lambda: clock[0])
    filled.search_embedding(1, make_embeddings(1)[0])
    database.vector_index = "INMEMORY_NEIGHBOR_GRAPH_HNSW"
    clock[0] += 61
    filled.search_embedding(1, make_embeddings(1)[0])
    assert database.statements.count(oracle_sql.SEARCH_APPROXIMATELY) == 1
    assert filled.get_status().details["vector_index"] == "hnsw"


# --- words ---


def test_words_are_found_without_the_index_when_it_fails(database: StandIn, filled: OracleStore) -> None:
    database.has_text_index = True
    database.fail_once("CONTAINS", make_error("ORA-29902", "x\nORA-20000: Oracle Text error:\nDRG-50901: parser"))
    assert [hit.image.file_name for hit in filled.search_words(["庭の猫"])] == ["a.png"]
    before = len(database.statements)
    filled.search_words(["庭の猫"])
    assert "CONTAINS" not in "".join(database.statements[before:])  # it is left alone for a minute


def test_an_error_that_is_not_of_the_word_index_is_not_hidden(database: StandIn, filled: OracleStore) -> None:
    database.has_text_index = True
    database.answer("CONTAINS", make_error("ORA-01536"))
    with pytest.raises(StoreFull):
        filled.search_words(["庭の猫"])


# --- originals in a folder ---


@pytest.fixture
def beside(database: StandIn, tmp_path: Path) -> OracleStore:  # noqa: ARG001 - it stands in for the driver's pool
    store = OracleStore.open(replace(SETTINGS, originals_url=str(tmp_path / "originals")))
    store.get_or_create_model("fake", "1", 16)
    return store


def test_originals_can_live_in_a_folder(database: StandIn, beside: OracleStore, tmp_path: Path) -> None:
    image = make_image("a.png")
    [image_id] = beside.add_images(1, [image], make_embeddings(1))
    assert beside.read_original(image_id) == image.data
    with database._open() as connection:
        assert connection.execute("SELECT image_data FROM images").fetchall() == [(None,)]
    assert beside.delete_images([image_id]) == 1
    assert not [path for path in (tmp_path / "originals").rglob("*") if path.is_file()]
    with pytest.raises(ImageNotFound, match=str(refusals.image_not_found(image_id))):
        beside.read_original(image_id)


def test_an_original_stays_when_its_deletion_is_not_certain(
    database: StandIn, beside: OracleStore, tmp_path: Path
) -> None:
    [image_id] = beside.add_images(1, [make_image("a.png")], make_embeddings(1))
    database.fail_once("commit", make_error("ORA-03113"))
    with pytest.raises(StoreUnavailable):
        beside.delete_images([image_id])
    assert [path for path in (tmp_path / "originals").rglob("*") if path.is_file()]


# --- the end ---


def test_closing_twice_does_nothing_more(database: StandIn, filled: OracleStore) -> None:
    filled.close()
    filled.close()
    assert database.events.count("close pool") == 1


def test_a_call_that_hangs_is_given_up(filled: OracleStore) -> None:
    connection = filled._connections._acquire(is_checked=False)
    assert 10_000 <= connection.call_timeout <= 120_000
