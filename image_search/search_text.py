"""What a person typed, taken apart: meaning, words, "words that must occur" and -what to leave out."""

from __future__ import annotations

import re
from dataclasses import dataclass

# A minus before a word, or before a quoted phrase, at the beginning of a token; as typed on every keyboard.
_TOKEN = re.compile(r'(?P<minus>[-－−]?)(?:["“”＂](?P<phrase>[^"“”＂]*)["“”＂]|(?P<word>\S+))')
_QUOTES = '"“”＂'
# What nobody says about a picture: file names, seeds, names of models and error codes.
_IDENTIFIER = re.compile(r"(?a:(?=.*\d)[\w.:()-]{4,}|\w+_\w+)|\S+\.[A-Za-z]{3,4}")


@dataclass(frozen=True)
class ParsedText:
    """meaning: for the encoder, "" when nothing is left. words: to look up, the required ones among them."""

    meaning: str = ""
    words: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    @property
    def is_exact(self) -> bool:
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
