"""Signal handlers that are in place for a while only. Standard library only."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_ALWAYS = (signal.SIGINT, signal.SIGTERM)
_ENDING = (*_ALWAYS, signal.SIGHUP) if hasattr(signal, "SIGHUP") else _ALWAYS


@contextmanager
def handling_signals(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Within it, Ctrl-C, SIGTERM and SIGHUP call the handler; SIGHUP not where it is ignored (nohup)."""

    def handle(number: int, frame: FrameType | None) -> None:
        if number not in _ALWAYS:
            _leave_terminal()
        handler(number, frame)

    handled = [n for n in _ENDING if n in _ALWAYS or signal.getsignal(n) is not signal.SIG_IGN]
    former = {number: signal.signal(number, handle) for number in handled}
    try:
        yield
    finally:
        for number, before in former.items():
            signal.signal(number, before)


def _leave_terminal() -> None:
    """The terminal is closed: a message to it would be an error in the middle of the work."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            if os.isatty(stream.fileno()):
                os.dup2(nothing, stream.fileno())
        except (OSError, ValueError):  # a stream of a test, or one that is closed
            continue
    os.close(nothing)
