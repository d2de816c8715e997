"""The store in memory keeps the contract that it is the model of."""

from __future__ import annotations

import pytest

from tests.contract import ContractWithoutIndex
from tests.fakes.memory_store import MemoryLibrary, MemoryStore


@pytest.mark.slow
class TestMemoryStore(ContractWithoutIndex):
    @pytest.fixture
    def library(self):
        return MemoryLibrary()

    def open_library(self, library):
        return MemoryStore(library)
