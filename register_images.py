"""Register images: every file below the folders named becomes searchable, each image once.

    python register_images.py                         the samples in images/
    python register_images.py ~/Pictures scan.tif     folders and files
    python register_images.py --model MODEL           embed what is registered with another model, too
    python register_images.py --copy-from URL         copy the library of another engine, without any model
    python register_images.py --write-sidecars        write your captions, keywords and ratings beside the files

Exit code: 0 every file is registered, 1 some could not be read, 2 could not run, 130 ended by Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from image_search.cli.main import register_or_maintain


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Returns the exit code."""
    return register_or_maintain(arguments, __doc__)


if __name__ == "__main__":
    sys.exit(main())
