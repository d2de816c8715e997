"""The file of a SQLite library: connections for many threads, the messages for its errors, and what --check finds."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from image_search.errors import ImageNotFound, SchemaError, StoreError, StoreFull, StoreUnavailable
from image_search.originals import check_folder, check_originals
from image_search.records import EmbeddingModel, Finding
from image_search.stores.reads import SCHEMA_VERSION
from image_search.stores.sqlite.faiss_index import FAISS_VERSION, SMALL
from image_search.stores.sqlite.schema import has_old_words, migrate, prepare_database, renew_words

if TYPE_CHECKING:
    from image_search.stores.sqlite import SqliteStore

BUSY_SECONDS = 60  # another process writes a batch in well under a second; a user's script may take longer
_IDLE_CONNECTIONS = 8


class Connections:
    """Lends connections to one database file. The file is opened, and made if it is new, when first needed.

    check_new: called before a file is made; raises StoreError where there should be one.
    """

    def __init__(self, path: Path, check_new: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self._check_new = check_new
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._prepared = False
        self._closed = False
        self._file: tuple[int, int] | None = None  # which file was opened under this name
        self._abandoned: list[sqlite3.Connection] = []
        self._snapshots = threading.local()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection inside a read transaction: all its queries see one state of the library.

        Within snapshot() it is that one's.
        """
        shared: sqlite3.Connection | None = getattr(self._snapshots, "connection", None)
        if shared is None:
            with self._borrowed("BEGIN") as connection:
                yield connection
        else:
            with self._explaining():
                yield shared

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """One read transaction for all reading() of this thread until the block ends."""
        with self.reading() as connection:
            outer = getattr(self._snapshots, "connection", None)
            self._snapshots.connection = connection
            try:
                yield
            finally:
                self._snapshots.connection = outer

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection inside a write transaction, the only one anywhere; committed when the block ends well."""
        with self._borrowed("BEGIN IMMEDIATE") as connection:
            # The index of words keeps no text: tokens of another rule could not be removed.
            if has_old_words(connection, str(self.path)):
                renew_words(connection, str(self.path))
            yield connection

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            if self._is_replaced():
                self._abandoned += idle
                return
        for connection in idle:
            connection.close()

    @contextmanager
    def _borrowed(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._explaining():
            connection = self._take()
            try:
                connection.execute(begin)
                yield connection
                connection.commit()
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.rollback()
                raise
            finally:
                self._give_back(connection)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise explain_error(error, self.path) from error
        except OverflowError as error:
            raise ImageNotFound(f"No image has a number that large ({error}).") from error

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise StoreError(f"{self.path} was closed by this program.")
            self._check_file()
            if self._idle:
                return self._idle.pop()
        return self._connect()

    def _check_file(self) -> None:
        """Raises StoreError when another file has taken the place of the one that was opened, or none is there.

        Its connections are abandoned, not closed: closing the last one writes to the journal of the new file.
        """
        found = _identify(self.path)
        if self._file is None or found == self._file:
            return
        if found is None:
            raise StoreUnavailable(f"The file {self.path} is not there any more. Put it back, or correct DATABASE_URL.")
        self._abandoned += self._idle
        self._idle = []
        raise StoreError(
            f"{self.path} was replaced while this program used it. Nothing more is written; start the program again "
            "(python -m image_search restore puts a backup in place)."
        )

    def _is_replaced(self) -> bool:
        return self._file is not None and _identify(self.path) not in (self._file, None)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if self._is_replaced():
                self._abandoned.append(connection)
                return
            if not self._closed and len(self._idle) < _IDLE_CONNECTIONS and not connection.in_transaction:
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self) -> sqlite3.Connection:
        if not self._prepared:
            self._make_file()
        # Read and write, but do not create: a file that was taken away is missed, not replaced by an empty one.
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode={self._choose_mode()}",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            # FULL: an original is deleted after its record, so a commit must not be undone by a power failure.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            # The system's page cache instead of one for each connection reads single embeddings 3 times as fast.
            connection.execute(f"PRAGMA mmap_size = {1 << 40}")
            if not self._prepared:
                if prepare_database(connection, str(self.path)) < SCHEMA_VERSION:
                    migrate(self.path, BUSY_SECONDS)
                self._renew_words(connection)
                self._prepared = True
            if self._file is None:
                self._file = _identify(self.path)
        except BaseException:
            connection.close()
            raise
        return connection

    def _renew_words(self, connection: sqlite3.Connection) -> None:
        """Others read the words of before meanwhile; from a file that cannot be written so does everyone."""
        if not has_old_words(connection, str(self.path)):
            return
        try:
            connection.execute("BEGIN IMMEDIATE")
            if has_old_words(connection, str(self.path)):  # still: another program may have been quicker
                renew_words(connection, str(self.path))
            connection.commit()
        except BaseException as error:
            with suppress(sqlite3.Error):
                connection.rollback()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_READONLY:
                raise

    def _choose_mode(self) -> str:
        """On a disk that is mounted read-only SQLite cannot make the files of its journal; nothing changes there."""
        if not hasattr(os, "statvfs") or not os.statvfs(self.path).f_flag & os.ST_RDONLY:
            return "rw"
        journal = self.path.with_name(f"{self.path.name}-wal")
        return "ro" if journal.exists() and journal.stat().st_size else "ro&immutable=1"

    def _make_file(self) -> None:
        self._make_folder()
        if self.path.is_dir():
            raise StoreError(
                f"{self.path} is a folder. Name a file in DATABASE_URL, for example {self.path}/library.db."
            )
        if self.path.exists():
            if not self.path.is_file():
                raise StoreError(f"{self.path} is no ordinary file. Name another one in DATABASE_URL.")
            return
        self._check_new()
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL, 0o600))  # SQLite gives its other files the same rights
        except FileExistsError:
            pass  # another process has just made it
        except OSError as error:
            raise StoreUnavailable(
                f"The file {self.path} cannot be made ({error.strerror}). Check the rights of its folder, or name "
                "another file in DATABASE_URL."
            ) from error

    def _make_folder(self) -> None:
        # One level only: data/ of a fresh clone is made, a mistyped or unmounted path is not.
        folder = self.path.parent
        if folder.is_file():
            raise StoreError(f"{folder} is a file, and no folder. Correct DATABASE_URL.")
        try:
            if folder.parent.is_dir():
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(
                f"The folder {folder} cannot be made ({error.strerror}). Check the rights, or correct DATABASE_URL."
            ) from error
        if not folder.is_dir():
            raise StoreUnavailable(f"The folder {folder} is not there. Make it, or correct DATABASE_URL.")


def _identify(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def explain_error(error: sqlite3.Error, path: Path) -> StoreError:
    """The error in one sentence, with the file and what to do."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if code is not None else None
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreUnavailable(f"{path} is held by another program. Try again when it has finished.")
    if primary == sqlite3.SQLITE_FULL:
        return StoreFull(f"The disk of {path} is full. Nothing of this batch was kept; free some space and run again.")
    if primary == sqlite3.SQLITE_NOTADB:
        return SchemaError(f"{path} is not a SQLite database. Name another file in DATABASE_URL.")
    if primary == sqlite3.SQLITE_CORRUPT:
        return StoreError(f"{path} is damaged ({error}). Restore it from a copy, or register into a new file.")
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return StoreUnavailable(f"{path} cannot be written. Check the rights of the file and of its folder.")
    if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR):
        return StoreUnavailable(f"{path} cannot be read or written just now ({error}). Check the disk and the rights.")
    return StoreError(f"{path} refused: {error}.")


# --check: the file, the originals beside it, and the index in memory with its saved copy.

_READ_THROUGH = 2**30  # bytes; a larger file takes longer than a user waits


def check_sqlite(store: SqliteStore) -> Iterator[Finding]:
    """Findings about this store. Does not create a library that is not there yet. Raises StoreError."""
    folder = store.path.parent
    if not folder.parent.is_dir():
        yield Finding("folder", False, f"{folder} is not there", "Make it, or correct DATABASE_URL.")
        return
    yield check_folder("folder", folder, "DATABASE_URL")
    yield check_originals(store.originals)
    if not store.path.exists():
        store.check_new()
        yield Finding("database file", True, f"{store.path.name} is not there yet: it is made when it is first needed")
        return
    models = store.get_status().models  # opens the file: a foreign one, or one of another schema, is refused here
    yield _check_integrity(store.path)
    for model, count in models:
        if model.is_current and count:
            yield _check_index(store, model, count)


def _check_integrity(path: Path) -> Finding:
    log = Path(f"{path}-wal")  # which holds what the file lacks, in a young library nearly all
    size = path.stat().st_size + (log.stat().st_size if log.exists() else 0)
    what = f"{path.name}, {size / 2**20:,.1f} MiB"
    if size > _READ_THROUGH:
        return Finding("database file", True, f"{what}, too large to be read through here")
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        [first, *_] = [row[0] for row in connection.execute("PRAGMA quick_check(1)")]
    if first != "ok":
        remedy = "Restore the file from a backup, or name a new one in DATABASE_URL and register the images again."
        return Finding("database file", False, f"{what}, damaged: {' '.join(str(first).split())}", remedy)
    return Finding("database file", True, f"{what}, undamaged")


def _check_index(store: SqliteStore, model: EmbeddingModel, count: int) -> Finding:
    """The index in memory, if this program has searched already, and its saved copy."""
    copies = list(store.path.parent.glob(f"{store.path.name}-index-{model.model_id}.*"))
    name = f"FAISS {FAISS_VERSION}"
    if count <= SMALL and not copies:
        return Finding("index", True, f"{name}, uncompressed, made from the table at the first search")
    found = store.index.describe().get(model.model_id, "not looked at")
    size = sum(file.stat().st_size for file in copies) / 2**20
    copy = f"saved copy of {size:,.1f} MiB" if copies else "no saved copy"
    return Finding("index", True, f"{name}: {found} of {count:,}, {copy}; the rest is read from the table")
