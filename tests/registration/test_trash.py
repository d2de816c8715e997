"""Samples, what has been in the trash for long, and sidecars of the images of a library."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from PIL import Image

from image_search.films import hash_film
from image_search.library import TrashCollector
from image_search.records import Edits
from image_search.registration import Registrar
from image_search.registration.files import find_files
from image_search.registration.films import change_edits, list_frames
from image_search.registration.pipeline import ImageReader
from image_search.registration.rereading import write_sidecars
from image_search.registration.trash import empty_old_trash, trash_samples
from image_search.registration.uploads import register_uploaded_film
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from tests.fakes import FakeEncoder, find_ids, make_embeddings, make_image
from tests.fakes.film_files import make_scenes, write_film

EDITS = Edits("typed", ("Paris, France",), 5)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library/image_search.db")) as store:
        yield store


@pytest.fixture
def folder(tmp_path: Path, store: ImageStore) -> Path:
    """Three registered images."""
    folder = tmp_path / "p"
    folder.mkdir()
    for name in ("red", "lime", "blue"):
        Image.new("RGB", (8, 8), name).save(folder / f"{name}.png")
    Registrar(store, FakeEncoder()).register(find_files([folder]))
    return folder


# --- the trash --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_trash_loses_what_is_older_than_so_many_days(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.trash_images(find_ids(store, "red.png"))
    assert empty_old_trash(store, 1) == 0

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(days=30, minutes=1)

    monkeypatch.setattr("image_search.registration.trash.datetime", Later)
    assert empty_old_trash(store, 0) == 0 and empty_old_trash(store, 31) == 0
    told: list[str] = []
    collector = TrashCollector(store, 30, told.append)
    collector.collect()
    collector.collect()
    assert told == ["1 images were removed for good after 30 days in the trash (TRASH_DAYS)."]
    assert store.list_trash().total == 0 and len(store.list_deleted()) == 1


def test_samples_go_to_the_trash_and_copies_elsewhere_stay(store: ImageStore, folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "red.png", tmp_path / "mine.png")
    Registrar(store, FakeEncoder()).register(find_files([tmp_path / "mine.png"]))
    assert trash_samples(store, folder) == 2
    [left] = store.list_images()
    assert left.image.file_name == "mine.png"
    assert trash_samples(store, folder) == 0


# --- sidecars --------------------------------------------------------------------------------------------------------


def test_sidecars_bring_a_persons_words_into_another_library(store: ImageStore, folder: Path, tmp_path: Path) -> None:
    [image_id] = find_ids(store, "red.png")
    store.set_edits(image_id, EDITS)
    before = (folder / "red.png").read_bytes()
    report = write_sidecars(store)
    assert (report.written, report.unchanged, report.failures) == (1, 0, [])
    assert [path.name for path in folder.iterdir() if path.suffix == ".xmp"] == ["red.png.xmp"]
    assert (folder / "red.png").read_bytes() == before
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/other/image_search.db")) as other:
        assert Registrar(other, FakeEncoder()).register(find_files([folder])).registered == 3
        image = other.get_image(find_ids(other, "red.png")[0])
        assert (image.edits, image.text.description, image.text.keywords) == (EDITS, None, ())
        assert other.list_images(["Paris, France"]).total == 1


def test_sidecars_are_written_at_every_path_and_taken_away_with_the_words(
    store: ImageStore, folder: Path, tmp_path: Path
) -> None:
    shutil.copy(folder / "red.png", tmp_path / "copy.png")
    Registrar(store, FakeEncoder()).register(find_files([tmp_path / "copy.png"]))
    [image_id] = find_ids(store, "copy.png")
    store.set_edits(image_id, EDITS)
    assert write_sidecars(store, [folder]).written == 1
    assert not (tmp_path / "copy.png.xmp").exists()
    report = write_sidecars(store)
    assert (report.written, report.unchanged) == (1, 1)
    store.set_edits(image_id, Edits())
    assert write_sidecars(store).written == 2
    assert not (tmp_path / "copy.png.xmp").exists() and not (folder / "red.png.xmp").exists()


def test_image_without_a_sidecar_is_counted_or_said(store: ImageStore, folder: Path) -> None:
    for name in ("red.png", "lime.png"):
        store.set_edits(find_ids(store, name)[0], EDITS)
    model = store.get_or_create_model("fake", "1", 16)
    [upload] = store.add_images(model.model_id, [make_image("upload.png")], make_embeddings(1))
    store.set_edits(upload, EDITS)
    os.unlink(folder / "red.png")
    (folder / "lime.png.xmp").write_text("no xml")
    report = write_sidecars(store)
    assert (report.written, report.missing, report.without_file) == (0, 1, 1)
    assert len(report.failures) == 1 and "lime.png.xmp" in report.failures[0]


@pytest.mark.parametrize("below", [False, True])
def test_sidecar_of_a_film_is_written_once_and_brings_its_edits_back(
    store: ImageStore, folder: Path, tmp_path: Path, below: bool
) -> None:
    path = write_film(folder / "海.mp4", make_scenes(3, 2))
    shutil.copy(path, folder / "copy.mp4")
    Registrar(store, FakeEncoder()).register(find_files([folder]))
    frames = list_frames(store, hash_film(path))
    assert len(frames) > 1 and len(frames[0].paths) == 2
    change_edits(store, [frames[-1].image_id], lambda _: EDITS)
    before = path.read_bytes()
    report = write_sidecars(store, [folder] if below else [])
    assert (report.written, report.unchanged, report.without_file, report.failures) == (2, 0, 0, [])
    assert {file.name for file in folder.glob("*.xmp")} == {"海.mp4.xmp", "copy.mp4.xmp"}
    assert path.read_bytes() == before
    again = write_sidecars(store)
    assert (again.written, again.unchanged) == (0, 2)
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/other/image_search.db")) as other:
        registration = Registrar(other, FakeEncoder()).register(find_files([folder]))
        assert (registration.films, registration.failed, registration.unread) == (1, 0, {})
        assert {frame.edits for frame in list_frames(other, hash_film(path))} == {EDITS}
    change_edits(store, [list_frames(store, hash_film(path))[0].image_id], lambda _: Edits())
    assert write_sidecars(store).written == 2 and not list(folder.glob("*.xmp"))


def test_no_sidecar_is_written_beside_the_kept_copy_of_an_uploaded_film(store: ImageStore, tmp_path: Path) -> None:
    path = write_film(tmp_path / "sent.mp4", make_scenes(2, 2))
    sent = register_uploaded_film(store, FakeEncoder(), ImageReader(), path, "海.mp4")
    change_edits(store, [sent.image_id], lambda _: EDITS)
    report = write_sidecars(store)
    assert (report.written, report.without_file) == (0, 1)
    assert not list(tmp_path.rglob("*.xmp"))
