"""The first page and every click, in a real browser: requests, bytes, and how long until the pictures are painted.

    python benchmarks/page.py --sizes 10k,1m --people 1,8
    python benchmarks/page.py --sizes "" --people ""            the first table only

The first table counts what goes over the line, on the sample pictures with the demo model, and says how long from the
click to painted pictures. The second: for one person and for several at once.

Each person clicks on "more like this" of a random picture, ten times, and looks at every answer for a second:
a search with a stored embedding, so that no model has a part in it. Beside it the way that a simple page goes: Gradio's
Gallery, given sixteen originals as PIL images, once generated pictures and once photographs of 12 megapixels. And the
limit: a page of sixteen <img>, whose button shows sixteen random small previews. Neither of the two searches at all.
"""

from __future__ import annotations

import argparse
import io
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._search_engines import Ours
from benchmarks._vectors import DIMENSION, make_vectors
from benchmarks.search import parse_sizes
from image_search.images import decode_image, make_preview, read_small_preview
from image_search.settings import SAMPLES
from tests.fakes import checkpoints
from tests.fakes.browsing import find_free_port, open_browser, serve_page

PICTURES = 200  # different ones; a library of any size shows them again and again
GENERATED, PHOTOGRAPH = (1024, 768), (4000, 3000)  # pixels of an original
PHOTOGRAPHS = 32
CLICKS = 10
DESK = {"width": 1280, "height": 800}
VIEW = {"width": 1600, "height": 2400}  # all sixteen are in sight, or they would be loaded later
COLUMNS = ("page", "images", "people", "p50 ms", "p95 ms")

# Clicks, and waits until the browser has drawn sixteen other pictures. Times in ms.
CLICK = """async ([buttons, pictures, clicks]) => {
  const list = () => [...document.querySelectorAll(pictures)];
  const name = () => list().map((image) => image.src).join();
  const frame = () => new Promise(requestAnimationFrame);
  const times = [];
  for (let click = 0; click < clicks; click++) {
    await new Promise((go) => setTimeout(go, 1000));
    const former = name(), found = document.querySelectorAll(buttons), started = performance.now();
    found[Math.floor(Math.random() * found.length)].click();
    const isNew = () => list().length === 16 && name() !== former;
    while (!isNew() || !list().every((image) => image.complete)) await frame();
    await Promise.allSettled(list().map((image) => image.decode()));  // Gallery breaks one now and then
    await frame();
    times.push(performance.now() - started);
  }
  return times;
}"""


# Which pictures the grid shows, as one text.
SHOWN = "[...document.querySelectorAll('.tile img')].map((image) => image.src).join()"
# Whether the grid shows others than before, and those in sight are there.
PAINTED = """(former) => {
  const images = [...document.querySelectorAll('.tile img')];
  if (!images.length || images.map((image) => image.src).join() === former) return false;
  return images.every((image) => image.complete || image.getBoundingClientRect().top > innerHeight);
}"""


def main() -> None:
    """Measure what the arguments name and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="10k", help="how many images, for example 10k,1m")
    parser.add_argument("--people", default="1,8", help="how many click at once")
    parser.add_argument("--folder", help="where libraries are made (default: a temporary folder)")
    arguments = parser.parse_args()
    people = parse_sizes(arguments.people) if arguments.people else []
    with open_browser() as browser:
        print_costs(browser)
    if not people:
        return
    print("\n| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name, open_browser() as browser:
        folder = Path(name)
        pictures = write_pictures(folder / "pictures.db", PICTURES, GENERATED)
        photographs = write_pictures(folder / "photographs.db", PHOTOGRAPHS, PHOTOGRAPH)
        with serve(run_limit, pictures) as address:
            for count in people:
                print_times("sixteen <img>", None, count, click(browser, address, ".ask", "img", count))
        with serve(run_gallery, pictures) as address:
            for count in people:
                times = click(browser, address, "button.ask", ".grid-wrap img", count)
                print_times("Gallery, 1024 x 768", None, count, times)
        with serve(run_gallery, photographs) as address:  # one person's clicks say enough
            times = click(browser, address, "button.ask", ".grid-wrap img", 1, clicks=3)
            print_times("Gallery, 4000 x 3000", None, 1, times)
        for size in parse_sizes(arguments.sizes) if arguments.sizes else []:
            with serve_library(folder, size, Path(arguments.folder or folder), pictures) as address:
                for count in people:
                    print_times("this page", size, count, click(browser, address, ".similar", ".tile img", count))


class Line:
    """Counts requests and bytes of a page as they go over the line; what comes from the browser's cache is neither."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._sizes: list[int] = []
        line = page.context.new_cdp_session(page)
        line.send("Network.enable")
        line.on("Network.loadingFinished", lambda event: self._sizes.append(int(event["encodedDataLength"])))

    def measure(self, name: str, act: Callable[[], None]) -> None:
        """Do something, wait until nothing is fetched any more, and print a row."""
        self._sizes.clear()
        started = time.perf_counter()
        act()
        painted = time.perf_counter() - started
        self._page.wait_for_timeout(2000)  # what is fetched behind the paint counts, too
        fetched = [size for size in self._sizes if size]
        print(f"| {name} | {len(fetched)} | {sum(fetched) / 1000:,.0f} | {painted * 1000:,.0f} |", flush=True)


def print_costs(browser: Browser) -> None:
    """What a visit and each kind of click cost, on the samples."""
    print("| this page | requests | KB | painted ms |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        address = f"sqlite:///{folder}/library.db"
        with serve_page(address, EMBEDDING_MODEL="") as place, browser.new_context(viewport=DESK) as context:
            wait_for_samples(place)
            page = context.new_page()
            line = Line(page)

            def visit() -> None:
                page.goto(place, wait_until="commit")
                wait_for_paint(page, "")

            def change(act: Callable[[], None]) -> Callable[[], None]:
                def act_and_wait() -> None:
                    former = page.evaluate(SHOWN)
                    act()
                    wait_for_paint(page, former)

                return act_and_wait

            def search(words: str) -> Callable[[], None]:
                def type_and_send() -> None:
                    page.locator("#text input, #text textarea").first.fill(words)
                    page.keyboard.press("Enter")

                return change(type_and_send)

            line.measure("first visit", visit)
            line.measure("second visit", visit)
            page.locator("#search").wait_for()
            line.measure("search for words", search("red sunset"))
            line.measure("search for other words", search("青い海"))
            line.measure("the same words again", search("red sunset"))
            line.measure("more like this", change(lambda: page.locator(".similar").nth(3).dispatch_event("click")))
            page.mouse.move(640, 500)
            line.measure("the next tiles, scrolled to", change(lambda: page.mouse.wheel(0, 4000)))
            line.measure("one picture, large", lambda: open_viewer(page))


def wait_for_samples(address: str) -> None:
    """Return when all samples are registered and the model answers."""
    expected = sum(1 for path in SAMPLES.rglob("*.*") if path.suffix in (".png", ".jpg", ".jpeg", ".webp"))
    while httpx.get(f"{address}api/status", timeout=60).json()["image_count"] < expected:
        time.sleep(0.5)
    httpx.post(f"{address}api/search", json={"text": "warm"}, timeout=60).raise_for_status()


def open_viewer(page: Page) -> None:
    """Click on a tile and wait until its picture is painted."""
    page.locator("a.tile").nth(2).dispatch_event("click")
    page.wait_for_function("[...document.querySelectorAll('.pswp__img')].some((image) => image.naturalWidth > 0)")


def wait_for_paint(page: Page, former: str) -> None:
    """Return when other tiles than these are shown, and every picture in sight is painted."""
    page.wait_for_function(PAINTED, arg=former, polling="raf", timeout=120_000)


def write_pictures(path: Path, count: int, side: tuple[int, int]) -> Path:
    """A database of originals (JPEG, as a camera's: soft colours and a little noise) and their previews."""
    random = np.random.default_rng(0)
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE pictures (number INTEGER PRIMARY KEY, original BLOB, preview BLOB)")
        for number in range(count):
            soft = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8)).resize(side, Image.Resampling.BICUBIC)
            noisy = np.asarray(soft) + random.normal(0, 4, (side[1], side[0], 3)).astype(np.float32)
            file = io.BytesIO()
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
            preview = make_preview(decode_image(file.getvalue(), "picture"))
            connection.execute("INSERT INTO pictures VALUES (?, ?, ?)", (number, file.getvalue(), preview))
    connection.close()
    return path


@contextmanager
def serve_library(folder: Path, size: int, vectors_folder: Path, pictures: Path) -> Iterator[str]:
    """The program itself on a library of this size; yields its address when the model and the index are ready."""
    from image_search.encoders import open_encoder
    from image_search.settings import Settings

    place = folder / str(size)
    place.mkdir()
    checkpoint = checkpoints.write_clip(place / "clip", dimension=DIMENSION)
    settings = Settings(database_url=f"sqlite:///{place}/library.db", embedding_model=str(checkpoint))
    vectors, _ = make_vectors("clustered", size, vectors_folder)
    Ours().build(place, vectors, np.zeros(size, np.bool_))
    encoder = open_encoder(settings)
    connection = sqlite3.connect(place / "library.db", isolation_level=None)
    connection.execute("UPDATE embedding_models SET model_name = ?, model_version = ?", (encoder.name, encoder.version))
    # A million previews would fill the disk: every image shows one of a few.
    connection.execute("ATTACH ? AS given", (str(pictures),))
    connection.execute("CREATE TABLE pictures AS SELECT number, preview FROM given.pictures")
    connection.execute("CREATE UNIQUE INDEX pictures_by_number ON pictures (number)")
    connection.execute("DROP TABLE image_previews")
    connection.execute(
        "CREATE VIEW image_previews AS SELECT image_id, preview FROM images "
        f"JOIN pictures ON number = image_id * 7919 % {PICTURES}"
    )
    connection.close()
    with serve_page(settings.database_url, EMBEDDING_MODEL=settings.embedding_model) as address:
        yield address


@contextmanager
def serve(run: Callable[[Path, int], None], pictures: Path) -> Iterator[str]:
    """A page in a process of its own, which run serves at a port; yields its address."""
    port = find_free_port()
    server = get_context("spawn").Process(target=run, args=(pictures, port), daemon=True)
    server.start()
    try:
        while True:
            with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.kill()
        server.join()


def run_gallery(pictures: Path, port: int) -> None:
    """A page with a button that shows sixteen random originals in a gallery."""
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI

    def show() -> list[Image.Image]:
        return [Image.open(io.BytesIO(original)) for original in read_some(pictures, "original")]

    with gr.Blocks() as blocks:
        ask = gr.Button(elem_classes="ask")
        gallery = gr.Gallery(columns=4, height="auto")
        ask.click(show, None, gallery, show_progress="hidden")
        blocks.load(show, None, gallery)
    uvicorn.run(gr.mount_gradio_app(FastAPI(), blocks, path="/"), port=port, log_level="critical")


def run_limit(pictures: Path, port: int) -> None:
    """A page with a button that shows sixteen random previews, each kept by the browser once it was there."""
    import uvicorn
    from fastapi import FastAPI, Response
    from fastapi.responses import HTMLResponse

    previews = [read_small_preview(preview) for preview in read_some(pictures, "preview", PICTURES)]
    app = FastAPI()

    @app.get("/")
    async def show() -> HTMLResponse:
        return HTMLResponse(_SIXTEEN.replace("PICTURES", str(PICTURES)))

    @app.get("/{number}.webp")
    async def read_preview(number: int) -> Response:
        return Response(previews[number], media_type="image/webp", headers={"Cache-Control": "max-age=31536000"})

    uvicorn.run(app, port=port, log_level="warning")


_SIXTEEN = """<!DOCTYPE html><style>
main { display: grid; grid-template-columns: repeat(4, 1fr) } img { width: 100% }
</style>
<button class="ask" onclick="show()">&gt;</button><main></main><script>
const show = () => {
  const numbers = new Set();
  while (numbers.size < 16) numbers.add(Math.floor(Math.random() * PICTURES));
  document.querySelector('main').innerHTML = [...numbers].map((number) => `<img src="${number}.webp">`).join('');
};
show();
</script>"""


def read_some(pictures: Path, column: str, count: int = 16) -> list[bytes]:
    """Random ones of the pictures, different each time."""
    with closing(sqlite3.connect(pictures)) as connection:
        rows = connection.execute(f"SELECT {column} FROM pictures ORDER BY random() LIMIT ?", (count,))
        return [content for (content,) in rows]


def click(
    browser: Browser, address: str, buttons: str, pictures: str, people: int, clicks: int = CLICKS
) -> list[float]:
    """Times of all clicks in ms. Each person has a browser profile of its own, with nothing in its cache at first."""
    with ExitStack() as contexts:
        pages = []
        for _ in range(people):
            page = contexts.enter_context(browser.new_context(viewport=VIEW)).new_page()
            page.goto(address, wait_until="commit")  # the gallery's page asks for fonts far away
            page.locator(pictures).nth(15).wait_for(timeout=120_000)
            page.evaluate(CLICK, [buttons, pictures, 1])  # the first search opens the index
            pages.append(page)
        for page in pages:
            page.evaluate(f"given => {{ window.times = ({CLICK})(given); }}", [buttons, pictures, clicks])
        return [time for page in pages for time in page.evaluate("window.times")]


def print_times(page: str, images: int | None, people: int, times: list[float]) -> None:
    p50, p95 = np.percentile(times, [50, 95])
    print(f"| {page} | {'' if images is None else f'{images:,}'} | {people} | {p50:,.0f} | {p95:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
