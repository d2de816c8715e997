"""Typed queries are taken apart."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis.strategies import text

from image_search.search.query import ParsedText, parse_text


@pytest.mark.parametrize(
    ("typed", "parsed"),
    [
        ("", ParsedText()),
        ("　 \t", ParsedText()),
        ("夕焼けの海", ParsedText("夕焼けの海", ("夕焼けの海",))),
        ("red fox", ParsedText("red fox", ("red", "fox"))),
        ("夜　猫", ParsedText("夜 猫", ("夜", "猫"))),
        ("猫 -犬", ParsedText("猫", ("猫",), (), ("犬",))),
        ("猫 －犬", ParsedText("猫", ("猫",), (), ("犬",))),
        ('-"red fox" snow', ParsedText("snow", ("snow",), (), ("red fox",))),
        ("-犬", ParsedText("", (), (), ("犬",))),
        ('a "red  fox" b', ParsedText("a red fox b", ("a", "red fox", "b"), ("red fox",))),
        ("“夜景” 橋", ParsedText("夜景 橋", ("夜景", "橋"), ("夜景",))),
        ("red-haired girl", ParsedText("red-haired girl", ("red-haired", "girl"))),
        ('an "open quote', ParsedText("an open quote", ("an", "open", "quote"))),
        ('""', ParsedText()),
        ("-", ParsedText("-", ("-",))),
    ],
)
def test_query_is_taken_apart(typed: str, parsed: ParsedText) -> None:
    assert parse_text(typed) == parsed


@pytest.mark.parametrize(
    "typed",
    ["738268214", "DSC_0001.JPG", "夕焼け_01.png", "sd_xl_base_1.0", "ORA-00923", "IMG_0001.JPG 738268214", "cat.webp"],
)
def test_identifiers_are_told_from_words(typed: str) -> None:
    assert parse_text(typed).is_identifier_query


@pytest.mark.parametrize("typed", ["", "猫", "red-haired girl", "3匹の猫", "cat 738268214", "e.g.", "3匹の猫がいる"])
def test_ordinary_words_are_no_identifiers(typed: str) -> None:
    assert not parse_text(typed).is_identifier_query


@settings(deadline=None)
@given(text())
def test_any_text_is_a_query(typed: str) -> None:
    parsed = parse_text(typed)
    assert set(parsed.required) <= set(parsed.words)
    assert all(word.strip() for word in (*parsed.words, *parsed.excluded))
    assert bool(parsed.meaning) == bool(parsed.words)
