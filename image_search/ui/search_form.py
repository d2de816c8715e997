"""Everything a person can ask on the page as one value, from its address and back, and the values to choose from."""

from __future__ import annotations

import functools
import re
import threading
import time
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args
from urllib.parse import urlencode

from image_search.images import make_printable
from image_search.records import Kind, Order, Orientation, SearchFilter
from image_search.search import count_hits
from image_search.search.query import (
    IMAGE_WEIGHT,
    TypedConditions,
    normalise_folder,
    parse_conditions,
    parse_date,
    read_rating,
    split_range,
)
from image_search.search.tagging import DEFAULT_LIST, read_tags
from image_search.stores.base import EVERYTHING, CountedField, ImageStore
from image_search.stores.text import trim_model_name
from image_search.ui.messages import Language, translate

FormOrder = Literal["", "registered", "taken", "name"]  # "": best match, or the newest where nothing is asked
_MAX_LENGTH = 1000  # characters of one parameter
_FILM = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class SearchForm:
    """Strings as typed; "" and None for nothing.

    required_text: "quoted" phrases that must occur; excluded_text: see search.query.split_excluded
    image, excluded_image: tokens of query images (QueryImages), to search with and to move away from
    like: image_id of the registered image to find similar ones to
    date_of: the meaning of since and until: "taken" or "registered"
    """

    text: str = ""
    required_text: str = ""
    image: str = ""
    excluded_text: str = ""
    excluded_image: str = ""
    image_weight: float = IMAGE_WEIGHT
    date_of: str = "registered"
    since: str = ""
    until: str = ""
    file_type: str = ""
    orientation: str = ""
    min_pixels: int = 0
    generator: str = ""
    generation_model: str = ""
    lora: str = ""
    has_prompt: str = ""
    has_text: str = ""
    camera: str = ""
    lens: str = ""
    min_rating: int = 0
    keyword: str = ""
    folder: str = ""
    kind: str = ""
    film: str = ""
    like: int | None = None
    order: str = ""

    @property
    def filter(self) -> SearchFilter:
        """The conditions the images must meet. A date that is none is no condition."""
        since, until = parse_date(self.since), parse_date(self.until, last=True)
        dates: dict[str, Any] = {f"{self.date_of}_from": since, f"{self.date_of}_to": until}
        flags = {"yes": True, "no": False}
        return SearchFilter(
            **dates if self.date_of in ("taken", "registered") else {},
            folder=normalise_folder(self.folder.strip()) or None,
            file_types=(self.file_type,) if self.file_type else (),
            orientation=_choose(self.orientation, Orientation),
            min_pixels=self.min_pixels if self.min_pixels > 0 else None,
            generator=self.generator or None,
            generation_model=self.generation_model or None,
            lora=self.lora or None,
            has_prompt=flags.get(self.has_prompt),
            has_text=flags.get(self.has_text),
            camera=self.camera or None,
            lens=self.lens or None,
            min_rating=self.min_rating if 0 < self.min_rating <= 5 else None,
            keyword=self.keyword.strip() or None,
            kind=_choose(self.kind, Kind),
            film_sha256=self.film if _FILM.fullmatch(self.film) else None,
        )

    @property
    def is_filtered(self) -> bool:
        return self.filter != EVERYTHING

    @property
    def is_backwards(self) -> bool:
        """Whether the range of dates ends before it begins: no image can meet it."""
        since, until = parse_date(self.since), parse_date(self.until, last=True)
        return since is not None and until is not None and since >= until

    @property
    def store_order(self) -> Order | None:
        """The order asked for; None for the best match."""
        order: Order | None = _choose(self.order, Order)
        return order

    @property
    def without_order(self) -> SearchForm:
        """The same question; its plan does not depend on the order."""
        return replace(self, order="")


def _choose(value: str, choices: Any) -> Any:
    return value if value in get_args(choices) else None


NOTHING_ASKED = SearchForm()

# Parameter of the address: field. A field at its default is left out.
PARAMETERS = {
    "q": "text",
    "picture": "image",
    "like": "like",
    "phrase": "required_text",
    "not": "excluded_text",
    "notpicture": "excluded_image",
    "weight": "image_weight",
    "date": "date_of",
    "from": "since",
    "to": "until",
    "type": "file_type",
    "shape": "orientation",
    "pixels": "min_pixels",
    "generator": "generator",
    "model": "generation_model",
    "lora": "lora",
    "prompt": "has_prompt",
    "text": "has_text",
    "camera": "camera",
    "lens": "lens",
    "rating": "min_rating",
    "keyword": "keyword",
    "folder": "folder",
    "kind": "kind",
    "film": "film",
    "order": "order",
}


def to_query_string(asked: SearchForm) -> str:
    """The part of an address after the question mark, "" when nothing is asked."""
    given = (
        (name, getattr(asked, field))
        for name, field in PARAMETERS.items()
        if getattr(asked, field) != getattr(NOTHING_ASKED, field)
    )
    return urlencode(list(given))


def from_query_string(parameters: Mapping[str, str]) -> SearchForm:
    """The question of an address. A number that is none, and a parameter of another kind, are passed over."""
    values: dict[str, Any] = {}
    for name, field in PARAMETERS.items():
        text = parameters.get(name, "").strip()[:_MAX_LENGTH]
        if not text:
            continue
        match field:
            case "like" | "min_pixels" | "min_rating":
                if re.fullmatch(r"\d{1,18}", text, re.ASCII):
                    values[field] = int(text)
            case "image_weight":
                if re.fullmatch(r"[01](\.\d{1,4})?", text, re.ASCII):
                    values[field] = min(float(text), 1.0)
            case _:
                values[field] = text
    return SearchForm(**values)


def list_ignored(parameters: Mapping[str, str]) -> list[str]:
    """The parameters that say something, but nothing that was understood; they limit nothing."""
    asked = from_query_string(parameters)
    return [
        name
        for name, field in PARAMETERS.items()
        if parameters.get(name, "").strip() and not _is_understood(asked, field)
    ]


def _is_understood(asked: SearchForm, field: str) -> bool:
    value = getattr(asked, field)
    match field:
        case "since" | "until":
            return parse_date(value, last=field == "until") is not None
        case "date_of":
            return value in ("taken", "registered")
        case "orientation":
            return value in get_args(Orientation)
        case "kind":
            return value in get_args(Kind)
        case "order":
            return value in get_args(Order)
        case "has_prompt" | "has_text":
            return value in ("yes", "no")
        case "film":
            return _FILM.fullmatch(value) is not None
        case "min_rating":
            return bool(0 < value <= 5)
        case "like" | "min_pixels":
            return bool(value)
    return True


_WRITTEN_NAME = re.compile(r"(?<!\S)([^\W\d_]{2,20})[:：](?!/)[^\s:：]")


def find_unknown_name(text: str) -> str:
    """The name of the first word that looks like a typed condition where none has that name, or ""."""
    found = _WRITTEN_NAME.search(text)
    return found[1] if found else ""


# Parameter of the address by name of a typed condition (search.query).
_TYPED = {
    "camera": "camera",
    "lens": "lens",
    "generation_model": "model",
    "lora": "lora",
    "min_rating": "rating",
    "folder": "folder",
    "keyword": "keyword",
}


def change_by_typed(typed: TypedConditions, asked: SearchForm) -> dict[str, str]:
    """The parameters that typed conditions set in the address of a question. asked: that question, as it is."""
    changes = {"q": typed.text}
    if typed.required:
        changes["phrase"] = _join_phrases(asked.required_text, typed.required)
    if typed.excluded:
        changes["not"] = _join_phrases(asked.excluded_text, typed.excluded)
    for name, value in typed.values:
        if name in ("taken", "registered"):
            first, last = split_range(value)
            changes |= {"date": "" if name == "registered" else name, "from": first, "to": last}
        elif name == "min_rating":
            changes["rating"] = str(read_rating(value) or value)
        else:
            changes[_TYPED[name]] = value
    return changes


def _join_phrases(before: str, phrases: tuple[str, ...]) -> str:
    return " ".join(dict.fromkeys([*([before] if before else []), *(f'"{phrase}"' for phrase in phrases)]))


# The values there are to filter by, with counts under the other conditions; and those that fit what is typed.

_SEPARATORS = re.compile(r"(.+)[/\\][^/\\]+", re.DOTALL)  # group 1: the folder a folder lies in
_MAX_CHOICES = 200  # of one field, the most frequent
# Parameter of the address: field of the form and of the store.
_COUNTED: dict[str, CountedField] = {
    "type": "file_type",
    "generator": "generator",
    "model": "generation_model",
    "lora": "lora",
    "camera": "camera",
    "lens": "lens",
    "keyword": "keyword",
}
# Parameter: field of the form, and its values with the keys of their texts.
_CHOICES = {
    "shape": ("orientation", (("landscape", "landscape"), ("portrait", "portrait"), ("square", "square"))),
    "prompt": ("has_prompt", (("yes", "has_prompt"), ("no", "has_no_prompt"))),
    "text": ("has_text", (("yes", "has_prompt"), ("no", "has_no_prompt"))),
    "kind": ("kind", (("image", "kind_image"), ("frame", "kind_frame"))),
}


def count_facets(store: ImageStore, asked: SearchForm, language: Language) -> dict[str, list[dict[str, Any]]]:
    """[{value, label, count}] by parameter of the address, the most frequent first. Raises StoreError."""
    facets: dict[str, list[dict[str, Any]]] = {}
    for parameter in _COUNTED:
        facets[parameter] = find_choices(store, asked, parameter, language)
    for parameter, (name, choices) in _CHOICES.items():
        facets[parameter] = [
            {
                "value": value,
                "label": translate(language, key),
                "count": count_hits(store, _replace(asked, name, value).filter),
            }
            for value, key in choices
        ]
    facets["rating"] = _count_ratings(store.count_values("rating", replace(asked, min_rating=0).filter))
    facets["folder"] = find_choices(store, asked, "folder", language)
    return facets


def find_choices(
    store: ImageStore, asked: SearchForm, parameter: str, language: Language, typed: str = ""
) -> list[dict[str, Any]]:
    """[{value, label, count}] of one counted parameter; typed: only those that have this inside. Raises StoreError.

    The most frequent first; folders as a tree. Where there are too many, the last one has no value, and its label says
    how many are left out.
    """
    wanted = _fold(typed)
    if parameter == "folder":
        folders = _count_folders(store.count_values("folder", replace(asked, folder="").filter))
        found = [(path, count) for path, count in folders if wanted in _fold(path)]
        return _draw_tree(found[:_MAX_CHOICES]) + _tell_rest(len(found), language)
    field = _COUNTED.get(parameter)
    if field is None:
        return []
    counts: Mapping[str, int] = store.count_values(field, _replace(asked, field, "").filter)
    if field in ("generation_model", "lora"):
        counts = _merge_models(counts)
    choices = [(value, count) for value, count in counts.items() if wanted in _fold(value)]
    shown = [{"value": value, "label": value, "count": count} for value, count in choices[:_MAX_CHOICES]]
    return shown + _tell_rest(len(choices), language)


def _tell_rest(found: int, language: Language) -> list[dict[str, Any]]:
    rest = found - _MAX_CHOICES
    return [{"value": None, "label": translate(language, "more_values", count=rest), "count": rest}] if rest > 0 else []


def _fold(text: str) -> str:
    """Text as it is compared: without case and width."""
    return unicodedata.normalize("NFKC", text).casefold()


def _merge_models(counts: Mapping[str, int]) -> dict[str, int]:
    """X and X.safetensors are one model."""
    merged: Counter[str] = Counter()
    for name, count in counts.items():
        merged[trim_model_name(name)] += count
    return dict(sorted(merged.items(), key=lambda item: (-item[1], item[0])))


def _draw_tree(folders: list[tuple[str, int]]) -> list[dict[str, Any]]:
    """Folders sorted by path; a label is what a path has beyond the folder above it in the list."""
    choices: list[dict[str, Any]] = []
    above: list[str] = []
    for path, count in folders:
        while above and not path.startswith((f"{above[-1]}/", f"{above[-1]}\\")):
            above.pop()
        label = make_printable(path[len(above[-1]) + 1 :] if above else path)
        choices.append({"value": path, "label": "\u2003" * len(above) + label, "count": count})
        above.append(path)
    return choices


def _count_ratings(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """Images of at least so many stars, from 5 to 1: that is how the condition is meant."""
    at_least = [(stars, sum(counts.get(str(more), 0) for more in range(stars, 6))) for stars in range(5, 0, -1)]
    return [{"value": str(stars), "label": "★" * stars, "count": count} for stars, count in at_least]


def _count_folders(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Folders with images, and those that several of them lie in, with the paths below each, sorted by path."""
    totals: Counter[str] = Counter()
    children: dict[str, set[str]] = {}
    for folder, count in counts.items():
        totals[folder] += count
        child = folder
        while parent := _SEPARATORS.match(child):
            totals[parent[1]] += count
            children.setdefault(parent[1], set()).add(child)
            child = parent[1]
    shown = [folder for folder in totals if folder in counts or len(children.get(folder, ())) > 1]
    return sorted((folder, totals[folder]) for folder in shown)


def _replace(asked: SearchForm, field: str, value: str) -> SearchForm:
    others: dict[str, Any] = {field: value}
    return replace(asked, **others)


_SECONDS = 60.0  # that counted values are used again
_MOST = {"keyword": 4, "tag": 4, "folder": 2}
_SUGGESTED: tuple[CountedField, ...] = ("keyword", "folder")


class Suggestions:
    """Suggestions from one library. Safe to use from several threads."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known: dict[CountedField, list[str]] = {}
        self._counted_at = -_SECONDS

    def find(self, typed: str, language: Language) -> list[dict[str, Any]]:
        """Suggestions for the last typed word: [{kind, text, parameter, value, q}]. Raises StoreError.

        q: the words of the query once the suggestion is taken. parameter, value: the condition it sets, "" for none.
        """
        before, _, last = typed.rpartition(" ") if " " in typed else typed.rpartition("\u3000")
        wanted = _fold(last)
        if not wanted or parse_conditions(last).has_conditions:
            return []
        known = self._count()
        found = []
        for kind in ("keyword", "tag", "folder"):
            values = _list_tags(language) if kind == "tag" else known["keyword" if kind == "keyword" else "folder"]
            for value in _match(wanted, values)[: _MOST[kind]]:
                is_word = kind == "tag"
                found.append(
                    {
                        "kind": kind,
                        "text": make_printable(value),
                        "parameter": "" if is_word else kind,
                        "value": "" if is_word else value,
                        "q": f"{before} {value}".strip() if is_word else before.strip(),
                    }
                )
        return found

    def _count(self) -> dict[CountedField, list[str]]:
        with self._lock:
            if time.monotonic() - self._counted_at > _SECONDS:
                self._known = {field: list(self._store.count_values(field)) for field in _SUGGESTED}
                self._counted_at = time.monotonic()
            return self._known


def _match(wanted: str, values: Iterable[str]) -> list[str]:
    """Values that begin with `wanted`, or whose last part does, before values that contain it."""
    folded = [(_fold(value), value) for value in values]
    beginning = [value for text, value in folded if text.startswith(wanted) or f"/{wanted}" in text]
    return list(dict.fromkeys([*beginning, *(value for text, value in folded if wanted in text)]))


@functools.cache
def _list_tags(language: Language) -> list[str]:
    return list(dict.fromkeys(tag.japanese if language == "ja" else tag.english for tag in read_tags(DEFAULT_LIST)))
