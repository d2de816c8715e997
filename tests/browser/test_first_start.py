"""From a first start to one's own photographs, searched with an open model: no terminal, no editor, no restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from image_search.registration.files import find_files
from image_search.settings import SAMPLES
from tests.fakes import draw_image_bytes
from tests.fakes.browsing import list_names, search_words, serve_page, watch_pages
from tests.fakes.checkpoints import write_siglip
from tests.fakes.hub import FakeHub, serve_hub

MODEL = "llm-jp/waon-siglip2-base-patch16-256"
SAMPLE_COUNT = len(find_files([SAMPLES]).files)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    (root / "写真").mkdir()
    for colour in ("tomato", "teal", "plum"):
        (root / "写真" / f"{colour}.jpg").write_bytes(draw_image_bytes(colour, (240, 160), "JPEG"))
    return root


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FakeHub, str]]:
    with serve_hub() as (hub, endpoint):
        hub.repositories[MODEL] = write_siglip(tmp_path_factory.mktemp("hub") / "model", 768)
        yield hub, endpoint


def test_photographs_are_chosen_and_searched_with_an_open_model(
    browser: Browser, tmp_path: Path, photographs: Path, hub: tuple[FakeHub, str]
) -> None:
    fake, endpoint = hub
    url = f"sqlite:///{tmp_path}/library.db"
    environment = {"EMBEDDING_MODEL": "", "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf")}
    environment |= {"LIBRARY_ROOTS": str(photographs), "HF_HUB_OFFLINE": "0"}
    with serve_page(url, **environment) as address, watch_pages(browser, address) as open_page:
        page = open_page()
        page.locator("#tabs a[data-tab=library]").click()
        current = page.locator("#model-list > li", has=page.locator(".current:visible"))
        expect(current.locator(".name")).to_have_text("demo/model")
        expect(current).to_contain_text("サンプルのような描かれた場面だけを知っています")

        expect(page.locator("#library-begin")).to_be_visible()
        page.locator("#library-begin .add-folder").click()
        page.locator("#folder-form .browse").click()
        page.locator("#folder-browser button", has_text="写真").click()
        page.locator("#folder-form [type=submit]").click()
        scan = page.locator("#job-list > li", has_text="写真 の読み込み")
        expect(scan).to_have_attribute("data-state", "done", timeout=120_000)
        expect(scan).to_contain_text("新規3枚")
        page.locator(".remove-samples").click(timeout=180_000)  # it waits until all samples are there
        expect(page.locator(".toast").last).to_contain_text(f"サンプル{SAMPLE_COUNT}枚")

        # The first download breaks off: that is said, and the next one goes on where it ended.
        fake.breaks_after = 5_000_000
        wanted = page.locator("#model-list > li", has_text=MODEL)
        expect(wanted).to_contain_text("写真や画像、日本語、英語 · 約1.5 GB · ライセンス：Apache-2.0")
        wanted.locator(".use").click()
        job = page.locator("#job-list > li").first
        expect(job).to_have_attribute("data-state", "failed")
        expect(job.locator(".error")).to_contain_text("モデルの配布元に接続できませんでした")
        fake.is_down = False
        fake.may_send.clear()
        wanted.locator(".use").click()
        expect(job).to_contain_text("ダウンロード")
        expect(job.locator(".facts")).to_contain_text("%")
        page.reload()  # a download goes on without the page
        expect(job.locator(".facts")).to_contain_text("%")
        fake.may_send.set()
        expect(job).to_have_attribute("data-state", "done", timeout=120_000)
        assert any(int(wanted.removeprefix("bytes=").rstrip("-")) > 4_000_000 for wanted in fake.ranges)
        expect(current.locator(".name")).to_have_text(MODEL)

        page.locator("#tabs a[data-tab=search]").click()
        search_words(page, "夕焼け")
        assert sorted(list_names(page)) == ["plum.jpg", "teal.jpg", "tomato.jpg"]

    # The choice is kept with the library: the next start needs neither .env nor a network.
    environment["HF_ENDPOINT"] = "http://127.0.0.1:9"
    with serve_page(url, **environment) as address, watch_pages(browser, address) as open_page:
        page = open_page()
        search_words(page, "夕焼け")
        assert sorted(list_names(page)) == ["plum.jpg", "teal.jpg", "tomato.jpg"]
        page.locator("#tabs a[data-tab=library]").click()
        expect(page.locator("#model-list > li", has=page.locator(".current:visible"))).to_contain_text(MODEL)
        expect(page.locator("#model-list > li .facts").first).to_contain_text("画像の100%を検索できます")


def test_model_of_the_settings_wins_and_says_so(browser: Browser, tmp_path: Path) -> None:
    with serve_page(f"sqlite:///{tmp_path}/library.db") as address, watch_pages(browser, address) as open_page:
        page = open_page(locale="en-US")
        page.locator("#tabs a[data-tab=library]").click()
        expect(page.locator("#model-note")).to_contain_text("EMBEDDING_MODEL is set to")
        expect(page.locator("#model-list .use:visible")).to_have_count(0)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of a library that registers the samples as it starts."""
    url = f"sqlite:///{tmp_path_factory.mktemp('samples')}/library.db"
    with serve_page(url, EMBEDDING_MODEL="demo/model") as address:
        yield address


def test_examples_find_samples_and_no_good_match_is_not_said_above_them(browser: Browser, samples: str) -> None:
    with watch_pages(browser, samples) as open_page:
        page = open_page(locale="en-US")
        page.locator("#tabs a[data-tab=library]").click()
        expect(page.locator(".remove-samples")).to_be_visible(timeout=180_000)  # once all samples are there
        page.locator("#tabs a[data-tab=search]").click()
        expect(page.locator("#examples a").first).to_be_visible()
        examples = page.locator("#examples a").all_inner_texts()
        assert examples[0] == "rocket at night"
        for words in examples:
            search_words(page, words)
            expect(page.locator("#grid .tile").first).to_be_visible()
            expect(page.locator("#message .message")).to_have_count(0)


def test_focus_goes_to_the_folders_when_the_samples_are_removed(browser: Browser, samples: str) -> None:
    with watch_pages(browser, samples) as open_page:
        page = open_page()
        page.locator("#tabs a[data-tab=library]").click()
        expect(page.locator(".remove-samples")).to_be_visible(timeout=180_000)  # also if they are still registered
        page.locator(".remove-samples").press("Enter")
        expect(page.locator(".toast").last).to_contain_text("サンプル")
        expect(page.locator(".remove-samples")).to_be_hidden()
        expect(page.locator("#folders-title")).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.locator("#library-page header .add-folder")).to_be_focused()
