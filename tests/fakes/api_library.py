"""A small library of colours behind the REST face, without the page: what the tests of the faces share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import uvicorn
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp

from image_search.api import LibraryService
from image_search.api.rest import build_rest
from image_search.images import decode_image, make_preview
from image_search.library import Warmup
from image_search.records import NewImage
from image_search.registration.pipeline import ImageReader
from image_search.search import Searcher
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.ui.routes import build_image_routes
from image_search.web.app import add_middleware, build_application
from tests.fakes import COLOURS, FakeEncoder, draw_image, draw_image_bytes, make_image

READER = ImageReader(max_pixels=10**6)


@contextmanager
def open_colours(folder: Path, count: int = len(COLOURS)) -> Iterator[Searcher]:
    """A search over red.png, green.png and so on; image_ids begin at 1."""
    with open_store(Settings(database_url=f"sqlite:///{folder}/library.db")) as store:
        searcher = Searcher(store, FakeEncoder())
        images = [_make_colour(colour) for colour in COLOURS[:count]]
        embeddings = searcher.encoder.encode_images([draw_image(colour) for colour in COLOURS[:count]])
        store.add_images(searcher.get_model().model_id, images, embeddings)
        yield searcher


@cache
def _make_colour(colour: str) -> NewImage:
    data = draw_image_bytes(colour)
    return replace(make_image(f"{colour}.png", data=data), preview=make_preview(decode_image(data, colour)))


def build_small(searcher: Searcher, settings: Settings | None = None, **gates: Any) -> ASGIApp:
    """The REST face behind everything that protects it."""
    settings = settings or Settings()
    library = LibraryService(searcher, READER, settings.app_extract_roots, **gates)
    rest = build_rest(library, build_image_routes(searcher.store))
    return add_middleware(Starlette(routes=[Mount("/api", rest)]), settings)


def open_client(app: ASGIApp, **options: Any) -> TestClient:
    """A program on this computer that asks for http://localhost."""
    return TestClient(app, base_url="http://localhost", client=("127.0.0.1", 50000), **options)


@contextmanager
def serve_in_thread(searcher: Searcher, settings: Settings) -> Iterator[str]:
    """The whole application on a free port, for programs that speak HTTP; yields its address."""
    preparation = Warmup(searcher)
    app = build_application(settings, searcher, preparation)
    config = uvicorn.Config(app, port=0, log_level="critical", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive()
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
