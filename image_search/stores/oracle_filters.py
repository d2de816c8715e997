"""A SearchFilter and words as conditions on images i, with binds for every value that comes from outside."""

from __future__ import annotations

from collections.abc import Sequence

from image_search.records import SearchFilter
from image_search.stores.oracle_words import match_words
from image_search.stores.sql_conditions import list_conditions
from image_search.stores.storable_text import make_storable

Conditions = tuple[list[str], dict[str, object]]

# More could not be bound as VARCHAR2 (4000 bytes), and no column that is filtered holds more.
_LONGEST_VALUE = 1000


def write_conditions(filter: SearchFilter, words: Sequence[str], has_text_index: bool) -> Conditions:
    """Conditions that hold for the images the filter lets through and in which the words occur, and their binds."""
    wanted = [word for given in (*filter.words, *words) if (word := make_storable(given).strip())]
    conditions, binds = match_words(wanted, has_text_index)
    for condition, values in list_conditions(filter):
        for value in values:
            name = f"filter_{len(binds)}"
            condition = condition.replace("%s", f":{name}", 1)
            binds[name] = value[:_LONGEST_VALUE] if isinstance(value, str) else value
        conditions.append(condition)
    return conditions, binds
