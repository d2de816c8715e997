"""The contract on PostgreSQL, and what only PostgreSQL promises."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import MagicMock

import psycopg
import pytest
from pgvector.psycopg import register_vector
from psycopg.errors import DiskFull, FeatureNotSupported, InsufficientPrivilege

from image_search.errors import SchemaError, SettingsError, StoreFull, StoreUnavailable
from image_search.records import EmbeddingModel, ImageText, SearchFilter, SearchHit
from image_search.settings import ROOT, Settings
from image_search.stores import open_store, postgres
from image_search.stores.base import ImageStore
from image_search.stores.postgres.database import create_extension, explain_error
from image_search.stores.postgres.rows import explain_search, insert_embeddings
from image_search.stores.tokens import TOKEN_RULE, TOKEN_SETTING
from tests.contract import ImageStoreContract
from tests.fakes import make_embeddings, make_image, make_images, registrar
from tests.fakes.postgres_server import make_library, remove_library


@pytest.fixture
def library() -> Iterator[str]:
    url = make_library()
    yield url
    remove_library(url)


def open_library(url: str) -> ImageStore:
    return open_store(Settings(database_url=url))


@pytest.mark.engine("postgresql")
class TestPostgresStore(ImageStoreContract):
    @pytest.fixture
    def library(self, library: str) -> str:
        return library

    def open_library(self, library: str) -> ImageStore:
        return open_library(library)

    def test_restarted_server_is_not_noticed(self, store: ImageStore, model: EmbeddingModel, library: str) -> None:
        store.add_images(model.model_id, make_images(3), make_embeddings(3))
        end_connections(library)
        assert store.count_images() == 3
        end_connections(library)
        assert len(store.add_images(model.model_id, [make_image("new.png")], make_embeddings(1))) == 1

    def test_connection_that_breaks_in_a_batch_leaves_nothing_and_the_batch_goes_in_again(
        self, store: ImageStore, model: EmbeddingModel, library: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def insert_and_break(*arguments: object) -> None:
            insert_embeddings(*arguments)
            end_connections(library)

        monkeypatch.setattr(postgres, "insert_embeddings", insert_and_break)
        with pytest.raises(StoreUnavailable, match="postgresql://"):
            store.add_images(model.model_id, make_images(5), make_embeddings(5))
        monkeypatch.undo()
        assert store.count_images() == 0
        assert len(store.add_images(model.model_id, make_images(5), make_embeddings(5))) == 5

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
    def test_registration_killed_at_any_moment_ends_like_a_clean_run(self, library: str, tmp_path: Path) -> None:
        settings = Settings(database_url=library, originals_url=str(tmp_path / "originals"))
        registrar.kill_and_finish(settings)
        registrar.check_library(settings)

    def test_user_who_may_only_read_finds_words_as_they_were_indexed(
        self, store: ImageStore, model: EmbeddingModel, library: str
    ) -> None:
        store.add_images(model.model_id, [make_image("cat.png")], make_embeddings(1))
        store.set_setting(TOKEN_SETTING, "1")
        with open_library(f"{library}%20-cdefault_transaction_read_only%3Don") as reader:
            assert len(reader.list_images(["cat"])) == 1
            assert reader.list_settings(TOKEN_SETTING) == {TOKEN_SETTING: "1"}
        with open_library(library) as writer:
            assert writer.list_settings(TOKEN_SETTING) == {TOKEN_SETTING: str(TOKEN_RULE)}

    def test_first_starts_at_once_make_one_schema(self, library: str) -> None:
        for _ in range(3):
            with ThreadPoolExecutor(8) as pool:
                models = list(pool.map(lambda _: make_first_model(library), range(8)))
            assert len(set(models)) == 1
            with psycopg.connect(library, autocommit=True) as connection:
                [schema] = connection.execute("SELECT current_schema()").fetchone() or [""]
                connection.execute(f"DROP SCHEMA {schema} CASCADE; CREATE SCHEMA {schema}")

    def test_view_has_the_columns_of_the_original_application_first(self, store: ImageStore, library: str) -> None:
        store.list_models()
        with psycopg.connect(library) as connection:
            columns = connection.execute("SELECT * FROM current_image_embeddings").description or []
        assert [column.name for column in columns] == ["embedding_id", "image_id", "embedding", "model_id"]

    def test_model_that_is_not_current_is_searched_in_the_table(self, store: ImageStore, model: EmbeddingModel) -> None:
        other = store.get_or_create_model("other", "1", 16)
        image_ids = store.add_images(model.model_id, make_images(3), make_embeddings(3))
        store.add_embeddings(other.model_id, image_ids[:2], make_embeddings(2, seed=5))
        for current in (model, other):
            store.set_current_model(current.model_id)
            assert [
                hit.image_id for hit in store.search_embedding(other.model_id, make_embeddings(2, seed=5)[1], 1)
            ] == [image_ids[1]]
            assert store.search_embedding(model.model_id, make_embeddings(1)[0], 1).total == 3

    def test_texts_of_any_length_are_stored_and_found(self, store: ImageStore, model: EmbeddingModel) -> None:
        long = "長い" * 3000
        endless = "".join(chr(0x4E00 + n * 7919 % 20000) for n in range(250_000))  # more pairs than an index row holds
        run = "x" * 10_000
        texts = [
            ImageText(generation_prompt=long, generator=long, generation_model=long, keywords=(long,)),
            ImageText(description=endless),
            ImageText(description=run),
        ]
        images = [make_image(f"{n}.png", text, file_path=f"/{long}/{n}") for n, text in enumerate(texts)]
        image_ids = store.add_images(model.model_id, images, make_embeddings(3))
        assert [hit.image_id for hit in store.list_images([endless[200_000:200_006]])] == [image_ids[1]]
        assert [hit.image_id for hit in store.list_images([run])] == [image_ids[2]]
        assert len(store.list_images([run + "x"])) == 0
        assert store.count_images(SearchFilter(keyword=long, generator=long, generation_model=long)) == 1
        assert store.find_known_files([f"/{long}/2"])[f"/{long}/2"].image_id == image_ids[2]

    def test_large_embeddings_are_kept(self, store: ImageStore) -> None:
        model = store.get_or_create_model("large", "1", 4096)
        embeddings = make_embeddings(3, 4096)
        image_ids = store.add_images(model.model_id, make_images(3), embeddings)
        assert [hit.image_id for hit in store.search_embedding(model.model_id, embeddings[1], 1)] == [image_ids[1]]

    def test_index_of_the_manual_is_used_and_a_filter_stays_complete(
        self, store: ImageStore, model: EmbeddingModel, library: str
    ) -> None:
        count = 1500
        embeddings = make_embeddings(count)
        images = [make_image(f"{n}.png", ImageText(generator="rare" if n % 50 == 0 else "often")) for n in range(count)]
        store.add_images(model.model_id, images, embeddings)
        exact = [store.search_embedding(model.model_id, query) for query in make_embeddings(20, seed=1)]
        manual = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
        [statement] = re.findall(r"^CREATE INDEX CONCURRENTLY.*?;", manual, re.DOTALL | re.MULTILINE)
        statement = (
            statement.replace("768", "16")
            .replace(" CONCURRENTLY", "")
            .replace("model_id = 1", f"model_id = {model.model_id}")
        )
        with psycopg.connect(library, autocommit=True) as connection:
            connection.execute(statement)
            connection.execute("ANALYZE images, image_embeddings, embedding_models")
            register_vector(connection)
            assert "embeddings_of_model_1" in explain_search(connection, model)
        approximate = [store.search_embedding(model.model_id, query) for query in make_embeddings(20, seed=1)]
        assert {hits.total for hits in approximate} == {count}
        same = [len({*map(get_id, a)} & {*map(get_id, b)}) for a, b in zip(exact, approximate, strict=True)]
        assert sum(same) >= 0.95 * 20 * 16
        rare = store.search_embedding(model.model_id, embeddings[0], 30, filter=SearchFilter(generator="rare"))
        assert len(rare) == 30

    def test_originals_may_live_in_a_folder(self, library: str, tmp_path: Path) -> None:
        settings = Settings(database_url=library, originals_url=str(tmp_path / "originals"))
        image = make_image("a.png")
        with open_store(settings) as store:
            model = store.get_or_create_model("fake", "1", 16)
            [image_id] = store.add_images(model.model_id, [image], make_embeddings(1))
            assert store.read_original(image_id) == image.data
            assert [path.read_bytes() for path in tmp_path.rglob(image.content_sha256)] == [image.data]
            store.trash_images([image_id])
            assert store.read_original(image_id) == image.data
            store.delete_images([image_id])
            assert not list(tmp_path.rglob(image.content_sha256))


@pytest.mark.engine("postgresql")
class TestRefusals:
    def test_server_that_is_away_is_named_without_the_password(self) -> None:
        store = open_library("postgresql://scott:t1ger@127.0.0.1:1/pictures")
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1/pictures") as caught:
            store.list_models()
        assert "t1ger" not in str(caught.value)

    def test_url_that_cannot_be_read_is_refused_without_showing_it(self) -> None:
        with pytest.raises(SettingsError, match="DATABASE_URL") as caught:
            open_library("postgresql://scott:t1%ger@host/pictures")
        assert "t1" not in str(caught.value)

    @pytest.mark.parametrize("password", ["t1ger@home", "t1/ger", "12/ger", "t1@g/er", "t1?g@er"])
    def test_password_that_breaks_the_url_is_refused_without_showing_any_of_it(self, password: str) -> None:
        with pytest.raises(SettingsError, match="%40 for @") as caught:
            open_library(f"postgresql://scott:{password}@db.example:5432/pictures")
        assert "ger" not in str(caught.value)

    def test_password_with_every_special_character_spelt_out_is_taken(self) -> None:
        store = open_library("postgresql://scott:t1%40g%2Fer@127.0.0.1:1/pictures")
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1/pictures") as caught:
            store.list_models()
        assert "er@" not in str(caught.value)

    def test_tables_of_another_program_are_left_alone(self, library: str) -> None:
        with psycopg.connect(library, autocommit=True) as connection:
            connection.execute("CREATE TABLE images (id integer)")
        with pytest.raises(SchemaError, match="another program"):
            open_library(library).list_models()

    def test_newer_schema_is_not_touched(self, library: str) -> None:
        open_library(library).list_models()
        with psycopg.connect(library, autocommit=True) as connection:
            connection.execute("INSERT INTO image_search_schema VALUES (3)")
        with pytest.raises(SchemaError, match="version 3"):
            open_library(library).list_models()

    @pytest.mark.parametrize(
        ("refusal", "advice"),
        [(FeatureNotSupported, "apt install postgresql-"), (InsufficientPrivilege, "CREATE EXTENSION vector")],
    )
    def test_missing_pgvector_is_answered_with_the_command(self, refusal: type[Exception], advice: str) -> None:
        connection = MagicMock()
        connection.info.server_version = 170006
        connection.execute.side_effect = refusal("refused")
        connection.transaction.return_value.__exit__.return_value = False
        with pytest.raises(SchemaError, match=advice):
            create_extension(connection, "postgresql://host/pictures")

    def test_full_disk_says_that_nothing_was_kept(self) -> None:
        assert isinstance(explain_error(DiskFull("could not extend file"), "postgresql://host/x"), StoreFull)


def make_first_model(url: str) -> EmbeddingModel:
    with open_library(url) as store:
        return store.get_or_create_model("fake", "1", 16)


def get_id(hit: SearchHit) -> int:
    return hit.image_id


def end_connections(url: str) -> None:
    """End the connections of all clients, as a restart of the server does."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
