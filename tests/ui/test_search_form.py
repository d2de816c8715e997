"""The questions of the page: fields, conditions and addresses."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from urllib.parse import parse_qsl

import pytest
from hypothesis import given, settings
from hypothesis.strategies import dictionaries, sampled_from, text

from image_search.records import SearchFilter
from image_search.ui.search_form import (
    PARAMETERS,
    SearchForm,
    find_unknown_name,
    from_query_string,
    list_ignored,
    to_query_string,
)


def test_empty_form_is_no_condition_and_no_address() -> None:
    assert SearchForm().filter.is_empty
    assert not SearchForm().is_filtered
    assert to_query_string(SearchForm()) == ""


def test_every_field_becomes_a_condition() -> None:
    asked = SearchForm(
        date_of="taken", since="2024-01-01", until="2024-12-31", file_type="image/png", orientation="portrait",
        min_pixels=4_000_000, generator="ComfyUI", generation_model="sd_xl", has_prompt="yes", keyword=" 海 ",
        folder="/photos", camera="X100", lens="23mm", lora="detail", min_rating=4, has_text="no", kind="frame",
    )  # fmt: skip
    assert asked.filter == SearchFilter(
        taken_from=datetime(2024, 1, 1), taken_to=datetime(2025, 1, 1), file_types=("image/png",),
        orientation="portrait", min_pixels=4_000_000, generator="ComfyUI", generation_model="sd_xl", has_prompt=True,
        keyword="海", folder="/photos", camera="X100", lens="23mm", lora="detail", min_rating=4, has_text=False,
        kind="frame",
    )  # fmt: skip
    assert asked.is_filtered


@pytest.mark.parametrize(
    ("typed", "first", "behind"),
    [
        ("2024-02-29", datetime(2024, 2, 29), datetime(2024, 3, 1)),
        ("2024/2/9", datetime(2024, 2, 9), datetime(2024, 2, 10)),
        ("2024-12", datetime(2024, 12, 1), datetime(2025, 1, 1)),
        ("2024", datetime(2024, 1, 1), datetime(2025, 1, 1)),
        ("2023-02-29", None, None),
        ("9999-12-31", datetime(9999, 12, 31), None),
        ("2024年5月1日", datetime(2024, 5, 1), datetime(2024, 5, 2)),
        ("2019年8月", datetime(2019, 8, 1), datetime(2019, 9, 1)),
        ("2019年", datetime(2019, 1, 1), datetime(2020, 1, 1)),
        ("２０１９－０８", datetime(2019, 8, 1), datetime(2019, 9, 1)),
        ("２０２４年５月１日", datetime(2024, 5, 1), datetime(2024, 5, 2)),
        ("20240501", datetime(2024, 5, 1), datetime(2024, 5, 2)),
        ("2024/5/1", datetime(2024, 5, 1), datetime(2024, 5, 2)),
        ("2024年13月", None, None),
        ("202405011", None, None),
        ("yesterday", None, None),
        ("", None, None),
    ],
)
def test_dates_include_their_last_day(typed: str, first: datetime | None, behind: datetime | None) -> None:
    assert SearchForm(since=typed).filter.registered_from == first
    assert SearchForm(until=typed).filter.registered_to == behind


@pytest.mark.parametrize(
    "asked",
    [
        SearchForm('猫 -犬 "夜景"'),
        SearchForm(like=12, text="夜"),
        SearchForm(since="2024-01-01", date_of="taken", excluded_text="人物", image_weight=0.25),
        SearchForm(min_pixels=1_000_000, folder="/写真/2024 &?#=", generator="A&B"),
    ],
)
def test_address_opens_what_it_was_written_for(asked: SearchForm) -> None:
    assert from_query_string(dict(parse_qsl(to_query_string(asked)))) == asked


def test_query_image_stands_in_the_address_by_its_token() -> None:
    assert to_query_string(SearchForm(image="0123abcd")) == "picture=0123abcd"


def test_every_parameter_is_a_field_and_every_field_a_parameter() -> None:
    assert set(PARAMETERS.values()) == {field.name for field in fields(SearchForm)}


@settings(deadline=None)
@given(dictionaries(sampled_from(sorted(PARAMETERS)), text()))
def test_any_address_is_read_without_harm(parameters: dict[str, str]) -> None:
    assert set(list_ignored(parameters)) <= set(parameters)
    asked = from_query_string(parameters)
    assert 0 <= asked.image_weight <= 1
    assert isinstance(asked.filter, SearchFilter)


def test_parameter_that_is_not_understood_is_named() -> None:
    parameters = {
        "from": "yesterday",
        "to": "2024年5月",
        "rating": "9",
        "film": "0",
        "shape": "round",
        "like": "x",
        "q": "海",
        "kind": "frame",
    }
    assert list_ignored(parameters) == ["like", "from", "shape", "rating", "film"]
    assert list_ignored({}) == []


@pytest.mark.parametrize(
    ("text", "name"),
    [("kamera:sony red", "kamera"), ("red Color：blue", "Color"), ("赤い 書体：明朝", "書体")]
    + [(words, "") for words in ("red", "12:30", "https://example.com", "red: a colour", "a:b", "::", "")],
)
def test_words_in_the_shape_of_a_condition_are_named(text: str, name: str) -> None:
    assert find_unknown_name(text) == name


@pytest.mark.parametrize(
    ("since", "until", "is_backwards"),
    [
        ("2024-12", "2024-01", True),
        ("2024年5月2日", "2024-05-01", True),
        ("2024-05", "2024-05", False),
        ("2024-05-31", "2024-05", False),
        ("2024", "", False),
        ("2024", "no date", False),
    ],
)
def test_range_that_ends_before_it_begins_is_told(since: str, until: str, is_backwards: bool) -> None:
    assert SearchForm(since=since, until=until).is_backwards is is_backwards
