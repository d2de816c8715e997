"""Files dropped on the page, and copies found on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from image_search.records import SearchFilter
from image_search.registration.reader import ImageReader
from image_search.search.searcher import Query, Searcher
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.ui.maintenance import MaintenancePanel, UploadedFile, clean_name, register_uploads
from tests.fakes import FakeEncoder, make_picture_bytes
from tests.fakes.film_files import make_scenes, write_film
from tests.search.test_duplicates import make_scene, register, save_image

READER = ImageReader(max_pixels=10**6)


@pytest.fixture
def upkeep(tmp_path: Path) -> Iterator[MaintenancePanel]:
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library.db")) as store:
        searcher = Searcher(store, FakeEncoder())
        yield MaintenancePanel(searcher, READER)


def write_upload(folder: Path, name: str, data: bytes) -> UploadedFile:
    path = folder / f"cache-{len(list(folder.iterdir()))}"
    path.write_bytes(data)
    return UploadedFile(str(path), name)


def test_files_are_registered_under_their_own_names_and_found_at_once(upkeep: MaintenancePanel, tmp_path: Path) -> None:
    files = [write_upload(tmp_path, f"{colour}.png", make_picture_bytes(colour)) for colour in ("red", "blue")]
    *_, (said, is_over) = upkeep.register(files, "ja")
    assert is_over
    assert "2枚を登録しました" in said
    best = upkeep.searcher.search(Query("red")).hits[0].image
    assert (best.file_name, best.file_path) == ("red.png", None)


def test_the_same_file_again_changes_nothing(upkeep: MaintenancePanel, tmp_path: Path) -> None:
    searcher = upkeep.searcher
    file = write_upload(tmp_path, "red.png", make_picture_bytes("red"))
    *_, first = register_uploads(searcher, READER, [file])
    *_, second = register_uploads(searcher, READER, [file])
    assert (first.registered, first.known) == (1, 0)
    assert (second.registered, second.known) == (0, 1)


def test_one_bad_file_is_one_sentence_and_the_others_are_registered(upkeep: MaintenancePanel, tmp_path: Path) -> None:
    files = [
        write_upload(tmp_path, "bad<script>.png", b"no picture"),
        write_upload(tmp_path, "empty.png", b""),
        write_upload(tmp_path, "large.png", make_picture_bytes("red", (2000, 1000))),
        write_upload(tmp_path, "good.png", make_picture_bytes("red")),
    ]
    *_, (said, _) = upkeep.register(files, "en")
    assert "Registered 1, already known 0" in said
    for name in ("bad&lt;script&gt;.png", "empty.png", "large.png"):
        assert name in said
    assert str(tmp_path) not in said


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


def test_a_film_is_registered_and_a_bad_one_is_one_sentence(upkeep: MaintenancePanel, tmp_path: Path) -> None:
    film = write_film(tmp_path / "a.mp4", make_scenes(2, 2))
    files = [
        write_upload(tmp_path, "夏.mp4", film.read_bytes()),
        write_upload(tmp_path, "夏のコピー.mp4", film.read_bytes()),
        write_upload(tmp_path, "bad.mp4", b"no film"),
    ]
    *_, (said, _) = upkeep.register(files, "ja")
    assert "1枚を登録しました" in said and str(tmp_path) not in said
    assert "bad.mp4：壊れているか、読み込める動画ではありません" in said
    frames = upkeep.searcher.store.list_images(filter=SearchFilter(kind="frame"))
    assert {hit.image.file_name for hit in frames} == {"夏.mp4"}
