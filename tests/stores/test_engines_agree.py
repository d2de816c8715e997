"""The same library in every engine answers the same."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from image_search.records import ImageText, NewImage, SearchFilter
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from tests.fakes import make_embeddings, make_image
from tests.fakes.engines import each_other_engine, new_library

FILTERS = (
    SearchFilter(),
    SearchFilter(generator="ComfyUI"),
    SearchFilter(has_prompt=True, min_pixels=64 * 64),
    SearchFilter(folder="/写真/2024", taken_from=datetime(2024, 2, 1)),
    SearchFilter(keyword="山", words=("雪",)),
)
WORDS = (["猫"], ["富士山"], ["snow"], ["山", "cat"], ["雪の"], ["012"], ["absent"])


def make_library() -> list[NewImage]:
    """200 images that differ in everything a search can ask for."""
    return [
        make_image(
            f"写真{n:03d}.png",
            ImageText(
                generation_prompt=f"猫 cat {n}, snow" if n % 3 else None,
                description="雪の富士山" if n % 4 == 0 else None,
                generator=("ComfyUI", "NovelAI", None)[n % 3],
                keywords=("山", "雪") if n % 5 == 0 else (),
                taken_at=datetime(2024, 1, 1) + timedelta(days=n),
            ),
            width=32 + n,
            file_path=f"/写真/{2023 + n % 3}/写真{n:03d}.png",
        )
        for n in range(200)
    ]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageStore]:
    """The library in the embedded store."""
    with (
        new_library("sqlite", tmp_path_factory.mktemp("reference") / "library") as settings,
        open_store(settings) as store,
    ):
        fill(store)
        yield store


def fill(store: ImageStore) -> None:
    model = store.get_or_create_model("fake", "1", 64)
    store.add_images(model.model_id, make_library(), make_embeddings(200, 64))


@each_other_engine
def test_two_hundred_pictures_are_found_alike(engine: str, reference: ImageStore, tmp_path: Path) -> None:
    with new_library(engine, tmp_path / "library") as settings, open_store(settings) as store:
        fill(store)
        for number, query in enumerate(make_embeddings(50, 64, seed=9)):
            chosen, offset = FILTERS[number % len(FILTERS)], number % 7
            wanted = reference.search_embedding(1, query, 16, offset, chosen)
            found = store.search_embedding(1, query, 16, offset, chosen)
            assert [hit.image_id for hit in found] == [hit.image_id for hit in wanted]
            assert [hit.distance for hit in found] == pytest.approx([hit.distance for hit in wanted], abs=1e-6)
        for words in WORDS:
            for chosen in FILTERS:
                wanted = reference.search_words(words, 50, 0, chosen)
                found = store.search_words(words, 50, 0, chosen)
                assert [hit.image_id for hit in found] == [hit.image_id for hit in wanted]
        for chosen in FILTERS:
            assert store.count_images(chosen) == reference.count_images(chosen)
            for field in ("generator", "file_type", "keyword"):
                counts = reference.count_values(field, chosen)
                assert list(store.count_values(field, chosen).items()) == list(counts.items())
