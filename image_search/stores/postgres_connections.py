"""Connections to one PostgreSQL database for many threads, and what its refusals mean to a person."""

from __future__ import annotations

import selectors
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from pgvector.psycopg import register_vector
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from image_search.errors import ImageNotFound, SettingsError, StoreError, StoreFull, StoreUnavailable
from image_search.stores.postgres_schema import prepare_database

Connection = psycopg.Connection[tuple[Any, ...]]

_IDLE_CONNECTIONS = 8
_LOCK = "SELECT pg_advisory_xact_lock(1768780645)"  # "imse"; one writer at a time, as originals.py asks
# The last three matter only where somebody made an HNSW index: scan on until enough rows pass the filter.
_SESSION = """
SET lock_timeout = '60s';
SET idle_in_transaction_session_timeout = '10min';
SET hnsw.iterative_scan = strict_order;
SET hnsw.ef_search = 200;
SET hnsw.max_scan_tuples = 1000000;
"""


class Connections:
    """Lends connections to one database. It is reached, and its tables are made if it is new, when first needed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.location = _describe(url)
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._prepared = False
        self._closed = False

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection without a transaction: each query by itself sees one state of the library."""
        with self._borrowed() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection inside a write transaction, the only one anywhere; committed when the block ends well."""
        with self._borrowed() as connection, connection.transaction():
            connection.execute(_LOCK)
            yield connection

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def _borrowed(self) -> Iterator[Connection]:
        try:
            connection = self._take() or self._connect()
            try:
                yield connection
            finally:
                self._give_back(connection)
        except psycopg.Error as error:
            raise explain_error(error, self.location) from error

    def _take(self) -> Connection | None:
        with self._lock:
            if self._closed:
                raise StoreError(f"{self.location} was closed by this program.")
            while self._idle:
                connection = self._idle.pop()
                if not _was_ended(connection):
                    return connection
                connection.close()
        return None

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            is_sound = connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
            if not self._closed and len(self._idle) < _IDLE_CONNECTIONS and is_sound:
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self) -> Connection:
        # Statements are not prepared on the server: poolers between here and there may not keep them.
        connection = psycopg.connect(
            self._url, autocommit=True, prepare_threshold=None, connect_timeout=10, client_encoding="utf8"
        )
        try:
            connection.execute(_SESSION)
            if not self._prepared:
                prepare_database(connection, _LOCK, self.location)
                self._prepared = True
            register_vector(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def _was_ended(connection: Connection) -> bool:
    # The server says nothing to an idle connection but good-bye, for example when it is restarted.
    with selectors.DefaultSelector() as selector:
        selector.register(connection.fileno(), selectors.EVENT_READ)
        return bool(selector.select(timeout=0))


def explain_error(error: psycopg.Error, location: str) -> StoreError:
    """What went wrong in one sentence, with the database and what to do. No password is in it."""
    reason = str(error).strip().partition("\n")[0]
    if isinstance(error, errors.DiskFull):
        return StoreFull(f"The disk of {location} is full. Nothing of this batch was kept; free some space, run again.")
    if isinstance(error, errors.NumericValueOutOfRange):
        return ImageNotFound(f"No image has a number that large ({reason}).")
    if isinstance(error, errors.InsufficientPrivilege | errors.ReadOnlySqlTransaction):
        return StoreError(f"{location} does not let this user do that ({reason}). Check the user in DATABASE_URL.")
    if isinstance(error, errors.LockNotAvailable | errors.DeadlockDetected | errors.QueryCanceled):
        return StoreUnavailable(f"{location} is held by another program. Try again when it has finished.")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return StoreUnavailable(f"{location} cannot be reached just now ({reason}). Check the server and DATABASE_URL.")
    return StoreError(f"{location} refused: {reason}.")


def _describe(url: str) -> str:
    """The place a URL names, without its secrets. Raises SettingsError when it is not one."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        raise SettingsError(
            "DATABASE_URL cannot be read. Write postgresql://user:password@host:5432/database, with special "
            "characters of the password as %40 for @, %2F for / and so on."
        ) from None  # the driver's words may hold the password
    place = str(parts.get("host") or "localhost") + (f":{parts['port']}" if parts.get("port") else "")
    return f"postgresql://{place}/{parts.get('dbname') or parts.get('user') or ''}"
