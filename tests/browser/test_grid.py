"""The endless grid in a real browser: what is loaded, what is kept, and where one finds oneself again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from image_search.encoders import open_encoder
from image_search.records import ImageText
from image_search.search import Searcher
from image_search.settings import Settings
from image_search.stores import open_store
from tests.fakes import make_embeddings, make_image
from tests.fakes.browsing import OpenPage, list_names, serve_page, wait_until
from tests.fakes.checkpoints import get_checkpoint

COUNT = 300


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    url = f"sqlite:///{folder}/library.db"
    settings = Settings(database_url=url, embedding_model=str(get_checkpoint("clip")), device="cpu")
    with open_store(settings) as store:
        model = Searcher(store, open_encoder(settings)).get_model()
        for number in range(COUNT):
            taken_at = datetime(2024, 1 + number % 12, 1 + number % 28) if number % 25 else None
            image = make_image(f"{number:03}.png", ImageText(taken_at=taken_at))
            store.add_images(model.model_id, [image], make_embeddings(1, model.dimension, seed=number))
    with serve_page(url) as address:
        while not httpx.get(f"{address}ui/progress", timeout=60).json()["is_over"]:
            time.sleep(
                0.1
            )  # the page asks for the newest again when the model is there, and these tests count what it asks
        yield address


def scroll_to_end(page: Page) -> None:
    for _ in range(60):
        page.mouse.wheel(0, 2500)
        page.wait_for_timeout(60)
        if page.locator("#more").is_hidden() and page.evaluate(
            "scrollY + innerHeight + 5 > document.body.scrollHeight"
        ):
            return
    raise AssertionError("The end was never reached.")


def test_sixteen_at_the_start_and_the_next_ones_as_one_scrolls(open_page: OpenPage) -> None:
    page = open_page()
    assert len(list_names(page)) == 16
    page.mouse.move(600, 500)
    page.mouse.wheel(0, 600)
    expect(page.locator('#grid li[aria-posinset="30"]')).to_be_attached()


def test_button_loads_the_next_ones_too(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#more").click()
    expect(page.locator('#grid li[aria-posinset="30"]')).to_be_attached()


def test_document_stays_small_to_the_end_and_every_tile_is_there_once(open_page: OpenPage) -> None:
    page = open_page()
    sent: list[int] = []
    page.on(
        "response",
        lambda answer: sent.extend(t["id"] for t in answer.json()["tiles"]) if "results" in answer.url else None,
    )
    page.mouse.move(600, 500)
    scroll_to_end(page)
    assert page.locator("#grid li").count() < 200
    assert list_names(page)[-1] == "000.png"
    assert len(sent) == len(set(sent)) == COUNT - 16  # new tiles only


def test_name_stands_over_its_own_image(open_page: OpenPage) -> None:
    page = open_page()
    page.mouse.move(600, 500)
    scroll_to_end(page)
    pairs = page.locator("#grid .tile").evaluate_all(
        "tiles => tiles.map(t => [t.dataset.id, t.querySelector('img').src, t.href])"
    )
    assert pairs
    for image_id, source, href in pairs:
        assert f"images/{image_id}/preview" in source
        assert href.endswith(f"image={image_id}")


def test_reload_and_back_restore_tiles_and_scroll(open_page: OpenPage) -> None:
    page = open_page()
    page.mouse.move(600, 500)
    for _ in range(6):
        page.mouse.wheel(0, 700)
        page.wait_for_timeout(100)
    page.wait_for_timeout(400)
    place = page.evaluate("scrollY")
    assert place > 1500
    before = page.evaluate(TOP_TILE)
    page.reload()
    expect(page.locator("body:not(.asking)")).to_be_attached()
    page.wait_for_function("place => Math.abs(scrollY - place) < 3", arg=place)
    assert page.evaluate(TOP_TILE) == before
    page.goto(page.url + "?order=name")
    expect(page.locator(".tile .name").first).to_have_text("000.png")
    page.go_back()
    page.wait_for_function("place => Math.abs(scrollY - place) < 3", arg=place)
    assert page.evaluate(TOP_TILE) == before


TOP_TILE = """() => {
  const tiles = [...document.querySelectorAll('#grid .tile')];
  return tiles.find((tile) => tile.getBoundingClientRect().top >= 0).dataset.id;
}"""


def test_reload_loads_no_more_than_its_place_needs(open_page: OpenPage) -> None:
    page = open_page()
    page.mouse.move(600, 500)
    scroll_to_end(page)
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_function("history.state?.scroll === 0")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "ui/results" in request.url else None)
    page.reload()
    page.locator("body:not(.asking) .tile").first.wait_for()
    assert int(asked[0].split("limit=")[1]) < 100


def test_images_that_were_passed_by_are_not_waited_for(open_page: OpenPage) -> None:
    page = open_page()
    waiting: list[str] = []
    left: list[str] = []
    page.route("**/images/*/preview*", lambda route: waiting.append(route.request.url))  # a line that brings nothing
    page.on("requestfailed", lambda request: left.append(request.url))
    page.mouse.move(600, 500)
    scroll_to_end(page)
    page.wait_for_timeout(500)
    shown = set(page.locator("#grid li").evaluate_all("tiles => tiles.map((tile) => tile.dataset.id)"))
    assert {url.split("/images/")[1].split("/")[0] for url in {*waiting} - {*left}} <= shown
    assert len(left) > 100


def test_new_question_begins_at_its_heading(open_page: OpenPage) -> None:
    page = open_page()
    page.mouse.move(600, 500)
    page.mouse.wheel(0, 1500)
    page.wait_for_timeout(300)
    tile = page.locator("#grid .tile").nth(10)
    tile.focus()
    page.keyboard.press("s")
    expect(page.locator("#heading")).to_have_text("似ている画像")
    assert page.evaluate("scrollY") == 0


def test_order_of_dates_has_headings_of_months(open_page: OpenPage) -> None:
    page = open_page("?order=taken")
    expect(page.locator("#grid h3").first).to_have_text("2024年12月")
    page.mouse.move(600, 500)
    scroll_to_end(page)
    expect(page.locator("#grid h3").last).to_have_text("撮影日不明")
    page.locator("#order").select_option("name")
    expect(page.locator(".tile .name").first).to_have_text("000.png")


def test_arrow_keys_walk_over_the_tiles_as_they_lie(open_page: OpenPage) -> None:
    page = open_page()
    first = page.locator("#grid .tile").first
    first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".tile:focus .name")).to_have_text(f"{COUNT - 2:03}.png")
    page.keyboard.press("ArrowDown")
    below = page.locator(".tile:focus").bounding_box()
    assert below["y"] > first.bounding_box()["y"]
    page.keyboard.press("ArrowUp")
    expect(page.locator(".tile:focus .name")).to_have_text(f"{COUNT - 2:03}.png")
    for _ in range(25):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(30)
    assert int(page.locator(".tile:focus .name").text_content()[:3]) < COUNT - 18  # on into tiles that came since


def test_tiles_that_cannot_be_loaded_are_asked_for_again(open_page: OpenPage) -> None:
    page = open_page()
    page.route("**/ui/results*offset=16*", lambda route: route.abort())
    page.locator("#more").click()
    page.wait_for_timeout(300)
    page.unroute("**/ui/results*offset=16*")
    page.locator("#more").click()
    expect(page.locator('#grid li[aria-posinset="30"]')).to_be_attached()


def test_tiles_that_came_while_the_newest_were_asked_for_again_stay(open_page: OpenPage) -> None:
    page = open_page()
    progress = {"kind": "progress", "title": "登録中", "hint": "", "done": 1, "count": 9, "is_loading": False}
    page.route("**/ui/progress", lambda route: route.fulfill(json={**progress, "is_over": False}))
    page.reload()
    page.locator("#grid .tile").first.wait_for()
    held: list[Route] = []
    page.route("**/ui/results*offset=0*", lambda route: held.append(route))
    wait_until(page, lambda: held)  # the newest are asked for again
    page.locator("#more").click()
    expect(page.locator('#grid li[aria-posinset="30"]')).to_be_attached()
    for route in held:
        route.continue_()
    page.wait_for_timeout(500)
    expect(page.locator('#grid li[aria-posinset="30"]')).to_be_attached()


def test_search_behind_the_library_tab_loads_nothing(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    page.mouse.move(600, 500)
    page.mouse.wheel(0, 600)
    expect(page.locator('#grid li[aria-posinset="30"]')).to_be_attached()
    page.wait_for_timeout(300)
    place, top = page.evaluate("scrollY"), page.evaluate(TOP_TILE)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "ui/results" in request.url else None)
    page.locator("#tabs a[data-tab=library]").click()
    page.locator("#library-page.loaded").wait_for()
    for _ in range(4):
        page.mouse.wheel(0, 400)
        page.wait_for_timeout(150)
    assert asked == []
    page.go_back()
    page.wait_for_function("place => Math.abs(scrollY - place) < 3", arg=place)
    assert page.evaluate(TOP_TILE) == top
    scroll_to_end(page)
    assert list_names(page)[-1] == f"{COUNT - 1:03}.png"


def test_image_that_comes_back_stands_in_the_grid_although_tiles_were_on_their_way(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    root = page.url.split("?")[0]
    first = int(page.locator("#grid li").first.get_attribute("data-id") or 0)
    page.request.post(f"{root}ui/trash", data={"ids": [first]})
    page.reload()
    expect(page.locator(".tile .name").first).to_have_text("001.png")
    held: list[Route] = []
    page.route("**/ui/results*offset=16*", lambda route: held.append(route))
    page.locator("#more").click()
    page.locator("#tabs a[data-tab=library]").click()
    page.locator("#trash-list .restore").click()
    expect(page.locator("#toasts")).to_contain_text("元に戻しました")
    page.wait_for_timeout(500)
    for route in held:
        route.continue_()
    page.locator("#tabs a[data-tab=search]").click()
    expect(page.locator(".tile .name").first).to_have_text("000.png")
    expect(page.locator('#grid li[aria-posinset="30"]')).to_be_attached()


def test_search_that_found_nothing_yet_shows_what_is_registered_meanwhile(open_page: OpenPage) -> None:
    page = open_page()
    progress = {"kind": "progress", "title": "登録中", "hint": "", "done": 1, "count": 9, "is_loading": False}
    page.route("**/ui/progress", lambda route: route.fulfill(json={**progress, "is_over": False}))
    nothing = {"tiles": [], "total": 0, "has_more": False, "ranked": True, "heading": "", "count": "", "timing": ""}
    message = {"kind": "empty", "title": "画像を準備しています", "hint": "", "is_library_empty": False}
    page.route("**/ui/results*", lambda route: route.fulfill(json={**nothing, "message": message}))
    page.goto(page.url + "?q=red")
    expect(page.locator("#message")).to_contain_text("画像を準備しています")
    page.unroute("**/ui/results*")
    expect(page.locator("#grid .tile").first).to_be_visible()
    expect(page.locator("#message .message.empty")).to_have_count(0)


def test_twenty_thousand_tiles_keep_the_document_small(open_page: OpenPage) -> None:
    """The server's part is made up here: what counts is the page."""
    page = open_page()

    def answer(route: Route) -> None:
        parameters = dict(pair.split("=") for pair in route.request.url.split("?")[1].split("&"))
        offset, limit = int(parameters["offset"]), int(parameters["limit"])
        tiles = [make_tile(number) for number in range(offset, min(offset + limit, 20_000))]
        more = offset + limit < 20_000
        body = {
            "tiles": tiles,
            "total": 20_000,
            "has_more": more,
            "ranked": False,
            "heading": "",
            "count": "",
            "timing": "",
            "message": None,
        }
        route.fulfill(body=json.dumps(body), content_type="application/json")

    page.route("**/ui/results*", answer)
    page.route("**/images/*/preview*", lambda route: route.abort())
    page.evaluate("history.replaceState({ count: 20000, scroll: 3e5 }, '')")
    page.reload()
    page.wait_for_function("scrollY > 2e5")
    assert page.locator("#grid li").count() < 400
    page.evaluate("scrollTo(0, 1e9)")
    expect(page.locator(".tile .name").last).to_have_text("19999.png")
    assert page.locator("#grid li").count() < 400


def make_tile(number: int) -> dict[str, object]:
    return {
        "id": number + 1, "name": f"{number}.png", "version": "v", "width": 400, "height": 300, "color": "#336699",
        "alt": "", "rating": None, "month": None, "frame_ms": None, "original": True, "size": 1, "distance": None,
        "relevance": None, "found_by": None,
    }  # fmt: skip
