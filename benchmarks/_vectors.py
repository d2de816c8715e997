"""Vectors for measuring searches, made by a seeded program: 768 dimensions, length 1, easy to hard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Draw = Callable[[np.random.Generator, int], Vectors]

DIMENSION = 768
QUERIES = 1000
_CHUNK = 20_000


def make_vectors(kind: str, count: int, folder: Path) -> tuple[Vectors, dict[str, Vectors]]:
    """count vectors (kept as a file in the folder, read from there when it exists) and queries by name."""
    stored, asked = _KINDS[kind](np.random.default_rng(0))
    path = folder / f"{kind}-{count}.npy"
    if not path.exists():
        partial = path.with_suffix(".part")
        vectors = np.lib.format.open_memmap(partial, "w+", np.float32, (count, DIMENSION))
        for start in range(0, count, _CHUNK):
            vectors[start : start + _CHUNK] = stored(np.random.default_rng([1, start]), min(_CHUNK, count - start))
        vectors.flush()
        partial.rename(path)
    queries = {name: ask(np.random.default_rng(2), QUERIES) for name, ask in asked.items()}
    return np.load(path, mmap_mode="r"), queries


def _make_unit(rows: npt.NDArray[np.float64]) -> Vectors:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


# Each kind returns a function for the stored vectors and one for each way of asking.


def _make_clustered(random: np.random.Generator) -> tuple[Draw, dict[str, Draw]]:
    """2,000 clusters in a narrow cone with decaying variances, as photographs' embeddings lie. Words lie elsewhere:
    beside the cone, only leaning towards the clusters (the modality gap of two-tower models)."""
    scale = 1 / np.arange(1, DIMENSION + 1) ** 0.5
    cone = random.standard_normal(DIMENSION) * 0.04 * np.linalg.norm(scale)
    other_cone = random.standard_normal(DIMENSION) * 0.06 * np.linalg.norm(scale)
    centres = random.standard_normal((2000, DIMENSION)) * scale

    def draw(random: np.random.Generator, count: int) -> Vectors:
        noise = 0.6 * random.standard_normal((count, DIMENSION)) * scale
        return _make_unit(centres[random.integers(0, 2000, count)] + noise + cone)

    def draw_words(random: np.random.Generator, count: int) -> Vectors:
        noise = 0.2 * random.standard_normal((count, DIMENSION)) * scale
        return _make_unit(0.35 * centres[random.integers(0, 2000, count)] + noise + other_cone)

    return draw, {"images": draw, "words": draw_words}


def _make_even(_: np.random.Generator) -> tuple[Draw, dict[str, Draw]]:
    """No structure at all: every vector is about as far from every other."""

    def draw(random: np.random.Generator, count: int) -> Vectors:
        return _make_unit(random.standard_normal((count, DIMENSION)))

    return draw, {"images": draw}


def _make_heavy_tails(_: np.random.Generator) -> tuple[Draw, dict[str, Draw]]:
    """A few huge coordinates in every vector."""

    def draw(random: np.random.Generator, count: int) -> Vectors:
        return _make_unit(random.standard_t(1.5, (count, DIMENSION)))

    return draw, {"images": draw}


def _make_outliers(random: np.random.Generator) -> tuple[Draw, dict[str, Draw]]:
    """Clusters, and one vector in twenty far away from all of them."""
    draw_clustered, asked = _make_clustered(random)

    def draw_far(random: np.random.Generator, count: int) -> Vectors:
        rows = random.standard_normal((count, DIMENSION)) * 0.01
        rows[np.arange(count), random.integers(0, 8, count)] += 1
        return _make_unit(rows)

    def draw(random: np.random.Generator, count: int) -> Vectors:
        rows = draw_clustered(random, count)
        far = random.random(count) < 0.05
        rows[far] = draw_far(random, int(far.sum()))
        return rows

    return draw, {**asked, "far": draw_far}


def _make_near_duplicates(random: np.random.Generator) -> tuple[Draw, dict[str, Draw]]:
    """Series of 500 pictures that are all but the same."""
    draw_clustered, asked = _make_clustered(random)
    base = draw_clustered(random, 20_000).astype(np.float64)

    def draw(random: np.random.Generator, count: int) -> Vectors:
        chosen = np.repeat(random.integers(0, len(base), -(-count // 500)), 500)[:count]
        return _make_unit(base[chosen] + 0.001 * random.standard_normal((count, DIMENSION)))

    return draw, {"images": draw, "words": asked["words"]}


_KINDS = {
    "clustered": _make_clustered,
    "even": _make_even,
    "heavy-tails": _make_heavy_tails,
    "outliers": _make_outliers,
    "near-duplicates": _make_near_duplicates,
}
KINDS = tuple(_KINDS)
