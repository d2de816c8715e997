"""The Oracle store with its two indexes, with originals outside of the database, and with the rows it fetches."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from image_search.errors import ImageNotFound, StoreError, StoreFull, StoreUnavailable
from image_search.originals import Originals
from image_search.records import ImageText, SearchFilter
from image_search.stores.oracle import APPROXIMATE_ROWS, OracleStore
from tests.fakes import make_embeddings, make_image, make_images
from tests.oracle.wire.definitions import Index
from tests.oracle.wire.faults import Cut, Delay, Refuse
from tests.oracle.wire.server import Server
from tests.oracle.wired import IVF, make_settings, serve

TEXT = ImageText(generation_prompt="赤い猫", description="庭の猫", keywords=("猫", "庭"), generator="ComfyUI")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serve(tmp_path / "oracle.db", has_text=True) as server:
        yield server


@pytest.fixture
def store(server: Server) -> Iterator[OracleStore]:
    with OracleStore.open(make_settings(server)) as store:
        model = store.get_or_create_model("fake", "1", 16)
        store.add_images(model.model_id, [make_image("a.png", TEXT), *make_images(29)], make_embeddings(30))
        server.events.clear()
        yield store


def count_approximate(server: Server) -> int:
    return sum("FETCH APPROX" in sql for sql in server.statements)


# --- the vector index ---


def test_index_is_asked_only_when_it_is_there(server: Server, store: OracleStore) -> None:
    store.search_embedding(1, make_embeddings(1)[0])
    assert count_approximate(server) == 0


def test_index_answers_pages_that_do_not_overlap(server: Server, store: OracleStore) -> None:
    server.database.indexes[IVF.name] = IVF
    query = make_embeddings(1, seed=3)[0]
    pages = [hit.image_id for start in (0, 10, 20) for hit in store.search_embedding(1, query, 10, start)]
    assert count_approximate(server) > 0
    assert sorted(pages) == list(range(1, 31))


@pytest.mark.parametrize("indexes", [{}, {IVF.name: IVF}], ids=["exactly", "by the index"])
def test_nearest_come_first(indexes: dict[str, Index], server: Server, store: OracleStore) -> None:
    server.database.indexes.update(indexes)
    query = make_embeddings(1, seed=3)[0]
    hits = store.search_embedding(1, query, 30)
    expected = -(make_embeddings(30) @ query)
    assert [hit.image_id for hit in hits] == [int(place) + 1 for place in np.argsort(expected)]
    assert [hit.distance for hit in hits] == pytest.approx(sorted(expected))


@pytest.mark.parametrize("rows", [0, 7])
def test_index_that_gives_too_few_rows_is_followed_by_the_exact_search(
    rows: int, server: Server, store: OracleStore
) -> None:
    query = make_embeddings(1, seed=3)[0]
    exact = [hit.image_id for hit in store.search_embedding(1, query, 16)]
    server.database.indexes[IVF.name] = IVF
    server.database.approximate_rows = rows
    with OracleStore.open(make_settings(server)) as another:  # which has not looked for indexes yet
        assert [hit.image_id for hit in another.search_embedding(1, query, 16)] == exact
    assert count_approximate(server) == 1


def test_filters_and_far_pages_are_exact(server: Server, store: OracleStore) -> None:
    server.database.indexes[IVF.name] = IVF
    query = make_embeddings(1)[0]
    store.search_embedding(1, query, 16, filter=SearchFilter(min_pixels=1))
    store.search_embedding(1, query, 16, offset=APPROXIMATE_ROWS)
    assert count_approximate(server) == 0


def test_index_that_is_made_later_is_noticed(
    server: Server, store: OracleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("image_search.stores.oracle.schema.time.monotonic", lambda: clock[0])
    store.search_embedding(1, make_embeddings(1)[0])
    server.database.indexes[IVF.name] = replace(IVF, subtype="INMEMORY_NEIGHBOR_GRAPH_HNSW")
    clock[0] += 61
    store.search_embedding(1, make_embeddings(1)[0])
    assert count_approximate(server) == 1


# --- the word index ---


def test_words_are_found_without_the_index_when_it_fails(server: Server, store: OracleStore) -> None:
    server.faults.add(Refuse(29902, "x\nORA-20000: Oracle Text error:\nDRG-50901: parser"), "execute", "CONTAINS")
    assert [hit.image.file_name for hit in store.list_images(["庭の猫"])] == ["a.png"]
    server.events.clear()
    store.list_images(["庭の猫"])
    assert "CONTAINS" not in "".join(server.statements)  # it is left alone for a minute


def test_index_dropped_amid_searches_is_done_without(server: Server, store: OracleStore) -> None:
    assert len(store.list_images(["庭の猫"])) == 1
    assert "CONTAINS" in "".join(server.statements)
    del server.database.indexes["IX_IMAGES_SEARCH_TEXT"]
    assert len(store.list_images(["庭の猫"])) == 1


@pytest.mark.parametrize("number", [1460, 1461])
def test_text_query_longer_than_the_databases_strings_is_done_without_the_index(
    number: int, server: Server, store: OracleStore
) -> None:
    server.faults.add(Refuse(number), "execute", "CONTAINS")
    assert [hit.image.file_name for hit in store.list_images(["庭の猫"])] == ["a.png"]


@pytest.mark.parametrize(
    "words", [["長い文章の" * 280], ["庭の猫", *(f"単語その{n}" for n in range(400))], ["猫" * 5000]]
)
def test_words_of_any_length_fit_into_the_binds_of_any_database(words: list[str], tmp_path: Path) -> None:
    with (
        serve(tmp_path / "standard.db", has_text=True, has_long_strings=False) as server,
        OracleStore.open(make_settings(server)) as store,
    ):
        model = store.get_or_create_model("fake", "1", 16)
        text = ImageText(description=" ".join(words))
        store.add_images(model.model_id, [make_image("long.png", text), make_image("other.png")], make_embeddings(2))
        found = store.list_images(words)
        assert [hit.image.file_name for hit in found] == ["long.png"]
        assert sum("CONTAINS" in sql for sql in server.statements) == (len(words) > 1)
        assert not store.list_images([*words, "無い言葉"])


def test_error_that_is_not_of_the_word_index_is_not_hidden(server: Server, store: OracleStore) -> None:
    server.faults.add(Refuse(1536), "execute", "CONTAINS")
    with pytest.raises(StoreFull):
        store.list_images(["庭の猫"])


# --- originals in a folder ---


@pytest.fixture
def beside(server: Server, tmp_path: Path) -> Iterator[OracleStore]:
    with OracleStore.open(make_settings(server, originals_url=str(tmp_path / "originals"))) as store:
        store.get_or_create_model("fake", "1", 16)
        yield store


def list_originals(folder: Path) -> list[Path]:
    return [path for path in (folder / "originals").rglob("*") if path.is_file()]


def test_originals_can_live_in_a_folder(server: Server, beside: OracleStore, tmp_path: Path) -> None:
    image = make_image("a.png")
    [image_id] = beside.add_images(1, [image], make_embeddings(1))
    assert beside.read_original(image_id) == image.data
    connection = sqlite3.connect(server.database.path)
    assert connection.execute("SELECT image_data FROM images").fetchall() == [(None,)]
    assert beside.delete_images([image_id]) == 1
    assert list_originals(tmp_path) == []
    with pytest.raises(ImageNotFound):
        beside.read_original(image_id)


def test_original_stays_when_its_deletion_is_not_certain(server: Server, beside: OracleStore, tmp_path: Path) -> None:
    [image_id] = beside.add_images(1, [make_image("a.png")], make_embeddings(1))
    server.faults.add(Cut("before"), "commit")
    with pytest.raises(StoreUnavailable):
        beside.delete_images([image_id])
    assert len(list_originals(tmp_path)) == 1


def test_original_that_is_elsewhere_is_told_when_no_folder_is_set(server: Server, beside: OracleStore) -> None:
    [image_id] = beside.add_images(1, [make_image("a.png")], make_embeddings(1))
    with OracleStore.open(make_settings(server)) as store, pytest.raises(StoreError, match="ORIGINALS_URL"):
        store.read_original(image_id)


def test_image_that_is_added_while_another_handle_deletes_it_keeps_its_original(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep of files waits for the writer that holds the lock, and looks again before it removes anything."""
    settings = make_settings(server, originals_url=str(tmp_path / "originals"))
    first, second = OracleStore.open(settings), OracleStore.open(settings)
    model = first.get_or_create_model("fake", "1", 16)
    image = make_image("a.png")
    [old_id] = first.add_images(model.model_id, [image], make_embeddings(1))
    writes, swept = threading.Event(), threading.Event()
    real_write = type(first.originals).write

    def write(self: Originals, originals: Any) -> None:
        real_write(self, originals)
        if not writes.is_set():
            writes.set()
            swept.wait(0.5)  # long enough for the other handle to sweep, if nothing stops it

    monkeypatch.setattr(type(first.originals), "write", write)

    def delete() -> None:
        writes.wait(5)
        second.delete_images([old_id])
        swept.set()

    deleting = threading.Thread(target=delete)
    server.faults.add(Delay(0.2), "execute", "SELECT i.content_sha256, i.image_id")
    deleting.start()
    ids = first.add_images(model.model_id, [image], make_embeddings(1))
    deleting.join()
    kept = [image_id for image_id in ids if image_id in {hit.image_id for hit in first.list_images()}]
    assert all(first.read_original(image_id) == image.data for image_id in kept)
    first.close()
    second.close()


# --- many rows ---


def test_images_of_one_moment_come_in_one_order_whatever_the_page(store: OracleStore) -> None:
    images = [replace(image, upload_date=datetime(2030, 1, 1)) for image in make_images(50)[30:]]
    ids = store.add_images(1, images, make_embeddings(20, seed=6))
    pages = [hit.image_id for offset in range(0, 20, 5) for hit in store.list_images(limit=5, offset=offset)]
    assert pages == sorted(ids, reverse=True)


def test_list_of_rows_takes_few_round_trips(server: Server, store: OracleStore) -> None:
    images = make_images(1230)[30:]
    store.add_images(1, images, make_embeddings(1200, seed=6))
    server.events.clear()
    assert len(store.find_known_hashes([image.content_sha256 for image in images])) == 1200
    assert [event.name for event in server.events] == ["execute", "execute"]


def test_list_longer_than_a_round_trip_is_whole(store: OracleStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("image_search.stores.oracle.connection._ROWS_OF_A_ROUND_TRIP", 7)
    assert store.list_image_ids() == list(range(1, 31))


def test_embeddings_of_a_model_are_removed_in_pieces_that_can_be_taken_up_again(
    server: Server, store: OracleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("image_search.stores.oracle._ROWS_OF_A_DELETION", 10)
    other = store.get_or_create_model("other", "1", 16)
    store.add_embeddings(other.model_id, list(range(1, 26)), make_embeddings(25, seed=2))
    server.faults.add(Cut("before"), "execute", "DELETE FROM image_embeddings", skip=1)
    with pytest.raises(StoreUnavailable):
        store.remove_model(other.model_id)
    assert dict(store.get_status().models) == {store.list_models()[0]: 30, store.list_models()[1]: 15}
    server.events.clear()
    store.remove_model(other.model_id)
    assert [model.model_id for model in store.list_models()] == [1]
    assert sum(event.name == "commit" for event in server.events) == 2
    assert store.get_status().models[0][1] == 30


def test_full_trash_is_emptied_in_pieces(server: Server, store: OracleStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("image_search.stores.oracle._IMAGES_OF_A_DELETION", 8)
    store.trash_images(range(1, 21))
    server.events.clear()
    assert store.empty_trash() == 20
    assert sum(event.name == "commit" for event in server.events) == 3
    assert (store.count_images(), store.get_status().trash_count) == (10, 0)


def test_emptying_the_trash_goes_on_where_it_was_interrupted(
    server: Server, store: OracleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("image_search.stores.oracle._IMAGES_OF_A_DELETION", 8)
    store.trash_images(range(1, 21))
    server.faults.add(Refuse(30036), "execute", "DELETE FROM images", skip=1)
    with pytest.raises(StoreFull):
        store.empty_trash()
    assert store.get_status().trash_count == 12
    assert store.empty_trash() == 12


# --- what the driver takes and gives ---


def test_values_are_stored_as_long_and_as_large_as_they_come(store: OracleStore) -> None:
    text = ImageText(
        generation_prompt="長" * 5000,
        description="明" * 5000,
        generator="生" * 300,
        generation_model="模" * 1200,
        keywords=("語" * 300,),
    )
    path = "/" + "道" * 1333  # 4000 bytes
    image = make_image(
        "名" * 300 + ".png", text, data=bytes(70_000), width=200_000, height=100_000, file_path=path, modified_ns=2**62
    )
    [image_id] = store.add_images(1, [replace(image, preview=bytes(range(256)) * 250)], make_embeddings(1, seed=9))
    stored = store.get_image(image_id)
    assert (len(stored.file_name), stored.file_path, stored.width, stored.height) == (255, path, 200_000, 100_000)
    assert (stored.text.generation_prompt, stored.text.description) == ("長" * 5000, "明" * 5000)
    assert store.find_known_files([path])[path].modified_ns == 2**62
    assert store.read_original(image_id) == bytes(70_000)
    assert store.read_preview(image_id) == bytes(range(256)) * 250
    assert store.count_values("keyword")["語" * 255] == 1
    longer = make_image("longer.png", file_path="/" + "道" * 1334)
    assert store.get_image(store.add_images(1, [longer], make_embeddings(1, seed=7))[0]).file_path is None


def test_rows_become_records_whatever_is_null_in_them(store: OracleStore) -> None:
    bare, full = store.get_images([2, 1])
    assert (bare.text, bare.file_path) == (ImageText(), None)
    assert full.text == TEXT
    assert len(full.content_sha256) == 64


def test_embedding_comes_back_as_float32(store: OracleStore) -> None:
    embedding = store.get_embedding(1, 1)
    assert embedding.dtype == np.float32
    assert np.array_equal(embedding, make_embeddings(1)[0])


def test_date_of_an_image_is_the_databases_own_unless_one_is_given(store: OracleStore) -> None:
    given = datetime(2020, 1, 2, 3, 4, 5, 678)
    images = [make_image("now.png"), replace(make_image("then.png"), upload_date=given)]
    now, then = store.add_images(1, images, make_embeddings(2, seed=4))
    assert store.get_image(then).upload_date == given
    written = store.get_image(now).upload_date
    assert abs((written - datetime.utcnow()).total_seconds()) < 60  # UTC, wherever the server stands
