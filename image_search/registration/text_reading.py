"""Read the text inside registered images: every image that this version of the recogniser has not read yet."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from image_search.errors import (
    ImageNotFound,
    ImageSearchError,
    RecognizerUnavailable,
    StoreUnavailable,
    UnreadableImage,
)
from image_search.images import MAX_DETAILED_PIXELS, MAX_IMAGE_PIXELS, decode_image
from image_search.recognition import (
    RECOGNIZER,
    TextRecognizer,
    check_packages,
    name_recognizer,
    open_recognizer,
    read_text,
)
from image_search.registration.jobs import Job, JobControl, JobQueue, Work
from image_search.stores.base import ImageStore

MAX_FAILURES = 200  # sentences kept
_FORGOTTEN = "text/forgotten"  # setting: a person wants no text read; "1" or absent
_PAGE = 100  # records at once
_PAUSE = 2.0  # seconds between two looks for new images
_LOWEST_PRIORITY = 19


@dataclass
class TextReport:
    """Counts of a run so far. total: images to read."""

    total: int = 0
    read: int = 0
    with_text: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        return self.read + self.failed

    def add_failure(self, sentence: str) -> None:
        self.failed += 1
        if len(self.failures) < MAX_FAILURES:
            self.failures.append(sentence)


def find_unread(store: ImageStore, recognizer: str = RECOGNIZER, shard: tuple[int, int] = (1, 1)) -> list[int]:
    """Images that this recogniser has not read. shard: (number, count); only this machine's share, by image_id."""
    found: list[int] = []
    last, (number, count) = 0, shard
    while image_ids := store.find_images_without_recognition(recognizer, last):
        last = image_ids[-1]
        found += [image_id for image_id in image_ids if image_id % count == number - 1]
    return found


def read_missing_texts(
    store: ImageStore,
    recognizer: TextRecognizer,
    *,
    image_ids: Sequence[int] | None = None,
    shard: tuple[int, int] = (1, 1),
    max_pixels: int = MAX_IMAGE_PIXELS,
    stop: threading.Event | None = None,
    on_progress: Callable[[TextReport], None] = lambda _: None,
    on_message: Callable[[str], None] = lambda _: None,
) -> TextReport:
    """Read, image by image, and store at once: a run that is killed goes on where it was.

    image_ids: to read, those of find_unread when left out. Frames of films are read from their preview. Raises
    StoreUnavailable.
    """
    name = name_recognizer(recognizer)
    if image_ids is None:
        image_ids = find_unread(store, name, shard)
    report = TextReport(len(image_ids))
    for image_id in image_ids:
        if stop is not None and stop.is_set():
            break
        try:
            outcome = _read_image(store, recognizer, image_id, max_pixels)
        except StoreUnavailable:
            raise
        except ImageSearchError as error:
            report.add_failure(str(error))
            on_message(str(error))
        else:
            report.total -= outcome is None
            report.read += outcome is not None
            report.with_text += bool(outcome)
        on_progress(report)
    return report


def _read_image(store: ImageStore, recognizer: TextRecognizer, image_id: int, max_pixels: int) -> bool | None:
    """Whether there is text; None for an image that was deleted, or read by another program, a moment ago."""
    try:
        record = store.get_image(image_id)
        if record.deleted_at is not None or record.recognizer == name_recognizer(recognizer):
            return None
        data = store.read_preview(image_id) if record.frame is not None else store.read_original(image_id)
        name = Path(record.file_name).name
        try:
            image = decode_image(data, name, max_pixels, target_pixels=MAX_DETAILED_PIXELS).image
            recognized = read_text(recognizer, image)
        except UnreadableImage as error:
            raise UnreadableImage(f"Image {image_id}: {error}") from error
        except Exception as error:  # one image that the networks choke on must not end the run
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise UnreadableImage(f"Image {image_id}: the text of {name} cannot be read ({reason}).") from error
        store.set_recognized(image_id, recognized)
    except ImageNotFound:
        return None
    return bool(recognized.text)


class BackgroundReading:
    """Reads the text of what comes into a store, in a thread of low priority: searches and embedding come first."""

    def __init__(
        self,
        store: ImageStore,
        say: Callable[[str], None],
        max_pixels: int = MAX_IMAGE_PIXELS,
        open_recognizer: Callable[[int], TextRecognizer] = open_recognizer,
    ) -> None:
        """say: told about every image that cannot be read, and why none can. open_recognizer: given its threads."""
        self._store = store
        self._say = say
        self._max_pixels = max_pixels
        self._open_recognizer = open_recognizer
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._is_last = False
        self._thread = threading.Thread(target=self._run, name="text", daemon=True)
        self._failed: set[int] = set()

    def start(self) -> None:
        """Read what is there, and then whatever comes."""
        self._thread.start()

    def finish(self) -> None:
        """End once everything that is there by now is read. Returns at once; wait waits for it."""
        self._is_last = True
        self._wake.set()

    def stop(self, timeout: float = 5.0) -> None:
        """End after the image in hand, or after so many seconds."""
        self._stop.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def wait(self) -> None:
        """Return when it is over."""
        while self._thread.is_alive():
            self._thread.join(0.1)  # so that Ctrl-C is heard

    def _run(self) -> None:
        lower_priority()
        seen = -1
        while not self._stop.is_set():
            self._wake.clear()
            is_last, additions = self._is_last, self._store.additions
            try:
                if additions != seen:
                    self._read()
                    seen = additions
                if is_last:
                    return
            except RecognizerUnavailable as error:
                self._say(str(error))
                return
            except ImageSearchError:  # a database that is away
                if is_last:
                    return
            self._wake.wait(_PAUSE)

    def _read(self) -> None:
        if is_forgotten(self._store):
            return
        image_ids = [image_id for image_id in find_unread(self._store) if image_id not in self._failed]
        if not image_ids:
            return
        # Opened for each batch of work: while there is none it takes no memory.
        recognizer = self._open_recognizer(0)
        for image_id in image_ids:
            report = read_missing_texts(
                self._store,
                recognizer,
                image_ids=[image_id],
                max_pixels=self._max_pixels,
                stop=self._stop,
                on_message=self._say,
            )
            if report.failed:
                self._failed.add(image_id)


def lower_priority() -> None:
    """Let every other thread of this computer go before this one and those it starts, where the system can do that."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)


# The same as jobs of the server, for the library page.


def add_reading(jobs: JobQueue) -> Job:
    """Queue the reading of all text. Raises RecognizerUnavailable when a package is missing, StoreError."""
    check_packages()
    return jobs.add("read_text", "")


def make_text_jobs(store: ImageStore, max_pixels: int) -> dict[str, Work]:
    """The works of two jobs: read_text reads what is not read, forget_text forgets all of it."""

    def read(_: str, control: JobControl) -> None:
        set_forgotten(store, False)
        run_quietly(lambda: _read_for_job(store, max_pixels, control))

    def forget(_: str, control: JobControl) -> None:
        for done, total in forget_texts(store, control.stop):
            control.report(done, total, {}, [])

    return {"read_text": read, "forget_text": forget}


def _read_for_job(store: ImageStore, max_pixels: int, control: JobControl) -> None:
    def tell(report: TextReport) -> None:
        counts = {"read": report.read, "with_text": report.with_text}
        control.report(report.done, report.total, counts, report.failures)

    check_packages()
    image_ids = find_unread(store)
    tell(TextReport(len(image_ids)))
    if image_ids:
        read_missing_texts(
            store,
            open_recognizer(),
            image_ids=image_ids,
            max_pixels=max_pixels,
            stop=control.stop,
            on_progress=tell,
        )


def run_quietly(work: Callable[[], None]) -> None:
    """Do some work in a thread of low priority, and raise what it raises."""
    with ThreadPoolExecutor(1, "quiet", initializer=lower_priority) as pool:
        pool.submit(work).result()


def forget_texts(store: ImageStore, stop: threading.Event) -> Iterator[tuple[int, int]]:
    """Forget the recognised text of every image, until it is asked for again; yields (images looked at, all).

    Images in the trash are among them. Raises StoreError.
    """
    set_forgotten(store, True)
    image_ids = [*_list_all(store), *(image.image_id for image in store.iterate_trash())]
    for start in range(0, len(image_ids), _PAGE):
        for record in store.find_images(image_ids[start : start + _PAGE]).values():
            if stop.is_set():
                return
            if record.recognizer is not None:
                with suppress(ImageNotFound):  # deleted a moment ago
                    store.set_recognized(record.image_id, None)
        yield min(start + _PAGE, len(image_ids)), len(image_ids)


def _list_all(store: ImageStore) -> Iterator[int]:
    last = 0
    while image_ids := store.list_image_ids(last):
        yield from image_ids
        last = image_ids[-1]


def is_forgotten(store: ImageStore) -> bool:
    """Whether a person has forgotten all text, so that none is read before it is asked for again."""
    return _FORGOTTEN in store.list_settings(_FORGOTTEN)


def set_forgotten(store: ImageStore, forgotten: bool) -> None:
    """Keep with the library whether no text is wanted. Raises StoreError."""
    store.set_setting(_FORGOTTEN, "1" if forgotten else None)
