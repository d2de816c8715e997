"""The page, the APIs and the middleware, put together into one application."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from image_search.api import LibraryService
from image_search.api.gradio_endpoints import add_endpoints
from image_search.api.rest import build_rest
from image_search.errors import SettingsError
from image_search.library import Warmup, make_inbox, make_jobs
from image_search.records import Finding
from image_search.registration.folders import FolderRoots
from image_search.registration.jobs import JobQueue
from image_search.registration.pipeline import ImageReader, make_reader
from image_search.registration.uploads import UploadInbox
from image_search.search import Searcher
from image_search.settings import SAMPLES, Settings
from image_search.ui import PageDocumentMiddleware
from image_search.ui.library_routes import LibraryPage, build_library_routes
from image_search.ui.page import TRANSLATIONS, bound_queue, bound_sessions, build_page, harden_gradio
from image_search.ui.results import PageSearch, QueryImages
from image_search.ui.routes import build_icon_routes, build_image_routes, build_page_routes
from image_search.ui.selection_routes import build_selection_routes
from image_search.web.auth import PasswordAuthMiddleware
from image_search.web.middleware import (
    ClosedPathsMiddleware,
    CrossOriginProtectionMiddleware,
    FullPathMiddleware,
    HeadMiddleware,
    HostMiddleware,
    MaxBodySizeMiddleware,
    RateLimitMiddleware,
    RequestLogMiddleware,
    RootPathMiddleware,
    SecurityHeadersMiddleware,
    UploadFolderMiddleware,
    is_loopback,
)

MAX_UPLOAD = "200mb"
CLICK_CONCURRENCY = 16  # threads that wait for encoder and database; more would only keep those of other work waiting


def build_app(
    searcher: Searcher,
    preparation: Warmup,
    reader: ImageReader,
    routes: Sequence[BaseRoute] = (),
    add_endpoints: Callable[[], None] | None = None,
    lifespan: Callable[[Any], AbstractAsyncContextManager[Any]] | None = None,
    root_path: str = "",
) -> FastAPI:
    """The page and the image routes as an ASGI application. Does not access database or model yet.

    routes: other routes to serve, with their lifespan. add_endpoints: called inside the page, for events of programs.
    root_path: path all of it is served below, "" for none.
    """
    app = FastAPI(title="類似画像検索", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.router.routes.extend(routes)  # first, for a request is compared with one route after the other
    app.include_router(build_image_routes(searcher.store))
    search = PageSearch(searcher, preparation, QueryImages(reader.max_pixels))
    app.include_router(build_page_routes(search))
    app.include_router(build_selection_routes(search))
    app.include_router(build_icon_routes())
    page = build_page()
    with page:
        if add_endpoints:
            add_endpoints()
    bound_queue(page)
    page.max_threads = CLICK_CONCURRENCY
    harden_gradio(page)
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        i18n=TRANSLATIONS,
        theme=gr.themes.Soft(primary_hue="indigo", neutral_hue="slate", font="sans-serif", font_mono="monospace"),
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        show_error=False,
        max_file_size=MAX_UPLOAD,
        ssr_mode=False,
    )
    bound_sessions(app, page)
    app.add_middleware(PageDocumentMiddleware, root_path=root_path)
    return app


# The middleware in front of the application, by the settings.

_OWN_NAMES = ("127.0.0.1", "localhost", "[::1]")


def add_middleware(app: ASGIApp, settings: Settings, prepare_uploads: Callable[[], None] | None = None) -> ASGIApp:
    """The application behind its middleware, the last one added in front. prepare_uploads: see build_application."""
    if prepare_uploads:
        app = UploadFolderMiddleware(app, prepare_uploads)
    app = MaxBodySizeMiddleware(FullPathMiddleware(app) if settings.app_root_path else app)
    if settings.app_rate_limit:
        app = RateLimitMiddleware(app, settings.app_rate_limit)
    if settings.app_password:
        app = PasswordAuthMiddleware(app, settings.app_password)
    app = HeadMiddleware(app)
    proxy_names = [name.strip().lower() for name in settings.app_allowed_hosts.split(",") if name.strip()]
    app = CrossOriginProtectionMiddleware(app, proxy_names)
    own_names = [*_OWN_NAMES, settings.app_host.lower(), *proxy_names]
    if is_loopback(settings.app_host) or proxy_names:
        app = HostMiddleware(app, own_names)
    elif not settings.app_password:  # a password is asked for under every name, for a cookie belongs to one
        name = socket.gethostname().lower()
        app = HostMiddleware(app, [*own_names, name, f"{name}.local"], any_address=True)
    app = RequestLogMiddleware(SecurityHeadersMiddleware(ClosedPathsMiddleware(app)))
    return RootPathMiddleware(app, settings.app_root_path) if settings.app_root_path else app


def check_bind_address(settings: Settings) -> str:
    """A warning to log, "" for none. Raises SettingsError if the bind address is reachable without a password."""
    if is_loopback(settings.app_host) or settings.app_password:
        return ""
    if not settings.app_insecure:
        raise SettingsError(
            f"APP_HOST={settings.app_host} serves other computers, and no APP_PASSWORD is set. "
            "Set APP_PASSWORD, or APP_INSECURE=1 if every client that reaches it may see and delete every picture."
        )
    return (
        f"APP_INSECURE=1: every client that reaches {settings.app_host}:{settings.app_port} "
        "may see, add and delete pictures without a password."
    )


# The whole web application: the page, the APIs for programs, and the middleware in front of them.


def build_application(
    settings: Settings,
    searcher: Searcher,
    preparation: Warmup,
    prepare_uploads: Callable[[], None] | None = None,
    jobs: JobQueue | None = None,
    inbox: UploadInbox | None = None,
    check: Callable[[], Iterable[Finding]] | None = None,
) -> ASGIApp:
    """The whole ASGI application. Does not access database or model yet. Raises SettingsError.

    prepare_uploads: called before each request that may bring a file; makes the folder for uploads where it is missing.
    jobs, inbox: the jobs of the library and the files sent to it; made from the settings when left out.
    check: what the page says when it is asked whether all is well.
    """
    reader = make_reader(settings)
    library = LibraryService(searcher, reader, settings.app_extract_roots or settings.library_roots)
    rest = build_rest(library, build_image_routes(searcher.store))
    routes: list[BaseRoute] = [Mount("/api", rest), Route("/api", rest)]  # a mount does not answer its own address
    inbox = inbox or make_inbox(settings)
    jobs = jobs or make_jobs(searcher, settings, inbox)
    page = LibraryPage(
        searcher.store,
        jobs,
        find_roots(settings),
        SAMPLES,
        settings,
        lambda: searcher.encoder.name,
        inbox,
        check,
        lambda: preparation.progress.is_over,
    )
    routes += build_library_routes(page).routes
    lifespan = _live_alone
    if settings.app_mcp:
        tools = _build_tools(library)
        routes += tools.routes
        lifespan = tools.router.lifespan_context
    app = build_app(
        searcher, preparation, reader, routes, lambda: add_endpoints(library), lifespan, settings.app_root_path
    )
    return add_middleware(app, settings, prepare_uploads)


def find_roots(settings: Settings) -> FolderRoots:
    """Folders below which visitors may add folders: the home folder only where no other computer reaches the page."""
    is_own = is_loopback(settings.app_host) and not settings.app_allowed_hosts and not settings.app_root_path
    return FolderRoots(settings.library_roots, Path.home() if is_own else None)


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
