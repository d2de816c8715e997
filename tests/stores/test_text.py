"""Tokens by which words are found in Japanese and other text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_search.stores.text import make_index_tokens, make_query_tokens, normalise_text

JAPANESE = st.text("猫犬山々あいうえおカキクケコー・、。", min_size=1, max_size=8)


def occurs(word: str, *fields: str) -> bool:
    """What a word index does: look for the tokens of the word, one after another, among those of the fields."""
    wanted, is_prefix = make_query_tokens(word)
    tokens = make_index_tokens(fields).split()
    for start in range(len(tokens) - len(wanted) + 1):
        window = tokens[start : start + len(wanted)]
        if window[:-1] == wanted[:-1] and (window[-1].startswith(wanted[-1]) if is_prefix else window == wanted):
            return True
    return False


@given(JAPANESE, st.text("猫犬山々あいうえおカキクケコー・、。", max_size=30))
def test_a_japanese_word_is_found_exactly_where_it_occurs(word, text):
    assert occurs(word, text) == (word in text)


@given(st.text(min_size=1, max_size=20), st.text(max_size=10), st.text(max_size=10))
def test_a_whole_field_is_found_by_itself(text, before, after):
    if make_query_tokens(text)[0]:
        assert occurs(text, before, text, after)


@pytest.mark.parametrize(
    ("word", "text", "found"),
    [
        ("cat", "a cat.", True),
        ("cat", "cats", True),
        ("cat", "cat01.png", True),
        ("01", "cat01.png", True),
        ("cat", "education", False),
        ("girl", "1girl, solo", True),
        ("red car", "a red  car", True),
        ("red car", "a red, car", False),
        ("c++", "in C++ 20", True),
        ("c++", "in C", False),
        ("ＡＢＣ１２", "abc12", True),
        ("ﾊﾟﾘ", "パリの朝", True),
        ("straße", "STRASSE", True),
        ("café", "cafe\u0301", True),
        ("🏔️", "山🏔️雪", True),
        ("猫cat", "黒猫cats", True),
        ("猫 犬", "猫 犬", True),
        ("猫 犬", "猫犬", False),
        ("กิน", "เขากินข้าว", True),
        ("고양이", "우리고양이는", True),
    ],
)
def test_words_of_other_scripts_are_found_where_a_word_begins(word, text, found):
    assert occurs(word, text) is found


def test_no_phrase_reaches_from_one_field_into_the_next():
    assert not occurs("赤い花", "赤い", "花")
    assert not occurs("red car", "red", "car")


@given(st.text())
def test_tokens_have_no_meaning_in_any_query_language(text):
    for token in make_index_tokens([text]).split():
        assert all(character.isalnum() or ord(character) > 127 for character in token)


def test_text_without_visible_characters_has_no_tokens():
    assert make_query_tokens(" \n\u3000") == ([], False)
    assert make_index_tokens([None, "", " "]) == ""


@given(st.text())
def test_normalising_twice_is_normalising_once(text):
    assert normalise_text(normalise_text(text)) == normalise_text(text)
