"""The nearest embeddings, exactly: an index proposes, the stored rows decide.

Rows that the index does not hold yet are read from the table, so a search sees everything its transaction sees and
never waits for the index.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from image_search.stores.sqlite.faiss_index import EmbeddingIndex
from image_search.stores.sqlite.inverted_file import Embeddings, Ids

_TIE = 1e-5  # inner products this near may have changed places by rounding in a fast product
_DOUBT = 4.5  # standard deviations of the estimates' error that are allowed for
_FIRST_DOUBT = 6.0  # for those that are read first, so that others seldom are
_FULL_SCAN_MAX = 512  # reading this many rows is as fast as querying the index
_MAX_CANDIDATES = 16_384  # ranking this many by the index is slower than a full scan of the table
_DEPTH = 96  # embeddings the index proposes at first
_SPARE = 8  # embeddings read beyond those wanted, so that the error of the estimates can be told
_CHUNK = 2048


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
        if inside <= max(_FULL_SCAN_MAX, count):
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
            batch = max(int(np.count_nonzero(near)), ranking.count + _SPARE)
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
