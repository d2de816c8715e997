"""Words: plain English in code and documents."""

from __future__ import annotations

import re

from image_search.settings import ROOT

AVOIDED = re.compile(r"\b(whoever|nobody|somebody|amiss|anew)\b", re.IGNORECASE)


def test_no_text_uses_a_word_that_engineers_do_not_write() -> None:
    paths = [*(ROOT / "image_search").rglob("*.py"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("*.py")]
    paths += [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
    offenders = [
        f"{path.relative_to(ROOT)}:{number}: {match.group()}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if (match := AVOIDED.search(line))
    ]
    assert not offenders
