"""Maintain the library: lost files, trash, deleted images, sidecars, metadata, and backups of a SQLite library."""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from image_search.cli import Console, Exit, finishing_on_interrupt, name_commands, write_json, write_line
from image_search.errors import SettingsError, StoreError, StoreUnavailable
from image_search.images import make_printable, open_detailed_image
from image_search.originals import FolderOriginals
from image_search.recognition import is_sure, open_recognizer
from image_search.registration import trash
from image_search.registration.files import find_files
from image_search.registration.pipeline import make_reader
from image_search.registration.rereading import (
    forget_texts,
    read_missing_texts,
    set_forgotten,
    update_texts,
    write_sidecars,
)
from image_search.registration.trash import find_gone_files, trash_gone_files
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from image_search.stores.reads import SCHEMA_VERSION

if TYPE_CHECKING:
    from image_search.stores.sqlite import SqliteStore


def prune(store: ImageStore, folders: Sequence[Path], remove: bool) -> Exit:
    """List the images whose file below these folders is missing; move them to the trash with `remove`."""
    found = [find_gone_files(store, folder) for folder in folders]
    gone = list({file.path: file for result in found for file in result.files}.values())
    for file in gone:
        write_line(file.image_id, make_printable(file.path), sep="\t")
    for warning in dict.fromkeys(warning for result in found for warning in result.warnings):
        write_line(warning, to_stderr=True)
    if remove:
        moved, forgotten = trash_gone_files(store, gone)
        others = f" {forgotten} paths forgotten of images that have another file." if forgotten else ""
        write_line(f"{moved} images moved to the trash.{others}", to_stderr=True)
    elif gone:
        sentence = "--prune --yes moves their images to the trash, unless they have another file."
        write_line(f"{len(gone)} files are gone; {sentence}", to_stderr=True)
    return Exit.OK


def list_trash(store: ImageStore) -> Exit:
    """image_id, when it was deleted (UTC), why and the file, a line for each image and film in the trash."""
    for hit, _ in trash.list_trash(store)[0]:
        image = hit.image
        moment = f"{image.deleted_at:%Y-%m-%d %H:%M:%S}"
        name = make_printable(image.file_path or image.file_name)
        write_line(image.image_id, moment, image.trash_reason, name, sep="\t")
    return Exit.OK


def restore(store: ImageStore, image_ids: Sequence[int]) -> Exit:
    """Bring these images back from the trash, and say which are not in it."""
    trashed = {image_id for image_id, image in store.find_images(image_ids).items() if image.deleted_at}
    write_line(f"{trash.restore_images(store, image_ids)} images are back.", to_stderr=True)
    others = [str(image_id) for image_id in dict.fromkeys(image_ids) if image_id not in trashed]
    if others:
        write_line(f"Not in the trash: {', '.join(others)}. --list-trash lists what is.", to_stderr=True)
    return Exit.SOME_FAILED if others else Exit.OK


def empty_trash(store: ImageStore) -> Exit:
    """Remove everything in the trash for good."""
    removed = trash.empty_trash(store)
    write_line(f"{removed} images removed for good. The files in your folders stay, and are not registered again.")
    return Exit.OK


def forget_deleted(store: ImageStore) -> Exit:
    """Forget which images were deleted."""
    forgotten = store.forget_deleted()
    write_line(f"{forgotten} deleted images are forgotten; registering their folders takes them in again.")
    return Exit.OK


def remove_samples(store: ImageStore, folder: Path) -> Exit:
    """Move the samples to the trash."""
    write_line(f"{trash.trash_samples(store, folder)} samples moved to the trash.")
    return Exit.OK


def save_sidecars(store: ImageStore, folders: Sequence[Path]) -> Exit:
    """Write the user's edits into sidecars beside the files."""
    absent = [folder for folder in folders if not folder.exists()]
    for folder in absent:
        write_line(f"{make_printable(str(folder))}: there is no such file or folder; check the path.", to_stderr=True)
    report = write_sidecars(store, folders)
    for sentence in report.failures:
        write_line(sentence, to_stderr=True)
    if report.missing:
        write_line(f"{report.missing} files are missing.", to_stderr=True)
    if report.without_file:
        write_line(f"{report.without_file} images were uploaded and have no file to write beside.", to_stderr=True)
    write_line(f"written {report.written}, unchanged {report.unchanged}, failed {len(report.failures)}")
    return Exit.SOME_FAILED if report.failures or report.missing or absent else Exit.OK


def refresh_metadata(store: ImageStore, settings: Settings, options: argparse.Namespace) -> Exit:
    """Read the metadata of the files below options.paths again: outcome, source and path, a line for each file."""
    found = find_files(options.paths)
    counts: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    for failure in found.failures:
        counts["failed"] += 1
        write_line(failure, to_stderr=True)
    for update in update_texts(store, found.files, make_reader(settings)):
        counts[update.outcome] += 1
        sources[update.source] += 1
        write_line(update.outcome, update.source, make_printable(update.path), sep="\t")
        if update.warning:
            write_line(name_commands(update.warning), to_stderr=True)
    sys.stdout.flush()
    for source, count in sorted(sources.items()):
        if source:
            write_line(f"{count:6} {source}", to_stderr=True)
    outcomes = ("updated", "unchanged", "no text", "failed")
    write_line(", ".join(f"{name} {counts[name]}" for name in outcomes), to_stderr=True)
    return Exit.SOME_FAILED if counts["failed"] else Exit.OK


def print_text(settings: Settings, path: Path, as_json: bool) -> Exit:
    """Print the text inside an image; as_json: every line with score and box, doubtful ones included.

    Returns NOTHING_FOUND without any text. Raises UnreadableImage, RecognizerUnavailable.
    """
    image = open_detailed_image(path, settings.max_image_pixels)
    lines = open_recognizer().recognize(image)
    chosen = [line for line in lines if as_json or is_sure(line)]
    for line in chosen:
        write_json(asdict(line)) if as_json else write_line(line.text)
    return Exit.OK if chosen else Exit.NOTHING_FOUND


def read_texts(store: ImageStore, settings: Settings, options: argparse.Namespace) -> Exit:
    """Read the text of every registered image that this recogniser has not read; run again, it goes on."""
    recognizer = open_recognizer()
    set_forgotten(store, False)
    stop, console = threading.Event(), Console()
    with finishing_on_interrupt(stop):
        try:
            report = read_missing_texts(
                store,
                recognizer,
                shard=options.shard,
                max_pixels=settings.max_image_pixels,
                stop=stop,
                on_progress=console.show_progress,
                on_message=console.say,
            )
        finally:
            console.close()
    if options.json:
        counts = {"read": report.read, "with_text": report.with_text, "failed": report.failed}
        write_json(counts | {"failures": report.failures})
    else:
        write_line(f"read {report.read}, with text {report.with_text}, failed {report.failed}")
    if stop.is_set():
        return Exit.INTERRUPTED
    return Exit.SOME_FAILED if report.failed else Exit.OK


def forget_recognized(store: ImageStore) -> Exit:
    """Forget the recognised text of every image; none is read again before --read-text."""
    count = 0
    for done, _ in forget_texts(store, threading.Event()):
        count = done
    write_line(f"The text of {count} images is forgotten.")
    return Exit.OK


# Back up a SQLite library while it is served, and put a backup in its place.

_LIST_SUFFIX = ".originals"  # of the list of originals beside a backup: a SHA-256 in hexadecimal digits a line
_IN_USE_SECONDS = 2.0


def back_up(settings: Settings, file: Path) -> str:
    """Write a copy of the database and the list of its originals. Returns what to do next. Raises StoreError."""
    with _open(settings) as store:
        if not store.path.exists():
            raise StoreUnavailable(f"{store.path} is not there, so there is nothing to back up. See DATABASE_URL.")
        if file.is_dir():
            raise SettingsError(f"{file} is a folder. Name a file, for example {file / store.path.name}.")
        if file.exists() and not file.is_file():
            raise SettingsError(f"{file} is no ordinary file. Name another file.")
        part = file.with_name(f"{file.name}.part")
        for place in (file, part):
            if place.exists() and place.samefile(store.path):
                raise SettingsError(f"{place} is the library itself. Name another file.")
        store.get_status()  # a file of another kind or schema is refused here
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
    """Put a backup in the place of the library. Returns what was done. Raises StoreError, with nothing changed.

    Under its name there is a whole library at every moment, whenever the program is killed.
    """
    with _open(settings) as store:
        path, originals = store.path, store.originals
    part = path.with_name(f"{path.name}.restored")
    if not file.is_file():
        raise SettingsError(f"{file} is no file. Name a file that the command backup wrote.")
    if path.exists() and path.samefile(file):
        raise SettingsError(f"{file} is the library itself. Name a backup of it.")
    if part.exists() and part.samefile(file):
        raise SettingsError(f"{file} is written over by every restore. Give it another name first.")
    _check_backup(file)
    _end_journal(path)
    try:
        shutil.copyfile(file, part)
        os.chmod(part, 0o600)
        with part.open("rb+") as copy:
            os.fsync(copy.fileno())
        hashes = _list_hashes(part)
        _end_journal(path)  # again: copying takes a while
        kept = _replace_library(path, part)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written ({error.strerror}). The library is as it was; check its disk and its folder."
        ) from error
    finally:
        part.unlink(missing_ok=True)
    missing = len(hashes - originals.list_hashes().keys()) if type(originals) is FolderOriginals else 0
    sentence = f"{path}: {len(hashes):,} images" + (f"; the library that was there is {kept}" if kept else "")
    return sentence + (f"; {missing:,} originals are missing: copy them back to {originals}" if missing else "")


def _replace_library(path: Path, part: Path) -> Path | None:
    """Let a whole new file take the place of the library. Returns where the former one is kept. Raises OSError."""
    for index in path.parent.glob(f"{path.name}-index-*"):
        index.unlink(missing_ok=True)
    kept = _keep_library(path) if path.exists() else None
    journals = [Path(f"{path}{end}") for end in ("-wal", "-shm") if Path(f"{path}{end}").exists()]
    moved: list[tuple[Path, Path]] = []
    try:
        for journal in journals:  # of a damaged file: read with another one they would damage that, too
            if kept is None:
                journal.unlink()
                continue
            place = Path(f"{kept}{journal.name.removeprefix(path.name)}")
            journal.replace(place)
            moved.append((place, journal))
        part.replace(path)
    except BaseException:
        for place, journal in moved:
            place.replace(journal)
        if kept is not None:
            kept.unlink()
        raise
    return kept


def _keep_library(path: Path) -> Path:
    """Give the library another name beside its own. Returns it. Raises OSError."""
    stamp = f"{path.name}.before-{datetime.now():%Y%m%d-%H%M%S}"
    names = (stamp, *(f"{stamp}-{number}" for number in range(2, 100)))
    kept = next(place for place in map(path.with_name, names) if not place.exists())
    try:
        os.link(path.resolve(), kept)
    except OSError:  # a file system without a second name for a file
        try:
            shutil.copyfile(path, kept)
            os.chmod(kept, 0o600)
        except BaseException:
            kept.unlink(missing_ok=True)
            raise
    return kept


def _open(settings: Settings) -> SqliteStore:
    from image_search.stores.sqlite import SqliteStore

    store = open_store(settings)
    if not isinstance(store, SqliteStore):
        store.close()
        raise SettingsError("This is for SQLite libraries. Back up another database with the tools of its engine.")
    return store


def _open_file(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=60)


def _list_hashes(path: Path) -> set[str]:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        [version] = connection.execute("PRAGMA user_version").fetchone()
        whole = "" if version == 1 else " WHERE film_sha256 IS NULL"  # a frame has no original; schema 1 knew no films
        rows = connection.execute(f"SELECT hex(content_sha256) FROM images{whole}")
        return {row[0].lower() for row in rows}


def _write_list(file: Path, hashes: set[str]) -> None:
    file.with_name(f"{file.name}{_LIST_SUFFIX}").write_text("".join(f"{h}\n" for h in sorted(hashes)), encoding="ascii")


# Tables and columns of libraries of every schema.
_TABLES = {
    "images": "image_id, content_sha256, file_name, upload_date, details",
    "image_previews": "image_id, preview",
    "image_embeddings": "embedding_id, image_id, model_id, embedding",
    "embedding_models": "model_id, model_name, model_version, is_current",
    "image_descriptions": "image_id, description",
}


def _check_backup(file: Path) -> None:
    from image_search.stores.sqlite.schema import APPLICATION_ID

    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            [version] = connection.execute("PRAGMA user_version").fetchone()
            [program] = connection.execute("PRAGMA application_id").fetchone()
            [state] = connection.execute("PRAGMA quick_check(1)").fetchone()
            for table, columns in _TABLES.items():
                connection.execute(f"SELECT {columns} FROM {table} LIMIT 1").fetchone()
    except sqlite3.Error as error:
        raise StoreError(f"{file} is not a backup of a library ({error}). Nothing was changed.") from error
    if program != APPLICATION_ID or version < 1:
        raise StoreError(f"{file} is a SQLite database of another program. Nothing was changed; name a backup.")
    if state != "ok":
        raise StoreError(f"{file} is damaged ({state}). Nothing was changed; take an older backup.")
    if version > SCHEMA_VERSION:
        raise StoreError(f"{file} was made by a newer version of this program. Update the program.")


def _end_journal(path: Path) -> None:
    """Merge the journal into the library, if there is one. Raises StoreUnavailable while a program uses it."""
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=_IN_USE_SECONDS)) as connection:
            # Succeeds for a sole connection only.
            connection.execute("PRAGMA journal_mode = DELETE").fetchone()
    except sqlite3.OperationalError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreUnavailable(
                f"{path} is used by another program. End the server and every registration, then restore again."
            ) from error
        if code != sqlite3.SQLITE_ERROR:  # the disk, which may be full, or the rights
            raise StoreUnavailable(f"{path} cannot be set aside ({error}). Check its disk and its rights.") from error
    except sqlite3.DatabaseError:
        pass  # damaged: that is why a backup is put in its place
