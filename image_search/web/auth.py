"""One password in front of everything: page, files, REST, Gradio's addresses and tools.

Programs send it with every request (HTTP Basic with any user name, or as a bearer token); browsers get a login page
and then carry a signed cookie, which ends when the program does.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from html import escape
from pathlib import Path
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from image_search.api.errors import error_response
from image_search.web.middleware import TokenBucketLimiter, answer_too_many, find_client

COOKIE = "image_search_session"
_LIFETIME = 30 * 24 * 3600  # seconds
_MAX_FORM = 8192  # bytes
_PAGE = Path(__file__).with_name("login.html")
_EVERYBODY = ""


class PasswordAuthMiddleware:
    """Lets those through who know the password."""

    def __init__(self, app: ASGIApp, password: str) -> None:
        self._app = app
        self._digest = _hash(password)
        self._key = secrets.token_bytes(32)
        # Wrong guesses: a few at once, then one in ten seconds from one computer and one a second from all of them.
        self._guesses = TokenBucketLimiter(5, 0.1)
        self._all_guesses = TokenBucketLimiter(100, 1)

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
            answer = RedirectResponse("login", 303)
            answer.delete_cookie(COOKIE)
        else:
            answer = self._refuse(request)
        await (answer or self._app)(scope, receive, send)

    def _refuse(self, request: Request) -> Response | None:
        """None for those who may pass."""
        if self._is_session(request.cookies.get(COOKIE, "")):
            return None
        given = _read_password(request.headers.get("authorization", ""))
        if given is not None:
            return self._check(request, given)
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            root = "../" * (request.url.path.count("/") - 1)
            place = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"{root}login?next={quote(place, safe='')}", 303)
        return _ask_for_password(request, "A password is needed: send it with HTTP Basic or as a bearer token.")

    def _check(self, request: Request, given: str) -> Response | None:
        """None for the password; wrong ones are counted, and while there were too many, all are refused."""
        client = find_client(request.scope)
        wait = max(self._guesses.check(client), self._all_guesses.check(_EVERYBODY))
        if wait:
            return answer_too_many("Too many wrong passwords. Wait, and try again.", wait)
        if hmac.compare_digest(_hash(given), self._digest):
            return None
        self._guesses.spend(client)
        self._all_guesses.spend(_EVERYBODY)
        return _ask_for_password(request, "The password is wrong.")

    async def _log_in(self, request: Request) -> Response:
        """The form of the login page, or of a program that wants the cookie (gradio_client does)."""
        is_browser = "text/html" in request.headers.get("accept", "")
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > _MAX_FORM:
            return error_response(413, "too_large", "A login is a short form.")
        form = await request.form(max_files=0, max_fields=4)
        refusal = self._check(request, str(form.get("password", "")))
        if refusal is not None:
            return _draw_page(request, refusal.status_code) if is_browser else refusal
        place = str(form.get("next", ""))
        answer: Response = JSONResponse({"success": True})
        if is_browser:
            answer = RedirectResponse(place if _is_own_place(place) else "/", 303)
        is_secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, self._sign(), _LIFETIME, httponly=True, samesite="strict", secure=is_secure)
        return answer

    def _sign(self) -> str:
        end = str(int(time.time()) + _LIFETIME)
        return f"{end}.{self._make_signature(end)}"

    def _is_session(self, cookie: str) -> bool:
        end, _, signature = cookie.partition(".")
        is_signed = hmac.compare_digest(signature.encode(), self._make_signature(end).encode())
        return is_signed and int(end) > time.time()

    def _make_signature(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()


def _hash(password: str) -> bytes:
    # Of one length, so that comparing tells nothing of how long the password is.
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
            except (binascii.Error, UnicodeDecodeError):
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
    said = {
        401: "パスワードが違います。 / The password is wrong.",
        429: "しばらく待ってから、もう一度お試しください。 / Too many attempts. Wait a little, and try again.",
    }.get(status, "")
    place = request.query_params.get("next", "")
    page = _PAGE.read_text(encoding="utf-8").replace("{said}", escape(said)).replace("{next}", escape(place))
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'",
    }
    return HTMLResponse(page, status, headers)
