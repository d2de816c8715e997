"""Serve the web application, and check whether it can be served."""

from __future__ import annotations

import gc
import logging
import socket
import sys
import threading
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, NoReturn
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

from image_search.cli import handling_signals, write_line
from image_search.cli.search import open_searcher
from image_search.errors import RecognizerUnavailable, SettingsError, StoreError
from image_search.library import choose_model, make_watcher, remember_folder, replace_empty_model
from image_search.recognition import check_packages
from image_search.records import Finding, SearchFilter
from image_search.settings import SAMPLES, Settings, mask_url

if TYPE_CHECKING:
    from image_search.library import ReportProgress
    from image_search.registration.rereading import BackgroundReading
    from image_search.search import Searcher
    from image_search.stores.base import ImageStore
    from image_search.web.server import TemporaryFiles

# PyTorch gives up the GIL for every step of a network and waits so long to get it back while others run Python.
# Python's own 5 ms make a text of a hundred steps take half a second when many search; with less than this the
# processors are busy with changing threads.
SWITCH_INTERVAL = 0.002  # seconds

MAX_EMBEDDED_UNASKED = 1000  # images; more take so long that the user should start it

_log = logging.getLogger(__name__)


def serve_page(settings: Settings) -> NoReturn:
    """Serve the web application until Ctrl-C ends the program.

    Raises SettingsError when the address is taken, or can be reached by other computers without a password.
    """
    from image_search.web.server import TemporaryFiles, bound_memory_arenas

    bound_memory_arenas()
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.disable()  # until what is loaded can be left out
    listener = open_port(settings.app_host, settings.app_port)
    files = TemporaryFiles(settings.app_host, settings.app_port)  # before anything imports Gradio
    try:
        _serve(settings, listener, files)
    finally:
        files.close()
    from image_search.web.server import exit_now

    exit_now()


def _serve(settings: Settings, listener: socket.socket, files: TemporaryFiles) -> None:
    from image_search.cli.health import check_served
    from image_search.library import TrashCollector, Warmup, make_inbox, make_jobs
    from image_search.registration.folders import FolderWatcher
    from image_search.registration.rereading import BackgroundReading
    from image_search.web.app import build_application, check_bind_address
    from image_search.web.server import Server, configure_logging

    configure_logging(settings.log_level)
    warning = check_bind_address(settings)
    if warning:
        _log.warning(warning)
    searcher = open_searcher(settings)
    texts = BackgroundReading(searcher.store, _log.warning, settings.max_image_pixels)

    def complete(report: ReportProgress, stop: threading.Event) -> None:
        freeze_loaded_objects()  # the model, too
        complete_library(searcher, settings, report, stop)
        if not stop.is_set():
            start_reading(searcher.store, settings, texts)

    preparation = Warmup(searcher, complete)
    watcher = make_watcher(searcher, settings, _log.info)
    collector = TrashCollector(searcher.store, settings.trash_days, _log.info)
    inbox = make_inbox(settings)
    jobs = make_jobs(searcher, settings, inbox)
    folders = FolderWatcher(searcher.store, lambda path: jobs.add("scan", path))
    place = format_address(settings.app_host, settings.app_port)

    def start() -> None:
        freeze_loaded_objects()
        write_line(f"類似画像検索: {place} (Ctrl-C ends it)")
        _log.info("Serving %s at %s", mask_url(settings.database_url) or "Oracle Database", place)
        preparation.start()  # behind the page: loading the model takes longer than the page may
        watcher.start()
        collector.start()
        files.start_cleaning()
        jobs.start()
        folders.start()

    try:
        check = partial(check_served, searcher.store)
        application = build_application(settings, searcher, preparation, files.ensure, jobs, inbox, check)
        server = Server(application, start)
        with handling_signals(server.stop):
            server.run(sockets=[listener])
    finally:
        watcher.stop()
        collector.stop()
        folders.stop()
        jobs.stop()
        preparation.stop()
        texts.stop()
        searcher.store.close()
        _log.info("Stopped")


def freeze_loaded_objects() -> None:
    """Collect garbage from now on, and never among what is loaded by now: that holds everything up for 0.3 s."""
    gc.freeze()
    gc.enable()


def format_address(host: str, port: int) -> str:
    """The address of the page as a browser on this computer takes it."""
    with suppress(ValueError):
        address = ip_address(host)
        if address.is_unspecified:
            return f"http://localhost:{port}"
        if address.version == 6:  # the name of a network interface stands behind a percent sign
            return f"http://[{host.replace('%', '%25')}]:{port}"
    return f"http://{host}:{port}"


def open_port(host: str, port: int) -> socket.socket:
    """Listen before anything slow is loaded, so that a port in use is reported immediately."""
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


def complete_library(searcher: Searcher, settings: Settings, report: ReportProgress, stop: threading.Event) -> None:
    """Register the samples in a new library, and embed a small library with a model that is new to it."""
    from image_search.registration import Registrar
    from image_search.registration.files import find_files
    from image_search.registration.pipeline import make_reader
    from image_search.stores.base import UNFINISHED_SAMPLES

    registrar = Registrar(
        searcher.store,
        searcher.encoder,
        reader=make_reader(settings),
        on_progress=lambda done: report(done.done, done.total),
        on_message=_log.info,
        stop=stop,
    )
    store = searcher.store
    if not store.has_held_images() and SAMPLES.is_dir():
        store.set_setting(UNFINISHED_SAMPLES, "1")  # so that the next start goes on where this one is cut off
    if store.list_settings(UNFINISHED_SAMPLES) and SAMPLES.is_dir():
        registrar.register(find_files([SAMPLES]))
        if not stop.is_set():
            store.set_setting(UNFINISHED_SAMPLES, None)
    elif store.count_images() <= MAX_EMBEDDED_UNASKED:
        registrar.embed_missing()
    else:
        return
    with suppress(StoreError):  # a library that can be read only
        name = choose_model(settings, store).model
        remember_folder(store, name)
        replace_empty_model(store, registrar.model, name)


def start_reading(store: ImageStore, settings: Settings, texts: BackgroundReading) -> None:
    """Read the words in images from now on if READ_TEXT asks for it, and those in the samples in any case."""
    if settings.read_text:
        texts.start()
    elif store.count_images() == store.count_images(SearchFilter(folder=str(SAMPLES))) and has_recognizer():
        texts.start()
        texts.finish()


def has_recognizer() -> bool:
    """Whether the packages that read text are installed."""
    try:
        check_packages()
    except RecognizerUnavailable:
        return False
    return True


_TITLE = "類似画像検索".encode()
_PAGE_BYTES = 200_000


def check_page(settings: Settings) -> Finding:
    """Whether the page may and can be served, or is being served already."""
    from image_search.web.app import check_bind_address

    place = format_address(settings.app_host, settings.app_port)
    gate = "behind a password" if settings.app_password else "without a password"
    try:
        warning = check_bind_address(settings)
    except SettingsError as error:
        return Finding("page", False, f"{place}, {gate}", str(error))
    what = warning or f"{place}, {gate}"
    try:
        open_port(settings.app_host, settings.app_port).close()
        return Finding("page", True, f"{what}, free to be served")
    except SettingsError as error:
        if _serves_page(settings):
            return Finding("page", True, f"{what}, being served already")
        return Finding("page", False, f"{place} is not free", str(error))


def _serves_page(settings: Settings) -> bool:
    try:
        # No proxy of the environment: this is our own machine.
        with build_opener(ProxyHandler({})).open(
            format_address(settings.app_host, settings.app_port), timeout=5
        ) as answer:
            page: bytes = answer.read(_PAGE_BYTES)
    except HTTPError as error:  # the answer to a client without a session
        page = error.read(_PAGE_BYTES)
    except OSError:
        return False
    return _TITLE in page
