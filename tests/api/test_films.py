"""Films over REST: sent, found at a moment, played from there, deleted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from mcp import Client as ToolClient
from mcp.types import TextContent

from image_search.search import Searcher
from image_search.settings import Settings
from tests.fakes import draw_image
from tests.fakes.api_library import build_small, open_client, open_colours, serve_in_thread
from tests.fakes.film_files import write_film


@pytest.fixture(scope="module")
def film_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red, green and blue for three seconds each."""
    scenes = [(make_scene(colour), 3.0) for colour in ("red", "green", "blue")]
    return write_film(tmp_path_factory.mktemp("films") / "colours.webm", scenes)


def make_scene(colour: str):
    """A colour with a corner of another, because frames of one even colour are left out."""
    image = draw_image(colour, (192, 108))
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


def test_film_that_is_sent_is_registered_with_its_frames(client: TestClient, film_file: Path) -> None:
    answer = send(client, film_file)
    assert answer.status_code == 201, answer.text
    image = answer.json()["image"]
    assert (image["file_name"], image["file_type"]) == ("虹.webm", "video/webm")
    assert image["original"] is None
    assert image["frame"]["frame_ms"] < 1000 and 8500 < image["frame"]["duration_ms"] < 9500
    assert client.get("/api/status").json()["image_count"] == 6
    again = send(client, film_file)
    assert (again.status_code, again.json()["image"]["image_id"]) == (200, image["image_id"])


def test_film_that_cannot_be_read_is_refused_in_one_sentence(client: TestClient) -> None:
    answer = client.post("/api/images", files={"picture": ("a.mp4", b"no film " * 100, "video/mp4")})
    assert (answer.status_code, answer.json()["code"]) == (422, "unreadable_film")
    assert answer.json()["message"].startswith("a.mp4 is not a film")
    assert client.get("/api/status").json()["image_count"] == 3


def test_film_that_is_sent_without_pyav_is_told_how_to_install_it(
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


def test_film_is_once_in_the_trash_and_leaves_it_as_one(client: TestClient, film_file: Path) -> None:
    image_id = send(client, film_file).json()["image"]["image_id"]
    client.delete("/api/images/1")
    client.delete(f"/api/images/{image_id}")
    trash = client.get("/api/trash").json()
    assert (trash["total"], [image["image_id"] for image in trash["images"]]) == (2, [image_id, 1])
    page = client.get("/api/trash", params={"page": 2, "page_size": 1}).json()
    assert (page["total"], page["has_more"], [image["image_id"] for image in page["images"]]) == (2, False, [1])
    assert client.delete("/api/trash").json() == {"count": 2}


@pytest.mark.parametrize("name", ["query.webm", "query.png"])
def test_film_to_search_with_is_answered_with_the_advice_to_send_a_frame(
    client: TestClient, film_file: Path, name: str
) -> None:
    answer = client.post("/api/search", files={"picture": (name, film_file.read_bytes())})
    assert (answer.status_code, answer.json()["code"]) == (422, "unreadable_image")
    said = f"{name} is a film, not a picture. Send a picture, for example one frame of it."
    assert answer.json()["message"] == said


# --- found ------------------------------------------------------------------------------------------------------------


def test_film_is_one_hit_with_the_time_of_its_best_moment(client: TestClient, film_file: Path) -> None:
    send(client, film_file)
    hits = client.post("/api/search", json={"text": "blue", "kind": "frame"}).json()
    [hit] = hits["hits"]
    frame = hit["image"]["frame"]
    assert (hits["total"], hit["moments"], hit["image"]["file_name"]) == (1, 2, "虹.webm")
    assert frame["position"] in ("00:00:06", "00:00:07") and 6000 <= frame["frame_ms"] < 9000
    every = client.post("/api/search", json={"text": "blue", "film_sha256": frame["film_sha256"]}).json()
    assert (every["total"], len(every["hits"])) == (3, 3)
    assert every["hits"][0]["image"]["image_id"] == hit["image"]["image_id"]
    assert client.post("/api/search", json={"film_sha256": "no hash"}).status_code == 422
    assert client.post("/api/search", json={"text": "blue"}).json()["total"] == 4


def test_tool_tells_the_time_of_the_moment_in_a_film(searcher: Searcher, client: TestClient, film_file: Path) -> None:
    send(client, film_file)

    async def search(address: str) -> str:
        async with ToolClient(f"{address}/mcp") as tools:
            result = await tools.call_tool("search_images", {"text": "blue", "previews": False})
        assert isinstance(result.content[0], TextContent)
        return result.content[0].text

    with serve_in_thread(searcher, Settings(app_mcp=True)) as address:
        hits = json.loads(asyncio.run(search(address)))["hits"]
    [hit] = [hit for hit in hits if "time" in hit]
    assert (hit["file_name"], hit["other_moments"]) == ("虹.webm", 2)
    assert hit["time"] in ("00:00:06", "00:00:07")


# --- played -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def film(client: TestClient, film_file: Path) -> str:
    """The address of the film."""
    frame = send(client, film_file).json()["image"]["frame"]
    return f"/{frame['film']}"


def test_whole_film_is_served_as_it_is(client: TestClient, film: str, film_file: Path) -> None:
    answer = client.get(film)
    assert (answer.status_code, answer.content) == (200, film_file.read_bytes())
    assert answer.headers["content-type"] == "video/webm" and answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("bytes=0-9", slice(0, 10)), ("bytes=100-", slice(100, None)), ("bytes=-7", slice(-7, None))],
)
def test_range_of_a_film_is_served(client: TestClient, film: str, film_file: Path, asked: str, expected: slice) -> None:
    answer = client.get(film, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, film_file.read_bytes()[expected])
    assert answer.headers["content-range"].endswith(f"/{film_file.stat().st_size}")


def test_range_behind_the_end_of_a_film_is_416(client: TestClient, film: str, film_file: Path) -> None:
    answer = client.get(film, headers={"Range": "bytes=99999999-"})
    assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{film_file.stat().st_size}"


def test_range_that_is_malformed_is_refused_as_everything_else(client: TestClient, film: str) -> None:
    answer = client.get(film, headers={"Range": "bytes=x"})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert answer.json()["message"].startswith("Range is malformed.")


def test_frame_has_no_original_and_says_where_its_film_is(client: TestClient, film: str) -> None:
    answer = client.get(film.replace("/film", "/original"))
    assert (answer.status_code, answer.json()["code"]) == (404, "original_missing")
    assert answer.json()["message"].endswith("no file of its own; ask for /film in place of /original.")
    assert client.get(film.replace("/film", "/preview")).status_code == 200


def test_head_of_a_film_tells_its_size_and_sends_nothing(client: TestClient, film: str, film_file: Path) -> None:
    answer = client.head(film)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(film_file.stat().st_size)
    answer = client.head(film, headers={"Range": "bytes=0-9"})
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (206, b"", "10")


def test_range_is_served_only_of_the_film_that_if_range_names(client: TestClient, film: str) -> None:
    etag = client.head(film).headers["etag"]
    assert client.get(film, headers={"Range": "bytes=0-9", "If-Range": etag}).status_code == 206
    assert client.get(film, headers={"Range": "bytes=0-9", "If-Range": '"another"'}).status_code == 200
    assert client.get(film, headers={"If-None-Match": etag}).status_code == 304


def test_film_that_was_changed_or_moved_is_not_served(client: TestClient, searcher: Searcher, film: str) -> None:
    image_id = int(film.split("/")[-2])
    path = Path(searcher.store.get_image(image_id).paths[0])
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    answer = client.get(film)
    assert (answer.status_code, answer.json()["code"]) == (404, "film_missing")
    assert (
        answer.json()["message"] == "虹.webm was moved or changed since it was registered. Register its folder again."
    )
    path.write_bytes(whole)
    assert client.get(film).status_code == 200
    path.unlink()
    assert client.get(film).status_code == 404


def test_image_has_no_film(client: TestClient) -> None:
    answer = client.get("/api/images/1/film")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_a_film")
    assert client.get("/api/images/999/film").json()["code"] == "image_not_found"


def test_film_is_served_to_those_who_may_see_images(searcher: Searcher, film: str) -> None:
    closed = open_client(build_small(searcher, Settings(app_password="secret")))
    assert (closed.get(film).status_code, closed.head(film).status_code) == (401, 401)
    assert closed.get(film, auth=("", "secret")).status_code == 200
