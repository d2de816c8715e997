"""A library, the real program serving it, and a real browser: what the tests of the page and the screenshots share."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from image_search.encoders import open_encoder
from image_search.images import DecodedImage, decode_image, make_preview
from image_search.records import ImageText, NewImage
from image_search.search import Searcher
from image_search.settings import ROOT, Settings
from image_search.stores import open_store
from tests.fakes import draw_image_bytes, make_image
from tests.fakes.absent import leave_out
from tests.fakes.checkpoints import get_checkpoint

OpenPage = Callable[..., Page]

# Options that a container allows, and that keep the browser off the network.
BROWSER_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

expect.set_options(timeout=30_000)  # for machines that have other work beside the tests

PROMPT = "a red fox in the snow, <b>best quality</b>\nNegative prompt: blurry\nSteps: 20, Seed: 738268214"
CAPTION = "雪の中の狐"


def fill_library(folder: Path, count: int = 20) -> Settings:
    """A library of images of many colours, picture00.png and so on; picture03.png has a prompt and a caption."""
    settings = Settings(
        database_url=f"sqlite:///{folder}/library.db", embedding_model=str(get_checkpoint("clip")), device="cpu"
    )
    (folder / "pictures").mkdir(exist_ok=True)
    images, decoded_images = [], []
    for number in range(count):
        colour = f"hsl({number * 360 // count}, 80%, {35 + number % 3 * 15}%)"
        text = ImageText(generation_prompt=PROMPT, description=CAPTION) if number == 3 else ImageText()
        image, decoded = make_real_image(f"picture{number:02}.png", draw_image_bytes(colour, (240, 180)), text)
        (folder / "pictures" / image.file_name).write_bytes(image.data)
        images.append(image)
        decoded_images.append(decoded.image)
    with open_store(settings) as store:
        searcher = Searcher(store, open_encoder(settings))
        for image, embedding in zip(images, searcher.encoder.encode_images(decoded_images), strict=True):
            store.add_images(searcher.get_model().model_id, [image], embedding[None])  # one by one: newest is last
    return settings


def make_real_image(name: str, data: bytes, text: ImageText) -> tuple[NewImage, DecodedImage]:
    decoded = decode_image(data, name)
    plain = make_image(name, text, data=data, width=decoded.width, height=decoded.height, file_type=decoded.file_type)
    values = {field: getattr(plain, field) for field in NewImage.__slots__}
    return NewImage(**{**values, "preview": make_preview(decoded)}), decoded


@contextmanager
def serve_page(database_url: str, **environment: str) -> Iterator[str]:
    """ImageSearch.py in a process of its own on a free port; yields its address once it answers."""
    program, address = start_program(database_url, **environment)
    try:
        assert program.stdout is not None
        line = program.stdout.readline()
        assert address in line, f"ImageSearch.py said {line!r}"
        yield f"{address}/"
    finally:
        program.terminate()
        assert program.wait(20) == 0


def start_program(
    database_url: str, stderr: int | None = None, **environment: str
) -> tuple[subprocess.Popen[str], str]:
    """ImageSearch.py in a process of its own, and the address at which it can be reached once it has printed it."""
    port = environment.get("APP_PORT") or find_free_port()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DB_", "APP_"))}
    chosen = {
        "DATABASE_URL": database_url,
        "EMBEDDING_MODEL": str(get_checkpoint("clip")),
        "DEVICE": "cpu",
        "APP_PORT": str(port),
        **environment,
    }
    program = subprocess.Popen(
        [sys.executable, "ImageSearch.py"],
        cwd=ROOT,
        env={**inherited, **chosen},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )
    return program, f"http://127.0.0.1:{port}"


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Chromium without a window. Skips the test where there is none, unless CI says that there must be one."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        leave_out("no Chromium here: apt-get install chromium, or playwright install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=BROWSER_ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def watch_pages(browser: Browser, address: str) -> Iterator[OpenPage]:
    """A function that opens the page, in Japanese unless said otherwise.

    A script error, or a call to any other computer, fails the test at its end.
    """
    contexts, faults = [], []

    def open_page(path: str = "", at: str = address, locale: str = "ja-JP", **options: Any) -> Page:
        context = browser.new_context(locale=locale, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(45_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: None if _is_local(request.url) else faults.append(request.url))
        page.goto(at + path)
        page.locator("#grid .tile, #message .message").first.wait_for(timeout=120_000)  # a search waits for the model
        page.locator("#text textarea, #text input").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def _is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))


def list_names(page: Page) -> list[str]:
    """File names of the images shown, in their order."""
    return page.locator("#grid .tile .name").all_text_contents()


def search_words(page: Page, words: str, also: str = "") -> None:
    """Type and press Enter, as people do, and wait for the answer. also: what else stands in the address by then."""
    box = page.locator("#text textarea, #text input")
    box.fill(words)
    box.press("Enter")
    wait_for_answer(page, urlencode({"q": words}), also)


def wait_until(page: Page, is_so: Callable[[], object]) -> None:
    """Wait for something that the page's events bring about, such as a route that was called."""
    for _ in range(200):
        if is_so():
            return
        page.wait_for_timeout(50)
    raise AssertionError("It has not come.")


def wait_for_answer(page: Page, *queries: str) -> None:
    """Wait until the answer to a question, whose address has these parts, is shown."""
    parts = "".join(f'[data-address*="{query}"]' for query in queries if query)
    page.locator(f"body:not(.asking) #heading{parts}").wait_for(timeout=120_000)  # the first waits for the model


@contextmanager
def hold_answers(page: Page) -> Iterator[None]:
    """Within it the page gets no answer to what it asks; all of them in the end."""
    held: list[Route] = []
    page.route("**/ui/results*", lambda route: held.append(route))
    yield
    for route in held:
        route.continue_()
    page.unroute("**/ui/results*")


def choose_query_image(page: Page, files: str | Path | Sequence[Path]) -> None:
    page.set_input_files("#picture input[type=file]", files)


def paste_files(page: Page, files: dict[str, bytes]) -> None:
    """As the clipboard gives them, to whatever has the focus."""
    page.evaluate(_PASTE, [[name, list(data)] for name, data in files.items()])


_PASTE = """(files) => {
  const transfer = new DataTransfer();
  for (const [name, bytes] of files)
    transfer.items.add(new File([new Uint8Array(bytes)], name, { type: 'image/png' }));
  const event = new ClipboardEvent('paste', { clipboardData: transfer, bubbles: true, cancelable: true });
  document.activeElement.dispatchEvent(event);
}"""
