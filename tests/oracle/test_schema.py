"""Making the schema, making the vector index, and looking at both."""

from __future__ import annotations

import array
import json
import re
from pathlib import Path
from typing import Any

import oracledb
import pytest

from image_search.cli.health import check_library
from image_search.errors import SchemaError, StoreError
from image_search.records import Finding
from image_search.settings import Settings
from image_search.stores.oracle import OracleStore
from image_search.stores.oracle import health as oracle_check_sql
from image_search.stores.oracle import schema as oracle_vector_index
from image_search.stores.oracle import sql as oracle_sql
from image_search.stores.oracle.health import NEEDED_PRIVILEGES, check_oracle
from image_search.stores.oracle.schema import create_schema, read_statements, set_vector_index
from image_search.stores.oracle.sql import LIST_UNWRITTEN
from tests.fakes import make_embeddings, make_images
from tests.oracle.stand_in import StandIn, make_error

SETTINGS = Settings(db_user="imgsearch", db_password="Never_Shown_1", db_dsn="db.example:1521/FREEPDB1")


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn(tmp_path / "oracle.db")
    monkeypatch.setattr(oracledb, "create_pool", stand_in.create_pool)
    monkeypatch.setattr(oracledb, "connect", stand_in.connect)
    return stand_in


# --- the schema ---


def test_every_statement_of_the_script_is_sent_in_order(database: StandIn) -> None:
    yielded = list(create_schema(SETTINGS))
    sent = [statement for statement in database.statements if not statement.startswith("ALTER SESSION")]
    assert sent == [*read_statements(), LIST_UNWRITTEN]  # and no image of schema 1 is there
    assert len(yielded) == len(read_statements())


def test_printing_connects_to_nothing_and_shows_what_would_run(database: StandIn) -> None:
    printed = list(create_schema(Settings(), print_only=True))
    assert database.events == []
    assert [
        text.removesuffix("\n/").removesuffix(";") if "DECLARE" not in text[:7] else text[:-2] for text in printed
    ] == (read_statements())
    assert read_statements("\n".join(printed)) == read_statements()


def test_a_database_that_is_too_old_is_refused_before_anything_runs(database: StandIn) -> None:
    database.version = "19.3.0.0.0"
    with pytest.raises(SchemaError, match=r"23\.4"):
        list(create_schema(SETTINGS))
    assert database.statements == []


def test_tables_of_another_shape_stop_the_script_with_the_remedy(database: StandIn) -> None:
    database.fail_once("DECLARE", make_error("ORA-20001", "The table IMAGES has another shape"))
    with pytest.raises(SchemaError, match="--migrate --dry-run"):
        list(create_schema(SETTINGS))


def test_a_statement_that_fails_is_named(database: StandIn) -> None:
    database.fail_once("CREATE TABLE IF NOT EXISTS images", make_error("ORA-01031"))
    with pytest.raises(SchemaError, match=r"CREATE TABLE IF NOT EXISTS images.*privilege.*ORA-01031"):
        list(create_schema(SETTINGS))


# --- the vector index ---


@pytest.fixture
def library(database: StandIn) -> OracleStore:  # noqa: ARG001 - it stands in for the driver's pool
    store = OracleStore.open(SETTINGS)
    model = store.get_or_create_model("fake", "1", 16)
    store.add_images(model.model_id, make_images(20), make_embeddings(20))
    return store


def pretend(database: StandIn, counts: list[tuple[int, int]], memory: Any = None, cloud: str | None = None) -> None:
    """A library of so many embeddings of each dimension, and so much vector memory (None: not visible)."""
    database.answer(oracle_vector_index.COUNT_BY_DIMENSION, counts)
    database.answer("v$vector_memory_pool", [memory] if memory else make_error("ORA-00942"))
    database.answer("CLOUD_SERVICE", [(cloud,)])


def list_ddl(database: StandIn) -> list[str]:
    return [text.strip() for text in database.statements if text.strip().startswith(("CREATE VECTOR", "DROP INDEX"))]


MEGABYTE = 2**20


@pytest.mark.parametrize(
    ("kind", "counts", "memory", "made", "reason"),
    [
        ("auto", [], None, None, "0 embeddings"),
        ("auto", [(768, 49_999)], None, None, "scanned quickly"),
        ("auto", [(768, 50_000)], None, "NEIGHBOR PARTITIONS", "cannot see the vector memory"),
        ("auto", [(768, 50_000)], (0, 0), "NEIGHBOR PARTITIONS", "VECTOR_MEMORY_SIZE"),
        ("auto", [(768, 50_000)], (500 * MEGABYTE, 0), "INMEMORY NEIGHBOR GRAPH", "50000 embeddings"),
        ("auto", [(768, 50_000)], (500 * MEGABYTE, 450 * MEGABYTE), "NEIGHBOR PARTITIONS", "50 MiB are free"),
        ("auto", [(512, 10), (768, 90_000)], None, None, "10 of 512 dimensions"),
        ("none", [(768, 90_000)], None, None, "so it was asked"),
        ("ivf", [(768, 20)], None, "NEIGHBOR PARTITIONS", "20 embeddings"),
        ("hnsw", [(768, 1000)], None, "INMEMORY NEIGHBOR GRAPH", "vector memory"),
        ("hnsw", [(768, 1000)], (500 * MEGABYTE, 0), "INMEMORY NEIGHBOR GRAPH", "3 MiB"),
    ],
)
@pytest.mark.usefixtures("library")
def test_the_index_fits_the_library(
    database: StandIn, kind: Any, counts: Any, memory: Any, made: str | None, reason: str
) -> None:
    pretend(database, counts, memory)
    assert reason in set_vector_index(SETTINGS, kind)
    created = list_ddl(database)
    assert len(created) == (made is not None)
    assert made is None or f"ORGANIZATION {made}\nDISTANCE DOT\nWITH TARGET ACCURACY 95" in created[0]


@pytest.mark.usefixtures("library")
def test_an_index_that_is_there_is_dropped_first(database: StandIn) -> None:
    database.vector_index = "NEIGHBOR_PARTITIONS_IVF"
    assert "rebuilt" in set_vector_index(SETTINGS, "ivf")
    assert [text.split()[0] for text in list_ddl(database)] == ["DROP", "CREATE"]
    assert "No vector index" in set_vector_index(SETTINGS, "none")
    assert list_ddl(database)[2:] == ['DROP INDEX "IMAGE_EMBEDDING_IDX"']


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
@pytest.mark.usefixtures("library")
def test_embeddings_of_several_sizes_are_refused_with_their_numbers(database: StandIn, kind: Any) -> None:
    pretend(database, [(512, 10), (768, 20)])
    with pytest.raises(SchemaError, match=r"10 of 512 dimensions, 20 of 768 dimensions.*--remove-model"):
        set_vector_index(SETTINGS, kind)
    assert list_ddl(database) == []


@pytest.mark.usefixtures("library")
def test_too_little_vector_memory_is_told_before_the_old_index_is_dropped(database: StandIn) -> None:
    database.vector_index = "NEIGHBOR_PARTITIONS_IVF"
    pretend(database, [(768, 100_000)], (100 * MEGABYTE, 0))
    with pytest.raises(StoreError, match=r"380 MiB.*100 MiB are free.*--vector-index ivf"):
        set_vector_index(SETTINGS, "hnsw")
    assert list_ddl(database) == []


@pytest.mark.usefixtures("library")
def test_autonomous_database_finds_its_vector_memory_itself(database: StandIn) -> None:
    pretend(database, [(768, 100_000)], (1, 0), cloud="OLTP")
    assert "hnsw" in set_vector_index(SETTINGS, "hnsw")


@pytest.mark.usefixtures("library")
def test_an_early_release_gets_no_index_that_refuses_new_images(database: StandIn) -> None:
    database.version = "23.5.0.24.7"
    pretend(database, [(768, 100_000)], (900 * MEGABYTE, 0))
    with pytest.raises(StoreError, match="refuses new images"):
        set_vector_index(SETTINGS, "hnsw")
    assert "ivf" in set_vector_index(SETTINGS, "auto")


@pytest.mark.usefixtures("library")
def test_an_index_that_cannot_be_built_is_told_and_searches_stay_exact(database: StandIn) -> None:
    database.answer("CREATE VECTOR INDEX", make_error("ORA-51962"))
    with pytest.raises(StoreError, match=r"hnsw index was not built.*goes on without it"):
        set_vector_index(SETTINGS, "hnsw")


def test_there_is_no_index_of_nothing(database: StandIn) -> None:
    with pytest.raises(StoreError, match="Register images first"):
        set_vector_index(SETTINGS, "ivf")
    with pytest.raises(StoreError, match="auto, ivf, hnsw, none"):
        set_vector_index(SETTINGS, "btree")  # type: ignore[arg-type]
    assert list_ddl(database) == []


# --- --check ---

HEALTHY: list[tuple[str, Any]] = [
    (oracle_check_sql.GET_PRODUCT, [("Oracle AI Database 26ai Enterprise Edition",)]),
    (oracle_check_sql.GET_CHARACTER_SET, [("AL32UTF8",)]),
    (oracle_check_sql.LIST_PRIVILEGES, [(name,) for name in NEEDED_PRIVILEGES]),
    (oracle_check_sql.GET_TABLESPACE, [("USERS", "AUTO")]),
    (oracle_check_sql.GET_QUOTA, [(10 * MEGABYTE, -1)]),
    (oracle_check_sql.GET_OWN_BYTES, [(10 * MEGABYTE,)]),
    (oracle_check_sql.GET_VECTOR_COLUMN, [("VECTOR(*,FLOAT32,DENSE)",)]),
    (oracle_check_sql.GET_WORD_INDEX, [("INDEXED", "ON COMMIT", 0)]),
    (oracle_check_sql.LIST_WORD_INDEX_ERRORS, []),
    (oracle_check_sql.GET_SESSION_LIMIT, [("UNLIMITED",)]),
    (oracle_check_sql.READ_PLAN, [("VECTOR INDEX IVF SCAN", "IMAGE_EMBEDDING_IDX")]),
    ("v$vector_memory_pool", make_error("ORA-00942")),
]


@pytest.fixture
def healthy(database: StandIn, library: OracleStore) -> StandIn:  # noqa: ARG001 - a library to look at
    database.has_text_index = True
    for fragment, rows in HEALTHY:
        database.answer(fragment, rows)
    return database


def check() -> dict[str, Finding]:
    return {finding.name: finding for finding in check_oracle(SETTINGS)}


def test_a_healthy_database_has_nothing_to_remedy(healthy: StandIn) -> None:
    findings = check()
    assert len(findings) == 12
    assert [finding for finding in findings.values() if not finding.ok or finding.remedy] == []
    assert "26ai" in findings["version"].what
    assert "every search is exact" in findings["vector index"].what
    assert healthy.events.count("commit") == 3  # looking commits nothing: the three are the library's own


@pytest.mark.usefixtures("healthy")
def test_a_healthy_library_in_it_has_nothing_to_remedy_either(library: OracleStore) -> None:
    findings = {finding.name: finding for finding in check_library(library)}
    assert [finding for finding in findings.values() if not finding.ok] == []
    assert "20 images in Oracle Database" in findings["library"].what
    assert "20 of 20 images, the current one" in findings["model 1"].what
    assert findings["originals"].what == "in the database"


@pytest.mark.parametrize(
    ("name", "fragment", "rows", "what", "remedy"),
    [
        ("character set", oracle_check_sql.GET_CHARACTER_SET, [("JA16SJIS",)], "JA16SJIS", "AL32UTF8"),
        ("privileges", oracle_check_sql.LIST_PRIVILEGES, [("CREATE SESSION",)], "CREATE TABLE", "GRANT CREATE TABLE"),
        ("tablespace", oracle_check_sql.GET_TABLESPACE, [("SYSTEM", "MANUAL")], "SYSTEM", "default tablespace"),
        ("tablespace", oracle_check_sql.GET_QUOTA, [], "no quota", "QUOTA UNLIMITED ON USERS"),
        ("tablespace", oracle_check_sql.GET_QUOTA, [(95, 100)], "used", "more quota"),
        ("vector column", oracle_check_sql.GET_VECTOR_COLUMN, [], "not a VECTOR", "--create-schema"),
        ("vector column", oracle_check_sql.GET_VECTOR_COLUMN, [("VECTOR(768,FLOAT32,DENSE)",)], "768", "dimension"),
        ("word index", oracle_check_sql.GET_WORD_INDEX, [], "missing", "CTXAPP"),
        ("word index", oracle_check_sql.GET_WORD_INDEX, [("FAILED", "", 0)], "FAILED", "--create-schema"),
        ("word index", oracle_check_sql.LIST_WORD_INDEX_ERRORS, [("DRG-11101: no",)], "DRG-11101", "REBUILD"),
        ("schema", oracle_sql.GET_SCHEMA_VERSION, make_error("ORA-00942"), "not as it should be", "--create-schema"),
        ("pool", oracle_check_sql.GET_SESSION_LIMIT, [("2",)], "allows 2", "SESSIONS_PER_USER"),
        ("version", oracle_check_sql.GET_PRODUCT, make_error("ORA-03113"), "could not be looked at", "lost"),
    ],
)
def test_a_fault_is_found_with_its_remedy(
    healthy: StandIn, name: str, fragment: str, rows: Any, what: str, remedy: str
) -> None:
    healthy.answer(fragment, rows)
    finding = check()[name]
    assert not finding.ok
    assert what in finding.what
    assert remedy in finding.remedy


def test_a_tablespace_without_quota_is_not_shown_by_the_dictionary_and_is_a_fault_all_the_same(
    healthy: StandIn,
) -> None:
    healthy.answer(oracle_check_sql.GET_TABLESPACE, [("DATA", None)])
    healthy.answer(oracle_check_sql.GET_QUOTA, [])
    assert "QUOTA UNLIMITED ON DATA" in check()["tablespace"].remedy


def test_oracle_free_tells_when_its_limit_is_near(healthy: StandIn) -> None:
    healthy.answer(oracle_check_sql.GET_PRODUCT, [("Oracle AI Database 26ai Free",)])
    assert check()["edition limit"].ok
    healthy.answer(oracle_check_sql.GET_OWN_BYTES, [(11 * 2**30,)])
    assert "ORIGINALS_URL" in check()["edition limit"].remedy


def test_no_oracle_text_is_no_fault(healthy: StandIn) -> None:
    healthy.answer(oracle_check_sql.GET_WORD_INDEX, make_error("ORA-00942"))
    finding = check()["word index"]
    assert finding.ok
    assert "row by row" in finding.what


def test_a_vector_index_is_tried_out(healthy: StandIn) -> None:
    healthy.vector_index = "NEIGHBOR_PARTITIONS_IVF"
    assert "used by the plan, finds 100%" in check()["vector index"].what
    [explained] = [text for text in healthy.statements if text.startswith("EXPLAIN")]
    assert ":" not in explained
    assert "TO_VECTOR('[1,0," in explained
    healthy.answer(oracle_check_sql.READ_PLAN, [("TABLE ACCESS FULL", "IMAGE_EMBEDDINGS")])
    assert "prefers the exact search" in check()["vector index"].what


def test_the_plan_of_a_long_embedding_is_asked_in_literals_that_fit(healthy: StandIn) -> None:
    healthy.vector_index = "NEIGHBOR_PARTITIONS_IVF"
    healthy.answer(oracle_sql.LIST_MODELS, [(1, "fake", "1", 2048, "Y")])
    check()
    [explained] = [text for text in healthy.statements if text.startswith("EXPLAIN")]
    literals = re.findall(r"TO_CLOB\('([^']*)'\)", explained)
    assert max(map(len, literals)) <= 4000
    assert json.loads("".join(literals)) == [1] + [0] * 2047


def test_a_vector_index_that_has_fallen_behind_is_a_fault(healthy: StandIn) -> None:
    healthy.vector_index = "NEIGHBOR_PARTITIONS_IVF"
    healthy.answer(oracle_sql.SEARCH_APPROXIMATELY, [])
    finding = check()["vector index"]
    assert "finds 0%" in finding.what
    assert "--vector-index auto" in finding.remedy


def test_a_database_that_is_away_is_one_finding(healthy: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise make_error("DPY-6005")

    assert healthy
    monkeypatch.setattr(oracledb, "connect", refuse)
    [finding] = check_oracle(SETTINGS)
    assert not finding.ok
    assert "DB_DSN" in finding.remedy


def test_a_sample_embedding_of_another_format_can_be_tried_too(healthy: StandIn) -> None:
    healthy.vector_index = "NEIGHBOR_PARTITIONS_IVF"
    healthy.answer(oracle_sql.SAMPLE_EMBEDDINGS, [(array.array("d", [1.0] + [0.0] * 15),)])
    assert check()["vector index"].ok
