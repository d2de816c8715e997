"""Arithmetic on unit vectors: words, pictures and what to leave out become one embedding.

With t for the words, p for the pictures, n for what is left out, all of length 1, and w for the pictures' weight:

    q = unit((1 - w) t + w p)        words and pictures together
    q = unit(q - EXCLUSION n)        moved away from what is left out
"""

from __future__ import annotations

import ntpath
import os
import posixpath
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PureWindowsPath

import numpy as np

from image_search.encoders.base import Embeddings

# Parse the text of a query: meaning, words, "required words" and -excluded ones.

# A minus before a word, or before a quoted phrase, at the beginning of a token; as typed on every keyboard.
_TOKEN = re.compile(r'(?P<minus>[-－−]?)(?:["“”＂](?P<phrase>[^"“”＂]*)["“”＂]|(?P<word>\S+))')
_QUOTES = '"“”＂'
# Identifiers, not descriptions: file names, seeds, names of models and error codes.
_IDENTIFIER = re.compile(r"(?a:(?=.*\d)[\w.:()-]{4,}|\w+_\w+)|\S+\.[A-Za-z]{3,4}")


@dataclass(frozen=True)
class ParsedText:
    """meaning: for the encoder, "" when nothing is left. words: to look up, the required ones among them."""

    meaning: str = ""
    words: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    @property
    def is_identifier_query(self) -> bool:
        """Whether only identifiers were typed, of which the spelling counts and the meaning says nothing."""
        return bool(self.words) and all(_IDENTIFIER.fullmatch(word) for word in self.words)


def parse_text(text: str) -> ParsedText:
    """Take a query apart. Any text is a query: a quote without its partner or a lone minus is just a character."""
    words, required, excluded = [], [], []
    for token in _TOKEN.finditer(text):
        phrase = token["phrase"]
        word = " ".join((phrase if phrase is not None else token["word"].strip(_QUOTES)).split())
        if not word:
            continue
        if token["minus"]:
            excluded.append(word)
            continue
        words.append(word)
        if phrase is not None:
            required.append(word)
    return ParsedText(" ".join(words), tuple(words), tuple(required), tuple(excluded))


def split_excluded(text: str) -> list[str]:
    """The phrases in a field of words to leave out: the unquoted words as one phrase, and each "quoted" phrase."""
    phrases = [" ".join(phrase.split()) for phrase in re.findall(r'"([^"]*)"', text)]
    run = " ".join(re.sub(r'"[^"]*"', " ", text).replace('"', " ").split())
    return [phrase for phrase in dict.fromkeys([run, *phrases]) if phrase]


# Days as people type them, for everything that asks for one: the page, its address, the terminal.

_DATES = tuple(
    re.compile(pattern, re.ASCII)
    for pattern in (
        r"(\d{4})(?:[-/.](\d{1,2})(?:[-/.](\d{1,2}))?)?",
        r"(\d{4})(\d{2})(\d{2})",
        r"(\d{4})\s*年(?:\s*(\d{1,2})\s*月(?:\s*(\d{1,2})\s*日)?)?",
    )
)


def parse_date(text: str, last: bool = False) -> datetime | None:
    """The first moment of a day, month or year (2024-05-01, 2024-05, 2024); with last, of the one after it.

    Also 2024/5/1, 2024.5.1, 20240501, 2024年5月1日 and digits of full width. None for what is no date.
    """
    plain = unicodedata.normalize("NFKC", text).strip()
    match = next((found for pattern in _DATES if (found := pattern.fullmatch(plain))), None)
    if not match:
        return None
    year, month, day = int(match[1]), int(match[2] or 1), int(match[3] or 1)
    try:
        start = datetime(year, month, day)
        if not last:
            return start
        if match[3]:
            return start + timedelta(days=1)
        if match[2]:
            return datetime(year + month // 12, month % 12 + 1, 1)
        return datetime(year + 1, 1, 1)
    except (ValueError, OverflowError):
        return None


def normalise_folder(folder: str) -> str:
    """A whole path, of either system, as files are registered: without . and .. and doubled separators, ~ written out.

    A library may have been registered on another machine, so nothing is looked at. Other paths stay as they are.
    """
    path = os.path.expanduser(folder)
    if path.startswith("/"):
        return posixpath.normpath(f"/{path.lstrip('/')}")
    return ntpath.normpath(path) if PureWindowsPath(path).is_absolute() else folder


# Measured on demo scenes: of what is left out little remains among the first, of what is wanted nearly everything.
EXCLUSION = 0.5
# Pictures say more than words (a place, a light, besides the thing); at this share both are heard best.
IMAGE_WEIGHT = 0.4


@dataclass(frozen=True, eq=False)
class QueryVector:
    """A query's embedding, float32 (dimension,) of length 1, and what it was made of.

    share: of pictures, 0 for words alone, 1 for pictures alone; None when something was left out
    """

    embedding: Embeddings
    share: float | None


def blend_embeddings(
    words: Sequence[Embeddings],
    pictures: Sequence[Embeddings],
    left_out: Sequence[Embeddings],
    image_weight: float = IMAGE_WEIGHT,
) -> QueryVector | None:
    """One embedding of all parts, or None when nothing was given. All inputs are of length 1."""
    weight = min(max(image_weight, 0.0), 1.0) if words and pictures else float(bool(pictures))
    sides = [(1 - weight, words), (weight, pictures)]
    wanted = [share * to_unit_length(np.sum(side, axis=0)) for share, side in sides if side]
    away = to_unit_length(np.sum(left_out, axis=0)) if left_out else None
    if not wanted:
        return None if away is None else QueryVector(-away, None)
    total = to_unit_length(np.sum(wanted, axis=0))
    if away is not None:
        return QueryVector(to_unit_length(total - EXCLUSION * away), None)
    return QueryVector(total, weight)


def to_unit_length(vector: Embeddings) -> Embeddings:
    """The same direction with length 1; what cancelled itself out points anywhere, but is finite and of length 1."""
    length = float(np.linalg.norm(vector))
    if length < 1e-6:
        return np.eye(1, len(vector), dtype=np.float32).reshape(-1)
    return np.asarray(vector / length, np.float32)
