"""Files beside a picture that speak about it: cat.txt or cat.png.txt, cat.json, cat.xmp."""

from __future__ import annotations

from pathlib import Path

from image_search.metadata.bounds import MAX_KEPT_CHARACTERS

_SUFFIXES = (".txt", ".json", ".xmp")


def find_sidecars(path: Path) -> dict[str, bytes]:
    """Name to content of the files beside a picture, each up to a bound; {} when there are none or they cannot be read.

    A file of the full name (cat.png.txt) comes before one that pictures of several formats would share (cat.txt).
    """
    found: dict[str, bytes] = {}
    for suffix in _SUFFIXES:
        for candidate in (path.with_name(path.name + suffix), path.with_suffix(suffix)):
            try:
                with candidate.open("rb") as file:
                    found[candidate.name] = file.read(4 * MAX_KEPT_CHARACTERS)
            except (OSError, ValueError):
                continue
            break
    return found
