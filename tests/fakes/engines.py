"""An empty library of any engine that can run here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest

from image_search.settings import Settings

OTHERS = ("postgresql", "milvus", "redis", "elasticsearch")


def _for_each(engines: tuple[str, ...]) -> pytest.MarkDecorator:
    """A test for each of them, run only where pytest --store names the engine."""
    return pytest.mark.parametrize("engine", [pytest.param(name, marks=pytest.mark.engine(name)) for name in engines])


each_other_engine = _for_each(OTHERS)
each_engine = _for_each(("sqlite", *OTHERS))


@contextmanager
def new_library(engine: str, folder: Path) -> Iterator[Settings]:
    """An empty library, removed afterwards. folder: where an engine without room for originals keeps them."""
    if engine == "sqlite":
        yield Settings(database_url=f"sqlite:///{folder.with_suffix('.db')}")
    elif engine == "postgresql":
        from tests.fakes import postgres_server

        url = postgres_server.make_library()
        yield Settings(database_url=url)
        postgres_server.remove_library(url)
    else:
        server = import_module(f"tests.fakes.{engine}_server")
        settings: Settings = server.make_library(folder)
        yield settings
        server.remove_library(settings)
