"""Read the text inside registered images: every image that this version of the recogniser has not read yet."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from image_search.errors import ImageNotFound, ImageSearchError, StoreUnavailable, UnreadableImage
from image_search.images import MAX_DETAILED_PIXELS, MAX_IMAGE_PIXELS, decode_image
from image_search.recognition import TextRecognizer, name_recognizer, read_text
from image_search.stores.base import ImageStore

MAX_FAILURES = 200  # sentences kept


@dataclass
class TextReport:
    """Counts of a run so far. total: images to read, as far as it is known."""

    total: int = 0
    read: int = 0
    with_text: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        return self.read + self.failed


def read_missing_texts(
    store: ImageStore,
    recognizer: TextRecognizer,
    *,
    shard: tuple[int, int] = (1, 1),
    max_pixels: int = MAX_IMAGE_PIXELS,
    stop: threading.Event | None = None,
    on_progress: Callable[[TextReport], None] = lambda _: None,
    on_message: Callable[[str], None] = lambda _: None,
) -> TextReport:
    """Read, image by image, and store at once: a run that is killed goes on where it was.

    shard: (number, count); only this machine's share, by image_id. Frames of films are read from their preview. Raises
    StoreUnavailable.
    """
    report = TextReport()
    name = name_recognizer(recognizer)
    last, (number, count) = 0, shard
    while image_ids := store.find_images_without_recognition(name, last):
        last = image_ids[-1]
        mine = [image_id for image_id in image_ids if image_id % count == number - 1]
        report.total += len(mine)
        for image_id in mine:
            if stop is not None and stop.is_set():
                return report
            try:
                recognized = read_text(recognizer, _open(store, image_id, max_pixels))
                store.set_recognized(image_id, recognized)
                report.read += 1
                report.with_text += bool(recognized.text)
            except ImageNotFound:  # deleted a moment ago
                report.total -= 1
            except StoreUnavailable:
                raise
            except ImageSearchError as error:
                report.failed += 1
                if len(report.failures) < MAX_FAILURES:
                    report.failures.append(str(error))
                on_message(str(error))
            on_progress(report)
    return report


def _open(store: ImageStore, image_id: int, max_pixels: int) -> Image.Image:
    record = store.get_image(image_id)
    data = store.read_preview(image_id) if record.frame is not None else store.read_original(image_id)
    name = Path(record.file_name).name
    try:
        return decode_image(data, name, max_pixels, target_pixels=MAX_DETAILED_PIXELS).image
    except UnreadableImage as error:
        raise UnreadableImage(f"Image {image_id}: {error}") from error
