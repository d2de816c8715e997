"""The page without a browser: its words, its HTML, the addresses of pictures, and what it says when things go wrong."""

from __future__ import annotations

import io
import re
import string
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from image_search.errors import ImageNotFound, ModelUnavailable, StoreUnavailable, UnreadableImage
from image_search.images import decode_image, make_preview
from image_search.records import ImageText
from image_search.registration.reader import ImageReader
from image_search.search.searcher import FoundHit, Searcher
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from image_search.ui import html as render
from image_search.ui.handlers import PageHandlers, TabView
from image_search.ui.html import parse_keywords, render_details
from image_search.ui.messages import MESSAGES, error_key, negotiate_language, translate
from image_search.ui.search_form import SearchForm
from image_search.web.app import build_app
from image_search.web.background import Progress, ReportProgress, Warmup
from tests.fakes import COLOURS, FakeEncoder, make_image, make_picture, make_picture_bytes

READER = ImageReader(max_pixels=10**6)
NASTY = "<script>alert(1)</script>\"'&.png"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library.db")) as store:
        yield store


@pytest.fixture
def searcher(store: ImageStore) -> Searcher:
    return Searcher(store, FakeEncoder())


@pytest.fixture
def answers(searcher: Searcher) -> PageHandlers:
    return PageHandlers(searcher, Warmup(searcher), READER)


@pytest.fixture
def client(searcher: Searcher) -> TestClient:
    return TestClient(build_app(searcher, Warmup(searcher), READER))


def register_colours(searcher: Searcher, count: int = len(COLOURS)) -> list[int]:
    colours = COLOURS[:count]
    images = [make_image(f"{colour}.png", data=make_picture_bytes(colour)) for colour in colours]
    embeddings = searcher.encoder.encode_images([make_picture(colour) for colour in colours])
    return searcher.store.add_images(searcher.get_model().model_id, images, embeddings)


class AwayStore:
    """A database that does not answer, whatever it is asked."""

    def __getattr__(self, name: str) -> object:
        def refuse(*_: object, **__: object) -> None:
            raise StoreUnavailable("The database at localhost:1521 does not answer. Start it and search again.")

        return refuse


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", MESSAGES)
def test_both_languages_say_the_same_with_the_same_values(key: str) -> None:
    japanese, english = ({name for _, name, _, _ in string.Formatter().parse(text) if name} for text in MESSAGES[key])
    assert japanese == english
    assert all(text.strip() for text in MESSAGES[key])


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("ja", "ja"),
        ("ja-JP,ja;q=0.9,en-US;q=0.8", "ja"),
        ("en-US,en;q=0.9,ja;q=0.8", "en"),
        ("en;q=0.5, ja;q=0.9", "ja"),
        ("de-DE,de;q=0.9", "en"),
        ("fr, ja;q=0.3", "ja"),
        ("", "en"),
        ("ja;q=x, ;;;,", "en"),
        ("*", "en"),
    ],
)
def test_the_browser_chooses_the_language(header: str, language: str) -> None:
    assert negotiate_language(header) == language


def test_numbers_get_thousands_separators() -> None:
    assert translate("ja", "library", total=17204) == "17,204枚"


def test_an_error_is_named_by_its_nearest_kind() -> None:
    assert error_key(StoreUnavailable("")) == "store_away"
    assert error_key(ModelUnavailable("")) == "model_unavailable"
    assert error_key(ImageNotFound("")) == "image_gone"
    assert error_key(UnreadableImage("")) == "unreadable"


# --- html -------------------------------------------------------------------------------------------------------------


def test_names_and_texts_of_files_never_become_markup(store: ImageStore, searcher: Searcher) -> None:
    text = ImageText(generation_prompt=f"{NASTY} prompt", description=f"{NASTY} caption")
    image = make_image(NASTY, text)
    model_id = searcher.get_model().model_id
    [image_id] = store.add_images(model_id, [image], searcher.encoder.encode_images([make_picture()]))
    record = store.get_image(image_id)
    drawn = render_details(record, None, [], "ja") + render.render_tiles([render.Tile.of(FoundHit(record))], "en")
    assert "<script" not in drawn
    assert drawn.count("&lt;script&gt;") >= 5
    assert "<b>" not in render.render_message("<b>", "<b>")


def test_details_show_name_distance_prompt_and_caption(store: ImageStore, searcher: Searcher) -> None:
    text = ImageText(generation_prompt="a red fox", description="狐の写真")
    model_id = searcher.get_model().model_id
    [image_id] = store.add_images(
        model_id, [make_image("fox.png", text)], searcher.encoder.encode_images([make_picture()])
    )
    image = store.get_image(image_id)
    drawn = render_details(image, render.Tile.of(FoundHit(image, -0.25)), [], "ja")
    for words in ("fox.png", "-0.250000", "ベクトル距離（-1 × 内積）", "a red fox", "狐の写真", "元の画像を開く"):
        assert words in drawn
    assert "—" in render_details(image, None, [], "ja")


# --- what a person sees -----------------------------------------------------------------------------------------------


def test_the_newest_pictures_are_shown_for_an_empty_query(answers: PageHandlers) -> None:
    register_colours(answers.searcher)
    outcome = answers.search(SearchForm("  "), "ja")
    assert outcome.results.count('class="tile"') == len(COLOURS)
    assert "新着画像" in outcome.summary
    assert f"{len(COLOURS)}枚" in outcome.summary
    assert not outcome.has_more


def test_words_rank_and_show_the_time(answers: PageHandlers) -> None:
    register_colours(answers.searcher)
    outcome = answers.search(SearchForm("red"), "ja")
    assert outcome.view.tiles[0].file_name == "red.png"
    assert "符号化" in outcome.summary
    assert "-1.0000" in outcome.results


def test_an_uploaded_picture_finds_its_twin(answers: PageHandlers, tmp_path: Path) -> None:
    register_colours(answers.searcher)
    (tmp_path / "query.png").write_bytes(make_picture_bytes("blue"))
    assert answers.search(SearchForm("", str(tmp_path / "query.png")), "en").view.tiles[0].file_name == "blue.png"


def test_a_file_that_is_no_picture_is_refused_in_words(answers: PageHandlers, tmp_path: Path) -> None:
    (tmp_path / "query.png").write_bytes(b"no picture")
    outcome = answers.search(SearchForm("", str(tmp_path / "query.png")), "ja")
    assert "この画像は読み込めません" in outcome.results
    assert "query.png" in outcome.results
    assert str(tmp_path) not in outcome.results


def test_an_empty_library_says_how_to_fill_it(answers: PageHandlers) -> None:
    assert "register_images.py" in answers.search(SearchForm(""), "ja").results
    assert "register_images.py" in answers.search(SearchForm("red"), "en").results


def test_more_appends_the_next_page(answers: PageHandlers) -> None:
    searcher = answers.searcher
    images = [make_image(f"{number}.png") for number in range(20)]
    embeddings = searcher.encoder.encode_images([make_picture((number * 12, 80, 40)) for number in range(20)])
    searcher.store.add_images(searcher.get_model().model_id, images, embeddings)
    first = answers.search(SearchForm("red"), "ja")
    assert len(first.view.tiles) == 16
    assert first.has_more
    second = answers.show_more(first.view, "ja")
    assert second.view.tiles[:16] == first.view.tiles
    assert len({tile.image_id for tile in second.view.tiles}) == 20
    assert not second.has_more


def test_a_database_that_is_away_is_a_message_and_the_page_looks_again(searcher: Searcher) -> None:
    away = PageHandlers(Searcher(AwayStore(), FakeEncoder()), Warmup(searcher), READER)
    outcome = away.search(SearchForm(), "ja")
    assert "データベースに接続できません" in outcome.results
    assert outcome.view.away
    assert away.needs_polling(outcome.view)
    assert "データベースに接続できません" in away.describe(1, outcome.view, "ja")


def test_words_for_an_image_only_model_are_answered_with_a_sentence(store: ImageStore) -> None:
    searcher = Searcher(store, FakeEncoder(supports_text=False))
    answers = PageHandlers(searcher, Warmup(searcher), READER)
    assert "画像だけ" in answers.search(SearchForm("red"), "ja").results


def test_caption_and_keywords_are_kept_and_found(answers: PageHandlers) -> None:
    [image_id, *_] = register_colours(answers.searcher)
    said = answers.save_text(image_id, " 夕焼けの空 ", "旅行\n海\n 海\n\nParis, France", TabView(), "ja")
    assert "保存しました" in said
    image = answers.searcher.store.get_image(image_id)
    assert (image.description, image.keywords) == ("夕焼けの空", ("旅行", "海", "Paris, France"))
    assert answers.search(SearchForm("旅行"), "ja").view.tiles[0].image_id == image_id
    answers.save_text(image_id, "", "", TabView(), "ja")
    image = answers.searcher.store.get_image(image_id)
    assert (image.description, image.keywords, image.text) == (None, (), ImageText())


def test_saving_a_caption_leaves_the_keywords_of_the_file(answers: PageHandlers) -> None:
    [image_id, *_] = register_colours(answers.searcher)
    keywords = ("Paris, France", "Smith, John", *(f"keyword {number}" for number in range(1000)))
    answers.searcher.store.set_text(image_id, ImageText(description="of the file", keywords=keywords))
    answers.save_text(image_id, "typed", None, TabView(), "ja")
    image = answers.searcher.store.get_image(image_id)
    assert (image.description, image.text.description) == ("typed", "of the file")
    assert (image.keywords, image.edits.keywords) == (keywords, None)


def test_a_deleted_picture_disappears_and_the_others_stay(answers: PageHandlers) -> None:
    register_colours(answers.searcher)
    shown = answers.search(SearchForm("red"), "ja").view
    outcome = answers.delete([shown.tiles[0].image_id], shown, "ja")
    assert outcome.view.tiles == shown.tiles[1:]
    assert f"{len(COLOURS) - 1}枚から" in outcome.summary


@pytest.mark.parametrize(
    ("typed", "keywords"),
    [
        ("", ()),
        (" \n\t\r\n", ()),
        ("a b\nc", ("a b", "c")),
        ("Paris, France\r\nSmith, John\r\nParis, France", ("Paris, France", "Smith, John")),
        ("猫、犬；鳥|a\x85b\u2028c", ("猫、犬；鳥|a\x85b\u2028c",)),
        ("x" * 300, ("x" * 300,)),
    ],
)
def test_keywords_are_lines_with_any_other_character(typed: str, keywords: tuple[str, ...]) -> None:
    assert parse_keywords(typed) == keywords


def test_a_picture_deleted_meanwhile_is_said_so(answers: PageHandlers) -> None:
    assert "削除されています" in answers.describe(99, TabView(), "ja")


def test_preparation_loads_the_model_completes_the_library_and_embeds_the_tags(searcher: Searcher) -> None:
    def complete(report: ReportProgress) -> None:
        register_colours(searcher)
        report(10, 10)

    preparation = Warmup(searcher, complete)
    assert preparation.progress.phase == "loading"
    preparation.start()
    preparation.wait(10)
    assert preparation.progress == Progress("ready", 10, 10)
    assert searcher.store.count_images() == len(COLOURS)
    assert searcher.tagger.is_ready


def test_a_library_without_embeddings_of_this_model_says_what_to_run(searcher: Searcher) -> None:
    register_colours(searcher)
    other = Searcher(searcher.store, FakeEncoder(name="another"))
    said = PageHandlers(other, Warmup(other), READER).search(SearchForm("orange-like"), "ja").results
    assert "register_images.py --model" in said


def test_a_model_that_cannot_be_loaded_is_shown_with_its_remedy(store: ImageStore) -> None:
    class Gated(FakeEncoder):
        def encode_images(self, images: object) -> object:
            raise ModelUnavailable("Accept the licence at the model's page and set HF_TOKEN.")

    searcher = Searcher(store, Gated())
    preparation = Warmup(searcher)
    preparation.start()
    preparation.wait(10)
    said = PageHandlers(searcher, preparation, READER).describe_preparation("ja")
    assert "モデルを利用できません" in said
    assert "set HF_TOKEN" in said


# --- addresses --------------------------------------------------------------------------------------------------------


def test_a_preview_with_its_version_is_kept_by_browsers_for_good(client: TestClient, searcher: Searcher) -> None:
    [image_id] = register_colours(searcher, 1)
    version = render.get_version(searcher.store.get_image(image_id))
    answer = client.get(f"/images/{image_id}/preview?v={version}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/webp"
    assert "immutable" in answer.headers["cache-control"]
    assert answer.content == searcher.store.read_preview(image_id)
    again = client.get(f"/images/{image_id}/preview?v={version}", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


def test_the_grid_asks_for_small_previews_and_on_dense_displays_for_whole_ones(
    client: TestClient, searcher: Searcher
) -> None:
    picture = decode_image(make_picture_bytes("red", (1600, 1200)), "large.png")
    image = replace(make_image("large.png"), preview=make_preview(picture))
    [image_id] = searcher.store.add_images(
        searcher.get_model().model_id, [image], searcher.encoder.encode_images([picture.image])
    )
    tile = render.Tile.of_image(searcher.store.get_image(image_id))
    shown = render.render_tile(tile, False, "ja")
    small, whole = (unescape(address) for address in re.findall(r'(images/[^ "]+)', shown))
    assert Image.open(io.BytesIO(client.get(small).content)).size == (384, 288)
    assert Image.open(io.BytesIO(client.get(whole).content)).size == (768, 576)
    assert client.get(small).headers["content-type"] == "image/webp"
    assert "immutable" in client.get(small).headers["cache-control"]


def test_a_preview_without_or_with_a_wrong_version_is_asked_for_again(client: TestClient, searcher: Searcher) -> None:
    [image_id] = register_colours(searcher, 1)
    for address in (f"/images/{image_id}/preview", f"/images/{image_id}/preview?v=old"):
        answer = client.get(address)
        assert "no-cache" in answer.headers["cache-control"]
        assert client.get(address, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304


def test_an_original_comes_byte_for_byte_under_its_name(client: TestClient, searcher: Searcher) -> None:
    image = make_image("夕焼け 1.png", data=make_picture_bytes("red"))
    [image_id] = searcher.store.add_images(
        searcher.get_model().model_id, [image], searcher.encoder.encode_images([make_picture()])
    )
    answer = client.get(f"/images/{image_id}/original")
    assert answer.content == image.data
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"].startswith("inline; filename*=UTF-8''%E5%A4%95")


def test_an_original_that_browsers_cannot_draw_is_a_download(client: TestClient, searcher: Searcher) -> None:
    image = make_image("a.svg", data=b"<svg onload='alert(1)'/>", file_type="image/svg+xml")
    [image_id] = searcher.store.add_images(
        searcher.get_model().model_id, [image], searcher.encoder.encode_images([make_picture()])
    )
    answer = client.get(f"/images/{image_id}/original")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("address", ["/images/99/preview", "/images/99/original"])
def test_an_unknown_picture_is_404(client: TestClient, address: str) -> None:
    assert client.get(address).status_code == 404


@pytest.mark.parametrize("address", ["/images/x/preview", "/images/1/../../etc/passwd", "/images/-1/original"])
def test_nothing_but_a_picture_has_an_address(client: TestClient, address: str) -> None:
    assert client.get(address).status_code in (404, 422)


def test_a_picture_of_a_database_that_is_away_is_503(searcher: Searcher) -> None:
    client = TestClient(build_app(Searcher(AwayStore(), FakeEncoder()), Warmup(searcher), READER))
    assert client.get("/images/1/preview").status_code == 503


def test_the_page_is_built_and_served_without_the_database_or_the_model() -> None:
    away = Searcher(AwayStore(), FakeEncoder())
    client = TestClient(build_app(away, Warmup(away), READER))
    answer = client.get("/")
    assert answer.status_code == 200
    assert "https://fonts.g" not in answer.text
    assert away.encoder.calls == []


def test_the_page_says_what_the_demo_model_does_not_know() -> None:
    assert "EMBEDDING_MODEL" in render.render_heading("ja", "demo/model")
    assert "drawn scenes" in render.render_heading("en", "demo/model")
    assert "EMBEDDING_MODEL" not in render.render_heading("en", "llm-jp/waon-siglip2-base-patch16-256")
