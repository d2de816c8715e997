"""A library behind the wire server: its schema made by create_all_tables.sql itself, over the wire."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from image_search.settings import Settings
from tests.oracle.wire.database import Database
from tests.oracle.wire.definitions import Index
from tests.oracle.wire.server import PASSWORD, Server

IVF = Index(
    "IMAGE_EMBEDDING_IDX", "IMAGE_EMBEDDINGS", ("EMBEDDING",), "VECTOR", subtype="NEIGHBOR_PARTITIONS_IVF", metric="DOT"
)


def make_settings(server: Server, **changes: Any) -> Settings:
    return replace(Settings(db_user="imgsearch", db_password=PASSWORD, db_dsn=server.dsn), **changes)


@contextmanager
def serve(
    path: Path, has_text: bool = False, has_vector_index: bool = False, has_long_strings: bool = True
) -> Iterator[Server]:
    """A server with an empty library. Raises AssertionError at the end for what no working program does."""
    database = _make_library(has_text, has_long_strings).copy(path)
    if has_vector_index:
        database.indexes[IVF.name] = IVF
    with Server(database) as server:
        yield server
    server.check()


@contextmanager
def serve_nothing(path: Path, has_text: bool = True, has_long_strings: bool = True) -> Iterator[Server]:
    """A server whose schema is empty."""
    with Server(Database(path, has_long_strings, has_text)) as server:
        yield server
    server.check()


@cache
def _make_library(has_text: bool, has_long_strings: bool) -> Database:
    from image_search.stores.oracle.schema import create_schema

    with serve_nothing(Path(mkdtemp()) / "template.db", has_text, has_long_strings) as server:
        list(create_schema(make_settings(server)))
    return server.database
