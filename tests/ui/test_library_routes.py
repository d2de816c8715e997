"""The library page's addresses, over a store in a temporary folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from image_search.registration.files import find_files
from image_search.registration.films.deleting import trash_images
from image_search.registration.folders import FolderRoots, make_scan
from image_search.registration.jobs import JobQueue
from image_search.registration.reader import ImageReader
from image_search.registration.registrar import Registrar
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from image_search.ui.library_routes import LibraryPage, build_library_routes
from image_search.web.app import find_roots
from tests.fakes import FakeEncoder, make_picture_bytes
from tests.fakes.film_files import make_scenes, write_film


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library.db")) as store:
        yield store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with two pictures and a file that is none."""
    folder = tmp_path / "home" / "写真"
    folder.mkdir(parents=True)
    (folder / "red.png").write_bytes(make_picture_bytes("red"))
    (folder / "blue.png").write_bytes(make_picture_bytes("blue"))
    (folder / "broken.png").write_bytes(b"no picture")
    return tmp_path / "home"


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    folder = tmp_path / "samples"
    folder.mkdir()
    (folder / "green.png").write_bytes(make_picture_bytes("green"))
    return folder


@pytest.fixture
def client(tmp_path: Path, store: ImageStore, root: Path, samples: Path) -> Iterator[TestClient]:
    scan = make_scan(store, FakeEncoder, ImageReader())
    jobs = JobQueue(tmp_path / "data" / "jobs.db", "a", {"scan": scan})
    app = FastAPI()
    app.include_router(build_library_routes(LibraryPage(store, jobs, FolderRoots(home=root), samples, 30)))
    with TestClient(app, headers={"Accept-Language": "ja"}) as client:
        yield client
    jobs.stop()


def register(store: ImageStore, folder: Path) -> None:
    Registrar(store, FakeEncoder()).register(find_files([folder]))


def wait_for_jobs(client: TestClient) -> list[dict[str, Any]]:
    end = time.monotonic() + 20
    while True:
        jobs: list[dict[str, Any]] = client.get("/ui/library/jobs").json()["jobs"]
        if all(job["state"] not in ("waiting", "running") for job in jobs):
            return jobs
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_empty_library_is_new_and_one_with_samples_only_is_too(
    client: TestClient, store: ImageStore, samples: Path
) -> None:
    found = client.get("/ui/library").json()
    assert (found["is_new"], found["samples"], found["folders"], found["jobs"]) == (True, 0, [], [])
    register(store, samples)
    found = client.get("/ui/library").json()
    assert (found["is_new"], found["samples"]) == (True, 1)
    assert client.post("/ui/library/samples/remove").json() == {"count": 1}
    assert client.get("/ui/library").json()["trash"] == 1


def test_a_folder_that_is_added_is_scanned_and_counted(client: TestClient, root: Path) -> None:
    answer = client.post("/ui/library/folders", json={"path": f"{root}/写真"})
    assert answer.status_code == 200
    [job] = wait_for_jobs(client)
    assert (job["state"], job["state_text"], job["facts"]) == ("done", "完了", ["新規2枚"])
    assert job["failures"] == [f"{root}/写真/broken.png：壊れているか、読み込める画像ではありません"]
    found = client.get("/ui/library").json()
    assert found["folders"] == [
        {
            "path": f"{root}/写真",
            "name": f"{root}/写真",
            "count": 2,
            "can_scan": True,
            "is_missing": False,
        }
    ]
    assert not found["is_new"]
    assert found["models"][0]["facts"] == "2枚中2枚"


def test_a_scan_says_which_kinds_of_files_are_not_read(client: TestClient, root: Path) -> None:
    for name in ("1.SVG", "2.svg", "3.pdf", "README"):
        (root / "写真" / name).write_bytes(b"other")
    client.post("/ui/library/folders", json={"path": f"{root}/写真"})
    [job] = wait_for_jobs(client)
    assert job["facts"] == ["新規2枚", "対応していない形式のファイル4件（.SVG 2, .pdf 1, その他 1）"]
    [job] = client.get("/ui/library/jobs", headers={"Accept-Language": "en"}).json()["jobs"]
    assert job["facts"] == ["2 new", "4 files of kinds that are not read (.SVG 2, .pdf 1, others 1)"]


def test_a_folder_is_scanned_again_and_taken_off_the_list_without_its_images(
    client: TestClient, store: ImageStore, root: Path
) -> None:
    path = {"path": f"{root}/写真"}
    assert client.post("/ui/library/folders/scan", json=path).status_code == 400
    client.post("/ui/library/folders", json=path)
    wait_for_jobs(client)
    assert client.post("/ui/library/folders/scan", json=path).status_code == 200
    assert wait_for_jobs(client)[0]["facts"] == ["登録済み2枚"]
    assert client.post("/ui/library/folders/remove", json=path).json() == {"count": 2}
    assert client.get("/ui/library").json()["folders"] == []
    assert store.count_images() == 2


@pytest.mark.parametrize("path", ["/etc", "/no/such/folder", "写真", "", "/\0"])
def test_a_folder_outside_the_roots_is_refused_without_telling_whether_it_exists(client: TestClient, path: str) -> None:
    refused = {"kind": "problem", "code": "folder_refused", "hint": ""}
    for answer in (
        client.post("/ui/library/folders", json={"path": path}),
        client.post("/ui/library/folders/scan", json={"path": path}),
        *([client.get("/ui/library/browse", params={"path": path})] if path else []),
    ):
        said = answer.json()
        assert answer.status_code == 400
        assert said.pop("title").startswith("このフォルダーはここから追加できません")
        assert said == refused


def test_folders_are_browsed_below_the_home_folder_but_not_through_a_proxy(client: TestClient, root: Path) -> None:
    found = client.get("/ui/library/browse").json()
    assert found == {
        "path": str(root),
        "name": str(root),
        "parent": None,
        "folders": [{"path": f"{root}/写真", "name": "写真"}],
    }
    for name in ("Forwarded", "X-Forwarded-For"):
        headers = {name: "192.0.2.1"}
        assert client.get("/ui/library/browse", headers=headers).json()["code"] == "folder_refused"
        assert client.get("/ui/library", headers=headers).json()["can_add"] is False


def test_the_trash_is_listed_and_emptied_in_part_and_whole(client: TestClient, store: ImageStore, root: Path) -> None:
    register(store, root)
    ids = store.list_image_ids()
    store.trash_images(ids)
    found = client.get("/ui/library/trash").json()
    assert found["total"] == 2
    assert {tile["name"] for tile in found["tiles"]} == {"red.png", "blue.png"}
    assert client.post("/ui/library/trash/empty", json={"ids": ids[:1]}).json() == {"count": 1}
    assert client.post("/ui/library/trash/empty", json={"ids": None}).json() == {"count": 1}
    assert client.get("/ui/library/trash").json() == {"tiles": [], "total": 0}
    assert client.post("/ui/library/trash/empty", json={"ids": []}).status_code == 422


def test_another_model_is_made_current(client: TestClient, store: ImageStore) -> None:
    first, second = store.get_or_create_model("a", "1", 16), store.get_or_create_model("b", "1", 16)
    assert first.is_current
    assert client.post(f"/ui/library/models/{second.model_id}/use").status_code == 200
    current = {model["name"]: model["current"] for model in client.get("/ui/library").json()["models"]}
    assert current == {"a": False, "b": True}
    assert client.post("/ui/library/models/99/use").status_code == 400


def test_the_home_folder_is_open_only_where_no_other_computer_reaches_the_page() -> None:
    assert find_roots(Settings()).home == Path.home()
    for settings in (
        Settings(app_host="0.0.0.0"),
        Settings(app_allowed_hosts="pictures.example"),
        Settings(app_root_path="/pics"),
    ):
        assert find_roots(settings).home is None


def test_films_of_a_folder_are_counted_and_a_bad_one_is_told_in_the_visitors_language(
    client: TestClient, root: Path
) -> None:
    write_film(root / "写真" / "海.mp4", make_scenes(3, 2))
    (root / "写真" / "雑音.mkv").write_bytes(b"no film at all " * 100)
    client.post("/ui/library/folders", json={"path": f"{root}/写真"})
    [job] = wait_for_jobs(client)
    assert job["facts"] == ["新規3枚", "動画1本（3場面）"]
    assert f"{root}/写真/雑音.mkv：壊れているか、読み込める動画ではありません" in job["failures"]


def test_a_film_is_one_tile_in_the_trash_and_leaves_it_as_one(
    client: TestClient, store: ImageStore, root: Path
) -> None:
    write_film(root / "写真" / "海.mp4", make_scenes(3, 2))
    register(store, root)
    ids = store.list_image_ids()
    trash_images(store, ids)
    page = client.get("/ui/library/trash").json()
    assert page["total"] == 3
    [film] = [tile for tile in page["tiles"] if tile["frame_ms"] is not None]
    assert (film["name"], film["moments"], film["frame_ms"] < 1000) == ("海.mp4", 2, True)
    assert client.post("/ui/library/trash/empty", json={"ids": [film["id"]]}).json() == {"count": 3}
    assert client.get("/ui/library/trash").json()["total"] == 2
