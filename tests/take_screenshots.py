"""Draw the pictures of the README into img/, with the demo model and the samples: python -m tests.take_screenshots"""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

from image_search.settings import ROOT
from tests.fakes.browsing import OpenPage, open_browser, serve_page, watch_pages

IMG = ROOT / "img"
WIDE = {"width": 1440, "height": 900}
TALL = {"width": 1440, "height": 1180}
PHONE = {"width": 390, "height": 844}


def main() -> None:
    IMG.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        serve_page(f"sqlite:///{folder}/library.db", EMBEDDING_MODEL="demo/model") as address,
        open_browser() as browser,
        watch_pages(browser, address) as open_page,
    ):
        wait_for_samples(open_page)
        take(open_page, "start.png")
        for name, words in (("words", "猫"), ("apple", "りんご"), ("night_sea", "夜の海")):
            take(open_page, f"search_{name}.png", f"?q={words}", viewport=TALL)
        take(open_page, "search_english.png", "?q=elephant", locale="en-US")
        take(open_page, "phone.png", "?q=猫", viewport=PHONE)
        take_details(open_page)
        take_filters(open_page)
        take_picture_search(open_page)
        take_duplicates(open_page, Path(folder))


def wait_for_samples(open_page: OpenPage) -> None:
    """The first start registers the samples behind the page; relevance is told once the list of tags is embedded."""
    page = open_page(viewport=WIDE)
    page.locator("#notice .notice").wait_for(state="detached", timeout=300_000)
    while True:
        page.goto(page.url.split("?")[0] + "?q=猫")
        page.locator(".tile").nth(15).wait_for()
        if page.locator(".tile .bar").count():
            return


def take(
    open_page: OpenPage, name: str, path: str = "", locale: str = "ja-JP", viewport: dict[str, int] = WIDE
) -> None:
    page = open_page(path, locale=locale, viewport=viewport)
    save(page, name)


def take_details(open_page: OpenPage) -> None:
    page = open_page("?q=猫", viewport=WIDE)
    page.locator(".tile").first.click()
    page.locator(".viewer[open] img").first.wait_for()
    save(page, "details.png")


def take_filters(open_page: OpenPage) -> None:
    page = open_page("?q=夜&prompt=yes", viewport=TALL)
    page.locator("#details button").first.click()
    page.locator("#excluded").wait_for()
    save(page, "filters.png")


def take_picture_search(open_page: OpenPage) -> None:
    page = open_page(viewport=WIDE)
    sample = next(path for path in sorted((ROOT / "images").iterdir()) if "象" in path.name)
    page.locator("#picture input[type=file]").set_input_files(sample)
    page.locator("#summary .timing", has_text="ms").wait_for()
    save(page, "search_picture.png")


def take_duplicates(open_page: OpenPage, folder: Path) -> None:
    """Smaller copies of two samples are added, and found."""
    copies = []
    for path in sorted((ROOT / "images").glob("*.png"))[:2]:
        with Image.open(path) as picture:
            copies.append(folder / f"copy of {path.stem}.jpg")
            picture.convert("RGB").resize((320, 320 * picture.height // picture.width)).save(copies[-1], quality=80)
    page = open_page(viewport=WIDE)
    page.locator("#tabs a[data-tab=library]").click()
    page.set_input_files("#add input[type=file]", copies)
    page.locator("#job-list > li", has_text="新規2枚").wait_for(timeout=120_000)
    page.locator("#find-duplicates").click()
    page.locator("#duplicates .group").first.wait_for(timeout=120_000)
    page.locator("#duplicates-title").scroll_into_view_if_needed()
    save(page, "duplicates.png")


def save(page: Page, name: str) -> None:
    page.locator("#grid .tile img, #duplicates img").nth(3).wait_for()
    page.wait_for_function("[...document.images].every(image => image.complete || image.loading === 'lazy')")
    page.wait_for_timeout(1500)  # the heading and the fonts
    page.screenshot(path=IMG / name)
    with Image.open(IMG / name) as picture:
        # Few colours are enough for a page of drawings, and a third of the bytes.
        picture.convert("RGB").quantize(192, Image.Quantize.MEDIANCUT).save(IMG / name, optimize=True)
    print(IMG / name)


if __name__ == "__main__":
    main()
