"""A library is copied whole, is checked on arrival, and an interrupted copy goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

import register_images
from image_search.cli.register import choose_source
from image_search.errors import StoreError, StoreUnavailable
from image_search.records import ImageText
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from image_search.stores.copy import copy_library
from tests.fakes import engines, make_embeddings, make_image
from tests.fakes.engines import each_other_engine

COUNT = 150
OPTIONS = {"file_path": "/photos/a.png", "modified_ns": 2**62 + 1, "width": 640, "height": 480}
TEXT = ImageText(
    generation_prompt="富士山, masterpiece\nSteps: 20",
    description="雪の富士山",
    generator="ComfyUI",
    cfg=7.5,
    keywords=("山", "雪"),
    taken_at=datetime(2024, 1, 2, 3, 4, 5),
    raw={"parameters": "富士山"},
)


@pytest.fixture
def new_library(tmp_path: Path) -> Iterator[Callable[[str], ImageStore]]:
    """Opens an embedded library of this name."""
    opened = []

    def open_library(name: str) -> ImageStore:
        opened.append(open_store(Settings(database_url=f"sqlite:///{tmp_path / name}.db")))
        return opened[-1]

    yield open_library
    for store in opened:
        store.close()


@pytest.fixture
def source(new_library: Callable[[str], ImageStore]) -> ImageStore:
    """150 images with embeddings of two models, the second current; some have been deleted again."""
    store = new_library("source")
    first = store.get_or_create_model("fake", "1", 16)
    second = store.get_or_create_model("large", "2", 32)
    images = [make_image("富士山.png", TEXT, **OPTIONS), *(make_image(f"{n}.png") for n in range(1, COUNT + 2))]
    images = [replace(image, upload_date=datetime(2024, 5, 6, 7, 8, n % 60, n)) for n, image in enumerate(images)]
    image_ids = store.add_images(first.model_id, images, make_embeddings(COUNT + 2))
    store.add_embeddings(second.model_id, image_ids[::2], make_embeddings(COUNT + 2, 32)[::2])
    store.set_current_model(second.model_id)
    store.delete_images(image_ids[3:5])
    return store


def describe(store: ImageStore) -> list[tuple[object, ...]]:
    """Everything a store knows, image by image in their order, but for the ids."""
    models = store.list_models()
    library: list[tuple[object, ...]] = [
        (model.name, model.version, model.dimension, model.is_current) for model in models
    ]
    lacking = {model.model_id: store.find_images_without_embedding(model.model_id, limit=10_000) for model in models}
    for image_id in store.list_image_ids(limit=10_000):
        record = store.get_image(image_id)
        embeddings = []
        for model in models:
            if image_id not in lacking[model.model_id]:
                embeddings.append((model.name, store.get_embedding(image_id, model.model_id).tobytes()))
        file = store.find_known_files([record.file_path]) if record.file_path else {}
        library.append(
            (
                replace(record, image_id=0),
                store.read_original(image_id),
                store.read_preview(image_id),
                [known.modified_ns for known in file.values()],
                embeddings,
            )
        )
    return library


def test_a_copy_is_equal_and_a_second_one_adds_nothing(source, new_library):
    target = new_library("target")
    report = copy_library(source, target)
    assert (report.images, report.added_images, report.added_embeddings) == (COUNT, COUNT, COUNT + 75)
    assert (report.failures, report.images_without_embedding) == ([], 0)
    assert describe(target) == describe(source)
    again = copy_library(source, target)
    assert (again.added_images, again.added_embeddings, again.embeddings_already_there) == (0, 0, COUNT + 75)


def test_an_interrupted_copy_goes_on(source, new_library):
    target = new_library("target")

    def interrupt(report):
        if report.added_images >= 64:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_library(source, target, interrupt)
    assert target.count_images() == 64
    assert copy_library(source, target).added_images == COUNT - 64
    assert describe(target) == describe(source)


def test_what_the_target_has_of_its_own_stays(source, new_library):
    target = new_library("target")
    own = target.get_or_create_model("own", "1", 8)
    [image_id] = target.add_images(
        own.model_id, [make_image("1.png", ImageText(description="mine"))], make_embeddings(1, 8)
    )
    report = copy_library(source, target)
    assert report.added_images == COUNT - 1
    assert target.get_image(image_id).text.description == "mine"
    assert target.find_current_model() == own
    copied = next(model for model in target.list_models() if model.name == "fake")
    assert np.array_equal(target.get_embedding(image_id, copied.model_id), make_embeddings(2)[1])


def test_a_lost_original_is_reported_and_keeps_no_other_image(source, new_library, monkeypatch):
    [lost] = source.find_by_file_name("7.png")
    read = source.read_original

    def read_original(image_id):
        if image_id == lost:
            raise StoreError("The original of 7.png is missing.")
        return read(image_id)

    monkeypatch.setattr(source, "read_original", read_original)
    report = copy_library(source, new_library("target"))
    assert report.added_images == COUNT - 1
    assert set(report.failures) == {"The original of 7.png is missing."}


def test_a_store_that_is_away_ends_the_copy(source, new_library, monkeypatch):
    def read_original(_):
        raise StoreUnavailable("away")

    monkeypatch.setattr(source, "read_original", read_original)
    with pytest.raises(StoreUnavailable):
        copy_library(source, new_library("target"))


def test_a_target_that_damages_an_original_is_noticed(source, new_library, monkeypatch):
    target = new_library("target")
    monkeypatch.setattr(target, "read_original", lambda _: b"damaged")
    with pytest.raises(StoreError, match="did not arrive whole"):
        copy_library(source, target)


def test_an_image_of_no_model_stays_behind_and_is_counted(source, new_library):
    first, _ = source.list_models()
    source.remove_model(first.model_id)
    report = copy_library(source, new_library("target"))
    assert (report.added_images, report.images_without_embedding) == (75, COUNT - 75)


@pytest.mark.usefixtures("source")
def test_the_program_copies_and_says_how_much(tmp_path, monkeypatch, capsys):
    for name in ("DB_USER", "DB_PASSWORD", "DB_DSN"):
        monkeypatch.setenv(name, "")
    url = f"sqlite:///{tmp_path}/source.db"
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/image_search.db")
    assert register_images.main(["--copy-from", url]) == 0
    assert capsys.readouterr().out == "copied 150 images and 225 embeddings, already there 0 embeddings, failed 0\n"
    assert register_images.main(["--copy-from", url]) == 0
    assert capsys.readouterr().out == "copied 0 images and 0 embeddings, already there 225 embeddings, failed 0\n"
    assert register_images.main(["--copy-from", f"sqlite:///{tmp_path}/image_search.db"]) == 2
    assert register_images.main(["--copy-from", f"sqlite:///{tmp_path}/empty.db"]) == 2
    assert "--copy-from" in capsys.readouterr().err


def test_a_library_in_oracle_is_named_by_a_url():
    settings = choose_source(Settings(), "oracle://scott:t%40ger@host:1521/FREEPDB1", "s3://originals")
    assert (settings.db_user, settings.db_password, settings.db_dsn) == ("scott", "t@ger", "host:1521/FREEPDB1")
    assert (settings.database_url, settings.originals_url) == ("", "s3://originals")


@each_other_engine
def test_to_another_engine_and_back_again_nothing_is_lost(engine, source, new_library, tmp_path):
    with engines.new_library(engine, tmp_path / "between") as settings, open_store(settings) as between:
        copy_library(source, between)
        assert describe(between) == describe(source)
        back = new_library("back")
        copy_library(between, back)
        assert describe(back) == describe(source)
