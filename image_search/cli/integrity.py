"""--check of every image: whether its original and preview are there, and with --deep whether they are undamaged."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from PIL import Image

from image_search.cli.console import write_line
from image_search.errors import ImageSearchError, OriginalMissing, StoreError
from image_search.images import make_printable, read_file
from image_search.originals import FolderOriginals, ReferencedOriginals
from image_search.records import Finding, ImageRecord
from image_search.stores.base import ImageStore

_BATCH = 500
_SHOWN = 5  # file names in a finding
_YOUNG = 3600.0  # seconds; a younger original may belong to a batch that is being written
_PROGRESS_SECONDS = 5.0
_DONE_UP_TO = "deep_check"  # setting of the library: image_id up to which an interrupted --deep has come


def check_files(store: ImageStore, deep: bool = False, repair: bool = False) -> Iterator[Finding]:
    """Compare the records with the files kept for them. May raise StoreError.

    deep: read every original and preview; an interrupted run goes on where it was. repair: write lost and damaged
    originals again from the files they were registered from, and set files without a record aside.
    """
    if isinstance(store.originals, FolderOriginals):
        kept = store.originals.list_hashes()
        records = [(r.content_sha256, r) for r in _list_records(store) if r.frame is None]
        by_reference = isinstance(store.originals, ReferencedOriginals)
        missing = [
            r
            for sha256, r in records
            if sha256 not in kept and not (by_reference and any(map(os.path.exists, r.paths)))
        ]
        if missing and repair and not deep:
            missing = [record for record in missing if not _heal(store, record)]
        if not deep:
            yield _describe("files", f"originals of {len(records):,} images are there", "missing", missing)
        known = {sha256 for sha256, _ in records}
        yield _check_orphans(store.originals, [file for sha256, file in kept.items() if sha256 not in known], repair)
    if deep:
        yield from _read_everything(store, repair)


def _read_everything(store: ImageStore, repair: bool) -> Iterator[Finding]:
    start = int(store.list_settings(_DONE_UP_TO).get(_DONE_UP_TO, "0"))
    if start:
        write_line(f"Going on behind image {start:,}, where the last --deep ended.", to_stderr=True)
    total, count, shown_at = store.get_status().image_count, 0, time.monotonic()
    bad_originals: list[ImageRecord] = []
    bad_previews: list[ImageRecord] = []
    for records in _list_batches(store, start):
        previews = store.read_previews([record.image_id for record in records])
        for record in records:
            count += 1
            if record.frame is None and not _is_whole(store, record) and not (repair and _heal(store, record)):
                bad_originals.append(record)
            if not _is_preview(previews.get(record.image_id, b"")):
                bad_previews.append(record)
        # The next run looks at faults again, so that no finding is lost.
        if not bad_originals and not bad_previews:
            _remember(store, str(records[-1].image_id))
        if time.monotonic() - shown_at > _PROGRESS_SECONDS:
            shown_at = time.monotonic()
            write_line(f"{count:,} of about {total:,} images read", to_stderr=True)
    _remember(store, None)
    yield _describe("originals read", f"{count:,} read, undamaged", "missing or damaged", bad_originals)
    remedy = (
        "Run: python register_images.py FOLDER for the folder of these images; delete and register them if it stays."
    )
    yield _describe("previews read", f"{count:,} read, undamaged", "missing or damaged", bad_previews, remedy)


def _remember(store: ImageStore, value: str | None) -> None:
    with suppress(StoreError):  # a library that can be read only is checked from the beginning
        store.set_setting(_DONE_UP_TO, value)


def _list_batches(store: ImageStore, after_id: int = 0) -> Iterator[list[ImageRecord]]:
    while image_ids := store.list_image_ids(after_id, _BATCH):
        with suppress(ImageSearchError):  # an image was deleted between the two queries: read one by one
            yield store.get_images(image_ids)
            after_id = image_ids[-1]
            continue
        found = []
        for image_id in image_ids:
            with suppress(ImageSearchError):
                found.append(store.get_image(image_id))
        if found:
            yield found
        after_id = image_ids[-1]


def _list_records(store: ImageStore) -> Iterator[ImageRecord]:
    """Live images and those in the trash."""
    for batch in _list_batches(store):
        yield from batch
    yield from store.iterate_trash()


def _is_whole(store: ImageStore, record: ImageRecord) -> bool:
    try:
        return hashlib.sha256(store.read_original(record.image_id)).hexdigest() == record.content_sha256
    except OriginalMissing:
        return False


def _is_preview(preview: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(preview), formats=["WEBP"]) as image:
            image.load()
    except Exception:  # decoders answer damaged files with many kinds of errors
        return False
    return True


def _heal(store: ImageStore, record: ImageRecord) -> bool:
    """Write an original again from a file it was registered from. Returns whether it is whole now."""
    for path in record.paths:
        with suppress(ImageSearchError):
            data = read_file(path)
            if hashlib.sha256(data).hexdigest() == record.content_sha256:
                store.heal_original(record.image_id, data)
                return True
    return False


def _describe(name: str, good: str, bad: str, records: Sequence[ImageRecord], remedy: str = "") -> Finding:
    if not records:
        return Finding(name, True, good)
    names = ", ".join(make_printable(record.file_name) for record in records[:_SHOWN])
    what = f"{bad}: {len(records):,} ({names}{' ...' if len(records) > _SHOWN else ''})"
    remedy = remedy or (
        "Run ImageSearch.py --check --deep --repair, which takes them from where they were registered; send the others "
        "again, or restore the folder of originals from a backup."
    )
    return Finding(name, False, what, remedy)


def _check_orphans(originals: FolderOriginals, files: Sequence[Path], repair: bool) -> Finding:
    """Originals without a record: a batch that was killed leaves them."""
    old = [file for file in files if _measure_age(file) > _YOUNG]
    if not old:
        return Finding("orphans", True, "no original without a record")
    aside = originals.folder.with_name(f"{originals.folder.name}.orphans")
    if not repair:
        remedy = f"Run ImageSearch.py --check --repair: it moves them to {aside}. Register that folder to keep them."
        return Finding("orphans", False, f"{len(old):,} originals without a record", remedy)
    aside.mkdir(0o700, exist_ok=True)
    for file in old:
        shutil.move(file, aside / file.name)
    return Finding("orphans", True, f"{len(old):,} originals without a record were moved to {aside}")


def _measure_age(file: Path) -> float:
    try:
        return time.time() - file.stat().st_mtime
    except OSError:
        return 0.0
