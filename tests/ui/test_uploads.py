"""Copies found on the page, and names that browsers send."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from image_search.library import make_duplicate_search
from image_search.registration.jobs import Job, JobControl
from image_search.registration.uploads import clean_name
from image_search.search import Searcher
from image_search.search.duplicates import keep_all, load_groups
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.ui.library_texts import describe_duplicates
from tests.fakes import FakeEncoder
from tests.search.test_duplicates import make_scene, register, save_image


@pytest.fixture
def searcher(tmp_path: Path) -> Iterator[Searcher]:
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library.db")) as store:
        yield Searcher(store, FakeEncoder())


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("a.png", "a.png"), ("../../etc/passwd", "passwd"), ("C:\\x\\b.png", "b.png"), ("か\u3099.png", "が.png"),
     ("\x00\n", "image"), ("", "image"), ("🦊.png", "🦊.png"),
     ("東京\u3000旅行.jpg", "東京\u3000旅行.jpg"), ("1.23.45\u202fPM.png", "1.23.45\u202fPM.png"),
     ("👩\u200d👧.png", "👩\u200d👧.png"), ("می\u200cخواهم.png", "می\u200cخواهم.png"),
     ("gnp\u202e\x1b\u2028.png", "gnp.png")],
)  # fmt: skip
def test_name_from_a_browser_is_a_file_name_only(sent: str, kept: str) -> None:
    assert clean_name(sent) == kept


def look(searcher: Searcher) -> JobControl:
    control = JobControl(Job(1, "duplicates", ""))
    make_duplicate_search(searcher)("", control)
    return control


def test_copies_are_shown_with_the_best_unmarked_and_why(searcher: Searcher) -> None:
    scene = make_scene(1)
    small = scene.resize((320, 240))
    register(searcher, (small, save_image(small, "small.jpg")), (scene, save_image(scene, "large.jpg")))
    assert describe_duplicates(searcher.store, "ja") == {"html": "", "count": 0}
    assert look(searcher).job.counts == {"groups": 1}
    found = describe_duplicates(searcher.store, "ja")["html"]
    assert found.count("checkbox") == 2
    assert found.count(" checked") == 1
    assert found.index("large.jpg") < found.index(" checked")
    assert "残す理由：画素数が多い" in found


def test_group_that_is_kept_or_has_lost_its_copies_is_no_longer_shown(searcher: Searcher) -> None:
    scenes = [make_scene(number) for number in (1, 2)]
    for number, scene in enumerate(scenes):
        small = scene.resize((320, 240))
        register(searcher, (small, save_image(small, f"{number}s.jpg")), (scene, save_image(scene, f"{number}.jpg")))
    look(searcher)
    store = searcher.store
    groups, count = load_groups(store, 10) or ([], 0)
    assert count == 2
    keep_all(store, groups[0])
    assert describe_duplicates(store, "ja")["count"] == 1
    store.trash_images([groups[1].images[1].image_id])
    assert describe_duplicates(store, "ja")["count"] == 0
    assert "重複している画像はありません" in describe_duplicates(store, "ja")["html"]


def test_no_copies_is_said_in_words(searcher: Searcher) -> None:
    look(searcher)
    assert "No duplicates" in describe_duplicates(searcher.store, "en")["html"]
