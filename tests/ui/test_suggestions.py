"""Values to filter by and suggestions while typing, over a small library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from image_search.records import ImageText
from image_search.search.query import parse_conditions, resolve_values
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from image_search.ui import search_form
from image_search.ui.search_form import SearchForm, Suggestions, change_by_typed, count_facets, find_choices
from tests.fakes import make_embeddings, make_image


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library.db")) as store:
        model = store.get_or_create_model("fake", "1", 16)
        images = [
            make_image(
                f"{number}.png",
                ImageText(generation_model=name, loras=(lora,), keywords=("旅行", "Ａｒｔ")),
                file_path=f"{folder}/{number}.png",
                modified_ns=1,
            )
            for number, (name, lora, folder) in enumerate(
                [
                    ("sdxl", "ink", "/写真/2024/旅行"),
                    ("sdxl.safetensors", "ink.safetensors", "/写真/2024"),
                    ("flux.ckpt", "x", "/photos"),
                ]
            )
        ]
        store.add_images(model.model_id, images, make_embeddings(3))
        yield store


def test_model_and_its_file_are_one_value_that_finds_both(store: ImageStore) -> None:
    facets = count_facets(store, SearchForm(), "ja")
    assert facets["model"] == [
        {"value": "sdxl", "label": "sdxl", "count": 2},
        {"value": "flux", "label": "flux", "count": 1},
    ]
    assert facets["lora"][0] == {"value": "ink", "label": "ink", "count": 2}
    for name in ("sdxl", "sdxl.safetensors"):
        assert store.count_images(SearchForm(generation_model=name).filter) == 2
    assert store.count_images(SearchForm(lora="ink").filter) == 2
    assert store.count_images(SearchForm(generation_model="flux").filter) == 1


def test_folders_are_a_tree(store: ImageStore) -> None:
    folders = find_choices(store, SearchForm(), "folder", "ja")
    assert [(choice["label"], choice["value"], choice["count"]) for choice in folders] == [
        ("/photos", "/photos", 1),
        ("/写真/2024", "/写真/2024", 2),
        ("\u2003旅行", "/写真/2024/旅行", 1),
    ]


def test_values_are_found_by_what_is_typed_without_case_and_width(store: ImageStore) -> None:
    found = find_choices(store, SearchForm(), "keyword", "ja", "ART")
    assert [choice["value"] for choice in found] == ["Ａｒｔ"]
    assert find_choices(store, SearchForm(), "nothing", "ja", "x") == []


def test_values_that_are_too_many_to_offer_are_said_to_be_more(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_form, "_MAX_CHOICES", 1)
    for parameter, count in (("model", 1), ("folder", 2)):
        first, rest = find_choices(store, SearchForm(), parameter, "en")
        assert first["value"] and rest["value"] is None
        assert rest["label"] == f"{count} more: type a part of it to find"
    assert len(find_choices(store, SearchForm(), "model", "en", "flux")) == 1


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("赤い 旅", {"kind": "keyword", "text": "旅行", "parameter": "keyword", "value": "旅行", "q": "赤い"}),
        ("art", {"kind": "keyword", "text": "Ａｒｔ", "parameter": "keyword", "value": "Ａｒｔ", "q": ""}),
        ("phot", {"kind": "folder", "text": "/photos", "parameter": "folder", "value": "/photos", "q": ""}),
    ],
)
def test_last_word_is_completed(store: ImageStore, typed: str, first: dict[str, str]) -> None:
    assert Suggestions(store).find(typed, "ja")[0] == first


def test_words_of_the_list_of_tags_are_in_the_visitors_language(store: ImageStore) -> None:
    assert [found["q"] for found in Suggestions(store).find("a wom", "en")] == ["a woman"]
    assert Suggestions(store).find("wom", "ja") == []


@pytest.mark.parametrize("typed", ["", " ", "camera:x", "-犬", "2019-08"])
def test_conditions_get_no_suggestions(store: ImageStore, typed: str) -> None:
    assert Suggestions(store).find(typed, "ja") == []


def test_typed_conditions_change_the_address_and_keep_what_was_left_out(store: ImageStore) -> None:
    typed = resolve_values(parse_conditions('海 -犬 "赤" model:SDXL.safetensors registered:2024 folder:旅行'), store)
    assert change_by_typed(typed, SearchForm(excluded_text="人物")) == {
        "q": "海",
        "phrase": '"赤"',
        "not": '人物 "犬"',
        "model": "sdxl",
        "date": "",
        "from": "2024",
        "to": "2024",
        "folder": "/写真/2024/旅行",
    }


def test_typed_range_of_dates_fills_both_dates() -> None:
    changes = change_by_typed(parse_conditions("海 2024-05..2024-08"), SearchForm())
    assert changes == {"q": "海", "date": "taken", "from": "2024-05", "to": "2024-08"}
