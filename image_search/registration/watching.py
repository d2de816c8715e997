"""Keep a library in step with its folders."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence

from image_search.images import make_printable
from image_search.registration.files import FileFinder, FileList, FoundFile, is_missing
from image_search.registration.registrar import Registrar

_REPORT_LIMIT = 10  # a disk that is taken away takes a hundred thousand files with it


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

    A file is registered once its size and time stood still between two looks, or longer than that before the first. A
    file that vanished is told; its image stays in the library. So does, without a word, that of one that is passed
    over from now on. Raises as Registrar.register and FileFinder.find do.
    """
    finder = FileFinder(exclude)
    taken: dict[str, FoundFile] = {}
    before: dict[str, FoundFile] | None = None
    told: set[str] = set()
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
        failures = [sentence for sentence in found.failures if sentence not in told]
        if fresh or failures:
            registrar.register(FileList(fresh, failures))
        taken.update((file.path, file) for file in fresh)
        told.update(failures)
        before = now
        stop.wait(interval)


def _tell_vanished(paths: Sequence[str], on_message: Callable[[str], None]) -> None:
    for path in paths[:_REPORT_LIMIT]:
        on_message(f"{make_printable(path)} has vanished. Its image stays in the library.")
    if len(paths) > _REPORT_LIMIT:
        on_message(f"So have {len(paths) - _REPORT_LIMIT} other files.")
