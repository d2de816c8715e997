"""Store contract: words that stand in images, in lines and with blanks as recognition gives them; some are doubtful."""

from __future__ import annotations

import pytest

from image_search.records import RecognizedText, SearchFilter, TextLine
from tests.contract.fixtures import StoreFixtures, list_names
from tests.fakes import make_embeddings, make_images

# Lines of each image; a line in brackets is doubtful.
SEEN = {
    "sign": ["ポイ捨て", "禁止", "立 入 禁 止"],
    "screenshot": ["ORA-00923: FROM keyword not", "found where expected", "[ｴﾗｰ]"],
    "receipt": ["領収書", "合計 580円", "お預り １０００円"],
    "slide": ["Quarterly re-", "sults 2024", "売上高は前年", "比で増えた"],
    "torii": ["[開]"],
    "plain": [],
}
CASES = [
    ("ポイ捨て禁止", ["sign"]),  # over the end of a line
    ("立入禁止", ["sign"]),  # in spite of blanks
    ("禁", ["sign"]),
    ("捨て", ["sign"]),
    ("止立", ["sign"]),
    ("ﾎﾟｲ捨て", ["sign"]),
    ("ORA-00923", ["screenshot"]),
    ("ora-00923", ["screenshot"]),
    ("ＯＲＡ－００９２３", ["screenshot"]),
    ("keyword not found", ["screenshot"]),  # a phrase over the end of a line
    ("found keyword", []),
    ("エラー", ["screenshot"]),  # doubtful lines are searched, too
    ("領収書", ["receipt"]),
    ("580円", ["receipt"]),
    ("５８０円", ["receipt"]),
    ("1000円", ["receipt"]),
    ("合計 580円", ["receipt"]),
    ("円お預り", ["receipt"]),
    ("前年比", ["slide"]),
    ("増", ["slide"]),
    ("results", []),  # a hyphen at the end of a line stays what it is
    ("quarterly", ["slide"]),
    ("開", ["torii"]),
]


def read(lines: list[str], number: int) -> RecognizedText:
    shown = [line for line in lines if not line.startswith("[")]
    found = tuple(
        TextLine(line.strip("[]"), 0.9 if line in shown else 0.4, (0.1, place / 10, 0.9, place / 10 + 0.08))
        for place, line in enumerate(lines)
    )
    return RecognizedText(f"reader {number}", "\n".join(shown), found)


class RecognizedContract(StoreFixtures):
    @pytest.fixture
    def seen(self, store, model):
        image_ids = store.add_images(model.model_id, make_images(len(SEEN)), make_embeddings(len(SEEN)))
        for image_id, lines in zip(image_ids, SEEN.values(), strict=True):
            store.set_recognized(image_id, read(lines, 1))
        return dict(zip(SEEN, image_ids, strict=True))

    @pytest.mark.parametrize(("word", "names"), CASES, ids=[word for word, _ in CASES])
    def test_word_is_found_in_the_image_it_stands_in(self, store, seen, word, names):
        found = [hit.image_id for hit in store.list_images([word])]
        assert found == [seen[name] for name in reversed(names)]

    def test_words_in_an_image_and_words_about_it_are_found_together(self, store, seen):
        name = store.get_image(seen["sign"]).file_name
        assert [hit.image_id for hit in store.list_images(["禁止", name])] == [seen["sign"]]

    def test_only_text_that_is_shown_counts_as_text(self, store, seen):
        with_text = store.list_images(filter=SearchFilter(has_text=True))
        assert {hit.image_id for hit in with_text} == {
            seen[name] for name in ("sign", "screenshot", "receipt", "slide")
        }
        assert store.count_images(SearchFilter(has_text=False)) == 2
        assert store.get_image(seen["torii"]).recognized_text == ""
        assert store.get_image(seen["screenshot"]).recognized_text == "\n".join(SEEN["screenshot"][:2])

    def test_doubtful_lines_survive_an_edit_and_a_second_handle(self, store, seen, reopen):
        record = store.get_image(seen["torii"])
        assert store.set_text(seen["torii"], record.text) is False
        store.trash_images([seen["torii"]])
        store.restore_images([seen["torii"]])
        other = reopen()
        assert [hit.image_id for hit in other.list_images(["開"])] == [seen["torii"]]
        assert other.get_recognized(seen["torii"]) == read(SEEN["torii"], 1)

    def test_text_is_found_no_more_in_the_trash_when_deleted_and_when_forgotten(self, store, seen):
        store.trash_images([seen["sign"], seen["receipt"]])
        assert list_names(store.list_images(["禁止"])) == list_names(store.list_images(["領収書"])) == []
        store.restore_images([seen["sign"]])
        assert [hit.image_id for hit in store.list_images(["ポイ捨て禁止"])] == [seen["sign"]]
        store.empty_trash()
        assert not store.list_images(["領収書"])
        for name in ("sign", "torii"):
            store.set_recognized(seen[name], None)
        assert not store.list_images(["禁止"])
        assert not store.list_images(["開"])
        assert store.get_image(seen["torii"]).searched_text is None
        assert store.count_images(SearchFilter(has_text=True)) == 2

    def test_another_reading_replaces_the_one_before(self, store, seen):
        store.set_recognized(seen["torii"], read(["関"], 2))
        assert not store.list_images(["開"])
        assert [hit.image_id for hit in store.list_images(["関"])] == [seen["torii"]]
        assert store.get_recognized(seen["torii"]) == read(["関"], 2)
