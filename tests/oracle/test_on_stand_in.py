"""The whole contract on the Oracle store, with and without its two indexes, over the stand-in."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import oracledb
import pytest

from image_search.settings import Settings
from image_search.stores.base import ImageStore
from image_search.stores.oracle import OracleStore
from tests.contract import ImageStoreContract
from tests.fakes import make_embeddings, make_image
from tests.oracle.stand_in import StandIn

SETTINGS = Settings(db_user="imgsearch", db_password="never shown", db_dsn="db.example:1521/FREEPDB1")


class TestOracleOnStandIn(ImageStoreContract):
    @pytest.fixture
    def library(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
        stand_in = StandIn(tmp_path / "oracle.db")
        monkeypatch.setattr(oracledb, "create_pool", stand_in.create_pool)
        return stand_in

    def open_library(self, library: StandIn) -> ImageStore:
        return OracleStore.open(SETTINGS)


class TestOracleWithBothIndexes(TestOracleOnStandIn):
    @pytest.fixture
    def library(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
        stand_in = StandIn(tmp_path / "oracle.db")
        stand_in.has_text_index = True
        stand_in.vector_index = "NEIGHBOR_PARTITIONS_IVF"
        monkeypatch.setattr(oracledb, "create_pool", stand_in.create_pool)
        return stand_in


def test_the_date_of_an_image_is_the_databases_own_unless_one_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = StandIn(tmp_path / "oracle.db")
    monkeypatch.setattr(oracledb, "create_pool", database.create_pool)
    store = OracleStore.open(SETTINGS)
    model = store.get_or_create_model("fake", "1", 16)
    given = datetime(2020, 1, 2, 3, 4, 5, 678)
    images = [make_image("now.png"), replace(make_image("then.png"), upload_date=given)]
    database.statements.clear()
    ids = store.add_images(model.model_id, images, make_embeddings(2))
    assert store.get_image(ids[1]).upload_date == given
    assert store.get_image(ids[0]).upload_date > given
    [statement, _] = [text for text in database.statements if "INSERT INTO images" in text]
    assert "COALESCE(:upload_date, SYS_EXTRACT_UTC(SYSTIMESTAMP))" in statement
