"""Changes made in the viewer reach the picture they were meant for, and none undoes another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.fakes.browsing import PROMPT, OpenPage, fill_library, list_names, search_words, serve_page, wait_until

COUNT = 60
PANEL = ".facts-panel"


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with serve_page(fill_library(folder, COUNT).database_url) as address:
        yield address


def open_image(page: Page, number: int) -> int:
    """Open a picture of the grid; returns its image_id."""
    page.locator("#grid .tile").nth(number).click()
    page.locator(f"{PANEL} .stars").wait_for()
    return get_id(page)


def get_id(page: Page) -> int:
    return int(page.url.rpartition("image=")[2])


def read_edits(page: Page, image_id: int) -> dict[str, Any]:
    return page.request.get(f"{page.url.split('?')[0]}ui/images/{image_id}").json()["edits"]


def expect_rating(page: Page, image_id: int, rating: int) -> None:
    for _ in range(100):
        if read_edits(page, image_id)["rating"] == rating:
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"Image {image_id} has {read_edits(page, image_id)}.")


def post_keywords(page: Page, image_id: int, *words: str) -> None:
    """As another tab adds them."""
    data = {"ids": [image_id], "add": list(words)}
    assert page.request.post(f"{page.url.split('?')[0]}ui/selection/keywords", data=data).ok


_NO_ANSWERS = """() => {
  const send = window.fetch;
  window.fetch = (address, options) => {
    const answer = send(address, options);
    return `${address}`.endsWith('/edits') ? new Promise(() => {}) : answer;
  };
}"""


def test_quick_keys_are_saved_one_after_another_and_the_last_one_stays(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    image_id = open_image(page, 0)
    held: list[Route] = []
    page.route("**/edits", lambda route: held.append(route))
    with page.expect_request("**/edits"):
        page.keyboard.press("1")
    for key in "2345":
        page.keyboard.press(key)
    expect(page.locator(".stars .on")).to_have_count(5)
    page.wait_for_timeout(200)
    assert [route.request.post_data_json for route in held] == [{"rating": 1}]
    with page.expect_request("**/edits") as second:
        held[0].continue_()
    assert second.value.post_data_json == {"rating": 5}
    expect(page.locator(".stars .on")).to_have_count(5)  # the answer to the first does not show one star
    wait_until(page, lambda: len(held) > 1)
    held[1].continue_()
    expect(page.locator(".saved")).to_have_text("保存しました")
    expect(page.locator(".stars .on")).to_have_count(5)
    expect_rating(page, image_id, 5)
    assert len(held) == 2


def test_change_that_waits_for_the_one_before_is_saved_when_the_page_is_left(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    image_id = open_image(page, 1)
    page.evaluate(_NO_ANSWERS)
    page.keyboard.press("1")
    page.keyboard.press("3")
    page.goto("about:blank")
    page.go_back()
    expect_rating(page, image_id, 3)


def test_keywords_of_another_tab_are_kept_and_shown(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    image_id = open_image(page, 2)
    field = page.locator(f"{PANEL} [name=keyword]")
    post_keywords(page, image_id, "別のタブ", "選択")
    field.fill("ここ")
    field.press("Enter")
    expect(page.locator(".keyword a")).to_have_text(["別のタブ", "選択", "ここ"])
    page.locator(".keyword button").nth(1).click()
    expect(page.locator(".keyword a")).to_have_text(["別のタブ", "ここ"])
    post_keywords(page, image_id, "後から")
    page.locator(".pswp").focus()
    page.keyboard.press("2")
    expect(page.locator(".keyword a")).to_have_text(["別のタブ", "ここ", "後から"])
    assert read_edits(page, image_id)["keywords"] == ["別のタブ", "ここ", "後から"]


def test_answer_leaves_the_field_alone_that_is_being_typed_in(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    image_id = open_image(page, 3)
    held: list[Route] = []
    page.route("**/edits", lambda route: held.append(route))
    page.locator(f"{PANEL} [name=keyword]").fill("旅")
    with page.expect_request("**/edits"):
        page.keyboard.press("Enter")
    page.locator(f"{PANEL} textarea").fill("書きかけ")
    post_keywords(page, image_id, "別のタブ")
    wait_until(page, lambda: held)
    held.pop().continue_()
    expect(page.locator(".keyword a")).to_have_text(["別のタブ", "旅"])
    expect(page.locator(f"{PANEL} textarea")).to_have_value("書きかけ")
    expect(page.locator(f"{PANEL} textarea")).to_be_focused()
    page.unroute("**/edits")
    with page.expect_response("**/edits") as saved:
        page.keyboard.press("Tab")
    assert saved.value.json()["description"] == "書きかけ"


def test_caption_of_another_tab_is_not_written_over_by_looking_at_the_field(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    image_id = open_image(page, 4)
    data = {"description": "別のタブの\r\n説明"}
    assert page.request.post(f"{page.url.split('?')[0]}ui/images/{image_id}/edits", data=data).ok
    field = page.locator(f"{PANEL} textarea")
    for _ in range(2):
        page.locator(f"{PANEL} [name=keyword]").fill("x")
        with page.expect_response("**/edits"):
            field.focus()
        page.locator(".keyword button").click()
        expect(page.locator(".keyword")).to_have_count(0)
        expect(field).to_have_value("別のタブの\n説明")
    assert read_edits(page, image_id)["description"] == "別のタブの\r\n説明"


def test_value_goes_back_to_the_files_and_leaves_other_changes_alone(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    image_id = open_image(page, 5)
    page.keyboard.press("4")
    page.locator(f"{PANEL} textarea").fill("説明")
    page.locator(f"{PANEL} [name=keyword]").fill("旅、海")
    page.keyboard.press("Enter")
    expect(page.locator("[data-revert=keywords]")).to_be_visible()
    page.locator("[data-revert=description]").click()
    expect(page.locator("[data-revert=description]")).to_be_hidden()
    expect(page.locator(f"{PANEL} textarea")).to_have_value("")
    edits = read_edits(page, image_id)
    assert (edits["edited"], edits["keywords"], edits["rating"]) == (["keywords", "rating"], ["旅", "海"], 4)


def test_value_given_once_more_after_going_back_to_the_files_is_kept(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    image_id = open_image(page, 14)
    field = page.locator(f"{PANEL} [name=keyword]")
    field.fill("旅")
    page.keyboard.press("Enter")
    expect(page.locator("[data-revert=keywords]")).to_be_visible()
    held: list[Route] = []
    page.route("**/edits", lambda route: held.append(route), times=1)
    field.fill("海")
    with page.expect_request("**/edits"):
        page.keyboard.press("Enter")
    page.locator("[data-revert=keywords]").click()
    field.fill("海")
    page.keyboard.press("Enter")
    wait_until(page, lambda: held)
    held.pop().continue_()
    expect(page.locator(".keyword a")).to_have_text(["海"])
    assert read_edits(page, image_id)["keywords"] == ["海"]


@pytest.mark.parametrize("delay", [0, 60])
def test_key_pressed_right_after_an_arrow_is_for_the_picture_in_front(open_page: OpenPage, delay: int) -> None:
    page = open_page("?order=name")
    before = open_image(page, 6 + delay // 30)
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(delay)
    with page.expect_response("**/edits") as saved:
        page.keyboard.press("3")
    assert saved.value.url.endswith(f"/{get_id(page)}/edits")
    expect(page.locator(".stars .on")).to_have_count(3)
    assert read_edits(page, before)["rating"] == 0


def test_prompt_that_is_copied_right_after_an_arrow_is_that_of_the_picture_in_front(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_image(page, 2)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("c")
    expect(page.locator("#toasts")).to_contain_text("コピーしました")
    assert page.evaluate("navigator.clipboard.readText()") == PROMPT


def test_rating_is_taken_before_the_facts_have_come(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    held: list[Route] = []
    page.route(re.compile(r"/ui/images/\d+$"), lambda route: held.append(route))
    with page.expect_request(re.compile(r"/ui/images/\d+$")):
        page.locator("#grid .tile").nth(10).click()
    wait_until(page, lambda: held)
    before = held[0].fetch()  # an answer that knows nothing of the rating
    with page.expect_response("**/edits"):
        page.keyboard.press("5")
    held[0].fulfill(response=before)
    expect(page.locator(".stars .on")).to_have_count(5)
    expect_rating(page, get_id(page), 5)


def test_backspace_that_is_held_goes_no_further_than_the_field(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    image_id = open_image(page, 11)
    field = page.locator(f"{PANEL} [name=keyword]")
    field.fill("旅、海、空")
    field.press("Enter")
    page.keyboard.type("ab")
    for _ in range(6):
        page.keyboard.down("Backspace")
    page.keyboard.up("Backspace")
    expect(field).to_have_value("")
    expect(page.locator(".keyword a")).to_have_text(["旅", "海", "空"])
    with page.expect_response(lambda answer: "remove" in (answer.request.post_data or "")):
        page.keyboard.press("Backspace")
    expect(page.locator(".keyword a")).to_have_text(["旅", "海"])
    assert read_edits(page, image_id)["keywords"] == ["旅", "海"]


def test_undo_in_another_search_only_restores(open_page: OpenPage) -> None:
    page = open_page()
    name = list_names(page)[12]
    image_id = open_image(page, 12)
    with page.expect_response("**/ui/trash"):
        page.keyboard.press("Delete")
    page.keyboard.press("Escape")
    expect(page.locator(".pswp")).to_have_count(0)
    search_words(page, "red")
    names = list_names(page)
    open_image(page, 1)
    at, place = page.url, page.locator(".pswp__counter").inner_text()
    page.locator("#toasts button").click()
    expect(page.locator("#toasts")).to_contain_text(f"{name} を元に戻しました")
    page.wait_for_timeout(300)
    assert (page.url, page.locator(".pswp__counter").inner_text()) == (at, place)
    page.keyboard.press("Escape")
    assert list_names(page) == names
    assert page.request.get(f"{page.url.split('?')[0]}ui/images/{image_id}").ok


def test_viewer_is_found_again_where_the_arrows_led(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    open_image(page, 0)
    for number in range(2, 43):
        page.keyboard.press("ArrowRight")
        expect(page.locator(".pswp__counter")).to_have_text(f"{number} / {COUNT}")
    at = page.url
    page.keyboard.press("s")
    expect(page).to_have_url(re.compile("like="))
    expect(page.locator(".pswp")).to_have_count(0)
    page.go_back()
    expect(page.locator(".pswp__counter")).to_have_text(f"42 / {COUNT}")
    page.reload()
    expect(page.locator(".pswp__counter")).to_have_text(f"42 / {COUNT}")
    assert page.url == at
    page.keyboard.press("ArrowRight")
    expect(page.locator(".pswp__counter")).to_have_text(f"43 / {COUNT}")
    page.reload()
    expect(page.locator(".pswp__counter")).to_have_text(f"43 / {COUNT}")


def test_viewer_goes_on_by_itself_when_the_program_is_back(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    open_image(page, 13)
    page.context.set_offline(True)
    for _ in range(4):
        page.keyboard.press("ArrowRight")
        expect(page.locator(PANEL)).to_contain_text("プログラムに接続できません")
    expect(page.locator(".pswp__item[aria-hidden=false] .pswp__error-msg")).to_be_visible()
    page.keyboard.press("4")
    expect(page.locator("#toasts")).to_contain_text("保存できませんでした")
    page.context.set_offline(False)
    expect(page.locator(".stars .on")).to_have_count(4)
    expect(page.locator("#toasts")).not_to_contain_text("保存できませんでした")
    expect_rating(page, get_id(page), 4)
    expect(page.locator(".pswp__error-msg")).to_have_count(0)
    image = page.locator(".pswp__item[aria-hidden=false] .pswp__img").last
    expect(image).to_have_js_property("naturalWidth", 240)
    page.keyboard.press("ArrowRight")
    expect(page.locator(".pswp__item[aria-hidden=false] .pswp__img").last).to_have_js_property("naturalWidth", 240)
    expect(page.locator(".pswp__item[aria-hidden=false] .pswp__error-msg")).to_have_count(0)
