"""Answers that come in the wrong order, without a browser."""

from __future__ import annotations

import copy

import pytest

from image_search.ui.answers import Outcome, View
from image_search.ui.asked import Asked
from image_search.ui.tab import Tab


def answer(words: str) -> Outcome:
    return Outcome(View(Asked(words)), words, words, False)


def test_an_answer_to_an_older_question_is_dropped() -> None:
    tab = Tab()

    def ask_again_before_the_answer() -> Outcome:
        assert tab.ask(2, Asked("new"), lambda: answer("new"))
        return answer("old")

    assert tab.ask(1, Asked("old"), ask_again_before_the_answer) is None
    assert tab.view.asked.text == "new"


def test_a_question_that_arrives_late_is_not_even_looked_for() -> None:
    tab = Tab()
    tab.ask(2, Asked("new"), lambda: answer("new"))
    assert tab.ask(1, Asked("old"), lambda: (_ for _ in ()).throw(AssertionError("asked"))) is None
    assert tab.is_outdated(1)
    assert tab.asked == Asked("new")


def test_more_is_dropped_when_something_else_is_shown_or_asked_for_by_then() -> None:
    tab = Tab()

    def search_meanwhile(_: View) -> Outcome:
        tab.ask(1, Asked("new"), lambda: answer("new"))
        return answer("more")

    assert tab.go_on(search_meanwhile) is None

    def ask_for_more() -> Outcome:
        assert tab.go_on(lambda _: answer("more")) is None
        return answer("newest")

    assert tab.ask(2, Asked("newest"), ask_for_more)
    assert tab.go_on(lambda _: answer("more"))


def test_a_deletion_lets_an_answer_be_looked_for_again() -> None:
    tab = Tab()
    library = ["a", "b"]

    def find_and_delete_one() -> Outcome:
        found = " ".join(library)
        if "a" in library:
            library.remove("a")
            assert tab.change(lambda _: answer("deleted")) is None
        return answer(found)

    outcome = tab.ask(1, Asked("q"), find_and_delete_one)
    assert outcome is not None
    assert outcome.results == "b"


def test_a_deletion_is_shown_in_what_is_shown_by_then() -> None:
    tab = Tab()
    seen = []

    def act(shown: View) -> Outcome:
        seen.append(shown.asked.text)
        if len(seen) == 1:
            tab.ask(1, Asked("new"), lambda: answer("new"))
        return answer(f"{shown.asked.text} without it")

    outcome = tab.change(act)
    assert outcome is not None
    assert outcome.results == "new without it"
    assert seen == ["", "new"]


def test_a_question_that_broke_keeps_nothing_waiting() -> None:
    tab = Tab()
    with pytest.raises(RuntimeError):
        tab.ask(1, Asked("q"), lambda: (_ for _ in ()).throw(RuntimeError))
    assert tab.go_on(lambda _: answer("more"))


def test_the_last_picture_opened_stays_open() -> None:
    tab = Tab()

    def open_another() -> str:
        assert tab.open(2, lambda: "second") == "second"
        return "first"

    assert tab.open(1, open_another) is None


def test_every_tab_has_a_state_of_its_own() -> None:
    tab = Tab()
    tab.ask(5, Asked("q"), lambda: answer("q"))
    assert copy.deepcopy(tab).ask(1, Asked("r"), lambda: answer("r"))
