"""The samples that a new library begins with, also where the first start is cut off."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from image_search.cli.serve import complete_library
from image_search.registration.trash import trash_samples
from image_search.search import Searcher
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from tests.fakes import FakeEncoder

COUNT = 200


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library/image_search.db")) as store:
        yield store


@pytest.fixture
def samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "samples"
    folder.mkdir()
    for number in range(COUNT):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    monkeypatch.setattr("image_search.cli.serve.SAMPLES", folder)
    return folder


def start(store: ImageStore, cut_off_after: int = COUNT) -> None:
    """A start of the page, which ends once so many samples are done."""
    stop = threading.Event()

    def report(done: int, total: int) -> None:
        if cut_off_after <= done < total:
            stop.set()

    complete_library(Searcher(store, FakeEncoder()), Settings(), report, stop)


def test_samples_of_a_first_start_that_was_cut_off_are_completed_by_the_next(store: ImageStore, samples: Path) -> None:
    start(store, cut_off_after=1)
    assert 0 < store.count_images() < COUNT
    start(store)
    assert store.count_images() == COUNT
    Image.new("RGB", (8, 8), "lime").save(samples / "later.png")
    start(store)
    assert store.count_images() == COUNT


def test_samples_that_were_removed_do_not_come_back(store: ImageStore, samples: Path) -> None:
    start(store, cut_off_after=1)
    trash_samples(store, samples)
    start(store)
    assert store.count_images() == 0
