"""The bytes of a film: its identity, and the file as FFmpeg sees it, bounded in length and in time."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import time

from image_search.errors import UnreadableFilm
from image_search.images import make_printable

HASHED_BYTES = 2**20  # at each end


def hash_film(path: str | os.PathLike[str]) -> str:
    """The identity of a film as 64 hexadecimal digits.

    SHA-256 of: the size in bytes as 8 bytes, little end first; the first MiB; the last MiB. A file of 2 MiB or less is
    hashed whole, each byte once. A hash of every byte would take minutes for a film of many gigabytes. Containers keep
    their index, with the size and time of every frame, at one of the two ends, so two films that share both ends and
    the size are the same film for practical purposes; a change of bytes in the middle alone is not noticed.

    Raises UnreadableFilm when the file cannot be read or is empty.
    """
    with open_plain_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(size.to_bytes(8, "little"))
        try:
            digest.update(file.read(HASHED_BYTES))
            file.seek(max(HASHED_BYTES, size - HASHED_BYTES))
            digest.update(file.read(HASHED_BYTES))
        except OSError as error:
            raise UnreadableFilm(f"{name_file(path)} cannot be read ({error.strerror}).") from error
    return digest.hexdigest()


def open_plain_file(path: str | os.PathLike[str]) -> io.FileIO:
    """The file, unbuffered. Raises UnreadableFilm when it is no plain file, may not be read, or is empty."""
    name = name_file(path)
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise UnreadableFilm(f"{name} is a folder, not a film.")
        if not stat.S_ISREG(status.st_mode):  # opening a named pipe waits indefinitely for its writer
            raise UnreadableFilm(f"{name} is not a file.")
        if not status.st_size:
            raise UnreadableFilm(f"{name} is empty.")
        return open(path, "rb", buffering=0)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UnreadableFilm(f"{name} cannot be read ({reason}). Check that it is there and that you may.") from error


def name_file(path: str | os.PathLike[str]) -> str:
    return make_printable(os.fspath(path))


class Clock:
    """The time spent on a film so far, without the time its frames are used by others."""

    def __init__(self, max_seconds: float) -> None:
        self.max_seconds = max_seconds
        self._started = time.monotonic()
        self._paused: float | None = None

    @property
    def share(self) -> float:
        """Share of the time that is used up, 0 to 1 and more."""
        return ((self._paused or time.monotonic()) - self._started) / self.max_seconds

    @property
    def is_over(self) -> bool:
        return self.share >= 1

    def pause(self) -> None:
        self._paused = time.monotonic()

    def resume(self) -> None:
        if self._paused is not None:
            self._started += time.monotonic() - self._paused
            self._paused = None


class Source:
    """The file as FFmpeg sees it: as long as it was when it was opened, and at its end once the time is up."""

    def __init__(self, path: str | os.PathLike[str], clock: Clock) -> None:
        self._name = name_file(path)
        self._file = open_plain_file(path)
        self._clock = clock
        self.size = os.fstat(self._file.fileno()).st_size
        self._changed_ns = os.fstat(self._file.fileno()).st_mtime_ns

    def read(self, count: int) -> bytes:
        if self._clock.is_over:
            return b""
        return self._file.read(min(count, max(0, self.size - self._file.tell()))) or b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            offset, whence = self.size + offset, os.SEEK_SET
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()

    def is_cut_off(self) -> bool:
        """Whether it begins like an MP4 that has no index, which is written last."""
        position, boxes = 0, set()
        for _ in range(1000):
            self._file.seek(position)
            head = self._file.read(16)
            if len(head) < 16:
                break
            boxes.add(head[4:8])
            length = int.from_bytes(head[:4], "big")
            length = int.from_bytes(head[8:16], "big") if length == 1 else length
            if length < 8:
                break
            position += length
        return b"ftyp" in boxes and (b"moov" not in boxes or position > self.size)

    def is_webm(self) -> bool:
        """Whether it begins like a WebM, which is Matroska with another name of its kind."""
        position = self._file.tell()
        self._file.seek(0)
        head = self._file.read(128)
        self._file.seek(position)
        return b"\x42\x82\x84webm" in head

    def explain(self) -> list[str]:
        """A note when the file was written to meanwhile."""
        status = os.fstat(self._file.fileno())
        if (status.st_size, status.st_mtime_ns) == (self.size, self._changed_ns):
            return []
        return [f"{self._name} was changed while it was read. Register it again when it is finished."]
