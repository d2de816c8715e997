"""Read prompts, captions and camera data out of the files of registered images again, and store them.

python update_description_by_extracted_text_chunk.py
python update_description_by_extracted_text_chunk.py ~/Pictures cat.png
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from image_search.errors import ImageSearchError
from image_search.images import make_printable
from image_search.registration.files import find_files
from image_search.registration.metadata_refresh import update_texts
from image_search.registration.reader import make_reader
from image_search.settings import ROOT, Settings
from image_search.stores import open_store

ALL_READ, SOME_FAILED, COULD_NOT_RUN = 0, 1, 2
SAMPLES = ROOT / "images"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Returns the exit code: 0 all read, 1 some not read or not registered, 2 could not run."""
    options = parse_arguments(arguments)
    try:
        settings = Settings.load()
        with open_store(settings) as store:
            found = find_files(options.paths)
            counts: Counter[str] = Counter()
            sources: Counter[str] = Counter()
            for failure in found.failures:
                counts["failed"] += 1
                print(failure, file=sys.stderr)
            for update in update_texts(store, found.files, make_reader(settings)):
                counts[update.outcome] += 1
                sources[update.source] += 1
                print(update.outcome, update.source, make_printable(update.path), sep="\t")
                if update.warning:
                    print(update.warning, file=sys.stderr)
    except ImageSearchError as error:
        print(f"update_description_by_extracted_text_chunk.py: {error}", file=sys.stderr)
        return COULD_NOT_RUN
    except KeyboardInterrupt:
        return COULD_NOT_RUN
    print_summary(counts, sources)
    return SOME_FAILED if counts["failed"] else ALL_READ


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Store what the files of registered images say: prompts, captions.")
    parser.add_argument("paths", nargs="*", type=Path, default=[SAMPLES], help="files and folders (default: images)")
    return parser.parse_args(arguments)


def print_summary(counts: Counter[str], sources: Counter[str]) -> None:
    """How many files of each generator, then how many were changed."""
    sys.stdout.flush()
    for source, count in sorted(sources.items()):
        if source:
            print(f"{count:6} {source}", file=sys.stderr)
    outcomes = ("updated", "unchanged", "no text", "failed")
    print(", ".join(f"{name} {counts[name]}" for name in outcomes), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
