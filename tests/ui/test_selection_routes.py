"""The selection's addresses: what a search finds, and changes to many images at once, over a store in a folder."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from image_search.library import Warmup
from image_search.records import Edits, ImageText
from image_search.registration import films
from image_search.registration.films import find_film_file
from image_search.search import Searcher
from image_search.search.exporting import FileNames, stream_zip
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from image_search.ui import selection_routes
from image_search.ui.results import PageSearch, QueryImages
from image_search.ui.selection_routes import build_selection_routes, change_keywords, set_rating
from image_search.ui.viewer import save_edits
from tests.fakes import FakeEncoder, make_embeddings, make_image

GONE = 999_999


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library.db")) as store:
        yield store


@pytest.fixture
def client(store: ImageStore) -> Iterator[TestClient]:
    searcher = Searcher(store, FakeEncoder())
    app = FastAPI()
    app.include_router(build_selection_routes(PageSearch(searcher, Warmup(searcher), QueryImages(10**8))))
    with TestClient(app, headers={"Accept-Language": "en"}) as client:
        yield client


def register(store: ImageStore, *names: str, text: ImageText | None = None, **values: Any) -> list[int]:
    encoder = FakeEncoder()
    model = store.get_or_create_model(encoder.name, encoder.version, encoder.dimension)
    images = [
        make_image(name, text or ImageText(), data=f"{name}{n}".encode(), **values) for n, name in enumerate(names)
    ]
    return store.add_images(model.model_id, images, make_embeddings(len(images), encoder.dimension))


def post(client: TestClient, path: str, **body: Any) -> Any:
    answer = client.post(f"/ui/selection/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def download(client: TestClient, ids: list[int], name: str = "pictures.zip") -> Any:
    token = post(client, "downloads", ids=ids)["token"]
    return client.get(f"/ui/selection/downloads/{token}/{name}")


def test_all_that_a_search_finds_is_given_not_only_what_is_shown(client: TestClient, store: ImageStore) -> None:
    ids = register(store, *(f"{number}.png" for number in range(60)))
    found = client.get("/ui/selection").json()
    assert (sorted(found["ids"]), found["total"], found["kind"]) == (ids, 60, "all")
    store.set_edits(ids[7], Edits(rating=4))
    assert client.get("/ui/selection?rating=3").json()["ids"] == [ids[7]]


def test_more_than_can_be_selected_is_told(
    client: TestClient, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection_routes, "MAX_SELECTED", 25)
    monkeypatch.setattr(selection_routes, "_PAGE", 10)
    ids = register(store, *(f"{number}.png" for number in range(40)))
    found = client.get("/ui/selection?order=name").json()
    assert (len(found["ids"]), found["total"]) == (25, 40)
    assert set(found["ids"]) < set(ids)


def test_search_by_meaning_gives_what_is_above_the_line(client: TestClient, store: ImageStore) -> None:
    register(store, *(f"{number}.png" for number in range(30)))
    found = client.get("/ui/selection?q=red").json()
    assert found["kind"] in ("best", "none")
    assert found["total"] == len(found["ids"]) <= 30


def test_keywords_are_added_behind_those_of_the_file_and_nothing_is_lost(client: TestClient, store: ImageStore) -> None:
    plain, tagged = register(store, "a.png", "b.png", text=ImageText(keywords=("sea",)))
    store.set_edits(tagged, Edits(description="said", keywords=("sea", "trip"), rating=2))
    answer = post(client, "keywords", ids=[plain, tagged, GONE], add=[" trip ", "trip", "2024"])
    assert answer == {"added": {"trip": [plain], "2024": [plain, tagged]}, "missing": [GONE]}
    assert store.get_image(plain).keywords == ("sea", "trip", "2024")
    assert store.get_image(tagged).edits == Edits("said", ("sea", "trip", "2024"), 2)


def test_added_keywords_are_taken_back_and_the_file_speaks_again(client: TestClient, store: ImageStore) -> None:
    (image_id,) = register(store, "a.png", text=ImageText(keywords=("sea",)))
    answer = post(client, "keywords", ids=[image_id], add=["trip"])
    post(client, "keywords", ids=answer["added"]["trip"], remove=["trip"])
    assert store.get_image(image_id).edits == Edits()
    assert store.get_image(image_id).keywords == ("sea",)


def test_rating_is_set_and_what_was_said_before_is_told(client: TestClient, store: ImageStore) -> None:
    first, second = register(store, "a.png", "b.png")
    store.set_edits(second, Edits(description="said", rating=1))
    answer = post(client, "rating", ids=[first, second], rating=5)
    assert answer["before"] == [{"rating": None, "ids": [first]}, {"rating": 1, "ids": [second]}]
    assert [image.rating for image in store.get_images([first, second])] == [5, 5]
    for group in answer["before"]:
        post(client, "rating", **group)
    assert store.get_image(first).edits == Edits()
    assert store.get_image(second).edits == Edits(description="said", rating=1)


def test_selection_is_written_in_batches_not_one_by_one(
    client: TestClient, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(films, "_EDITS_BATCH", 25)
    ids = register(store, *(f"{number}.png" for number in range(60)))
    batches: list[int] = []
    write = store.change_edits
    monkeypatch.setattr(store, "change_edits", lambda ids, change: (batches.append(len(ids)), write(ids, change))[1])
    post(client, "rating", ids=ids, rating=2)
    post(client, "keywords", ids=ids, add=["trip"])
    assert batches == [25, 25, 10] * 2
    assert {(image.rating, image.keywords) for image in store.get_images(ids)} == {(2, ("trip",))}


def test_changes_made_at_once_to_a_selection_and_in_the_viewer_are_all_kept(store: ImageStore) -> None:
    ids = register(store, *(f"{number}.png" for number in range(20)))
    changes: list[Callable[[], object]] = [
        *(lambda word=word: change_keywords(store, ids, [word], []) for word in "abc"),
        lambda: set_rating(store, ids, 4),
        *(lambda image_id=image_id: save_edits(store, image_id, description="said") for image_id in ids),
        *(lambda image_id=image_id: save_edits(store, image_id, add_keywords=["mine"]) for image_id in ids),
    ]
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(change) for change in changes]:
            done.result()
    for image in store.get_images(ids):
        assert (image.rating, image.description, sorted(image.keywords)) == (4, "said", ["a", "b", "c", "mine"])


def test_image_in_the_trash_is_told_and_left_alone(client: TestClient, store: ImageStore) -> None:
    live, trashed = register(store, "a.png", "b.png")
    store.trash_images([trashed])
    assert post(client, "keywords", ids=[live, trashed], add=["x"])["missing"] == [trashed]
    assert post(client, "rating", ids=[live, trashed], rating=3)["missing"] == [trashed]
    assert post(client, "paths", ids=[live, trashed])["missing"] == [trashed]
    assert post(client, "downloads", ids=[live, trashed])["missing"] == [trashed]
    assert store.get_image(trashed).edits == Edits()


def test_paths_are_given_and_images_without_one_are_counted(client: TestClient, store: ImageStore) -> None:
    (there,) = register(store, "a.png", file_path="/photos/夏/a.png")
    (odd,) = register(store, "c.png", file_path="/photos/\udce9.png")
    (upload,) = register(store, "b.png")
    answer = post(client, "paths", ids=[there, odd, upload])
    assert answer["paths"] == ["/photos/夏/a.png", "/photos/\\udce9.png"]
    assert answer["without"] == 1


def test_archive_holds_the_originals_under_their_names(client: TestClient, store: ImageStore) -> None:
    ids = register(store, "海.png", "dup.png", "dup.png", "DUP.png", "a/b:c.png")
    answer = download(client, ids)
    assert answer.headers["content-disposition"].startswith('attachment; filename="pictures_')
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names == ["海.png", "dup.png", "dup (2).png", "DUP (3).png", "a_b_c.png"]
        assert archive.read("dup (2).png") == store.read_original(ids[2])


def test_original_that_is_missing_is_told_before_and_in_the_archive(
    client: TestClient, store: ImageStore, tmp_path: Path
) -> None:
    ids = register(store, "a.png", "b.png")
    sha256 = store.get_image(ids[0]).content_sha256
    next(path for path in tmp_path.rglob("*") if sha256 in f"{path}" and path.is_file()).unlink()
    answer = post(client, "downloads", ids=ids)
    assert (answer["absent"], answer["count"], answer["files"]) == (["a.png"], 2, 1)
    content = client.get(f"/ui/selection/downloads/{answer['token']}/pictures.zip").content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["b.png", "not included.txt"]
        assert "a.png" in archive.read("not included.txt").decode()


def test_archive_of_many_images_takes_no_more_memory_than_one_of_them(store: ImageStore) -> None:
    size = 2 * 2**20
    encoder = FakeEncoder()
    model = store.get_or_create_model(encoder.name, encoder.version, encoder.dimension)
    images = [make_image(f"{number}.png", data=bytes([number]) * size) for number in range(24)]
    ids = store.add_images(model.model_id, images, make_embeddings(len(images), encoder.dimension))
    del images
    tracemalloc.start()
    sent = sum(len(piece) for piece in stream_zip(store, ids, lambda _: ("missing", ""), find_film_file))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sent > 24 * size
    assert peak < 4 * size


def test_contact_sheet_is_an_image_of_all_chosen(client: TestClient, store: ImageStore) -> None:
    answer = download(client, register(store, "a.png", "海.png", "c" * 200 + ".png"), "contact_sheet.jpg")
    with Image.open(io.BytesIO(answer.content)) as sheet:
        assert sheet.format == "JPEG"
        assert sheet.width > 2 * 240


def test_download_that_is_no_longer_prepared_is_said(client: TestClient) -> None:
    answer = client.get("/ui/selection/downloads/0123/pictures.zip")
    assert answer.status_code == 404
    assert "Select the pictures again" in answer.json()["title"]


def test_selection_that_is_gone_altogether_is_said(client: TestClient) -> None:
    answer = client.post("/ui/selection/downloads", json={"ids": [GONE]})
    assert answer.status_code == 404
    assert answer.json()["code"] == "image_gone"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("keywords", {"ids": [], "add": ["x"]}),
        ("keywords", {"ids": [1], "add": [""]}),
        ("rating", {"ids": [1], "rating": 6}),
        ("rating", {"ids": [1]}),
        ("paths", {"ids": list(range(1, 100_002))}),
        ("downloads", {"ids": ["x"]}),
        ("downloads", {"ids": [1], "more": 1}),
    ],
)
def test_wild_requests_are_refused(client: TestClient, path: str, body: dict[str, Any]) -> None:
    assert client.post(f"/ui/selection/{path}", json=body).status_code == 422


def test_names_are_told_apart_whatever_their_case_and_number() -> None:
    names = FileNames()
    given = [
        names.add(name) for name in ("a (2).jpg", "a.jpg", "A.jpg", "a.jpg", "README", "readme", "", ".png", "猫" * 200)
    ]
    assert given[:6] == ["a (2).jpg", "a.jpg", "A (3).jpg", "a (4).jpg", "README", "readme (2)"]
    assert len({name.casefold() for name in given}) == len(given)
    assert all(len(name.encode()) <= 255 for name in given)
