"""Gone is a file that its folder does not list any more, and nothing else."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from image_search.errors import UnreadableImage
from image_search.records import Edits, Frame
from image_search.registration import Registrar, RegistrationReport
from image_search.registration.files import find_files
from image_search.registration.trash import find_gone_files, trash_gone_files
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from tests.fakes import FakeEncoder, find_ids, make_embeddings, make_image

COLOURS = ("red", "lime", "blue", "yellow", "cyan")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library/image_search.db")) as store:
        yield store


def make_files(folder: Path, *names: str) -> list[Path]:
    """One file of its own colour for each name."""
    paths = []
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            Image.new("RGB", (8, 8), COLOURS[number]).save(file, "PNG")
        paths.append(path)
    return paths


def register(store: ImageStore, *paths: Path) -> RegistrationReport:
    return Registrar(store, FakeEncoder()).register(find_files(paths))


def list_gone(store: ImageStore, folder: Path) -> list[str]:
    return [file.path for file in find_gone_files(store, folder).files]


def prune(store: ImageStore, folder: Path) -> int:
    """How many images went to the trash."""
    return trash_gone_files(store, find_gone_files(store, folder).files)[0]


def test_gone_files_are_found_below_their_folder_only(tmp_path: Path, store: ImageStore) -> None:
    first, _, other = make_files(tmp_path, "p/1.png", "p/2.png", "q/3.png")
    register(store, tmp_path / "p", tmp_path / "q")
    assert list_gone(store, tmp_path / "p") == []
    first.unlink()
    other.unlink()
    assert list_gone(store, tmp_path / "p") == [str(first)]


def test_pruned_images_go_to_the_trash_and_come_back_with_their_file(tmp_path: Path, store: ImageStore) -> None:
    first, _ = make_files(tmp_path / "p", "1.png", "2.png")
    register(store, tmp_path / "p")
    [image_id] = find_ids(store, "1.png")
    store.set_edits(image_id, Edits(description="the first one", rating=5))
    data = first.read_bytes()
    first.unlink()
    assert prune(store, tmp_path / "p") == 1
    [hit] = store.list_trash()
    assert (hit.image_id, hit.image.trash_reason) == (image_id, "gone")
    first.write_bytes(data)
    assert register(store, tmp_path / "p").deleted == 0
    assert find_ids(store, "1.png") == [image_id]
    assert store.get_image(image_id).edits == Edits(description="the first one", rating=5)


def test_image_with_another_path_loses_only_the_one_that_is_gone(tmp_path: Path, store: ImageStore) -> None:
    first, _ = make_files(tmp_path / "p", "1.png", "2.png")
    shutil.copy(first, tmp_path / "copy.png")
    register(store, tmp_path / "p", tmp_path / "copy.png")
    first.unlink()
    assert trash_gone_files(store, find_gone_files(store, tmp_path / "p").files) == (0, 1)
    [image_id] = find_ids(store, "copy.png")
    assert store.get_image(image_id).paths == (str(tmp_path / "copy.png"),)


@pytest.mark.parametrize("is_link", [False, True])
def test_image_whose_copy_is_gone_has_the_name_of_its_file_again(
    tmp_path: Path, store: ImageStore, is_link: bool
) -> None:
    original, *_ = make_files(tmp_path / "p", "cat_original.png", "2.png")
    copy, _ = make_files(tmp_path / "q", "backup_copy.png", "keeps the folder filled.png")
    copy.unlink()
    copy.symlink_to(original) if is_link else shutil.copy(original, copy)
    register(store, tmp_path / "p")
    register(store, copy)
    [hit] = store.list_images(["backup"])
    copy.unlink()
    prune(store, tmp_path / "q")
    record = store.get_image(hit.image_id)
    assert (record.paths, record.file_name) == ((str(original),), "cat_original.png")
    assert [hit.image_id for hit in store.list_images(["cat_original"])] == [record.image_id]


def test_image_whose_copy_was_overwritten_has_the_name_of_its_file_again(tmp_path: Path, store: ImageStore) -> None:
    original, *others = make_files(tmp_path / "p", "cat_original.png", "2.png", "3.png")
    copy = tmp_path / "backup_copy.png"
    shutil.copy(original, copy)
    register(store, original)
    register(store, copy)
    shutil.copy(others[1], copy)
    register(store, copy)
    names = {record.file_name: record.paths for record in store.get_images(store.list_image_ids())}
    assert names == {"cat_original.png": (str(original),), "backup_copy.png": (str(copy),)}


def test_file_is_no_folder_to_look_for_gone_files_in(tmp_path: Path, store: ImageStore) -> None:
    [file] = make_files(tmp_path / "p", "1.png")
    with pytest.raises(UnreadableImage, match=r"1\.png is a file\. Name its folder"):
        find_gone_files(store, file)


@pytest.mark.parametrize("name", [b"caf\xe9.png", "猫.png".encode("shift_jis"), b"a\nb.png"])
def test_names_that_are_not_utf8_compare_by_bytes(tmp_path: Path, store: ImageStore, name: bytes) -> None:
    folder = tmp_path / "p"
    plain, *_ = make_files(folder, "1.png", "2.png", "3.png")
    odd = os.path.join(os.fsencode(folder), name)
    try:
        os.replace(plain, odd)
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    register(store, folder)
    assert list_gone(store, folder) == []
    os.unlink(odd)
    assert list_gone(store, folder) == [os.fsdecode(odd)]
    assert prune(store, folder) == 1


def test_name_that_is_written_in_another_form_is_there(tmp_path: Path, store: ImageStore) -> None:
    composed, _ = make_files(tmp_path / "p", "が.png", "2.png")
    register(store, tmp_path / "p")
    composed.rename(tmp_path / "p" / "か\u3099.png")
    assert list_gone(store, tmp_path / "p") == []


def test_link_whose_target_is_gone_is_there(tmp_path: Path, store: ImageStore) -> None:
    target, _ = make_files(tmp_path, "disk/1.png", "p/2.png")
    (tmp_path / "p" / "1.png").symlink_to(target)
    register(store, tmp_path / "p")
    target.unlink()
    assert list_gone(store, tmp_path / "p") == []


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_below_a_folder_that_cannot_be_listed_nothing_is_gone(
    tmp_path: Path, store: ImageStore, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    closed = tmp_path / "p" / "closed"
    make_files(tmp_path / "p", "1.png", "closed/2.png", "closed/deep/3.png")
    register(store, tmp_path / "p")
    real_scandir, real_lstat = os.scandir, os.lstat

    def refuse(path: str) -> object:
        if str(path).startswith(str(closed)):
            raise OSError(code, os.strerror(code))
        return real_scandir(path)

    def refuse_lstat(path: str, **options: object) -> object:
        if str(path).startswith(str(closed)):
            raise OSError(code, os.strerror(code))
        return real_lstat(path, **options)

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(os, "lstat", refuse_lstat)
    found = find_gone_files(store, tmp_path / "p")
    assert found.files == ()
    assert len(found.warnings) == 2 and all(f"{closed}" in said for said in found.warnings)
    assert "cannot be listed or is empty, so its 1 images stay" in found.warnings[0]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may read everything")
def test_below_a_folder_of_mode_000_nothing_is_gone(tmp_path: Path, store: ImageStore) -> None:
    make_files(tmp_path / "p", "1.png", "closed/2.png")
    register(store, tmp_path / "p")
    (tmp_path / "p" / "closed").chmod(0)
    try:
        assert find_gone_files(store, tmp_path / "p").files == ()
    finally:
        (tmp_path / "p" / "closed").chmod(0o700)


@pytest.mark.parametrize("left", [[], [".not_mounted"]])
def test_below_a_mount_point_that_is_not_mounted_nothing_is_gone(
    tmp_path: Path, store: ImageStore, left: list[str]
) -> None:
    disk = tmp_path / "p" / "disk"
    make_files(tmp_path / "p", "1.png", "disk/2.png", "disk/2024/3.png")
    register(store, tmp_path / "p")
    shutil.rmtree(disk)
    disk.mkdir()
    for name in left:
        (disk / name).touch()
    found = find_gone_files(store, tmp_path / "p")
    assert found.files == ()
    assert "its 1 images stay. Mount its disk" in found.warnings[0] and len(found.warnings) == 2


def test_below_a_folder_that_is_missing_nothing_is_gone(tmp_path: Path, store: ImageStore) -> None:
    make_files(tmp_path / "p", "1.png", "disk/2.png")
    register(store, tmp_path / "p")
    shutil.rmtree(tmp_path / "p" / "disk")
    assert list_gone(store, tmp_path / "p") == []


def test_folder_that_is_named_and_missing_or_empty_is_refused(tmp_path: Path, store: ImageStore) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "missing"):
        with pytest.raises(UnreadableImage, match="is missing or empty"):
            find_gone_files(store, tmp_path / name)


def test_frames_of_a_film_that_is_gone_go_to_the_trash(tmp_path: Path, store: ImageStore) -> None:
    make_files(tmp_path / "p", "1.png")
    register(store, tmp_path / "p")
    model = store.get_or_create_model("fake", "1", 16)
    film = "f" * 64
    frames = [
        replace_frame(make_image(f"film@{ms}.mp4", file_path=str(tmp_path / "p" / "film.mp4")), Frame(film, ms, 9000))
        for ms in (0, 2000, 5000)
    ]
    store.add_images(model.model_id, frames, make_embeddings(3))
    assert prune(store, tmp_path / "p") == 3
    assert store.count_images() == 1


def replace_frame(image: object, frame: Frame) -> object:
    from dataclasses import replace

    from image_search.stores.text import hash_frame

    return replace(
        image, content_sha256=hash_frame(frame.film_sha256, frame.frame_ms), data=None, size=100, frame=frame
    )
