"""Nothing leaves this machine because of a request: every call of the operating system's network is watched."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from image_search.library import Warmup
from image_search.settings import Settings
from image_search.web.app import build_application
from tests.fakes import draw_image_bytes
from tests.fakes.api_library import open_client, open_colours

ADDRESSES = (
    "http://127.0.0.1:9/a.png", "http://93.184.216.34/a.png", "https://pictures.example/a.png", "http://[::1]:9/a.png",
    "https://huggingface.co/a.png", "ftp://localhost/a.png", "file:///etc/passwd", "http://user@localhost/a.png",
)  # fmt: skip
FILE_MARK = {"meta": {"_type": "gradio.FileData"}}
SESSION = "opened"
_NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"}
_watching: list[list[str]] = []


def _note(event: str, details: tuple[Any, ...]) -> None:
    if _watching and event in _NETWORK:
        _watching[-1].append(f"{event} {details[-1] if event == 'socket.connect' else details[0]}")


sys.addaudithook(_note)  # cannot be taken away again; it does nothing unless a test watches


@contextmanager
def watch_network() -> Iterator[list[str]]:
    """Record the network requests of this process, below every library of Python's."""
    _watching.append([])
    try:
        yield _watching[-1]
    finally:
        _watching.pop()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A program that has opened the page, and registered an image on it: Gradio then builds its components again."""
    with open_colours(tmp_path_factory.mktemp("library"), 3) as searcher:
        app = build_application(Settings(app_mcp=True), searcher, Warmup(searcher))
        with open_client(app) as client:
            for event in _list_events(client):
                if event["backend_fn"] and any(target[1] == "load" for target in event["targets"]):
                    assert _ask(client, event, [None, 1][: len(event["inputs"])]).status_code == 200
            [path] = client.post("/gradio_api/upload", files={"files": ("q.png", draw_image_bytes("lime"))}).json()
            for value in _call_events(client, {"path": path, "orig_name": "q.png", **FILE_MARK}):
                assert value.status_code == 200, value.text
            yield client


def _list_events(client: TestClient) -> list[dict[str, Any]]:
    return list(client.get("/config").json()["dependencies"])


def _ask(client: TestClient, event: dict[str, Any], data: list[Any]) -> Any:
    body = {"data": data, "fn_index": event["id"], "session_hash": SESSION, "event_data": {}}
    return client.post("/gradio_api/run/predict", json=body)


def _call_events(client: TestClient, file: dict[str, Any]) -> Iterator[Any]:
    """Every event of the page that takes a file, with one."""
    components = {item["id"]: item for item in client.get("/config").json()["components"]}
    values = {"image": file, "file": [file], "number": 10**9, "state": None}
    for event in _list_events(client):
        inputs = [components[item] for item in event["inputs"]]
        if {"image", "file"} & {item["type"] for item in inputs} and event["backend_fn"]:
            data = [values.get(item["type"], item["props"].get("value")) for item in inputs]
            yield _ask(client, event, data)


def test_watch_sees_what_leaves() -> None:
    async def connect() -> None:
        await asyncio.open_connection("127.0.0.1", 9)

    with watch_network() as asked, pytest.raises(ConnectionRefusedError):
        asyncio.run(connect())
    assert asked[-1] == "socket.connect ('127.0.0.1', 9)"


@pytest.mark.slow
@pytest.mark.parametrize("address", ADDRESSES)
def test_opened_page_fetches_no_address_and_asks_for_no_name(client: TestClient, address: str) -> None:
    files = ({"path": address}, {"url": address, "path": ""}, {"path": address, "is_stream": True})
    with watch_network() as asked:
        for file in files:
            for answer in _call_events(client, {**file, "orig_name": "x.png", **FILE_MARK}):
                assert "/tmp" not in answer.text
            for name, data in (("register", [file | FILE_MARK]), ("search", ["", file | FILE_MARK, "", 0, 1, 16, {}])):
                body = {"data": data, "session_hash": SESSION}
                assert client.post(f"/gradio_api/run/{name}", json=body).status_code == 500
        for path in ("file=", "file/", "proxy=", "process_recording?url=", "deep_link?session_hash="):
            client.get(f"/gradio_api/{path}{address}")
        for query in ("?deep_link=", "?picture=", "?like=", "?__theme=", "?view="):
            client.get(f"/{query}{address}")
    assert asked == []


@pytest.mark.usefixtures("client")
@pytest.mark.slow
def test_gradio_itself_can_fetch_nothing_any_more(tmp_path: Path) -> None:
    """Whatever way leads there in another version: the functions that fetch refuse."""
    from gradio import components, image_utils, processing_utils

    box = components.File()
    for address in ADDRESSES[:4]:
        with watch_network() as asked:
            for fetch in (
                lambda at=address: box.postprocess(at),
                lambda at=address: processing_utils.save_url_to_cache(at, str(tmp_path)),
                lambda at=address: processing_utils.unsafe_download(at, str(tmp_path)),
                lambda at=address: image_utils.extract_svg_content(at),
                lambda at=address: components.Image().move_resource_to_block_cache(at),
            ):
                with pytest.raises(Exception, match="not taken from an address"):
                    fetch()
        assert asked == []
