"""The library tab in a real browser: from an empty library to a searched folder, the trash, and an end by Stop."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from tests.fakes import draw_image_bytes
from tests.fakes.browsing import OpenPage, fill_library, serve_page


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    folder = root / "写真" / "旅行"
    folder.mkdir(parents=True)
    for number, colour in enumerate(("tomato", "teal", "plum")):
        (folder / f"{colour}.png").write_bytes(draw_image_bytes(colour, (200 + number, 120)))
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "empty.png").write_bytes(b"")
    return root


@pytest.fixture(scope="module")
def address(folder: Path, root: Path) -> Iterator[str]:
    with serve_page(fill_library(folder, 6).database_url, LIBRARY_ROOTS=str(root)) as address:
        yield address


def test_folder_is_added_by_browsing_and_its_images_are_found(open_page: OpenPage, root: Path) -> None:
    page = open_page()
    page.locator("#tabs a[data-tab=library]").click()
    # The library was filled without this list, as by the terminal.
    expect(page.locator(".no-folders")).to_contain_text("ターミナルで登録したフォルダーの画像も検索できます")
    page.locator("#library-page header .add-folder").click()
    field = page.locator("#folder-path")
    field.fill("/etc")
    page.keyboard.press("Enter")
    expect(page.locator("#folder-error")).to_contain_text("このフォルダーはここから追加できません")
    field.fill("")
    page.locator("#folder-form .browse").click()
    expect(field).to_have_value(str(root))
    page.locator("#folder-browser button", has_text="写真").click()
    page.locator("#folder-browser button", has_text="旅行").click()
    expect(page.locator("#folder-browser .none")).to_be_visible()
    expect(field).to_have_value(f"{root}/写真/旅行")
    page.locator("#folder-form [type=submit]").click()
    job = page.locator("#job-list > li").first
    expect(job).to_have_attribute("data-state", "done")
    expect(job).to_contain_text("新規3枚")
    job.locator("summary").click()
    expect(job.locator("details li")).to_have_count(2)
    expect(job.locator("details")).to_contain_text("empty.png：ファイルが空です")
    expect(page.locator("#folder-list li .facts")).to_have_text("3枚")

    page.reload()
    expect(page.locator("#job-list > li").first).to_contain_text("新規3枚")
    page.locator("#folder-list .scan").click()
    expect(page.locator("#job-list > li")).to_have_count(2)
    expect(page.locator("#job-list > li").first).to_contain_text("登録済み3枚")
    page.locator("#folder-list .show").click()
    expect(page.locator("#grid .tile")).to_have_count(3)

    page.goto(page.url.split("?")[0] + "?tab=library")
    page.locator("#folder-list .remove").click()
    expect(page.locator(".no-folders")).to_be_visible()
    expect(page.locator(".toast")).to_contain_text("画像3枚はライブラリーに残ります")


def test_images_leave_the_trash_both_ways(open_page: OpenPage) -> None:
    page = open_page()
    ids = page.locator("#grid li[data-id]").evaluate_all("nodes => nodes.slice(0, 3).map((node) => +node.dataset.id)")
    page.evaluate(
        """(ids) => fetch('ui/trash', { method: 'POST', headers: { 'Content-Type': 'application/json' },
                                        body: JSON.stringify({ ids }) })""",
        ids,
    )
    page.locator("#tabs a[data-tab=library]").click()
    tiles = page.locator("#trash-list li")
    expect(tiles).to_have_count(3)
    expect(page.locator("#trash-note")).to_contain_text("30日")
    tiles.first.locator(".restore").click()
    expect(tiles).to_have_count(2)
    tiles.first.locator(".erase").click()
    page.keyboard.press("Escape")
    expect(tiles).to_have_count(2)
    tiles.first.locator(".erase").click()
    page.locator("#confirm [value=yes]").click()
    expect(tiles).to_have_count(1)
    page.locator("#empty-trash").click()
    page.locator("#confirm [value=yes]").click()
    expect(page.locator(".no-trash")).to_be_visible()
    page.reload()
    expect(page.locator(".no-trash")).to_be_visible()


def test_emptying_asks_about_what_another_tab_threw_away_meanwhile(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    root = page.url.split("?")[0]
    ids = page.locator("#grid li[data-id]").evaluate_all("nodes => nodes.slice(0, 3).map((node) => +node.dataset.id)")

    def throw_away(*thrown: int) -> None:
        page.request.post(f"{root}ui/trash", data={"ids": list(thrown)})

    throw_away(ids[0])
    page.locator("#tabs a[data-tab=library]").click()
    expect(page.locator("#trash-list li")).to_have_count(1)
    throw_away(ids[1])
    page.locator("#empty-trash").click()
    question = page.locator("#confirm-question")
    expect(question).to_have_text("ごみ箱の画像2枚をすべて完全に削除しますか？この操作は取り消せません。")
    throw_away(ids[2])
    page.locator("#confirm [value=yes]").click()
    expect(question).to_contain_text("ごみ箱の中身が変わりました。ごみ箱の画像3枚を")
    page.keyboard.press("Escape")
    expect(page.locator("#trash-list li")).to_have_count(3)
    page.locator("#empty-trash").click()
    page.locator("#confirm [value=yes]").click()
    expect(page.locator("#toasts")).to_contain_text("3枚を完全に削除しました")
    expect(page.locator(".no-trash")).to_be_visible()


def test_model_in_use_is_named_and_the_tab_is_in_the_visitors_language(open_page: OpenPage) -> None:
    page = open_page(locale="en-US")
    page.locator("#tabs a[data-tab=library]").click()
    expect(page.locator("#model-list .current >> visible=true")).to_have_text("In use")
    expect(page.locator("#folders-title")).to_have_text("Folders")
    assert "undefined" not in page.locator("#library-page").inner_text()


def test_samples_can_be_removed_as_soon_as_the_last_is_registered(open_page: OpenPage) -> None:
    page = open_page()
    address = page.url
    page.goto("about:blank")  # asks nothing more
    library: list[Route] = []
    progress: list[Route] = []

    def answer(route: Route, has_all: bool) -> None:
        found = route.fetch()
        route.fulfill(response=found, json={**found.json(), "samples": 3, "has_all_samples": has_all})

    def hold_the_first(route: Route) -> None:
        library.append(route)
        if len(library) > 1:
            answer(route, True)

    page.route(re.compile(r"/ui/library$"), hold_the_first)
    page.route("**/ui/progress", lambda route: progress.append(route))  # a bound method would not do
    page.goto(address)
    page.locator("#tabs a[data-tab=library]").click()
    expect(page.locator("#library-page")).to_be_visible()
    while not (library and progress):
        page.wait_for_timeout(50)
    body = {"kind": "", "title": "", "hint": "", "done": 0, "count": 0, "is_loading": False, "is_over": True}
    progress[0].fulfill(json=body)
    expect(page.locator(".remove-samples")).to_be_visible()
    # Asked while samples still came, and answered last.
    answer(library[0], False)
    page.wait_for_timeout(500)
    expect(page.locator(".remove-samples")).to_be_visible()
