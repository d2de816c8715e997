"""Folders of a library: which a visitor may choose, the list that is kept, and the job that scans one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from image_search.records import SearchFilter
from image_search.registration.folders import (
    FolderNotFound,
    FolderRefused,
    FolderRoots,
    FolderWatcher,
    add_folder,
    browse_folders,
    find_folder,
    forget_folder,
    list_folders,
    make_scan,
    set_watched,
)
from image_search.registration.jobs import Job, JobControl
from image_search.registration.pipeline import ImageReader
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from image_search.stores.text import encode_path
from tests.fakes import FakeEncoder, draw_image_bytes


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library.db")) as store:
        yield store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "写真" / "2024").mkdir(parents=True)
    (root / ".hidden").mkdir()
    (tmp_path / "secret").mkdir()
    (root / "link").symlink_to(tmp_path / "secret")
    return root


def test_folder_elsewhere_is_refused_in_the_same_words_whether_it_exists_or_not(root: Path) -> None:
    sentences = set()
    for path in (
        "/etc",
        "/no/such/folder",
        f"{root}/../secret",
        f"{root}/../none",
        f"{root}/link",
        "relative",
        "\0",
        "",
    ):
        with pytest.raises(FolderRefused) as refused:
            find_folder(path, [root])
        sentences.add(str(refused.value))
    assert len(sentences) == 1


def test_folder_below_a_root_is_found_and_one_that_is_missing_is_told(root: Path) -> None:
    assert find_folder(f"{root}/写真/../写真/", [root]) == f"{root}/写真"
    assert find_folder(str(root), [root]) == str(root)
    with pytest.raises(FolderNotFound, match="none"):
        find_folder(f"{root}/none", [root])
    with pytest.raises(FolderNotFound):
        find_folder(f"{root}/{'x' * 5000}", [root])


def test_folders_are_refused_without_roots(root: Path) -> None:
    with pytest.raises(FolderRefused, match="LIBRARY_ROOTS"):
        find_folder(str(root), [])
    with pytest.raises(FolderRefused, match="LIBRARY_ROOTS"):
        browse_folders("", [])


def test_home_folder_is_a_root_only_without_others_and_without_a_proxy(tmp_path: Path) -> None:
    assert FolderRoots(home=tmp_path).find(is_forwarded=False) == (tmp_path,)
    assert FolderRoots(home=tmp_path).find(is_forwarded=True) == ()
    assert FolderRoots().find(is_forwarded=False) == ()
    assert FolderRoots((tmp_path / "a",), tmp_path).find(is_forwarded=True) == (tmp_path / "a",)


def test_browsing_shows_folders_below_the_roots_and_never_leads_above_them(root: Path) -> None:
    top = browse_folders("", [root])
    assert (top.path, top.parent, top.folders) == (str(root), None, ((f"{root}/写真", "写真"),))
    below = browse_folders(f"{root}/写真", [root])
    assert (below.parent, below.folders) == (str(root), ((f"{root}/写真/2024", "2024"),))
    other = root / "写真"
    assert browse_folders("", [root, other]).folders == ((str(root), str(root)), (str(other), str(other)))
    assert browse_folders(str(root), [root, other]).parent == ""


def test_folders_are_kept_with_the_library_whatever_bytes_they_have(store: ImageStore, tmp_path: Path) -> None:
    names = [str(tmp_path / "写真"), str(tmp_path / "caf\udce9"), str(tmp_path / ("a" * 200))]
    for name in names:
        add_folder(store, name)
        add_folder(store, name)
    assert list_folders(store) == sorted(names)
    forget_folder(store, names[1])
    assert names[1] not in list_folders(store)


def test_scan_registers_the_folder_and_counts_what_cannot_be_read(store: ImageStore, root: Path) -> None:
    (root / "写真" / "red.png").write_bytes(draw_image_bytes("red"))
    (root / "写真" / "2024" / "blue.png").write_bytes(draw_image_bytes("blue"))
    (root / "写真" / "broken.png").write_bytes(b"no picture")
    stored = encode_path(str(root / "写真"))
    control = JobControl(Job(1, "scan", stored))
    make_scan(store, FakeEncoder, ImageReader())(stored, control)
    job = control.job
    assert (job.done, job.total, job.failed) == (3, 3, 1)
    assert job.counts is not None
    assert job.counts["registered"] == 2
    assert "broken.png" in job.failures[0]
    assert store.count_images(SearchFilter(folder=str(root / "写真"))) == 2


def test_watched_folder_is_scanned_when_it_changes_and_stands_still(tmp_path: Path, store: ImageStore) -> None:
    folder = tmp_path / "watched"
    folder.mkdir()
    scanned: list[str] = []
    watcher = FolderWatcher(store, scanned.append)
    watcher.look()
    set_watched(store, str(folder), True)
    watcher.look()
    watcher.look()
    assert scanned == [str(folder)]  # at first: what changed while the program was away
    (folder / "a.png").write_bytes(b"half")
    watcher.look()
    (folder / "a.png").write_bytes(b"whole")
    watcher.look()
    assert scanned == [str(folder)]
    watcher.look()
    watcher.look()
    assert scanned == [str(folder)] * 2
    forget_folder(store, str(folder))
    (folder / "b.png").write_bytes(b"more")
    watcher.look()
    watcher.look()
    assert len(scanned) == 2
