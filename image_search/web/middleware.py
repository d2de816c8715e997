"""Middleware in front of the application: log, headers, closed paths, host, origin, body size and rate of requests."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Collection
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from image_search.api.errors import error_response
from image_search.web.server import RepeatFilter

_SLOW_SECONDS = 3.0  # until an answer begins; searches on two cores take a tenth of that

_log = logging.getLogger(__name__)


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
            _log.debug("%s: the client is gone", _describe_request(scope))
        except asyncio.CancelledError:  # the server ends, and waits no longer for this answer
            if not status:
                message = "The program ends. Try again once it runs."
                await error_response(503, "busy", message, {"Retry-After": "5"})(scope, receive, note)
        except Exception as error:
            self._log_failure(scope, error)
            if not status:
                message = "Something unforeseen went wrong. The log of the program says more."
                await error_response(500, "failed", message)(scope, receive, note)

    def _log_failure(self, scope: Scope, error: Exception) -> None:
        # A client can cause the same failure a thousand times a second: where it happened is logged once a minute.
        place = traceback.extract_tb(error.__traceback__)[-1]
        if self._traced.is_new(f"{type(error).__name__} {place.filename}:{place.lineno}"):
            _log.exception("%s failed", _describe_request(scope))
        else:
            _log.error("%s failed again (%s)", _describe_request(scope), type(error).__name__)


def _log_answer(scope: Scope, status: int, seconds: float) -> None:
    if status >= 500:
        level = logging.WARNING if status == 503 else logging.ERROR  # 503: busy, or the database is unavailable
        _log.log(level, "%s: %d after %.2f s", _describe_request(scope), status, seconds)
    elif seconds >= _SLOW_SECONDS:
        _log.warning("%s was slow: %d after %.1f s", _describe_request(scope), status, seconds)
    elif status >= 400:
        _log.debug("%s: %d after %.2f s", _describe_request(scope), status, seconds)


def _describe_request(scope: Scope) -> str:
    # Without the query string: what people search for is private.
    client = scope["client"][0] if scope.get("client") else "-"
    return f"{client} {scope['method']} {scope['path'][:200]}"


# Facts of a request.

UNSAFE_METHODS = {"POST", "PUT", "PATCH", "DELETE"}


def read_headers(scope: Scope) -> Headers:
    """The headers of a request."""
    return Headers(scope=scope)


def find_client(scope: Scope) -> str:
    """The address of the client, "" when unknown. For IPv6 the /64 network: one computer has all its addresses."""
    address = scope["client"][0] if scope.get("client") else ""
    if ":" in address:
        with suppress(ValueError):
            parsed = ipaddress.IPv6Address(address.partition("%")[0])
            if parsed.ipv4_mapped is None and not parsed.is_loopback:
                return str(ipaddress.IPv6Network((parsed, 64), strict=False))
    return address


def is_loopback(host: str) -> bool:
    """Whether a host is this computer itself."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def answer_too_many(message: str, wait: float) -> JSONResponse:
    """429. wait: seconds until the next attempt may succeed."""
    return error_response(429, "too_many_requests", message, {"Retry-After": str(max(1, math.ceil(wait)))})


_SAFETY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# An uploaded file can never act as a page.
_SANDBOX = "default-src 'none'; sandbox"
_FILES = ("/gradio_api/file=", "/gradio_api/file/")


class SecurityHeadersMiddleware:
    """Adds the headers that keep a browser from guessing types, framing the page and running uploads.

    Headers that let other sites read an answer are removed: Gradio allows every port of localhost.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name in [name for name in headers if name.startswith("access-control-")]:
                    del headers[name]
                for name, value in _SAFETY.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith(_FILES):
                    headers["Content-Security-Policy"] = _SANDBOX
            await send(message)

        await self._app(scope, receive, send_safely if scope["type"] == "http" else send)


# Gradio fetches addresses for its callers, runs ffmpeg on uploads, and keeps states by address.
_CLOSED = (
    "/gradio_api/proxy=",
    "/gradio_api/process_recording",
    "/gradio_api/stream",
    "/gradio_api/deep_link",
    "/gradio_api/vibe",
    "/gradio_api/undo-vibe",
    "/monitoring",
)


class ClosedPathsMiddleware:
    """Answers 404 for functions of Gradio that this program does not need, and closes websockets."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        path = scope.get("path", "")
        # No URL of this program has a line break, and a mounted application would not get one.
        if "\n" in path or path.startswith(_CLOSED) or (path.startswith(_FILES) and "://" in path):
            await error_response(404, "not_found", "There is nothing here.")(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class HostMiddleware:
    """Answers 421 for a host name that is not served.

    A page of another site can have its own name point to this computer, so that the browser takes both for one site
    (DNS rebinding); the name it used then stands in Host. An IP address cannot be made to point elsewhere.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], any_address: bool = False) -> None:
        """hosts: names to be called by, with any port. any_address: IP addresses, too."""
        self._app = app
        self._hosts = set(hosts)
        self._any_address = any_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            host = read_headers(scope).get("host", "").lower()
            if not self._is_served(_strip_port(host)):
                message = (
                    f"This address is not served under the name {host[:100]!r}. Set APP_ALLOWED_HOSTS to serve it."
                )
                await error_response(421, "wrong_host", message)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_served(self, name: str) -> bool:
        return name in self._hosts or (self._any_address and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


class CrossOriginProtectionMiddleware:
    """Answers 403 for a change that a page of another site makes a browser send; such a request names its Origin."""

    def __init__(self, app: ASGIApp, proxy_names: Collection[str] = ()) -> None:
        """proxy_names: host names of a reverse proxy, which may hand on another Host than the browser used."""
        self._app = app
        self._proxy_names = set(proxy_names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in UNSAFE_METHODS and not self._is_same_site(scope):
            message = "The request comes from a page of another site, which may not change anything here."
            await error_response(403, "cross_site", message)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_same_site(self, scope: Scope) -> bool:
        headers = read_headers(scope)
        origin = headers.get("origin")
        if origin is None:
            # Programs send neither; a browser that omits Origin sends at least Sec-Fetch-Site.
            return headers.get("sec-fetch-site", "none") in ("same-origin", "none")
        sender = origin.partition("://")[2].lower()
        return sender == headers.get("host", "").lower() or _strip_port(sender) in self._proxy_names


class HeadMiddleware:
    """Answers HEAD as GET without its body, for routes that know GET only."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        is_answered = False

        async def send_head(message: Message) -> None:
            nonlocal is_answered
            if is_answered:
                raise OSError("the client has its answer")  # ends a stream, like a disconnected client
            if message["type"] == "http.response.body":
                is_answered = True
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        try:
            await self._app({**scope, "method": "GET"}, receive, send_head)
        except Exception:
            if not is_answered:
                raise


def _strip_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


# Below a path: a proxy may hand that path on or take it away.


class RootPathMiddleware:
    """Removes APP_ROOT_PATH from request paths, so that the middleware behind it never sees it."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        """root_path: begins with a slash and does not end with one."""
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if path == self._root_path:  # relative addresses need the slash
            await RedirectResponse(f"{self._root_path}/", 308)(scope, receive, send)
            return
        inner = path.removeprefix(self._root_path) if path.startswith(f"{self._root_path}/") else path
        await self._app({**scope, "path": inner, "root_path": self._root_path}, receive, send)


class FullPathMiddleware:
    """Restores APP_ROOT_PATH for the application, whose routes expect it in every path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "path": scope.get("root_path", "") + scope["path"]}
        await self._app(scope, receive, send)


# Token buckets: a burst, then a steady rate, per key.

_MAX_KEYS = 10_000  # the longest unused are evicted, which bounds the memory


class TokenBucketLimiter:
    """A limiter for one thread: to be used on the event loop only."""

    def __init__(self, size: float, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._per_second = per_second
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when

    def check(self, key: str) -> float:
        """Seconds until a token is available; 0 when one is."""
        return max(0.0, (1 - self._fill(key)) / self._per_second)

    def take(self, key: str) -> float:
        """Take a token if available. Returns the seconds until one is; 0 when one was taken."""
        wait = self.check(key)
        if not wait:
            self.spend(key)
        return wait

    def spend(self, key: str) -> None:
        """Take a token."""
        self._levels[key] = (self._fill(key) - 1, self._clock())
        self._levels.move_to_end(key)
        if len(self._levels) > _MAX_KEYS:
            self._levels.popitem(last=False)

    def _fill(self, key: str) -> float:
        now = self._clock()
        tokens, since = self._levels.get(key, (self._size, now))
        return min(self._size, tokens + (now - since) * self._per_second)


# Limits on the size of a request, before any of it is held in memory, and on the number of requests.

MAX_BODY = 200 * 2**20  # bytes: an image and its fields, as large as the page takes them
MAX_UPLOADS = 4 * 2**30  # a film, or several images at once; written to disk as they come
MAX_JSON = 16 * 2**20
_UPLOADS = "/ui/library/uploads/"  # of single files from the page


class MaxBodySizeMiddleware:
    """Answers 413 as soon as a body exceeds the limit of its path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in UNSAFE_METHODS:
            await self._app(scope, receive, send)
            return
        limit = find_body_limit(scope["path"], read_headers(scope).get("content-type", ""))
        length = read_headers(scope).get("content-length", "")
        message = f"The request is longer than {limit >> 20} MiB, which is the most that is taken here."
        if scope["path"].startswith(("/api/images", _UPLOADS)):
            message += " Put the file into a folder and register that: python register_images.py FOLDER"
        refusal = error_response(413, "too_large", message, {"Connection": "close"})
        if length.isdecimal() and int(length) > limit:
            await refusal(scope, receive, send)
            return
        received, is_refused, has_started = 0, False, False

        async def count() -> Message:
            nonlocal received, is_refused
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                is_refused = True
                raise _TooLong
            return message

        async def answer(message: Message) -> None:
            nonlocal has_started
            # The application may answer the truncated body in its own way; the client gets this response.
            if not is_refused or has_started:
                has_started = True
                await send(message)

        with suppress(_TooLong):
            await self._app(scope, count, answer)
        if is_refused and not has_started:
            await refusal(scope, receive, send)


class _TooLong(Exception):
    pass


def find_body_limit(path: str, content_type: str) -> int:
    """The maximum body of a path, in bytes."""
    if path.startswith(("/gradio_api/upload", _UPLOADS)):
        return MAX_UPLOADS
    if content_type.lower().startswith("multipart/form-data"):
        return MAX_BODY
    if path.startswith("/gradio_api/"):
        return MAX_JSON
    return MAX_BODY if path.startswith(("/mcp", "/ui/query-images", "/ui/library/uploads")) else 2**20


class RateLimitMiddleware:
    """Limits API calls a minute of one client; excludes this computer and the page."""

    def __init__(self, app: ASGIApp, per_minute: int) -> None:
        self._app = app
        # The burst is a tenth of a minute's calls.
        self._buckets = TokenBucketLimiter(max(1, per_minute / 10), per_minute / 60)
        self._message = f"More than {per_minute} calls a minute. Wait as Retry-After says, or raise APP_RATE_LIMIT."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_counted(scope):
            wait = self._buckets.take(find_client(scope))
            if wait:
                await answer_too_many(self._message, wait)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_counted(scope: Scope) -> bool:
    if is_loopback(find_client(scope)):
        return False
    return scope["method"] in UNSAFE_METHODS or scope["path"].startswith(("/api/", "/mcp"))


class UploadFolderMiddleware:
    """Prepares the folder for uploads before each request that may upload a file; a search in JSON does not."""

    def __init__(self, app: ASGIApp, prepare: Callable[[], None]) -> None:
        self._app = app
        self._prepare = prepare

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in UNSAFE_METHODS and _may_bring_file(scope):
            self._prepare()
        await self._app(scope, receive, send)


def _may_bring_file(scope: Scope) -> bool:
    is_api = scope["path"].removeprefix(scope.get("root_path", "")).startswith("/api/")
    return not is_api or read_headers(scope).get("content-type") != "application/json"
