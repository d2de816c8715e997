"""Milvus for the tests: the server of MILVUS_TEST_URL, or Milvus Lite in a folder of the test's own."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from milvus_lite.adapter.grpc.server import start_server_in_thread
from pymilvus import MilvusClient

from image_search.settings import Settings
from image_search.stores.milvus.client import WRITERS

_numbers = itertools.count(1)

url = os.environ.get("MILVUS_TEST_URL", "").rstrip("/")  # milvus://host:19530, without a database


def make_library(folder: Path) -> Settings:
    """An empty library with its originals in a folder: a database of its own on the server, or a folder beside."""
    if not url:
        return Settings(database_url=f"milvus:///{folder.with_suffix('.db')}", originals_url=str(folder))
    name = f"library_{os.getpid()}_{next(_numbers)}"
    client = _connect()
    client.create_database(name)
    client.close()
    return Settings(database_url=f"{url}/{name}", originals_url=str(folder))


def remove_library(settings: Settings) -> None:
    """Remove what make_library made."""
    if not url:
        shutil.rmtree(settings.database_url.removeprefix("milvus:///"), ignore_errors=True)
        return
    name = settings.database_url.rpartition("/")[2]
    client = _connect(name)
    for collection in client.list_collections():
        client.drop_collection(collection)
    client.close()
    client = _connect()
    client.drop_database(name)
    client.close()


def release(settings: Settings) -> None:
    """As if the lock of a program that was killed had run out; Milvus Lite's goes with its program."""
    if url:
        client = _connect(settings.database_url.rpartition("/")[2])
        client.delete(WRITERS, filter="number >= 0")
        client.close()


@contextmanager
def connected(settings: Settings) -> Iterator[Any]:
    """A client of a library that no store has open."""
    if url:
        client = _connect(settings.database_url.rpartition("/")[2])
        yield client
        client.close()
        return
    with served(Path(settings.database_url.removeprefix("milvus:///"))) as address:
        client = MilvusClient(address.replace("milvus://", "http://"), dedicated=True)
        yield client
        client.close()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The URL of a server, as other programs would have it; Milvus Lite's own."""
    server, database, port = start_server_in_thread(str(folder), host="127.0.0.1", port=0)
    yield f"milvus://127.0.0.1:{port}"
    server.stop(grace=1).wait()
    database.close()


def _connect(database: str = "") -> Any:
    return MilvusClient(url.replace("milvus://", "http://"), db_name=database, dedicated=True)
