"""Searching in a real browser: words with images, exclusions, conditions, similar ones, and addresses."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from image_search.file_kinds import register_decoders
from tests.fakes.browsing import (
    OpenPage,
    choose_query_image,
    list_names,
    paste_files,
    search_words,
    wait_for_answer,
)


def show_distances(page: Page) -> None:
    page.locator("#details-toggle").click()


def open_filters(page: Page) -> None:
    with page.expect_response("**/ui/facets*"):
        page.locator("#filters-toggle").click()


def test_words_and_an_image_are_asked_together(open_page: OpenPage, folder: Path) -> None:
    page = open_page()
    show_distances(page)
    choose_query_image(page, folder / "pictures" / "picture07.png")
    wait_for_answer(page, "picture=")
    alone = page.locator(".tile .distance").first.inner_text()
    assert float(alone) == pytest.approx(-1, abs=1e-3)
    search_words(page, "狐", also="picture=")
    expect(page.locator(".tile .distance").first).not_to_have_text(alone)
    expect(page.locator("#picture img")).to_have_count(1)


def test_words_to_leave_out_change_the_order_and_stand_in_the_address(open_page: OpenPage) -> None:
    page = open_page("?q=red")
    show_distances(page)
    before = page.locator(".tile .distance").all_inner_texts()
    open_filters(page)
    excluded = page.locator("#filters [name=not]")
    excluded.fill("blue")
    excluded.press("Enter")
    wait_for_answer(page, "q=red&not=blue")
    assert page.locator(".tile .distance").all_inner_texts() != before


def test_images_named_in_words_carry_a_mark(open_page: OpenPage) -> None:
    page = open_page("?q=狐")
    show_distances(page)
    expect(page.locator(".tile").first.locator(".badge")).to_have_text("意味と語句")
    expect(page.locator(".tile").nth(1).locator(".badge")).to_have_text("意味")
    search_words(page, "738268214")
    expect(page.locator(".tile .name").first).to_have_text("picture03.png")
    text = page.locator("#text textarea, #text input")
    text.fill('"fox in the snow"')
    text.press("Enter")
    wait_for_answer(page, "phrase=")
    expect(page.locator(".tile")).to_have_count(1)


def test_similar_ones_are_one_click_away_and_leave_the_image_itself_out(open_page: OpenPage) -> None:
    page = open_page()
    place = page.locator("#grid li").nth(2)
    place.hover()
    place.locator(".similar").click()
    expect(page.locator("#heading")).to_have_text("似ている画像")
    expect(page.locator("#picture img")).to_have_count(1)
    assert "picture17.png" not in list_names(page)
    expect(page).to_have_url(re.compile(r"like=\d+"))


def test_words_added_to_a_similar_search_keep_the_image(open_page: OpenPage) -> None:
    page = open_page("?like=3")
    expect(page.locator("#heading")).to_have_text("似ている画像")
    expect(page.locator("#picture img")).to_have_count(1)
    search_words(page, "狐", also="like=3")
    expect(page).to_have_url(re.compile(r"like=3"))
    page.locator("#picture .icon-button-wrapper button").first.click()
    expect(page).to_have_url(re.compile(r"\?q=[^&]*$"))


def test_condition_narrows_every_search(open_page: OpenPage) -> None:
    page = open_page("?prompt=yes")
    assert list_names(page) == ["picture03.png"]
    search_words(page, "red", also="prompt=yes")
    assert list_names(page) == ["picture03.png"]
    page.goto(page.url.split("?")[0] + "?shape=portrait")
    expect(page.locator("#message")).to_contain_text("条件に合う画像はありません")


def test_values_are_offered_with_their_counts_under_the_other_conditions(open_page: OpenPage) -> None:
    page = open_page()
    open_filters(page)
    choose(page, "type", "image/png (20)")
    wait_for_answer(page, "type=image%2Fpng")
    choose(page, "prompt", "あり (1)")
    expect(page.locator(".tile")).to_have_count(1)
    choose(page, "shape", "縦長 (0)")
    expect(page.locator("#message")).to_contain_text("条件に合う画像はありません")
    choose(page, "shape", "横長 (1)")
    expect(page.locator(".tile")).to_have_count(1)
    choose(page, "prompt", "すべて")
    expect(page.locator(".tile")).to_have_count(16)


def choose(page: Page, field: str, option: str) -> None:
    """Choose an option, which is counted behind the search."""
    box = page.locator(f"#filters [name={field}]")
    expect(box.locator("option", has_text=option)).to_be_attached()
    box.select_option(label=option)


def test_image_pasted_anywhere_is_searched_with_and_another_takes_its_place(open_page: OpenPage, folder: Path) -> None:
    page = open_page()
    for name in ("picture07.png", "picture12.png"):
        paste_files(page, {"image.png": (folder / "pictures" / name).read_bytes()})
        expect(page.locator(".tile .name").first).to_have_text(name)
        expect(page.locator("#picture img")).to_have_count(1)


def test_address_opens_its_search_and_back_goes_back(open_page: OpenPage) -> None:
    page = open_page("?q=red")
    expect(page.locator("#text textarea, #text input")).to_have_value("red")
    expect(page.locator("#heading")).to_have_text("検索結果")
    red = list_names(page)
    search_words(page, "blue")
    expect(page).to_have_url(re.compile(r"\?q=blue$"))
    page.go_back()
    expect(page.locator("#text textarea, #text input")).to_have_value("red")
    wait_for_answer(page, "q=red")
    assert list_names(page) == red
    page.locator("#clear").click()
    expect(page).not_to_have_url(re.compile(r"\?"))


def test_similar_ones_of_an_image_that_is_gone_say_so(open_page: OpenPage) -> None:
    page = open_page("?like=9999")
    expect(page.locator("#message .problem")).to_contain_text("この画像は削除されています")


def test_markup_in_an_address_stays_text(open_page: OpenPage) -> None:
    page = open_page('?q=<img src=x onerror=alert(1)>&folder="><script>alert(2)</script>')
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    page.wait_for_timeout(300)
    expect(page.locator("#message")).to_contain_text("条件に合う画像はありません")


def test_heic_image_that_the_browser_does_not_call_one_is_searched_with(open_page: OpenPage, folder: Path) -> None:
    register_decoders()
    file = io.BytesIO()
    Image.open(folder / "pictures" / "picture07.png").convert("RGB").save(file, "HEIF", quality=90)
    page = open_page()
    payload = {"name": "photo.heic", "mimeType": "application/octet-stream", "buffer": file.getvalue()}
    page.set_input_files("#picture input[type=file]", payload)  # type: ignore[arg-type]
    expect(page.locator(".tile .name").first).to_have_text("picture07.png")
    page.locator("#clear").click()
    expect(page.locator("#picture input[type=file]")).to_have_count(1)
    page.evaluate(_DROP, ["photo.heic", list(file.getvalue())])
    expect(page).to_have_url(re.compile("picture="))
    expect(page.locator(".tile .name").first).to_have_text("picture07.png")
    expect(page.locator("#drop-overlay")).to_be_hidden()


_DROP = """([name, bytes]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], name, { type: '' }));
  const target = document.querySelector('#picture button, #picture');
  for (const type of ['dragenter', 'dragover', 'drop'])
    target.dispatchEvent(new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""
