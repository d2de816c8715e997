"""The page in a real browser: real clicks, real keys, the real program in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.fakes.browsing import (
    CAPTION,
    OpenPage,
    choose_picture,
    hold_answers,
    list_names,
    search_words,
    serve_page,
)


def test_the_newest_sixteen_are_there_at_the_start(open_page: OpenPage) -> None:
    page = open_page()
    assert list_names(page) == [f"picture{number:02}.png" for number in range(19, 3, -1)]
    expect(page.locator("#summary")).to_contain_text("新着画像")
    expect(page.locator("#summary")).to_contain_text("20枚")
    expect(page.locator(".tile img").first).to_have_js_property("complete", True)
    assert page.locator(".tile img").first.evaluate("image => image.naturalWidth") == 240


def test_words_and_enter_find_sixteen_pictures_and_one_opens_with_its_details(open_page: OpenPage) -> None:
    page = open_page()
    search_words(page, "狐")
    expect(page.locator("#summary")).to_contain_text("20枚から")
    assert len(list_names(page)) == 16
    tile = page.locator(".tile").first
    expect(tile).to_contain_text("picture03.png")  # its caption has the word
    tile.click()
    dialog = page.locator("dialog[open]")
    for words in ("picture03.png", "ベクトル距離（-1 × 内積）", "Seed: 738268214", "<b>best quality</b>", CAPTION):
        expect(dialog).to_contain_text(words)
    assert float(dialog.locator(".distance dd").inner_text()) == pytest.approx(
        float(tile.locator(".distance").inner_text()), abs=1e-4
    )
    assert dialog.locator(".stage img").bounding_box()["height"] > 300


def test_the_original_is_behind_a_link(open_page: OpenPage, folder: Path) -> None:
    page = open_page()
    page.locator(".tile").first.click()
    link = page.locator("dialog[open] .actions a").get_attribute("href")
    answer = page.request.get(page.url + link)
    assert answer.body() == (folder / "pictures" / "picture19.png").read_bytes()


def test_arrow_keys_walk_through_the_pictures_and_escape_closes(open_page: OpenPage) -> None:
    page = open_page()
    page.locator(".tile").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    name = page.locator("dialog[open] .file_name dd")
    expect(name).to_have_text("picture18.png")
    page.keyboard.press("ArrowRight")
    expect(name).to_have_text("picture17.png")
    page.keyboard.press("ArrowLeft")
    expect(name).to_have_text("picture18.png")
    page.keyboard.press("Escape")
    expect(page.locator("dialog[open]")).to_have_count(0)
    expect(page.locator(".tile:focus .name")).to_have_text("picture18.png")
    page.keyboard.press("Enter")  # the same picture opens again
    expect(name).to_have_text("picture18.png")


def test_an_uploaded_picture_is_found_first(open_page: OpenPage, folder: Path) -> None:
    page = open_page()
    choose_picture(page, folder / "pictures" / "picture07.png")
    expect(page.locator("#summary")).to_contain_text("検索結果")
    assert list_names(page)[0] == "picture07.png"
    assert float(page.locator(".tile .distance").first.inner_text()) == pytest.approx(-1, abs=1e-3)


def test_clear_empties_words_and_picture_and_shows_the_newest(open_page: OpenPage, folder: Path) -> None:
    page = open_page()
    choose_picture(page, folder / "pictures" / "picture07.png")
    expect(page.locator("#summary")).to_contain_text("検索結果")
    search_words(page, "red")
    page.locator("#clear").click()
    expect(page.locator("#summary")).to_contain_text("新着画像")
    expect(page.locator("#text textarea, #text input")).to_have_value("")
    expect(page.locator("#picture img")).to_have_count(0)
    assert list_names(page)[0] == "picture19.png"


def test_what_is_typed_while_the_page_opens_or_is_cleared_stays(open_page: OpenPage) -> None:
    page = open_page()
    box = page.locator("#text textarea, #text input")
    with hold_answers(page):
        page.reload()
        box.fill("green")
    expect(page.locator(".tile")).to_have_count(16)
    expect(box).to_have_value("green")
    with hold_answers(page):
        page.locator("#clear").click()
        expect(box).to_have_value("")
        box.fill("red")
        page.wait_for_timeout(100)
    search_words(page, "red")
    page.wait_for_timeout(500)
    expect(box).to_have_value("red")
    expect(page.locator("#summary")).to_contain_text("検索結果")


def test_a_file_that_is_no_picture_is_refused_in_words(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    (tmp_path / "broken.png").write_bytes(b"no picture at all")
    choose_picture(page, tmp_path / "broken.png")
    expect(page.locator("#results .problem")).to_contain_text("この画像は読み込めません")
    expect(page.locator("#results .problem")).to_contain_text("broken.png")
    page.locator("#clear").click()
    expect(page.locator(".tile")).to_have_count(16)


def test_more_appends_the_rest(open_page: OpenPage) -> None:
    page = open_page()
    search_words(page, "green")
    first = list_names(page)
    page.locator("#more").click()
    expect(page.locator(".tile")).to_have_count(20)
    assert list_names(page)[:16] == first
    assert len(set(list_names(page))) == 20
    expect(page.locator("#more")).to_be_hidden()


def test_an_input_method_that_confirms_with_enter_does_not_search(open_page: OpenPage) -> None:
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
    expect(page.locator("#summary")).to_contain_text("新着画像")
    box.press("Enter")
    expect(page.locator("#summary")).to_contain_text("検索結果")


def test_an_english_browser_gets_an_english_page(open_page: OpenPage) -> None:
    page = open_page(locale="en-US")
    expect(page.locator("h1")).to_have_text("Image Search")
    expect(page.locator("#search")).to_have_text("Search")
    expect(page.locator("#summary")).to_contain_text("Newest pictures")
    page.locator(".tile").first.click()
    expect(page.locator("dialog[open]")).to_contain_text("Generation prompt")


def test_a_phone_shows_two_columns_and_nothing_sticks_out(open_page: OpenPage) -> None:
    page = open_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    boxes = [page.locator(".tile").nth(number).bounding_box() for number in range(3)]
    assert boxes[0]["y"] == boxes[1]["y"] < boxes[2]["y"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(".tile").first.tap()
    dialog = page.locator("dialog[open]").bounding_box()
    assert (dialog["x"], dialog["width"]) == (0, 390)


def test_an_empty_library_says_how_to_fill_it(open_page: OpenPage, tmp_path: Path) -> None:
    # Without a model the sample pictures cannot be registered either.
    with serve_page(f"sqlite:///{tmp_path}/empty.db", EMBEDDING_MODEL="/nowhere/model") as empty:
        page = open_page(at=empty)
        expect(page.locator("#results")).to_contain_text("まだ画像が登録されていません")


def test_a_model_that_is_missing_is_named_on_the_page(open_page: OpenPage, folder: Path) -> None:
    with serve_page(f"sqlite:///{folder}/library.db", EMBEDDING_MODEL="/nowhere/model") as broken:
        page = open_page(at=broken)
        assert len(list_names(page)) == 16  # the library can still be looked at
        expect(page.locator("#notice")).to_contain_text("モデルを利用できません")
        expect(page.locator("#notice")).to_contain_text("/nowhere/model")


def test_a_program_that_is_gone_is_said_in_the_persons_language(open_page: OpenPage) -> None:
    page = open_page()
    page.context.set_offline(True)
    page.locator("#search").click()
    expect(page.locator("[data-testid=toast-text]")).to_contain_text("プログラムとの接続が切れました")
