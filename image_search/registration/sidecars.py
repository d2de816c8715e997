"""Write what a person said of images beside their files, as XMP sidecars. Originals are never touched."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from image_search.errors import UnreadableImage
from image_search.metadata.sidecars import write_sidecar
from image_search.records import ImageRecord
from image_search.registration.files import is_missing, locate
from image_search.stores.base import ImageStore

_PAGE = 1000


@dataclass
class SidecarReport:
    """Counts of files. failures: a sentence for each that has no sidecar now, though it should.

    missing: files that are not there just now; without_file: images with something to say that have no file, as uploads
    """

    written: int = 0
    unchanged: int = 0
    missing: int = 0
    without_file: int = 0
    failures: list[str] = field(default_factory=list)


def write_sidecars(store: ImageStore, folders: Sequence[str | os.PathLike[str]] = ()) -> SidecarReport:
    """Write the sidecars of all images, or of those below some folders; what is not said any more is taken away.

    Raises StoreError.
    """
    report = SidecarReport()
    tops = [locate(folder) for folder in folders]
    for image in _list_images(store, tops):
        if image.frame is not None:
            continue  # a film says nothing of one of its frames
        paths = [path for path in image.paths if not tops or any(_is_below(path, top) for top in tops)]
        report.without_file += not image.paths and not image.edits.is_empty
        for path in paths:
            if is_missing(path):
                report.missing += not image.edits.is_empty
                continue
            try:
                is_written = write_sidecar(Path(path), image.edits)
            except UnreadableImage as error:
                report.failures.append(str(error))
                continue
            report.written += is_written
            report.unchanged += not is_written and not image.edits.is_empty
    return report


def _list_images(store: ImageStore, folders: Sequence[str]) -> Iterator[ImageRecord]:
    """Live images, each once."""
    if not folders:
        last = 0
        while image_ids := store.list_image_ids(last, _PAGE):
            yield from store.get_images(image_ids)
            last = image_ids[-1]
        return
    seen: set[int] = set()
    for folder in folders:
        after = ""
        while page := store.list_paths(folder, after, _PAGE):
            fresh = list(dict.fromkeys(image_id for _, image_id in page if image_id not in seen))
            seen.update(fresh)
            yield from store.get_images(fresh)
            after = page[-1][0]


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip(os.sep) + os.sep)
