"""The contract on a real Oracle Database, and what only a real one can show: pytest --store oracle

Needs DB_USER, DB_PASSWORD and DB_DSN of a user whose library is empty (see docs/oracle.md): every test empties it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from image_search.errors import ImageSearchError
from image_search.records import EmbeddingModel, ImageText
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from image_search.stores.oracle.connection import connect
from image_search.stores.oracle.health import check_oracle
from image_search.stores.oracle.migration import migrate
from image_search.stores.oracle.schema import create_schema, read_tables, set_vector_index
from image_search.stores.oracle.sql import count_images
from tests.contract import ImageStoreContract
from tests.fakes import make_embeddings, make_image, make_images
from tests.oracle.test_migration import read_image

pytestmark = pytest.mark.engine("oracle")

# As the original application made them.
ORIGINAL_TABLES = (
    "CREATE TABLE images (image_id NUMBER GENERATED ALWAYS AS IDENTITY PRIMARY KEY, image_data BLOB, "
    "file_name VARCHAR2(255), file_type VARCHAR2(50), upload_date TIMESTAMP DEFAULT CURRENT_TIMESTAMP, "
    "generation_prompt CLOB)",
    "CREATE TABLE embedding_models (model_id NUMBER GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
    "model_name VARCHAR2(255), model_version VARCHAR2(50), is_current CHAR(1) CHECK (is_current IN ('Y', 'N')), "
    "vector_dimension NUMBER)",
    "CREATE TABLE image_embeddings (embedding_id NUMBER GENERATED ALWAYS AS IDENTITY PRIMARY KEY, image_id NUMBER, "
    "model_id NUMBER, embedding VECTOR, CONSTRAINT fk_image_embedding FOREIGN KEY (image_id) REFERENCES images, "
    "CONSTRAINT fk_model_embedding FOREIGN KEY (model_id) REFERENCES embedding_models)",
    "CREATE VECTOR INDEX image_embedding_idx ON image_embeddings (embedding) ORGANIZATION NEIGHBOR PARTITIONS "
    "WITH DISTANCE DOT",
    "CREATE TABLE image_descriptions (description_id NUMBER GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
    "image_id NUMBER, description CLOB, "
    "CONSTRAINT fk_image_description FOREIGN KEY (image_id) REFERENCES images)",
)
ORIGINAL_ROWS = (
    "INSERT INTO embedding_models (model_name, model_version, is_current, vector_dimension) VALUES ('a', '1', 'Y', 16)",
    *(
        f"INSERT INTO images (image_data, file_name, file_type, generation_prompt) "
        f"VALUES (HEXTORAW('{data.hex()}'), '{data.decode()}.png', 'png', '猫')"
        for data in (b"one", b"two", b"one")
    ),
    *(
        "INSERT INTO image_embeddings (image_id, model_id, embedding) "
        f"VALUES ({row}, 1, '{json.dumps(vector.tolist())}')"
        for row, vector in enumerate(make_embeddings(2), start=1)
    ),
    "INSERT INTO image_descriptions (image_id, description) VALUES (2, 'once')",
    "INSERT INTO image_descriptions (image_id, description) VALUES (2, 'twice')",
)


@pytest.fixture(scope="module")
def settings() -> Settings:
    """Settings of a database that is there and holds no library."""
    settings = replace(Settings.load(), originals_url="")
    if not settings.uses_oracle:
        pytest.fail("--store oracle needs a database: set DB_USER, DB_PASSWORD and DB_DSN.", pytrace=False)
    try:
        for _ in range(2):  # it may be made any number of times
            list(create_schema(settings))
        with connect(settings) as session:
            count = session.query(count_images([]))[0][0]
    except ImageSearchError as error:
        pytest.fail(f"--store oracle: {error}", pytrace=False)
    if count:
        pytest.fail(
            f"{settings.db_user} holds {count} images. The tests empty it: use a user of their own.", pytrace=False
        )
    return settings


@pytest.fixture
def empty_library(settings: Settings) -> Iterator[Settings]:
    yield settings
    with connect(settings) as session:
        for table in ("images", "embedding_models", "deleted_images", "library_settings"):
            session.execute(f"DELETE FROM {table}")
        session.connection.commit()
    set_vector_index(settings, "none")


class TestOracleStore(ImageStoreContract):
    @pytest.fixture
    def library(self, empty_library: Settings) -> Settings:
        return empty_library

    def open_library(self, library: Settings) -> ImageStore:
        return open_store(library)

    def test_remedy_is_empty_where_nothing_is_wrong(
        self, store: ImageStore, model: EmbeddingModel, library: Settings
    ) -> None:
        store.add_images(model.model_id, make_images(3), make_embeddings(3))
        assert [finding for finding in check_oracle(library) if not finding.ok] == []

    @pytest.mark.parametrize("kind", ["ivf", "none"])
    def test_vector_index_finds_what_the_exact_search_finds(
        self, store: ImageStore, model: EmbeddingModel, library: Settings, kind: str
    ) -> None:
        embeddings = make_embeddings(1000)
        image_ids = np.array(store.add_images(model.model_id, make_images(1000), embeddings))
        set_vector_index(library, kind)  # type: ignore[arg-type]
        with open_store(library) as another:  # which has not looked for indexes yet
            query = make_embeddings(1, seed=7)[0]
            found = {hit.image_id for hit in another.search_embedding(model.model_id, query, 16)}
            another.add_images(model.model_id, [make_image("later.png")], make_embeddings(1, seed=8))
        nearest = {int(image_id) for image_id in image_ids[np.argsort(-(embeddings @ query))[:16]]}
        assert len(found & nearest) >= 14

    def test_words_are_found_as_soon_as_they_are_committed(self, store: ImageStore, model: EmbeddingModel) -> None:
        text = ImageText(generation_prompt="銀河鉄道の夜, masterpiece, 1girl")
        [image_id] = store.add_images(model.model_id, [make_image("x.png", text)], make_embeddings(1))
        for word in ("銀河", "銀河鉄道の夜", "夜", "masterpiece", "1girl", "x.png"):
            assert [hit.image_id for hit in store.list_images([word])] == [image_id], word

    def test_large_texts_and_originals_come_back_whole(self, store: ImageStore, model: EmbeddingModel) -> None:
        text = ImageText(generation_prompt="長い" * 20_000, raw={"workflow": "{}" * 50_000}, keywords=("k" * 200,))
        image = make_image("large.png", text, data=bytes(range(256)) * 40_000)
        [image_id] = store.add_images(model.model_id, [image], make_embeddings(1))
        assert store.get_image(image_id).text == text
        assert store.read_original(image_id) == image.data

    def test_library_of_the_original_application_is_migrated(self, library: Settings) -> None:
        with connect(library) as session:
            for table in read_tables():
                session.execute(f"DROP TABLE {table} CASCADE CONSTRAINTS PURGE")
            for statement in (*ORIGINAL_TABLES, *ORIGINAL_ROWS):
                session.execute(statement)
            session.connection.commit()
        assert "1 images have the same bytes" in list(migrate(library, read_image, dry_run=True))[-1]
        list(migrate(library, read_image))
        list(migrate(library, read_image))  # twice is as good as once
        with open_store(library) as store:
            [model] = store.list_models()
            hits = store.search_embedding(model.model_id, make_embeddings(2)[1])
            assert [(hit.image.file_name, hit.image.text.description) for hit in hits] == [
                ("two.png", "twice"),
                ("one.png", None),
            ]
            assert len(store.list_images(["猫"])) == 2
            store.add_images(model.model_id, [make_image("new.png")], make_embeddings(1))
            assert store.delete_images([hit.image_id for hit in hits]) == 2
        assert [finding for finding in check_oracle(library) if not finding.ok] == []
