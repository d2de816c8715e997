"""The whole web application: the page, the faces for programs, and what protects them."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from fastapi import FastAPI
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp

from image_search.api.endpoints import add_endpoints
from image_search.api.library import Library
from image_search.api.protection import protect
from image_search.api.rest import build_rest
from image_search.errors import SettingsError
from image_search.registration import ImageReader
from image_search.search import Searcher
from image_search.settings import Settings
from image_search.ui import build_app, build_routes
from image_search.ui.preparation import Preparation


def build_application(settings: Settings, searcher: Searcher, preparation: Preparation) -> ASGIApp:
    """Ready for a server. Asks the database and the model for nothing yet. Raises SettingsError."""
    reader = ImageReader(settings.max_image_pixels, settings.read_gps)
    library = Library(searcher, reader, settings.app_extract_roots)
    routes: list[BaseRoute] = [Mount("/api", build_rest(library, build_routes(searcher.store)))]
    lifespan = _live_alone
    if settings.app_mcp:
        tools = _build_tools(library)
        routes += tools.routes
        lifespan = tools.router.lifespan_context
    app = build_app(searcher, preparation, reader, routes, lambda: add_endpoints(library), lifespan)
    return protect(app, settings)


def _live_alone(_: FastAPI) -> AbstractAsyncContextManager[None]:
    return nullcontext()


def _build_tools(library: Library) -> Any:
    try:
        from image_search.api.tools import build_tools
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"APP_MCP=1 needs the Python package {error.name}: pip install -r requirements-mcp.txt"
        ) from error
    return build_tools(library)
