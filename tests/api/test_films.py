"""Films over REST: sent, found at a moment, played from there, deleted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from image_search.search.searcher import Searcher
from tests.fakes import make_picture
from tests.fakes.api_library import build_small, open_client, open_colours
from tests.fakes.film_files import write_film


@pytest.fixture(scope="module")
def film_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red, green and blue for three seconds each."""
    scenes = [(make_scene(colour), 3.0) for colour in ("red", "green", "blue")]
    return write_film(tmp_path_factory.mktemp("films") / "colours.webm", scenes)


def make_scene(colour: str):
    """A colour with a corner of another, because frames of one even colour are left out."""
    image = make_picture(colour, (192, 108))
    image.paste((255, 255, 255), (0, 0, 40, 40))
    return image


@pytest.fixture
def searcher(tmp_path: Path) -> Iterator[Searcher]:
    with open_colours(tmp_path, 3) as searcher:
        yield searcher


@pytest.fixture
def client(searcher: Searcher) -> TestClient:
    return open_client(build_small(searcher))


def send(client: TestClient, film_file: Path, name: str = "虹.webm"):
    with film_file.open("rb") as file:
        return client.post("/api/images", files={"picture": (name, file, "video/webm")})


def test_a_film_that_is_sent_is_registered_with_its_frames(client: TestClient, film_file: Path) -> None:
    answer = send(client, film_file)
    assert answer.status_code == 201, answer.text
    image = answer.json()["image"]
    assert (image["file_name"], image["file_type"]) == ("虹.webm", "video/webm")
    assert image["frame"]["frame_ms"] < 1000 and 8500 < image["frame"]["duration_ms"] < 9500
    assert client.get("/api/status").json()["image_count"] == 6
    again = send(client, film_file)
    assert (again.status_code, again.json()["image"]["image_id"]) == (200, image["image_id"])


def test_a_film_that_cannot_be_read_is_refused_in_one_sentence(client: TestClient) -> None:
    answer = client.post("/api/images", files={"picture": ("a.mp4", b"no film " * 100, "video/mp4")})
    assert (answer.status_code, answer.json()["code"]) == (422, "unreadable_film")
    assert answer.json()["message"].startswith("a.mp4 is not a film")
    assert client.get("/api/status").json()["image_count"] == 3


def test_a_film_that_is_sent_without_pyav_is_told_how_to_install_it(
    client: TestClient, film_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    answer = send(client, film_file)
    assert (answer.status_code, answer.json()["code"]) == (501, "films_unavailable")
    assert "pip install -r requirements-video.txt" in answer.json()["message"]


def test_deleting_and_restoring_a_frame_is_deleting_and_restoring_its_film(client: TestClient, film_file: Path) -> None:
    image_id = send(client, film_file).json()["image"]["image_id"]
    assert client.delete(f"/api/images/{image_id}").status_code == 204
    assert client.get("/api/status").json()["image_count"] == 3
    assert client.post(f"/api/images/{image_id}/restore").status_code == 200
    assert client.get("/api/status").json()["image_count"] == 6
    assert client.delete(f"/api/images/{image_id}?permanent=true").status_code == 204
    status = client.get("/api/status").json()
    assert (status["image_count"], status["trash_count"]) == (3, 0)
