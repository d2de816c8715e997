"""ImageSearch.py --read: the text that stands in a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from image_search.images import MAX_DETAILED_PIXELS, open_detailed_image
from image_search.settings import ROOT


@pytest.fixture
def sign(tmp_path: Path) -> Path:
    image = Image.new("RGB", (500, 200), "white")
    ImageDraw.Draw(image).text((40, 60), "No parking 24 h", "black", ImageFont.load_default(40))
    image.save(tmp_path / "sign.png")
    return tmp_path / "sign.png"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, str(ROOT / "ImageSearch.py"), *map(str, arguments)]
    return subprocess.run(program, capture_output=True, text=True)


def test_read_prints_the_text(sign: Path) -> None:
    ended = run("--read", sign)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "No parking 24 h\n", "")


def test_read_prints_score_and_place_as_json(sign: Path) -> None:
    line = json.loads(run("--read", sign, "--json").stdout)
    assert line["text"] == "No parking 24 h" and line["score"] > 0.9
    left, top, right, bottom = line["box"]
    assert 0 < left < right < 1 and 0.2 < top < bottom < 0.8


def test_read_ends_with_1_where_there_is_no_text(tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), "navy").save(tmp_path / "plain.png")
    ended = run("--read", tmp_path / "plain.png")
    assert (ended.returncode, ended.stdout) == (1, "")


def test_read_names_a_file_that_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("words")
    ended = run("--read", tmp_path / "notes.txt")
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1 and "notes.txt" in ended.stderr


@pytest.mark.parametrize(
    ("size", "expected"), [((1000, 700), (1000, 700)), ((3840, 2160), (3840, 2160)), ((4000, 3000), (2000, 1500))]
)
def test_detailed_image_keeps_what_small_print_needs(
    size: tuple[int, int], expected: tuple[int, int], tmp_path: Path
) -> None:
    for name in ("image.jpg", "image.png"):
        Image.new("RGB", size, "white").save(tmp_path / name)
        image = open_detailed_image(tmp_path / name)
        assert image.size == expected and image.width * image.height <= MAX_DETAILED_PIXELS
