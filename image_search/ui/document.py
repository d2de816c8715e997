"""The HTML document of the page: Gradio's, with this program's head and its own part of the body, in one language."""

from __future__ import annotations

import re
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from image_search.search.query import IMAGE_WEIGHT
from image_search.ui.messages import MESSAGES, Language, negotiate_language
from image_search.ui.rendering import choose_encoding, encode, get_static_root, list_modules, render, render_head

_OWN_TAGS = re.compile(
    r'<meta\s+(?:property="og:|name="twitter:)[^>]*>\s*|<link rel="manifest"[^>]*>\s*|<title>.*?</title>\s*', re.DOTALL
)
_BODY = re.compile(r"<body[^>]*>")
_LANGUAGE = re.compile(r'<html\s+lang="[^"]*"')


# Files of Gradio whose address names their content; it sends them without a word about caching.
_LASTING = re.compile(r"/assets/[^/]+-[\w-]{8,}\.(js|css)|/theme\.css\?v=\w+")


class PageDocumentMiddleware:
    """Puts this program's parts into the document at the root, and lets browsers keep Gradio's scripts and styles.

    Gradio would add a head only after its own script has run, and in one language for all clients.
    """

    def __init__(self, app: ASGIApp, root_path: str = "") -> None:
        """root_path: path the page is served below, "" for none."""
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(self._root_path) if scope["type"] == "http" else ""
        if path != "/" or scope["method"] != "GET":
            query = scope.get("query_string", b"").decode("latin-1")
            is_lasting = _LASTING.fullmatch(f"{path}?{query}" if query else path)
            await self._app(scope, receive, _keep(send) if is_lasting else send)
            return
        headers = Headers(scope=scope)
        base = f"{scope['scheme']}://{headers.get('host', '')}{self._root_path}/"
        language = negotiate_language(headers.get("accept-language", ""))
        encoding = choose_encoding(headers.get("accept-encoding", ""))
        plain = {**scope, "headers": [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]}
        start: Message = {}
        parts: list[bytes] = []

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            if message["type"] != "http.response.body":
                await send(message)
                return
            parts.append(message.get("body", b""))
            if message.get("more_body"):
                return
            body = b"".join(parts)
            answer = MutableHeaders(raw=start["headers"])
            if answer.get("content-type", "").startswith("text/html"):
                body = complete_document(body.decode(), language, self._root_path, base).encode()
                answer["Cache-Control"] = "no-store"
                answer["Vary"] = "Accept-Language, Accept-Encoding"
                if encoding:
                    body = encode(body, encoding, 5)
                    answer["Content-Encoding"] = encoding
            answer["Content-Length"] = str(len(body))
            await send(start)
            await send({"type": "http.response.body", "body": body})

        await self._app(plain, receive, collect)


def _keep(send: Send) -> Send:
    async def send_lasting(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            MutableHeaders(scope=message)["Cache-Control"] = "private, max-age=31536000, immutable"
        await send(message)

    return send_lasting


def complete_document(html: str, language: Language, root_path: str, base: str) -> str:
    """Gradio's document with this program's parts.

    root_path: path the page is served below, "" for none; base: address of the page as the browser sees it.
    """
    data: dict[str, Any] = {"language": language, "weight": IMAGE_WEIGHT, "messages": MESSAGES[language]}
    root = f"{root_path}/{get_static_root()}" if root_path else get_static_root()
    values = {"data": data, "base": base, "root": root, "modules": list_modules()}
    head, top, bottom = (render(name, language, **values) for name in ("title.html", "top.html", "bottom.html"))
    html = _OWN_TAGS.sub("", html)
    html = _LANGUAGE.sub(f'<html lang="{language}"', html, count=1)
    html = html.replace("<head>", f"<head>{head}", 1)
    html = html.replace("</head>", f"{render_head(root)}</head>", 1)
    html = _BODY.sub(lambda match: f"{match[0]}{top}", html, count=1)
    place = html.rindex("</body>")
    return f"{html[:place]}{bottom}{html[place:]}"
