"""Connections to one Milvus, a server or the embedded Milvus Lite, and the messages for its errors."""

from __future__ import annotations

import atexit
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import grpc
import milvus_lite
from milvus_lite.adapter.grpc.server import start_server_in_thread
from milvus_lite.exceptions import DataDirLockedError
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException

from image_search.errors import SchemaError, SettingsError, StoreError, StoreUnavailable
from image_search.stores.reads import ReadWriteLock

# One writer at a time on a Milvus server, which has neither transactions nor locks.
#
# Lamport's bakery: every program that wants to write puts a row of its own into one collection, draws a number above
# those it finds there, and writes when no other has a lower one or is still drawing. No row is written by two programs,
# so it needs no more of the server than that it reads what was written. A row whose program was killed is removed by
# those that wait.

WRITERS = "image_search_writers"
_WAIT_SECONDS = 60.0
_PAUSE_SECONDS = 0.05
_DEAD_AFTER_SECONDS = 600  # a batch takes seconds; a program that has held the lock for so long was killed
_REFRESHED_AFTER_SECONDS = 60


@contextmanager
def writer_lock(client: Any, location: str) -> Iterator[Callable[[], None]]:
    """Holds the lock while the block runs. Raises StoreUnavailable when another program does not let go of it.

    Gives a function that raises StoreUnavailable when the lock was lost, for what must not be done then.
    """
    own, since = uuid.uuid4().hex, time.time()
    _make_writers(client)
    try:
        _put_writer(client, own, 0)
        number = 1 + max((row["number"] for row in _list_writers(client)), default=0)
        _put_writer(client, own, number)
        _wait_for_turn(client, location, own, number)

        def ensure_locked() -> None:
            nonlocal since
            if all(row["holder"] != own for row in _list_writers(client)):
                raise StoreUnavailable(f"{location} took too long, and another program writes now. Try again.")
            if time.time() - since > _REFRESHED_AFTER_SECONDS:
                since = time.time()
                _put_writer(client, own, number)

        yield ensure_locked
    finally:
        with suppress(MilvusException):
            client.delete(WRITERS, ids=[own])


def is_written(client: Any) -> bool:
    """Whether a program writes, or waits to."""
    return client.has_collection(WRITERS) and bool(_list_writers(client))


def _wait_for_turn(client: Any, location: str, own: str, number: int) -> None:
    until = time.monotonic() + _WAIT_SECONDS
    while True:
        others = [row for row in _list_writers(client) if row["holder"] != own]
        dead = [row["holder"] for row in others if time.time() - row["since"] > _DEAD_AFTER_SECONDS]
        if dead:
            client.delete(WRITERS, ids=dead)
        elif all(row["number"] > 0 and (number, own) < (row["number"], row["holder"]) for row in others):
            return
        if time.monotonic() > until:
            raise StoreUnavailable(f"{location} is held by another program. Try again when it has finished.")
        time.sleep(_PAUSE_SECONDS)


def _make_writers(client: Any) -> None:
    if not client.has_collection(WRITERS):
        schema = client.create_schema()
        schema.add_field("holder", DataType.VARCHAR, max_length=64, is_primary=True)
        for name in ("number", "since"):
            schema.add_field(name, DataType.INT64)
        schema.add_field("nothing", DataType.FLOAT_VECTOR, dim=2)
        with suppress(MilvusException):  # another program was quicker
            client.create_collection(WRITERS, schema=schema, consistency_level="Strong", num_shards=1)
        _index_writers(client)
    try:
        client.load_collection(WRITERS)
    except MilvusException:  # the quicker program has not made the index yet
        _index_writers(client)
        client.load_collection(WRITERS)


def _index_writers(client: Any) -> None:
    indexes = client.prepare_index_params()
    indexes.add_index("nothing", index_type="FLAT", metric_type="IP")
    with suppress(MilvusException):  # there is one
        client.create_index(WRITERS, indexes, sync=False)


def _put_writer(client: Any, holder: str, number: int) -> None:
    row = {"holder": holder, "number": number, "since": int(time.time()), "nothing": [0.0, 0.0]}
    client.upsert(WRITERS, [row])


def _list_writers(client: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = client.query(
        WRITERS, filter="number >= 0", output_fields=["holder", "number", "since"]
    )
    return rows


Confirm = Callable[[], None]

_LITE = "milvus:///"
_PORT = 19530
_CONNECT_SECONDS = 10

# The driver prints every refusal with its stack; this program raises them as sentences instead.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)


class _Embedded:
    """Milvus Lite serving one folder to this process. It does not order reads and writes by itself, so a lock does."""

    def __init__(self, path: Path) -> None:
        self.users = 0
        self.lock = ReadWriteLock()
        self._server, self._database, self.port = start_server_in_thread(str(path), host="127.0.0.1", port=0)

    def stop(self) -> None:
        self._server.stop(grace=1).wait()
        self._database.close()


_embedded: dict[Path, _Embedded] = {}
_opening = threading.Lock()
_writing: dict[str, threading.Lock] = {}  # by location: threads of this process queue here, not at the server


class Connections:
    """Lends a client of one library. It is reached, and prepared if it is new, when first needed."""

    def __init__(self, url: str, prepare: Callable[[Any, bool, Confirm], None]) -> None:
        """prepare: makes or checks the collections, as the only writer (writing).

        Given a client, whether it is Milvus Lite's, and the function that writing gives.
        """
        self._parts = _split(url)
        self.path = Path(os.path.expanduser(url.removeprefix(_LITE))).absolute() if url.startswith(_LITE) else None
        self.location = str(self.path) if self.path else _describe(self._parts)
        self._prepare = prepare
        self._client: Any = None
        self._lock: ReadWriteLock | None = None
        self._opening = threading.Lock()
        self._closed = False

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """A client; with Milvus Lite nothing is written meanwhile."""
        with self._explained():
            client = self._connect()
            with self._lock.reading() if self._lock else _no_lock():
                yield client

    @contextmanager
    def writing(self) -> Iterator[tuple[Any, Confirm]]:
        """A client of the only writer anywhere, and a function that raises when it is the only one no more."""
        with self._explained():
            client = self._connect()
            with self._only_writer(client) as ensure_locked:
                yield client, ensure_locked

    def close(self) -> None:
        with self._opening:
            self._closed = True
            client, self._client = self._client, None
            if client is None:
                return
            with suppress(MilvusException, grpc.RpcError):
                client.close()
            if self.path is not None:
                _leave(self.path)

    @contextmanager
    def _only_writer(self, client: Any) -> Iterator[Confirm]:
        if self._lock:
            with self._lock.writing():
                yield lambda: None
            return
        with _opening:
            queue = _writing.setdefault(self.location, threading.Lock())
        with queue, writer_lock(client, self.location) as ensure_locked:
            yield ensure_locked

    def _connect(self) -> Any:
        with self._opening:
            if self._closed:
                raise StoreError(f"{self.location} was closed by this program.")
            if self._client is None:
                self._client = self._open_folder(self.path) if self.path else self._open_server()
            return self._client

    def _open_folder(self, path: Path) -> Any:
        embedded = _enter(path)
        try:
            client = MilvusClient(f"http://127.0.0.1:{embedded.port}", dedicated=True)
            self._lock = embedded.lock
            with self._lock.writing():
                self._prepare(client, True, lambda: None)
        except BaseException:
            _leave(path)
            raise
        return client

    def _open_server(self) -> Any:
        host, port = self._parts.hostname or "localhost", self._parts.port or _PORT
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()  # the driver would try for minutes
        secure = parse_qs(self._parts.query).get("secure") == ["true"]
        client = MilvusClient(
            f"{'https' if secure else 'http'}://{host}:{port}",
            user=unquote(self._parts.username or ""),
            password=unquote(self._parts.password or ""),
            db_name=self._parts.path.strip("/"),
            timeout=_CONNECT_SECONDS,
            dedicated=True,
        )
        is_lite = str(client.get_server_version()).startswith("milvus_lite")
        with self._only_writer(client) as ensure_locked:
            self._prepare(client, is_lite, ensure_locked)
        return client

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except MilvusException as error:
            raise explain_error(error, self.location) from error
        except (OSError, grpc.RpcError) as error:
            raise StoreUnavailable(
                f"{self.location} cannot be reached just now ({error}). Check the server and DATABASE_URL."
            ) from error


def explain_error(error: MilvusException, location: str) -> StoreError:
    """The error in one sentence, with the address and what to do. No password is in it."""
    reason = str(error.message).strip().partition("\n")[0]
    words = reason.lower()
    if any(sign in words for sign in ("unavailable", "connect", "timeout", "deadline", "not ready")):
        return StoreUnavailable(f"{location} cannot be reached just now ({reason}). Check the server and DATABASE_URL.")
    if any(sign in words for sign in ("auth", "permission", "privilege")):
        return StoreError(f"{location} does not let this user do that ({reason}). Check the user in DATABASE_URL.")
    return StoreError(f"{location} refused: {reason}.")


def describe_engine(client: Any) -> str:
    """Name and version of what answers."""
    version = str(client.get_server_version())
    return f"Milvus Lite {milvus_lite.__version__}" if version.startswith("milvus_lite") else f"Milvus {version}"


def _enter(path: Path) -> _Embedded:
    with _opening:
        if path not in _embedded:
            _embedded[path] = _start(path)
        _embedded[path].users += 1
        return _embedded[path]


def _leave(path: Path) -> None:
    with _opening:
        embedded = _embedded[path]
        embedded.users -= 1
        if embedded.users == 0:
            _embedded.pop(path).stop()


def _start(path: Path) -> _Embedded:
    if not path.parent.is_dir():
        raise StoreUnavailable(f"The folder {path.parent} of DATABASE_URL is not there. Make it, or mount its disk.")
    if path.exists() and not (path.is_dir() and (not any(path.iterdir()) or (path / "collections").is_dir())):
        raise SchemaError(f"{path} is not a library of Milvus Lite 3. Name another place in DATABASE_URL.")
    try:
        return _Embedded(path)
    except DataDirLockedError as error:
        raise StoreUnavailable(
            f"{path} is held by another program, and Milvus Lite serves one at a time. End that program, or share the "
            "library: see Milvus in docs/engines.md."
        ) from error


@atexit.register
def _stop_all() -> None:
    for path in list(_embedded):
        _embedded.pop(path).stop()


@contextmanager
def _no_lock() -> Iterator[None]:
    yield


def _split(url: str) -> SplitResult:
    parts = None
    with suppress(ValueError):  # its own words would show the password
        if urlsplit(url).port != 0:
            parts = urlsplit(url)
    name = url.removeprefix(_LITE)
    if parts is None or (not parts.hostname and (not url.startswith(_LITE) or not name or name.endswith("/"))):
        raise SettingsError(
            "DATABASE_URL cannot be read. Write milvus://user:password@host:19530/database for a server (special "
            "characters of the password as %40 for @ and so on), or milvus:///data/library.db for Milvus Lite."
        )
    return parts


def _describe(parts: SplitResult) -> str:
    database = parts.path.strip("/")
    return f"milvus://{parts.hostname}:{parts.port or _PORT}" + (f"/{database}" if database else "")
