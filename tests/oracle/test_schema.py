"""Making the schema, making the vector index, and looking at both."""

from __future__ import annotations

import array
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import oracledb
import pytest

from image_search.cli.health import check_library
from image_search.errors import SchemaError, StoreError
from image_search.records import Finding
from image_search.settings import Settings
from image_search.stores.oracle import OracleStore
from image_search.stores.oracle.connection import connect
from image_search.stores.oracle.health import check_oracle
from image_search.stores.oracle.schema import create_schema, read_statements, set_vector_index
from image_search.stores.oracle.sql import DELETE_SETTING, INSERT_SETTING
from tests.fakes import make_embeddings, make_images
from tests.oracle.wire.faults import Answer, Refuse
from tests.oracle.wire.server import Server
from tests.oracle.wired import IVF, make_settings, serve, serve_nothing


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Server]:
    """A server whose schema has no tables."""
    with serve_nothing(tmp_path / "empty.db") as server:
        yield server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serve(tmp_path / "oracle.db", has_text=True) as server:
        server.database.hidden.add("V$VECTOR_MEMORY_POOL")
        yield server


@pytest.fixture
def settings(server: Server) -> Settings:
    return make_settings(server)


# --- the schema ---


def test_every_statement_of_the_script_is_sent_in_order(empty: Server) -> None:
    yielded = list(create_schema(make_settings(empty)))
    sent = [sql for sql in empty.statements if not sql.startswith("ALTER SESSION")]
    looks = [sql for sql in sent if sql.lstrip().startswith("SELECT i.image_id")]  # for images of schema 1
    keeps = [DELETE_SETTING.strip(), INSERT_SETTING.strip()]  # the rule of tokens, of an empty library
    assert [sql for sql in sent if sql not in looks] == [*read_statements(), *keeps]
    assert len(yielded) == len(read_statements())


def test_script_makes_nothing_new_when_it_runs_again(empty: Server) -> None:
    list(create_schema(make_settings(empty)))
    made = (dict(empty.database.tables), dict(empty.database.indexes), dict(empty.database.preferences))
    list(create_schema(make_settings(empty)))
    assert (empty.database.tables, empty.database.indexes, empty.database.preferences) == made


def test_script_makes_no_word_index_where_oracle_text_is_missing(tmp_path: Path) -> None:
    with serve_nothing(tmp_path / "oracle.db", has_text=False) as server:
        list(create_schema(make_settings(server)))
        assert server.database.find_text_index() is None
        assert "IMAGES" in server.database.tables


def test_script_makes_a_broken_word_index_anew(empty: Server) -> None:
    list(create_schema(make_settings(empty)))
    [name] = [index.name for index in empty.database.indexes.values() if index.kind == "DOMAIN"]
    empty.database.indexes[name] = replace(empty.database.indexes[name], status="INVALID")
    list(create_schema(make_settings(empty)))
    assert empty.database.indexes[name].status == "VALID"


def test_printing_connects_to_nothing_and_shows_what_would_run() -> None:
    printed = list(create_schema(Settings(), print_only=True))
    bare = [text[:-2] if text.startswith("DECLARE") else text.removesuffix(";") for text in printed]
    assert bare == read_statements()
    assert read_statements("\n".join(printed)) == read_statements()


def test_database_that_is_too_old_is_refused_before_anything_runs(empty: Server) -> None:
    empty.version = "19.3.0.0.0"
    with pytest.raises(SchemaError, match=r"23\.4"):
        list(create_schema(make_settings(empty)))
    assert empty.statements == []


def test_tables_of_another_shape_stop_the_script_with_the_remedy(empty: Server) -> None:
    with connect(make_settings(empty)) as session:
        session.execute("CREATE TABLE images (image_id NUMBER, search_text CLOB)")
    with pytest.raises(SchemaError, match="--migrate --dry-run"):
        list(create_schema(make_settings(empty)))
    assert list(empty.database.tables) == ["IMAGES"]


def test_statement_that_fails_is_named(empty: Server) -> None:
    empty.faults.add(Refuse(1031), "execute", "CREATE TABLE IF NOT EXISTS images")
    with pytest.raises(SchemaError, match=r"CREATE TABLE IF NOT EXISTS images.*privilege.*ORA-01031"):
        list(create_schema(make_settings(empty)))


def test_schema_holds_one_current_model_and_its_view_only_that_models_embeddings(
    settings: Settings,
) -> None:
    with OracleStore.open(settings) as store:
        for version in "12":
            model = store.get_or_create_model("fake", version, 16)
            store.add_images(model.model_id, make_images(2), make_embeddings(2))
    with connect(settings) as session:
        rows = session.query("SELECT c.model_id, COUNT(*) FROM current_image_embeddings c GROUP BY c.model_id")
        assert rows == [(1, 2)]
        with pytest.raises(oracledb.IntegrityError, match="ORA-00001"):
            session.execute("UPDATE embedding_models SET is_current = 'Y' WHERE model_id = 2")


# --- the vector index ---


@pytest.fixture
def library(server: Server, settings: Settings) -> Iterator[OracleStore]:
    with OracleStore.open(settings) as store:
        model = store.get_or_create_model("fake", "1", 16)
        store.add_images(model.model_id, make_images(20), make_embeddings(20))
        server.events.clear()
        yield store


def pretend(
    server: Server, counts: list[tuple[int, int]], memory: tuple[int, int] | None = None, cloud: str | None = None
) -> None:
    """A library of so many embeddings of each dimension, and so much vector memory (None: not visible)."""
    server.faults.add(Answer(tuple(counts)), "execute", "GROUP BY m.vector_dimension", times=99)
    server.faults.add(Answer(((cloud,),)), "execute", "CLOUD_SERVICE", times=99)
    if memory:
        server.database.hidden.discard("V$VECTOR_MEMORY_POOL")
        server.database.views["V$VECTOR_MEMORY_POOL"] = [{"ALLOC_BYTES": memory[0], "USED_BYTES": memory[1]}]


def list_ddl(server: Server) -> list[str]:
    return [sql for sql in server.statements if sql.startswith(("CREATE VECTOR", "DROP INDEX"))]


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
def test_index_fits_the_library(
    server: Server, settings: Settings, kind: Any, counts: Any, memory: Any, made: str | None, reason: str
) -> None:
    pretend(server, counts, memory)
    assert reason in set_vector_index(settings, kind)
    index = server.database.find_vector_index()
    assert (index is not None) == (made is not None)
    if index and made:
        assert index.metric == "DOT"
        assert ("HNSW" in index.subtype) == ("GRAPH" in made)


@pytest.mark.usefixtures("library")
def test_index_that_is_there_is_dropped_first(server: Server, settings: Settings) -> None:
    server.database.indexes[IVF.name] = IVF
    assert "rebuilt" in set_vector_index(settings, "ivf")
    assert [text.split()[0] for text in list_ddl(server)] == ["DROP", "CREATE"]
    assert "No vector index" in set_vector_index(settings, "none")
    assert server.database.find_vector_index() is None


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_embeddings_of_several_sizes_are_refused_with_their_numbers(
    server: Server, settings: Settings, library: OracleStore, kind: Any
) -> None:
    other = library.get_or_create_model("other", "1", 8)
    library.add_images(other.model_id, make_images(3), make_embeddings(3, dimension=8))
    with pytest.raises(SchemaError, match=r"3 of 8 dimensions, 20 of 16 dimensions.*--remove-model"):
        set_vector_index(settings, kind)
    assert list_ddl(server) == []


@pytest.mark.usefixtures("library")
def test_vector_memory_that_is_too_small_is_told_before_the_old_index_is_dropped(
    server: Server, settings: Settings
) -> None:
    server.database.indexes[IVF.name] = IVF
    pretend(server, [(768, 100_000)], (100 * MEGABYTE, 0))
    with pytest.raises(StoreError, match=r"380 MiB.*100 MiB are free.*--vector-index ivf"):
        set_vector_index(settings, "hnsw")
    assert list_ddl(server) == []


@pytest.mark.usefixtures("library")
def test_autonomous_database_finds_its_vector_memory_itself(server: Server, settings: Settings) -> None:
    pretend(server, [(768, 100_000)], (1, 0), cloud="OLTP")
    assert "hnsw" in set_vector_index(settings, "hnsw")


@pytest.mark.usefixtures("library")
def test_early_release_gets_no_index_that_refuses_new_images(server: Server, settings: Settings) -> None:
    server.version = "23.5.0.24.7"
    pretend(server, [(768, 100_000)], (900 * MEGABYTE, 0))
    with pytest.raises(StoreError, match="refuses new images"):
        set_vector_index(settings, "hnsw")
    assert "ivf" in set_vector_index(settings, "auto")


@pytest.mark.usefixtures("library")
def test_index_that_cannot_be_built_is_told_and_searches_stay_exact(server: Server, settings: Settings) -> None:
    server.faults.add(Refuse(51962), "execute", "CREATE VECTOR INDEX")
    with pytest.raises(StoreError, match=r"hnsw index was not built.*goes on without it"):
        set_vector_index(settings, "hnsw")


def test_index_of_nothing_is_not_built(server: Server, settings: Settings) -> None:
    with pytest.raises(StoreError, match="Register images first"):
        set_vector_index(settings, "ivf")
    with pytest.raises(StoreError, match="auto, ivf, hnsw, none"):
        set_vector_index(settings, "btree")  # type: ignore[arg-type]
    assert list_ddl(server) == []


# --- --check: the database is a healthy one but for what a test changes ---


def check(settings: Settings) -> dict[str, Finding]:
    return {finding.name: finding for finding in check_oracle(settings)}


@pytest.mark.usefixtures("library")
def test_healthy_database_has_nothing_to_remedy(server: Server, settings: Settings) -> None:
    findings = check(settings)
    assert len(findings) == 12
    assert [finding for finding in findings.values() if not finding.ok or finding.remedy] == []
    assert "26ai" in findings["version"].what
    assert "every search is exact" in findings["vector index"].what
    assert not [event for event in server.events if event.name == "commit"]  # looking changes nothing


def test_healthy_library_in_it_has_nothing_to_remedy_either(library: OracleStore) -> None:
    findings = {finding.name: finding for finding in check_library(library)}
    assert [finding for finding in findings.values() if not finding.ok] == []
    assert "20 images in Oracle Database" in findings["library"].what
    assert "20 of 20 images, the current one" in findings["model 1"].what
    assert findings["originals"].what == "in the database"


WORDS = "IX_IMAGES_SEARCH_TEXT"


@pytest.mark.parametrize(
    ("name", "view", "rows", "what", "remedy"),
    [
        (
            "character set",
            "NLS_DATABASE_PARAMETERS",
            [{"PARAMETER": "NLS_CHARACTERSET", "VALUE": "JA16SJIS"}],
            "JA16SJIS",
            "AL32UTF8",
        ),
        ("privileges", "SESSION_PRIVS", [{"PRIVILEGE": "CREATE SESSION"}], "CREATE TABLE", "GRANT CREATE TABLE"),
        (
            "tablespace",
            "USER_TABLESPACES",
            [{"TABLESPACE_NAME": "USERS", "SEGMENT_SPACE_MANAGEMENT": "MANUAL"}],
            "manual",
            "default tablespace",
        ),
        ("tablespace", "USER_TS_QUOTAS", [], "no quota", "QUOTA UNLIMITED ON USERS"),
        (
            "tablespace",
            "USER_TS_QUOTAS",
            [{"TABLESPACE_NAME": "USERS", "BYTES": 95, "MAX_BYTES": 100}],
            "used",
            "more quota",
        ),
        ("vector column", "USER_TAB_COLUMNS", [], "not a VECTOR", "--create-schema"),
        (
            "vector column",
            "USER_TAB_COLUMNS",
            [
                {
                    "TABLE_NAME": "IMAGE_EMBEDDINGS",
                    "COLUMN_NAME": "EMBEDDING",
                    "VECTOR_INFO": "VECTOR(768,FLOAT32,DENSE)",
                }
            ],
            "768",
            "dimension",
        ),
        ("word index", "CTX_USER_INDEXES", [], "missing", "CTXAPP"),
        ("word index", "CTX_USER_INDEXES", [{"IDX_NAME": WORDS, "IDX_STATUS": "FAILED"}], "FAILED", "--create-schema"),
        (
            "word index",
            "CTX_USER_INDEX_ERRORS",
            [{"ERR_INDEX_NAME": WORDS, "ERR_TEXT": "DRG-11101: no"}],
            "DRG-11101",
            "REBUILD",
        ),
        (
            "pool",
            "USER_RESOURCE_LIMITS",
            [{"RESOURCE_NAME": "SESSIONS_PER_USER", "LIMIT": "2"}],
            "allows 2",
            "SESSIONS_PER_USER",
        ),
    ],
)
@pytest.mark.usefixtures("library")
def test_fault_is_found_with_its_remedy(
    server: Server, settings: Settings, name: str, view: str, rows: Any, what: str, remedy: str
) -> None:
    server.database.views[view] = rows
    finding = check(settings)[name]
    assert not finding.ok
    assert what in finding.what
    assert remedy in finding.remedy


@pytest.mark.usefixtures("library")
def test_look_that_fails_does_not_hide_the_others(server: Server, settings: Settings) -> None:
    server.faults.add(Refuse(942), "execute", "image_search_schema")
    server.faults.add(Refuse(1031), "execute", "nls_database_parameters")
    findings = check(settings)
    assert "--create-schema" in findings["schema"].remedy
    assert "could not be looked at" in findings["character set"].what
    assert findings["pool"].ok


def test_tablespace_without_quota_is_not_shown_by_the_dictionary_and_is_a_fault_all_the_same(
    server: Server, settings: Settings
) -> None:
    server.database.views["USER_USERS"] = [{"USERNAME": "IMGSEARCH", "DEFAULT_TABLESPACE": "DATA"}]
    assert "QUOTA UNLIMITED ON DATA" in check(settings)["tablespace"].remedy


def test_oracle_free_tells_when_its_limit_is_near(server: Server, settings: Settings) -> None:
    server.database.views["PRODUCT_COMPONENT_VERSION"] = [{"PRODUCT": "Oracle AI Database 26ai Free"}]
    assert check(settings)["edition limit"].ok
    server.database.views["USER_SEGMENTS"] = [{"SEGMENT_NAME": "IMAGES", "BYTES": 11 * 2**30}]
    assert "ORIGINALS_URL" in check(settings)["edition limit"].remedy


def test_no_oracle_text_is_no_fault(server: Server, settings: Settings) -> None:
    server.database.has_text = False
    finding = check(settings)["word index"]
    assert finding.ok
    assert "row by row" in finding.what


@pytest.mark.usefixtures("library")
def test_vector_index_is_tried_out(server: Server, settings: Settings) -> None:
    server.database.indexes[IVF.name] = IVF
    assert "used by the plan, finds 100%" in check(settings)["vector index"].what
    [explained] = [sql for sql in server.statements if sql.startswith("EXPLAIN")]
    assert "TO_VECTOR('[1,0," in explained
    server.faults.add(Answer((("TABLE ACCESS FULL", "IMAGE_EMBEDDINGS"),)), "execute", "plan_table")
    assert "prefers the exact search" in check(settings)["vector index"].what


def test_plan_of_a_long_embedding_is_asked_in_literals_that_fit(server: Server, settings: Settings) -> None:
    with OracleStore.open(settings) as store:
        model = store.get_or_create_model("long", "1", 2048)
        store.add_images(model.model_id, make_images(2), make_embeddings(2, dimension=2048))
    server.database.indexes[IVF.name] = IVF
    check(settings)
    [explained] = [sql for sql in server.statements if sql.startswith("EXPLAIN")]
    literals = re.findall(r"TO_CLOB\('([^']*)'\)", explained)
    assert max(map(len, literals)) <= 4000
    assert json.loads("".join(literals)) == [1] + [0] * 2047


@pytest.mark.usefixtures("library")
def test_vector_index_that_has_fallen_behind_is_a_fault(server: Server, settings: Settings) -> None:
    server.database.indexes[IVF.name] = IVF
    server.database.approximate_rows = 0
    finding = check(settings)["vector index"]
    assert "finds 0%" in finding.what
    assert "--vector-index auto" in finding.remedy


def test_database_that_is_away_is_one_finding(server: Server, settings: Settings) -> None:
    server.close()
    [finding] = check_oracle(settings)
    assert not finding.ok
    assert "DB_DSN" in finding.remedy


@pytest.mark.usefixtures("library")
def test_sample_embedding_of_another_format_can_be_tried_too(server: Server, settings: Settings) -> None:
    server.database.indexes[IVF.name] = IVF
    row = (array.array("d", [1.0] + [0.0] * 15),)
    server.faults.add(Answer((row,)), "execute", "ORA_HASH")
    assert check(settings)["vector index"].ok
