"""The outermost check: requests that other sites make a browser send, and rooms of Gradio that nobody needs here."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from image_search.api.asgi import CHANGING, read_headers
from image_search.api.problems import answer_problem

# Gradio fetches addresses for whoever asks, runs ffmpeg on what is sent, and keeps states by address.
_CLOSED = (
    "/gradio_api/proxy=",
    "/gradio_api/process_recording",
    "/gradio_api/stream",
    "/gradio_api/deep_link",
    "/gradio_api/vibe",
    "/gradio_api/undo-vibe",
    "/monitoring",
)
_FILES = ("/gradio_api/file=", "/gradio_api/file/")
_SAFETY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# Whatever somebody uploaded can never act as a page.
_SANDBOX = "default-src 'none'; sandbox"


class Fence:
    """Refuses what a page of another site makes a browser send.

    Such a page can have its own name point to this computer, so that the browser takes both for one site (DNS
    rebinding); the name it used then stands in Host. What it sends by form or script names its Origin.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None, proxy_names: Collection[str] = ()) -> None:
        """hosts: names it may be called by, with any port; None for any. proxy_names: those of a reverse proxy."""
        self._app = app
        self._hosts = None if hosts is None else {*hosts, *proxy_names}
        self._proxy_names = set(proxy_names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":  # nothing here speaks it
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = read_headers(scope)
        host = headers.get("host", "").lower()
        path = scope["path"]
        if self._hosts is not None and _strip_port(host) not in self._hosts:
            message = f"This address is not served under the name {host[:100]!r}. Set APP_ALLOWED_HOSTS to serve it."
            await answer_problem(421, "wrong_host", message)(scope, receive, send)
        elif scope["method"] in CHANGING and not self._is_same_site(headers, host):
            message = "The request comes from a page of another site, which may not change anything here."
            await answer_problem(403, "cross_site", message)(scope, receive, send)
        # No address has a line break, and a mounted application would not be asked about one that has.
        elif "\n" in path or path.startswith(_CLOSED) or (path.startswith(_FILES) and "://" in path):
            await answer_problem(404, "not_found", "There is nothing here.")(scope, receive, send)
        else:
            await self._app(scope, receive, _add_headers(send, path))

    def _is_same_site(self, headers: Headers, host: str) -> bool:
        origin = headers.get("origin")
        if origin is None:
            # Programs send neither; a browser that leaves out the Origin says at least this.
            return headers.get("sec-fetch-site", "none") in ("same-origin", "none")
        sender = origin.partition("://")[2].lower()
        return sender == host or _strip_port(sender) in self._proxy_names


def _strip_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _add_headers(send: Send, path: str) -> Send:
    async def send_safely(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _SAFETY.items():
                headers.setdefault(name, value)
            if path.startswith(_FILES):
                headers["Content-Security-Policy"] = _SANDBOX
        await send(message)

    return send_safely
