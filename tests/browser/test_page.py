"""The page in a real browser: real clicks, real keys, the real program in a process of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.fakes.browsing import (
    OpenPage,
    choose_query_image,
    hold_answers,
    list_names,
    search_words,
    serve_page,
)


def test_newest_sixteen_are_there_at_the_start(open_page: OpenPage) -> None:
    page = open_page()
    assert list_names(page) == [f"picture{number:02}.png" for number in range(19, 3, -1)]
    expect(page.locator("#heading")).to_have_text("新着画像")
    expect(page.locator("#count")).to_have_text("20枚")
    image = page.locator(".tile img").first
    page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=image.element_handle())


def test_words_and_enter_find_sixteen_best_first(open_page: OpenPage) -> None:
    page = open_page()
    search_words(page, "狐")
    expect(page.locator("#heading")).to_have_text("検索結果")
    names = list_names(page)
    assert len(names) == 16
    assert names[0] == "picture03.png"  # its caption has the word
    expect(page).to_have_title("狐 - 類似画像検索")


def test_distances_and_times_are_behind_a_switch_that_lasts(open_page: OpenPage) -> None:
    page = open_page("?q=red")
    expect(page.locator(".tile .distance").first).to_be_hidden()
    expect(page.locator("#timing")).to_be_hidden()
    page.locator("#details-toggle").click()
    expect(page.locator(".tile .distance").first).to_have_text(re.compile(r"-0\.\d{4}"))
    expect(page.locator("#timing")).to_contain_text("符号化")
    page.reload()
    expect(page.locator(".tile .distance").first).to_be_visible()


def test_portraits_are_shown_whole_or_as_squares(open_page: OpenPage) -> None:
    page = open_page()
    whole = page.locator(".tile").first.bounding_box()
    assert whole["width"] / whole["height"] == pytest.approx(240 / 180, abs=0.02)
    page.locator("#layout-toggle").click()
    square = page.locator(".tile").first.bounding_box()
    assert square["width"] == pytest.approx(square["height"], abs=1)


def test_uploaded_image_is_found_first_and_survives_reload_and_back(open_page: OpenPage, folder: Path) -> None:
    page = open_page()
    choose_query_image(page, folder / "pictures" / "picture07.png")
    expect(page).to_have_url(re.compile(r"\?picture=[0-9a-f]{32}$"))
    expect(page.locator(".tile .name").first).to_have_text("picture07.png")
    page.reload()
    expect(page.locator("#picture img")).to_have_count(1)
    expect(page.locator(".tile .name").first).to_have_text("picture07.png")
    search_words(page, "red")
    page.go_back()
    expect(page.locator("#picture img")).to_have_count(1)
    page.go_back()
    expect(page.locator("#picture img")).to_have_count(0)
    expect(page.locator("#heading")).to_have_text("新着画像")


def test_clear_empties_words_and_image_and_shows_the_newest(open_page: OpenPage, folder: Path) -> None:
    page = open_page()
    choose_query_image(page, folder / "pictures" / "picture07.png")
    expect(page.locator("#heading")).to_have_text("検索結果")
    search_words(page, "red")
    page.locator("#clear").click()
    expect(page.locator("#heading")).to_have_text("新着画像")
    expect(page.locator("#text textarea, #text input")).to_have_value("")
    expect(page.locator("#picture img")).to_have_count(0)
    assert list_names(page)[0] == "picture19.png"


def test_words_typed_while_the_page_opens_or_is_cleared_stay(open_page: OpenPage) -> None:
    page = open_page()
    box = page.locator("#text textarea, #text input")
    with hold_answers(page):
        page.reload()
        box.fill("green")
    expect(page.locator(".tile")).to_have_count(16)
    expect(box).to_have_value("green")
    search_words(page, "blue")
    with hold_answers(page):
        page.locator("#clear").click()
        expect(box).to_have_value("")
        box.fill("red")
    expect(page.locator("#heading")).to_have_text("新着画像")
    expect(box).to_have_value("red")


def test_file_that_is_no_image_is_refused_in_words(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    (tmp_path / "broken.png").write_bytes(b"no picture at all")
    choose_query_image(page, tmp_path / "broken.png")
    expect(page.locator("#toasts")).to_contain_text("この画像は読み込めません")
    expect(page.locator("#toasts")).to_contain_text("broken.png")
    expect(page.locator("#picture img")).to_have_count(0)
    expect(page.locator(".tile")).to_have_count(16)


def test_input_method_that_confirms_with_enter_does_not_search(open_page: OpenPage) -> None:
    page = open_page()
    box = page.locator("#text textarea, #text input")
    box.focus()
    session = page.context.new_cdp_session(page)
    session.send("Input.imeSetComposition", {"text": "きつね", "selectionStart": 3, "selectionEnd": 3})
    confirm = {"key": "Process", "code": "Enter", "windowsVirtualKeyCode": 229, "nativeVirtualKeyCode": 229}
    session.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **confirm})
    session.send("Input.insertText", {"text": "狐"})
    page.wait_for_timeout(500)
    expect(box).to_have_value("狐")
    expect(page.locator("#heading")).to_have_text("新着画像")
    box.press("Enter")
    expect(page.locator("#heading")).to_have_text("検索結果")


def test_english_browser_gets_an_english_page(open_page: OpenPage) -> None:
    page = open_page(locale="en-US")
    expect(page).to_have_title("Image Search")
    expect(page.locator("h1")).to_have_text("Image Search")
    expect(page.locator("#search")).to_have_text("Search")
    expect(page.locator("#heading")).to_have_text("Newest pictures")
    page.locator(".tile").first.click()
    expect(page.locator(".pswp")).to_contain_text("Generation prompt")


@pytest.mark.parametrize(
    "query", ["", "?q=red", "?like=3", "?like=3&shape=landscape&type=image/png&from=2020&to=2100&kind=image"]
)
def test_phone_shows_images_high_up_and_nothing_sticks_out(open_page: OpenPage, query: str) -> None:
    page = open_page(query, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert page.locator(".tile").first.bounding_box()["y"] < 260
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(".tile").first.tap()
    box = page.locator(".pswp").bounding_box()
    assert (box["x"], box["width"]) == (0, 390)


@pytest.mark.parametrize("locale", ["ja-JP", "en-US"])
@pytest.mark.parametrize("query", ["", "?q=red", "?like=3&shape=landscape", "?order=registered"])
def test_phone_cuts_no_word_above_the_images(open_page: OpenPage, query: str, locale: str) -> None:
    page = open_page(query, locale=locale, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    for selector in ("#heading", "#count", "#search", "#clear"):
        expect(page.locator(selector)).not_to_be_empty()
        assert page.locator(selector).evaluate("node => node.scrollWidth <= node.clientWidth + 1 || node.tagName")
    assert page.locator("#order").evaluate(IS_WIDE_ENOUGH)
    for box in (page.locator(selector).bounding_box() for selector in ("#heading", "#count", "#order")):
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390


# A closed list cuts its text without overflowing.
IS_WIDE_ENOUGH = """(list) => {
  const copy = list.cloneNode(true);
  Object.assign(copy.style, { position: 'absolute', width: 'max-content' });
  list.parentElement.append(copy);
  const wanted = copy.offsetWidth;
  copy.remove();
  return list.offsetWidth >= wanted - 1;
}"""


def test_image_dragged_over_the_page_is_told_what_happens_and_searches_when_dropped(
    open_page: OpenPage, folder: Path
) -> None:
    page = open_page()
    overlay = page.locator("#drop-overlay")
    session = page.context.new_cdp_session(page)
    path = str(folder / "pictures" / "picture07.png")

    def drag(kind: str) -> None:
        data = {"items": [], "files": [path], "dragOperationsMask": 1}
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 600, "y": 500, "data": data})

    drag("dragEnter")
    expect(overlay).to_be_visible()
    expect(overlay).to_have_text("ここに画像をドロップすると検索します")
    drag("dragCancel")
    expect(overlay).to_be_hidden()
    expect(page.locator("#heading")).to_have_text("新着画像")
    drag("dragEnter")
    drag("dragOver")
    drag("drop")
    expect(overlay).to_be_hidden()
    expect(page).to_have_url(re.compile(r"\?picture=[0-9a-f]{32}$"))
    expect(page.locator(".tile .name").first).to_have_text("picture07.png")


def test_empty_library_says_how_to_fill_it(open_page: OpenPage, tmp_path: Path) -> None:
    # Without a model the sample images cannot be registered either.
    with serve_page(f"sqlite:///{tmp_path}/empty.db", EMBEDDING_MODEL="/nowhere/model") as empty:
        page = open_page(at=empty)
        expect(page.locator("#message")).to_contain_text("まだ画像がありません")
        page.get_by_role("link", name="ライブラリーを開く").click()
        expect(page.locator("#library-begin")).to_be_visible()
        page.go_back()


def test_model_that_is_missing_is_named_on_the_page(open_page: OpenPage, folder: Path) -> None:
    with serve_page(f"sqlite:///{folder}/library.db", EMBEDDING_MODEL="/nowhere/model") as broken:
        page = open_page(at=broken)
        assert len(list_names(page)) == 16  # the library can still be looked at
        expect(page.locator("#notice")).to_contain_text("モデルを利用できません")
        expect(page.locator("#notice")).to_contain_text("/nowhere/model")


def test_program_that_is_gone_is_said_and_the_page_goes_on_when_it_is_back(open_page: OpenPage) -> None:
    page = open_page()
    page.context.set_offline(True)
    page.locator("#search").click()
    expect(page.locator("#message .problem")).to_contain_text("プログラムに接続できません")
    page.context.set_offline(False)
    expect(page.locator(".tile")).to_have_count(16)
    expect(page.locator("#message .problem")).to_have_count(0)


def test_page_works_below_a_path(open_page: OpenPage, folder: Path) -> None:
    with serve_page(f"sqlite:///{folder}/library.db", APP_ROOT_PATH="/pics") as address:
        page = open_page("pics/?q=red", at=address)
        assert len(list_names(page)) == 16
        page.locator(".tile").first.click()
        expect(page.locator(".pswp .facts-panel h2")).to_be_visible()
        expect(page).to_have_url(re.compile(r"/pics/\?q=red&image=\d+$"))
        page.keyboard.press("Escape")
        choose_query_image(page, folder / "pictures" / "picture07.png")
        expect(page).to_have_url(re.compile(r"/pics/\?q=red&picture="))
        expect(page.locator("#picture img")).to_have_count(1)


HAS_CAMERA = """() => {
  const hasSign = (node) => !['none', 'normal'].includes(getComputedStyle(node, '::before').content);
  return [...document.querySelectorAll('#picture, #picture button')].some(hasSign);
}"""


def test_query_image_is_seen_without_the_camera_over_it(open_page: OpenPage, folder: Path) -> None:
    page = open_page()
    page.wait_for_function(HAS_CAMERA)
    choose_query_image(page, folder / "pictures" / "picture03.png")
    expect(page.locator("#picture img")).to_be_visible()
    assert not page.evaluate(HAS_CAMERA)
