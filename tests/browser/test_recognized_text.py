"""Text inside an image in a real browser: a sign is found by its words, framed, marked, selected and copied."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from image_search.records import RecognizedText, TextLine
from image_search.stores import open_store
from tests.fakes.browsing import OpenPage, fill_library, search_words, serve_page

LINES = (
    TextLine("ポイ捨て", 0.98, (0.2, 0.1, 0.8, 0.3)),
    TextLine("禁止", 0.97, (0.35, 0.35, 0.65, 0.5)),
    TextLine("DO NOT LITTER", 0.99, (0.1, 0.6, 0.9, 0.7)),
    TextLine("ごみは持ち帰り", 0.95, (0.92, 0.1, 0.98, 0.9)),  # vertical
    TextLine("幻", 0.3, (0.0, 0.9, 0.05, 0.95)),  # too doubtful to be shown
)


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    settings = fill_library(folder)
    with open_store(settings) as store:
        [sign] = store.list_images(["picture05.png"])
        shown = "\n".join(line.text for line in LINES[:-1])
        store.set_recognized(sign.image_id, RecognizedText("reader 1", shown, LINES))
    with serve_page(settings.database_url) as address:
        yield address


def open_sign(page: Page) -> Locator:
    """The layer of text over the sign, opened from the search for its words."""
    search_words(page, "ポイ捨て禁止")
    tile = page.locator("#grid .tile", has=page.locator(".text-mark:visible"))
    expect(tile).to_have_count(1)
    expect(tile.locator(".name")).to_have_text("picture05.png")
    tile.click()
    layer = page.locator(".text-layer")
    expect(layer.locator(".line")).to_have_count(4)
    return layer


def expect_frames_on_image(page: Page) -> None:
    image = page.locator(".pswp__item[aria-hidden=false] .pswp__img").last.bounding_box()
    for node, line in zip(page.locator(".text-layer .line").all(), LINES[:-1], strict=True):
        frame = node.bounding_box()
        words = node.locator("span").bounding_box()
        left, top, right, bottom = line.box
        assert image and frame and words
        assert frame["x"] == pytest.approx(image["x"] + left * image["width"], abs=2)
        assert frame["y"] == pytest.approx(image["y"] + top * image["height"], abs=2)
        assert frame["width"] == pytest.approx((right - left) * image["width"], abs=2)
        assert frame["height"] == pytest.approx((bottom - top) * image["height"], abs=2)
        along = "height" if "vertical" in (node.get_attribute("class") or "") else "width"
        assert words[along] == pytest.approx(frame[along], abs=3)


def test_sign_is_found_by_its_words_and_its_text_is_framed_and_copied(open_page: OpenPage) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    layer = open_sign(page)
    expect(page.locator(".text-mark:visible")).to_have_text("文字")
    assert layer.locator("mark").all_text_contents() == ["ポイ捨て", "禁止"]
    expect(layer).not_to_have_class("text-layer shown")
    expect(page.locator(".copy-text")).to_be_hidden()
    page.keyboard.press("t")
    expect(layer).to_have_class("text-layer shown")
    expect_frames_on_image(page)
    expect(page.locator(".facts-panel [data-text=recognized]")).to_have_text(
        "ポイ捨て\n禁止\nDO NOT LITTER\nごみは持ち帰り"
    )
    layer.locator(".line").nth(2).click(click_count=3)
    assert page.evaluate("getSelection().toString().trim()") == "DO NOT LITTER"
    page.keyboard.press("ControlOrMeta+c")
    assert page.evaluate("navigator.clipboard.readText()").strip() == "DO NOT LITTER"
    page.get_by_role("button", name="文字をすべてコピー").click()
    page.wait_for_function("navigator.clipboard.readText().then((text) => text.startsWith('ポイ捨て'))")
    assert page.evaluate("navigator.clipboard.readText()") == "ポイ捨て\n禁止\nDO NOT LITTER\nごみは持ち帰り"
    expect(page.locator(".pswp")).to_be_visible()


def test_frames_follow_zoom_and_pan_and_the_next_image_has_none(open_page: OpenPage) -> None:
    page = open_page()
    layer = open_sign(page)
    page.locator(".pswp__button--text").click()
    before = layer.locator(".line").first.bounding_box()
    page.keyboard.press("z")
    page.wait_for_timeout(600)
    expect_frames_on_image(page)
    zoomed = layer.locator(".line").first.bounding_box()
    assert before and zoomed and zoomed["width"] > before["width"] * 1.5
    page.mouse.move(300, 650)
    page.mouse.down()
    page.mouse.move(360, 690, steps=5)
    page.mouse.up()
    page.wait_for_timeout(600)
    expect_frames_on_image(page)
    page.keyboard.press("z")
    page.wait_for_timeout(600)
    page.keyboard.press("i")
    expect_frames_on_image(page)
    page.keyboard.press("ArrowRight")
    expect(page.locator(".text-layer")).to_have_count(0)
    expect(page.locator(".pswp__button--text")).to_be_hidden()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".text-layer.shown .line")).to_have_count(4)
    page.keyboard.press("t")
    expect(page.locator(".text-layer.shown")).to_have_count(0)


def test_frames_fit_a_dark_phone(open_page: OpenPage) -> None:
    page = open_page(viewport={"width": 390, "height": 844}, color_scheme="dark", has_touch=True, locale="en-US")
    layer = open_sign(page)
    expect(page.locator(".text-mark:visible")).to_have_text("Text in picture")
    page.locator(".pswp__button--text").tap()
    expect(layer).to_have_class("text-layer shown")
    expect_frames_on_image(page)
    expect(page.get_by_role("button", name="Copy all text")).to_be_in_viewport()
    for button in page.locator(".pswp__top-bar button:visible").all():
        box = button.bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= 390
    expect(page.locator(".pswp")).to_be_visible()


def test_library_tab_reads_all_text_and_forgets_it(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#tabs a[data-tab=library]").click()
    page.get_by_role("button", name="画像内の文字を読み取る").click()
    job = page.locator("#job-list li").first
    expect(job).to_contain_text("画像内の文字の読み取り")
    expect(job.locator(".state")).to_have_text("完了", timeout=120_000)
    expect(job.locator(".facts")).to_have_text("読み取り20枚")  # the one that reader 1 had read is plain for this one
    page.get_by_role("button", name="読み取った文字を消去").click()
    page.locator("#confirm [value=yes]").click()
    expect(page.locator("#job-list li").first.locator(".facts")).to_have_text("読み取った文字を消去しました")
    search = page.locator("#tabs a[data-tab=search]")
    search.click()
    search_words(page, "ポイ捨て禁止")
    expect(page.locator(".text-mark:visible")).to_have_count(0)
