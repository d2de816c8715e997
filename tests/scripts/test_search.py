"""ImageSearch.py as people start it: a program of its own, with exit codes, stdout and stderr."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from image_search.encoders import open_encoder
from image_search.images import open_image
from image_search.search import Searcher
from image_search.settings import ROOT, Settings
from image_search.stores import open_store
from tests.fakes import COLOURS, draw_image_bytes, make_image
from tests.fakes.checkpoints import get_checkpoint


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a library of one image a colour, and the images."""
    folder = tmp_path_factory.mktemp("library")
    settings = Settings(
        database_url=f"sqlite:///{folder}/library.db", embedding_model=str(get_checkpoint("clip")), device="cpu"
    )
    for colour in COLOURS:
        (folder / f"{colour}.png").write_bytes(draw_image_bytes(colour))
    with open_store(settings) as store:
        searcher = Searcher(store, open_encoder(settings))
        files = [folder / f"{colour}.png" for colour in COLOURS]
        images = [make_image(file.name, data=file.read_bytes()) for file in files]
        embeddings = searcher.encoder.encode_images([open_image(file) for file in files])
        store.add_images(searcher.get_model().model_id, images, embeddings)
    return folder


def run_script(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DB_", "APP_"))}
    return subprocess.run(
        [sys.executable, "ImageSearch.py", *arguments],
        cwd=ROOT,
        env={**inherited, "EMBEDDING_MODEL": str(get_checkpoint("clip")), "DEVICE": "cpu", **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )


def test_words_list_distance_id_and_name_on_stdout(library: Path) -> None:
    ended = run_script("赤い画像", "--limit", "3", DATABASE_URL=f"sqlite:///{library}/library.db")
    assert ended.returncode == 0, ended.stderr
    lines = [line.split("\t") for line in ended.stdout.splitlines()]
    assert len(lines) == 3
    distances = [float(distance) for distance, _, _ in lines]
    assert distances == sorted(distances)
    assert {name for _, _, name in lines} <= {f"{colour}.png" for colour in COLOURS}
    assert "Traceback" not in ended.stderr


def test_image_finds_itself_first_as_json(library: Path) -> None:
    ended = run_script("--image", str(library / "blue.png"), "--json", DATABASE_URL=f"sqlite:///{library}/library.db")
    assert ended.returncode == 0, ended.stderr
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [line["rank"] for line in lines] == list(range(1, len(COLOURS) + 1))
    assert lines[0]["file_name"] == "blue.png"
    assert lines[0]["distance"] == pytest.approx(-1, abs=1e-3)
    assert lines[0]["similarity"] == -lines[0]["distance"]


def test_similar_ones_leave_the_image_itself_out(library: Path) -> None:
    database = f"sqlite:///{library}/library.db"
    ended = run_script("--like", "1", "--exclude", "blue", "--json", DATABASE_URL=database)
    assert ended.returncode == 0, ended.stderr
    assert 1 not in [json.loads(line)["image_id"] for line in ended.stdout.splitlines()]


def test_empty_library_finds_nothing_and_ends_with_1(tmp_path: Path) -> None:
    ended = run_script("cat", DATABASE_URL=f"sqlite:///{tmp_path}/empty.db")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "0 of 0" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--image", "missing.png"], {}, "missing.png cannot be read"),
        (["--like", "99"], {}, "99"),
        (["--tags", "missing.png"], {}, "missing.png cannot be read"),
        (["--limit", "0", "cat"], {}, "'0' is not a number from 1 to 10000"),
        (["--check"], {"DATABASE_URL": "mongodb://x"}, "DATABASE_URL begins with 'mongodb'"),
        (["cat"], {"EMBEDDING_MODEL": "/nowhere/model"}, "/nowhere/model"),
        (["cat"], {"DATABASE_URL": "mongodb://x"}, "DATABASE_URL begins with 'mongodb'"),
        ([], {"APP_PORT": "http"}, "APP_PORT is 'http'"),
    ],
)
def test_run_that_cannot_begin_ends_with_2_and_one_sentence(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], said: str
) -> None:
    ended = run_script(*arguments, **{"DATABASE_URL": f"sqlite:///{tmp_path}/empty.db", **environment})
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_port_that_is_taken_is_said_in_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = run_script(DATABASE_URL=f"sqlite:///{tmp_path}/empty.db", APP_PORT=port)
    assert ended.returncode == 2
    assert f"127.0.0.1:{port}" in ended.stderr
    assert "APP_PORT" in ended.stderr
    assert "Traceback" not in ended.stderr
