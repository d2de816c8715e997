"""--check on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from image_search.cli.health import check_library
from image_search.records import Finding
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from tests.fakes import make_embeddings, make_images
from tests.fakes.postgres_server import make_library, remove_library

pytestmark = pytest.mark.engine("postgresql")

NAME = "embeddings_of_model_1"
INDEX = f"CREATE INDEX {NAME} ON image_embeddings USING hnsw ((embedding::vector(16)) vector_ip_ops) WHERE model_id = 1"


@pytest.fixture
def library() -> Iterator[str]:
    url = make_library()
    yield url
    remove_library(url)


@pytest.fixture
def store(library: str) -> Iterator[ImageStore]:
    with open_store(Settings(database_url=library)) as store:
        model = store.get_or_create_model("fake", "1", 16)
        store.add_images(model.model_id, make_images(100), make_embeddings(100))
        yield store


def look_at(store: ImageStore) -> dict[str, Finding]:
    return {finding.name: finding for finding in check_library(store)}


def test_healthy_library_has_no_fault(store: ImageStore) -> None:
    findings = look_at(store)
    assert [finding for finding in findings.values() if not finding.ok] == []
    assert "100 images in PostgreSQL" in findings["library"].what
    assert findings["vector index"].what == "none: every search is exact"
    assert findings["originals"].what == "in the database"


def test_index_is_named_and_whether_it_is_used(store: ImageStore, library: str) -> None:
    with psycopg.connect(library, autocommit=True) as connection:
        connection.execute(INDEX)
        what = look_at(store)["vector index"].what
        assert what.startswith(f"{NAME} (hnsw, ")
        assert "used for the current model" in what
        connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", [NAME])
    finding = look_at(store)["vector index"]
    assert not finding.ok
    assert f"DROP INDEX {NAME}" in finding.remedy


def test_server_that_is_away_is_one_fault() -> None:
    with open_store(Settings(database_url="postgresql://u:Never_Shown_1@127.0.0.1:1/x")) as store:
        faults = [finding for finding in check_library(store) if not finding.ok]
    assert [fault.name for fault in faults] == ["library"]
    assert "Never_Shown_1" not in str(faults)


def test_index_that_searches_do_not_use_is_a_fault(store: ImageStore, library: str) -> None:
    with psycopg.connect(library, autocommit=True) as connection:
        connection.execute(INDEX.replace("vector_ip_ops", "vector_l2_ops"))
    finding = look_at(store)["vector index"]
    assert not finding.ok
    assert "not used for the current model" in finding.what
    assert f"DROP INDEX {NAME}" in finding.remedy
