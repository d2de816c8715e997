"""Conditions in a real browser: each is a chip that can be taken out, and nothing typed is passed over in silence."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Page, expect

from tests.fakes.browsing import OpenPage, choose_query_image

# The event that tells that Gradio has drawn its components comes when release() is called.
HOLD_READY = """
const dispatch = document.dispatchEvent.bind(document);
document.dispatchEvent = (event) => (event.type === 'page:ready' ? Boolean((window.held = event)) : dispatch(event));
window.release = () => dispatch(window.held);
"""


def list_chips(page: Page) -> list[str]:
    return page.locator("#chips .chip span").all_inner_texts()


def test_every_condition_is_a_chip_while_the_panel_is_folded(open_page: OpenPage) -> None:
    page = open_page("?q=red&not=blue&from=2019年8月&shape=landscape&prompt=no&kind=image&pixels=1000")
    assert list_chips(page) == [
        "除外する言葉：blue", "登録日時：2019年8月以降", "向き：横長", "画像生成プロンプト：なし", "種類：画像",
        "大きさ（以上）：0.001 MP",
    ]  # fmt: skip
    expect(page.locator("#filters")).to_be_hidden()


def test_chip_is_taken_out_by_its_cross_with_the_keyboard(open_page: OpenPage) -> None:
    page = open_page("?q=red&from=2019&not=blue")
    expect(page.locator("#chips .chip")).to_have_count(2)
    page.get_by_role("button", name="条件「登録日時：2019以降」を外す").press("Enter")
    expect(page).to_have_url(re.compile(r"\?q=red&not=blue$"))
    expect(page.locator(".tile").first).to_be_visible()
    expect(page.locator("#chips button")).to_be_focused()
    page.go_back()
    expect(page.locator("#chips .chip")).to_have_count(2)


def test_similar_ones_keep_the_conditions_and_drop_the_words(open_page: OpenPage) -> None:
    page = open_page("?q=red&shape=landscape&not=blue")
    page.locator(".tile").first.focus()
    page.keyboard.press("s")
    expect(page).to_have_url(re.compile(r"\?shape=landscape&not=blue&like=\d+$"))
    expect(page.locator("#chips .chip").first).to_contain_text("似ている画像")
    expect(page.locator("#chips .chip")).to_have_count(3)


def test_query_image_is_a_chip(open_page: OpenPage, folder: Path) -> None:
    page = open_page()
    choose_query_image(page, folder / "pictures" / "picture07.png")
    expect(page.locator("#chips .chip img")).to_have_count(1)
    page.locator("#chips button").click()
    expect(page.locator("#chips")).to_be_hidden()
    expect(page.locator("#picture img")).to_have_count(0)


def test_date_that_is_none_is_said(open_page: OpenPage) -> None:
    page = open_page("?from=いつか")
    expect(page.locator("#ignored")).to_contain_text("「いつか」は日付として読めない")
    expect(page.locator(".chip.ignored")).to_have_count(1)
    page.locator("#chips button").click()
    expect(page.locator("#ignored")).to_be_empty()


def test_condition_of_an_unknown_name_is_said_to_be_words(open_page: OpenPage) -> None:
    page = open_page("?q=kamera:sony")
    expect(page.locator("#ignored")).to_have_text("「kamera：」という条件はないため、言葉として検索しました。")
    expect(page.locator(".tile").first).to_be_visible()


def test_values_are_chosen_with_their_counts(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#filters-toggle").click()
    kind = page.locator("#filters [name=kind]")
    expect(kind.locator("option").nth(1)).to_have_text("画像 (20)")
    kind.select_option("image")
    expect(page).to_have_url(re.compile("kind=image"))
    assert list_chips(page) == ["種類：画像"]


def test_condition_that_no_image_can_meet_is_not_offered(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#filters-toggle").click()
    expect(page.locator("#filters [name=kind] option").nth(1)).to_have_text("画像 (20)")
    expect(page.locator("#filters [name=type]")).to_be_visible()
    expect(page.locator("#filters [name=lora]")).to_be_hidden()
    page.goto(page.url.split("?")[0] + "?lora=ink")
    page.locator("#filters-toggle").click()
    expect(page.locator("#filters [name=lora]")).to_have_value("ink")


def test_typed_conditions_become_chips_and_leave_the_box(open_page: OpenPage) -> None:
    page = open_page()
    box = page.locator("#text textarea, #text input")
    box.fill('red -犬 －"青い 空" "picture" カメラ：nikon ２０１９年８月 rating:4')
    box.press("Enter")
    expect(page.locator("#chips .chip")).to_have_count(6)
    assert list_chips(page) == [
        "必ず含む言葉：picture", "除外する言葉：犬", "除外する言葉：青い 空", "撮影日時：2019年8月", "カメラ：nikon",
        "評価（以上）：★★★★",
    ]  # fmt: skip
    expect(box).to_have_value("red")
    expect(page.locator("#message")).to_contain_text("条件に合う画像はありません")
    for _ in range(6):
        page.locator("#chips button").last.click()
    expect(page).to_have_url(re.compile(r"\?q=red$"))
    expect(page.locator(".tile").first).to_be_visible()


def test_one_exclusion_is_taken_out_and_the_other_stays(open_page: OpenPage) -> None:
    page = open_page("?q=" + quote("red -青 -緑"))
    expect(page.locator("#chips .chip")).to_have_count(2)
    expect(page.locator("#text textarea, #text input")).to_have_value("red")
    page.get_by_role("button", name="条件「除外する言葉：青」を外す").click()
    expect(page.locator("#chips .chip")).to_have_count(1)
    assert list_chips(page) == ["除外する言葉：緑"]


def test_typed_conditions_leave_the_box_of_a_page_that_was_still_opening(open_page: OpenPage) -> None:
    page = open_page()
    page.add_init_script(HOLD_READY)
    page.reload()
    page.wait_for_function("window.held")
    box = page.locator("#text textarea, #text input")
    box.fill("red -犬")
    box.press("Enter")
    expect(page.locator("#chips .chip")).to_have_count(1)
    page.evaluate("release()")
    expect(box).to_have_value("red")


def test_typed_value_that_means_nothing_is_said(open_page: OpenPage) -> None:
    page = open_page()
    box = page.locator("#text textarea, #text input")
    box.fill("red rating:9")
    box.press("Enter")
    expect(page.locator(".chip.ignored")).to_have_count(1)
    expect(page.locator("#ignored")).to_contain_text("「9」は解釈できない")


PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def test_panel_on_a_phone_is_a_sheet_that_leaves_the_images_in_their_place(open_page: OpenPage) -> None:
    page = open_page("?order=name", **PHONE)
    expect(page.locator("#notice")).to_be_hidden()  # of the model that is loading
    place = page.locator("#grid").bounding_box()
    page.locator("#filters-toggle").tap()
    sheet = page.get_by_role("dialog", name="絞り込み")
    expect(sheet).to_be_visible()
    assert page.locator("#grid").bounding_box() == place
    expect(sheet.get_by_role("button", name="閉じる")).to_be_focused()
    sheet.locator("[name=kind]").select_option("image")
    expect(page).to_have_url(re.compile("kind=image"))
    expect(sheet).to_be_visible()
    sheet.locator("[name=shape]").select_option("portrait")
    expect(page.locator("#message")).to_contain_text("条件に合う画像はありません")
    page.go_back()
    sheet.get_by_role("button", name="20枚を表示").tap()
    expect(sheet).to_be_hidden()
    expect(page.locator("#filters-toggle")).to_be_focused()
    expect(page.locator("#filters-toggle")).to_have_attribute("aria-expanded", "false")
    assert page.locator(".tile").first.bounding_box()["y"] < 260


def test_sheet_is_closed_by_escape_by_a_tap_beside_it_and_by_leaving_the_search(open_page: OpenPage) -> None:
    page = open_page("?order=name", **PHONE)
    sheet = page.get_by_role("dialog", name="絞り込み")
    page.locator("#tabs a[data-tab=library]").tap()
    page.locator("#tabs a[data-tab=search]").tap()
    for close in (
        lambda: page.keyboard.press("Escape"),
        lambda: page.touchscreen.tap(200, 40),
        lambda: page.evaluate("history.back()"),
    ):
        page.locator("#filters-toggle").tap()
        expect(sheet).to_be_visible()
        close()
        expect(sheet).to_be_hidden()
    expect(page.locator("#library-page")).to_be_visible()
    page.locator("#tabs a[data-tab=search]").tap()  # nothing lies over it any more
    expect(page.locator("#search-page")).to_be_visible()


IS_ON_TOP = """(node) => {
  const { x, y, width, height } = node.getBoundingClientRect();
  return node.contains(document.elementFromPoint(x + width / 2, y + height / 2));
}"""


def test_message_is_seen_over_the_sheet(open_page: OpenPage) -> None:
    page = open_page("?order=name", **PHONE)
    page.locator("#filters-toggle").tap()
    file = {"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"}
    page.locator("#excluded-file").set_input_files([file])
    toast = page.locator("#toasts .toast")
    expect(toast).to_be_visible()
    assert toast.evaluate(IS_ON_TOP)


def test_panel_on_a_wide_window_stands_above_the_images_and_takes_no_focus(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    page.locator("#filters-toggle").click()
    expect(page.locator("#filters")).to_be_visible()
    expect(page.locator("#filters-toggle")).to_be_focused()
    expect(page.get_by_role("button", name="20枚を表示")).to_be_hidden()
    panel, grid = page.locator("#filters").bounding_box(), page.locator("#grid").bounding_box()
    assert panel["y"] + panel["height"] <= grid["y"]
    page.locator("#filters-toggle").click()
    expect(page.locator("#filters")).to_be_hidden()


def test_number_beside_filters_is_that_of_the_chips(open_page: OpenPage) -> None:
    page = open_page("?date=taken&from=2024-12&to=2024-01")
    expect(page.locator("#message")).to_contain_text("開始日が終了日より後になっています")
    expect(page.locator("#chips .chip")).to_have_count(2)
    expect(page.locator("#filters-toggle")).to_have_attribute("data-count", "2")
    expect(page).to_have_title("撮影日時：2024-12以降 - 類似画像検索")
    page.goto(page.url.split("?")[0] + "?date=taken&from=2024-01&to=2024-01&shape=landscape")
    expect(page.locator("#chips .chip")).to_have_count(2)
    expect(page.locator("#filters-toggle")).to_have_attribute("data-count", "2")


def test_words_with_double_blanks_and_odd_characters_are_searched(open_page: OpenPage) -> None:
    page = open_page()
    box = page.locator("#text textarea, #text input")
    box.fill("red  fox")
    box.press("Enter")
    page.locator("body:not(.asking) #heading[data-address*=red]").wait_for()
    expect(page).to_have_title("red fox - 類似画像検索")
    for odd in ("%00", "%ff", "a%0A%0Ab"):
        page.goto(page.url.split("?")[0] + f"?q={odd}")
        expect(page.locator("#grid .tile").first).to_be_visible()
        expect(box).to_be_visible()


def test_address_of_no_image_opens_none(open_page: OpenPage) -> None:
    for image in ("99999999999999999999", "-3", "1.5", "x"):
        page = open_page(f"?image={image}")
        expect(page.locator("#grid .tile").first).to_be_visible()
        expect(page.locator(".pswp, .toast")).to_have_count(0)
