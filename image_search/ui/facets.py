"""The values there are to filter by, with how many images have each under the other conditions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from image_search.stores.base import CountedField, ImageStore
from image_search.ui.messages import Language, translate
from image_search.ui.search_form import SearchForm

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
                "count": store.count_images(_replace(asked, name, value).filter),
            }
            for value, key in choices
        ]
    return facets


def _replace(asked: SearchForm, field: str, value: str) -> SearchForm:
    others: dict[str, Any] = {field: value}
    return replace(asked, **others)
