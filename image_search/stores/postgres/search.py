"""Searches and lists on PostgreSQL as single statements: a page of hits and the number of all, of one moment."""

from __future__ import annotations

from collections.abc import Sequence

from pgvector import Vector

from image_search.records import EmbeddingModel, Finding, Hits, ImageRecord, Order, SearchFilter, SearchHit
from image_search.stores.base import Embeddings
from image_search.stores.postgres.rows import COLUMNS, match_word, read_record
from image_search.stores.postgres.schema import Connection
from image_search.stores.sql import LIVE, ORDERS, Condition, list_after, list_conditions
from image_search.stores.text import sanitize

TRASH: list[Condition] = [("i.deleted_at IS NOT NULL", [])]
TRASH_ORDER = "k.deleted_at DESC, k.image_id DESC"


def list_live_conditions(filter: SearchFilter, terms: Sequence[str] = ()) -> list[Condition]:
    """Conditions on images i: live, let through by the filter, and with these terms in them."""
    wanted = [word for word in map(sanitize, filter.words) if word.strip()]
    return [(LIVE, []), *list_conditions(filter), *(match_word(word) for word in (*wanted, *terms))]


def write_where(conditions: Sequence[Condition]) -> tuple[str, list[object]]:
    """A WHERE clause and its values."""
    clause = " AND ".join(sql for sql, _ in conditions)
    return f"WHERE {clause}", [value for _, values in conditions for value in values]


def list_page(
    connection: Connection,
    conditions: Sequence[Condition],
    order: str,
    limit: int,
    offset: int,
    repeats: bool,
    after: Condition = ("", []),
) -> Hits:
    """Images in this order. repeats: looking for them twice, to list and to count, is quicker than keeping them.

    after: the condition that a row k is behind the former page.
    """
    where, values = write_where(conditions)
    behind, keys = f"WHERE {after[0]}" if after[0] else "", after[1]
    statement = (
        f"WITH found AS {'NOT ' if repeats else ''}MATERIALIZED "
        f"(SELECT i.image_id, i.upload_date, i.taken_at, i.sort_name, i.deleted_at FROM images i {where}), "
        f"page AS (SELECT k.*, NULL::float8 AS distance FROM found k {behind} ORDER BY {order} LIMIT %s OFFSET %s) "
        f"{_write_result(order)}"
    )
    return _fetch(connection, statement, [*values, *keys, limit, offset])


def list_images(
    connection: Connection,
    terms: list[str],
    limit: int,
    offset: int,
    filter: SearchFilter,
    order: Order,
    after: ImageRecord | None,
) -> Hits:
    """Live images in which all terms occur."""
    conditions, behind = list_live_conditions(filter, terms), list_after(order, after)
    return list_page(connection, conditions, ORDERS[order], limit, offset, len(conditions) == 1, behind)


def search_embedding(
    connection: Connection, model_id: int, embedding: Embeddings, limit: int, offset: int, filter: SearchFilter
) -> Hits:
    """The nearest images, of the view where the model is the current one, else of the table."""
    hits = Hits()
    for table in ("current_image_embeddings", "image_embeddings"):
        statement, values = _write_search(table, model_id, len(embedding), filter)
        hits = _fetch(connection, statement, [Vector(embedding), *values, offset + limit, limit, offset])
        if hits.total:
            break
    return hits


def _write_search(table: str, model_id: int, dimension: int, filter: SearchFilter) -> tuple[str, list[object]]:
    # Model and dimension are written out and the distance has the form of the index in docs/engines.md, and it alone
    # orders the inner query: only so can PostgreSQL use the index. Ties at the end are kept for the outer order. The
    # page is found first, so that a large library is not sorted with its texts.
    where, values = write_where([(f"e.model_id = {int(model_id)}", []), *list_live_conditions(filter)[1:]])
    images = "" if filter.is_empty else "JOIN images i ON i.image_id = e.image_id"
    return (
        "WITH found AS NOT MATERIALIZED (SELECT e.image_id, "
        f"e.embedding::vector({dimension}) <#> %s AS distance FROM {table} e {images} {where}), "
        "near AS (SELECT f.image_id, f.distance FROM found f ORDER BY f.distance FETCH FIRST (%s) ROWS WITH TIES), "
        "page AS (SELECT k.image_id, k.distance FROM near k ORDER BY k.distance, k.image_id LIMIT %s OFFSET %s) "
        f"{_write_result('k.distance, k.image_id')}",
        values,
    )


def _write_result(order: str) -> str:
    # From the total, so that it is there also where the page is empty.
    return (
        f"SELECT t.total, k.distance, {COLUMNS} FROM (SELECT count(*) AS total FROM found) t "
        "LEFT JOIN page k ON true LEFT JOIN images i ON i.image_id = k.image_id "
        f"LEFT JOIN image_descriptions d ON d.image_id = k.image_id ORDER BY {order}"
    )


def _fetch(connection: Connection, statement: str, values: Sequence[object]) -> Hits:
    rows = connection.execute(statement, values).fetchall()
    hits = tuple(SearchHit(read_record(row[2:]), row[1]) for row in rows if row[2] is not None)
    return Hits(hits, rows[0][0])


# --check on PostgreSQL: the vector index that an administrator may have made, and whether searches use it.

_FIND_INDEXES = """
SELECT c.relname, a.amname, i.indisvalid, pg_relation_size(c.oid)
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_am a ON a.oid = c.relam
WHERE i.indrelid = 'image_embeddings'::regclass AND a.amname IN ('hnsw', 'ivfflat')
ORDER BY c.relname"""


def check_vector_index(connection: Connection, model: EmbeddingModel | None) -> Finding:
    """Which index there is, and whether a search with the current model goes by it."""
    rows = connection.execute(_FIND_INDEXES).fetchall()
    if not rows:
        return Finding("vector index", True, "none: every search is exact")
    for name, _, is_valid, _ in rows:
        if not is_valid:
            remedy = f"DROP INDEX {name}; then make it again as docs/engines.md shows."
            return Finding("vector index", False, f"{name} was not built to its end", remedy)
    what = ", ".join(f"{name} ({kind}, {int(size) / 2**20:,.0f} MiB)" for name, kind, _, size in rows)
    if model is None:
        return Finding("vector index", True, what)
    plan = explain_search(connection, model)
    if any(name in plan for name, *_ in rows):
        return Finding("vector index", True, f"{what}, used for the current model: results are approximate")
    remedy = f"Run ANALYZE image_embeddings; if it stays, DROP INDEX {rows[0][0]} or make it as docs/engines.md shows."
    return Finding("vector index", False, f"{what}, not used for the current model: its searches are exact", remedy)


def explain_search(connection: Connection, model: EmbeddingModel) -> str:
    """The plan of a search without a filter."""
    statement, values = _write_search("current_image_embeddings", model.model_id, model.dimension, SearchFilter())
    query = Vector([1.0] + [0.0] * (model.dimension - 1))
    rows = connection.execute(f"EXPLAIN {statement}", [query, *values, 16, 16, 0])
    return "\n".join(str(row[0]) for row in rows)
