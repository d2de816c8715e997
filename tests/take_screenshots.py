"""Draw the images of the README into img/, with the demo model and the samples: python -m tests.take_screenshots"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page

from image_search.settings import ROOT
from tests.fakes.browsing import OpenPage, choose_query_image, open_browser, serve_page, wait_for_answer, watch_pages

IMG = ROOT / "img"
WIDE: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "has_touch": True,
    "is_mobile": True,
    "device_scale_factor": 2,
}
ENGLISH: dict[str, Any] = {"locale": "en-US"}
DARK: dict[str, Any] = {"color_scheme": "dark"}


def main() -> None:
    IMG.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        serve_page(f"sqlite:///{folder}/library.db", EMBEDDING_MODEL="demo/model") as address,
        open_browser() as browser,
        watch_pages(browser, address) as open_page,
    ):
        wait_for_samples(open_page)
        save(open_page("?q=猫", **WIDE), "search_words.png")
        save(open_page("?q=elephant", **WIDE, **ENGLISH, **DARK), "search_english.png")
        take_viewer(open_page)
        take_filters(open_page)
        take_selection(open_page)
        take_image_search(open_page)
        take_phone(open_page)
        save(open_library(open_page, **ENGLISH), "library.png")
        take_duplicates(open_page, Path(folder))


def wait_for_samples(open_page: OpenPage) -> None:
    """The first start registers the samples behind the page; relevance is told once the list of tags is embedded."""
    page = open_page(**WIDE)
    page.locator("#notice").wait_for(state="hidden", timeout=300_000)
    while True:
        page.goto(page.url.split("?")[0] + "?q=猫")
        wait_for_answer(page)
        if page.locator(".tile .bar:not([hidden])").count():
            return
        page.wait_for_timeout(1000)


def take_viewer(open_page: OpenPage) -> None:
    page = open_page("?q=夜の海&prompt=yes", **WIDE)
    page.locator(".tile").first.click()
    page.locator(".facts-panel .stars").wait_for()
    save(page, "details.png")


def take_filters(open_page: OpenPage) -> None:
    page = open_page("?q=夜&prompt=yes&shape=landscape", **WIDE)
    page.locator("#filters-toggle").click()
    page.locator("#filters").wait_for()
    save(page, "filters.png")


def take_selection(open_page: OpenPage) -> None:
    page = open_page("?q=dog", **WIDE, **ENGLISH)
    for number in (0, 1, 2, 4):
        page.locator(".tile").nth(number).focus()
        page.keyboard.press("x")
    save(page, "selection.png")


def take_image_search(open_page: OpenPage) -> None:
    page = open_page(**WIDE)
    choose_query_image(page, next(path for path in sorted((ROOT / "images").iterdir()) if "象" in path.name))
    wait_for_answer(page, "picture=")
    save(page, "search_picture.png")


def take_phone(open_page: OpenPage) -> None:
    """A search and an image with what is known of it, side by side."""
    shots = []
    for name, options in (("search", {}), ("viewer", DARK)):
        page = open_page("?q=りんご", **PHONE, **options)
        if name == "viewer":
            page.locator(".tile").first.tap()
            page.locator(".pswp__button--info").tap()
            page.locator(".facts-panel .stars").wait_for()
        settle(page)
        shots.append(IMG / f"phone_{name}.png")
        page.screenshot(path=shots[-1])
    images = [Image.open(path).convert("RGB") for path in shots]
    both = Image.new("RGB", (sum(image.width for image in images) + 40, images[0].height), "white")
    both.paste(images[0], (0, 0))
    both.paste(images[1], (images[0].width + 40, 0))
    shrink(both, IMG / "phone.png")
    for path in shots:
        path.unlink()


def open_library(open_page: OpenPage, **options: Any) -> Page:
    page = open_page(**WIDE, **options)
    page.locator("#tabs a[data-tab=library]").click()
    page.locator("#add").wait_for()
    page.locator("#model-list li").first.wait_for()
    return page


def take_duplicates(open_page: OpenPage, folder: Path) -> None:
    """Smaller copies of two samples are added, and found."""
    copies = []
    for path in sorted((ROOT / "images").glob("*.png"))[:2]:
        with Image.open(path) as image:
            copies.append(folder / f"copy of {path.stem}.jpg")
            image.convert("RGB").resize((320, 320 * image.height // image.width)).save(copies[-1], quality=80)
    page = open_library(open_page)
    page.set_input_files("#add input[type=file]", copies)
    page.locator("#job-list > li", has_text="新規2枚").wait_for(timeout=120_000)
    page.locator("#find-duplicates").click()
    page.locator("#duplicates .group").first.wait_for(timeout=120_000)
    page.locator("#duplicates-title").evaluate("title => title.scrollIntoView()")
    save(page, "duplicates.png")


def settle(page: Page) -> None:
    page.evaluate(HIDE_FOLDER, str(ROOT))
    page.wait_for_function("[...document.images].every(image => image.complete || image.loading === 'lazy')")
    page.wait_for_timeout(1500)  # the original in place of the preview, and the fonts
    page.mouse.move(1, 1)


# Where the repository lies on this computer belongs in no image.
HIDE_FOLDER = """(folder) => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) walker.currentNode.data = walker.currentNode.data.replaceAll(folder, '/home/me/pictures');
}"""


def save(page: Page, name: str) -> None:
    settle(page)
    page.screenshot(path=IMG / name)
    with Image.open(IMG / name) as image:
        shrink(image, IMG / name)


def shrink(image: Image.Image, path: Path) -> None:
    # Few colours are enough for a page of drawings, and a third of the bytes.
    image.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT).save(path, optimize=True)
    print(path)


if __name__ == "__main__":
    main()
