"""Connections to Oracle Database: one pool a store, transactions, lost connections, and the messages for its errors.

A read is done again once when its connection was lost. A write is never done again after that: whether it was kept
may be unknown, and running the program again is safe (images are known by their hash). A write that met another writer
was rolled back as a whole and is done again from the beginning, a few times.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import oracledb

from image_search.errors import EmbeddingRefused, SchemaError, SettingsError, StoreError, StoreFull, StoreUnavailable
from image_search.settings import Settings

OracleError = (oracledb.Error, OSError)  # an unknown host is an OSError and not the driver's

T = TypeVar("T")
Row = tuple[Any, ...]
Binds = Mapping[str, object]

POOL_SIZE = 4  # searches of several people at once; more than the database's processors would only wait there
_ATTEMPTS = 4
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
        """Close all connections. A later call opens new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            with suppress(*OracleError):
                pool.close(force=True)

    def _do(self, work: Callable[[Session], T], connection: Any) -> T:
        session = Session(connection)
        if not self._is_checked:
            self._check(session)
            self._is_checked = True
        return work(session)

    def _get_pool(self) -> Any:
        with self._lock:
            if self._pool is None:
                _load_client(self._settings)
                self._pool = oracledb.create_pool(
                    **list_parameters(self._settings),
                    min=0,
                    max=POOL_SIZE,
                    increment=1,
                    getmode=oracledb.POOL_GETMODE_TIMEDWAIT,
                    wait_timeout=20_000,
                    ping_interval=60,
                    session_callback=_prepare_session,
                )
            return self._pool

    def _acquire(self, is_checked: bool) -> Any:
        """A connection. is_checked: one that has just answered, whatever the pool still believes to be alive."""
        pool = self._get_pool()
        connection = pool.acquire()
        for _ in range(POOL_SIZE if is_checked else 0):
            try:
                connection.ping()
                break
            except OracleError:
                pool.drop(connection)
                connection = pool.acquire()
        return connection


@contextmanager
def connect(settings: Settings) -> Iterator[Session]:
    """A connection of its own without a time limit, for work on the schema. Raises StoreError.

    Uncommitted changes are rolled back at the end.
    """
    connection = None
    try:
        _load_client(settings)
        connection = oracledb.connect(**list_parameters(settings))
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


# Messages for the errors of Oracle Database and its driver. Source of the codes: python-oracledb, errors.py.

_CREATE = "Run: python register_images.py --create-schema"
_CHECK = "python ImageSearch.py --check says more."
_INDEX = "Searching goes on without it."
_NO_SERVICE = (
    "The database server does not know the service in DB_DSN, or is still starting. Check the name after the port "
    "(FREEPDB1 on Oracle Free), or try again in a minute."
)
_WALLET = (
    "The encrypted connection to DB_DSN could not be made. For a wallet check DB_WALLET_LOCATION (the folder of "
    "ewallet.pem) and DB_WALLET_PASSWORD; for TLS without a wallet leave both empty."
)
_ENCRYPTION = (
    "The database server demands native network encryption, which only Oracle's client speaks. Set DB_CLIENT_LIB_DIR "
    "to the folder of Oracle Instant Client, or use a TCPS address in DB_DSN, or ask the administrator for "
    "SQLNET.ENCRYPTION_SERVER = ACCEPTED."
)
_ENDED = (
    "The server at DB_DSN answers and ends the connection before the login. It may demand native network encryption "
    "(set DB_CLIENT_LIB_DIR) or TLS (tcps:// in DB_DSN), or not be an Oracle listener. Check host and port."
)
_LOST = "The connection to Oracle Database was lost. Try again when it is back."

_BY_KIND: dict[type[StoreError], dict[str, str]] = {
    StoreUnavailable: {
        # reaching the database
        "DPY-6005": (
            "Oracle Database does not answer at DB_DSN. "
            "Check host and port, and that the database and its listener run."
        ),
        "DPY-6000": (
            "The listener at DB_DSN refuses connections: the database is starting, closed or full. "
            "Try again in a minute."
        ),
        "DPY-6001 ORA-12514": _NO_SERVICE,
        "DPY-6003 ORA-12505": "The database server does not know the SID in DB_DSN. Correct it.",
        "ORA-12506": (
            "The address of this computer is not in the access control list of the database. Add it there (Autonomous "
            "Database: Network, Access control list)."
        ),
        "ORA-12516 ORA-12518 ORA-12519 ORA-12520": (
            "The database has no free server process for a connection. Try again in a moment; if it stays, ask the "
            "administrator to raise PROCESSES."
        ),
        "ORA-12521": "The listener does not know the instance in DB_DSN. Correct its name.",
        "ORA-12526 ORA-12527 ORA-12528": (
            "The database is starting, stopping or restricted. Try again in a minute, or ask the administrator."
        ),
        "ORA-12660": _ENCRYPTION,
        "ORA-01033": "Oracle Database is starting or stopping. Try again in a minute.",
        "ORA-01034": "Oracle Database is not started. Ask the administrator to start it.",
        "ORA-01109": "The pluggable database is not open. Ask the administrator to open it.",
        "DPY-4027": "DB_DSN is an alias of tnsnames.ora. Set DB_CONFIG_DIR to the folder of that file.",
        "DPY-4026": "DB_CONFIG_DIR holds no tnsnames.ora. Correct it, or write host:port/service.",
        "DPY-4000": "The alias in DB_DSN is not in tnsnames.ora of DB_CONFIG_DIR. Correct one of them.",
        "DPY-4017": "DB_DSN is not a connect descriptor. Write host:1521/FREEPDB1 for example.",
        "DPY-4018": "DB_DSN cannot be read. Write host:1521/FREEPDB1 for example, without user.",
        "DPI-1047": (
            "Oracle's client libraries cannot be loaded from DB_CLIENT_LIB_DIR. Name the folder of Oracle Instant "
            "Client (Basic, for this processor), or leave the setting empty."
        ),
        "DPY-2019": "DB_CLIENT_LIB_DIR was set after this program had connected without it. Start the program again.",
        "DPY-3001": "DB_USER, DB_PASSWORD or DB_DSN asks for something that needs Oracle's client.",
        "DPY-3010": "The database is older than 12.1. Oracle Database 23ai or 26ai is needed.",
        "DPY-3015": "The password of DB_USER is stored in an old form. Set the password again.",
        # the user
        "ORA-01017": "Oracle Database refuses DB_USER with this DB_PASSWORD. Correct the two settings.",
        "ORA-28000": "The account of DB_USER is locked. Ask the administrator to unlock it.",
        "ORA-28001": "The password of DB_USER has expired. Change it in the database and DB_PASSWORD.",
        "ORA-01045": "DB_USER may not log in. Ask the administrator for GRANT CREATE SESSION.",
        # time and load
        "DPY-4005 ORA-00018 ORA-00020": "All connections to Oracle Database are busy. Try again in a moment.",
        "ORA-02391": "DB_USER has as many connections as its profile allows. " + _CHECK,
        "DPY-4024": "Oracle Database took too long to answer. Try again; if it stays, " + _CHECK,
        "DPY-4011 DPY-1001": _LOST,
        "ORA-00060 ORA-00054": "Another program is changing the same rows. Try again.",
        # vectors
        "ORA-51815": "The vector index is being changed. Try again.",
    },
    SchemaError: {
        "ORA-01031": "DB_USER lacks a privilege for this. create_user.sql lists what is needed. " + _CHECK,
        "ORA-00942": "A table is missing in the schema of DB_USER. " + _CREATE,
        "ORA-00904": "A table in the schema of DB_USER lacks a column. " + _CHECK,
        "ORA-00902": "The database has no VECTOR type. Oracle Database 23ai (23.4) or later is needed.",
        "ORA-43853": (
            "VECTOR columns cannot live in the default tablespace of DB_USER. Use one with automatic segment space "
            "management, as create_user.sql does."
        ),
        "ORA-20001": (
            "The tables in the schema of DB_USER have another shape. Run: python register_images.py --migrate --dry-run"
        ),
        "ORA-51902": (
            "A vector index needs embeddings of one dimension. "
            "Remove the other models: register_images.py --remove-model"
        ),
        "ORA-51934": "A vector index needs one number format in all rows. Embed the images again.",
        "ORA-29855": "The word index could not be built. " + _CHECK,
        "ORA-29861": "The word index is marked as broken. " + _CREATE,
        "ORA-29902": "The word index cannot answer. " + _CHECK,
        "ORA-20000": "Oracle Text cannot answer. " + _CHECK,
    },
    StoreError: {
        "ORA-00001": "Another program stored the same at the same time. Run again: nothing is stored twice.",
        "ORA-02291": "An image or a model was removed meanwhile. Run again.",
        "ORA-02292": "Another program added embeddings of this model meanwhile. Run again.",
        "ORA-02290": "A value is outside of what the schema allows. " + _CHECK,
        "ORA-01400": "A value that the schema demands is missing. " + _CHECK,
        "ORA-12899": "A text is longer than its column. " + _CHECK,
        "ORA-51950": (
            "VECTOR_MEMORY_SIZE can only be set in the server parameter file of the root. Ask the administrator."
        ),
        "ORA-51928": (
            "This release allows no changes while there is an HNSW index (23.6 does). "
            "Run: python register_images.py --vector-index ivf"
        ),
    },
    StoreFull: {
        "ORA-01536 ORA-01653 ORA-01654 ORA-01658 ORA-01691": (
            "The tablespace of DB_USER is full. Ask the administrator for more room, or delete images."
        ),
        "ORA-01652": "The temporary tablespace is full. Ask the administrator for more room, and try again.",
        "ORA-30036": (
            "The undo tablespace is full. Ask the administrator for more room, or try again when other work has ended."
        ),
        "ORA-01950": (
            "DB_USER has no quota on its tablespace. Ask the administrator: ALTER USER ... QUOTA UNLIMITED ON USERS"
        ),
        "ORA-12954": (
            "Oracle Free holds 12 GB at most, and they are used up. Delete images, or keep originals in ORIGINALS_URL."
        ),
        "ORA-12953": "Oracle Free holds 12 GB at most, and they are used up. Delete images.",
        "ORA-51908": "There is no room to build the vector index. " + _INDEX,
        "ORA-51961 ORA-51962": "The vector memory is too small for an HNSW index. Use ivf. " + _INDEX,
        "ORA-51996": "The vector memory cannot grow any more. Use an ivf index. " + _INDEX,
    },
    EmbeddingRefused: {
        "ORA-51803": "The column EMBEDDING wants another dimension than this model has. " + _CHECK,
        "ORA-51808": "Embeddings of different dimensions were compared. " + _CHECK,
        "ORA-51805 ORA-51807": "An embedding is not a list of finite numbers: the model's output is damaged.",
        "ORA-51932": (
            "The vector index holds embeddings of another dimension. Run: python register_images.py --vector-index none"
        ),
        "ORA-51935": "The vector index holds another number format. Embed the images again.",
    },
}
_SENTENCES = {
    code: (kind, sentence)
    for kind, sentences in _BY_KIND.items()
    for codes, sentence in sentences.items()
    for code in codes.split()
}

# The transaction was rolled back, and doing all of it again meets another state: another program stored the same
# (unique key), waited for us while we waited for them (deadlock), or removed what we referred to, or referred to what
# we remove.
_CLASHES = {"ORA-00001", "ORA-00060", "ORA-02291", "ORA-02292"}
# ORA-01460, ORA-01461: a text query longer than this database's strings.
_TEXT = {"ORA-29902", "ORA-29861", "ORA-20000", "ORA-29833", "ORA-01460", "ORA-01461"}


def describe(error: Exception, doing: str = "") -> StoreError:
    """The error as one sentence. doing: what was tried, put before a sentence that would not say it."""
    if not isinstance(error, oracledb.Error):
        reason = getattr(error, "strerror", None) or type(error).__name__
        return StoreUnavailable(f"The host in DB_DSN cannot be reached ({reason}). Check its name and the network.")
    code = _find_code(error)
    kind: type[StoreError]
    if code == "DPY-6005" and re.search(r"ssl|certificate|wallet", str(error), re.IGNORECASE):
        kind, sentence = StoreUnavailable, _WALLET
    elif code == "DPY-6005" and "DPY-4011" in str(error):
        kind, sentence = StoreUnavailable, _ENDED
    elif code == "DPY-3001" and "Encryption" in str(error):
        kind, sentence = StoreUnavailable, _ENCRYPTION
    elif code in _SENTENCES:
        kind, sentence = _SENTENCES[code]
    elif is_lost(error):
        kind, sentence = StoreUnavailable, _LOST
    else:
        first_line = str(error).splitlines()[0] if str(error) else "no message"
        kind, sentence = StoreError, f"Oracle Database refused: {first_line}. {_CHECK}"
    numbers = [code, *re.findall(r"DRG-\d{5}", str(error))[:1]]
    return kind(f"{doing}{': ' if doing else ''}{sentence} ({', '.join(filter(None, numbers))})")


def _find_code(error: oracledb.Error) -> str:
    """The most specific code. The driver puts the reason it knows into the lines below, the listener's behind that."""
    code = get_code(error)
    if code not in ("DPY-6005", "DPY-6000"):
        return code
    reasons = re.findall(r"Similar to (ORA-\d{5})", str(error))
    reasons += re.findall(r"^(?!DPY-6005|DPY-4011)[A-Z]{3}-\d+", str(error), re.MULTILINE)
    return next((reason for reason in reasons if reason in _SENTENCES), code)


def get_code(error: BaseException) -> str:
    """ORA-00942, DPY-6005, ...; "" when the error has none."""
    detail = error.args[0] if error.args else None
    return str(getattr(detail, "full_code", "") or "")


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, so that a new one may succeed."""
    detail = error.args[0] if error.args else None
    return get_code(error) in ("DPY-4011", "DPY-1001") or bool(getattr(detail, "isrecoverable", False))


def is_clash(error: BaseException) -> bool:
    """Whether another writer came first, so that the whole transaction may be done again."""
    return get_code(error) in _CLASHES


def is_text_failure(error: BaseException) -> bool:
    """Whether Oracle Text could not answer, so that words must be found without it."""
    return get_code(error) in _TEXT or "DRG-" in str(error)
