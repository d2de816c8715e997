"""A query: conditions among the words, dates and folders, one vector from words and images, and the plan made of it.

Conditions look like -犬, "red hat", camera:Sony, 2019年8月. One parser serves the page, the terminal and the
API. A date without a prefix is when an image was taken, and names a month at least: 2019 alone may be anything. All of
it may be typed in full width: ２０１９年８月, －犬, カメラ：Sony.

Words, images and what to leave out become one embedding by arithmetic on unit vectors.

With t for the words, p for the images, n for the exclusions, all of length 1, and w for the weight of the images:

    q = unit((1 - w) t + w p)        words and images together
    q = unit(q - EXCLUSION n)        moved away from the exclusions
"""

from __future__ import annotations

import ntpath
import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np

from image_search.encoders.base import Embeddings
from image_search.errors import ImageSearchError
from image_search.records import SearchFilter
from image_search.stores.base import EVERYTHING, CountedField, ImageStore
from image_search.stores.text import trim_model_name

if TYPE_CHECKING:
    from PIL import Image

# Names of conditions: field of SearchFilter, or min_rating, taken, registered.
_PREFIXES: dict[str, tuple[str, ...]] = {
    "camera": ("camera", "カメラ"),
    "lens": ("lens", "レンズ"),
    "generation_model": ("model", "モデル"),
    "lora": ("lora",),
    "min_rating": ("rating", "評価", "星"),
    "folder": ("folder", "フォルダー", "フォルダ"),
    "keyword": ("keyword", "キーワード"),
    "taken": ("taken", "撮影"),
    "registered": ("registered", "登録"),
}
_NAMES = {prefix: name for name, prefixes in _PREFIXES.items() for prefix in prefixes}
_QUOTED = r'["“”＂]([^"“”＂]*)["“”＂]'
_WIDE = {code: code + 0xFEE0 for code in range(ord("!"), ord("~") + 1)}  # Ａ is as good as A
_NAME = "|".join(sorted({*_NAMES, *(name.translate(_WIDE) for name in _NAMES)}, key=len, reverse=True))
_CONDITION = re.compile(
    rf"(?P<minus>[-－−])?(?:(?P<name>{_NAME})\s?[:：]\s*(?:{_QUOTED}|(?P<value>\S*))|{_QUOTED}|(?P<word>\S+))",
    re.IGNORECASE,
)
_COUNTED: dict[str, CountedField] = {
    "camera": "camera",
    "lens": "lens",
    "generation_model": "generation_model",
    "lora": "lora",
    "keyword": "keyword",
}
# A month at least, as it is written; 2024.5.1 and 20240501 may be a version or a seed.
_DATE = re.compile(
    r"\d{4}[-/]\d{1,2}(?:[-/]\d{1,2})?|(?:\d{4}|(?:明治|大正|昭和|平成|令和)(?:元|\d{1,2}))年(?:\d{1,2}月(?:\d{1,2}日)?)?",
    re.ASCII,
)
_TOLD = 3  # other values in a note
_RANGE = re.compile(r"\.\.|[~〜～]")


class ConditionNotUnderstood(ImageSearchError):
    """A typed condition has a value that means nothing."""


@dataclass(frozen=True)
class TypedConditions:
    """A query taken apart. text: the words that are left; rest: those with quoted and excluded ones, as typed.

    required: phrases that must occur; excluded: words and phrases to leave out; values: by name of the condition, as
    typed, the last one where it was typed twice (superseded: the others). negated: conditions with a minus, which mean
    nothing. notes: sentences on what was made of the values.
    """

    text: str = ""
    rest: str = ""
    required: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    values: tuple[tuple[str, str], ...] = ()
    superseded: tuple[str, ...] = ()
    negated: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def has_conditions(self) -> bool:
        return bool(self.required or self.excluded or self.values)


def parse_conditions(typed: str) -> TypedConditions:
    """Take a query apart. Any text is a query: what is no condition is a word."""
    words: list[str] = []
    rest: list[str] = []
    required: list[str] = []
    excluded: list[str] = []
    superseded: list[str] = []
    negated: list[str] = []
    values: dict[str, str] = {}

    def take(name: str, value: str) -> None:
        if name in values:
            superseded.append(values[name])
        values[name] = value

    for token in _CONDITION.finditer(typed):
        named, phrase = token[3] if token[3] is not None else token["value"], token[5]
        if token["name"] and named and named.strip() and not token["minus"]:
            take(_NAMES[_fold(token["name"])], _clean(named))
            continue
        whole = token[0].strip()
        plain = _WEEKDAY.sub("", _write_digits(unicodedata.normalize("NFKC", whole)))
        # A word with 年 is meant as a date, and refused where there is no such day; 2024-13 may be anything.
        dates = split_range(plain)
        if (
            phrase is None
            and not token["minus"]
            and all(map(_DATE.fullmatch, dates))
            and ("年" in plain or all(map(parse_date, dates)))
        ):
            take("taken", plain)
            continue
        rest.append(whole)
        if token["name"] and named and named.strip():
            negated.append(whole)
        if phrase is not None:
            if _clean(phrase):
                (excluded if token["minus"] else required).append(_clean(phrase))
        elif token["minus"] and whole[1:]:
            excluded.append(_clean(whole[1:]))
        else:
            words.append(whole)
    phrases = _unique(required), _unique(excluded)
    others = tuple(superseded), tuple(negated)
    return TypedConditions(" ".join(words), " ".join(rest), *phrases, tuple(values.items()), *others)


def split_range(text: str) -> tuple[str, str]:
    """The first and the last date of a range (2024-05..2024-08); one date is both."""
    first, *last = _RANGE.split(text, maxsplit=1)
    return first.strip(), (last[0] if last else first).strip()


def _clean(text: str) -> str:
    return " ".join(text.split())


def _unique(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(text for text in dict.fromkeys(texts) if text)


def read_rating(value: str) -> int | None:
    """1 to 5 stars: a number, or as many stars; None for anything else."""
    plain = unicodedata.normalize("NFKC", value).strip()
    if plain and set(plain) <= {"★", "*"}:
        return len(plain) if len(plain) <= 5 else None
    return int(plain) if re.fullmatch(r"[1-5]", plain, re.ASCII) else None


def resolve_values(typed: TypedConditions, store: ImageStore) -> TypedConditions:
    """Typed names as the library writes them: camera:sony is "SONY ILCE-7M4" where that is there.

    Raises ConditionNotUnderstood, StoreError.
    """
    for condition in typed.negated:
        raise ConditionNotUnderstood(f"{condition}: a condition cannot be left out. Leave words out, as -word.")
    values = []
    notes = [f"{value} is passed over for what was typed after it." for value in typed.superseded]
    for name, value in typed.values:
        if name == "folder":
            found = _find_folders(value, store.count_values("folder"))
        elif name in ("generation_model", "lora"):
            known = map(trim_model_name, store.count_values(_COUNTED[name]))
            found = find_values(trim_model_name(value), known)
        elif name in _COUNTED:
            found = find_values(value, store.count_values(_COUNTED[name]))
        else:
            found = []
        values.append((name, found[0] if found else value))
        if len(found) > 1:
            others = ", ".join(found[1 : _TOLD + 1]) + (" and others" if len(found) > _TOLD + 1 else "")
            notes.append(f"{_PREFIXES[name][0]}:{value} is taken for {found[0]}; type more of the name for {others}.")
    return replace(typed, values=tuple(values), notes=tuple(notes))


def find_values(typed: str, known: Iterable[str]) -> list[str]:
    """The values that may be meant, each once: the same but for case and width, or those that have it inside."""
    plain = _fold(typed)
    folded = {value: _fold(value) for value in known}
    same = [value for value, text in folded.items() if text == plain]
    return same[:1] or [value for value, text in folded.items() if plain in text]


def _find_folders(typed: str, known: Iterable[str]) -> list[str]:
    """A whole path as it is; else the paths of the folders of this name."""
    if typed.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", typed):
        return [typed]
    wanted = _fold(typed.strip("/\\"))
    found: list[str] = []
    for folder in known:
        parts = re.split(r"([/\\])", folder)
        places = (place for place in range(0, len(parts), 2) if _fold(parts[place]) == wanted)
        found += ["".join(parts[: place + 1]) for place in places][:1]
    return list(dict.fromkeys(found))


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def apply_conditions(typed: TypedConditions, filter: SearchFilter) -> SearchFilter:
    """The filter with the typed values, which win. Raises ConditionNotUnderstood."""
    changes: dict[str, Any] = {}
    for name, value in typed.values:
        if name in ("taken", "registered"):
            first, last = split_range(value)
            since, until = parse_date(first), parse_date(last, last=True)
            if since is None or parse_date(last) is None:
                raise ConditionNotUnderstood(f"{name}:{value} is not a date. Write 2024-05-01, 2024-05 or 2024.")
            if until is not None and until <= since:
                raise ConditionNotUnderstood(f"{name}:{value} ends before it begins. Swap the two dates.")
            changes |= {f"{name}_from": since, f"{name}_to": until or datetime.max}
        elif name == "min_rating":
            changes[name] = read_rating(value)
            if changes[name] is None:
                raise ConditionNotUnderstood(f"rating:{value} is not understood. Write rating:1 to rating:5.")
        else:
            changes[name] = value
    return replace(filter, **changes) if changes else filter


# Parse the text of a query: meaning, words, "required words" and -excluded ones.

# A minus before a word, or before a quoted phrase, at the beginning of a token; as typed on every keyboard.
_TOKEN = re.compile(r'(?P<minus>[-－−]?)(?:["“”＂](?P<phrase>[^"“”＂]*)["“”＂]|(?P<word>\S+))')
_QUOTES = '"“”＂'
# Identifiers, not descriptions: file names, seeds, names of models and error codes.
_IDENTIFIER = re.compile(r"(?a:(?=.*\d)[\w.:()-]{4,}|\w+_\w+)|\S+\.[A-Za-z]{3,4}")


@dataclass(frozen=True)
class ParsedText:
    """meaning: for the encoder, "" when nothing is left. words: to look up, the required ones among them."""

    meaning: str = ""
    words: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    @property
    def is_identifier_query(self) -> bool:
        """Whether only identifiers were typed, of which the spelling counts and the meaning says nothing."""
        return bool(self.words) and all(_IDENTIFIER.fullmatch(word) for word in self.words)


def parse_text(text: str) -> ParsedText:
    """Take a query apart. Any text is a query: a quote without its partner or a lone minus is just a character."""
    words, required, excluded = [], [], []
    for token in _TOKEN.finditer(text):
        phrase = token["phrase"]
        word = " ".join((phrase if phrase is not None else token["word"].strip(_QUOTES)).split())
        if not word:
            continue
        if token["minus"]:
            excluded.append(word)
            continue
        words.append(word)
        if phrase is not None:
            required.append(word)
    return ParsedText(" ".join(words), tuple(words), tuple(required), tuple(excluded))


def split_excluded(text: str) -> list[str]:
    """The phrases in a field of words to leave out: the unquoted words as one phrase, and each "quoted" phrase."""
    phrases = [" ".join(phrase.split()) for phrase in re.findall(r'"([^"]*)"', text)]
    run = " ".join(re.sub(r'"[^"]*"', " ", text).replace('"', " ").split())
    return [phrase for phrase in dict.fromkeys([run, *phrases]) if phrase]


# Days as people type them, for everything that asks for one: the page, its address, the terminal.

_DATES = tuple(
    re.compile(pattern, re.ASCII)
    for pattern in (
        r"(\d{4})(?:[-/.](\d{1,2})(?:[-/.](\d{1,2}))?)?",
        r"(\d{4})(\d{2})(\d{2})",
        r"(\d{4})\s*年(?:\s*(\d{1,2})\s*月(?:\s*(\d{1,2})\s*日)?)?",
    )
)


# Eras of Japan: their first day, and that after their last.
_ERAS = {
    "明治": (datetime(1868, 10, 23), datetime(1912, 7, 30)),
    "大正": (datetime(1912, 7, 30), datetime(1926, 12, 25)),
    "昭和": (datetime(1926, 12, 25), datetime(1989, 1, 8)),
    "平成": (datetime(1989, 1, 8), datetime(2019, 5, 1)),
    "令和": (datetime(2019, 5, 1), datetime(9999, 1, 1)),
}
_ERA_LETTERS = dict(zip("MTSHR", _ERAS, strict=True))
_ERA_DATE = re.compile(
    r"(?P<era>明治|大正|昭和|平成|令和|[MTSHR])\s*(?P<number>元|\d{1,2})\s*"
    r"(?:[年./-]\s*(?:(?P<month>\d{1,2})\s*[月./-]?\s*(?:(?P<day>\d{1,2})\s*日?)?)?)?",
    re.IGNORECASE | re.ASCII,
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_ENGLISH = (
    re.compile(r"(?:(?P<day>\d{1,2})\s+)?(?P<name>[A-Za-z]{3,9})\.?,?\s+(?P<year>\d{4})", re.ASCII),
    re.compile(r"(?P<name>[A-Za-z]{3,9})\.?\s+(?P<day>\d{1,2}),?\s+(?P<year>\d{4})", re.ASCII),
)
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—−", "-"))
_WEEKDAY = re.compile(r"\s*(?:\([月火水木金土日]\)|[月火水木金土日]曜日?)$")


def parse_date(text: str, last: bool = False) -> datetime | None:
    """The first moment of a day, month or year (2024-05-01, 2024-05, 2024); with last, of the one after it.

    Also 2024/5/1, 2024.5.1, 20240501, 2024年5月1日, 令和6年5月1日, R6.5.1, May 1, 2024, 二〇二四年五月一日 and
    digits of full width. None for what is no date, such as a day that its era did not have.
    """
    plain = _WEEKDAY.sub("", _write_digits(unicodedata.normalize("NFKC", text[:100]).strip().translate(_DASHES)))
    numbers, era = _split_date(plain)
    if numbers is None:
        return None
    year, month, day = numbers
    try:
        start = datetime(year, 1 if month is None else month, 1 if day is None else day)
        if day is not None:
            end = start + timedelta(days=1)
        elif month is not None:
            end = datetime(year + month // 12, month % 12 + 1, 1)
        else:
            end = datetime(year + 1, 1, 1)
    except (ValueError, OverflowError):
        # The last day, month or year that there is has none after it.
        return start if year == datetime.max.year and not last and _is_day(year, month, day) else None
    if era and (end <= era[0] or start >= era[1]):
        return None
    return end if last else start


_KANJI_NUMBER = re.compile(r"([〇零一二三四五六七八九]*)(十?)([一二三四五六七八九]?)(?=[年月日])")
_KANJI_DIGITS = str.maketrans("〇零一二三四五六七八九", "00123456789")


def _write_digits(plain: str) -> str:
    """二〇二四年十二月 as 2024年12月."""

    def write(match: re.Match[str]) -> str:
        before, ten, after = (part.translate(_KANJI_DIGITS) for part in match.groups())
        return (before or "1") + (after or "0") if ten else before

    return _KANJI_NUMBER.sub(write, plain)


def _is_day(year: int, month: int | None, day: int | None) -> bool:
    try:
        return bool(datetime(year, 1 if month is None else month, 1 if day is None else day))
    except ValueError:
        return False


def _split_date(
    plain: str,
) -> tuple[tuple[int, int | None, int | None] | None, tuple[datetime, datetime] | None]:
    """Year, month and day, and the era they were told in; None for what is no date."""
    if match := next((found for pattern in _DATES if (found := pattern.fullmatch(plain))), None):
        year, month, day = (int(part) if part else None for part in match.groups())
        return (year or 0, month, day), None
    if match := _ERA_DATE.fullmatch(plain):
        era = _ERAS[_ERA_LETTERS.get(match["era"].upper(), match["era"])]
        number = 1 if match["number"] == "元" else int(match["number"])
        month, day = (int(match[name]) if match[name] else None for name in ("month", "day"))
        return ((era[0].year + number - 1, month, day) if number else None), era
    for pattern in _ENGLISH:
        if (match := pattern.fullmatch(plain)) and (name := match["name"][:3].lower()) in _MONTHS:
            number_of_day = int(match["day"]) if match["day"] else None
            return (int(match["year"]), _MONTHS.index(name) + 1, number_of_day), None
    return None, None


def normalise_folder(folder: str) -> str:
    """A whole path, of either system, as files are registered: without . and .. and doubled separators, ~ written out.

    A library may have been registered on another machine, so nothing is looked at. Other paths stay as they are.
    """
    path = os.path.expanduser(folder)
    if path.startswith("/"):
        return posixpath.normpath(f"/{path.lstrip('/')}")
    return ntpath.normpath(path) if PureWindowsPath(path).is_absolute() else folder


# Measured on demo scenes: the first hits lose most of what is left out and hardly any of what is wanted.
EXCLUSION = 0.5
# An image says more than words (place and light, besides the object); at this share both count best.
IMAGE_WEIGHT = 0.4


@dataclass(frozen=True, eq=False)
class QueryVector:
    """A query's embedding, float32 (dimension,) of length 1, and what it was made of.

    share: of images, 0 for words alone, 1 for images alone; None when something was left out
    has_wanted: False when there is only something to leave out, so that no image can match
    """

    embedding: Embeddings
    share: float | None
    has_wanted: bool = True


def blend_embeddings(
    words: Sequence[Embeddings],
    images: Sequence[Embeddings],
    excluded: Sequence[Embeddings],
    image_weight: float = IMAGE_WEIGHT,
) -> QueryVector | None:
    """One embedding of all parts, or None when nothing was given. All inputs are of length 1."""
    weight = min(max(image_weight, 0.0), 1.0) if words and images else float(bool(images))
    sides = [(1 - weight, words), (weight, images)]
    wanted = [share * to_unit_length(np.sum(side, axis=0)) for share, side in sides if side]
    away = to_unit_length(np.sum(excluded, axis=0)) if excluded else None
    if not wanted:
        return None if away is None else QueryVector(-away, None, has_wanted=False)
    total = to_unit_length(np.sum(wanted, axis=0))
    if away is not None:
        return QueryVector(to_unit_length(total - EXCLUSION * away), None)
    return QueryVector(total, weight)


def to_unit_length(vector: Embeddings) -> Embeddings:
    """The same direction with length 1; what cancelled itself out points anywhere, but is finite and of length 1."""
    length = float(np.linalg.norm(vector))
    if length < 1e-6:
        return np.eye(1, len(vector), dtype=np.float32).reshape(-1)
    return np.asarray(vector / length, np.float32)


@dataclass(frozen=True)
class Query:
    """A query. Without words and image it asks for the newest images.

    text:          words; "quoted" ones must occur, -this is left out; conditions as listed above
    excluded_text: more words to leave out, see split_excluded
    like:          image_id of a registered image to find similar ones to; itself is left out
    image_weight:  0 to 1: how much images count against words when both are given
    """

    text: str = ""
    image: Image.Image | None = None
    excluded_text: str = ""
    excluded_image: Image.Image | None = None
    like: int | None = None
    image_weight: float = IMAGE_WEIGHT
    filter: SearchFilter = EVERYTHING


@dataclass(frozen=True)
class Plan:
    """A query made ready for the store.

    blend:     what was embedded; None for the newest images, and for words to an image-only model
    model_id:  the model it was embedded with
    words:     what to look up in the images' texts; () when an image says what is meant, too
    excluded:  words that lift no image in whose texts they occur, whatever else is named there
    is_text_cut: the model has read the beginning of the words only; it takes no more
    notes:     sentences on what was made of typed conditions
    """

    blend: QueryVector | None = None
    model_id: int | None = None
    words: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    is_identifier_query: bool = False
    exclude_id: int | None = None
    filter: SearchFilter = EVERYTHING
    encode_ms: float = 0.0
    is_text_cut: bool = False
    notes: tuple[str, ...] = ()

    @property
    def terms(self) -> tuple[str, ...]:
        """All words that are looked up, those that must occur among them."""
        return tuple(dict.fromkeys((*self.words, *self.filter.words)))

    @property
    def is_newest(self) -> bool:
        return self.blend is None and not self.words
