"""The contract on Redis, and what only Redis promises."""

from __future__ import annotations

import json
import os
import re
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
from image_search.stores.redis.client import Connection, build_expression, make_words
from image_search.stores.tokens import TOKEN_SETTING
from tests.contract import ImageStoreContract
from tests.fakes import make_embeddings, make_image, make_images, registrar
from tests.fakes.redis_search_stand_in import occurs
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

    def test_writer_that_lost_its_lease_adds_nothing_and_removes_nothing(
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

    def test_full_memory_leaves_nothing_of_the_batch(
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

    def test_search_waits_for_an_index_that_was_lost_and_is_made_again(
        self, store: ImageStore, model: EmbeddingModel, library: Settings
    ) -> None:
        image_ids = store.add_images(model.model_id, make_images(30), make_embeddings(30))
        second = store.get_or_create_model("second", "1", 8)
        store.add_embeddings(second.model_id, image_ids, make_embeddings(30, 8))
        client, prefix = connect(library)
        for open_again in (False, True):
            client.execute_command("FT.DROPINDEX", f"{prefix}:index")
            with open_store(library) as again:
                asked = again if open_again else store
                assert asked.search_embedding(model.model_id, make_embeddings(1)[0]).total == 30
                assert len(asked.search_embedding(second.model_id, make_embeddings(1, 8)[0], 40)) == 30
                assert asked.count_images() == 30

    def test_full_memory_can_be_searched_by_a_program_that_starts(
        self, store: ImageStore, model: EmbeddingModel, library: Settings
    ) -> None:
        image_ids = store.add_images(model.model_id, make_images(3), make_embeddings(3))
        store.set_setting(TOKEN_SETTING, "1")  # tokens cannot be made again, either
        client, _ = connect(library)
        most = client.config_get("maxmemory")["maxmemory"]
        client.config_set("maxmemory", "1mb")
        try:
            with open_store(library) as again:
                assert [hit.image_id for hit in again.list_images(["image"])] == image_ids[::-1]
                assert len(again.search_embedding(model.model_id, make_embeddings(1)[0])) == 3
        finally:
            client.config_set("maxmemory", most)

    def test_page_too_far_down_is_refused_with_a_sentence(self, store: ImageStore, model: EmbeddingModel) -> None:
        store.add_images(model.model_id, make_images(3), make_embeddings(3))
        with pytest.raises(StoreError, match="1,000,000 images"):
            store.list_images(offset=1_000_000)
        with pytest.raises(StoreError, match="1,000,000 images"):
            store.search_embedding(model.model_id, make_embeddings(1)[0], offset=1_000_000)

    def test_equal_tokens_that_follow_one_another_are_counted(self, store: ImageStore, model: EmbeddingModel) -> None:
        texts = ("ママと猫", "マと猫", "ももの絵", "もの絵", "no no", "no", "no no cat", "no big cat", "a no no no b")
        images = [make_image(text, ImageText(description=f"{text}.")) for text in texts]
        store.add_images(model.model_id, images, make_embeddings(len(images)))

        def find(term: str) -> set[str]:
            return {hit.image.file_name for hit in store.list_images([term])}

        assert find("ママ") == {"ママと猫"}
        assert find("もも") == {"ももの絵"}
        assert find("マと") == {"ママと猫", "マと猫"}
        assert find("no no") == {"no no", "no no cat", "a no no no b"}
        assert find("no no no") == {"a no no no b"}
        assert find("no no cat") == {"no no cat"}
        assert find("no no b") == {"a no no no b"}
        assert find("a no no") == {"a no no no b"}
        chosen = SearchFilter(words=("no no",))
        assert store.count_images(chosen) == 3
        assert store.search_embedding(model.model_id, make_embeddings(1)[0], filter=chosen).total == 3

    def test_beginning_is_found_in_more_runs_than_the_engine_expands(
        self, store: ImageStore, model: EmbeddingModel
    ) -> None:
        numbers = range(202_400, 202_700)
        images = [make_image(f"{number}", ImageText(description=f"x {number}0 y")) for number in numbers]
        store.add_images(model.model_id, images, make_embeddings(300))
        assert store.list_images(["202"]).total == 300
        assert store.list_images(["2025"]).total == 100

    def test_newer_schema_is_not_touched(self, library: Settings) -> None:
        client, prefix = connect(library)
        client.set(f"{prefix}:schema", "3")
        with pytest.raises(SchemaError, match="version 3"):
            open_store(library).list_models()
        assert client.keys(f"{prefix}:*") == [f"{prefix}:schema".encode()]

    @pytest.mark.parametrize("is_interrupted", [False, True])
    def test_library_of_schema_1_is_carried_over(
        self, library: Settings, is_interrupted: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        make_schema_1(library)
        if is_interrupted:
            monkeypatch.setattr("image_search.stores.redis.writes._MIGRATED", 1)
            with monkeypatch.context() as broken:
                broken.setattr(Connection, "_make_index", interrupt)
                with pytest.raises(KeyboardInterrupt):
                    open_store(library).list_models()
        with open_store(library) as store:
            [model] = store.list_models()
            first, second, third = store.get_images([1, 2, 3])
            assert (first.paths, second.paths, third.paths) == ((), ("/photos/a.png",), ())
            assert second.text == ImageText(description="雪", keywords=("山",), taken_at=datetime(2024, 1, 2))
            assert store.find_known_files(["/photos/a.png"])["/photos/a.png"].modified_ns == 7
            assert store.list_paths("/photos") == [("/photos/a.png", 2)]
            assert [hit.image_id for hit in store.search_embedding(1, make_embeddings(3)[1], 1)] == [2]
            assert [hit.image_id for hit in store.list_images(["山"])] == [2]
            assert [hit.image_id for hit in store.list_images(["pn"])] == [3, 2, 1]
            assert store.find_images_without_embedding(1, min_recipe=1) == []
            assert store.count_values("folder") == {"/photos": 1}
            assert store.add_images(model.model_id, [make_image("new")], make_embeddings(1)) == [4]
        assert caplog.text.count("migrated") == 1

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
    def test_stand_in_refuses_what_nobody_thought_about(
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
        chosen = SearchFilter(generator="x", words=("a",), taken_to=datetime(2024, 1, 1))
        store.search_embedding(model.model_id, make_embeddings(1)[0], filter=chosen)
        command = asked[-1]
        assert len(asked[before:]) == 2  # and how many there are in all
        assert re.fullmatch(
            rb'\(@taken_at:\[-inf \([0-9]+\] @tags:\{g[0-9a-f]{24}\} @words:\("a"\)\)=>'
            rb"\[KNN 32 @embedding_1 \$query AS distance\]",
            command[2],
        )


@pytest.mark.engine("redis")
class TestRefusals:
    def test_server_without_the_query_engine_is_told_with_what_to_do(self, tmp_path: Path) -> None:
        store = open_library(f"redis://127.0.0.1:{start_plain_server()}", tmp_path)
        with pytest.raises(SchemaError, match=r"no query engine.*Redis 8"):
            store.list_models()

    def test_server_that_is_away_is_named_without_the_password(self, tmp_path: Path) -> None:
        store = open_library("redis://scott:t1ger@127.0.0.1:1/0", tmp_path)
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1/0") as caught:
            store.list_models()
        assert "t1ger" not in str(caught.value)

    def test_wrong_password_points_at_the_setting(self, tmp_path: Path) -> None:
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
def test_url_that_cannot_be_used_is_refused_without_showing_it(url: str, reason: str, tmp_path: Path) -> None:
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
        folder=value,
        file_name=value,
        file_types=(value,),
        generator=value,
        generation_model=value,
        lora=value,
        camera=value,
        lens=value,
        film_sha256=value,
        keyword=value,
        words=tuple(words),
    )
    for term in re.sub(r"@(tags|words):", "@", build_expression(chosen, words)).split("@")[1:]:
        assert re.fullmatch(r'\{([a-z][0-9a-f]{24}\|?)+\} ?|\{nothing\} ?|\(("[a-z0-9 ]+"\|?)+\) ?', term, re.ASCII)


@given(st.lists(st.sampled_from("ab"), max_size=8), st.lists(st.sampled_from("ab"), min_size=2, max_size=4))
def test_words_are_stored_so_that_the_engine_finds_a_phrase_exactly(text: list[str], phrase: list[str]) -> None:
    stored = make_words([" ".join(text)]).split()
    [asked] = re.findall(r"@words:\((.*)\)", build_expression(SearchFilter(), [" ".join(phrase)]))
    found = any(occurs(stored, one.strip('"').split()) for one in asked.split("|"))
    assert found == (" ".join(phrase) in " ".join(text))


def interrupt(_: object) -> None:
    raise KeyboardInterrupt


def make_schema_1(library: Settings) -> None:
    """Three images as the program of schema 1 wrote them; two of them had one path, the latest is there."""
    client, prefix = connect(library)
    model = {"model_id": 1, "name": "fake", "version": "1", "dimension": 16, "is_current": True}
    client.set(f"{prefix}:schema", "1")
    client.set(f"{prefix}:models", json.dumps([model]))
    client.mset({f"{prefix}:last_model_id": 1, f"{prefix}:last_image_id": 3})
    for image_id, embedding in enumerate(make_embeddings(3), 1):
        record = {
            "image_id": image_id,
            "content_sha256": f"{image_id:064x}",
            "file_name": f"{image_id}.png",
            "file_type": "image/png",
            "byte_size": 10,
            "width": 64,
            "height": 48,
            "upload_date": f"2024-01-0{image_id}T00:00:00",
            "file_path": "/photos/a.png" if image_id < 3 else None,
            "text": ['{"keywords": ["山"]}', None, "雪", None, None, "2024-01-02T00:00:00"],
            "modified_ns": 7,
        }
        if image_id != 2:
            record["text"] = ["{}", None, None, None, None, None]
        fields = {
            "record": json.dumps(record, ensure_ascii=False),
            "models": "1",
            "embedding_1": embedding.tobytes(),
            "preview": b"preview",
            "tags": "old",
            "words": "old",
            "file_type": "image/png",
            "keywords": '["山"]',
        }
        client.hset(f"{prefix}:image:{image_id}", mapping=fields)
        client.hset(f"{prefix}:hashes", f"{image_id:064x}", image_id)


def open_library(url: str, folder: Path) -> ImageStore:
    return open_store(Settings(database_url=url, originals_url=str(folder)))


def end_connections(store: ImageStore) -> None:
    """End the connections of all clients, as a restart of the server does."""
    client = store._server._client  # type: ignore[attr-defined]
    for connection in client.connection_pool._available_connections:
        connection._sock.shutdown(2)
