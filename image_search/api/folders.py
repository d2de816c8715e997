"""Which folders of this computer a program may name: those below configured roots, wherever links lead."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from image_search.api.shapes import Extracted
from image_search.errors import ImageSearchError
from image_search.registration.files import find_files
from image_search.registration.texts import update_texts
from image_search.stores.base import ImageStore

MOST_WARNINGS = 100


class FolderRefused(ImageSearchError):
    """A folder that no program may name."""


class FolderNotFound(ImageSearchError):
    """A folder below a root that is not there."""


def extract_texts(store: ImageStore, folder: str, roots: Sequence[Path], read_gps: bool) -> Extracted:
    """Read again what the files of a folder say, and store it with their images. roots: without links.

    Raises FolderRefused, FolderNotFound, StoreError.
    """
    place = _find_folder(folder, roots)
    found = find_files([place])
    inside = [file for file in found.files if _is_below(Path(file.path).resolve(), roots)]
    counts: Counter[str] = Counter(failed=len(found.failures))
    warnings = list(found.failures)
    for update in update_texts(store, inside, read_gps):
        counts[update.outcome] += 1
        warnings += [update.warning] if update.warning else []
    return Extracted(
        updated=counts["updated"],
        unchanged=counts["unchanged"],
        no_text=counts["no text"],
        failed=counts["failed"],
        warnings=warnings[:MOST_WARNINGS],
    )


def _find_folder(folder: str, roots: Sequence[Path]) -> Path:
    if not roots:
        raise FolderRefused("No folder of this computer is open to programs. Name some in APP_EXTRACT_ROOTS.")
    try:
        place = Path(folder).resolve()
    except (OSError, ValueError, RuntimeError):  # a zero byte, or links in a circle
        place = Path()
    # What lies elsewhere is refused before it is looked at: whether it is there is nobody's business.
    if not Path(folder).is_absolute() or not _is_below(place, roots):
        raise FolderRefused("The folder is not below one of APP_EXTRACT_ROOTS. Give its whole path.")
    if not os.path.isdir(place):  # Path.is_dir raises for a name that is too long
        raise FolderNotFound("There is no such folder below APP_EXTRACT_ROOTS.")
    return place


def _is_below(place: Path, roots: Sequence[Path]) -> bool:
    return any(place.is_relative_to(root) for root in roots)
