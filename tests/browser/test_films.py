"""Films in a real browser: found as one tile with its moment, played from there, with the strip of moments below."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from image_search.encoders import open_encoder
from image_search.records import SearchFilter
from image_search.registration import Registrar
from image_search.registration.files import find_files
from image_search.stores import open_store
from tests.fakes.browsing import OpenPage, fill_library, search_words, serve_page
from tests.fakes.film_files import make_scenes, write_film

SCENES = 4
SECONDS = 3
IMAGES = 3


@pytest.fixture(scope="module")
def film_file(folder: Path) -> Path:
    """A VP8 film, which every Chromium plays."""
    (folder / "films").mkdir(exist_ok=True)
    return write_film(folder / "films" / "海.webm", make_scenes(SCENES, SECONDS))


@pytest.fixture(scope="module")
def address(folder: Path, film_file: Path) -> Iterator[str]:
    settings = fill_library(folder, IMAGES)
    with open_store(settings) as store:
        Registrar(store, open_encoder(settings)).register(find_files([film_file]))
        assert store.count_images(SearchFilter(kind="frame")) == SCENES
    with serve_page(settings.database_url) as address:
        yield address


def find_film(page: Page):
    return page.locator("#grid li", has=page.locator(".moment:not([hidden])"))


def wait_until_shown(page: Page) -> None:
    page.wait_for_function(
        "document.querySelector('.film video')?.readyState >= 2 && !document.querySelector('.film video').seeking"
    )


def read_time(page: Page) -> float:
    return float(page.evaluate("document.querySelector('.film video').currentTime"))


def read_moment(page: Page) -> int:
    """Seconds that the film's tile tells."""
    minutes, seconds = find_film(page).locator(".time").inner_text().split(":")
    return int(minutes) * 60 + int(seconds)


def test_film_is_one_tile_with_its_moment_and_plays_from_there(open_page: OpenPage) -> None:
    page = open_page()
    search_words(page, "sunset")
    expect(page.locator("#grid .tile")).to_have_count(IMAGES + 1)
    expect(find_film(page)).to_have_count(1)
    expect(find_film(page).locator(".others")).to_have_text(f"+{SCENES - 1}")
    expect(find_film(page).locator(".moment .icon")).to_be_visible()
    moment = read_moment(page)
    find_film(page).locator(".tile").click()
    wait_until_shown(page)
    page.wait_for_function("!document.querySelector('.film video').paused")
    assert moment <= read_time(page)
    expect(page.locator(".facts-panel .file-name")).to_have_text("海.webm")


def test_address_opens_a_film_at_its_moment_without_playing_it(open_page: OpenPage) -> None:
    page = open_page("?q=sunset&kind=frame")
    moment = read_moment(page)
    image_id = find_film(page).get_attribute("data-id")
    page = open_page(f"?q=sunset&kind=frame&image={image_id}")
    wait_until_shown(page)
    assert moment <= read_time(page) < moment + 1
    assert page.evaluate("document.querySelector('.film video').paused")


def test_strip_shows_every_moment_and_leads_to_each(open_page: OpenPage) -> None:
    page = open_page("?q=sunset&kind=frame")
    find_film(page).locator(".tile").click()
    moments = page.locator(".moments button")
    expect(moments).to_have_count(SCENES)
    assert moments.all_inner_texts() == [f"0:{place * SECONDS:02}" for place in range(SCENES)]
    expect(page.locator(".moments [aria-current]")).to_have_count(1)
    wait_until_shown(page)
    moments.nth(1).click()
    page.evaluate("document.querySelector('.film video').pause()")
    wait_until_shown(page)
    assert read_time(page) >= SECONDS
    page.evaluate(f"document.querySelector('.film video').currentTime = {2 * SECONDS + 1}")
    expect(moments.nth(2)).to_have_attribute("aria-current", "true")
    page.locator(".film-similar").click()
    expect(page).to_have_url(re.compile(r"like=\d+"))
    expect(page.locator(".pswp")).to_have_count(0)


def test_films_and_images_can_be_shown_apart(open_page: OpenPage) -> None:
    expect(open_page("?kind=image").locator("#grid .tile")).to_have_count(IMAGES)
    page = open_page("?kind=frame")
    expect(page.locator("#grid .tile")).to_have_count(1)
    assert read_moment(page) == 0
    expect(page.locator("#count")).to_contain_text("1")


def test_film_that_the_browser_cannot_play_shows_its_frames_and_a_word(open_page: OpenPage) -> None:
    page = open_page("?kind=frame")
    page.route("**/images/*/film*", lambda route: route.fulfill(status=200, body=b"no film", content_type="video/webm"))
    find_film(page).locator(".tile").click()
    expect(page.locator(".film-word")).to_contain_text("このブラウザーでは「海.webm」を再生できません")
    expect(page.locator(".film-stage img")).to_be_visible()
    before = page.locator(".film-stage img").get_attribute("src")
    page.locator(".moments button").nth(2).click()
    expect(page.locator(".film-stage img")).not_to_have_attribute("src", before or "")


def test_film_that_was_moved_is_told_and_its_frames_stay(open_page: OpenPage, film_file: Path) -> None:
    moved = film_file.rename(film_file.with_name("moved.webm"))
    try:
        page = open_page("?kind=frame")
        find_film(page).locator(".tile").click()
        expect(page.locator(".film-word")).to_contain_text("登録後に移動または変更されています")
        expect(page.locator(".film-stage img")).to_be_visible()
    finally:
        moved.rename(film_file)


def test_deleting_a_film_in_the_viewer_deletes_it_whole_and_undo_brings_it_back(open_page: OpenPage) -> None:
    page = open_page()
    expect(page.locator("#grid .tile")).to_have_count(IMAGES + 1)
    find_film(page).locator(".tile").click()
    page.locator(".facts-panel .stars").wait_for()
    page.keyboard.press("Delete")
    expect(page.locator("#toasts")).to_contain_text("海.webm")
    page.locator("#toasts button").click()
    page.keyboard.press("Escape")
    page.goto(page.url.partition("?")[0])
    expect(page.locator("#grid .tile")).to_have_count(IMAGES + 1)
    expect(find_film(page).locator(".others")).to_have_text(f"+{SCENES - 1}")


def test_mark_of_a_film_stands_beside_its_tick(open_page: OpenPage) -> None:
    page = open_page()
    film = find_film(page)
    film.hover()
    film.locator(".pick").click()
    pick, mark = (film.locator(selector).bounding_box() for selector in (".pick", ".moment"))
    assert pick and mark
    assert pick["x"] + pick["width"] <= mark["x"]
