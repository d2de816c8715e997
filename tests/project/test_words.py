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
HEADLESS = re.compile(r'(?:^\s*(?:"""|# |// |/\* |-- |- )?|[.!?:] |"""|^#+ )What (?!if\b)[\w\[][^ ]* ')
ARTICLE = re.compile(r"^\s*(?:async )?def test_(?:a|an|the)_")
PICTURE = re.compile(r"(?:^|\s)(?:#|//) .*\bpictures?\b", re.IGNORECASE)


def list_lines() -> Iterator[tuple[Path, int, str]]:
    """Every line of the package, its tests, the demo's programs and the English documents."""
    paths = [path for folder in ("image_search", "tests", "demo") for path in (ROOT / folder).rglob("*.py")]
    paths += [path for suffix in ("js", "css") for path in (ROOT / "image_search/ui/static").glob(f"*.{suffix}")]
    paths += [*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.py"), *ROOT.glob("*.sql")]
    paths += [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", ".env.example")]
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            yield path.relative_to(ROOT), number, line


def test_no_text_uses_a_word_that_engineers_do_not_write() -> None:
    # Tests are left out: their data may have any word.
    offenders = [
        f"{path}:{number}: {match.group()}"
        for path, number, line in list_lines()
        if path.parts[0] != "tests" and (match := AVOIDED.search(line))
    ]
    assert not offenders


def test_no_sentence_begins_with_a_headless_what() -> None:
    # "What is removed is lost" hides its subject; "Removed images are lost" names it.
    offenders = [f"{path}:{number}: {line.strip()}" for path, number, line in list_lines() if HEADLESS.search(line)]
    assert not offenders


def test_no_name_of_a_test_begins_with_an_article() -> None:
    offenders = [f"{path}:{number}: {line.strip()}" for path, number, line in list_lines() if ARTICLE.search(line)]
    assert not offenders


def test_comments_call_an_image_an_image() -> None:
    # "Picture" is the word of texts for users; one comment shows how such a text is written.
    offenders = [
        f"{path}:{number}: {line.strip()}"
        for path, number, line in list_lines()
        if path.parts[0] == "image_search" and PICTURE.search(line) and "{count|" not in line
    ]
    assert not offenders
