"""The rule of terms on plain lists: which terms occur in an image, whatever an engine's index makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from image_search.stores.tokens import make_index_tokens, make_query_tokens


@lru_cache(2000)
def _cut(fields: tuple[str | None, ...]) -> list[str]:
    return make_index_tokens(fields).split()


def occurs(term: str, fields: Iterable[str | None]) -> bool:
    """Whether a term occurs in one of these fields."""
    return is_among(term, _cut(tuple(fields)))


def is_among(term: str, tokens: Sequence[str]) -> bool:
    """Whether the tokens of a term follow one another among these."""
    wanted, is_beginning = make_query_tokens(term)
    if not wanted or (len(wanted) > 1 and wanted[0] not in tokens):
        return False
    for start in range(len(tokens) - len(wanted) + 1):
        *middle, last = tokens[start : start + len(wanted)]
        if tuple(middle) == wanted[:-1] and (last.startswith(wanted[-1]) if is_beginning else last == wanted[-1]):
            return True
    return False
