"""The same library in every engine answers the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from image_search.records import Edits, ImageText, NewImage, RecognizedText, SearchFilter
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from tests.fakes import make_embeddings, make_image
from tests.fakes.engines import each_engine, new_library
from tests.fakes.memory_store import MemoryStore

pytestmark = pytest.mark.slow

FILTERS = (
    SearchFilter(),
    SearchFilter(generator="ComfyUI"),
    SearchFilter(has_prompt=True, min_pixels=64 * 64),
    SearchFilter(folder="/写真/2024", taken_from=datetime(2024, 2, 1)),
    SearchFilter(keyword="山", words=("雪",)),
    SearchFilter(min_rating=3, camera="X100"),
    SearchFilter(has_text=True, kind="image"),
)
FIELDS = (
    *("generator", "generation_model", "lora", "file_type", "keyword"),
    *("camera", "lens", "rating", "folder", "kind"),
)
WORDS = ([], ["猫"], ["富士山"], ["snow"], ["山", "cat"], ["雪の"], ["012"], ["出口"], ["うちの", "家族"], ["absent"])


def make_library() -> list[NewImage]:
    """200 images that differ in everything a search can ask for."""
    images = [
        make_image(
            f"写真{n}.png",
            ImageText(
                generation_prompt=f"猫 cat {n}, snow" if n % 3 else None,
                description="雪の富士山" if n % 4 == 0 else None,
                generator=("ComfyUI", "NovelAI", None)[n % 3],
                keywords=("山", "雪") if n % 5 == 0 else (),
                taken_at=datetime(2024, 1, 1) + timedelta(days=n // 2) if n % 7 else None,
                loras=("ink", "glow")[: n % 3],
                camera=("X100", "Z 6", None)[n % 3],
                lens="23mm" if n % 6 == 0 else None,
                rating=n % 6 if n % 2 else None,
            ),
            width=32 + n,
            file_path=f"/写真/{2023 + n % 3}/写真{n}.png",
        )
        for n in range(200)
    ]
    return [
        replace(
            image,
            edits=Edits("うちの猫", ("家族",), n % 6) if n % 8 == 0 else Edits(),
            recognized=RecognizedText("reader 1", "出口" if n % 3 else "") if n % 2 else None,
            upload_date=datetime(2024, 5, 1 + n % 20),
        )
        for n, image in enumerate(images)
    ]


@pytest.fixture(scope="module")
def reference() -> ImageStore:
    """The library in memory."""
    store = MemoryStore()
    fill(store)
    return store


def fill(store: ImageStore) -> None:
    model = store.get_or_create_model("fake", "1", 64)
    image_ids = store.add_images(model.model_id, make_library(), make_embeddings(200, 64))
    store.trash_images(image_ids[5::20])


@each_engine
def test_images_by_the_hundred_are_found_alike(engine: str, reference: ImageStore, tmp_path: Path) -> None:
    with new_library(engine, tmp_path / "library") as settings, open_store(settings) as store:
        fill(store)
        for number, query in enumerate(make_embeddings(50, 64, seed=9)):
            chosen, offset = FILTERS[number % len(FILTERS)], number % 7
            wanted = reference.search_embedding(1, query, 16, offset, chosen)
            found = store.search_embedding(1, query, 16, offset, chosen)
            assert [hit.image_id for hit in found] == [hit.image_id for hit in wanted]
            assert found.total == wanted.total
            assert [hit.distance for hit in found] == pytest.approx([hit.distance for hit in wanted], abs=1e-6)
        for words in WORDS:
            for chosen in FILTERS:
                for order in ("registered", "taken", "name"):
                    wanted = reference.list_images(words, 50, 3, chosen, order)
                    found = store.list_images(words, 50, 3, chosen, order)
                    assert [hit.image_id for hit in found] == [hit.image_id for hit in wanted]
                    assert found.total == wanted.total
        for chosen in FILTERS:
            assert store.count_images(chosen) == reference.count_images(chosen)
            for field in FIELDS:
                counts = reference.count_values(field, chosen)
                assert list(store.count_values(field, chosen).items()) == list(counts.items())
