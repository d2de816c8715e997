"""The password opens every address, and without it no address answers."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from image_search.errors import SettingsError
from image_search.library import Warmup
from image_search.search import Searcher
from image_search.settings import ROOT, Settings
from image_search.web.app import build_application, check_bind_address
from image_search.web.auth import COOKIE, PasswordAuthMiddleware
from image_search.web.middleware import TokenBucketLimiter
from tests.fakes.api_library import open_colours

PASSWORD = "開け ゴマ:1"
BASIC = {"Authorization": "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()}
BEARER = {"Authorization": f"Bearer {PASSWORD}".encode()}
BROWSER = {"Accept": "text/html,*/*", "Sec-Fetch-Mode": "navigate"}

# Page, what the page loads, images, Gradio's addresses, REST and its documents, tools, and what is nowhere.
EVERYWHERE = [
    ("GET", "/"), ("GET", "/config"), ("GET", "/theme.css"), ("GET", "/assets/index.js"), ("GET", "/images/1/preview"),
    ("GET", "/images/1/original"), ("GET", "/gradio_api/info"), ("POST", "/gradio_api/run/search"),
    ("POST", "/gradio_api/call/search"), ("POST", "/gradio_api/queue/join"), ("GET", "/gradio_api/queue/data"),
    ("POST", "/gradio_api/upload"), ("GET", "/gradio_api/file=/tmp/gradio/x.png"), ("GET", "/gradio_api/heartbeat/x"),
    ("GET", "/gradio_api/app_id"), ("POST", "/gradio_api/reset"), ("POST", "/api/search"), ("GET", "/api/images/1"),
    ("GET", "/api/images/1/original"), ("DELETE", "/api/images/1"), ("POST", "/api/images"), ("GET", "/api/status"),
    ("GET", "/api/docs"), ("GET", "/api/openapi.json"), ("POST", "/mcp"), ("GET", "/nowhere"), ("GET", "//api/status"),
]  # fmt: skip


@pytest.fixture(scope="module")
def searcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searcher]:
    with open_colours(tmp_path_factory.mktemp("library"), 2) as searcher:
        yield searcher


@pytest.fixture(scope="module")
def app(searcher: Searcher) -> ASGIApp:
    settings = Settings(app_password=PASSWORD, app_mcp=True)
    return build_application(settings, searcher, Warmup(searcher))


@pytest.fixture
def client(app: ASGIApp) -> TestClient:
    return TestClient(app, base_url="http://localhost", follow_redirects=False)


@pytest.mark.parametrize(("method", "path"), EVERYWHERE)
def test_request_without_the_password_is_401(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 401
    assert answer.json()["code"] == "password_needed"
    assert answer.headers["www-authenticate"].startswith("Basic")


@pytest.mark.parametrize("headers", [BASIC, BEARER])
def test_program_sends_the_password_with_every_request(client: TestClient, headers: dict[str, str | bytes]) -> None:
    for address in ("/", "/images/1/preview", "/api/status", "/gradio_api/info"):
        assert client.get(address, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "value", ["Basic", "Basic ???", "Basic bWU6", "Bearer", "Bearer x", "Digest a", "Basic /////w=="]
)
def test_wrong_password_is_401(value: str) -> None:
    fresh = TestClient(_stand_alone(), base_url="http://localhost")
    assert fresh.get("/", headers={"Authorization": value}).status_code == 401


def test_browser_is_shown_the_login_page_and_then_the_page_it_wanted(client: TestClient) -> None:
    refused = client.get("/api/docs?x=1", headers=BROWSER)
    assert refused.status_code == 303
    assert refused.headers["location"] == "../login?next=%2Fapi%2Fdocs%3Fx%3D1"
    page = client.get("/login?next=%2Fapi%2Fdocs%3Fx%3D1", headers=BROWSER)
    assert "Password" in page.text and "パスワード" not in page.text
    assert 'value="/api/docs?x=1"' in page.text
    form = {"password": PASSWORD, "next": "/api/docs?x=1"}
    answer = client.post("/login", data=form, headers={**BROWSER, "Origin": "http://localhost"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/api/docs?x=1")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert client.get("/api/docs").status_code == 200
    assert client.get("/logout").status_code == 303
    assert client.get("/api/docs").status_code == 401


def test_cookie_of_https_is_secure(app: ASGIApp) -> None:
    answer = TestClient(app, base_url="https://localhost").post("/login", data={"password": PASSWORD})
    assert "; secure" in answer.headers["set-cookie"].lower()


@pytest.mark.parametrize("place", ["https://evil.example/", "//evil.example", "/\\evil.example", "", "/a\r\nX: y"])
def test_login_leads_to_no_other_site(place: str) -> None:
    client = TestClient(_stand_alone(), base_url="http://localhost", follow_redirects=False)
    answer = client.post("/login", data={"password": PASSWORD, "next": place}, headers=BROWSER)
    assert answer.headers["location"] == "/"


def test_address_never_becomes_markup(client: TestClient) -> None:
    page = client.get("/login?next=%22%3E%3Cscript%3Ealert(1)%3C/script%3E", headers=BROWSER)
    assert "<script" not in page.text
    assert "script-src" not in page.headers["content-security-policy"]


def test_forged_or_expired_cookie_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    client = TestClient(_stand_alone(), base_url="http://localhost")
    client.post("/login", data={"password": PASSWORD})
    assert client.get("/").status_code == 200
    good = client.cookies[COOKIE]
    client.cookies.clear()
    for forged in (good[:-1], good + "a", "", ".", "9999999999.abc", "é"):
        assert client.get("/", headers={"Cookie": f"{COOKIE}={forged}".encode()}).status_code == 401
    assert client.get("/", headers={"Cookie": f"{COOKIE}={good}"}).status_code == 200
    later = time.time() + 31 * 24 * 3600
    monkeypatch.setattr("image_search.web.auth.time.time", lambda: later)
    assert client.get("/", headers={"Cookie": f"{COOKIE}={good}"}).status_code == 401


def test_logging_out_ends_the_session_for_every_copy_of_its_cookie() -> None:
    client = TestClient(_stand_alone(), base_url="http://localhost", follow_redirects=False)
    client.post("/login", data={"password": PASSWORD})
    copied = {"Cookie": f"{COOKIE}={client.cookies[COOKIE]}"}
    other = TestClient(client.app, base_url="http://localhost")
    other.post("/login", data={"password": PASSWORD})
    client.get("/logout")
    client.cookies.clear()
    assert client.get("/", headers=copied).status_code == 401
    assert other.get("/").status_code == 200


@pytest.mark.slow
def test_many_wrong_passwords_slow_down_their_client_and_no_session_nor_other_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("image_search.web.auth._GUESS_DELAY", 0.2)
    app = _stand_alone()
    inside = TestClient(app, base_url="http://localhost")
    inside.post("/login", data={"password": PASSWORD})
    start = time.monotonic()
    for address in range(40):  # of many computers, which together slow down no other client's right password
        thief = TestClient(app, base_url="http://localhost", client=(f"192.0.2.{address}", 1))
        for number in range(3):
            assert thief.get("/", headers={"Authorization": f"Bearer {number}"}).status_code == 401
    elsewhere = TestClient(app, base_url="http://localhost", client=("198.51.100.9", 1))
    assert elsewhere.get("/", headers=BEARER).status_code == 200
    thief = TestClient(app, base_url="http://localhost")
    tried = [thief.get("/", headers={"Authorization": f"Bearer {number}"}).status_code for number in range(7)]
    assert tried == [401] * 7 and time.monotonic() - start > 0.4  # the last two had to wait
    assert inside.get("/").status_code == 200
    assert thief.get("/", headers=BEARER).status_code == 200  # the right one waits, and gets in


@pytest.mark.slow
def test_no_more_than_a_few_passwords_of_one_client_wait_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("image_search.web.auth._GUESS_DELAY", 1.0)
    app = _stand_alone()
    for _ in range(5):
        app._guesses.spend("testclient")

    def guess(_: int) -> int:
        return TestClient(app, base_url="http://localhost").get("/", headers={"Authorization": "Bearer x"}).status_code

    with ThreadPoolExecutor(12) as pool:
        answers = sorted(pool.map(guess, range(12)))
    assert answers == [401] * 4 + [429] * 8


ODD_AUTHORIZATION = [b"Basic \xff\xfe", "Basic 開け".encode(), b"Basic YQ=\xe9", b"Bearer \xff", b"Basic =", b"\xe9"]


@pytest.mark.parametrize("value", ODD_AUTHORIZATION)
def test_authorization_of_any_bytes_is_401(value: bytes) -> None:
    client = TestClient(_stand_alone(), base_url="http://localhost")
    assert client.get("/", headers={"Authorization": value}).status_code == 401


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"x"), ("multipart/form-data; boundary=b", b"--b\r\nx"),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="password"\r\n\r\nx'),
        ("multipart/form-data; boundary=\xe9", b"--b"), ("application/x-www-form-urlencoded; charset=none", b"a=b"),
        ("application/json", b'{"password": 1}'), ("application/x-www-form-urlencoded", b"%ff%fe=%00&password=%ff"),
        ("", b"password=x"),
    ],
)  # fmt: skip
def test_odd_login_form_is_refused_without_a_traceback(kind: str, body: bytes) -> None:
    client = TestClient(_stand_alone(), base_url="http://localhost")
    answer = client.post("/login", content=body, headers={"Content-Type": kind.encode("latin-1")})
    assert answer.status_code in (400, 401)
    with_file = client.post("/login", files={"password": ("p", b"x"), "q": ("q", b"x")})
    assert with_file.status_code in (400, 401)


def test_buckets_fill_again_and_forget_the_longest_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    buckets = TokenBucketLimiter(2, 0.5, clock=lambda: now[0])
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 2]
    assert buckets.take("b") == 0
    now[0] = 2.0
    assert [buckets.take("a"), buckets.take("a")] == [0, 2]
    monkeypatch.setattr("image_search.web.middleware._MAX_KEYS", 3)
    for name in "cdefg":
        buckets.take(name)
    assert len(buckets._levels) == 3


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.9.1"])
def test_this_computer_alone_needs_no_password(host: str) -> None:
    assert check_bind_address(Settings(app_host=host)) == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "pictures.example"])
def test_other_computers_are_not_served_without_a_password(host: str) -> None:
    with pytest.raises(SettingsError, match=r"APP_PASSWORD.*APP_INSECURE=1"):
        check_bind_address(Settings(app_host=host))
    assert check_bind_address(Settings(app_host=host, app_password=PASSWORD)) == ""
    assert "without a password" in check_bind_address(Settings(app_host=host, app_insecure=True))


@pytest.mark.slow
def test_program_does_not_start_where_strangers_could_come_in() -> None:
    command = [sys.executable, str(ROOT / "ImageSearch.py")]
    environment = {**os.environ, "APP_HOST": "0.0.0.0", "APP_PASSWORD": "", "APP_INSECURE": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "APP_PASSWORD" in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


def test_password_is_in_no_repr() -> None:
    settings = Settings(app_password=PASSWORD)
    assert PASSWORD not in repr(settings)
    assert PASSWORD not in repr(PasswordAuthMiddleware(_stand_alone(), PASSWORD).__dict__)


def _stand_alone() -> PasswordAuthMiddleware:
    """The login in front of one word, on a day when the clock stands still."""
    login = PasswordAuthMiddleware(Starlette(routes=[Route("/", lambda _: PlainTextResponse("in"))]), PASSWORD)
    login._guesses = TokenBucketLimiter(5, 0.1, clock=lambda: 0.0)
    return login
