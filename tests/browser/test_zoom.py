"""One image large, zoomed with real touches and clicks up to its own pixels, and moved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import CDPSession, Page, expect

from image_search.encoders import open_encoder
from image_search.records import ImageText
from image_search.search import Searcher
from image_search.settings import Settings
from image_search.stores import open_store
from tests.fakes.browsing import OpenPage, make_real_image, serve_page
from tests.fakes.checkpoints import get_checkpoint

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
# Name and size of each: a panorama, a photograph, an icon.
SIZES = {"panorama.jpg": (6000, 700), "photo.jpg": (3000, 2000), "icon.png": (64, 48)}


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    settings = Settings(
        database_url=f"sqlite:///{folder}/library.db", embedding_model=str(get_checkpoint("clip")), device="cpu"
    )
    with open_store(settings) as store:
        searcher = Searcher(store, open_encoder(settings))
        for name, size in SIZES.items():
            Image.linear_gradient("L").resize(size).convert("RGB").save(folder / name)
            image, decoded = make_real_image(name, (folder / name).read_bytes(), ImageText())
            embedding = searcher.encoder.encode_images([decoded.image])
            store.add_images(searcher.get_model().model_id, [image], embedding)
    with serve_page(settings.database_url) as address:
        yield address


def open_in_viewer(open_page: OpenPage, name: str, **options: object) -> Page:
    page = open_page("?order=name", **options)
    page.locator("#grid .tile", has_text=name).click()
    page.locator(".pswp__item[aria-hidden=false] .pswp__img").last.wait_for()
    page.wait_for_timeout(400)  # taps count once the viewer has opened
    return page


def measure(page: Page) -> tuple[float, float]:
    """Left edge and width of the image on the screen, once it has come to rest."""
    image = page.locator(".pswp__item[aria-hidden=false] .pswp__img").last
    before = None
    for _ in range(100):
        box = image.bounding_box()
        if box == before:
            break
        before = box
        page.wait_for_timeout(120)
    return box["x"], box["width"]


def touch(session: CDPSession, kind: str, *points: tuple[float, float]) -> None:
    touches = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
    session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})


def pinch(page: Page, start: float, end: float, y: float = 422) -> None:
    """Two fingers, so many pixels apart at first and in the end."""
    session = page.context.new_cdp_session(page)
    touch(session, "touchStart", (195 - start / 2, y), (195 + start / 2, y))
    for step in range(1, 9):
        apart = start + (end - start) * step / 8
        touch(session, "touchMove", (195 - apart / 2, y), (195 + apart / 2, y))
        page.wait_for_timeout(20)
    touch(session, "touchEnd")


def drag(page: Page, distance: float, y: float = 422) -> None:
    session = page.context.new_cdp_session(page)
    start = 195 - distance / 2
    touch(session, "touchStart", (start, y))
    for step in range(1, 9):
        touch(session, "touchMove", (start + distance * step / 8, y))
        page.wait_for_timeout(30)
    page.wait_for_timeout(150)  # no throw
    touch(session, "touchEnd")


def double_tap(page: Page, x: float = 195, y: float = 422) -> None:
    for _ in range(2):
        page.touchscreen.tap(x, y)
        page.wait_for_timeout(60)


def test_two_fingers_enlarge_a_photo_and_one_moves_it_without_leaving_it(open_page: OpenPage) -> None:
    page = open_in_viewer(open_page, "photo.jpg", **PHONE)
    counter = page.locator(".pswp__counter").text_content()
    assert measure(page)[1] == pytest.approx(390, abs=1)
    pinch(page, 80, 240)
    left, width = measure(page)
    assert 700 < width < 1800
    drag(page, -120)
    assert measure(page)[0] == pytest.approx(left - 120, abs=25)
    expect(page.locator(".pswp__counter")).to_have_text(counter or "")
    pinch(page, 300, 40)
    assert measure(page)[1] == pytest.approx(390, abs=1)


def test_double_tap_shows_each_pixel_of_a_photo_as_one(open_page: OpenPage) -> None:
    page = open_in_viewer(open_page, "photo.jpg", **PHONE)
    double_tap(page)
    assert measure(page)[1] == pytest.approx(3000, abs=2)
    double_tap(page)
    assert measure(page)[1] == pytest.approx(390, abs=1)


def test_panorama_is_read_from_end_to_end_in_its_own_pixels(open_page: OpenPage) -> None:
    page = open_in_viewer(open_page, "panorama.jpg", **PHONE)
    assert measure(page)[1] == pytest.approx(390, abs=1)
    double_tap(page)
    assert measure(page)[1] == pytest.approx(6000, abs=2)
    expect(page.locator(".pswp__item[aria-hidden=false] .pswp__img").last).to_have_js_property("naturalWidth", 6000)
    for direction, end in ((1, lambda left: left == pytest.approx(0, abs=2)), (-1, lambda left: left + 6000 <= 392)):
        for _ in range(30):
            if end(measure(page)[0]):
                break
            drag(page, 340 * direction)
        assert end(measure(page)[0])
    expect(page.locator(".pswp__counter")).to_have_text("2 / 3")


def test_double_click_and_the_mouse_do_the_same(open_page: OpenPage) -> None:
    page = open_in_viewer(open_page, "panorama.jpg", viewport={"width": 1280, "height": 800})
    fitting = measure(page)[1]
    assert fitting < 1280
    page.mouse.dblclick(400, 400)
    left, width = measure(page)
    assert width == pytest.approx(6000, abs=2)
    page.mouse.move(700, 400)
    page.mouse.down()
    page.mouse.move(300, 400, steps=8)
    page.wait_for_timeout(150)
    page.mouse.up()
    assert measure(page)[0] == pytest.approx(left - 400, abs=100)
    page.mouse.dblclick(400, 400)
    assert measure(page)[1] == pytest.approx(fitting, abs=2)


def test_small_image_is_shown_at_twice_its_size_at_most(open_page: OpenPage) -> None:
    page = open_in_viewer(open_page, "icon.png", **PHONE)
    assert measure(page)[1] == pytest.approx(128, abs=1)
