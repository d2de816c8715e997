"""Films that were uploaded: kept as files beside the originals, and registered from there like any other."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from image_search.encoders.base import Encoder
from image_search.errors import FilmsUnavailable, StoreFull, StoreUnavailable, UnreadableFilm
from image_search.films import hash_film
from image_search.films.reading import require_av
from image_search.images import make_printable
from image_search.records import ImageRecord
from image_search.registration.files import find_files
from image_search.registration.films.registering import list_frames
from image_search.registration.reader import ImageReader
from image_search.registration.registrar import Registrar
from image_search.registration.uploads import UploadedImage
from image_search.stores.base import ImageStore

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
