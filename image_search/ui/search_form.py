"""Everything a person can ask on the page, as one value: from the address, and back to one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args
from urllib.parse import urlencode

from image_search.records import Kind, Order, Orientation, SearchFilter
from image_search.search.query import IMAGE_WEIGHT, TypedConditions, normalise_folder, parse_date, read_rating
from image_search.stores.base import EVERYTHING

FormOrder = Literal["", "registered", "taken", "name"]  # "": best match, or the newest where nothing is asked
_MAX_LENGTH = 1000  # characters of one parameter


@dataclass(frozen=True)
class SearchForm:
    """Strings as typed; "" and None for nothing.

    required_text: "quoted" phrases that must occur; excluded_text: see search.query.split_excluded
    picture, excluded_picture: tokens of query images (QueryImages), to search with and to move away from
    like: image_id of the registered image to find similar ones to
    date_of: the meaning of since and until: "taken" or "registered"
    """

    text: str = ""
    required_text: str = ""
    picture: str = ""
    excluded_text: str = ""
    excluded_picture: str = ""
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
            film_sha256=self.film or None,
        )

    @property
    def is_filtered(self) -> bool:
        return self.filter != EVERYTHING

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
    "picture": "picture",
    "like": "like",
    "phrase": "required_text",
    "not": "excluded_text",
    "notpicture": "excluded_picture",
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
        case "min_rating":
            return bool(0 < value <= 5)
        case "like" | "min_pixels":
            return bool(value)
    return True


_NAMED = re.compile(r"(?<!\S)([^\W\d_]{2,20})[:：](?!/)[^\s:：]")


def find_unknown_name(text: str) -> str:
    """The name of the first word that looks like a typed condition where none has that name, or ""."""
    found = _NAMED.search(text)
    return found[1] if found else ""


# Parameter of the address by name of a typed condition (search.conditions).
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
            changes |= {"date": "" if name == "registered" else name, "from": value, "to": value}
        elif name == "min_rating":
            changes["rating"] = str(read_rating(value) or value)
        else:
            changes[_TYPED[name]] = value
    return changes


def _join_phrases(before: str, phrases: tuple[str, ...]) -> str:
    return " ".join(dict.fromkeys([*([before] if before else []), *(f'"{phrase}"' for phrase in phrases)]))
