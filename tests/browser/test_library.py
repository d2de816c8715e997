"""Files added on the page and copies found there, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.fakes import draw_image_bytes
from tests.fakes.browsing import (
    OpenPage,
    fill_library,
    paste_files,
    search_words,
    serve_page,
)
from tests.search.test_duplicates import make_scene


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with serve_page(fill_library(folder, 6).database_url) as address:
        yield address


def open_library(page: Page) -> None:
    page.locator("#tabs a[data-tab=library]").click()
    page.locator("#add").wait_for()


def open_search(page: Page) -> None:
    page.locator("#tabs a[data-tab=search]").click()


def test_files_dropped_on_the_page_are_registered_and_found(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    files = []
    for name, data in (("夕焼け.png", draw_image_bytes("tomato", (50, 40))), ("broken.png", b"no picture")):
        (tmp_path / name).write_bytes(data)
        files.append(tmp_path / name)
    open_library(page)
    page.set_input_files("#add input[type=file]", files)
    job = page.locator("#job-list > li").first
    expect(job).to_contain_text("新規1枚")
    job.locator("summary").click()
    expect(job).to_contain_text("broken.png：壊れているか")
    open_search(page)
    expect(page.locator("#grid .name").first).to_have_text("夕焼け.png")
    search_words(page, "夕焼け")
    expect(page.locator(".tile .name").first).to_have_text("夕焼け.png")


def test_one_tab_registers_one_file_after_the_other(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    open_library(page)
    for number, colour in enumerate(("plum", "peru", "teal")):
        (tmp_path / f"{colour}.png").write_bytes(draw_image_bytes(colour, (70 + number, 50)))
        page.set_input_files("#add input[type=file]", tmp_path / f"{colour}.png")
        expect(page.locator("#job-list > li").first).to_contain_text("新規1枚")
        expect(page.locator("#grid .name").first).to_have_text(f"{colour}.png")
        expect(page.locator("[data-testid=toast-text]")).to_have_count(0)


def test_file_that_is_registered_before_its_job_is_looked_at_is_shown(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    root = page.url.split("?")[0]
    while not page.request.get(f"{root}ui/progress").json()["is_over"]:  # until then the newest are asked for anyway
        page.wait_for_timeout(200)
    page.reload()
    open_library(page)
    page.locator("#library-page.loaded").wait_for()
    held: list[Route] = []
    is_over = False
    page.route(re.compile(r"/ui/library(/jobs)?$"), lambda route: route.continue_() if is_over else held.append(route))
    (tmp_path / "quick.png").write_bytes(draw_image_bytes("khaki", (77, 50)))
    page.set_input_files("#add input[type=file]", tmp_path / "quick.png")
    expect(page.locator("#sending")).to_contain_text("1枚を受け取りました")
    while page.request.get(f"{root}ui/library/jobs").json()["jobs"][0]["state"] != "done":
        page.wait_for_timeout(100)
    is_over = True
    for route in held:
        route.continue_()
    expect(page.locator("#grid .name").first).to_have_text("quick.png")


def test_files_pasted_over_the_panel_are_registered(open_page: OpenPage) -> None:
    page = open_page()
    open_library(page)
    page.locator("#add").hover()
    paste_files(page, {f"{colour}.png": draw_image_bytes(colour, (60, 44)) for colour in ("olive", "navy")})
    expect(page.locator("#job-list > li").first).to_contain_text("新規2枚")
    open_search(page)
    expect(page.locator("#grid .name").first).to_have_text("navy.png")
    expect(page.locator("#picture img")).to_have_count(0)


def test_sixty_files_are_all_registered_although_the_page_is_reloaded(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    open_library(page)
    files = []
    for number in range(60):
        files.append(tmp_path / f"many{number:02}.png")
        files[-1].write_bytes(draw_image_bytes(f"hsl({number * 6}, 70%, 50%)", (40 + number, 30)))
    page.set_input_files("#add input[type=file]", files)
    expect(page.locator("#sending")).to_contain_text("60枚を受け取りました", timeout=120_000)
    page.reload()
    job = page.locator("#job-list > li").first
    expect(job).to_contain_text("新規60枚", timeout=120_000)
    expect(job).to_have_attribute("data-state", "done")


def test_page_that_still_sends_asks_before_it_is_left(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    open_library(page)
    page.route("**/ui/library/uploads/*/1", lambda _: None)  # the second file never arrives
    files = [tmp_path / "one.png", tmp_path / "two.png"]
    for number, file in enumerate(files):
        file.write_bytes(draw_image_bytes("gold", (91 + number, 30)))
    page.set_input_files("#add input[type=file]", files)
    expect(page.locator("#sending")).to_contain_text("2枚中1枚を送信しました")
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.reload()
    assert asked == ["beforeunload"]
    expect(page.locator("#job-list > li").first).to_contain_text("two.png", timeout=60_000)
    expect(page.locator("#job-list > li").first).to_contain_text("新規1枚")


def test_copies_are_looked_at_group_by_group(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    open_library(page)
    scene = make_scene(3)
    scene.save(tmp_path / "large.png")
    scene.resize((320, 240)).save(tmp_path / "small.jpg")
    page.set_input_files("#add input[type=file]", [tmp_path / "large.png", tmp_path / "small.jpg"])
    expect(page.locator("#job-list > li").first).to_contain_text("新規2枚")
    page.locator("#find-duplicates").click()
    group = page.locator("#duplicates .group", has_text="large.png")
    expect(group).to_contain_text("残す理由：画素数が多い")
    expect(group.locator("li", has_text="small.jpg").locator("input")).to_be_checked()
    group.locator(".keep").click()
    expect(group).to_have_count(0)
    page.locator("#find-duplicates").click()
    expect(page.locator("#job-list > li").first).to_have_attribute("data-state", "done")
    expect(group).to_have_count(0)  # remembered


def test_copies_that_another_tab_threw_away_are_not_brought_back(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    root = page.url.split("?")[0]
    open_library(page)
    scene = make_scene(5)
    scene.save(tmp_path / "best.png")
    for size in (320, 200):
        scene.resize((size, size * 3 // 4)).save(tmp_path / f"copy{size}.jpg")
    names = ("best.png", "copy320.jpg", "copy200.jpg")
    page.set_input_files("#add input[type=file]", [tmp_path / name for name in names])
    expect(page.locator("#job-list > li").first).to_contain_text("新規3枚")
    page.locator("#find-duplicates").click()
    group = page.locator("#duplicates .group", has_text="best.png")
    gone = int(group.locator("li", has_text="copy320.jpg").locator("input").get_attribute("value") or 0)
    page.request.post(f"{root}ui/trash", data={"ids": [gone]})
    group.locator(".keep-best").click()
    expect(page.locator("#toasts")).to_contain_text("1枚をごみ箱に移しました")
    page.locator("#toasts button", has_text="元に戻す").click()
    expect(page.locator("#trash-list li")).to_have_count(1)
    assert [tile["id"] for tile in page.request.get(f"{root}ui/library/trash").json()["tiles"]] == [gone]


def test_state_of_the_library_is_a_list_to_read(open_page: OpenPage) -> None:
    page = open_page()
    open_library(page)
    expect(page.locator("#disk dt").first).to_have_text("データベース")
    expect(page.locator("#disk dd").first).to_contain_text(re.compile("[KM]B"))
    page.locator("#run-check").click()
    expect(page.locator("#findings li").first).to_contain_text("プログラム")
    expect(page.locator("#findings li", has_text="ライブラリー").first).to_contain_text("問題ありません")
    texts = page.locator("#findings .text:visible").all_inner_texts()
    assert len(texts) >= 10
    assert not [text for text in texts if re.search(r"\b(?:of|is|are|the|and|images?)\b", re.sub(r"/\S+", "", text))]
