"""Clients that are silent, send heads without end or open many connections do not keep others from being served."""

from __future__ import annotations

import http.client
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from image_search.settings import ROOT
from image_search.web import server as server_module
from image_search.web.server import BoundedProtocol, Server, raise_file_limit
from tests.fakes import draw_image_bytes
from tests.fakes.browsing import find_free_port

pytestmark = pytest.mark.slow


async def answer(request: Request) -> Response:
    try:
        return PlainTextResponse(str(len(await request.body())))
    except ClientDisconnect:
        return Response()


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server with room for 20 connections that waits a second for a request."""
    monkeypatch.setattr(server_module, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(server_module, "BODY_SECONDS", 1.0)
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 20)
    started = threading.Event()
    monkeypatch.setattr(BoundedProtocol, "max_connections", 20)
    server = Server(Starlette(routes=[Route("/", answer, methods=["GET", "POST"])]), started.set)
    monkeypatch.setattr(server, "capture_signals", nullcontext)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        assert started.wait(20)
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(20)


@contextmanager
def connect(port: int, count: int, sent: bytes = b"") -> Iterator[list[socket.socket]]:
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    for each in sockets:
        each.sendall(sent)
    yield sockets
    for each in sockets:
        each.close()


def ask(port: int, path: str = "/") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read()


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(5)
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n", HEAD, HEAD + b"xxx"])
def test_client_that_falls_silent_is_disconnected(port: int, sent: bytes) -> None:
    with connect(port, 1, sent) as [silent]:
        assert is_closed(silent)
    assert ask(port) == (200, b"0")


def test_head_that_trickles_in_is_disconnected_and_a_body_that_trickles_in_is_taken(port: int) -> None:
    with connect(port, 2, b"POST / HTTP/1.1\r\nHost: localhost\r\n") as [head, body]:
        body.sendall(b"Content-Length: 5\r\n\r\n")
        for _ in range(5):
            time.sleep(0.5)
            body.sendall(b"x")
            with suppress(ConnectionError):
                head.sendall(b"X: y\r\n")
        assert is_closed(head)
        assert b"200 OK" in body.recv(4096)


def test_connection_between_two_requests_is_kept_but_not_one_that_begins_the_second_and_falls_silent(
    port: int,
) -> None:
    kept = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    kept.connect()
    assert kept.sock
    opened = kept.sock
    for pause in (0, 3):
        time.sleep(pause)
        kept.request("GET", "/")
        assert kept.getresponse().read() == b"0"
    assert kept.sock is opened
    opened.sendall(b"GET / HTTP/1.1\r\n")
    assert is_closed(opened)


@pytest.mark.parametrize("line", [b"X: aaaa\r\n", b"a" * 1000])
def test_head_without_end_is_refused_after_a_few_kilobytes(port: int, line: bytes) -> None:
    with connect(port, 1, b"GET / HTTP/1.1\r\nHost: localhost\r\n") as [endless]:
        sent = 0
        with suppress(ConnectionError):
            while sent < 2**23:
                endless.sendall(line * 100)
                sent += 100 * len(line)
        assert sent < 2**23
    assert ask(port) == (200, b"0")


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n", HEAD])
def test_silent_connections_give_way_for_a_new_one(port: int, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "HEAD_SECONDS", 600.0)
    monkeypatch.setattr(server_module, "BODY_SECONDS", 600.0)
    with connect(port, 100, sent):
        assert [ask(port)[0] for _ in range(5)] == [200] * 5


def test_limit_of_open_files_is_raised_and_bounds_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    limits, raised = (256, 4096), []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: raised.append(new))
    assert raise_file_limit() == 1000 and raised == [(4096, 4096)]
    limits = (64, 256)
    assert raise_file_limit() == 64 and raised[-1] == (256, 256)
    limits = (64, 64)
    assert raise_file_limit() == 8


def test_server_with_few_file_descriptors_neither_spins_nor_floods_its_log(tmp_path: Path) -> None:
    resource_limit = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96)); "
    program = tmp_path / "limited.py"
    program.write_text(
        resource_limit + f"sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['ImageSearch.py']; "
        f"runpy.run_path({str(ROOT / 'ImageSearch.py')!r}, run_name='__main__')"
    )
    port = find_free_port()
    environment = {"DATABASE_URL": f"sqlite:///{tmp_path}/library.db", "APP_PORT": str(port), "DEVICE": "cpu"}
    (tmp_path / "red.png").write_bytes(draw_image_bytes("red"))  # a new library would get the samples and read them
    register = [sys.executable, str(ROOT / "register_images.py"), str(tmp_path / "red.png")]
    subprocess.run(register, env={**os.environ, **environment}, check=True, capture_output=True)
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        server = subprocess.Popen(
            [sys.executable, str(program)],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
    try:
        assert server.stdout is not None and b"http" in server.stdout.readline()
        time.sleep(15)  # the model is loaded
        with connect(port, 80):
            time.sleep(1)
            before, size = read_cpu(server.pid), log.stat().st_size
            assert ask(port, "/api/status")[0] in (200, 503)
            time.sleep(5)
            assert read_cpu(server.pid) - before < 2.5
            assert log.stat().st_size - size < 20_000
        time.sleep(1)
        assert ask(port, "/api/status")[0] == 200
    finally:
        server.terminate()
        server.wait(20)


def read_cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
