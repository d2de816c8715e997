"""Ignored files: folders of other programs, --exclude, .imagesearchignore; kinds of files that are not read."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_search.errors import SettingsError
from image_search.registration import Registrar
from image_search.registration.files import IGNORE_FILE, describe_unread, find_files, locate, suggest_packages
from image_search.registration.folders import watch_folders
from image_search.registration.trash import find_gone_files
from image_search.settings import Settings
from image_search.stores.base import ImageStore
from image_search.stores.sqlite import SqliteStore
from tests.fakes import FakeEncoder
from tests.fakes.examples import scale
from tests.registration.test_files import Looks, age, draw_image, make_file


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    with SqliteStore.open(Settings(database_url=f"sqlite:///{tmp_path}/library/image_search.db")) as store:
        yield store


def list_below(top: Path, *exclude: str) -> list[str]:
    return [Path(file.path).relative_to(top).as_posix() for file in find_files([top], exclude=exclude).files]


@pytest.mark.parametrize(
    "name",
    ["@eaDir", "#recycle", "$RECYCLE.BIN", "$Recycle.Bin", ".Trash", ".Trash-1000", ".Trashes", "lost+found", ".git",
     "node_modules", "@Recycle", "#snapshot", "System Volume Information", "__MACOSX", "@EADIR", "@tmp", "RECYCLED",
     "Network Trash Folder", "Temporary Items", "~snapshot"],
)  # fmt: skip
def test_folders_of_other_programs_are_passed_over(tmp_path: Path, name: str) -> None:
    make_file(tmp_path / "a" / name / "b" / "1.png")
    make_file(tmp_path / "a" / "2.png")
    assert list_below(tmp_path) == ["a/2.png"]
    assert len(find_files([tmp_path / "a" / name]).files) == 1  # a folder that is named is meant


def test_ignore_file_can_take_such_a_folder_in_again(tmp_path: Path) -> None:
    make_file(tmp_path / "node_modules" / "1.png")
    make_file(tmp_path / IGNORE_FILE, b"!node_modules/\n")
    assert list_below(tmp_path) == ["node_modules/1.png"]


def test_patterns_of_exclude_are_those_of_gitignore(tmp_path: Path) -> None:
    for name in ("1.png", "2.jpg", "drafts/3.png", "a/drafts/4.png", "a/5.png"):
        make_file(tmp_path / name)
    assert list_below(tmp_path, "drafts/") == ["1.png", "2.jpg", "a/5.png"]
    assert list_below(tmp_path, "/drafts") == ["1.png", "2.jpg", "a/5.png", "a/drafts/4.png"]
    assert list_below(tmp_path, "*.png", "!5.png") == ["2.jpg", "a/5.png"]
    assert list_below(tmp_path, f"{tmp_path}/a") == ["1.png", "2.jpg", "drafts/3.png"]  # as a shell writes ~ out
    assert [Path(file.path).name for file in find_files([tmp_path / "1.png"], exclude=["*.png"]).files] == []


def test_exclude_comes_before_ignore_files(tmp_path: Path) -> None:
    make_file(tmp_path / "1.png")
    make_file(tmp_path / IGNORE_FILE, b"!1.png\n")
    assert list_below(tmp_path, "1.png") == []


@pytest.mark.parametrize("pattern", ["!", "[z-a]"])
def test_pattern_that_is_none_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(SettingsError, match="--exclude has what is no pattern"):
        find_files([tmp_path], exclude=[pattern])
    make_file(tmp_path / "private" / IGNORE_FILE, pattern.encode())
    make_file(tmp_path / "private" / "1.png")
    make_file(tmp_path / "2.png")
    found = find_files([tmp_path])
    assert [Path(file.path).name for file in found.files] == ["2.png"]  # rather too little than what is private
    assert "private is passed over" in found.failures[0] and IGNORE_FILE in found.failures[0]


def test_ignore_file_may_have_any_line_ends_marks_and_names(tmp_path: Path) -> None:
    for name in ("が.png", normalize("NFD", "ぎ.png"), "b.png", "c.png"):
        make_file(tmp_path / name)
    lines = ["\ufeff# hidden", normalize("NFD", "が.png"), "ぎ.png", "", "b.png "]
    make_file(tmp_path / IGNORE_FILE, "\r\n".join(lines).encode())
    assert list_below(tmp_path) == ["c.png"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "cp932", "utf-8-sig"])
def test_ignore_file_may_be_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    for name in ("秘密の写真.png", "b.png", "c.png"):
        make_file(tmp_path / name)
    make_file(tmp_path / IGNORE_FILE, "秘密の写真.png\r\n*.png\r\n!c.png\r\n".encode(encoding))
    assert list_below(tmp_path) == ["c.png"]


def test_name_that_is_no_utf_8_is_passed_over_as_it_is_stored(tmp_path: Path) -> None:
    name = "写真.png".encode("cp932")
    make_file(tmp_path / os.fsdecode(name))
    make_file(tmp_path / IGNORE_FILE, name)
    assert list_below(tmp_path) == []


def test_patterns_know_the_classes_of_gitignore(tmp_path: Path) -> None:
    for name in ("a1.png", "ab.png", "AB.png", "[c.png"):
        make_file(tmp_path / name)
    assert list_below(tmp_path, "[[:alpha:]][![:digit:]].png", "[[x]c.png") == ["a1.png"]


def test_ignore_file_that_cannot_be_read_hides_its_folder_and_an_empty_one_nothing(tmp_path: Path) -> None:
    make_file(tmp_path / "a" / IGNORE_FILE, b"")
    make_file(tmp_path / "a" / "1.png")
    make_file(tmp_path / "b" / "2.png")
    os.mkfifo(tmp_path / "b" / IGNORE_FILE)  # would wait indefinitely
    found = find_files([tmp_path])
    assert [Path(file.path).name for file in found.files] == ["1.png"]
    assert len(found.failures) == 1 and "is not a file" in found.failures[0]


NAMES = st.sampled_from(["a.png", "b.png", "a.jpg", "x", "y", "xy"])
LINES = st.sampled_from(
    ["a.png", "*.png", "!a.png", "/x", "x/", "!x/", "*", "!*/", "!*.jpg", "x/*", "!x/a.png", "**/y", "y/**", "x/**/",
     "x/**/b.png", "[ab].png", "?.jpg", "# a.png", "\\!a.png", "/a.*", "xy/", "a.png  ", ""]
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=scale(60), deadline=None)
@given(
    files=st.sets(st.lists(NAMES, min_size=1, max_size=3).map("/".join), min_size=1, max_size=8),
    rules=st.dictionaries(st.sampled_from(["", "x", "y", "x/y"]), st.lists(LINES, max_size=4), max_size=3),
)
def test_nested_ignore_files_pass_over_what_git_passes_over(files: set[str], rules: dict[str, list[str]]) -> None:
    top = Path(tempfile.mkdtemp())
    try:
        for name in sorted(files, key=len, reverse=True):
            if not (top / name).is_dir() and not any(parent.is_file() for parent in (top / name).parents):
                path = top / name
                make_file(path if path.suffix else path / "c.png", b"\xff\xd8\xff")
        for folder, lines in rules.items():
            if (top / folder).is_dir():
                make_file(top / folder / IGNORE_FILE, "\n".join(lines).encode())
        git = ["git", "-C", str(top)]
        subprocess.run([*git, "init", "-q"], check=True, env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull})
        command = [*git, "ls-files", "-z", "--others", f"--exclude-per-directory={IGNORE_FILE}"]
        listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
        wanted = [name for name in listed if name and not os.path.basename(name).startswith(".")]
        assert sorted(list_below(top)) == sorted(wanted)
    finally:
        shutil.rmtree(top)


def test_watching_says_nothing_of_files_that_are_passed_over_from_now_on(tmp_path: Path, store: ImageStore) -> None:
    folder = tmp_path / "p"
    draw_image(folder / "1.png")
    draw_image(folder / "@eaDir" / "2.png", "blue")
    draw_image(folder / "3.png", "lime")
    age(folder)
    told: list[str] = []
    stop = Looks(lambda: make_file(folder / IGNORE_FILE, b"1.png\n"), lambda: None)
    registrar = Registrar(store, FakeEncoder())
    watch_folders([folder], registrar, stop, told.append, exclude=["3.*"])
    assert (registrar.report.registered, told) == (1, [])


def test_image_whose_file_is_passed_over_is_not_gone(tmp_path: Path, store: ImageStore) -> None:
    paths = [draw_image(tmp_path / "p" / name, colour) for name, colour in (("1.png", "red"), ("x/2.png", "blue"))]
    paths.append(draw_image(tmp_path / "p" / "@eaDir" / "3.png", "lime"))
    Registrar(store, FakeEncoder()).register(find_files([*paths]))
    make_file(tmp_path / "p" / IGNORE_FILE, b"*\n")
    make_file(tmp_path / "p" / "x" / IGNORE_FILE, b"")
    assert find_files([tmp_path / "p"]).files == []
    assert find_gone_files(store, tmp_path / "p").files == ()
    paths[0].unlink()
    assert [file.path for file in find_gone_files(store, tmp_path / "p").files] == [str(paths[0])]


# --- kinds of files ---------------------------------------------------------------------------------------------------


def test_images_are_read_by_content_whatever_their_name(tmp_path: Path) -> None:
    jpeg = draw_image(tmp_path / "in.jpg").read_bytes()
    png, webp = (draw_image(tmp_path / f"in.{kind}").read_bytes() for kind in ("png", "webp"))
    top = tmp_path / "p"
    names = ["a.jpg_large", "b.jpeg_", "c.JPG_original", "d", "e.jpg~", "f.jpg!d", "g.bin", "IMG 2024.05.01", "h.CR2"]
    for name in names:
        make_file(top / name, jpeg)
    make_file(top / "i.png_small", png)
    make_file(top / "j.image", webp)
    for name in ("k.jpg.part", "l.crdownload", "m.THM"):  # not done yet, or the thumbnail of a film
        make_file(top / name, jpeg)
    found = find_files([top])
    assert sorted(Path(file.path).name for file in found.files) == sorted([*names, "i.png_small", "j.image"])
    assert found.unread == {".part": 1, ".crdownload": 1, ".THM": 1}


def test_files_of_other_kinds_are_counted_by_suffix(tmp_path: Path) -> None:
    for name in (
        "1.SVG",
        "2.svg",
        "3.SVG",
        "4.pdf",
        "5",
        "BM notes.log",
        "caption.txt",
        "facts.json",
        "x.xmp",
        ".e.zip",
    ):
        make_file(tmp_path / name, b"BM is no picture")
    make_file(tmp_path / "sub" / "6.a very long name", b"II*\0 TIFF inside")
    found = find_files([tmp_path, tmp_path / "sub"])
    assert found.unread == {".SVG": 3, ".pdf": 1, "": 2, ".log": 1} and found.files == found.failures == []
    assert describe_unread(found.unread) == (7, ".SVG 3, .pdf 1, .log 1, other 2")
    assert "requirements-raw.txt" in suggest_packages({".CR2": 1})
    assert "requirements-formats.txt" in suggest_packages({".HEIC": 1})
    assert suggest_packages({".pdf": 1}) == ""


def test_each_shard_counts_its_own_files(tmp_path: Path) -> None:
    for number in range(20):
        make_file(tmp_path / f"{number}.pdf")
    parts = [find_files([tmp_path], (number, 3)).unread.get(".pdf", 0) for number in (1, 2, 3)]
    assert sum(parts) == 20 and max(parts) < 20


def test_special_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to(tmp_path / "none")
    found = find_files([tmp_path])
    assert (found.files, found.failures, found.unread) == ([], [], {})


# --- names ------------------------------------------------------------------------------------------------------------


def test_path_is_found_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    make_file(tmp_path / "a" / "1.png")
    for name in (f"{tmp_path}/a/./1.png", f"{tmp_path}//a//1.png", f"/{tmp_path}/b/../a/1.png", "~/a/1.png"):
        assert [file.path for file in find_files([name]).files] == [f"{tmp_path}/a/1.png"], name


def test_name_is_taken_as_it_is_written_before_another_form_of_unicode(tmp_path: Path) -> None:
    composed, decomposed = tmp_path / "が", tmp_path / normalize("NFD", "が")
    decomposed.mkdir()
    assert locate(composed / "1.png") == str(composed / "1.png")  # which is not there
    make_file(decomposed / normalize("NFD", "ぎ.png"))
    assert locate(composed / "ぎ.png") == str(decomposed / normalize("NFD", "ぎ.png"))
    make_file(composed / "ぎ.png")
    assert locate(composed / "ぎ.png") == str(composed / "ぎ.png")
    assert locate(tmp_path / "ない" / "x") == str(tmp_path / "ない" / "x")


def test_image_with_an_odd_name_is_registered_by_its_content(tmp_path: Path, store: ImageStore) -> None:
    make_file(tmp_path / "p" / "photo.jpg_large", draw_image(tmp_path / "in.jpg").read_bytes())
    make_file(tmp_path / "p" / "doc.pdf", b"%PDF-1.4")
    report = Registrar(store, FakeEncoder()).register(find_files([tmp_path / "p"]))
    assert (report.registered, report.failed, report.unread) == (1, 0, {".pdf": 1})
    assert store.list_images()[0].image.file_type == "image/jpeg"
