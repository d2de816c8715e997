"""A film goes into the library once and whole, is known again wherever it moves, and goes as it came."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from image_search.errors import EncoderError, StoreUnavailable, UnreadableFilm
from image_search.films import hash_film
from image_search.records import Edits, SearchFilter
from image_search.registration import Registrar, RegistrationReport
from image_search.registration.files import find_files
from image_search.registration.films import change_edits, list_frames
from image_search.registration.folders import watch_folders
from image_search.registration.pipeline import ImageReader
from image_search.registration.trash import (
    delete_images,
    empty_trash,
    find_gone_files,
    list_trash,
    restore_images,
    trash_gone_files,
    trash_images,
)
from image_search.registration.uploads import register_uploaded_film
from image_search.settings import ROOT, Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from image_search.stores.copy import copy_library
from image_search.stores.sqlite import SqliteStore
from tests.fakes import FakeEncoder, draw_image
from tests.fakes.film_files import make_scenes, write_film
from tests.fakes.memory_store import MemoryStore

SCENES = 4


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ImageStore]:
    if request.param == "memory":
        with MemoryStore() as store:
            yield store
        return
    with SqliteStore.open(Settings(database_url=f"sqlite:///{tmp_path}/library/image_search.db")) as store:
        yield store


@pytest.fixture(scope="module")
def film_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film(tmp_path_factory.mktemp("films") / "holiday.mp4", make_scenes(SCENES, 3))


@pytest.fixture
def folder(tmp_path: Path, film_file: Path) -> Path:
    """A film between two images."""
    folder = tmp_path / "mine"
    folder.mkdir()
    draw_image("red").save(folder / "a.png")
    shutil.copy2(film_file, folder / "holiday.mp4")
    draw_image("blue").save(folder / "z.png")
    return folder


def register(store: ImageStore, *paths: Path, encoder: FakeEncoder | None = None, **options: object):
    registrar = Registrar(store, encoder or FakeEncoder(), pauses=(0, 0), **options)
    return registrar.register(find_files(paths))


def count(report: RegistrationReport) -> tuple[int, int, int, int]:
    return report.registered, report.known, report.moved, report.failed


def count_frames(store: ImageStore) -> int:
    return store.count_images(SearchFilter(kind="frame"))


# --- once and whole ---------------------------------------------------------------------------------------------------


def test_film_is_registered_between_images_and_counted(store: ImageStore, folder: Path) -> None:
    report = register(store, folder)
    assert (count(report), report.films, report.frames, report.done) == ((3, 0, 0, 0), 1, SCENES, 3)
    frames = list_frames(store, hash_film(folder / "holiday.mp4"))
    assert [frame.frame.frame_ms // 3000 for frame in frames if frame.frame] == list(range(SCENES))
    first = frames[0]
    assert first.frame is not None and abs(first.frame.duration_ms - SCENES * 3000) < 500
    assert (first.file_name, first.file_type, first.width, first.height) == ("holiday.mp4", "video/mp4", 192, 108)
    assert (first.paths, first.byte_size) == ((str(folder / "holiday.mp4"),), (folder / "holiday.mp4").stat().st_size)
    assert store.read_preview(first.image_id)[8:12] == b"WEBP"
    model = store.find_current_model()
    assert model and store.get_embedding(first.image_id, model.model_id).shape == (16,)


def test_film_that_is_unchanged_is_not_even_opened(
    store: ImageStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(store, folder)
    monkeypatch.setattr("image_search.registration.films.hash_film", None)
    encoder = FakeEncoder()
    assert count(register(store, folder, encoder=encoder)) == (0, 3, 0, 0)
    assert encoder.calls == []


def test_frames_share_the_batches_of_images(store: ImageStore, folder: Path) -> None:
    encoder = FakeEncoder()
    register(store, folder, encoder=encoder, batch_size=8)
    assert encoder.calls == [SCENES + 2]


def test_film_of_many_batches_is_written_at_once(store: ImageStore, folder: Path) -> None:
    seen: list[int] = []

    class Watching(FakeEncoder):
        def encode_images(self, images):
            seen.append(count_frames(store))
            return super().encode_images(images)

    register(store, folder, encoder=Watching(), batch_size=1)
    assert len(seen) == SCENES + 2 and set(seen) <= {0, SCENES} and count_frames(store) == SCENES


def test_no_part_of_a_film_is_in_when_the_run_is_stopped(store: ImageStore, folder: Path) -> None:
    stop = threading.Event()

    class Stopping(FakeEncoder):
        def encode_images(self, images):
            stop.set()
            return super().encode_images(images)

    register(store, folder / "holiday.mp4", encoder=Stopping(), batch_size=1, stop=stop)
    assert count_frames(store) == 0
    assert register(store, folder).frames == SCENES


def test_frame_that_the_model_refuses_is_told_and_the_others_are_in(store: ImageStore, folder: Path) -> None:
    class Refusing(FakeEncoder):
        def encode_images(self, images):
            if len(images) > 1 or len(self.calls) == SCENES - 1:
                self.calls.append(0)
                raise EncoderError("It is too colourful.")
            return super().encode_images(images)

    report = register(store, folder / "holiday.mp4", encoder=Refusing())
    assert (report.films, report.frames, report.failed) == (1, SCENES - 1, 1)
    assert "holiday.mp4 at" in report.failures[0]


def test_database_that_is_away_for_a_moment_gets_the_film_once(folder: Path) -> None:
    class Flaky(MemoryStore):
        failures = 2

        def _add_images(self, *arguments):
            if self.failures:
                self.failures -= 1
                raise StoreUnavailable("It is away.")
            return super()._add_images(*arguments)

    with Flaky() as store:
        report = register(store, folder)
        assert (report.registered, report.frames, count_frames(store)) == (3, SCENES, SCENES)


def test_copies_in_one_run_are_one_film_with_two_paths(store: ImageStore, folder: Path) -> None:
    shutil.copy2(folder / "holiday.mp4", folder / "copy.mp4")
    assert count(register(store, folder)) == (3, 1, 0, 0)
    assert count_frames(store) == SCENES
    paths = {str(folder / "copy.mp4"), str(folder / "holiday.mp4")}
    assert all(set(frame.paths) == paths for frame in list_frames(store, hash_film(folder / "copy.mp4")))
    assert count(register(store, folder)) == (0, 4, 0, 0)


@pytest.mark.slow
def test_run_that_is_killed_leaves_no_part_of_a_film(folder: Path, tmp_path: Path) -> None:
    settings = Settings(database_url=f"sqlite:///{tmp_path}/killed/image_search.db")
    program = (
        "import sys, time\n"
        "from tests.registration.test_films import SlowEncoder, find_files, open_store, Registrar, Settings\n"
        "with open_store(Settings(database_url=sys.argv[1])) as store:\n"
        "    Registrar(store, SlowEncoder(), batch_size=1).register(find_files([sys.argv[2]]))\n"
    )
    command = [sys.executable, "-c", program, settings.database_url, str(folder / "holiday.mp4")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(SCENES - 1):
            assert process.stdout.readline() == "embedded\n"
        process.send_signal(signal.SIGKILL)
    with open_store(settings) as killed, MemoryStore() as clean:
        assert count_frames(killed) == 0
        register(killed, folder)
        register(clean, folder)
        assert describe(killed) == describe(clean)


class SlowEncoder(FakeEncoder):
    """Says when an image is embedded, and then takes its time."""

    def encode_images(self, images):
        print("embedded", flush=True)
        time.sleep(0.3)
        return super().encode_images(images)


def describe(store: ImageStore) -> set[object]:
    return {
        (image.content_sha256, image.frame, image.paths, image.file_name, store.read_preview(image.image_id))
        for image in store.get_images(store.list_image_ids())
    }


# --- moved, changed, deleted ------------------------------------------------------------------------------------------


def test_film_that_moved_is_known_without_being_decoded(
    store: ImageStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(store, folder)
    (folder / "new").mkdir()
    (folder / "holiday.mp4").rename(folder / "new" / "海.mp4")
    monkeypatch.setattr("image_search.registration.films.read_film", None)
    assert count(register(store, folder)) == (0, 2, 1, 0)
    frames = list_frames(store, hash_film(folder / "new" / "海.mp4"))
    assert len(frames) == SCENES
    assert {(frame.file_name, frame.paths) for frame in frames} == {("海.mp4", (str(folder / "new" / "海.mp4"),))}


def test_touched_film_is_known_and_not_hashed_again(
    store: ImageStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(store, folder)
    os.utime(folder / "holiday.mp4", ns=(1, 1))
    assert count(register(store, folder)) == (0, 3, 0, 0)
    monkeypatch.setattr("image_search.registration.films.hash_film", None)
    assert count(register(store, folder)) == (0, 3, 0, 0)


def test_changed_film_has_its_new_frames_and_no_old_one(store: ImageStore, folder: Path) -> None:
    register(store, folder)
    before = list_frames(store, hash_film(folder / "holiday.mp4"))
    change_edits(store, [before[0].image_id], lambda _: Edits("summer", ("sea",), 4))
    old = {frame.image_id for frame in before}
    write_film(folder / "holiday.mp4", make_scenes(2, 3, seed=5))
    report = register(store, folder)
    assert (report.registered, report.updated, report.films, report.frames) == (0, 1, 1, 2)
    frames = list_frames(store, hash_film(folder / "holiday.mp4"))
    assert len(frames) == 2 and count_frames(store) == 2
    assert {frame.edits for frame in frames} == {Edits("summer", ("sea",), 4)}
    assert {hit.image_id for hit in store.list_trash(limit=100)} == old
    assert {hit.image.trash_reason for hit in store.list_trash(limit=100)} == {"gone"}


def test_film_that_takes_the_place_of_another_leaves_that_its_new_place(store: ImageStore, folder: Path) -> None:
    register(store, folder)
    (folder / "holiday.mp4").rename(folder / "old.mp4")
    write_film(folder / "holiday.mp4", make_scenes(2, 3, seed=5))
    register(store, folder)
    frames = list_frames(store, hash_film(folder / "old.mp4"))
    assert len(frames) == SCENES and {frame.paths for frame in frames} == {(str(folder / "old.mp4"),)}
    assert len(list_frames(store, hash_film(folder / "holiday.mp4"))) == 2


def test_film_in_the_trash_stays_deleted_at_its_path(store: ImageStore, folder: Path) -> None:
    register(store, folder)
    store.trash_images([frame.image_id for frame in list_frames(store, hash_film(folder / "holiday.mp4"))])
    report = register(store, folder)
    assert (report.deleted, count_frames(store)) == (1, 0)
    assert register(store, folder, include_deleted=True).frames == SCENES
    assert count_frames(store) == SCENES and not store.list_trash()


def test_lost_film_goes_whole_and_comes_back_whole(store: ImageStore, folder: Path, film_file: Path) -> None:
    register(store, folder)
    ids = {frame.image_id for frame in list_frames(store, hash_film(folder / "holiday.mp4"))}
    (folder / "holiday.mp4").unlink()
    gone = find_gone_files(store, folder)
    assert [file.path for file in gone.files] == [str(folder / "holiday.mp4")]
    assert trash_gone_files(store, gone.files) == (SCENES, 0) and count_frames(store) == 0
    shutil.copy2(film_file, folder / "holiday.mp4")
    assert register(store, folder).frames == SCENES
    assert {frame.image_id for frame in list_frames(store, hash_film(folder / "holiday.mp4"))} == ids


def test_library_with_films_is_copied_whole(store: ImageStore, folder: Path) -> None:
    register(store, folder)
    with MemoryStore() as target:
        report = copy_library(store, target)
        assert (report.added_images, report.failures) == (SCENES + 2, [])
        assert describe(target) == describe(store)
        assert count(register(target, folder)) == (0, 3, 0, 0)


def test_second_model_embeds_frames_from_their_previews(store: ImageStore, folder: Path) -> None:
    register(store, folder)
    registrar = Registrar(store, FakeEncoder("second"), pauses=(0, 0))
    report = registrar.embed_missing()
    assert (report.embedded, report.failed) == (SCENES + 2, 0)
    [frame, *_] = list_frames(store, hash_film(folder / "holiday.mp4"))
    first = store.get_embedding(frame.image_id, 1)
    assert np.dot(first, store.get_embedding(frame.image_id, registrar.model.model_id)) > 0.99
    assert count(registrar.register(find_files([folder])))[1] == 3


# --- limits and faults ------------------------------------------------------------------------------------------------


def test_no_more_frames_are_kept_than_asked_for(store: ImageStore, folder: Path) -> None:
    assert register(store, folder, reader=ImageReader(video_frames=2)).frames <= 2


def test_facts_of_the_container_are_those_of_its_frames(store: ImageStore, tmp_path: Path) -> None:
    tags = {"creation_time": "2023-05-06T07:08:09Z", "location": "+35.6586+139.7454/"}
    options = {"movflags": "use_metadata_tags"}
    path = write_film(tmp_path / "a.mp4", make_scenes(1, 2), tags=tags, container_options=options)
    register(store, path, reader=ImageReader(read_gps=True))
    [frame] = list_frames(store, hash_film(path))
    assert frame.text.taken_at is not None and frame.text.taken_at.year == 2023
    assert frame.text.taken_source == "container"
    assert (frame.text.latitude, frame.text.longitude) == (35.6586, 139.7454)
    write_film(path, make_scenes(1, 2, seed=3), tags=tags, container_options=options)
    register(store, path)
    [frame] = list_frames(store, hash_film(path))
    assert frame.text.latitude is None


def test_date_in_a_name_stands_where_the_container_has_none(store: ImageStore, tmp_path: Path) -> None:
    path = write_film(tmp_path / "VID_20240203_101112.mp4", make_scenes(1, 2))
    register(store, path)
    [frame] = list_frames(store, hash_film(path))
    assert f"{frame.text.taken_at}" == "2024-02-03 10:11:12" and frame.text.taken_source == "name"


def test_films_are_left_out_with_one_line_where_pyav_is_missing(
    store: ImageStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy2(folder / "holiday.mp4", folder / "copy.mp4")
    said: list[str] = []
    monkeypatch.setitem(sys.modules, "av", None)
    report = register(store, folder, on_message=said.append)
    assert (report.registered, report.failed, report.left_out, report.done) == (2, 0, 2, 4)
    assert said == [
        "Films were left out: 2. Films need the Python package av. Install it: pip install -r requirements-video.txt"
    ]


def test_films_that_are_in_already_need_no_pyav(
    store: ImageStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(store, folder)
    monkeypatch.setitem(sys.modules, "av", None)
    (folder / "holiday.mp4").rename(folder / "b.mp4")
    assert count(register(store, folder)) == (0, 2, 1, 0)


def test_bad_films_are_one_line_each_and_the_run_goes_on(store: ImageStore, folder: Path, film_file: Path) -> None:
    (folder / "empty.mp4").touch()
    (folder / "noise.mkv").write_bytes(b"no film at all " * 1000)
    (folder / "picture.avi").write_bytes((folder / "a.png").read_bytes())
    (folder / "cut.mp4").write_bytes(film_file.read_bytes()[: film_file.stat().st_size // 2])
    (folder / "folder.mp4").mkdir()
    draw_image("green").save(folder / "folder.mp4" / "inside.png")
    started = time.monotonic()
    report = register(store, folder)
    assert (report.registered, report.frames, report.failed) == (4, SCENES, 4)
    named = sorted(Path(sentence.split(" ")[0]).name for sentence in report.failures)
    assert named == ["cut.mp4", "empty.mp4", "noise.mkv", "picture.avi"]
    assert time.monotonic() - started < 60


def test_film_that_grew_meanwhile_is_read_again_when_it_is_finished(store: ImageStore, tmp_path: Path) -> None:
    path = write_film(tmp_path / "growing.mts", make_scenes(3, 3), codec="mpeg2video")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    early = register(store, path)
    path.write_bytes(whole)
    report = register(store, path)
    assert (early.films, report.updated) == (1, 1)
    assert count_frames(store) == len(list_frames(store, hash_film(path))) == 3


def test_watching_a_folder_takes_in_a_film_once_it_stands_still(
    store: ImageStore, tmp_path: Path, film_file: Path
) -> None:
    folder = tmp_path / "watched"
    folder.mkdir()
    stop = threading.Event()
    registrar = Registrar(store, FakeEncoder(), pauses=(0,), stop=stop)
    thread = threading.Thread(target=watch_folders, args=([folder], registrar, stop, print), kwargs={"interval": 0.05})
    thread.start()
    try:
        shutil.copy2(film_file, folder / "a.mp4")
        while not registrar.report.films and thread.is_alive():
            time.sleep(0.05)
    finally:
        stop.set()
        thread.join()
    assert (registrar.report.films, count_frames(store)) == (1, SCENES)


# --- a film goes as it came -------------------------------------------------------------------------------------------


def find_frames(store: ImageStore, folder: Path):
    return list_frames(store, hash_film(folder / "holiday.mp4"))


def test_deleting_one_frame_deletes_its_film_and_restoring_one_restores_it(store: ImageStore, folder: Path) -> None:
    register(store, folder)
    ids = [frame.image_id for frame in find_frames(store, folder)]
    [red] = [hit.image_id for hit in store.list_images(["a.png"])]
    assert trash_images(store, [ids[1], red, 999_999]) == 2
    assert store.count_images() == 1
    assert {(hit.image_id, frames) for hit, frames in list_trash(store, 10, 0)[0]} == {(red, 0), (ids[0], SCENES)}
    assert list_trash(store, 1, 1)[1] == 2 and len(list_trash(store, 1, 1)[0]) == 1
    assert restore_images(store, [ids[2], red]) == 2
    assert store.count_images() == SCENES + 2 and not store.list_trash()
    assert count(register(store, folder)) == (0, 3, 0, 0)


def test_film_that_was_deleted_stays_so_wherever_it_moves(store: ImageStore, folder: Path) -> None:
    register(store, folder)
    trash_images(store, [find_frames(store, folder)[0].image_id])
    (folder / "holiday.mp4").rename(folder / "elsewhere.mp4")
    assert (register(store, folder).deleted, count_frames(store)) == (1, 0)
    empty_trash(store)
    (folder / "elsewhere.mp4").rename(folder / "again.mp4")
    assert (register(store, folder).deleted, count_frames(store)) == (1, 0)
    assert register(store, folder, include_deleted=True).frames == SCENES
    (folder / "again.mp4").rename(folder / "last.mp4")
    assert register(store, folder).moved == 1


def test_film_that_was_restored_is_registered_wherever_it_moves(store: ImageStore, folder: Path) -> None:
    register(store, folder)
    ids = [frame.image_id for frame in find_frames(store, folder)]
    trash_images(store, ids[:1])
    restore_images(store, ids[:1])
    (folder / "holiday.mp4").rename(folder / "elsewhere.mp4")
    assert (register(store, folder).moved, count_frames(store)) == (1, SCENES)


def test_deleting_a_film_for_good_leaves_its_file(store: ImageStore, folder: Path) -> None:
    register(store, folder)
    assert delete_images(store, [find_frames(store, folder)[2].image_id]) == 1
    assert count_frames(store) == 0 and not store.list_trash()
    assert (folder / "holiday.mp4").exists()
    assert register(store, folder).deleted == 1


# --- uploads ----------------------------------------------------------------------------------------------------------


def test_uploaded_film_is_kept_with_the_originals_and_goes_with_its_frames(tmp_path: Path, film_file: Path) -> None:
    with SqliteStore.open(Settings(database_url=f"sqlite:///{tmp_path}/library/image_search.db")) as store:
        sent = register_uploaded_film(store, FakeEncoder(), ImageReader(), film_file, "海.mp4")
        assert sent.outcome == "new" and count_frames(store) == SCENES
        image = store.get_image(sent.image_id)
        assert image.file_name == "海.mp4" and image.frame is not None and image.frame.frame_ms < 1000
        kept = Path(image.paths[0])
        assert kept.read_bytes() == film_file.read_bytes()
        assert store.originals is not None and kept.is_relative_to(store.originals.folder)
        again = register_uploaded_film(store, FakeEncoder(), ImageReader(), film_file, "other.mp4")
        assert (again.outcome, again.image_id) == ("known", sent.image_id)
        trash_images(store, [sent.image_id])
        assert kept.exists()
        assert register_uploaded_film(store, FakeEncoder(), ImageReader(), film_file, "海.mp4").outcome == "restored"
        delete_images(store, [sent.image_id])
        assert not kept.exists() and not kept.parent.exists() and film_file.exists()


def test_uploaded_film_whose_files_are_gone_is_kept(
    store: ImageStore, folder: Path, film_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("image_search.registration.uploads.DEFAULT_ORIGINALS", tmp_path / "originals")
    register(store, folder)
    (folder / "holiday.mp4").unlink()
    assert register_uploaded_film(store, FakeEncoder(), ImageReader(), film_file, "holiday.mp4").outcome == "known"
    assert all(any(Path(path).exists() for path in frame.paths) for frame in list_frames(store, hash_film(film_file)))


def test_uploaded_film_that_cannot_be_read_is_named_as_its_sender_does_and_not_kept(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("image_search.registration.uploads.DEFAULT_ORIGINALS", tmp_path / "originals")
    (tmp_path / "sent").write_bytes(b"no film " * 100)
    with pytest.raises(UnreadableFilm, match=r"^my\.mp4 is not a film") as error:
        register_uploaded_film(store, FakeEncoder(), ImageReader(), tmp_path / "sent", "my.mp4")
    assert str(tmp_path) not in str(error.value)
    (tmp_path / "sent").write_bytes(b"")
    with pytest.raises(UnreadableFilm, match=r"^my\.mp4 is empty"):
        register_uploaded_film(store, FakeEncoder(), ImageReader(), tmp_path / "sent", "my.mp4")
    assert not list(tmp_path.rglob("*.mp4"))
