"""Uploads: an image goes into the library at once (read, embedded and stored), a film beside the originals first."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from unicodedata import normalize

from image_search.encoders.base import Embeddings, Encoder
from image_search.errors import FilmsUnavailable, StoreFull, StoreUnavailable, UnreadableFilm
from image_search.films import hash_film, require_av
from image_search.images import hash_bytes, make_printable
from image_search.records import ImageRecord, NewImage
from image_search.registration.changes import give_paths, list_remembered
from image_search.registration.files import find_files
from image_search.registration.films import list_frames
from image_search.registration.reader import ImageReader
from image_search.registration.registrar import Registrar
from image_search.stores.base import ImageStore


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
    return PreparedUpload(image, encoder.encode_images([read.picture]), was_deleted)


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
    """A file name as programs send it, without folders and without what no file name has."""
    last = re.split(r"[/\\]", normalize("NFC", name))[-1]
    return "".join(letter for letter in last if letter.isprintable()).strip()[:200] or "image"


_FOLDER = "films"  # in that of the originals
_DEFAULT = Path("data/originals")  # for libraries that keep originals in a database or a bucket


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
    return Path(os.path.abspath(getattr(store.originals, "folder", _DEFAULT))) / _FOLDER


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
