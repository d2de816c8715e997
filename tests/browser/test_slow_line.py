"""The page on a line of 50 KB/s with 400 ms to the server: it says what it waits for, and nothing is mixed up."""

from __future__ import annotations

import re

from playwright.sync_api import CDPSession, Page, expect

from tests.fakes.browsing import OpenPage, list_names

SLOW = {"offline": False, "latency": 400, "downloadThroughput": 50_000, "uploadThroughput": 50_000}


def slow_down(page: Page) -> CDPSession:
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", SLOW)
    return session


def test_first_visit_says_that_it_loads_and_shows_images_before_the_search_box_is_there(
    open_page: OpenPage,
) -> None:
    page = open_page("?order=name")  # the program is ready
    session = slow_down(page)
    session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    page.goto(page.url.split("?")[0], wait_until="commit")
    expect(page.locator("#count")).to_have_text("読み込んでいます")
    page.locator("#grid .tile").first.wait_for()
    assert page.locator("#text textarea, #text input").count() == 0
    page.locator("#text textarea, #text input").wait_for()
    expect(page.locator("#count")).to_have_text("20枚")


def test_search_is_said_to_run_and_no_name_stands_over_another_image(open_page: OpenPage) -> None:
    page = open_page()
    before = list_names(page)
    slow_down(page)
    box = page.locator("#text textarea, #text input")
    box.fill("red")
    box.press("Enter")
    expect(page.locator("body")).to_have_class(re.compile("asking"))
    assert list_names(page) == before
    page.locator("body:not(.asking) #heading[data-address*=q]").wait_for()
    pairs = page.locator("#grid .tile").evaluate_all(
        "tiles => tiles.map(tile => [tile.dataset.id, tile.querySelector('img').src])"
    )
    assert len(pairs) == 16
    assert all(f"images/{image_id}/preview" in source for image_id, source in pairs)


def test_image_opens_at_once_with_its_name_and_the_rest_follows(open_page: OpenPage) -> None:
    page = open_page()
    slow_down(page)
    page.locator("#grid .tile").first.click()
    expect(page.locator(".facts-panel .file-name")).to_have_text("picture19.png")
    expect(page.locator(".facts-panel")).to_contain_text("読み込んでいます")
    expect(page.locator(".facts-panel .stars")).to_be_visible()
    expect(page.locator(".facts-panel")).not_to_contain_text("読み込んでいます")


def test_library_tab_says_that_it_loads(open_page: OpenPage) -> None:
    page = open_page()
    slow_down(page)
    page.locator("#tabs a[data-tab=library]").click()
    expect(page.locator("#library-page .loading")).to_have_text("読み込んでいます")
    expect(page.locator("#folders-title")).to_be_visible()
    expect(page.locator("#library-page .loading")).to_be_hidden()
