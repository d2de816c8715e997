"""Pages of lists over REST, which change while they are read."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from image_search.registration.trash import delete_images, restore_images, trash_images
from image_search.search import Searcher
from tests.contract.frames import make_frame
from tests.fakes import COLOURS, make_embeddings, make_image


def search(client: TestClient, **asked: Any) -> dict[str, Any]:
    answer = client.post("/api/search", json=asked)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def read_pages(client: TestClient, **asked: Any) -> Iterator[list[int]]:
    """image_ids of each page, read with the cursor of the one before."""
    answer = search(client, **asked)
    yield [hit["image"]["image_id"] for hit in answer["hits"]]
    while answer["next"]:
        answer = search(client, **asked, after=answer["next"])
        yield [hit["image"]["image_id"] for hit in answer["hits"]]


def add(searcher: Searcher, *images: Any) -> list[int]:
    rows = make_embeddings(len(images), dimension=searcher.encoder.dimension)
    return searcher.store.add_images(searcher.get_model().model_id, list(images), rows)


NEWEST = list(range(len(COLOURS), 0, -1))


@pytest.mark.parametrize("page_size", [1, 3, 5, 9, 10, 11])
def test_pages_by_cursor_are_the_list(client: TestClient, page_size: int) -> None:
    pages = list(read_pages(client, page_size=page_size))
    assert [image_id for page in pages for image_id in page] == NEWEST
    assert all(len(page) == page_size for page in pages[:-1]) and pages[-1]


def test_page_by_cursor_tells_ranks_and_totals_as_by_number(client: TestClient) -> None:
    first = search(client, page_size=4)
    second = search(client, page_size=4, after=first["next"])
    times = ("encode_ms", "search_ms")
    same = search(client, page_size=4, page=2)
    assert {name: value for name, value in second.items() if name not in times} == {
        name: value for name, value in same.items() if name not in times
    }
    assert (second["hits"][0]["rank"], second["total"], second["page"]) == (5, 10, 2)
    form = client.post("/api/search", data={"page_size": "4", "after": first["next"]}).json()
    assert form["hits"] == second["hits"]


def test_pages_that_change_while_they_are_read_repeat_nothing_and_leave_nothing_out(
    client: TestClient, searcher: Searcher
) -> None:
    changes = iter(
        [
            lambda: add(searcher, make_image("new.png")),
            lambda: trash_images(searcher.store, [10, 8]),  # the last of this page, and one of an earlier one
            lambda: delete_images(searcher.store, [7, 4]),  # the last of this page for good, and one that comes
            lambda: restore_images(searcher.store, [10]),
        ]
    )
    seen = []
    for page in read_pages(client, page_size=2):
        seen += page
        next(changes, lambda: None)()
    assert seen == [10, 9, 8, 7, 6, 5, 3, 2, 1]


def test_list_under_conditions_goes_on_under_them(client: TestClient, searcher: Searcher) -> None:
    add(searcher, *(make_image(f"{n}.jpg", file_type="image/jpeg") for n in range(3)))
    assert next(read_pages(client, page_size=4, file_types=["image/png"])) == [10, 9, 8, 7]
    assert [len(page) for page in read_pages(client, page_size=2, text="rating:1")] == [0]


@pytest.mark.parametrize("page_size", [1, 2, 3, 20])
def test_film_comes_once_however_its_frames_lie_about_the_pages(
    client: TestClient, searcher: Searcher, page_size: int
) -> None:
    frames = []
    for number in range(4):
        frames += add(searcher, make_frame(number))
        add(searcher, make_image(f"between{number}.png"))
    pages = list(read_pages(client, page_size=page_size))
    seen = [image_id for page in pages for image_id in page]
    assert len(seen) == len(set(seen)) == len(COLOURS) + 5
    assert [image_id for image_id in seen if image_id in frames] == frames[:1]
    answer = search(client, page_size=2)
    assert search(client, page_size=2, after=answer["next"])["total"] == answer["total"] == len(COLOURS) + 5


def make_token(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "token",
    ["x", "2", "é", "[]", "=", make_token("[]"), make_token("{}"), make_token("1"), make_token("[" * 100)]
    + [make_token(f'["2024-01-01",{rest}]') for rest in ("0,1", "-1,1", "1,0", "99999999999999999999,1", "null,1")]
    + [make_token(f'["{date}",1,1]') for date in ("yesterday", "2024-01-01T00:00:00+09:00", "")]
    + ["A" * 201],
)
def test_token_that_is_none_is_refused_with_a_sentence(unchanged: TestClient, token: str) -> None:
    answer = unchanged.post("/api/search", json={"after": token})
    assert answer.status_code == 422 and answer.json()["code"] == "invalid_request"
    assert "after" in answer.json()["message"]


def test_cursor_beside_a_page_or_a_ranking_is_refused(client: TestClient) -> None:
    token = search(client, page_size=4)["next"]
    for asked in ({"page": 2}, {"text": "red"}, {"like": 1}):
        answer = client.post("/api/search", json={"after": token, **asked})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
        assert "page" in answer.json()["message"]
    assert search(client, text="red", page_size=4)["next"] is None


@pytest.mark.parametrize("text", ["rating:9", "taken:yesterday"])
def test_condition_that_is_not_understood_is_a_fault_of_the_request(client: TestClient, text: str) -> None:
    answer = client.post("/api/search", json={"text": text})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
