"""People who are quicker than the model: the newest question wins in whatever order the answers come.

The program runs in this process, with an encoder that answers when a test lets it.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Page, Route, expect

from image_search.encoders.base import Embeddings
from image_search.library import Warmup
from image_search.records import Order
from image_search.registration.pipeline import ImageReader
from image_search.search import PAGE_SIZE, Searcher, SearchResult
from image_search.search.query import Plan
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.web.app import build_app
from tests.fakes import COLOURS, FakeEncoder, draw_image, draw_image_bytes, make_image
from tests.fakes.browsing import OpenPage, choose_query_image, find_free_port, list_names, wait_for_answer, wait_until

HELD = ("red", "blue")  # words that are answered when let go
COUNT = 20


class HeldEncoder(FakeEncoder):
    """Says which words have arrived, and keeps the held ones until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived: dict[str, threading.Event] = defaultdict(threading.Event)
        self.let_go: dict[str, threading.Event] = defaultdict(threading.Event)

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        for text in texts:
            self.arrived[text].set()
            if text in HELD:
                assert self.let_go[text].wait(30), f"{text} was never let go"
        return super().encode_texts(texts)


class WatchedSearcher(Searcher):
    """Says which words have been answered."""

    encoder: HeldEncoder

    def __init__(self, *parts: object) -> None:
        super().__init__(*parts)  # type: ignore[arg-type]
        self.answered: dict[tuple[str, ...], threading.Event] = defaultdict(threading.Event)

    def rank(self, plan: Plan, limit: int = PAGE_SIZE, offset: int = 0, order: Order = "registered") -> SearchResult:
        result = super().rank(plan, limit, offset, order)
        self.answered[plan.words].set()
        return result

    def answer_now(self, words: str) -> None:
        """Let the held words go, and return when their answer was found."""
        self.encoder.let_go[words].set()
        assert self.answered[(words,)].wait(30), f"{words} was never answered"


@pytest.fixture
def searcher(tmp_path: Path) -> Iterator[WatchedSearcher]:
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library.db")) as store:
        searcher = WatchedSearcher(store, HeldEncoder())
        names = [f"picture{number:02}.png" for number in range(COUNT)]
        images = [
            make_image(name, data=draw_image_bytes(size=(20 + len(name), 20 + n))) for n, name in enumerate(names)
        ]
        embeddings = searcher.encoder.encode_images([draw_image(COLOURS[n % len(COLOURS)]) for n in range(COUNT)])
        store.add_images(searcher.get_model().model_id, images, embeddings)
        yield searcher
        for words in HELD:
            searcher.encoder.let_go[words].set()


@pytest.fixture
def address(searcher: WatchedSearcher) -> Iterator[str]:
    port = find_free_port()
    app = build_app(searcher, Warmup(searcher), ImageReader(max_pixels=10**6))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join(20)


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    return open_page()


def type_words(page: Page, words: str) -> None:
    box = page.locator("#text textarea, #text input")
    box.fill(words)
    box.press("Enter")


def ask_for_held(page: Page, searcher: WatchedSearcher, words: str) -> None:
    """Ask, and return when the program is waiting for the model."""
    type_words(page, words)
    assert searcher.encoder.arrived[words].wait(15)


def expect_newest(page: Page) -> None:
    """Whatever else the server answers by then has had its time."""
    page.wait_for_timeout(500)
    expect(page.locator("#heading")).to_have_text("新着画像")


def test_clear_wins_over_a_search_that_is_answered_later(page: Page, searcher: WatchedSearcher) -> None:
    ask_for_held(page, searcher, "red")
    page.locator("#clear").click()
    expect(page.locator("#text textarea, #text input")).to_have_value("")
    searcher.answer_now("red")
    expect_newest(page)
    assert list_names(page)[0] == f"picture{COUNT - 1:02}.png"


def test_newer_words_win(page: Page, searcher: WatchedSearcher) -> None:
    ask_for_held(page, searcher, "red")
    ask_for_held(page, searcher, "blue")
    searcher.answer_now("blue")
    wait_for_answer(page, "q=blue")
    searcher.answer_now("red")
    page.wait_for_timeout(500)
    wait_for_answer(page, "q=blue")
    expect(page).to_have_url(page.url.split("?")[0] + "?q=blue")


def test_similar_ones_win_over_words_asked_before(page: Page, searcher: WatchedSearcher) -> None:
    ask_for_held(page, searcher, "red")
    page.locator(".tile").nth(1).focus()
    page.keyboard.press("s")
    expect(page.locator("#heading")).to_have_text("似ている画像")
    searcher.answer_now("red")
    page.wait_for_timeout(500)
    expect(page.locator("#heading")).to_have_text("似ている画像")
    expect(page.locator("#picture img")).to_have_count(1)


def test_more_of_the_grid_never_covers_a_newer_question(page: Page, searcher: WatchedSearcher) -> None:
    page.route("**/ui/results*offset=16*", lambda route: (page.wait_for_timeout(800), route.continue_()))
    page.locator("#more").click()
    ask_for_held(page, searcher, "red")
    searcher.answer_now("red")
    wait_for_answer(page, "q=red")
    page.wait_for_timeout(1000)
    names = list_names(page)
    assert set(names[:2]) == {"picture00.png", "picture10.png"}  # the red ones
    assert len(names) == 16


def test_image_deleted_during_a_search_is_not_in_its_answer(page: Page, searcher: WatchedSearcher) -> None:
    name = list_names(page)[0]
    page.locator(".tile").first.click()
    page.locator(".facts-panel .stars").wait_for()
    with page.expect_response("**/ui/trash"):
        page.keyboard.press("Delete")
    page.keyboard.press("Escape")
    expect(page.locator(".pswp")).to_have_count(0)
    ask_for_held(page, searcher, "red")
    searcher.answer_now("red")
    wait_for_answer(page, "q=red")
    page.locator("#more").click()
    expect(page.locator(".tile")).to_have_count(COUNT - 1)
    assert name not in list_names(page)


def test_words_typed_while_an_address_is_searched_stay(
    open_page: OpenPage, searcher: WatchedSearcher, address: str
) -> None:
    searcher.encoder.let_go["blue"].set()
    page = open_page("?q=blue")
    page.goto(f"{address}?q=red")
    assert searcher.encoder.arrived["red"].wait(15)
    box = page.locator("#text textarea, #text input")
    expect(box).to_have_value("red")
    box.fill("green")
    searcher.answer_now("red")
    wait_for_answer(page, "q=red")
    expect(box).to_have_value("green")


def test_query_image_that_arrives_late_calls_no_visitor_back_from_the_library(page: Page, tmp_path: Path) -> None:
    type_words(page, "green")
    wait_for_answer(page, "q=green")
    held: list[Route] = []
    page.route("**/ui/query-images", lambda route: held.append(route))
    (tmp_path / "query.png").write_bytes(draw_image_bytes("purple"))
    choose_query_image(page, tmp_path / "query.png")
    wait_until(page, lambda: bool(held))
    page.locator("#tabs a[data-tab=library]").click()
    expect(page).to_have_url(re.compile(r"\?tab=library$"))
    with page.expect_response("**/ui/query-images"):
        held[0].continue_()
    page.wait_for_timeout(500)
    expect(page).to_have_url(re.compile(r"\?tab=library$"))
    page.locator("#tabs a[data-tab=search]").click()
    wait_for_answer(page, "q=green", "picture=")
    expect(page.locator("#picture img")).to_have_count(1)


def test_search_is_as_it_was_when_the_visitor_comes_back_from_the_library(page: Page) -> None:
    type_words(page, "green")
    wait_for_answer(page, "q=green")
    names = list_names(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/ui/results" in request.url else None)
    page.mouse.wheel(0, 300)
    page.wait_for_timeout(400)  # the place is kept a moment after the last movement
    where = page.evaluate("scrollY")
    page.locator("#tabs a[data-tab=library]").click()
    expect(page.locator("#library-page")).to_be_visible()
    before = len(asked)
    page.go_back()
    expect(page.locator("#search-page")).to_be_visible()
    assert page.evaluate("scrollY") == where
    page.locator("#tabs a[data-tab=library]").click()
    page.locator("#tabs a[data-tab=search]").click()
    expect(page).to_have_url(re.compile(r"\?q=green$"))
    assert list_names(page)[: len(names)] == names
    assert len(asked) == before
    page.locator("#tabs a[data-tab=search]").click()  # once more: the newest
    expect(page.locator("#heading")).to_have_text("新着画像")
