"""Which files of a folder are looked at, when they vanish, and when they appear."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from image_search.registration import Registrar
from image_search.registration.files import find_files
from image_search.registration.folders import watch_folders
from image_search.settings import Settings
from image_search.stores.base import ImageStore
from image_search.stores.sqlite import SqliteStore
from tests.fakes import FakeEncoder, find_ids


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    with SqliteStore.open(Settings(database_url=f"sqlite:///{tmp_path}/library/image_search.db")) as store:
        yield store


def make_file(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def draw_image(path: Path, colour: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)
    return path


def age(folder: Path) -> None:
    """As if the files had been there for a long time."""
    for path in folder.iterdir():
        os.utime(path, (10**9, 10**9))


def list_names(*paths: Path, **options: tuple[int, int]) -> list[str]:
    return [Path(file.path).name for file in find_files(paths, **options).files]


# --- finding ----------------------------------------------------------------------------------------------------------


def test_folders_are_read_at_any_depth_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.JPG", "a.webp", "b/c/3.tif", "z.gif"):
        make_file(tmp_path / name)
    assert list_names(tmp_path) == ["a.webp", "z.gif", "1.JPG", "2.png", "3.tif"]


def test_hidden_and_other_files_are_passed_over(tmp_path: Path) -> None:
    for name in (".hidden/a.png", "._b.png", "notes.txt", "c.pdf", "d", "e.png.part"):
        make_file(tmp_path / name)
    assert find_files([tmp_path]).files == [] == find_files([tmp_path]).failures


def test_file_that_is_named_counts_whatever_its_suffix(tmp_path: Path) -> None:
    assert list_names(make_file(tmp_path / "scan"), make_file(tmp_path / ".b.dat")) == ["scan", ".b.dat"]


def test_file_named_twice_is_found_once(tmp_path: Path) -> None:
    path = make_file(tmp_path / "a" / "1.png")
    assert list_names(tmp_path, path, tmp_path / "a", tmp_path) == ["1.png"]


def test_links_in_a_circle_come_to_an_end(tmp_path: Path) -> None:
    make_file(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "a")
    assert list_names(tmp_path) == ["1.png"]


def test_broken_link_and_a_missing_path_are_a_sentence_each(tmp_path: Path) -> None:
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found = find_files([tmp_path, tmp_path / "none"])
    assert found.files == [] and len(found.failures) == 2
    assert "gone.png cannot be read" in found.failures[0] and "none cannot be read" in found.failures[1]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="this user may read everything")
def test_folder_without_permission_is_a_sentence(tmp_path: Path) -> None:
    make_file(tmp_path / "open" / "1.png")
    (tmp_path / "closed").mkdir(mode=0)
    found = find_files([tmp_path])
    assert len(found.files) == 1 and "closed cannot be read (Permission denied)" in found.failures[0]


def test_folder_that_cannot_be_listed_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_file(tmp_path / "open" / "1.png")
    closed = tmp_path / "closed"
    closed.mkdir()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path == str(closed):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = find_files([tmp_path])
    assert len(found.files) == 1 and "closed cannot be read (Permission denied)" in found.failures[0]


def test_odd_names_are_found_and_registered(tmp_path: Path, store: ImageStore) -> None:
    draw_image(tmp_path / "p" / "😀 a\nb.png", "red")
    draw_image(tmp_path / "p" / "か\u3099.png", "blue")
    with contextlib.suppress(OSError):  # some file systems take only UTF-8
        Path(os.fsdecode(os.fsencode(str(tmp_path / "p")) + b"/caf\xe9.png")).write_bytes(
            draw_image(tmp_path / "p" / "c.png", "green").read_bytes() + b" "
        )
    total = len(find_files([tmp_path / "p"]).files)
    report = Registrar(store, FakeEncoder()).register(find_files([tmp_path / "p"]))
    assert (report.registered, report.failed) == (total, 0)
    assert find_ids(store, "が.png") != []
    assert Registrar(store, FakeEncoder()).register(find_files([tmp_path / "p"])).known == total


def test_shards_divide_a_folder_wherever_it_is_mounted(tmp_path: Path) -> None:
    for place in ("here", "there"):
        for number in range(40):
            make_file(tmp_path / place / "sub" / f"{number}.png")
    parts = [list_names(tmp_path / "here", shard=(number, 3)) for number in (1, 2, 3)]
    assert sorted(name for part in parts for name in part) == sorted(f"{number}.png" for number in range(40))
    assert all(len(part) > 5 for part in parts)
    assert parts[1] == list_names(tmp_path / "there", shard=(2, 3))


# --- watching ---------------------------------------------------------------------------------------------------------


class Looks(threading.Event):
    """Stands for stop: between two looks at the folder it does the next thing, and after the last it is set."""

    def __init__(self, *things: object) -> None:
        super().__init__()
        self.things = list(things)

    def wait(self, timeout: float | None = None) -> bool:
        if self.things:
            self.things.pop(0)()
        else:
            self.set()
        return self.is_set()


def test_watching_registers_what_appears_and_tells_what_vanishes(tmp_path: Path, store: ImageStore) -> None:
    folder = tmp_path / "p"
    first, second = draw_image(folder / "1.png"), folder / "2.png"
    age(folder)
    told: list[str] = []
    stop = Looks(lambda: draw_image(second, "blue"), lambda: first.unlink(), lambda: None)
    registrar = Registrar(store, FakeEncoder(), on_message=told.append)
    watch_folders([folder], registrar, stop, told.append)
    assert registrar.report.registered == 2
    assert told == [f"{first} has vanished. Its image stays in the library."]
    assert store.count_images() == 2


def test_disk_that_is_taken_away_is_not_told_file_by_file(tmp_path: Path, store: ImageStore) -> None:
    folder = tmp_path / "p"
    draw_image(folder / "0.png")
    for number in range(1, 30):
        make_file(folder / f"{number:02d}.png", (folder / "0.png").read_bytes())
    told: list[str] = []
    watch_folders([folder], Registrar(store, FakeEncoder()), Looks(lambda: shutil.rmtree(folder)), told.append)
    assert len(told) == 11 and told[10] == "So have 20 other files."


def test_file_that_changed_just_before_the_first_look_waits_for_the_second(tmp_path: Path, store: ImageStore) -> None:
    folder = tmp_path / "p"
    draw_image(folder / "0.png", "green")
    age(folder)
    whole = draw_image(tmp_path / "whole.png").read_bytes()
    path = make_file(folder / "1.png", whole[:20])
    registrar = Registrar(store, FakeEncoder())
    counts: list[int] = []

    def grow() -> None:
        counts.append(registrar.report.registered)
        make_file(path, whole)

    watch_folders([folder], registrar, Looks(grow, lambda: None), print)
    assert counts == [1] and (registrar.report.registered, registrar.report.failed) == (2, 0)


def test_file_that_still_grows_is_left_for_the_next_look(tmp_path: Path, store: ImageStore) -> None:
    folder = tmp_path / "p"
    draw_image(folder / "0.png", "green")
    whole = draw_image(tmp_path / "whole.png").read_bytes()
    path = folder / "1.png"
    stop = Looks(
        lambda: make_file(path, whole[:20]),
        lambda: make_file(path, whole[:40]),
        lambda: make_file(path, whole),
        lambda: None,
    )
    registrar = Registrar(store, FakeEncoder())
    watch_folders([folder], registrar, stop, print)
    assert (registrar.report.registered, registrar.report.failed) == (2, 0)


def test_watching_tells_a_bad_file_once(tmp_path: Path, store: ImageStore) -> None:
    make_file(tmp_path / "p" / "bad.png")
    told: list[str] = []
    registrar = Registrar(store, FakeEncoder(), on_message=told.append)
    watch_folders([tmp_path / "p", tmp_path / "none"], registrar, Looks(print, print), told.append)
    assert len(told) == 2 == registrar.report.failed
