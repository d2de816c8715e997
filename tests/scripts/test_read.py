"""ImageSearch.py --read: the text that stands in a file."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from image_search.images import MAX_DETAILED_PIXELS, open_detailed_image
from image_search.records import RecognizedText
from image_search.settings import ROOT, Settings
from image_search.stores import open_store
from tests.fakes import make_embeddings, make_image


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


# --- into a library ---------------------------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path: Path) -> Settings:
    """Thirty images with a number each, none of them read."""
    settings = Settings(database_url=f"sqlite:///{tmp_path}/library/library.db")
    with open_store(settings) as store:
        model = store.get_or_create_model("fake", "1", 16)
        images = []
        for number in range(30):
            image = Image.new("RGB", (300, 80), "white")
            ImageDraw.Draw(image).text((20, 15), f"INV-{number * 7919 + 10000}", "black", ImageFont.load_default(40))
            file = io.BytesIO()
            image.save(file, "PNG")
            images.append(make_image(f"{number}.png", data=file.getvalue(), width=300, height=80))
        store.add_images(model.model_id, images, make_embeddings(30))
    return settings


def start_reading(settings: Settings, *arguments: str) -> subprocess.Popen[str]:
    program = [sys.executable, str(ROOT / "register_images.py"), *(arguments or ["--read-text"])]
    environment = {**os.environ, "DATABASE_URL": settings.database_url}
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def list_texts(settings: Settings) -> list[RecognizedText | None]:
    with open_store(settings) as store:
        return [store.get_recognized(image_id) for image_id in store.list_image_ids()]


def test_reading_that_is_killed_goes_on_and_ends_as_a_clean_run(library: Settings, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "library", tmp_path / "clean")
    clean = Settings(database_url=f"sqlite:///{tmp_path}/clean/library.db")
    program = start_reading(library)
    end = time.monotonic() + 120
    while sum(text is not None for text in list_texts(library)) < 5:
        assert program.poll() is None and time.monotonic() < end
    program.kill()
    program.communicate()
    half = sum(text is not None for text in list_texts(library))
    assert 5 <= half < 30
    said = start_reading(library).communicate()[0]
    assert said == f"read {30 - half}, with text {30 - half}, failed 0\n"
    assert start_reading(clean).communicate()[0] == "read 30, with text 30, failed 0\n"
    assert list_texts(library) == list_texts(clean)
    assert [text and text.text for text in list_texts(clean)] == [f"INV-{n * 7919 + 10000}" for n in range(30)]
    assert start_reading(clean, "--forget-text").communicate()[0] == "The text of 30 images is forgotten.\n"
    assert list_texts(clean) == [None] * 30
