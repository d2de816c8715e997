"""What one browser tab shows, whatever order the answers come in.

A person may ask again before the answer is there, and the slower answer must not win. Every question of a tab has a
number, counted up in the browser in the order of the clicks: an answer to a question that is no longer the newest is
dropped. What belongs to the pictures shown (more of them, a deletion) counts only while they are shown.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from image_search.ui.handlers import PageUpdate, TabView
from image_search.ui.search_form import NOTHING_ASKED, SearchForm


class TabState:
    """Safe to use from several threads. The methods return None for an answer that must not be shown any more."""

    def __init__(self) -> None:
        self.view = TabView()
        self.asked: SearchForm = NOTHING_ASKED  # the newest question, answered or not
        self._lock = threading.Lock()
        self._newest = 0
        self._opened = 0
        self._changes = 0
        self._is_waiting = False

    def __deepcopy__(self, _: object) -> TabState:
        """Gradio copies the first value of a state for every tab that is opened."""
        return TabState()

    def ask(self, number: int, asked: SearchForm, find: Callable[[], PageUpdate]) -> PageUpdate | None:
        """The answer to a question with its number, unless a newer one was asked."""
        with self._lock:
            if number < self._newest:
                return None
            self._newest, self.asked, self._is_waiting = number, asked, True
        try:
            while True:
                changes = self._changes
                outcome = find()
                with self._lock:
                    if number != self._newest:
                        return None
                    if changes == self._changes:  # otherwise it may show what was deleted meanwhile
                        self.view = outcome.view
                        return outcome
        finally:
            with self._lock:
                self._is_waiting = self._is_waiting and number != self._newest

    def show(self, number: int, outcome: PageUpdate) -> PageUpdate | None:
        """An answer that was looked for without keeping anything else waiting, unless something newer was asked."""
        return self.ask(number, outcome.view.asked, lambda: outcome)

    def is_outdated(self, number: int) -> bool:
        """Whether something else was asked after this question."""
        return number < self._newest

    def go_on(self, find: Callable[[TabView], PageUpdate]) -> PageUpdate | None:
        """What follows from the pictures shown, unless others are shown or asked for by then."""
        shown = self.view
        outcome = find(shown)
        with self._lock:
            if self.view is not shown or self._is_waiting:
                return None
            self.view = outcome.view
            return outcome

    def change(self, act: Callable[[TabView], PageUpdate]) -> PageUpdate | None:
        """A deletion, and the pictures shown without what was deleted. act may be called again; None: an answer that
        is on its way comes without them, too."""
        while True:
            shown = self.view
            outcome = act(shown)
            with self._lock:
                self._changes += 1
                if self._is_waiting:
                    return None
                if self.view is shown:
                    self.view = outcome.view
                    return outcome

    def open(self, number: int, describe: Callable[[], str]) -> str | None:
        """The dialog of one picture, unless another was opened after it."""
        with self._lock:
            if number < self._opened:
                return None
            self._opened = number
        opened = describe()
        return opened if number == self._opened else None
