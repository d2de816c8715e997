"""Reading the files of a folder again for a program: only below the roots that were opened to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from image_search.errors import SettingsError
from image_search.search import Searcher
from image_search.settings import Settings
from tests.fakes import draw_image_bytes
from tests.fakes.api_library import build_small, open_client, open_colours


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An open folder with red.png, which a caption lies beside."""
    root = tmp_path / "open"
    root.mkdir()
    write_image(root, "red", "a red wall")
    return root.resolve()


@pytest.fixture
def searcher(tmp_path: Path) -> Iterator[Searcher]:
    (tmp_path / "library").mkdir()
    with open_colours(tmp_path / "library", 3) as searcher:
        yield searcher


@pytest.fixture
def client(searcher: Searcher, root: Path) -> TestClient:
    return open_client(build_small(searcher, Settings(app_extract_roots=(root,))))


def write_image(folder: Path, colour: str, caption: str) -> None:
    (folder / f"{colour}.png").write_bytes(draw_image_bytes(colour))
    (folder / f"{colour}.txt").write_text(caption, encoding="utf-8")


def extract(client: TestClient, folder: object) -> Any:
    return client.post("/api/extract", json={"folder": str(folder)})


def test_texts_of_files_are_stored_with_their_images(client: TestClient, searcher: Searcher, root: Path) -> None:
    (root / "white.png").write_bytes(draw_image_bytes("white"))
    answer = extract(client, root).json()
    assert (answer["updated"], answer["unchanged"], answer["failed"]) == (1, 0, 1)
    assert "white.png is not registered" in answer["warnings"][0]
    assert "a red wall" in str(searcher.store.get_image(1).text)
    assert extract(client, root).json()["unchanged"] == 1


def test_no_folder_is_open_unless_it_was_named(searcher: Searcher, root: Path) -> None:
    answer = extract(open_client(build_small(searcher)), root)
    assert (answer.status_code, answer.json()["code"]) == (403, "folder_refused")
    assert "APP_EXTRACT_ROOTS" in answer.json()["message"]


@pytest.mark.parametrize("path", ["..", "../library", "../nowhere", "../open-too", "link", "\0"])
def test_folder_elsewhere_is_refused_whether_it_is_there_or_not(client: TestClient, root: Path, path: str) -> None:
    (root.parent / "open-too").mkdir()
    (root / "link").symlink_to(root.parent)
    answer = extract(client, f"{root}/{path}")
    assert (answer.status_code, answer.json()["code"]) == (403, "folder_refused")


def test_relative_path_is_refused(client: TestClient, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    assert extract(client, ".").status_code == 403


def test_link_to_a_file_elsewhere_is_passed_over(client: TestClient, root: Path, searcher: Searcher) -> None:
    elsewhere = root.parent / "elsewhere"
    elsewhere.mkdir()
    write_image(elsewhere, "green", "secret")
    (root / "green.png").symlink_to(elsewhere / "green.png")
    (root / "more").symlink_to(elsewhere)
    assert extract(client, root).json()["updated"] == 1
    assert "secret" not in str(searcher.store.get_image(2).text)


@pytest.mark.parametrize("name", ["nowhere", "n" * 300, "red.png"])
def test_folder_that_is_not_there_is_404(client: TestClient, root: Path, name: str) -> None:
    answer = extract(client, root / name)
    assert (answer.status_code, answer.json()["code"]) == (404, "folder_not_found")


def test_root_that_is_no_folder_is_named_at_start() -> None:
    with pytest.raises(SettingsError, match="APP_EXTRACT_ROOTS has '/nowhere/at/all'"):
        Settings.load(None, {"APP_EXTRACT_ROOTS": "/nowhere/at/all"})


def test_roots_are_separated_by_commas(root: Path, tmp_path: Path) -> None:
    settings = Settings.load(None, {"APP_EXTRACT_ROOTS": f"{root}, {tmp_path}"})
    assert settings.app_extract_roots == (root, tmp_path.resolve())
