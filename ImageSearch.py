"""類似画像検索: without arguments the web application, with a query the same search in the terminal.

    python ImageSearch.py                                     the page
    python ImageSearch.py 夕焼けの海                          words, an image, or both
    python ImageSearch.py --image cat.jpg --limit 5 --json
    python ImageSearch.py 猫 --taken-from 2024 --out found    with copies of the images and a contact sheet
    python ImageSearch.py - < queries.txt                     one query a line
    python ImageSearch.py --read receipt.jpg                  the text inside an image
    python ImageSearch.py --check                             find problems and suggest fixes

Exit code: 0 found (--check: no problems), 1 nothing found (--check: problems), 2 could not run, 130 ended by Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from image_search.cli.main import search_or_serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Returns the exit code."""
    return search_or_serve(arguments, __doc__)


if __name__ == "__main__":
    sys.exit(main())
