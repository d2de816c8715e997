"""Conditions typed into the words of a query."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis.strategies import lists, sampled_from, text

from image_search.records import ImageText, SearchFilter
from image_search.search import Searcher
from image_search.search.query import (
    ConditionNotUnderstood,
    Query,
    TypedConditions,
    apply_conditions,
    parse_conditions,
    read_rating,
    resolve_values,
)
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from tests.fakes import FakeEncoder, make_embeddings, make_image


@pytest.mark.parametrize(
    ("typed", "text", "values"),
    [
        ("夕焼け camera:Sony", "夕焼け", {"camera": "Sony"}),
        ('camera:"Canon EOS R5" 海', "海", {"camera": "Canon EOS R5"}),
        ("カメラ：Sony", "", {"camera": "Sony"}),
        ("ＣＡＭＥＲＡ：Sony 猫", "猫", {"camera": "Sony"}),
        ("camera : Sony　rating　：　５", "", {"camera": "Sony", "min_rating": "５"}),
        ("Lens:50mm MODEL:sdxl lora:ink", "", {"lens": "50mm", "generation_model": "sdxl", "lora": "ink"}),
        ("rating:4 keyword:旅行 folder:/写真/2024", "", {"min_rating": "4", "keyword": "旅行", "folder": "/写真/2024"}),
        ("camera: Sony", "", {"camera": "Sony"}),
        ("camera:", "camera:", {}),
        ("re:zero http://a.b/c", "re:zero http://a.b/c", {}),
        ("2019-08", "", {"taken": "2019-08"}),
        ("海 2019年8月", "海", {"taken": "2019年8月"}),
        ("2024年5月1日", "", {"taken": "2024年5月1日"}),
        ("２０２４年５月１日", "", {"taken": "2024年5月1日"}),
        ("２０１９－０８", "", {"taken": "2019-08"}),
        ("2019年", "", {"taken": "2019年"}),
        ("2024/5/1", "", {"taken": "2024/5/1"}),
        ("taken:2019 registered:2024-01", "", {"taken": "2019", "registered": "2024-01"}),
        ("2019", "2019", {}),
        ("20240501", "20240501", {}),
        ("1.2.3", "1.2.3", {}),
        ("2019-13", "2019-13", {}),
        ("2019-08.jpg", "2019-08.jpg", {}),
    ],
)
def test_condition_is_told_from_words(typed: str, text: str, values: dict[str, str]) -> None:
    parsed = parse_conditions(typed)
    assert (parsed.text, dict(parsed.values)) == (text, values)


@pytest.mark.parametrize(
    ("typed", "parsed"),
    [
        ("猫 -犬", TypedConditions("猫", "猫 -犬", excluded=("犬",))),
        ('猫 －犬 -"red hat"', TypedConditions("猫", '猫 －犬 -"red hat"', excluded=("犬", "red hat"))),
        ('"夜景" “橋”', TypedConditions("", '"夜景" “橋”', required=("夜景", "橋"))),
        ("-2019-08", TypedConditions("", "-2019-08", excluded=("2019-08",))),
        ('"2019-08"', TypedConditions("", '"2019-08"', required=("2019-08",))),
        ("camera:a camera:b", TypedConditions(values=(("camera", "b"),), superseded=("a",))),
        ("", TypedConditions()),
    ],
)
def test_phrases_and_exclusions_are_conditions_too(typed: str, parsed: TypedConditions) -> None:
    assert parse_conditions(typed) == parsed


_PIECES = ["camera:", "カメラ：", '"', "-", "－", " ", "　", "2019-08", "２０１９年８月", "犬", "rating:9", ":"]


@settings(deadline=None)
@given(lists(sampled_from(_PIECES) | text(max_size=5)).map("".join))
def test_typed_words_are_never_lost(typed: str) -> None:
    parsed = parse_conditions(typed)
    kept = [parsed.text, *parsed.required, *parsed.excluded, *parsed.superseded, *dict(parsed.values).values()]
    assert ("犬" in typed) == ("犬" in "".join(kept))
    assert parse_conditions(parsed.rest).values == ()
    assert parse_conditions(parsed.rest).rest == parsed.rest


@settings(deadline=None)
@given(sampled_from(["taken", "registered", "min_rating", "camera"]), text(min_size=1))
def test_any_value_is_a_filter_or_a_sentence(name: str, value: str) -> None:
    with suppress(ConditionNotUnderstood):
        assert apply_conditions(TypedConditions(values=((name, value),)), SearchFilter()) != SearchFilter()


@pytest.mark.parametrize(("typed", "stars"), [("3", 3), ("★★★★", 4), ("５", 5), ("0", None), ("9", None), ("x", None)])
def test_rating_is_a_number_or_stars(typed: str, stars: int | None) -> None:
    assert read_rating(typed) == stars


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library.db")) as store:
        model = store.get_or_create_model("fake", "1", 16)
        images = [
            make_image(
                "a", ImageText(camera="SONY ILCE-7M4", taken_at=datetime(2019, 8, 3), keywords=("旅行",), rating=4)
            ),
            make_image("b", ImageText(camera="Canon EOS R5", generation_model="sdxl.safetensors", loras=("Ink",))),
            make_image("c", ImageText(generation_model="sdxl"), file_path="/写真/旅行/c.png", modified_ns=1),
        ]
        store.add_images(model.model_id, images, make_embeddings(3))
        yield store


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("camera:sony", "a"),
        ("カメラ：ｓｏｎｙ", "a"),
        ("model:SDXL.safetensors", "bc"),
        ("model:sdxl", "bc"),
        ("lora:ink.safetensors", "b"),
        ("2019年8月", "a"),
        ("rating:★★★★", "a"),
        ("folder:旅行", "c"),
        ("keyword:旅行 camera:sony", "a"),
        ("camera:nikon", ""),
    ],
)
def test_every_search_understands_typed_conditions(store: ImageStore, typed: str, found: str) -> None:
    searcher = Searcher(store, FakeEncoder())
    hits = searcher.search(Query(typed)).hits
    assert sorted(hit.image.file_name for hit in hits) == list(found)


def test_value_that_means_nothing_is_said(store: ImageStore) -> None:
    with pytest.raises(ConditionNotUnderstood, match="rating:9 is not understood"):
        Searcher(store, FakeEncoder()).search(Query("rating:9"))
    assert resolve_values(parse_conditions("camera:x"), store).values == (("camera", "x"),)


def test_names_that_may_be_meant_besides_are_told(tmp_path: Path) -> None:
    cameras = ["SONY ILCE-7M4", "SONY ILCE-7M4", "SONY ILCE-7M3", "SONY A1", "SONY A9", "SONY RX0", "FUJIFILM X-T5"]
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library.db")) as store:
        searcher = Searcher(store, FakeEncoder())
        images = [make_image(f"{i}.png", ImageText(camera=name)) for i, name in enumerate(cameras)]
        store.add_images(searcher.get_model().model_id, images, make_embeddings(len(images), 16))
        result = searcher.search(Query("camera:sony"))
        assert result.total == 2
        others = "SONY A1, SONY A9, SONY ILCE-7M3 and others"
        assert result.notes == (f"camera:sony is taken for SONY ILCE-7M4; type more of the name for {others}.",)
        assert searcher.search(Query("camera:7m3")).notes == () == searcher.search(Query("camera:canon")).notes
        [note] = searcher.search(Query("2024-05 2024-06")).notes
        assert note == "2024-05 is passed over for what was typed after it."


@pytest.mark.parametrize("typed", ["-camera:sony", "red －rating:3", '-folder:"a b"'])
def test_condition_with_a_minus_is_refused_in_a_sentence(tmp_path: Path, typed: str) -> None:
    with (
        open_store(Settings(database_url=f"sqlite:///{tmp_path}/library.db")) as store,
        pytest.raises(ConditionNotUnderstood, match=r"cannot be left out\. Leave words out, as -word\."),
    ):
        Searcher(store, FakeEncoder()).plan(Query(typed))
