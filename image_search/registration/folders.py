"""Folders of a library: a list kept with it, below the roots that a visitor may reach; scanned as a job, or watched."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from image_search.encoders.base import Encoder
from image_search.errors import ImageSearchError
from image_search.images import make_printable
from image_search.registration import Registrar, RegistrationReport
from image_search.registration.files import FileFinder, FileList, FoundFile, find_files, is_missing
from image_search.registration.jobs import JobControl, Work
from image_search.registration.pipeline import ImageReader
from image_search.stores.base import ImageStore
from image_search.stores.text import decode_path, encode_path

_SETTING = "folders/"
_WATCHED = "watched/"
UNREAD = "unread "  # before a suffix: the count of files of that kind, which are not read
_MAX_LISTED = 1000  # folders of one folder; a path can always be typed


class FolderRefused(ImageSearchError):
    """The folder is not below a root that the visitor may reach."""


class FolderNotFound(ImageSearchError):
    """There is no such folder below the roots."""


@dataclass(frozen=True)
class FolderRoots:
    """Folders below which a visitor may choose. named: those of LIBRARY_ROOTS.

    home: takes their place when none is named, for a visitor at this computer itself; None where others may come in.
    """

    named: tuple[Path, ...] = ()
    home: Path | None = None

    def find(self, is_forwarded: bool) -> tuple[Path, ...]:
        """The roots of a request. is_forwarded: it came through a proxy, so it may be from anywhere."""
        if self.named or self.home is None or is_forwarded:
            return self.named
        return (self.home.resolve(),)


@dataclass(frozen=True)
class Browsed:
    """Folders inside a folder, as (stored path, name). path: "" above several roots; parent: None at the top."""

    path: str
    parent: str | None
    folders: tuple[tuple[str, str], ...]


def find_folder(stored: str, roots: Sequence[Path]) -> str:
    """The real path of a folder below the roots, from a path as encode_path writes it.

    Raises FolderRefused or FolderNotFound. A path elsewhere is refused in the same words whether it exists or not.
    """
    if not roots:
        raise FolderRefused("No folder can be added from here. Name the folders that may be in LIBRARY_ROOTS.")
    try:
        path = Path(os.path.expanduser(decode_path(stored.strip())))
        place = path.resolve()
    except (OSError, ValueError, RuntimeError):  # a zero byte, or links in a circle
        path = place = Path()
    if not path.is_absolute() or not any(place.is_relative_to(root) for root in roots):
        raise FolderRefused("The folder is not below one of LIBRARY_ROOTS. Give its whole path.")
    if not os.path.isdir(place):  # Path.is_dir raises for a name that is too long
        raise FolderNotFound(f"There is no folder {make_printable(str(place))}. Check its name.")
    return str(place)


def browse_folders(stored: str, roots: Sequence[Path]) -> Browsed:
    """The folders inside a folder, or the roots for "". Raises FolderRefused or FolderNotFound."""
    if not stored and len(roots) > 1:
        return Browsed("", None, tuple((encode_path(str(root)), make_printable(str(root))) for root in roots))
    top = find_folder(stored or (encode_path(str(roots[0])) if roots else ""), roots)
    try:
        with os.scandir(top) as entries:
            below = sorted((entry.name, entry.path) for entry in entries if _is_shown(entry))
    except OSError as error:
        raise FolderNotFound(f"{make_printable(top)} cannot be read ({error.strerror}).") from error
    is_root = any(Path(top) == root for root in roots)
    parent = (None if len(roots) == 1 else "") if is_root else encode_path(os.path.dirname(top))
    folders = tuple((encode_path(path), make_printable(name)) for name, path in below[:_MAX_LISTED])
    return Browsed(encode_path(top), parent, folders)


def _is_shown(entry: os.DirEntry[str]) -> bool:
    try:
        return not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def list_folders(store: ImageStore) -> list[str]:
    """Real paths of the library's folders, by name. Raises StoreError."""
    return sorted(decode_path(stored) for stored in store.list_settings(_SETTING).values())


def add_folder(store: ImageStore, folder: str) -> None:
    """Keep a folder with the library. Raises StoreError."""
    store.set_setting(_name_setting(folder), encode_path(folder))


def forget_folder(store: ImageStore, folder: str) -> None:
    """Take a folder off the list; its images stay. Raises StoreError."""
    store.set_setting(_name_setting(folder), None)
    set_watched(store, folder, False)


def list_watched(store: ImageStore) -> set[str]:
    """Real paths of the folders that are scanned when they change. Raises StoreError."""
    return {decode_path(stored) for stored in store.list_settings(_WATCHED).values()}


def set_watched(store: ImageStore, folder: str, is_watched: bool) -> None:
    """Scan a folder when it changes, or no more. Raises StoreError."""
    store.set_setting(_WATCHED + _hash_folder(folder), encode_path(folder) if is_watched else None)


def _name_setting(folder: str) -> str:
    return _SETTING + _hash_folder(folder)


def _hash_folder(folder: str) -> str:
    return hashlib.sha256(os.fsencode(folder)).hexdigest()[:32]


def make_scan(store: ImageStore, find_encoder: Callable[[], Encoder], reader: ImageReader) -> Work:
    """The work of a job that registers a folder. find_encoder: the encoder that searches use just now."""

    def scan(stored: str, control: JobControl) -> None:
        def tell(report: RegistrationReport) -> None:
            names = ("registered", "known", "moved", "updated", "deleted", "films", "frames", "left_out")
            counts = {name: getattr(report, name) for name in names}
            counts |= {f"{UNREAD}{suffix}": count for suffix, count in report.unread.items()}
            control.report(report.done, report.total, counts, report.failures)

        encoder = find_encoder()
        registrar = Registrar(
            store,
            encoder,
            batch_size=lambda: int(getattr(encoder, "batch_size", 8)),
            reader=reader,
            on_progress=tell,
            stop=control.stop,
        )
        tell(registrar.register(find_files([decode_path(stored)])))

    return scan


_PAUSE = 5.0  # seconds between two looks
_SHARE = 0.02  # of the time at most is spent looking


class FolderWatcher:
    """Scans watched folders when the program starts, and when files in them have changed and stand still again."""

    def __init__(self, store: ImageStore, scan: Callable[[str], object], pause: float = _PAUSE) -> None:
        """scan: queues the scan of a stored path."""
        self._store = store
        self._scan = scan
        self._pause = pause
        self._stop = threading.Event()
        self._before: dict[str, frozenset[FoundFile]] = {}
        self._scanned: dict[str, frozenset[FoundFile]] = {}

    def start(self) -> None:
        """Look in a thread of its own that ends with the program or with stop."""
        threading.Thread(target=self._look_until_stopped, name="watch folders", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def look(self) -> None:
        """Look once. May raise StoreError."""
        for folder in list_watched(self._store):
            if not os.path.isdir(folder):
                continue  # taken away for now, such as a disk
            now = frozenset(find_files([folder]).files)
            if self._before.get(folder) == now and self._scanned.get(folder) != now:
                self._scan(encode_path(folder))
                self._scanned[folder] = now
            self._before[folder] = now

    def _look_until_stopped(self) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            with suppress(ImageSearchError):  # a database that is away
                self.look()
            self._stop.wait(max(self._pause, (time.monotonic() - started) / _SHARE))


_MAX_REPORTED = 10  # a disk that is taken away takes a hundred thousand files with it


def watch_folders(
    paths: Sequence[str | os.PathLike[str]],
    registrar: Registrar,
    stop: threading.Event,
    on_message: Callable[[str], None],
    *,
    shard: tuple[int, int] = (1, 1),
    exclude: Sequence[str] = (),
    interval: float = 5.0,
) -> None:
    """Register what is in these paths, then every interval seconds what is new or changed, until stop is set.

    A file is registered once its size and time stood still between two looks, or longer than that before the first. The
    image of a file that vanished stays in the library, and the file is reported; that of a newly ignored file stays,
    too, unreported. Raises as Registrar.register and FileFinder.find do.
    """
    finder = FileFinder(exclude)
    taken: dict[str, FoundFile] = {}
    before: dict[str, FoundFile] | None = None
    reported: set[str] = set()
    while not stop.is_set():
        found = finder.find(paths, shard)
        registrar.report.unread = found.unread
        now = {file.path: file for file in found.files}
        if before is not None:
            _tell_vanished(sorted(path for path in before.keys() - now.keys() if is_missing(path)), on_message)
        if before is None:
            last = time.time_ns() - int(interval * 1e9)
            settled = [file for file in found.files if file.modified_ns <= last]
        else:
            settled = [file for file in found.files if before.get(file.path) == file]
        fresh = [file for file in settled if taken.get(file.path) != file]
        failures = [sentence for sentence in found.failures if sentence not in reported]
        if fresh or failures:
            registrar.register(FileList(fresh, failures))
        taken.update((file.path, file) for file in fresh)
        reported.update(failures)
        before = now
        stop.wait(interval)


def _tell_vanished(paths: Sequence[str], on_message: Callable[[str], None]) -> None:
    for path in paths[:_MAX_REPORTED]:
        on_message(f"{make_printable(path)} has vanished. Its image stays in the library.")
    if len(paths) > _MAX_REPORTED:
        on_message(f"So have {len(paths) - _MAX_REPORTED} other files.")
