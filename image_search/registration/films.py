"""Films on their way into the library: looked up by their hash, read frame by frame, and written whole or not at all.

The frames of a film go through the model in the batches of the images. They are held back, without their pixels, until
the last one is embedded, and then written in one transaction. So a run that is killed leaves no part of a film.
"""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from image_search.encoders.base import Embeddings
from image_search.errors import ImageNotFound, OriginalMissing, StoreError, UnreadableFilm
from image_search.films import FilmFacts, FilmFrame, hash_film, read_film, require_av
from image_search.images import RECIPE, DecodedImage, find_dominant_color, hash_bytes, make_preview, make_printable
from image_search.metadata.photo import parse_name
from image_search.metadata.sidecars import find_sidecars, separate_edits
from image_search.records import DeletedImage, Edits, Frame, ImageRecord, ImageText, KnownFile, NewImage, SearchFilter
from image_search.registration.changes import Candidate, DeletedFiles
from image_search.registration.files import FoundFile, is_missing
from image_search.registration.pipeline import EncodedBatch, ImageReader, ReadFile, Retry
from image_search.stores.base import ChangeEdits, ImageStore
from image_search.stores.reads import image_not_found
from image_search.stores.text import hash_frame, make_file_name

_EDITS_BATCH = 500  # images of one transaction


def list_frames(store: ImageStore, film_sha256: str) -> list[ImageRecord]:
    """The live frames of a film, in the order of time. Raises StoreError."""
    frames = store.iterate_images((), SearchFilter(film_sha256=film_sha256))
    return sorted(frames, key=lambda image: image.frame.frame_ms if image.frame else 0)


def change_edits(store: ImageStore, image_ids: Sequence[int], change: ChangeEdits) -> list[int]:
    """Change the user's layer of live images, and with a frame that of all frames of its film; in few transactions.

    change: as ImageStore.change_edits takes it; called with each frame of a film.
    Returns those that are gone or in the trash; they are left alone. Raises StoreError.
    """
    ids = list(dict.fromkeys(image_ids))
    live: set[int] = set()
    for start in range(0, len(ids), _EDITS_BATCH):
        batch = [image_id for image_id in ids[start : start + _EDITS_BATCH] if image_id not in live]
        frames = [image.frame for image in store.find_images(batch).values() if image.frame and not image.deleted_at]
        films = dict.fromkeys(frame.film_sha256 for frame in frames)
        others = [frame.image_id for film_sha256 in films for frame in list_frames(store, film_sha256)]
        live |= store.change_edits([*batch, *others], change).keys()
    return [image_id for image_id in ids if image_id not in live]


def edit_image(store: ImageStore, image_id: int, change: ChangeEdits) -> ImageRecord:
    """Do so with one image. Returns it as it is then. Raises ImageNotFound, StoreError."""
    if change_edits(store, [image_id], change):
        raise image_not_found(image_id)
    return store.get_image(image_id)


@dataclass(eq=False)
class NewFilm:
    """A film that is new or has changed. frames: the embedded ones by their hash, until all of them are."""

    file: FoundFile
    film_sha256: str
    former: KnownFile | None = None
    frames: dict[str, tuple[NewImage, Embeddings]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReadFrame:
    """A frame of a film, and its pixels for the encoder. is_last: no other frame of the film comes after it."""

    image: NewImage
    pixels: Image.Image
    film: NewFilm
    is_last: bool = False

    @property
    def name(self) -> str:
        return f"{make_printable(self.film.file.path)} at {self.image.frame.frame_ms if self.image.frame else 0} ms"

    @property
    def key(self) -> str:
        return self.image.content_sha256

    @property
    def weight(self) -> int:
        return len(self.image.preview) + 3 * self.pixels.width * self.pixels.height


class FilmRegistrar:
    """Decides whether a film is known or new, reads it, and writes its frames.

    include_deleted: take in what a person deleted. on_message: called with what was left out of a film.
    """

    def __init__(
        self,
        store: ImageStore,
        reader: ImageReader,
        retry: Retry,
        stop: threading.Event,
        on_message: Callable[[str], None],
        include_deleted: bool = False,
    ) -> None:
        self._store = store
        self._reader = reader
        self._call = retry.call
        self._deletions = DeletedFiles(store, retry)
        self._stop = stop
        self._on_message = on_message
        self._include_deleted = include_deleted

    def judge(self, candidate: Candidate, model_id: int) -> Literal["known", "moved", "deleted"] | NewFilm:
        """Whether a film is known, has moved, was deleted or is new; paths are kept up to date. Safe in threads.

        Raises UnreadableFilm, StoreError, and FilmsUnavailable for a film that would have to be read.
        """
        film_sha256 = hash_film(candidate.file.path)
        frames = self._call(list_frames, self._store, film_sha256)
        if frames:
            return self._add_path(candidate, frames, model_id)
        if not self._include_deleted and self._deletions.is_deleted(candidate, film_sha256):
            self._give_up_former(candidate.former, candidate.file.path)
            return "deleted"
        require_av()
        if self._include_deleted:
            candidate = self._deletions.take_in(candidate, film_sha256)
        return NewFilm(candidate.file, film_sha256, candidate.former)

    def read(self, film: NewFilm) -> Iterator[ReadFrame]:
        """The frames that are kept, one in memory at a time. Raises UnreadableFilm when there is none.

        When the run is stopped the last one does not come, so that nothing of the film is written.
        """
        opened = read_film(film.file.path, self._reader.video_frames, max_pixels=self._reader.max_pixels)
        held: ReadFrame | None = None
        try:
            for frame in opened:
                if self._stop.is_set():
                    return
                if held:
                    yield held
                held = ReadFrame(self._describe(film, opened.facts, frame), frame.image, film)
        finally:
            opened.close()
        if held:
            yield replace(held, is_last=True)
        for note in opened.notes:
            self._on_message(note if note.startswith(opened.name) else f"{opened.name}: {note}")

    def write(self, batch: EncodedBatch[ReadFile | ReadFrame], model_id: int) -> Iterator[tuple[NewFilm, int]]:
        """Take the frames of a batch, and write the films that are complete with it. Yields them with their frames."""
        for item, embedding in zip(batch.items, batch.embeddings, strict=True):
            if isinstance(item, ReadFrame):
                item.film.frames[item.key] = item.image, embedding
        for item in (*batch.items, *batch.failed):
            if isinstance(item, ReadFrame) and item.is_last and item.film.frames:
                count = self._write(item.film, model_id)
                yield item.film, count

    def _write(self, film: NewFilm, model_id: int) -> int:
        images = [image for image, _ in film.frames.values()]
        length = max(image.frame.frame_ms for image in images if image.frame)
        images = [
            replace(image, frame=replace(image.frame, duration_ms=length))
            if image.frame and not image.frame.duration_ms
            else image
            for image in images
        ]
        embeddings = np.array([embedding for _, embedding in film.frames.values()], np.float32)
        held = self._hold_edits(film)
        if said := held or _read_edits(film.file.path):
            images = [replace(image, edits=said) for image in images]
        # First, because a run that is killed in between reads the film again.
        self._give_up_former(film.former, film.file.path)
        self._call(self._store.add_images, model_id, images, embeddings)
        self._call(self._store.forget_deleted, [film.film_sha256])
        if held:
            self._call(self._store.set_setting, _name_held(film.file.path), None)
        film.frames = {}
        return len(images)

    def _describe(self, film: NewFilm, facts: FilmFacts, frame: FilmFrame) -> NewImage:
        decoded = DecodedImage(frame.image, facts.width, facts.height, facts.file_type)
        return NewImage(
            content_sha256=hash_frame(film.film_sha256, frame.frame_ms),
            file_name=make_file_name(film.file.path),
            file_type=facts.file_type,
            width=facts.width,
            height=facts.height,
            data=None,
            preview=make_preview(decoded),
            file_path=film.file.path,
            modified_ns=film.file.modified_ns,
            text=self._read_text(film, facts),
            size=film.file.byte_size,
            frame=Frame(film.film_sha256, frame.frame_ms, facts.duration_ms or 0),
            dominant_color=find_dominant_color(decoded),
            recipe=RECIPE,
        )

    def _read_text(self, film: NewFilm, facts: FilmFacts) -> ImageText:
        text = ImageText(camera=facts.camera)
        if facts.taken_at:
            text = replace(text, taken_at=facts.taken_at, taken_source="container")
        elif named := parse_name(os.path.basename(film.file.path)):
            text = replace(text, taken_at=named.moment, taken_precision=named.precision, taken_source=named.source)
        if self._reader.read_gps:
            text = replace(text, latitude=facts.latitude, longitude=facts.longitude)
        return text

    def _add_path(self, candidate: Candidate, frames: list[ImageRecord], model_id: int) -> Literal["known", "moved"]:
        """A film whose frames are registered: the same file touched, the film moved here, or a copy."""
        file, former = candidate.file, candidate.former
        film_sha256 = frames[0].frame.film_sha256 if frames[0].frame else ""
        is_another = former is not None and former.film_sha256 != film_sha256
        if is_another:
            self._give_up_former(former, file.path)
        others = {path for frame in frames for path in frame.paths} - {file.path}
        self._call(self._set_path, frames, file, model_id)
        missing = [path for path in others if is_missing(path)]
        has_moved = former is None and bool(others) and len(missing) == len(others)
        if has_moved:
            self._call(self._store.remove_paths, missing)
        return "moved" if has_moved or is_another else "known"

    def _set_path(self, frames: list[ImageRecord], file: FoundFile, model_id: int) -> None:
        """Give all frames a path in one transaction, as far as they have an embedding."""
        image_ids = [frame.image_id for frame in frames]
        embeddings = self._store.get_embeddings(image_ids, model_id)
        previews = self._store.read_previews(image_ids)
        whole = [frame for frame in frames if frame.image_id in embeddings and frame.image_id in previews]
        images = [_place(frame, previews[frame.image_id], file) for frame in whole]
        self._store.add_images(model_id, images, np.array([embeddings[frame.image_id] for frame in whole], np.float32))
        name = make_file_name(file.path)
        for frame in frames:
            if frame not in whole or frame.file_name != name:
                with suppress(ImageNotFound):  # deleted a moment ago
                    self._store.set_path(frame.image_id, file.path, file.byte_size, file.modified_ns)

    def _hold_edits(self, film: NewFilm) -> Edits | None:
        """Edits that the film takes over from whatever had its path before.

        They are kept beside the frames until these are written, so that a run that is killed in between loses none.
        """
        name = _name_held(film.file.path)
        said = {image.edits for image in self._list_lost(film.former, film.file.path)}
        if len(said) == 1 and not (edits := said.pop()).is_empty:
            self._call(self._store.set_setting, name, json.dumps(asdict(edits)))
            return edits
        held = None if said else self._call(self._store.list_settings, name).get(name)
        return _load_edits(held) if held else None

    def _give_up_former(self, former: KnownFile | None, path: str) -> None:
        """Move to the trash whatever had this path and lies nowhere else: its content is gone."""
        lost = self._list_lost(former, path)
        self._call(self._store.trash_images, [image.image_id for image in lost], "gone")

    def _list_lost(self, former: KnownFile | None, path: str) -> list[ImageRecord]:
        if former is None:
            return []
        if former.film_sha256:
            records = self._call(list_frames, self._store, former.film_sha256)
        else:
            records = self._call(self._store.get_images, [former.image_id])
        others = dict.fromkeys(other for image in records for other in image.paths if other != path)
        there = {other for other in others if _is_there(other, former)}
        return [image for image in records if path in image.paths and there.isdisjoint(image.paths)]


def _name_held(path: str) -> str:
    """The setting that holds edits for the film at a path."""
    return f"film_edits:{hash_bytes(os.fsencode(path))}"


def _read_edits(path: str) -> Edits | None:
    """Edits that write_sidecars has written beside a film."""
    _, edits = separate_edits(find_sidecars(Path(path)))
    return None if edits.is_empty else edits


def _load_edits(held: str) -> Edits:
    values = json.loads(held)
    return Edits(**{**values, "keywords": None if values["keywords"] is None else tuple(values["keywords"])})


def _is_there(path: str, former: KnownFile) -> bool:
    """Whether this image or film, as far as is known, is still at another of its paths."""
    if former.film_sha256:
        with suppress(UnreadableFilm):
            return hash_film(path) == former.film_sha256
    return not is_missing(path)


def remember_film(store: ImageStore, film_sha256: str, paths: tuple[str, ...]) -> None:
    """Remember a film as deleted by a person, wherever its file turns up again. Raises StoreError."""
    store.add_deleted([DeletedImage(film_sha256, datetime.now(UTC).replace(tzinfo=None), paths)])


def _place(record: ImageRecord, preview: bytes, file: FoundFile) -> NewImage:
    """A registered frame once more, at another path."""
    return NewImage(
        content_sha256=record.content_sha256,
        file_name=make_file_name(file.path),
        file_type=record.file_type,
        width=record.width,
        height=record.height,
        data=None,
        preview=preview,
        file_path=file.path,
        modified_ns=file.modified_ns,
        text=record.text,
        size=file.byte_size,
        frame=record.frame,
        dominant_color=record.dominant_color,
        recipe=record.recipe,
    )


_MAX_KEPT = 256

_hashes: OrderedDict[tuple[str, int, int, int], str] = OrderedDict()  # by path, inode, size and time
_lock = threading.Lock()


def find_film_file(image: ImageRecord) -> str:
    """The path of the film that an image is a frame of. A player asks for many ranges; the file is hashed once.

    Raises StoreError for an image that is no frame, and OriginalMissing, without a path, when no file is the film.
    """
    if image.frame is None:
        raise StoreError(f"Image {image.image_id} is not a frame of a film.")
    for path in image.paths:
        with suppress(OSError, ValueError, UnreadableFilm):
            if _hash(path) == image.frame.film_sha256:
                return path
    raise OriginalMissing(
        f"{make_printable(image.file_name)} was moved or changed since it was registered. Register its folder again."
    )


def _hash(path: str) -> str:
    status = os.stat(path)
    key = (path, status.st_ino, status.st_size, status.st_mtime_ns)
    with _lock:
        if key in _hashes:
            _hashes.move_to_end(key)
            return _hashes[key]
    film_sha256 = hash_film(path)
    with _lock:
        _hashes[key] = film_sha256
        while len(_hashes) > _MAX_KEPT:
            _hashes.popitem(last=False)
    return film_sha256
