"""Answers that come in the wrong order, without a browser."""

from __future__ import annotations

import copy

import pytest

from image_search.ui.handlers import PageUpdate, TabView
from image_search.ui.search_form import SearchForm
from image_search.ui.tab_state import TabState


def answer(words: str) -> PageUpdate:
    return PageUpdate(TabView(SearchForm(words)), words, words, False)


def test_an_answer_to_an_older_question_is_dropped() -> None:
    tab = TabState()

    def ask_again_before_the_answer() -> PageUpdate:
        assert tab.ask(2, SearchForm("new"), lambda: answer("new"))
        return answer("old")

    assert tab.ask(1, SearchForm("old"), ask_again_before_the_answer) is None
    assert tab.view.asked.text == "new"


def test_a_question_that_arrives_late_is_not_even_looked_for() -> None:
    tab = TabState()
    tab.ask(2, SearchForm("new"), lambda: answer("new"))
    assert tab.ask(1, SearchForm("old"), lambda: (_ for _ in ()).throw(AssertionError("asked"))) is None
    assert tab.is_outdated(1)
    assert tab.asked == SearchForm("new")


def test_more_is_dropped_when_something_else_is_shown_or_asked_for_by_then() -> None:
    tab = TabState()

    def search_meanwhile(_: TabView) -> PageUpdate:
        tab.ask(1, SearchForm("new"), lambda: answer("new"))
        return answer("more")

    assert tab.go_on(search_meanwhile) is None

    def ask_for_more() -> PageUpdate:
        assert tab.go_on(lambda _: answer("more")) is None
        return answer("newest")

    assert tab.ask(2, SearchForm("newest"), ask_for_more)
    assert tab.go_on(lambda _: answer("more"))


def test_a_deletion_lets_an_answer_be_looked_for_again() -> None:
    tab = TabState()
    library = ["a", "b"]

    def find_and_delete_one() -> PageUpdate:
        found = " ".join(library)
        if "a" in library:
            library.remove("a")
            assert tab.change(lambda _: answer("deleted")) is None
        return answer(found)

    outcome = tab.ask(1, SearchForm("q"), find_and_delete_one)
    assert outcome is not None
    assert outcome.results == "b"


def test_a_deletion_is_shown_in_what_is_shown_by_then() -> None:
    tab = TabState()
    seen = []

    def act(shown: TabView) -> PageUpdate:
        seen.append(shown.asked.text)
        if len(seen) == 1:
            tab.ask(1, SearchForm("new"), lambda: answer("new"))
        return answer(f"{shown.asked.text} without it")

    outcome = tab.change(act)
    assert outcome is not None
    assert outcome.results == "new without it"
    assert seen == ["", "new"]


def test_a_question_that_broke_keeps_nothing_waiting() -> None:
    tab = TabState()
    with pytest.raises(RuntimeError):
        tab.ask(1, SearchForm("q"), lambda: (_ for _ in ()).throw(RuntimeError))
    assert tab.go_on(lambda _: answer("more"))


def test_the_last_picture_opened_stays_open() -> None:
    tab = TabState()

    def open_another() -> str:
        assert tab.open(2, lambda: "second") == "second"
        return "first"

    assert tab.open(1, open_another) is None


def test_every_tab_has_a_state_of_its_own() -> None:
    tab = TabState()
    tab.ask(5, SearchForm("q"), lambda: answer("q"))
    assert copy.deepcopy(tab).ask(1, SearchForm("r"), lambda: answer("r"))
