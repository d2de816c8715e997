"""The library page's addresses, over a store in a temporary folder."""

from __future__ import annotations

import re
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from image_search.cli.health import check_served
from image_search.recognition import NAME, VERSION
from image_search.records import SearchFilter, TextLine
from image_search.registration import Registrar
from image_search.registration.files import find_files
from image_search.registration.folders import FolderRoots, make_scan
from image_search.registration.jobs import _SCHEMA, JobQueue, Work
from image_search.registration.pipeline import ImageReader
from image_search.registration.rereading import make_text_jobs
from image_search.registration.trash import trash_images
from image_search.registration.uploads import UploadInbox, make_upload_work
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from image_search.ui.library_routes import LibraryPage, build_library_routes
from image_search.ui.library_texts import describe_failure, describe_finding
from image_search.web.app import find_roots
from tests.fakes import FakeEncoder, draw_image_bytes
from tests.fakes.film_files import make_scenes, write_film


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library.db")) as store:
        yield store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with two images and a file that is none."""
    folder = tmp_path / "home" / "写真"
    folder.mkdir(parents=True)
    (folder / "red.png").write_bytes(draw_image_bytes("red"))
    (folder / "blue.png").write_bytes(draw_image_bytes("blue"))
    (folder / "broken.png").write_bytes(b"no picture")
    return tmp_path / "home"


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    folder = tmp_path / "samples"
    folder.mkdir()
    (folder / "green.png").write_bytes(draw_image_bytes("green"))
    return folder


@pytest.fixture
def settings() -> Settings:
    return Settings()


@pytest.fixture
def client(tmp_path: Path, store: ImageStore, root: Path, samples: Path, settings: Settings) -> Iterator[TestClient]:
    scan = make_scan(store, FakeEncoder, ImageReader())
    inbox = UploadInbox(tmp_path / "data" / "uploads")
    upload = make_upload_work(inbox, store, lambda: find_model(store), ImageReader())
    works: dict[str, Work] = {"scan": scan, "model": lambda *_: None, "upload": upload, **make_text_jobs(store, 10**8)}
    jobs = JobQueue(tmp_path / "data" / "jobs.db", "a", works, ["upload"], ["read_text", "forget_text"])
    app = FastAPI()
    page = LibraryPage(
        store, jobs, FolderRoots(home=root), samples, settings, lambda: "fake", inbox, None, lambda: False
    )
    app.include_router(build_library_routes(page))
    with TestClient(app, headers={"Accept-Language": "ja"}) as client:
        yield client
    jobs.stop()


def find_model(store: ImageStore) -> tuple[FakeEncoder, Callable[[], int]]:
    encoder = FakeEncoder()
    return encoder, lambda: store.get_or_create_model(encoder.name, encoder.version, encoder.dimension).model_id


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


def test_empty_library_is_new_and_one_with_samples_only_is_too(
    client: TestClient, store: ImageStore, samples: Path
) -> None:
    found = client.get("/ui/library").json()
    assert (found["is_new"], found["samples"], found["folders"], found["jobs"]) == (True, 0, [], [])
    register(store, samples)
    found = client.get("/ui/library").json()
    assert (found["is_new"], found["samples"], found["has_all_samples"]) == (True, 1, False)
    assert client.post("/ui/library/samples/remove").json() == {"count": 1}
    assert client.get("/ui/library/trash").json()["total"] == 1


def test_folder_that_is_added_is_scanned_and_counted(client: TestClient, root: Path) -> None:
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
            "is_watched": False,
        }
    ]
    assert not found["is_new"]
    assert found["models"][0]["facts"] == ["画像の100%を検索できます"]


def test_scan_says_which_kinds_of_files_are_not_read(client: TestClient, root: Path) -> None:
    for name in ("1.SVG", "2.svg", "3.pdf", "README"):
        (root / "写真" / name).write_bytes(b"other")
    client.post("/ui/library/folders", json={"path": f"{root}/写真"})
    [job] = wait_for_jobs(client)
    assert job["facts"] == ["新規2枚", "対応していない形式のファイル4件（.SVG 2, .pdf 1, その他 1）"]
    [job] = client.get("/ui/library/jobs", headers={"Accept-Language": "en"}).json()["jobs"]
    assert job["facts"] == ["2 new", "4 files of kinds that are not read (.SVG 2, .pdf 1, others 1)"]


def test_folder_is_scanned_again_and_taken_off_the_list_without_its_images(
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
def test_folder_outside_the_roots_is_refused_without_telling_whether_it_exists(client: TestClient, path: str) -> None:
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


def send(client: TestClient, files: dict[str, bytes], arriving: int | None = None) -> str:
    """Send a batch, or only so many of its files. Returns its token."""
    batch: str = client.post("/ui/library/uploads", json={"names": list(files)}).json()["batch"]
    for number, data in enumerate(list(files.values())[:arriving]):
        assert client.post(f"/ui/library/uploads/{batch}/{number}", content=data).status_code == 200
    return batch


def test_files_that_are_sent_are_registered_by_a_job_each_bad_one_a_sentence(
    client: TestClient, store: ImageStore, tmp_path: Path
) -> None:
    red = draw_image_bytes("red", (70, 50))
    send(client, {"../夕焼け.png": red, "b<b>.png": b"no picture", "c.png": b"", "again.png": red})
    [job] = wait_for_jobs(client)
    assert (job["title"], job["facts"]) == ("画像の追加", ["新規1枚", "登録済み1枚"])
    assert job["failures"] == ["b<b>.png：壊れているか、読み込める画像ではありません", "c.png：ファイルが空です"]
    assert [hit.image.file_name for hit in store.list_images()] == ["夕焼け.png"]
    assert list((tmp_path / "data" / "uploads").iterdir()) == []


@pytest.mark.slow
def test_files_that_have_arrived_are_registered_although_the_page_has_gone_and_the_rest_is_named(
    client: TestClient, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(client, {f"{size}.png": draw_image_bytes("red", (size, 50)) for size in range(60, 66)}, arriving=4)
    monkeypatch.setattr("image_search.registration.uploads.SILENCE", 0.1)
    [job] = wait_for_jobs(client)
    assert job["facts"] == ["新規4枚"]
    assert job["failures"][0] == "64.png：届きませんでした。もう一度選んでください"
    assert store.count_images() == 4


def test_file_of_a_batch_that_is_over_is_refused(client: TestClient) -> None:
    batch = send(client, {"a.png": draw_image_bytes("red")})
    wait_for_jobs(client)
    for address in (batch, "f" * 32, "..", "x"):
        assert client.post(f"/ui/library/uploads/{address}/0", content=b"x").status_code in (404, 405)


@pytest.mark.slow
def test_files_of_an_upload_that_is_cancelled_go_at_once_whether_it_runs_or_waits(
    client: TestClient, tmp_path: Path
) -> None:
    running, waiting = (send(client, {"a.png": draw_image_bytes("red"), "b.png": b""}, arriving=1) for _ in range(2))
    end = time.monotonic() + 20
    while [job["state"] for job in client.get("/ui/library/jobs").json()["jobs"]] != ["waiting", "running"]:
        assert time.monotonic() < end
        time.sleep(0.02)
    folder = tmp_path / "data" / "uploads"
    assert {place.name for place in folder.iterdir()} == {running, waiting}
    for job in client.get("/ui/library/jobs").json()["jobs"]:
        assert client.post(f"/ui/library/jobs/{job['id']}/cancel").json() == {"cancelled": True}
    assert {job["state"] for job in wait_for_jobs(client)} == {"cancelled"}
    assert list(folder.iterdir()) == []
    assert client.post(f"/ui/library/uploads/{running}/1", content=b"x").status_code == 404


def test_upload_keeps_its_files_when_the_program_ends(tmp_path: Path, store: ImageStore) -> None:
    inbox = UploadInbox(tmp_path / "uploads")
    work = make_upload_work(inbox, store, lambda: find_model(store), ImageReader())
    jobs = JobQueue(tmp_path / "jobs.db", "a", {"upload": work})
    batch = inbox.begin(["a.png"])
    jobs.add("upload", batch)
    jobs.stop()
    assert inbox.get_place(batch).is_dir()


def test_upload_does_not_wait_for_a_scan(tmp_path: Path, store: ImageStore) -> None:
    may_end = threading.Event()
    inbox = UploadInbox(tmp_path / "uploads")
    works: dict[str, Work] = {
        "scan": lambda *_: may_end.wait(20) and None,
        "upload": make_upload_work(inbox, store, lambda: find_model(store), ImageReader()),
    }
    jobs = JobQueue(tmp_path / "jobs.db", "a", works, ["upload"])
    jobs.add("scan", "/")
    batch = inbox.begin(["a.png"])
    (inbox.get_place(batch) / "00000.data").write_bytes(draw_image_bytes("red"))
    jobs.add("upload", batch)
    end = time.monotonic() + 20
    while store.count_images() == 0 and time.monotonic() < end:
        time.sleep(0.02)
    assert [job.state for job in jobs.list_jobs() if job.kind == "scan"] == ["running"]
    may_end.set()
    jobs.stop()
    assert store.count_images() == 1


def test_batch_goes_on_after_the_program_was_killed(tmp_path: Path, store: ImageStore) -> None:
    """Killed after one of three files was registered, and before its job was written down as over."""
    inbox = UploadInbox(tmp_path / "uploads")
    batch = inbox.begin(["a.png", "b.png", "c.png"])
    place = inbox.get_place(batch)
    (place / "00000.registered").touch()
    for number, colour in ((1, "red"), (2, "blue")):
        (place / f"{number:05}.data").write_bytes(draw_image_bytes(colour))
    left = JobQueue(tmp_path / "jobs.db", "a", {"upload": lambda *_: None})
    left.stop()
    with sqlite3.connect(tmp_path / "jobs.db") as connection:
        connection.executescript(_SCHEMA)
        connection.execute(
            "INSERT INTO jobs (library, kind, target, state) VALUES ('a', 'upload', ?, 'running')", [batch]
        )
    connection.close()
    work = make_upload_work(UploadInbox(tmp_path / "uploads"), store, lambda: find_model(store), ImageReader())
    jobs = JobQueue(tmp_path / "jobs.db", "a", {"upload": work})
    jobs.start()
    end = time.monotonic() + 20
    while jobs.list_jobs()[0].state != "done" and time.monotonic() < end:
        time.sleep(0.02)
    assert jobs.list_jobs()[0].counts == {"registered": 3}
    jobs.stop()


def test_trash_is_listed_and_emptied_in_part_and_whole(client: TestClient, store: ImageStore, root: Path) -> None:
    register(store, root)
    ids = store.list_image_ids()
    store.trash_images(ids)
    found = client.get("/ui/library/trash").json()
    assert found["total"] == 2
    assert {tile["name"] for tile in found["tiles"]} == {"red.png", "blue.png"}
    assert client.post("/ui/library/trash/empty", json={"ids": ids[:1]}).json() == {"count": 1}
    version = client.get("/ui/library/trash?limit=1").json()["version"]
    assert client.post("/ui/library/trash/empty", json={"version": version}).json() == {"count": 1}
    emptied = client.get("/ui/library/trash").json()
    assert (emptied["tiles"], emptied["total"]) == ([], 0)
    assert client.post("/ui/library/trash/empty", json={"ids": []}).status_code == 422


def test_trash_that_changed_since_it_was_looked_at_is_not_emptied(
    client: TestClient, store: ImageStore, root: Path
) -> None:
    register(store, root)
    first, second = store.list_image_ids()
    store.trash_images([first])
    seen = client.get("/ui/library/trash").json()["version"]
    store.trash_images([second])
    store.restore_images([first])  # as many as before
    refused = client.post("/ui/library/trash/empty", json={"version": seen})
    assert (refused.status_code, refused.json()["code"]) == (409, "trash_changed")
    assert refused.json()["title"] == "確認している間に、ごみ箱の中身が変わりました。"
    assert store.list_trash().total == 1
    assert client.post("/ui/library/trash/empty", json={"ids": [second]}).json() == {"count": 1}


def test_models_say_what_they_know_and_which_may_be_used(client: TestClient) -> None:
    models = {model["name"]: model for model in client.get("/ui/library").json()["models"]}
    assert next(iter(models)) == "fake"
    assert models["fake"]["current"]
    assert "描かれた場面だけ" in models["demo/model"]["facts"][0]
    assert models["llm-jp/waon-siglip2-base-patch16-256"]["facts"] == [
        "写真や画像、日本語、英語",
        "約1.5 GB",
        "ライセンス：Apache-2.0",
    ]
    assert "独自のプログラム" in models["stabilityai/japanese-stable-clip-vit-l-16"]["obstacle"]
    assert "HF_TOKEN" in models["facebook/dinov3-vitb16-pretrain-lvd1689m"]["obstacle"]
    assert models["openai/clip-vit-base-patch32"]["obstacle"] == ""


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("stabilityai/japanese-stable-clip-vit-l-16", "remote_code"),
        ("facebook/dinov3-vitb16-pretrain-lvd1689m", "gated"),
        ("somebody/unknown", "not_found"),
        ("../../etc", "not_found"),
    ],
)
def test_model_that_a_click_may_not_choose_is_refused_in_words(client: TestClient, name: str, code: str) -> None:
    answer = client.post("/ui/library/models/use", json={"name": name})
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert wait_for_jobs(client) == []


def test_model_is_used_by_a_job(client: TestClient) -> None:
    assert client.post("/ui/library/models/use", json={"name": "facebook/dinov2-small"}).status_code == 200
    [job] = wait_for_jobs(client)
    assert (job["title"], job["state"]) == ("モデル facebook/dinov2-small への切り替え", "done")


@pytest.mark.parametrize("settings", [Settings(embedding_model="openai/clip-vit-base-patch16")])
def test_model_of_the_settings_wins_and_says_so(client: TestClient) -> None:
    assert "EMBEDDING_MODEL に openai/clip-vit-base-patch16 が" in client.get("/ui/library").json()["model_note"]
    answer = client.post("/ui/library/models/use", json={"name": "facebook/dinov2-small"})
    assert (answer.status_code, answer.json()["code"]) == (400, "set")


def test_home_folder_is_open_only_where_no_other_computer_reaches_the_page() -> None:
    assert find_roots(Settings()).home == Path.home()
    for settings in (
        Settings(app_host="0.0.0.0"),
        Settings(app_allowed_hosts="pictures.example"),
        Settings(app_root_path="/pics"),
    ):
        assert find_roots(settings).home is None


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        ("a b.png is empty.", "a b.png：ファイルが空です"),
        ("/写真/x.heic is a HEIC picture: install it.", "/写真/x.heic：HEICを読むには pillow-heif が必要です"),
        ("x.png is text.", "x.png：壊れているか、読み込める画像ではありません"),
        ("/a cannot be read (Permission denied). Check that it is there and that you may.", "/a：開けません"),
        ("The original file of image 5 is not there.", "画像5：元のファイルが見つかりません"),
        ("x.tif: a new kind of trouble", "x.tif：登録できませんでした"),
    ],
)  # fmt: skip
def test_why_a_file_failed_is_said_in_the_visitors_language(sentence: str, said: str) -> None:
    assert describe_failure(sentence, "ja") == said


def test_films_of_a_folder_are_counted_and_a_bad_one_is_told_in_the_visitors_language(
    client: TestClient, root: Path
) -> None:
    write_film(root / "写真" / "海.mp4", make_scenes(3, 2))
    (root / "写真" / "雑音.mkv").write_bytes(b"no film at all " * 100)
    client.post("/ui/library/folders", json={"path": f"{root}/写真"})
    [job] = wait_for_jobs(client)
    assert job["facts"] == ["新規3枚", "動画1本（3場面）"]
    assert f"{root}/写真/雑音.mkv：壊れているか、読み込める動画ではありません" in job["failures"]
    assert client.get("/ui/library").json()["folders"][0]["count"] == 3  # images, and the film once


def test_film_is_one_tile_in_the_trash_and_leaves_it_as_one(client: TestClient, store: ImageStore, root: Path) -> None:
    write_film(root / "写真" / "海.mp4", make_scenes(3, 2))
    register(store, root)
    ids = store.list_image_ids()
    trash_images(store, ids)
    page = client.get("/ui/library/trash").json()
    assert page["total"] == 3
    [film] = [tile for tile in page["tiles"] if tile["frame_ms"] is not None]
    assert (film["name"], film["moments"], film["frame_ms"] < 1000) == ("海.mp4", 2, True)
    assert client.post("/ui/library/trash/empty", json={"ids": [film["id"]]}).json() == {"count": 1}
    assert client.get("/ui/library/trash").json()["total"] == 2


def test_film_that_is_sent_is_registered_and_a_bad_one_is_one_sentence(
    client: TestClient, store: ImageStore, tmp_path: Path
) -> None:
    film = write_film(tmp_path / "a.mp4", make_scenes(2, 2)).read_bytes()
    send(client, {"夏.mp4": film, "夏のコピー.mp4": film, "bad.mp4": b"no film"})
    [job] = wait_for_jobs(client)
    assert job["facts"] == ["新規1枚", "登録済み1枚"]
    assert job["failures"] == ["bad.mp4：壊れているか、読み込める動画ではありません"]
    frames = store.list_images(filter=SearchFilter(kind="frame"))
    assert {hit.image.file_name for hit in frames} == {"夏.mp4"}


class Recognizer:
    name, version = NAME, VERSION

    def recognize(self, image: Image.Image) -> list[TextLine]:
        return [TextLine("禁止", 0.9, (0, 0, 1, 0.05))]


def test_text_is_read_and_forgotten_as_jobs(
    client: TestClient, store: ImageStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("image_search.registration.rereading.open_recognizer", Recognizer)
    register(store, root)
    assert client.post("/ui/library/text/read").json() == {"job": 1}
    [job] = wait_for_jobs(client)
    assert (job["title"], job["facts"]) == ("画像内の文字の読み取り", ["読み取り2枚", "文字あり2枚"])
    assert store.list_images(["禁止"]).total == 2
    assert client.post("/ui/library/text/read").json() == {"job": 2}
    assert wait_for_jobs(client)[0]["facts"] == ["すべて読み取り済みです"]
    assert client.post("/ui/library/text/forget").json() == {"job": 3}
    job = wait_for_jobs(client)[0]
    assert (job["title"], job["facts"]) == ("読み取った文字の消去", ["読み取った文字を消去しました"])
    assert store.list_images(["禁止"]).total == 0


def test_reading_without_its_package_says_how_to_get_it(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    answer = client.post("/ui/library/text/read")
    assert answer.status_code == 400
    assert "pip install -r requirements-ocr.txt" in answer.json()["title"]
    assert client.get("/ui/library/jobs").json() == {"jobs": []}


def test_check_of_a_library_is_said_in_japanese(store: ImageStore, root: Path) -> None:
    Registrar(store, FakeEncoder(), reader=ImageReader(max_pixels=10**6)).register(find_files([root]))
    found = [describe_finding(finding, "ja") for finding in check_served(store)]
    assert len(found) >= 10
    for line in found:
        assert line["ok"], line
        if line["name"] != "パッケージ":  # a list of names and versions
            assert re.search("[ぁ-んァ-ヶ一-龠]|空き", line["what"]), line
            assert not line["details"], line
