"""The contract on Milvus, and what only Milvus promises: an order of writes that leaves nothing half visible."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymilvus import DataType

from image_search.errors import SchemaError, SettingsError, StoreError, StoreUnavailable
from image_search.originals import FolderOriginals
from image_search.records import EmbeddingModel, ImageText, SearchFilter
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from image_search.stores.milvus import MilvusStore
from image_search.stores.milvus.schema import STATE, name_preview
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
        assert [hit.image_id for hit in store.list_images([late])] == [image_ids[0]]
        assert [hit.image_id for hit in store.list_images([endless[:4], "png"])] == [image_ids[0]]
        found = store.search_embedding(model.model_id, make_embeddings(1)[0], filter=SearchFilter(words=(late,)))
        assert [hit.image_id for hit in found] == [image_ids[0]]
        assert store.list_images([endless[50_000:50_003] + "犬"]).total == 0
        store.set_text(image_ids[0], ImageText(description="短い"))
        assert store.list_images([late]).total == 0
        store.delete_images(image_ids)
        assert list_files(library) == set()

    def test_many_images_are_put_in_order_a_part_at_a_time(
        self, store: ImageStore, model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for size in ("queries._WINDOW", "session._PAGE", "session._LOOKED_UP"):
            monkeypatch.setattr(f"image_search.stores.milvus.{size}", 4)
        image_ids: list[int] = []
        for batch in range(10):
            images = [make_image(f"{batch}-{n}.png", make_text(batch * 3 + n)) for n in range(3)]
            image_ids += store.add_images(model.model_id, images, make_embeddings(3))
        assert [hit.image_id for hit in store.list_images(limit=5, offset=2)] == image_ids[::-1][2:7]
        assert [hit.image_id for hit in store.list_images(limit=40)] == image_ids[::-1]
        by_time = sorted(range(30), key=lambda n: (n % 7 if n % 4 else -1, n), reverse=True)
        for offset in (0, 9, 25):
            page = store.list_images(limit=8, offset=offset, order="taken")
            assert [hit.image_id for hit in page] == [image_ids[n] for n in by_time[offset : offset + 8]]
            assert page.total == 30
        store.trash_images(image_ids[:12])
        assert [hit.image_id for hit in store.list_trash(5, 2)] == image_ids[:12][::-1][2:7]
        store.restore_images(image_ids[:12])
        assert store.list_paths("/photos", limit=3) == []
        assert store.list_image_ids(image_ids[4], limit=6) == image_ids[5:11]
        assert store.count_values("file_type") == {"image/png": 30}


# --- crashes, one before each write ----------------------------------------------------------------------------------


class Crash(BaseException):
    """Ends a program without letting it clean up."""


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
    assert len(store.list_images(limit=100, filter=filter)) == count
    hits = store.search_embedding(1, make_embeddings(1)[0], 100, filter=filter)
    assert len(hits) == hits.total == store.list_images(filter=filter).total == count
    for hit in store.list_images(limit=100, filter=filter):
        assert store.read_original(hit.image_id)
        assert store.read_preview(hit.image_id)
    return count


def test_batch_that_crashes_before_any_write_is_in_or_out_whole(filled: ImageStore, library: Settings) -> None:
    outcomes = []
    while not outcomes or outcomes[-1]:
        batch = [make_image(f"{len(outcomes)}-{n}.jpg") for n in range(3)]
        before = count_everywhere(filled)
        outcomes.append(crash_after(len(outcomes), library, lambda s: s.add_images(1, batch, make_embeddings(3))))  # noqa: B023
        assert count_everywhere(filled) == before + (0 if len(outcomes) < 5 else 3)
        milvus_server.release(library)
        image_ids = filled.add_images(1, batch, make_embeddings(3))
        assert count_everywhere(filled) == before + 3
        assert filled.read_original(image_ids[0]) == batch[0].data
    assert len(outcomes) == 6  # images, files, embeddings, state, a setting; and once without a crash
    known = [hit.image.content_sha256 for hit in filled.list_images(limit=100)]
    assert list_files(library) == {name for sha256 in known for name in name_files(sha256)}


def test_deletion_that_crashes_is_done_or_not_everywhere(filled: ImageStore, library: Settings) -> None:
    for writes, image_id in enumerate(filled.list_image_ids()[:5]):
        before = count_everywhere(filled)
        assert crash_after(2 * writes, library, lambda store: store.delete_images([image_id]))  # noqa: B023
        milvus_server.release(library)
        assert count_everywhere(filled) == before - (image_id not in filled.list_image_ids())
        filled.delete_images([image_id])
        assert count_everywhere(filled) == before - 1
        assert filled.list_trash().total == 0
        assert len(filled.list_deleted()) == writes + 1
    [last] = filled.list_image_ids()
    assert list_files(library) == name_files(filled.get_image(last).content_sha256)


@pytest.mark.parametrize("is_restored", [False, True])
def test_move_to_the_trash_or_back_that_crashes_is_done_or_not_everywhere(
    filled: ImageStore, library: Settings, is_restored: bool
) -> None:
    image_ids = filled.list_image_ids()[:3]
    query = filled.get_embedding(image_ids[0], 1)
    writes, has_crashed = 0, True
    while has_crashed:
        if is_restored:
            filled.trash_images(image_ids)
            has_crashed = crash_after(writes, library, lambda store: store.restore_images(image_ids))
        else:
            has_crashed = crash_after(writes, library, lambda store: store.trash_images(image_ids))
        milvus_server.release(library)
        assert count_everywhere(filled) == 6 - filled.list_trash().total
        assert filled.list_trash().total in (0, 3)
        filled.restore_images(image_ids)
        assert count_everywhere(filled) == 6
        assert filled.search_embedding(1, query, 1)[0].image_id == image_ids[0]
        writes += 1
    assert writes > 3


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_library_of_schema_1_is_carried_over(
    library: Settings, is_interrupted: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_schema_1(library)
    monkeypatch.setattr("image_search.stores.milvus.schema._MIGRATED", 2)
    if is_interrupted:
        with monkeypatch.context() as broken:
            broken.setattr("image_search.stores.milvus.schema.write_state", interrupt)
            with pytest.raises(KeyboardInterrupt):
                open_store(library).list_models()
    with open_store(library) as store:
        [model] = store.list_models()
        first, second, third = store.get_images([1, 2, 3])
        assert (first.paths, second.paths, third.paths) == ((), ("/photos/a.png",), ())
        assert second.text == ImageText(description="雪", keywords=("山",), taken_at=datetime(2024, 1, 2, 3, 4, 5, 6))
        assert second.upload_date == datetime(2024, 1, 2)
        assert store.find_known_files(["/photos/a.png"])["/photos/a.png"].modified_ns == 7
        assert store.list_paths("/photos") == [("/photos/a.png", 2)]
        assert [hit.image_id for hit in store.search_embedding(1, make_embeddings(3)[1], 1)] == [2]
        assert [hit.image_id for hit in store.list_images(["山"])] == [2]
        assert [hit.image_id for hit in store.list_images(["pn"])] == [3, 2, 1]
        assert store.find_images_without_embedding(1, min_recipe=1) == []
        assert store.read_previews([2]) == {2: b"preview"}
        assert store.add_images(model.model_id, [make_image("new")], make_embeddings(1)) == [4]
    assert caplog.text.count("migrated") == 1


def test_newer_schema_is_not_touched(library: Settings) -> None:
    with open_store(library) as store, store._database.writing() as (client, _):  # type: ignore[attr-defined]
        client.upsert(STATE, [{"name": "state", "content": '{"schema_version": 3}', "nothing": [0.0, 0.0]}])
    with pytest.raises(SchemaError, match="version 3"), open_store(library) as store:
        store.list_models()


def test_writing_makes_and_drops_no_collection(filled: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    client = filled._database._client  # type: ignore[attr-defined]
    for name in ("create_collection", "drop_collection"):
        monkeypatch.setattr(client, name, interrupt)
    image_ids = filled.add_images(1, [make_image("new")], make_embeddings(1))
    filled.set_text(image_ids[0], ImageText(description="後"))
    filled.delete_images(image_ids)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def make_text(number: int) -> ImageText:
    """A text with one of seven times; every fourth has none."""
    return ImageText(taken_at=datetime(2024, 1, 1 + number % 7) if number % 4 else None)


def make_schema_1(library: Settings) -> None:
    """Three images as the program of schema 1 wrote them; two of them had one path, the latest is there."""
    with milvus_server.connected(library) as client:
        model = {"model_id": 1, "name": "fake", "version": "1", "dimension": 16, "is_current": True}
        state = {"schema_version": 1, "last_image_id": 3, "last_model_id": 1, "models": [model]}
        make_collection(client, STATE, "name", {"content": 65_535})
        client.upsert(STATE, [{"name": "state", "content": json.dumps(state), "nothing": [0.0, 0.0]}])
        make_collection(client, "image_search_images", "image_id", {"content_sha256": 64, "document": 65_535})
        make_collection(client, "image_search_embeddings_1", "image_id", {}, 16)
        for image_id, embedding in enumerate(make_embeddings(3), 1):
            is_described = image_id == 2
            document = {
                "content_sha256": f"{image_id:064x}",
                "file_name": f"{image_id}.png",
                "file_path": "/photos/a.png" if image_id < 3 else None,
                "modified_ns": 7,
                "file_type": "image/png",
                "byte_size": 10,
                "width": 64,
                "height": 48,
                "upload_date": 1_704_067_200_000_000 + 86_400_000_000 * (image_id - 1),
                "generation_prompt": None,
                "description": "雪" if is_described else None,
                "generator": None,
                "generation_model": None,
                "taken_at": 1_704_164_645_000_006 if is_described else None,
                "details": '{"keywords": ["山"]}' if is_described else "{}",
            }
            row = {
                "image_id": image_id,
                "content_sha256": f"{image_id:064x}",
                "document": json.dumps(document, ensure_ascii=False),
                "nothing": [0.0, 0.0],
            }
            client.upsert("image_search_images", [row])
            client.upsert("image_search_embeddings_1", [{"image_id": image_id, "embedding": embedding}])
    FolderOriginals(Path(library.originals_url)).write({name_preview(f"{2:064x}"): b"preview"})


def make_collection(client: Any, name: str, key: str, texts: dict[str, int], dimension: int = 2) -> None:
    schema = client.create_schema()
    if key == "name":
        schema.add_field(key, DataType.VARCHAR, max_length=64, is_primary=True)
    else:
        schema.add_field(key, DataType.INT64, is_primary=True)
    for field, length in texts.items():
        schema.add_field(field, DataType.VARCHAR, max_length=length)
    vector = "nothing" if dimension == 2 else "embedding"
    schema.add_field(vector, DataType.FLOAT_VECTOR, dim=dimension)
    indexes = client.prepare_index_params()
    indexes.add_index(vector, index_type="FLAT", metric_type="IP")
    client.create_collection(name, schema=schema, consistency_level="Strong", num_shards=1)
    client.create_index(name, indexes, sync=False)
    client.load_collection(name)


def test_text_whose_change_crashes_is_the_old_or_the_new_one_everywhere(filled: ImageStore, library: Settings) -> None:
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


def test_missing_place_for_originals_is_told_by_its_setting() -> None:
    with pytest.raises(SettingsError, match=r"ORIGINALS_URL.*data/originals"):
        open_store(Settings(database_url="milvus:///library.db"))


@pytest.mark.parametrize("url", ["milvus://", "milvus:///", "milvus:///folder/", "milvus://root:s3cret@host:port/x"])
def test_url_that_names_no_place_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL") as caught:
        open_store(Settings(database_url=url, originals_url="originals"))
    assert "s3cret" not in str(caught.value)


def test_server_that_is_away_is_named_without_the_password() -> None:
    store = open_store(Settings(database_url="milvus://root:s3cret@127.0.0.1:1/pictures", originals_url="originals"))
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1/pictures") as caught:
        store.list_models()
    assert "s3cret" not in str(caught.value)


def test_missing_folder_is_named_and_not_made(tmp_path: Path) -> None:
    store = open_store(Settings(database_url=f"milvus:///{tmp_path}/mount/a.db", originals_url="originals"))
    with pytest.raises(StoreUnavailable, match="mount"):
        store.list_models()
    assert list(tmp_path.iterdir()) == []


def test_file_that_is_no_library_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("a letter")
    store = open_store(Settings(database_url=f"milvus:///{tmp_path}/a.db", originals_url="originals"))
    with pytest.raises(SchemaError, match="not a library of Milvus Lite"):
        store.list_models()
    assert (tmp_path / "a.db").read_text() == "a letter"


@only_lite
def test_library_held_by_another_program_says_so_and_then_works(library: Settings) -> None:
    with open_store(library) as store:
        store.list_models()
    lock = os.open(Path(library.database_url.removeprefix("milvus:///")) / "LOCK", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as another program has it
    with open_store(library) as store:
        with pytest.raises(StoreUnavailable, match=r"held by another program.*docs/engines\.md"):
            store.list_models()
        os.close(lock)
        assert store.list_models() == []


def test_closed_store_says_so(filled: ImageStore) -> None:
    filled.close()
    with pytest.raises(StoreError, match="closed"):
        filled.list_models()
