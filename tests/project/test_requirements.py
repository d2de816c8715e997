"""Requirements: everything that is imported is pinned, in the file of the part that imports it."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

from image_search.settings import ROOT

# Optional parts: an import anywhere below a path may be declared in the file of that part.
OPTIONAL = {
    "image_search/stores/postgres": "requirements-postgres.txt",
    "image_search/stores/milvus": "requirements-milvus.txt",
    "image_search/stores/redis": "requirements-redis.txt",
    "image_search/stores/elasticsearch": "requirements-elasticsearch.txt",
    "image_search/originals.py": "requirements-s3.txt",
    "image_search/api/mcp.py": "requirements-mcp.txt",
    "image_search/recognition": "requirements-ocr.txt",
    "image_search/films": "requirements-video.txt",
    "image_search/file_kinds.py": "requirements-raw.txt",
}
# Installed with a package that is pinned, of the same makers, and versioned with it.
PARTS_OF = {"elastic-transport": "elasticsearch", "botocore": "s3fs", "grpcio": "pymilvus", "protobuf": "pymilvus"}
# Used when they are installed (requirements-formats.txt).
ON_REQUEST = {"pillow-heif", "pillow-jxl-plugin", "pillow-jxl"}


def normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def read_pins(file: str) -> dict[str, str]:
    text = (ROOT / file).read_text(encoding="utf-8")
    pins = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*])?==([^\s;]+)", text, re.MULTILINE)
    return {normalize(name): version for name, version in pins}


def list_imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names - sys.stdlib_module_names - {"image_search", "demo"}


def list_pins(path: Path) -> set[str]:
    relative = path.relative_to(ROOT).as_posix()
    files = ["requirements.txt", *(file for prefix, file in OPTIONAL.items() if relative.startswith(prefix))]
    return {name for file in files if (ROOT / file).exists() for name in read_pins(file)}


def test_every_import_of_the_program_is_pinned() -> None:
    distributions = packages_distributions()
    missing = []
    for path in [*(ROOT / "image_search").rglob("*.py"), *ROOT.glob("*.py")]:
        pins = list_pins(path)
        for module in list_imports(path):
            names = {normalize(name) for name in distributions.get(module, [module])}
            names |= {PARTS_OF[name] for name in names if name in PARTS_OF}
            if not names & (pins | ON_REQUEST):
                missing.append(f"{path.relative_to(ROOT)}: {module}")
    assert not missing


def test_every_requirement_is_pinned_to_one_version() -> None:
    loose = []
    for file in sorted(ROOT.glob("requirements*.txt")):
        for line in file.read_text(encoding="utf-8").splitlines():
            requirement = line.split("#")[0].strip()
            if requirement and not requirement.startswith("-r ") and "==" not in requirement:
                loose.append(f"{file.name}: {requirement}")
    assert not loose
