"""Text inside an image, for the viewer: where each line stands, and which of its words were asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from image_search.recognition import is_sure
from image_search.records import RecognizedText
from image_search.stores.text import is_unspaced, join_recognized, normalise_text

# A character with the marks that follow it: normalisation makes one of ﾃ and ﾞ.
_UNITS = re.compile("\\s+|\\S[\u0300-\u036f\u3099\u309a\uff9e\uff9f]*")


class _Letter(NamedTuple):
    """One normalised letter, and the part of a line it was made of; line -1: the blank between two lines."""

    letter: str
    line: int
    start: int = 0
    end: int = 0


def describe_lines(recognized: RecognizedText | None, terms: Sequence[str]) -> list[dict[str, Any]]:
    """The lines that are shown: {box, pieces}. box: left, top, right, bottom, 0 to 1; pieces: [text, is asked for]."""
    lines = [line for line in recognized.lines if is_sure(line)] if recognized else []
    texts = [line.text for line in lines]
    marked = _find_marks(texts, terms)
    return [
        {"box": line.box, "pieces": _cut(line.text, [index in places for index in range(len(line.text))])}
        for line, places in zip(lines, marked, strict=True)
    ]


def _find_marks(lines: Sequence[str], terms: Sequence[str]) -> list[set[int]]:
    """For each line, which of its characters belong to one of the terms, which may go on over the end of a line."""
    letters = list(_join(_list_letters(lines)))
    text = "".join(letter.letter for letter in letters)
    marked: list[set[int]] = [set() for _ in lines]
    for term in terms:
        wanted = join_recognized(normalise_text(term))
        for match in re.finditer(re.escape(wanted), text) if wanted else ():
            if match.start() and _is_one_run(text[match.start() - 1], wanted[0]):
                continue  # letters and digits are found from the beginning of a run only
            for letter in letters[match.start() : match.end()]:
                if letter.line >= 0:
                    marked[letter.line].update(range(letter.start, letter.end))
    return marked


def _list_letters(lines: Sequence[str]) -> Iterator[_Letter]:
    for number, line in enumerate(lines):
        if number:
            yield _Letter(" ", -1)
        for unit in _UNITS.finditer(line):
            letters = " " if unit.group().isspace() else normalise_text(unit.group())
            yield from (_Letter(letter, number, unit.start(), unit.end()) for letter in letters)


def _join(letters: Iterator[_Letter]) -> Iterator[_Letter]:
    """Without the blanks that join_recognized takes out."""
    before: _Letter | None = None
    blank: _Letter | None = None
    for letter in letters:
        if letter.letter == " ":
            blank = blank or letter
            continue
        if blank and before and not (is_unspaced(before.letter) and is_unspaced(letter.letter)):
            yield blank
        blank, before = None, letter
        yield letter


def _is_one_run(before: str, first: str) -> bool:
    """Whether two neighbours belong to one run of letters or of digits."""
    if is_unspaced(before) or is_unspaced(first):
        return False
    return (before.isalpha() and first.isalpha()) or (before.isdigit() and first.isdigit())


def _cut(text: str, is_marked: Sequence[bool]) -> list[tuple[str, bool]]:
    pieces: list[tuple[str, bool]] = []
    for letter, mark in zip(text, is_marked, strict=True):
        if pieces and pieces[-1][1] == mark:
            pieces[-1] = pieces[-1][0] + letter, mark
        else:
            pieces.append((letter, mark))
    return pieces
