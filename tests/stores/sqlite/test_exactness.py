"""The store against truth in double precision, on easy and on hard data, while the library changes.

Seeds and dimension are others than those of benchmarks/search.py, by which the index was tuned.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from image_search.records import ImageText, SearchFilter
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.sqlite import SqliteStore, faiss_index, index_sync
from tests.fakes import make_image

pytestmark = [pytest.mark.engine("sqlite"), pytest.mark.slow]

COUNT = 600
DIMENSION = 48
Rows = npt.NDArray[np.float32]


def make_unit(rows: npt.NDArray[np.float64]) -> Rows:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def make_structured(random: np.random.Generator, count: int) -> Rows:
    centres = np.random.default_rng(431).standard_normal((40, DIMENSION))
    return make_unit(centres[random.integers(0, 40, count)] + 0.5 * random.standard_normal((count, DIMENSION)) + 0.8)


def make_words(random: np.random.Generator, count: int) -> Rows:
    """Beside the structured ones: they only lean towards them, as texts of two-tower models do."""
    return make_unit(make_structured(random, count) - 0.3 + 0.1 * random.standard_normal((count, DIMENSION)))


def make_unstructured(random: np.random.Generator, count: int) -> Rows:
    return make_unit(random.standard_normal((count, DIMENSION)))


def make_near_duplicates(random: np.random.Generator, count: int) -> Rows:
    base = make_structured(np.random.default_rng(432), 12).astype(np.float64)
    return make_unit(base[random.integers(0, 12, count)] + 0.0005 * random.standard_normal((count, DIMENSION)))


SETS = {
    "structured": (make_structured, make_structured),
    "words": (make_structured, make_words),
    "unstructured": (make_unstructured, make_unstructured),
    "near duplicates": (make_near_duplicates, make_near_duplicates),
}


class Library:
    """A store, and what it holds as plain arrays."""

    def __init__(self, store: SqliteStore, queries: Rows) -> None:
        self.store = store
        self.queries = queries
        self.embeddings: dict[int, Rows] = {}
        self.rare: set[int] = set()

    def add(self, embeddings: Rows) -> None:
        first = len(self.embeddings) + 10_000 * len(self.rare)
        texts = [ImageText(generator="rare" if n % 9 == 0 else "often") for n in range(len(embeddings))]
        images = [make_image(f"{first}-{n}.png", text) for n, text in enumerate(texts)]
        ids = self.store.add_images(1, images, embeddings)
        self.embeddings.update(zip(ids, embeddings, strict=True))
        self.rare.update(ids[::9])

    def check(self, filter: SearchFilter | None = None, count: int = 16) -> None:
        """Every query finds just the nearest, in order; equally near ones by image_id."""
        chosen = sorted(self.embeddings if filter is None else self.rare & self.embeddings.keys())
        ids = np.array(chosen)
        rows = np.array([self.embeddings[i] for i in chosen]).astype(np.float64)
        for query in self.queries:
            distances = -(rows * query.astype(np.float64)).sum(axis=1).astype(np.float32)
            wanted = ids[np.lexsort((ids, distances))][:count].tolist()
            hits = self.store.search_embedding(1, query, count, filter=filter or SearchFilter())
            assert [hit.image_id for hit in hits] == wanted
            assert hits.total == len(ids)


@pytest.fixture(params=["few lists", "many lists", "codes", "uncompressed"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """So small a library takes each of the ways that larger ones take."""
    monkeypatch.setattr(index_sync, "SMALL", 10 * COUNT if request.param == "uncompressed" else 50)
    if request.param.endswith("lists"):
        monkeypatch.setattr(faiss_index, "_PICKED", 96)
        monkeypatch.setattr(faiss_index, "_TRIED", 48)
        monkeypatch.setattr(faiss_index, "_SCANNED", 1.0)
    if request.param == "many lists":
        monkeypatch.setattr(faiss_index, "count_lists", lambda count: count // 24)


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize("name", SETS)
def test_every_nearest_image_is_found_while_images_come_and_go(name: str, tmp_path: Path) -> None:
    make_rows: Callable[[np.random.Generator, int], Rows]
    make_rows, make_queries = SETS[name]
    random = np.random.default_rng(433)
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library.db")) as store:
        assert isinstance(store, SqliteStore)
        store.get_or_create_model("fake", "1", DIMENSION)
        library = Library(store, make_queries(np.random.default_rng(434), 12))
        library.add(make_rows(random, COUNT))
        library.check()
        store.index.wait()
        library.check()
        for step in range(2):
            library.add(make_rows(random, 40))
            gone = [int(i) for i in random.choice(list(library.embeddings), 30, replace=False)]
            parked = {i: library.embeddings.pop(i) for i in gone}
            store.trash_images(gone)
            library.check()
            library.check(SearchFilter(generator="rare"))
            if step == 0:
                store.restore_images(gone)
                library.embeddings |= parked
            else:
                store.empty_trash(gone)
            library.check()
            store.index.wait()
            library.check(count=100)
