"""Words on Oracle Database: the text they are looked up in, and the conditions that find them.

SEARCH_TEXT holds everything an image says in one spelling, a blank between any two pieces that are not one run of
Japanese: " cat 01 . png \\n 猫の写真 ". A word, cut the same way, occurs in an image when it is a part of that
text, and INSTR finds just that, down to one character and whatever the character is. With Oracle Text the index finds
most words by itself: letters and digits as the beginning of a token, Japanese from two characters on. What the index
cannot decide (single characters, symbols, other scripts, phrases) is left to INSTR on what the index lets through.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from image_search.stores.words import is_unspaced, split_text

_FIELD_END = "\n"  # never inside a field once it is cut: no phrase reaches from one field into the next
# Longer binds would not be VARCHAR2 any more (4000 bytes); nobody tells two words apart by their 900th character.
_LONGEST_WORD = 900

# What JAPANESE_VGRAM_LEXER certainly keeps: kana, the long vowel mark and kanji, at least two of them.
_JAPANESE = re.compile(r"[\u3041-\u3096\u30a1-\u30fa\u30fc\u3400-\u4dbf\u4e00-\u9fff]{2,}")
_LATIN = re.compile(r"[a-z0-9]{2,}")  # the beginning "a%" would expand to too many tokens
# Oracle Text gives these a meaning. Braces would take it away, and with it the possibility to ask for a beginning.
_RESERVED = re.compile(
    "about|accum|and|bt[gip]?|equiv|fuzzy|haspath|inpath|mdata|minus|mnot|near|not|nt[gip]?|or|pattern|pt|rt|sdata|sqe|"
    "syn|tr|trsyn|tt|within"
)

Condition = tuple[list[str], dict[str, object]]


def make_search_text(fields: Iterable[str | None]) -> str:
    """All fields of an image as SEARCH_TEXT holds them. Never empty."""
    return "".join(f" {' '.join(split_text(field))} {_FIELD_END}" for field in fields if field) or _FIELD_END


def match_words(words: Sequence[str], has_text_index: bool) -> Condition:
    """Conditions on images i that hold where all words occur, and their binds."""
    conditions: list[str] = []
    binds: dict[str, object] = {}
    terms: list[str] = []
    for number, word in enumerate(words):
        pieces = split_text(word)
        if not pieces:
            return ["1 = 0"], {}
        found, decides = _make_terms(pieces) if has_text_index else ([], False)
        terms += found
        if not decides:
            conditions.append(f"INSTR(i.search_text, :word_{number}) > 0")
            binds[f"word_{number}"] = _make_needle(pieces)
    if terms:
        conditions.insert(0, "CONTAINS(i.search_text, :text_query, 1) > 0")
        binds["text_query"] = " AND ".join(dict.fromkeys(terms))
    return conditions, binds


def _make_needle(pieces: list[str]) -> str:
    text = " ".join(pieces)[:_LONGEST_WORD].rstrip()
    return text if is_unspaced(pieces[0]) else " " + text


def _make_terms(pieces: list[str]) -> tuple[list[str], bool]:
    """Terms of a CONTAINS query that hold wherever the pieces occur, and whether they hold nowhere else."""
    terms = []
    for piece in pieces:
        if _LATIN.fullmatch(piece) and len(piece) < 64:  # a token ends at 64 bytes
            terms += [] if _RESERVED.fullmatch(piece) else [piece + "%"]
        else:
            terms += ["{" + run + "}" for run in _JAPANESE.findall(piece)]
    decides = len(pieces) == 1 and terms in (["{" + pieces[0] + "}"], [pieces[0] + "%"])
    return terms, decides
