"""Many images chosen in a real browser, with mouse, keys and fingers, and what is done with all of them at once."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, Route, expect

from tests.fakes.browsing import OpenPage, fill_library, list_names, search_words, serve_page


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with serve_page(fill_library(folder, 40).database_url) as address:
        yield address


def get_tile(page: Page, number: int) -> Locator:
    return page.locator(f'#grid .cell[aria-posinset="{number + 1}"]')


def choose(page: Page, number: int, **options: object) -> None:
    get_tile(page, number).hover()
    get_tile(page, number).locator(".pick").click(**options)  # type: ignore[arg-type]


def expect_chosen(page: Page, *numbers: int) -> None:
    expect(page.locator("#grid .chosen")).to_have_count(len(numbers))
    for number in numbers:
        expect(get_tile(page, number).locator(".pick")).to_have_attribute("aria-checked", "true")


def act(page: Page, name: str) -> None:
    page.locator(f'#selection [data-select="{name}"]').click()


def test_box_appears_on_hover_and_chooses(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    box = get_tile(page, 1).locator(".pick")
    expect(box).to_have_css("opacity", "0")
    get_tile(page, 1).hover()
    expect(box).to_have_css("opacity", "1")
    box.click()
    expect(page.locator("#selection .selected")).to_have_text("1枚を選択中")
    expect(page).not_to_have_url(re.compile("image="))
    get_tile(page, 3).locator(".tile").click()  # a click goes on choosing
    expect_chosen(page, 1, 3)
    get_tile(page, 1).locator(".tile").click()
    expect_chosen(page, 3)
    page.keyboard.press("Escape")
    expect(page.locator("#selection")).to_be_hidden()
    get_tile(page, 3).locator(".tile").click()
    expect(page).to_have_url(re.compile("image="))


def test_shift_chooses_all_between(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    choose(page, 1)
    get_tile(page, 4).locator(".tile").click(modifiers=["Shift"])
    expect_chosen(page, 1, 2, 3, 4)


def test_keyboard_chooses_alone(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    page.locator(".tile").first.focus()
    page.keyboard.press("x")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+X")
    expect_chosen(page, 0, 1, 2)
    page.keyboard.press("x")
    expect_chosen(page, 0, 1)
    page.keyboard.press("Escape")
    expect(page.locator("#grid .chosen")).to_have_count(0)


def test_letters_that_are_typed_choose_nothing(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#text textarea, #text input").press_sequentially("xx")
    expect(page.locator("#selection")).to_be_hidden()


def test_finger_that_stays_chooses_and_taps_go_on(open_page: OpenPage) -> None:
    page = open_page("?order=name", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    box = get_tile(page, 0).bounding_box()
    session = page.context.new_cdp_session(page)
    point = {"x": box["x"] + 60, "y": box["y"] + 60}
    session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
    expect(page.locator("#selection .selected")).to_have_text("1枚を選択中")
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_timeout(300)
    expect(page).not_to_have_url(re.compile("image="))
    get_tile(page, 1).locator(".tile").tap()
    expect_chosen(page, 0, 1)
    bar = page.locator("#selection").bounding_box()
    assert (bar["x"], bar["width"]) == (0, 390)
    for button in page.locator("#selection button").all():
        size = button.bounding_box()
        assert min(size["width"], size["height"]) >= 44
    get_tile(page, 0).locator(".tile").tap()
    get_tile(page, 1).locator(".tile").tap()
    expect(page.locator("#selection")).to_be_hidden()
    get_tile(page, 1).locator(".tile").tap()
    expect(page).to_have_url(re.compile("image="))


@pytest.mark.parametrize(
    ("locale", "words"),
    [
        ("ja-JP", ["すべて", "キーワード", "評価", "ZIP", "パス", "一覧", "ごみ箱"]),
        ("en-US", ["All", "Keywords", "Rate", "ZIP", "Paths", "Sheet", "Trash"]),
    ],
)
def test_actions_on_a_phone_have_a_word_below_their_icon(open_page: OpenPage, locale: str, words: list[str]) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    page = open_page("?order=name", locale=locale, **phone)
    page.locator(".tile").first.press("x")
    actions = page.locator(".selection-actions button")
    assert actions.all_inner_texts() == words
    bar = page.locator(".selection-actions")
    assert bar.evaluate("bar => bar.scrollWidth <= bar.clientWidth")  # all in sight, none cut
    for button in actions.all():
        box, icon, word = (part.bounding_box() for part in (button, button.locator("svg"), button.locator(".short")))
        assert box["width"] >= 44
        assert box["height"] >= 44
        assert icon["y"] + icon["height"] <= word["y"]
        assert box["x"] <= word["x"]
        assert word["x"] + word["width"] <= box["x"] + box["width"]


def open_on_phone(open_page: OpenPage) -> Page:
    page = open_page("?order=name", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.locator("#order").select_option("registered")
    expect(page).to_have_url(re.compile("order=registered"))
    expect(get_tile(page, 0).locator(".name")).to_have_text("picture39.png")
    page.locator(".tile").first.press("x")
    get_tile(page, 1).locator(".tile").tap()
    expect_chosen(page, 0, 1)
    return page


def expect_nothing_chosen(page: Page, order: str) -> None:
    expect(page.locator("#selection")).to_be_hidden()
    expect(page.locator("#grid .chosen")).to_have_count(0)
    expect(page).to_have_url(re.compile(f"order={order}"))


def test_back_on_a_phone_ends_the_selection_before_it_leaves_the_search(open_page: OpenPage) -> None:
    page = open_on_phone(open_page)
    page.go_back()
    expect_nothing_chosen(page, "registered")
    page.go_back()
    expect_nothing_chosen(page, "name")
    expect(get_tile(page, 0).locator(".name")).to_have_text("picture00.png")


def test_selection_on_a_phone_that_was_ended_otherwise_leaves_no_step_to_go_back(open_page: OpenPage) -> None:
    page = open_on_phone(open_page)
    act(page, "clear")
    expect_nothing_chosen(page, "registered")
    page.wait_for_function("!history.state?.step")
    page.locator(".tile").first.press("x")
    search_words(page, "red")  # another search
    expect(page.locator("#selection")).to_be_hidden()
    page.go_back()
    expect_nothing_chosen(page, "registered")
    page.go_back()
    expect_nothing_chosen(page, "name")


def test_selection_on_a_phone_stays_while_the_library_tab_is_looked_at(open_page: OpenPage) -> None:
    page = open_on_phone(open_page)
    page.locator("#tabs a[data-tab=library]").tap()
    page.locator("#library-page.loaded").wait_for()
    page.go_back()
    expect_chosen(page, 0, 1)
    page.go_forward()
    page.go_back()
    expect_chosen(page, 0, 1)
    page.go_back()
    expect_nothing_chosen(page, "registered")


def test_finger_that_scrolls_chooses_nothing(open_page: OpenPage) -> None:
    page = open_page("?order=name", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    session = page.context.new_cdp_session(page)
    for kind, y in (("touchStart", 600), ("touchMove", 500), ("touchMove", 400)):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": 100, "y": y}]})
    page.wait_for_timeout(600)
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(page.locator("#selection")).to_be_hidden()


def test_all_found_are_chosen_also_those_not_loaded(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    choose(page, 0)
    assert page.locator(".tile").count() == 16
    act(page, "all")
    expect(page.locator("#selection .selected")).to_have_text("40枚を選択中")
    expect(page.locator("#toasts")).to_contain_text("見つかった40枚をすべて選択しました")
    page.locator("#more").click()
    expect(page.locator("#grid .chosen")).to_have_count(40)


def test_selection_ends_with_its_search(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    choose(page, 0)
    search_words(page, "red")
    expect(page.locator("#selection")).to_be_hidden()
    expect(page.locator("#grid .chosen")).to_have_count(0)


def test_keywords_are_added_to_all_and_taken_back(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    choose(page, 0)
    choose(page, 3)
    act(page, "keywords")
    expect(page.locator("#keywords-title")).to_have_text("キーワードを追加（2枚）")
    page.keyboard.type("旅行、湖")
    page.locator('#keywords-dialog [value="add"]').click()
    expect(page.locator("#toasts")).to_contain_text("2枚にキーワードを追加しました")
    found = page.request.get(page.url.split("?")[0] + "ui/results?keyword=湖").json()
    assert found["total"] == 2
    page.locator("#toasts button").click()
    expect(page.locator("#toasts")).to_contain_text("取り消しました")
    assert page.request.get(page.url.split("?")[0] + "ui/results?keyword=湖").json()["total"] == 0


def test_enter_adds_and_escape_leaves_the_selection(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    choose(page, 5)
    act(page, "keywords")
    page.keyboard.type("やめた")
    page.keyboard.press("Escape")
    expect(page.locator("#keywords-dialog")).to_be_hidden()
    expect_chosen(page, 5)
    act(page, "keywords")
    expect(page.locator("#keywords-dialog input")).to_have_value("")
    page.keyboard.type("Enterで追加")
    page.keyboard.press("Enter")
    expect(page.locator("#toasts")).to_contain_text("1枚にキーワードを追加しました")


def test_rating_is_given_to_all(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    for number in (1, 2, 4):
        choose(page, number)
    act(page, "rating")
    page.locator('#rating-dialog [value="4"]').click()
    expect(page.locator("#toasts")).to_contain_text("3枚に評価を付けました")
    assert page.request.get(page.url.split("?")[0] + "ui/results?rating=4").json()["total"] == 3
    page.locator("#toasts button").click()
    expect(page.locator("#toasts")).to_contain_text("取り消しました")
    assert page.request.get(page.url.split("?")[0] + "ui/results?rating=4").json()["total"] == 0


def test_long_action_says_how_far_it_is_also_to_be_undone(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    ids = list(range(1, 1201))
    page.route("**/ui/selection?*", lambda route: route.fulfill(json={"ids": ids, "total": 1200, "kind": "all"}))
    held: list[Route] = []

    def hold_second(route: Route) -> None:
        asked = route.request.post_data_json["ids"]
        if asked[0] == 501:
            held.append(route)
        else:
            route.fulfill(json={"count": len(asked), "ids": asked})

    def go_on() -> None:
        # The number of the first 500 may be shown before the request for the next ones has left.
        while not held:
            page.wait_for_timeout(20)
        held.pop().fulfill(json={"count": 500, "ids": ids[500:1000]})

    page.route("**/ui/trash", hold_second)
    page.route("**/ui/restore", hold_second)
    choose(page, 0)
    act(page, "all")
    expect(page.locator("#selection .selected")).to_have_text("1,200枚を選択中")
    act(page, "trash")
    expect(page.locator("#selection .selected")).to_have_text("1,200枚中500枚")
    go_on()
    expect(page.locator("#toasts")).to_contain_text("1,200枚をごみ箱に移しました")
    expect(page.locator("#selection")).to_be_hidden()
    page.locator("#toasts button").click()
    expect(page.locator("#selection .selected")).to_have_text("1,200枚中500枚")
    expect(page.locator("#selection progress")).to_be_visible()
    go_on()
    expect(page.locator("#toasts")).to_contain_text("1,200枚を元に戻しました")
    expect(page.locator("#selection")).to_be_hidden()


def test_all_chosen_go_to_the_trash_and_come_back(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    names = list_names(page)
    choose(page, 2)
    get_tile(page, 5).locator(".tile").click(modifiers=["Shift"])
    act(page, "trash")
    expect(page.locator("#toasts")).to_contain_text("4枚をごみ箱に移しました")
    expect(page.locator("#selection")).to_be_hidden()
    expect(get_tile(page, 2).locator(".name")).to_have_text(names[6])
    page.locator("#toasts button").click()
    expect(page.locator("#toasts")).to_contain_text("4枚を元に戻しました")
    expect(get_tile(page, 2).locator(".name")).to_have_text(names[2])
    assert list_names(page)[:16] == names


def test_image_deleted_in_another_tab_is_said(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    root = page.url.split("?")[0]
    choose(page, 7)
    choose(page, 8)
    gone = int(get_tile(page, 8).get_attribute("data-id") or 0)
    name = list_names(page)[8]
    page.request.post(f"{root}ui/trash", data={"ids": [gone]})
    act(page, "rating")
    page.locator('#rating-dialog [value="1"]').click()
    expect(page.locator("#toasts")).to_contain_text("1枚に評価を付けました。すでに削除されていた画像：1枚")
    assert name not in list_names(page)
    expect_chosen(page, 7)
    page.request.post(f"{root}ui/restore", data={"ids": [gone]})


def test_only_images_deleted_in_another_tab_leave_nothing_to_undo(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    root = page.url.split("?")[0]
    for action, finish in (
        ("rating", lambda: page.locator('#rating-dialog [value="1"]').click()),
        ("keywords", lambda: page.keyboard.type("旅\n")),
        ("trash", lambda: None),
    ):
        page.reload()
        choose(page, 5)
        gone = int(get_tile(page, 5).get_attribute("data-id") or 0)
        page.request.post(f"{root}ui/trash", data={"ids": [gone]})
        act(page, action)
        finish()
        expect(page.locator("#toasts .toast")).to_have_text("すでに削除されていた画像：1枚")
        expect(page.locator("#toasts button")).to_have_count(0)
        page.request.post(f"{root}ui/restore", data={"ids": [gone]})


def test_undo_brings_back_what_this_page_threw_away_and_nothing_else(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    root = page.url.split("?")[0]
    names = list_names(page)
    choose(page, 5)
    choose(page, 6)
    gone = int(get_tile(page, 5).get_attribute("data-id") or 0)
    page.request.post(f"{root}ui/trash", data={"ids": [gone]})
    act(page, "trash")
    expect(page.locator("#toasts")).to_contain_text("1枚をごみ箱に移しました。すでに削除されていた画像：1枚")
    page.locator("#toasts button").click()
    expect(page.locator("#toasts")).to_contain_text("1枚を元に戻しました")
    expect(get_tile(page, 5).locator(".name")).to_have_text(names[6])
    assert [tile["id"] for tile in page.request.get(f"{root}ui/library/trash").json()["tiles"]] == [gone]
    page.request.post(f"{root}ui/restore", data={"ids": [gone]})


def test_count_follows_what_is_trashed(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    count = page.locator("#count")
    total = int((count.text_content() or "").removesuffix("枚"))
    choose(page, 5)
    act(page, "trash")
    expect(count).to_have_text(f"{total - 1}枚")
    page.get_by_role("button", name="元に戻す").click()
    expect(count).to_have_text(f"{total}枚")


def test_zip_archive_has_all_originals(open_page: OpenPage, folder: Path, tmp_path: Path) -> None:
    page = open_page("?order=name")
    choose(page, 0)
    get_tile(page, 2).locator(".tile").click(modifiers=["Shift"])
    with page.expect_download() as download:
        act(page, "zip")
    expect(page.locator("#toasts")).to_contain_text("3枚をZIPにまとめてダウンロードします")
    download.value.save_as(tmp_path / "pictures.zip")
    assert re.fullmatch(r"pictures_\d{4}-\d\d-\d\d_\d{6}\.zip", download.value.suggested_filename)
    with zipfile.ZipFile(tmp_path / "pictures.zip") as archive:
        assert archive.namelist() == ["picture00.png", "picture01.png", "picture02.png"]
        assert archive.read("picture01.png") == (folder / "pictures" / "picture01.png").read_bytes()


def test_contact_sheet_is_downloaded(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page("?order=name")
    choose(page, 0)
    choose(page, 1)
    with page.expect_download() as download:
        act(page, "sheet")
    download.value.save_as(tmp_path / "sheet.jpg")
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.width > 480


def test_images_without_a_path_are_said_when_paths_are_copied(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    choose(page, 0)
    act(page, "paths")
    expect(page.locator("#toasts")).to_contain_text("選択した画像にはパスがありません")


def test_program_that_is_gone_is_said_and_the_selection_stays(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    choose(page, 0)
    page.context.set_offline(True)
    act(page, "trash")
    expect(page.locator("#toasts")).to_contain_text("プログラムに接続できません")
    expect_chosen(page, 0)
    page.context.set_offline(False)


def test_english_page_says_it_in_english(open_page: OpenPage) -> None:
    page = open_page("?order=name", locale="en-US")
    choose(page, 0)
    expect(page.locator("#selection")).to_contain_text("1 selected")
    expect(page.locator("#selection")).to_contain_text("Download as ZIP")


@pytest.mark.parametrize(
    ("is_allowed", "said"), [("true", "1枚のパスをコピーしました"), ("false", "コピーできませんでした。画像の場所は")]
)
def test_paths_are_copied_over_plain_http_or_said_not_to_be(open_page: OpenPage, is_allowed: str, said: str) -> None:
    page = open_page("?order=name")
    answer = {"paths": ["/photos/a.png"], "without": 0, "missing": []}
    page.route("**/ui/selection/paths", lambda route: route.fulfill(json=answer))
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")  # as over plain http
    page.evaluate(f"document.execCommand = () => {is_allowed}")
    choose(page, 5)
    act(page, "paths")
    expect(page.locator("#toasts")).to_contain_text(said)
