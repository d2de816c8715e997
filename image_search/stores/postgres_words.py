"""Words in PostgreSQL: an index of tokens narrows down, and the stream of tokens decides.

The built-in parser and pg_trgm cannot find Japanese words of one or two characters, so the tokens of words.py are kept
as they are: in words, a tsvector that answers which images have these tokens, and in tokens, the same in their
order, where a word is a piece of text. No dictionary, no language setting and no further extension is needed.
"""

from __future__ import annotations

from image_search.records import ImageText
from image_search.stores.sql_conditions import Condition
from image_search.stores.words import make_index_tokens, make_query_tokens

_TOKEN_LENGTH = 100  # characters; a lexeme may have 2046 bytes
_MOST_BYTES = 500_000  # of all lexemes; a tsvector may have 1 MiB
_ANYTHING = "\ue0fe"  # private use: stands for all tokens of an image that has too many


def make_tokens(text: ImageText, file_name: str) -> tuple[str, list[str]]:
    """What an image's columns tokens and words are made of."""
    stream = make_index_tokens([text.generation_prompt, text.description, *text.keywords, file_name])
    lexemes = sorted({token[:_TOKEN_LENGTH] for token in stream.split(" ") if token})
    if sum(len(lexeme.encode()) for lexeme in lexemes) > _MOST_BYTES:
        lexemes = [_ANYTHING]
    return f" {stream} ", lexemes


def match_word(word: str) -> Condition:
    """The condition that a word occurs in an image."""
    tokens, is_beginning = make_query_tokens(word)
    if not tokens:
        return "false", []
    lexemes = [f"'{token[:_TOKEN_LENGTH]}'" for token in tokens]
    if is_beginning:
        lexemes[-1] += ":*"
    phrase = " " + " ".join(tokens) + ("" if is_beginning else " ")
    return (
        "(i.words @@ %s::tsquery AND i.tokens LIKE %s)",  # nothing in a token means anything to LIKE or to a tsquery
        [f"{' & '.join(lexemes)} | '{_ANYTHING}'", f"%{phrase}%"],
    )
