"""The page and the addresses of pictures, put together into one application."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import quote

import gradio as gr
from fastapi import FastAPI
from starlette.routing import BaseRoute

from image_search.registration import ImageReader
from image_search.search import Searcher
from image_search.ui.answers import Answers
from image_search.ui.components import confine
from image_search.ui.page import TRANSLATIONS, build_page, read_asset
from image_search.ui.preparation import Preparation
from image_search.ui.routes import build_routes
from image_search.ui.sessions import bound_queue, bound_sessions

LARGEST_UPLOAD = "200mb"
CLEANING = (3600, 24 * 3600)  # seconds: how often uploads are looked at, and how old they are when they are deleted
CLICKS_AT_ONCE = 16  # threads that wait for encoder and database; more would only keep those of other work waiting


def build_app(
    searcher: Searcher,
    preparation: Preparation,
    reader: ImageReader,
    routes: Sequence[BaseRoute] = (),
    add_endpoints: Callable[[], None] | None = None,
    lifespan: Callable[[Any], AbstractAsyncContextManager[Any]] | None = None,
) -> FastAPI:
    """The page and the pictures, ready for a server. Asks the database and the model for nothing yet.

    routes: what else is served, with its lifespan. add_endpoints: called inside the page, for events of programs.
    """
    app = FastAPI(title="類似画像検索", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.include_router(build_routes(searcher.store))
    app.router.routes.extend(routes)  # before the page, which takes every address that is left
    page = build_page(Answers(searcher, preparation, reader))
    with page:
        if add_endpoints:
            add_endpoints()
    bound_queue(page)
    page.max_threads = CLICKS_AT_ONCE
    page.delete_cache = CLEANING
    confine(page)
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        i18n=TRANSLATIONS,
        theme=gr.themes.Soft(primary_hue="indigo", neutral_hue="slate", font="sans-serif", font_mono="monospace"),
        # In the head, not as Gradio's css: that is rewritten for inside its container, and the dialog is outside.
        head=f"<style>{read_asset('page.css')}</style>{_make_icon()}",
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        show_error=False,
        max_file_size=LARGEST_UPLOAD,
        ssr_mode=False,
    )
    bound_sessions(app, page)
    return app


def _make_icon() -> str:
    """In the page itself: browsers would ask for a file again with every search, because the address changes."""
    return f'<link rel="icon" type="image/svg+xml" href="data:image/svg+xml,{quote(read_asset("icon.svg").strip())}">'
