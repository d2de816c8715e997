"""Make, rebuild or drop the vector index: register_images.py --vector-index {auto,ivf,hnsw,none}.

Without one every search is exact: a scan of 4 bytes a dimension, 300 MB for 100,000 embeddings of 768 dimensions. An
index makes sense for more than that. It is always built anew, because the partitions of an IVF index are decided by the
rows that are there when it is built.
"""

from __future__ import annotations

from typing import Literal, get_args

import oracledb

from image_search.errors import SchemaError, StoreError
from image_search.settings import Settings
from image_search.stores.oracle_connection import Session, connect
from image_search.stores.oracle_errors import describe, get_code
from image_search.stores.oracle_indexes import find_indexes
from image_search.stores.oracle_schema import check_version
from image_search.stores.oracle_sql import TARGET_ACCURACY

Kind = Literal["auto", "ivf", "hnsw", "none"]

INDEX_NAME = "IMAGE_EMBEDDING_IDX"
_WORTH_IT = 50_000  # embeddings; below, a scan takes less time than anybody notices
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
