"""An inverted file: sketches of embeddings in lists, each around a centroid, and bounds for what a list may hold.

A sketch tells what its centroid leaves over (the residual) by product quantisation, four bits for three dimensions,
scanned by table look-ups that stay in the processor's registers. Embeddings come here turned to principal components
(faiss_index.py), so that the leading axes alone tell of most lists that they hold none of the nearest.

Lists are many and small, so that hardly one holds two clusters. Their residuals then vary alike
in all lists but for a factor, and a bound can be told from variances by axis: nearly all lists that hold one of the
nearest lie within some standard deviations of it, which are measured when the file is fitted.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import faiss as typed_faiss
import numpy as np
import numpy.typing as npt

faiss: Any = typed_faiss  # its type hints know the C++ signatures, not those of its Python classes

T = TypeVar("T")
Part = TypeVar("Part")
Ids = npt.NDArray[np.int64]
Embeddings = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

GROUP = 3  # dimensions that share four bits of a sketch

_BITS = 5  # of each of the three digits that number a list
_STEP = 8.0  # between digits, so far that residuals do not blur them
_FEW = 200_000  # embeddings; looking at the sketches of fewer takes less time than to choose lists
_HALVES = 2  # lists of so few, which hold every other one, so that two cores look at one each
_WORTH_HALVES = 40_000  # sketches; fewer are looked at before another thread has begun
_LISTS = 8  # times the square root of the number of embeddings
_ROUNDS = 3  # of k-means, and a fourth when the lists are filled; more find hardly better centroids
_MEASURED = 4096  # embeddings that tell the sketches' errors
_RESERVOIR = 11  # of FAISS's ways to collect the best of several lists the quickest for hundreds
_PRIOR = 4  # members that a list's spread is believed to have beyond its own
_REACH = 5.0  # standard deviations that a member may lie from its centroid; more where the sample shows it
_SURE = 0.9995  # share of the nearest that the sample shows to lie within that
_ROOM = 1.05  # beyond these
_PROBES = 1024  # queries of each kind by which that is measured
_NEAREST = 4  # of the sample, which are as near as a hundred of a million


def count_lists(count: int) -> int:
    """How many lists so many embeddings are kept in."""
    return _HALVES if count < _FEW else int(min(_LISTS * count**0.5, 2 ** (_BITS * GROUP)))


def divide(embeddings: Embeddings, count: int) -> Ids:
    """The list of each embedding when so many lists are made of them, by k-means, or two that are alike."""
    if count == _HALVES:
        return np.arange(len(embeddings)) % _HALVES
    clustering = faiss.Clustering(embeddings.shape[1], count)
    clustering.niter, clustering.seed = _ROUNDS, 0
    clustering.min_points_per_centroid, clustering.max_points_per_centroid = 1, len(embeddings)
    nearest = faiss.IndexFlatL2(embeddings.shape[1])
    clustering.train(embeddings, nearest)
    lists: Ids = nearest.search(embeddings, 1)[1][:, 0]
    return lists


def find_means(embeddings: Embeddings, lists: Ids) -> Embeddings:
    """The mean of the embeddings of each list; 0 for a list without any."""
    means = np.zeros((int(lists.max()) + 1, embeddings.shape[1]), np.float32)
    np.add.at(means, lists, embeddings)
    means /= np.maximum(np.bincount(lists), 1)[:, None]
    return means


class Cores:
    """Lets a second core take its share of a search while no other search is under way, in the whole program.

    When several people search, each search has one core, and none waits for another thread.
    """

    def __init__(self) -> None:
        self._has_two = (os.cpu_count() or 1) > 1
        self._second = ThreadPoolExecutor(1, "second core", faiss.omp_set_num_threads, (1,))
        self._searches = 0
        self._lock = threading.Lock()

    @contextmanager
    def searching(self) -> Iterator[None]:
        with self._lock:
            self._searches += 1
        try:
            yield
        finally:
            with self._lock:
                self._searches -= 1

    def share(self, work: Callable[[Part], T], parts: tuple[Part, ...]) -> list[T]:
        """The work for each of one or two parts."""
        if len(parts) < 2 or self._searches > 1 or not self._has_two:
            return [work(part) for part in parts]
        second = self._second.submit(work, parts[1])
        try:
            first = work(parts[0])
        finally:
            wait([second])  # the index may change when this search has ended
        return [first, second.result()]


class InvertedFile:
    """Sketches by position, in lists. Its owner's lock keeps searches and changes apart."""

    def __init__(self, leading: Mask, centroids: Embeddings, sketches: Any) -> None:
        """leading: the axes that vary most; centroids: one a list; sketches: an inverted file of FAISS."""
        self.leading, self.sketches = leading, sketches
        sketches.implem = _RESERVOIR if len(centroids) > _HALVES else 0  # of one FAISS chooses itself
        self.reach = _REACH  # standard deviations that a member may lie from its centroid, along a query
        self.variances: Embeddings = np.ones(len(leading), np.float32)  # of residuals, by axis
        self.errors: Embeddings = np.zeros(len(leading), np.float32)  # of sketches, as variances by axis
        self.sums = np.zeros((len(centroids), 2))  # of each list: members, and the squares of their residuals
        self._nearest = faiss.IndexFlatL2(int(np.count_nonzero(leading)))
        self._nearest.add(np.ascontiguousarray(centroids[:, leading]))
        # The centroids by leading axes, where FAISS has them, and by the others.
        self.ahead: Embeddings = faiss.rev_swig_ptr(self._nearest.get_xb(), self._nearest.ntotal * self._nearest.d)
        self.ahead = self.ahead.reshape(len(centroids), -1)
        self.behind = np.ascontiguousarray(centroids[:, ~leading])
        self.behind_variances = np.mean(self.behind**2, axis=0)
        self.spreads: Embeddings = np.ones(len(centroids), np.float32)

    @classmethod
    def fit(cls, turned: Embeddings, leading: Mask, lists: Ids) -> Self:
        """An empty inverted file for a sample of what it is for, and the list of each."""
        centroids = find_means(turned, lists)
        file = cls(leading, centroids, _make_sketches(turned.shape[1], len(centroids)))
        residuals, lists = file.find_residuals(turned)
        file.sketches.pq.train(residuals[: 2**15])
        file.sketches.is_trained = True
        some = residuals[:: -(-len(residuals) // _MEASURED)]
        file.errors = np.mean((some - file.sketches.pq.decode(file.sketches.pq.compute_codes(some))) ** 2, axis=0)
        file.variances = np.maximum(np.mean(residuals**2, axis=0), 1e-12)
        file._measure(residuals, lists)
        file.reach = max(_REACH, _ROOM * file._measure_reach(turned, lists))
        file.take_sums(np.zeros_like(file.sums))
        return file

    def keep(self, kept: Mask) -> InvertedFile:
        """A copy of these positions only, the first of which is 0."""
        sketches = faiss.deserialize_index(faiss.serialize_index(self.sketches))
        sketches.remove_ids(faiss.IDSelectorBitmap(np.packbits(~kept, bitorder="little")))
        fewer = InvertedFile(self.leading, self.get_centroids(), sketches)
        fewer.reach, fewer.variances, fewer.errors = self.reach, self.variances, self.errors
        places = np.cumsum(kept) - 1
        sizes = np.zeros(len(self.sums))
        for number in np.flatnonzero(self.sums[:, 0]):
            size = sizes[number] = sketches.invlists.list_size(int(number))
            if size:
                ids = faiss.rev_swig_ptr(sketches.invlists.get_ids(int(number)), size)
                ids[:] = places[ids]
        fewer.take_sums(self.sums * (sizes / np.maximum(self.sums[:, 0], 1))[:, None])
        return fewer

    def add(self, residuals: Embeddings, lists: Ids, first: int) -> None:
        """Add embeddings by what find_residuals() tells of them, the first at this position."""
        self.sketches.add_with_ids(_tag(residuals, lists), np.arange(first, first + len(lists)))
        self._measure(residuals, lists)

    def find_error(self, query: Embeddings) -> float:
        """Standard deviation of the sketches' estimates from the inner product."""
        return float(np.sqrt(query**2 @ self.errors))

    def bound(self, query: Embeddings) -> Bounds:
        """The bounds of all lists, by the leading axes."""
        return Bounds(self, query)

    def get_centroids(self, lists: Ids | slice = slice(None)) -> Embeddings:
        """One for each of these lists, or of all."""
        ahead, behind = self.ahead[lists], self.behind[lists]
        centroids = np.empty((len(ahead), len(self.leading)), np.float32)
        centroids[:, self.leading], centroids[:, ~self.leading] = ahead, behind
        return centroids

    def scan(self, query: Embeddings, near: Embeddings, lists: Ids, size: int, cores: Cores) -> tuple[Embeddings, Ids]:
        """Estimates and positions of the best so many of these lists, best first."""
        if self.sums[lists, 0].sum() < _WORTH_HALVES:
            return self._scan(query, near, lists, size)
        found = cores.share(lambda part: self._scan(query, near, part, size), (lists[::2], lists[1::2]))
        scores, positions = (np.concatenate(each) for each in zip(*found, strict=True))
        best = np.argsort(-scores, kind="stable")[:size]  # stable: quick, as both halves are in order
        return scores[best], positions[best]

    def _scan(self, query: Embeddings, near: Embeddings, lists: Ids, size: int) -> tuple[Embeddings, Ids]:
        scores, positions = np.empty(size, np.float32), np.empty(size, np.int64)
        query, near, lists = np.ascontiguousarray(query), near[lists], np.ascontiguousarray(lists)
        self.sketches.search_preassigned_c(
            1,
            faiss.swig_ptr(query),
            size,
            faiss.swig_ptr(lists),
            faiss.swig_ptr(near),
            faiss.swig_ptr(scores),
            faiss.swig_ptr(positions),
            False,
            faiss.SearchParametersIVF(nprobe=len(lists)),
        )
        found = positions >= 0
        return scores[found], positions[found]

    def find_residuals(self, turned: Embeddings) -> tuple[Embeddings, Ids]:
        """Embeddings less the centroid of the list of each, and these lists: those of the nearest centroids."""
        if len(self.ahead) == _HALVES:
            lists = (np.arange(len(turned)) + int(self.sums[:, 0].sum())) % _HALVES
        else:
            lists = self._nearest.search(np.ascontiguousarray(turned[:, self.leading]), 1)[1][:, 0]
        return turned - self.get_centroids(lists), lists

    def _measure(self, residuals: Embeddings, lists: Ids) -> None:
        np.add.at(self.sums, lists, np.stack([np.ones(len(lists)), np.vecdot(residuals, residuals)], axis=1))
        self.take_sums(self.sums)

    def take_sums(self, sums: npt.NDArray[np.float64]) -> None:
        """Take these sums, and from them how much the residuals of each list vary, compared with those of all."""
        typical = float(self.variances.sum())
        self.sums = sums
        self.spreads = ((sums[:, 1] / typical + _PRIOR) / (sums[:, 0] + _PRIOR)).astype(np.float32)

    def _measure_reach(self, turned: Embeddings, lists: Ids) -> float:
        """How many standard deviations a list that holds one of the nearest lies below the last of these, at most.

        The queries: embeddings, and sums of two, which lie between clusters.
        """
        count, most = min(_PROBES, len(turned)), 0.0
        one, other = np.arange(count), np.arange(count)[::-1]
        for queries in (turned[one], turned[one] + turned[other]):
            products = queries @ turned.T
            products[one, one] = products[one, other] = -np.inf
            nearest = np.argpartition(-products, min(_NEAREST, len(turned) - 1), axis=1)[:, :_NEAREST]
            near = np.take_along_axis(queries @ self.get_centroids().T, lists[nearest], 1)
            beyond = np.take_along_axis(products, nearest, 1).min(axis=1, keepdims=True) - near
            beyond /= np.sqrt((queries**2 @ self.variances)[:, None] * self.spreads[lists[nearest]])
            most = max(most, float(np.quantile(beyond, _SURE)))
        return most


class Bounds:
    """The highest inner products that the lists may hold for one query.

    near: inner products of the centroids with the query; highest: the highest ones that a member may have. Both
    by the leading axes; sharpen() takes the others in.
    """

    def __init__(self, file: InvertedFile, query: Embeddings) -> None:
        self._file, self._behind = file, query[~file.leading]
        self._along = file.reach**2 * float(query**2 @ file.variances)
        self._is_sharp = np.zeros(len(file.ahead), np.bool_)
        self.near: Embeddings = np.vecdot(file.ahead, query[file.leading])
        doubt = np.float32(file.reach**2 * float(self._behind**2 @ file.behind_variances))
        self.highest: Embeddings = self.near + np.sqrt(np.float32(self._along) * file.spreads + doubt)

    def sharpen(self, lists: Ids) -> None:
        """Take all axes in for these lists."""
        lists = lists[~self._is_sharp[lists]]
        self._is_sharp[lists] = True
        near = self.near[lists] + np.vecdot(self._file.behind[lists], self._behind)
        self.near[lists] = near
        self.highest[lists] = near + np.sqrt(np.float32(self._along) * self._file.spreads[lists])


def _number_lists(lists: Ids) -> Embeddings:
    """Three digits for each of these lists."""
    digits = lists[:, None] >> _BITS * np.arange(GROUP) & 2**_BITS - 1
    return np.asarray(digits * _STEP, np.float32)


def _tag(residuals: Embeddings, lists: Ids) -> Embeddings:
    tagged = residuals.copy()
    tagged[:, :GROUP] += _number_lists(lists)
    return tagged


def _make_sketches(width: int, lists: int) -> Any:
    """An inverted file of FAISS.

    FAISS chooses the list of an embedding, and subtracts its centroid. Both were done: the number of the list is added
    to the first three axes, and FAISS's centroids are these numbers. So each is done once, and what is known of a list
    can be kept.
    """
    axes = np.arange(GROUP, dtype=np.int32)
    numbers = faiss.MultiIndexQuantizer(GROUP, GROUP, _BITS)  # looks at each digit by itself, not at every list
    digits = np.arange(2**_BITS, dtype=np.float32) * _STEP
    faiss.copy_array_to_vector(np.tile(digits, GROUP), numbers.pq.centroids)
    numbers.ntotal, numbers.is_trained = 2 ** (_BITS * GROUP), True
    chooser = faiss.IndexPreTransform(faiss.RemapDimensionsTransform(width, GROUP, faiss.swig_ptr(axes)), numbers)
    chooser.metric_type = faiss.METRIC_INNER_PRODUCT  # of L2, FAISS makes a table of half a gigabyte when it reads this
    sketches = faiss.IndexIVFPQFastScan(chooser, width, lists, width // GROUP, 4, faiss.METRIC_INNER_PRODUCT)
    sketches.by_residual = True
    sketches.pq.cp.min_points_per_centroid = 1  # below, FAISS would print a warning
    return sketches
