"""Films in the terminal: the moment is told behind the name, and in JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import register_images
from image_search.records import Frame
from image_search.registration import Registrar
from image_search.registration.files import find_files
from image_search.registration.trash import trash_images
from image_search.settings import Settings
from image_search.stores import open_store
from ImageSearch import main
from tests.fakes import FakeEncoder, draw_image
from tests.fakes.film_files import write_film


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A film that is red, then blue, and a green image."""
    scenes = []
    for colour in ("red", "blue"):
        image = draw_image(colour, (192, 108))
        image.paste((255, 255, 255), (0, 0, 40, 40))  # frames of one even colour are left out
        scenes.append((image, 4.0))
    folder = tmp_path / "films"
    folder.mkdir()
    write_film(folder / "旅.mp4", scenes)
    draw_image("green").save(folder / "green.png")
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library.db")) as store:
        Registrar(store, FakeEncoder()).register(find_files([folder]))
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/library.db")
    for name in ("DB_USER", "DB_PASSWORD", "DB_DSN"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr("image_search.encoders.open_encoder", lambda _: FakeEncoder())
    return folder


@pytest.mark.usefixtures("library")
def test_film_is_one_line_with_the_time_of_its_moment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["blue"]) == 0
    output = capsys.readouterr()
    lines = [line.split("\t")[2] for line in output.out.splitlines()]
    assert sorted(lines) in (["green.png", "旅.mp4 @ 00:00:04"], ["green.png", "旅.mp4 @ 00:00:05"])
    assert "2 of 2 images" in output.err


def test_json_tells_hash_moment_and_length_of_a_film(library: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["red", "--kind", "frame", "--json"]) == 0
    [hit] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (hit["file_name"], hit["file_path"]) == ("旅.mp4", str(library / "旅.mp4"))
    assert len(hit["film_sha256"]) == 64 and hit["frame_ms"] < 1000 and 7500 < hit["duration_ms"] < 8500
    assert (hit["position"], hit["moments"]) == ("00:00:00", 1)
    assert main(["green", "--kind", "image", "--json"]) == 0
    assert "frame_ms" not in json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("library")
def test_frame_that_was_found_is_copied_beside_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["red", "--kind", "frame", "--out", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    [copy] = (tmp_path / "out").rglob("0001_*")
    assert copy.name == "0001_旅.mp4_00-00-00.webp" and copy.read_bytes()[8:12] == b"WEBP"


def test_film_to_search_with_is_answered_with_the_advice_to_give_a_frame(
    library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--image", str(library / "旅.mp4")]) == 2
    said = capsys.readouterr().err
    assert "旅.mp4 is a film, not a picture. Send a picture, for example one frame of it." in said


def test_film_in_the_trash_is_one_line(library: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_store(Settings(database_url=f"sqlite:///{library.parent}/library.db")) as store:
        trash_images(store, store.list_image_ids())
    assert register_images.main(["--list-trash"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(Path(line.split("\t")[3]).name for line in lines) == ["green.png", "旅.mp4"]
    assert register_images.main(["--empty-trash"]) == 0
    assert capsys.readouterr().out.startswith("2 images removed for good.")


@pytest.mark.parametrize(("ms", "text"), [(0, "00:00:00"), (754_999, "00:12:34"), (36_000_000, "10:00:00")])
def test_moment_is_told_in_hours_minutes_and_seconds(ms: int, text: str) -> None:
    assert Frame("0" * 64, ms, ms).position == text
