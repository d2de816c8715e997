"""The index of the SQLite store: built and saved in the background, and never trusted more than the table."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from image_search.records import ImageText, SearchFilter
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.sqlite import SqliteStore, index_sync
from image_search.stores.sqlite.faiss_index import EmbeddingIndex
from tests.contract.filters import FilterContract
from tests.contract.search import SearchContract, list_ids
from tests.contract.sharing import SharingContract
from tests.fakes import make_embeddings, make_image

pytestmark = pytest.mark.engine("sqlite")

SMALL = 40
COUNT = 600


def open_library(path: Path) -> SqliteStore:
    store = open_store(Settings(database_url=f"sqlite:///{path}"))
    assert isinstance(store, SqliteStore)
    return store


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A library is large enough for the compressed index as soon as it has SMALL images."""
    monkeypatch.setattr(index_sync, "SMALL", SMALL)


@pytest.mark.slow
class TestCompressedStore(SearchContract, FilterContract, SharingContract):
    """The contract of searching holds with the compressed index, too."""

    @pytest.fixture
    def library(self, tmp_path: Path) -> Path:
        return tmp_path / "library.db"

    def open_library(self, library: Path) -> SqliteStore:
        return open_library(library)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a library of COUNT images, closed."""
    folder = tmp_path_factory.mktemp("made")
    with open_library(folder / "library.db") as store:
        model = store.get_or_create_model("fake", "1", 16)
        images = [make_image(f"{n}.png", ImageText(generator="a" if n % 2 else "b")) for n in range(COUNT)]
        store.add_images(model.model_id, images, make_embeddings(COUNT))
    return folder


@pytest.fixture
def path(tmp_path: Path, made: Path) -> Path:
    """A library of its own for each test."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "library.db"


QUERY = make_embeddings(1, seed=99)[0]


def check_search(store: SqliteStore, embeddings: dict[int, np.ndarray]) -> None:
    """The store finds what a look at all embeddings finds."""
    ids = np.array(list(embeddings))
    order = np.argsort(-(np.array(list(embeddings.values())) @ QUERY))
    assert list_ids(store.search_embedding(1, QUERY, 20)) == ids[order][:20].tolist()


def list_embeddings(count: int = COUNT) -> dict[int, np.ndarray]:
    return dict(enumerate(make_embeddings(count), 1))


def get_index(store: SqliteStore) -> EmbeddingIndex:
    store.index.wait()
    return store.index._indexes[1]


def find_copy(path: Path) -> Path:
    return path.with_name("library.db-index-1.faiss")


def test_first_search_is_right_before_the_index_is_there(path):
    with open_library(path) as store:
        check_search(store, list_embeddings())
        index = get_index(store)
        assert index.is_compressed
        assert len(index) == COUNT
        check_search(store, list_embeddings())
        assert store.index.describe() == {1: "600 embeddings, compressed"}


def test_small_library_is_kept_uncompressed_and_not_saved(path, monkeypatch):
    monkeypatch.setattr(index_sync, "SMALL", 10 * COUNT)
    with open_library(path) as store:
        check_search(store, list_embeddings())
        assert not get_index(store).is_compressed
        check_search(store, list_embeddings())
    assert not find_copy(path).exists()


def test_library_that_grows_is_compressed(path, monkeypatch):
    monkeypatch.setattr(index_sync, "SMALL", COUNT + 5)
    with open_library(path) as store:
        check_search(store, list_embeddings())
        assert not get_index(store).is_compressed
        more = [make_image(f"more {n}.png") for n in range(10)]
        store.add_images(1, more, make_embeddings(10, seed=5))
        embeddings = list_embeddings() | dict(enumerate(make_embeddings(10, seed=5), COUNT + 1))
        check_search(store, embeddings)
        assert get_index(store).is_compressed
        check_search(store, embeddings)


def test_second_start_takes_the_saved_copy(path, monkeypatch):
    with open_library(path) as store:
        check_search(store, list_embeddings())
        get_index(store)
    assert find_copy(path).is_file()
    monkeypatch.setattr(EmbeddingIndex, "fit", None)  # another fit would fail
    with open_library(path) as store:
        store.add_images(1, [make_image("late.png")], QUERY[None])
        store.delete_images([5])
        embeddings = list_embeddings() | {COUNT + 1: QUERY}
        del embeddings[5]
        for _ in range(2):
            check_search(store, embeddings)
            index = get_index(store)
        assert index.is_compressed
        assert len(index) == COUNT + 1
        assert index.dead_share == pytest.approx(1 / (COUNT + 1))


def test_damaged_copy_is_built_anew(path):
    with open_library(path) as store:
        check_search(store, list_embeddings())
        get_index(store)
    copy = find_copy(path)
    copy.write_bytes(copy.read_bytes()[:-1000])
    with open_library(path) as store:
        check_search(store, list_embeddings())
        assert len(get_index(store)) == COUNT
    assert len(copy.read_bytes()) > 1000


@pytest.mark.parametrize("count", [COUNT - 100, COUNT, COUNT + 100])
def test_copy_of_another_library_is_built_anew(path, count):
    with open_library(path) as store:
        check_search(store, list_embeddings())
        get_index(store)
    for file in path.parent.glob("library.db*"):
        if file != find_copy(path):
            file.unlink()
    shutil.rmtree(path.with_suffix(".originals"))
    with open_library(path) as store:
        store.get_or_create_model("fake", "1", 16)
        store.add_images(1, [make_image(f"other {n}.png") for n in range(count)], make_embeddings(count, seed=8))
        embeddings = dict(enumerate(make_embeddings(count, seed=8), 1))
        check_search(store, embeddings)
        assert len(get_index(store)) == count
        check_search(store, embeddings)


def test_index_follows_images_into_the_trash_and_back(path):
    with open_library(path) as store, open_library(path) as other:
        check_search(store, list_embeddings())
        get_index(store)
        trashed = list(range(1, 61))
        other.trash_images(trashed)
        live = {image_id: row for image_id, row in list_embeddings().items() if image_id not in trashed}
        check_search(store, live)
        assert get_index(store).dead_share == pytest.approx(0.1)
        check_search(store, live)
        other.restore_images(trashed)
        check_search(store, list_embeddings())
        assert len(get_index(store)) == COUNT + 60
        check_search(store, list_embeddings())


def test_index_with_many_dead_gives_their_room_back(path):
    with open_library(path) as store:
        check_search(store, list_embeddings())
        store.delete_images(list(range(1, 201)))
        embeddings = {image_id: row for image_id, row in list_embeddings().items() if image_id > 200}
        check_search(store, embeddings)
        store.index.wait()
        check_search(store, embeddings)
        store.delete_images([201])
        del embeddings[201]
        check_search(store, embeddings)
        assert get_index(store).dead_share == pytest.approx(1 / 400)
        check_search(store, embeddings)


def test_library_that_shrinks_to_a_few_is_no_longer_compressed(path):
    with open_library(path) as store:
        check_search(store, list_embeddings())
        assert get_index(store).is_compressed
        left = {image_id: row for image_id, row in list_embeddings().items() if image_id >= COUNT - 20}
        store.delete_images(list(range(1, COUNT - 20)))
        check_search(store, left)
        store.index.wait()
        store.delete_images([COUNT - 20])
        del left[COUNT - 20]
        check_search(store, left)
        assert not get_index(store).is_compressed
        check_search(store, left)


def test_removed_model_takes_its_copy_along(path):
    with open_library(path) as store:
        store.search_embedding(1, QUERY)
        get_index(store)
        other = store.get_or_create_model("other", "1", 16)
        store.set_current_model(other.model_id)
        assert find_copy(path).exists()
        store.remove_model(1)
        assert not find_copy(path).exists()


def test_copy_that_cannot_be_written_changes_nothing(path):
    find_copy(path).mkdir()
    with open_library(path) as store:
        check_search(store, list_embeddings())
        assert get_index(store).is_compressed
        check_search(store, list_embeddings())


def test_filter_sees_what_the_index_does_not_hold_yet(path, monkeypatch):
    with open_library(path) as store:
        check_search(store, list_embeddings())
        get_index(store)
        monkeypatch.setattr(index_sync.IndexSync, "_bring_up_to_date", lambda *_: None)
        [late] = store.add_images(1, [make_image("late.png", ImageText(generator="a"))], QUERY[None])
        assert list_ids(store.search_embedding(1, QUERY, 1, filter=SearchFilter(generator="a"))) == [late]
        assert late not in list_ids(store.search_embedding(1, QUERY, 100, filter=SearchFilter(generator="b")))


def test_closing_while_the_index_is_built_harms_nothing(path):
    with open_library(path) as store:
        store.search_embedding(1, QUERY)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
