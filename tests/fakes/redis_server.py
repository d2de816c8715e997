"""A Redis server for the tests: the one of REDIS_TEST_URL, or a plain one started here behind a query engine.

Debian's Redis has no query engine; the one in front of it is tests/fakes/redis_search_stand_in.py.
"""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import redis

from image_search.settings import Settings
from tests.fakes.redis_search_stand_in import SearchStandIn

_numbers = itertools.count(1)


@cache
def find_server() -> str:
    """The URL of a server in which these tests may make and remove libraries."""
    return os.environ.get("REDIS_TEST_URL") or f"redis://127.0.0.1:{start_stand_in().server_address[1]}"


@cache
def start_stand_in() -> SearchStandIn:
    """The query engine that stands in, in front of the plain server."""
    return SearchStandIn(("127.0.0.1", start_plain_server()))


@cache
def start_plain_server() -> int:
    """The port of a Redis server without a query engine; it keeps nothing on disk and ends with this program."""
    program = shutil.which("redis-server")
    assert program, "Redis is not installed: apt install redis-server, or set REDIS_TEST_URL"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", tempfile.mkdtemp(prefix="redis")]
    server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    atexit.register(server.kill)
    client: Any = redis.Redis("127.0.0.1", port)
    while server.poll() is None:
        try:
            client.ping()
            return port
        except redis.RedisError:
            time.sleep(0.02)
    raise AssertionError("redis-server ended at once")


def make_library(folder: Path) -> Settings:
    """An empty library with its originals in a folder."""
    url = f"{find_server()}/0?library=test-{os.getpid()}-{next(_numbers)}"
    return Settings(database_url=url, originals_url=str(folder))


def connect(settings: Settings) -> tuple[Any, str]:
    """A client of the server itself, and the beginning of all keys of a library."""
    parts = urlsplit(settings.database_url)
    [library] = parse_qs(parts.query)["library"]
    return redis.Redis.from_url(f"{parts.scheme}://{parts.netloc}", protocol=2), library


def remove_library(settings: Settings) -> None:
    """Remove what make_library made."""
    client, library = connect(settings)
    with suppress(redis.ResponseError):  # no program has needed it
        client.execute_command("FT.DROPINDEX", f"{library}:index")
    keys = list(client.scan_iter(f"{library}:*", count=1000))
    if keys:
        client.delete(*keys)
    client.close()
