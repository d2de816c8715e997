"""Facts in a film's container: length, size, codec, when and where it was taken, with which camera."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

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
