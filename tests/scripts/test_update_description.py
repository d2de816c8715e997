"""update_description_by_extracted_text_chunk.py as people start it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from image_search.images import hash_bytes
from image_search.records import Edits, ImageText, NewImage
from image_search.settings import ROOT, Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from tests.fakes import find_ids
from tests.fakes.images_with_text import INFOTEXT, make_exif, make_image, make_jpeg, make_png_of

SCRIPT = "update_description_by_extracted_text_chunk.py"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'library.db'}"


@pytest.fixture
def store(url: str) -> Iterator[ImageStore]:
    with open_store(Settings.load(None, {"DATABASE_URL": url})) as store:
        yield store


@pytest.fixture
def folder(tmp_path: Path, store: ImageStore) -> Path:
    """Three registered images without their texts: a prompt, a caption, nothing."""
    pictures = {
        "prompt.png": make_png_of(parameters=INFOTEXT),
        "caption.jpg": make_jpeg((0xE1, make_exif({0x010E: "夕焼けの海"}))),
        "nothing.png": make_image(),
    }
    folder = tmp_path / "絵"
    folder.mkdir()
    for name, data in pictures.items():
        (folder / name).write_bytes(data)
        register(store, name, data)
    return folder


def register(store: ImageStore, name: str, data: bytes, **more: ImageText) -> int:
    model = store.get_or_create_model("test", "1", 2)
    image = NewImage(hash_bytes(data), name, "image/png", 8, 8, data, b"preview", **more)
    return store.add_images(model.model_id, [image], np.asarray([[1, 0]], np.float32))[0]


def run(url: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DATABASE_URL": url, "PYTHONUTF8": "1"}
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, encoding="utf-8")


def read_text(store: ImageStore, name: str) -> ImageText:
    return store.get_image(find_ids(store, name)[0]).text


def test_texts_are_stored_with_a_line_for_each_file_and_a_summary(url: str, store: ImageStore, folder: Path) -> None:
    done = run(url, folder)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f"updated\tcaption\t{folder / 'caption.jpg'}",
        f"no text\t\t{folder / 'nothing.png'}",
        f"updated\tAUTOMATIC1111\t{folder / 'prompt.png'}",
    ]
    assert [line.split(maxsplit=1) for line in done.stderr.splitlines()[:2]] == [
        ["1", "AUTOMATIC1111"],
        ["1", "caption"],
    ]
    assert done.stderr.splitlines()[2:] == ["updated 2, unchanged 0, no text 1, failed 0"]
    assert read_text(store, "prompt.png").generation_prompt == INFOTEXT
    assert read_text(store, "caption.jpg").description == "夕焼けの海"


def test_second_run_changes_nothing(url: str, folder: Path) -> None:
    run(url, folder)
    done = run(url, folder)
    assert done.returncode == 0
    assert "updated 0, unchanged 2, no text 1, failed 0" in done.stderr


def test_renamed_image_is_found_by_its_content(url: str, store: ImageStore, folder: Path) -> None:
    (folder / "prompt.png").rename(folder / "別名.png")
    done = run(url, folder / "別名.png")
    assert (done.returncode, done.stdout) == (0, f"updated\tAUTOMATIC1111\t{folder / '別名.png'}\n")
    assert read_text(store, "prompt.png").seed == "12345"


def test_changed_image_is_found_by_its_name_with_a_warning(url: str, store: ImageStore, folder: Path) -> None:
    (folder / "nothing.png").write_bytes(make_png_of(parameters=INFOTEXT.replace("12345", "7")))
    done = run(url, folder / "nothing.png")
    assert done.returncode == 0
    assert "found by name only" in done.stderr
    assert read_text(store, "nothing.png").seed == "7"


def test_changed_image_whose_name_several_have_changes_none_of_them(url: str, store: ImageStore, folder: Path) -> None:
    register(store, "nothing.png", make_image(size=(9, 9)))
    (folder / "nothing.png").write_bytes(make_png_of(parameters=INFOTEXT.replace("12345", "7")))
    done = run(url, folder / "nothing.png")
    assert done.returncode == 1
    assert "2 images have its name" in done.stderr


def test_edits_stay_whatever_the_file_says(url: str, store: ImageStore, folder: Path) -> None:
    [image_id] = find_ids(store, "caption.jpg")
    edits = Edits("typed in", tuple(f"keyword {number}" for number in range(1000)), 5)
    store.set_edits(image_id, edits)
    assert run(url, folder).returncode == 0
    image = store.get_image(image_id)
    assert (image.edits, image.description, image.text.description) == (edits, "typed in", "夕焼けの海")
    assert image.keywords == edits.keywords


def test_file_that_says_nothing_leaves_what_a_person_wrote(url: str, store: ImageStore, folder: Path) -> None:
    store.set_text(find_ids(store, "nothing.png")[0], ImageText(description="typed in"))
    assert run(url, folder).returncode == 0
    assert read_text(store, "nothing.png").description == "typed in"


def test_files_that_are_not_registered_or_not_there_are_a_line_each_and_the_exit_code_1(url: str, folder: Path) -> None:
    (folder / "new.png").write_bytes(make_image(size=(3, 3)))
    (folder / "empty.png").touch()
    done = run(url, folder, folder / "missing.png")
    assert done.returncode == 1
    assert "new.png is not registered. Run register_images.py first." in done.stderr
    assert "empty.png is empty." in done.stderr
    assert "missing.png cannot be read" in done.stderr
    assert "failed 3" in done.stderr
    assert "Traceback" not in done.stderr


def test_library_that_cannot_be_used_is_one_line_and_the_exit_code_2(folder: Path) -> None:
    done = run("nonsense://x", folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
