"""A library is copied whole, is checked on arrival, and an interrupted copy goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

import register_images
from image_search.cli.main import main
from image_search.cli.register import choose_source
from image_search.errors import SettingsError, StoreError, StoreUnavailable
from image_search.records import DeletedImage, Edits, ImageText, RecognizedText, SearchFilter, TextLine
from image_search.search.duplicates import DuplicateGroup, load_groups, save_groups
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import CHOSEN_MODEL, DEEP_CHECK, UNFINISHED_SAMPLES, ImageStore
from image_search.stores.copy import copy_library
from image_search.stores.tokens import TOKEN_SETTING
from tests.contract.frames import make_frame
from tests.fakes import engines, make_embeddings, make_image
from tests.fakes.engines import each_other_engine

COUNT = 150
ALL = COUNT + 6  # with the trash and the frames, without what was deleted for good
EMBEDDINGS = ALL + 78
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
    """152 live images, 4 in the trash, two models, the second current, and everything that a person may have done."""
    store = new_library("source")
    first = store.get_or_create_model("fake", "1", 16)
    second = store.get_or_create_model("large", "2", 32)
    images = [make_image("富士山.png", TEXT, **OPTIONS), *(make_image(f"{n}.png") for n in range(1, COUNT + 6))]
    images[7] = replace(images[7], recipe=2, dominant_color="#010203", is_incomplete=True)
    images += [make_frame(500), make_frame(1000)]
    images = [replace(image, upload_date=datetime(2024, 5, 6, 7, 8, n % 60, n)) for n, image in enumerate(images)]
    image_ids = store.add_images(first.model_id, images, make_embeddings(len(images)))
    store.add_embeddings(second.model_id, image_ids[::2], make_embeddings(len(images), 32)[::2])
    store.set_current_model(second.model_id)
    store.set_path(image_ids[0], "/copies/caf\udce9.png", len(images[0].data or b""), 5)
    store.set_edits(image_ids[0], Edits("孫と", ("Paris, France", "家族"), 5))
    store.set_edits(image_ids[1], Edits("", (), 0))
    store.set_recognized(
        image_ids[2], RecognizedText("reader 1", "出口", (TextLine("出口", 0.5, (0.0, 0.25, 0.5, 1.0)),))
    )
    store.set_recognized(image_ids[8], RecognizedText("reader 1", ""))
    store.set_setting("groups.1", "kept")
    store.delete_images(image_ids[3:5])  # remembered
    store.set_path(image_ids[5], "/gone/5.png", 1, 1)
    store.set_edits(image_ids[6], Edits("in the trash"))
    store.trash_images(image_ids[6:7], deleted_at=datetime(2024, 6, 7))
    store.add_deleted([DeletedImage(images[6].content_sha256, datetime(2024, 6, 8), ("/renamed/6.png",))])
    store.trash_images([image_ids[5], image_ids[9]], "gone")
    store.trash_images(image_ids[-1:])
    return store


def describe(store: ImageStore) -> list[tuple[object, ...]]:
    """Everything a store knows, image by image in their order, but for the ids."""
    models = store.list_models()
    library: list[tuple[object, ...]] = [
        (model.name, model.version, model.dimension, model.is_current) for model in models
    ]
    outdated = {
        model.model_id: store.find_images_without_embedding(model.model_id, limit=10_000, min_recipe=2)
        for model in models
    }
    trash = [image.image_id for image in store.iterate_trash()]
    for image_id in sorted([*store.list_image_ids(limit=10_000), *trash]):
        record = store.get_image(image_id)
        embeddings = [store.get_embeddings([image_id], model.model_id) for model in models]
        files = store.find_known_files(record.paths)
        library.append(
            (
                replace(record, image_id=0),
                None if record.frame else store.read_original(image_id),
                store.read_preview(image_id),
                store.get_recognized(image_id),
                [(path, files[path].byte_size, files[path].modified_ns) for path in sorted(files)],
                [[row.tobytes() for row in found.values()] for found in embeddings],
                [image_id in found for found in outdated.values()],
            )
        )
    library += [(one.content_sha256, one.deleted_at, *sorted(one.paths)) for one in store.list_deleted()]
    return [*library, *sorted(store.list_settings().items())]


def test_copy_is_equal_and_a_second_one_adds_nothing(source, new_library):
    target = new_library("target")
    report = copy_library(source, target)
    assert (report.images, report.added_images, report.added_embeddings) == (ALL, ALL, EMBEDDINGS)
    assert (report.failures, report.images_without_embedding) == ([], 0)
    assert describe(target) == describe(source)
    again = copy_library(source, target)
    assert (again.added_images, again.added_embeddings, again.embeddings_already_there) == (0, 0, EMBEDDINGS)
    assert describe(target) == describe(source)


def test_interrupted_copy_goes_on(source, new_library):
    target = new_library("target")

    def interrupt(report):
        if report.added_images >= 64:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_library(source, target, interrupt)
    assert target.count_images() + target.get_status().trash_count == 64
    assert copy_library(source, target).added_images == ALL - 64
    assert describe(target) == describe(source)


@pytest.mark.slow
def test_copy_killed_before_the_trash_is_filled_goes_on(source, new_library, monkeypatch):
    target = new_library("target")

    def trash_images(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(target, "trash_images", trash_images)
        with pytest.raises(KeyboardInterrupt):
            copy_library(source, target)
    assert target.get_status().trash_count == 0
    copy_library(source, target)
    assert describe(target) == describe(source)


def test_target_keeps_what_it_has_of_its_own(source, new_library):
    target = new_library("target")
    own = target.get_or_create_model("own", "1", 8)
    images = [
        make_image("1.png", ImageText(description="mine"), file_path="/mine/1.png"),
        make_image("own.png", file_path="/photos/a.png"),  # a path of the source, too
        make_image("10.png"),
        make_image("11.png"),
        make_image("6.png"),  # in the trash of the source
    ]
    image_ids = target.add_images(own.model_id, images, make_embeddings(5, 8))
    target.trash_images(image_ids[2:3], "gone")
    target.delete_images(image_ids[3:4])
    target.set_setting("groups.1", "own")
    source.set_setting(CHOSEN_MODEL, "fake")
    report = copy_library(source, target)
    assert report.added_images == ALL - 4
    assert report.images_deleted_there == 1
    record = target.get_image(image_ids[0])
    assert (record.description, record.edits, record.paths) == ("mine", Edits(), ("/mine/1.png",))
    assert target.get_image(image_ids[1]).paths == ("/photos/a.png",)
    assert target.get_image(image_ids[2]).trash_reason == "gone"
    assert target.find_known_hashes([images[3].content_sha256]) == {}
    assert target.get_image(image_ids[4]).trash_reason is None
    assert target.list_settings("groups.") == {"groups.1": "own"}
    assert target.find_current_model() == own
    assert target.list_settings(CHOSEN_MODEL) == {}
    copied = next(model for model in target.list_models() if model.name == "fake")
    assert np.array_equal(target.get_embedding(image_ids[0], copied.model_id), make_embeddings(2)[1])
    [mountain] = target.list_images(filter=SearchFilter(file_name="caf\\udce9.png"))
    assert mountain.image.paths == ("/copies/caf\udce9.png",)


def test_groups_of_duplicates_are_those_of_the_copied_images(source, new_library):
    pair = source.get_images(source.list_image_ids()[10:12])
    save_groups(source, [DuplicateGroup.of(pair, {})])
    target = new_library("target")
    copy_library(source, target)
    groups, count = load_groups(target, 10) or ([], 0)
    assert count == 1
    assert {image.content_sha256 for image in groups[0].images} == {image.content_sha256 for image in pair}
    assert {image.image_id for image in groups[0].images} != {image.image_id for image in pair}


def test_what_holds_of_one_library_only_is_not_copied(source, new_library):
    source.set_setting(DEEP_CHECK, "150")
    source.set_setting(UNFINISHED_SAMPLES, "1")
    source.set_setting(TOKEN_SETTING, "begun")
    target = new_library("target")
    own = target.list_settings(TOKEN_SETTING)
    copy_library(source, target)
    assert target.list_settings(DEEP_CHECK) == target.list_settings(UNFINISHED_SAMPLES) == {}
    assert target.list_settings(TOKEN_SETTING) == own


def test_embedding_that_is_older_than_its_preview_stays_so(source, new_library):
    [image_id] = [hit.image_id for hit in source.list_images(filter=SearchFilter(file_name="8.png"))]
    source.set_preview(image_id, b"new preview", None, 3)
    first = source.list_models()[0]
    target = new_library("target")
    copy_library(source, target)
    assert describe(target) == describe(source)
    assert len(target.find_images_without_embedding(first.model_id, min_recipe=3)) == COUNT + 2


def test_lost_original_is_reported_and_keeps_no_other_image(source, new_library, monkeypatch):
    [lost] = [hit.image_id for hit in source.list_images(filter=SearchFilter(file_name="7.png"))]
    read = source.read_original

    def read_original(image_id):
        if image_id == lost:
            raise StoreError("The original of 7.png is missing.")
        return read(image_id)

    monkeypatch.setattr(source, "read_original", read_original)
    report = copy_library(source, new_library("target"))
    assert report.added_images == ALL - 1
    assert set(report.failures) == {"The original of 7.png is missing."}


def test_store_that_is_away_ends_the_copy(source, new_library, monkeypatch):
    def read_original(_):
        raise StoreUnavailable("away")

    monkeypatch.setattr(source, "read_original", read_original)
    with pytest.raises(StoreUnavailable):
        copy_library(source, new_library("target"))


def test_target_that_damages_an_original_is_noticed(source, new_library, monkeypatch):
    target = new_library("target")
    monkeypatch.setattr(target, "read_original", lambda _: b"damaged")
    with pytest.raises(StoreError, match="did not arrive whole"):
        copy_library(source, target)


def test_image_of_no_model_stays_behind_and_is_counted(source, new_library):
    first, _ = source.list_models()
    source.remove_model(first.model_id)
    report = copy_library(source, new_library("target"))
    assert (report.added_images, report.images_without_embedding) == (78, ALL - 78)


@pytest.mark.usefixtures("source")
def test_program_copies_and_says_how_much(tmp_path, monkeypatch, capsys):
    for name in ("DB_USER", "DB_PASSWORD", "DB_DSN"):
        monkeypatch.setenv(name, "")
    url = f"sqlite:///{tmp_path}/source.db"
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/image_search.db")
    assert register_images.main(["--copy-from", url]) == 0
    assert (
        capsys.readouterr().out
        == f"copied {ALL} images and {EMBEDDINGS} embeddings, already there 0 embeddings, failed 0\n"
    )
    assert register_images.main(["--copy-from", url]) == 0
    assert (
        capsys.readouterr().out
        == f"copied 0 images and 0 embeddings, already there {EMBEDDINGS} embeddings, failed 0\n"
    )
    assert register_images.main(["--copy-from", f"sqlite:///{tmp_path}/image_search.db"]) == 2
    assert "set already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "The address of the library to copy is empty."),
        ("foo", "The address of the library to copy names no file."),
        ("foo://x", "The address of the library to copy begins with 'foo'."),
        ("SQLITE:///{folder}/none.db", "There is no library to copy at SQLITE:///{folder}/none.db."),
        ("sqlite:///{folder}", "{folder} is a folder. Name a file in the address of the library to copy"),
    ],
)
def test_address_that_names_no_library_is_said_and_makes_none(tmp_path, monkeypatch, capsys, url, sentence):
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/image_search.db")
    assert main(["copy", url.format(folder=tmp_path)]) == 2
    said = capsys.readouterr().err
    assert sentence.format(folder=tmp_path) in said
    assert ("DATABASE_URL" in said, said.count("\n")) == (False, 1)
    assert not (tmp_path / "none.db").exists()


def test_library_in_oracle_is_named_by_a_url():
    settings = choose_source(Settings(), "oracle://scott:t%40ger@host:1521/FREEPDB1", "s3://originals")
    assert (settings.db_user, settings.db_password, settings.db_dsn) == ("scott", "t@ger", "host:1521/FREEPDB1")
    assert (settings.database_url, settings.originals_url) == ("", "s3://originals")


def test_library_is_not_copied_from_itself_however_it_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="the address of the library that is set already"):
        choose_source(Settings(database_url=f"sqlite:///{tmp_path}/mine.db"), "sqlite:///mine.db", "")


@each_other_engine
def test_copy_to_another_engine_and_back_loses_nothing(engine, source, new_library, tmp_path):
    with engines.new_library(engine, tmp_path / "between") as settings, open_store(settings) as between:
        copy_library(source, between)
        assert describe(between) == describe(source)
        back = new_library("back")
        copy_library(between, back)
        assert describe(back) == describe(source)
