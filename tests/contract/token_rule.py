"""Store contract: tokens of another version of the rule."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from image_search.errors import SchemaError, StoreError
from image_search.records import Edits, Hits, ImageText, SearchFilter
from image_search.stores import tokens
from image_search.stores.tokens import BEGUN, TOKEN_RULE, TOKEN_SETTING
from tests.contract.fixtures import StoreFixtures, list_ids
from tests.fakes import make_embeddings, make_image


class TokenRuleContract(StoreFixtures):
    @pytest.fixture(params=[None])
    def old_library(self, store, model, monkeypatch, request):
        """One with tokens of another rule: two live images and one in the trash."""
        images = [
            make_image("1", ImageText(description="Łódź 市ヶ谷")),
            make_image("2", ImageText(description="no no, 髙橋")),
            make_image("3", ImageText(keywords=("crème‐brûlée",))),
        ]
        with monkeypatch.context() as older:
            older.setattr(tokens, "normalise_text", str.casefold)
            image_ids = store.add_images(model.model_id, images, make_embeddings(3))
            store.trash_images(image_ids[2:])
        store.set_setting(TOKEN_SETTING, request.param)
        assert store.list_images(["Łódź"]) == Hits()
        return store

    @pytest.mark.parametrize("old_library", [None, "1", BEGUN], indirect=True)
    @pytest.mark.usefixtures("old_library")
    def test_tokens_of_an_older_rule_are_made_again_when_a_library_is_opened(self, model, reopen):
        store = reopen()
        first, second = list_ids(store.list_images(order="name"))
        for word in ("Łódź", "lodz", "市ケ谷", "市ヶ谷", "谷"):
            assert list_ids(store.list_images([word])) == [first], word
        assert list_ids(store.list_images(["高橋"])) == list_ids(store.list_images(["no no"])) == [second]
        assert store.list_settings(TOKEN_SETTING) == {TOKEN_SETTING: str(TOKEN_RULE)}
        store.restore_images([3])
        assert list_ids(store.list_images(["creme-brulee"])) == [3]
        assert list_ids(store.list_images(["brulee"])) == [3]
        store.set_text(first, ImageText(description="Kraków"))
        store.delete_images([second])
        assert store.list_images(["lodz"]) == store.list_images(["高橋"]) == Hits()
        assert list_ids(store.list_images(["krakow"])) == [first]
        assert store.search_embedding(model.model_id, make_embeddings(1)[0], filter=SearchFilter(words=("krakow",)))

    @pytest.mark.usefixtures("old_library")
    def test_opening_that_broke_off_leaves_a_library_that_the_next_one_brings_up_to_date(self, reopen, monkeypatch):
        calls = iter(range(100))

        def break_off(one: str) -> str:
            if next(calls) == 3:
                raise StoreError("broken off")
            return one.casefold()

        with monkeypatch.context() as broken:
            broken.setattr(tokens, "normalise_text", break_off)
            with pytest.raises(StoreError, match="broken off"):
                reopen().list_images()
        store = reopen()
        assert [len(store.list_images([word])) for word in ("lodz", "市ケ谷", "高橋")] == [1, 1, 1]
        assert store.list_settings(TOKEN_SETTING) == {TOKEN_SETTING: str(TOKEN_RULE)}

    @pytest.mark.usefixtures("old_library")
    def test_programs_that_open_an_older_library_at_once_find_all_words(self, reopen):
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(lambda store: len(store.list_images(["lodz"])), [reopen() for _ in range(3)]))
        assert found == [1, 1, 1]

    def test_library_with_tokens_of_a_newer_rule_is_refused(self, store, model, reopen):
        [image_id] = store.add_images(model.model_id, [make_image("cat")], make_embeddings(1))
        store.set_setting(TOKEN_SETTING, str(TOKEN_RULE + 1))
        with pytest.raises(SchemaError, match="Update the program"):
            reopen().list_images()
        assert store.list_images(["cat"])  # a program that was running goes on reading
        for write in (
            lambda: store.add_images(model.model_id, [make_image("new")], make_embeddings(1)),
            lambda: store.set_edits(image_id, Edits("new")),
            lambda: store.set_text(image_id, ImageText(description="new")),
        ):
            with pytest.raises(SchemaError, match="Update the program"):
                write()
        assert store.list_images(["new"]) == Hits()
