"""Connections to one PostgreSQL database for many threads, and the messages for its errors."""

from __future__ import annotations

import logging
import selectors
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from pgvector.psycopg import register_vector
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from image_search.errors import ImageNotFound, SettingsError, StoreError, StoreFull, StoreUnavailable
from image_search.stores.postgres.schema import Connection, prepare_database

_LOGGER = logging.getLogger(__name__)
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # it warns of every connection that a restart has ended

_MOST_CONNECTIONS = 16
_PATIENCE = 20.0  # seconds for a free connection
_LOCK = "SELECT pg_advisory_xact_lock(1768780645)"  # "imse"; one writer at a time, as originals.py asks
# The last three matter only where an administrator made an HNSW index: scan on until enough rows pass the filter.
_SESSION = """
SET lock_timeout = '60s';
SET idle_in_transaction_session_timeout = '10min';
SET hnsw.iterative_scan = strict_order;
SET hnsw.ef_search = 200;
SET hnsw.max_scan_tuples = 1000000;
"""


class Connections:
    """Lends connections to one database. It is reached, and its tables are made if it is new, when first needed."""

    def __init__(self, url: str, rewrite_texts: Callable[[Connection], None]) -> None:
        """rewrite_texts: writes what is derived from the texts of all images, when a library is migrated."""
        self._url = url
        self._rewrite_texts = rewrite_texts
        self.location = _describe(url)
        self._lock = threading.Lock()
        self._closed = False
        self._pool: ConnectionPool[Connection] | None = None

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
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    @contextmanager
    def _borrowed(self) -> Iterator[Connection]:
        try:
            with self._get_pool().connection() as connection:
                yield connection
        except PoolClosed as error:
            raise StoreError(f"{self.location} was closed by this program.") from error
        except psycopg.Error as error:
            raise explain_error(self._find_reason(error), self.location) from error

    def _get_pool(self) -> ConnectionPool[Connection]:
        with self._lock:
            if self._closed:
                raise PoolClosed
            if self._pool is None:
                self._prepare()
                self._pool = ConnectionPool(
                    self._url,
                    kwargs=_PARAMETERS,
                    min_size=0,
                    max_size=_MOST_CONNECTIONS,
                    timeout=_PATIENCE,
                    reconnect_timeout=0,
                    configure=_configure,
                    check=_refuse_ended,
                    open=True,
                )
            return self._pool

    def _prepare(self) -> None:
        with psycopg.connect(self._url, **_PARAMETERS) as connection:
            connection.execute(_SESSION)
            if prepare_database(connection, _LOCK, self.location, self._rewrite_texts):
                _LOGGER.warning("%s: migrated the library to schema 2", self.location)

    def _find_reason(self, error: psycopg.Error) -> psycopg.Error:
        """The pool says only that it waited; why it got no connection is said by the server."""
        if not isinstance(error, PoolTimeout):
            return error
        try:
            psycopg.connect(self._url, **_PARAMETERS).close()
        except psycopg.Error as reason:
            return reason
        return error


# Statements are not prepared on the server: poolers between here and there may not keep them.
_PARAMETERS: dict[str, Any] = {
    "autocommit": True,
    "prepare_threshold": None,
    "connect_timeout": 10,
    "client_encoding": "utf8",
}


def _configure(connection: Connection) -> None:
    connection.execute(_SESSION)
    register_vector(connection)


def _refuse_ended(connection: Connection) -> None:
    # The server says nothing to an idle connection but good-bye, for example when it is restarted.
    with selectors.DefaultSelector() as selector:
        selector.register(connection.fileno(), selectors.EVENT_READ)
        if selector.select(timeout=0):
            connection.close()  # the pool would offer it again
            raise psycopg.OperationalError("the connection was ended")


def explain_error(error: psycopg.Error, location: str) -> StoreError:
    """The error in one sentence, with the database and what to do. No password is in it."""
    reason = str(error).strip().partition("\n")[0]
    if isinstance(error, errors.DiskFull):
        return StoreFull(f"The disk of {location} is full. Nothing of this batch was kept; free some space, run again.")
    if isinstance(error, errors.NumericValueOutOfRange):
        return ImageNotFound(f"No image has a number that large ({reason}).")
    if isinstance(error, errors.InsufficientPrivilege | errors.ReadOnlySqlTransaction):
        return StoreError(f"{location} does not let this user do that ({reason}). Check the user in DATABASE_URL.")
    if isinstance(error, errors.LockNotAvailable | errors.DeadlockDetected | errors.QueryCanceled):
        return StoreUnavailable(f"{location} is held by another program. Try again when it has finished.")
    if isinstance(error, PoolTimeout):
        return StoreUnavailable(f"All connections to {location} are busy. Try again in a moment.")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return StoreUnavailable(f"{location} cannot be reached just now ({reason}). Check the server and DATABASE_URL.")
    return StoreError(f"{location} refused: {reason}.")


_UNREADABLE = (
    "DATABASE_URL cannot be read. Write postgresql://user:password@host:5432/database, with special "
    "characters of the password as %40 for @, %2F for / and so on."
)


def _describe(url: str) -> str:
    """The place a URL names, without its secrets. Raises SettingsError when it is not one."""
    # A second @, or one behind a slash, belongs to a password. The driver would make a host or a database of it: the
    # server would be blamed, and the rest of the password printed.
    authority, _, behind = url.partition("://")[2].partition("/")
    if authority.count("@") > 1 or "@" in behind:
        raise SettingsError(_UNREADABLE)
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        raise SettingsError(_UNREADABLE) from None  # the driver's words may hold the password
    host = str(parts.get("host") or "localhost") + (f":{parts['port']}" if parts.get("port") else "")
    return f"postgresql://{host}/{parts.get('dbname') or parts.get('user') or ''}"
