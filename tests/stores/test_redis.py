"""The contract on Redis, and what only Redis promises."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from image_search.errors import SchemaError, SettingsError, StoreError, StoreFull, StoreUnavailable
from image_search.records import EmbeddingModel, ImageText, SearchFilter
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from image_search.stores.redis.query import build_expression, match_file_name, match_paths
from tests.contract import ImageStoreContract
from tests.fakes import make_embeddings, make_image, make_images, registrar
from tests.fakes.redis_server import connect, make_library, remove_library, start_plain_server, start_stand_in

is_stand_in = "REDIS_TEST_URL" not in os.environ


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Settings]:
    settings = make_library(tmp_path / "originals")
    yield settings
    remove_library(settings)


@pytest.mark.engine("redis")
class TestRedisStore(ImageStoreContract):
    @pytest.fixture
    def library(self, library: Settings) -> Settings:
        return library

    def open_library(self, library: Settings) -> ImageStore:
        return open_store(library)

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
    def test_registration_killed_at_any_moment_ends_like_a_clean_run(self, library: Settings) -> None:
        client, prefix = connect(library)
        registrar.kill_and_finish(library, lambda: client.delete(f"{prefix}:writer"))  # as if its lease had run out
        registrar.check_library(library)

    def test_broken_connections_are_not_noticed(self, store: ImageStore, model: EmbeddingModel) -> None:
        store.add_images(model.model_id, make_images(3), make_embeddings(3))
        end_connections(store)
        assert store.count_images() == 3
        end_connections(store)
        assert len(store.add_images(model.model_id, [make_image("new.png")], make_embeddings(1))) == 1

    def test_a_writer_that_lost_its_lease_adds_nothing_and_removes_nothing(
        self, store: ImageStore, model: EmbeddingModel, library: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client, prefix = connect(library)
        originals: Any = store.originals  # type: ignore[attr-defined]
        write = originals.write

        def write_slowly(contents: dict[str, bytes]) -> None:
            write(contents)
            client.set(f"{prefix}:writer", "somebody else")

        monkeypatch.setattr(originals, "write", write_slowly)
        with pytest.raises(StoreUnavailable, match="too long"):
            store.add_images(model.model_id, make_images(3), make_embeddings(3))
        monkeypatch.undo()
        assert store.count_images() == 0
        assert len(list(originals.folder.rglob("*/*"))) == 3  # perhaps the other's
        assert client.get(f"{prefix}:writer") == b"somebody else"
        client.delete(f"{prefix}:writer")
        assert len(store.add_images(model.model_id, make_images(3), make_embeddings(3))) == 3

    def test_originals_of_deleted_images_that_a_crash_left_are_removed_by_the_next_writer(
        self, store: ImageStore, model: EmbeddingModel, library: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        image_ids = store.add_images(model.model_id, make_images(3), make_embeddings(3))
        monkeypatch.setattr(store, "_delete_orphaned_originals", lambda: None)
        store.delete_images(image_ids[:2])
        monkeypatch.undo()
        folder = Path(library.originals_url)
        assert len(list(folder.rglob("*/*"))) == 3
        store.add_images(model.model_id, make_images(1), make_embeddings(1))  # one of the deleted comes again
        assert len(list(folder.rglob("*/*"))) == 2
        assert store.read_original(store.list_image_ids()[-1]) == make_images(1)[0].data

    def test_a_full_memory_leaves_nothing_of_the_batch(
        self, store: ImageStore, model: EmbeddingModel, library: Settings
    ) -> None:
        client, _ = connect(library)
        most = client.config_get("maxmemory")["maxmemory"]
        client.config_set("maxmemory", "1mb")
        try:
            with pytest.raises(StoreFull, match="maxmemory"):
                store.add_images(model.model_id, make_images(3), make_embeddings(3))
        finally:
            client.config_set("maxmemory", most)
        assert store.count_images() == 0
        assert not list(Path(library.originals_url).rglob("*/*"))

    def test_an_index_that_was_lost_is_made_again_with_all_models(
        self, store: ImageStore, model: EmbeddingModel, library: Settings
    ) -> None:
        image_ids = store.add_images(model.model_id, make_images(3), make_embeddings(3))
        client, prefix = connect(library)
        client.execute_command("FT.DROPINDEX", f"{prefix}:index")
        with open_store(library) as again:
            second = again.get_or_create_model("second", "1", 8)
            again.add_embeddings(second.model_id, image_ids, make_embeddings(3, 8))
            while again.count_images() < 3:  # a server reads what is there in the background
                time.sleep(0.02)
            assert len(again.search_embedding(model.model_id, make_embeddings(1)[0])) == 3
            assert len(again.search_embedding(second.model_id, make_embeddings(1, 8)[0])) == 3

    def test_a_newer_schema_is_not_touched(self, library: Settings) -> None:
        client, prefix = connect(library)
        client.set(f"{prefix}:schema", "2")
        with pytest.raises(SchemaError, match="version 2"):
            open_store(library).list_models()

    def test_libraries_on_one_server_do_not_mix(self, store: ImageStore, model: EmbeddingModel, tmp_path: Path) -> None:
        store.add_images(model.model_id, make_images(3), make_embeddings(3))
        other = make_library(tmp_path / "others")
        with open_store(other) as second:
            assert second.count_images() == 0
            assert second.list_models() == []
        remove_library(other)
        assert store.count_images() == 3

    @pytest.mark.skipif(not is_stand_in, reason="the real one understands more")
    @pytest.mark.parametrize(
        "question",
        ['@words:"two words', "@tags:{a b}", "@absent:{a}", "@words:{a}", "@pixels:[1]", "@pixels:[a b]", "@tags:{a}|"],
    )
    def test_the_stand_in_refuses_what_nobody_thought_about(
        self, store: ImageStore, model: EmbeddingModel, library: Settings, question: str
    ) -> None:
        client, prefix = connect(library)
        with pytest.raises(ResponseError):
            client.execute_command(
                "FT.SEARCH", f"{prefix}:index", question, "LIMIT", 0, 0, "TIMEOUT", 1000, "DIALECT", 2
            )

    @pytest.mark.skipif(not is_stand_in, reason="the stand-in remembers what it was asked")
    def test_neighbours_and_filter_are_one_question(self, store: ImageStore, model: EmbeddingModel) -> None:
        store.add_images(model.model_id, [make_image(text=ImageText(generator="x"))], make_embeddings(1))
        asked = start_stand_in().commands
        before = len(asked)
        chosen = SearchFilter(generator="x", words=("original",), taken_to=datetime(2024, 1, 1))
        store.search_embedding(model.model_id, make_embeddings(1)[0], filter=chosen)
        [command] = asked[before:]
        assert re.fullmatch(
            rb'\(@taken_at:\[-inf \([0-9]+\] @tags:\{g[0-9a-f]{24}\} @words:"original"\)=>'
            rb"\[KNN 32 @embedding_1 \$query AS distance\]",
            command[2],
        )


@pytest.mark.engine("redis")
class TestRefusals:
    def test_a_server_without_the_query_engine_is_told_with_what_to_do(self, tmp_path: Path) -> None:
        store = open_library(f"redis://127.0.0.1:{start_plain_server()}", tmp_path)
        with pytest.raises(SchemaError, match=r"no query engine.*Redis 8"):
            store.list_models()

    def test_a_server_that_is_away_is_named_without_the_password(self, tmp_path: Path) -> None:
        store = open_library("redis://scott:t1ger@127.0.0.1:1/0", tmp_path)
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1/0") as caught:
            store.list_models()
        assert "t1ger" not in str(caught.value)

    def test_a_wrong_password_points_at_the_setting(self, tmp_path: Path) -> None:
        store = open_library(f"redis://scott:t1ger@127.0.0.1:{start_plain_server()}", tmp_path)
        with pytest.raises(StoreError, match="DATABASE_URL") as caught:
            store.list_models()
        assert "t1ger" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://scott:t1ger@host:port/0", "cannot be read"),
        ("redis://scott:t1ger@host/3", "another database"),
        ("redis://scott:t1ger@host/0?db=3", "another database"),
        ("redis://scott:t1ger@host/0?library=a b", "library"),
        ("redis://scott:t1ger@host/0?socket_timeout=soon", "cannot be read"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_showing_it(url: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=rf"DATABASE_URL.*{reason}|{reason}.*DATABASE_URL") as caught:
        open_library(url, tmp_path)
    assert "t1ger" not in str(caught.value)


def test_originals_need_a_place_of_their_own() -> None:
    with pytest.raises(SettingsError, match="ORIGINALS_URL"):
        open_store(Settings.load(None, {"DATABASE_URL": "redis://localhost", "ORIGINALS_URL": "database"}))


@settings(deadline=None)
@given(st.text(), st.lists(st.text(), max_size=3))
def test_no_text_of_a_person_stands_in_a_question(value: str, words: list[str]) -> None:
    chosen = SearchFilter(
        folder=value, file_types=(value,), generator=value, generation_model=value, keyword=value, words=tuple(words)
    )
    for question in (build_expression(chosen, words), match_file_name(value), match_paths([value, value])):
        for term in re.sub(r"@(tags|words):", "@", question).split("@")[1:]:
            assert re.fullmatch(r'\{([a-z][0-9a-f]{24}\|?)+\} ?|\{nothing\} ?|"[a-z0-9 ]+" ?', term, re.ASCII)


def open_library(url: str, folder: Path) -> ImageStore:
    return open_store(Settings(database_url=url, originals_url=str(folder)))


def end_connections(store: ImageStore) -> None:
    """What a restart of the server does to everybody who is connected."""
    client = store._server._client  # type: ignore[attr-defined]
    for connection in client.connection_pool._available_connections:
        connection._sock.shutdown(2)
