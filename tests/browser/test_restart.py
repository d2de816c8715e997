"""A page that is open while the program is restarted finds its way back, or says what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

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


LOGIN = "#login-dialog"


@pytest.fixture
def page(browser: Browser, settings: Settings) -> Iterator[Page]:
    """A page behind a password, logged in. Its login ends with context.clear_cookies()."""
    context = browser.new_context(locale="ja-JP")
    page = context.new_page()
    with serve_page(settings.database_url, APP_PASSWORD="secret") as address:
        page.goto(f"{address}?kind=image")
        log_in(page)
        page.locator("#grid .tile").first.wait_for(timeout=120_000)
        expect(page).to_have_url(re.compile("kind=image"))
        expect(page.locator(BOX)).to_be_visible()
        yield page
        page.unroute_all(behavior="ignoreErrors")  # what still waits for an answer ends with the page
    context.close()


def log_in(page: Page, place: str = "") -> None:
    page.locator(f"{place} [name=password]").fill("secret", timeout=60_000)
    page.locator(f"{place} [name=password]").press("Enter")


def test_search_goes_on_where_the_login_ended(page: Page) -> None:
    page.context.clear_cookies()
    with page.expect_response(re.compile("ui/suggestions")) as suggestions:
        page.locator(BOX).fill("blue")
    assert suggestions.value.status == 401
    page.wait_for_timeout(500)  # enough to be asked for the password, which must wait while words are typed
    expect(page.locator(LOGIN)).to_be_hidden()
    page.locator(BOX).press("Enter")
    page.locator(f"{LOGIN} [name=password]").fill("wrong")
    page.locator(f"{LOGIN} [name=password]").press("Enter")
    expect(page.locator(LOGIN)).to_contain_text("パスワードが違います")
    log_in(page, LOGIN)
    expect(page.locator('body:not(.asking) #heading[data-address*="q=blue"]')).to_be_visible(timeout=60_000)
    expect(page).to_have_url(re.compile("q=blue"))
    expect(page.locator(LOGIN)).to_be_hidden()


def test_query_image_chosen_when_the_login_has_ended_is_searched_with_after_the_next(
    page: Page, settings: Settings
) -> None:
    page.context.clear_cookies()
    library = Path(settings.database_url.removeprefix("sqlite:///"))
    choose_query_image(page, library.parent / "pictures" / "picture07.png")
    log_in(page, LOGIN)
    expect(page.locator("#grid .name").first).to_have_text("picture07.png", timeout=60_000)


def test_caption_typed_when_the_login_has_ended_is_saved_after_the_next(page: Page) -> None:
    page.locator("#grid .tile").first.click()
    caption = page.locator(".facts-panel [name=description]")
    caption.fill("大事な言葉")
    page.context.clear_cookies()
    page.locator(".facts-panel [name=keyword]").focus()
    page.locator(f"{LOGIN} [name=password]").press("Escape")
    expect(page.locator("#toasts")).to_contain_text("続けるにはログインが必要です")
    expect(caption).to_have_value("大事な言葉")  # the viewer stays
    page.locator("#toasts button").click()
    log_in(page, LOGIN)
    expect(page.locator(".facts-panel .saved")).to_have_text("保存しました")
    page.reload()
    expect(caption).to_have_value("大事な言葉")
    assert page.evaluate("JSON.parse(sessionStorage.getItem('image-search-drafts')).length") == 0


def test_login_that_was_called_off_is_not_asked_for_again_by_a_request_sent_before(page: Page) -> None:
    page.locator("#grid .tile").first.click()
    caption = page.locator(".facts-panel [name=description]")
    caption.fill("別の言葉")  # than the test before has saved
    page.context.clear_cookies()
    held: list[Route] = []
    page.route("**/edits", lambda route: held.append(route))
    with page.expect_request("**/edits"):
        caption.press("Tab")  # saves
    page.locator(".facts-panel h2").click()  # out of the field
    page.keyboard.press("ArrowRight")
    page.locator(f"{LOGIN} [type=button]").click()
    expect(page.locator(LOGIN)).to_be_hidden()
    held[0].fulfill(status=401, json={})
    expect(page.locator("#toasts")).to_contain_text("保存できませんでした")
    expect(page.locator(LOGIN)).to_be_hidden()


def test_keywords_and_selection_outlive_the_login_and_a_program_that_is_away(page: Page) -> None:
    for number in range(2):
        page.locator("#grid .cell").nth(number).hover()
        page.locator("#grid .cell .pick").nth(number).click()
    page.locator("[data-select=keywords]").click()
    page.locator("#keywords-dialog input").fill("京都")
    page.route("**/ui/selection/keywords", lambda route: route.abort())
    page.locator("#keywords-dialog input").press("Enter")
    expect(page.locator("#toasts")).to_contain_text("プログラムに接続できません")
    page.unroute("**/ui/selection/keywords")
    page.context.clear_cookies()
    page.locator("[data-select=keywords]").click()
    expect(page.locator("#keywords-dialog input")).to_have_value("京都")
    page.locator("#keywords-dialog input").press("Enter")
    log_in(page, LOGIN)
    expect(page.locator("#toasts")).to_contain_text("2枚にキーワードを追加しました")
    expect(page.locator("#grid .chosen")).to_have_count(2)


def test_folder_typed_while_a_job_is_watched_outlives_the_login(page: Page, tmp_path: Path) -> None:
    page.route("**/ui/library/jobs", lambda route: route.fulfill(status=401, json={}))
    page.route("**/ui/library", lambda route: route.fulfill(json=show_running(route.fetch().json())))
    page.locator("#tabs [data-tab=library]").click()
    page.locator("header .add-folder").click()
    with page.expect_response(re.compile("ui/library/jobs")):
        page.locator("#folder-path").fill(str(tmp_path))
    page.wait_for_timeout(500)  # enough to be asked for the password
    expect(page.locator(LOGIN)).to_be_hidden()
    page.locator("header .add-folder").focus()
    expect(page.locator(LOGIN)).to_be_visible()
    expect(page.locator("#folder-path")).to_have_value(str(tmp_path))


def show_running(library: dict[str, Any]) -> dict[str, Any]:
    texts = dict.fromkeys(("title", "state_text", "error", "failed_text"), "")
    job = {"id": 1, "state": "running", "facts": [], "done": 0, "total": 1, "failed": 0, "failures": [], **texts}
    return library | {"jobs": [job], "can_add": True}
