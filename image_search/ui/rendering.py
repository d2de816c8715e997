"""Jinja2 templates, always escaped, and the static files of the page under an address that names their content."""

from __future__ import annotations

import functools
import gzip
import hashlib
import re
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import brotli
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from image_search.ui.messages import Language, translate

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


def list_modules() -> list[str]:
    """Names of all scripts below the root of static files."""
    return [*(path.name for path in sorted(STATIC.glob("*.js"))), "vendor/photoswipe/photoswipe.esm.min.js"]


def render_head(root: str) -> str:
    """Styles and icon for the head of the page. root: address of the static files."""
    icon = quote((STATIC / "icon.svg").read_text(encoding="utf-8").strip())
    return _ENVIRONMENT.get_template("head.html").render(root=root, styles=_STYLES, icon=icon)
