"""Nothing jumps while the page comes up: the cumulative layout shift, as browsers measure it."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

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
def test_nothing_jumps_while_the_page_comes_up(
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
