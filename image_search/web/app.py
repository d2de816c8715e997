"""The page and the addresses of pictures, put together into one application."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any
from urllib.parse import quote

import gradio as gr
from fastapi import FastAPI
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp

from image_search.api.gradio_endpoints import add_endpoints
from image_search.api.rest import build_rest
from image_search.api.service import LibraryService
from image_search.errors import SettingsError
from image_search.registration.reader import ImageReader
from image_search.search.searcher import Searcher
from image_search.settings import Settings
from image_search.ui.components import harden_gradio
from image_search.ui.handlers import PageHandlers
from image_search.ui.page import TRANSLATIONS, build_page, read_asset
from image_search.ui.sessions import bound_queue, bound_sessions
from image_search.web.auth import PasswordAuthMiddleware
from image_search.web.background import Warmup
from image_search.web.image_routes import build_routes
from image_search.web.middleware import (
    CrossOriginProtectionMiddleware,
    MaxBodySizeMiddleware,
    RateLimitMiddleware,
    is_loopback,
)

MAX_UPLOAD = "200mb"
CLEANING = (3600, 24 * 3600)  # seconds: how often uploads are looked at, and how old they are when they are deleted
CLICK_CONCURRENCY = 16  # threads that wait for encoder and database; more would only keep those of other work waiting


def build_app(
    searcher: Searcher,
    preparation: Warmup,
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
    page = build_page(PageHandlers(searcher, preparation, reader))
    with page:
        if add_endpoints:
            add_endpoints()
    bound_queue(page)
    page.max_threads = CLICK_CONCURRENCY
    page.delete_cache = CLEANING
    harden_gradio(page)
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
        max_file_size=MAX_UPLOAD,
        ssr_mode=False,
    )
    bound_sessions(app, page)
    return app


def _make_icon() -> str:
    """In the page itself: browsers would ask for a file again with every search, because the address changes."""
    return f'<link rel="icon" type="image/svg+xml" href="data:image/svg+xml,{quote(read_asset("icon.svg").strip())}">'


# Everything that stands in front of the application, put together by the settings.

_OWN_NAMES = ("127.0.0.1", "localhost", "[::1]")


def add_middleware(app: ASGIApp, settings: Settings) -> ASGIApp:
    """The application behind fence, rate limit, login and body limit."""
    app = MaxBodySizeMiddleware(app)
    if settings.app_password:
        app = PasswordAuthMiddleware(app, settings.app_password)
    if settings.app_rate_limit:
        app = RateLimitMiddleware(app, settings.app_rate_limit)
    proxy_names = [name.strip().lower() for name in settings.app_allowed_hosts.split(",") if name.strip()]
    is_private = is_loopback(settings.app_host)
    return CrossOriginProtectionMiddleware(
        app, (*_OWN_NAMES, settings.app_host) if is_private or proxy_names else None, proxy_names
    )


def check_bind_address(settings: Settings) -> str:
    """A warning to say aloud, "" for none. Raises SettingsError when strangers could come in."""
    if is_loopback(settings.app_host) or settings.app_password:
        return ""
    if not settings.app_insecure:
        raise SettingsError(
            f"APP_HOST={settings.app_host} serves other computers, and no APP_PASSWORD is set. "
            "Set APP_PASSWORD, or APP_INSECURE=1 if everybody who reaches it may see and delete every picture."
        )
    return (
        f"APP_INSECURE=1: everybody who reaches {settings.app_host}:{settings.app_port} "
        "may see, add and delete pictures without a password."
    )


# The whole web application: the page, the faces for programs, and what protects them.


def build_application(settings: Settings, searcher: Searcher, preparation: Warmup) -> ASGIApp:
    """Ready for a server. Asks the database and the model for nothing yet. Raises SettingsError."""
    reader = ImageReader(settings.max_image_pixels, settings.read_gps, settings.read_people)
    library = LibraryService(searcher, reader, settings.app_extract_roots)
    routes: list[BaseRoute] = [Mount("/api", build_rest(library, build_routes(searcher.store)))]
    lifespan = _live_alone
    if settings.app_mcp:
        tools = _build_tools(library)
        routes += tools.routes
        lifespan = tools.router.lifespan_context
    app = build_app(searcher, preparation, reader, routes, lambda: add_endpoints(library), lifespan)
    return add_middleware(app, settings)


def _live_alone(_: FastAPI) -> AbstractAsyncContextManager[None]:
    return nullcontext()


def _build_tools(library: LibraryService) -> Any:
    try:
        from image_search.api.mcp import build_tools
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"APP_MCP=1 needs the Python package {error.name}: pip install -r requirements-mcp.txt"
        ) from error
    return build_tools(library)
