"""The claims of the documents are checked: files they link to, options they show, settings they name."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from image_search.settings import ROOT, list_setting_names
from tests.fakes import draw_image_bytes
from tests.fakes.absent import leave_out

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "demo" / "README.md"])
SCRIPTS = ("ImageSearch.py", "register_images.py", "update_description_by_extracted_text_chunk.py")
READMES = (ROOT / "README.md", ROOT / "README.ja.md")


@cache
def read_help(script: str) -> str:
    return subprocess.run([sys.executable, ROOT / script, "--help"], capture_output=True, text=True, check=True).stdout


def list_code(path: Path) -> list[str]:
    """Lines inside fenced blocks."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for target in targets:
        if not re.match(r"https?://|#|mailto:", target):
            assert (document.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
@pytest.mark.slow
def test_every_option_shown_exists(document: Path) -> None:
    for line in list_code(document):
        for script in SCRIPTS:
            if re.search(rf"(^|\s|/){re.escape(script)}(\s|$)", line):
                shown = line.partition(script)[2].partition("#")[0]
                for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", shown):
                    assert option in read_help(script), f"{line!r}: {script} has no {option}"


def test_every_module_named_in_a_document_exists() -> None:
    missing = []
    for document in DOCUMENTS:
        names = set(re.findall(r"`((?:[\w-]+/)+[\w-]*(?:\.\w+)?)`", document.read_text(encoding="utf-8")))
        folders = (ROOT, ROOT / "image_search", document.parent)
        named = {name for name in names if name.endswith((".py", ".js", "/"))} - {"data/"}
        missing += [(document.name, name) for name in named if not any((folder / name).exists() for folder in folders)]
    assert not missing


def test_every_make_target_shown_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for document in DOCUMENTS:
        for line in list_code(document):
            match = re.match(r"\$?\s*make ([a-z]+)", line)
            if match:
                assert re.search(rf"^{match[1]}:", makefile, re.MULTILINE), line


def test_make_run_says_what_it_does_before_it_takes_minutes(tmp_path: Path) -> None:
    if shutil.which("make") is None:
        leave_out("make is not installed")
    shutil.copy(ROOT / "Makefile", tmp_path)
    command = ["make", "-n", "run", "VENV=.venv"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    steps = ("two to four minutes", "-m venv", "pip install -r requirements.txt", "Starting the page", "ImageSearch.py")
    places = [shown.index(step) for step in steps]
    assert places == sorted(places)


def test_both_readmes_show_the_same_commands() -> None:
    english, japanese = ([line for line in list_code(path) if line.startswith("$ ")] for path in READMES)
    assert [line.partition("  #")[0].strip() for line in english] == [
        line.partition("  #")[0].strip() for line in japanese
    ]


def test_setting_named_in_a_document_exists() -> None:
    known = set(list_setting_names())
    prefixes = ("DB_", "APP_", "EMBEDDING_MODEL", "DATABASE_URL", "ORIGINALS_URL", "HF_TOKEN")
    for document in READMES:
        for name in re.findall(r"`([A-Z][A-Z0-9_]{3,})(?:=[^`]*)?`", document.read_text(encoding="utf-8")):
            if name.startswith(prefixes):
                assert name in known, f"{document.name} names {name}"


def test_changelog_has_no_empty_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for section in text.split("\n## ")[1:]:
        assert "\n- " in section, section.splitlines()[0]


@pytest.mark.slow
def test_benchmark_of_metadata_starts_by_its_path_and_reads_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(draw_image_bytes())
    (tmp_path / "expected.json").write_text('{"a.png": {"contains": ""}}', encoding="utf-8")
    program = [sys.executable, str(ROOT / "benchmarks" / "metadata_accuracy.py")]
    done = subprocess.run([*program, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert re.search(r"^all +1 +1$", done.stdout, re.MULTILINE)
    assert subprocess.run(program, cwd=tmp_path, capture_output=True, check=False).returncode == 0
