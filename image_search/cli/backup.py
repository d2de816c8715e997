"""Back up a SQLite library while it is served, and put a backup in its place."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path

from image_search.errors import SettingsError, StoreError, StoreUnavailable
from image_search.originals import FolderOriginals
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.errors import SCHEMA_VERSION
from image_search.stores.sqlite import SqliteStore

_LIST_SUFFIX = ".originals"  # of the list of originals beside a backup: a SHA-256 in hexadecimal digits a line
_IN_USE_SECONDS = 2.0


def back_up(settings: Settings, file: Path) -> str:
    """Write a copy of the database and the list of its originals. Returns what to do next. Raises StoreError."""
    with _open(settings) as store:
        if not store.path.exists():
            raise StoreUnavailable(f"{store.path} is not there, so there is nothing to back up. See DATABASE_URL.")
        if file.exists() and file.samefile(store.path):
            raise SettingsError(f"{file} is the library itself. Name another file.")
        store.get_status()  # a file of another kind or schema is refused here
        part = file.with_name(f"{file.name}.part")
        try:
            part.unlink(missing_ok=True)
            os.close(os.open(part, os.O_CREAT | os.O_EXCL, 0o600))
            with closing(_open_file(store.path)) as source, closing(sqlite3.connect(part)) as target:
                source.backup(target)
                target.execute("PRAGMA journal_mode = DELETE")  # one file, which can be copied anywhere
            hashes = _list_hashes(part)
            _write_list(file, hashes)
            part.replace(file)
        except (OSError, sqlite3.Error) as error:
            part.unlink(missing_ok=True)
            raise StoreError(
                f"The backup {file} cannot be written ({error}). Check its folder and the disk."
            ) from error
    originals = f"; copy the originals, too, from {store.originals}" if hashes else ""
    return f"{file}: {len(hashes):,} images{originals}"


def restore_backup(settings: Settings, file: Path) -> str:
    """Put a backup in the place of the library. Returns what was done. Raises StoreError, with nothing changed."""
    with _open(settings) as store:
        path, originals = store.path, store.originals
    if not file.is_file():
        raise SettingsError(f"There is no backup {file}.")
    _check_backup(file)
    kept = _set_aside(path)
    part = path.with_name(f"{path.name}.restored")
    try:
        shutil.copyfile(file, part)
        os.chmod(part, 0o600)
        with part.open("rb+") as copy:
            os.fsync(copy.fileno())
        for left in [*path.parent.glob(f"{path.name}-index-*"), *(Path(f"{path}{end}") for end in ("-wal", "-shm"))]:
            left.unlink(missing_ok=True)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StoreError(
            f"{path} cannot be written ({error.strerror}). The library is {kept or 'as it was'}."
        ) from error
    hashes = _list_hashes(path)
    missing = len(hashes - originals.list_hashes().keys()) if type(originals) is FolderOriginals else 0
    sentence = f"{path}: {len(hashes):,} images" + (f"; the library that was there is {kept}" if kept else "")
    return sentence + (f"; {missing:,} originals are missing: copy them back to {originals}" if missing else "")


def _open(settings: Settings) -> SqliteStore:
    store = open_store(settings)
    if not isinstance(store, SqliteStore):
        store.close()
        raise SettingsError("This is for SQLite libraries. Back up another database with the tools of its engine.")
    return store


def _open_file(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=60)


def _list_hashes(path: Path) -> set[str]:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT hex(content_sha256) FROM images WHERE film_sha256 IS NULL")
        return {row[0].lower() for row in rows}


def _write_list(file: Path, hashes: set[str]) -> None:
    file.with_name(f"{file.name}{_LIST_SUFFIX}").write_text("".join(f"{h}\n" for h in sorted(hashes)), encoding="ascii")


def _check_backup(file: Path) -> None:
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            [version] = connection.execute("PRAGMA user_version").fetchone()
            [state] = connection.execute("PRAGMA quick_check(1)").fetchone()
            connection.execute("SELECT count(*) FROM images").fetchone()
    except sqlite3.Error as error:
        raise StoreError(f"{file} is not a backup of a library ({error}). Nothing was changed.") from error
    if state != "ok":
        raise StoreError(f"{file} is damaged ({state}). Nothing was changed; take an older backup.")
    if version > SCHEMA_VERSION:
        raise StoreError(f"{file} was made by a newer version of this program. Update the program.")


def _set_aside(path: Path) -> Path | None:
    """Give the library that is there another name. Returns it. Raises StoreUnavailable while a program uses it."""
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=_IN_USE_SECONDS)) as connection:
            # Allowed to the only connection; it also brings the journal into the file.
            connection.execute("PRAGMA journal_mode = DELETE").fetchone()
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreUnavailable(
                f"{path} is used by another program. End the server and every registration, then restore again."
            ) from error
    except sqlite3.DatabaseError:
        pass  # damaged: that is why a backup is put in its place
    kept = path.with_name(f"{path.name}.before-{datetime.now():%Y%m%d-%H%M%S}")
    path.rename(kept)
    for end in ("-wal", "-shm"):  # of a damaged file: they belong to it
        with suppress(FileNotFoundError):
            Path(f"{path}{end}").rename(f"{kept}{end}")
    return kept
