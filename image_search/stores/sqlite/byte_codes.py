"""Embeddings in one byte an axis, whose estimates are near enough that few rows must be read to decide.

An axis has steps of its own, from the mean to both sides, 127 each. The codes that were saved stay in their file, which
is mapped into memory, and those that were added since are kept in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss as typed_faiss
import numpy as np
import numpy.typing as npt

from image_search.stores.sqlite.inverted_file import Cores, Embeddings, Ids, Mask

faiss: Any = typed_faiss  # its type hints know the C++ signatures, not those of its Python classes

Codes = npt.NDArray[np.uint8]

_ENDS = 127  # steps from the mean to either end of an axis
_ROOM = 1.25  # an axis reaches so many times as far as the sample
_NEARLY = 0.64  # of an axis's length; one that is used so far is made longer along with others, so that this is seldom
_SMALLEST = 1e-9  # step, for an axis on which all are alike
_WORTH_HALVES = 20_480  # codes; fewer are looked at before another thread has begun
_DOUBT = 4.5  # standard deviations of the rounding of a query that are allowed for
_BATCH = 512  # codes that are turned to numbers together, which stay in the processor's cache
_WIDENED = 16_384  # codes that are written again together
_MEMORY = faiss.MaybeOwnedVectorUInt8()  # kept: its owner, that of no memory, goes with it


class ByteCodes:
    """Codes by position. Its owner's lock keeps searches and changes apart.

    Estimates are of the inner product of a query with an embedding less the mean.
    """

    def __init__(self, dimension: int) -> None:
        self.mean: Embeddings = np.zeros(dimension, np.float32)
        self.steps: Embeddings = np.full(dimension, _SMALLEST, np.float32)
        self.variances: Embeddings = np.zeros(dimension, np.float32)  # of the codes' errors, by axis
        self.squares: npt.NDArray[np.float64] = np.zeros(dimension)  # sums over all codes, in steps
        self.mapped: Codes = np.empty((0, dimension), np.uint8)
        self._new: Codes = np.empty((0, dimension), np.uint8)  # with room for more
        self._count = 0  # of the new ones

    def __len__(self) -> int:
        return len(self.mapped) + self._count

    def fit(self, sample: Embeddings) -> None:
        """Choose mean and steps, before anything is added."""
        self.mean = sample.mean(axis=0)
        self.steps = np.maximum(_ROOM / _ENDS * np.abs(sample - self.mean).max(axis=0), np.float32(_SMALLEST))
        self.variances = self.steps**2 / np.float32(12)

    def widen(self, embeddings: Embeddings) -> ByteCodes:
        """These codes, or a copy with longer steps on the axes that do not reach as far as these embeddings.

        Searches may go on meanwhile: of a million it takes seconds.
        """
        if not self.variances.any():
            self.fit(embeddings)
        reach = np.abs(embeddings - self.mean).max(axis=0)
        wanted = reach / (_ENDS * self.steps)
        if wanted.max() <= 1:
            return self
        axes = np.flatnonzero(wanted > _NEARLY)
        factors = np.exp2(np.maximum(np.ceil(np.log2(wanted[axes])), 1)).astype(np.float32)
        wider = ByteCodes(len(self.mean))
        wider.mean, wider.steps, wider.variances = self.mean, self.steps.copy(), self.variances.copy()
        wider.steps[axes] *= factors
        wider.variances[axes] += wider.steps[axes] ** 2 / 12
        wider.squares = self.squares.copy()
        wider.squares[axes] /= factors**2
        wider._new = np.concatenate([self.mapped, self._new[: self._count]])
        wider._count = len(self)
        for start in range(0, len(self), _WIDENED):
            codes = wider._new[start : start + _WIDENED]
            codes[:, axes] = np.rint((codes[:, axes] - np.float32(_ENDS + 1)) / factors) + (_ENDS + 1)
        return wider

    def keep(self, kept: Mask) -> ByteCodes:
        """A copy of these positions only, in memory."""
        fewer = ByteCodes(len(self.mean))
        fewer.mean, fewer.steps, fewer.variances = self.mean, self.steps, self.variances
        old, new = np.split(kept, [len(self.mapped)])
        fewer._new = np.concatenate([self.mapped[old], self._new[: self._count][new]])
        fewer._count = len(fewer._new)
        fewer.squares = self.squares * (len(fewer) / max(len(self), 1))
        return fewer

    def add(self, embeddings: Embeddings) -> None:
        """Add embeddings that widen() has made room for."""
        centred = embeddings - self.mean
        steps = np.rint(centred / self.steps)
        self.squares += (steps**2).sum(axis=0)
        count = self._count + len(steps)
        if count > len(self._new):
            new = np.empty((max(count, 2 * len(self._new)), len(self.mean)), np.uint8)
            new[: self._count] = self._new[: self._count]
            self._new = new
        self._new[self._count : count] = steps + (_ENDS + 1)
        self._count = count

    def estimate(self, query: Embeddings, positions: Ids) -> Embeddings:
        """Estimates for these positions. Their standard deviation is find_error()."""
        weights = query * self.steps
        products = np.empty(len(positions), np.float32)
        for start in range(0, len(positions), _BATCH):
            part = slice(start, start + _BATCH)
            products[part] = np.vecdot(self._take(positions[part]).astype(np.float32), weights)
        products -= (_ENDS + 1) * weights.sum()
        return products

    def find_error(self, query: Embeddings) -> float:
        """Standard deviation of estimate() from the inner product."""
        return float(np.sqrt(query**2 @ self.variances))

    def scan(self, query: Embeddings, depth: int, usable: Mask | None, cores: Cores) -> tuple[Embeddings, Ids, float]:
        """Estimates and positions of about the so many best of the usable ones, best first, and what all others stay
        below.
        """
        # FAISS looks at codes the quickest for a query in whole numbers, which loses some of it.
        weights = query * self.steps
        scale = _ENDS / max(float(np.abs(weights).max()), 1e-30)
        rounded = np.rint(weights * scale)
        lost = float(np.sqrt((weights - rounded / scale) ** 2 @ self.squares / max(len(self), 1)))

        def look(part: tuple[int, int]) -> list[tuple[Embeddings, Ids]]:
            return [
                _search(codes, rounded, depth, first, None if usable is None else usable[first : first + len(codes)])
                for first, codes in self._list_blocks(*part)
            ]

        middle = len(self) // 2
        halves = ((0, middle), (middle, len(self))) if len(self) >= _WORTH_HALVES else ((0, len(self)),)
        found = [block for blocks in cores.share(look, halves) for block in blocks]
        if not found:
            return np.empty(0, np.float32), np.empty(0, np.int64), -np.inf
        rough, positions = (np.concatenate(each) for each in zip(*found, strict=True))
        chosen = np.argsort(-rough, kind="stable")[:depth]
        floor = float(rough[chosen[-1]]) / scale + _DOUBT * lost if depth <= len(chosen) < len(self) else -np.inf
        positions = positions[chosen]
        products = self.estimate(query, positions)
        order = np.argsort(-products)
        return products[order], positions[order], floor

    def reconstruct(self, positions: Ids) -> Embeddings:
        """The embeddings at these positions, as well as their codes tell."""
        known: Embeddings = (self._take(positions) - np.float32(_ENDS + 1)) * self.steps + self.mean
        return known

    def write(self, path: Path) -> None:
        """Write all codes to a file. Raises OSError."""
        with path.open("wb") as file:
            for _, codes in self._list_blocks(0, len(self)):
                file.write(codes.data)

    def map(self, path: Path) -> None:
        """Leave the codes in a file that was written of them."""
        self.mapped = np.asarray(np.memmap(path, np.uint8, "r")).reshape(-1, len(self.mean))
        self._new, self._count = np.empty((0, len(self.mean)), np.uint8), 0

    def _take(self, positions: Ids) -> Codes:
        old = positions < len(self.mapped)
        if old.all():
            return np.take(self.mapped, positions, axis=0)
        codes: Codes = np.empty((len(positions), len(self.mean)), np.uint8)
        codes[old] = self.mapped[positions[old]]
        codes[~old] = self._new[positions[~old] - len(self.mapped)]
        return codes

    def _list_blocks(self, start: int, stop: int) -> Iterator[tuple[int, Codes]]:
        """The codes from one position to another, with the position of the first of each block."""
        first = 0
        for codes in (self.mapped, self._new[: self._count]):
            part = codes[max(start - first, 0) : max(stop - first, 0)]
            if len(part):
                yield max(start, first), part
            first += len(codes)


def _search(codes: Codes, query: Embeddings, count: int, first: int, usable: Mask | None) -> tuple[Embeddings, Ids]:
    index = faiss.IndexScalarQuantizer(
        codes.shape[1], faiss.ScalarQuantizer.QT_8bit_direct_signed, faiss.METRIC_INNER_PRODUCT
    )
    index.codes = faiss.MaybeOwnedVectorUInt8.create_view(faiss.swig_ptr(codes), codes.size, _MEMORY.owner)
    index.ntotal = len(codes)
    parameters = None
    if usable is not None:
        bits = np.packbits(usable, bitorder="little")
        selected = faiss.IDSelectorBitmap(bits)
        parameters = faiss.SearchParameters(sel=selected)
    products, positions = index.search(query[None], min(count, len(codes)), params=parameters)
    found = positions[0] >= 0
    return products[0][found], positions[0][found] + first
