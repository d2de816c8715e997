"""The commands, for a terminal: results to stdout, messages to stderr, an Exit each."""

from enum import IntEnum


class Exit(IntEnum):
    """How a run ended, for scripts."""

    OK = 0
    SOME_FAILED = 1
    NOTHING_FOUND = 1
    COULD_NOT_RUN = 2
    INTERRUPTED = 130
