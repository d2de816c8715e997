"""Disk space that the library and the models take."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from image_search.originals import FolderOriginals
from image_search.settings import ROOT, Settings
from image_search.stores.base import ImageStore


def measure_disk(store: ImageStore, settings: Settings) -> dict[str, int]:
    """Bytes of "database" and "originals" where they are files here, of downloaded "models", and what is "free"."""
    parts: dict[str, int] = {}
    if settings.database_url.startswith("sqlite:"):
        database = Path(store.get_status().location)
        parts["database"] = sum(_measure(path) for path in database.parent.glob(f"{database.name}*") if path.is_file())
    if isinstance(store.originals, FolderOriginals):
        parts["originals"] = _measure(store.originals.folder)
    parts["models"] = _measure(_find_model_cache())
    with suppress(OSError):
        parts["free"] = shutil.disk_usage(ROOT).free
    return parts


def _find_model_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _measure(place: Path) -> int:
    """Bytes of a file, or of all files below a folder; links are not followed."""
    with suppress(OSError):
        if not place.is_dir():
            return place.stat().st_size
    return sum(_list_sizes(str(place)))


def _list_sizes(folder: str) -> Iterator[int]:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    yield from _list_sizes(entry.path)
                elif not entry.is_symlink():
                    yield entry.stat(follow_symlinks=False).st_size
