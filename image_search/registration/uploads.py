"""Uploads: an image goes into the library at once (read, embedded and stored), a film beside the originals first.

Files that visitors send many at a time are kept on disk as soon as their bytes have arrived, and registered by a job. A
batch is a folder: manifest.json with the names, then NUMBER.data for a file that waits, which becomes NUMBER.OUTCOME
when it is registered. So a batch goes on without the page, and after the program was killed.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from unicodedata import normalize

from image_search.encoders.base import Embeddings, Encoder
from image_search.errors import (
    FilmsUnavailable,
    ImageSearchError,
    StoreFull,
    StoreUnavailable,
    UnreadableFilm,
    UnreadableImage,
)
from image_search.films import hash_film, require_av
from image_search.images import hash_bytes, is_printable, make_printable, read_file
from image_search.records import ImageRecord, NewImage
from image_search.registration import Registrar
from image_search.registration.changes import give_paths, list_remembered
from image_search.registration.files import find_files, is_film
from image_search.registration.films import list_frames
from image_search.registration.jobs import JobControl, Work
from image_search.registration.pipeline import ImageReader
from image_search.settings import DEFAULT_ORIGINALS
from image_search.stores.base import ImageStore

SILENCE = 30.0  # seconds without a byte after which the rest of a batch is not waited for
_WAITING, _FAILED = "data", "failed"
_OUTCOMES = {"new": "registered", "restored": "registered", "known": "known"}
_FOLDER = "films"  # in that of the originals


@dataclass(frozen=True, slots=True)
class UploadedImage:
    """An image that was sent. outcome: restored from the trash, or deleted for good earlier and taken in again."""

    image_id: int
    outcome: Literal["new", "known", "restored"]


@dataclass(frozen=True, slots=True)
class PreparedUpload:
    """An image that was sent, read and embedded, and not stored yet."""

    image: NewImage
    embeddings: Embeddings
    was_deleted: bool


def register_upload(
    store: ImageStore,
    encoder: Encoder,
    find_model_id: Callable[[], int],
    reader: ImageReader,
    data: bytes,
    file_name: str,
) -> UploadedImage:
    """Sending an image by hand means that it is wanted, also when it was deleted earlier.

    Raises UnreadableImage, EncoderError or StoreError.
    """
    prepared = prepare_upload(store, encoder, reader, data, file_name)
    return store_upload(store, find_model_id, prepared, data)


def prepare_upload(
    store: ImageStore, encoder: Encoder, reader: ImageReader, data: bytes, file_name: str
) -> PreparedUpload | UploadedImage:
    """Read and embed an image that is new, without writing. Raises UnreadableImage, EncoderError or StoreError."""
    content_sha256 = hash_bytes(data)
    known = store.find_known_hashes([content_sha256])
    if known:
        return UploadedImage(known[content_sha256], "known")
    was_deleted = bool(store.find_deleted_hashes([content_sha256]))
    read = reader.read_upload(data, clean_name(file_name))
    image = replace(read.image, file_path=None, modified_ns=None)
    return PreparedUpload(image, encoder.encode_images([read.pixels]), was_deleted)


def store_upload(
    store: ImageStore, find_model_id: Callable[[], int], prepared: PreparedUpload | UploadedImage, data: bytes
) -> UploadedImage:
    """Write what was prepared, or the original of a known image if it was lost. Raises StoreError.

    It may wait for a lock of the database; nothing else is held meanwhile.
    """
    if isinstance(prepared, UploadedImage):
        store.heal_original(prepared.image_id, data)
        return prepared
    sha256 = prepared.image.content_sha256
    remembered = list_remembered(store, [sha256]) if prepared.was_deleted else {}
    [image_id] = store.add_images(find_model_id(), [prepared.image], prepared.embeddings)
    if sha256 in remembered:
        give_paths(store, store.get_image(image_id), remembered[sha256].paths)
    return UploadedImage(image_id, "restored" if prepared.was_deleted else "new")


def clean_name(name: str) -> str:
    """A file name as programs send it, without folders and without characters that no file name has."""
    last = re.split(r"[/\\]", normalize("NFC", name))[-1]
    return "".join(letter for letter in last if is_printable(letter)).strip()[:200] or "image"


def register_uploaded_film(
    store: ImageStore, encoder: Encoder, reader: ImageReader, source: str | os.PathLike[str], name: str
) -> UploadedImage:
    """Keep a copy of a film and register it, also when it was deleted earlier. Returns its first frame.

    name: what the person calls it, with the suffix of a film. Raises UnreadableFilm, FilmsUnavailable, EncoderError or
    StoreError; then no copy is kept.
    """
    try:
        film_sha256 = hash_film(source)
        frames = list_frames(store, film_sha256)
        if any(os.path.exists(path) for frame in frames[:1] for path in frame.paths):
            return UploadedImage(frames[0].image_id, "known")
        require_av()
        was_deleted = bool(store.find_deleted_hashes([film_sha256]))
        kept = _keep(store, source, film_sha256, name)
    except UnreadableFilm as error:
        raise UnreadableFilm(str(error).replace(make_printable(os.fspath(source)), name)) from error
    try:
        batch_size = int(getattr(encoder, "batch_size", 8))
        registrar = Registrar(store, encoder, reader=reader, include_deleted=True, batch_size=batch_size, pauses=())
        report = registrar.register(find_files([kept]))
        if report.failures:
            raise UnreadableFilm(report.failures[0].replace(make_printable(str(kept)), name))
        if report.left_out:
            raise FilmsUnavailable("Films cannot be read. Install PyAV: pip install -r requirements-video.txt")
        [first, *_] = list_frames(store, film_sha256)
    except BaseException:
        _remove(kept)
        raise
    return UploadedImage(first.image_id, "known" if frames else "restored" if was_deleted else "new")


def list_uploaded(store: ImageStore, frames: Iterable[ImageRecord]) -> list[Path]:
    """The kept copies among the files of these frames."""
    folder = _find_folder(store)
    paths = {Path(path) for frame in frames if frame.frame for path in frame.paths}
    return sorted(path for path in paths if path.is_relative_to(folder))


def remove_uploaded(store: ImageStore, files: Iterable[Path]) -> None:
    """Remove kept copies whose frames are gone for good."""
    kept = [str(file) for file in files]
    known = store.find_known_files(kept)
    for path in kept:
        if path not in known:
            _remove(Path(path))


def _find_folder(store: ImageStore) -> Path:
    return Path(os.path.abspath(getattr(store.originals, "folder", DEFAULT_ORIGINALS))) / _FOLDER


def _keep(store: ImageStore, source: str | os.PathLike[str], film_sha256: str, name: str) -> Path:
    """Copy a film to its place, which it takes whole or not at all. Two of one content take the same."""
    folder = _find_folder(store) / film_sha256[:32]
    path = folder / name
    part = folder / f".{name[:100]}.part"
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
        with open(source, "rb") as original, open(part, "wb") as copy:
            shutil.copyfileobj(original, copy, 2**20)
            copy.flush()
            os.fsync(copy.fileno())
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(f"The disk of {folder.parent} is full. {name} was not kept; free some space.") from error
        raise StoreUnavailable(f"{folder} cannot be written ({error.strerror}). Check the disk and rights.") from error
    return path


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
        path.parent.rmdir()


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
        """Return when something arrived, or after that many seconds."""
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
