"""A film as a file: its identity, its bytes as FFmpeg sees them, and what its container says.

The bytes are bounded in length and in time. A container says length, size, codec, when and where the film was
taken, and with which camera.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

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
        return b"\x42\x82\x84webm" in self.read_start(128)

    def read_start(self, count: int) -> bytes:
        """The first bytes, wherever the file is read just now."""
        position = self._file.tell()
        self._file.seek(0)
        start = self._file.read(count)
        self._file.seek(position)
        return start or b""

    def explain(self) -> list[str]:
        """A note when the file was written to meanwhile."""
        status = os.fstat(self._file.fileno())
        if (status.st_size, status.st_mtime_ns) == (self.size, self._changed_ns):
            return []
        return [f"{self._name} was changed while it was read. Register it again when it is finished."]


_EARLIEST_YEAR = 1990  # containers count from 1904 or 1970, and cameras without a clock write that
_DATE = re.compile(
    r"\s*(\d{4})[-:/](\d{2})[-:/](\d{2})[T ](\d{2}):(\d{2}):(\d{2})(?:\.\d+)?\s*(Z|[+-]\d{2}:?\d{2})?\s*", re.ASCII
)
# ISO 6709, annex H: degrees, degrees and minutes or degrees, minutes and seconds, with a fraction of the last.
_PLACE = re.compile(r"\s*([+-])(\d{2,6}(?:\.\d+)?)([+-])(\d{3,7}(?:\.\d+)?)(?:[+-]\d+(?:\.\d+)?)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class FilmFacts:
    """Facts of a whole film; None where the container does not say.

    duration_ms:         length in milliseconds.
    width, height:       pixels, upright and square.
    codec:               FFmpeg's name of it: h264, hevc, vp9, av1 ...
    rotation:            degrees counterclockwise by which stored frames were turned.
    is_hdr:              whether frames were brought from PQ or HLG to what a screen shows.
    taken_at:            local time, without zone, like the date of a photograph.
    latitude, longitude: degrees; the caller leaves them out unless READ_GPS is set.
    file_type:           MIME type of the container.
    """

    duration_ms: int | None
    width: int
    height: int
    codec: str
    rotation: int = 0
    is_hdr: bool = False
    taken_at: datetime | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    file_type: str = "video/mp4"


def find_file_type(demuxer: str, tags: Mapping[str, str], is_webm: bool) -> str:
    """MIME type of a container. demuxer: FFmpeg's name of its reader. is_webm: whether a Matroska file says so."""
    if demuxer.startswith("matroska"):
        return "video/webm" if is_webm else "video/x-matroska"
    if demuxer.startswith("mov"):
        return "video/quicktime" if tags.get("major_brand", "").startswith("qt") else "video/mp4"
    return {"avi": "video/x-msvideo", "mpegts": "video/mp2t"}.get(demuxer, "video/mp4")


def read_taken_at(tags: Mapping[str, str]) -> datetime | None:
    """When a film was taken, in local time without zone; None if it does not say.

    Apple's date carries the local time and its zone. The creation_time of containers is UTC and is brought to the zone
    of this machine.
    """
    return (
        _parse_date(tags.get("com.apple.quicktime.creationdate", ""), keep_local=True)
        or _parse_date(tags.get("creation_time", ""))
        or _parse_date(tags.get("date", ""))
    )


def read_place(tags: Mapping[str, str]) -> tuple[float | None, float | None]:
    """Latitude and longitude in degrees, both or neither."""
    for name in ("com.apple.quicktime.location.iso6709", "location", "location-eng"):
        match = _PLACE.match(tags.get(name, ""))
        if match:
            latitude, longitude = _parse_degrees(match[1], match[2], 2), _parse_degrees(match[3], match[4], 3)
            # Phones without a fix write zeros.
            if abs(latitude) <= 90 and abs(longitude) <= 180 and (latitude or longitude):
                return latitude, longitude
    return None, None


def read_camera(tags: Mapping[str, str]) -> str | None:
    """Maker and model, as for photographs."""
    make, model = (" ".join(tags.get(f"com.apple.quicktime.{name}", "").split())[:200] for name in ("make", "model"))
    if not make or not model or model.lower().startswith(make.split()[0].lower()):
        return model or None
    return f"{make} {model}"


def _parse_date(text: str, keep_local: bool = False) -> datetime | None:
    match = _DATE.fullmatch(text)
    if not match:
        return None
    try:
        date = datetime(*(int(part) for part in match.groups()[:6]))  # type: ignore[arg-type]
        if date.year < _EARLIEST_YEAR:
            return None
        zone = match[7]
        if not zone or keep_local:
            return date
        aware = datetime.fromisoformat(date.isoformat() + ("+00:00" if zone == "Z" else zone))
        return aware.astimezone().replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None


def _parse_degrees(sign: str, digits: str, whole: int) -> float:
    """whole: digits of the degrees; what follows them before the point is minutes, then seconds."""
    before, _, fraction = digits.partition(".")
    degrees, rest = before[:whole], before[whole:]
    parts = [degrees, *(rest[place : place + 2] for place in range(0, len(rest), 2))]
    parts[-1] = f"{parts[-1]}.{fraction or 0}"
    value = sum((float(part) / 60.0**power for power, part in enumerate(parts)), 0.0)
    return round(-value if sign == "-" else value, 7)
