"""Who may lean on whom, and what importing costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from image_search.settings import ROOT

PACKAGE = ROOT / "image_search"

# What each room may import from this package. Rooms not named here are the scripts' business.
ALLOWED = {
    "errors": set(),
    "records": set(),
    "settings": {"errors"},
    "image_files": {"errors", "records", "settings"},
    "metadata": {"errors", "records"},
    "films": {"errors", "records", "settings", "image_files"},
    "encoders": {"errors", "settings"},
    "originals": {"errors", "settings"},
    "stores": {"errors", "records", "settings", "originals"},
    "registration": {"errors", "records", "image_files", "metadata", "encoders.base", "stores.base"},
    "copying": {"errors", "records", "stores.base"},
    "search": {"errors", "records", "encoders.base", "stores.base"},
    "terminal": {
        "errors",
        "records",
        "image_files",
        "registration",
        "copying",
        "search",
        "encoders",
        "stores",
        "settings",
    }
    | {"ui", "api"},
    "ui": {"errors", "records", "image_files", "registration", "search", "encoders.base", "stores.base", "settings"},
    "api": {"errors", "records", "image_files", "registration", "search", "encoders.base", "stores.base", "settings"},
}


def list_modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def find_imports(path: Path) -> set[str]:
    """Modules of this package that a file imports, at any level, without the leading image_search."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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


@pytest.mark.parametrize("path", list_modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_what_it_may_lean_on(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    base = next((name for name in ALLOWED if room == name or room.startswith(name + "_")), None)
    assert base is not None, f"tests/test_layout.py does not say what {room} may import"
    for name in find_imports(path):
        allowed = name.split(".")[0].split("_")[0] == base.split("_")[0] or any(
            name == other or name.startswith((other + ".", other + "_")) for other in ALLOWED[base]
        )
        assert allowed, f"{path.relative_to(ROOT)} imports image_search.{name}"


@pytest.mark.parametrize(
    "module", ["image_search", "image_search.settings", "image_search.stores", "image_search.encoders"]
)
def test_importing_loads_neither_a_model_nor_a_page_nor_a_driver(module: str) -> None:
    program = f"import sys, {module}; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    heavy = {"torch", "transformers", "gradio", "faiss", "oracledb", "psycopg", "av"}
    assert not heavy & {name.split(".")[0] for name in loaded.stdout.split()}


def test_no_module_is_longer_than_400_lines() -> None:
    for path in [*list_modules(), *ROOT.glob("*.py"), *(ROOT / "demo").glob("*.py"), *(ROOT / "tests").glob("*.py")]:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path


def test_only_settings_reads_the_environment() -> None:
    for path in list_modules():
        if path.name != "settings.py":
            text = path.read_text(encoding="utf-8")
            assert "os.environ.get" not in text and "getenv" not in text, path
