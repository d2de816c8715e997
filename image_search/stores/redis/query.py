"""Questions to the query engine: a SearchFilter and terms as one expression, and the commands around it.

No text of a user ever stands in an expression: exact values are digests, words are plain tokens (stores/text.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from image_search.errors import StoreError
from image_search.records import SearchFilter
from image_search.stores.base import Embeddings
from image_search.stores.redis.client import Connection, make_vector_field
from image_search.stores.search_fields import list_filter_keys, list_filter_ranges, make_model_key
from image_search.stores.text import is_beginning_query, sanitize, tokenize_document, tokenize_query

ALL = 1_000_000  # the engine returns no more at once
# Half a second, the default, would silently cut results short.
_COMMON = ("TIMEOUT", 110_000, "DIALECT", 2)
_NOTHING = "@tags:{nothing}"
_SLACK = 16  # extra neighbours, to see whether a tie continues beyond the last

# Words.
#
# The engine lets two equal tokens of a phrase stand at one position, when one follows the other: "no no" would find a
# single no. So every second one of equal tokens in a row is stored under another name, and a phrase, which may begin
# anywhere in such a row, is asked for in both ways it can be stored.
#
# The beginning of a token is not left to the engine, either: it looks at the first 200 tokens that begin so. Every
# token is kept in a sorted set (vocabulary), and all that begin so are asked for by name.

_REPEATED = "z0"  # no token begins so: runs are letters or digits only


def make_words(fields: Iterable[str | None]) -> str:
    """The tokens of all fields of an image as they are stored."""
    return " ".join(_mark_repeated(tokenize_document(fields).split()))


def list_beginnings(fields: Iterable[str | None]) -> set[str]:
    """The tokens of an image that a term may be the beginning of."""
    return {token for token in tokenize_document(fields).split() if len(token) > 1 and token[:2] not in _NO_RUNS}


_NO_RUNS = ("c0", "f0")  # single characters and boundaries


def _mark_repeated(tokens: Sequence[str], first: bool = False) -> list[str]:
    """Every second one of equal tokens in a row under its other name. first: whether the first token is such a one."""
    marked: list[str] = []
    is_marked = first
    for number, token in enumerate(tokens):
        if number > 0:
            is_marked = token == tokens[number - 1] and not is_marked
        marked.append(_REPEATED + token if is_marked else token)
    return marked


def list_tokens(connection: Connection, start: str) -> list[str]:
    """All stored tokens that begin like this one."""
    [tokens] = connection.ask(("ZRANGEBYLEX", connection.make_key("vocabulary"), f"[{start}", f"({start}\x7f"))
    return [token.decode() for token in tokens]


def _match_term(term: str, expand: Callable[[str], list[str]]) -> str:
    tokens = tokenize_query(sanitize(term)).split()
    if not tokens:
        return _NOTHING
    if is_beginning_query(sanitize(term)):
        phrases = expand(tokens[0])
    elif len(tokens) == 1:
        phrases = tokens
    else:
        phrases = [" ".join(_mark_repeated(tokens, first)) for first in (False, True)]
    quoted = "|".join(f'"{phrase}"' for phrase in phrases)
    return f"@words:({quoted})" if quoted else _NOTHING


# Expressions.


def build_expression(
    filter: SearchFilter,
    terms: Sequence[str] = (),
    model_id: int | None = None,
    expand: Callable[[str], list[str]] = lambda token: [token],
) -> str:
    """The expression for images that qualify, have all terms, and have an embedding of the model.

    expand: gives all stored tokens that begin like one.
    """
    conditions = list(_list_conditions(filter))
    conditions += [_match_term(term, expand) for term in (*filter.words, *terms) if term.strip()]
    if model_id is not None:
        conditions.append(match_model(model_id))
    return " ".join(conditions) or "*"


def _list_conditions(filter: SearchFilter) -> Iterator[str]:
    for field, low, high in list_filter_ranges(filter):
        yield f"@{field}:[{'-inf' if low is None else int(low)} {'+inf' if high is None else f'({int(high)}'}]"
    for is_wanted, keys in list_filter_keys(filter):
        yield ("" if is_wanted else "-") + match_keys(keys)


def match_keys(keys: Sequence[str]) -> str:
    """The condition that an image has one of these keys."""
    return f"@tags:{{{'|'.join(keys)}}}"


def match_ranges(ranges: Iterable[tuple[str, int, int]]) -> str:
    """The condition that numbers lie in ranges (field, lowest, too high)."""
    return " ".join(f"@{field}:[{low} ({high}]" for field, low, high in ranges)


def match_model(model_id: int, min_recipe: int = 0) -> str:
    """The condition that an image has an embedding of a model, of at least this recipe."""
    return f"@models:{{{make_model_key(model_id, min_recipe)}}}"


# Commands.


def ask_count(connection: Connection, expression: str) -> tuple[Any, ...]:
    """The command that counts images; its answer begins with the number."""
    return ("FT.SEARCH", connection.index, expression, "LIMIT", 0, 0, *_COMMON)


def count(connection: Connection, expression: str) -> int:
    """How many images there are."""
    [[total, *_]] = connection.ask(ask_count(connection, expression))
    return int(total)


def list_page(
    connection: Connection, expression: str, order: Sequence[str], limit: int, offset: int = 0
) -> tuple[list[int], int]:
    """image_ids in an order such as ("@upload_date", "DESC", "@image_id", "DESC"), and how many there are in all."""
    check_depth(connection, offset + limit)
    [total, *_], rows = connection.ask(
        ask_count(connection, expression),
        (
            *("FT.AGGREGATE", connection.index, expression, "LOAD", 1, "@__key"),
            *("SORTBY", len(order), *order, "MAX", offset + limit, "LIMIT", offset, limit, *_COMMON),
        ),
    )
    return [_read_id(_make_dict(row)[b"__key"]) for row in rows[1:]], int(total)


def list_ids(
    connection: Connection, expression: str, limit: int, order: Sequence[str] = ("@image_id", "ASC")
) -> list[int]:
    """The first image_ids, ascending."""
    return list_page(connection, expression, order, limit)[0]


def list_nearest(
    connection: Connection, expression: str, model_id: int, embedding: Embeddings, limit: int
) -> tuple[list[tuple[float, int]], int]:
    """Distances and image_ids of the limit nearest images, in order, and how many there are in all."""
    neighbours = limit + _SLACK
    check_depth(connection, neighbours)
    field = make_vector_field(model_id)
    before = expression if expression == "*" else f"({expression})"
    everything = match_model(model_id) if expression == "*" else f"{expression} {match_model(model_id)}"
    while True:
        [total, *_], [_, *rows] = connection.ask(
            ask_count(connection, everything),
            (
                *("FT.SEARCH", connection.index, f"{before}=>[KNN {neighbours} @{field} $query AS distance]"),
                *("PARAMS", 2, "query", embedding.tobytes(), "SORTBY", "distance", "ASC"),
                *("LIMIT", 0, neighbours, "RETURN", 1, "distance", *_COMMON),
            ),
        )
        # Its distance is 1 minus the inner product.
        found = sorted(
            (float(_make_dict(values)[b"distance"]) - 1, _read_id(key))
            for key, values in zip(rows[::2], rows[1::2], strict=True)
        )
        if len(found) < neighbours or neighbours >= ALL or found[-1][0] > found[limit - 1][0]:
            return found[:limit], int(total)
        neighbours = min(2 * neighbours, ALL)


def count_values(connection: Connection, expression: str, field: str) -> Iterator[tuple[bytes, int]]:
    """The different contents of a field with their numbers."""
    [rows] = connection.ask(
        (
            *("FT.AGGREGATE", connection.index, expression, "LOAD", 1, f"@{field}"),
            *("GROUPBY", 1, f"@{field}", "REDUCE", "COUNT", 0, "AS", "number", "LIMIT", 0, ALL, *_COMMON),
        )
    )
    for row in rows[1:]:
        values = _make_dict(row)
        if values.get(field.encode()) is not None:
            yield values[field.encode()], int(values[b"number"])


def check_depth(connection: Connection, depth: int) -> None:
    """Raise StoreError for a page the engine cannot give."""
    if depth > ALL:
        raise StoreError(
            f"{connection.location} gives the first {ALL:,} images of a list only. Narrow the search by a filter."
        )


def _make_dict(row: Sequence[Any]) -> dict[bytes, Any]:
    return dict(zip(row[::2], row[1::2], strict=True))


def _read_id(key: bytes) -> int:
    return int(key.rpartition(b":")[2])
