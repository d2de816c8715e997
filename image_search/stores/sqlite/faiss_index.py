"""An index in memory that proposes which embeddings may be nearest. It never decides: exact_search.py ranks the rows.

Up to SMALL embeddings are kept as they are, and one product ranks them. More are kept twice, in 570
bytes an image at 768 dimensions: as a sketch (product quantisation, four bits for three dimensions, scanned by table
look-ups that stay in the processor's registers) and in codes of four bits a dimension. The sketch picks some thousand,
the codes put them in order. Before that the mean is taken away and the axes are turned to the principal components.
These are spread so that every group of three carries a like share of the variance, which makes the sketch several times
better for queries unlike the images, such as words; and the eighth of them that varies most is coded twice, the second
time what the first left over, which makes the codes several times better for all queries.
"""

from __future__ import annotations

import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import faiss as typed_faiss
import numpy as np
import numpy.typing as npt

from image_search.stores.threads import Cores, ReadWriteLock

faiss: Any = typed_faiss  # its type hints know the C++ signatures, not those of its Python classes
FAISS_VERSION: str = faiss.__version__

Ids = npt.NDArray[np.int64]
Embeddings = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

SMALL = 12_288  # one product with so many takes as long as looking at so many in the sketch and some in the codes
_GROUP = 3  # dimensions that share four bits of the sketch
_LANES = 16  # dimensions the processor takes at once; codes of another length are several times slower
_BLOCK = 32  # embeddings that lie together in one half of the sketch, the next so many in the other
_WORTH_HALVES = 2048  # embeddings; fewer are looked at before another thread has begun
_ADD_BATCH = 256  # so that a search waits for a few milliseconds at most
_MEASURED = 1024  # embeddings whose products among themselves tell the errors
_SCORE_BATCH = 512  # whose codes are copied together, so that the copy stays in the processor's cache
_ONE_QUERY = 15  # of FAISS's scans the one that is quickest for a single query and thousands of results
_MARGIN = 0.05  # what codes can say beyond the sample, on both sides: an estimate that is cut off there misleads
_OVERSAMPLED = 8  # of the sketch as many times the depth is looked at
_TRIED = 512  # of these the codes are looked at first; they tell how many more are needed
_ATTEMPTS = 2  # at picking enough from the sketch; a third would cost as much as a scan of all codes
_VAIN, _RETRY = 3, 8  # after so many searches in a row that the sketch was no help for, it is asked for every eighth
_SCANNED = 0.25  # if more than this share were to be picked, likewise
_DEEP = 2048  # embeddings that a scan of all codes gives at least; it is seldom needed twice then
_SPARSE = 0.1  # if a filter lets no more than this share through, likewise
_DOUBT = 4.5  # standard deviations of the sketch's error that are allowed for
_FIRST_DOUBT = 6.0  # when only the first were looked at
_ROOM = 1.3  # for the codes' error: its standard deviations twice over would be beyond any doubt


_CORES = Cores(lambda: faiss.omp_set_num_threads(1))


class Proposal(NamedTuple):
    """Embeddings that may be nearest, best first, with estimates of their inner products with the query.

    floor: no embedding that is left out has a higher inner product, as far as the estimates can tell.
    """

    embedding_ids: Ids
    scores: Embeddings
    floor: float


class EmbeddingIndex:
    """The embeddings of one model up to a watermark, by embedding_id. Any thread may search while one changes it."""

    def __init__(self, dimension: int) -> None:
        """An empty index that keeps embeddings as they are."""
        self.watermark = 0  # every embedding of the model up to this id is here
        self.last_removal = 0  # and the removals up to this one are known
        self.trained_on = 0  # embeddings there were when the compression was fitted; 0 without any
        self.error = 1e-6  # how far an estimate is from the inner product, as a standard deviation
        self.mean = np.zeros(dimension, np.float32)
        self.rotation: Embeddings = np.empty((dimension, 0), np.float32)
        self.doubled: Ids = np.empty(0, np.int64)  # components that are coded twice
        self.sketch: tuple[Any, ...] = ()  # two halves, see _find_half
        self.codes: Any = None
        self.embeddings: Embeddings = np.empty((0, dimension), np.float32)  # those of an index without compression
        self.embedding_ids: Ids = np.empty(0, np.int64)
        self.alive: Mask = np.empty(0, np.bool_)
        self._vain = 0  # searches in a row that the sketch was no help for
        self._lock = ReadWriteLock()

    @classmethod
    def fit(cls, sample: Embeddings, count: int) -> Self:
        """An empty compressed index, fitted to a sample of the count embeddings that it is for."""
        dimension = sample.shape[1]
        index = cls(dimension)
        index.trained_on = count
        index.mean = sample.mean(axis=0)
        index.rotation = _fit_rotation(sample - index.mean)
        turned = index._turn(sample - index.mean)
        width = turned.shape[1]
        sketch = faiss.IndexPQFastScan(width, width // _GROUP, 4, faiss.METRIC_INNER_PRODUCT)
        sketch.train(turned)
        index.sketch = sketch, faiss.clone_index(sketch)
        index.doubled = np.argsort(-turned.var(axis=0))[: width // 8 + -(width + width // 8) % _LANES]
        index.codes = _make_codes(width + len(index.doubled))
        once = _make_codes(width)
        once.train(turned)
        index.codes.train(np.hstack([turned, (turned - once.sa_decode(once.sa_encode(turned)))[:, index.doubled]]))
        index.error = index._measure_error(sample[:: -(-len(sample) // _MEASURED)])
        return index

    def __len__(self) -> int:
        return len(self.embedding_ids)

    @property
    def is_compressed(self) -> bool:
        return bool(self.sketch)

    @property
    def dead_share(self) -> float:
        """Share of the embeddings that were removed but still take room."""
        return 1 - float(self.alive.mean()) if len(self.alive) else 0.0

    def add(self, embedding_ids: Ids, embeddings: Embeddings) -> None:
        """Add embeddings; their ids ascend and are above all that are here. Updates the watermark."""
        for start in range(0, len(embedding_ids), _ADD_BATCH):
            ids, rows = embedding_ids[start : start + _ADD_BATCH], embeddings[start : start + _ADD_BATCH]
            if self.is_compressed:
                turned = self._turn(rows - self.mean)
                codes = self._encode(turned)
            with self._lock.writing():
                if self.is_compressed:
                    self.codes.add_sa_codes(codes)
                    halves = _find_half(np.arange(len(self), len(self) + len(ids)))
                    for half, sketch in enumerate(self.sketch):
                        sketch.add(turned[halves == half])
                else:
                    self.embeddings = np.concatenate([self.embeddings, rows])
                self.embedding_ids = np.concatenate([self.embedding_ids, ids])
                self.alive = np.concatenate([self.alive, np.ones(len(ids), np.bool_)])
                self.watermark = int(ids[-1])

    def remove(self, embedding_ids: Ids) -> None:
        """Propose these no more. Their room is given back when the index is rebuilt."""
        with self._lock.writing():
            alive = self.alive.copy()
            alive[self._find_positions(embedding_ids)] = False
            self.alive = alive

    def propose(self, query: Embeddings, count: int, depth: int, allowed: Ids | None = None) -> Proposal:
        """At least depth embeddings (or all), among which the count nearest are likely to be.

        Only the allowed ones (ascending embedding_ids) if given.
        """
        faiss.omp_set_num_threads(1)  # of this thread: one query is no work to share, and waiting for helpers costs
        turned = self._turn_query(query) if self.is_compressed else query
        offset = float(query @ self.mean)
        with self._lock.reading(), _CORES.searching():
            usable = self._find_usable(allowed)
            share = 1.0 if usable is None else np.count_nonzero(usable) / max(len(usable), 1)
            depth = min(depth, len(self))
            if not self.is_compressed:
                positions, scores, floor = self._multiply(query, depth, usable)
            elif share < _SPARSE or self._is_hopeless():
                positions, scores, floor = self._scan_codes(turned, depth, usable)
            else:
                positions, scores, floor = self._scan_sketch(turned, count, depth, share, usable)
            return Proposal(self.embedding_ids[positions], scores + offset, floor + offset)

    def reconstruct(self, positions: Ids) -> Embeddings:
        """The embeddings at these positions as well as the codes of a compressed index know them."""
        return self._decode(self._view_codes()[positions])

    def _turn(self, embeddings: Embeddings) -> Embeddings:
        return np.ascontiguousarray(embeddings @ self.rotation, np.float32)

    def _turn_query(self, query: Embeddings) -> Embeddings:
        # Not as a matrix product: numpy would share it among all processors, and wait for the one that is busy.
        turned: Embeddings = np.vecdot(self.rotation.T, query)[None]
        return turned

    def _encode(self, turned: Embeddings) -> npt.NDArray[np.uint8]:
        if self.doubled.size:
            once = np.zeros((len(turned), self.codes.d), np.float32)
            once[:, : turned.shape[1]] = turned
            left = turned - self.codes.sa_decode(self.codes.sa_encode(once))[:, : turned.shape[1]]
            turned = np.hstack([turned, left[:, self.doubled]])
        codes: npt.NDArray[np.uint8] = self.codes.sa_encode(turned)
        return codes

    def _decode(self, codes: npt.NDArray[np.uint8]) -> Embeddings:
        turned: Embeddings = self.codes.sa_decode(np.ascontiguousarray(codes))
        turned, left = np.hsplit(turned, [self.rotation.shape[1]])
        turned[:, self.doubled] += left
        known: Embeddings = turned @ self.rotation.T + self.mean
        return known

    def _double(self, query: Embeddings) -> Embeddings:
        return np.hstack([query, query[:, self.doubled]])

    def _measure_error(self, embeddings: Embeddings) -> float:
        """Standard deviation between inner products and their estimates, of embeddings among themselves."""
        known = self._decode(self._encode(self._turn(embeddings - self.mean)))
        return float(np.sqrt(np.mean((embeddings @ (known - embeddings).T) ** 2)))

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

    def _multiply(self, query: Embeddings, depth: int, usable: Mask | None) -> tuple[Ids, Embeddings, float]:
        # A matrix product would take all processors, and wait for each that is busy.
        products = np.empty(len(self), np.float32)

        def multiply(part: slice) -> None:
            np.vecdot(self.embeddings[part], query, out=products[part])

        _CORES.share(multiply, _halve(len(self)))
        if usable is not None:
            products[~usable] = -np.inf
        is_part = 0 < depth < len(products)
        positions = np.argpartition(products, -depth)[-depth:] if is_part else np.arange(len(products))
        positions = positions[np.argsort(-products[positions])]
        scores = products[positions]
        floor = float(scores[-1]) if is_part else -np.inf
        return positions[scores > -np.inf], scores[scores > -np.inf], floor

    def _scan_codes(self, query: Embeddings, depth: int, usable: Mask | None) -> tuple[Ids, Embeddings, float]:
        depth = max(depth, min(_DEEP, len(self)))
        bits = None if usable is None else np.packbits(usable, bitorder="little")
        doubled = self._double(query)

        def scan(part: slice) -> tuple[Embeddings, Ids]:
            selected = faiss.IDSelectorRange(part.start, part.stop)
            if bits is not None:
                among = faiss.IDSelectorBitmap(bits)
                selected = faiss.IDSelectorAnd(selected, among)
            return _search(self.codes, doubled, depth, faiss.SearchParameters(sel=selected))

        scores, positions = _merge(_CORES.share(scan, _halve(len(self))), depth)
        return positions, scores, float(scores[-1]) if len(scores) == depth < len(self) else -np.inf

    def _scan_sketch(
        self, query: Embeddings, count: int, depth: int, share: float, usable: Mask | None
    ) -> tuple[Ids, Embeddings, float]:
        size = _OVERSAMPLED * depth / share
        for _ in range(_ATTEMPTS):
            if size > _SCANNED * len(self):
                break
            rough, positions, last = self._pick(query, int(size))
            middle = float(rough[len(rough) // 2])
            if usable is not None:
                rough, positions = rough[usable[positions]], positions[usable[positions]]
            if len(positions) <= count:
                size *= 8
                continue
            # The codes of the first tell whether they are enough; if not, how many more are, which seldom are all.
            tried = min(max(_TRIED, 2 * count), len(rough))
            beyond = max(float(rough[tried - 1]), last)
            scores = self._score(query, positions[:tried])
            line, target = _fit_line(rough[:tried], scores), self._find_target(scores, count)
            if tried < len(rough) and line.foretell(beyond, _FIRST_DOUBT) < target:
                self._vain = 0
                return _rank(positions[:tried], scores, line.foretell(beyond))
            if line.foretell(last) < target:
                scores = np.concatenate([scores, self._score(query, positions[tried:])])
                line, target = _fit_line(rough, scores), self._find_target(scores, count)
                if line.foretell(last) < target:
                    self._vain = 0
                    return _rank(positions, scores, line.foretell(last))
            size *= line.count_wanted(middle, last, target)
        self._vain += 1
        return self._scan_codes(query, depth, usable)

    def _pick(self, query: Embeddings, size: int) -> tuple[Embeddings, Ids, float]:
        """About so many that the sketch finds best, and the highest estimate that any other may have."""

        def scan(half: int) -> tuple[Embeddings, Ids]:
            self.sketch[half].implem = _ONE_QUERY
            rough, positions = _search(self.sketch[half], query, min(-(-size // 2), self.sketch[half].ntotal))
            return rough, (positions // _BLOCK * 2 + half) * _BLOCK + positions % _BLOCK

        found = _CORES.share(scan, (0, 1))
        return *_merge(found), max(float(rough[-1]) for rough, _ in found)

    def _is_hopeless(self) -> bool:
        """Whether the sketch told too little of late, as of data without structure. Both ways find the same."""
        if self._vain < _VAIN or self._vain % _RETRY == 0:
            return False
        self._vain += 1
        return True

    def _find_target(self, scores: Embeddings, count: int) -> float:
        """The estimate that no embedding left out may reach."""
        return float(np.partition(scores, -count)[-count]) - _ROOM * _DOUBT * self.error

    def _score(self, query: Embeddings, positions: Ids) -> Embeddings:
        """Estimates for these positions by their codes."""
        chosen = _make_codes(self.codes.d)
        chosen.sq, chosen.is_trained = self.codes.sq, True
        codes, query = self._view_codes(), self._double(query)
        scores = np.empty(len(positions), np.float32)
        for start in range(0, len(positions), _SCORE_BATCH):
            part = positions[start : start + _SCORE_BATCH]
            chosen.reset()
            chosen.add_sa_codes(np.take(codes, part, axis=0))
            found, order = _search(chosen, query, len(part))
            scores[start + order] = found
        return scores

    def _view_codes(self) -> npt.NDArray[np.uint8]:
        shape = self.codes.ntotal, self.codes.code_size
        codes: npt.NDArray[np.uint8] = faiss.rev_swig_ptr(self.codes.codes.data(), shape[0] * shape[1]).reshape(shape)
        return codes


def _halve(count: int) -> tuple[slice, ...]:
    """Two slices of so many, or one of a few."""
    middle = count // 2
    return (slice(0, count),) if count < _WORTH_HALVES else (slice(0, middle), slice(middle, count))


def _find_half(positions: Ids) -> Ids:
    """The half of the sketch, 0 or 1, that holds each position. They take turns, so that both grow alike."""
    return positions // _BLOCK % 2


def _merge(parts: list[tuple[Embeddings, Ids]], most: int | None = None) -> tuple[Embeddings, Ids]:
    """Scores and positions of all parts, highest first."""
    if len(parts) == 1:
        return parts[0]
    scores, positions = (np.concatenate(each) for each in zip(*parts, strict=True))
    order = np.argsort(-scores)[:most]
    return scores[order], positions[order]


def _search(index: Any, query: Embeddings, count: int, parameters: Any = None) -> tuple[Embeddings, Ids]:
    if count == 0:
        return np.empty(0, np.float32), np.empty(0, np.int64)
    scores, positions = index.search(query, count, params=parameters)
    found = positions[0] >= 0
    return scores[0][found], positions[0][found]


def _make_codes(dimension: int) -> Any:
    codes = faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_4bit, faiss.METRIC_INNER_PRODUCT)
    codes.sq.rangestat_arg = _MARGIN
    return codes


def _rank(positions: Ids, scores: Embeddings, floor: float) -> tuple[Ids, Embeddings, float]:
    order = np.argsort(-scores)
    return positions[order], scores[order], floor


class _Line(NamedTuple):
    """Estimates by the codes (y) from those by the sketch (x), for one query: y = slope * x + intercept.

    error: standard deviation of y around the line. It is estimated for each query.
    """

    slope: float
    intercept: float
    error: float

    def foretell(self, x: float, doubt: float = _DOUBT) -> float:
        """The highest y to be expected where the sketch estimates x or less."""
        return self.slope * x + self.intercept + doubt * self.error

    def count_wanted(self, middle: float, last: float, target: float) -> float:
        """How many times as many are to be picked so that those left out stay below the target; 2 at least.

        middle, last: estimates by the sketch of the middle one and of the last one that were picked.
        """
        # The number of embeddings above a score grows about so many times with every step of this size.
        step = self.slope * (middle - last)
        return max(2.0 ** min((self.foretell(last) - target) / step, 20.0) * 1.5, 2.0) if step > 0 else np.inf


def _fit_line(rough: Embeddings, scores: Embeddings) -> _Line:
    x, y = rough.astype(np.float64), scores.astype(np.float64)
    middle, level = x.mean(), y.mean()
    x, y = x - middle, y - level
    spread = np.vecdot(x, x)
    slope = max(float(np.vecdot(x, y) / spread), 0.0) if spread else 0.0
    y -= slope * x
    return _Line(slope, float(level - slope * middle), float(np.sqrt(np.vecdot(y, y) / len(y))))


def _fit_rotation(centred: Embeddings) -> Embeddings:
    """Principal components as columns, padded to whole groups, each group with about the same product of variances."""
    dimension = centred.shape[1]
    variances, axes = np.linalg.eigh(np.cov(centred, rowvar=False).reshape(dimension, dimension))
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


# A compressed EmbeddingIndex in two files, so that the next start need not build it again.
#
# They are a copy and nothing more: whatever is wrong with them, they are left aside and the index is built from the
# table. FAISS reads its part straight into place, which numpy's archive cannot; a checksum tells, before FAISS sees it,
# that the part is whole and belongs to the other.

_FORMAT = 2
_CHUNK = 1 << 20


def save_index(index: EmbeddingIndex, path: Path) -> None:
    """Write the index to path.faiss and path.npz. Raises OSError when the disk will not take it."""
    codes, arrays = _name_files(path)
    partial = path.with_name(f"{path.name}.part")
    try:
        writer = faiss.FileIOWriter(str(partial))
        try:
            faiss.write_index(index.codes, writer)
            for sketch in index.sketch:
                faiss.write_index(sketch, writer)
        finally:
            del writer  # closes the file
        checksum = _add_up(partial)
        partial.replace(codes)
        with partial.open("wb") as file:
            np.savez(
                file,
                numbers=np.array([_FORMAT, index.watermark, index.last_removal, index.trained_on], np.int64),
                checksum=np.array(checksum),
                error=np.array(index.error),
                doubled=index.doubled,
                mean=index.mean,
                rotation=index.rotation,
                embedding_ids=index.embedding_ids,
                alive=index.alive,
            )
        partial.replace(arrays)
    except RuntimeError as error:  # FAISS's word for a disk that is full
        raise OSError(str(error)) from error
    finally:
        partial.unlink(missing_ok=True)


def load_index(path: Path, dimension: int) -> EmbeddingIndex | None:
    """The index that was saved, or None when there is none, it is damaged, or it is of another kind."""
    codes, arrays = _name_files(path)
    try:
        with np.load(arrays) as stored:
            form, watermark, last_removal, trained_on = stored["numbers"].tolist()
            index = EmbeddingIndex(dimension)
            index.mean, index.rotation = stored["mean"], stored["rotation"]
            if form != _FORMAT or index.mean.shape != (dimension,):
                return None
            index.watermark, index.last_removal, index.trained_on = watermark, last_removal, trained_on
            index.error, index.doubled = float(stored["error"]), stored["doubled"]
            index.embedding_ids, index.alive = stored["embedding_ids"], stored["alive"]
            checksum = int(stored["checksum"])
        if _add_up(codes) != checksum:
            return None
        reader = faiss.FileIOReader(str(codes))
        index.codes = faiss.read_index(reader)
        index.sketch = faiss.read_index(reader), faiss.read_index(reader)
        return index
    except Exception:  # nothing that can be wrong with a copy is worth more than leaving it aside
        return None


def remove_index(path: Path) -> None:
    """Remove the files, if they are there."""
    for file in _name_files(path):
        with suppress(OSError):
            file.unlink()


def _name_files(path: Path) -> tuple[Path, Path]:
    return path.with_name(path.name + ".faiss"), path.with_name(path.name + ".npz")


def _add_up(file: Path) -> int:
    checksum = 0
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
