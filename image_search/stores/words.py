"""Words in Japanese and other text, as a stream of tokens that any word index can hold.

Japanese is written without spaces, and word indexes of databases either cut it by dictionary (and then miss what the
dictionary does not know) or by three characters (and then miss 猫). Here every character of such a script becomes one
token: itself and the character after it. A word of n characters is then found as a phrase of its n-1 pairs, wherever
it occurs, and a single character as the beginning of a pair. Letters and digits make one token for each run,
so that cat is found in cat01.png and in cats, but not in education. Everything else that is not blank is a token by
itself.

Tokens hold letters, digits and characters above 127 only: no query language gives them a meaning.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

# Scripts written without spaces: Thai, Lao, Myanmar, Khmer; Chinese, Japanese and Korean with their punctuation.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u2fff\u3001-\u9fff"
    "\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
_PIECES = re.compile(rf"[{_UNSPACED}]+|[^\W\d_{_UNSPACED}]+|\d+|\S")
_BOUNDARY = "\ue0ff"  # private use: between fields, so that no phrase reaches from one into the next
_SYMBOLS = 0xE000  # ASCII symbols move here, out of reach of query languages


def make_index_tokens(fields: Iterable[str | None]) -> str:
    """The tokens of all fields of an image, separated by blanks."""
    return f" {_BOUNDARY} ".join(" ".join(_cut(field)) for field in fields if field)


def make_query_tokens(word: str) -> tuple[list[str], bool]:
    """The tokens that must follow one another where this word occurs, and whether the last is only a beginning.

    [] for a word without any visible character.
    """
    tokens = _cut(word)
    if not tokens:
        return [], False
    if not is_unspaced(tokens[-1]):
        return tokens, tokens[-1].isalnum()
    # The last character of a Japanese word: its pair reaches beyond the word. The pair before already contains it.
    if len(tokens) > 1 and len(tokens[-2]) == 2 and is_unspaced(tokens[-2]):
        return tokens[:-1], False
    return tokens, True


def normalise_text(text: str) -> str:
    """Text as it is compared: full and half width, upper and lower case alike."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", folded)


def split_text(text: str) -> list[str]:
    """The pieces of a text, normalised: runs of an unspaced script, runs of letters, runs of digits, single symbols."""
    return _PIECES.findall(normalise_text(text))


def is_unspaced(piece: str) -> bool:
    """Whether a piece belongs to a script that is written without spaces."""
    return bool(re.match(f"[{_UNSPACED}]", piece))


def _cut(text: str) -> list[str]:
    tokens: list[str] = []
    for piece in split_text(text):
        if is_unspaced(piece):
            tokens += [piece[i : i + 2] for i in range(len(piece))]
        elif piece.isalnum() or ord(piece[0]) > 127:
            tokens.append(piece)
        else:
            tokens.append(chr(_SYMBOLS + ord(piece)))
    return tokens
