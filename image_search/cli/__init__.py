"""Shared by the terminal commands: exit codes, progress and messages on stderr, results on stdout, Ctrl-C."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType
from typing import Protocol

from tqdm import tqdm

from image_search.errors import ImageSearchError, escape_controls
from image_search.settings import IS_INSTALLED

_ALWAYS = (signal.SIGINT, signal.SIGTERM)
_ENDING = (*_ALWAYS, signal.SIGHUP) if hasattr(signal, "SIGHUP") else _ALWAYS


class Exit(IntEnum):
    """How a run ended, for scripts."""

    OK = 0
    SOME_FAILED = 1
    NOTHING_FOUND = 1
    COULD_NOT_RUN = 2
    INTERRUPTED = 130


# Messages name the scripts of a clone; an installed program has a command for each of their options.
_COMMANDS = (
    (r"register_images\.py (?=--(create-schema|migrate|vector-index))", "image-search oracle "),
    (r"register_images\.py --remove-model", "image-search models --remove"),
    (r"register_images\.py --read-text", "image-search text"),
    (r"register_images\.py", "image-search register"),
    (r"ImageSearch\.py --check", "image-search check"),
    (r"python -m image_search", "image-search"),
    # Never by name from a package index, where it may be another project's.
    (r"pip install -r requirements-(\w+)\.txt", r"pip install '.[\1]' in the clone of this program"),
    (r"pip install -r requirements\.txt", "pip install . in the clone of this program"),
)


def name_commands(text: str) -> str:
    """The text with commands that this installation has."""
    if IS_INSTALLED:
        for pattern, command in _COMMANDS:
            text = re.sub(rf"(?:python )?{pattern}", command, text)
    return text


def prepare_output() -> None:
    """Let no character that the console's encoding lacks (Windows: CP932) end a run; it is written as \\u98db."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def write_line(*parts: object, sep: str = " ", to_stderr: bool = False) -> None:
    """Print a line for people at once, with control characters escaped."""
    text = sep.join(escape_controls(str(part)) for part in parts)
    print(text, file=sys.stderr if to_stderr else sys.stdout, flush=True)


def write_json(facts: object) -> None:
    """Print a line for programs at once: one JSON object, in UTF-8 whatever the console's encoding."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() not in ("utf-8", "utf8"):
        sys.stdout.reconfigure(encoding="utf-8")
    print(escape_controls(json.dumps(facts, ensure_ascii=False), in_json=True), flush=True)


def run(program: str, work: Callable[[], Exit]) -> Exit:
    """Do the work. Returns its Exit, or that of an error that a user can cause, which is printed as one sentence."""
    try:
        return work()
    except ImageSearchError as error:
        write_line(f"{program}: {name_commands(str(error))}", to_stderr=True)
        return Exit.COULD_NOT_RUN
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:  # the reader of our output, head for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK


class Progress(Protocol):
    """A report with the number of finished items and of all items."""

    total: int

    @property
    def done(self) -> int: ...


class Console:
    """The progress bar and sentences on stderr, from any thread."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._is_terminal = sys.stderr.isatty()

    def show_progress(self, report: Progress) -> None:
        if self._bar is None:
            file, pause = (sys.stderr, 0.1) if self._is_terminal else (LogLines(), 10)
            self._bar = tqdm(total=report.total, unit=" images", mininterval=pause, dynamic_ncols=True, file=file)
        self._bar.total = report.total
        self._bar.update(report.done - self._bar.n)

    def say(self, sentence: str) -> None:
        sentence = name_commands(sentence)
        if self._is_terminal:
            tqdm.write(escape_controls(sentence), file=sys.stderr)  # above the bar
        else:
            write_line(sentence, to_stderr=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class LogLines(io.TextIOBase):
    """A progress bar in a file: a line for every state, instead of one that is overwritten."""

    def write(self, text: str) -> int:
        if line := text.strip():
            print(line, file=sys.stderr, flush=True)
        return len(text)


@contextmanager
def finishing_on_interrupt(stop: threading.Event) -> Iterator[None]:
    """Within it, Ctrl-C ends the work after the batch in hand; a second Ctrl-C ends it at once."""

    def interrupt(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        print("\nFinishing the batch in hand; Ctrl-C again ends at once.", file=sys.stderr)

    with handling_signals(interrupt):
        yield


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
    """Send further output to nowhere: a message to a closed terminal would raise in the middle of the work."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            if os.isatty(stream.fileno()):
                os.dup2(nothing, stream.fileno())
        except (OSError, ValueError):  # a stream of a test, or one that is closed
            continue
    os.close(nothing)
