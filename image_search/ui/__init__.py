"""The HTML of the page: templates, always escaped, its document, and static files whose address names their content."""

from __future__ import annotations

import functools
import gzip
import hashlib
import re
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import brotli
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from image_search.search.query import IMAGE_WEIGHT
from image_search.ui.messages import MESSAGES, Language, negotiate_language, translate

STATIC = Path(__file__).parent / "static"
Encoding = Literal["br", "gzip", ""]
_REFUSED = re.compile(r";\s*q=0(\.0*)?\s*$")
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png"}

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "sort_keys": True}  # a third of the bytes


def render(template: str, language: Language, **values: object) -> str:
    """A template as HTML. It has say(key, ...), the text of a key in the language, escaped like everything else."""
    say = functools.partial(translate, language)
    return _ENVIRONMENT.get_template(template).render(say=say, language=language, icon=_find_icons(), **values)


@functools.cache
def _find_icons() -> object:
    return _ENVIRONMENT.get_template("icons.html").module


@functools.cache
def hash_static() -> str:
    """A name of all static files' content, 16 characters."""
    files = sorted(path for path in STATIC.rglob("*") if path.is_file())
    content = (f"{path.relative_to(STATIC)}".encode() + path.read_bytes() for path in files)
    return hashlib.sha256(b"".join(content)).hexdigest()[:16]


def get_static_root() -> str:
    """Address of the folder of static files, relative to the page. It changes with any of them, so that browsers may
    keep them; modules import each other relative to it."""
    return f"ui/static/{hash_static()}"


_STYLES = "styles.css"  # all of them in one answer


@functools.lru_cache(maxsize=256)
def read_static(path: str, encoding: Encoding = "") -> tuple[bytes, str] | None:
    """A static file, encoded, with its media type; None when there is none of this name. Kept in memory."""
    media_type = _TYPES.get(Path(path).suffix)
    try:
        files = list_styles() if path == _STYLES else [(STATIC / path).resolve()]
        if media_type is None or not all(file.is_relative_to(STATIC) and file.is_file() for file in files):
            return None
    except (OSError, ValueError):  # a name that is too long, or has a zero byte
        return None
    return encode(b"".join(file.read_bytes() for file in files), encoding), media_type


def list_styles() -> list[Path]:
    """The style sheets of the page, in the order they are read."""
    return [STATIC / "vendor" / "photoswipe" / "photoswipe.css", *sorted(STATIC.glob("*.css"))]


def choose_encoding(accepted: str) -> Encoding:
    """The best encoding of an Accept-Encoding header."""
    names = {name.partition(";")[0].strip() for name in accepted.lower().split(",") if not _REFUSED.search(name)}
    return "br" if "br" in names else "gzip" if "gzip" in names else ""


def encode(content: bytes, encoding: Encoding, effort: int = 9) -> bytes:
    """The content in an encoding of HTTP. effort: 1 to 9."""
    if encoding == "br":
        compressed: bytes = brotli.compress(content, quality=effort)
        return compressed
    return gzip.compress(content, effort) if encoding == "gzip" else content


def _list_modules() -> list[str]:
    """Names of all scripts below the root of static files."""
    return [*(path.name for path in sorted(STATIC.glob("*.js"))), "vendor/photoswipe/photoswipe.esm.min.js"]


def _render_head(root: str) -> str:
    """Styles and icon for the head of the page. root: address of the static files."""
    icon = quote((STATIC / "icon.svg").read_text(encoding="utf-8").strip())
    return _ENVIRONMENT.get_template("head.html").render(root=root, styles=_STYLES, icon=icon)


# The document of the page: Gradio's, with this program's head and its own part of the body, in one language.

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
                body = _complete_document(body.decode(), language, self._root_path, base).encode()
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


def _complete_document(html: str, language: Language, root_path: str, base: str) -> str:
    """Gradio's document with this program's parts.

    root_path: path the page is served below, "" for none; base: address of the page as the browser sees it.
    """
    data: dict[str, Any] = {"language": language, "weight": IMAGE_WEIGHT, "messages": MESSAGES[language]}
    root = f"{root_path}/{get_static_root()}" if root_path else get_static_root()
    values = {"data": data, "base": base, "root": root, "modules": _list_modules()}
    head, top, bottom = (render(name, language, **values) for name in ("title.html", "top.html", "bottom.html"))
    html = _OWN_TAGS.sub("", html)
    html = _LANGUAGE.sub(f'<html lang="{language}"', html, count=1)
    html = html.replace("<head>", f"<head>{head}", 1)
    html = html.replace("</head>", f"{_render_head(root)}</head>", 1)
    html = _BODY.sub(lambda match: f"{match[0]}{top}", html, count=1)
    place = html.rindex("</body>")
    return f"{html[:place]}{bottom}{html[place:]}"
