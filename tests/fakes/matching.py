"""The rule of terms on plain lists: which terms occur in an image, whatever an engine's index makes of them."""

from __future__ import annotations

from collections.abc import Iterable

from image_search.stores.text import make_index_tokens, make_query_tokens


def occurs(term: str, fields: Iterable[str | None]) -> bool:
    """Whether the tokens of a term follow one another among those of the fields."""
    wanted, is_beginning = make_query_tokens(term)
    if not wanted:
        return False
    tokens = make_index_tokens(fields).split()
    for start in range(len(tokens) - len(wanted) + 1):
        *middle, last = tokens[start : start + len(wanted)]
        if middle == wanted[:-1] and (last.startswith(wanted[-1]) if is_beginning else last == wanted[-1]):
            return True
    return False
