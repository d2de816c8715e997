"""A page that is open while the program is restarted finds its way back, or says what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from image_search.settings import Settings
from tests.fakes.browsing import choose_query_image, fill_library, find_free_port, list_names, serve_page, watch_pages


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    return fill_library(tmp_path_factory.mktemp("library"), 20)


BOX = "#text textarea, #text input"


def ask(page: Page, words: str) -> None:
    box = page.locator(BOX)
    box.fill(words)
    box.press("Enter")


def test_search_with_a_condition_goes_on_after_a_restart(browser: Browser, settings: Settings) -> None:
    port = str(find_free_port())
    address = f"http://127.0.0.1:{port}/"
    with watch_pages(browser, address) as open_page:
        with serve_page(settings.database_url, APP_PORT=port):
            page = open_page("?q=red&kind=image&shape=landscape")
            names = list_names(page)
            assert len(names) == 16
        ask(page, "blue")  # while the program is away
        expect(page.locator("#message")).to_contain_text("プログラムに接続できません")
        with serve_page(settings.database_url, APP_PORT=port):
            expect(page.locator("#message .problem")).to_have_count(0, timeout=60_000)  # by itself
            expect(page).to_have_url(re.compile(r"q=blue&kind=image&shape=landscape"))
            expect(page.locator("#chips .chip")).to_have_count(2)
            expect(page.locator("#grid .tile").first).to_be_visible()
            ask(page, "red")
            expect(page.locator('body:not(.asking) #heading[data-address*="q=red"]')).to_be_visible(timeout=60_000)
            assert list_names(page) == names
            page.locator("#more").scroll_into_view_if_needed()
            expect(page.locator("#grid li[data-id]")).to_have_count(20)  # more of the same, not the newest
            page.locator("#filters-toggle").click()
            page.locator("#filters [name=kind]").select_option("image")


def test_query_image_that_is_gone_is_asked_for_again(browser: Browser, settings: Settings) -> None:
    port = str(find_free_port())
    with watch_pages(browser, f"http://127.0.0.1:{port}/") as open_page:
        with serve_page(settings.database_url, APP_PORT=port):
            page = open_page()
            pictures = Path(settings.database_url.removeprefix("sqlite:///")).parent / "pictures"
            choose_query_image(page, pictures / "picture07.png")
            expect(page).to_have_url(re.compile("picture="))
            expect(page.locator("#grid .name").first).to_have_text("picture07.png")
        with serve_page(settings.database_url, APP_PORT=port):
            page.reload()
            expect(page.locator("#message")).to_contain_text("もう一度選んでください", timeout=60_000)
            choose_query_image(page, pictures / "picture08.png")
            expect(page.locator("#grid .name").first).to_have_text("picture08.png", timeout=60_000)


def test_page_with_a_password_leads_to_the_login_and_back_to_the_search(browser: Browser, settings: Settings) -> None:
    port = str(find_free_port())
    address = f"http://127.0.0.1:{port}/"
    context = browser.new_context(locale="ja-JP")
    page = context.new_page()
    with serve_page(settings.database_url, APP_PORT=port, APP_PASSWORD="secret"):
        page.goto(f"{address}?q=red&kind=image")
        page.locator("[name=password]").fill("secret")
        page.locator("[name=password]").press("Enter")
        page.locator("#grid .tile").first.wait_for(timeout=120_000)
        expect(page).to_have_url(re.compile(r"q=red&kind=image"))
    with serve_page(settings.database_url, APP_PORT=port, APP_PASSWORD="secret"):
        with page.expect_response(re.compile("ui/suggestions")) as suggestions:
            page.locator(BOX).fill("blue")
        assert suggestions.value.status == 401
        page.wait_for_timeout(500)  # enough to leave the page, which must stay until it is asked for more
        page.locator(BOX).press("Enter")
        page.locator("[name=password]").wait_for(timeout=60_000)
        expect(page.locator("body")).to_contain_text("ログイン")
        page.locator("[name=password]").fill("secret")
        page.locator("[name=password]").press("Enter")
        page.locator("#grid .tile").first.wait_for(timeout=120_000)
        expect(page).to_have_url(re.compile(r"q=blue&kind=image"))
    context.close()


def test_caption_typed_when_the_login_has_ended_is_saved_after_the_next(browser: Browser, settings: Settings) -> None:
    context = browser.new_context(locale="ja-JP")
    page = context.new_page()
    with serve_page(settings.database_url, APP_PASSWORD="secret") as address:
        page.goto(address)
        for _ in range(2):
            page.locator("[name=password]").fill("secret")
            page.locator("[name=password]").press("Enter")
            page.locator("#grid .tile").first.wait_for(timeout=120_000)
            if page.locator(".facts-panel").count():
                break
            page.locator("#grid .tile").first.click()
            page.locator(".facts-panel [name=description]").fill("大事な言葉")
            context.clear_cookies()
            page.locator(".facts-panel [name=keyword]").focus()
        caption = page.locator(".facts-panel [name=description]")
        expect(caption).to_have_value("大事な言葉")
        expect(page).to_have_url(re.compile(r"image=\d+"))
        page.reload()
        expect(caption).to_have_value("大事な言葉")
        assert page.evaluate("JSON.parse(sessionStorage.getItem('image-search-drafts')).length") == 0
    context.close()
