"""The contract on Elasticsearch, and what only Elasticsearch promises."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_search.errors import SchemaError, SettingsError, StoreError, StoreFull, StoreUnavailable
from image_search.records import EmbeddingModel, SearchFilter
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from image_search.stores.elasticsearch import client as elasticsearch_lock
from image_search.stores.elasticsearch.client import explain_refusal
from image_search.stores.elasticsearch.documents import build_query
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

    def test_the_lock_of_a_program_that_died_is_taken_over(
        self, store: ImageStore, model: EmbeddingModel, library: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client, index = connect(library)
        client.create(index=f"{index}-library", id="writer", document={"holder": "dead"})
        monkeypatch.setattr(elasticsearch_lock, "_LEASE", 0.2)
        assert len(store.add_images(model.model_id, make_images(3), make_embeddings(3))) == 3

    def test_a_writer_that_lost_its_lock_adds_nothing_and_removes_nothing(
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
    def test_a_full_disk_leaves_nothing_of_the_batch(
        self, store: ImageStore, model: EmbeddingModel, library: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, index = connect(library)
        refused = Rejected(429, "cluster_block_exception", FULL)
        monkeypatch.setitem(start_stand_in().refusals, f"/{index}/_bulk", refused)
        with pytest.raises(StoreFull, match="disk"):
            store.add_images(model.model_id, make_images(3), make_embeddings(3))
        assert store.count_images() == 0
        assert not list(Path(library.originals_url).rglob("*/*"))

    def test_what_was_accepted_of_a_refused_batch_is_taken_back(self, store: ImageStore, model: EmbeddingModel) -> None:
        last = make_image("last.png", width=2**40, height=2**40)  # too many pixels for a field of 64 bits
        with pytest.raises(StoreError, match="pixels"):
            store.add_images(model.model_id, [*make_images(2), last], make_embeddings(3))
        assert store.count_images() == 0
        assert store.find_known_hashes([image.content_sha256 for image in make_images(2)]) == {}
        assert len(store.add_images(model.model_id, make_images(2), make_embeddings(2))) == 2

    def test_a_newer_schema_is_not_touched(self, library: Settings) -> None:
        client, index = connect(library)
        with open_store(library) as store:
            store.list_models()
        state = client.get(index=f"{index}-library", id="state")["_source"]
        client.index(index=f"{index}-library", id="state", document={**state, "schema": 2})
        with pytest.raises(SchemaError, match="version 2"):
            open_store(library).list_models()

    @needs_stand_in
    def test_another_program_that_speaks_alike_is_refused(
        self, library: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(start_stand_in(), "product", "OpenSearch")
        with pytest.raises(StoreError, match="not Elasticsearch"):
            open_store(library).list_models()


def test_a_server_that_is_away_is_named_without_the_password(tmp_path: Path) -> None:
    store = open_library("elasticsearch://scott:t1ger@127.0.0.1:1/pictures", tmp_path)
    with pytest.raises(StoreUnavailable, match=r"http://127\.0\.0\.1:1/pictures") as caught:
        store.list_models()
    assert "t1ger" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "reason", "error"),
    [(429, FULL, StoreFull), (403, "missing rights", StoreError), (503, "no master", StoreUnavailable)],
)
def test_a_refusal_says_what_to_do(status: int, reason: str, error: type[Exception]) -> None:
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
def test_a_url_that_cannot_be_used_is_refused_without_showing_it(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL") as caught:
        open_library(url, tmp_path)
    assert "t1ger" not in str(caught.value)


def test_the_url_chooses_tls_and_its_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        folder=value, file_types=(value,), generator=value, generation_model=value, keyword=value, words=tuple(words)
    )
    assert json.dumps(build_query(chosen, words), ensure_ascii=False).isascii()


def open_library(url: str, folder: Path) -> ImageStore:
    return open_store(Settings(database_url=url, originals_url=str(folder)))
