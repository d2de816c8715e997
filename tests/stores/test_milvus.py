"""The contract on Milvus, and what only Milvus promises: an order of writes that leaves nothing half visible."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from image_search.errors import SchemaError, SettingsError, StoreError, StoreUnavailable
from image_search.records import EmbeddingModel, ImageText, SearchFilter
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from image_search.stores.milvus import MilvusStore
from image_search.stores.milvus.rows import name_preview
from tests.contract import ImageStoreContract
from tests.fakes import make_embeddings, make_image, make_images, milvus_server, registrar

pytestmark = pytest.mark.engine("milvus")
only_lite = pytest.mark.skipif(bool(milvus_server.url), reason="about Milvus Lite")


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Settings]:
    made = milvus_server.make_library(tmp_path / "originals")
    yield made
    milvus_server.remove_library(made)


def list_files(library: Settings) -> set[str]:
    return {path.name for path in Path(library.originals_url).rglob("*") if path.is_file()}


def name_files(sha256: str) -> set[str]:
    return {sha256, name_preview(sha256)}


class TestMilvusStore(ImageStoreContract):
    @pytest.fixture
    def library(self, library: Settings) -> Settings:
        return library

    def open_library(self, library: Settings) -> ImageStore:
        return open_store(library)

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
    def test_registration_killed_at_any_moment_ends_like_a_clean_run(self, library: Settings) -> None:
        registrar.kill_and_finish(library, lambda: milvus_server.release(library))
        registrar.check_library(library, name_files)

    def test_files_go_with_their_image(self, store: ImageStore, model: EmbeddingModel, library: Settings) -> None:
        image_ids = store.add_images(model.model_id, make_images(3), make_embeddings(3))
        store.delete_images(image_ids[:2])
        assert list_files(library) == name_files(make_images(3)[2].content_sha256)

    def test_texts_too_long_for_a_field_are_kept_and_found(
        self, store: ImageStore, model: EmbeddingModel, library: Settings
    ) -> None:
        endless = "".join(chr(0x4E00 + n * 7919 % 20_000) for n in range(60_000))
        noise = np.random.default_rng(0).bytes(60_000).hex()
        texts = [
            ImageText(description=endless),
            ImageText(raw={"workflow": noise}),
            ImageText(description="x" * 70_000),
        ]
        images = [make_image(f"{n}.png", text) for n, text in enumerate(texts)]
        image_ids = store.add_images(model.model_id, images, make_embeddings(3))
        assert [store.get_image(image_id).text for image_id in image_ids] == texts
        late = endless[50_000:50_006]
        assert [hit.image_id for hit in store.search_words([late])] == [image_ids[0]]
        assert [hit.image_id for hit in store.search_words([endless[:4], "png"])] == [image_ids[0]]
        found = store.search_embedding(model.model_id, make_embeddings(1)[0], filter=SearchFilter(words=(late,)))
        assert [hit.image_id for hit in found] == [image_ids[0]]
        assert store.search_words([endless[50_000:50_003] + "犬"]) == []
        store.set_text(image_ids[0], ImageText(description="短い"))
        assert store.search_words([late]) == []
        store.delete_images(image_ids)
        assert list_files(library) == set()

    def test_many_images_are_put_in_order_a_part_at_a_time(
        self, store: ImageStore, model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for size in ("_WINDOW", "_PAGE", "_LOOKED_UP"):
            monkeypatch.setattr(f"image_search.stores.milvus.session.{size}", 4)
        image_ids = []
        for batch in range(10):
            images = [make_image(f"{batch}-{n}.png") for n in range(3)]
            image_ids += store.add_images(model.model_id, images, make_embeddings(3))
        assert [hit.image_id for hit in store.find_latest(limit=5, offset=2)] == image_ids[::-1][2:7]
        assert [hit.image_id for hit in store.find_latest(limit=40)] == image_ids[::-1]
        assert store.list_image_ids(image_ids[4], limit=6) == image_ids[5:11]
        assert store.count_values("file_type") == {"image/png": 30}


# --- crashes, one before each write ----------------------------------------------------------------------------------


class Crash(BaseException):
    """What ends a program without letting it clean up."""


class Failing:
    """Passes everything on, until after so many writes nothing goes through any more."""

    def __init__(self, wrapped: Any, writes: list[int]) -> None:
        self._wrapped = wrapped
        self._writes = writes  # how many may still be done; shared by all that write

    def __getattr__(self, name: str) -> Any:
        if name in ("insert", "upsert", "delete", "write", "drop_collection", "create_collection"):
            if self._writes[0] == 0:
                raise Crash
            self._writes[0] -= 1
        return getattr(self._wrapped, name)


def crash_after(writes: int, library: Settings, change: Callable[[ImageStore], object]) -> bool:
    """Change a library with a program that crashes before this write; whether it did."""
    with open_store(library) as store:
        assert isinstance(store, MilvusStore)
        store.list_models()
        left = [writes]
        store.originals = Failing(store.originals, left)  # type: ignore[assignment]
        store._database._client = Failing(store._database._client, left)
        try:
            change(store)
        except Crash:
            return True
        finally:
            store._database._client = store._database._client._wrapped
    return False


@pytest.fixture
def filled(library: Settings) -> Iterator[ImageStore]:
    """A store of six images; another handle stays open, as a page does while a registrar dies."""
    with open_store(library) as store:
        model = store.get_or_create_model("fake", "1", 16)
        texts = [ImageText(generator="old", description="前")] * 6
        images = [make_image(f"{n}.png", text) for n, text in enumerate(texts)]
        store.add_images(model.model_id, images, make_embeddings(6))
        yield store


def count_everywhere(store: ImageStore, filter: SearchFilter = SearchFilter()) -> int:  # noqa: B008
    """How many images a filter lets through, the same for every way of asking."""
    count = store.count_images(filter)
    assert len(store.find_latest(100, filter=filter)) == count
    assert len(store.search_embedding(1, make_embeddings(1)[0], 100, filter=filter)) == count
    for hit in store.find_latest(100, filter=filter):
        assert store.read_original(hit.image_id)
        assert store.read_preview(hit.image_id)
    return count


def test_a_batch_that_crashes_before_any_write_is_in_or_out_whole(filled: ImageStore, library: Settings) -> None:
    outcomes = []
    while not outcomes or outcomes[-1]:
        batch = [make_image(f"{len(outcomes)}-{n}.jpg") for n in range(3)]
        before = count_everywhere(filled)
        outcomes.append(crash_after(len(outcomes), library, lambda s: s.add_images(1, batch, make_embeddings(3))))  # noqa: B023
        assert count_everywhere(filled) == before + (0 if outcomes[-1] else 3)
        milvus_server.release(library)
        image_ids = filled.add_images(1, batch, make_embeddings(3))
        assert count_everywhere(filled) == before + 3
        assert filled.read_original(image_ids[0]) == batch[0].data
    assert len(outcomes) == 5  # images, files, embeddings, state; and once without a crash
    known = [hit.image.content_sha256 for hit in filled.find_latest(100)]
    assert list_files(library) == {name for sha256 in known for name in name_files(sha256)}


def test_a_deletion_that_crashes_is_whole_from_its_first_write_on(filled: ImageStore, library: Settings) -> None:
    image_ids = filled.list_image_ids()
    for writes, image_id in enumerate(image_ids[:5]):
        assert crash_after(writes, library, lambda store: store.delete_images([image_id]))  # noqa: B023
        assert count_everywhere(filled) == 6 - writes - (writes > 0)
        milvus_server.release(library)
        filled.delete_images([image_id])
        assert count_everywhere(filled) == 5 - writes
    assert list_files(library) == name_files(filled.get_image(image_ids[5]).content_sha256)


def test_a_text_whose_change_crashes_is_the_old_or_the_new_one_everywhere(
    filled: ImageStore, library: Settings
) -> None:
    image_ids = filled.list_image_ids()
    new = ImageText(generator="new", description="後")
    for writes, image_id in enumerate(image_ids[:5]):
        assert crash_after(writes, library, lambda store: store.set_text(image_id, new))  # noqa: B023
        milvus_server.release(library)
        changed = count_everywhere(filled, SearchFilter(generator="new"))
        assert changed == count_everywhere(filled, SearchFilter(words=("後",)))
        assert changed == writes + (filled.get_image(image_id).text == new)
        assert count_everywhere(filled, SearchFilter(generator="old")) == 6 - changed
        filled.set_text(image_id, new)
    assert count_everywhere(filled, SearchFilter(generator="new")) == 5


# --- what may be wrong -----------------------------------------------------------------------------------------------


def test_without_a_place_for_originals_the_setting_is_named() -> None:
    with pytest.raises(SettingsError, match=r"ORIGINALS_URL.*data/originals"):
        open_store(Settings(database_url="milvus:///library.db"))


@pytest.mark.parametrize("url", ["milvus://", "milvus:///", "milvus:///folder/", "milvus://root:s3cret@host:port/x"])
def test_a_url_that_names_no_place_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL") as caught:
        open_store(Settings(database_url=url, originals_url="originals"))
    assert "s3cret" not in str(caught.value)


def test_a_server_that_is_away_is_named_without_the_password() -> None:
    store = open_store(Settings(database_url="milvus://root:s3cret@127.0.0.1:1/pictures", originals_url="originals"))
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1/pictures") as caught:
        store.list_models()
    assert "s3cret" not in str(caught.value)


def test_a_missing_folder_is_named_and_not_made(tmp_path: Path) -> None:
    store = open_store(Settings(database_url=f"milvus:///{tmp_path}/mount/a.db", originals_url="originals"))
    with pytest.raises(StoreUnavailable, match="mount"):
        store.list_models()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_library_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("a letter")
    store = open_store(Settings(database_url=f"milvus:///{tmp_path}/a.db", originals_url="originals"))
    with pytest.raises(SchemaError, match="not a library of Milvus Lite"):
        store.list_models()
    assert (tmp_path / "a.db").read_text() == "a letter"


@only_lite
def test_a_library_held_by_another_program_says_so_and_then_works(library: Settings) -> None:
    with open_store(library) as store:
        store.list_models()
    lock = os.open(Path(library.database_url.removeprefix("milvus:///")) / "LOCK", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as another program has it
    with open_store(library) as store:
        with pytest.raises(StoreUnavailable, match=r"held by another program.*docs/engines\.md"):
            store.list_models()
        os.close(lock)
        assert store.list_models() == []


def test_a_closed_store_says_so(filled: ImageStore) -> None:
    filled.close()
    with pytest.raises(StoreError, match="closed"):
        filled.list_models()
