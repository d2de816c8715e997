"""Connections to Oracle Database: one pool a store, transactions, lost and silent connections.

A read is done again once when its connection was lost. A write is never done again after that: whether it was kept
may be unknown, and running the program again is safe (images are known by their hash). A write that met another writer
was rolled back as a whole and is done again from the beginning, a few times.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import oracledb

from image_search.errors import SettingsError, StoreUnavailable
from image_search.settings import Settings
from image_search.stores.oracle.messages import OracleError, describe, get_code, is_clash, is_lost, no_answer

T = TypeVar("T")
Row = tuple[Any, ...]
Binds = Mapping[str, object]

POOL_SIZE = 4  # searches of several people at once; more than the database's processors would only wait there
_ATTEMPTS = 4
_LOGIN_SECONDS = 30.0  # until a host that accepts connections and stays silent is given up
_SILENT_SECONDS = 60.0  # that such a host is then not asked again, because each try leaves a thread waiting
_WAIT_MS = 20_000  # for a connection of the pool
_CLOSE_SECONDS = 5.0
_CALL_TIMEOUT_MS = 60_000  # a round trip: an exact scan of a million embeddings takes a few seconds
_ROWS_OF_A_ROUND_TRIP = 1000  # the driver's own 100 are ten waits for a list of hashes
_MAX_IN_LIST = 1000  # Oracle's limit before 23ai
_IN_LIST_SIZES = (1, 16, 128, _MAX_IN_LIST)


class Session:
    """One connection for the length of one piece of work. Raises what the driver raises."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    @property
    def version(self) -> tuple[int, ...]:
        """23.26.1.0.0 as numbers."""
        return tuple(int(part) for part in self.connection.version.split("."))

    def query(self, sql: str, binds: Binds | None = None) -> list[Row]:
        """All rows; CLOB and BLOB columns as str and bytes, so that no row costs a round trip of its own."""
        with self.connection.cursor() as cursor:
            cursor.arraysize = cursor.prefetchrows = _ROWS_OF_A_ROUND_TRIP
            _set_types(cursor, binds)
            cursor.execute(sql, dict(binds or {}), fetch_lobs=False)
            rows: list[Row] = cursor.fetchall()
        return rows

    def query_chunks(
        self, write_sql: Callable[[str], str], values: Sequence[object], binds: Binds | None = None
    ) -> Iterable[Row]:
        """Rows of a query whose IN list holds the values; write_sql is given the list and returns the statement."""
        for names, chunk in _cut_in_lists(values):
            yield from self.query(write_sql(names), {**(binds or {}), **chunk})

    def execute_chunks(
        self, write_sql: Callable[[str], str], values: Sequence[object], binds: Binds | None = None
    ) -> int:
        """The same for a statement that changes rows. Returns how many."""
        return sum(self.execute(write_sql(names), {**(binds or {}), **chunk}) for names, chunk in _cut_in_lists(values))

    def execute(self, sql: str, binds: Binds | None = None, types: Binds | None = None) -> int:
        """Run a statement. Returns how many rows it changed. types: bind types the values do not show (NULLs)."""
        with self.connection.cursor() as cursor:
            _set_types(cursor, binds, types)
            cursor.execute(sql, dict(binds or {}))
            return int(cursor.rowcount)

    def execute_many(self, sql: str, rows: Sequence[Binds]) -> int:
        """Run a statement once for every row of binds, in one round trip. Returns how many rows it changed."""
        if not rows:
            return 0
        with self.connection.cursor() as cursor:
            cursor.executemany(sql, [dict(row) for row in rows])
            return int(cursor.rowcount)

    def insert(self, sql: str, binds: Binds, returning: str, types: Binds | None = None) -> int:
        """Insert one row and return the number its RETURNING clause binds."""
        with self.connection.cursor() as cursor:
            number = cursor.var(oracledb.DB_TYPE_NUMBER)
            _set_types(cursor, binds, types)
            cursor.execute(sql, {**binds, returning: number})
            return int(number.getvalue()[0])


class Connections:
    """The pool of a store. Opens connections on first use; safe to use from several threads."""

    def __init__(self, settings: Settings, check: Callable[[Session], None]) -> None:
        """check: called before the first work is done, until it raises nothing."""
        self._settings = settings
        self._check = check
        self._is_checked = False
        self._lock = threading.Lock()
        self._pool: Any = None
        self._silent_until = 0.0

    def read(self, work: Callable[[Session], T]) -> T:
        """Returns the result of work. Raises StoreError."""
        for is_again in (False, True):
            connection = None
            try:
                connection = self._acquire(is_checked=is_again)
                return self._do(work, connection)
            except OracleError as error:
                if is_again or not (connection and is_lost(error)):
                    raise describe(error) from error
            finally:
                _release(connection)
        raise AssertionError("unreachable")

    def write(self, work: Callable[[Session], T]) -> T:
        """Returns the result of work, after a commit; everything is rolled back when it raises. Raises StoreError.

        work may be called several times, each time in a new transaction.
        """
        for attempt in range(_ATTEMPTS):
            connection = None
            try:
                connection = self._acquire(is_checked=True)
                result = self._do(work, connection)
            except OracleError as error:
                if not is_clash(error) or attempt == _ATTEMPTS - 1:
                    raise _describe_write(error, connection) from error
            else:
                _commit(connection)
                return result
            finally:
                _release(connection)  # which rolls back what failed
            time.sleep(random.uniform(0.02, 0.1) * (attempt + 1))  # so that two writers do not meet again
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close all connections, or give up after some seconds. A later call opens new ones."""
        if not self._lock.acquire(timeout=_CLOSE_SECONDS):  # a login waits for a silent host
            return
        pool, self._pool = self._pool, None
        self._lock.release()
        if pool is not None:
            closing = threading.Thread(target=_close_pool, args=[pool], name="close", daemon=True)
            closing.start()
            closing.join(_CLOSE_SECONDS)  # the driver waits for a connection that it is opening

    def _do(self, work: Callable[[Session], T], connection: Any) -> T:
        session = Session(connection)
        if not self._is_checked:
            self._check(session)
            self._is_checked = True
        return work(session)

    def _get_pool(self) -> Any:
        with self._lock:
            if self._pool is None:
                if time.monotonic() < self._silent_until:
                    raise no_answer(_LOGIN_SECONDS)
                _load_client(self._settings)
                try:
                    # The pool's own thread would wait for a silent host forever, and the program for that thread.
                    _release(_log_in(self._settings))
                except StoreUnavailable:
                    self._silent_until = time.monotonic() + _SILENT_SECONDS
                    raise
                self._pool = oracledb.create_pool(
                    **list_parameters(self._settings),
                    min=0,
                    max=POOL_SIZE,
                    increment=1,
                    getmode=oracledb.POOL_GETMODE_TIMEDWAIT,
                    wait_timeout=_WAIT_MS,
                    ping_interval=60,
                    session_callback=_prepare_session,
                )
            return self._pool

    def _acquire(self, is_checked: bool) -> Any:
        """A connection. is_checked: one that has just answered, whatever the pool still believes to be alive."""
        pool = self._get_pool()
        connection = _take(pool)
        for _ in range(POOL_SIZE if is_checked else 0):
            try:
                connection.ping()
                break
            except OracleError:
                pool.drop(connection)
                connection = _take(pool)
        return connection


def _take(pool: Any) -> Any:
    try:
        return pool.acquire()
    except oracledb.Error as error:
        if get_code(error) == "DPY-4005" and not pool.opened:  # nothing is busy
            raise no_answer(_WAIT_MS / 1000) from error
        raise


def _close_pool(pool: Any) -> None:
    with suppress(*OracleError):
        pool.close(force=True)


def _log_in(settings: Settings) -> Any:
    """A connection of its own. Raises OracleError, and StoreUnavailable for a host that stays silent.

    The driver's own time limit ends with the TCP connection, so that it waits in a thread that no program waits for.
    """
    parameters = list_parameters(settings)
    outcome: Future[Any] = Future()

    def log_in() -> None:
        try:
            connection = oracledb.connect(**parameters)
        except BaseException as error:
            with suppress(InvalidStateError):
                outcome.set_exception(error)
            return
        try:
            outcome.set_result(connection)
        except InvalidStateError:  # too late
            _release(connection)

    threading.Thread(target=log_in, name="login", daemon=True).start()
    wait([outcome], _LOGIN_SECONDS)
    if outcome.cancel():
        raise no_answer(_LOGIN_SECONDS)
    return outcome.result()


@contextmanager
def connect(settings: Settings) -> Iterator[Session]:
    """A connection of its own without a time limit, for work on the schema. Raises StoreError.

    Uncommitted changes are rolled back at the end.
    """
    connection = None
    try:
        _load_client(settings)
        connection = _log_in(settings)
        yield Session(connection)
    except OracleError as error:
        raise describe(error) from error
    finally:
        _release(connection)


def _prepare_session(connection: Any, _: str) -> None:
    connection.call_timeout = _CALL_TIMEOUT_MS
    with connection.cursor() as cursor:  # texts compare and sort by their bytes, whatever the language of the server
        cursor.execute("ALTER SESSION SET NLS_COMP = BINARY NLS_SORT = BINARY")


def _load_client(settings: Settings) -> None:
    """Oracle's client libraries, where DB_CLIENT_LIB_DIR names them: only they speak native network encryption."""
    if settings.db_client_lib_dir:
        config_dir = settings.db_config_dir or settings.db_wallet_location or None
        oracledb.init_oracle_client(lib_dir=settings.db_client_lib_dir, config_dir=config_dir)  # again does nothing


def list_parameters(settings: Settings) -> dict[str, Any]:
    """Arguments of the driver's connect. Raises SettingsError for a wallet that is not there."""
    parameters: dict[str, Any] = {
        "user": settings.db_user,
        "password": settings.db_password,
        "dsn": settings.db_dsn,
        "tcp_connect_timeout": 10.0,
        "expire_time": 1,  # minutes until a host that has gone is asked whether it is there
        "program": "image-search",  # how administrators tell our sessions from others
    }
    if settings.db_wallet_location:
        folder = Path(settings.db_wallet_location)
        if not (folder / "ewallet.pem").is_file():
            raise SettingsError(
                f"DB_WALLET_LOCATION is {folder}, which holds no ewallet.pem. "
                "Unpack the wallet there, or leave the setting empty."
            )
        parameters["wallet_location"] = str(folder)
        parameters["wallet_password"] = settings.db_wallet_password or None
    config_dir = settings.db_config_dir or settings.db_wallet_location  # a wallet comes with its tnsnames.ora
    if config_dir:
        parameters["config_dir"] = config_dir
    return parameters


def _cut_in_lists(values: Sequence[object]) -> Iterator[tuple[str, dict[str, object]]]:
    # Lists come in a few lengths only, filled up with their last value, so that the database knows the statement.
    for start in range(0, len(values), _MAX_IN_LIST):
        chunk = list(values[start : start + _MAX_IN_LIST])
        size = next(size for size in _IN_LIST_SIZES if size >= len(chunk))
        chunk += [chunk[-1]] * (size - len(chunk))
        binds = {f"value_{number}": value for number, value in enumerate(chunk)}
        yield ", ".join(f":{name}" for name in binds), binds


def _set_types(cursor: Any, binds: Binds | None, types: Binds | None = None) -> None:
    # The driver binds a datetime as DATE, which has no fractions of a second.
    times = {name: oracledb.DB_TYPE_TIMESTAMP for name, value in (binds or {}).items() if isinstance(value, datetime)}
    if times or types:
        cursor.setinputsizes(**times, **(types or {}))


def _commit(connection: Any) -> None:
    try:
        connection.commit()
    except OracleError as error:
        if not is_lost(error):
            raise describe(error) from error
        raise StoreUnavailable(
            "The connection to Oracle Database was lost while saving, so it is not certain whether the last change was "
            "kept. Run again when the database is back: nothing is stored twice."
        ) from error


def _describe_write(error: Exception, connection: Any) -> Exception:
    described = describe(error)
    if connection is not None and is_lost(error):
        return StoreUnavailable(f"{described} Nothing of the last change was kept.")
    return described


def _release(connection: Any) -> None:
    if connection is not None:
        with suppress(*OracleError):
            connection.close()  # back into the pool, or closed; what is not committed is rolled back
