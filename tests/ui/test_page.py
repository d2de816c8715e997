"""How the page is put together for Gradio, without a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from gradio import Blocks
from gradio.data_classes import ImageData

from image_search.library import Warmup
from image_search.registration.pipeline import ImageReader
from image_search.search import Searcher
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.ui.page import build_image_box, build_page
from image_search.web import app
from image_search.web.app import build_app
from tests.fakes import FakeEncoder

READER = ImageReader(max_pixels=10**6)


@pytest.fixture
def searcher(tmp_path: Path) -> Iterator[Searcher]:
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library.db")) as store:
        yield Searcher(store, FakeEncoder())


def test_click_of_a_search_asks_gradio_for_nothing() -> None:
    page = build_page()
    asking = {function.name for function in page.fns.values() if function.fn is not None}
    assert asking == set()


def test_clicks_that_wait_leave_threads_to_other_work(searcher: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    pages: list[Blocks] = []
    monkeypatch.setattr(app, "harden_gradio", pages.append)
    with TestClient(build_app(searcher, Warmup(searcher), READER)):
        assert pages[0].limiter is not None  # of its own, not the one that everything else shares
        assert pages[0].limiter.total_tokens == app.CLICK_CONCURRENCY


def test_image_box_that_gradio_built_again_still_gives_the_file_as_it_is(tmp_path: Path) -> None:
    box = build_image_box("picture", 100, "picture")
    again = box.__class__(**box.constructor_args)
    assert again.preprocess(ImageData(path=str(tmp_path / "broken.png"))) == str(tmp_path / "broken.png")
    assert again.get_block_name() == "image"  # to the browser


def test_no_component_is_changed_in_place(searcher: Searcher) -> None:
    """Gradio builds components again from their classes, and what was set on one is lost by then."""
    with TestClient(build_app(searcher, Warmup(searcher), READER)) as client:
        blocks = client.app.routes[-1].app.get_blocks()  # type: ignore[attr-defined]
        changed = {
            (block.get_block_name(), name)
            for block in blocks.blocks.values()
            for name, value in vars(block).items()
            if callable(value) and name in dir(type(block))
        }
    assert changed == set()
