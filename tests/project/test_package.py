"""The package that pip installs: what it holds, and that it runs in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from image_search import __version__
from image_search.settings import ROOT

SEARCH_TIMEOUT = 240  # seconds


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the content of the wheel, as pip would unpack it."""
    folder = tmp_path_factory.mktemp("wheel")
    program = f"from hatchling.build import build_wheel; build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    hidden = ("DATABASE_URL", "DB_USER", "DB_PASSWORD", "DB_DSN", "EMBEDDING_MODEL", "ORIGINALS_URL")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.run(
        [sys.executable, "-m", "image_search", *arguments],
        env=environment | {"PYTHONPATH": str(installed), "DEVICE": "cpu"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=SEARCH_TIMEOUT,
    )


def test_version_of_the_package_is_that_of_the_program() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"] == __version__


@pytest.mark.slow
def test_wheel_holds_the_package_its_data_and_nothing_else(installed: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "image_search"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    missing = [name for name in tracked if (ROOT / name).is_file() and not (installed / name).is_file()]
    assert tracked and not missing
    bundled = installed / "image_search" / "bundled"
    assert (bundled / "create_all_tables.sql").is_file() and (bundled / "demo" / "model" / "config.json").is_file()
    samples = {path.name for path in (ROOT / "images").iterdir()}
    assert {path.name for path in (bundled / "images").iterdir()} == samples
    assert sorted(path.name.partition("-")[0] for path in installed.iterdir()) == ["image_search", "image_search"]
    entry_points = next(installed.glob("*.dist-info/entry_points.txt")).read_text(encoding="utf-8")
    assert "image-search = image_search.__main__:main" in entry_points
    metadata = next(installed.glob("*.dist-info/METADATA")).read_text(encoding="utf-8")
    assert "\nRequires-Dist: torch==" in metadata
    optional = {path.stem.partition("-")[2] for path in ROOT.glob("requirements-*.txt")} - {"dev", "legacy"}
    assert set(re.findall(r"^Provides-Extra: (.+)$", metadata, re.MULTILINE)) == optional


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_installed_program_registers_searches_and_checks_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    pictures, folder = tmp_path / "pictures", tmp_path / "empty"
    pictures.mkdir()
    folder.mkdir()
    cat = next(path for path in (ROOT / "images").iterdir() if "猫" in path.name)
    (pictures / cat.name).write_bytes(cat.read_bytes())
    registered = run(installed, folder, "register", str(pictures))
    assert registered.stdout == "registered 1, already known 0, failed 0\n", registered.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["data"]
    found = run(installed, folder, "search", "猫")
    assert cat.name in found.stdout, found.stderr
    (folder / ".env").write_text("APP_PORT=none\n")  # the current folder's .env is the one that counts
    assert run(installed, folder, "models").returncode == 2
    (folder / ".env").unlink()
    unknown = next(path for path in (ROOT / "images").glob("*.jpg") if path != cat)
    assert "Run image-search register first." in run(installed, folder, "refresh", str(unknown)).stderr
    checked = run(installed, folder, "check")
    assert f"image-search {__version__}" in checked.stdout and "torch" in checked.stdout, checked.stderr
    assert str(installed / "image_search" / "bundled" / "demo" / "model") in checked.stdout
    printed = run(installed, folder, "oracle", "--create-schema", "--print")
    assert "CREATE TABLE" in printed.stdout, printed.stderr
