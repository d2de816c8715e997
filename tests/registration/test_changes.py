"""A file that changed, moved, was copied or was deleted from the library, and what becomes of its image."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from image_search.films import hash_film
from image_search.records import Edits
from image_search.registration import Registrar, RegistrationReport
from image_search.registration.files import find_files
from image_search.registration.films import change_edits, list_frames
from image_search.registration.pipeline import ImageReader
from image_search.registration.trash import restore_images, trash_images
from image_search.registration.uploads import register_upload
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from tests.contract.frames import make_frame
from tests.fakes import FakeEncoder, draw_image_bytes, find_ids, make_embeddings, make_image
from tests.fakes.film_files import make_scenes, write_film

EDITS = Edits(description="typed", keywords=("Paris, France",), rating=4)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library/image_search.db")) as store:
        yield store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        write(folder / name, name[0])
    return folder


COLOURS = {"a": "red", "b": "lime", "c": "blue"}


def write(path: Path, content: str) -> Path:
    """An image that follows from content alone, with another time than the file had."""
    info = PngInfo()
    info.add_text("Description", f"written: {content}")
    before = path.stat().st_mtime_ns if path.exists() else 0
    Image.new("RGB", (8, 8), COLOURS.get(content[0], "gray")).save(path, pnginfo=info)
    if path.stat().st_mtime_ns == before:
        os.utime(path, ns=(before + 1, before + 1))
    return path


def register(store: ImageStore, *paths: Path, **options: bool) -> RegistrationReport:
    return Registrar(store, FakeEncoder(), pauses=(0, 0), **options).register(find_files(paths))


def count(report: RegistrationReport) -> dict[str, int]:
    names = ("registered", "known", "moved", "updated", "deleted", "failed")
    return {name: value for name in names if (value := getattr(report, name))}


# --- changed in place -------------------------------------------------------------------------------------------------


def test_changed_file_is_the_same_image_and_keeps_what_a_person_said(store: ImageStore, folder: Path) -> None:
    register(store, folder)
    [image_id] = find_ids(store, "a.png")
    store.set_edits(image_id, EDITS)
    before = store.get_image(image_id)
    write(folder / "a.png", "new content")
    assert count(register(store, folder)) == {"known": 2, "updated": 1}
    image = store.get_image(image_id)
    assert image.content_sha256 != before.content_sha256
    assert (image.edits, image.upload_date, image.paths) == (EDITS, before.upload_date, before.paths)
    assert image.text.description == "written: new content" or "new content" in str(image.text)
    assert store.read_original(image_id) == (folder / "a.png").read_bytes()
    assert store.count_images() == 3
    assert count(register(store, folder)) == {"known": 3}


def test_whole_library_that_is_tagged_is_not_doubled(store: ImageStore, folder: Path) -> None:
    register(store, folder)
    ids = store.list_image_ids()
    for path in folder.iterdir():
        write(path, path.name[0] + " tagged")
    assert count(register(store, folder)) == {"updated": 3}
    assert store.list_image_ids() == ids


def test_changed_copy_is_an_image_of_its_own(store: ImageStore, folder: Path) -> None:
    shutil.copy2(folder / "a.png", folder / "copy.png")
    register(store, folder)
    [image_id] = find_ids(store, "copy.png") + find_ids(store, "a.png")
    assert set(store.get_image(image_id).paths) == {str(folder / "a.png"), str(folder / "copy.png")}
    write(folder / "copy.png", "edited")
    assert count(register(store, folder)) == {"registered": 1, "known": 3}
    assert store.get_image(image_id).paths == (str(folder / "a.png"),)
    assert count(register(store, folder)) == {"known": 4}


def test_two_copies_that_become_different_images_are_two(store: ImageStore, folder: Path) -> None:
    shutil.copy2(folder / "a.png", folder / "copy.png")
    register(store, folder)
    write(folder / "a.png", "one")
    write(folder / "copy.png", "other")
    assert count(register(store, folder)) == {"updated": 1, "registered": 1, "known": 2}
    for name in ("a.png", "copy.png"):
        known = store.find_known_files([str(folder / name)])[str(folder / name)]
        assert store.read_original(known.image_id) == (folder / name).read_bytes()
    assert count(register(store, folder)) == {"known": 4}


def test_two_copies_that_are_changed_alike_stay_one_image(store: ImageStore, folder: Path) -> None:
    shutil.copy2(folder / "a.png", folder / "copy.png")
    register(store, folder)
    [image_id] = set(find_ids(store, "copy.png") + find_ids(store, "a.png"))
    write(folder / "a.png", "same")
    shutil.copy2(folder / "a.png", folder / "copy.png")
    os.utime(folder / "copy.png", ns=(5, 5))
    assert count(register(store, folder)) == {"updated": 1, "known": 3}
    assert set(store.get_image(image_id).paths) == {str(folder / "a.png"), str(folder / "copy.png")}
    assert count(register(store, folder)) == {"known": 4}


def test_file_overwritten_with_another_image_moves_there_and_both_layers_stay(store: ImageStore, folder: Path) -> None:
    register(store, folder)
    [a], [b] = find_ids(store, "a.png"), find_ids(store, "b.png")
    store.set_edits(a, Edits(description="of a"))
    store.set_edits(b, Edits(description="of b"))
    shutil.copy(folder / "b.png", folder / "a.png")
    os.utime(folder / "a.png", ns=(7, 7))
    assert count(register(store, folder)) == {"known": 2, "moved": 1}
    assert set(store.get_image(b).paths) == {str(folder / "a.png"), str(folder / "b.png")}
    assert store.get_image(a).paths == ()
    assert [store.get_image(image_id).description for image_id in (a, b)] == ["of a", "of b"]


def test_two_files_that_change_names_change_paths(store: ImageStore, folder: Path) -> None:
    register(store, folder)
    [a], [b] = find_ids(store, "a.png"), find_ids(store, "b.png")
    (folder / "a.png").rename(folder / "x")
    (folder / "b.png").rename(folder / "a.png")
    (folder / "x").rename(folder / "b.png")
    os.utime(folder / "a.png", ns=(7, 7))
    os.utime(folder / "b.png", ns=(8, 8))
    register(store, folder)
    assert store.get_image(a).paths == (str(folder / "b.png"),)
    assert store.get_image(b).paths == (str(folder / "a.png"),)
    assert store.count_images() == 3


def test_content_that_is_in_the_trash_because_its_file_was_gone_comes_back(store: ImageStore, folder: Path) -> None:
    register(store, folder)
    [a], [b] = find_ids(store, "a.png"), find_ids(store, "b.png")
    store.set_edits(b, EDITS)
    (folder / "b.png").rename(folder / "a.png")
    os.utime(folder / "a.png", ns=(7, 7))
    store.trash_images([b], "gone")
    assert count(register(store, folder)) == {"registered": 1, "known": 1}
    assert store.get_image(b).deleted_at is None and store.get_image(b).edits == EDITS
    assert store.get_image(b).paths[0] == str(folder / "a.png")
    assert store.get_image(a).paths == ()


# --- moved ----------------------------------------------------------------------------------------------------------


def test_folder_that_is_renamed_leaves_no_path_behind(store: ImageStore, folder: Path, tmp_path: Path) -> None:
    register(store, folder)
    folder.rename(tmp_path / "renamed")
    assert count(register(store, tmp_path / "renamed")) == {"moved": 3}
    assert store.list_paths(str(folder)) == []


def test_copy_is_another_path_of_its_image(store: ImageStore, folder: Path, tmp_path: Path) -> None:
    register(store, folder)
    [image_id] = find_ids(store, "a.png")
    shutil.copytree(folder, tmp_path / "backup")
    assert count(register(store, tmp_path / "backup")) == {"known": 3}
    assert set(store.get_image(image_id).paths) == {str(folder / "a.png"), str(tmp_path / "backup" / "a.png")}


# --- deleted earlier ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("for_good", [False, True])
def test_deleted_image_stays_deleted(store: ImageStore, folder: Path, for_good: bool) -> None:
    register(store, folder)
    [image_id] = find_ids(store, "a.png")
    (store.delete_images if for_good else store.trash_images)([image_id])
    assert count(register(store, folder)) == {"known": 2, "deleted": 1}
    (folder / "a.png").rename(folder / "renamed.png")
    assert count(register(store, folder)) == {"known": 2, "deleted": 1}
    assert store.count_images() == 2


@pytest.mark.parametrize("for_good", [False, True])
def test_deleted_image_that_is_tagged_later_stays_deleted(store: ImageStore, folder: Path, for_good: bool) -> None:
    register(store, folder)
    (store.delete_images if for_good else store.trash_images)(find_ids(store, "a.png"))
    write(folder / "a.png", "a tagged")
    assert count(register(store, folder)) == {"known": 2, "deleted": 1}
    (folder / "a.png").rename(folder / "elsewhere.png")
    assert count(register(store, folder)) == {"known": 2, "deleted": 1}  # by its new content
    write(folder / "elsewhere.png", "a tagged again")
    assert count(register(store, folder)) == {"known": 2, "deleted": 1}  # by the path it has by now


@pytest.mark.parametrize("for_good", [False, True])
def test_deleted_image_that_is_renamed_and_then_tagged_stays_deleted(
    store: ImageStore, folder: Path, for_good: bool
) -> None:
    register(store, folder)
    (store.delete_images if for_good else store.trash_images)(find_ids(store, "a.png"))
    (folder / "a.png").rename(folder / "renamed.png")
    assert count(register(store, folder)) == {"known": 2, "deleted": 1}
    write(folder / "renamed.png", "a tagged")
    assert count(register(store, folder)) == {"known": 2, "deleted": 1}
    store.empty_trash()
    write(folder / "renamed.png", "a tagged again")
    assert count(register(store, folder)) == {"known": 2, "deleted": 1}


def test_image_that_was_renamed_in_the_trash_and_restored_has_its_new_path(store: ImageStore, folder: Path) -> None:
    register(store, folder)
    [image_id] = find_ids(store, "a.png")
    store.trash_images([image_id])
    (folder / "a.png").rename(folder / "renamed.png")
    register(store, folder)
    store.restore_images([image_id])
    assert count(register(store, folder)) == {"known": 2, "moved": 1}
    assert store.get_image(image_id).paths == (str(folder / "renamed.png"),)
    write(folder / "renamed.png", "a tagged")
    assert count(register(store, folder)) == {"known": 2, "updated": 1}
    assert store.list_deleted() == []


@pytest.mark.parametrize("for_good", [False, True])
def test_deleted_image_is_taken_in_when_asked(store: ImageStore, folder: Path, for_good: bool) -> None:
    register(store, folder)
    [image_id] = find_ids(store, "a.png")
    store.set_edits(image_id, EDITS)
    (store.delete_images if for_good else store.trash_images)([image_id])
    assert count(register(store, folder, include_deleted=True)) == {"registered": 1, "known": 2}
    [again] = find_ids(store, "a.png")
    assert (again == image_id, store.get_image(again).edits == EDITS) == (not for_good, not for_good)
    assert store.find_deleted_hashes([store.get_image(again).content_sha256]) == set()


def test_file_tagged_while_its_image_was_in_the_trash_belongs_to_it_once_it_is_restored(
    store: ImageStore, folder: Path
) -> None:
    register(store, folder)
    [image_id] = find_ids(store, "a.png")
    store.trash_images([image_id])
    write(folder / "a.png", "a tagged")
    register(store, folder)
    store.restore_images([image_id])
    assert count(register(store, folder)) == {"known": 2, "updated": 1}
    assert store.read_original(image_id) == (folder / "a.png").read_bytes()
    assert store.list_deleted() == []


def upload(store: ImageStore, data: bytes) -> int:
    model_id = store.get_or_create_model("fake", "1", 16).model_id
    return register_upload(store, FakeEncoder(), lambda: model_id, ImageReader(), data, "a.png").image_id


STORIES = {
    "renamed, tagged": ["rename 1.png", "tag one"],
    "renamed, tagged twice": ["rename 1.png", "tag one", "tag two"],
    "tagged, renamed": ["tag one", "rename 1.png"],
    "renamed, tagged, renamed": ["rename 1.png", "tag one", "rename 2.png"],
    "renamed, tagged, renamed, tagged": ["rename 1.png", "tag one", "rename 2.png", "tag two"],
}


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("way", ["restored", "uploaded", "taken in"])
def test_file_that_was_renamed_and_tagged_in_the_trash_belongs_to_its_image_once_that_is_back(
    store: ImageStore, folder: Path, story: str, way: str
) -> None:
    register(store, folder)
    [image_id] = find_ids(store, "a.png")
    store.set_edits(image_id, EDITS)
    path = folder / "a.png"
    first = path.read_bytes()
    trash_images(store, [image_id])
    for step, detail in (step.split() for step in STORIES[story]):
        path = path.rename(folder / detail) if step == "rename" else write(path, f"a {detail}")
        assert count(register(store, folder)) == {"known": 2, "deleted": 1}
    if way == "restored":
        assert restore_images(store, [image_id]) == 1
    elif way == "uploaded":
        assert upload(store, first) == image_id
    assert count(register(store, folder, include_deleted=way == "taken in")) == {"known": 2, "updated": 1}
    image = store.get_image(image_id)
    assert (image.edits, image.deleted_at) == (EDITS, None)
    assert image.paths[0] == str(path) and store.read_original(image_id) == path.read_bytes()
    assert count(register(store, folder)) == {"known": 3}


@pytest.mark.parametrize("story", STORIES)
def test_file_that_was_renamed_and_tagged_stays_deleted_with_its_image_for_good(
    store: ImageStore, folder: Path, story: str
) -> None:
    register(store, folder)
    path = folder / "a.png"
    trash_images(store, find_ids(store, "a.png"))
    for step, detail in (step.split() for step in STORIES[story]):
        path = path.rename(folder / detail) if step == "rename" else write(path, f"a {detail}")
        register(store, folder)
        store.empty_trash()
    path.rename(folder / "last.png")
    assert count(register(store, folder)) == {"known": 2, "deleted": 1}
    assert count(register(store, folder, include_deleted=True)) == {"known": 2, "registered": 1}
    assert count(register(store, folder)) == {"known": 3}


def test_file_tagged_in_the_trash_is_an_image_of_its_own_where_its_image_is_back_in_another_way(
    store: ImageStore, folder: Path
) -> None:
    register(store, folder)
    [image_id] = find_ids(store, "a.png")
    trash_images(store, [image_id])
    (folder / "a.png").rename(folder / "1.png")
    register(store, folder)
    write(folder / "1.png", "a tagged")
    register(store, folder)
    store.restore_images([image_id])  # killed before the paths were given
    assert count(register(store, folder)) == {"known": 2, "registered": 1}
    assert store.list_deleted() == []


def test_deleted_image_that_comes_back_over_another_file_stays_deleted(store: ImageStore, folder: Path) -> None:
    register(store, folder)
    trash_images(store, find_ids(store, "a.png"))
    for name in ("a.png", "c.png", "a.png"):
        shutil.copy(folder / name, folder / "b.png")
        os.utime(folder / "b.png", ns=(ord(name[0]), ord(name[0])))
        register(store, folder)
    assert store.find_known_files([str(folder / "b.png")]) == {} and store.count_images() == 2


def test_restored_image_takes_no_path_of_another_and_none_without_a_file(store: ImageStore, folder: Path) -> None:
    register(store, folder)
    [a], [b] = find_ids(store, "a.png"), find_ids(store, "b.png")
    trash_images(store, [a])
    for name in ("1.png", "2.png"):
        shutil.copy(folder / "a.png", folder / name)
    register(store, folder)
    (folder / "1.png").unlink()
    store.set_path(b, str(folder / "2.png"), 1, 1)
    restore_images(store, [a])
    assert store.get_image(a).paths == (str(folder / "a.png"),)
    assert set(store.get_image(b).paths) == {str(folder / "b.png"), str(folder / "2.png")}


def test_forgetting_what_was_deleted_lets_it_in_again(store: ImageStore, folder: Path) -> None:
    register(store, folder)
    store.delete_images(find_ids(store, "a.png"))
    assert store.forget_deleted() == 1
    assert count(register(store, folder)) == {"registered": 1, "known": 2}


@pytest.mark.parametrize("for_good", [False, True])
def test_upload_of_a_deleted_image_brings_it_back(store: ImageStore, for_good: bool) -> None:
    encoder = FakeEncoder()
    model_id = store.get_or_create_model("fake", "1", 16).model_id

    def send() -> tuple[int, str]:
        sent = register_upload(store, encoder, lambda: model_id, ImageReader(), draw_image_bytes("red"), "red.png")
        return sent.image_id, sent.outcome

    first, outcome = send()
    assert outcome == "new" and send() == (first, "known")
    (store.delete_images if for_good else store.trash_images)([first])
    again, outcome = send()
    assert outcome == "restored" and (again == first) == (not for_good)
    assert store.count_images() == 1


# --- films ------------------------------------------------------------------------------------------------------------


def test_edit_of_a_moment_is_one_of_the_film(store: ImageStore) -> None:
    model = store.get_or_create_model("fake", "1", 16)
    images = [*(make_frame(time) for time in range(4)), make_image("a.png")]
    *image_ids, other = store.add_images(model.model_id, images, make_embeddings(5))
    store.set_edits(image_ids[2], Edits("the beach", rating=2))  # by an earlier version, of this moment alone
    store.trash_images(image_ids[3:])
    assert change_edits(store, image_ids[:1], lambda image: replace(image.edits, keywords=("sea",), rating=5)) == []
    said = [image.edits for image in store.get_images([*image_ids, other])]
    alike = Edits(keywords=("sea",), rating=5)
    assert said == [alike, alike, Edits("the beach", ("sea",), 5), Edits(), Edits()]
    assert change_edits(store, image_ids[3:], lambda _: Edits("in the trash")) == image_ids[3:]


@pytest.mark.parametrize("way", ["restored", "taken in"])
@pytest.mark.parametrize("moves", [(), ("1.mp4",), ("1.mp4", "2.mp4")])
def test_film_changed_in_the_trash_keeps_its_edits_once_it_is_back(
    store: ImageStore, folder: Path, way: str, moves: tuple[str, ...]
) -> None:
    path = write_film(folder / "holiday.mp4", make_scenes(3, 3))
    register(store, folder)
    frames = list_frames(store, hash_film(path))
    change_edits(store, [frames[0].image_id], lambda _: EDITS)
    trash_images(store, [frames[0].image_id])
    for number, name in enumerate((*moves, "last.mp4")):
        if name in moves:
            path = path.rename(folder / name)
            assert count(register(store, folder)) == {"known": 3, "deleted": 1}
        write_film(path, make_scenes(2, 3, seed=5 + number))
        assert count(register(store, folder)) == {"known": 3, "deleted": 1}
    if way == "restored":
        restore_images(store, [frames[0].image_id])
    assert count(register(store, folder, include_deleted=way == "taken in")) == {"known": 3, "updated": 1}
    assert [frame.edits for frame in list_frames(store, hash_film(path))] == [EDITS, EDITS]
    assert store.count_images() == 5 and store.list_trash().total == len(frames)
    assert count(register(store, folder)) == {"known": 4}


class Killed(BaseException):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("step", ["set_setting", "trash_images", "add_images", "forget_deleted"])
@pytest.mark.parametrize("is_done", [False, True])
def test_run_killed_while_a_film_is_replaced_is_made_good_by_the_next(
    store: ImageStore, folder: Path, monkeypatch: pytest.MonkeyPatch, step: str, is_done: bool
) -> None:
    path = write_film(folder / "holiday.mp4", make_scenes(3, 3))
    register(store, folder)
    old = list_frames(store, hash_film(path))
    change_edits(store, [old[0].image_id], lambda _: EDITS)
    write_film(path, make_scenes(2, 3, seed=5))

    def kill(*values: object) -> None:
        if is_done:
            getattr(type(store), step)(store, *values)
        raise Killed

    monkeypatch.setattr(store, step, kill)
    with pytest.raises(Killed):
        register(store, folder)
    monkeypatch.undo()
    register(store, folder)
    new = list_frames(store, hash_film(path))
    assert [(frame.edits, frame.paths) for frame in new] == [(EDITS, (str(path),))] * 2
    assert {hit.image_id for hit in store.list_trash()} == {frame.image_id for frame in old}
    assert store.count_images() == 5 and count(register(store, folder)) == {"known": 4}
