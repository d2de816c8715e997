"""The REST face: what a program sends, and what it gets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from image_search.api.schemas import SearchRequest
from image_search.errors import SchemaError, StoreFull, TextNotSupported
from image_search.records import Edits, ImageText
from image_search.search import Searcher
from image_search.settings import Settings
from tests.fakes import COLOURS, AwayStore, FakeEncoder, draw_image, draw_image_bytes, make_image
from tests.fakes.api_library import build_small, open_client, open_colours


def list_names(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [hit["image"]["file_name"] for hit in answer.json()["hits"]]


# --- search -----------------------------------------------------------------------------------------------------------


def test_empty_search_gives_the_newest_with_totals(client: TestClient) -> None:
    answer = client.post("/api/search")
    assert list_names(answer) == [f"{colour}.png" for colour in reversed(COLOURS)]
    facts = answer.json()
    assert (facts["total"], facts["pages"], facts["has_more"]) == (10, 1, False)
    assert facts["hits"][0]["distance"] is None


@pytest.mark.parametrize(
    "date", ["2024", "2024-05", "2024-05-01", "20240501", "2024/5/1", "2024年5月1日", "２０２４年５月"]
)
def test_dates_are_read_as_people_write_them(unchanged: TestClient, date: str) -> None:
    request = SearchRequest.model_validate({"taken_from": date})
    assert request.taken_from is not None
    assert (request.taken_from.year, request.taken_from.day) == (2024, 1)
    assert unchanged.post("/api/search", json={"taken_from": date}).json()["total"] == 0
    assert unchanged.post("/api/search", data={"registered_from": date}).status_code == 200


@pytest.mark.parametrize(
    "date", ["yesterday", "2024-13-01", "5月1日", "2024-02-30", "1714521600", "1e9", "nan", 2025, 1714521600.5, True]
)
@pytest.mark.parametrize("field", ["taken_from", "registered_to"])
def test_date_that_is_none_is_refused_by_name(unchanged: TestClient, field: str, date: object) -> None:
    answer = unchanged.post("/api/search", json={field: date})
    assert answer.status_code == 422
    assert f"The request does not fit: {field}: this is not a date; write 2024-05-01, " in answer.json()["message"]


def test_camera_s_local_time_is_compared_without_a_zone_and_registration_in_utc() -> None:
    moment = "2024-05-01T00:30:00+09:00"
    asked = SearchRequest.model_validate(dict.fromkeys(("taken_from", "taken_to", "registered_from"), moment))
    assert asked.taken_from == asked.taken_to == datetime(2024, 5, 1, 0, 30)
    assert asked.registered_from == datetime(2024, 4, 30, 15, 30)


def test_words_that_are_longer_than_the_model_takes_are_told(client: TestClient) -> None:
    assert client.post("/api/search", json={"text": "long " * 100}).json()["is_text_cut"] is True
    assert client.post("/api/search", json={"text": "red"}).json()["is_text_cut"] is False


@pytest.mark.parametrize("form", ["json", "data"])
def test_words_rank_as_json_and_as_a_form(client: TestClient, form: str) -> None:
    answer = client.post("/api/search", **{form: {"text": "blue", "page_size": 3}})
    assert list_names(answer)[0] == "blue.png"
    [first, *_] = answer.json()["hits"]
    assert (first["rank"], round(first["distance"], 3)) == (1, -1)


def test_image_finds_its_twin(client: TestClient) -> None:
    files = {"picture": ("query.png", draw_image_bytes("cyan"))}
    assert list_names(client.post("/api/search", data={"page_size": "1"}, files=files)) == ["cyan.png"]


def test_image_of_the_library_finds_others_and_not_itself(client: TestClient) -> None:
    names = list_names(client.post("/api/search", json={"like": 1}))
    assert len(names) == 9 and "red.png" not in names


def test_pages_follow_each_other(client: TestClient) -> None:
    whole = list_names(client.post("/api/search", json={"text": "red", "page_size": 10}))
    pages = [client.post("/api/search", json={"text": "red", "page": page, "page_size": 4}) for page in (1, 2, 3)]
    assert [name for page in pages for name in list_names(page)] == whole
    assert [page.json()["has_more"] for page in pages] == [True, True, False]
    assert pages[1].json()["hits"][0]["rank"] == 5
    assert pages[0].json()["pages"] == 3


def test_filters_hold_and_an_empty_field_of_a_form_is_left_out(client: TestClient, searcher: Searcher) -> None:
    text = ImageText(generation_prompt="a fox", generator="ComfyUI")
    image = make_image("fox.png", text, data=b"fox", width=640, height=200)
    searcher.store.add_images(
        searcher.get_model().model_id, [image], searcher.encoder.encode_images([draw_image("red")])
    )
    for asked in ({"min_pixels": 100_000}, {"generator": "ComfyUI"}, {"has_prompt": True}):
        assert list_names(client.post("/api/search", json=asked)) == ["fox.png"]
    form = {"text": "", "like": "", "has_prompt": "true", "file_types": ["image/png", "image/jpeg"]}
    assert list_names(client.post("/api/search", data=form)) == ["fox.png"]
    assert client.post("/api/search", json={"registered_to": "2001-01-01"}).json()["total"] == 0
    assert client.post("/api/search", json={"registered_from": "2001-01-01T00:00:00+09:00"}).json()["total"] == 11


def test_min_relevance_leaves_out_what_is_below_it(tmp_path: Path) -> None:
    with open_colours(tmp_path) as searcher:
        images = [make_image(f"{number}.png") for number in range(30)]
        pictures = [draw_image((number * 8, 90, 60)) for number in range(30)]
        searcher.store.add_images(searcher.get_model().model_id, images, searcher.encoder.encode_images(pictures))
        searcher.tagger.prepare()
        client = open_client(build_small(searcher))
        all_hits = client.post("/api/search", json={"text": "cyan", "page_size": 40}).json()["hits"]
        above = [hit for hit in all_hits if hit["relevance"] >= 0.5]
        answer = client.post("/api/search", json={"text": "cyan", "page_size": 40, "min_relevance": 0.5}).json()
        assert 0 < len(above) < len(all_hits)
        assert answer["hits"] == above
        assert not answer["has_more"]


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        ({"json": {"page": 0}}, "page"),
        ({"json": {"page_size": 101}}, "page_size"),
        ({"json": {"serch": "x"}}, "serch"),
        ({"json": {"orientation": "diagonal"}}, "orientation"),
        ({"json": {"text": "x" * 2001}}, "text"),
        ({"json": {"like": 2**63}}, "like"),
        ({"json": {"registered_from": "0001-01-01T00:00:00+09:00"}}, "registered_from"),
        ({"json": [1]}, "object"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, "JSON"),
        ({"files": {"pictures": ("a.png", b"x")}}, "pictures"),
        ({"files": {"like": ("a.png", b"x")}}, "like: this is a file"),
    ],
)
def test_fields_that_do_not_fit_are_named(unchanged: TestClient, sent: dict[str, Any], named: str) -> None:
    answer = unchanged.post("/api/search", **sent)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert named in answer.json()["message"]


def test_another_content_type_is_415(client: TestClient) -> None:
    answer = client.post("/api/search", content=b"<q/>", headers={"content-type": "text/xml"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


# --- images -----------------------------------------------------------------------------------------------------------


def test_upload_is_registered_and_found_at_once(client: TestClient) -> None:
    data = draw_image_bytes("#123456")
    answer = client.post("/api/images", files={"picture": ("夕焼け.png", data)})
    assert answer.status_code == 201
    image = answer.json()["image"]
    assert (image["file_name"], image["file_path"]) == ("夕焼け.png", None)
    assert client.get(f"/{image['original']}").content == data
    assert client.get(f"/{image['preview']}").headers["content-type"] == "image/webp"
    again = client.post("/api/images", files={"picture": ("other.png", data)})
    assert (again.status_code, again.json()["is_new"]) == (200, False)
    assert again.json()["image"]["image_id"] == image["image_id"]


@pytest.mark.parametrize(
    "data", [b"", b"no picture", draw_image_bytes("red")[:60], draw_image_bytes("red", (2000, 600))]
)
def test_upload_that_is_no_image_is_refused_by_name(client: TestClient, data: bytes) -> None:
    answer = client.post("/api/images", files={"picture": ("bad.png", data)})
    assert (answer.status_code, answer.json()["code"]) == (422, "unreadable_image")
    assert "bad.png" in answer.json()["message"]


def test_image_is_described_with_its_texts(client: TestClient, searcher: Searcher) -> None:
    searcher.store.set_text(1, ImageText(description="狐", keywords=("雪",)))
    facts = client.get("/api/images/1").json()
    assert facts["text"] == {"description": "狐", "keywords": ["雪"]}
    assert facts["registered"].endswith("Z")
    assert client.get("/api/images/1/tags").json()[0]["english"] == "red"


def test_fields_that_are_edited_at_once_are_all_kept(client: TestClient) -> None:
    for number in range(10):
        changes = [{"rating": number % 5}, {"description": f"said {number}"}, {"keywords": [f"word {number}"]}]
        with ThreadPoolExecutor(len(changes)) as pool:
            assert {answer.status_code for answer in pool.map(partial(send_edits, client), changes)} == {200}
        assert client.get("/api/images/3").json()["edits"] == {name: e[name] for e in changes for name in e}


def send_edits(client: TestClient, edits: dict[str, Any]) -> Any:
    return client.patch("/api/images/3", json=edits)


def test_deleting_moves_to_the_trash_and_restoring_brings_all_of_it_back(
    client: TestClient, searcher: Searcher
) -> None:
    searcher.store.set_edits(3, Edits(description="mine", rating=5))
    before = client.get("/api/images/3").json()
    assert client.delete("/api/images/3").status_code == 204
    assert client.delete("/api/images/3").status_code == 404
    assert client.get("/api/status").json()["trash_count"] == 1
    assert "blue.png" not in list_names(client.post("/api/search", json={"text": "blue"}))
    trash = client.get("/api/trash").json()
    assert (trash["total"], trash["has_more"], trash["images"][0]["image_id"]) == (1, False, 3)
    assert trash["images"][0]["deleted_at"].endswith("Z") and trash["images"][0]["trash_reason"] == "deleted"
    assert client.get("/api/images/3/preview").status_code == 200  # the trash can be looked at
    assert client.post("/api/images/3/restore").json() == before
    assert client.post("/api/images/3/restore").status_code == 404
    assert list_names(client.post("/api/search", json={"text": "blue"}))[0] == "blue.png"


@pytest.mark.parametrize("by", ["permanent", "emptied"])
def test_image_deleted_for_good_is_gone_remembered_and_forgotten(client: TestClient, by: str) -> None:
    sha256 = hashlib.sha256(client.get("/api/images/3/original").content).hexdigest()
    if by == "permanent":
        assert client.delete("/api/images/3", params={"permanent": True}).status_code == 204
    else:
        client.delete("/api/images/3")
        assert client.delete("/api/trash").json() == {"count": 1}
    for address in ("/api/images/3", "/api/images/3/preview", "/api/images/3/original", "/api/images/3/tags"):
        answer = client.get(address)
        assert (answer.status_code, answer.json()["code"]) == (404, "image_not_found")
    assert client.delete("/api/images/3", params={"permanent": True}).status_code == 404
    assert [image["content_sha256"] for image in client.get("/api/deleted").json()] == [sha256]
    assert client.get("/api/deleted", params={"after": sha256}).json() == []
    assert client.delete("/api/deleted", params={"content_sha256": "0" * 64}).json() == {"count": 0}
    assert client.delete("/api/deleted").json() == {"count": 1}


def test_image_that_was_deleted_is_restored_by_sending_it_again(client: TestClient) -> None:
    data = client.get("/api/images/3/original").content
    client.delete("/api/images/3")
    answer = client.post("/api/images", files={"picture": ("blue.png", data)})
    assert answer.status_code == 201
    facts = answer.json()
    assert (facts["is_new"], facts["was_restored"], facts["image"]["image_id"]) == (True, True, 3)


def test_edits_win_field_by_field_and_null_is_back_to_what_the_file_says(
    client: TestClient, searcher: Searcher
) -> None:
    searcher.store.set_text(1, ImageText(description="of the file", keywords=("a", "b"), rating=2))
    keywords = ["Paris, France", "猫、犬;", *(f"keyword {number}" for number in range(1500))]
    facts = client.patch("/api/images/1", json={"keywords": keywords}).json()
    assert (facts["description"], facts["keywords"], facts["rating"]) == ("of the file", keywords, 2)
    facts = client.patch("/api/images/1", json={"description": "", "rating": 0}).json()
    assert (facts["description"], facts["keywords"], facts["rating"]) == (None, keywords, 0)
    assert facts["edits"] == {"description": "", "keywords": keywords, "rating": 0}
    assert facts["text"] == {"description": "of the file", "keywords": ["a", "b"], "rating": 2}
    facts = client.patch("/api/images/1", json={"keywords": None, "description": None}).json()
    assert (facts["description"], facts["keywords"], facts["edits"]) == ("of the file", ["a", "b"], {"rating": 0})
    assert client.patch("/api/images/1", json={}).json() == facts
    assert client.patch("/api/images/1", json={"rating": 6}).status_code == 422
    assert client.patch("/api/images/1", json={"keyword": []}).status_code == 422
    assert client.patch("/api/images/99", json={"rating": 1}).status_code == 404
    blank = client.patch("/api/images/1", json={"keywords": [" ", "\u3000", "sea"]}).json()
    assert (blank["keywords"], blank["edits"]["keywords"]) == (["sea"], ["sea"])


def test_path_that_is_no_text_is_spelt_out(client: TestClient, searcher: Searcher) -> None:
    searcher.store.set_path(1, "/photos/caf\udce9.png", 10, 1)
    facts = client.get("/api/images/1").json()
    assert (facts["file_path"], facts["paths"]) == ("/photos/caf\\udce9.png", ["/photos/caf\\udce9.png"])


def test_ratings_and_cameras_are_filters(client: TestClient, searcher: Searcher) -> None:
    searcher.store.set_text(2, ImageText(camera="NIKON D90", rating=3))
    searcher.store.set_edits(4, Edits(rating=5))
    assert list_names(client.post("/api/search", json={"camera": "NIKON D90"})) == ["green.png"]
    assert list_names(client.post("/api/search", json={"min_rating": 4})) == ["yellow.png"]
    assert client.post("/api/search", json={"min_rating": 0}).json()["total"] == len(COLOURS)
    assert client.post("/api/search", json={"kind": "frame"}).json()["total"] == 0


def test_status_counts(client: TestClient) -> None:
    status = client.get("/api/status").json()
    assert status["image_count"] == 10
    assert status["models"][0]["embeddings"] == 10


# --- faults -----------------------------------------------------------------------------------------------------------


def test_database_that_is_away_is_503_and_says_when_to_come_back() -> None:
    client = open_client(build_small(Searcher(AwayStore(), FakeEncoder())))
    answers = [client.post("/api/search"), client.get("/api/status"), client.get("/api/images/1")]
    for answer in [*answers, client.delete("/api/images/1"), client.get("/api/images/1/original")]:
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (TextNotSupported("pictures only"), 422, "text_not_supported"),
        (SchemaError("another dimension"), 409, "model_mismatch"),
        (StoreFull("the disk is full"), 507, "database_full"),
    ],
)
def test_every_error_has_a_status_a_code_and_its_sentence(
    searcher: Searcher, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, code: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(searcher, "plan", fail)
    answer = open_client(build_small(searcher)).post("/api/search", json={"text": "x"})
    assert answer.status_code == status
    assert answer.json() == {"code": code, "message": str(error)}


def test_unforeseen_error_is_500_without_its_text(searcher: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret path /home/me")

    monkeypatch.setattr(searcher, "plan", fail)
    answer = open_client(build_small(searcher), raise_server_exceptions=False).post("/api/search", json={"text": "x"})
    assert (answer.status_code, answer.json()["code"]) == (500, "failed")
    assert "secret" not in answer.text


def test_method_that_is_not_there_is_told_which_are(client: TestClient) -> None:
    answer = client.request("OPTIONS", "/api/images/1")
    assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET, PATCH")


def test_unknown_address_or_method_is_a_problem_too(client: TestClient) -> None:
    assert client.get("/api/nothing").json()["code"] == "not_found"
    assert client.get("/api/images/1%0A/preview").json()["code"] == "not_found"
    assert client.put("/api/status").json()["code"] == "method_not_allowed"
    assert client.get("/api/images/x").json()["code"] == "invalid_request"


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "named", ["{etag}", "W/{etag}", '"another", {etag}', 'W/"another" , W/{etag}', " {etag} ", "*"]
)
@pytest.mark.parametrize("path", ["preview", "original", "preview?v={version}"])
def test_image_that_if_none_match_names_is_not_sent_again(unchanged: TestClient, named: str, path: str) -> None:
    etag = unchanged.get("/api/images/1/preview").headers["etag"]
    address = f"/api/images/1/{path}".format(version=etag.strip('"'))
    answer = unchanged.get(address, headers={"If-None-Match": named.format(etag=etag)})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    other = named.replace("{etag}", '"another"').replace("*", etag.strip('"'))
    assert unchanged.get(address, headers={"If-None-Match": other}).status_code == 200
    assert unchanged.get("/api/images/99/preview?v=1", headers={"If-None-Match": "*"}).status_code == 404


def test_body_that_is_too_long_is_refused_before_it_is_read(client: TestClient) -> None:
    answer = client.post("/api/search", content=b"{}", headers={"content-length": str(2**21)})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")

    def send_without_length() -> Iterator[bytes]:
        for _ in range(33):
            yield b" " * 2**15

    answer = client.post("/api/search", content=send_without_length(), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_another_computer_may_call_so_often_and_then_waits(searcher: Searcher) -> None:
    app = build_small(searcher, Settings(app_host="0.0.0.0", app_insecure=True, app_rate_limit=1))
    distant = TestClient(app, base_url="http://192.0.2.1", client=("192.0.2.7", 1))
    answers = [distant.get("/api/status") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[-1].json()["code"] == "too_many_requests"
    assert int(answers[-1].headers["retry-after"]) > 0
    assert TestClient(app, base_url="http://192.0.2.1", client=("192.0.2.8", 1)).get("/api/status").status_code == 200
    near = open_client(app)
    assert {near.get("/api/status").status_code for _ in range(20)} == {200}


# --- documentation ----------------------------------------------------------------------------------------------------


def test_documentation_needs_no_other_computer(client: TestClient) -> None:
    page = client.get("/api/docs").text
    assert "openapi.json" in page
    assert "http://" not in page and "https://" not in page


def test_every_operation_is_documented_with_its_problems(client: TestClient) -> None:
    described = client.get("/api/openapi.json").json()
    operations = {(method, path) for path, methods in described["paths"].items() for method in methods}
    assert operations == {
        ("post", "/search"), ("get", "/images/{image_id}"), ("delete", "/images/{image_id}"), ("post", "/images"),
        ("patch", "/images/{image_id}"), ("post", "/images/{image_id}/restore"),
        ("get", "/trash"), ("delete", "/trash"), ("get", "/deleted"), ("delete", "/deleted"),
        ("get", "/images/{image_id}/tags"), ("get", "/images/{image_id}/preview"),
        ("get", "/images/{image_id}/original"), ("get", "/images/{image_id}/film"),
            ("get", "/status"), ("post", "/extract"),
    }  # fmt: skip
    for methods in described["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert operation["responses"]["503"]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorOut")
