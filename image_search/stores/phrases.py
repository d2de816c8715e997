"""Words for indexes that know nothing of languages: every text becomes a row of plain tokens, every word a phrase.

Each character of a script written without spaces is a token by itself, so that a Japanese word is found wherever it
occurs, down to one character, by the phrase search that every text index has. Runs of letters and of digits are one
token, every other character is one, too.

A token holds a-z and 0-9 only. No analyser cuts or changes it, and no query language gives it a meaning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from image_search.stores.words import is_unspaced, split_text

_BOUNDARY = "f0"  # between fields, so that no phrase reaches from one into the next
_LONGEST = 64  # characters; indexes cut or refuse longer ones


def make_stream(fields: Iterable[str | None]) -> str:
    """The tokens of all fields of an image, separated by blanks."""
    return f" {_BOUNDARY} ".join(make_phrase(field) for field in fields if field)


def make_phrase(word: str) -> str:
    """The tokens that follow one another where this word occurs; "" for a word without any visible character."""
    pieces: list[str] = []
    for piece in split_text(word):
        pieces += piece if is_unspaced(piece) else [piece]
    return " ".join(map(_spell, pieces))


def _spell(piece: str) -> str:
    # Runs are letters only or digits only, so that what has both can stand for everything else.
    if piece.isascii() and piece.isalnum():
        spelt = piece
    elif len(piece) == 1:
        spelt = f"c0{ord(piece):x}"
    else:
        spelt = f"w0{piece.encode().hex()}"
    return spelt if len(spelt) <= _LONGEST else f"l0{hashlib.sha256(spelt.encode()).hexdigest()}"
