"""Texts of the page in both languages."""

from __future__ import annotations

import re
import string

import pytest

from image_search.errors import ImageNotFound, ModelUnavailable, StoreUnavailable, UnreadableImage
from image_search.ui.messages import MESSAGES, error_key, negotiate_language, translate


def list_names(text: str) -> set[str]:
    return {name.partition("|")[0] for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_have_the_same_keys() -> None:
    assert list(MESSAGES["ja"]) == list(MESSAGES["en"])


def test_both_languages_have_a_text_with_the_same_values_for_every_key() -> None:
    pairs = {key: (MESSAGES["ja"][key], MESSAGES["en"][key]) for key in MESSAGES["en"]}
    assert not [key for key, texts in pairs.items() if not all(text.strip() for text in texts)]
    assert not [key for key, (japanese, english) in pairs.items() if list_names(japanese) != list_names(english)]


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("ja", "ja"),
        ("ja-JP,ja;q=0.9,en-US;q=0.8", "ja"),
        ("en-US,en;q=0.9,ja;q=0.8", "en"),
        ("en;q=0.5, ja;q=0.9", "ja"),
        ("de-DE,de;q=0.9", "en"),
        ("fr, ja;q=0.3", "ja"),
        ("", "en"),
        ("ja;q=x, ;;;,", "en"),
        ("*", "en"),
    ],
)
def test_browser_chooses_the_language(header: str, language: str) -> None:
    assert negotiate_language(header) == language


def test_numbers_get_thousands_separators() -> None:
    assert translate("ja", "library", total=17204) == "17,204枚"


def test_one_picture_is_one_picture_in_english() -> None:
    assert translate("en", "library", total=1) == "1 picture"
    assert translate("en", "library", total=2) == translate("en", "library", total="2") == "2 pictures"
    assert translate("en", "library", total=0) == "0 pictures"
    assert translate("en", "duplicate_groups", count=1) == "1 group"
    assert translate("en", "deleted_forever", count=1) == "1 picture was deleted for good"


def test_no_english_text_says_a_number_of_things_that_cannot_be_one() -> None:
    """A noun behind a number is written {count|picture|pictures}."""
    plural = re.compile(r"\{(?:count|total|days|frames)\} [a-z]{2,}s\b")
    assert not {key: text for key, text in MESSAGES["en"].items() if plural.search(text)}


def test_error_is_named_by_its_nearest_kind() -> None:
    assert error_key(StoreUnavailable("")) == "store_away"
    assert error_key(ModelUnavailable("")) == "model_unavailable"
    assert error_key(ImageNotFound("")) == "image_gone"
    assert error_key(UnreadableImage("")) == "unreadable"
