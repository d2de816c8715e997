"""Files that visitors send: kept on disk as soon as their bytes have arrived, and registered by a job.

A batch is a folder: manifest.json with the names, then NUMBER.data for a file that waits, which becomes NUMBER.OUTCOME
when it is registered. So a batch goes on without the page, and after the program was killed.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

from image_search.encoders.base import Encoder
from image_search.errors import FilmsUnavailable, ImageSearchError, StoreFull, UnreadableFilm, UnreadableImage
from image_search.images import read_file
from image_search.registration.files import is_film
from image_search.registration.jobs import JobControl, Work
from image_search.registration.reader import ImageReader
from image_search.registration.uploads import clean_name, register_upload, register_uploaded_film
from image_search.stores.base import ImageStore

SILENCE = 30.0  # seconds without a byte after which the rest of a batch is not waited for
_WAITING, _FAILED = "data", "failed"
_OUTCOMES = {"new": "registered", "restored": "registered", "known": "known"}


class BatchGone(ImageSearchError):
    """The batch is over or was never begun; its files have to be sent in a new one."""


class UploadInbox:
    """The batches of one library. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        """folder: made when it is first needed."""
        self._folder = folder
        self._changed = threading.Condition()
        self._receiving: Counter[str] = Counter()
        self._heard: dict[str, float] = {}

    def begin(self, names: Sequence[str], running: Collection[str] = ()) -> str:
        """Begin a batch of files of these names. Returns its token. running: batches that are not left over."""
        self._clean(running)
        batch = secrets.token_hex(16)
        place = self._folder / batch
        try:
            place.mkdir(0o700, parents=True)
            (place / "manifest.json").write_text(json.dumps([clean_name(name) for name in names]), encoding="utf-8")
        except OSError as error:
            raise _cannot_keep(error) from error
        self._hear(batch)
        return batch

    async def receive(self, batch: str, number: int, body: AsyncIterator[bytes]) -> None:
        """Keep one file of a batch. Raises BatchGone, StoreFull."""
        place = self._find(batch)
        if not 0 <= number < len(read_names(place)):
            raise BatchGone("The batch has no such file. Send the files again.")
        part = place / f"{number:05}.part{secrets.token_hex(4)}"
        self._receiving[batch] += 1
        try:
            with part.open("wb") as file:
                async for piece in body:
                    file.write(piece)
                    self._heard[batch] = time.monotonic()
            if not any(".part" not in path.name for path in place.glob(f"{number:05}.*")):  # sent twice
                part.rename(place / f"{number:05}.{_WAITING}")
        except FileNotFoundError as error:  # ended meanwhile
            raise BatchGone("The batch is over. Send the file again.") from error
        except OSError as error:
            raise _cannot_keep(error) from error
        finally:
            part.unlink(missing_ok=True)
            self._receiving[batch] -= 1
            self._hear(batch)

    def wait(self, batch: str, seconds: float) -> None:
        """Return when something arrived, or after so many seconds."""
        with self._changed:
            self._changed.wait(seconds)

    def is_silent(self, batch: str) -> bool:
        """Whether nothing has arrived for so long that nothing more is waited for."""
        heard = self._heard.setdefault(batch, time.monotonic())
        return not self._receiving[batch] and time.monotonic() - heard > SILENCE

    def get_place(self, batch: str) -> Path:
        """The batch's folder. Raises BatchGone."""
        return self._find(batch)

    def end(self, batch: str) -> None:
        """Remove what is left of a batch."""
        shutil.rmtree(self._folder / batch, ignore_errors=True)
        self._heard.pop(batch, None)

    def _find(self, batch: str) -> Path:
        place = self._folder / batch
        if not re.fullmatch(r"[0-9a-f]{32}", batch) or not place.is_dir():
            raise BatchGone("The batch is over. Send the files again.")
        return place

    def _hear(self, batch: str) -> None:
        with self._changed:
            self._heard[batch] = time.monotonic()
            self._changed.notify_all()

    def _clean(self, running: Collection[str]) -> None:
        with suppress(OSError):
            for place in self._folder.iterdir():
                if place.name not in running and not self._receiving[place.name]:
                    shutil.rmtree(place, ignore_errors=True)


def read_names(place: Path) -> list[str]:
    """The names of a batch's files. Raises BatchGone when it cannot be read."""
    try:
        names: list[str] = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BatchGone("The batch is over. Send the files again.") from error
    return names


def make_upload_work(
    inbox: UploadInbox,
    store: ImageStore,
    find_model: Callable[[], tuple[Encoder, Callable[[], int]]],
    reader: ImageReader,
) -> Work:
    """The work of a job that registers a batch. find_model: the encoder of searches, and its model_id in the store."""
    register = _make_registration(inbox, store, find_model, reader)

    def register_or_drop(batch: str, control: JobControl) -> None:
        try:
            register(batch, control)
        finally:
            if control.is_cancelled:
                inbox.end(batch)

    return register_or_drop


def _make_registration(
    inbox: UploadInbox,
    store: ImageStore,
    find_model: Callable[[], tuple[Encoder, Callable[[], int]]],
    reader: ImageReader,
) -> Work:
    def register(batch: str, control: JobControl) -> None:
        place = inbox.get_place(batch)
        names = read_names(place)
        while not control.stop.is_set():
            files = sorted(place.glob(f"*.{_WAITING}"))
            for file in files:
                if control.stop.is_set():
                    return
                outcome = register_one(file, names[int(file.stem)])
                file.with_suffix("").with_suffix(f".{outcome}").touch()
                file.unlink()
                report(place, names, control)
            if not files:
                report(place, names, control)
                if control.job.done == len(names) or inbox.is_silent(batch):
                    tell_missing(place, names, control)
                    inbox.end(batch)
                    return
                inbox.wait(batch, 0.5)

    def register_one(file: Path, name: str) -> str:
        encoder, find_model_id = find_model()
        try:
            if is_film(name):
                return _OUTCOMES[register_uploaded_film(store, encoder, reader, str(file), name).outcome]
            data = read_file(file)
            return _OUTCOMES[register_upload(store, encoder, find_model_id, reader, data, name).outcome]
        except (UnreadableImage, UnreadableFilm, FilmsUnavailable) as error:
            sentence = str(error).replace(str(file), name)  # where this computer keeps it is private
            file.with_suffix(f".{_FAILED}").write_text(sentence, encoding="utf-8")
            return _FAILED

    def report(place: Path, names: list[str], control: JobControl, missing: Sequence[str] = ()) -> None:
        counts = Counter(path.suffix[1:] for path in place.iterdir())
        failed = sorted(place.glob(f"*.{_FAILED}"))
        sentences = [*(path.read_text(encoding="utf-8") for path in failed), *missing]
        done = sum(counts[outcome] for outcome in ("registered", "known", _FAILED))
        found = {outcome: counts[outcome] for outcome in ("registered", "known") if counts[outcome]}
        control.report(done, len(names), found, sentences)

    def tell_missing(place: Path, names: list[str], control: JobControl) -> None:
        arrived = {int(path.stem) for path in place.iterdir() if path.stem.isdecimal()}
        missing = [f"{name} did not arrive." for number, name in enumerate(names) if number not in arrived]
        report(place, names, control, missing)

    return register


def _cannot_keep(error: OSError) -> StoreFull:
    return StoreFull(f"The file could not be kept ({error.strerror}). Free some room on the disk and send it again.")
