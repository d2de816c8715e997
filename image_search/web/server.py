"""uvicorn's server, started and stopped like a desktop program, with its log and its folder of temporary files."""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import logging
import os
import re
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from image_search.errors import SettingsError
from image_search.images import make_printable

MAX_CONNECTIONS = 1000  # an open page holds one
MAX_HEAD = 64 * 2**10  # bytes of a request's line and headers
HEAD_SECONDS = 15.0  # for a request to arrive; for the rest of one that has begun, too
BODY_SECONDS = 60.0  # without a byte of the body; a phone that changes cells is silent for some seconds
# Between two requests. Longer than proxies and clients keep a connection (nginx: 60): if the server is the first to
# close it, a request that is on its way is lost.
KEEP_ALIVE_SECONDS = 75
RESERVED_FILES = 128  # file descriptors for database, index, model and files being read
_WANTED_FILES = 8192
_M_ARENA_MAX = -8  # of malloc.h
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def bound_memory_arenas() -> None:
    """Let threads share two arenas of memory. To be called before there are threads.

    glibc gives 16 to the threads of two cores, and what is freed in one is not used by another: memory grew by a third
    over some thousand pages and calls.
    """
    with suppress(OSError, AttributeError, TypeError):  # not Linux, or another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def raise_file_limit() -> int:
    """Raise the soft limit of open files as far as it is useful. Returns how many connections fit into it."""
    if sys.platform == "win32":
        return MAX_CONNECTIONS
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(_WANTED_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (OSError, ValueError):  # forbidden, in some containers
            pass
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    # A batch of new connections is accepted before any old one is closed, so two shares are kept free.
    return max(8, min(MAX_CONNECTIONS, (soft - RESERVED_FILES) // 2))


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 by h11, which bounds the head of a request; silent connections end.

    When there are too many connections, the one that has been silent longest is closed for a new one. A client that
    opens many therefore closes its own first, and never those of a page that is open or of a request being answered.
    """

    max_connections = MAX_CONNECTIONS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._silent_since = self.loop.time()
        self._has_begun = False  # a request

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) <= self.max_connections:
            return
        now = self.loop.time()
        others = [other for other in self.connections if isinstance(other, BoundedProtocol) and other is not self]
        silent = max(others, key=lambda other: other.get_silence(now), default=None)
        if silent is not None and silent.get_silence(now) > 0:
            silent.hang_up()
        else:
            transport.write(_BUSY)
            transport.close()

    def data_received(self, data: bytes) -> None:
        if self._waits_for_body or not self._has_begun:
            self._silent_since = self.loop.time()
        self._has_begun = True
        super().data_received(data)

    def on_response_complete(self) -> None:
        self._has_begun = False
        super().on_response_complete()
        self._silent_since = self.loop.time()

    @property
    def _waits_for_head(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    @property
    def _waits_for_body(self) -> bool:
        return not self._waits_for_head and self.cycle.more_body and not self.flow.read_paused

    def get_silence(self, now: float) -> float:
        """Seconds since the client sent anything; 0 while the client waits for a response."""
        return now - self._silent_since if self._waits_for_head or self._waits_for_body else 0.0

    def end_silence(self, now: float) -> None:
        """Close the connection when the client has been silent for too long within a request, or before its first."""
        is_between = self.cycle is not None and not self._has_begun
        if not is_between and self.get_silence(now) > (HEAD_SECONDS if self._waits_for_head else BODY_SECONDS):
            self.hang_up()

    def hang_up(self) -> None:
        """Close the connection at once."""
        self.connections.discard(self)
        self.transport.abort()


SHUTDOWN_GRACE = 0.5  # seconds that requests have left after Ctrl-C
_MAX_BACKLOG = 128  # pending connections, accepted in one batch


class Server(uvicorn.Server):
    """Serves until Ctrl-C, SIGTERM or SIGHUP, then ends within a second. on_start: called once it can be reached."""

    def __init__(self, app: Any, on_start: Callable[[], None]) -> None:
        connections = BoundedProtocol.max_connections = raise_file_limit()
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedProtocol,
                ws="none",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=2,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                backlog=min(_MAX_BACKLOG, connections),
                h11_max_incomplete_event_size=MAX_HEAD,
                server_header=False,
            )
        )
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # once a second
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, BoundedProtocol):
                    connection.end_silence(now)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(SHUTDOWN_GRACE, self._close_keepalive)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Left to the caller, who hands them to stop(): uvicorn would raise them again at the end. But this is the
        usual way to end the program, so it succeeded.
        """
        yield

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal that ends the program. Another one changes nothing: uvicorn would then end its application
        with a traceback.
        """
        self.should_exit = True

    def _close_keepalive(self) -> None:
        """Close keep-alive connections: an open page holds one indefinitely."""
        for connection in list(self.server_state.connections):
            connection.transport.close()


def exit_now() -> NoReturn:
    """Exit immediately with code 0. A normal interpreter exit would abort a thread that is inside PyTorch, with a core
    dump: one may be loading a model, or embedding."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


# Logging of the server: a line for each event on stderr, with time, level and module; no secret, no query text.

_REPEAT_SECONDS = 60.0  # the same message of a dependency is logged once in this time


def configure_logging(level: str) -> None:
    """Log to stderr. level: DEBUG, INFO, WARNING or ERROR."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(SafeFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("image_search").setLevel(level)
    for name in ("uvicorn.error", "asyncio"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        logger.filters = [RepeatFilter()]


class SafeFormatter(logging.Formatter):
    """Writes each line of a record without control characters, which a request could use to forge lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = make_printable(record.message)
        return super().formatMessage(record)

    def formatException(self, exc_info: object) -> str:
        lines = super().formatException(exc_info).splitlines()  # type: ignore[arg-type]
        return "\n".join(f"  {make_printable(line)}" for line in lines)


class RepeatFilter(logging.Filter):
    """Drops repeated messages: a lasting condition is one line a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._logged: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        return self.is_new(str(record.msg)[:80])

    def is_new(self, text: str) -> bool:
        """Whether a text was not logged in the last minute; it counts as logged from now on."""
        now = time.monotonic()
        if now - self._logged.get(text, -_REPEAT_SECONDS) < _REPEAT_SECONDS:
            return False
        if len(self._logged) > 100:
            self._logged.clear()
        self._logged[text] = now
        return True


# The private folder for uploads and other temporary files: made at start, emptied at the end.
#
# Gradio's own default, /tmp/gradio, belongs to the first user of the computer who starts any Gradio program, and keeps
# uploads that were cut off.

_CLEANING_INTERVAL = 3600.0  # seconds
_MAX_UPLOAD_AGE = 24 * 3600.0  # seconds; a page may search with an upload as long as it is open
_UPLOADS = "uploads"

_log = logging.getLogger(__name__)


class TemporaryFiles:
    """The folder of one server. Call it before Gradio is imported, which remembers the folder."""

    def __init__(self, host: str, port: int) -> None:
        """Remove folders that were left when a server of this address was killed, and make a new one."""
        prefix = f"image_search_{re.sub(r'[^0-9A-Za-z.]', '-', host)}_{port}_"
        try:
            parent = Path(tempfile.gettempdir())
            for left in parent.glob(f"{prefix}*"):
                if _is_own(left):
                    shutil.rmtree(left, ignore_errors=True)
            self.folder = Path(tempfile.mkdtemp(prefix=prefix))
        except OSError as error:
            raise SettingsError(
                f"No folder for uploads can be made ({error.strerror}). Name a folder with free space in TMPDIR."
            ) from error
        self.uploads = self.folder / _UPLOADS
        self._stop = threading.Event()
        self._former = (tempfile.tempdir, os.environ.pop("GRADIO_TEMP_DIR", None))
        tempfile.tempdir = str(self.folder)
        os.environ["GRADIO_TEMP_DIR"] = str(self.uploads)
        self.ensure()

    def ensure(self) -> None:
        """Make the folder again when a cleaner of the system removed it. Raises OSError."""
        self.folder.mkdir(0o700, exist_ok=True)
        if not _is_own(self.folder):  # made by another user in the meantime
            raise PermissionError(f"{self.folder} belongs to another user")
        self.uploads.mkdir(0o700, exist_ok=True)

    def start_cleaning(self) -> None:
        """Delete old uploads every hour, in a thread that ends with the program or with close."""
        threading.Thread(target=self._clean_until_stopped, name="clean uploads", daemon=True).start()

    def clean(self, max_age: float = _MAX_UPLOAD_AGE) -> None:
        """Delete uploads that are older, in seconds."""
        oldest = time.time() - max_age
        for place, _, names in os.walk(self.uploads, topdown=False):
            for name in names:
                path = Path(place, name)
                try:
                    if path.lstat().st_ctime < oldest:
                        path.unlink()
                except OSError as error:
                    _log.debug("%s was not deleted: %s", path, error)
            if place != str(self.uploads):
                try:
                    os.rmdir(place)
                except OSError:  # not empty
                    continue

    def close(self) -> None:
        """Delete the folder with everything in it."""
        self._stop.set()
        shutil.rmtree(self.folder, ignore_errors=True)
        tempfile.tempdir, gradio = self._former
        if gradio is None:
            os.environ.pop("GRADIO_TEMP_DIR", None)
        else:
            os.environ["GRADIO_TEMP_DIR"] = gradio

    def _clean_until_stopped(self) -> None:
        while not self._stop.wait(_CLEANING_INTERVAL):
            self.clean()


def _is_own(folder: Path) -> bool:
    """Whether a folder, and no link, belongs to this user."""
    try:
        return not folder.is_symlink() and (os.name == "nt" or folder.stat().st_uid == os.geteuid())
    except OSError:
        return False
