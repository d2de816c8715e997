"""The whole contract on the Oracle store: the real driver, over a socket, against the wire server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from image_search.stores.base import ImageStore
from image_search.stores.oracle import OracleStore
from tests.contract import ImageStoreContract
from tests.oracle.wire.server import Server
from tests.oracle.wired import make_settings, serve


class TestOracle(ImageStoreContract):
    """Without indexes, MAX_STRING_SIZE = EXTENDED."""

    has_indexes = False

    @pytest.fixture
    def library(self, tmp_path: Path) -> Iterator[Server]:
        indexes = self.has_indexes
        path = tmp_path / "oracle.db"
        with serve(path, has_text=indexes, has_vector_index=indexes, has_long_strings=not indexes) as server:
            yield server

    def open_library(self, library: Server) -> ImageStore:
        return OracleStore.open(make_settings(library))


class TestOracleWithBothIndexes(TestOracle):
    """MAX_STRING_SIZE = STANDARD, as every new database has it."""

    has_indexes = True
