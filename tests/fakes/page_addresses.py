"""The addresses of the page without Gradio's part of it, which takes a third of a second to build."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.testclient import TestClient

from image_search.images import MAX_IMAGE_PIXELS
from image_search.library import Warmup
from image_search.search import Searcher
from image_search.ui.results import PageSearch, QueryImages
from image_search.ui.routes import build_image_routes, build_page_routes
from image_search.ui.selection_routes import build_selection_routes


def open_addresses(
    searcher: Searcher,
    preparation: Warmup | None = None,
    max_pixels: int = MAX_IMAGE_PIXELS,
    language: str = "ja",
) -> TestClient:
    """A browser that asks for results, facts, previews and so on."""
    search = PageSearch(searcher, preparation or Warmup(searcher), QueryImages(max_pixels))
    app = FastAPI()
    for routes in (build_image_routes(searcher.store), build_page_routes(search), build_selection_routes(search)):
        app.include_router(routes)
    return TestClient(app, headers={"Accept-Language": language})
