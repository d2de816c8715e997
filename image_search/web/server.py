"""uvicorn's server, started and stopped like a desktop program: Ctrl-C ends it within a second."""

from __future__ import annotations

import asyncio
import atexit
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import uvicorn

from image_search.signals import handling_signals
from image_search.web.connections import MAX_HEAD, BoundedProtocol, raise_file_limit

SHUTDOWN_GRACE = 0.5  # seconds that requests have left after Ctrl-C
_MAX_BACKLOG = 128  # pending connections, accepted in one batch


class Server(uvicorn.Server):
    """Serves until Ctrl-C, SIGTERM or SIGHUP; run() then returns. on_start: called once when it can be reached."""

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
        """uvicorn's own raises them again at the end. But this is the usual way to end the program, so it succeeded."""
        with handling_signals(self.handle_exit):
            yield

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
