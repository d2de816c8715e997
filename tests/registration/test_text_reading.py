"""Text reading: every image once for each version of the recogniser, found by its text afterwards."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from PIL import Image

from image_search.records import SearchFilter, TextLine
from image_search.registration.text_reading import read_missing_texts
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from tests.fakes import make_image, make_picture_bytes


class FakeRecognizer:
    """Reads the colour of the first pixel as a word."""

    name, version = "fake", "1"

    def __init__(self) -> None:
        self.calls = 0

    def recognize(self, image: Image.Image) -> list[TextLine]:
        self.calls += 1
        red = image.getpixel((0, 0))[0] > 128  # type: ignore[index]
        return [TextLine("ポイ捨て", 0.9, (0, 0, 1, 0.5)), TextLine("禁止", 0.9, (0, 0.5, 1, 1))] if red else []


def fill(store: ImageStore) -> list[int]:
    model = store.get_or_create_model("fake", "1", 2)
    images = [
        make_image(f"{color}.png", data=make_picture_bytes(color), width=40, height=30) for color in ("red", "blue")
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
        assert store.get_image(blue).recognizer == "fake 1"


def test_read_missing_texts_reads_nothing_twice_unless_the_version_changes(tmp_path: Path) -> None:
    recognizer = FakeRecognizer()
    with open_library(tmp_path) as store:
        fill(store)
        read_missing_texts(store, recognizer)
        assert read_missing_texts(store, recognizer).done == 0
        assert recognizer.calls == 2
        recognizer.version = "2"
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
