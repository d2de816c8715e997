"""Read prompts, captions and camera data from the files of registered images again, and store them.

    python update_description_by_extracted_text_chunk.py                     the samples in images/
    python update_description_by_extracted_text_chunk.py ~/Pictures cat.png

Exit code: 0 every file was read, 1 some were not read or are not registered, 2 could not run, 130 ended by Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from image_search.cli.main import refresh_metadata


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Returns the exit code."""
    return refresh_metadata(arguments, __doc__)


if __name__ == "__main__":
    sys.exit(main())
