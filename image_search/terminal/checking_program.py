"""--check: the program itself, what is installed for it, and the address it serves the page at."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import image_search
from image_search.api.protection import check_exposure
from image_search.errors import SettingsError
from image_search.records import Finding
from image_search.settings import ROOT, Settings
from image_search.terminal.serving import open_port

_PIN = re.compile(r"^([\w.-]+)==([\w.]+)", re.MULTILINE)
_TITLE = "類似画像検索".encode()
_PAGE_BYTES = 200_000


def check_program() -> Iterator[Finding]:
    """Versions of the program, of Python and of every package of requirements.txt."""
    what = f"image-search {image_search.__version__}, Python {platform.python_version()}, {ROOT}"
    yield Finding("program", True, what)
    pins = _PIN.findall((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    installed = {name: _find_version(name) for name, _ in pins}
    missing = [name for name, found in installed.items() if found is None]
    what = ", ".join(
        f"{name} {found}" + ("" if found is None or found.partition("+")[0] == pin else f" (tested with {pin})")
        for name, pin in pins
        if (found := installed[name])
    )
    if missing:
        remedy = "Run: pip install -r requirements.txt"
        yield Finding("packages", False, f"missing: {', '.join(missing)}; installed: {what}", remedy)
    else:
        yield Finding("packages", True, what)


def check_page(settings: Settings) -> Finding:
    """Whether the page may and can be served, or is being served already."""
    place = f"http://{settings.app_host}:{settings.app_port}"
    gate = "behind a password" if settings.app_password else "without a password"
    try:
        warning = check_exposure(settings)
    except SettingsError as error:
        return Finding("page", False, f"{place}, {gate}", str(error))
    what = warning or f"{place}, {gate}"
    try:
        open_port(settings.app_host, settings.app_port).close()
        return Finding("page", True, f"{what}, free to be served")
    except SettingsError as error:
        if _serves_page(settings):
            return Finding("page", True, f"{what}, being served already")
        return Finding("page", False, f"{place} is not free", str(error))


def _find_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _serves_page(settings: Settings) -> bool:
    host = "127.0.0.1" if settings.app_host in ("0.0.0.0", "::") else settings.app_host
    try:
        # No proxy of the environment: this is our own machine.
        with build_opener(ProxyHandler({})).open(f"http://{host}:{settings.app_port}", timeout=5) as answer:
            page: bytes = answer.read(_PAGE_BYTES)
    except HTTPError as error:  # as whoever has not logged in is answered
        page = error.read(_PAGE_BYTES)
    except OSError:
        return False
    return _TITLE in page
