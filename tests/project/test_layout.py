"""Layout: who may import whom, and what importing loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from image_search.settings import ROOT

PACKAGE = ROOT / "image_search"
MAX_LINES = 500

# Modules and folders of the package, and what each may import from it besides itself. Longest name first decides.
BASE = {"errors", "records", "settings"}
ALLOWED = {
    "errors": set(),
    "records": set(),
    "settings": {"errors"},
    "file_kinds": {"jpeg"},
    "colors": set(),
    "jpeg": set(),
    "repairs": {"file_kinds", "jpeg"},
    "tiff": {"colors", "repairs"},
    "images": BASE | {"colors", "file_kinds", "repairs", "tiff"},
    "films": BASE | {"images", "file_kinds"},
    "originals": BASE,
    "metadata": {"errors", "records"},
    "encoders": BASE,
    "stores": BASE | {"originals"},
    "recognition": {"errors", "records"},
    "registration": BASE
    | {"images", "file_kinds", "metadata", "recognition", "films"}
    | {"encoders.base", "stores.base", "stores.reads", "stores.text"},
    "search": BASE | {"images", "recognition", "encoders.base", "stores.base", "stores.text", "stores.tokens"},
    "library": BASE | {"images", "originals", "registration", "search", "encoders", "stores.base", "stores.text"},
    "disk_space": BASE | {"originals", "stores.base"},
    "api": BASE | {"images", "registration", "search", "encoders.base", "stores.base", "stores.reads", "stores.text"},
    "ui": BASE
    | {"images", "library", "recognition", "registration", "search", "encoders.base", "stores.base", "stores.text"}
    | {"api.schemas", "stores.tokens", "disk_space"},
    "web": BASE | {"images", "library", "registration", "search", "encoders", "stores.base", "api", "ui"},
    "cli": BASE
    | {"__version__", "images", "originals", "recognition", "registration", "search", "encoders", "stores"}
    | {"api", "library", "ui", "web"},
}
# An engine imports its own folder, base, records, errors, settings and originals, and the modules that engines share.
SHARED_BY_ENGINES = {
    "stores.base",
    "stores.reads",
    "stores.sql",
    "stores.documents",
    "stores.document_store",
    "stores.text",
    "stores.tokens",
}


def list_modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def find_imports(path: Path) -> set[str]:
    """Modules of this package that a file imports, at any level, without the leading image_search."""
    found = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module]
            if node.module == "image_search":
                names = [f"image_search.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.removeprefix("image_search.") for name in names if name.startswith("image_search.")}
    return found


def is_within(name: str, others: set[str]) -> bool:
    return any(name == other or name.startswith(other + ".") for other in others)


@pytest.mark.slow
def test_no_modules_import_each_other_in_a_circle() -> None:
    paths = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in [*list_modules(), *(ROOT / "demo").glob("*.py")]
    }
    imported: dict[str, set[str]] = {name: set() for name in paths}
    for name, path in paths.items():
        for node in parse(path).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                names = {f"{node.module}.{alias.name}" for alias in node.names} & paths.keys()
                imported[name] |= (names or {node.module}) & paths.keys() - {name}
    TopologicalSorter(imported).prepare()  # raises CycleError naming the modules of a circle


def test_every_folder_imports_only_what_it_may() -> None:
    offenders = []
    for path in list_modules():
        folder = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if folder in ("__init__", "__main__"):
            continue
        allowed = ALLOWED.get(folder, set()) | {folder}
        offenders += [
            f"{path.relative_to(ROOT)}: {name}" for name in find_imports(path) if not is_within(name, allowed)
        ]
    assert not offenders


def test_every_engine_imports_only_its_own_folder_and_what_engines_share() -> None:
    engines = [path for path in (PACKAGE / "stores").iterdir() if (path / "__init__.py").exists()]
    offenders = []
    for engine in engines:
        allowed = BASE | {"originals", f"stores.{engine.name}"} | SHARED_BY_ENGINES
        for path in engine.glob("*.py"):
            offenders += [
                f"{path.relative_to(ROOT)}: {name}" for name in find_imports(path) if not is_within(name, allowed)
            ]
    assert len(engines) == 6
    assert not offenders


@pytest.mark.parametrize(
    "module",
    [
        "image_search",
        "image_search.settings",
        "image_search.stores",
        "image_search.encoders",
        "image_search.recognition",
    ],
)
def test_importing_loads_neither_a_model_nor_a_page_nor_a_driver(module: str) -> None:
    program = f"import sys, {module}; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    heavy = {"torch", "transformers", "gradio", "faiss", "oracledb", "psycopg", "cv2", "openvino", "av"}
    assert not heavy & {name.split(".")[0] for name in loaded.stdout.split()}


def test_no_module_is_longer_than_the_limit() -> None:
    paths = [*list_modules(), *ROOT.glob("*.py"), *(ROOT / "demo").glob("*.py"), *(ROOT / "tests").rglob("*.py")]
    lines = {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    assert not {path: count for path, count in lines.items() if count > MAX_LINES}


def test_no_folder_holds_more_than_sixteen_modules() -> None:
    folders = {path.parent for path in list_modules()}
    assert not {folder: n for folder in folders if (n := len(list(folder.glob("*.py")))) > 16}


def test_only_settings_reads_the_environment() -> None:
    texts = {path.relative_to(ROOT): path.read_text(encoding="utf-8") for path in list_modules()}
    offenders = [path for path, text in texts.items() if "os.environ.get" in text or "getenv" in text]
    assert not [path for path in offenders if path.name != "settings.py"]
