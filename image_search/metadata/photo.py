"""Metadata of photographs: caption, keywords, camera, lens, the place if READ_GPS is set, and the date."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Literal
from unicodedata import normalize

from image_search.metadata.containers import Extracted
from image_search.metadata.text import load_object

_MAX_KEYWORDS = 2000
_MAX_KEYWORD = 200  # characters
_PEOPLE = {"people", "person", "persons", "personen", "faces", "人物"}  # roots of hierarchies of names

# Texts that cameras and programs write in the place of a caption.
_NO_CAPTION = re.compile(
    r"(?:[\w ]{2,30} )?digital camera|null|none|n/a|undefined|\(null\)|no description|title|s?rgb|unicode|vsig:.*"
    r"|charset=\W?\w+\W?|(?:samsung|nikon|canon|pentax|fujifilm|sony|panasonic|olympus|leica|ulead|hp scan|mtk|qc|cmap)"
    r"|(?:img|dsc[nf]?|pict|p|avseq|screenshot)[_-]?\d{2,8}(?:[_-]\d{1,6})?|maker:\w+,date:.*|date:[\d:. -]+"
    r"|created with the gimp|jpeg encoder copyright.*|(?:progressive)?jpeg|compressed jpeg.*|ver[\d.]+|binary comment"
    r"|(?:picasa|paint\.net|irfanview|imagemagick|gifski|matplotlib|matlab|gnome-screenshot|canva|snapseed|handbrake"
    r"|lavf|x264|mozjpeg|qrencode)(?:,? (?:the mathworks.*|- core \d.*)|[ ,]{0,2}(?:v(?:er(?:sion)?)?\.? ?)?\d.*)?"
    r"|kodak digital science|digital stillcamera|digimax|mediatek camera.*|samsung camera pictures"
    r"|gif(?:89a|87a)|gif (?:edited|made) (?:on|with) .*|resized on https?:.*|produced by \w+|scanned document"
    r"|https?://\S+|www\.\S+|adobe photoshop (?:cs|lightroom|elements|cc).*"
    r"|(?:sony|samsung|minolta) (?:dsc|csc)|dcim\w*|default|untitled|no title|screenshot"
    r"|(?:image )?description|image|my beautiful picture|ascii|charset=\w+|\[?(?:exif[_ ])?jpeg(?:_picture)?\]?"
    r"|cof|dav|r?ptr|r?hdr|sdr|edf|oznor\w*|bty|mde|_cuva|fbmd[0-9a-f]+|metadata-start|[\w-]+:[\d.]+;.*"
    r"|creator: gd-jpeg.*|lead technologies.*|file written by adobe photoshop.*|(?:adobe )?photoshop[ \d.]*|adobe"
    r"|gimp|xnview|acd systems.*|u-lead systems.*|applemark|intel\(r\) jpeg library.*"
    r"|(?:moz)?jpeg-?(?:archive|recompress|mini| version).*|lavc[\d.]+|handmade software.*|software: .*"
    r"|(?:created|optimi[sz]ed|compressed|generated|made|saved|encoded|resized|edited|processed|scanned|captured|uploaded"
    r"|exported) (?:by|with|using|in|from) (?!(?:my|our|the|an?|his|her|me|us)\b).{1,100}"
    r"|cmp3\.\S{1,20} \S{1,20}|(?:novelai |ai )(?:generated|augmented) image"
    r"|copyright \(c\) \d{4} hewlett-packard.*|srgb iec.*|ezgif.*|\S*\.(?:jpe?g|png|gif|webp|heic|tiff?|bmp)",
    re.IGNORECASE | re.DOTALL,
)
_DATA_START = re.compile(r"\s*(?:\{|\[\s*[\[{\"\d\]]|<[?!/A-Za-z])")  # JSON and XML, which may be cut
_LETTER = re.compile(r"[^\W\d_]")


def is_caption(text: str) -> bool:
    """Whether a text that stands where captions do was written by a person."""
    text = text.strip()
    return bool(_LETTER.search(text)) and not _DATA_START.match(text) and not _NO_CAPTION.fullmatch(text)


# A text file beside an image is its caption unless it is a document, a table, or a list of records.
_MAX_CAPTION = 8000  # characters; longer ones are documents
_DOCUMENT_NAME = re.compile(
    r"(?:read[ _-]?me|licen[cs]e|copying|changelog|credits|notes?|index|links?|urls?)\b.*", re.IGNORECASE
)
_DOCUMENT = re.compile(
    r"\A(?:read[ _-]?me\b|#{1,6} |[^\n]+\n[=-]{3,}\n)|permission is hereby granted|redistribution and use in source"
    r"|without warrant|terms (?:of use|and conditions)|to view a copy of this licen[cs]e|general public license"
    r"|apache license|bound by the terms|thank you for (?:downloading|purchasing|buying)|利用規約|再配布|商用利用",
    re.IGNORECASE,
)
_CODE_START = re.compile(
    r"[{\[<]|WEBVTT|-----BEGIN|#!|#include|@echo|(?:import [\w.]+|from [\w.]+ import .*|def \w+\(.*)\n", re.IGNORECASE
)
_NUMBER = re.compile(r"(?:\w+=)?[\d.:eE+%-]+")  # of coordinates, which annotations of objects are full of
_RECORD = re.compile(
    r"(?:https?://|/|\./|[A-Za-z]:\\)\S+|\S+\.(?:jpe?g|png|gif|webp|bmp|tiff?|heic|txt|json|csv|xml|mp4|mov)"
    r"|[\w .-]{1,30}(?:[:=]\s*[\d.,x]+| = .*|:)|\[\w+\]|[\d:.,]+ --> .*|\d{4}-\d\d-\d\d[ T]\d\d:\d\d.*"
    r"|[0-9a-f]{32,}\b.*|[A-Za-z0-9+/=]{60,}",
    re.IGNORECASE,
)


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
        "camera": _name_camera(_get_text(found, "Make"), _get_text(found, "Model")),
        "lens": _get_text(found, "LensModel") or _first_text(found.xmp.get("Lens")),
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
    text = _first_text(found.xmp.get("Rating"), found.xmp.get("stars"))
    number = float(text) if text and re.fullmatch(r"-?\d{1,2}(\.\d+)?", text) else _get_number(found, "Rating")
    return int(number) if number is not None and 1 <= number <= 5 else None


def _describe_exposure(seconds: float | None) -> str | None:
    """An exposure as photographers write it: 1/250, 0.5, 30."""
    if not seconds or not 1e-6 <= seconds <= 86_400:
        return None
    return f"1/{round(1 / seconds)}" if seconds < 0.3 else f"{seconds:g}"


def _get_number(found: Extracted, name: str) -> float | None:
    value = found.exif.get(name)
    return round(value[0], 6) if isinstance(value, tuple) and value and value[0] > 0 else None


def _read_caption(found: Extracted) -> str | None:
    title = _first_caption(
        found.iptc.get("headline"), found.iptc.get("title"), found.xmp.get("title"), found.xmp.get("Headline")
    )
    exif = (_get_text(found, name) for name in ("ImageDescription", "XPTitle", "XPSubject", "XPComment", "UserComment"))
    texts = (text for name, text in found.texts.items() if name in ("JPEG:Comment", "GIF:Comment"))
    caption = _first_caption(
        found.iptc.get("caption"),
        *(found.xmp.get(name) for name in ("description", "caption", "AltText")),
        *([text] for text in (*exif, *texts, *_read_sidecars(found, "caption", "description", "content")) if text),
        *([text] for name, text in found.texts.items() if _is_caption_file(name, text)),
    )
    if title and caption and title not in caption:
        return f"{title}\n{caption}"
    return caption or title


def _is_caption_file(name: str, text: str) -> bool:
    """Whether a file beside an image is its caption: words, not a document, a table, coordinates, code or a list."""
    file_name, text = name.removeprefix("sidecar:"), text.strip("\ufeff \n\t")
    if (
        not name.startswith("sidecar:")
        or not file_name.lower().endswith((".txt", ".caption", ".jsonl"))
        or len(text) > _MAX_CAPTION
    ):
        return False
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not lines or _CODE_START.match(text):
        return False
    is_named = bool(_DOCUMENT_NAME.match(file_name))
    if (len(text) > 200 or len(lines) > 2 - is_named) and (is_named or _DOCUMENT.search(text)):
        return False
    return not _is_table(lines) and 2 * sum(map(_is_record, lines)) < len(lines)


def _is_table(lines: list[str]) -> bool:
    """Whether all lines have the same columns; with blanks behind the signs between them it takes three."""
    for sign in "\t;|,":
        widths = {len(row) for row in csv.reader(lines, delimiter=sign)}
        has_blanks = any(f"{sign} " in line for line in lines)
        if len(widths) == 1 and min(widths) > 1 + has_blanks and len(lines) > 1 + has_blanks:
            return True
    return False


def _is_record(line: str) -> bool:
    words = re.split(r"[\s,;]+", line)
    numbers = sum(bool(_NUMBER.fullmatch(word)) for word in words)
    return numbers == len(words) or (numbers > 3 and 2 * numbers > len(words)) or bool(_RECORD.fullmatch(line))


def _read_keywords(found: Extracted, read_people: bool) -> tuple[str, ...]:
    words = [*found.iptc.get("keywords", []), *found.xmp.get("subject", []), *found.xmp.get("keywords", [])]
    people = {name.strip() for key in ("faces", "People", "PersonInImage") for name in found.xmp.get(key, [])}
    automatic: set[str] = set()
    for name in ("TagsList", "hierarchicalSubject", "LastKeyword", "CatalogSets"):
        for entry in found.xmp.get(name, []):
            levels = [level.strip() for level in re.split(r"[|/]", entry) if level.strip()]
            if len(levels) > 1 and levels[0] == "darktable":  # what it did: darktable|format|jpg
                automatic.update(levels)
                continue
            if len(levels) > 1 and levels[0].lower() in _PEOPLE:
                people.add(levels[-1])
            words += levels[-1:]
    words += sorted(people) if read_people else ()
    words += (_get_text(found, "XPKeywords") or "").split(";")
    for tags in _read_sidecars(found, "tags", "keywords", "tag_string"):
        words += tags if isinstance(tags, list) else _split_tags(tags) if isinstance(tags, str) else []
    cleaned = (word.strip()[:_MAX_KEYWORD] for word in words if isinstance(word, str))
    left_out = automatic | (set() if read_people else people)
    return tuple(dict.fromkeys(word for word in cleaned if word and word not in left_out))[:_MAX_KEYWORDS]


def _split_tags(tags: str) -> list[str]:
    """Words between commas, or between blanks as boorus write them: long_hair 1girl."""
    return tags.split() if "," not in tags and "_" in tags else tags.split(",")


def _read_sidecars(found: Extracted, *keys: str) -> list[Any]:
    """The values of these keys in JSON files beside the image."""
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


def _get_text(found: Extracted, name: str) -> str | None:
    value = found.exif.get(name)
    if isinstance(value, str):
        return value.strip() or None
    return _first_text(found.xmp.get(name))


def _first_text(*lists: Iterable[Any] | None) -> str | None:
    return next((text for text in _join_lists(lists) if text), None)


def _first_caption(*lists: Iterable[Any] | None) -> str | None:
    return next((text for text in _join_lists(lists) if is_caption(text)), None)


def _join_lists(lists: Iterable[Iterable[Any] | None]) -> Iterator[str]:
    """Each list as one text."""
    return ("\n".join(value for value in values if isinstance(value, str)).strip() for values in lists if values)


# When an image was taken: the first plausible date of the sources below, in the order of their trust.
#
# docs/metadata.md lists the order. A date is local time of the place, without zone, as cameras write it; where only UTC
# is known (Google Takeout, GPS), it is UTC. Zones that are written beside a time are not applied.
#

Precision = Literal["second", "day", "month", "year"]

_FIRST_PHOTOGRAPH = 1826

# Half of the day, before the time or behind it, in the languages that phones write it in.
_HALF = r"(?:[AaPp]\.?[Mm]\.?|午前|午後|上午|下午|오전|오후)"
_DATE = re.compile(
    r"\s*(?P<year>\d{4})(?:[:\-/.年] ?(?P<month>\d{1,2})(?:[:\-/.月] ?(?P<day>\d{1,2})日?"
    rf"(?:[T _-]?\s*(?P<half>{_HALF}\s*)?(?P<hour>\d{{1,2}})[:.時-] ?(?P<minute>\d{{1,2}})"
    rf"(?:[:.分-] ?(?P<second>\d{{1,2}})秒?(?:[.,]\d+)?)?(?P<half_after>\s*{_HALF})?)?)?)?(?!\d)"
)
_COMPACT = re.compile(
    r"(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})"
    r"(?:[T _-]?(?P<hour>\d{2})(?P<minute>\d{2})(?P<second>\d{2}))?"
)
# Names that cameras, phones, messengers and people give. Digits without separators are a date where they stand alone or
# follow a camera's word, but not in the number of a thing (a seed, price or telephone), nor as part of a code.
_SPOKEN = (  # between day and time, by macOS and WhatsApp
    r"(?:at|um|om|o|v|à|às|à\(s\)|alle|klo?\.?|kello|a las?|a les|a la\(s\)|saat|pukul|lúc|στις|в|о|у|об)"
)
_TIME = (
    rf"(?:[\s_T,-]{{0,3}}(?:{_SPOKEN}\s+)?(?P<half>{_HALF}\s*)?"
    r"(?P<hour>[01]\d|2[0-3]|\d(?=[-_.:h時\s]))[-_.:h時\s]?(?P<minute>[0-5]\d)"
    r"(?:[-_.:m分\s]?(?P<second>[0-5]\d)秒?(?:\d{2,3}(?!\d))?|分|(?<=\d{12}))"
    rf"(?P<half_after>\s*{_HALF}\b)?(?!\d))?"
)
_YEAR = r"(?<!\d)(?P<year>(?=19[1-9]|20)\d\d(?P<short>\d\d))"
_AGAIN = r"(?=_(?P=short)(?P=month)(?P=day)(?!\d))"  # LINE_ALBUM_20240203_240203: no time
_NAMES = (
    re.compile(rf"{_YEAR}(?P<dash>[-_]|\.(?=\d\d\.\d\d))(?P<month>\d{{1,2}})(?P=dash)(?P<day>\d{{1,2}}){_TIME}(?!\d)"),
    re.compile(rf"{_YEAR}[年년]\s?(?P<month>\d{{1,2}})[月월](?:\s?(?P<day>\d{{1,2}})[日일](?:\s?\(\w\))?{_TIME})?"),
    re.compile(rf"@(?P<day>\d\d)-(?P<month>\d\d)-(?P<year>20\d\d){_TIME}(?!\d)"),  # Telegram's export
    re.compile(rf"(?<![\d.])(?P<day>\d{{1,2}})\.(?P<month>\d{{1,2}})\.(?P<year>(?:19[1-9]|20\d)\d){_TIME}(?![\d.]\d)"),
    re.compile(  # Nextcloud on iOS, 24-02-03 10-11-12 1234, and photo editors; iOS in German
        r"(?:^|(?<=[A-Za-z]_))(?P<year>\d\d)-(?P<month>\d\d)-(?P<day>\d\d)[ _]"
        r"(?P<hour>[01]\d|2[0-3])-(?P<minute>[0-5]\d)-(?P<second>[0-5]\d)(?!\d)"
    ),
    re.compile(
        r"(?<![\d.])(?P<day>\d\d)\.(?P<month>\d\d)\.(?P<year>\d\d), (?P<hour>[01]\d|2[0-3])[ _.](?P<minute>[0-5]\d)"
        r"[ _.](?P<second>[0-5]\d)(?!\d)"
    ),
    re.compile(r"^LINE_(?:ALBUM|MOVIE)_.{1,200}_(?P<year>\d\d)(?P<month>\d\d)(?P<day>\d\d)_\d{1,4}(?!\d)"),
    re.compile(  # cameras of cars and helmets: 2024_0203_101112_001
        rf"{_YEAR}(?P<dash>[-_])(?P<month>\d\d)(?P<day>\d\d)(?P=dash)"
        r"(?P<hour>[01]\d|2[0-3])(?P<minute>[0-5]\d)(?P<second>[0-5]\d)(?!\d)"
    ),
    re.compile(rf"{_YEAR}(?P<month>\d\d)(?P<day>\d\d)(?:{_AGAIN}|{_TIME})(?!\d)"),
)
_CAMERA_WORD = re.compile(
    r"(?:IMG|VID|MOV|PXL|MVIMG|PANO|BURST|DSC|SAVE|signal|Screen\w*|WhatsApp|Photo|Picture|Video|Scan|Snapchat)?", re.I
)
_THING = re.compile(
    r"(?:[¥$€£#№]|\d\.|(?:^|[^A-Za-z])(?:seed|id|no|nr|tel|phone|fax|order|invoice|price|sku|isbn|item|code|serial|sn"
    r"|番号|電話|価格|注文|品番)[-_. :#]*)$",
    re.IGNORECASE,
)
_UNIT = re.compile(r"[A-Za-z円元원]|ドル|[-_ ]\d{7}")
# UUIDs, numbers of LINE and Pixiv, AUTOMATIC1111's counter and seed.
_CODE = re.compile(
    r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|\bS__\d+|^\d+_p\d+|^\d{5}-\d+(?=\.\w+$|$)", re.IGNORECASE
)
# Times since 1970: in milliseconds by apps that save images, in seconds by iOS's screen recordings. No time is what
# follows another number or Messenger's word (ids of Facebook), or precedes a code (Unsplash).
_SINCE_1970 = re.compile(
    r"(?<!\d)(?P<milliseconds>1\d{12})(?:[-_]1\d{12})?(?![A-Za-z\d]|[-_][\da-f]{7})"
    r"|RPReplay_Final(?P<seconds>1\d{9})(?!\d)",
    re.IGNORECASE,
)
_NO_APP = re.compile(r"(?!mmexport).*?(?:\d{4}|(?<![A-Za-z\d])\d|^received_|^messenger)", re.IGNORECASE)
_FIRST_APP = datetime(2010, 1, 1)  # no app named images so before
# Dates of cameras whose clock was never set, beside midnight of the first of January.
_RESET = {datetime(2002, 12, 8, 12, 0)}
# Days on which clocks begin, in any time zone: no photograph was taken on them.
_EPOCHS = {date(1904, 1, 1), date(1969, 12, 31), date(1970, 1, 1), date(1899, 12, 30), date(1899, 12, 31)}


@dataclass(frozen=True)
class TakenAt:
    """A date with how much of it is known, where it was read, and whether a reset clock may have written it."""

    moment: datetime
    precision: Precision
    source: str
    is_doubtful: bool = False


def read_date(found: Extracted, file_name: str = "") -> TakenAt | None:
    """The most trusted date that is plausible; None when nothing says one."""
    for source, text in _list_texts(found):
        if text and (taken := _read_text(text, source)):
            return taken
    for part in ("", "digitized "):
        iptc = "".join(
            [*found.iptc.get(f"{part}date", [])[:1], *(t[:6] for t in found.iptc.get(f"{part}time", [])[:1])]
        )
        if taken := _parse(_COMPACT.match(iptc) or _DATE.match(iptc), "iptc"):
            return taken
    for source, text in (("exif", _get(found, "DateTime")), ("xmp", _first(found.xmp.get("DateTime")))):
        if taken := _read_text(text, source):
            return taken
    if taken := _read_takeout(found):
        return taken
    if taken := _read_png_text(found):
        return taken
    if taken := _parse(_DATE.match(_get(found, "GPSDateStamp")), "gps"):
        return TakenAt(taken.moment.replace(hour=0, minute=0, second=0), "day", "gps")  # of UTC: the day at most
    if taken := parse_name(file_name):
        return taken
    return _parse(_DATE.match(found.texts.get("PNG:tIME", "")), "png")


def parse_name(file_name: str) -> TakenAt | None:
    """The date in a file name as phones, cameras and messengers give it: IMG-20240203-WA0001, 2024-02-03 10.11.12."""
    name = _CODE.sub("?", normalize("NFKC", file_name[:255]))
    for pattern in _NAMES:
        for match in pattern.finditer(name):
            if (pattern is not _NAMES[-1] or _is_date(match)) and (taken := _parse(match, "name")):
                return taken
    return _read_since_1970(name)


def _read_since_1970(name: str) -> TakenAt | None:
    """The date of a number that counts from 1970, UTC; none of the future, or of before there were such names."""
    found = _SINCE_1970.search(name)
    if not found or not (unit := found.lastgroup):
        return None
    before, after = name[: found.start()], name[found.end() :]
    if _NO_APP.match(before) or _THING.search(before) or _UNIT.match(after):
        return None
    moment = datetime(1970, 1, 1) + timedelta(**{unit: int(found[unit])})
    is_possible = _FIRST_APP <= moment <= datetime.now(UTC).replace(tzinfo=None) + timedelta(days=1)
    return _judge(moment, "second", "name") if is_possible else None


def _is_date(match: re.Match[str]) -> bool:
    """Whether eight digits of a name are a date, by what stands around them."""
    before, after = match.string[: match.start()], match.string[match.end() :]
    letters = re.search(r"[A-Za-z]*$", before)
    word = letters[0] if letters else ""
    if before.removesuffix(word)[-1:].isdecimal() and word:
        return False  # of a hash
    if match["hour"]:
        return not re.match(r"[A-Ya-y]", after)
    return bool(_CAMERA_WORD.fullmatch(word)) and not _THING.search(before) and not _UNIT.match(after)


def _list_texts(found: Extracted) -> Iterator[tuple[str, str]]:
    for name in ("DateTimeOriginal", "DateTimeDigitized"):
        yield "exif", _get(found, name)
    for name in ("DateTimeOriginal", "DateCreated", "CreateDate", "DateTimeDigitized", "date"):
        yield "xmp", _first(found.xmp.get(name))
    yield "exif", found.texts.get("exif:DateTimeOriginal", "")  # ImageMagick's PNG


def _read_takeout(found: Extracted) -> TakenAt | None:
    """photoTakenTime of Google Takeout's JSON beside an image, seconds since 1970, UTC."""
    for name, text in found.texts.items():
        taken = (load_object(text) or {}).get("photoTakenTime") if name.startswith("sidecar:") else None
        seconds = taken.get("timestamp") if isinstance(taken, dict) else None
        if isinstance(seconds, str | int) and re.fullmatch(r"-?\d{1,11}", str(seconds)):
            moment = datetime(1970, 1, 1) + timedelta(seconds=int(seconds))
            return _judge(moment, "second", "takeout")
    return None


# As people and programs write a date into a PNG, besides RFC 1123.
_SPELT_DATES: dict[str, Precision] = {
    "%d %B %Y": "day", "%d %b %Y": "day", "%B %d, %Y": "day", "%b %d, %Y": "day", "%d.%m.%Y": "day",
    "%d.%m.%Y %H:%M:%S": "second",
}  # fmt: skip


def _read_png_text(found: Extracted) -> TakenAt | None:
    names = ("creation time", "create-date", "creationtime", "creation_time", "date")
    text = next((text for name, text in found.texts.items() if name.lower() in names), "")
    if taken := _read_text(text, "png"):
        return taken
    for form, precision in _SPELT_DATES.items():
        with suppress(ValueError):
            return _judge(datetime.strptime(text.strip(), form), precision, "png")
    try:
        return _judge(parsedate_to_datetime(text).replace(tzinfo=None), "second", "png")  # RFC 1123, as PNG suggests
    except (ValueError, TypeError, IndexError):
        return None


def _read_text(text: str, source: str) -> TakenAt | None:
    """A date as programs write it: with separators, as digits alone, or as C prints it."""
    if taken := _parse(_DATE.match(text) or _COMPACT.fullmatch(text.strip()), source):
        return taken
    try:
        return _judge(datetime.strptime(text.strip(), "%a %b %d %H:%M:%S %Y"), "second", source)
    except ValueError:
        return None


def _parse(match: re.Match[str] | None, source: str) -> TakenAt | None:
    if match is None:
        return None
    parts = match.groupdict()
    month, day, hour = (int(parts[name]) if parts.get(name) else None for name in ("month", "day", "hour"))
    if source != "name":  # where zeros say that it is not known
        month, day = month or None, day or None
    precision: Precision = "year" if month is None else "month" if day is None else "day" if hour is None else "second"
    hour = hour or 0
    half = (parts.get("half") or parts.get("half_after") or "").strip().lower()
    if half and hour <= 12:
        hour = hour % 12 + (12 if half.startswith(("p", "午後", "下", "오후")) else 0)
    second = int(parts.get("second") or 0)
    minute = int(parts.get("minute") or 0)
    if hour > 24 or minute > 59 or second > 60:
        return None
    try:
        year = int(parts["year"])
        moment = datetime(
            year + 2000 if len(parts["year"]) == 2 else year, 1 if month is None else month, 1 if day is None else day
        )
        # 24:05 is 00:05 of the next day, and a leap second the next second.
        moment += timedelta(hours=hour, minutes=minute, seconds=second)
    except (ValueError, OverflowError):  # zeros of a clock that was never set, a thirteenth month
        return None
    return _judge(moment, precision, source)


def _judge(moment: datetime, precision: Precision, source: str) -> TakenAt | None:
    if not _FIRST_PHOTOGRAPH <= moment.year <= datetime.now(UTC).year + 1 or moment.date() in _EPOCHS:
        return None
    is_new_year = precision == "second" and (moment.month, moment.day, moment.hour, moment.minute) == (1, 1, 0, 0)
    is_doubtful = source in ("exif", "xmp") and (is_new_year or moment.replace(second=0, microsecond=0) in _RESET)
    return TakenAt(moment, precision, source, is_doubtful)


def _get(found: Extracted, name: str) -> str:
    value = found.exif.get(name)
    return value.strip() if isinstance(value, str) else ""


def _first(values: Iterable[Any] | None) -> str:
    return next((value for value in values or () if isinstance(value, str)), "")
