"""metadata.jsonl: one JSON object a line with the file_name and the caption of an image, as data sets have it.

Source: Hugging Face Datasets, "ImageFolder". It may lie in the folder of the images or in that above.
"""

from __future__ import annotations

import logging
import os
import threading
from functools import lru_cache
from pathlib import Path
from unicodedata import normalize

from image_search.metadata.text import load_object

NAME = "metadata.jsonl"
_MAX_FILE_BYTES = 64 << 20
_CAPTIONS = ("text", "caption", "description", "prompt")
_LOG = logging.getLogger(__name__)
_one_reader = threading.Lock()  # else each thread would read the file, and tell of it


def find_caption(path: Path) -> bytes:
    """The caption of an image as UTF-8; b"" where no metadata.jsonl has one."""
    for folder in path.parents[:2]:
        caption = _read_captions(folder / NAME).get(normalize("NFC", path.relative_to(folder).as_posix()))
        if caption:
            return caption.encode("utf-8", "replace")
    return b""


def _read_captions(path: Path) -> dict[str, str]:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return {}
    with _one_reader:
        return _parse_captions(path, (status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=4)
def _parse_captions(path: Path, version: tuple[int, int]) -> dict[str, str]:
    """Captions by the path of their image below the folder; of broken lines the first is told."""
    captions: dict[str, str] = {}
    broken = 0
    try:
        if version[1] > _MAX_FILE_BYTES or not path.is_file():
            return {}
        lines = path.read_bytes().decode("utf-8-sig", "replace").splitlines()
    except OSError:
        return {}
    for number, line in enumerate(lines, 1):
        entry = load_object(line)
        if entry is None:
            broken = broken or (number if line.strip() else 0)
        elif isinstance(name := entry.get("file_name"), str):
            caption = next((entry[key] for key in _CAPTIONS if isinstance(entry.get(key), str)), "")
            captions[normalize("NFC", name.replace("\\", "/").removeprefix("./"))] = caption
    if broken:
        _LOG.warning("%s: line %d is no JSON object, and was passed over. Other lines are read.", path, broken)
    return captions
