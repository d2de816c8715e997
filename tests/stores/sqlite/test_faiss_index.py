"""The index proposes, the rows decide: together they find what a look at every row finds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import pytest

from image_search.stores.sqlite import faiss_index
from image_search.stores.sqlite.faiss_index import EmbeddingIndex
from image_search.stores.sqlite.index_sync import load_index, remove_index, save_index
from image_search.stores.sqlite.search import Rows, find_nearest
from tests.fakes import make_embeddings

COUNT = 6000
DIMENSION = 64


class FakeTable:
    """Rows in memory; embedding_id 2, 4, 6, ... and image_ids that run the other way."""

    def __init__(self, embeddings: np.ndarray) -> None:
        self.ids = np.arange(1, len(embeddings) + 1) * 2
        self.image_ids = self.ids[::-1].copy()
        self.embeddings = embeddings
        self.rows_read = 0

    def read(self, embedding_ids: np.ndarray) -> Rows:
        return self._take(np.isin(self.ids, embedding_ids))

    def read_after(self, embedding_id: int) -> Iterator[Rows]:
        for start in range(0, len(self.ids), 1000):
            chunk = np.zeros(len(self.ids), np.bool_)
            chunk[start : start + 1000] = True
            yield self._take(chunk & (self.ids > embedding_id))

    def remove(self, positions: np.ndarray) -> None:
        stays = ~np.isin(np.arange(len(self.ids)), positions)
        self.ids, self.image_ids = self.ids[stays], self.image_ids[stays]
        self.embeddings = self.embeddings[stays]

    def rank(self, query: np.ndarray, allowed: np.ndarray | None = None) -> np.ndarray:
        """All image_ids by distance, by looking at every row."""
        chosen = np.ones(len(self.ids), np.bool_) if allowed is None else np.isin(self.ids, allowed)
        distances = -(self.embeddings[chosen].astype(np.float64) * query.astype(np.float64)).sum(axis=1)
        return self.image_ids[chosen][np.lexsort((self.image_ids[chosen], distances.astype(np.float32)))]

    def _take(self, chosen: np.ndarray) -> Rows:
        self.rows_read += int(chosen.sum())
        return Rows(self.ids[chosen], self.image_ids[chosen], self.embeddings[chosen])


WAYS = ["uncompressed", pytest.param("few lists", marks=pytest.mark.slow), "many lists"]


def make_unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def make_clusters(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Clusters in a narrow cone with decaying variances, as embeddings of photographs lie; half of the queries are
    like them and half like words: far from all of them."""
    scale = 1 / np.arange(1, DIMENSION + 1) ** 0.5
    mean = random.standard_normal(DIMENSION)
    centres = random.standard_normal((60, DIMENSION)) * scale
    rows = centres[random.integers(0, 60, COUNT)] + 0.6 * random.standard_normal((COUNT, DIMENSION)) * scale + mean
    alike = rows[:10] + 0.3 * random.standard_normal((10, DIMENSION)) * scale
    words = 0.35 * centres[:10] - mean + 0.2 * random.standard_normal((10, DIMENSION)) * scale
    return make_unit(rows), make_unit(np.concatenate([alike, words]))


def make_even(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return make_unit(random.standard_normal((COUNT, DIMENSION))), make_unit(random.standard_normal((20, DIMENSION)))


def make_heavy_tails(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    rows = random.standard_t(1.5, (COUNT + 20, DIMENSION))
    return make_unit(rows[20:]), make_unit(rows[:20])


def make_stragglers(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Clusters of which one in a hundred lies twice as far from the centre as the others."""
    scale = 1 / np.arange(1, DIMENSION + 1) ** 0.5
    centres = random.standard_normal((60, DIMENSION)) * scale
    far = np.where(random.random((COUNT, 1)) < 0.01, 2.2, 1)
    rows = centres[random.integers(0, 60, COUNT)] + 0.5 * far * random.standard_normal((COUNT, DIMENSION)) * scale
    words = (
        0.3 * centres[:40] + random.standard_normal((40, DIMENSION)) * 0.2 * scale + random.standard_normal(DIMENSION)
    )
    return make_unit(rows), make_unit(words)


def make_outliers(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    rows, queries = make_clusters(random)
    far = random.standard_normal((COUNT // 20, DIMENSION)) * 0.01
    far[np.arange(len(far)), random.integers(0, 4, len(far))] += 1
    rows[: len(far)] = make_unit(far)
    return rows, make_unit(np.concatenate([queries[:10], far[:10] + 0.02 * random.standard_normal((10, DIMENSION))]))


def make_near_duplicates(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    base, _ = make_clusters(random)
    rows = np.repeat(base[:12], COUNT // 12, axis=0) + 0.003 * random.standard_normal((COUNT, DIMENSION))
    return make_unit(rows), make_unit(base[:20] + 0.01 * random.standard_normal((20, DIMENSION)))


def make_series(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Series of all but equal rows, asked for from far away: one sketch stands for a whole series."""
    scale = 1 / np.arange(1, DIMENSION + 1) ** 0.5
    base = random.standard_normal((60, DIMENSION)) * scale
    rows = np.repeat(base, COUNT // 60, axis=0) + 0.0005 * random.standard_normal((COUNT, DIMENSION))
    words = 0.2 * base[:40] + 0.2 * random.standard_normal((40, DIMENSION)) * scale + random.standard_normal(DIMENSION)
    return make_unit(rows), make_unit(words)


SETS = [
    make_clusters,
    make_even,
    make_stragglers,
    pytest.param(make_heavy_tails, marks=pytest.mark.slow),
    pytest.param(make_outliers, marks=pytest.mark.slow),
    pytest.param(make_near_duplicates, marks=pytest.mark.slow),
]


def make_index(table: FakeTable, way: str) -> EmbeddingIndex:
    """An index without compression, or one of few or of many lists."""
    sample = table.embeddings[:: max(1, len(table.ids) // 3000)]
    with mock.patch.object(faiss_index, "count_lists", lambda count: 2 if way == "few lists" else count // 24):
        compressed = way != "uncompressed"
        index = EmbeddingIndex.fit(sample, len(table.ids)) if compressed else EmbeddingIndex(table.embeddings.shape[1])
    index.add(table.ids, table.embeddings)
    return index


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make_set", SETS, ids=lambda make: make.__name__[5:])
def test_nearest_are_exact_on_easy_and_on_hard_data(make_set, way):
    rows, queries = make_set(np.random.default_rng(0))
    table = FakeTable(rows)
    index = make_index(table, way)
    for query in queries:
        found = find_nearest(query, 16, index, table)
        assert found.image_ids.tolist() == table.rank(query)[:16].tolist()
        assert found.distances == pytest.approx(np.sort(-(rows @ query))[:16], abs=1e-6)


@pytest.mark.parametrize("way", ["few lists", "many lists"])
def test_series_of_all_but_equal_images_hide_no_other_series(way, monkeypatch):
    monkeypatch.setattr(faiss_index, "_PICKED", 96)
    monkeypatch.setattr(faiss_index, "_TRIED", 48)
    monkeypatch.setattr(faiss_index, "_SCANNED", 1.0)
    rows, queries = make_series(np.random.default_rng(0))
    table = FakeTable(rows)
    index = make_index(table, way)
    for query in queries:
        assert find_nearest(query, 16, index, table).image_ids.tolist() == table.rank(query)[:16].tolist()


@pytest.fixture(params=WAYS)
def way(request) -> str:
    return request.param


@pytest.fixture
def table() -> FakeTable:
    return FakeTable(make_clusters(np.random.default_rng(1))[0])


@pytest.fixture
def index(table, way) -> EmbeddingIndex:
    return make_index(table, way)


@pytest.fixture(scope="module", params=WAYS)
def unchanged(request) -> tuple[FakeTable, EmbeddingIndex]:
    """For tests that only search."""
    table = FakeTable(make_clusters(np.random.default_rng(1))[0])
    return table, make_index(table, request.param)


@pytest.mark.parametrize("share", [0.0005, 0.01, 0.05, 0.3, 0.9])
def test_filter_leaves_the_result_as_complete_as_without(unchanged, share):
    table, index = unchanged
    random = np.random.default_rng(2)
    allowed = table.ids[random.random(COUNT) < share]
    for query in table.embeddings[:5]:
        wanted = table.rank(query, allowed)[:16]
        assert find_nearest(query, 16, index, table, allowed).image_ids.tolist() == wanted.tolist()
    assert find_nearest(query, 16, index, table, allowed[:0]).image_ids.size == 0


@pytest.mark.parametrize("count", [1, 100, 1000, 3000, COUNT, 2 * COUNT])
def test_any_number_of_neighbours_is_exact(unchanged, count):
    table, index = unchanged
    query = make_embeddings(1, DIMENSION)[0]
    assert find_nearest(query, count, index, table).image_ids.tolist() == table.rank(query)[:count].tolist()


def test_few_rows_are_read_where_the_data_is_easy(unchanged):
    table, index = unchanged
    table.rows_read = 0
    find_nearest(table.embeddings[5], 16, index, table)
    assert table.rows_read < COUNT // 10


def test_rows_that_the_index_lacks_are_read_from_the_table(table, way):
    whole = table.embeddings, table.ids, table.image_ids
    table.embeddings, table.ids, table.image_ids = (part[:4000] for part in whole)
    index = make_index(table, way)
    table.embeddings, table.ids, table.image_ids = whole
    for query in table.embeddings[[10, 4500, 5999]]:
        assert find_nearest(query, 16, index, table).image_ids.tolist() == table.rank(query)[:16].tolist()
        allowed = table.ids[::3]
        wanted = table.rank(query, allowed)[:16].tolist()
        assert find_nearest(query, 16, index, table, allowed).image_ids.tolist() == wanted


def test_rows_that_the_table_lost_are_not_found_whether_the_index_knows_or_not(table, index):
    query = table.embeddings[3]
    nearest = np.argsort(-(table.embeddings @ query))[:200]
    lost = table.ids[nearest]
    table.remove(nearest)
    for _ in range(2):
        assert find_nearest(query, 16, index, table).image_ids.tolist() == table.rank(query)[:16].tolist()
        index.remove(np.concatenate([lost, [1, 10**9]]), 1)
    assert index.dead_share == pytest.approx(200 / COUNT)


def test_compacted_index_holds_no_lost_rows_and_takes_new_ones(table, way):
    whole = table.embeddings, table.ids, table.image_ids
    table.embeddings, table.ids, table.image_ids = (part[:4000] for part in whole)
    index = make_index(table, way)
    lost = np.random.default_rng(3).permutation(4000)[:1500]
    index.remove(table.ids[lost], 1)
    index.compact()
    assert (len(index), index.dead_share) == (2500, 0)
    if index.lists:
        assert index.lists.sums[:, 0].sum() == index.lists.sketches.ntotal == 2500
    index.add(whole[1][4000:], whole[0][4000:])
    table.embeddings, table.ids, table.image_ids = whole
    table.remove(lost)
    for query in table.embeddings[[10, 2600, 4499]]:
        assert find_nearest(query, 16, index, table).image_ids.tolist() == table.rank(query)[:16].tolist()
    index.remove(table.ids, 2)
    index.compact()
    assert len(index) == len(index.propose(table.embeddings[0], 16, 100).embedding_ids) == 0


def test_equal_rows_come_by_image_id(way):
    rows = np.repeat(make_embeddings(3, DIMENSION), 400, axis=0)
    table = FakeTable(rows)
    index = make_index(table, way)
    for count in (16, 450):
        query = make_embeddings(1, DIMENSION, seed=5)[0]
        assert find_nearest(query, count, index, table).image_ids.tolist() == table.rank(query)[:count].tolist()


def test_empty_index_and_an_empty_table_find_nothing():
    table = FakeTable(np.empty((0, DIMENSION), np.float32))
    assert find_nearest(make_embeddings(1, DIMENSION)[0], 5, EmbeddingIndex(DIMENSION), table).image_ids.size == 0


@pytest.mark.slow
@pytest.mark.parametrize("dimension", [2, 7, 512])
def test_every_dimension_can_be_compressed(dimension):
    table = FakeTable(make_embeddings(2000, dimension))
    index = make_index(table, "many lists")
    query = make_embeddings(1, dimension, seed=1)[0]
    assert find_nearest(query, 16, index, table).image_ids.tolist() == table.rank(query)[:16].tolist()


def test_compressed_index_takes_less_than_200_bytes_an_image_beside_its_codes():
    table = FakeTable(make_embeddings(600, 768))
    index = make_index(table, "many lists")
    assert index.lists.sketches.code_size + index.embedding_ids.itemsize + index.alive.itemsize < 200


@pytest.mark.slow
def test_searches_go_on_while_embeddings_come_and_go(table, way):
    index = make_index(table, way)
    random = np.random.default_rng(3)
    more = make_unit(random.standard_normal((3000, DIMENSION)))
    ids = np.arange(3000) + 10**6
    query = table.embeddings[8]
    wanted = table.rank(query)[:16].tolist()
    stop = threading.Event()

    def search() -> None:
        while not stop.is_set():
            assert find_nearest(query, 16, index, table).image_ids.tolist() == wanted

    with ThreadPoolExecutor(3) as pool:
        searches = [pool.submit(search) for _ in range(3)]
        for start in range(0, 3000, 300):  # the table does not hold them: they must not show
            index.add(ids[start : start + 300], more[start : start + 300])
            index.remove(ids[start : start + 100], 1)
        stop.set()
        for result in searches:
            result.result()


def test_image_that_the_index_lacks_and_that_is_nearest_leaves_little_to_look_at(table, monkeypatch):
    monkeypatch.setattr(faiss_index, "_PICKED", 96)
    index = make_index(table, "many lists")
    query = make_embeddings(1, DIMENSION, 99)[0]  # unlike every image, so that all would have to be looked at
    near = Rows(np.array([10**6]), np.array([7]), query[None])
    monkeypatch.setattr(table, "read_after", lambda _: iter([near]))
    monkeypatch.setattr(index.codes, "scan", mock.Mock(wraps=index.codes.scan))
    monkeypatch.setattr(index.codes, "estimate", mock.Mock(wraps=index.codes.estimate))
    assert find_nearest(query, 1, index, table).image_ids.tolist() == [7]
    assert not index.codes.scan.called
    assert sum(len(call.args[1]) for call in index.codes.estimate.call_args_list) < COUNT // 10


# --- the saved copy ---


@pytest.fixture
def saved(table, tmp_path):
    index = make_index(table, "many lists")
    index.remove(table.ids[:10], 77)
    save_index(index, tmp_path / "index")
    return index, tmp_path / "index"


def test_saved_index_proposes_the_same(table, saved):
    index, path = saved
    loaded = load_index(path, DIMENSION)
    assert (loaded.watermark, loaded.last_removal, loaded.trained_on) == (index.watermark, 77, COUNT)
    assert loaded.dead_share == index.dead_share
    for query in table.embeddings[20:25]:
        first, second = index.propose(query, 16, 100), loaded.propose(query, 16, 100)
        assert first.embedding_ids.tolist() == second.embedding_ids.tolist()
        assert first.scores.tolist() == second.scores.tolist()
    assert not loaded.lists.sketches.precomputed_table.size()  # which FAISS would make of the lists' numbers
    loaded.add(np.array([10**6]), table.embeddings[:1])
    assert len(loaded) == COUNT + 1


def test_saving_again_leaves_three_files(saved):
    index, path = saved
    save_index(index, path)
    assert sorted(file.name for file in path.parent.iterdir()) == ["index.codes", "index.faiss", "index.npz"]
    remove_index(path)
    remove_index(path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("name", ["index.codes", "index.faiss", "index.npz"])
def test_damaged_copy_is_left_aside(saved, name):
    index, path = saved
    file = path.with_name(name)
    content = file.read_bytes()
    for place in range(50, len(content), len(content) // 20):
        file.write_bytes(content[:place])
        assert load_index(path, DIMENSION) is None
        file.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        loaded = load_index(path, DIMENSION)  # a flipped bit of the archive may lie where it does no harm
        assert loaded is None or (name == "index.npz" and np.array_equal(loaded.alive, index.alive))
    file.unlink()
    assert load_index(path, DIMENSION) is None


def test_parts_of_different_copies_are_left_aside(table, saved):
    index, path = saved
    old = {file: file.read_bytes() for file in path.parent.iterdir()}
    index.add(np.array([10**6]), table.embeddings[:1])
    save_index(index, path)
    for file, content in old.items():
        new = file.read_bytes()
        file.write_bytes(content)
        assert load_index(path, DIMENSION) is None
        file.write_bytes(new)
    assert load_index(path, DIMENSION) is not None


def test_codes_stay_in_the_file_they_were_saved_to_while_images_come_and_go(table, saved):
    index, path = saved
    assert len(index.codes.mapped) == COUNT
    loaded = load_index(path, DIMENSION)
    loaded.remove(table.ids[20:21], 78)
    loaded.add(np.array([10**6, 10**6 + 1]), table.embeddings[:2])
    assert len(loaded.codes.mapped) == COUNT
    save_index(loaded, path)
    assert len(loaded.codes.mapped) == COUNT + 2
    again = load_index(path, DIMENSION)
    for query in table.embeddings[:3]:
        first, second = loaded.propose(query, 16, 100), again.propose(query, 16, 100)
        assert first.scores.tolist() == second.scores.tolist()


def test_copy_of_another_dimension_is_left_aside(saved):
    _, path = saved
    assert load_index(path, DIMENSION + 1) is None
