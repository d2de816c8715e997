"""Everything a person can ask on the page, as one value: from the fields, from an address, and back to one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import get_args
from urllib.parse import urlencode

from image_search.records import Orientation, SearchFilter
from image_search.search.query import IMAGE_WEIGHT, parse_date
from image_search.stores.base import EVERYTHING


@dataclass(frozen=True)
class SearchForm:
    """The fields of the page, in the order of its components. Strings as typed; "" and None for nothing.

    picture, excluded_picture:  paths on this computer of the query picture, and of one to move away from
    like: image_id of the one the picture was taken from, if from a result
    date_of:  what since and until mean: "taken" or "registered"
    """

    text: str = ""
    picture: str | None = None
    excluded_text: str = ""
    excluded_picture: str | None = None
    image_weight: float = IMAGE_WEIGHT
    date_of: str = "registered"
    since: str = ""
    until: str = ""
    file_type: str = ""
    orientation: str = ""
    min_pixels: int = 0
    generator: str = ""
    generation_model: str = ""
    has_prompt: str = ""
    keyword: str = ""
    folder: str = ""
    like: int | None = None

    @classmethod
    def of(cls, *values: object, like: int | None = None) -> SearchForm:
        """From the components' values; a field that was emptied counts as nothing asked."""
        names = [field.name for field in fields(cls)]
        return cls(**dict(zip(names, values, strict=False)), like=like)._fill_gaps()  # type: ignore[arg-type]

    @property
    def filter(self) -> SearchFilter:
        """What the images must be. A date that is none is no condition."""
        since, until = parse_date(self.since), parse_date(self.until, last=True)
        dates = {f"{self.date_of}_from": since, f"{self.date_of}_to": until}
        return SearchFilter(
            **dates if self.date_of in ("taken", "registered") else {},  # type: ignore[arg-type]
            folder=self.folder.strip() or None,
            file_types=(self.file_type,) if self.file_type else (),
            orientation=self.orientation if self.orientation in get_args(Orientation) else None,  # type: ignore[arg-type]
            min_pixels=self.min_pixels if self.min_pixels > 0 else None,
            generator=self.generator or None,
            generation_model=self.generation_model or None,
            has_prompt={"yes": True, "no": False}.get(self.has_prompt),
            keyword=self.keyword.strip() or None,
        )

    @property
    def is_filtered(self) -> bool:
        return self.filter != EVERYTHING

    def _fill_gaps(self) -> SearchForm:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return SearchForm(**{name: value for name, value in given.items() if value is not None})


NOTHING_ASKED = SearchForm()

# Name in the address: field. What is at its default is left out; a picture that was uploaded has no address.
_PARAMETERS = {
    "q": "text",
    "not": "excluded_text",
    "like": "like",
    "weight": "image_weight",
    "date": "date_of",
    "from": "since",
    "to": "until",
    "type": "file_type",
    "shape": "orientation",
    "pixels": "min_pixels",
    "generator": "generator",
    "model": "generation_model",
    "prompt": "has_prompt",
    "keyword": "keyword",
    "folder": "folder",
}


def to_query_string(asked: SearchForm) -> str:
    """The part of an address after the question mark, "" when nothing is asked."""
    given = (
        (name, getattr(asked, field))
        for name, field in _PARAMETERS.items()
        if getattr(asked, field) != getattr(NOTHING_ASKED, field)
    )
    return urlencode(list(given))


def from_query_string(parameters: Mapping[str, str]) -> SearchForm:
    """What an address asks. Numbers that are none are passed over."""
    values: dict[str, object] = {}
    for name, field in _PARAMETERS.items():
        text = parameters.get(name, "").strip()[:1000]
        if not text:
            continue
        match field:
            case "like" | "min_pixels":
                if re.fullmatch(r"\d{1,18}", text, re.ASCII):
                    values[field] = int(text)
            case "image_weight":
                if re.fullmatch(r"[01](\.\d{1,4})?", text, re.ASCII):
                    values[field] = min(float(text), 1.0)
            case _:
                values[field] = text
    return SearchForm(**values)  # type: ignore[arg-type]
