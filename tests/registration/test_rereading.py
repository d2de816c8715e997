"""Text reading: every image once for each version of the recogniser, found by its text afterwards."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from image_search.errors import RecognizerUnavailable
from image_search.recognition import NAME, RECOGNIZER, VERSION
from image_search.records import SearchFilter, TextLine
from image_search.registration import Registrar
from image_search.registration.files import find_files
from image_search.registration.jobs import Job, JobQueue
from image_search.registration.rereading import (
    BackgroundReading,
    TextUpdate,
    forget_texts,
    is_forgotten,
    make_text_jobs,
    read_missing_texts,
    update_texts,
)
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from tests.fakes import FakeEncoder, draw_image_bytes, make_image


class FakeRecognizer:
    """Reads the colour of the first pixel as a word."""

    name, version = NAME, VERSION

    def __init__(self) -> None:
        self.calls = 0
        self.nice = 0

    def recognize(self, image: Image.Image) -> list[TextLine]:
        self.calls += 1
        self.nice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        red = image.getpixel((0, 0))[0] > 128  # type: ignore[index]
        return [TextLine("ポイ捨て", 0.9, (0, 0, 1, 0.5)), TextLine("禁止", 0.9, (0, 0.5, 1, 1))] if red else []


def fill(store: ImageStore) -> list[int]:
    model = store.get_or_create_model("fake", "1", 2)
    images = [
        make_image(f"{color}.png", data=draw_image_bytes(color), width=40, height=30) for color in ("red", "blue")
    ]
    return store.add_images(model.model_id, images, np.eye(2, dtype=np.float32))


def open_library(folder: Path) -> ImageStore:
    return open_store(Settings(database_url=f"sqlite:///{folder}/library.db"))


def test_read_missing_texts_makes_words_over_lines_searchable(tmp_path: Path) -> None:
    with open_library(tmp_path) as store:
        red, blue = fill(store)
        report = read_missing_texts(store, FakeRecognizer())
        assert (report.read, report.with_text, report.failed) == (2, 1, 0)
        assert [hit.image_id for hit in store.list_images(["ポイ捨て禁止"])] == [red]
        assert [hit.image_id for hit in store.list_images(filter=SearchFilter(has_text=True))] == [red]
        recognized = store.get_recognized(red)
        assert recognized is not None
        assert [line.text for line in recognized.lines] == ["ポイ捨て", "禁止"]
        assert store.get_image(blue).recognizer == RECOGNIZER


def test_read_missing_texts_reads_nothing_twice_unless_the_version_changes(tmp_path: Path) -> None:
    recognizer = FakeRecognizer()
    with open_library(tmp_path) as store:
        fill(store)
        read_missing_texts(store, recognizer)
        assert read_missing_texts(store, recognizer).done == 0
        assert recognizer.calls == 2
        recognizer.version = "next"
        assert read_missing_texts(store, recognizer).read == 2


def test_read_missing_texts_goes_on_after_it_was_stopped(tmp_path: Path) -> None:
    stop = threading.Event()
    with open_library(tmp_path) as store:
        fill(store)
        first = read_missing_texts(store, FakeRecognizer(), stop=stop, on_progress=lambda _: stop.set())
        assert first.read == 1
        assert read_missing_texts(store, FakeRecognizer()).read == 1


def test_read_missing_texts_reports_a_damaged_original_and_reads_the_others(tmp_path: Path) -> None:
    with open_library(tmp_path) as store:
        _, blue = fill(store)
        damaged = store.get_image(blue).content_sha256
        [path] = [path for path in tmp_path.rglob(damaged) if path.is_file()]
        path.write_bytes(b"damaged")
        report = read_missing_texts(store, FakeRecognizer())
        assert (report.read, report.failed) == (1, 1)
        assert f"Image {blue}" in report.failures[0]


def test_shards_share_the_work(tmp_path: Path) -> None:
    with open_library(tmp_path) as store:
        fill(store)
        assert [read_missing_texts(store, FakeRecognizer(), shard=(n, 2)).read for n in (1, 2)] == [1, 1]


class FragileRecognizer(FakeRecognizer):
    """Breaks at every red image."""

    def recognize(self, image: Image.Image) -> list[TextLine]:
        if super().recognize(image):
            raise RuntimeError("the network choked")
        return []


def test_image_the_recogniser_breaks_at_is_one_line(tmp_path: Path) -> None:
    with open_library(tmp_path) as store:
        red, blue = fill(store)
        report = read_missing_texts(store, FragileRecognizer())
        assert (report.read, report.failed) == (1, 1)
        assert report.failures == [
            f"Image {red}: the text of red.png cannot be read (RuntimeError: the network choked)."
        ]
        assert store.get_image(blue).recognizer == RECOGNIZER


def wait_for(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
def test_background_reading_reads_what_comes_in_with_low_priority(tmp_path: Path) -> None:
    recognizer, said = FakeRecognizer(), []
    with open_library(tmp_path) as store:
        reading = BackgroundReading(store, said.append, open_recognizer=lambda _: recognizer)
        reading.start()
        red, _ = fill(store)
        wait_for(lambda: store.find_images_without_recognition(RECOGNIZER) == [])
        assert [hit.image_id for hit in store.list_images(["禁止"])] == [red]
        if sys.platform == "linux":
            assert recognizer.nice == 19
        data = draw_image_bytes("red", (50, 40))
        model = store.find_current_model()
        assert model is not None
        store.replace_image(red, model.model_id, make_image("red.png", data=data), np.eye(2, dtype=np.float32)[0])
        reading.finish()
        reading.wait()
        assert store.get_image(red).recognizer == RECOGNIZER
    assert (recognizer.calls, said) == (3, [])


def test_background_reading_tries_an_image_that_fails_once(tmp_path: Path) -> None:
    recognizer, said = FragileRecognizer(), []
    with open_library(tmp_path) as store:
        fill(store)
        reading = BackgroundReading(store, said.append, open_recognizer=lambda _: recognizer)
        reading.start()
        wait_for(lambda: said)
        store.additions += 1
        reading.finish()
        reading.wait()
    assert (len(said), recognizer.calls) == (1, 2)


def test_background_reading_without_the_packages_says_so_once(tmp_path: Path) -> None:
    def refuse(_: int) -> FakeRecognizer:
        raise RecognizerUnavailable("Reading text in images needs rapidocr. Run: pip install")

    said: list[str] = []
    with open_library(tmp_path) as store:
        fill(store)
        reading = BackgroundReading(store, said.append, open_recognizer=refuse)
        reading.start()
        reading.wait()
    assert said == ["Reading text in images needs rapidocr. Run: pip install"]


def test_forgotten_text_is_not_found_and_not_read_again_unasked(tmp_path: Path) -> None:
    recognizer = FakeRecognizer()
    with open_library(tmp_path) as store:
        fill(store)
        read_missing_texts(store, recognizer)
        assert list(forget_texts(store, threading.Event())) == [(2, 2)]
        assert not store.list_images(["禁止"])
        assert len(store.find_images_without_recognition(RECOGNIZER)) == 2
        reading = BackgroundReading(store, print, open_recognizer=lambda _: recognizer)
        reading.start()
        reading.finish()
        reading.wait()
        assert (recognizer.calls, is_forgotten(store)) == (2, True)


def test_jobs_read_and_forget_beside_a_scan(tmp_path: Path, monkeypatch) -> None:
    recognizer, held = FakeRecognizer(), threading.Event()
    monkeypatch.setattr("image_search.registration.rereading.open_recognizer", lambda: recognizer)
    with open_library(tmp_path) as store:
        fill(store)
        works = {**make_text_jobs(store, 10**8), "scan": lambda *_: held.wait(20)}
        queue = JobQueue(tmp_path / "jobs.db", "a", works, ["read_text", "forget_text"])
        try:
            queue.add("scan", "/photos")
            job = queue.add("read_text", "")
            wait_for(lambda: find(queue, job).state == "done")
            assert find(queue, job).counts == {"read": 2, "with_text": 1}
            job = queue.add("forget_text", "")
            wait_for(lambda: find(queue, job).state == "done")
            assert not store.list_images(["禁止"])
            assert is_forgotten(store)
            job = queue.add("read_text", "")
            wait_for(lambda: find(queue, job).state == "done")
            assert not is_forgotten(store)
            assert store.list_images(["禁止"])
        finally:
            held.set()
            queue.stop()


def find(queue: JobQueue, job: Job) -> Job:
    return next(found for found in queue.list_jobs() if found.job_id == job.job_id)


# The texts of files, read again.


def write_file(folder: Path, colour: str, caption: str) -> Path:
    """A picture with a caption beside it, under the one name that every camera gives first."""
    folder.mkdir(exist_ok=True)
    path = folder / "IMG_0001.png"
    path.write_bytes(draw_image_bytes(colour))
    path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


def register(store: ImageStore, *paths: Path) -> None:
    Registrar(store, FakeEncoder(), pauses=(0, 0)).register(find_files(paths))


def refresh(store: ImageStore, *paths: Path) -> list[TextUpdate]:
    return list(update_texts(store, find_files(paths).files))


def test_file_of_a_deleted_image_leaves_another_of_its_name_alone(tmp_path: Path) -> None:
    first = write_file(tmp_path / "a", "red", "the first")
    second = write_file(tmp_path / "b", "blue", "the second")
    with open_library(tmp_path) as store:
        register(store, first, second)
        known = store.find_known_files([str(first), str(second)])
        store.delete_images([known[str(second)].image_id])
        for colour in ("blue", "green"):  # as it was deleted, and changed since
            second.write_bytes(draw_image_bytes(colour))
            outcomes = refresh(store, first, second)
            assert [update.outcome for update in outcomes] == ["unchanged", "failed"]
            assert outcomes[1].warning.startswith(f"{second} was deleted from the library")
            assert store.get_image(known[str(first)].image_id).description == "the first"
        store.forget_deleted()
        assert "is not registered" in refresh(store, second)[0].warning
        assert store.get_image(known[str(first)].image_id).description == "the first"


def test_changed_file_is_found_by_its_path_among_others_of_its_name(tmp_path: Path) -> None:
    first = write_file(tmp_path / "a", "red", "the first")
    second = write_file(tmp_path / "b", "blue", "the second")
    with open_library(tmp_path) as store:
        register(store, first, second)
        write_file(tmp_path / "b", "green", "the second again")
        [update] = refresh(store, second)
        assert (update.outcome, "found by its path" in update.warning) == ("updated", True)
        known = store.find_known_files([str(first), str(second)])
        texts = [store.get_image(known[str(path)].image_id).description for path in (first, second)]
        assert texts == ["the first", "the second again"]


def test_changed_file_is_found_by_its_name_where_the_image_has_no_file_any_more(tmp_path: Path) -> None:
    first = write_file(tmp_path / "a", "red", "the first")
    with open_library(tmp_path) as store:
        register(store, first)
        moved = write_file(tmp_path / "b", "blue", "moved and changed")
        assert refresh(store, moved)[0].outcome == "failed"
        first.unlink()
        [update] = refresh(store, moved)
        assert (update.outcome, "found by name only" in update.warning) == ("updated", True)
