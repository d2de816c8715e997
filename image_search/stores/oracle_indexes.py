"""Which of the two optional indexes there are: a vector index, and the word index of Oracle Text.

Another program may make or drop them at any time (register_images.py --vector-index), so a store looks once a minute.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from image_search.stores.oracle_connection import Session
from image_search.stores.oracle_sql import FIND_SEARCH_INDEXES

_SECONDS = 60.0


@dataclass(frozen=True)
class FoundIndexes:
    """vector: "ivf", "hnsw" or None. text: whether words can be asked of Oracle Text."""

    vector: str | None
    vector_name: str | None
    text: bool


class SearchIndexes:
    """Remembers what was found for a minute. Safe to use from several threads."""

    def __init__(self) -> None:
        self._found: tuple[float, FoundIndexes] | None = None

    def look(self, session: Session) -> FoundIndexes:
        """What there is, at most a minute old."""
        remembered = self._found
        if remembered is None or time.monotonic() - remembered[0] > _SECONDS:
            remembered = self._found = (time.monotonic(), find_indexes(session))
        return remembered[1]

    def distrust_text(self) -> None:
        """Leave the word index alone for a minute: it has just failed."""
        if self._found is not None:
            found = self._found[1]
            self._found = (time.monotonic(), FoundIndexes(found.vector, found.vector_name, text=False))


def find_indexes(session: Session) -> FoundIndexes:
    """Look in the dictionary. An index that is not valid is not there."""
    vector = name = None
    text = False
    for index_name, index_type, subtype, status, operation_status in session.query(FIND_SEARCH_INDEXES):
        if index_type == "VECTOR":
            name = index_name
            if status == "VALID":
                vector = "hnsw" if "GRAPH" in (subtype or "") or "HNSW" in (subtype or "") else "ivf"
        else:
            text = status == "VALID" and operation_status == "VALID"
    return FoundIndexes(vector, name, text)
