"""Limits on what a request may bring, before any of it is held in memory, and on how often one may come."""

from __future__ import annotations

from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from image_search.api.asgi import CHANGING, answer_too_many, find_client, is_loopback, read_headers
from image_search.api.buckets import Buckets
from image_search.api.problems import answer_problem

LARGEST_BODY = 200 * 2**20  # bytes: a picture and its fields, as large as the page takes them
LARGEST_UPLOADS = 4 * 2**30  # several pictures at once, written to disk as they come
LARGEST_JSON = 16 * 2**20


class BodyLimit:
    """Answers 413 as soon as a body is longer than its address may take."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in CHANGING:
            await self._app(scope, receive, send)
            return
        limit = find_body_limit(scope["path"], read_headers(scope).get("content-type", ""))
        length = read_headers(scope).get("content-length", "")
        message = f"The request is longer than {limit >> 20} MiB, which is the most that is taken here."
        refusal = answer_problem(413, "too_large", message, {"Connection": "close"})
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
            # Whatever the application makes of the body that breaks off, this is the answer.
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
    """The longest body an address takes, in bytes."""
    if path.startswith("/gradio_api/upload"):
        return LARGEST_UPLOADS
    if content_type.lower().startswith("multipart/form-data"):
        return LARGEST_BODY
    return LARGEST_JSON if path.startswith("/gradio_api/") else LARGEST_BODY if path.startswith("/mcp") else 2**20


class RateLimit:
    """So many calls a minute from one computer; this one itself is not counted, nor is looking at the page."""

    def __init__(self, app: ASGIApp, per_minute: int) -> None:
        self._app = app
        # A tenth of a minute's calls may come at once.
        self._buckets = Buckets(max(1, per_minute / 10), per_minute / 60)
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
    return scope["method"] in CHANGING or scope["path"].startswith(("/api/", "/mcp"))
