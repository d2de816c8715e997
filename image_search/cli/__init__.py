"""What the scripts do, command by command: results to stdout, talk to stderr, an Exit each."""

from enum import IntEnum


class Exit(IntEnum):
    """How a run ended, for scripts."""

    OK = 0
    SOME_FAILED = 1
    COULD_NOT_RUN = 2
    INTERRUPTED = 130
