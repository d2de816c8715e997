"""Read registered images again: what their files say, the text inside them, and sidecars of what a person said.

Reading a file again serves after an upgrade that understands more of it; only the file's layer is written, what a
person said of an image stays as it is. The text inside an image is read once by each version of the recogniser.
Sidecars lie beside the files; originals are never touched.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from image_search.errors import (
    ImageNotFound,
    ImageSearchError,
    RecognizerUnavailable,
    StoreUnavailable,
    UnreadableImage,
)
from image_search.images import (
    MAX_DETAILED_PIXELS,
    MAX_IMAGE_PIXELS,
    decode_image,
    hash_bytes,
    make_printable,
    read_file,
)
from image_search.metadata.sidecars import find_sidecars, separate_edits, write_sidecar
from image_search.recognition import (
    RECOGNIZER,
    TextRecognizer,
    check_packages,
    name_recognizer,
    open_recognizer,
    read_text,
)
from image_search.records import ImageRecord, ImageText, SearchFilter
from image_search.registration.files import FoundFile, is_film, is_missing, locate
from image_search.registration.jobs import Job, JobControl, JobQueue, Work
from image_search.registration.pipeline import ImageReader
from image_search.registration.uploads import list_uploaded
from image_search.stores.base import ImageStore
from image_search.stores.text import make_file_name

FILE_BATCH = 500  # asked for in one query
MAX_FAILURES = 200  # sentences kept
_FORGOTTEN = "text/forgotten"  # setting: a person wants no text read; "1" or absent
_IDS_PAGE = 1000
_PAGE = 100  # records at once
_PAUSE = 2.0  # seconds between two looks for new images
_LOWEST_PRIORITY = 19

Outcome = Literal["updated", "unchanged", "no text", "failed"]


@dataclass(frozen=True, slots=True)
class TextUpdate:
    """The outcome of one file.

    source:  the generator, "caption" for what people and cameras wrote, "" when the file says nothing or failed
    warning: a sentence a person should know, "" if all is well; why, when it failed
    """

    path: str
    outcome: Outcome
    source: str = ""
    warning: str = ""


@dataclass(frozen=True, slots=True)
class _ReadText:
    path: str
    content_sha256: str
    text: ImageText


def update_texts(
    store: ImageStore, files: Iterable[FoundFile], reader: ImageReader | None = None
) -> Iterator[TextUpdate]:
    """Store what each file says with its image, which is found by content, or failing that by path or file name.

    By name only where the image has no file of its own any more, or never had one. Text from a file replaces the text
    that was stored of it; a file that says nothing changes nothing. In the order of the files, a bounded number of them
    ahead. Films are passed over. May raise StoreError.
    """
    waiting = (file for file in files if not is_film(file.path))
    while batch := list(islice(waiting, FILE_BATCH)):
        results = [_read_text(file.path, reader or ImageReader()) for file in batch]
        known = store.find_known_hashes([item.content_sha256 for item in results if isinstance(item, _ReadText)])
        for item in results:
            yield _store_text(store, item, known) if isinstance(item, _ReadText) else item


def _read_text(path: str, reader: ImageReader) -> _ReadText | TextUpdate:
    try:
        data = read_file(path)
    except UnreadableImage as error:
        return TextUpdate(path, "failed", warning=str(error))
    sidecars, _ = separate_edits(find_sidecars(Path(path)))
    text = reader.read_text(data, os.path.basename(path), sidecars)
    return _ReadText(path, hash_bytes(data), text)


def _store_text(store: ImageStore, item: _ReadText, known: dict[str, int]) -> TextUpdate:
    image_id, warning = known.get(item.content_sha256), ""
    if image_id is None:
        image_id, warning = _find_changed(store, item)
    if image_id is None:
        return TextUpdate(item.path, "failed", warning=warning)
    if replace(item.text, raw={}) == ImageText():
        return TextUpdate(item.path, "no text", warning=warning)
    source = item.text.generator or "caption"
    try:
        is_changed = store.set_text(image_id, item.text)
    except ImageNotFound:
        reason = f"{make_printable(item.path)} was deleted from the library meanwhile."
        return TextUpdate(item.path, "failed", warning=reason)
    return TextUpdate(item.path, "updated" if is_changed else "unchanged", source, warning)


def _find_changed(store: ImageStore, item: _ReadText) -> tuple[int | None, str]:
    """The image whose file this was before it changed, by its path, or else its name; and a sentence to show.

    Cameras begin to count again, so that a name alone tells nothing of an image whose own file is there.
    """
    name = make_printable(item.path)
    if store.find_deleted_hashes([item.content_sha256]) or store.find_deleted_paths([item.path]):
        reason = f"{name} was deleted from the library, and its text is left out."
        return None, f"{reason} To take it in again, run register_images.py --include-deleted."
    former = store.find_known_files([item.path]).get(item.path)
    if former is not None and former.film_sha256 is None:
        return former.image_id, f"{name} has other content than when it was registered; it was found by its path only."
    same_name = store.list_images(limit=1, filter=SearchFilter(file_name=make_file_name(item.path), kind="image"))
    if same_name.total > 1:
        reason = f"{name} is not registered as it is now, and {same_name.total} images have its name."
        return None, f"{reason} Run register_images.py first."
    if not same_name or not all(map(is_missing, same_name[0].image.paths)):
        return None, f"{name} is not registered. Run register_images.py first."
    warning = f"{name} has other content than the registered image of this name; it was found by name only."
    return same_name[0].image_id, warning


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
    """Write the sidecars of all images and films, or below some folders; what is not said any more is taken away.

    Raises StoreError.
    """
    report = SidecarReport()
    films: set[str] = set()  # the edits of a frame are those of its film
    tops = [locate(folder) for folder in folders]
    for image in _list_images(store, tops):
        own = image.paths
        if image.frame is not None:
            if image.frame.film_sha256 in films:
                continue
            films.add(image.frame.film_sha256)
            kept = set(map(str, list_uploaded(store, [image])))  # they go with the film, and so would the sidecar
            own = tuple(path for path in own if path not in kept)
        paths = [path for path in own if not tops or any(_is_below(path, top) for top in tops)]
        report.without_file += not own and not image.edits.is_empty
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
        while image_ids := store.list_image_ids(last, _IDS_PAGE):
            yield from store.get_images(image_ids)
            last = image_ids[-1]
        return
    seen: set[int] = set()
    for folder in folders:
        after = ""
        while page := store.list_paths(folder, after, _IDS_PAGE):
            fresh = list(dict.fromkeys(image_id for _, image_id in page if image_id not in seen))
            seen.update(fresh)
            yield from store.get_images(fresh)
            after = page[-1][0]


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip(os.sep) + os.sep)


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
        """say: called for every image that cannot be read, and when none can. open_recognizer: given its threads."""
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
        """End after the image in hand, or after that many seconds."""
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
