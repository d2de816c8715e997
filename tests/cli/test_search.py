"""A search in the terminal: options, filters, queries from standard input, and the folder that --out makes."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from image_search.api.schemas import SearchRequest
from image_search.cli.main import parse_search_options
from image_search.cli.search import make_filter
from image_search.errors import ModelUnavailable
from image_search.images import decode_image, make_preview, open_image, read_file
from image_search.records import ImageText, SearchFilter
from image_search.search import Searcher
from image_search.search.exporting import make_safe_name
from image_search.settings import Settings
from image_search.stores import open_store
from ImageSearch import main
from tests.fakes import FakeEncoder, draw_image_bytes, make_image

COLOURS = ("red", "green", "blue", "white")
TEXTS = {
    "red": ImageText(generation_prompt="a red card", generator="ComfyUI", keywords=("warm",)),
    "green": ImageText(taken_at=datetime(2024, 5, 1, 23, 59)),
}


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


class Terminal:
    """Runs the program in this process, on a library of four colours."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def run(self, *arguments: str, typed: bytes = b"") -> Ended:
        self._monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed)))
        code = main(arguments)
        return Ended(code, *self._capsys.readouterr())


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, and their library in library.db."""
    folder = tmp_path_factory.mktemp("terminal")
    encoder = FakeEncoder()
    images = []
    for colour in COLOURS:
        path = folder / f"{colour}.png"
        path.write_bytes(draw_image_bytes(colour, (40, 60) if colour == "blue" else (60, 40)))
        preview = make_preview(decode_image(read_file(path), path.name))
        image = make_image(path.name, TEXTS.get(colour), data=path.read_bytes(), file_path=str(path))
        width, height = (40, 60) if colour == "blue" else (60, 40)
        images.append(replace(image, preview=preview, width=width, height=height))
    with open_store(Settings(database_url=f"sqlite:///{folder}/library.db")) as store:
        model = Searcher(store, encoder).get_model()
        pictures = [open_image(folder / f"{colour}.png") for colour in COLOURS]
        store.add_images(model.model_id, images, encoder.encode_images(pictures))
    return folder


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> FakeEncoder:
    encoder = FakeEncoder()
    monkeypatch.setattr("image_search.encoders.open_encoder", lambda _: encoder)
    return encoder


@pytest.fixture
def terminal(
    library: Path,
    encoder: FakeEncoder,  # noqa: ARG001 - in place of a model
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Terminal:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{library}/library.db")
    return Terminal(capsys, monkeypatch)


def list_names(ended: Ended) -> list[str]:
    return [line.split("\t")[2] for line in ended.out.splitlines()]


def test_json_tells_how_near_and_how_it_was_found(terminal: Terminal) -> None:
    first, *_ = terminal.run("red", "--json").lines
    assert first["file_name"] == "red.png"
    assert first["file_path"].endswith("/red.png")
    assert (first["rank"], first["found_by"]) == (1, "both")
    assert first["similarity"] == -first["distance"] == pytest.approx(1, abs=1e-3)
    assert "relevance" in first
    assert (first["found_in_text"], first["recognized_text"]) == (False, None)


def test_every_filter_option_is_a_field_of_the_filter() -> None:
    options = parse_search_options([
        "--taken-from", "2024-05", "--taken-to", "2024-05-01", "--registered-from", "2023", "--registered-to", "2024",
        "--folder", "/photos", "--file-type", "jpg", "--file-type", "image/webp", "--orientation", "portrait",
        "--min-pixels", "4000000", "--generator", "ComfyUI", "--generation-model", "sd_xl", "--has-prompt",
        "--keyword", "海", "--lora", "ink", "--camera", "X100", "--lens", "23mm", "--min-rating", "3",
        "--kind", "frame", "--has-text",
    ])  # fmt: skip
    assert make_filter(options) == SearchFilter(
        taken_from=datetime(2024, 5, 1), taken_to=datetime(2024, 5, 2), registered_from=datetime(2023, 1, 1),
        registered_to=datetime(2025, 1, 1), folder="/photos", file_types=("image/jpeg", "image/webp"),
        orientation="portrait", min_pixels=4_000_000, generator="ComfyUI", generation_model="sd_xl", has_prompt=True,
        keyword="海", lora="ink", camera="X100", lens="23mm", min_rating=3, kind="frame", has_text=True,
    )  # fmt: skip
    assert make_filter(parse_search_options(["--no-prompt"])) == SearchFilter(has_prompt=False)
    assert make_filter(parse_search_options(["--no-text"])) == SearchFilter(has_text=False)


def test_terminal_and_api_offer_every_condition_of_the_filter() -> None:
    by_others = {"words", "file_name", "film_sha256"}  # of queries, and of programs that know a file or a film
    in_terminal = {name for name in SearchFilter.__slots__ if name in parse_search_options([])} | {"file_types"}
    assert set(SearchFilter.__slots__) - in_terminal <= by_others
    assert set(SearchFilter.__slots__) - set(SearchRequest.model_fields) <= by_others


def test_folder_may_be_of_another_system_or_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for typed, meant in (("C:\\Photos", "C:\\Photos"), ("/mnt/a", "/mnt/a"), ("a/../b", f"{tmp_path}/b")):
        assert parse_search_options(["--folder", typed]).folder == meant


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--orientation", "portrait"], {"blue.png"}),
        (["--taken-from", "2024-05-01", "--taken-to", "2024-05-01"], {"green.png"}),
        (["--has-prompt"], {"red.png"}),
        (["--keyword", "warm"], {"red.png"}),
        (["--file-type", "jpeg"], set()),
        (["white", "--generator", "ComfyUI"], {"red.png"}),
        (["--no-prompt", "--registered-to", "2020"], set()),
    ],
)
def test_only_what_a_filter_lets_through_is_found(terminal: Terminal, arguments: list[str], found: set[str]) -> None:
    ended = terminal.run(*arguments)
    assert set(list_names(ended)) == found
    assert ended.code == (0 if found else 1)


def test_pages_follow_each_other(terminal: Terminal) -> None:
    whole = terminal.run("red", "--json").lines
    second = terminal.run("red", "--json", "--limit", "2", "--offset", "2").lines
    assert second == whole[2:]
    assert [line["rank"] for line in second] == [3, 4]


def test_image_can_be_left_out_and_weighed_against_words(terminal: Terminal, library: Path) -> None:
    blue, white = str(library / "blue.png"), str(library / "white.png")
    assert list_names(terminal.run("red", "--image", blue, "--weight", "0.9"))[0] == "blue.png"
    assert list_names(terminal.run("red", "--image", blue, "--weight", "0.1"))[0] == "red.png"
    with_it = terminal.run("blue", "--json").lines
    without = terminal.run("blue", "--exclude-image", white, "--json").lines
    distance = {line["file_name"]: line["distance"] for line in with_it}
    assert {line["file_name"]: line["distance"] for line in without}["white.png"] > distance["white.png"]


def test_less_relevant_hits_are_left_out(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def judge(_: Searcher, __: object, ___: object, hits: list[Any], ____: int) -> tuple[list[Any], bool]:
        return [replace(hit, relevance=0.9 - 0.3 * place) for place, hit in enumerate(hits)], True

    monkeypatch.setattr(Searcher, "_judge", judge)
    assert [line["relevance"] for line in terminal.run("red", "--min-relevance", "0.5", "--json").lines] == [0.9, 0.6]
    assert terminal.run("red", "--min-relevance", "1").code == 1


def test_unknown_relevance_drops_nothing(terminal: Terminal) -> None:
    ended = terminal.run("--min-relevance", "0.9")
    assert len(list_names(ended)) == len(COLOURS)
    assert "is unknown" in ended.err


def test_every_line_of_standard_input_is_a_query(terminal: Terminal, encoder: FakeEncoder) -> None:
    ended = terminal.run("-", "--limit", "1", typed="\ufeffred\n\n blue\n".encode())
    assert ended.code == 0
    assert [line.split("\t")[-1] for line in ended.out.splitlines()] == ["# red", "red.png", "# blue", "blue.png"]
    ended = terminal.run("-", "--limit", "1", "--json", typed=b"red\nblue")
    assert [(line["query"], line["file_name"]) for line in ended.lines] == [("red", "red.png"), ("blue", "blue.png")]
    assert encoder.calls  # one encoder answered both


def test_bad_line_is_one_sentence_and_the_run_goes_on(terminal: Terminal) -> None:
    ended = terminal.run("-", "--limit", "1", typed=b"\xff\xfe\nred\n")
    assert ended.code == 1
    assert "Line 1 is not UTF-8 text" in ended.err
    assert ended.out.splitlines()[0] == "# red"


def test_words_to_a_model_of_images_are_a_sentence_a_line(terminal: Terminal, encoder: FakeEncoder) -> None:
    encoder.supports_text = False
    ended = terminal.run("-", typed=b"nothing\nred\n")
    assert ended.code == 1
    assert "Line 1: fake embeds pictures only" in ended.err
    assert "red.png" in ended.out  # its words are in the image's texts


def test_model_that_cannot_be_loaded_ends_the_run(
    terminal: Terminal, encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise ModelUnavailable("There is no model.")

    monkeypatch.setattr(encoder, "encode_texts", refuse)
    ended = terminal.run("-", typed=b"red\nblue\n")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.count("There is no model.") == 1


def test_out_makes_a_folder_with_everything_that_belongs_to_the_answer(
    terminal: Terminal, library: Path, tmp_path: Path
) -> None:
    for _ in range(2):  # twice in one second makes two folders
        assert terminal.run("red", "--limit", "3", "--offset", "1", "--out", str(tmp_path / "found")).code == 0
    folder, _ = sorted((tmp_path / "found").iterdir())
    asked = json.loads((folder / "query.json").read_text("utf-8"))
    assert asked["query"] == {"text": "red", "weight": 0.4, "limit": 3, "offset": 1}
    assert asked["settings"]["model"] == "fake (1)"
    results = [json.loads(line) for line in (folder / "results.jsonl").read_text("utf-8").splitlines()]
    assert [result["rank"] for result in results] == [2, 3, 4]
    for result in results:
        assert (folder / result["copy"]).read_bytes() == (library / result["file_name"]).read_bytes()
    with Image.open(folder / "contact_sheet.jpg") as sheet:
        assert sheet.width > 480
    assert len(list(folder.iterdir())) == 6


def test_search_without_hits_is_a_folder_without_images(terminal: Terminal, tmp_path: Path) -> None:
    assert terminal.run("red", "--file-type", "gif", "--out", str(tmp_path)).code == 1
    [folder] = tmp_path.iterdir()
    assert {file.name for file in folder.iterdir()} == {"query.json", "results.jsonl"}


def test_no_secret_is_written_to_the_folder(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "APP_PASSWORD", "DB_WALLET_PASSWORD"):
        monkeypatch.setenv(name, "Never_Shown_1")
    assert terminal.run("red", "--out", str(tmp_path)).code == 0
    [asked] = tmp_path.glob("*/query.json")
    assert "Never_Shown_1" not in asked.read_text("utf-8")


def test_original_that_is_gone_is_a_sentence(terminal: Terminal, library: Path, tmp_path: Path) -> None:
    [sha256] = {make_image(data=(library / "white.png").read_bytes()).content_sha256}
    original = library / "library.originals" / sha256[:2] / sha256
    data = original.read_bytes()
    original.unlink()
    try:
        ended = terminal.run("--like", "4", "white", "--keyword", "warm", "--out", str(tmp_path / "a"))
        assert ended.code == 0
        ended = terminal.run("white", "--limit", "1", "--out", str(tmp_path / "b"))
    finally:
        original.write_bytes(data)
    assert ended.code == 0
    assert "white.png is not copied" in ended.err
    [results] = (tmp_path / "b").glob("*/results.jsonl")
    assert json.loads(results.read_text("utf-8"))["copy"] is None


def test_place_that_cannot_be_written_is_said(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = terminal.run("red", "--out", str(tmp_path / "file"))
    assert ended.code == 2
    assert "Name another folder for --out" in ended.err


@pytest.mark.parametrize(
    ("stored", "safe"),
    [
        ("../../etc/passwd", ".._.._etc_passwd"),
        ("..\\..\\x.png", ".._.._x.png"),
        ("a\x00b\n\u202ec.png", "a_b__c.png"),
        ("a:b*?.png", "a_b__.png"),
        ("猫.webp", "猫.webp"),
        ("東京\u3000旅行 1.23\u202fPM 👩\u200d👧.jpg", "東京\u3000旅行 1.23\u202fPM 👩\u200d👧.jpg"),
        ("\udcff.png", "_.png"),
        ("...", "picture"),
        ("", "picture"),
    ],
)
def test_stored_name_is_never_more_than_a_name(stored: str, safe: str) -> None:
    assert make_safe_name(stored) == safe


def test_long_name_is_cut_and_keeps_its_suffix() -> None:
    name = make_safe_name("猫" * 300 + ".webp")
    assert name.endswith(".webp")
    assert len(name.encode()) < 200


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--weight", "1.5"], "'1.5' is not a number from 0 to 1"),
        (["--min-relevance", "nan"], "'nan' is not a number from 0 to 1"),
        (["--offset", "-1"], "'-1' is not a number from 0"),
        (["--offset", "²"], "'²' is not a number from 0"),
        (["--taken-from", "yesterday"], "'yesterday' is no date: write 2024"),
        (["--taken-to", "2023-02-29"], "'2023-02-29' is no date"),
        (["--min-pixels", "0"], "'0' is not a number from 1"),
        (["--has-prompt", "--no-prompt"], "not allowed with"),
    ],
)
def test_option_that_makes_no_sense_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_search_options(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
