"""A panorama in a real browser: fitted at first, then pixel by pixel, with mouse, wheel and two fingers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from image_search.encoders import open_encoder
from image_search.search.searcher import Searcher
from image_search.settings import Settings
from image_search.stores import open_store
from tests.fakes import make_picture_bytes
from tests.fakes.browsing import OpenPage, make_real_image, serve_page
from tests.fakes.checkpoints import get_checkpoint

WIDTH, HEIGHT = 6000, 700


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    settings = Settings(
        database_url=f"sqlite:///{folder}/library.db", embedding_model=str(get_checkpoint("clip")), device="cpu"
    )
    image, picture = make_real_image("panorama.png", make_picture_bytes("teal", (WIDTH, HEIGHT)))
    with open_store(settings) as store:
        searcher = Searcher(store, open_encoder(settings))
        store.add_images(searcher.get_model().model_id, [image], searcher.encoder.encode_images([picture.image]))
    with serve_page(settings.database_url) as address:
        yield address


def measure_width(page: Page) -> float:
    return float(page.locator(".pswp__item[aria-hidden=false] .pswp__img").last.bounding_box()["width"])


def test_a_double_click_shows_each_pixel_as_one(open_page: OpenPage) -> None:
    page = open_page()
    page.locator(".tile").first.click()
    page.locator(".facts-panel .stars").wait_for()
    page.wait_for_timeout(400)
    assert measure_width(page) <= 1280 - 360
    page.mouse.dblclick(450, 360)
    page.wait_for_timeout(500)
    assert measure_width(page) == pytest.approx(WIDTH, abs=2)
    image = page.locator(".pswp__item[aria-hidden=false] .pswp__img").last
    expect(image).to_have_js_property("naturalWidth", WIDTH)  # the original, not the preview


def test_the_wheel_goes_as_far(open_page: OpenPage) -> None:
    page = open_page()
    page.locator(".tile").first.click()
    page.locator(".facts-panel .stars").wait_for()
    page.mouse.move(450, 360)
    for _ in range(12):
        page.mouse.wheel(0, -400)
        page.wait_for_timeout(40)
    page.wait_for_timeout(300)
    assert measure_width(page) >= WIDTH


def test_two_fingers_zoom(open_page: OpenPage) -> None:
    page = open_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.locator(".tile").first.tap()
    page.locator(".pswp__counter").wait_for()
    page.wait_for_timeout(400)
    before = measure_width(page)
    session = page.context.new_cdp_session(page)
    for kind, distance in (("touchStart", 20), ("touchMove", 60), ("touchMove", 120), ("touchMove", 180)):
        points = [{"x": 195 - distance, "y": 422, "id": 0}, {"x": 195 + distance, "y": 422, "id": 1}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        page.wait_for_timeout(40)
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_timeout(400)
    assert measure_width(page) > before * 3
