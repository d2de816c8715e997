"""Every statement for Oracle Database is parsed, and its binds are those it is given."""

from __future__ import annotations

import importlib
import itertools
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from sqlfluff.core import Linter

from image_search.settings import ROOT
from image_search.stores.oracle import build_conditions
from image_search.stores.oracle import sql as oracle_sql
from image_search.stores.oracle.rows import bind_values
from image_search.stores.oracle.schema import CREATE_INDEX, SCHEMA_FILE, read_statements, read_tables, write_for_script
from image_search.stores.sql import ORDERS, list_after
from image_search.stores.text import make_new_record
from tests.contract.filters import CASES
from tests.fakes import make_image
from tests.oracle.parser import find_faults, make_linter
from tests.oracle.wire.results import list_places
from tests.oracle.wire.spelling import RESERVED

MODULES = sorted(path.stem for path in (ROOT / "image_search" / "stores" / "oracle").glob("[a-z]*.py"))
STATEMENT = re.compile(r"\n(SELECT|INSERT|UPDATE|DELETE|MERGE|CREATE) ")


def list_constants() -> Iterator[tuple[str, str]]:
    """Every statement that stands in a module, also inside tuples and dictionaries."""
    seen = set()
    for name in sorted(MODULES, key=lambda name: name != "sql"):
        for constant, value in vars(importlib.import_module(f"image_search.stores.oracle.{name}")).items():
            if constant.isupper():
                parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else [value]
                for number, part in enumerate(parts):
                    if isinstance(part, str) and STATEMENT.match(part) and part not in seen:
                        seen.add(part)  # other modules import some of them
                        yield f"{name}.{constant}.{number}", part


def list_written() -> Iterator[tuple[str, str]]:
    """Every statement that a function writes, for filters of every kind."""
    for function in (
        "find_hashes",
        "find_files",
        "find_embedded",
        "find_paths",
        "delete_paths",
        "get_records",
        "read_previews",
    ):
        yield function, getattr(oracle_sql, function)(":value_0, :value_1")
    every = [build_conditions(filter, ["猫の写真", "C++"], has_text_index=True)[0] for filter, _ in CASES]
    conditions = list(dict.fromkeys(itertools.chain(*every)))
    for given in ([], conditions):
        yield f"search_exactly {len(given)}", oracle_sql.search_exactly(given)
        yield f"list_images {len(given)}", oracle_sql.list_images(given or ["i.deleted_at IS NULL"], "taken")
    for order in ORDERS:
        behind, _ = bind_values(
            list_after(order, make_new_record(1, make_image("a.png"), datetime(2024, 1, 2))), "after"
        )
        yield f"list_images behind {order}", oracle_sql.list_images(["i.deleted_at IS NULL"], order, behind)
    for given in ([], conditions[:2]):
        yield f"count_images {len(given)}", oracle_sql.count_images(given)
        for field in ("generator", "generation_model", "file_type", "keyword"):
            yield f"count_values {field} {len(given)}", oracle_sql.count_values(field, given)


def list_scripts() -> Iterator[tuple[str, str]]:
    for path in (SCHEMA_FILE, ROOT / "create_user.sql"):
        for number, statement in enumerate(read_statements(path.read_text(encoding="utf-8"))):
            yield f"{path.name} {number}", statement


STATEMENTS = dict(itertools.chain(list_constants(), list_written(), list_scripts()))


@pytest.fixture(scope="module")
def linter() -> Linter:
    return make_linter()


def test_every_statement_parses(linter: Linter) -> None:
    faults = {name: find_faults(linter, statement) for name, statement in STATEMENTS.items()}
    assert not {name: found for name, found in faults.items() if found}


def test_missing_word_is_noticed(linter: Linter) -> None:
    """The parser is worth something: most statements with one comma or bracket less are refused."""
    noticed = total = 0
    for statement in list(STATEMENTS.values())[::2]:
        for match in list(re.finditer(r"[(),]", statement))[::5]:
            total += 1
            noticed += bool(find_faults(linter, statement[: match.start()] + " " + statement[match.end() :]))
    assert noticed / total > 0.8, f"{noticed} of {total}"


def test_no_bind_has_a_reserved_name() -> None:
    binds = {(name, bind) for name, statement in STATEMENTS.items() for bind in list_places(statement)}
    assert binds
    assert not {(name, bind) for name, bind in binds if bind.upper() in RESERVED}


def test_no_value_of_a_person_is_written_into_a_statement() -> None:
    bare = {name: re.sub(r"'[^']*'", "", statement) for name, statement in STATEMENTS.items()}
    assert not [name for name, statement in bare.items() if "{" in statement or "%s" in STATEMENTS[name]]


def test_binds_of_a_filter_are_those_its_conditions_name() -> None:
    for filter, _ in CASES:
        for has_text_index in (True, False):
            conditions, binds = build_conditions(filter, ["猫", "a b"], has_text_index)
            assert set(list_places(" AND ".join(conditions))) == set(binds), filter


def test_exact_search_cannot_use_a_vector_index_and_the_approximate_one_can() -> None:
    assert "NO_VECTOR_INDEX_TRANSFORM(e.ie)" in oracle_sql.search_exactly([])
    assert "APPROX" not in oracle_sql.search_exactly([])
    inner = re.search(r"FROM \((SELECT e\.image_id.*)\) a", oracle_sql.SEARCH_APPROXIMATELY, re.DOTALL)
    assert inner
    assert inner[1].count("JOIN") == 0
    assert re.search(r"ORDER BY distance\s+FETCH APPROX FIRST", inner[1])


def test_vector_index_has_the_metric_of_the_search() -> None:
    for statement in CREATE_INDEX.values():
        assert "DISTANCE DOT" in statement
    assert ", DOT)" in oracle_sql.SEARCH_APPROXIMATELY


def test_no_time_depends_on_the_zone_of_a_session() -> None:
    local = re.compile(r"CURRENT_(TIMESTAMP|DATE)|LOCALTIMESTAMP|SYSDATE|(?<!SYS_EXTRACT_UTC\()SYSTIMESTAMP")
    assert not [name for name, statement in STATEMENTS.items() if local.search(statement)]


# --- the script ---


def test_every_statement_of_the_script_may_run_again() -> None:
    for statement in read_statements():
        first = statement.split("\n", 1)[0]
        assert re.match(r"(CREATE (UNIQUE )?(TABLE|INDEX) IF NOT EXISTS|CREATE OR REPLACE|MERGE|COMMIT|DECLARE)", first)


def test_script_ends_every_statement_as_sqlplus_wants_it() -> None:
    text = SCHEMA_FILE.read_text(encoding="utf-8")
    written = "\n".join(write_for_script(statement) for statement in read_statements())
    bare = "\n".join(line for line in text.splitlines() if line.strip() and not re.match(r"--|SET |WHENEVER ", line))
    assert bare == written


def test_no_blank_line_cuts_a_statement_short() -> None:
    for path in (SCHEMA_FILE, Path(ROOT / "create_user.sql")):
        for statement in read_statements(path.read_text(encoding="utf-8")):
            assert "\n\n" not in statement
            assert "\n/\n" not in statement


def test_tables_of_the_script_are_those_the_statements_use() -> None:
    tables = read_tables()
    used = set()
    for name, statement in STATEMENTS.items():
        if name.startswith("sql."):
            used |= {match.upper() for match in re.findall(r"(?:\bFROM|\bJOIN|\bINTO|\nUPDATE) (\w+)", statement)}
    assert used - set(tables) == {"USER_INDEXES"}
    assert set(tables) == {
        "EMBEDDING_MODELS",
        "IMAGES",
        "IMAGE_EMBEDDINGS",
        "IMAGE_DESCRIPTIONS",
        "IMAGE_KEYWORDS",
        "IMAGE_LORAS",
        "IMAGE_PATHS",
        "TRASHED_EMBEDDINGS",
        "DELETED_IMAGES",
        "DELETED_PATHS",
        "LIBRARY_SETTINGS",
        "IMAGE_SEARCH_SCHEMA",
    }


def test_every_column_a_statement_names_exists() -> None:
    tables = {name: set(table.columns) for name, table in read_tables().items()}
    unknown = []
    for name, statement in STATEMENTS.items():
        if name.startswith("sql."):
            used = [
                (table.upper(), column.upper())
                for table, alias in re.findall(r"\b(?:FROM|JOIN|INTO)\s+(\w+) (\w)\b", statement)
                for column in re.findall(rf"\b{alias}\.(\w+)", statement)
            ]
            for table, columns in re.findall(r"INSERT INTO (\w+) \(([\w\s,]+)\)\s+VALUES", statement):
                used += [(table.upper(), column.strip().upper()) for column in columns.split(",")]
            unknown += [(name, *pair) for pair in used if pair[0] in tables and pair[1] not in tables[pair[0]]]
    assert not unknown
