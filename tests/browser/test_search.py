"""Searching in a real browser: words with pictures, what to leave out, conditions, similar ones, and addresses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, TimeoutError, expect

from tests.fakes.browsing import (
    OpenPage,
    choose_picture,
    list_names,
    paste_files,
    search_words,
)


def open_details(page: Page) -> None:
    # Fields that are still being put up when the values have been counted are filled once more by Gradio.
    with page.expect_response("**/gradio_api/run/**"):
        page.locator("#details button").first.click()
    page.locator("#excluded").wait_for()
    page.wait_for_timeout(300)


def test_words_and_a_picture_are_asked_together(open_page: OpenPage, folder: Path) -> None:
    page = open_page()
    choose_picture(page, folder / "pictures" / "picture07.png")
    expect(page.locator("#summary")).to_contain_text("検索結果")
    alone = page.locator(".tile .distance").first.inner_text()
    search_words(page, "狐")
    expect(page.locator(".tile .distance").first).not_to_have_text(alone)
    expect(page.locator("#picture img")).to_have_count(1)


def test_words_to_leave_out_change_the_order_and_stand_in_the_address(open_page: OpenPage) -> None:
    page = open_page("?q=red")
    before = page.locator(".tile .distance").all_inner_texts()
    open_details(page)
    excluded = page.locator("#excluded textarea, #excluded input")
    excluded.fill("blue")
    excluded.press("Enter")
    expect(page).to_have_url(re.compile("not=blue"))
    assert page.locator(".tile .distance").all_inner_texts() != before


def test_images_named_in_words_carry_a_mark(open_page: OpenPage) -> None:
    page = open_page("?q=狐")
    expect(page.locator(".tile").first.locator(".badge")).to_have_text("両方")
    expect(page.locator(".tile").nth(1).locator(".badge")).to_have_text("意味")
    search_words(page, "738268214")
    expect(page.locator(".tile .name").first).to_have_text("picture03.png")
    search_words(page, '"fox in the snow"')
    expect(page.locator(".tile")).to_have_count(1)


def test_similar_ones_are_one_click_away_and_leave_the_picture_itself_out(open_page: OpenPage) -> None:
    page = open_page()
    place = page.locator(".tiles li").nth(2)
    place.hover()
    place.locator(".similar").click()
    expect(page.locator("#summary")).to_contain_text("似ている画像")
    expect(page.locator("#picture img")).to_have_count(1)
    assert "picture17.png" not in list_names(page)
    expect(page).to_have_url(re.compile(r"like=\d+"))


def test_similar_ones_are_one_key_away(open_page: OpenPage) -> None:
    page = open_page()
    page.locator(".tile").first.focus()
    page.keyboard.press("s")
    expect(page.locator("#summary")).to_contain_text("似ている画像")
    page.locator(".tile").first.click()
    name = page.locator("dialog[open] .file_name dd").inner_text()
    page.keyboard.press("s")
    expect(page.locator("dialog[open]")).to_have_count(0)
    expect(page.locator(".tile .name", has_text=name)).to_have_count(0)


def test_words_added_to_a_similar_search_keep_the_picture(open_page: OpenPage) -> None:
    page = open_page("?like=3")
    expect(page.locator("#summary")).to_contain_text("似ている画像")
    search_words(page, "狐")
    expect(page).to_have_url(re.compile(r"q=.*like=3"))
    page.locator("#picture button[aria-label], #picture .icon-button").first.click()
    expect(page).to_have_url(re.compile(r"\?q=[^&]*$"))


def test_a_condition_narrows_every_search_and_says_so(open_page: OpenPage) -> None:
    page = open_page("?prompt=yes")
    assert list_names(page) == ["picture03.png"]
    expect(page.locator("#summary")).to_contain_text("絞り込み中")
    search_words(page, "red")
    assert list_names(page) == ["picture03.png"]
    page.goto(page.url.split("?")[0] + "?shape=portrait")
    expect(page.locator("#results")).to_contain_text("条件に合う画像はありません")


def test_values_are_offered_with_their_counts_under_the_other_conditions(open_page: OpenPage) -> None:
    page = open_page()
    open_details(page)
    choose(page, "ファイルの種類", "image/png (20)")
    expect(page).to_have_url(re.compile("type=image%2Fpng"))
    expect(page.locator(".tile")).to_have_count(16)
    choose(page, "画像生成プロンプト", "あり (1)")
    expect(page.locator(".tile")).to_have_count(1)
    choose(page, "向き", "縦長 (0)")
    expect(page.locator("#results")).to_contain_text("条件に合う画像はありません")
    choose(page, "向き", "横長 (1)")
    expect(page.locator(".tile")).to_have_count(1)
    choose(page, "画像生成プロンプト", "すべて")
    expect(page.locator(".tile")).to_have_count(16)


def choose(page: Page, field: str, option: str) -> None:
    """Open a field until it offers an option, which is counted behind the search, and choose it."""
    box = page.get_by_label(field, exact=True)
    choice = page.get_by_role("option", name=option, exact=True)

    def is_offered() -> bool:
        box.click()
        try:
            choice.wait_for(timeout=1_000)
        except TimeoutError:
            box.press("Escape")
            box.blur()
            return False
        return True

    expect(page.get_by_role("option")).to_have_count(0)  # the list of the field before fades away
    assert any(is_offered() for _ in range(15)), option
    choice.click()


def test_a_picture_to_leave_out_changes_the_order_until_it_is_taken_out(open_page: OpenPage, folder: Path) -> None:
    page = open_page("?q=red")
    before = page.locator(".tile .distance").all_inner_texts()
    open_details(page)
    page.set_input_files("#excluded-picture input[type=file]", folder / "pictures" / "picture03.png")
    expect(page.locator(".tile .distance").first).not_to_have_text(before[0])
    expect(page.locator("#excluded-picture img")).to_have_count(1)
    expect(page.locator("#picture img")).to_have_count(0)
    page.locator("#excluded-picture .icon-button-wrapper button").first.click()
    expect(page.locator(".tile .distance").first).to_have_text(before[0])


def test_a_picture_pasted_anywhere_is_searched_with_and_another_takes_its_place(
    open_page: OpenPage, folder: Path
) -> None:
    page = open_page()
    for name in ("picture07.png", "picture12.png"):
        paste_files(page, {"image.png": (folder / "pictures" / name).read_bytes()})
        expect(page.locator(".tile .name").first).to_have_text(name)
        expect(page.locator("#picture img")).to_have_count(1)


def test_an_address_opens_its_search_and_back_goes_back(open_page: OpenPage) -> None:
    page = open_page("?q=red")
    expect(page.locator("#text textarea, #text input")).to_have_value("red")
    expect(page.locator("#summary")).to_contain_text("検索結果")
    red = list_names(page)
    search_words(page, "blue")
    expect(page).to_have_url(re.compile(r"\?q=blue$"))
    page.go_back()
    expect(page.locator("#text textarea, #text input")).to_have_value("red")
    expect(page.locator(".tile .name").first).to_have_text(red[0])
    assert list_names(page) == red
    page.locator("#clear").click()
    expect(page).not_to_have_url(re.compile(r"\?"))


def test_an_address_of_a_picture_that_is_gone_says_so(open_page: OpenPage) -> None:
    page = open_page("?like=9999")
    expect(page.locator("#results .problem")).to_contain_text("この画像は削除されています")


def test_markup_in_an_address_stays_text(open_page: OpenPage) -> None:
    page = open_page('?q=<img src=x onerror=alert(1)>&folder="><script>alert(2)</script>')
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    page.wait_for_timeout(300)
    expect(page.locator("#results")).to_contain_text("条件に合う画像はありません")
