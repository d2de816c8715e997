"""Jinja2 templates, always escaped, and the static files of the page under an address that names their content."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from image_search.ui.messages import Language, translate

STATIC = Path(__file__).parent / "static"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png"}

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


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


def find_static(path: str) -> tuple[Path, str] | None:
    """A static file with its media type; None when there is none of this name."""
    file = (STATIC / path).resolve()
    media_type = _TYPES.get(file.suffix)
    if media_type is None or not file.is_relative_to(STATIC) or not file.is_file():
        return None
    return file, media_type


def render_head(root_path: str) -> str:
    """Styles, modules and icon for the head of the page. root_path: path the page is served below, "" for none."""
    root = f"{root_path}/{get_static_root()}" if root_path else get_static_root()
    names = {kind: [path.name for path in sorted(STATIC.glob(f"*.{kind}"))] for kind in ("js", "css")}
    icon = quote((STATIC / "icon.svg").read_text(encoding="utf-8").strip())
    head = _ENVIRONMENT.get_template("head.html")
    return head.render(root=root, modules=names["js"], styles=names["css"], icon=icon)
