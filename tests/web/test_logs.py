"""The server's log: failed and slow requests, one line each, nothing private and no control characters."""

from __future__ import annotations

import asyncio
import io
import logging
import signal

import pytest
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from image_search.web import middleware
from image_search.web.middleware import RequestLogMiddleware
from image_search.web.server import BoundedProtocol, RepeatFilter, SafeFormatter, Server


async def answer(request: Request) -> Response:
    match request.path_params["what"]:
        case "error":
            raise RuntimeError("forged\n2026-01-01 INFO image_search: all is well\x1b[2J")
        case "cancelled":
            raise asyncio.CancelledError
        case "busy":
            return PlainTextResponse("", 503)
        case "slow":
            await asyncio.sleep(0.05)
    return PlainTextResponse("ok")


@pytest.fixture
def client() -> TestClient:
    return TestClient(RequestLogMiddleware(Starlette(routes=[Route("/{what}", answer)])))


def test_failed_request_is_logged_with_its_traceback_and_answered(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    failed = client.get("/error?q=private")
    assert failed.status_code == 500
    assert "GET /error failed" in caplog.text and "RuntimeError" in caplog.text
    assert "private" not in caplog.text


def test_request_that_the_end_of_the_program_cuts_off_is_answered_without_a_traceback(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    cut_off = client.get("/cancelled")
    assert cut_off.status_code == 503 and cut_off.headers["Retry-After"]
    assert "Traceback" not in caplog.text


def test_server_that_is_told_twice_to_end_ends_its_application_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "max_connections", 1)
    server = Server(Starlette(), lambda: None)
    for _ in range(2):
        server.stop(signal.SIGINT, None)
    assert server.should_exit and not server.force_exit  # else uvicorn cancels the application, and logs a traceback


def test_traceback_of_one_failure_is_logged_once_a_minute(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        client.get("/error")
    assert caplog.text.count("Traceback") == 1
    assert caplog.text.count("GET /error failed again (RuntimeError)") == 2


def test_busy_and_slow_requests_are_warnings_and_good_ones_are_not_logged(
    client: TestClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.get("/fine")
    assert caplog.records == []
    client.get("/busy")
    monkeypatch.setattr(middleware, "_SLOW_SECONDS", 0.02)
    client.get("/slow?q=private")
    assert [(record.levelname, record.getMessage().split(" after ")[0]) for record in caplog.records] == [
        ("WARNING", "testclient GET /busy: 503"),
        ("WARNING", caplog.records[1].getMessage().split(" after ")[0]),
    ]
    assert "GET /slow was slow" in caplog.text and "private" not in caplog.text


def test_caller_cannot_forge_lines_or_write_escape_sequences() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(SafeFormatter("%(levelname)s %(name)s: %(message)s"))
    record = logging.LogRecord("image_search", logging.INFO, "", 1, "GET /%s", ("a\nINFO b\x1b[2J\u202e\x07",), None)
    handler.handle(record)
    assert stream.getvalue() == "INFO image_search: GET /a\\nINFO b\\x1b[2J\\u202e\\x07\n"


def test_condition_that_lasts_is_logged_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("image_search.web.server.time.monotonic", lambda: now[0])
    repeats = RepeatFilter()
    record = logging.LogRecord("asyncio", logging.ERROR, "", 1, "out of files", (), None)
    assert [repeats.filter(record) for _ in range(3)] == [True, False, False]
    now[0] = 61
    assert repeats.filter(record)
