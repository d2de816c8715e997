"""A console of another encoding, and names that a terminal would obey."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import ImageSearch
import register_images
import update_description_by_extracted_text_chunk as update
from image_search.cli.main import main as run_command
from image_search.errors import SettingsError, escape_controls
from image_search.images import make_printable
from image_search.search import Searcher
from image_search.settings import ROOT, Settings
from image_search.stores import open_store
from tests.fakes import FakeEncoder

NAME = "猫😀é\x1b[31m\x07\u202egnp.png"


class FakeLazyEncoder(FakeEncoder):
    batch_size = 4
    device = "cpu"
    precision = "float32"


class Console:
    """sys.stdout and sys.stderr of an encoding, as PYTHONIOENCODING makes them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
        self.files = [io.BytesIO(), io.BytesIO()]
        for file, name, errors in zip(self.files, ("stdout", "stderr"), ("strict", "backslashreplace"), strict=True):
            stream = io.TextIOWrapper(file, encoding=encoding, errors=errors, write_through=True)
            monkeypatch.setattr(f"sys.{name}", stream)

    def take(self) -> tuple[bytes, bytes]:
        out, err = (file.getvalue() for file in self.files)
        for file in self.files:
            file.seek(0)
            file.truncate()
        return out, err


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/library/image_search.db")
    for name in ("DB_USER", "DB_PASSWORD", "DB_DSN", "EMBEDDING_MODEL"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr("image_search.cli.register.open_encoder", lambda _: FakeLazyEncoder("demo/model"))
    monkeypatch.setattr(
        "image_search.cli.search.open_searcher",
        lambda settings: Searcher(open_store(settings), FakeLazyEncoder("demo/model")),
    )
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (16, 16), "red").save(folder / NAME)
    (folder / f"broken {NAME}").write_bytes(b"no picture")
    (folder / f"{NAME}.svg").write_bytes(b"<svg/>")
    return folder


def is_harmless(text: bytes) -> bool:
    return not any(letter in text for letter in (b"\x1b", b"\x07", "\u202e".encode()))


@pytest.mark.parametrize("encoding", ["cp932", "ascii", "cp1252", "utf-8"])
def test_no_name_ends_a_run_or_reaches_the_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    console = Console(monkeypatch, encoding)
    runs = (
        (register_images.main, [str(folder)], 1),
        (ImageSearch.main, ["red"], 0),
        (ImageSearch.main, ["--limit", "1", "赤い猫😀\x1b[31m"], 0),
        (update.main, [str(folder)], 1),
        (register_images.main, ["--list-trash"], 0),
        (run_command, ["models"], 0),
        (run_command, ["search", "red"], 0),
        (run_command, ["register", str(folder / f"none {NAME}")], 1),
        (ImageSearch.main, ["--image", str(folder / f"none {NAME}")], 2),
    )
    for main, arguments, code in runs:
        assert main(arguments) == code, arguments
        out, err = console.take()
        assert is_harmless(out + err), (arguments, out, err)
        out.decode(encoding), err.decode(encoding)
    (folder / NAME).unlink()
    assert register_images.main(["--prune", str(folder)]) == 0
    out, err = console.take()
    assert is_harmless(out + err) and b"\\x1b[31m" in out


def test_json_is_utf_8_whatever_the_console_has(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(monkeypatch, "cp932")
    register_images.main([str(folder), "--json"])
    out, _ = console.take()
    [failure] = json.loads(out.decode("utf-8"))["failures"]
    assert "猫😀é" in failure
    assert ImageSearch.main(["red", "--json"]) == 0
    out, _ = console.take()
    assert is_harmless(out)
    hit = json.loads(out.decode("utf-8"))
    assert (hit["file_name"], hit["file_path"]) == (NAME, f"{folder}/{NAME}")


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp932", pytest.param("ascii", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "program",
    [
        ["ImageSearch.py"],
        ["register_images.py"],
        ["update_description_by_extracted_text_chunk.py"],
        ["-m", "image_search"],
    ],
)
def test_help_is_printed_on_every_console(program: list[str], encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [sys.executable, *program, "--help"], cwd=ROOT, env=environment, capture_output=True, timeout=120
    )
    assert done.returncode == 0 and b"Traceback" not in done.stderr and b"usage" in done.stdout


def test_errors_are_shown_without_what_a_terminal_would_obey() -> None:
    assert str(SettingsError("a\x1b]0;x\x07\u202eb\x9b\n\tc")) == "a\\x1b]0;x\\x07\\u202eb\\x9b\n\tc"
    assert escape_controls('"\x7f\u2028"', in_json=True) == '"\\u007f\\u2028"'
    assert json.loads(escape_controls(json.dumps("\\x41\u202e", ensure_ascii=False), in_json=True)) == "\\x41\u202e"


def test_blanks_and_joined_emoji_of_names_stay_as_they_are() -> None:
    assert make_printable("写真\u3000👨\u200d👩.png") == "写真\u3000👨\u200d👩.png"


def test_settings_name_their_file_without_what_a_terminal_would_obey() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load(None, {"APP_PORT": "\x1b[31m"})
    assert "\x1b" not in str(caught.value)
