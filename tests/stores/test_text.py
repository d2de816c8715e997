"""Tokens by which words are found in Japanese and other text, and text and paths as databases hold them."""

from __future__ import annotations

import os
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_search.records import Edits, Frame, ImageRecord, ImageText, RecognizedText, TextLine
from image_search.stores.text import (
    decode_path,
    dump_details,
    dump_lines,
    encode_path,
    get_folder,
    load_details,
    load_lines,
    make_sort_name,
    make_text_storable,
)
from image_search.stores.tokens import (
    contains_phrase,
    is_beginning_query,
    join_recognized,
    make_index_tokens,
    make_phrases,
    make_query_tokens,
    normalise_text,
    tokenize_document,
    tokenize_query,
)
from tests.fakes.matching import occurs
from tests.fakes.odd_texts import make_odd_queries, make_odd_texts

JAPANESE = st.text("猫犬山々あいうえおカキクケコー・、。", min_size=1, max_size=8)
MIXED = st.text("猫犬山あア a b1, -\u3000＿é", max_size=10)


def occurs_plainly(word: str, *fields: str) -> bool:
    """The same rule by the tokens for indexes that know nothing of languages."""
    wanted = tokenize_query(word)
    if not wanted:
        return False
    document = f" {tokenize_document(fields)} "
    return f" {wanted}" in document if is_beginning_query(word) else f" {wanted} " in document


@given(JAPANESE, st.text("猫犬山々あいうえおカキクケコー・、。", max_size=30))
def test_japanese_word_is_found_exactly_where_it_occurs(word, text):
    assert occurs(word, [text]) == (word in text)


@given(st.text(min_size=1, max_size=20), st.text(max_size=10), st.text(max_size=10))
def test_whole_field_is_found_by_itself(text, before, after):
    if make_query_tokens(text)[0]:
        assert occurs(text, [before, text, after])


@pytest.mark.parametrize(
    ("word", "text", "found"),
    [
        ("cat", "a cat.", True),
        ("cat", "cats", True),
        ("cat", "cat01.png", True),
        ("01", "cat01.png", True),
        ("cat", "education", False),
        ("c", "cat", False),
        ("girl", "1girl, solo", True),
        ("red car", "a red  car", True),
        ("red car", "a red, car", False),
        ("red car", "red cars", False),
        ("long_hair", "long hair", True),
        ("long hair", "long_hair", True),
        ("fate (series)", r"fate \(series\)", True),
        (r"fate \(series\)", "fate (series)", True),
        ("don't", "don’t", True),
        ("c++", "in C++ 20", True),
        ("c++", "in C", False),
        ("ＡＢＣ１２", "abc12", True),
        ("ﾊﾟﾘ", "パリの朝", True),
        ("ハリ", "パリの朝", False),
        ("straße", "STRASSE", True),
        ("café", "cafe\u0301", True),
        ("cafe", "café", True),
        ("colo\u00adur", "colour", True),
        ("🏔️", "山🏔雪", True),
        ("猫cat", "黒猫cat", True),
        ("猫cat", "黒猫cats", False),
        ("猫 犬", "猫 犬", True),
        ("猫 犬", "猫犬", False),
        ("猫犬", "猫 犬", False),
        ("い空", "青い空", True),
        ("い空", "青い 空", False),
        ("ママ", "ママ", True),
        ("ママ", "マママ", True),
        ("ママ", "マ", False),
        ("no no", "no no", True),
        ("no no", "no", False),
        ("กิน", "เขากินข้าว", True),
        ("고양이", "우리고양이는", True),
    ],
)
def test_word_is_found_by_the_rule(word, text, found):
    assert occurs(word, [text]) is found
    assert occurs_plainly(word, text) is found


@given(MIXED, MIXED, MIXED)
def test_tokens_of_both_kinds_find_the_same(word, first, second):
    assert occurs(word, [first, second]) == occurs_plainly(word, first, second)


@given(MIXED, MIXED, MIXED)
def test_recognised_text_contains_the_phrase_of_a_term_that_occurs_in_it(word, other, text):
    expected = any(occurs(term, [join_recognized(text)]) for term in (word, other))
    assert contains_phrase(text, make_phrases([word, other])) == expected


@pytest.mark.slow
def test_tokens_of_both_kinds_find_the_same_in_odd_texts():
    texts = make_odd_texts(300)
    for word in make_odd_queries(texts, 100):
        assert [occurs(word, [text]) for text in texts] == [occurs_plainly(word, text) for text in texts], word


def test_no_phrase_reaches_from_one_field_into_the_next():
    for matches in (occurs, lambda word, fields: occurs_plainly(word, *fields)):
        assert not matches("赤い花", ["赤い", "花"])
        assert not matches("red car", ["red", "car"])


@given(st.text())
def test_tokens_have_no_meaning_in_any_query_language(text):
    for token in make_index_tokens([text]).split():
        assert all(character.isalnum() or ord(character) > 127 for character in token)
    assert all(character in "abcdefghijklmnopqrstuvwxyz0123456789 " for character in tokenize_document([text]))


def test_text_without_visible_characters_has_no_tokens():
    assert make_query_tokens(" \n\u3000\u200b") == ((), False)
    assert make_index_tokens([None, "", " "]) == tokenize_document([None, "", " "]).strip() == ""


@given(st.text())
def test_normalising_twice_is_normalising_once(text):
    assert normalise_text(normalise_text(text)) == normalise_text(text)


def test_recognised_text_goes_on_over_the_end_of_a_line():
    assert join_recognized("富士\n山 本 日\nSTOP\n  here 猫") == "富士山本日 STOP here 猫"


# Paths.


@given(st.one_of(st.binary(max_size=30), st.text(max_size=20).map(lambda text: text.encode("utf-8", "ignore"))))
def test_path_comes_back_byte_for_byte(path):
    name = os.fsdecode(path)
    stored = encode_path(name)
    stored.encode()  # any database can hold it
    assert os.fsencode(decode_path(stored)) == path


@given(st.lists(st.text("a\udc80\udcff\udcc3é\U0010ff80\U0010ffff", max_size=4), max_size=8, unique=True))
def test_different_paths_are_stored_differently(paths):
    names = {os.fsencode(path) for path in paths}
    assert len({encode_path(os.fsdecode(name)) for name in names}) == len(names)


def test_folder_is_a_path_without_its_name():
    assert [get_folder(path) for path in ("/a/b.png", "C:\\a\\b.png", "/a", "a")] == ["/a", "C:\\a", "", ""]


def test_names_are_sorted_by_the_value_of_their_numbers():
    names = ["a10", "A9", "ａ2", "a1b", "a", "b"]
    assert sorted(names, key=make_sort_name) == ["a", "a1b", "ａ2", "A9", "a10", "b"]
    assert len(make_sort_name("1 " * 300)) == 400


# Layers.


def test_facts_without_a_column_come_back_from_details():
    text = ImageText(
        generation_prompt="p", description="d", keywords=("a, b",), loras=("ink",), rating=0, taken_precision="month",
        taken_is_doubtful=True, camera="X100", taken_at=datetime(2024, 1, 1), raw={"k": "v"},
    )  # fmt: skip
    record = ImageRecord(
        1, "0" * 64, "a", "image/png", 1, 1, 1, datetime(2024, 1, 1), (), text, Edits("", (), 0), "reader 1", "",
        Frame("f1" * 32, 500, 1000), True, "#010203", 3,
    )  # fmt: skip
    loaded = load_details(dump_details(record), "p", "d", None, None, text.taken_at)
    assert loaded["text"] == text
    for name in ("edits", "frame", "is_incomplete", "dominant_color", "recipe", "recognizer"):
        assert loaded[name] == getattr(record, name), name


def test_record_without_anything_has_short_details():
    record = ImageRecord(1, "0" * 64, "a", "image/png", 1, 1, 1, datetime(2024, 1, 1), (), ImageText())
    assert dump_details(record) == "{}"
    assert load_details(None, None, None, None, None, None)["text"] == ImageText()


def test_lines_come_back():
    lines = (TextLine("出口\n'\"", 0.5, (0.0, 0.25, 0.5, 1.0)), TextLine("", 1.0, (0.0, 0.0, 0.0, 0.0)))
    assert load_lines(dump_lines(RecognizedText("reader 1", "出口", lines))) == lines
    assert load_lines(None) == ()


@given(st.builds(ImageText, st.none() | st.text(), st.none() | st.text(), keywords=st.lists(st.text()).map(tuple)))
def test_storable_text_stays_as_it_is(text):
    storable = make_text_storable(text)
    assert make_text_storable(storable) == storable
