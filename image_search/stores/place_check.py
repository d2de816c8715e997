"""Whether files can be kept where they are meant to be: for --check, changing nothing that stays."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from image_search.errors import StoreError
from image_search.originals import FolderOriginals, Originals
from image_search.records import Finding

_LITTLE = 2**30  # bytes: a few hundred photographs
_PROBE = b"image search --check"  # no picture, so nobody's original


def check_originals(originals: Originals | None) -> Finding:
    """Where the original files are and whether more of them can be kept there. None: in the database."""
    if originals is None:
        return Finding("originals", True, "in the database")
    if isinstance(originals, FolderOriginals):
        return check_folder("originals", originals.folder, "ORIGINALS_URL")
    sha256 = hashlib.sha256(_PROBE).hexdigest()
    try:
        originals.write({sha256: _PROBE})
        is_whole = originals.read(sha256) == _PROBE
        originals.delete([sha256])
    except StoreError as error:
        return Finding("originals", False, f"{originals} cannot be used", str(error))
    if not is_whole:
        return Finding("originals", False, f"{originals} gives back other bytes", "Use another bucket.")
    return Finding("originals", True, f"{originals}, readable and writable")


def check_folder(name: str, folder: Path, setting: str) -> Finding:
    """Whether files can be read and written in a folder, and the room on its disk. One not made yet is no fault."""
    there = next((place for place in (folder, *folder.parents) if place.exists()), Path(folder.anchor))
    if not there.is_dir():
        return Finding(name, False, f"{there} is not a folder", f"Remove it, or correct {setting}.")
    if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        remedy = f"Give this user the right to read and write {there}, or set {setting} to another place."
        return Finding(name, False, f"{there} cannot be read and written", remedy)
    free = shutil.disk_usage(there).free
    what = f"{folder}{'' if there == folder else ' (made when it is needed)'}, {free / 2**30:,.1f} GiB free"
    if free < _LITTLE:
        return Finding(name, False, what, f"Free some room, or set {setting} to a larger disk.")
    return Finding(name, True, what)
