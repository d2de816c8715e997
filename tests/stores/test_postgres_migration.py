"""A PostgreSQL library of schema 1 becomes one of schema 2: nothing differs that should not."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import psycopg
import pytest

from image_search.errors import StoreError
from image_search.records import Edits, ImageText, SearchFilter
from image_search.settings import ROOT, Settings
from image_search.stores import open_store, postgres
from image_search.stores.base import ImageStore
from tests.fakes import make_embeddings, make_image
from tests.fakes.postgres_server import make_library, remove_library

pytestmark = pytest.mark.engine("postgresql")

DUMP = ROOT / "tests" / "fixtures" / "schema1" / "postgres.sql"


@pytest.fixture
def library() -> Iterator[str]:
    """A library of schema 1, as the program of that time made it."""
    url = make_library()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(DUMP.read_text(encoding="utf-8"))
    yield url
    remove_library(url)


def open_library(url: str) -> ImageStore:
    return open_store(Settings(database_url=url))


def find_version(url: str) -> int:
    with psycopg.connect(url) as connection:
        [version] = connection.execute("SELECT max(schema_version) FROM image_search_schema").fetchone() or [0]
    return int(version)


def test_images_texts_paths_and_embeddings_are_carried_over(library: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), open_library(library) as store:
        records = store.get_images(range(1, 7))
        assert [message for message in caplog.messages if "migrated the library to schema 2" in message]
        assert [record.file_name for record in records] == [
            "猫.png",
            "sea.jpg",
            "x.png",
            "x.png",
            "top.png",
            "写真5.png",
        ]
        # The older content of a path that was written over has no place any more.
        assert [record.file_path for record in records] == [
            *("/写真/猫.png", "/photos/sea.jpg", None, "/photos/2024/x.png", "/top.png", None)
        ]
        assert records[0].text == ImageText(
            generation_prompt="葛󠄀城の猫, masterpiece\nSteps: 20",
            generator="AUTOMATIC1111",
            prompt="葛󠄀城の猫, masterpiece",
            generation_model="sd_xl",
            seed="18446744073709551617",
            keywords=("山", "Paris"),
            raw={"parameters": "…"},
        )
        assert records[1].text.taken_at == datetime(2024, 5, 1)
        assert all((record.edits, record.deleted_at, record.recipe) == (Edits(), None, 1) for record in records)
        assert store.read_original(1) == b"picture 0"
        assert store.read_preview(6) == b"preview of picture 5"
        known = store.find_known_files(["/写真/猫.png", "/photos/2024/x.png"])
        assert {path: (file.image_id, file.byte_size, file.modified_ns) for path, file in known.items()} == {
            "/写真/猫.png": (1, 9, 2**60),
            "/photos/2024/x.png": (4, 9, 2**60 + 3),
        }
        first, second = store.list_models()
        assert store.get_status().models == ((first, 6), (second, 3))
        assert first.is_current
        query = store.get_embedding(2, first.model_id)
        assert store.search_embedding(first.model_id, query, 1)[0].image_id == 2
        assert store.has_held_images()


def test_migrated_library_is_searched_edited_and_emptied_like_a_new_one(library: str) -> None:
    with open_library(library) as store:
        for term, ids in (("葛城", [1]), ("cafe", [2]), ("cat", [3]), ("山", [6, 1]), ("sea.jpg", [2])):
            assert [hit.image_id for hit in store.list_images([term])] == ids, term
        assert store.count_images(SearchFilter(camera="NIKON Z 6_2", lens="24-70mm f/4")) == 1
        assert store.count_images(SearchFilter(folder="/photos")) == 2
        assert store.count_values("keyword") == {"山": 2, "Paris": 1}
        assert [hit.image_id for hit in store.list_images(order="name")] == [2, 5, 3, 4, 6, 1]
        assert store.set_edits(1, Edits(keywords=("川",)))
        assert store.count_images(SearchFilter(keyword="山")) == 1
        assert store.trash_images([1, 3]) == 2
        assert store.count_images() == 4
        assert store.empty_trash() == 2
        assert len(store.list_deleted()) == 2
        assert store.add_images(1, [make_image("new.png")], make_embeddings(1)) == [7]


def test_migration_that_breaks_off_is_done_again(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(connection: psycopg.Connection[tuple[object, ...]]) -> None:
        postgres.rewrite_texts_whole(connection)  # type: ignore[attr-defined]
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr(postgres, "rewrite_texts_whole", postgres.rewrite_texts, raising=False)
    monkeypatch.setattr(postgres, "rewrite_texts", break_off)
    with pytest.raises(StoreError):
        open_library(library).list_models()
    assert find_version(library) == 1
    monkeypatch.undo()
    with open_library(library) as store:
        assert store.count_images() == 6
    assert find_version(library) == 2


def test_programs_that_start_at_once_migrate_it_once(library: str) -> None:
    def count(_: int) -> int:
        with open_library(library) as store:
            return store.count_images()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(count, range(4))) == [6] * 4
    with psycopg.connect(library) as connection:
        [rows] = connection.execute("SELECT count(*) FROM image_paths").fetchone() or [0]
    assert rows == 4
