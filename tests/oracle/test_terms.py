"""How words are asked of Oracle Database: of the word index as far as that goes, literally for the rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_search.stores.oracle.rows import make_search_text, match_words
from image_search.stores.tokens import normalise_text
from tests.oracle.wire.functions import has_terms


@pytest.mark.parametrize(
    ("word", "text_query", "needle"),
    [
        ("庭の猫", "{庭の猫}", None),
        ("cat", "cat%", " cat"),
        ("ＣＡＴ", "cat%", " cat"),
        ("AND", None, " and"),
        ("猫", None, "猫"),
        ("c", None, " c "),
        ("C++", None, " c + + "),
        ("a}b", None, " a } b "),
        ("red cat", "red% AND cat%", " red cat "),
        ("猫cat", "cat%", "猫 cat "),
        ("佐々木さん", "{木さん}", "佐々木さん"),
        ("%", None, " % "),
        ("{}", None, " { } "),
    ],
)
def test_word_is_asked_of_the_index_as_far_as_that_goes(word: str, text_query: str | None, needle: str | None) -> None:
    conditions, binds = match_words([word], has_text_index=True)
    assert binds.get("text_query") == text_query
    assert binds.get("word_0") == needle
    assert len(conditions) == len(binds)
    without, needles = match_words([word], has_text_index=False)
    assert without == ["INSTR(i.search_text, :word_0) > 0"]
    assert str(needles["word_0"]) in make_search_text(["x", f"{word} tail", None])


def test_no_phrase_reaches_from_one_field_into_the_next() -> None:
    [needle] = match_words(["red cat"], has_text_index=False)[1].values()
    assert str(needle) not in make_search_text(["red", "cat"])


def test_term_of_one_run_alone_is_found_at_the_beginning_of_a_longer_run() -> None:
    text = make_search_text(["black cats"])
    assert all(str(match_words([word], False)[1]["word_0"]) in text for word in ("cat", "black", "black cats"))
    assert all(str(match_words([word], False)[1]["word_0"]) not in text for word in ("black cat", "bla cats", "ats"))


def test_query_too_long_for_a_bind_goes_without_the_index() -> None:
    conditions, binds = match_words(["猫" * 1400], has_text_index=True)
    assert conditions == ["INSTR(i.search_text, :word_0) > 0"]
    assert max(len(str(value).encode()) for value in binds.values()) <= 4000


def test_word_without_anything_visible_is_found_nowhere() -> None:
    assert match_words(["\u3000 "], has_text_index=True) == (["1 = 0"], {})


@given(st.text(min_size=1, max_size=30), st.text(max_size=5), st.text(max_size=5))
def test_text_is_found_in_itself_whatever_characters_it_has(word: str, before: str, after: str) -> None:
    text = make_search_text([f"{before} {word} {after}"])
    for has_text_index in (True, False):
        conditions, binds = match_words([word], has_text_index)
        if conditions == ["1 = 0"]:
            assert not normalise_text(word).strip()  # a mark that stands alone, for example
            continue
        if "text_query" in binds:
            assert has_terms(text, str(binds["text_query"]), is_japanese=True)
        assert str(binds.get("word_0", "")) in text


@given(st.text(alphabet="猫犬の山abc12 {}%&|,-+*?'\"\\\\()[]=;$!>~_", max_size=40))
def test_query_for_the_word_index_holds_nothing_it_gives_a_meaning(word: str) -> None:
    _, binds = match_words([word], has_text_index=True)
    for term in str(binds.get("text_query", "")).split(" AND "):
        inner = term.removesuffix("%").removeprefix("{").removesuffix("}")
        assert not inner or inner.isalnum()
