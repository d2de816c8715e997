"""Accessibility and language of every state of the page: axe-core finds nothing serious, and no text is in the other
language."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.fakes.browsing import OpenPage, choose_query_image, fill_library, serve_page, wait_for_answer

SIZES = {"wide": {"viewport": {"width": 1280, "height": 800}}} | {
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
}
OPTIONS = {"resultTypes": ["violations"], "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}

JAPANESE = re.compile(r"[ぁ-んァ-ヶ一-龠々]")
# Words that stand in a Japanese page as they are: units, keys, formats and names of things.
SHARED = r"ZIP|KB|MB|MP|px|PNG|Esc|Del|Shift|CFG|LoRA|ISO|mm|AND|Ctrl|Seed|image|png|clip|MiB|GB|ms"
ENGLISH = re.compile(rf"\b(?!(?:{SHARED}|picture\d\d)\b)[A-Za-z]{{2,}}\b")
# Text that people or files wrote, in whatever language.
OWN_TEXT = (
    ".file-name, .tile, .pswp__img, [data-text], .keywords a, textarea, kbd, #folder-list, #model-list li, #findings p"
)


def open_start(page: Page) -> None:
    expect(page.locator(".tile").first).to_be_visible()


def open_search(page: Page) -> None:
    page.locator("#text textarea, #text input").fill(
        "狐" if "ja" in page.locator("html").get_attribute("lang") else "fox"
    )
    page.keyboard.press("Enter")
    page.locator("body:not(.asking) #heading[data-address*=q]").wait_for(timeout=120_000)


def open_conditions(page: Page) -> None:
    page.goto(page.url.split("?")[0] + "?like=3&shape=landscape&from=2020-01-01&not=x")
    page.locator("#chips .chip").first.wait_for()
    page.locator("#filters-toggle").click()
    expect(page.locator("#filters")).to_be_visible()


def open_viewer(page: Page) -> None:
    page.goto(page.url.split("?")[0] + "?prompt=yes")
    page.locator(".tile").first.click()
    if not page.locator(".facts-panel").is_visible():
        page.locator(".pswp__button--info").click()
    page.locator(".facts-panel .stars").wait_for()


def open_keys(page: Page) -> None:
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(page.locator(".pswp")).to_have_count(0)
    page.locator(".tile").first.focus()
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()


def open_selection(page: Page) -> None:
    page.keyboard.press("Escape")
    page.goto(page.url.split("?")[0] + "?order=name")
    wait_for_answer(page, "order=name")  # until then tiles are drawn again, and a key may go to one that is gone
    page.locator(".tile").first.press("x")
    expect(page.locator("#selection")).to_be_visible()


def open_keywords(page: Page) -> None:
    page.locator('#selection [data-select="keywords"]').click()
    expect(page.locator("#keywords-dialog")).to_be_visible()


def open_rating(page: Page) -> None:
    page.keyboard.press("Escape")
    page.locator('#selection [data-select="rating"]').click()
    expect(page.locator("#rating-dialog")).to_be_visible()


def open_toast(page: Page) -> None:
    page.locator('#rating-dialog [value="cancel"]').click()
    page.locator('#selection [data-select="paths"]').click()
    page.locator("#toasts .toast").wait_for()


def open_nothing(page: Page) -> None:
    page.goto(page.url.split("?")[0] + "?camera=99&from=99")
    page.locator("#message .message").wait_for()


def open_library(page: Page) -> None:
    page.goto(page.url.split("?")[0] + "?tab=library")
    page.locator("#library-page .add-folder >> visible=true").first.wait_for()
    page.locator("#add").wait_for()


def open_check(page: Page) -> None:
    page.locator("#run-check").click()
    page.locator("#findings li").first.wait_for()


STATES: list[Callable[[Page], None]] = [
    open_start,
    open_search,
    open_conditions,
    open_viewer,
    open_keys,
    open_selection,
    open_keywords,
    open_rating,
    open_toast,
    open_nothing,
    open_library,
    open_check,
]


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with serve_page(fill_library(folder).database_url) as address:
        yield address


def find_violations(page: Page) -> list[str]:
    found: list[dict[str, Any]] = Axe().run(page, options=OPTIONS).response["violations"]
    return [
        f"{violation['id']} ({violation['impact']}): {node['target']} {node['failureSummary'].splitlines()[1:2]}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("locale", ["ja-JP", "en-US"])
def test_no_state_of_the_page_has_a_serious_fault_or_a_text_in_the_other_language(
    open_page: OpenPage, locale: str, size: str, scheme: str
) -> None:
    page = open_page(locale=locale, color_scheme=scheme, **SIZES[size])
    faults = []
    for open_state in STATES:
        open_state(page)
        found = [f"{open_state.__name__}: {fault}" for fault in (*find_violations(page), *find_foreign(page, locale))]
        print(*found, sep="\n")
        faults += found
    assert not faults, "\n".join(dict.fromkeys(faults))


def test_fault_and_a_foreign_text_that_are_put_into_the_page_are_found(open_page: OpenPage) -> None:
    page = open_page()
    faint = '<p style="color: #ccc; background: #fff">faint words</p><button></button>'
    page.locator("#page").evaluate("(page, html) => page.insertAdjacentHTML('afterbegin', html)", faint)
    found = find_violations(page)
    assert any(fault.startswith("color-contrast (serious)") for fault in found)
    assert any(fault.startswith("button-name (critical)") for fault in found)
    assert find_foreign(page, "ja-JP") == ["foreign: faint words"]


def find_foreign(page: Page, locale: str) -> list[str]:
    foreign = ENGLISH if locale == "ja-JP" else JAPANESE
    texts: list[str] = [page.title(), *page.evaluate(LIST_TEXTS, OWN_TEXT)]
    # Paths, settings and typed conditions are the same in every language.
    return [
        f"foreign: {text}"
        for text in texts
        if foreign.search(re.sub(r"/\S+|\.env|[A-Z]+_[A-Z_]+|[a-z]+:\S+", "", text))
    ]


LIST_TEXTS = """(own) => {
  const texts = [];
  const isShown = (element) => element.checkVisibility({ visibilityProperty: true });
  for (const element of document.body.querySelectorAll('*')) {
    if (element.closest('script, style, template') || !isShown(element) || element.closest(own)) continue;
    for (const name of ['aria-label', 'title', 'placeholder', 'alt', 'aria-roledescription'])
      if (element.getAttribute(name)) texts.push(element.getAttribute(name));
    for (const node of element.childNodes)
      if (node.nodeType === Node.TEXT_NODE && node.data.trim()) texts.push(node.data.trim());
  }
  return texts;
}"""


@pytest.fixture(scope="module")
def closed(folder: Path) -> Iterator[str]:
    with serve_page(f"sqlite:///{folder}/library.db", APP_PASSWORD="sesame-opens-42") as address:
        yield address


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("locale", ["ja-JP", "en-US"])
def test_login_has_no_serious_fault_and_one_language(
    browser: Browser, closed: str, locale: str, size: str, scheme: str
) -> None:
    context = browser.new_context(locale=locale, color_scheme=scheme, **SIZES[size])  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(closed)
    page.locator("#password").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).not_to_be_empty()
    assert [*find_violations(page), *find_foreign(page, locale)] == []
    context.close()


def test_every_image_has_an_alternative_text(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    texts = page.locator("#grid img").evaluate_all("images => images.map(image => image.alt)")
    assert all(texts)
    assert texts[3] == "雪の中の狐"


@pytest.mark.parametrize("locale", ["ja-JP", "en-US"])
def test_targets_on_a_phone_are_large_enough_for_a_finger(open_page: OpenPage, locale: str) -> None:
    page = open_page(locale=locale, **SIZES["phone"])
    small = []
    for open_state in STATES:
        open_state(page)
        found = [f"{open_state.__name__}: {target}" for target in page.evaluate(LIST_SMALL)]
        print(*found, sep="\n")
        small += found
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not small, "\n".join(dict.fromkeys(small))


# Links within text are as high as their line; what is hidden behind something else is not a target.
LIST_SMALL = """() => {
  const small = [];
  for (const element of document.querySelectorAll('button, a, input, select, textarea, summary')) {
    if (!element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    if (element.closest('.sr-only, .skip, dd, #folder-list .count')) continue;
    const box = element.getBoundingClientRect();
    if (box.width < 2 || box.bottom < 0 || box.top > innerHeight) continue;
    const isField = element.matches('input:not([type=checkbox], [type=range], [type=file]), textarea, select');
    if (isField && parseFloat(getComputedStyle(element).fontSize) < 16) small.push(`font ${describe(element)}`);
    if (element.matches('[type=file]')) continue;
    const size = `${Math.round(box.width)}x${Math.round(box.height)}`;
    if (box.height < 43.5 || box.width < 43.5) small.push(`${size} ${describe(element)}`);
  }
  return small;
  function describe(element) {
    return element.outerHTML.slice(0, 110);
  }
}"""


def test_phone_is_told_nothing_of_dropping(open_page: OpenPage) -> None:
    page = open_page(**SIZES["phone"])
    for path in ("", "?tab=library"):
        page.goto(page.url.split("?")[0] + path)
        page.locator("#tabs a[aria-current]").wait_for()
        page.wait_for_timeout(500)
        assert "ドロップ" not in page.locator("body").inner_text()


def test_page_has_icons_and_tags_of_its_own(open_page: OpenPage) -> None:
    page = open_page(locale="en-US")
    root = page.url.split("?")[0]
    html = page.request.get(root).text()
    assert "gradio" not in " ".join(re.findall(r"<(?:meta|link)[^>]*>", html)).lower().replace("ui/static", "")
    assert f'<meta property="og:image" content="{root}ui/icon-512.png">' in html
    manifest = page.request.get(f"{root}manifest.json").json()
    assert manifest["name"] == "Image Search"
    for address in (*(icon["src"] for icon in manifest["icons"]), "favicon.ico"):
        answer = page.request.get(root + address)
        assert (answer.status, answer.headers["content-type"].split("/")[0]) == (200, "image")


def test_skip_link_goes_to_the_images_and_keeps_the_search(open_page: OpenPage) -> None:
    page = open_page("?q=red")
    wait_for_answer(page, "q=red")
    page.locator("#skip").press("Enter")
    expect(page.locator(".tile").first).to_be_focused()
    expect(page).to_have_url(re.compile(r"\?q=red$"))
    page.locator("#tabs a[data-tab=library]").click()
    expect(page).to_have_title("ライブラリー - 類似画像検索")
    expect(page.locator("#skip")).to_have_text("ライブラリーへ移動")
    page.locator("#skip").press("Enter")
    expect(page.locator("#library-page")).to_be_focused()
    expect(page).to_have_url(re.compile(r"\?tab=library$"))


def test_each_answer_is_read_out_with_its_question(open_page: OpenPage) -> None:
    page = open_page("?order=name")
    said = page.locator("#said[role=status]")
    expect(said).to_have_text("すべての画像、20枚")
    for words in ("red", "blue"):  # as many for both
        page.goto(page.url.split("?")[0] + f"?q={words}")
        expect(said).to_contain_text(words)
        expect(said).to_contain_text("20枚")
    page.goto(page.url.split("?")[0] + "?camera=99")
    expect(said).to_contain_text("条件に合う画像はありません")


def test_parts_and_buttons_have_names_that_tell_them_apart(open_page: OpenPage, folder: Path) -> None:
    page = open_page("?order=name")
    expect(page.get_by_role("main")).to_have_count(1)
    expect(page.get_by_role("search").get_by_role("button", name="画像を選んで検索")).to_be_visible()
    # A file name that is all there is of an image is said once.
    expect(page.get_by_role("link", name="picture00.png", exact=True)).to_be_visible()
    page.get_by_role("link", name="雪の中の狐 picture03.png", exact=True).click()
    facts = page.get_by_role("complementary", name="情報")
    expect(facts.get_by_role("heading", name="画像生成プロンプト", exact=True)).to_be_visible()
    expect(facts.get_by_role("button", name="コピー：画像生成プロンプト")).to_be_visible()
    page.goto(page.url.split("?")[0])
    choose_query_image(page, folder / "pictures" / "picture03.png")
    expect(page.get_by_role("button", name="検索画像を外す")).to_be_visible()


@pytest.mark.parametrize("dialog", ["#keys", "#keywords-dialog", "#rating-dialog", "#confirm"])
def test_dialog_fits_a_phone(open_page: OpenPage, dialog: str) -> None:
    page = open_page(**SIZES["phone"])
    if dialog == "#confirm":
        page.locator("#tabs a[data-tab=library]").tap()
    page.locator(dialog).evaluate("dialog => dialog.showModal()")
    box = page.locator(dialog).bounding_box()
    assert box
    assert box["x"] >= 8
    assert box["x"] + box["width"] <= 382


def test_check_keeps_the_focus_and_says_that_it_is_done(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#tabs a[data-tab=library]").click()
    expect(page.locator("#disk")).to_contain_text("空き容量")  # the tab is there
    page.locator("#run-check").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#toasts")).to_contain_text("点検が終わりました", timeout=120_000)
    expect(page.locator("#run-check")).to_be_focused()
