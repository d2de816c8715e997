"""One password in front of everything: page, files, REST, Gradio's addresses and tools.

Programs send it with every request (HTTP Basic with any user name, or as a bearer token); browsers get a login page
and then carry a cookie, which ends with logout or with the program.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import secrets
import time
from collections import Counter, OrderedDict
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from image_search.api.errors import error_response
from image_search.ui import render
from image_search.ui.messages import negotiate_language, translate
from image_search.web.middleware import TokenBucketLimiter, answer_too_many, find_client

COOKIE = "image_search_session"
_LIFETIME = 30 * 24 * 3600  # seconds
_MAX_SESSIONS = 10_000  # the longest unused ends first
_MAX_FORM = 8192  # bytes
_FORM_SECONDS = 20.0  # for the whole form to arrive

# Wrong passwords of one client: a few at once, then one in ten seconds. After that a password waits before it is
# looked at, a few at a time, so that guessing stays slow and the right password still gets in.
_GUESSES, _GUESSES_PER_SECOND = 5, 0.1
_GUESS_DELAY = 10.0  # seconds
_MAX_WAITING = 4

_log = logging.getLogger(__name__)


class PasswordAuthMiddleware:
    """Answers 401, or shows the login page, to every request without the password or a session."""

    def __init__(self, app: ASGIApp, password: str) -> None:
        self._app = app
        self._digest = _hash(password)
        self._sessions: OrderedDict[bytes, float] = OrderedDict()  # when each ends, by the hash of its cookie
        self._guesses = TokenBucketLimiter(_GUESSES, _GUESSES_PER_SECOND)
        self._waiting: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        path = scope["path"].rstrip("/")
        answer: Response | None
        if path == "/login":
            answer = await self._log_in(request) if request.method == "POST" else _draw_page(request)
        elif path == "/logout":
            self._sessions.pop(_hash(request.cookies.get(COOKIE, "")), None)
            answer = RedirectResponse("login", 303)
            answer.delete_cookie(COOKIE)
        else:
            answer = await self._refuse(request)
        await (answer or self._app)(scope, receive, send)

    async def _refuse(self, request: Request) -> Response | None:
        """None for a request that may pass."""
        if self._is_session(request.cookies.get(COOKIE, "")):
            return None
        given = _read_password(request.headers.get("authorization", ""))
        if given is not None:
            return await self._check(request, given)
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            root = "../" * (request.scope["path"].count("/") - 1)
            path = f"{request.scope.get('root_path', '')}{request.scope['path']}"
            place = path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"{root}login?next={quote(place, safe='')}", 303)
        return _ask_for_password(request, "A password is needed: send it with HTTP Basic or as a bearer token.")

    async def _check(self, request: Request, given: str) -> Response | None:
        """None for the password. Wrong ones are counted for each client; no client slows down another one."""
        client = find_client(request.scope)
        wait = self._guesses.check(client)
        if wait:
            if self._waiting[client] >= _MAX_WAITING:
                return answer_too_many("Too many wrong passwords. Wait, and try again.", wait)
            self._waiting[client] += 1
            try:
                await asyncio.sleep(_GUESS_DELAY)
            finally:
                self._waiting[client] -= 1
                if not self._waiting[client]:
                    del self._waiting[client]
        if hmac.compare_digest(_hash(given), self._digest):
            return None
        self._guesses.spend(client)
        if not wait:  # do not let guesses flood the log
            _log.warning("Wrong password from %s", client or "-")
        return _ask_for_password(request, "The password is wrong.")

    async def _log_in(self, request: Request) -> Response:
        """The form of the login page, or of a program that wants the cookie (gradio_client does)."""
        is_browser = "text/html" in request.headers.get("accept", "")
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or not length.isascii() or len(length) > 9 or int(length) > _MAX_FORM:
            return error_response(413, "too_large", "A login is a short form.")
        form = await _read_form(request)
        if form is None:
            return error_response(400, "bad_request", "A login is a form with the field password.")
        refusal = await self._check(request, form.get("password", ""))
        if refusal is not None:
            return _draw_page(request, refusal.status_code) if is_browser else refusal
        place = form.get("next", "")
        answer: Response = JSONResponse({"success": True})
        if is_browser:
            answer = RedirectResponse(place if _is_own_place(place) else f"{request.scope.get('root_path', '')}/", 303)
        is_secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, self._open_session(), _LIFETIME, httponly=True, samesite="strict", secure=is_secure)
        return answer

    def _open_session(self) -> str:
        cookie = secrets.token_urlsafe(32)
        self._sessions[_hash(cookie)] = time.time() + _LIFETIME
        if len(self._sessions) > _MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return cookie

    def _is_session(self, cookie: str) -> bool:
        key = _hash(cookie)
        end = self._sessions.get(key)
        if end is None:
            return False
        if end < time.time():
            del self._sessions[key]
            return False
        self._sessions.move_to_end(key)
        return True


async def _read_form(request: Request) -> dict[str, str] | None:
    """The fields of a form that are text; None for a body that is none, is cut short or does not arrive in time."""
    try:
        async with asyncio.timeout(_FORM_SECONDS):
            form = await request.form(max_files=1, max_fields=8)
    except (HTTPException, MultiPartException, ClientDisconnect, TimeoutError, ValueError, LookupError):
        return None
    return {name: value for name, value in form.items() if isinstance(value, str)}


def _hash(password: str) -> bytes:
    # Of one length, so that comparing reveals nothing of the length of the password.
    return hashlib.sha256(password.encode("utf-8", "surrogatepass")).digest()


def _read_password(authorization: str) -> str | None:
    kind, _, value = authorization.partition(" ")
    match kind.lower():
        case "bearer":
            # Headers are read as Latin-1, whatever they were written in.
            return value.strip().encode("latin-1", "replace").decode("utf-8", "replace")
        case "basic":
            try:
                return base64.b64decode(value, validate=True).decode().partition(":")[2]
            except ValueError:  # neither Base64 nor UTF-8
                return ""
    return None


def _ask_for_password(request: Request, message: str) -> JSONResponse:
    # A browser would open a window of its own in the middle of the page; it gets the login page instead.
    is_browser = "sec-fetch-mode" in request.headers
    challenge = "Bearer" if is_browser else 'Basic realm="image-search", charset="UTF-8"'
    return error_response(401, "password_needed", message, {"WWW-Authenticate": challenge})


def _is_own_place(place: str) -> bool:
    return place.startswith("/") and not place.startswith(("//", "/\\")) and place.isprintable()


def _draw_page(request: Request, status: int = 200) -> HTMLResponse:
    language = negotiate_language(request.headers.get("accept-language", ""))
    key = {401: "password_wrong", 429: "password_wait"}.get(status)
    said = translate(language, key) if key else ""
    page = render("login.html", language, said=said, place=request.query_params.get("next", ""))
    headers = {
        "Cache-Control": "no-store",
        "Vary": "Accept-Language",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'",
    }
    return HTMLResponse(page, status, headers)
