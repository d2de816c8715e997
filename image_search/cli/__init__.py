"""The commands, for a terminal: results to stdout, messages to stderr, an Exit each."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from enum import IntEnum

from image_search.errors import ImageSearchError


class Exit(IntEnum):
    """How a run ended, for scripts."""

    OK = 0
    SOME_FAILED = 1
    NOTHING_FOUND = 1
    COULD_NOT_RUN = 2
    INTERRUPTED = 130


def run(program: str, work: Callable[[], Exit]) -> Exit:
    """Do the work. Returns its Exit, or that of an error that a user can cause, which is printed as one sentence."""
    try:
        return work()
    except ImageSearchError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return Exit.COULD_NOT_RUN
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:  # the reader of our output, head for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
