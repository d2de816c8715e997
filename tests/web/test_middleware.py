"""HEAD, Host, and what other sites may read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from starlette.types import ASGIApp

from image_search.library import Warmup
from image_search.search import Searcher
from image_search.settings import Settings
from image_search.web.app import build_application
from image_search.web.middleware import find_client
from tests.fakes.api_library import build_small, open_client, open_colours


@pytest.fixture(scope="module")
def searcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searcher]:
    with open_colours(tmp_path_factory.mktemp("library"), 2) as searcher:
        yield searcher


@pytest.fixture(scope="module")
def app(searcher: Searcher) -> ASGIApp:
    return build_application(Settings(), searcher, Warmup(searcher))


@pytest.mark.parametrize("path", ["/", "/images/1/preview", "/api/images/1/original", "/api/status", "/config"])
def test_head_is_answered_as_get_without_its_body(app: ASGIApp, path: str) -> None:
    client = open_client(app)
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"") == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


def test_head_of_an_endless_answer_ends(app: ASGIApp) -> None:
    assert open_client(app).head("/gradio_api/heartbeat/x").status_code == 200


@pytest.mark.parametrize("origin", ["http://localhost:1234", "http://127.0.0.1:80", "http://evil.example"])
def test_no_other_site_may_read_an_answer(app: ASGIApp, origin: str) -> None:
    client = open_client(app)
    preflight = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    for answer in (
        client.get("/config", headers={"Origin": origin}),
        client.options("/gradio_api/queue/join", headers=preflight),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    ("host", "status"),
    [("192.0.2.1:8899", 200), ("[2001:db8::1]:8899", 200), ("localhost", 200), ("evil.example", 421), ("", 421)],
)
def test_name_that_another_site_could_own_is_not_served_without_a_password(
    searcher: Searcher, host: str, status: int
) -> None:
    app = build_small(searcher, Settings(app_host="0.0.0.0", app_insecure=True))
    assert TestClient(app).get("/api/status", headers={"Host": host}).status_code == status


def test_client_of_ipv6_is_its_network() -> None:
    def find(address: str) -> str:
        return find_client({"type": "http", "client": (address, 1)})

    assert find("2001:db8::1") == find("2001:db8::ffff") != find("2001:db8:0:1::1")
    assert [find(address) for address in ("192.0.2.1", "::1", "testclient")] == ["192.0.2.1", "::1", "testclient"]


def test_json_without_its_type_and_a_file_for_a_word_are_refused(searcher: Searcher) -> None:
    client = open_client(build_small(searcher))
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = client.post("/api/search", content=b'{"text": "red"}', headers=form)
    assert answer.status_code == 415 and "application/json" in answer.json()["message"]
    answer = client.post("/api/search", files={"text": ("red.txt", b"red")})
    assert answer.status_code == 422 and "text: this is a file" in answer.json()["message"]


def test_method_that_is_not_there_names_those_that_are(searcher: Searcher) -> None:
    answer = open_client(build_small(searcher)).put("/api/images/1/preview")
    assert answer.status_code == 405 and "GET" in answer.headers["allow"]
