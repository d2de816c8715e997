"""create_all_tables.sql as a program reads it, and the two indexes that searches can do without.

register_images.py --vector-index {auto,ivf,hnsw,none}: without one every search is exact, a scan of 4 bytes a
dimension, 300 MB for 100,000 embeddings of 768 dimensions. An index makes sense for more than that. It is always built
again, because the partitions of an IVF index are decided by the rows that are there when it is built.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import oracledb

from image_search.errors import SchemaError, StoreError
from image_search.settings import BUNDLED, Settings
from image_search.stores.oracle.connection import Session, connect
from image_search.stores.oracle.messages import describe, get_code
from image_search.stores.oracle.rows import bind_record, make_record, set_setting
from image_search.stores.oracle.sql import (
    FIND_SEARCH_INDEXES,
    GET_SCHEMA_VERSION,
    LIST_AFTER,
    LIST_UNWRITTEN,
    LOCK_WRITES,
    SET_FOLDER,
    TARGET_ACCURACY,
    UPDATE_RECORD,
)
from image_search.stores.reads import SCHEMA_VERSION, newer_schema
from image_search.stores.text import encode_path, get_folder
from image_search.stores.tokens import BEGUN, TOKEN_RULE, TOKEN_SETTING, has_old_tokens

SCHEMA_FILE = BUNDLED / "create_all_tables.sql"
_OLDEST_DATABASE = (23, 4)  # VECTOR, IF NOT EXISTS

_DIRECTIVE = re.compile(r"(SET (DEFINE|SERVEROUTPUT|VERIFY)|WHENEVER|ACCEPT|UNDEFINE|PROMPT)\b", re.IGNORECASE)
_LOGGER = logging.getLogger(__name__)
_BATCH = 200  # records in memory at once, and in one transaction
_BLOCK = re.compile(r"(DECLARE|BEGIN)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """A table as create_all_tables.sql defines it: column and constraint definitions by name."""

    name: str
    columns: dict[str, str]
    constraints: dict[str, str]


def create_schema(settings: Settings, print_only: bool = False) -> Iterator[str]:
    """Run create_all_tables.sql, which may be done any number of times. Yields each statement after it has run.

    Tables of version 1 become those of version 2: the script runs, the texts of all images are written again, and it
    runs again to its end. Interrupted, it goes on where it stopped.
    print_only: yields what would run, as a script for SQL*Plus or SQLcl, and connects to nothing.
    Raises SchemaError for a database that is too old or tables of another shape, StoreError for anything else.
    """
    if print_only:
        yield from map(write_for_script, read_statements())
        return
    with connect(settings) as session:
        check_release(session)
        session.execute("ALTER SESSION SET DDL_LOCK_TIMEOUT = 30")  # seconds, instead of giving up on a busy table
        yield from run_statements(session, read_statements())
        if rewrite_texts(session):
            yield from run_statements(session, read_statements())
        if not session.query(LIST_AFTER, {"after_id": 0, "max_rows": 1}):  # else the first program that opens it does
            set_setting(session, TOKEN_SETTING, str(TOKEN_RULE))
            session.connection.commit()


def run_statements(session: Session, statements: Iterable[str]) -> Iterator[str]:
    """Run statements of the script. Yields each after it has run. Raises StoreError naming the one that failed."""
    for statement in statements:
        try:
            session.execute(statement)
        except oracledb.Error as error:
            raise describe(error, doing=statement.splitlines()[0]) from error
        yield write_for_script(statement)


def rewrite_texts(session: Session) -> int:
    """Write what is derived from the texts of the images that lack it, as those of version 1 do. Returns how many."""
    count = 0
    while rows := session.query(LIST_UNWRITTEN, {"max_rows": _BATCH}):
        records = [make_record(row) for row in rows]
        session.execute_many(UPDATE_RECORD, [{**bind_record(r), "image_id": r.image_id} for r in records])
        places = [(record.image_id, encode_path(path)) for record in records for path in record.paths]
        session.execute_many(SET_FOLDER, [{"folder": get_folder(p), "file_path": p, "image_id": i} for i, p in places])
        session.connection.commit()
        count += len(rows)
    return count


def upgrade_schema(settings: Settings, location: str) -> None:
    """Bring tables of an earlier version to this one. Raises StoreError."""
    for _ in create_schema(settings):
        pass
    _LOGGER.warning("%s: migrated the library to schema %s", location, SCHEMA_VERSION)


# The rule by which SEARCH_TEXT is written.
GET_TOKEN_RULE = """
SELECT s.value
FROM library_settings s
WHERE s.name = :setting_name"""

SET_SEARCH_TEXT = """
UPDATE images
SET search_text = :search_text
WHERE image_id = :image_id"""

_CANNOT_WRITE = ("ORA-01031", "ORA-16000")  # no right to, or a read-only database


def has_old_words(session: Session, location: str) -> bool:
    """Whether SEARCH_TEXT is written by an older rule. Raises SchemaError for a newer one."""
    rows = session.query(GET_TOKEN_RULE, {"setting_name": TOKEN_SETTING})
    return has_old_tokens(rows[0][0] if rows else None, location)


def renew_words(settings: Settings, location: str) -> None:
    """Write SEARCH_TEXT of all images again, some in each transaction. Raises StoreError.

    The next program repeats an interrupted run. A user without the right to write finds words as they were written.
    """
    with connect(settings) as session:
        try:
            session.query(LOCK_WRITES)
        except oracledb.Error as error:
            if get_code(error) in _CANNOT_WRITE:
                return
            raise
        if not has_old_words(session, location):  # another program was quicker
            return
        set_setting(session, TOKEN_SETTING, BEGUN)  # from here on older programs write nothing
        after_id = 0
        while records := [
            make_record(row) for row in session.query(LIST_AFTER, {"after_id": after_id, "max_rows": _BATCH})
        ]:
            if after_id == 0:
                _LOGGER.warning("%s: writing all words again, by rule %s", location, TOKEN_RULE)
            texts = [{"search_text": bind_record(r)["search_text"], "image_id": r.image_id} for r in records]
            session.execute_many(SET_SEARCH_TEXT, texts)
            session.connection.commit()
            session.query(LOCK_WRITES)  # which the commit has let go
            after_id = records[-1].image_id
        set_setting(session, TOKEN_SETTING, str(TOKEN_RULE))
        session.connection.commit()


def check_release(session: Session) -> None:
    """Raises SchemaError when the database has no vectors."""
    if session.version < _OLDEST_DATABASE:
        raise SchemaError(
            f"Oracle Database {session.connection.version} has no vectors. Version 23.4 (23ai) or later is needed."
        )


def check_version(session: Session, upgrade: Callable[[], None] | None = None) -> None:
    """Raises SchemaError when the tables are missing, made by the original application, or of another version.

    upgrade: called for tables of an earlier version, instead of raising.
    """
    check_release(session)
    version = find_version(session)
    if version is not None and version < SCHEMA_VERSION and upgrade is not None:
        upgrade()
        version = find_version(session)
    if version is None:
        raise SchemaError(
            "The schema of DB_USER has no tables of this program. Run: python register_images.py --create-schema"
        )
    if version > SCHEMA_VERSION:
        raise newer_schema("The schema of DB_USER", version)
    if version < SCHEMA_VERSION:
        raise SchemaError(
            f"The tables have schema version {version}. Run: python register_images.py --create-schema, which brings "
            f"them to version {SCHEMA_VERSION}."
        )


def find_version(session: Session) -> int | None:
    """The version whose steps are all done; None without tables of this program."""
    try:
        version: int | None = session.query(GET_SCHEMA_VERSION)[0][0]
    except oracledb.Error as error:
        if get_code(error) != "ORA-00942":
            raise
        return None
    return version


def read_statements(text: str | None = None) -> list[str]:
    """Statements of create_all_tables.sql (or of another script) as the driver wants them.

    Without comments and SQL*Plus directives between them, without the final semicolon of SQL and without the slash
    after PL/SQL.
    """
    lines = (SCHEMA_FILE.read_text(encoding="utf-8") if text is None else text).splitlines()
    statements: list[str] = []
    current: list[str] = []
    for line in lines:
        if not current and (not line.strip() or line.startswith("--") or _DIRECTIVE.match(line)):
            continue
        is_block = bool(_BLOCK.match(current[0] if current else line))
        if is_block and line.strip() == "/":
            statements.append("\n".join(current))
            current = []
        elif not is_block and line.rstrip().endswith(";"):
            statements.append("\n".join([*current, line.rstrip().removesuffix(";")]))
            current = []
        else:
            current.append(line)
    return statements


def write_for_script(statement: str) -> str:
    """A statement as SQL*Plus and SQLcl want it, with its end."""
    return f"{statement}\n/" if _BLOCK.match(statement) else f"{statement};"


def read_tables() -> dict[str, Table]:
    """The tables of create_all_tables.sql by name, in capitals as the dictionary of the database has them."""
    tables = {}
    for statement in read_statements():
        head, _, body = statement.partition("(\n")
        match = re.fullmatch(r"CREATE TABLE IF NOT EXISTS (\w+) ", head)
        if match:
            lines = [line.strip().removesuffix(",") for line in body.splitlines()[:-1]]
            constraints = {line.split()[1].upper(): line for line in lines if line.startswith("CONSTRAINT ")}
            columns = {line.split()[0].upper(): line for line in lines if not line.startswith("CONSTRAINT ")}
            tables[match[1].upper()] = Table(match[1].upper(), columns, constraints)
    return tables


# Which of the two optional indexes there are: a vector index, and the word index of Oracle Text.
#
# Another program may make or drop them at any time (register_images.py --vector-index), so a store looks once a minute.

_SECONDS = 60.0


@dataclass(frozen=True)
class FoundIndexes:
    """vector: "ivf", "hnsw" or None. text: whether words can be asked of Oracle Text."""

    vector: str | None
    vector_name: str | None
    text: bool


class SearchIndexes:
    """Remembers what was found for a minute. Safe to use from several threads."""

    def __init__(self) -> None:
        self._found: tuple[float, FoundIndexes] | None = None

    def look(self, session: Session) -> FoundIndexes:
        """The indexes there are, at most a minute old."""
        remembered = self._found
        if remembered is None or time.monotonic() - remembered[0] > _SECONDS:
            remembered = self._found = (time.monotonic(), find_indexes(session))
        return remembered[1]

    def disable_text_index(self) -> None:
        """Leave the word index alone for a minute: it has just failed."""
        if self._found is not None:
            found = self._found[1]
            self._found = (time.monotonic(), FoundIndexes(found.vector, found.vector_name, text=False))


def find_indexes(session: Session) -> FoundIndexes:
    """Look in the dictionary. An index that is not valid is not there."""
    vector = name = None
    text = False
    for index_name, index_type, subtype, status, operation_status in session.query(FIND_SEARCH_INDEXES):
        if index_type == "VECTOR":
            name = index_name
            if status == "VALID":
                vector = "hnsw" if "GRAPH" in (subtype or "") or "HNSW" in (subtype or "") else "ivf"
        else:
            text = status == "VALID" and operation_status == "VALID"
    return FoundIndexes(vector, name, text)


Kind = Literal["auto", "ivf", "hnsw", "none"]

INDEX_NAME = "IMAGE_EMBEDDING_IDX"
_WORTH_IT = 50_000  # embeddings; below, a scan takes no time that is noticed
_HNSW_WITH_CHANGES = (23, 6)  # earlier releases refuse inserts while there is an HNSW index (ORA-51928)

COUNT_BY_DIMENSION = """
SELECT m.vector_dimension, COUNT(*)
FROM image_embeddings e
JOIN embedding_models m ON m.model_id = e.model_id
GROUP BY m.vector_dimension
ORDER BY m.vector_dimension"""

GET_VECTOR_MEMORY = """
SELECT COALESCE(SUM(p.alloc_bytes), 0), COALESCE(SUM(p.used_bytes), 0)
FROM v$vector_memory_pool p"""

# Autonomous Database gives vector memory by itself; elsewhere this is NULL.
GET_CLOUD_SERVICE = """
SELECT SYS_CONTEXT('USERENV', 'CLOUD_SERVICE')
FROM dual"""

CREATE_INDEX = {
    "ivf": f"""
CREATE VECTOR INDEX {INDEX_NAME} ON image_embeddings (embedding)
ORGANIZATION NEIGHBOR PARTITIONS
DISTANCE DOT
WITH TARGET ACCURACY {TARGET_ACCURACY}""",
    "hnsw": f"""
CREATE VECTOR INDEX {INDEX_NAME} ON image_embeddings (embedding)
ORGANIZATION INMEMORY NEIGHBOR GRAPH
DISTANCE DOT
WITH TARGET ACCURACY {TARGET_ACCURACY}
PARAMETERS (TYPE HNSW, NEIGHBORS 32, EFCONSTRUCTION 200)""",
}


def set_vector_index(settings: Settings, kind: Kind) -> str:
    """Make the vector index what kind says, from the embeddings that are there now. Returns what was done and why.

    auto: none below 50,000 embeddings; then hnsw where the vector memory certainly holds it, else ivf.
    Raises SchemaError when the embeddings have several dimensions, StoreError when an index cannot be built; searches
    are then exact.
    """
    if kind not in get_args(Kind):
        raise StoreError(f"The vector index can be {', '.join(get_args(Kind))}, not {kind}.")
    with connect(settings) as session:
        check_version(session)
        chosen, reason = _choose(session, kind)
        before = find_indexes(session)
        session.execute("ALTER SESSION SET DDL_LOCK_TIMEOUT = 30")
        if before.vector_name:
            session.execute(f'DROP INDEX "{before.vector_name}"')
        if chosen != "none":
            try:
                session.execute(CREATE_INDEX[chosen])
            except oracledb.Error as error:
                raise describe(error, doing=f"The {chosen} index was not built") from error
    if chosen == "none":
        return f"No vector index, every search is exact: {reason}."
    return f"The {chosen} index is {'rebuilt' if before.vector_name else 'built'}: {reason}."


def read_vector_memory(session: Session) -> tuple[int, int] | None:
    """Bytes of vector memory and bytes of it in use, or None when DB_USER may not see that."""
    try:
        allocated, used = session.query(GET_VECTOR_MEMORY)[0]
    except oracledb.Error as error:
        if get_code(error) in ("ORA-00942", "ORA-01031"):
            return None
        raise
    return int(allocated), int(used)


def _choose(session: Session, kind: Kind) -> tuple[str, str]:
    """The kind to build, and the reason for people."""
    if kind == "none":
        return "none", "so it was asked"
    counts = session.query(COUNT_BY_DIMENSION)
    total = sum(count for _, count in counts)
    if len(counts) > 1:
        dimensions = ", ".join(f"{count} of {dimension} dimensions" for dimension, count in counts)
        if kind == "auto":
            return "none", f"the embeddings differ in size ({dimensions}), and an index needs one size"
        raise SchemaError(
            f"A vector index needs embeddings of one size, and there are {dimensions}. "
            "Remove the model that is not needed: python register_images.py --remove-model"
        )
    if kind == "auto" and total < _WORTH_IT:
        return "none", f"{total} embeddings are scanned quickly; an index is worth it from {_WORTH_IT} on"
    if total == 0:
        raise StoreError("There is nothing to index yet. Register images first, then make the vector index.")
    needed = int(1.3 * total * counts[0][0] * 4)  # Oracle's formula for HNSW
    problem = _find_hnsw_problem(session, needed, is_certain=kind == "hnsw")
    if kind == "hnsw":
        if problem:
            raise StoreError(f"{problem} Use: python register_images.py --vector-index ivf")
        return "hnsw", f"{total} embeddings, about {needed // 2**20} MiB of vector memory"
    if kind == "ivf":
        return "ivf", f"{total} embeddings"
    return ("ivf", f"{total} embeddings. {problem}".rstrip(".")) if problem else ("hnsw", f"{total} embeddings")


def _find_hnsw_problem(session: Session, needed: int, is_certain: bool) -> str:
    """Why an HNSW index will not do, "" when it will. is_certain: only what is known for sure counts."""
    if session.version < _HNSW_WITH_CHANGES:
        return f"Oracle Database {session.connection.version} refuses new images while there is an HNSW index."
    memory = read_vector_memory(session)
    if is_certain and (memory is None or session.query(GET_CLOUD_SERVICE)[0][0] is not None):
        return ""
    if memory is None:
        return "DB_USER cannot see the vector memory."
    if memory[0] - memory[1] < needed:
        return (
            f"An HNSW index needs {needed // 2**20} MiB of vector memory, of which "
            f"{(memory[0] - memory[1]) // 2**20} MiB are free. The administrator can raise VECTOR_MEMORY_SIZE."
        )
    return ""
