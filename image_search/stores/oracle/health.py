"""ImageSearch.py --check on Oracle Database: what is there, what is missing, and what to do about it.

Every check runs on its own, so that one missing object or privilege does not hide the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from image_search.errors import ImageSearchError, StoreError
from image_search.records import Finding
from image_search.settings import Settings
from image_search.stores.oracle.connection import POOL_SIZE, Row, Session, connect
from image_search.stores.oracle.messages import OracleError, describe
from image_search.stores.oracle.rows import to_embedding, to_vector
from image_search.stores.oracle.schema import (
    COUNT_BY_DIMENSION,
    FoundIndexes,
    check_release,
    check_version,
    find_indexes,
    read_vector_memory,
)
from image_search.stores.oracle.sql import LIST_MODELS, SAMPLE_EMBEDDINGS, SEARCH_APPROXIMATELY, search_exactly

# Queries of ImageSearch.py --check: views that every user may read, or whose absence tells something.

GET_PRODUCT = """
SELECT p.product
FROM product_component_version p
ORDER BY p.product DESC
FETCH FIRST 1 ROWS ONLY"""

GET_CHARACTER_SET = """
SELECT p.value
FROM nls_database_parameters p
WHERE p.parameter = 'NLS_CHARACTERSET'"""

LIST_PRIVILEGES = """
SELECT p.privilege
FROM session_privs p"""

# A tablespace in which the user has no quota is not shown to it.
GET_TABLESPACE = """
SELECT u.default_tablespace, t.segment_space_management
FROM user_users u
LEFT JOIN user_tablespaces t ON t.tablespace_name = u.default_tablespace"""

GET_QUOTA = """
SELECT q.bytes, q.max_bytes
FROM user_ts_quotas q
WHERE q.tablespace_name = :tablespace"""

GET_OWN_BYTES = """
SELECT COALESCE(SUM(s.bytes), 0)
FROM user_segments s"""

GET_VECTOR_COLUMN = """
SELECT c.vector_info
FROM user_tab_columns c
WHERE c.table_name = 'IMAGE_EMBEDDINGS' AND c.column_name = 'EMBEDDING'"""

GET_WORD_INDEX = """
SELECT x.idx_status, x.idx_sync_type,
       (SELECT COUNT(*) FROM ctx_user_pending p WHERE p.pnd_index_name = 'IX_IMAGES_SEARCH_TEXT')
FROM ctx_user_indexes x
WHERE x.idx_name = 'IX_IMAGES_SEARCH_TEXT'"""

LIST_WORD_INDEX_ERRORS = """
SELECT e.err_text
FROM ctx_user_index_errors e
WHERE e.err_index_name = 'IX_IMAGES_SEARCH_TEXT'
ORDER BY e.err_timestamp DESC
FETCH FIRST 20 ROWS ONLY"""

GET_SESSION_LIMIT = """
SELECT l.limit
FROM user_resource_limits l
WHERE l.resource_name = 'SESSIONS_PER_USER'"""

EXPLAIN = "EXPLAIN PLAN SET STATEMENT_ID = 'image_search' FOR"

READ_PLAN = """
SELECT p.operation || ' ' || p.options, p.object_name
FROM plan_table p
WHERE p.statement_id = 'image_search'"""


NEEDED_PRIVILEGES = ("CREATE SESSION", "CREATE TABLE", "CREATE VIEW", "CREATE SEQUENCE")

_FREE_LIMIT = 12 * 2**30
_NEARLY_FULL = 0.9  # share of a quota or limit in use from which on it is reported
_LOW_RECALL = 0.9  # share of the exact neighbours; an index that finds less has fallen behind
_SAMPLE, _NEIGHBOURS = 5, 16
_LITERAL = 3000


def check_oracle(settings: Settings) -> Iterator[Finding]:
    """Look at everything the program needs of the database, best in this order. Raises nothing."""
    try:
        with connect(settings) as session:
            yield Finding("connection", True, f"{settings.db_user} at {settings.db_dsn.rpartition('@')[2]}")
            for name, look in _LOOKS.items():
                yield _take(name, look, session)
    except ImageSearchError as error:
        yield Finding("connection", False, "no connection", str(error))


def check_word_index(settings: Settings) -> Finding:
    """Which word index there is, and why not a better one. Raises StoreError without a connection."""
    with connect(settings) as session:
        return _take("word index", _check_word_index, session)


def _take(name: str, look: Callable[[Session], Finding], session: Session) -> Finding:
    try:
        return look(session)
    except StoreError as error:
        return Finding(name, False, "not as it should be", str(error))
    except OracleError as error:
        return Finding(name, False, "could not be looked at", str(describe(error)))


def _check_version(session: Session) -> Finding:
    product = session.query(GET_PRODUCT)[0][0]
    check_release(session)
    return Finding("version", True, f"{product}, {session.connection.version}")


def _check_character_set(session: Session) -> Finding:
    name = session.query(GET_CHARACTER_SET)[0][0]
    remedy = "" if name == "AL32UTF8" else "Texts outside of this character set are lost. Use a database in AL32UTF8."
    return Finding("character set", name == "AL32UTF8", name, remedy)


def _check_privileges(session: Session) -> Finding:
    held = {row[0] for row in session.query(LIST_PRIVILEGES)}
    missing = [name for name in NEEDED_PRIVILEGES if name not in held]
    if missing:
        remedy = f"Ask the administrator: GRANT {', '.join(missing)} TO {session.connection.username}"
        return Finding("privileges", False, f"missing: {', '.join(missing)}", remedy)
    return Finding("privileges", True, "all that are needed")


def _check_tablespace(session: Session) -> Finding:
    name, management = session.query(GET_TABLESPACE)[0]
    if management not in ("AUTO", None):
        remedy = "VECTOR columns need automatic segment space management. Give DB_USER another default tablespace."
        return Finding("tablespace", False, f"{name} has manual segment space management", remedy)
    quota = session.query(GET_QUOTA, {"tablespace": name})
    privileges = {row[0] for row in session.query(LIST_PRIVILEGES)}
    is_unlimited = "UNLIMITED TABLESPACE" in privileges or (quota and quota[0][1] == -1)
    used = quota[0][0] if quota else 0
    if is_unlimited:
        return Finding("tablespace", True, f"{name}, {_megabytes(used)} used, no quota limits it")
    if not quota:
        remedy = f"Ask the administrator: ALTER USER {session.connection.username} QUOTA UNLIMITED ON {name}"
        return Finding("tablespace", False, f"no quota on {name}", remedy)
    ok = used < _NEARLY_FULL * quota[0][1]
    remedy = "" if ok else f"Ask the administrator for more quota on {name}."
    return Finding("tablespace", ok, f"{name}, {_megabytes(used)} of {_megabytes(quota[0][1])} used", remedy)


def _check_free_limit(session: Session) -> Finding:
    if "Free" not in session.query(GET_PRODUCT)[0][0]:
        return Finding("edition limit", True, "none")
    used = int(session.query(GET_OWN_BYTES)[0][0])
    ok = used < _NEARLY_FULL * _FREE_LIMIT
    remedy = "" if ok else "Keep originals in a folder (ORIGINALS_URL), delete images, or move to another edition."
    return Finding("edition limit", ok, f"{_megabytes(used)} of 12 GB, shared with other users", remedy)


def _check_schema(session: Session) -> Finding:
    check_version(session)
    return Finding("schema", True, "as create_all_tables.sql makes it")


def _check_vector_column(session: Session) -> Finding:
    rows = session.query(GET_VECTOR_COLUMN)
    if not rows or rows[0][0] is None:
        remedy = "Run: python register_images.py --create-schema"
        return Finding("vector column", False, "IMAGE_EMBEDDINGS.EMBEDDING is not a VECTOR", remedy)
    declared = rows[0][0]
    dimension = declared.removeprefix("VECTOR(").split(",")[0]
    dimensions = {str(row[3]) for row in session.query(LIST_MODELS)}
    if dimension not in ("*", *dimensions) or (dimension != "*" and len(dimensions) > 1):
        remedy = "Only models of that dimension can be used. A new schema has VECTOR(*, FLOAT32)."
        return Finding("vector column", False, declared, remedy)
    return Finding("vector column", True, declared)


def _check_word_index(session: Session) -> Finding:
    try:
        rows = session.query(GET_WORD_INDEX)
    except OracleError:
        return Finding("word index", True, "Oracle Text is not installed: words are compared row by row")
    if not rows:
        grant = f"GRANT CTXAPP TO {session.connection.username}"
        remedy = f"Ask the administrator: {grant}; then run register_images.py --create-schema"
        return Finding("word index", False, "missing: words are compared row by row", remedy)
    status, sync, pending = rows[0]
    errors = session.query(LIST_WORD_INDEX_ERRORS)
    if status != "INDEXED" or not find_indexes(session).text:
        remedy = "Run: python register_images.py --create-schema (it builds a broken index again)"
        return Finding("word index", False, f"in state {status}", remedy)
    if errors:
        remedy = "Look into CTX_USER_INDEX_ERRORS; ALTER INDEX ix_images_search_text REBUILD indexes them again."
        return Finding("word index", False, f"{len(errors)} texts not indexed: {errors[0][0].splitlines()[0]}", remedy)
    return Finding("word index", True, f"Oracle Text, sync {sync}, {pending} texts waiting")


def _check_vector_index(session: Session) -> Finding:
    found = find_indexes(session)
    dimensions = session.query(COUNT_BY_DIMENSION)
    total = sum(count for _, count in dimensions)
    if not found.vector_name:
        return Finding("vector index", True, f"none: every search is exact, over {total} embeddings")
    if not found.vector:
        remedy = "Run: python register_images.py --vector-index auto"
        return Finding("vector index", False, f"{found.vector_name} is not valid", remedy)
    return _check_index_use(session, found)


def _check_index_use(session: Session, found: FoundIndexes) -> Finding:
    remedy = "Run: python register_images.py --vector-index auto"
    models = [row for row in session.query(LIST_MODELS) if row[4] == "Y"]
    recall = _measure_recall(session, models[0]) if models else None
    if recall is None:
        return Finding("vector index", True, f"{found.vector}, nothing to try it with yet")
    is_used = _is_in_plan(session, found, models[0])
    what = f"{found.vector}, {'used' if is_used else 'not used'} by the plan, finds {recall:.0%} of the nearest"
    if is_used and recall < _LOW_RECALL:
        return Finding("vector index", False, what, f"It has fallen behind its rows. {remedy}")
    return Finding("vector index", True, what if is_used else f"{what}: the optimizer prefers the exact search")


def _measure_recall(session: Session, model: Row) -> float | None:
    """Share of the exact neighbours that the index finds, over a few stored embeddings."""
    sample = session.query(SAMPLE_EMBEDDINGS, {"model_id": model[0], "max_rows": _SAMPLE})
    found = expected = 0
    for (vector,) in sample:
        binds = {"query_embedding": to_vector(to_embedding(vector)), "model_id": model[0]}
        binds |= {"skip_rows": 0, "max_rows": _NEIGHBOURS}
        exact = {row[2] for row in session.query(search_exactly([]), binds)}  # total, distance, record
        found += len(exact & {row[3] for row in session.query(SEARCH_APPROXIMATELY, binds)})
        expected += len(exact)
    return found / expected if expected else None


def _is_in_plan(session: Session, found: FoundIndexes, model: Row) -> bool:
    """Whether EXPLAIN PLAN shows the index. It takes no binds, so a unit vector is written out."""
    statement = SEARCH_APPROXIMATELY.replace(":query_embedding", _write_unit_vector(model[3]))
    statement = statement.replace(":model_id", str(int(model[0]))).replace(":max_rows", str(_NEIGHBOURS))
    statement = statement.replace(":skip_rows", "0")
    session.execute(EXPLAIN + statement)
    rows = session.query(READ_PLAN)
    session.connection.rollback()
    return any("VECTOR INDEX" in (operation or "") or found.vector_name in (name or "") for operation, name in rows)


def _write_unit_vector(dimension: int) -> str:
    # A literal holds 4000 bytes; longer texts are put together as a CLOB.
    text = "[1" + ",0" * (dimension - 1) + "]"
    pieces = [f"'{text[start : start + _LITERAL]}'" for start in range(0, len(text), _LITERAL)]
    if len(pieces) == 1:
        return f"TO_VECTOR({pieces[0]})"
    return f"TO_VECTOR({' || '.join(f'TO_CLOB({piece})' for piece in pieces)})"


def _check_vector_memory(session: Session) -> Finding:
    memory = read_vector_memory(session)
    if memory is None:
        return Finding("vector memory", True, "not visible to this user; only an hnsw index needs it")
    allocated, used = memory
    if not allocated:
        return Finding("vector memory", True, "none (VECTOR_MEMORY_SIZE = 0); only an hnsw index needs it")
    return Finding("vector memory", True, f"{_megabytes(used)} of {_megabytes(allocated)} used")


def _check_pool(session: Session) -> Finding:
    rows = session.query(GET_SESSION_LIMIT)
    limit = rows[0][0] if rows else "UNLIMITED"
    what = f"at most {POOL_SIZE} connections from each running program, the profile allows {limit}"
    if limit.isdigit() and int(limit) < POOL_SIZE:
        remedy = f"Ask the administrator for a profile with SESSIONS_PER_USER of at least {2 * POOL_SIZE}."
        return Finding("pool", False, what, remedy)
    return Finding("pool", True, what)


def _megabytes(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"


_LOOKS: dict[str, Callable[[Session], Finding]] = {
    "version": _check_version,
    "character set": _check_character_set,
    "privileges": _check_privileges,
    "tablespace": _check_tablespace,
    "edition limit": _check_free_limit,
    "schema": _check_schema,
    "vector column": _check_vector_column,
    "word index": _check_word_index,
    "vector index": _check_vector_index,
    "vector memory": _check_vector_memory,
    "pool": _check_pool,
}
