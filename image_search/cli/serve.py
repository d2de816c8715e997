"""Serve the web application."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

from image_search.cli.search import open_searcher
from image_search.errors import SettingsError
from image_search.settings import ROOT, Settings
from image_search.web.background import make_watcher

if TYPE_CHECKING:
    from image_search.search.searcher import Searcher
    from image_search.web.background import ReportProgress

SAMPLES = ROOT / "images"
EMBEDDED_UNASKED = 1000  # images; more take long enough that somebody should decide it


def serve_page(settings: Settings) -> None:
    """Serve the web application until Ctrl-C ends the program. Raises SettingsError when strangers could come in."""
    from image_search.web.app import check_bind_address

    warning = check_bind_address(settings)
    if warning:
        print(warning, file=sys.stderr)
    listener = open_port(settings.app_host, settings.app_port)
    from image_search.web.app import build_application
    from image_search.web.background import Warmup
    from image_search.web.server import Server, exit_now

    searcher = open_searcher(settings)
    preparation = Warmup(searcher, lambda report: complete_library(searcher, settings, report))
    follower = make_watcher(searcher, settings, lambda sentence: print(sentence, file=sys.stderr, flush=True))

    def start() -> None:
        print(f"類似画像検索: http://{settings.app_host}:{settings.app_port} (Ctrl-C ends it)", flush=True)
        preparation.start()  # behind the page: loading the model takes longer than the page may
        follower.start()

    try:
        Server(build_application(settings, searcher, preparation), start).run(sockets=[listener])
    finally:
        follower.stop()
        searcher.store.close()
    exit_now()


def open_port(host: str, port: int) -> socket.socket:
    """Listen before anything slow is loaded, so that a port that is taken is said at once."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # With its protocol named, asyncio sends each answer at once. Otherwise the second part of one waits until the
        # browser has acknowledged the first, which takes it 40 ms.
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        return listener
    except OSError as error:
        raise SettingsError(
            f"The page cannot be served at {host}:{port} ({error.strerror}). "
            "End the program that uses the port, or set another APP_PORT or APP_HOST."
        ) from error


def complete_library(searcher: Searcher, settings: Settings, report: ReportProgress) -> None:
    """Give a first start something to show, and a small library the embeddings of a model it has not met yet."""
    from image_search.registration.files import find_files
    from image_search.registration.reader import ImageReader
    from image_search.registration.registrar import Registrar

    registrar = Registrar(
        searcher.store,
        searcher.encoder,
        reader=ImageReader(settings.max_image_pixels, settings.read_gps, settings.read_people),
        on_progress=lambda done: report(done.done, done.total),
        on_message=lambda sentence: print(sentence, file=sys.stderr),
    )
    count = searcher.store.count_images()
    if not count and SAMPLES.is_dir():
        registrar.register(find_files([SAMPLES]))
    elif count <= EMBEDDED_UNASKED:
        registrar.embed_missing()
