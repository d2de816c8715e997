"""Deliberate mistakes that would break on Oracle: do the tests notice each of them?

    python -m tests.oracle.mutation                 all of them, a line each; exit code 1 unless all were killed
    python -m tests.oracle.mutation MERGE commit    those whose name contains one of the words
    python -m tests.oracle.mutation --list

Works on a copy of the files as they are now, in a temporary folder. Not part of `make test`: it takes minutes. A
mistake that cannot be made any more, because the text it changes has gone, is a failure, too: write it again.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from image_search.settings import ROOT

MISTAKES = Path(__file__).with_name("mistakes.toml")

# The quick ones first: most mistakes are noticed there.
TESTS = (
    "test_indexes_and_originals",
    "test_faults",
    "test_migration",
    "test_schema",
    "test_upgrade",
    "test_contract",
    "test_terms",
    "test_sql",
    "test_driver",
    "test_scripts",
)


@dataclass(frozen=True)
class Mistake:
    """old is replaced by new where it stands first in the file."""

    name: str
    file: str
    old: str
    new: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Make deliberate mistakes and see whether the tests notice them.")
    parser.add_argument("words", nargs="*", help="only mistakes whose name contains one of these")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    options = parser.parse_args(arguments)
    mistakes = read_mistakes()
    chosen = [m for m in mistakes if not options.words or any(word in m.name for word in options.words)]
    if options.list:
        print("\n".join(mistake.name for mistake in chosen))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        copy_files(copy)
        results = [report(copy, mistake) for mistake in chosen]
    print(f"killed {results.count('killed')} of {len(results)}")
    return 0 if set(results) <= {"killed"} else 1


def read_mistakes() -> list[Mistake]:
    """All of mistakes.toml."""
    return [Mistake(**entry) for entry in tomllib.loads(MISTAKES.read_text(encoding="utf-8"))["mistake"]]


def copy_files(copy: Path) -> None:
    """The files of the repository as they are now, with what is not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)


def report(copy: Path, mistake: Mistake) -> str:
    """Make one mistake, print a line about it, put things right again. Returns the result."""
    path = copy / mistake.file
    text = path.read_text(encoding="utf-8")
    started = time.monotonic()
    if mistake.old not in text:
        result, first = "NOT APPLIED", ""
    else:
        path.write_text(text.replace(mistake.old, mistake.new, 1), encoding="utf-8")
        result, first = run_tests(copy)
        path.write_text(text, encoding="utf-8")
    print(f"{result:11} {mistake.name:50} {time.monotonic() - started:4.0f} s  {first}", flush=True)
    return result


def run_tests(copy: Path) -> tuple[str, str]:
    """killed, survived or BROKEN OFF, and the first test that noticed. File after file: most end in the first one."""
    for name in TESTS:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"tests/oracle/{name}.py"]
        ended = subprocess.run(command, cwd=copy, capture_output=True, text=True, encoding="utf-8")
        if ended.returncode:
            lines = (line for line in ended.stdout.splitlines() if line.startswith(("FAILED", "ERROR")))
            first = next(lines, "")
            if not first:  # the tests did not even end: nothing is shown by that
                return "BROKEN OFF", (ended.stdout + ended.stderr)[-200:].strip()
            return "killed", first.split(" ", 1)[-1].removeprefix("tests/oracle/")[:110]
    return "survived", ""


if __name__ == "__main__":
    sys.exit(main())
