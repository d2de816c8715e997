"""The text in one image, line by line, and the text of all registered images, into the library."""

from __future__ import annotations

import argparse
import threading
from dataclasses import asdict
from pathlib import Path

from image_search.cli import Exit
from image_search.cli.console import Console, finishing_on_interrupt, write_json, write_line
from image_search.images import open_detailed_image
from image_search.recognition import is_sure, open_recognizer
from image_search.registration.text_reading import forget_texts, read_missing_texts, set_forgotten
from image_search.settings import Settings
from image_search.stores.base import ImageStore


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
