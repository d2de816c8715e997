"""Store contract: filters mean the same for every way of searching, and counts agree with them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from image_search.records import Edits, Hits, ImageText, RecognizedText, SearchFilter
from tests.contract.fixtures import DIMENSION, StoreFixtures, list_ids, list_names
from tests.fakes import make_embeddings, make_image

IMAGES = [
    make_image("a", ImageText(taken_at=datetime(2024, 1, 1), keywords=("山", "Snow")), file_path="/photos/2024/a"),
    make_image("b", ImageText(taken_at=datetime(2024, 1, 2), keywords=("山脈",)), file_path="/photos/2024/x/b"),
    make_image("c", ImageText(taken_at=datetime(2025, 1, 1)), file_path="/photos/2024b/c", width=48, height=64),
    make_image(
        "d", ImageText(generation_prompt="猫", generator="ComfyUI", generation_model="sdxl"), width=50, height=50
    ),
    make_image(
        "e", ImageText(generation_prompt="犬", generator="NovelAI"), file_type="image/jpeg", width=4000, height=10
    ),
    make_image(
        "f", ImageText(generator="ComfyUI", generation_model="flux"), file_type="image/webp", file_path="/100%_/f"
    ),
    replace(
        make_image("g", ImageText(camera="X100", lens="23mm", loras=("ink", "Ink"), rating=2, keywords=("file",))),
        edits=Edits(keywords=("海, 空",), rating=5),
    ),
    replace(
        make_image("h", ImageText(camera="X100", loras=("ink",), rating=4)),
        edits=Edits(rating=0),
        recognized=RecognizedText("reader 1", "出口"),
    ),
    replace(make_image("i", ImageText(rating=3), width=32, height=32), recognized=RecognizedText("reader 1", "")),
]
ALL = "abcdefghi"

CASES = [
    (SearchFilter(), ALL),
    (SearchFilter(taken_from=datetime(2024, 1, 2)), "bc"),
    (SearchFilter(taken_to=datetime(2024, 1, 2)), "a"),
    (SearchFilter(taken_from=datetime(2024, 1, 1), taken_to=datetime(2025, 1, 1)), "ab"),
    (SearchFilter(folder="/photos"), "abc"),
    (SearchFilter(folder="/photos/2024"), "ab"),
    (SearchFilter(folder="/photos/2024/"), "ab"),
    (SearchFilter(folder="/photos/2024/x"), "b"),
    (SearchFilter(folder="/photo"), ""),
    (SearchFilter(folder="/100%_"), "f"),
    (SearchFilter(folder="/1%"), ""),
    (SearchFilter(folder="/"), "abcf"),
    (SearchFilter(file_types=("image/jpeg",)), "e"),
    (SearchFilter(file_types=("image/jpeg", "image/webp", "image/gif")), "ef"),
    (SearchFilter(orientation="landscape"), "abefgh"),
    (SearchFilter(orientation="portrait"), "c"),
    (SearchFilter(orientation="square"), "di"),
    (SearchFilter(min_pixels=64 * 48), "abcefgh"),
    (SearchFilter(min_pixels=40_000), "e"),
    (SearchFilter(generator="ComfyUI"), "df"),
    (SearchFilter(generator="comfyui"), ""),
    (SearchFilter(generation_model="flux"), "f"),
    (SearchFilter(generation_model="flux.safetensors"), "f"),
    (SearchFilter(lora="ink.safetensors"), "gh"),
    (SearchFilter(has_prompt=True), "de"),
    (SearchFilter(has_prompt=False), "abcfghi"),
    (SearchFilter(keyword="山"), "a"),
    (SearchFilter(keyword="山脈"), "b"),
    (SearchFilter(generator="ComfyUI", has_prompt=True, orientation="square"), "d"),
    (SearchFilter(generator="ComfyUI", keyword="山"), ""),
    (SearchFilter(generator="' OR 1=1 --"), ""),
    (SearchFilter(file_name="a"), "a"),
    (SearchFilter(file_name="A"), ""),
    (SearchFilter(lora="ink"), "gh"),
    (SearchFilter(lora="Ink"), "g"),
    (SearchFilter(lora="in"), ""),
    (SearchFilter(camera="X100"), "gh"),
    (SearchFilter(camera="X100", lens="23mm"), "g"),
    (SearchFilter(lens="23"), ""),
    (SearchFilter(min_rating=0), "ghi"),
    (SearchFilter(min_rating=1), "gi"),
    (SearchFilter(min_rating=4), "g"),
    (SearchFilter(has_text=True), "h"),
    (SearchFilter(has_text=False), "abcdefgi"),
    (SearchFilter(kind="image"), ALL),
    (SearchFilter(kind="frame"), ""),
    (SearchFilter(film_sha256="f1" * 32), ""),
    (SearchFilter(keyword="海, 空"), "g"),
    (SearchFilter(keyword="file"), ""),
    (SearchFilter(words=("file",)), "g"),
    (SearchFilter(words=("空", "海")), "g"),
    (SearchFilter(words=("猫",)), "d"),
    (SearchFilter(words=("猫", "犬")), ""),
    (SearchFilter(words=(" ", "山"), taken_from=datetime(2024, 1, 2)), "b"),
    (SearchFilter(folder="/photos", file_types=("image/png",), taken_from=datetime(2024, 1, 1), min_pixels=1), "abc"),
]


class FilterContract(StoreFixtures):
    @pytest.fixture
    def filled(self, store, model):
        store.add_images(model.model_id, IMAGES, make_embeddings(len(IMAGES)))
        return store

    @pytest.mark.parametrize(("filter", "names"), CASES, ids=lambda case: case if isinstance(case, str) else "")
    def test_filter_holds_in_every_search_and_count(self, filled, model, filter, names):
        by_distance = filled.search_embedding(model.model_id, make_embeddings(1)[0], filter=filter)
        assert sorted(list_names(by_distance)) == list(names)
        assert sorted(list_names(filled.list_images(filter=filter))) == list(names)
        assert by_distance.total == filled.list_images(filter=filter).total == len(names)
        for order in ("taken", "name"):
            assert sorted(list_names(filled.list_images(filter=filter, order=order))) == list(names)
        assert filled.count_images(filter) == len(names)
        found = [hit.image.file_name for hit in filled.list_images(["猫"], filter=filter)]
        assert found == (["d"] if "d" in names else [])

    def test_registration_time_is_a_filter(self, filled):
        now = datetime.now(UTC).replace(tzinfo=None)
        hour = timedelta(hours=1)
        assert filled.count_images(SearchFilter(registered_from=now - hour, registered_to=now + hour)) == len(IMAGES)
        assert filled.count_images(SearchFilter(registered_from=now + hour)) == 0
        assert filled.count_images(SearchFilter(registered_to=now - hour)) == 0

    def test_nearest_under_a_filter_are_exact_and_complete(self, store, model):
        embeddings = make_embeddings(400)
        images = [make_image(f"{n}.png", ImageText(generator="rare" if n % 20 == 0 else "often")) for n in range(400)]
        image_ids = np.array(store.add_images(model.model_id, images, embeddings))
        query = make_embeddings(1, seed=5)[0]
        order = np.argsort(-(embeddings.astype(np.float64) @ query))
        for generator, divides in (("rare", True), ("often", False)):
            wanted = [int(image_ids[i]) for i in order if (i % 20 == 0) == divides]
            chosen = SearchFilter(generator=generator)
            assert list_ids(store.search_embedding(model.model_id, query, 16, filter=chosen)) == wanted[:16]
            assert list_ids(store.search_embedding(model.model_id, query, 16, 10, chosen)) == wanted[10:26]

    def test_filter_follows_a_change_of_text(self, filled, model):
        [hit] = filled.list_images(filter=SearchFilter(keyword="山"))
        filled.set_text(hit.image_id, ImageText(generator="NovelAI", keywords=("海",)))
        assert filled.count_images(SearchFilter(keyword="山")) == 0
        assert list_ids(filled.list_images(filter=SearchFilter(keyword="海"))) == [hit.image_id]
        assert filled.count_images(SearchFilter(generator="NovelAI")) == 2

    def test_values_are_counted_most_frequent_first(self, filled):
        assert list(filled.count_values("generator").items()) == [("ComfyUI", 2), ("NovelAI", 1)]
        assert list(filled.count_values("file_type").items()) == [
            ("image/png", 7),
            ("image/jpeg", 1),
            ("image/webp", 1),
        ]
        assert filled.count_values("generation_model") == {"flux": 1, "sdxl": 1}
        assert filled.count_values("keyword") == {"Snow": 1, "山": 1, "山脈": 1, "海, 空": 1}
        assert list(filled.count_values("lora").items()) == [("ink", 2), ("Ink", 1)]
        assert filled.count_values("camera") == {"X100": 2}
        assert filled.count_values("lens") == {"23mm": 1}
        assert list(filled.count_values("rating").items()) == [("0", 1), ("3", 1), ("5", 1)]
        assert filled.count_values("rating", SearchFilter(camera="X100", min_rating=1)) == {"5": 1}
        assert filled.count_values("kind") == {"image": 9}
        folders = ["/100%_", "/photos/2024", "/photos/2024/x", "/photos/2024b"]
        assert list(filled.count_values("folder").items()) == [(folder, 1) for folder in folders]
        assert list(filled.count_values("folder", SearchFilter(folder="/photos/2024"))) == folders[1:3]
        assert filled.count_values("keyword", SearchFilter(keyword="山")) == {"Snow": 1, "山": 1}
        assert filled.count_values("generator", SearchFilter(has_prompt=True)) == {"ComfyUI": 1, "NovelAI": 1}

    def test_filter_does_not_reach_into_another_model(self, filled):
        other = filled.get_or_create_model("other", "1", DIMENSION)
        found = filled.search_embedding(other.model_id, make_embeddings(1)[0], filter=SearchFilter(has_prompt=True))
        assert found == Hits()
