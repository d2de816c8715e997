"""The fixtures all parts of the store contract share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from image_search.records import EmbeddingModel, Hits
from image_search.stores.base import ImageStore

DIMENSION = 16


def list_ids(hits: Hits) -> list[int]:
    return [hit.image_id for hit in hits]


def list_names(hits: Hits) -> list[str]:
    return [hit.image.file_name for hit in hits]


class StoreFixtures:
    @pytest.fixture
    def library(self) -> Any:
        raise NotImplementedError("yield what names an EMPTY library, then remove it")

    def open_library(self, library: Any) -> ImageStore:
        raise NotImplementedError("return a new handle on the library")

    @pytest.fixture
    def reopen(self, library: Any) -> Iterator[Callable[[], ImageStore]]:
        """Opens another handle on the same library."""
        opened: list[ImageStore] = []

        def reopen() -> ImageStore:
            opened.append(self.open_library(library))
            return opened[-1]

        yield reopen
        for store in opened:
            store.close()

    @pytest.fixture
    def store(self, reopen: Callable[[], ImageStore]) -> ImageStore:
        """An empty store."""
        return reopen()

    @pytest.fixture
    def model(self, store: ImageStore) -> EmbeddingModel:
        return store.get_or_create_model("fake", "1", DIMENSION)
