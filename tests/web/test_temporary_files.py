"""Uploads lie in a folder of this user only, which is made again when a cleaner removes it."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_search.errors import SettingsError
from image_search.web.server import TemporaryFiles


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def files(parent: Path) -> Iterator[TemporaryFiles]:
    files = TemporaryFiles("::1", 8899)
    yield files
    files.close()
    assert list(parent.iterdir()) == []


def test_temporary_files_are_private_and_gradio_uses_them(files: TemporaryFiles) -> None:
    from gradio.utils import get_upload_folder

    assert get_upload_folder() == str(files.uploads)
    assert tempfile.gettempdir() == str(files.folder)
    assert {path.stat().st_mode & 0o777 for path in (files.folder, files.uploads)} == {0o700}


def test_folders_that_a_killed_server_left_are_removed_unless_they_are_links_or_of_another_address(
    parent: Path,
) -> None:
    (parent / "image_search_127.0.0.1_8899_old").mkdir()
    other = parent / "image_search_127.0.0.1_8900_x"
    other.mkdir()
    (parent / "image_search_127.0.0.1_8899_link").symlink_to(other)
    files = TemporaryFiles("127.0.0.1", 8899)
    names = {path.name for path in parent.iterdir()}
    assert names == {other.name, "image_search_127.0.0.1_8899_link", files.folder.name}
    files.close()


@pytest.mark.parametrize("removed", ["folder", "uploads"])
def test_folder_that_a_cleaner_removed_is_made_again(files: TemporaryFiles, removed: str) -> None:
    shutil.rmtree(getattr(files, removed))
    files.ensure()
    assert files.uploads.is_dir() and files.folder.stat().st_mode & 0o777 == 0o700


def test_cleaning_deletes_old_uploads_and_goes_on_after_a_file_it_cannot_delete(
    files: TemporaryFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (files.uploads / name).mkdir()
        (files.uploads / name / "x.png").write_bytes(b"x")
    files.clean()
    assert len(list(files.uploads.iterdir())) == 2
    now = time.time()
    monkeypatch.setattr("image_search.web.server.time.time", lambda: now + 25 * 3600)
    unlink = Path.unlink

    def refuse_a(path: Path) -> None:
        if path.parent.name == "a":
            raise PermissionError("no")
        unlink(path)

    monkeypatch.setattr(Path, "unlink", refuse_a)
    files.clean()
    assert [path.name for path in files.uploads.iterdir()] == ["a"]


@pytest.mark.usefixtures("parent")
def test_place_without_room_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> str:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(tempfile, "mkdtemp", fail)
    with pytest.raises(SettingsError, match="TMPDIR"):
        TemporaryFiles("127.0.0.1", 8899)
