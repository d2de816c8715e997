"""Attacks: paths, addresses, bombs, markup, query languages, other sites' pages. A test for each."""

from __future__ import annotations

import io
import json
import struct
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image, PngImagePlugin
from starlette.types import ASGIApp

from image_search.library import Warmup
from image_search.search import Searcher
from image_search.settings import ROOT, Settings
from image_search.web.app import build_application
from tests.fakes import COLOURS, draw_image_bytes
from tests.fakes.api_library import open_client, open_colours

FILE_MARK = {"meta": {"_type": "gradio.FileData"}}
NASTY = "<img src=x onerror=alert(1)>';--.png"


@pytest.fixture(scope="module")
def searcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searcher]:
    with open_colours(tmp_path_factory.mktemp("library")) as searcher:
        yield searcher


@pytest.fixture(scope="module")
def app(searcher: Searcher) -> ASGIApp:
    return build_application(Settings(app_mcp=True, max_image_pixels=10**6), searcher, Warmup(searcher))


@pytest.fixture(scope="module")
def client(app: ASGIApp) -> Iterator[TestClient]:
    with open_client(app) as client:  # with its lifespan: Gradio and the tools start in it
        yield client


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """An image of the server that was not uploaded."""
    path = tmp_path / "secret.png"
    path.write_bytes(draw_image_bytes("#010203"))
    return path


# --- files of the server ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/images/..%2f..%2fetc%2fpasswd/original", "/images/1%00/original", "/api/images/../../etc/passwd",
        "/api/images/%2e%2e/original", "/gradio_api/file=/etc/passwd", "/gradio_api/file=../../etc/passwd",
        f"/gradio_api/file={ROOT}/.env.example", f"/gradio_api/file={ROOT}/image_search/settings.py",
        "/gradio_api/file//etc/passwd", "/static/../../../../etc/passwd", "/assets/..%2f..%2f..%2fetc%2fpasswd",
        "/svelte/..%2f..%2f..%2fetc%2fpasswd", "/custom_component/1/client/component/..%2f..%2fetc%2fpasswd",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_library(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in (400, 403, 404, 422), answer.text[:200]
    assert "root:" not in answer.text and "APP_PASSWORD" not in answer.text


@pytest.mark.parametrize("mark", [FILE_MARK, {}])
def test_caller_cannot_name_a_file_of_the_server_as_an_upload(
    client: TestClient, searcher: Searcher, secret: Path, mark: dict[str, Any]
) -> None:
    count = searcher.store.count_images()
    file = {"path": str(secret), "orig_name": "x.png", **mark}
    for endpoint, data in (("register", [file]), ("search", ["", file, "", 0, 1, 16, None])):
        assert client.post(f"/gradio_api/run/{endpoint}", json={"data": data}).status_code == 500
    assert searcher.store.count_images() == count


def test_event_of_the_page_takes_no_file_that_was_not_uploaded(
    client: TestClient, searcher: Searcher, secret: Path
) -> None:
    answer = call_page(client, {"path": str(secret), "orig_name": "x.png", **FILE_MARK})
    assert answer.status_code == 500
    assert searcher.store.count_images() == len(COLOURS)


def test_upload_can_be_searched_with_and_registered(client: TestClient) -> None:
    [path] = client.post("/gradio_api/upload", files={"files": ("q.png", draw_image_bytes("blue"))}).json()
    answer = client.post("/gradio_api/run/search", json={"data": ["", {"path": path, **FILE_MARK}, "", 0, 1, 16, None]})
    assert answer.json()["data"][0]["hits"][0]["image"]["file_name"] == "blue.png"
    [registered] = client.post("/gradio_api/run/register", json={"data": [{"path": path, **FILE_MARK}]}).json()["data"]
    assert registered["is_new"] is False


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """Another server on this computer, and the requests it got."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(draw_image_bytes("red"))

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/picture.png", asked
    server.shutdown()
    server.server_close()


def test_no_address_is_fetched_whichever_way_it_is_sent(
    client: TestClient, listener: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fetch(url: str, **_: object) -> str:
        asked.append(url)
        raise OSError("fetched")

    address, asked = listener
    # Gradio itself refuses addresses of private networks only: here every attempt counts.
    monkeypatch.setattr("gradio.processing_utils.async_ssrf_protected_download", fetch)
    monkeypatch.setattr("gradio.routes.secure_url_stream_response", fetch)
    for url in (address, "https://pictures.example/a.png", "file:///etc/passwd", "ftp://localhost/a.png"):
        for file in ({"path": url, **FILE_MARK}, {"path": url}, {"url": url, "path": "", **FILE_MARK}):
            refused = client.post("/gradio_api/run/register", json={"data": [file]})
            assert refused.status_code == 500
            assert client.post("/gradio_api/run/search", json={"data": [file, None, "", 0, 1, 16, None]}).is_error
            assert call_page(client, file).is_error
        assert client.get(f"/gradio_api/file={url}").status_code in (403, 404)
        assert client.get(f"/gradio_api/proxy={url}").status_code == 404
        assert client.post("/api/search", json={"picture": url}).status_code == 422
        assert client.post("/api/search", data={"picture": url}).status_code == 422
        assert client.post("/api/images", data={"picture": url}).status_code == 422
        tool = call_tool(client, "search_images", {"picture": url})
        assert tool["isError"] and "Base64" in tool["content"][0]["text"]
    assert asked == []


# --- bombs ------------------------------------------------------------------------------------------------------------


def make_png_bomb() -> bytes:
    """An image that says it has 2,500,000,000 pixels, in a few hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 10_000))
        + chunk(b"IEND", b"")
    )


def make_text_bomb() -> bytes:
    """A small image with a text of twenty million letters, compressed."""
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a" * 2 * 10**7, zip=True)
    target = io.BytesIO()
    Image.new("RGB", (8, 8)).save(target, "PNG", pnginfo=info)
    return target.getvalue()


def test_image_that_unpacks_to_billions_of_pixels_is_refused(client: TestClient) -> None:
    for address in ("/api/images", "/api/search"):
        answer = client.post(address, files={"picture": ("bomb.png", make_png_bomb())})
        assert (answer.status_code, answer.json()["code"]) == (422, "unreadable_image")
        assert "MAX_IMAGE_PIXELS" in answer.json()["message"]


@pytest.mark.slow
def test_text_that_unpacks_to_twenty_megabytes_is_not_kept(client: TestClient) -> None:
    answer = client.post("/api/images", files={"picture": ("bomb.png", make_text_bomb())})
    assert answer.status_code in (201, 422)
    assert len(answer.content) < 2**20
    if answer.status_code == 201:
        client.delete(f"/api/images/{answer.json()['image']['image_id']}")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
def test_compressed_body_is_not_unpacked(client: TestClient, encoding: str) -> None:
    body = zlib.compress(b" " * 10**7)
    headers = {"content-type": "application/json", "content-encoding": encoding}
    assert client.post("/api/search", content=body, headers=headers).status_code == 422


@pytest.mark.parametrize("path", ["/api/search", "/gradio_api/queue/join", "/mcp", "/api/images", "/login"])
def test_body_that_says_it_is_enormous_is_refused_unread(client: TestClient, path: str) -> None:
    answer = client.post(path, content=b"{}", headers={"content-length": str(10**12)})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_film_from_the_page_may_be_larger_than_an_image_and_the_limit_says_what_to_do(client: TestClient) -> None:
    def send(path: str, size: int) -> tuple[int, str]:
        answer = client.post(path, content=b"", headers={"content-length": str(size)})
        return answer.status_code, answer.text

    place = f"/ui/library/uploads/{'0' * 32}/0"
    assert send(place, 500 * 2**20)[0] != 413
    for path, size in ((place, 5 * 2**30), ("/api/images", 500 * 2**20)):
        status, text = send(path, size)
        assert status == 413 and "register_images.py FOLDER" in text
    assert send("/ui/library/uploads", 500 * 2**20)[0] == 413


# --- markup -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def nasty_image(client: TestClient) -> Iterator[dict[str, Any]]:
    """An image whose name is markup."""
    answer = client.post("/api/images", files={"picture": (NASTY, draw_image_bytes("#111111"))})
    yield answer.json()["image"]
    client.delete(f"/api/images/{answer.json()['image']['image_id']}")


def test_names_and_prompts_that_are_markup_stay_words(client: TestClient, nasty_image: dict[str, Any]) -> None:
    image = nasty_image
    answer = client.get(f"/api/images/{image['image_id']}")
    assert answer.headers["content-type"] == "application/json"
    assert image["file_name"] == NASTY
    for address in (image["preview"], image["original"]):
        picture = client.get(f"/{address}")
        assert picture.headers["content-type"] in ("image/webp", "image/png")
        assert picture.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in picture.headers["content-security-policy"]
        assert "\n" not in picture.headers.get("content-disposition", "")
    facts = client.get(f"/ui/images/{image['image_id']}").json()["html"]
    assert "<img src=x" not in facts
    assert "&lt;img src=x onerror" in facts


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
        ("a.html", b"<script>alert(1)</script>"),
    ],
)
def test_upload_never_acts_as_a_page(client: TestClient, name: str, data: bytes) -> None:
    [path] = client.post("/gradio_api/upload", files={"files": (name, data)}).json()
    call_page(client, {"path": path, **FILE_MARK})  # Gradio once took what an event names for its own
    answer = client.get(f"/gradio_api/file={path}")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.post("/api/images", files={"picture": (name, data)}).status_code == 422


# --- query languages --------------------------------------------------------------------------------------------------

INJECTIONS = [
    "'; DROP TABLE images; --", '" OR 1=1 --', "x' UNION SELECT original FROM images --", "%", "_", "*", "a* OR b",
    "NEAR(a b)", '"', "fuzzy((a,b))", "{a} AND {b}", "$1", ":1", "\\", "a:b", "@image_id:[0 100]", "{!lucene}x",
    "../../etc/passwd", "${jndi:ldap://localhost/a}", "{{7*7}}", "\x00", "\u202e", "%s%n", "-", '-"',
]  # fmt: skip


@pytest.mark.parametrize("text", INJECTIONS)
def test_words_are_only_ever_words(client: TestClient, searcher: Searcher, text: str) -> None:
    for field in ("text", "exclude", "keyword", "folder", "generator", "generation_model"):
        content = json.dumps({field: text})
        answer = client.post("/api/search", content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 200, answer.text
        if field not in ("text", "exclude"):
            assert answer.json()["total"] == 0
    assert searcher.store.count_images() == len(COLOURS)


@pytest.mark.parametrize("path", ["/api/images/1 OR 1=1", "/api/images/1;DROP TABLE images", "/images/1'/preview"])
def test_id_is_only_ever_a_number(client: TestClient, path: str) -> None:
    assert client.get(path).status_code in (404, 422)
    assert client.delete(path).status_code in (404, 405, 422)


# --- other sites ------------------------------------------------------------------------------------------------------

CHANGES = [("DELETE", "/api/images/1"), ("POST", "/api/images"), ("POST", "/api/search"), ("POST", "/mcp"),
           ("POST", "/gradio_api/run/register"), ("POST", "/gradio_api/queue/join"), ("POST", "/gradio_api/upload"),
           ("POST", "/login")]  # fmt: skip


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://localhost:1234"},
     {"Origin": "http://localhost.evil.example"}, {"Origin": "http://["}, {"Origin": ""},
     {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}],
)  # fmt: skip
def test_page_of_another_site_changes_nothing(client: TestClient, searcher: Searcher, headers: dict[str, str]) -> None:
    for method, path in CHANGES:
        answer = client.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "cross_site"), path
    assert searcher.store.count_images() == len(COLOURS)


def test_page_itself_may(client: TestClient) -> None:
    headers = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/api/search", headers=headers).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8899", "localhost.evil.example", "192.0.2.1", ""])
def test_name_that_was_made_to_point_here_is_refused(client: TestClient, host: str) -> None:
    for path in ("/", "/api/status", "/images/1/original", "/gradio_api/info", "/mcp"):
        answer = client.get(path, headers={"Host": host})
        assert (answer.status_code, answer.json()["code"]) == (421, "wrong_host")


def test_names_of_a_reverse_proxy_are_served_when_they_are_set(searcher: Searcher) -> None:
    from tests.fakes.api_library import build_small

    app = build_small(searcher, Settings(app_allowed_hosts="Pictures.example, other.example"))
    for host, origin, status in (
        ("pictures.example", "https://pictures.example", 200),
        ("127.0.0.1:8899", "https://pictures.example", 200),  # the proxy hands on its own Host
        ("pictures.example", "https://evil.example", 403),
        ("evil.example", "https://evil.example", 421),
    ):
        answer = open_client(app).post("/api/search", headers={"Host": host, "Origin": origin})
        assert answer.status_code == status


def test_page_cannot_be_framed(client: TestClient) -> None:
    assert client.get("/").headers["x-frame-options"] == "SAMEORIGIN"


# --- calling ----------------------------------------------------------------------------------------------------------


def call_page(client: TestClient, picture: Any) -> Any:
    """Call the event of the page itself that takes the query image, as its script would."""
    config = client.get("/config").json()
    kinds = {item["id"]: item["type"] for item in config["components"]}
    event = next(event for event in config["dependencies"] if "image" in [kinds[item] for item in event["inputs"]])
    data = [picture if kinds[item] == "image" else None for item in event["inputs"]]
    body = {"data": data, "fn_index": event["id"], "session_hash": "test", "event_data": None}
    return client.post("/gradio_api/run/predict", json=body)


def call_tool(client: TestClient, name: str, arguments: dict[str, Any]) -> Any:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
    headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-06-18"}
    return client.post("/mcp", json=call, headers=headers).json()["result"]
