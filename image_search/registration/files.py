"""Which files a registration looks at."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from image_search.films import list_film_suffixes
from image_search.images import list_picture_suffixes, make_printable


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that may be an image or a film. path: absolute. byte_size, modified_ns: as when it was found."""

    path: str
    byte_size: int
    modified_ns: int


@dataclass
class FileList:
    """files in the order they will be registered, and one sentence for everything that could not be looked at."""

    files: list[FoundFile] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def find_files(paths: Sequence[str | os.PathLike[str]], shard: tuple[int, int] = (1, 1)) -> FileList:
    """The files named, and the images and films in the folders named, at any depth; each once, in order of their names.

    In folders only files with the suffix of an image or a film count; what begins with a dot is passed over, and a
    folder that links lead to twice is read once. A file that is named itself counts whatever its suffix.

    shard: (number, count). Of the pictures in folders, only this machine's share: every picture falls to exactly one
    number from 1 to count, by its path below the folder, so that machines may see the folder at different places.
    """
    found = FileList()
    seen: set[str] = set()
    for name in paths:
        path = os.path.abspath(name)
        try:
            status = os.stat(path)
        except (OSError, ValueError) as error:
            found.failures.append(_explain(path, error))
            continue
        if not stat.S_ISDIR(status.st_mode):
            candidates: Iterable[tuple[str, os.stat_result]] = [(path, status)]
        else:
            candidates = (pair for pair in _walk(path, found.failures) if _is_in_shard(pair[0], path, shard))
        for file_path, file_status in candidates:
            if file_path not in seen:
                seen.add(file_path)
                found.files.append(FoundFile(file_path, file_status.st_size, file_status.st_mtime_ns))
    return found


def _walk(top: str, failures: list[str]) -> Iterator[tuple[str, os.stat_result]]:
    suffixes = list_picture_suffixes() | list_film_suffixes()
    visited: set[tuple[int, int]] = set()
    folders = [top]
    while folders:
        folder = folders.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            failures.append(_explain(folder, error))
            continue
        below = []
        for entry in visible:
            try:
                if entry.is_dir():
                    below.append(entry.path)
                elif os.path.splitext(entry.name)[1].lower() in suffixes:
                    yield entry.path, entry.stat()
            except OSError as error:
                failures.append(_explain(entry.path, error))
        folders += reversed(below)


def _is_in_shard(path: str, top: str, shard: tuple[int, int]) -> bool:
    number, count = shard
    below = os.path.relpath(path, top).replace(os.sep, "/")
    digest = hashlib.blake2b(os.fsencode(below), digest_size=8).digest()  # a CRC falls into patterns with 1.png, 2.png
    return int.from_bytes(digest, "big") % count == number - 1


def _explain(path: str, error: OSError | ValueError) -> str:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return f"{make_printable(path)} cannot be read ({reason}). Check that it is there and that you may."


def is_film(path: str) -> bool:
    """Whether a file is read as a film, by its suffix."""
    return os.path.splitext(path)[1].lower() in list_film_suffixes()


def is_missing(path: str) -> bool:
    """Whether there is certainly nothing at a path. Of what cannot be looked at that is not known."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False
