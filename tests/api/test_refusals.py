"""Bodies, fields, parameters and addresses that the REST face does not take: each is refused in a sentence."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.fakes import draw_image_bytes

JPEG, FORM = draw_image_bytes("#123456"), "application/x-www-form-urlencoded"


def ask(client: TestClient, method: str, path: str, **sent: Any) -> tuple[int, str, str]:
    """Status, code and message."""
    answer = client.request(method, path, **sent)
    assert set(answer.json()) == {"code", "message"}, answer.text
    return answer.status_code, answer.json()["code"], answer.json()["message"]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"files": [("picture", ("a.png", JPEG)), ("picture", ("b.png", JPEG))]}, "picture: one file at a time"),
        ({"files": {"picture": ("a.png", JPEG)}, "data": {"rating": "5"}}, "rating: no such field"),
        ({"files": {"file": ("a.png", JPEG)}}, "file: no such field"),
        ({"files": {"picture": ("a.png", JPEG)}, "data": {"picture": "b.png"}}, "picture is text; send a file"),
        ({"data": {"picture": "query.jpg"}}, "picture is text; send a file: -F picture=@query.jpg"),
        ({"data": {"picture": ""}}, "picture: no file was sent"),
        ({"files": {"picture": ("a.png", JPEG)}, "params": {"rating": 5}}, "rating in the address is not read"),
    ],
)
def test_registration_takes_one_picture_and_nothing_else(
    unchanged: TestClient, sent: dict[str, Any], said: str
) -> None:
    status, code, message = ask(unchanged, "POST", "/api/images", **sent)
    assert (status, code) == (422, "invalid_request")
    assert said in message
    assert unchanged.get("/api/status").json()["image_count"] == 10


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"files": [("picture", ("a.png", JPEG)), ("picture", ("b.png", JPEG))]}, "picture: one file at a time"),
        ({"data": {"picture": "query.jpg"}}, "fit: picture is text; send a file: -F picture=@query.jpg. See"),
        ({"data": {"text": ["cat", "dog"]}}, "text: sent more than once"),
        ({"params": {"text": "cat"}}, 'text in the address is not read; send a JSON body, such as {"text": "cat"}'),
        ({"json": {"after": "x"}}, "fit: after: it is not a token"),
        ({"json": {"after": "WyIyMDI0LTAxLTAxIiwxLDFd", "page": 2}}, "fit: after takes the place of page"),
    ],
)
def test_search_says_what_it_does_not_take(unchanged: TestClient, sent: dict[str, Any], said: str) -> None:
    status, code, message = ask(unchanged, "POST", "/api/search", **sent)
    assert (status, code) == (422, "invalid_request")
    assert said in message


@pytest.mark.parametrize(
    ("method", "path", "kind", "advice"),
    [
        ("PATCH", "/api/images/1", FORM, "Content-Type: application/json"),
        ("PATCH", "/api/images/1", None, "Content-Type: application/json"),
        ("POST", "/api/extract", "text/plain", "Content-Type: application/json"),
        ("POST", "/api/images", "image/png", "-F picture=@photo.jpg"),
        ("POST", "/api/images", "application/json", "-F picture=@photo.jpg"),
    ],
)
def test_content_type_that_is_not_read_is_415(
    unchanged: TestClient, method: str, path: str, kind: str | None, advice: str
) -> None:
    headers = {"Content-Type": kind} if kind else {}
    status, code, message = ask(unchanged, method, path, content=b'{"rating":5}', headers=headers)
    assert (status, code) == (415, "unsupported_media_type")
    assert advice in message


def test_json_of_any_kind_is_read_and_a_missing_or_broken_body_is_told(client: TestClient) -> None:
    sent = {"content": b'{"rating":5}', "headers": {"Content-Type": "application/merge-patch+json; charset=utf-8"}}
    assert client.patch("/api/images/1", **sent).json()["rating"] == 5
    assert "the body is missing; send JSON" in ask(client, "PATCH", "/api/images/1")[2]
    broken = {"content": b"{", "headers": {"Content-Type": "application/json"}}
    assert "fit: the body is not JSON (" in ask(client, "PATCH", "/api/images/1", **broken)[2]


def test_address_that_is_not_there_leads_to_the_list_of_those_that_are(unchanged: TestClient) -> None:
    for path in ("/api/", "/api/nothing", "/api/images/1/nothing"):
        assert ask(unchanged, "GET", path)[:2] == (404, "not_found")
        assert "/api/docs" in ask(unchanged, "GET", path)[2]
    assert "It takes: DELETE, GET, PATCH." in ask(unchanged, "PUT", "/api/images/1")[2]
