"""Copies found on the page, and names that browsers send."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from image_search.registration.uploads import clean_name
from image_search.search.searcher import Searcher
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.ui.maintenance import MaintenancePanel
from tests.fakes import FakeEncoder
from tests.search.test_duplicates import make_scene, register, save_image


@pytest.fixture
def upkeep(tmp_path: Path) -> Iterator[MaintenancePanel]:
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library.db")) as store:
        searcher = Searcher(store, FakeEncoder())
        yield MaintenancePanel(searcher)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("a.png", "a.png"), ("../../etc/passwd", "passwd"), ("C:\\x\\b.png", "b.png"), ("か\u3099.png", "が.png"),
     ("\x00\n", "image"), ("", "image"), ("🦊.png", "🦊.png")],
)  # fmt: skip
def test_a_name_from_a_browser_is_a_file_name_only(sent: str, kept: str) -> None:
    assert clean_name(sent) == kept


def test_copies_are_shown_with_the_best_unmarked(upkeep: MaintenancePanel) -> None:
    scene = make_scene(1)
    small = scene.resize((320, 240))
    register(upkeep.searcher, (small, save_image(small, "small.jpg")), (scene, save_image(scene, "large.jpg")))
    *_, found = upkeep.find_duplicates("ja")
    assert found.count("checkbox") == 2
    assert found.count(" checked") == 1
    assert found.index("large.jpg") < found.index(" checked")
    assert "残す理由" in found


def test_no_copies_is_said_in_words(upkeep: MaintenancePanel) -> None:
    *_, found = upkeep.find_duplicates("en")
    assert "No duplicates" in found
