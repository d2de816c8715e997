"""The values there are to filter by, with counts under the other conditions; and those that fit what is typed."""

from __future__ import annotations

import functools
import re
import threading
import time
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from image_search.images import make_printable
from image_search.search.query import parse_conditions
from image_search.search.tagging import DEFAULT_LIST, read_tags
from image_search.stores.base import CountedField, ImageStore
from image_search.stores.text import trim_model_name
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
    for parameter in _COUNTED:
        facets[parameter] = find_choices(store, asked, parameter)
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
    facets["folder"] = find_choices(store, asked, "folder")
    return facets


def find_choices(store: ImageStore, asked: SearchForm, parameter: str, typed: str = "") -> list[dict[str, Any]]:
    """[{value, label, count}] of one counted parameter; typed: only those that have this inside. Raises StoreError.

    The most frequent first; folders as a tree.
    """
    wanted = fold(typed)
    if parameter == "folder":
        folders = _count_folders(store.count_values("folder", replace(asked, folder="").filter))
        found = [(path, count) for path, count in folders if wanted in fold(path)]
        return _draw_tree(found[:_MAX_CHOICES])
    field = _COUNTED.get(parameter)
    if field is None:
        return []
    counts: Mapping[str, int] = store.count_values(field, _replace(asked, field, "").filter)
    if field in ("generation_model", "lora"):
        counts = _merge_models(counts)
    choices = [(value, count) for value, count in counts.items() if wanted in fold(value)]
    return [{"value": value, "label": value, "count": count} for value, count in choices[:_MAX_CHOICES]]


def fold(text: str) -> str:
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


# Suggestions while something is typed: keywords and folders of the library, and words of the list of tags.

_SECONDS = 60.0  # that counted values are used again
_MOST = {"keyword": 4, "tag": 4, "folder": 2}
_SUGGESTED: tuple[CountedField, ...] = ("keyword", "folder")


class Suggestions:
    """Of one library. Safe to use from several threads."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known: dict[CountedField, list[str]] = {}
        self._counted_at = -_SECONDS

    def find(self, typed: str, language: Language) -> list[dict[str, Any]]:
        """For the last word of what is typed: [{kind, text, parameter, value, q}]. Raises StoreError.

        q: the words of the query once the suggestion is taken. parameter, value: the condition it sets, "" for none.
        """
        before, _, last = typed.rpartition(" ") if " " in typed else typed.rpartition("\u3000")
        wanted = fold(last)
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
    """Those that begin with it, or whose last part does, before those that have it inside."""
    folded = [(fold(value), value) for value in values]
    beginning = [value for text, value in folded if text.startswith(wanted) or f"/{wanted}" in text]
    return list(dict.fromkeys([*beginning, *(value for text, value in folded if wanted in text)]))


@functools.cache
def _list_tags(language: Language) -> list[str]:
    return list(dict.fromkeys(tag.japanese if language == "ja" else tag.english for tag in read_tags(DEFAULT_LIST)))
