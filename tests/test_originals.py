"""Original files in a folder."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from pathlib import Path

import pytest

from image_search import originals
from image_search.errors import SettingsError, StoreError, StoreFull, StoreUnavailable
from image_search.originals import FolderOriginals, ReferencedOriginals, open_originals, open_separate_originals
from image_search.settings import ROOT, Settings

DATA = b"the bytes of a picture"
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> FolderOriginals:
    return FolderOriginals(tmp_path / "deep" / "originals")


def test_written_original_is_read_back(folder):
    folder.write({SHA256: DATA})
    assert folder.read(SHA256) == DATA
    assert (folder.folder / SHA256[:2] / SHA256).read_bytes() == DATA


def test_writing_again_leaves_the_file_alone(folder):
    folder.write({SHA256: DATA})
    path = folder.folder / SHA256[:2] / SHA256
    before = path.stat()
    folder.write({SHA256: DATA})
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_file_that_was_cut_off_is_written_again(folder):
    path = folder.folder / SHA256[:2] / SHA256
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA[:5])
    folder.write({SHA256: DATA})
    assert folder.read(SHA256) == DATA


def test_write_that_was_interrupted_is_finished_by_the_next_and_leaves_nothing_else(folder):
    path = folder.folder / SHA256[:2] / SHA256
    path.parent.mkdir(parents=True)
    path.with_name(SHA256 + ".part").write_bytes(DATA[:5])
    folder.write({SHA256: DATA})
    assert list(path.parent.iterdir()) == [path]


def test_deleted_file_is_gone_and_deleting_again_is_no_error(folder):
    folder.write({SHA256: DATA})
    folder.delete([SHA256, "0" * 64])
    folder.delete([SHA256])
    with pytest.raises(StoreError, match="original file is missing"):
        folder.read(SHA256)


def test_missing_original_is_said_without_a_path_and_with_what_to_do(folder):
    with pytest.raises(StoreError, match=r"original file is missing.*Register its folder again") as caught:
        folder.read(SHA256)
    assert str(folder.folder) not in str(caught.value)


def test_many_files_are_all_on_disk_before_write_returns(folder, monkeypatch):
    synced: list[int] = []
    monkeypatch.setattr(originals.os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    contents = {hashlib.sha256(bytes([n])).hexdigest(): bytes([n]) for n in range(64)}
    folder.write(contents)
    for sha256, data in contents.items():
        path = folder.folder / sha256[:2] / sha256
        assert folder.read(sha256) == data
        assert path.stat().st_ino in synced
        assert sys.platform == "win32" or path.parent.stat().st_ino in synced


@pytest.mark.parametrize(("code", "error"), [(errno.ENOSPC, StoreFull), (errno.EIO, StoreUnavailable)])
def test_write_that_fails_leaves_nothing(folder, monkeypatch, code, error):
    other = hashlib.sha256(b"other").hexdigest()

    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    folder.write({other: b"other"})
    monkeypatch.setattr(originals.os, "fsync", fail)
    with pytest.raises(error, match="originals"):
        folder.write({SHA256: DATA, other: b"other"})
    assert [path.name for path in folder.folder.rglob("*") if path.is_file()] == [other]


@pytest.mark.parametrize("name", ["file", "file/originals"])
def test_file_in_place_of_the_folder_is_a_wrong_setting(tmp_path, name):
    (tmp_path / "file").write_bytes(b"")
    folder = FolderOriginals(tmp_path / name)
    for use in (lambda: folder.write({SHA256: DATA}), lambda: folder.read(SHA256), folder.list_hashes):
        with pytest.raises(SettingsError, match=r"/file is not a folder.* Name a folder in ORIGINALS_URL\."):
            use()


def test_url_may_name_a_folder(tmp_path):
    assert open_originals("", tmp_path).folder == tmp_path
    assert open_originals("/photos/originals", tmp_path).folder == Path("/photos/originals")
    assert open_originals("relative/folder", tmp_path).folder == Path("relative/folder")
    assert open_originals("file:///photos/my%20originals", tmp_path).folder == Path("/photos/my originals")


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
def test_new_folder_of_originals_is_open_to_its_owner_only(folder):
    folder.write({SHA256: DATA})
    assert folder.folder.stat().st_mode & 0o777 == 0o700


# --- files that stay where they are ---


@pytest.fixture
def referenced(tmp_path: Path) -> ReferencedOriginals:
    originals = open_originals("reference", tmp_path / "originals")
    assert isinstance(originals, ReferencedOriginals)
    return originals


def test_file_is_read_from_the_first_path_where_it_still_is(referenced, tmp_path):
    (tmp_path / "changed.png").write_bytes(b"something else")
    (tmp_path / "same.png").write_bytes(DATA)
    paths = [str(tmp_path / name) for name in ("gone.png", "changed.png", "same.png")]
    assert referenced.read(SHA256, paths) == DATA


def test_changed_file_is_named_and_not_given_out(referenced, tmp_path):
    path = tmp_path / "changed.png"
    path.write_bytes(b"something else")
    with pytest.raises(StoreError, match=r"changed\.png was changed or moved; register its folder again"):
        referenced.read(SHA256, [str(path)])


@pytest.mark.parametrize("path", ["/gone/\udce9.png", "/gone/a\x00.png"])
def test_name_that_is_no_text_is_named_all_the_same(referenced, path):
    with pytest.raises(StoreError, match="was changed or moved") as caught:
        referenced.read(SHA256, [path])
    str(caught.value).encode()


def test_upload_is_kept_in_the_folder_beside_referenced_files(referenced, tmp_path):
    referenced.write({SHA256: DATA})
    assert referenced.read(SHA256) == DATA
    assert referenced.read(SHA256, [str(tmp_path / "gone.png")]) == DATA
    referenced.delete([SHA256])
    with pytest.raises(StoreError, match="missing"):
        referenced.read(SHA256)


def test_engine_without_room_for_originals_can_leave_them_where_they_are():
    originals = open_separate_originals("Reference", "Redis")
    assert isinstance(originals, ReferencedOriginals)
    assert originals.folder == ROOT / "data" / "originals"


def test_url_of_an_unknown_scheme_is_refused_by_its_setting(tmp_path):
    with pytest.raises(SettingsError, match="ORIGINALS_URL"):
        open_originals("gopher://somewhere/originals", tmp_path)


@pytest.mark.parametrize("url", ["sqlite:///data/a.db", "postgresql://host/a", "redis://host", "elasticsearch://host"])
def test_database_as_the_place_means_what_the_engine_does_by_itself(url):
    assert Settings.load(None, {"DATABASE_URL": url, "ORIGINALS_URL": "Database"}).originals_url == ""


@pytest.mark.parametrize("word", ["refrence", "References", "databse"])
def test_misspelt_word_is_no_new_folder(word):
    with pytest.raises(SettingsError, match=rf"ORIGINALS_URL is '{word}'. Did you mean (reference|database)\?"):
        Settings.load(None, {"ORIGINALS_URL": word})
    for folder in (f"./{word}", "originals", "reference", "DATABASE"):
        Settings.load(None, {"ORIGINALS_URL": folder})


def test_engine_without_room_for_originals_asks_for_a_place(tmp_path):
    with pytest.raises(SettingsError, match=r"Redis.*ORIGINALS_URL.*folder.*s3://"):
        open_separate_originals("", "Redis")
    assert open_separate_originals(str(tmp_path), "Redis").folder == tmp_path
