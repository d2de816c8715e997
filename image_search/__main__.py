"""python -m image_search: back up and restore a library."""

import sys

from image_search.cli.backup import main

if __name__ == "__main__":
    sys.exit(main())
