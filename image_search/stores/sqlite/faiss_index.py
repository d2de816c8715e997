"""An index in memory that proposes which embeddings may be nearest. It never decides: exact_search.py ranks the rows.

Up to SMALL embeddings are kept as they are, and one product ranks them. More lie in lists, each around a centroid
(an inverted file). A list is opened while a bound says that it may hold one of the nearest: the centroid's product with
the query, and what the farthest member of the list could add to it. Of an embedding the index keeps what its centroid
leaves over (the residual), with the axes turned to the principal components of all residuals, twice:

- a sketch, four bits for three dimensions, which FAISS scans by table look-ups that stay in the processor's registers.
  Every group of three carries a like share of the variance, so that the sketch is good for queries unlike the images;
- codes of four bits a dimension, which put in order what the sketch has picked, and the length of their error. The
  eighth of the axes that varies most is coded twice, the second time what the first left over: queries are long there,
  so that the estimates become several times better.

At 768 dimensions that is 590 bytes an image. How far each of the three is off for a query follows from the query and
from variances by axis that were measured on embeddings the compression was not fitted to.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import faiss as typed_faiss
import numpy as np
import numpy.typing as npt

from image_search.stores.rwlock import ReadWriteLock

faiss: Any = typed_faiss  # its type hints know the C++ signatures, not those of its Python classes
FAISS_VERSION: str = faiss.__version__

Ids = npt.NDArray[np.int64]
Embeddings = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

SMALL = 4096  # one product with so many takes as long as a search in the lists
_GROUP = 3  # dimensions that share four bits of the sketch
_LANES = 16  # dimensions the processor takes at once; codes of another length are several times slower
_MEMBERS = 256  # embeddings a list is for: in smaller ones the scan waits for memory
_MOST_LISTS = 16**_GROUP  # lists are numbered in three digits (_number_lists)
_ROUNDS = 6  # of k-means; more find hardly better centroids
_ADD_BATCH = 256  # so that a search waits for a few milliseconds at most
_SCORE_BATCH = 512  # whose codes are copied together, so that the copy stays in the processor's cache
_RESERVOIR = 11  # of FAISS's ways to collect the best of several lists the quickest for thousands
_MARGIN = 0.05  # what codes can say beyond the sample, on both sides: an estimate that is cut off there misleads
_FIRST_LISTS = 32  # opened at once; then 16 times as many each time
_PICKED = 512  # embeddings of the opened lists that the sketch picks at first
_SPARSE = 0.02  # if a filter lets no more than this share through, the codes of all these are looked at
_TIE = 1e-5  # products this near may have changed places by rounding
_DOUBT = 4.5  # standard deviations of an error that are allowed for
_LIST_DOUBT = 5.0  # for the farthest member of a list; more where the sample shows it (_measure_reach)
_PRIOR = 4  # members that a list's spread is believed to have beyond its own
_NEAREST = 4  # of the sample, which are as near as some hundred of all
_PROBES = 1024  # queries of each kind by which that is measured
_LIST_ROOM = 1.15  # beyond the farthest that was measured
_ROOM = 1.3  # for the codes' error: its standard deviations twice over would be beyond any doubt


class Proposal(NamedTuple):
    """Embeddings that may be nearest, best first, with estimates of their inner products with the query.

    doubts: standard deviation of each estimate's error.
    floor: no embedding that is left out has a higher inner product, as far as the estimates can tell.
    """

    embedding_ids: Ids
    scores: Embeddings
    doubts: Embeddings
    floor: float


class EmbeddingIndex:
    """The embeddings of one model up to a watermark, by embedding_id. Any thread may search while one changes it."""

    def __init__(self, dimension: int) -> None:
        """An empty index that keeps embeddings as they are."""
        self.watermark = 0  # every embedding of the model up to this id is here
        self.last_removal = 0  # and the removals up to this one are known
        self.trained_on = 0  # embeddings there were when the compression was fitted; 0 without any
        self.embedding_ids: Ids = np.empty(0, np.int64)
        self.alive: Mask = np.empty(0, np.bool_)
        self.embeddings: Embeddings = np.empty((0, dimension), np.float32)  # those of an index without compression
        self.mean = np.zeros(dimension, np.float32)
        self.rotation: Embeddings = np.empty((dimension, 0), np.float32)
        self.centroids: Embeddings = np.empty((0, 0), np.float32)  # turned, as everything below
        self.radii: Embeddings = np.empty(0, np.float32)  # of each list: the length of its longest residual
        self.sums = np.empty((0, 2))  # of each list: members, and the squares of their residuals' lengths
        self.variances: Embeddings = np.empty((3, 0), np.float32)  # by axis: of residuals, errors of sketch and codes
        self.reach = np.array(_LIST_DOUBT)  # standard deviations that a member may lie from its centroid
        self.sketch: Any = None
        self.codes: Any = None
        self.doubled: Ids = np.empty(0, np.int64)  # axes that are coded twice
        self.lists: npt.NDArray[np.int16] = np.empty(0, np.int16)  # of each embedding
        self.errors: npt.NDArray[np.float16] = np.empty(0, np.float16)  # of each embedding: length of its codes' error
        self._nearest: Any = None  # finds the list of an embedding
        self._lock = ReadWriteLock()

    @classmethod
    def fit(cls, sample: Embeddings, count: int) -> Self:
        """An empty compressed index, fitted to a sample of the count embeddings that it is for."""
        index = cls(sample.shape[1])
        index.trained_on = count
        index.mean = sample.mean(axis=0)
        centred = sample - index.mean
        fitted, measured = centred[::2], centred[1::2] if len(centred) > 1 else centred
        centroids = _find_centroids(fitted, max(1, min(count // _MEMBERS, len(fitted), _MOST_LISTS)))
        residuals = fitted - centroids[_assign(centroids, fitted)]
        index.rotation = _fit_rotation(residuals)
        index.set_centroids(index._turn(centroids))
        index.radii, index.sums = np.zeros(len(centroids), np.float32), np.zeros((len(centroids), 2))
        residuals = index._turn(residuals)
        index.sketch = _make_sketch(residuals, len(centroids))
        width = residuals.shape[1]
        index.doubled = np.argsort(-residuals.var(axis=0))[: width // 8 + -(width + width // 8) % _LANES]
        index.codes = _make_codes(width + len(index.doubled))
        once = _make_codes(width)
        once.train(residuals)
        missed = residuals - once.sa_decode(once.sa_encode(residuals))
        index.codes.train(np.hstack([residuals, missed[:, index.doubled]]))
        turned = index._turn(measured)
        lists, distances = index._find_lists(turned)
        left = turned - index.centroids[lists]
        tagged = _tag(left)
        sketched = index.sketch.pq.decode(index.sketch.pq.compute_codes(tagged))[:, : left.shape[1]]
        coded = index._decode(index._encode(left))
        index.variances = np.array([np.mean(part**2, axis=0) for part in (left, left - sketched, left - coded)])
        index.reach = _LIST_ROOM * index._measure_reach(turned, lists, distances)
        return index

    def set_centroids(self, centroids: Embeddings) -> None:
        """Take these centroids, turned."""
        self.centroids = centroids
        self._nearest = faiss.IndexFlatL2(centroids.shape[1])
        self._nearest.add(centroids)

    def __len__(self) -> int:
        return len(self.embedding_ids)

    @property
    def is_compressed(self) -> bool:
        return self.sketch is not None

    @property
    def dead_share(self) -> float:
        """Share of the embeddings that were removed but still take room."""
        return 1 - float(self.alive.mean()) if len(self.alive) else 0.0

    def add(self, embedding_ids: Ids, embeddings: Embeddings) -> None:
        """Add embeddings; their ids ascend and are above all that are here. Updates the watermark."""
        for start in range(0, len(embedding_ids), _ADD_BATCH):
            ids, rows = embedding_ids[start : start + _ADD_BATCH], embeddings[start : start + _ADD_BATCH]
            if self.is_compressed:
                self._add_compressed(ids, rows)
            else:
                with self._lock.writing():
                    self.embeddings = np.concatenate([self.embeddings, rows])
                    self._add_ids(ids)

    def _add_compressed(self, ids: Ids, embeddings: Embeddings) -> None:
        turned = self._turn(embeddings - self.mean)
        lists, radii = self._find_lists(turned)
        residuals = turned - self.centroids[lists]
        codes = self._encode(residuals)
        errors = np.linalg.norm(residuals - self._decode(codes), axis=1)
        positions = np.arange(len(self), len(self) + len(ids))
        with self._lock.writing():
            self.codes.add_sa_codes(codes)
            self.sketch.add_with_ids(_tag(residuals, lists), positions)
            self.lists = np.concatenate([self.lists, lists.astype(np.int16)])
            self.errors = np.concatenate([self.errors, errors.astype(np.float16)])
            _measure_lists(self.radii, self.sums, lists, radii)
            self._add_ids(ids)

    def _add_ids(self, ids: Ids) -> None:
        self.embedding_ids = np.concatenate([self.embedding_ids, ids])
        self.alive = np.concatenate([self.alive, np.ones(len(ids), np.bool_)])
        self.watermark = int(ids[-1])

    def remove(self, embedding_ids: Ids) -> None:
        """Propose these no more. Their room is given back when the index is rebuilt."""
        with self._lock.writing():
            alive = self.alive.copy()
            alive[self._find_positions(embedding_ids)] = False
            self.alive = alive

    def propose(self, query: Embeddings, count: int, allowed: Ids | None = None) -> Proposal:
        """Embeddings among which the count nearest are likely to be.

        Only the allowed ones (ascending embedding_ids) if given.
        """
        faiss.omp_set_num_threads(1)  # of this thread: one query is no work to share, and waiting for helpers costs
        turned = self._turn_query(query) if self.is_compressed else query
        offset = float(query @ self.mean)
        with self._lock.reading():
            usable = self._find_usable(allowed)
            if self.is_compressed:
                search = _Search(self, turned, min(count, len(self)), usable)
                search.run()
                positions, scores, doubts, floor = search.finish()
            else:
                positions, scores, floor = self._multiply(query, min(count, len(self)), usable)
                doubts = np.zeros(len(scores), np.float32)
            return Proposal(self.embedding_ids[positions], scores + offset, doubts, floor + offset)

    def reconstruct(self, positions: Ids) -> Embeddings:
        """The embeddings at these positions as well as the codes of a compressed index know them."""
        residuals = self._decode(self.view_codes()[positions])
        known = (self.centroids[self.lists[positions]] + residuals) @ self.rotation.T + self.mean
        return np.asarray(known, np.float32)

    def view_codes(self) -> npt.NDArray[np.uint8]:
        """The codes by position, where FAISS has them."""
        shape = self.codes.ntotal, self.codes.code_size
        codes: npt.NDArray[np.uint8] = faiss.rev_swig_ptr(self.codes.codes.data(), shape[0] * shape[1]).reshape(shape)
        return codes

    def _encode(self, residuals: Embeddings) -> npt.NDArray[np.uint8]:
        once = np.zeros((len(residuals), self.codes.d), np.float32)
        once[:, : residuals.shape[1]] = residuals
        missed = residuals - self.codes.sa_decode(self.codes.sa_encode(once))[:, : residuals.shape[1]]
        once[:, residuals.shape[1] :] = missed[:, self.doubled]
        codes: npt.NDArray[np.uint8] = self.codes.sa_encode(once)
        return codes

    def _decode(self, codes: npt.NDArray[np.uint8]) -> Embeddings:
        known: Embeddings = self.codes.sa_decode(np.ascontiguousarray(codes))
        known, missed = np.hsplit(known, [self.rotation.shape[1]])
        known[:, self.doubled] += missed
        return known

    def find_spreads(self) -> Embeddings:
        """How far the members of each list lie from its centroid: typically, or half as far as the farthest does."""
        typical = np.sqrt((self.sums[:, 1] + _PRIOR * self.variances[0].sum()) / (self.sums[:, 0] + _PRIOR))
        return np.asarray(np.maximum(typical, self.radii / 2), np.float32)

    def _turn(self, embeddings: Embeddings) -> Embeddings:
        return np.ascontiguousarray(embeddings @ self.rotation, np.float32)

    def _turn_query(self, query: Embeddings) -> Embeddings:
        # Not as a matrix product: numpy would share it among all processors, and wait for the one that is busy.
        turned: Embeddings = np.vecdot(self.rotation.T, query)
        return turned

    def _find_lists(self, turned: Embeddings) -> tuple[Ids, Embeddings]:
        """The list of each embedding, and its distance from the centroid."""
        squares, lists = self._nearest.search(turned, 1)
        return lists[:, 0], np.sqrt(squares[:, 0])

    def _measure_reach(self, turned: Embeddings, lists: Ids, distances: Embeddings) -> npt.NDArray[np.float64]:
        """How many standard deviations the nearest of a query lie from the centroid of a list that is not among the
        first to be opened. Where a list holds several clusters it is more than chance tells.

        The queries: embeddings, and sums of two, which lie between clusters.
        """
        _measure_lists(self.radii, self.sums, lists, distances)
        spreads = self.find_spreads()
        count, most = min(_PROBES, len(turned)), _LIST_DOUBT
        one, other = np.arange(count), np.arange(count)[::-1]
        for queries in (turned[one], turned[one] + turned[other]):
            products = queries @ turned.T
            products[one, one] = products[one, other] = -np.inf
            nearest = np.argpartition(-products, min(_NEAREST, len(turned) - 1), axis=1)[:, :_NEAREST]
            found = lists[nearest]
            near = queries @ self.centroids.T
            unit = np.sqrt(queries**2 @ self.variances[0] / (self.variances[0].sum() + 1e-12))[:, None]
            bounds = near + _LIST_DOUBT * unit * spreads
            first = np.sort(bounds, axis=1)[:, -min(_FIRST_LISTS, len(spreads)), None]
            beyond = np.take_along_axis(products, nearest, 1) - np.take_along_axis(near, found, 1)
            beyond /= np.maximum(unit * spreads[found], 1e-9)
            late = (np.take_along_axis(bounds, found, 1) < first) & np.isfinite(beyond)
            most = max(most, float(beyond[late].max(initial=0.0)))
        self.radii[:], self.sums[:] = 0, 0
        return np.array(most)

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

    def _multiply(self, query: Embeddings, count: int, usable: Mask | None) -> tuple[Ids, Embeddings, float]:
        # By one processor: a matrix product would take all of them, and wait for each that is busy.
        products = np.vecdot(self.embeddings, query)
        if usable is not None:
            products[~usable] = -np.inf
        is_part = 0 < count < len(products)
        floor = float(np.partition(products, -count)[-count]) - 2 * _TIE if is_part else -np.inf
        positions = np.flatnonzero(products > floor)
        positions = positions[np.argsort(-products[positions])]
        return positions, products[positions], floor


class _Search:
    """One search in the lists of an index: what was scored so far, and what the rest must reach."""

    def __init__(self, index: EmbeddingIndex, query: Embeddings, count: int, usable: Mask | None) -> None:
        self.index = index
        self.query = query
        self.count = count
        self.usable = usable
        self.near = np.vecdot(index.centroids, query)
        squares = query.astype(np.float64) ** 2
        lengths = np.sqrt(index.variances.sum(axis=1, dtype=np.float64)) + 1e-12
        residual, sketch, codes = np.sqrt(index.variances @ squares) + 1e-9
        # Along the query a residual of length 1 is so far off at most; it cannot be farther off than the query is long.
        self.reach = min(float(index.reach) * residual / lengths[0], float(np.sqrt(squares.sum())))
        self.sketch_error = float(sketch)
        self.codes_error = float(codes)
        self.codes_unit = float(codes / lengths[2])  # of an error of length 1
        self.scored: list[tuple[Ids, Embeddings]] = []
        self.best: Embeddings = np.empty(0, np.float32)  # the count highest scores, in no order
        self.target = -np.inf  # the lowest of them, once there are count
        self._squares, self._compared = 0.0, 0

    def run(self) -> None:
        """Score all that may be among the nearest."""
        usable, picked, size = self.usable, _PICKED, _FIRST_LISTS
        if usable is not None:
            share = np.count_nonzero(usable) / max(len(usable), 1)
            if share <= _SPARSE:
                self._score(np.flatnonzero(usable))
                return
            picked = int(picked / share)
        bounds = self.near + self.reach * self.index.find_spreads()
        lists = np.arange(len(bounds))
        while len(lists := lists[bounds[lists] >= self.target - _DOUBT * self.codes_error]):
            if size < len(lists):
                lists = lists[np.argpartition(-bounds[lists], size)]
            self._open(lists[:size], picked)
            lists, size = lists[size:], 16 * size

    def _open(self, lists: Ids, picked: int) -> None:
        seen: Ids = np.empty(0, np.int64)
        while True:
            rough, positions = self._scan(lists, picked)
            is_all = len(rough) < picked
            last = float(rough[-1]) if len(rough) else -np.inf
            new = np.ones(len(rough), np.bool_) if self.usable is None else self.usable[positions]
            if len(seen):
                new &= ~np.isin(positions, seen)
            self._pick(rough[new], positions[new])
            if is_all or last < self.cut:
                return
            seen, picked = positions, 8 * picked

    def _scan(self, lists: Ids, picked: int) -> tuple[Embeddings, Ids]:
        """The best of these lists by the sketch, and their positions."""
        sketch = self.index.sketch
        query, near = _tag(self.query[None]), self.near[lists]
        scores, positions = np.empty(picked, np.float32), np.empty(picked, np.int64)
        parameters = faiss.SearchParametersIVF(nprobe=len(lists))
        sketch.search_preassigned_c(
            1,
            faiss.swig_ptr(query),
            picked,
            faiss.swig_ptr(lists),
            faiss.swig_ptr(near),
            faiss.swig_ptr(scores),
            faiss.swig_ptr(positions),
            False,
            parameters,
        )
        found = positions >= 0
        return scores[found], positions[found]

    @property
    def cut(self) -> float:
        """The lowest estimate by the sketch that is looked at more closely."""
        error = max(self.sketch_error, float(np.sqrt(self._squares / max(self._compared, 1))))
        return self.target - _DOUBT * float(np.hypot(error, _ROOM * self.codes_error))

    def _pick(self, rough: Embeddings, positions: Ids) -> None:
        """Score those that the sketch found best, until what follows is too far off."""
        size = max(_SCORE_BATCH // 2, 2 * self.count)
        while len(rough):
            size = min(size, int(np.searchsorted(-rough, -self.cut, side="right")))
            if not size:
                return
            scores = self._score(positions[:size])
            errors = scores - rough[:size]
            self._squares, self._compared = self._squares + float(errors @ errors), self._compared + size
            rough, positions, size = rough[size:], positions[size:], 8 * size

    def _score(self, positions: Ids) -> Embeddings:
        """Estimates for these positions by their codes."""
        index = self.index
        chosen = faiss.IndexScalarQuantizer()
        chosen.d, chosen.metric_type, chosen.code_size = index.codes.d, index.codes.metric_type, index.codes.code_size
        chosen.sq, chosen.is_trained = index.codes.sq, True
        codes, query = index.view_codes(), np.append(self.query, self.query[index.doubled])[None]
        scores: Embeddings = self.near[index.lists[positions]]
        for start in range(0, len(positions), _SCORE_BATCH):
            part = positions[start : start + _SCORE_BATCH]
            chosen.reset()
            chosen.add_sa_codes(np.take(codes, part, axis=0))
            found, order = chosen.search(query, len(part))
            scores[start + order[0]] += found[0]
        self.scored.append((positions, scores))
        best = np.concatenate([self.best, scores])
        if len(best) >= self.count:
            best = np.partition(best, -self.count)[-self.count :]
            self.target = float(best[0])
        self.best = best
        return scores

    def finish(self) -> tuple[Ids, Embeddings, Embeddings, float]:
        """Positions, estimates and their doubts, best first, of those that may be among the nearest; and the floor."""
        if not self.scored:
            return np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.float32), -np.inf
        positions, scores = (np.concatenate(parts) for parts in zip(*self.scored, strict=True))
        floor = self.target - _ROOM * _DOUBT * self.codes_error
        doubts = self.index.errors[positions].astype(np.float32) * np.float32(self.codes_unit)
        kept = np.flatnonzero(scores + _DOUBT * doubts >= floor)
        kept = kept[np.argsort(-scores[kept])]
        return positions[kept], scores[kept], doubts[kept], floor


def _find_centroids(embeddings: Embeddings, count: int) -> Embeddings:
    means = faiss.Clustering(embeddings.shape[1], count)
    means.niter, means.seed = _ROUNDS, 0
    means.min_points_per_centroid, means.max_points_per_centroid = 1, len(embeddings)
    means.train(np.ascontiguousarray(embeddings), faiss.IndexFlatL2(embeddings.shape[1]))
    centroids: Embeddings = faiss.vector_to_array(means.centroids).reshape(count, -1)
    return centroids


def _measure_lists(radii: Embeddings, sums: npt.NDArray[np.float64], lists: Ids, distances: Embeddings) -> None:
    np.maximum.at(radii, lists, distances)
    np.add.at(sums, lists, np.stack([np.ones(len(lists)), distances.astype(np.float64) ** 2], axis=1))


def _assign(centroids: Embeddings, embeddings: Embeddings) -> Ids:
    lists: Ids = faiss.knn(np.ascontiguousarray(embeddings), centroids, 1)[1][:, 0]
    return lists


def _number_lists(count: int) -> Embeddings:
    """For each list three digits of base 16."""
    return np.stack([np.arange(count) // 16**place % 16 for place in range(_GROUP)], axis=1).astype(np.float32)


def _tag(residuals: Embeddings, lists: Ids | None = None) -> Embeddings:
    """With three dimensions more that name the list of each, or are 0."""
    tags = np.zeros((len(residuals), _GROUP), np.float32) if lists is None else _number_lists(_MOST_LISTS)[lists]
    return np.hstack([residuals, tags])


def _make_sketch(residuals: Embeddings, lists: int) -> Any:
    """An empty sketch, trained on these residuals.

    FAISS chooses the list of an embedding, and subtracts its centroid. Both were done: three dimensions more name the
    list, and FAISS's centroids are 0 but there.
    """
    width = residuals.shape[1]
    axes = np.arange(width, width + _GROUP, dtype=np.int32)
    names = faiss.IndexFlatL2(_GROUP)
    names.add(_number_lists(lists))
    chooser = faiss.IndexPreTransform(
        faiss.RemapDimensionsTransform(width + _GROUP, _GROUP, faiss.swig_ptr(axes)), names
    )
    whole = width + _GROUP
    sketch = faiss.IndexIVFPQFastScan(chooser, whole, lists, whole // _GROUP, 4, faiss.METRIC_INNER_PRODUCT)
    sketch.by_residual, sketch.implem = True, _RESERVOIR
    sketch.pq.train(_tag(residuals))
    sketch.is_trained = True
    return sketch


def _make_codes(dimension: int) -> Any:
    codes = faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_4bit, faiss.METRIC_INNER_PRODUCT)
    codes.sq.rangestat_arg = _MARGIN
    return codes


def _fit_rotation(residuals: Embeddings) -> Embeddings:
    """Principal components as columns, padded to whole groups, each group with about the same product of variances."""
    dimension = residuals.shape[1]
    variances, axes = np.linalg.eigh(np.cov(residuals, rowvar=False).reshape(dimension, dimension))
    groups = -(-dimension // _GROUP)
    logarithms = np.log(np.maximum(variances, 1e-12))
    logarithms -= logarithms.min() - 1e-3
    members: list[list[int]] = [[] for _ in range(groups)]
    sums = np.zeros(groups)
    for component in np.argsort(-variances):
        group = int(np.argmin(sums))
        members[group].append(int(component))
        sums[group] = np.inf if len(members[group]) == _GROUP else sums[group] + logarithms[component]
    rotation = np.zeros((dimension, groups * _GROUP), np.float32, order="F")  # a query is multiplied column by column
    for group, components in enumerate(members):
        start = group * _GROUP
        rotation[:, start : start + len(components)] = axes[:, components]
    return rotation
