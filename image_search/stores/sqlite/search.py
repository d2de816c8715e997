"""Searches in the SQLite tables, inside the caller's read transaction: lists, counts, and the nearest embeddings.

Nearest exactly: an index proposes, the stored rows decide. Rows that the index does not hold yet are read from the
table, so a search sees everything its transaction sees and never waits for the index.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from image_search.records import Hits, ImageRecord, Order, SearchFilter, SearchHit
from image_search.stores.base import COUNTS_FRAMES, CountedField
from image_search.stores.sql import COUNTED, LIVE, ORDERS, list_after, read_counts
from image_search.stores.sqlite.faiss_index import EmbeddingIndex
from image_search.stores.sqlite.inverted_file import Embeddings, Ids
from image_search.stores.sqlite.rows import EACH, adapt, build_where, dump_values, find_records

_CHUNK = 2048  # embeddings read together
_MAX_GROWTH = 10_000  # embeddings; counting more one by one takes longer than counting all by their index
_TIE = 1e-5  # inner products this near may have changed places by rounding in a fast product
_DOUBT = 4.5  # standard deviations of the estimates' error that are allowed for
_FIRST_DOUBT = 6.0  # for those that are read first, so that others seldom are
_MAX_FULL_SCAN = 512  # reading this many rows is as fast as querying the index
_MAX_CANDIDATES = 16_384  # ranking this many by the index is slower than a full scan of the table
_DEPTH = 96  # embeddings the index proposes at first
_LEAST = 16  # embeddings read at first, so that the error of the estimates can be told


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


class Counts:
    """How many live images there are, and embeddings of each model, as of counters (read_counters).

    Remembered: counting a million at every search would show.
    """

    def __init__(self) -> None:
        self._counted: dict[int | None, tuple[Mapping[str, int], int]] = {}  # by model; None: images

    def count_images(self, connection: sqlite3.Connection, counters: Mapping[str, int]) -> int:
        """The live images."""
        counted, count = self._counted.get(None, ({}, 0))
        if counted != counters:
            count = int(connection.execute(f"SELECT count(*) FROM images i WHERE {LIVE}").fetchone()[0])
            self._counted[None] = counters, count
        return count

    def count_embeddings(
        self, connection: sqlite3.Connection, model_id: int, counters: Mapping[str, int], index: EmbeddingIndex
    ) -> int:
        """The embeddings of a model. Its index knows how many there were not long ago."""
        counted, count = self._counted.get(model_id) or self._ask(index, counters)
        if counted == counters:
            return count
        if any(
            counted[name] > counters[name] for name in counters
        ):  # another thread, of a later moment than this one's
            counted, count = {**counters, "image_embeddings": 0}, 0
        count += _count_growth(connection, model_id, counted)
        self._counted[model_id] = counters, count
        return count

    def _ask(self, index: EmbeddingIndex, counters: Mapping[str, int]) -> tuple[Mapping[str, int], int]:
        watermark, last_removal, count = index.count()
        if watermark < counters["image_embeddings"] - _MAX_GROWTH:
            watermark, last_removal, count = 0, counters["removals"], 0
        return {**counters, "image_embeddings": watermark, "removals": last_removal}, count


def _count_growth(connection: sqlite3.Connection, model_id: int, before: Mapping[str, int]) -> int:
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


# The nearest embeddings.


class Rows(NamedTuple):
    """Stored embeddings, float32 (n, dimension)."""

    embedding_ids: Ids
    image_ids: Ids
    embeddings: Embeddings


class RowReader(Protocol):
    """The embeddings of one model as one transaction sees them."""

    def read(self, embedding_ids: Ids) -> Rows:
        """Those of these that are there, in any order."""

    def read_after(self, embedding_id: int) -> Iterator[Rows]:
        """Everything above this id, in chunks."""


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


class Neighbours(NamedTuple):
    """image_ids nearest first, ties by image_id, and their distances (float32)."""

    image_ids: Ids
    distances: Embeddings


def find_nearest(
    query: Embeddings, count: int, index: EmbeddingIndex, table: RowReader, allowed: Ids | None = None
) -> Neighbours:
    """The count nearest embeddings of the table, among the allowed ones (ascending embedding_ids) if given."""
    ranking = _Ranking(query, count)
    covered = index.watermark
    if count > min(_MAX_CANDIDATES, len(index) // 4):
        covered = 0  # so much of the library is wanted that reading all of it is quickest
    if allowed is None:
        for rows in table.read_after(covered):
            ranking.add(rows)
    else:
        inside = int(np.searchsorted(allowed, covered, side="right"))
        if inside <= max(_MAX_FULL_SCAN, count):
            inside = 0
        for start in range(inside, len(allowed), _CHUNK):
            ranking.add(table.read(allowed[start : start + _CHUNK]))
        allowed = allowed[:inside]
    if covered and (allowed is None or len(allowed)):
        _add_proposed(ranking, index, table, covered, allowed)
    return ranking.finish()


def _add_proposed(
    ranking: _Ranking, index: EmbeddingIndex, table: RowReader, covered: int, allowed: Ids | None
) -> None:
    """Read what the index proposes until nothing it could still propose can be among the nearest."""
    depth = max(_DEPTH, 2 * ranking.count)
    read: Ids = np.empty(0, np.int64)
    squares, compared, needed = 0.0, 0, -np.inf
    # Rows that the index lacks were looked at: nothing that is farther than the last of these need be proposed.
    least, reach = ranking.worst - _TIE, np.inf
    while True:
        proposal = index.propose(ranking.query, ranking.count, depth, allowed, least, reach)
        if not len(read):
            needed = ranking.worst - _TIE - _DOUBT * proposal.error
        new = proposal.embedding_ids <= covered
        if len(read):
            new &= ~np.isin(proposal.embedding_ids, read)
        ids, scores = proposal.embedding_ids[new], proposal.scores[new]
        # At first those that are needed if the estimates are as far off as they are known to be, in one statement.
        batch = len(scores)
        if batch > ranking.count:
            near = scores >= scores[ranking.count - 1] - _FIRST_DOUBT * proposal.error
            batch = max(int(np.count_nonzero(near)), _LEAST)
        while len(ids):
            rows = table.read(ids[:batch])
            # How far the estimates are off says how many more must be looked at. The rows at hand tell it of this
            # query; near duplicates share their errors, so that less than the index is known for is not believed.
            order = np.searchsorted(ids[:batch], rows.embedding_ids, sorter=(by_id := np.argsort(ids[:batch])))
            products = ranking.add(rows)
            errors = products - scores[:batch][by_id[order]]
            squares, compared = squares + float(errors @ errors), compared + len(errors)
            read, ids, scores = np.concatenate([read, ids[:batch]]), ids[batch:], scores[batch:]
            needed = ranking.worst - _TIE - _DOUBT * max(float(np.sqrt(squares / max(compared, 1))), proposal.error)
            if needed > -np.inf:
                ids = ids[scores >= needed]
                scores = scores[: len(ids)]
                batch = len(ids)
        if proposal.floor < needed or proposal.floor == -np.inf:
            return
        depth = 8 * max(depth, len(proposal.embedding_ids))
        least, reach = -np.inf, needed - _TIE


class _Ranking:
    """The count nearest rows of all that were added."""

    def __init__(self, query: Embeddings, count: int) -> None:
        self.query = query
        self.count = count
        self.worst = -np.inf  # the smallest inner product among the nearest; -inf while there are fewer than count
        self._parts: list[Neighbours] = []

    def add(self, rows: Rows) -> Embeddings:
        """Take rows in. Returns their inner products with the query, (n,)."""
        products = _multiply(rows.embeddings, self.query)
        near = products >= self.worst - _TIE
        if np.count_nonzero(near) > self.count:
            near &= products >= np.partition(products, -self.count)[-self.count] - _TIE
        if near.any():
            self._parts.append(Neighbours(rows.image_ids[near], _measure(rows.embeddings[near], self.query)))
            self._parts = [self.finish()]
            distances = self._parts[0].distances
            self.worst = -float(distances[-1]) if len(distances) == self.count else -np.inf
        return products

    def finish(self) -> Neighbours:
        if not self._parts:
            return Neighbours(np.empty(0, np.int64), np.empty(0, np.float32))
        image_ids = np.concatenate([part.image_ids for part in self._parts])
        distances = np.concatenate([part.distances for part in self._parts])
        order = np.lexsort((image_ids, distances))[: self.count]
        return Neighbours(image_ids[order], distances[order])


def _multiply(embeddings: Embeddings, query: Embeddings) -> Embeddings:
    """Inner products, by one processor: numpy's matrix product takes all of them and waits for each that is busy."""
    products: Embeddings = np.vecdot(embeddings, query)
    return products


def _measure(embeddings: Embeddings, query: Embeddings) -> Embeddings:
    """Exact distances; equal rows get equal ones at any position."""
    # Row by row in double precision: a matrix product may round equal rows differently, and ties would come apart.
    products: npt.NDArray[np.float64] = (embeddings.astype(np.float64) * query.astype(np.float64)).sum(axis=1)
    return -products.astype(np.float32)
