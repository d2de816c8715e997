"""python -m image_search: the commands of image-search."""

import sys

from image_search.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
