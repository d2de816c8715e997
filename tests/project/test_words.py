"""Words: plain English in code and documents, as CONTRIBUTING.md asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from image_search.settings import ROOT

AVOIDED = re.compile(
    r"\b(whoever|nobody|somebody|everybody|amiss|anew|thrice|strangers|for ever|all the same|good conscience)\b",
    re.IGNORECASE,
)
# A sentence at the start of a docstring, comment, heading or line of prose.
HEADLESS = re.compile(r'(?:^\s*(?:"""|# |- )?|[.!?:] |"""|^#+ )What (?!if\b)\w+ ')


def list_lines() -> Iterator[tuple[Path, int, str]]:
    """Every line of the package and of the English documents."""
    paths = [*(ROOT / "image_search").rglob("*.py"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("*.py")]
    paths += [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", ".env.example")]
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            yield path.relative_to(ROOT), number, line


def test_no_text_uses_a_word_that_engineers_do_not_write() -> None:
    offenders = [
        f"{path}:{number}: {match.group()}" for path, number, line in list_lines() if (match := AVOIDED.search(line))
    ]
    assert not offenders


def test_no_sentence_begins_with_a_headless_what() -> None:
    # "What is removed is lost" hides its subject; "Removed images are lost" names it.
    offenders = [f"{path}:{number}: {line.strip()}" for path, number, line in list_lines() if HEADLESS.search(line)]
    assert not offenders
