"""An index that proposes which embeddings may be nearest. It never decides: search.py ranks the rows.

Every embedding is kept in one byte an axis (byte_codes.py). Up to SMALL of them one look at all codes ranks them. More
have sketches in lists besides (inverted_file.py), of 128 bytes at 768 dimensions: the sketches pick some hundred, the
codes put these in order.

For sketches the mean is taken away and the axes are turned to the principal components. These are spread so that every
group that shares bits of a sketch carries a like share of the variance, which makes sketches several times better for
queries unlike the images, such as words.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import faiss as typed_faiss
import numpy as np

from image_search.stores.reads import ReadWriteLock
from image_search.stores.sqlite.byte_codes import ByteCodes
from image_search.stores.sqlite.inverted_file import (
    GROUP,
    Cores,
    Embeddings,
    Ids,
    InvertedFile,
    Mask,
    count_lists,
    divide,
    find_means,
)

faiss: Any = typed_faiss  # its type hints know the C++ signatures, not those of its Python classes
FAISS_VERSION: str = faiss.__version__


SMALL = 12_288  # looking at the codes of so many takes as long as at their sketches and at some codes
_LEADING = 3  # the third of the axes that varies most leads
_FEW = 256  # embeddings; so many are added by one processor, beside which searches go on
_ADD_BATCH = 256  # so that a search waits for a few milliseconds at most
_COMPONENTS = 32_768  # embeddings that tell the principal components
_TRIED = 256  # of the first lists the codes of so many are looked at; they tell which others are needed
_FIRST_LISTS = 16  # opened at once, or as many as hold _PICKED
_PICKED, _PICKED_PER_HIT = 2048, 64  # the sketches pick so many at first, or so many for each hit that is wanted
_MORE = 4  # times as many the next time, where these do not hold all of the nearest for certain
_VAIN, _RETRY = 3, 8  # after so many searches in a row that the sketch was no help for, it is asked for every eighth
_SCANNED = 0.25  # if more than this share were to be picked, likewise
_DEEP = 2048  # embeddings that a scan of all codes gives at least; it is seldom needed twice then
_SPARSE = 0.1  # if a filter lets no more than this share through, likewise
_DOUBT = 5.0  # standard deviations of the sketch's error that are allowed for
_FIRST_DOUBT = 6.5  # when only the first were looked at
_ROOM = 1.5  # for the codes' error: its standard deviations twice over would be beyond any doubt


_get_cores = cache(Cores)  # one for all searches of the program, from the first on


class Proposal(NamedTuple):
    """Embeddings that may be nearest, best first, with estimates of their inner products with the query.

    floor: no embedding that is left out has a higher inner product, as far as the estimates can tell.
    error: standard deviation of an estimate from the inner product.
    """

    embedding_ids: Ids
    scores: Embeddings
    floor: float
    error: float


class EmbeddingIndex:
    """The embeddings of one model up to a watermark, by embedding_id. Any thread may search while one changes it."""

    def __init__(self, dimension: int) -> None:
        """An empty index that keeps embeddings in half precision."""
        self.watermark = 0  # every embedding of the model up to this id is here
        self.last_removal = 0  # and the removals up to this one are known
        self.trained_on = 0  # embeddings there were when the compression was fitted; 0 without any
        self.codes = ByteCodes(dimension)
        self.rotation: Embeddings = np.empty((dimension, 0), np.float32)
        self.lists: InvertedFile | None = None
        self.embedding_ids: Ids = np.empty(0, np.int64)
        self.alive: Mask = np.empty(0, np.bool_)
        self._vain = 0  # searches in a row that the sketch was no help for
        self._lock = ReadWriteLock()

    @classmethod
    def fit(cls, sample: Embeddings, count: int) -> Self:
        """An empty compressed index, fitted to a sample of the count embeddings that it is for."""
        faiss.omp_set_num_threads(os.cpu_count() or 1)  # add() may have left this thread with one
        index = cls(sample.shape[1])
        index.trained_on = count
        index.codes.fit(sample)
        centred = sample - index.codes.mean
        index.rotation, leading, lists = _fit_rotation(centred, count_lists(count))
        index.lists = InvertedFile.fit(index._turn(centred), leading, lists)
        return index

    def __len__(self) -> int:
        return len(self.embedding_ids)

    @property
    def is_compressed(self) -> bool:
        return self.lists is not None

    @property
    def dead_share(self) -> float:
        """Share of the embeddings that were removed but still take room."""
        return 1 - float(self.alive.mean()) if len(self.alive) else 0.0

    def add(self, embedding_ids: Ids, embeddings: Embeddings) -> None:
        """Add some thousand embeddings at most; their ids ascend and are above all that are here. Updates the
        watermark."""
        faiss.omp_set_num_threads(1 if len(embeddings) <= _FEW else os.cpu_count() or 1)
        codes = self.codes.widen(embeddings)
        if self.lists:  # of all at once: for few the centroids are read from memory as often as for many
            residuals, lists = self.lists.find_residuals(self._turn(embeddings - codes.mean))
        before, ids = len(self), np.concatenate([self.embedding_ids, embedding_ids])
        alive = np.concatenate([self.alive, np.ones(len(embedding_ids), np.bool_)])
        for start in range(0, len(embedding_ids), _ADD_BATCH):
            part = slice(start, start + _ADD_BATCH)
            stop = before + min(part.stop, len(embedding_ids))
            with self._lock.writing():
                self.codes = codes
                self.codes.add(embeddings[part])
                if self.lists:
                    self.lists.add(residuals[part], lists[part], len(self))
                self.embedding_ids, self.alive = ids[:stop], alive[:stop]
                self.watermark = int(ids[stop - 1])

    def map_codes(self, file: Path) -> None:
        """Leave the codes in the file that they were saved to."""
        with self._lock.writing():
            self.codes.map(file)

    def remove(self, embedding_ids: Ids, last_removal: int) -> None:
        """Propose these no more, up to this removal. Their room is given back by compact()."""
        with self._lock.writing():
            alive = self.alive.copy()
            alive[self._find_positions(embedding_ids)] = False
            self.alive = alive
            self.last_removal = last_removal

    def compact(self) -> None:
        """Give the room of those that were removed back."""
        alive = self.alive
        codes, lists = self.codes.keep(alive), self.lists and self.lists.keep(alive)
        with self._lock.writing():
            self.codes, self.lists, self.embedding_ids = codes, lists, self.embedding_ids[alive]
            self.alive = np.ones(len(self.embedding_ids), np.bool_)

    def count(self) -> tuple[int, int, int]:
        """Watermark, last removal, and how many embeddings there are as of these, of one moment."""
        with self._lock.reading():
            return self.watermark, self.last_removal, int(np.count_nonzero(self.alive))

    def propose(
        self,
        query: Embeddings,
        count: int,
        depth: int,
        allowed: Ids | None = None,
        least: float = -np.inf,
        reach: float = np.inf,
    ) -> Proposal:
        """At least depth embeddings (or all), among which the count nearest are likely to be.

        Only the allowed ones (ascending embedding_ids) if given. least: an inner product below which none is wanted.
        reach: one that none that is left out may reach, where it is known.
        """
        faiss.omp_set_num_threads(1)  # of this thread: one query is no work to share, and waiting for helpers costs
        cores = _get_cores()
        with self._lock.reading(), cores.searching():
            offset = float(query @ self.codes.mean)
            usable = self._find_usable(allowed)
            share = 1.0 if usable is None else np.count_nonzero(usable) / max(len(usable), 1)
            error = self.codes.find_error(query)
            search = _Search(count, least - offset, reach - offset, _ROOM * _DOUBT * error)
            if self.lists and share >= _SPARSE and not self._is_hopeless():
                if self._search_lists(query, search, share, usable):
                    order = np.argsort(-search.scores)
                    positions, scores, floor = search.positions[order], search.scores[order], search.target
                    return Proposal(self.embedding_ids[positions], scores + offset, floor + offset, error)
                depth = max(depth, _DEEP)
            scores, positions, floor = self.codes.scan(query, depth, usable, cores)
            return Proposal(self.embedding_ids[positions], scores + offset, floor + offset, error)

    def _turn(self, embeddings: Embeddings) -> Embeddings:
        if embeddings.size > _FEW * len(self.rotation):
            return np.ascontiguousarray(embeddings @ self.rotation, np.float32)
        # numpy would share a matrix product among all processors, wait for each that is busy, and leave the others
        # spinning for 50 ms.
        turned: Embeddings = np.vecdot(embeddings[..., None, :], self.rotation.T)
        return turned

    def _find_positions(self, embedding_ids: Ids) -> Ids:
        positions = np.searchsorted(self.embedding_ids, embedding_ids)
        inside = positions < len(self.embedding_ids)
        positions, embedding_ids = positions[inside], embedding_ids[inside]
        found: Ids = positions[self.embedding_ids[positions] == embedding_ids]
        return found

    def _find_usable(self, allowed: Ids | None) -> Mask | None:
        if allowed is None:
            return None if self.alive.all() else self.alive
        usable = np.zeros(len(self), np.bool_)
        usable[self._find_positions(allowed)] = True
        return usable & self.alive

    def _search_lists(self, query: Embeddings, search: _Search, share: float, usable: Mask | None) -> bool:
        """Search the lists as far as any may hold one of the nearest. Returns False if that is as good as nowhere."""
        assert self.lists
        turned = self._turn(query)
        bounds = self.lists.bound(turned)
        search.least_error = self.lists.find_error(turned)
        size = int(max(_PICKED, _PICKED_PER_HIT * search.count) / share)
        first = min(max(size * len(bounds.near) // len(self), _FIRST_LISTS), len(bounds.near))
        lists = np.argpartition(-bounds.highest, first - 1)[:first]
        is_open = np.ones(len(bounds.near), np.bool_)
        while size <= _SCANNED * len(self):
            bounds.sharpen(lists)
            if len(lists := lists[bounds.highest[lists] >= search.target]):
                rough, positions, last = self._pick(turned, bounds.near, lists, size, usable)
                search.look(rough, positions, partial(self.codes.estimate, query))
                if len(search.scores) <= search.count:
                    break
                if search.may_reach(last):
                    size *= _MORE
                else:
                    is_open[lists] = False
            is_open &= bounds.highest >= search.target
            lists = np.flatnonzero(is_open)
            if not len(lists):
                self._vain = 0
                return True
        self._vain += 1
        return False

    def _pick(
        self, query: Embeddings, near: Embeddings, lists: Ids, size: int, usable: Mask | None
    ) -> tuple[Embeddings, Ids, float]:
        """The usable among so many that the sketches find best, and the highest estimate that any other may have."""
        assert self.lists
        rough, positions = self.lists.scan(query, near, lists, size, _get_cores())
        last = float(rough[-1]) if len(rough) == size else -np.inf
        if usable is not None:
            rough, positions = rough[usable[positions]], positions[usable[positions]]
        return rough, positions, last

    def _is_hopeless(self) -> bool:
        """Whether the sketch told too little of late, as of data without structure. Both ways find the same."""
        if self._vain < _VAIN or self._vain % _RETRY == 0:
            return False
        self._vain += 1
        return True


class _Line(NamedTuple):
    """Estimates by the codes (y) from those by the sketch (x), for one query: y = slope * x + intercept.

    error: standard deviation of y around the line. It is estimated for each query.
    """

    slope: float
    intercept: float
    error: float

    def foretell(self, x: Any, doubt: float) -> Any:
        """The highest y to be expected where the sketch estimates x or less."""
        return self.slope * x + self.intercept + doubt * self.error


class _Search:
    """Embeddings that the sketches picked, and the estimates by the codes of those that may be among the nearest.

    target: what the estimates of all others must stay below.
    """

    def __init__(self, count: int, least: float, reach: float, room: float) -> None:
        self.target = least - room
        self.rough: Embeddings = np.empty(0, np.float32)
        self.positions: Ids = np.empty(0, np.int64)
        self.scores: Embeddings = np.empty(0, np.float32)
        self.count, self._reach, self._room = count, reach, room
        self.least_error = 0.0  # of a sketch: near duplicates share theirs, so that no less is believed
        self._line = _Line(0.0, np.inf, 0.0)

    def look(self, rough: Embeddings, positions: Ids, score: Callable[[Ids], Embeddings]) -> None:
        """Have those of these scored that may reach the target, which rises meanwhile. rough: best first."""
        if len(self.positions):
            new = np.isin(positions, self.positions, invert=True)
            rough, positions = rough[new], positions[new]
        while size := np.count_nonzero(self.may_reach(rough[: max(len(self.scores), _TRIED, 2 * self.count)])):
            self.rough = np.concatenate([self.rough, rough[:size]])
            self.positions = np.concatenate([self.positions, positions[:size]])
            self.scores = np.concatenate([self.scores, score(positions[:size])])
            rough, positions = rough[size:], positions[size:]
            if len(self.scores) > self.count:
                self._line = _fit_line(self.rough, self.scores, self.least_error)
                lowest = float(np.partition(self.scores, -self.count)[-self.count])
                self.target = max(self.target, min(lowest - self._room, self._reach))

    def may_reach(self, rough: Any) -> Any:
        """Whether an embedding of which the sketch estimates so much may reach the target."""
        doubt = _DOUBT if len(self.scores) > max(_TRIED, 2 * self.count) else _FIRST_DOUBT
        return self._line.foretell(rough, doubt) >= self.target


def _fit_line(rough: Embeddings, scores: Embeddings, least_error: float) -> _Line:
    x, y = rough.astype(np.float64), scores.astype(np.float64)
    middle, level = x.mean(), y.mean()
    x, y = x - middle, y - level
    spread = np.vecdot(x, x)
    # A sketch tells as much as it says at the most: more is the noise of a few that are all but alike.
    slope = float(np.clip(np.vecdot(x, y) / spread, 0, 1)) if spread else 0.0
    y -= slope * x
    error = max(float(np.sqrt(np.vecdot(y, y) / len(y))), least_error)
    return _Line(slope, float(level - slope * middle), error)


def _fit_rotation(centred: Embeddings, count: int) -> tuple[Embeddings, Mask, Ids]:
    """Principal components as columns, padded to whole groups; which of them lead; the list of each of so many lists.

    Each group has about the same product of the residuals' variances.
    """
    dimension = centred.shape[1]
    some = centred[:: -(-len(centred) // _COMPONENTS)]
    axes = np.linalg.eigh(np.cov(some, rowvar=False).reshape(dimension, dimension))[1][:, ::-1].astype(np.float32)
    turned = centred @ axes
    ahead = -(-dimension // _LEADING)
    lists = divide(np.ascontiguousarray(turned[:, :ahead]), count)
    turned -= find_means(turned, lists)[lists]
    variances = turned.var(axis=0)
    groups = -(-dimension // GROUP)
    logarithms = np.log(np.maximum(variances, 1e-12))
    logarithms -= logarithms.min() - 1e-3
    places = np.empty(dimension, np.int64)
    sizes, sums = np.zeros(groups, np.int64), np.zeros(groups)
    for component in np.argsort(-variances):
        group = int(np.argmin(sums))
        places[component] = group * GROUP + sizes[group]
        sizes[group] += 1
        sums[group] = np.inf if sizes[group] == GROUP else sums[group] + logarithms[component]
    rotation = np.zeros((dimension, groups * GROUP), np.float32, order="F")  # a query is multiplied column by column
    rotation[:, places] = axes
    leading = np.zeros(groups * GROUP, np.bool_)
    leading[places[:ahead]] = True
    return rotation, leading, lists
