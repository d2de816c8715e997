"""A SearchFilter, and words that must occur, as conditions of a SQLite query over images i."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from image_search.records import SearchFilter
from image_search.stores.sql_conditions import Condition, list_conditions
from image_search.stores.storable_text import make_storable
from image_search.stores.words import make_query_tokens


def write_where(filter: SearchFilter, words: Sequence[str] = ()) -> Condition:
    """A WHERE clause ("" when everything qualifies) and the values of its placeholders."""
    occurring = [make_storable(word) for word in (*filter.words, *words) if word.strip()]
    conditions = [*list_conditions(filter), *(_match_word(word) for word in occurring)]
    if not conditions:
        return "", []
    clause = "WHERE " + " AND ".join(sql.replace("%s", "?") for sql, _ in conditions)
    values = [value for _, given in conditions for value in given]
    return clause, [format_time(value) if isinstance(value, datetime) else value for value in values]


def format_time(moment: datetime) -> str:
    """Fixed width, so that the order of the texts is the order of the times."""
    return moment.isoformat(sep=" ", timespec="microseconds")


def _match_word(word: str) -> Condition:
    tokens, is_beginning = make_query_tokens(word)
    if not tokens:
        return "0", []
    phrase = f'"{" ".join(tokens)}"' + ("*" if is_beginning else "")
    return "i.image_id IN (SELECT rowid FROM image_words WHERE image_words MATCH %s)", [phrase]
