"""The values there are to filter by, with how many images have each under the other conditions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from image_search.stores.base import CountedField, ImageStore
from image_search.ui.messages import Language, translate
from image_search.ui.search_form import SearchForm

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
_NAMED = {
    "shape": ("orientation", (("landscape", "landscape"), ("portrait", "portrait"), ("square", "square"))),
    "prompt": ("has_prompt", (("yes", "has_prompt"), ("no", "has_no_prompt"))),
    "text": ("has_text", (("yes", "has_prompt"), ("no", "has_no_prompt"))),
    "kind": ("kind", (("image", "kind_image"), ("frame", "kind_frame"))),
}


def count_facets(store: ImageStore, asked: SearchForm, language: Language) -> dict[str, list[dict[str, Any]]]:
    """For each parameter of the address, [{value, label, count}], the most frequent first. Raises StoreError."""
    facets: dict[str, list[dict[str, Any]]] = {}
    for parameter, field in _COUNTED.items():
        counts = store.count_values(field, _replace(asked, field, "").filter)
        facets[parameter] = [
            {"value": value, "label": value, "count": count} for value, count in list(counts.items())[:_MAX_CHOICES]
        ]
    for parameter, (name, choices) in _NAMED.items():
        facets[parameter] = [
            {
                "value": value,
                "label": translate(language, key),
                "count": _count(store, _replace(asked, name, value)),
            }
            for value, key in choices
        ]
    facets["rating"] = _count_ratings(store.count_values("rating", replace(asked, min_rating=0).filter))
    folders = _count_folders(store.count_values("folder", replace(asked, folder="").filter))
    facets["folder"] = [{"value": path, "label": path, "count": count} for path, count in folders[:_MAX_CHOICES]]
    return facets


def _count(store: ImageStore, asked: SearchForm) -> int:
    """How many images qualify; of films each counts once."""
    if asked.filter.kind == "frame":
        return len(store.count_values("film", asked.filter))
    return store.count_images(asked.filter)


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
