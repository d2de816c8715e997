"""One image large in a real browser: its address, its keys, and the texts one types there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.fakes.browsing import CAPTION, OpenPage, fill_library, list_names, search_words, serve_page


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with serve_page(fill_library(folder).database_url) as address:
        yield address


def open_tile(page: Page, number: int = 0) -> None:
    page.locator("#grid .tile").nth(number).click()
    page.locator(".facts-panel .stars").wait_for()


def expect_image(page: Page, name: str) -> None:
    expect(page.locator(".facts-panel .file-name")).to_have_text(name)
    expect(page.locator(".facts-panel .stars")).to_be_visible()


def test_image_opens_with_everything_known_of_it(open_page: OpenPage) -> None:
    page = open_page("?q=狐")
    page.locator("#details-toggle").click()
    shown = page.locator(".tile .distance").first.text_content()
    open_tile(page)
    panel = page.locator(".facts-panel")
    for words in ("picture03.png", "ベクトル距離（-1 × 内積）", "<b>best quality</b>", "738268214"):
        expect(panel).to_contain_text(words)
    expect(panel.locator("textarea")).to_have_value(CAPTION)
    assert float(panel.locator("[data-hit=distance]").inner_text()) == pytest.approx(float(shown or 0), abs=1e-4)
    box = page.locator(".pswp__item[aria-hidden=false] .pswp__img").last.bounding_box()
    assert box["width"] == pytest.approx(480, abs=2)  # no more than twice its size
    expect(page.get_by_role("dialog")).to_have_attribute("aria-label", re.compile("picture03.png"))
    expect(page.locator(".pswp [role=status].sr-only")).to_have_text("1 / 20: picture03.png")


def test_back_closes_the_viewer_and_the_focus_returns(open_page: OpenPage) -> None:
    page = open_page("?q=red")
    names = list_names(page)
    open_tile(page, 2)
    expect(page).to_have_url(re.compile(r"\?q=red&image=\d+$"))
    page.keyboard.press("ArrowRight")
    expect_image(page, names[3])
    page.go_back()
    expect(page.locator(".pswp")).to_have_count(0)
    expect(page).to_have_url(re.compile(r"\?q=red$"))
    assert list_names(page) == names
    expect(page.locator(".tile:focus .name")).to_have_text(names[3])
    page.go_forward()
    expect_image(page, names[3])
    page.keyboard.press("Escape")
    expect(page.locator(".pswp")).to_have_count(0)
    expect(page).to_have_url(re.compile(r"\?q=red$"))


def test_address_opens_its_image_and_escape_leads_to_the_search(open_page: OpenPage) -> None:
    page = open_page("?q=red")
    names = list_names(page)
    open_tile(page, 1)
    at = page.url
    page.goto("about:blank")
    page.goto(at)
    expect_image(page, names[1])
    page.keyboard.press("ArrowRight")
    expect_image(page, names[2])
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile(r"\?q=red$"))
    assert list_names(page) == names


def test_image_that_the_search_does_not_show_opens_alone(open_page: OpenPage) -> None:
    page = open_page("?prompt=yes&image=1")
    expect_image(page, "picture00.png")
    expect(page.locator(".pswp [role=status].sr-only")).to_have_text("1 / 1: picture00.png")


def test_address_of_an_image_that_is_gone_says_so(open_page: OpenPage) -> None:
    page = open_page("?image=9999")
    expect(page.locator("#toasts")).to_contain_text("この画像は削除されています")
    expect(page).not_to_have_url(re.compile("image="))


@pytest.mark.parametrize("width", [1280, 390])
def test_image_in_the_trash_says_so_and_can_be_restored_there(open_page: OpenPage, width: int) -> None:
    page = open_page(viewport={"width": width, "height": 844})
    page.request.post(page.url + "ui/trash", data={"ids": [7]})
    page.goto(page.url + "?image=7")
    notice = page.locator(".pswp .in-trash")
    expect(notice).to_contain_text("この画像はごみ箱にあります")
    expect(page.locator(".pswp [role=status].sr-only")).to_have_text("1 / 1: picture06.png この画像はごみ箱にあります")
    panel = page.locator(".facts-panel")
    expect(panel.locator("textarea, [name=keyword], .stars button").first).to_be_disabled()
    expect(panel.locator("textarea")).to_be_disabled()
    expect(panel.locator("[data-action=trash]")).to_have_count(0)
    for key in ("Delete", "5"):
        page.keyboard.press(key)
        expect(page.locator("#toasts")).to_have_text("この画像はごみ箱にあります")
    expect(page.locator(".pswp")).to_be_visible()
    assert page.request.get(page.url.split("?")[0] + "ui/images/7").json()["edits"]["rating"] == 0

    notice.locator("button").click()
    expect(page.locator("#toasts")).to_contain_text("picture06.png を元に戻しました")
    expect(notice).to_have_count(0)
    expect(panel.locator("textarea")).to_be_enabled()
    page.keyboard.press("Escape")
    expect(page.locator(".pswp")).to_have_count(0)
    expect(page.locator("#grid .tile[data-id='7']")).to_be_visible()


def test_image_that_another_tab_deleted_says_so_where_it_is_opened(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    page.request.post(page.url.split("?")[0] + "ui/trash", data={"ids": [2]})
    open_tile(page)
    expect(page.locator(".pswp .in-trash")).to_have_count(0)
    page.keyboard.press("ArrowRight")
    expect(page.locator(".pswp .in-trash")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".pswp .in-trash")).to_have_count(0)
    page.keyboard.press("ArrowLeft")
    page.locator(".pswp .in-trash button").click()
    expect(page.locator(".pswp .in-trash")).to_have_count(0)
    expect(page.locator(".pswp [role=status].sr-only")).to_have_text("2 / 20: picture01.png")


def test_stars_that_were_given_have_a_colour_of_their_own(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    open_tile(page, 4)
    page.keyboard.press("3")
    stars = page.locator(".facts-panel [data-rating]")
    expect(stars.nth(2)).to_have_attribute("aria-checked", "true")
    page.mouse.move(5, 5)
    colours = stars.evaluate_all("stars => stars.map((star) => getComputedStyle(star).color)")
    assert colours == ["rgb(180, 83, 9)"] * 3 + ["rgb(91, 100, 112)"] * 2
    page.keyboard.press("0")
    expect(stars.nth(2)).to_have_attribute("aria-checked", "false")


def test_tile_is_a_link_that_opens_a_tab(open_page: OpenPage) -> None:
    page = open_page("?q=red")
    with page.context.expect_page() as opened:
        page.locator(".tile").first.click(modifiers=["ControlOrMeta"])
    expect(opened.value.locator(".facts-panel .file-name")).to_have_text(list_names(page)[0])
    expect(page.locator(".pswp")).to_have_count(0)


def test_arrows_go_on_into_tiles_not_loaded_yet(open_page: OpenPage) -> None:
    page = open_page()
    open_tile(page)
    for number in range(18, -1, -1):
        page.keyboard.press("ArrowRight")
        expect(page.locator(".pswp [role=status].sr-only")).to_contain_text(
            f"{20 - number} / 20: picture{number:02}.png"
        )
    page.keyboard.press("Escape")
    expect(page.locator(".tile:focus .name")).to_have_text("picture00.png")


def test_original_is_behind_a_link_and_takes_the_previews_place(open_page: OpenPage, folder: Path) -> None:
    page = open_page()
    open_tile(page)
    link = page.locator(".facts-panel .actions a[target]").get_attribute("href")
    answer = page.request.get(page.url.split("?")[0] + (link or ""))
    assert answer.body() == (folder / "pictures" / "picture19.png").read_bytes()
    expect(page.locator(".pswp__item[aria-hidden=false] .pswp__img").last).to_have_attribute(
        "src", re.compile("/original")
    )


def test_double_click_and_wheel_zoom(open_page: OpenPage) -> None:
    page = open_page()
    open_tile(page)
    image = page.locator(".pswp__item[aria-hidden=false] .pswp__img").last
    page.wait_for_timeout(400)
    width = image.bounding_box()["width"]
    page.mouse.dblclick(450, 400)
    page.wait_for_timeout(500)
    assert image.bounding_box()["width"] > width * 1.5
    page.mouse.dblclick(450, 400)
    page.wait_for_timeout(500)
    assert image.bounding_box()["width"] == pytest.approx(width, abs=2)
    page.mouse.move(450, 400)
    page.mouse.wheel(0, -300)
    page.wait_for_timeout(400)
    assert image.bounding_box()["width"] > width * 1.2


def test_caption_is_saved_on_leaving_and_found(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    open_tile(page, 1)
    page.locator(".facts-panel textarea").fill("湖のほとりの小屋")
    with page.expect_response("**/edits"):
        page.keyboard.press("Escape")
    expect(page.locator(".pswp")).to_have_count(0)
    search_words(page, "小屋")
    expect(page.locator(".tile .name").first).to_have_text("picture01.png")


def test_arrow_buttons_lose_nothing_that_was_typed(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    open_tile(page, 2)
    page.locator(".facts-panel textarea").fill("灯台の丘")
    with page.expect_response("**/edits"):
        page.locator(".pswp__button--arrow--next").click()
    expect_image(page, "picture03.png")
    page.keyboard.press("ArrowLeft")
    expect_image(page, "picture02.png")
    expect(page.locator(".facts-panel textarea")).to_have_value("灯台の丘")


def test_caption_that_could_not_be_saved_is_kept_and_sent_again(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    open_tile(page, 4)
    page.route("**/edits", lambda route: route.abort())
    page.locator(".facts-panel textarea").fill("忘れないで")
    page.locator(".facts-panel textarea").blur()
    expect(page.locator("#toasts")).to_contain_text("保存できませんでした")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".facts-panel textarea")).to_have_value("忘れないで")
    page.unroute("**/edits")
    with page.expect_response("**/edits") as saved:
        page.locator("#toasts button").first.click()
    assert saved.value.json()["description"] == "忘れないで"


def test_caption_of_an_image_deleted_in_another_tab_is_saved_once_it_is_restored(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    open_tile(page, 11)
    image_id = int(page.url.rpartition("=")[2])
    other = page.context.new_page()
    other.goto(page.url)
    other.locator(".facts-panel .stars").wait_for()
    with other.expect_response("**/ui/trash"):
        other.keyboard.press("Delete")
    other.close()
    page.locator(".facts-panel textarea").fill("別のタブで消された画像")
    page.locator(".facts-panel textarea").blur()
    toast = page.locator("#toasts .toast")
    expect(toast).to_have_count(1)
    expect(toast).to_contain_text("この画像は削除されています")
    with page.expect_response("**/edits") as saved:
        toast.locator("button").click()
    assert saved.value.json()["description"] == "別のタブで消された画像"
    page.goto(page.url.split("?")[0] + f"?image={image_id}")
    expect(page.locator(".facts-panel textarea")).to_have_value("別のタブで消された画像")


def test_keywords_are_chips_and_go_back_to_what_the_file_says(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    open_tile(page, 5)
    field = page.locator(".facts-panel input[name=keyword]")
    field.fill("旅行、湖")
    field.press("Enter")
    expect(page.locator(".keyword a")).to_have_text(["旅行", "湖"])
    page.locator(".keyword button").first.click()
    expect(page.locator(".keyword a")).to_have_text(["湖"])
    expect(page.locator(".saved")).to_have_text("保存しました")
    page.locator("[data-revert=keywords]").click()
    expect(page.locator(".keyword")).to_have_count(0)
    expect(page.locator("[data-revert=keywords]")).to_be_hidden()


def test_chip_searches_for_its_keyword(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    open_tile(page, 6)
    field = page.locator(".facts-panel input[name=keyword]")
    field.fill("灯台")
    field.press("Enter")
    expect(page.locator(".saved")).to_have_text("保存しました")
    page.locator(".keyword a").click()
    expect(page.locator(".pswp")).to_have_count(0)
    expect(page.locator("#count")).to_have_text("1枚")
    assert list_names(page) == ["picture06.png"]


def test_digits_rate(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    open_tile(page, 7)
    with page.expect_response("**/edits"):
        page.keyboard.press("4")
    expect(page.locator(".stars .on")).to_have_count(4)
    page.reload()
    expect(page.locator(".stars .on")).to_have_count(4)
    with page.expect_response("**/edits"):
        page.keyboard.press("0")
    expect(page.locator(".stars .on")).to_have_count(0)


def test_delete_moves_to_the_trash_goes_on_and_is_undone(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    open_tile(page, 8)
    with page.expect_response("**/ui/trash"):
        page.keyboard.press("Delete")
    expect_image(page, "picture09.png")
    expect(page.locator(".pswp__counter")).to_have_text("9 / 19")
    expect(page.locator("#toasts")).to_contain_text("picture08.png をごみ箱に移しました")
    page.locator("#toasts button").click()
    expect_image(page, "picture08.png")
    expect(page.locator(".pswp")).to_be_focused()
    page.keyboard.press("Escape")
    assert list_names(page)[8] == "picture08.png"
    page.reload()
    expect(page.locator("#count")).to_have_text("20枚")


def test_double_click_on_the_trash_takes_one_picture_and_goes_on_to_the_next(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    open_tile(page, 8)
    with page.expect_response("**/ui/trash"):
        page.locator(".pswp__button--trash").dblclick()
    expect_image(page, "picture09.png")
    expect(page.locator(".pswp__counter")).to_have_text("9 / 19")
    page.locator("#toasts button").click()
    expect_image(page, "picture08.png")


def test_keys_show_facts_and_help_and_copy_the_prompt(open_page: OpenPage) -> None:
    page = open_page("?prompt=yes")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_tile(page)
    page.keyboard.press("c")
    expect(page.locator("#toasts")).to_contain_text("コピーしました")
    assert page.evaluate("navigator.clipboard.readText()").startswith("a red fox in the snow")
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_contain_text("キーボード操作")
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).to_be_hidden()
    expect(page.locator(".pswp")).to_have_count(1)
    page.keyboard.press("i")
    expect(page.locator(".facts-panel")).to_be_hidden()
    page.keyboard.press("i")
    expect(page.locator(".facts-panel")).to_be_visible()


def test_copying_works_without_the_browsers_clipboard(open_page: OpenPage) -> None:
    page = open_page("?prompt=yes")
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.evaluate("document.addEventListener('copy', () => (window.copied = document.activeElement.value))")
    open_tile(page)
    page.locator(".copy").first.click()
    expect(page.locator("#toasts")).to_contain_text("コピーしました")
    assert page.evaluate("window.copied").startswith("a red fox in the snow")


def test_copy_that_a_browser_refuses_is_said(open_page: OpenPage) -> None:
    page = open_page("?prompt=yes")
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.evaluate("document.execCommand = () => false")
    open_tile(page)
    page.locator(".copy").first.click()
    expect(page.locator("#toasts")).to_contain_text("コピーできませんでした")


def test_similar_ones_are_one_key_away(open_page: OpenPage) -> None:
    page = open_page()
    open_tile(page)
    page.keyboard.press("s")
    expect(page.locator("#heading")).to_have_text("似ている画像")
    expect(page.locator(".pswp")).to_have_count(0)
    assert "picture19.png" not in list_names(page)


def test_similar_ones_keep_the_conditions(open_page: OpenPage) -> None:
    page = open_page("?q=red&shape=landscape")
    open_tile(page)
    page.keyboard.press("s")
    expect(page).to_have_url(re.compile(r"\?shape=landscape&like=\d+$"))
    expect(page.locator("#heading")).to_have_text("似ている画像")


def test_stars_are_said_while_the_facts_are_closed(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    open_tile(page, 10)
    page.keyboard.press("i")
    expect(page.locator(".facts-panel")).to_be_hidden()
    with page.expect_response("**/edits"):
        page.keyboard.press("3")
    expect(page.locator("#toasts")).to_contain_text("3")
    page.keyboard.press("i")
    expect(page.locator(".stars .on")).to_have_count(3)


def test_image_without_a_prompt_says_so_when_it_is_to_be_copied(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    open_tile(page)
    page.keyboard.press("c")
    expect(page.locator("#toasts")).to_contain_text("この画像にはプロンプトがありません")


def test_phone_swipes_and_opens_the_facts_from_below(open_page: OpenPage) -> None:
    page = open_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.locator(".tile").first.tap()
    expect(page.locator(".pswp__counter")).to_have_text("1 / 20")
    expect(page.locator(".facts-panel")).to_be_hidden()
    session = page.context.new_cdp_session(page)
    for _ in range(5):  # until the viewer has opened, it takes no gesture
        page.wait_for_timeout(500)
        if page.locator(".pswp__counter").text_content() != "1 / 20":
            break
        for kind, x in (("touchStart", 350), ("touchMove", 250), ("touchMove", 60), ("touchEnd", None)):
            points = [] if x is None else [{"x": x, "y": 400}]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
            page.wait_for_timeout(30)
    expect(page.locator(".pswp__counter")).to_have_text("2 / 20")
    page.locator(".pswp__button--info").tap()
    expect(page.locator(".facts-panel .file-name")).to_have_text("picture18.png")
    box = page.locator(".facts-panel").bounding_box()
    assert box["y"] > 200
