"""Films on the page, without a browser: tiles, moments, facets, and what a click changes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from image_search.registration import Registrar
from image_search.registration.files import find_files
from image_search.search import Searcher
from image_search.settings import Settings
from image_search.stores import open_store
from tests.fakes import FakeEncoder, draw_image
from tests.fakes.film_files import make_scenes, write_film
from tests.fakes.page_addresses import open_addresses

SCENES = 4


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Two films and an image."""
    place = tmp_path_factory.mktemp("library")
    folder = place / "films"
    folder.mkdir()
    write_film(folder / "a.mp4", make_scenes(SCENES, 3))
    write_film(folder / "b.mp4", make_scenes(SCENES, 3, seed=7))
    draw_image("red").save(folder / "red.png")
    with open_store(Settings(database_url=f"sqlite:///{place}/library.db")) as store:
        Registrar(store, FakeEncoder()).register(find_files([folder]))
        searcher = Searcher(store, FakeEncoder())
        yield open_addresses(searcher)


def list_tiles(client: TestClient, query: str) -> list[dict[str, Any]]:
    found = client.get(f"/ui/results?{query}").json()
    assert found["total"] == len(found["tiles"]) and not found["has_more"]
    return found["tiles"]


@pytest.mark.parametrize("query", ["", "q=sunset", "order=name", "order=taken", "q=sunset&order=registered"])
def test_each_film_is_one_tile(client: TestClient, query: str) -> None:
    tiles = list_tiles(client, query)
    assert sorted((tile["name"], tile["moments"]) for tile in tiles) == [("a.mp4", 3), ("b.mp4", 3), ("red.png", 0)]
    assert all((tile["frame_ms"] is None) == (tile["name"] == "red.png") for tile in tiles)


def test_films_and_images_are_counted_and_shown_apart(client: TestClient) -> None:
    kinds = client.get("/ui/facets", headers={"Accept-Language": "en"}).json()["kind"]
    assert [(kind["value"], kind["label"], kind["count"]) for kind in kinds] == [
        ("image", "Picture", 1),
        ("frame", "Video", 2),
    ]
    assert [tile["name"] for tile in list_tiles(client, "kind=image")] == ["red.png"]
    assert sorted(tile["name"] for tile in list_tiles(client, "kind=frame&q=sunset")) == ["a.mp4", "b.mp4"]


def test_facet_counts_a_film_once_like_its_search(client: TestClient) -> None:
    for shape in client.get("/ui/facets").json()["shape"]:
        assert shape["count"] == len(list_tiles(client, f"shape={shape['value']}"))


def test_moments_of_a_film_are_told_in_the_order_of_time(client: TestClient) -> None:
    [film] = [tile for tile in list_tiles(client, "") if tile["name"] == "a.mp4"]
    moments = client.get(f"/ui/images/{film['id']}/moments").json()["moments"]
    assert [moment["frame_ms"] // 3000 for moment in moments] == list(range(SCENES))
    assert film["id"] == moments[0]["id"] and film["version"] == moments[0]["version"]
    [image] = list_tiles(client, "kind=image")
    assert client.get(f"/ui/images/{image['id']}/moments").json() == {"moments": []}
    assert client.get("/ui/images/999999/moments").status_code == 404


def test_facts_of_a_frame_tell_its_moment_and_lead_to_the_film(client: TestClient) -> None:
    [film] = [tile for tile in list_tiles(client, "") if tile["name"] == "a.mp4"]
    html = client.get(f"/ui/images/{film['id']}").json()["html"]
    assert "00:00:00 / 00:00:1" in html and f'href="images/{film["id"]}/film"' in html
    assert client.get(f"/images/{film['id']}/film").headers["content-type"] == "video/mp4"


def test_film_goes_to_the_trash_and_comes_back_as_one(client: TestClient) -> None:
    [film] = [tile for tile in list_tiles(client, "q=sunset") if tile["name"] == "a.mp4"]
    assert client.post("/ui/trash", json={"ids": [film["id"]]}).json() == {"count": 1, "ids": [film["id"]]}
    assert sorted(tile["name"] for tile in list_tiles(client, "q=sunset")) == ["b.mp4", "red.png"]
    assert client.post("/ui/restore", json={"ids": [film["id"]]}).json() == {"count": 1}
    assert len(list_tiles(client, "")) == 3


def test_film_to_search_with_is_answered_with_the_advice_to_send_a_frame(client: TestClient, tmp_path: Path) -> None:
    film = write_film(tmp_path / "query.mp4", make_scenes(1, 1)).read_bytes()
    answer = client.post("/ui/query-images", content=film, headers={"Accept-Language": "en"})
    assert answer.status_code == 422
    assert answer.json()["hint"].endswith("is a film, not a picture. Send a picture, for example one frame of it.")
    answer = client.post("/ui/query-images", content=film, headers={"Accept-Language": "ja"})
    assert answer.json()["hint"] == "これは動画です。画像（動画の1コマなど）を選んでください"


def test_all_that_a_search_finds_has_each_film_once(client: TestClient) -> None:
    found = client.get("/ui/selection").json()
    assert (found["total"], len(found["ids"]), found["kind"]) == (3, 3, "all")


def test_archive_of_frames_holds_their_film_once(client: TestClient, tmp_path: Path) -> None:
    [film] = [tile for tile in list_tiles(client, "") if tile["name"] == "a.mp4"]
    [image] = list_tiles(client, "kind=image")
    moments = client.get(f"/ui/images/{film['id']}/moments").json()["moments"]
    ids = [*(moment["id"] for moment in moments), image["id"]]
    path = Path(client.post("/ui/selection/paths", json={"ids": ids[:1]}).json()["paths"][0])
    said = client.post("/ui/selection/downloads", json={"ids": ids}).json()
    assert (said["count"], said["files"], said["absent"]) == (SCENES + 1, 2, [])
    assert said["bytes"] == film["size"] + image["size"]

    def read_archive() -> dict[str, bytes]:
        content = client.get(f"/ui/selection/downloads/{said['token']}/pictures.zip").content
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    assert read_archive() == {"a.mp4": path.read_bytes(), "red.png": path.with_name("red.png").read_bytes()}
    path.rename(tmp_path / "moved.mp4")
    try:
        assert client.post("/ui/selection/downloads", json={"ids": ids}).json()["absent"] == ["a.mp4"]
        archive = read_archive()
        assert [*archive] == ["red.png", "含まれていない画像.txt"]
        assert "次の1枚" in archive["含まれていない画像.txt"].decode()
    finally:
        (tmp_path / "moved.mp4").rename(path)
