"""The three scripts, with the real driver, against the wire server."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from image_search.settings import ROOT
from tests.oracle.wire.faults import Refuse
from tests.oracle.wire.server import PASSWORD, Server
from tests.oracle.wired import serve_nothing

SAMPLES = 8  # enough to be searched


class Ended(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(params=["standard", "extended"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """An empty schema, with Oracle Text where strings are of the standard length."""
    is_standard = request.param == "standard"
    with serve_nothing(tmp_path / "oracle.db", has_text=is_standard, has_long_strings=not is_standard) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A few of the samples."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in sorted((ROOT / "images").rglob("*.*"))[:SAMPLES]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def write_environment(server: Server) -> dict[str, str]:
    settings = {"DB_USER": "imgsearch", "DB_PASSWORD": PASSWORD, "DB_DSN": server.dsn, "DATABASE_URL": ""}
    return {**settings, "ORIGINALS_URL": "", "DEVICE": "cpu", "EMBEDDING_MODEL": ""}


class Runner:
    """Runs a script in this process: its start alone takes seconds."""

    def __init__(self, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.server = server
        self.capsys = capsys
        for name, value in write_environment(server).items():
            monkeypatch.setenv(name, value)

    def __call__(self, script: str, *arguments: object) -> Ended:
        code = importlib.import_module(script).main([str(argument) for argument in arguments])
        self.server.check()
        ended = Ended(int(code), *self.capsys.readouterr())
        assert PASSWORD not in ended.out + ended.err
        return ended


@pytest.fixture
def run(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(server, monkeypatch, capsys)


def test_scripts_make_a_library_fill_it_and_search_it(run: Runner, server: Server, folder: Path) -> None:
    early = run("ImageSearch", "猫")
    assert early.code == 2
    assert "--create-schema" in early.err
    for _ in range(2):  # it may be made any number of times
        made = run("register_images", "--create-schema")
        assert made.code == 0, made.err
    words = made.out.splitlines()[-1]
    assert words.startswith("Word index: Oracle Text")
    assert ("not installed" in words) == (not server.database.has_text)
    assert run("register_images", folder)[:2] == (0, f"registered {SAMPLES}, already known 0, failed 0\n")
    assert run("register_images", folder).out == f"registered 0, already known {SAMPLES}, failed 0\n"
    found = run("ImageSearch", "猫")
    assert found.code == 0, found.err
    assert len(found.out.splitlines()) == SAMPLES
    assert run("update_description_by_extracted_text_chunk", folder).code == 0
    indexed = run("register_images", "--vector-index", "ivf")
    assert "ivf index is built" in indexed.out + indexed.err
    assert run("ImageSearch", "猫").out == found.out
    assert any("FETCH APPROX" in sql for sql in server.statements)
    checked = run("ImageSearch", "--check")
    assert "could not be looked at" not in checked.out
    assert checked.code == 0, checked.out


@pytest.mark.parametrize("server", ["standard"], indirect=True)
def test_listener_that_refuses_is_one_sentence(run: Runner, server: Server) -> None:
    server.faults.add(Refuse(12514), "connect", times=9)
    ended = run("ImageSearch", "猫")
    assert ended.code == 2
    assert "does not know the service" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("server", ["standard"], indirect=True)
def test_programs_of_their_own_do_the_same(server: Server, folder: Path) -> None:
    commands = (
        ["register_images.py", "--create-schema"],
        ["register_images.py", str(folder)],
        ["ImageSearch.py", "猫"],
    )
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DB_", "APP_"))}
    for command in commands:
        ended = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env={**inherited, **write_environment(server)},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=240,
        )
        assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.splitlines()) == SAMPLES
