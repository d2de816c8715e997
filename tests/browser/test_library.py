"""Looking after the library in a real browser: captions, deletion, uploads, copies. Every test has its own library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.fakes import make_picture_bytes
from tests.fakes.browsing import (
    OpenPage,
    fill_library,
    list_names,
    paste_files,
    search_words,
    serve_page,
)


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with serve_page(fill_library(folder, 6).database_url) as address:
        yield address


def test_a_caption_and_keywords_are_saved_and_found(open_page: OpenPage) -> None:
    page = open_page()
    page.locator(".tile", has_text="picture01.png").click()
    dialog = page.locator("dialog[open]")
    dialog.locator("textarea").fill("湖のほとりの小屋")
    dialog.locator("input[name=keywords]").fill("旅行、湖")
    dialog.locator(".texts button").click()
    expect(dialog.locator(".said")).to_have_text("保存しました")
    page.keyboard.press("Escape")
    search_words(page, "小屋")
    expect(page.locator(".tile .name").first).to_have_text("picture01.png")
    page.locator(".tile").first.click()
    expect(dialog.locator("input[name=keywords]")).to_have_value("旅行、湖")


def test_deleting_asks_first_and_then_the_picture_is_gone(open_page: OpenPage) -> None:
    page = open_page()
    count = len(list_names(page))
    page.locator(".tile", has_text="picture02.png").click()
    dialog = page.locator("dialog[open]")
    expect(dialog.locator(".delete-now")).to_be_hidden()
    dialog.locator(".delete summary").click()
    dialog.locator(".delete-now").click()
    expect(page.locator(".tile")).to_have_count(count - 1)
    assert "picture02.png" not in list_names(page)


def test_files_dropped_on_the_page_are_registered_and_found(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    files = []
    for name, data in (("夕焼け.png", make_picture_bytes("tomato", (50, 40))), ("broken.png", b"no picture")):
        (tmp_path / name).write_bytes(data)
        files.append(tmp_path / name)
    page.locator("#upkeep button").first.click()
    page.set_input_files("#add input[type=file]", files)
    expect(page.locator("#progress")).to_contain_text("1枚を登録しました")
    expect(page.locator("#progress")).to_contain_text("broken.png")
    expect(page.locator(".tile .name").first).to_have_text("夕焼け.png")
    search_words(page, "夕焼け")
    expect(page.locator(".tile .name").first).to_have_text("夕焼け.png")


def test_one_tab_registers_one_file_after_the_other(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    page.locator("#upkeep button").first.click()
    for number, colour in enumerate(("plum", "peru", "teal")):
        (tmp_path / f"{colour}.png").write_bytes(make_picture_bytes(colour, (70 + number, 50)))
        page.set_input_files("#add input[type=file]", tmp_path / f"{colour}.png")
        expect(page.locator(".tile .name").first).to_have_text(f"{colour}.png")
        expect(page.locator("#progress")).to_contain_text("1枚を登録しました")
        expect(page.locator("[data-testid=toast-text]")).to_have_count(0)


def test_files_pasted_over_the_panel_are_registered(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#upkeep button").first.click()
    page.locator("#add").hover()
    paste_files(page, {f"{colour}.png": make_picture_bytes(colour, (60, 44)) for colour in ("olive", "navy")})
    expect(page.locator("#progress")).to_contain_text("2枚を登録しました")
    expect(page.locator(".tile .name").first).to_have_text("navy.png")
    expect(page.locator("#picture img")).to_have_count(0)


def test_looking_for_copies_ends_with_words(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#upkeep button").first.click()
    page.locator("#find-duplicates").click()
    expect(page.locator("#summary")).to_contain_text("重複の候補")
