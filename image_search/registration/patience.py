"""Wait for a database that is away, but not for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from image_search.errors import StoreUnavailable

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)  # seconds; two minutes together


@dataclass
class Patience:
    """Repeats what failed because the database was away, with longer and longer pauses.

    say: told once for every pause. stop: set to end a pause at once.
    """

    say: Callable[[str], None]
    stop: threading.Event
    pauses: Sequence[float] = PAUSES

    def call(self, action: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """The result of an action that may be repeated without harm. Raises StoreUnavailable after the last pause."""
        for pause in self.pauses:
            try:
                return action(*args, **kwargs)
            except StoreUnavailable as error:
                if self.stop.is_set():
                    raise
                self.say(f"{error} Trying again in {pause:g} seconds.")
                self.stop.wait(pause)
        return action(*args, **kwargs)
