"""Maintain the library: lost files, trash, deleted images, sidecars, metadata."""

from __future__ import annotations

import argparse
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from image_search.cli import Exit
from image_search.cli.console import Console, finishing_on_interrupt, name_commands, write_json, write_line
from image_search.images import make_printable, open_detailed_image
from image_search.recognition import is_sure, open_recognizer
from image_search.registration import trash
from image_search.registration.files import find_files
from image_search.registration.metadata_refresh import update_texts, write_sidecars
from image_search.registration.reader import make_reader
from image_search.registration.text_reading import forget_texts, read_missing_texts, set_forgotten
from image_search.registration.trash import find_gone_files, trash_gone_files
from image_search.settings import Settings
from image_search.stores.base import ImageStore


def prune(store: ImageStore, folders: Sequence[Path], remove: bool) -> Exit:
    """List the images whose file below these folders is missing; move them to the trash with `remove`."""
    found = [find_gone_files(store, folder) for folder in folders]
    gone = list({file.path: file for result in found for file in result.files}.values())
    for file in gone:
        write_line(file.image_id, make_printable(file.path), sep="\t")
    for warning in dict.fromkeys(warning for result in found for warning in result.warnings):
        write_line(warning, to_stderr=True)
    if remove:
        write_line(f"{trash_gone_files(store, gone)} images moved to the trash.", to_stderr=True)
    elif gone:
        write_line(f"{len(gone)} files are gone; --prune --yes moves their images to the trash.", to_stderr=True)
    return Exit.OK


def list_trash(store: ImageStore) -> Exit:
    """image_id, when it was deleted (UTC), why and the file, a line for each image in the trash."""
    for image in store.iterate_trash():
        moment = f"{image.deleted_at:%Y-%m-%d %H:%M:%S}"
        name = make_printable(image.file_path or image.file_name)
        write_line(image.image_id, moment, image.trash_reason, name, sep="\t")
    return Exit.OK


def restore(store: ImageStore, image_ids: Sequence[int]) -> Exit:
    """Bring these images back from the trash."""
    restored = trash.restore_images(store, image_ids)
    write_line(f"{restored} images are back.", to_stderr=True)
    return Exit.OK if restored == len(set(image_ids)) else Exit.SOME_FAILED


def empty_trash(store: ImageStore) -> Exit:
    """Remove everything in the trash for good."""
    removed = trash.empty_trash(store)
    write_line(f"{removed} images removed for good. The files in your folders stay, and are not registered again.")
    return Exit.OK


def forget_deleted(store: ImageStore) -> Exit:
    """Forget which images were deleted."""
    forgotten = store.forget_deleted()
    write_line(f"{forgotten} deleted images are forgotten; registering their folders takes them in again.")
    return Exit.OK


def remove_samples(store: ImageStore, folder: Path) -> Exit:
    """Move the samples to the trash."""
    write_line(f"{trash.trash_samples(store, folder)} samples moved to the trash.")
    return Exit.OK


def save_sidecars(store: ImageStore, folders: Sequence[Path]) -> Exit:
    """Write the user's edits into sidecars beside the files."""
    report = write_sidecars(store, folders)
    for sentence in report.failures:
        write_line(sentence, to_stderr=True)
    if report.missing:
        write_line(f"{report.missing} files are missing.", to_stderr=True)
    if report.without_file:
        write_line(f"{report.without_file} images were uploaded and have no file to write beside.", to_stderr=True)
    write_line(f"written {report.written}, unchanged {report.unchanged}, failed {len(report.failures)}")
    return Exit.SOME_FAILED if report.failures or report.missing else Exit.OK


def refresh_metadata(store: ImageStore, settings: Settings, options: argparse.Namespace) -> Exit:
    """Read the metadata of the files below options.paths again: outcome, source and path, a line for each file."""
    found = find_files(options.paths)
    counts: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    for failure in found.failures:
        counts["failed"] += 1
        write_line(failure, to_stderr=True)
    for update in update_texts(store, found.files, make_reader(settings)):
        counts[update.outcome] += 1
        sources[update.source] += 1
        write_line(update.outcome, update.source, make_printable(update.path), sep="\t")
        if update.warning:
            write_line(name_commands(update.warning), to_stderr=True)
    sys.stdout.flush()
    for source, count in sorted(sources.items()):
        if source:
            write_line(f"{count:6} {source}", to_stderr=True)
    outcomes = ("updated", "unchanged", "no text", "failed")
    write_line(", ".join(f"{name} {counts[name]}" for name in outcomes), to_stderr=True)
    return Exit.SOME_FAILED if counts["failed"] else Exit.OK


def print_text(settings: Settings, path: Path, as_json: bool) -> Exit:
    """Print the text inside an image; as_json: every line with score and box, doubtful ones included.

    Returns NOTHING_FOUND without any text. Raises UnreadableImage, RecognizerUnavailable.
    """
    image = open_detailed_image(path, settings.max_image_pixels)
    lines = open_recognizer().recognize(image)
    chosen = [line for line in lines if as_json or is_sure(line)]
    for line in chosen:
        write_json(asdict(line)) if as_json else write_line(line.text)
    return Exit.OK if chosen else Exit.NOTHING_FOUND


def read_texts(store: ImageStore, settings: Settings, options: argparse.Namespace) -> Exit:
    """Read the text of every registered image that this recogniser has not read; run again, it goes on."""
    recognizer = open_recognizer()
    set_forgotten(store, False)
    stop, console = threading.Event(), Console()
    with finishing_on_interrupt(stop):
        try:
            report = read_missing_texts(
                store,
                recognizer,
                shard=options.shard,
                max_pixels=settings.max_image_pixels,
                stop=stop,
                on_progress=console.show_progress,
                on_message=console.say,
            )
        finally:
            console.close()
    if options.json:
        counts = {"read": report.read, "with_text": report.with_text, "failed": report.failed}
        write_json(counts | {"failures": report.failures})
    else:
        write_line(f"read {report.read}, with text {report.with_text}, failed {report.failed}")
    if stop.is_set():
        return Exit.INTERRUPTED
    return Exit.SOME_FAILED if report.failed else Exit.OK


def forget_recognized(store: ImageStore) -> Exit:
    """Forget the recognised text of every image; none is read again before --read-text."""
    count = 0
    for done, _ in forget_texts(store, threading.Event()):
        count = done
    write_line(f"The text of {count} images is forgotten.")
    return Exit.OK
