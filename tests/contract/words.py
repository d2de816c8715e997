"""Store contract: words. Only what all engines promise: Japanese anywhere, letters and digits as whole words."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from image_search.records import Hits, ImageText
from image_search.stores.text import list_searchable
from image_search.stores.tokens import make_index_tokens
from tests.contract.fixtures import StoreFixtures, list_ids
from tests.fakes import make_embeddings, make_image
from tests.fakes.examples import scale
from tests.fakes.matching import is_among
from tests.fakes.odd_texts import make_odd_queries, make_odd_texts

# The library stays the same between examples; that each engine's class runs them with its own is meant.
quick = settings(
    max_examples=scale(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)

JAPANESE_TEXTS = [
    "猫が窓辺で眠っている",
    "黒猫と白い犬",
    "富士山の雪",
    "富士の山",
    "山の富士",
    "東京都の夜景、ネオン",
    "京都の寺",
    "ラーメンとギョーザ",
    "𠮷野家の看板",
    "々〆ヶ丘",
]

CASES = [
    ("猫", ["prompt"]),
    ("眠っ", ["prompt"]),
    ("眠っている", ["prompt"]),
    ("window", ["prompt", "caption"]),
    ("WINDOW", ["prompt", "caption"]),
    ("ｗｉｎｄｏｗ", ["prompt", "caption"]),
    ("sleeping near", ["prompt"]),
    ("near sleeping", []),
    ("テレビ", ["caption"]),
    ("ﾃﾚﾋﾞ", ["caption"]),
    ("keyword", ["keywords"]),
    ("赤い花", ["keywords"]),
    ("花青い", []),
    ("IMG_0012", ["IMG_0012.JPG"]),
    ("img_0012.jpg", ["IMG_0012.JPG"]),
    ("3141592653", ["prompt"]),
    ("absent", []),
    ("ち", []),
]


class WordContract(StoreFixtures):
    @pytest.fixture
    def described(self, store, model):
        images = [
            make_image(
                "prompt", ImageText(generation_prompt="猫が眠っている, cat sleeping near window, Seed: 3141592653")
            ),
            make_image("caption", ImageText(description="Window テレビ")),
            make_image("keywords", ImageText(keywords=("keyword", "赤い花", "青い"))),
            make_image("IMG_0012.JPG"),
        ]
        store.add_images(model.model_id, images, make_embeddings(4))
        return store

    @pytest.mark.parametrize(("word", "names"), CASES, ids=[word for word, _ in CASES])
    def test_word_is_found_where_it_occurs(self, described, word, names):
        assert {hit.image.file_name for hit in described.list_images([word])} == set(names)

    def test_every_word_must_occur(self, described):
        assert [hit.image.file_name for hit in described.list_images(["猫", "window"])] == ["prompt"]
        assert described.list_images(["猫", "テレビ"]) == Hits()

    def test_terms_without_visible_characters_find_nothing(self, described):
        assert described.list_images(["", "  ", "\u3000"]) == Hits()
        assert described.list_images(["\u200b"]) == Hits()

    def test_hits_come_newest_first_in_pages(self, store, model):
        images = [make_image(f"{n}.png", ImageText(description="猫")) for n in range(10)]
        image_ids = store.add_images(model.model_id, images[:5], make_embeddings(5))
        image_ids += store.add_images(model.model_id, images[5:], make_embeddings(5))
        assert list_ids(store.list_images(["猫"])) == image_ids[::-1]
        assert list_ids(store.list_images(["猫"], limit=3, offset=4)) == image_ids[::-1][4:7]
        assert {hit.distance for hit in store.list_images(["猫"])} == {None}

    def test_japanese_is_found_exactly_where_it_occurs(self, store, model):
        images = [make_image(f"{n}", ImageText(description=one)) for n, one in enumerate(JAPANESE_TEXTS)]
        image_ids = store.add_images(model.model_id, images, make_embeddings(len(images)))
        cuts = {
            one[a:b] for one in JAPANESE_TEXTS for a in range(len(one)) for b in range(a + 1, min(a + 5, len(one) + 1))
        }
        foreign = {first + second for first in "猫山都々" for second in "の犬京丘"}

        @quick
        @given(st.sampled_from(sorted(cuts | foreign)))
        def check(word):
            wanted = [i for i, one in zip(image_ids, JAPANESE_TEXTS, strict=True) if word in one]
            assert list_ids(store.list_images([word])) == wanted[::-1]

        check()

    def test_odd_texts_are_found_exactly_as_the_rule_says(self, store, model):
        texts = make_odd_texts(1000)
        images = [make_image(f"{n}", ImageText(description=odd)) for n, odd in enumerate(texts)]
        image_ids = store.add_images(model.model_id, images, make_embeddings(1000))
        tokens = [make_index_tokens(list_searchable(record)).split() for record in store.get_images(image_ids)]
        for word in make_odd_queries(texts, 200)[::3]:
            found = store.list_images([word], 1000)
            wanted = [i for i, known in zip(image_ids, tokens, strict=True) if is_among(word, known)]
            assert sorted(list_ids(found)) == wanted, ascii(word)
            assert found.total == len(wanted)

    def test_no_text_breaks_the_query_language(self, described):
        @quick
        @given(
            st.lists(
                st.one_of(st.text(), st.text("\"'*^(){}[]:%_\\&|-+~$?;,!=<>猫a "), st.text(st.characters())), max_size=3
            )
        )
        def check(words):
            described.list_images(words)

        check()

    @pytest.mark.parametrize(
        "word", ['"', "'", "*", "a*", "猫*", "NEAR", "AND", "{猫}", "a\x00b", "-", "%", "_", "cat)", "\ud83d"]
    )
    def test_special_characters_are_no_commands(self, described, word):
        assert len(described.list_images([word])) < 4
        assert described.list_images([word, "absent"]) == Hits()
