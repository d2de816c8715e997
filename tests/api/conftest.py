"""A small library of colours, and a client of its REST API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from image_search.search import Searcher
from tests.fakes.api_library import build_small, open_client, open_colours


@pytest.fixture
def searcher(tmp_path: Path) -> Iterator[Searcher]:
    with open_colours(tmp_path) as searcher:
        yield searcher


@pytest.fixture
def client(searcher: Searcher) -> TestClient:
    return open_client(build_small(searcher))


@pytest.fixture(scope="session")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The same for tests that change nothing."""
    with open_colours(tmp_path_factory.mktemp("unchanged")) as searcher:
        yield open_client(build_small(searcher))
