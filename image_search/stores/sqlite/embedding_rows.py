"""The embeddings of one model as one transaction on the SQLite tables sees them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import numpy as np

from image_search.stores.sqlite.exact_search import Rows
from image_search.stores.sqlite.faiss_index import Ids
from image_search.stores.sqlite.rows import EACH, dump_values

_CHUNK = 2048


class TableRows:
    """Reads embeddings by embedding_id through one connection.

    newest: the highest embedding_id that was given out, where that is known; behind it nothing is looked for.
    """

    def __init__(self, connection: sqlite3.Connection, model_id: int, dimension: int, newest: int = 2**63 - 1) -> None:
        self._connection = connection
        self._model_id = model_id
        self._dimension = dimension
        self._newest = newest

    def read(self, embedding_ids: Ids) -> Rows:
        """Those of these that are there, in any order."""
        rows = self._connection.execute(
            f"SELECT embedding_id, image_id, embedding FROM image_embeddings WHERE embedding_id IN {EACH}",
            [dump_values(embedding_ids.tolist())],
        )
        return self._gather(rows.fetchall())

    def read_after(self, embedding_id: int, until: int | None = None) -> Iterator[Rows]:
        """Everything above this id, up to another one if given, ascending and in chunks."""
        if embedding_id >= self._newest:
            return
        # NOT INDEXED: in order of embedding_id, which is how the rows lie in the file.
        rows = self._connection.execute(
            "SELECT embedding_id, image_id, embedding FROM image_embeddings NOT INDEXED "
            "WHERE embedding_id > ? AND embedding_id <= ? AND model_id = ? ORDER BY embedding_id",
            (embedding_id, 2**63 - 1 if until is None else until, self._model_id),
        )
        while chunk := rows.fetchmany(_CHUNK):
            yield self._gather(chunk)

    def list_ids(self) -> Ids:
        """All embedding_ids, in no order."""
        rows = self._connection.execute(
            "SELECT embedding_id FROM image_embeddings WHERE model_id = ?", (self._model_id,)
        )
        return np.fromiter((row[0] for row in rows), np.int64)

    def list_removed(self, removal_id: int) -> Ids:
        """embedding_ids that were removed after this removal."""
        rows = self._connection.execute(
            "SELECT embedding_id FROM removals WHERE removal_id > ? AND model_id = ?", (removal_id, self._model_id)
        )
        return np.fromiter((row[0] for row in rows), np.int64)

    def count(self) -> int:
        """How many there are."""
        query = "SELECT count(*) FROM image_embeddings WHERE model_id = ?"
        return int(self._connection.execute(query, (self._model_id,)).fetchone()[0])

    def _gather(self, rows: list[Any]) -> Rows:
        return Rows(
            np.array([row[0] for row in rows], np.int64),
            np.array([row[1] for row in rows], np.int64),
            np.frombuffer(b"".join(row[2] for row in rows), "<f4").reshape(len(rows), self._dimension),
        )
