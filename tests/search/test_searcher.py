"""A query to one ranked list."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unicodedata import normalize

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import text

from image_search.errors import ImageNotFound, TextNotSupported
from image_search.records import Edits, ImageText, NewImage, RecognizedText, SearchFilter, TextLine
from image_search.search import Searcher
from image_search.search.query import Query
from image_search.settings import Settings
from image_search.stores import open_store
from tests.fakes import COLOURS, FakeEncoder, draw_image, draw_image_bytes, find_ids, make_image
from tests.fakes.examples import scale


def make_coloured_image(colour: str) -> NewImage:
    return make_image(f"{colour}.png", data=draw_image_bytes(colour))


@pytest.fixture
def searcher(tmp_path: Path) -> Iterator[Searcher]:
    """A library of one image for every colour, registered in the order of COLOURS."""
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library.db")) as store:
        searcher = Searcher(store, FakeEncoder())
        pictures = [draw_image(colour) for colour in COLOURS]
        images = [make_coloured_image(colour) for colour in COLOURS]
        store.add_images(searcher.get_model().model_id, images, searcher.encoder.encode_images(pictures))
        yield searcher


def list_names(searcher: Searcher, query: Query, **page: int) -> list[str]:
    return [hit.image.file_name for hit in searcher.search(query, **page).hits]


def test_words_find_the_nearest_image_first(searcher: Searcher) -> None:
    result = searcher.search(Query(text="red"))
    assert result.hits[0].image.file_name == "red.png"
    assert result.hits[0].distance == pytest.approx(-1, abs=1e-5)
    distances = [hit.distance for hit in result.hits]
    assert distances == sorted(distances)


def test_image_finds_its_twin_first(searcher: Searcher) -> None:
    assert list_names(searcher, Query(image=draw_image("blue")))[0] == "blue.png"


@pytest.mark.parametrize("blank", ["", "   ", "\n\t", "\u3000"])
def test_blank_words_ask_for_the_newest_images(searcher: Searcher, blank: str) -> None:
    result = searcher.search(Query(text=blank), limit=3)
    assert [hit.image.file_name for hit in result.hits] == [f"{colour}.png" for colour in COLOURS[:-4:-1]]
    assert all(hit.distance is None for hit in result.hits)


def test_newest_images_need_no_model(searcher: Searcher) -> None:
    anew = Searcher(searcher.store, FakeEncoder())
    anew.search(Query())
    assert anew.encoder.calls == []


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("/a/b", ["/a/b", "/a/./b", "/a//b", "//a/b/", "/a/c/../b"]),
        ("C:\\a\\b", ["C:\\a\\b", "C:/a/b", "C:\\a\\.\\b\\", "C:\\a\\\\b"]),
        ("\\\\nas\\a", ["\\\\nas\\a", "\\\\nas\\a\\.", "\\\\nas\\a\\b\\.."]),
        ("/が", ["/が", normalize("NFD", "/が")]),
        (normalize("NFD", "/が"), ["/が", normalize("NFD", "/が/.")]),
        (f"{Path.home()}/b", ["~/b", "~//b"]),
    ],
)
def test_folder_is_found_however_it_is_written(searcher: Searcher, stored: str, asked: list[str]) -> None:
    separator = "\\" if "\\" in stored else "/"
    image = make_image("1.png", file_path=f"{stored}{separator}1.png", modified_ns=1)
    searcher.store.add_images(searcher.get_model().model_id, [image], searcher.encoder.encode_texts(["red"]))
    for folder in asked:
        for words in ("", "red"):
            found = searcher.search(Query(text=words, filter=SearchFilter(folder=folder)))
            assert [hit.image.file_name for hit in found.hits] == ["1.png"], folder


def test_folder_as_it_is_written_comes_before_its_other_form_of_unicode(searcher: Searcher) -> None:
    for number, folder in enumerate(("/が", normalize("NFD", "/が"))):
        image = make_image(f"{number}.png", file_path=f"{folder}/{number}.png", modified_ns=1)
        searcher.store.add_images(searcher.get_model().model_id, [image], searcher.encoder.encode_texts(["red"]))
    for number, folder in enumerate(("/が", normalize("NFD", "/が"))):
        assert list_names(searcher, Query(filter=SearchFilter(folder=folder))) == [f"{number}.png"]


def test_words_and_an_image_together_lie_between_both(searcher: Searcher) -> None:
    assert list_names(searcher, Query(text="red", image=draw_image("yellow")))[:3] == [
        "orange.png",
        "red.png",
        "yellow.png",
    ]


def test_words_asked_again_are_not_encoded_again(searcher: Searcher) -> None:
    encoder = searcher.encoder
    before = len(encoder.calls)
    searcher.search(Query(text="green"))
    searcher.search(Query(text=" green "), offset=4)
    assert len(encoder.calls) == before + 1


def test_pages_of_a_plan_cover_the_library_once(searcher: Searcher) -> None:
    plan = searcher.plan(Query(text="purple"))
    pages = [searcher.rank(plan, limit=4, offset=offset) for offset in (0, 4, 8)]
    names = [hit.image.file_name for page in pages for hit in page.hits]
    assert sorted(names) == sorted(f"{colour}.png" for colour in COLOURS)
    assert [page.has_more for page in pages] == [True, True, False]
    assert {page.total for page in pages} == {len(COLOURS)}


def test_image_only_model_takes_images_and_words_that_occur_in_texts(searcher: Searcher) -> None:
    image_only = Searcher(searcher.store, FakeEncoder(supports_text=False))
    assert list_names(image_only, Query(image=draw_image("red")))[0] == "red.png"
    result = image_only.search(Query(text="red"))
    assert [(hit.image.file_name, hit.found_by) for hit in result.hits] == [("red.png", "words")]
    assert result.total == 1
    with pytest.raises(TextNotSupported):
        image_only.search(Query(text="rotkehlchen"))


def test_embeddings_of_another_model_never_answer(searcher: Searcher) -> None:
    other = Searcher(searcher.store, FakeEncoder(name="another"))
    assert list_names(other, Query(text="red")) == []


def test_filter_holds_for_ranked_and_for_newest_images(searcher: Searcher) -> None:
    nothing = SearchFilter(file_types=("image/gif",))
    for words in ("red", ""):
        result = searcher.search(Query(words, filter=nothing))
        assert result.hits == ()
        assert result.total == 0
        assert not result.has_more


# --- what to leave out, similar ones ----------------------------------------------------------------------------------


@pytest.mark.parametrize("query", [Query("red -yellow"), Query("red", excluded_text="yellow")])
def test_excluded_images_move_back(searcher: Searcher, query: Query) -> None:
    def find_place(of: Query) -> int:
        return list_names(searcher, of).index("orange.png")

    assert find_place(query) > find_place(Query("red"))
    assert list_names(searcher, query)[0] == "red.png"


def test_image_can_be_left_out_too(searcher: Searcher) -> None:
    with_yellow_away = Query("red", excluded_image=draw_image("yellow"))
    assert list_names(searcher, with_yellow_away) == list_names(searcher, Query("red -yellow"))


def test_only_something_to_leave_out_puts_it_last(searcher: Searcher) -> None:
    assert list_names(searcher, Query("-red"))[-1] == "red.png"


def test_weight_moves_between_words_and_image(searcher: Searcher) -> None:
    def find_first(weight: float) -> str:
        return list_names(searcher, Query("blue", image=draw_image("yellow"), image_weight=weight))[0]

    assert find_first(0.0) == "blue.png"
    assert find_first(1.0) == "yellow.png"


def test_similar_ones_come_without_the_image_itself_and_without_the_encoder(searcher: Searcher) -> None:
    [red] = find_ids(searcher.store, "red.png")
    calls = len(searcher.encoder.calls)
    result = searcher.search(Query(like=red))
    assert len(searcher.encoder.calls) == calls
    assert result.total == len(result.hits) == len(COLOURS) - 1
    assert "red.png" not in [hit.image.file_name for hit in result.hits]
    assert not result.has_more


def test_similar_to_an_image_that_is_gone_says_so(searcher: Searcher) -> None:
    with pytest.raises(ImageNotFound):
        searcher.search(Query(like=999))


# --- words in the texts -----------------------------------------------------------------------------------------------


def register_prompts(searcher: Searcher, prompts: dict[str, str]) -> None:
    """Green images, told apart by their prompts only."""
    images = [make_image(name, ImageText(generation_prompt=prompt)) for name, prompt in prompts.items()]
    embeddings = searcher.encoder.encode_images([draw_image("green")] * len(images))
    searcher.store.add_images(searcher.get_model().model_id, images, embeddings)


@pytest.mark.parametrize("typed", ["738268214", "sd_xl_base_1.0", "IMG_0001.JPG", "ORA-00923"])
def test_identifier_puts_every_image_that_has_it_first(searcher: Searcher, typed: str) -> None:
    register_prompts(searcher, {f"{number}.png": f"a fox, seed {typed}, 20 steps" for number in range(3)})
    hits = searcher.search(Query(typed)).hits
    assert [hit.found_by != "meaning" for hit in hits] == [True] * 3 + [False] * (len(hits) - 3)


@pytest.mark.parametrize("word", ["狐", "夕焼け", "Fox"])
def test_images_with_the_word_in_their_texts_come_first_and_say_so(searcher: Searcher, word: str) -> None:
    register_prompts(searcher, {"named.png": f"雪の中の{word}と木", "other.png": "海辺の犬"})
    hits = searcher.search(Query(word)).hits
    assert hits[0].image.file_name == "named.png"
    assert hits[0].found_by == "both"
    assert hits[0].distance is not None
    assert {hit.found_by for hit in hits[1:]} == {"meaning"}


def test_quoted_words_must_occur(searcher: Searcher) -> None:
    register_prompts(searcher, {"1.png": "red fox in the snow", "2.png": "fox, red snow", "3.png": "a dog"})
    assert list_names(searcher, Query('"red fox"')) == ["1.png"]
    assert sorted(list_names(searcher, Query('"fox" red'))) == ["1.png", "2.png"]
    assert searcher.search(Query('"fox"')).total == 2


def test_pages_of_a_fused_ranking_cover_the_library_once(searcher: Searcher) -> None:
    prompts = {f"{number:03}.png": "a fox" if number % 3 else "a dog" for number in range(140)}
    register_prompts(searcher, prompts)
    [left_out] = find_ids(searcher.store, "000.png")
    for query, expected in ((Query("fox"), 150), (Query(like=left_out), 149)):
        plan = searcher.plan(query)
        pages = [searcher.rank(plan, 16, offset) for offset in range(0, 160, 16)]
        ids = [hit.image_id for page in pages for hit in page.hits]
        assert len(ids) == len(set(ids)) == expected
        assert [page.has_more for page in pages] == [True] * 9 + [False]


@settings(max_examples=scale(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=text())
def test_no_text_breaks_a_search(searcher: Searcher, text: str) -> None:
    result = searcher.search(Query(text))
    assert result.total <= len(COLOURS)


@pytest.mark.parametrize("query", [Query("sea -ship"), Query("sea", excluded_text="dog ship")])
def test_image_whose_texts_name_what_is_left_out_is_not_lifted_by_its_other_words(
    searcher: Searcher, query: Query
) -> None:
    images = [make_image("sea.png"), make_image("ship on the sea.png")]
    embeddings = searcher.encoder.encode_images([draw_image("red"), draw_image("red")])
    searcher.store.add_images(searcher.get_model().model_id, images, embeddings)
    found = {hit.image.file_name: hit.found_by for hit in searcher.search(query).hits}
    assert found["sea.png"] == "both"
    assert found["ship on the sea.png"] == "meaning"


def test_text_that_is_longer_than_the_model_takes_is_told(searcher: Searcher) -> None:
    assert not searcher.search(Query(text="red")).is_text_cut
    assert searcher.search(Query(text="long " * 100)).is_text_cut
    assert searcher.search(Query(text="red", excluded_text="long " * 100)).is_text_cut
    assert not searcher.search(Query()).is_text_cut


def test_hit_says_when_the_words_stand_in_the_image(searcher: Searcher) -> None:
    ids = {hit.image.file_name: hit.image_id for hit in searcher.store.list_images(limit=100)}
    line = TextLine("ポイ捨て禁止", 0.9, (0, 0, 1, 1))
    searcher.store.set_recognized(ids["blue.png"], RecognizedText("reader 1", line.text, (line,)))
    doubtful = TextLine("禁止", 0.4, (0, 0, 1, 1))
    searcher.store.set_recognized(ids["red.png"], RecognizedText("reader 1", "", (doubtful,)))
    searcher.store.set_edits(ids["green.png"], Edits("禁止の標識"))
    for query in ("禁止", '"禁止"'):
        hits = {hit.image.file_name: hit for hit in searcher.search(Query(query), limit=100).hits}
        found = {name for name, hit in hits.items() if hit.found_in_text}
        assert found == {"blue.png", "red.png"}, query
    assert not any(hit.found_in_text for hit in searcher.search(Query("red"), limit=100).hits)
    assert not any(hit.found_in_text for hit in searcher.search(Query()).hits)
