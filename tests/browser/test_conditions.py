"""Conditions in a real browser: each is a chip that can be taken out, and nothing typed is passed over in silence."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Page, expect

from tests.fakes.browsing import OpenPage, choose_picture


def list_chips(page: Page) -> list[str]:
    return page.locator("#chips .chip span").all_inner_texts()


def test_every_condition_is_a_chip_while_the_panel_is_folded(open_page: OpenPage) -> None:
    page = open_page("?q=red&not=blue&from=2019年8月&shape=landscape&prompt=no&kind=image&pixels=1000")
    assert list_chips(page) == [
        "除外する言葉: blue", "登録日時 開始日: 2019年8月", "向き: 横長", "画像生成プロンプト: なし", "種類: 画像",
        "大きさ（以上）: 0.001 MP",
    ]  # fmt: skip
    expect(page.locator("#filters")).to_be_hidden()


def test_a_chip_is_taken_out_by_its_cross_with_the_keyboard(open_page: OpenPage) -> None:
    page = open_page("?q=red&from=2019&not=blue")
    expect(page.locator("#chips .chip")).to_have_count(2)
    page.get_by_role("button", name="条件「登録日時 開始日: 2019」を外す").press("Enter")
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


def test_the_query_picture_is_a_chip(open_page: OpenPage, folder: Path) -> None:
    page = open_page()
    choose_picture(page, folder / "pictures" / "picture07.png")
    expect(page.locator("#chips .chip img")).to_have_count(1)
    page.locator("#chips button").click()
    expect(page.locator("#chips")).to_be_hidden()
    expect(page.locator("#picture img")).to_have_count(0)


def test_a_date_that_is_none_is_said(open_page: OpenPage) -> None:
    page = open_page("?from=いつか")
    expect(page.locator("#ignored")).to_contain_text("「いつか」は日付として読めない")
    expect(page.locator(".chip.ignored")).to_have_count(1)
    page.locator("#chips button").click()
    expect(page.locator("#ignored")).to_be_empty()


def test_values_are_chosen_with_their_counts(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#filters-toggle").click()
    kind = page.locator("#filters [name=kind]")
    expect(kind.locator("option").nth(1)).to_have_text("画像 (20)")
    kind.select_option("image")
    expect(page).to_have_url(re.compile("kind=image"))
    assert list_chips(page) == ["種類: 画像"]


def test_a_condition_that_no_image_can_meet_is_not_offered(open_page: OpenPage) -> None:
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
        "必ず含む言葉: picture", "除外する言葉: 犬", "除外する言葉: 青い 空", "撮影日時: 2019年8月", "カメラ: nikon",
        "評価（以上）: ★★★★",
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
    page.get_by_role("button", name="条件「除外する言葉: 青」を外す").click()
    expect(page.locator("#chips .chip")).to_have_count(1)
    assert list_chips(page) == ["除外する言葉: 緑"]


def test_a_typed_value_that_means_nothing_is_said(open_page: OpenPage) -> None:
    page = open_page()
    box = page.locator("#text textarea, #text input")
    box.fill("red rating:9")
    box.press("Enter")
    expect(page.locator(".chip.ignored")).to_have_count(1)
    expect(page.locator("#ignored")).to_contain_text("「9」は解釈できない")
