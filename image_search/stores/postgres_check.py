"""--check on PostgreSQL: the vector index that an administrator may have made, and whether searches use it."""

from __future__ import annotations

import numpy as np
import psycopg
from pgvector import Vector

from image_search.records import EmbeddingModel, Finding

_FIND_INDEXES = """
SELECT c.relname, a.amname, i.indisvalid, pg_relation_size(c.oid)
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_am a ON a.oid = c.relam
WHERE i.indrelid = 'image_embeddings'::regclass AND a.amname IN ('hnsw', 'ivfflat')
ORDER BY c.relname"""


def check_vector_index(connection: psycopg.Connection[tuple[object, ...]], model: EmbeddingModel | None) -> Finding:
    """Which index there is, and whether a search with the current model goes by it."""
    rows = connection.execute(_FIND_INDEXES).fetchall()
    if not rows:
        return Finding("vector index", True, "none: every search is exact")
    for name, _, is_valid, _ in rows:
        if not is_valid:
            remedy = f"DROP INDEX {name}; then make it again as docs/engines.md shows."
            return Finding("vector index", False, f"{name} was not built to its end", remedy)
    what = ", ".join(f"{name} ({kind}, {int(str(size)) / 2**20:,.0f} MiB)" for name, kind, _, size in rows)
    if model is None:
        return Finding("vector index", True, what)
    plan = _explain_search(connection, model)
    if any(str(name) in plan for name, *_ in rows):
        return Finding("vector index", True, f"{what}, used for the current model: results are approximate")
    return Finding("vector index", True, f"{what}, not used for the current model: its searches are exact")


def _explain_search(connection: psycopg.Connection[tuple[object, ...]], model: EmbeddingModel) -> str:
    """The plan of a search as PostgresStore writes it."""
    query = np.eye(1, model.dimension, dtype=np.float32)[0]
    rows = connection.execute(
        f"EXPLAIN SELECT e.image_id, e.embedding::vector({model.dimension}) <#> %s AS distance "
        f"FROM image_embeddings e WHERE e.model_id = {model.model_id} ORDER BY distance, e.image_id LIMIT 16",
        [Vector(query)],
    )
    return "\n".join(str(row[0]) for row in rows)
