"""The contract on Elasticsearch, and what only Elasticsearch promises."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_search.errors import SchemaError, SettingsError, StoreError, StoreFull, StoreUnavailable
from image_search.records import EmbeddingModel, ImageText, SearchFilter
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from image_search.stores.elasticsearch import client as elasticsearch_lock
from image_search.stores.elasticsearch.client import build_query, explain_refusal
from tests.contract import ImageStoreContract
from tests.fakes import make_embeddings, make_image, make_images, registrar
from tests.fakes.elasticsearch_server import connect, make_library, remove_library, start_stand_in
from tests.fakes.elasticsearch_stand_in import Rejected

FULL = "index [pictures] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark];"

needs_stand_in = pytest.mark.skipif(
    "ELASTICSEARCH_TEST_URL" in os.environ, reason="only the stand-in refuses what it is told to"
)


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Settings]:
    settings = make_library(tmp_path / "originals")
    yield settings
    remove_library(settings)


@pytest.mark.engine("elasticsearch")
class TestElasticsearchStore(ImageStoreContract):
    @pytest.fixture
    def library(self, library: Settings) -> Settings:
        return library

    def open_library(self, library: Settings) -> ImageStore:
        return open_store(library)

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
    def test_registration_killed_at_any_moment_ends_like_a_clean_run(self, library: Settings) -> None:
        client, index = connect(library)

        def end_lease() -> None:
            client.options(ignore_status=404).delete(index=f"{index}-library", id="writer")

        registrar.kill_and_finish(library, end_lease)
        registrar.check_library(library)

    def test_lock_of_a_program_that_died_is_taken_over(
        self, store: ImageStore, model: EmbeddingModel, library: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client, index = connect(library)
        client.create(index=f"{index}-library", id="writer", document={"holder": "dead"})
        monkeypatch.setattr(elasticsearch_lock, "_LEASE", 0.2)
        assert len(store.add_images(model.model_id, make_images(3), make_embeddings(3))) == 3

    def test_writer_that_lost_its_lock_adds_nothing_and_removes_nothing(
        self, store: ImageStore, model: EmbeddingModel, library: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client, index = connect(library)
        originals: Any = store.originals  # type: ignore[attr-defined]
        write = originals.write

        def write_slowly(contents: dict[str, bytes]) -> None:
            write(contents)
            client.index(index=f"{index}-library", id="writer", document={"holder": "somebody else"})

        monkeypatch.setattr(originals, "write", write_slowly)
        with pytest.raises(StoreUnavailable, match="too long"):
            store.add_images(model.model_id, make_images(3), make_embeddings(3))
        assert store.count_images() == 0
        assert len(list(originals.folder.rglob("*/*"))) == 3  # perhaps the other's

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

    @needs_stand_in
    def test_full_disk_leaves_nothing_of_the_batch(
        self, store: ImageStore, model: EmbeddingModel, library: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, index = connect(library)
        refused = Rejected(429, "cluster_block_exception", FULL)
        monkeypatch.setitem(start_stand_in().refusals, f"/{index}-images/_bulk", refused)
        with pytest.raises(StoreFull, match="disk"):
            store.add_images(model.model_id, make_images(3), make_embeddings(3))
        assert store.count_images() == 0
        assert not list(Path(library.originals_url).rglob("*/*"))

    def test_accepted_part_of_a_refused_batch_is_taken_back(self, store: ImageStore, model: EmbeddingModel) -> None:
        last = make_image("last.png", width=2**40, height=2**40)  # too many pixels for a field of 64 bits
        with pytest.raises(StoreError, match="pixels"):
            store.add_images(model.model_id, [*make_images(2), last], make_embeddings(3))
        assert store.count_images() == 0
        assert store.find_known_hashes([image.content_sha256 for image in make_images(2)]) == {}
        assert len(store.add_images(model.model_id, make_images(2), make_embeddings(2))) == 2

    @needs_stand_in
    def test_batch_sent_twice_because_its_answer_was_lost_is_in_once(
        self, store: ImageStore, model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(start_stand_in(), "repeats_bulk", True)
        image_ids = store.add_images(model.model_id, make_images(3), make_embeddings(3))
        assert store.set_text(image_ids[0], ImageText(description="new"))
        assert store.trash_images(image_ids[1:]) == 2
        assert store.restore_images(image_ids[2:]) == 1
        assert store.delete_images(image_ids[1:]) == 2
        assert [hit.image_id for hit in store.list_images()] == image_ids[:1]
        assert store.list_trash().total == 0

    @needs_stand_in
    def test_batch_refused_in_part_after_it_was_repeated_leaves_nothing(
        self, store: ImageStore, model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(start_stand_in(), "repeats_bulk", True)
        last = make_image("last.png", width=2**40, height=2**40)
        with pytest.raises(StoreError, match="pixels"):
            store.add_images(model.model_id, [*make_images(2), last], make_embeddings(3))
        assert store.count_images() == 0

    @needs_stand_in
    def test_cluster_that_refuses_scripts_gives_the_same_neighbours(
        self, store: ImageStore, model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch, library: Settings
    ) -> None:
        embeddings = make_embeddings(40)
        embeddings[20:] = embeddings[:20]  # every distance twice
        texts = [ImageText(generator="ComfyUI" if n % 3 else None) for n in range(40)]
        images = [make_image(f"{n}", text) for n, text in enumerate(texts)]
        store.add_images(model.model_id, images, embeddings)
        chosen = SearchFilter(generator="ComfyUI")
        monkeypatch.setattr(start_stand_in(), "allows_expensive_queries", False)
        with open_store(library) as frugal:
            for offset in (0, 5, 20):
                found = [frugal.search_embedding(model.model_id, embeddings[3], 7, offset, chosen) for _ in range(2)]
                monkeypatch.setattr(start_stand_in(), "allows_expensive_queries", True)
                wanted = store.search_embedding(model.model_id, embeddings[3], 7, offset, chosen)
                monkeypatch.setattr(start_stand_in(), "allows_expensive_queries", False)
                for hits in found:
                    assert [hit.image_id for hit in hits] == [hit.image_id for hit in wanted]
                    assert [hit.distance for hit in hits] == pytest.approx([hit.distance for hit in wanted], abs=1e-6)
                    assert hits.total == wanted.total == 26
            assert frugal.list_images(["comf"]).total == frugal.list_images(["3"]).total - 1 == 0
            with pytest.raises(StoreError, match=r"allow_expensive_queries.*10,000"):
                frugal.search_embedding(model.model_id, embeddings[3], offset=10_000)

    @needs_stand_in
    def test_serverless_cluster_chooses_its_sizes_itself(
        self, library: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(start_stand_in(), "is_serverless", True)
        with open_store(library) as store:
            model = store.get_or_create_model("fake", "1", 16)
            store.add_images(model.model_id, make_images(3), make_embeddings(3))
            assert store.search_embedding(model.model_id, make_embeddings(1)[0]).total == 3
            with pytest.raises(StoreError, match="so far down"):
                store.list_images(offset=10_000)

    def test_page_too_far_down_is_refused_with_a_sentence(self, store: ImageStore, model: EmbeddingModel) -> None:
        with pytest.raises(StoreError, match="so far down"):
            store.list_images(offset=1_000_000)

    def test_models_of_one_dimension_share_fields_one_after_the_other(
        self, store: ImageStore, model: EmbeddingModel, library: Settings
    ) -> None:
        image_ids = store.add_images(model.model_id, make_images(2), make_embeddings(2))
        for number in range(3):
            other = store.get_or_create_model("other", str(number), 16)
            store.add_embeddings(other.model_id, image_ids[:1], make_embeddings(1, seed=number))
            assert store.search_embedding(other.model_id, make_embeddings(1, seed=number)[0]).total == 1
            assert store.search_embedding(model.model_id, make_embeddings(2)[1], 1)[0].image_id == image_ids[1]
            store.remove_model(other.model_id)
        client, index = connect(library)
        mapping = client.indices.get_mapping(index=f"{index}-images")[f"{index}-images"]["mappings"]["properties"]
        assert sorted(name for name in mapping if name.startswith("vector_")) == ["vector_16", "vector_16_2"]

    def test_values_are_counted_up_to_the_length_an_index_takes(self, store: ImageStore, model: EmbeddingModel) -> None:
        values = ["猫" * 10_922, "😀" * 5_461, "😀" * 20_000]
        images = [make_image(f"{n}", ImageText(generator=value)) for n, value in enumerate(values)]
        store.add_images(model.model_id, images, make_embeddings(3))
        assert store.count_values("generator") == dict.fromkeys(values[:2], 1)
        assert all(store.count_images(SearchFilter(generator=value)) == 1 for value in values)

    def test_newer_schema_is_not_touched(self, library: Settings) -> None:
        client, index = connect(library)
        with open_store(library) as store:
            store.list_models()
        state = client.get(index=f"{index}-library", id="state")["_source"]
        client.index(index=f"{index}-library", id="state", document={**state, "schema": 3})
        with pytest.raises(SchemaError, match="version 3"):
            open_store(library).list_models()

    @pytest.mark.parametrize("is_interrupted", [False, True])
    def test_library_of_schema_1_is_carried_over(
        self, library: Settings, is_interrupted: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        make_schema_1(library)
        monkeypatch.setattr("image_search.stores.elasticsearch.writes._MIGRATED", 2)
        if is_interrupted:
            with monkeypatch.context() as broken:
                broken.setattr(elasticsearch_lock.Held, "keep", property(lambda _: interrupt))
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
            assert store.read_previews([1, 2, 3]) == dict.fromkeys([1, 2, 3], b"preview")
            assert store.get_embedding(3, 1).tobytes() == make_embeddings(3)[2].tobytes()
            assert store.add_images(model.model_id, [make_image("new")], make_embeddings(1)) == [4]
        client, index = connect(library)
        assert not client.indices.exists(index=index)
        assert caplog.text.count("migrated") == 1

    @needs_stand_in
    def test_another_program_that_speaks_alike_is_refused(
        self, library: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(start_stand_in(), "product", "OpenSearch")
        with pytest.raises(StoreError, match="not Elasticsearch"):
            open_store(library).list_models()


def test_server_that_is_away_is_named_without_the_password(tmp_path: Path) -> None:
    store = open_library("elasticsearch://scott:t1ger@127.0.0.1:1/pictures", tmp_path)
    with pytest.raises(StoreUnavailable, match=r"http://127\.0\.0\.1:1/pictures") as caught:
        store.list_models()
    assert "t1ger" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "reason", "error"),
    [(429, FULL, StoreFull), (403, "missing rights", StoreError), (503, "no master", StoreUnavailable)],
)
def test_refusal_says_what_to_do(status: int, reason: str, error: type[Exception]) -> None:
    explained = explain_refusal(status, reason, "http://host:9200/pictures")
    assert type(explained) is error
    assert "http://host:9200/pictures" in str(explained)


@pytest.mark.parametrize(
    "url",
    [
        "elasticsearch://scott:t1ger@host:port/pictures",
        "elasticsearch://",
        "elasticsearch://scott:t1ger@host/Pictures and more",
        "elasticsearch://scott:t1ger@host/pictures?verify=no",
    ],
)
def test_url_that_cannot_be_used_is_refused_without_showing_it(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL") as caught:
        open_library(url, tmp_path)
    assert "t1ger" not in str(caught.value)


def test_url_chooses_tls_and_its_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr("elasticsearch.Elasticsearch", lambda address, **options: asked.update(options, url=address))
    open_library("elasticsearch+https://elastic:a%40b@host/?ca_certs=/etc/ca.crt", tmp_path)
    assert (asked["url"], asked["basic_auth"]) == ("https://host:9200", ("elastic", "a@b"))
    assert asked["ca_certs"] == "/etc/ca.crt"


def test_originals_need_a_place_of_their_own() -> None:
    with pytest.raises(SettingsError, match="ORIGINALS_URL"):
        open_store(Settings.load(None, {"DATABASE_URL": "elasticsearch://localhost", "ORIGINALS_URL": "database"}))


@settings(deadline=None)
@given(st.text(st.characters(min_codepoint=128, exclude_categories=["Cs"]), min_size=1), st.lists(st.text()))
def test_no_text_of_a_person_stands_in_a_query(value: str, words: list[str]) -> None:
    chosen = SearchFilter(
        folder=value,
        file_name=value,
        file_types=(value,),
        generator=value,
        lora=value,
        camera=value,
        lens=value,
        keyword=value,
        words=tuple(words),
    )
    assert json.dumps(build_query(chosen, words), ensure_ascii=False).isascii()


def interrupt() -> None:
    raise KeyboardInterrupt


def make_schema_1(library: Settings) -> None:
    """Three images as the program of schema 1 wrote them; two of them had one path, the latest is there."""
    client, index = connect(library)
    long = {"type": "long"}
    kept = {"type": "keyword", "index": False, "doc_values": False}
    fields = {
        **dict.fromkeys(("image_id", "models"), long),
        "record": kept,
        "preview": {"type": "binary"},
        "vectors": {"type": "object", "enabled": False},
        "embedding_1": {"type": "dense_vector", "dims": 16, "index": False},
    }
    client.indices.create(index=index, mappings={"dynamic": "strict", "properties": fields})
    client.indices.create(index=f"{index}-library", mappings={"enabled": False})
    model = {"model_id": 1, "name": "fake", "version": "1", "dimension": 16, "is_current": True}
    state = {
        "schema": 1,
        "models": json.dumps([model]),
        "last_model_id": 1,
        "last_image_id": 3,
        "removed_originals": [],
    }
    client.index(index=f"{index}-library", id="state", document=state)
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
        document = {
            "image_id": image_id,
            "models": [1],
            "record": json.dumps(record, ensure_ascii=False),
            "preview": base64.b64encode(b"preview").decode(),
            "vectors": {"1": base64.b64encode(embedding.tobytes()).decode()},
            "embedding_1": embedding.tolist(),
        }
        client.index(index=index, id=f"{image_id:064x}", document=document, refresh=True)


def open_library(url: str, folder: Path) -> ImageStore:
    return open_store(Settings(database_url=url, originals_url=str(folder)))
