"""Suggestions while typing, recent searches, facets with a search field and examples, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from image_search.records import Edits
from image_search.stores import open_store
from tests.fakes.browsing import OpenPage, fill_library, search_words, serve_page


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Twelve images; three have the keyword 旅行, and every one has a keyword of its own."""
    settings = fill_library(folder, 12)
    with open_store(settings) as store:
        for number, hit in enumerate(store.list_images(limit=12)):
            words = (f"word{number:02}", *(("旅行",) if number < 3 else ()))
            store.set_edits(hit.image_id, Edits(keywords=words))
    with serve_page(settings.database_url) as address:
        yield address


def test_keyword_is_suggested_and_taken_with_the_keyboard(open_page: OpenPage) -> None:
    page = open_page()
    box = page.locator("#text textarea, #text input")
    box.press_sequentially("red 旅")
    option = page.get_by_role("option", name="旅行 キーワード")
    expect(option).to_be_visible()
    expect(box).to_have_attribute("role", "combobox")
    expect(box).to_have_attribute("aria-expanded", "true")
    box.press("ArrowDown")
    expect(option).to_have_attribute("aria-selected", "true")
    assert box.get_attribute("aria-activedescendant") == option.get_attribute("id")
    box.press("Enter")
    expect(page).to_have_url(re.compile(r"q=red&keyword="))
    expect(page.locator("#chips .chip")).to_have_text(re.compile("キーワード：旅行"))
    expect(page.locator("#count")).to_have_text("3枚")
    expect(box).to_have_value("red")
    expect(box).to_have_attribute("aria-expanded", "false")


def test_word_of_the_list_of_tags_completes_what_is_typed(open_page: OpenPage) -> None:
    page = open_page(locale="en-US")
    box = page.locator("#text textarea, #text input")
    box.press_sequentially("red wom")
    page.get_by_role("option", name="woman word").click()
    expect(box).to_have_value("red woman")
    expect(page).to_have_url(re.compile(r"q=red\+woman"))


def test_escape_closes_the_list_and_enter_searches_for_the_words_as_they_are(open_page: OpenPage) -> None:
    page = open_page()
    box = page.locator("#text textarea, #text input")
    box.press_sequentially("旅")
    expect(page.locator("#suggestions li").first).to_be_visible()
    box.press("Escape")
    expect(page.locator("#suggestions")).to_be_hidden()
    box.press("Enter")
    expect(page).to_have_url(re.compile(r"\?q=%E6%97%85$"))


def test_recent_searches_stay_in_the_browser_until_they_are_cleared(open_page: OpenPage) -> None:
    page = open_page()
    search_words(page, "teal")
    search_words(page, "plum")
    page.goto(page.url.split("?")[0])
    box = page.locator("#text textarea, #text input")
    box.click()
    expect(page.locator("#suggestions li")).to_have_count(3)
    expect(page.locator("#suggestions li").first).to_contain_text("plum")
    page.locator("#suggestions li").nth(1).click()
    expect(page).to_have_url(re.compile(r"\?q=teal$"))
    box.fill("")
    box.press("ArrowDown")
    page.get_by_role("option", name="最近の検索を消す").click()
    box.press("ArrowDown")
    expect(page.locator("#suggestions")).to_be_hidden()
    assert page.evaluate("localStorage.getItem('recent-searches')") is None


def test_many_values_have_a_search_field(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#filters-toggle").click()
    facet = page.locator(".facet", has=page.locator("[name=keyword]"))
    expect(facet.locator("option")).to_have_count(14)  # any, 旅行, and twelve words
    facet.locator(".find").fill("word1")
    expect(facet.locator("option")).to_have_count(3)
    facet.locator("select").select_option("word11")
    expect(page.locator("#chips .chip")).to_have_text(re.compile("キーワード：word11"))
    expect(page.locator(".facet", has=page.locator("[name=camera]")).locator(".find")).to_be_hidden()


def test_image_is_left_out(open_page: OpenPage, folder: Path) -> None:
    page = open_page("?q=red")
    page.locator("#filters-toggle").click()
    page.set_input_files("#excluded-file", folder / "pictures" / "picture07.png")
    expect(page.locator("#chips .chip")).to_have_text(re.compile("除外する画像"))
    expect(page).to_have_url(re.compile("notpicture="))


def test_day_is_picked_from_a_calendar(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#filters-toggle").click()
    page.locator(".pick[data-for=from]").fill("2024-05-01")
    expect(page.locator("#chips .chip")).to_have_text(re.compile("2024-05-01以降"))
    expect(page).to_have_url(re.compile("from=2024-05-01"))
