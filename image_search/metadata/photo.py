"""Metadata of photographs: caption, keywords, date, camera, lens, and the place if READ_GPS is set."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from image_search.metadata.containers.extracted import Extracted
from image_search.metadata.dates import read_date
from image_search.metadata.text import load_object

_MAX_KEYWORDS = 2000
_MAX_KEYWORD = 200  # characters
_PEOPLE = {"people", "person", "persons", "personen", "faces", "人物"}  # roots of hierarchies of names

# Texts that cameras and programs write in the place of a caption.
NO_CAPTION = re.compile(
    r"[\w ]{2,30} digital camera|(?:sony|samsung) (?:dsc|csc)|dcim\w*|default|untitled|screenshot|image|ascii"
    r"|created with (?:the )?gimp.*|creator: gd-jpeg.*|lead technologies.*|file written by adobe photoshop.*"
    r"|processed with .*|optimized (?:by|with) .*|applemark|intel\(r\) jpeg library.*|lavc[\d.]+"
    r"|handmade software.*|edited (?:by|with) \w+"
    r"|(?:created|optimi[sz]ed|compressed|generated|made|saved|encoded|resized) (?:by|with|using|in) .{1,100}"
    r"|cmp3\.\S{1,20} \S{1,20}|(?:novelai |ai )(?:generated|augmented) image"
    r"|copyright \(c\) \d{4} hewlett-packard.*|srgb iec.*|ezgif.*|jpegmini.*",
    re.IGNORECASE | re.DOTALL,
)
# Documents beside images that do not describe one of them.
_DOCUMENT = re.compile(
    r"(?:read[ _-]?me|licen[cs]e|copying|changelog|credits|notes?|index|links?|urls?)\b.*", re.IGNORECASE
)
_MAX_CAPTION = 8000  # characters of a text file beside an image; longer ones are documents
_NUMBERS = re.compile(r"[\d.,;:eE+-]+")  # of coordinates, which annotations of objects are full of


def read_photograph(
    found: Extracted, has_generator: bool, file_name: str = "", read_people: bool = False
) -> dict[str, Any]:
    """Values for ImageText by the names of its fields, without absent ones.

    has_generator: the texts are a generator's, so that none of them is a caption. file_name: may hold a date.
    read_people: names of people become keywords.
    """
    taken = read_date(found, file_name)
    values: dict[str, Any] = {
        "description": None if has_generator else _read_caption(found),
        "keywords": _read_keywords(found, read_people),
        "rating": _read_rating(found),
        "exposure": _describe_exposure(_get_number(found, "ExposureTime")),
        "aperture": _get_number(found, "FNumber"),
        "iso": int(_get_number(found, "ISO") or 0),
        "focal_length": _get_number(found, "FocalLength"),
        "camera": _name_camera(_get(found, "Make"), _get(found, "Model")),
        "lens": _get(found, "LensModel") or _first(found.xmp.get("Lens")),
        "latitude": _read_degrees(found, "GPSLatitude", "S", 90),
        "longitude": _read_degrees(found, "GPSLongitude", "W", 180),
    }
    if values["latitude"] is None or values["longitude"] is None:
        values["latitude"] = values["longitude"] = None
    if (values["latitude"], values["longitude"]) == (0, 0):  # a receiver that found no satellites
        values["latitude"] = values["longitude"] = None
    kept = {name: value for name, value in values.items() if value is not None and value not in ((), "", 0)}
    if taken:
        kept |= {"taken_at": taken.moment, "taken_precision": taken.precision, "taken_source": taken.source}
        kept |= {"taken_is_doubtful": taken.is_doubtful}
    return kept


def _read_rating(found: Extracted) -> int | None:
    """Stars of xmp:Rating or EXIF's, 1 to 5; 0 and -1 ("rejected") are none."""
    text = _first(found.xmp.get("Rating"))
    number = float(text) if text and re.fullmatch(r"-?\d{1,2}(\.\d+)?", text) else _get_number(found, "Rating")
    return int(number) if number is not None and 1 <= number <= 5 else None


def _describe_exposure(seconds: float | None) -> str | None:
    """As photographers write it: 1/250, 0.5, 30."""
    if not seconds or not 1e-6 <= seconds <= 86_400:
        return None
    return f"1/{round(1 / seconds)}" if seconds < 0.3 else f"{seconds:g}"


def _get_number(found: Extracted, name: str) -> float | None:
    value = found.exif.get(name)
    return round(value[0], 6) if isinstance(value, tuple) and value and value[0] > 0 else None


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
        *([text] for name, text in found.texts.items() if _is_caption_file(name, text)),
    )
    if title and caption and title not in caption:
        return f"{title}\n{caption}"
    return caption or title


def _is_caption_file(name: str, text: str) -> bool:
    """Whether a file beside an image is a caption: a text of words, not coordinates, JSON or a document."""
    file_name = name.removeprefix("sidecar:")
    if not name.startswith("sidecar:") or not file_name.lower().endswith(".txt") or _DOCUMENT.match(file_name):
        return False
    words = text.split(None, 200)[:200]
    numbers = sum(bool(_NUMBERS.fullmatch(word)) for word in words)
    is_language = len(text) <= _MAX_CAPTION and (numbers < 6 or 2 * numbers < len(words)) and numbers < len(words)
    start = text.lstrip("\ufeff \n\t")[:200].lower()
    return is_language and not start.startswith(("{", "[", "<html", "<!doctype", "<?xml", "<svg"))


def _read_keywords(found: Extracted, read_people: bool) -> tuple[str, ...]:
    words = [*found.iptc.get("keywords", []), *found.xmp.get("subject", [])]
    people = set(found.xmp.get("faces", []))
    for name in ("TagsList", "hierarchicalSubject", "LastKeyword"):
        for entry in found.xmp.get(name, []):
            levels = [level.strip() for level in re.split(r"[|/]", entry) if level.strip()]
            if len(levels) > 1 and levels[0].lower() in _PEOPLE:
                people.add(levels[-1])
            words += levels[-1:]
    words += people if read_people else ()
    words += (_get(found, "XPKeywords") or "").split(";")
    for tags in _read_sidecars(found, "tags", "keywords"):
        words += tags if isinstance(tags, list) else tags.split(",") if isinstance(tags, str) else []
    cleaned = (word.strip()[:_MAX_KEYWORD] for word in words if isinstance(word, str))
    left_out = set() if read_people else people
    return tuple(dict.fromkeys(word for word in cleaned if word and word not in left_out))[:_MAX_KEYWORDS]


def _read_sidecars(found: Extracted, *keys: str) -> list[Any]:
    """The values of these keys in JSON files beside the picture."""
    objects = (load_object(text) for name, text in found.texts.items() if name.startswith("sidecar:"))
    return [settings[key] for settings in objects if settings for key in keys if settings.get(key)]


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
