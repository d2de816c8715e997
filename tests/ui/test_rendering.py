"""The HTML document of the page and its static files: language, compression, and what browsers keep."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from image_search.library import Warmup
from image_search.registration.pipeline import ImageReader
from image_search.search import Searcher
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.ui import STATIC, get_static_root, list_styles
from image_search.web.app import build_app
from tests.fakes import FakeEncoder


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with open_store(Settings(database_url=f"sqlite:///{tmp_path_factory.mktemp('library')}/library.db")) as store:
        searcher = Searcher(store, FakeEncoder())
        yield TestClient(build_app(searcher, Warmup(searcher), ImageReader()), headers={"Accept-Language": "ja"})


def test_document_is_in_the_visitors_language_and_loads_the_modules(client: TestClient) -> None:
    for language, title in (("ja", "類似画像検索"), ("en", "Image Search")):
        html = client.get("/", headers={"Accept-Language": language}).text
        assert f'<html lang="{language}"' in html
        assert f"<title>{title}</title>" in html
        assert "Gradio" not in "".join(re.findall(r"<meta[^>]*>", html))
        assert f'<script type="module" src="{get_static_root()}/app.js"></script>' in html
        assert '<main id="page">' in html
        assert html.index("/app.js") < html.index("/assets/index")  # images do not wait for Gradio on a slow line


def test_document_is_compressed_for_those_who_take_it(client: TestClient) -> None:
    answer = client.get("/", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert len(gzip.compress(answer.content, 5)) == int(answer.headers["content-length"])


def test_static_files_are_kept_by_browsers_for_good(client: TestClient) -> None:
    offenders = []
    for path in sorted(str(p.relative_to(STATIC)) for p in STATIC.rglob("*.*") if p.suffix in (".js", ".css")):
        answer = client.get(f"/{get_static_root()}/{path}")
        is_kept = "immutable" in answer.headers["cache-control"]
        is_old_kept = client.get(f"/ui/static/old/{path}").headers["cache-control"] != "no-cache"
        if answer.content != (STATIC / path).read_bytes() or not is_kept or is_old_kept:
            offenders.append(path)
    assert not offenders


@pytest.mark.parametrize("accepted", ["gzip, br", "gzip", "br;q=0, gzip", "identity", ""])
def test_scripts_and_styles_are_compressed_for_those_who_take_it(client: TestClient, accepted: str) -> None:
    for path in ("grid.js", "styles.css"):
        answer = client.get(f"/{get_static_root()}/{path}", headers={"Accept-Encoding": accepted})
        expected = "br" if accepted == "gzip, br" else "gzip" if "gzip" in accepted else None
        assert (answer.headers.get("content-encoding"), answer.headers["vary"]) == (expected, "Accept-Encoding")
        whole = b"".join(map(Path.read_bytes, list_styles())) if path == "styles.css" else (STATIC / path).read_bytes()
        assert answer.content == whole
        assert expected is None or int(answer.headers["content-length"]) < len(whole) / 2


def test_scripts_of_gradio_are_kept_by_browsers_and_its_pages_are_not(client: TestClient) -> None:
    html = client.get("/").text
    scripts = re.findall(r'(?:src|href)="\./(assets/[^"]+)"', html)
    assert scripts
    for path in scripts:
        assert "immutable" in client.get(f"/{path}").headers["cache-control"], path
    theme = re.search(r"theme\.css\?v=\w+", html)
    for path in ("/config", "/theme.css", "/assets/absent-12345678.js", *([f"/x{theme[0]}"] if theme else [])):
        assert "immutable" not in client.get(path).headers.get("cache-control", ""), path


def test_document_holds_its_texts_in_one_language(client: TestClient) -> None:
    texts = {"ja": "ドロップや貼り付けもできます", "en": "Dropping and pasting work, too"}
    for language, other in (("ja", "en"), ("en", "ja")):
        html = client.get("/", headers={"Accept-Language": language}).text
        assert texts[language] in html
        assert texts[other] not in html


def test_static_address_serves_nothing_else(client: TestClient) -> None:
    odd = ("a%00.js", "a" * 5000 + ".js")
    for path in ("../routes.py", "..%2froutes.py", "vendor", "absent.js", "vendor/photoswipe/LICENSE", *odd):
        assert client.get(f"/{get_static_root()}/{path}").status_code == 404, path


def test_vendored_library_is_what_its_list_says() -> None:
    folder = STATIC / "vendor" / "photoswipe"
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    named = dict(reversed(line.split()) for line in lines if not line.startswith("#"))
    files = {path.name for path in folder.iterdir()} - {"SHA256SUMS"}
    assert set(named) == files
    for name, digest in named.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert f"PhotoSwipe {lines[0].split()[2]} " in (folder / "photoswipe.esm.min.js").read_text()
