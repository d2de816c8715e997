"""Logging of the server: a line for each event on stderr, with time, level and module; no secret, no query text."""

from __future__ import annotations

import logging
import sys
import time
import traceback

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from image_search.api.errors import error_response
from image_search.images import make_printable

SLOW_SECONDS = 3.0  # until an answer begins; searches on two cores take a tenth of that
REPEAT_SECONDS = 60.0  # the same message of a dependency is logged once in this time

_log = logging.getLogger(__name__)


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
        if now - self._logged.get(text, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return False
        if len(self._logged) > 100:
            self._logged.clear()
        self._logged[text] = now
        return True


class RequestLogMiddleware:
    """Logs requests that fail or are slow, and answers those that the application failed to answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._traced = RepeatFilter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 0

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _log_answer(scope, status, time.perf_counter() - start)
            await send(message)

        try:
            await self._app(scope, receive, note)
        except ClientDisconnect:
            _log.debug("%s: the client is gone", _describe(scope))
        except Exception as error:
            self._log_failure(scope, error)
            if not status:
                message = "Something unforeseen went wrong. The log of the program says more."
                await error_response(500, "failed", message)(scope, receive, note)

    def _log_failure(self, scope: Scope, error: Exception) -> None:
        # A client can cause the same failure a thousand times a second: where it happened is told once a minute.
        place = traceback.extract_tb(error.__traceback__)[-1]
        if self._traced.is_new(f"{type(error).__name__} {place.filename}:{place.lineno}"):
            _log.exception("%s failed", _describe(scope))
        else:
            _log.error("%s failed again (%s)", _describe(scope), type(error).__name__)


def _log_answer(scope: Scope, status: int, seconds: float) -> None:
    if status >= 500:
        level = logging.WARNING if status == 503 else logging.ERROR  # 503: busy, or the database is unavailable
        _log.log(level, "%s: %d after %.2f s", _describe(scope), status, seconds)
    elif seconds >= SLOW_SECONDS:
        _log.warning("%s was slow: %d after %.1f s", _describe(scope), status, seconds)
    elif status >= 400:
        _log.debug("%s: %d after %.2f s", _describe(scope), status, seconds)


def _describe(scope: Scope) -> str:
    # Without the query string: what people search for is private.
    client = scope["client"][0] if scope.get("client") else "-"
    return f"{client} {scope['method']} {scope['path'][:200]}"
