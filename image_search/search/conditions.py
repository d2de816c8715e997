"""Conditions that are typed into the words of a query: -犬, "red hat", camera:Sony, 2019年8月.

One parser for the page, the terminal and the API. A date without a prefix is when an image was taken, and names a
month at least: 2019 alone may be anything. All of it may be typed in full width: ２０１９年８月, －犬, カメラ：Sony.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from image_search.errors import ImageSearchError
from image_search.records import SearchFilter
from image_search.search.query import parse_date
from image_search.stores.base import CountedField, ImageStore
from image_search.stores.text import trim_model_name

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
_NAME = "|".join(sorted(_NAMES, key=len, reverse=True))
_TOKEN = re.compile(
    rf"(?P<minus>[-－−])?(?:(?P<name>{_NAME})[:：]\s*(?:{_QUOTED}|(?P<value>\S*))|{_QUOTED}|(?P<word>\S+))",
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
_DATE = re.compile(r"\d{4}[-/]\d{1,2}(?:[-/]\d{1,2})?|\d{4}年(?:\d{1,2}月(?:\d{1,2}日)?)?", re.ASCII)


class ConditionNotUnderstood(ImageSearchError):
    """A typed condition has a value that means nothing."""


@dataclass(frozen=True)
class TypedConditions:
    """A query taken apart. text: the words that are left; rest: those with quoted and excluded ones, as typed.

    required: phrases that must occur; excluded: words and phrases to leave out; values: by name of the condition, as
    typed, the last one where it was typed twice (superseded: the others).
    """

    text: str = ""
    rest: str = ""
    required: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    values: tuple[tuple[str, str], ...] = ()
    superseded: tuple[str, ...] = ()

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
    values: dict[str, str] = {}

    def take(name: str, value: str) -> None:
        if name in values:
            superseded.append(values[name])
        values[name] = value

    for token in _TOKEN.finditer(typed):
        named, phrase = token[3] if token[3] is not None else token["value"], token[5]
        if token["name"] and named and named.strip() and not token["minus"]:
            take(_NAMES[token["name"].lower()], _clean(named))
            continue
        whole = token[0].strip()
        plain = unicodedata.normalize("NFKC", whole)
        if phrase is None and not token["minus"] and _DATE.fullmatch(plain) and parse_date(plain):
            take("taken", plain)
            continue
        rest.append(whole)
        if phrase is not None:
            if _clean(phrase):
                (excluded if token["minus"] else required).append(_clean(phrase))
        elif token["minus"] and whole[1:]:
            excluded.append(_clean(whole[1:]))
        else:
            words.append(whole)
    return TypedConditions(
        " ".join(words), " ".join(rest), _unique(required), _unique(excluded), tuple(values.items()), tuple(superseded)
    )


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
    """Typed names as the library writes them: camera:sony is "SONY ILCE-7M4" where that is there. Raises StoreError."""
    values = []
    for name, value in typed.values:
        if name == "folder":
            value = _find_folder(value, store.count_values("folder"))
        elif name in ("generation_model", "lora"):
            known = map(trim_model_name, store.count_values(_COUNTED[name]))
            value = find_value(trim_model_name(value), known)
        elif name in _COUNTED:
            value = find_value(value, store.count_values(_COUNTED[name]))
        values.append((name, value))
    return replace(typed, values=tuple(values))


def find_value(typed: str, known: Iterable[str]) -> str:
    """The value that is meant: the same but for case and width, else the first that has it inside; else as typed."""
    plain = _fold(typed)
    folded = {value: _fold(value) for value in known}
    same = [value for value, text in folded.items() if text == plain]
    return next(iter(same or [value for value, text in folded.items() if plain in text]), typed)


def _find_folder(typed: str, known: Iterable[str]) -> str:
    """A whole path as it is; else the path of the first folder of this name."""
    if typed.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", typed):
        return typed
    wanted = _fold(typed.strip("/\\"))
    for folder in known:
        parts = re.split(r"([/\\])", folder)
        for place in range(0, len(parts), 2):
            if _fold(parts[place]) == wanted:
                return "".join(parts[: place + 1])
    return typed


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def apply_conditions(typed: TypedConditions, filter: SearchFilter) -> SearchFilter:
    """The filter with the typed values, which win. Raises ConditionNotUnderstood."""
    changes: dict[str, Any] = {}
    for name, value in typed.values:
        if name in ("taken", "registered"):
            since, until = parse_date(value), parse_date(value, last=True)
            if since is None:
                raise ConditionNotUnderstood(f"{name}:{value} is not a date. Write 2024-05-01, 2024-05 or 2024.")
            changes |= {f"{name}_from": since, f"{name}_to": until or datetime.max}
        elif name == "min_rating":
            changes[name] = read_rating(value)
            if changes[name] is None:
                raise ConditionNotUnderstood(f"rating:{value} is not understood. Write rating:1 to rating:5.")
        else:
            changes[name] = value
    return replace(filter, **changes) if changes else filter
