"""What photographers and their cameras say: caption, keywords, date, camera, lens, and the place if asked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from image_search.metadata.containers.extracted import Extracted
from image_search.metadata.text import load_object

_MAX_KEYWORDS = 500
_MAX_KEYWORD = 200  # characters

# What cameras and programs write where a caption should be.
NO_CAPTION = re.compile(
    r"[\w ]{2,30} digital camera|(?:sony|samsung) (?:dsc|csc)|dcim\w*|default|untitled|screenshot|image|ascii"
    r"|created with (?:the )?gimp.*|creator: gd-jpeg.*|lead technologies.*|file written by adobe photoshop.*"
    r"|processed with .*|optimized (?:by|with) .*|applemark|intel\(r\) jpeg library.*|lavc[\d.]+"
    r"|handmade software.*|edited (?:by|with) \w+",
    re.IGNORECASE | re.DOTALL,
)
_DATE = re.compile(r"\s*(\d{4})[:\-/.](\d{1,2})[:\-/.](\d{1,2})(?:[T ](\d{1,2}):(\d{2})(?::(\d{2}))?)?")
_COMPACT_DATE = re.compile(r"(\d{4})(\d{2})(\d{2})(?:(\d{2})(\d{2})(\d{2}))?")


def read_photograph(found: Extracted, has_generator: bool) -> dict[str, Any]:
    """Values for ImageText by the names of its fields; what is not said is left out.

    has_generator: the texts are a generator's, so that none of them is a caption.
    """
    values: dict[str, Any] = {
        "description": None if has_generator else _read_caption(found),
        "keywords": _read_keywords(found),
        "taken_at": _read_date(found),
        "camera": _name_camera(_get(found, "Make"), _get(found, "Model")),
        "lens": _get(found, "LensModel") or _first(found.xmp.get("Lens")),
        "latitude": _read_degrees(found, "GPSLatitude", "S", 90),
        "longitude": _read_degrees(found, "GPSLongitude", "W", 180),
    }
    if values["latitude"] is None or values["longitude"] is None:
        values["latitude"] = values["longitude"] = None
    return {name: value for name, value in values.items() if value}


def _read_caption(found: Extracted) -> str | None:
    title = _first(
        found.iptc.get("headline"), found.iptc.get("title"), found.xmp.get("title"), found.xmp.get("Headline")
    )
    exif = (_get(found, name) for name in ("ImageDescription", "XPTitle", "XPSubject", "XPComment", "UserComment"))
    texts = (text for name, text in found.texts.items() if name in ("JPEG:Comment", "GIF:Comment"))
    caption = _first(
        found.iptc.get("caption"),
        found.xmp.get("description"),
        *([text] for text in (*exif, *texts, *_read_sidecars(found, "caption", "description")) if text),
        *([text] for name, text in found.texts.items() if name.startswith("sidecar:") and not load_object(text)),
    )
    if title and caption and title not in caption:
        return f"{title}\n{caption}"
    return caption or title


def _read_keywords(found: Extracted) -> tuple[str, ...]:
    words = [*found.iptc.get("keywords", []), *found.xmp.get("subject", [])]
    words += (_get(found, "XPKeywords") or "").split(";")
    for tags in _read_sidecars(found, "tags", "keywords"):
        words += tags if isinstance(tags, list) else tags.split(",") if isinstance(tags, str) else []
    cleaned = (word.strip()[:_MAX_KEYWORD] for word in words if isinstance(word, str))
    return tuple(dict.fromkeys(word for word in cleaned if word))[:_MAX_KEYWORDS]


def _read_sidecars(found: Extracted, *keys: str) -> list[Any]:
    """The values of these keys in JSON files beside the picture."""
    objects = (load_object(text) for name, text in found.texts.items() if name.startswith("sidecar:"))
    return [settings[key] for settings in objects if settings for key in keys if settings.get(key)]


def _read_date(found: Extracted) -> datetime | None:
    iptc = "".join([*found.iptc.get("date", [])[:1], *(time[:6] for time in found.iptc.get("time", [])[:1])])
    texts = [_get(found, "DateTimeOriginal"), _get(found, "DateTimeDigitized")]
    texts += [_first(found.xmp.get(name)) for name in ("DateTimeOriginal", "DateCreated")]
    for text in texts:
        if date := _make_date(_DATE.match(text) if text else None):
            return date
    return _make_date(_COMPACT_DATE.fullmatch(iptc)) or _make_date(_COMPACT_DATE.match(iptc))


def _make_date(match: re.Match[str] | None) -> datetime | None:
    try:
        return datetime(*(int(part or 0) for part in match.groups())) if match else None  # type: ignore[arg-type]
    except ValueError:  # a camera whose clock was never set writes zeros
        return None


def _name_camera(make: str | None, model: str | None) -> str | None:
    """The model, with its maker in front unless the model begins with it ("NIKON CORPORATION", "NIKON D90")."""
    if not model or re.match(r"\s*(?:prompt|workflow)\s*:", f"{make} {model}", re.IGNORECASE) or len(model) > 200:
        return None
    if not make or len(make) > 200 or model.lower().startswith(make.split()[0].lower()):
        return model
    return f"{make} {model}"


def _read_degrees(found: Extracted, name: str, negative: str, limit: int) -> float | None:
    parts = found.exif.get(name)
    if not isinstance(parts, tuple) or len(parts) != 3:
        return None
    degrees = parts[0] + parts[1] / 60 + parts[2] / 3600
    if found.exif.get(f"{name}Ref") == negative:
        degrees = -degrees
    return round(degrees, 7) if abs(degrees) <= limit else None


def _get(found: Extracted, name: str) -> str | None:
    value = found.exif.get(name)
    if isinstance(value, str):
        return value.strip() or None
    return _first(found.xmp.get(name))


def _first(*lists: Iterable[Any] | None) -> str | None:
    texts = ("\n".join(value for value in values if isinstance(value, str)).strip() for values in lists if values)
    return next((text for text in texts if text and not NO_CAPTION.fullmatch(text)), None)
