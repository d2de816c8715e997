"""Nothing jumps while the page comes up: the cumulative layout shift, as browsers measure it."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from tests.fakes.browsing import OpenPage

SIZES = {"wide": {"viewport": {"width": 1280, "height": 800}}} | {
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
}
# https://web.dev/articles/cls calls 0.1 good.
GOOD = 0.1
WATCH = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries())
    if (!entry.hadRecentInput)
      window.shifts.push([entry.value, entry.sources.map(({ node }) => node?.id || node?.className || node?.nodeName)]);
}).observe({ type: 'layout-shift', buffered: true });
"""


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("path", ["", "?q=red", "?like=3&shape=landscape", "?order=taken", "?tab=library"])
def test_page_does_not_jump_while_it_comes_up(
    browser: Browser, address: str, open_page: OpenPage, path: str, size: str
) -> None:
    open_page("?q=red")  # the model is there
    context = browser.new_context(locale="ja-JP", **SIZES[size])  # type: ignore[arg-type]
    page = context.new_page()
    page.add_init_script(WATCH)
    page.goto(address + path)
    page.locator("#text textarea, #text input").wait_for(state="attached")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(500)
    shifts = page.evaluate("window.shifts")
    context.close()
    total = sum(value for value, _ in shifts)
    print(f"layout shift {path or '/'} {size}: {total:.4f} {shifts}")
    assert total < GOOD, shifts


LOADING = {"kind": "notice", "title": "モデルを読み込み中です", "hint": "", "done": 0, "count": 0, "is_loading": True}
REGISTERING = {**LOADING, "kind": "progress", "title": "登録中", "done": 3, "count": 9, "is_loading": False}
OVER = {**LOADING, "kind": "", "title": "", "is_loading": False}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("locale", ["ja-JP", "en-US"])
def test_page_does_not_jump_when_the_notices_of_the_start_come_and_go(
    browser: Browser, address: str, size: str, locale: str
) -> None:
    said = {**LOADING, "is_over": False}
    context = browser.new_context(locale=locale, **SIZES[size])  # type: ignore[arg-type]
    page = context.new_page()
    page.add_init_script(WATCH)
    page.route("**/ui/progress", lambda route: route.fulfill(json=said))

    page.goto(address)
    page.locator("#grid .tile").first.wait_for()
    expect(page.locator("#notice .busy")).to_be_visible()
    page.locator("#text textarea, #text input").wait_for()
    page.wait_for_timeout(300)
    top = page.locator("#grid .tile").first.bounding_box()["y"]
    said.update(REGISTERING)
    expect(page.locator("#notice progress")).to_be_visible()
    said.update({**OVER, "is_over": True})
    expect(page.locator("#notice")).to_be_hidden()
    page.wait_for_timeout(500)
    assert page.locator("#grid .tile").first.bounding_box()["y"] == top
    shifts = page.evaluate("window.shifts")
    context.close()
    assert sum(value for value, _ in shifts) < GOOD, shifts
