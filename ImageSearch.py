"""類似画像検索: without arguments the web application, with a query the same search in the terminal.

    python ImageSearch.py                                     the page
    python ImageSearch.py 夕焼けの海                          words, a picture, or both
    python ImageSearch.py --image cat.jpg --limit 5 --json
    python ImageSearch.py 猫 --taken-from 2024 --out found    with copies of the pictures and a contact sheet
    python ImageSearch.py - < queries.txt                     one query a line
    python ImageSearch.py --read receipt.jpg                  the text that stands in a picture
    python ImageSearch.py --check                             problems, and what to do about them

Exit code: 0 found (--check: all is well), 1 nothing was found (--check: problems), 2 it could not run.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from image_search.cli.search import add_query_options
from image_search.errors import ImageSearchError
from image_search.settings import Settings

FOUND, NOTHING_FOUND, COULD_NOT_RUN = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Returns the exit code."""
    options = parse_arguments(arguments)
    try:
        return FOUND if run_command(Settings.load(), options) else NOTHING_FOUND
    except ImageSearchError as error:
        print(f"ImageSearch.py: {error}", file=sys.stderr)
        return COULD_NOT_RUN
    except KeyboardInterrupt:
        return COULD_NOT_RUN
    except BrokenPipeError:  # the reader of our output, head for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FOUND


def run_command(settings: Settings, options: argparse.Namespace) -> bool:
    """Do what the options ask for. Returns whether something was found, or all is well."""
    if options.check:
        from image_search.cli.health import check_everything, print_findings

        return print_findings(check_everything(settings, options.deep, options.repair), options.json)
    if options.read:
        from image_search.cli.recognition import print_text

        return print_text(settings, options.read, as_json=options.json)
    if options == parse_arguments([]):
        from image_search.cli.serve import serve_page

        serve_page(settings)
        return True

    from image_search.cli.search import print_tags, search

    return bool(print_tags(settings, options.tags)) if options.tags else search(settings, options)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [options] [words ...]",
    )
    add_query_options(parser)
    answers = parser.add_argument_group("answers")
    answers.add_argument("--json", action="store_true", help="one JSON object a line")
    answers.add_argument("--out", type=Path, metavar="DIR", help="copy what was found into a new folder below DIR")
    others = parser.add_argument_group("instead of a search")
    others.add_argument("--tags", type=Path, metavar="FILE", help="name what a picture shows, from the list of tags")
    others.add_argument("--read", type=Path, metavar="FILE", help="print the text that stands in a picture")
    others.add_argument("--check", action="store_true", help="look at database, model, disk and port")
    others.add_argument("--deep", action="store_true", help="with --check: read every original and preview")
    others.add_argument("--repair", action="store_true", help="with --check: mend originals that are lost or left over")
    options = parser.parse_args(arguments)
    if (options.deep or options.repair) and not options.check:
        parser.error("--deep and --repair belong to --check")
    return options


if __name__ == "__main__":
    sys.exit(main())
