"""What is asked of the query engine: a SearchFilter and words as one expression, and the commands around it.

No text of a person ever stands in an expression: exact values are digests, words are plain tokens (phrases.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from image_search.records import SearchFilter
from image_search.stores.base import CountedField, Embeddings
from image_search.stores.documents import WITH_PROMPT, count_microseconds, exact_key, list_filter_tags
from image_search.stores.redis.client import Connection, make_vector_field
from image_search.stores.text import sanitize, tokenize_query

ALL = 1_000_000  # the engine returns no more at once
# Half a second, the default, would silently cut results short.
_COMMON = ("TIMEOUT", 110_000, "DIALECT", 2)
_NOTHING = "@tags:{nothing}"
_SLACK = 16  # more neighbours than asked for, to see whether a tie reaches beyond the last


def build_expression(filter: SearchFilter, words: Sequence[str] = (), model_id: int | None = None) -> str:
    """The expression for images that qualify, have all words, and have an embedding of the model."""
    conditions = [*_list_conditions(filter), *(_match_word(word) for word in (*filter.words, *words) if word.strip())]
    if model_id is not None:
        conditions.append(f"@models:{{{int(model_id)}}}")
    return " ".join(conditions) or "*"


def count(connection: Connection, expression: str) -> int:
    """How many images there are."""
    with connection.client() as client:
        [total, *_] = client.execute_command("FT.SEARCH", connection.index, expression, "LIMIT", 0, 0, *_COMMON)
    return int(total)


def list_ids(connection: Connection, expression: str, order: Sequence[str], limit: int, offset: int = 0) -> list[int]:
    """image_ids in an order such as ("@upload_date", "DESC", "@image_id", "DESC")."""
    with connection.client() as client:
        [_, *rows] = client.execute_command(
            *("FT.AGGREGATE", connection.index, expression, "LOAD", 1, "@__key"),
            *("SORTBY", len(order), *order, "MAX", offset + limit, "LIMIT", offset, limit, *_COMMON),
        )
    return [_read_id(_make_dict(row)[b"__key"]) for row in rows]


def list_nearest(
    connection: Connection, expression: str, model_id: int, embedding: Embeddings, limit: int
) -> list[tuple[float, int]]:
    """Distances and image_ids of at least the limit nearest images, ties in full, in order; all if there are fewer."""
    neighbours = limit + _SLACK
    field = make_vector_field(model_id)
    before = expression if expression == "*" else f"({expression})"
    while True:
        with connection.client() as client:
            [_, *rows] = client.execute_command(
                *("FT.SEARCH", connection.index, f"{before}=>[KNN {neighbours} @{field} $query AS distance]"),
                *("PARAMS", 2, "query", embedding.tobytes(), "SORTBY", "distance", "ASC"),
                *("LIMIT", 0, neighbours, "RETURN", 1, "distance", *_COMMON),
            )
        # Its distance is 1 minus the inner product.
        found = sorted(
            (float(_make_dict(values)[b"distance"]) - 1, _read_id(key))
            for key, values in zip(rows[::2], rows[1::2], strict=True)
        )
        if len(found) < neighbours or found[-1][0] > found[limit - 1][0]:
            return found
        neighbours *= 2


def count_values(connection: Connection, expression: str, field: CountedField) -> Iterator[tuple[bytes, int]]:
    """The different contents of a field with their numbers; of keywords, the different lists of them."""
    name = "keywords" if field == "keyword" else field
    with connection.client() as client:
        [_, *rows] = client.execute_command(
            *("FT.AGGREGATE", connection.index, expression, "LOAD", 1, f"@{name}"),
            *("GROUPBY", 1, f"@{name}", "REDUCE", "COUNT", 0, "AS", "number", "LIMIT", 0, ALL, *_COMMON),
        )
    for row in rows:
        values = _make_dict(row)
        if values.get(name.encode()) is not None:
            yield values[name.encode()], int(values[b"number"])


def _list_conditions(filter: SearchFilter) -> Iterator[str]:
    yield from _match_times("taken_at", filter.taken_from, filter.taken_to)
    yield from _match_times("upload_date", filter.registered_from, filter.registered_to)
    for tags in list_filter_tags(filter):
        yield _match_tags(tags)
    if filter.min_pixels is not None:
        yield f"@pixels:[{int(filter.min_pixels)} +inf]"
    if filter.has_prompt is not None:
        yield ("" if filter.has_prompt else "-") + _match_tags([WITH_PROMPT])


def match_paths(paths: Sequence[str]) -> str:
    """The expression for images read from one of these paths."""
    return _match_tags([exact_key("p", path) for path in paths])


def match_file_name(file_name: str) -> str:
    """The expression for images of this file name."""
    return _match_tags([exact_key("n", file_name)])


def _match_tags(tags: Sequence[str]) -> str:
    return f"@tags:{{{'|'.join(tags)}}}"


def _match_times(field: str, start: datetime | None, end: datetime | None) -> Iterator[str]:
    if start is not None or end is not None:
        low = "-inf" if start is None else count_microseconds(start)
        high = "+inf" if end is None else f"({count_microseconds(end)}"
        yield f"@{field}:[{low} {high}]"


def _match_word(word: str) -> str:
    phrase = tokenize_query(sanitize(word))
    return f'@words:"{phrase}"' if phrase else _NOTHING


def _make_dict(row: Sequence[Any]) -> dict[bytes, Any]:
    return dict(zip(row[::2], row[1::2], strict=True))


def _read_id(key: bytes) -> int:
    return int(key.rpartition(b":")[2])
