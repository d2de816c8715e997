"""The login and the documentation of the API in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from image_search.settings import Settings
from tests.fakes.api_library import open_colours, serve_in_thread


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with (
        open_colours(tmp_path_factory.mktemp("library"), 4) as searcher,
        serve_in_thread(searcher, Settings(app_password="開けゴマ")) as address,
    ):
        yield address


def test_person_logs_in_and_sees_the_page_with_its_images(browser: Browser, address: str) -> None:
    page = browser.new_page(locale="ja-JP")
    page.set_default_timeout(30_000)
    page.goto(address + "/?q=red")
    page.locator("input[type=password]").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("[role=alert]")).to_contain_text("パスワードが違います")
    page.locator("input[type=password]").fill("開けゴマ")
    page.keyboard.press("Enter")
    tile = page.locator(".tile img").first
    tile.wait_for()
    page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=tile.element_handle())
    assert page.url == address + "/?q=red"
    expect(page.locator("#grid .tile .name").first).to_have_text("red.png")
    page.locator("#text textarea, #text input").fill("green")
    page.keyboard.press("Enter")
    expect(page.locator("#grid .tile .name").first).to_have_text("green.png")
    page.goto(address + "/api/docs")
    expect(page.locator("h2", has_text="/api/search")).to_contain_text("POST")
    expect(page.locator("h2")).to_have_count(16)
    page.goto(address + "/?tab=library")
    page.get_by_role("link", name="ログアウト").click()
    expect(page.locator("input[type=password]")).to_be_visible()
    page.goto(address + "/?q=red")
    expect(page.locator("input[type=password]")).to_be_visible()
    page.close()
