"""Lists, counts, filters and embeddings on the SQLite tables, inside the caller's read transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np

from image_search.records import Hits, ImageRecord, Order, SearchFilter, SearchHit
from image_search.stores.base import COUNTS_FRAMES, CountedField
from image_search.stores.sql import COUNTED, ORDERS, list_after, read_counts
from image_search.stores.sqlite.exact_search import Rows
from image_search.stores.sqlite.inverted_file import Ids
from image_search.stores.sqlite.rows import EACH, adapt, build_where, dump_values, find_records

_CHUNK = 2048  # embeddings read together


def list_page(
    connection: sqlite3.Connection,
    where: str,
    values: Sequence[object],
    order: Order,
    limit: int,
    offset: int,
    after: ImageRecord | None = None,
) -> list[int]:
    """image_ids of images i that qualify, in this order, behind an image."""
    behind, keys = list_after(order, after)
    rows = connection.execute(
        "SELECT k.image_id FROM (SELECT i.image_id, i.upload_date, i.taken_at, i.sort_name FROM images i "
        f"{where}) k {behind and 'WHERE ' + behind.replace('%s', '?')} ORDER BY {ORDERS[order]} LIMIT ? OFFSET ?",
        [*values, *map(adapt, keys), limit, offset],
    )
    return [row[0] for row in rows]


def gather(
    connection: sqlite3.Connection,
    image_ids: Sequence[int],
    total: int,
    distances: Iterable[float | None] = repeat(None),
) -> Hits:
    """The records of a page, with their distances if given."""
    records = find_records(connection, image_ids) if image_ids else {}
    return Hits(tuple(map(SearchHit, map(records.__getitem__, image_ids), distances)), total)


def find_embeddings(connection: sqlite3.Connection, model_id: int, filter: SearchFilter) -> Ids:
    """embedding_ids of the images that qualify, ascending."""
    where, values = build_where(filter)
    rows = connection.execute(
        "SELECT e.embedding_id FROM images i JOIN image_embeddings e ON e.image_id = i.image_id AND e.model_id = ? "
        + where,
        [model_id, *values],
    )
    return np.sort(np.fromiter((row[0] for row in rows), np.int64))


def count_growth(connection: sqlite3.Connection, model_id: int, before: Mapping[str, int]) -> int:
    """How many more embeddings of a model there are than when the counters (read_counters) were these."""
    newest, last_removal = before["image_embeddings"], before["removals"]
    # INDEXED BY where all are counted: the index is a fraction of the table.
    order = "NOT INDEXED" if newest else "INDEXED BY embeddings_by_model"
    growth: int = connection.execute(
        f"SELECT (SELECT count(*) FROM image_embeddings {order} WHERE model_id = ?1 AND embedding_id > ?2) - "
        "(SELECT count(*) FROM removals WHERE removal_id > ?3 AND model_id = ?1 AND embedding_id <= ?2)",
        (model_id, newest, last_removal),
    ).fetchone()[0]
    return growth


def count_values(
    connection: sqlite3.Connection, field: CountedField, where: str, values: Sequence[object]
) -> dict[str, int]:
    """How many images i that qualify have each value of a field, each film once where the field is counted so."""
    value, table = COUNTED[field]
    join = f"JOIN {table} v ON v.image_id = i.image_id" if table else ""
    distinct = "DISTINCT i.image_id," if field == "folder" else ""  # an image may have several paths in one
    counted = (
        f"SELECT value, count(*) AS number FROM (SELECT {distinct} {value} AS value FROM images i {join} {where}) "
        "WHERE value IS NOT NULL GROUP BY value"
    )
    if field in COUNTS_FRAMES:
        return read_counts(field, connection.execute(counted, values))
    # Frames are counted with the images, which the index of the field alone can tell, and those too many taken off.
    repeated = (
        "SELECT value, count(DISTINCT film) - count(*) "
        f"FROM (SELECT {distinct} {value} AS value, i.film_sha256 AS film "
        f"FROM images i INDEXED BY images_by_film {join} {where} AND i.film_sha256 IS NOT NULL) "
        "WHERE value IS NOT NULL GROUP BY value"
    )
    rows = connection.execute(
        f"SELECT value, sum(number) FROM ({counted} UNION ALL {repeated}) GROUP BY value", [*values, *values]
    )
    return read_counts(field, rows)


class TableRows:
    """Reads embeddings by embedding_id through one connection.

    newest: the highest embedding_id that was given out, where that is known; behind it nothing is looked for.
    """

    def __init__(self, connection: sqlite3.Connection, model_id: int, dimension: int, newest: int = 2**63 - 1) -> None:
        self._connection = connection
        self._model_id = model_id
        self._dimension = dimension
        self._newest = newest

    def read(self, embedding_ids: Ids) -> Rows:
        """Those of these that are there, in any order."""
        rows = self._connection.execute(
            f"SELECT embedding_id, image_id, embedding FROM image_embeddings WHERE embedding_id IN {EACH}",
            [dump_values(embedding_ids.tolist())],
        )
        return self._gather(rows.fetchall())

    def read_after(self, embedding_id: int, until: int | None = None) -> Iterator[Rows]:
        """Everything above this id, up to another one if given, ascending and in chunks."""
        if embedding_id >= self._newest:
            return
        # NOT INDEXED: in order of embedding_id, which is how the rows lie in the file.
        rows = self._connection.execute(
            "SELECT embedding_id, image_id, embedding FROM image_embeddings NOT INDEXED "
            "WHERE embedding_id > ? AND embedding_id <= ? AND model_id = ? ORDER BY embedding_id",
            (embedding_id, 2**63 - 1 if until is None else until, self._model_id),
        )
        while chunk := rows.fetchmany(_CHUNK):
            yield self._gather(chunk)

    def list_ids(self) -> Ids:
        """All embedding_ids, in no order."""
        rows = self._connection.execute(
            "SELECT embedding_id FROM image_embeddings WHERE model_id = ?", (self._model_id,)
        )
        return np.fromiter((row[0] for row in rows), np.int64)

    def list_removed(self, removal_id: int) -> Ids:
        """embedding_ids that were removed after this removal."""
        rows = self._connection.execute(
            "SELECT embedding_id FROM removals WHERE removal_id > ? AND model_id = ?", (removal_id, self._model_id)
        )
        return np.fromiter((row[0] for row in rows), np.int64)

    def count(self) -> int:
        """How many there are."""
        query = "SELECT count(*) FROM image_embeddings WHERE model_id = ?"
        return int(self._connection.execute(query, (self._model_id,)).fetchone()[0])

    def _gather(self, rows: list[Any]) -> Rows:
        return Rows(
            np.array([row[0] for row in rows], np.int64),
            np.array([row[1] for row in rows], np.int64),
            np.frombuffer(b"".join(row[2] for row in rows), "<f4").reshape(len(rows), self._dimension),
        )
