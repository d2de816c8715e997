"""Store contract: the layers of text. The person's wins field by field; words are looked up in all of them."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from image_search.errors import ImageNotFound, StoreError
from image_search.records import Edits, Hits, ImageText, RecognizedText, SearchFilter, TextLine
from tests.contract.fixtures import StoreFixtures, list_ids, list_names
from tests.contract.registration import FULL_TEXT
from tests.fakes import make_embeddings, make_image, make_images

EDITS = Edits(description="孫と富士山で", keywords=("Paris, France", "家族"), rating=4)


def make_keywords(count: int) -> tuple[str, ...]:
    """Different keywords of any characters, the same for each run."""
    rng = random.Random(16)
    characters = "aAéÉ,;|\"'\\{}[]()*?%_:/<>&猫山 ❄️🐈\u3000\n\t"
    keywords = dict.fromkeys("".join(rng.choices(characters, k=rng.randint(1, 12))) + f"{n}" for n in range(count))
    return tuple(keywords)


class LayerContract(StoreFixtures):
    @pytest.fixture
    def image_id(self, store, model):
        """An image whose file says much."""
        [image_id] = store.add_images(model.model_id, [make_image("a.png", FULL_TEXT)], make_embeddings(1))
        return image_id

    # --- the file's ---

    def test_text_is_replaced_and_found(self, store, model):
        image = make_image(text=ImageText(description="猫"))
        [image_id] = store.add_images(model.model_id, [image], make_embeddings(1))
        assert store.set_text(image_id, FULL_TEXT)
        assert store.get_image(image_id).text == FULL_TEXT
        assert store.list_images(["猫"]) == Hits()
        assert len(store.list_images(["富士山"])) == 1

    def test_setting_the_same_text_again_changes_nothing(self, store, model):
        [image_id] = store.add_images(model.model_id, make_images(1), make_embeddings(1))
        assert not store.set_text(image_id, ImageText())
        assert store.set_text(image_id, FULL_TEXT)
        assert not store.set_text(image_id, FULL_TEXT)
        assert len(store.list_images()) == 1

    def test_text_can_be_taken_away(self, store, image_id):
        assert store.set_text(image_id, ImageText())
        assert store.get_image(image_id).text == ImageText()
        assert store.list_images(["富士山"]) == Hits()
        assert store.count_values("camera") == store.count_values("lora") == {}

    def test_text_and_edits_of_an_unknown_image_are_refused(self, store, model):
        for change in (
            lambda: store.set_text(123_456, FULL_TEXT),
            lambda: store.set_edits(123_456, EDITS),
            lambda: store.set_recognized(123_456, None),
            lambda: store.get_recognized(123_456),
        ):
            with pytest.raises(ImageNotFound, match="123456"):
                change()

    # --- the person's ---

    def test_edits_come_back_and_leave_the_files_layer_alone(self, store, image_id, reopen):
        assert store.set_edits(image_id, EDITS)
        for handle in (store, reopen()):
            record = handle.get_image(image_id)
            assert (record.text, record.edits) == (FULL_TEXT, EDITS)
            assert (record.description, record.keywords, record.rating) == (
                EDITS.description,
                EDITS.keywords,
                EDITS.rating,
            )
        assert not store.set_edits(image_id, EDITS)
        assert store.set_edits(image_id, Edits())
        record = store.get_image(image_id)
        assert record.edits.is_empty
        assert (record.description, record.keywords) == (FULL_TEXT.description, FULL_TEXT.keywords)

    def test_edits_of_many_images_are_replaced_together(self, store, model, image_id, reopen):
        image_ids = store.add_images(model.model_id, make_images(120), make_embeddings(120))
        said = {each: Edits(keywords=("旅", f"{number}"), rating=number % 6) for number, each in enumerate(image_ids)}
        store.set_edits(image_ids[1], said[image_ids[1]])
        store.trash_images(image_ids[2:3])
        changed = store.change_edits([*image_ids, 123_456, image_id], lambda image: said.get(image.image_id, EDITS))
        assert changed == {each: each != image_ids[1] for each in (*image_ids[:2], *image_ids[3:], image_id)}
        for handle in (store, reopen()):
            records = handle.get_images(image_ids)
            assert [record.edits for record in records] == [
                Edits() if record.deleted_at else said[record.image_id] for record in records
            ]
            assert handle.get_image(image_id).edits == EDITS
        assert store.count_values("keyword")["旅"] == store.list_images(["旅"]).total == 119
        assert store.count_values("rating") == {**dict.fromkeys("0135", 20), "2": 19, "4": 21}
        assert store.change_edits([], lambda _: EDITS) == {}

    def test_edits_of_many_images_are_all_refused_with_one_that_cannot_be(self, store, model, image_id):
        [other] = store.add_images(model.model_id, make_images(1), make_embeddings(1))
        with pytest.raises(StoreError, match="0 to 5"):
            store.change_edits(
                [image_id, other], lambda image: EDITS if image.image_id == image_id else Edits(rating=6)
            )
        assert store.get_image(image_id).edits.is_empty

    def test_reading_the_file_again_never_touches_edits(self, store, image_id):
        store.set_edits(image_id, EDITS)
        for text in (ImageText(), ImageText(description="new", keywords=("new",), rating=1), FULL_TEXT):
            assert store.set_text(image_id, text)
            record = store.get_image(image_id)
            assert (record.text, record.edits) == (text, EDITS)

    @pytest.mark.parametrize(
        "edits",
        [Edits(description="mine"), Edits(keywords=("mine",)), Edits(rating=5), Edits("", (), 0)],
        ids=["description", "keywords", "rating", "empty"],
    )
    def test_each_field_of_a_person_wins_by_itself(self, store, model, edits):
        text = ImageText(description="file", keywords=("file",), rating=2)
        [image_id] = store.add_images(model.model_id, [make_image("a", text)], make_embeddings(1))
        store.set_edits(image_id, edits)
        record = store.get_image(image_id)
        assert record.edits == edits
        assert record.description == ("file" if edits.description is None else edits.description or None)
        keywords = ("file",) if edits.keywords is None else edits.keywords
        rating = 2 if edits.rating is None else edits.rating
        assert (record.keywords, record.rating) == (keywords, rating)
        assert store.count_values("keyword") == dict.fromkeys(keywords, 1)
        assert store.count_values("rating") == {str(rating): 1}
        assert store.count_images(SearchFilter(keyword="file")) == keywords.count("file")
        assert store.count_images(SearchFilter(min_rating=2)) == (rating >= 2)

    def test_term_is_found_in_both_layers(self, store, model):
        images = make_images(3)
        image_ids = store.add_images(model.model_id, images, make_embeddings(3))
        store.set_text(image_ids[0], ImageText(description="a dog", keywords=("beach",)))
        store.set_edits(image_ids[0], Edits(description="うちの犬", keywords=("浜辺", "Paris, France")))
        for term in ("dog", "beach", "犬", "浜辺", "paris, france"):
            assert list_ids(store.list_images([term])) == image_ids[:1], term
            assert list_ids(store.list_images(filter=SearchFilter(words=(term,)))) == image_ids[:1], term
        store.set_edits(image_ids[0], Edits())
        assert store.list_images(["浜辺"]) == Hits()
        assert list_ids(store.list_images(["beach"])) == image_ids[:1]

    def test_no_phrase_reaches_from_one_layer_into_the_other(self, store, model):
        text = ImageText(description="赤い", keywords=("red",))
        [image_id] = store.add_images(model.model_id, [make_image("a", text)], make_embeddings(1))
        store.set_edits(image_id, Edits("花", ("car",)))
        for term in ("赤い花", "red car", "赤い red"):
            assert store.list_images([term]) == Hits()

    def test_1000_keywords_of_any_characters_are_kept_found_and_counted(self, store, image_id):
        keywords = make_keywords(1000)
        assert store.set_edits(image_id, Edits(keywords=keywords))
        assert store.get_image(image_id).keywords == keywords
        for keyword in keywords[::50]:
            assert store.count_images(SearchFilter(keyword=keyword)) == 1, keyword
            assert store.count_images(SearchFilter(keyword=keyword + "x")) == 0
        assert store.count_values("keyword") == dict.fromkeys(sorted(keywords), 1)
        assert list(store.count_values("keyword")) == sorted(keywords)
        assert store.set_text(image_id, ImageText(keywords=keywords[::-1]))
        assert store.get_image(image_id).edits.keywords == keywords

    def test_keywords_are_told_apart_by_every_character(self, store, image_id):
        keywords = (
            "snow",
            "Snow",
            "ｓｎｏｗ",
            "snów",
            "snow ",
            " snow",
            "が",
            "か\u3099",
            "ハ",
            "ﾊ",
            "は",
            "❄",
            "❄\ufe0f",
        )
        store.set_edits(image_id, Edits(keywords=keywords))
        assert store.get_image(image_id).keywords == keywords
        assert store.count_values("keyword") == dict.fromkeys(keywords, 1)
        store.set_edits(image_id, Edits(keywords=keywords[1:]))
        assert store.count_images(SearchFilter(keyword="snow")) == 0

    @pytest.mark.parametrize("rating", [-1, 6, 100])
    def test_rating_that_cannot_be_is_refused(self, store, image_id, rating):
        with pytest.raises(StoreError, match="0 to 5"):
            store.set_edits(image_id, Edits(rating=rating))
        assert store.get_image(image_id).edits.is_empty

    def test_text_no_database_can_hold_is_kept_as_far_as_it_goes(self, store, image_id):
        store.set_edits(image_id, Edits("a\x00b \ud83d", ("", " ", "\u3000\n", "x\x00", "x", "x")))
        edits = store.get_image(image_id).edits
        assert edits.keywords == ("x",)
        assert edits.description is not None
        assert edits.description.startswith("ab ")

    def test_layers_that_are_copied_come_with_the_image(self, store, model):
        recognized = RecognizedText("reader 1", "出口", (TextLine("出口", 0.5, (0.0, 0.25, 0.5, 0.75)),))
        image = replace(make_image("a", FULL_TEXT), edits=EDITS, recognized=recognized)
        [image_id] = store.add_images(model.model_id, [image], make_embeddings(1))
        record = store.get_image(image_id)
        assert (record.text, record.edits) == (FULL_TEXT, EDITS)
        assert (record.recognizer, record.recognized_text) == ("reader 1", "出口")
        assert store.get_recognized(image_id) == recognized
        assert list_names(store.list_images(["出口"])) == list_names(store.list_images(["家族"])) == ["a"]
        assert store.count_images(SearchFilter(keyword="家族", min_rating=4)) == 1

    # --- what was recognised ---

    def test_recognised_text_comes_back_with_its_lines(self, store, image_id):
        lines = (
            TextLine("STOP \ud83d'\"", 0.9876, (0.1, 0.2, 0.3, 0.4)),
            TextLine("止まれ", 1.0, (0.0, 0.0, 1.0, 0.00001)),
        )
        store.set_recognized(image_id, RecognizedText("reader 1", "STOP\n止まれ", lines))
        found = store.get_recognized(image_id)
        assert found is not None
        assert (found.recognizer, found.text) == ("reader 1", "STOP\n止まれ")
        assert [(line.score, line.box) for line in found.lines] == [(line.score, line.box) for line in lines]
        assert found.lines[1] == lines[1]
        record = store.get_image(image_id)
        assert (record.recognizer, record.recognized_text) == ("reader 1", "STOP\n止まれ")
        assert (record.text, record.edits) == (FULL_TEXT, Edits())
        store.set_recognized(image_id, None)
        assert store.get_recognized(image_id) is None
        assert store.get_image(image_id).recognizer is store.get_image(image_id).recognized_text is None
        assert store.list_images(["STOP"]) == Hits()

    def test_images_whose_text_was_not_read_are_listed(self, store, model):
        image_ids = store.add_images(model.model_id, make_images(5), make_embeddings(5))
        assert store.get_recognized(image_ids[0]) is None
        store.set_recognized(image_ids[0], RecognizedText("reader 1", "a"))
        store.set_recognized(image_ids[1], RecognizedText("reader 1", ""))
        store.set_recognized(image_ids[2], RecognizedText("reader 2", "a"))
        assert store.find_images_without_recognition("reader 1") == image_ids[2:]
        assert store.find_images_without_recognition("reader 2") == [*image_ids[:2], *image_ids[3:]]
        assert store.find_images_without_recognition("reader 1", image_ids[2], 1) == image_ids[3:4]
        assert store.find_images_without_recognition("reader 3") == image_ids
        empty = store.get_recognized(image_ids[1])
        assert empty == RecognizedText("reader 1", "")
        assert store.count_images(SearchFilter(has_text=True)) == 2
        assert store.count_images(SearchFilter(has_text=False)) == 3

    @pytest.mark.parametrize(
        ("term", "is_found"),
        [
            ("富士山", True),  # over the end of a line
            ("富", True),
            ("山本", True),  # blanks between Japanese characters
            ("本日休", True),
            ("休業", True),
            ("stop here", True),
            ("ST", True),
            ("TOP", False),
            ("here now", False),
            ("本 日", False),
        ],
    )
    def test_term_is_found_over_lines_and_blanks_of_recognised_text(self, store, image_id, term, is_found):
        store.set_text(image_id, ImageText())
        store.set_recognized(image_id, RecognizedText("reader 1", "富士\n山 本 日\n休 業\nSTOP\nhere\nnothing now"))
        assert list_ids(store.list_images([term])) == [image_id] * is_found
        assert store.count_images(SearchFilter(words=(term,))) == is_found
