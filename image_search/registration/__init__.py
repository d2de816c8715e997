"""Files to the store: what is known is skipped, the rest is read, embedded and written in overlapping batches.

    files -> read (a thread for each core) -> cut into batches -> encode (two threads) -> write (one thread)

Every arrow is a bounded queue, so memory does not depend on the number of files. The store decides what is new by the
content's hash and takes a batch whole or not at all; that is why a run may be killed and started again at any moment.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain, islice
from typing import Literal, TypeVar

import numpy as np

from image_search.encoders.base import Embeddings, Encoder
from image_search.errors import (
    FilmsUnavailable,
    ImageNotFound,
    OriginalMissing,
    StoreError,
    StoreUnavailable,
    UnreadableFilm,
    UnreadableImage,
)
from image_search.images import RECIPE, find_dominant_color, hash_bytes, looks_as_before, make_preview, read_file
from image_search.records import EmbeddingModel
from image_search.registration.changes import Candidate, ChangeDetector, NewContent, replace_content
from image_search.registration.files import FileList, FoundFile, is_film
from image_search.registration.films import FilmRegistrar, NewFilm, ReadFrame
from image_search.registration.pipeline import (
    RETRY_DELAYS,
    Encodable,
    EncodedBatch,
    ImageReader,
    ReadFile,
    ReadOriginal,
    Retry,
    batched,
    bounded_map,
    coalescing_map,
    concat_batches,
    encode_batch,
    open_workers,
)
from image_search.stores.base import ImageStore
from image_search.stores.reads import find_model

_MARK_BATCH = 500  # embeddings that stay as they are under a new recipe

# Counts of a registration so far.


@dataclass
class RegistrationReport:
    """Counts of files; they grow while the registration runs.

    registered: new in the store
    known:      in the store already, whether under this path or as a copy elsewhere
    moved:      in the store already, but its file had moved or been renamed; the store knows the new path now
    updated:    the file of an image of the store had new content, and the image has it now
    deleted:    deleted from the library by a person earlier, and left out
    failed:     could not be read, each with a sentence in failures
    embedded:   images of the store that lacked an embedding of the model and got one from their original
    left_out:   films, where the package that reads them is not installed
    total:      files to look at and images to embed, as far as known
    unread:     files of kinds that are not read, by suffix (FileList.unread); they are not part of total
    films:      of registered and updated, and frames: their frames
    """

    registered: int = 0
    known: int = 0
    moved: int = 0
    updated: int = 0
    deleted: int = 0
    failed: int = 0
    embedded: int = 0
    left_out: int = 0
    total: int = 0
    films: int = 0
    frames: int = 0
    failures: list[str] = field(default_factory=list)
    unread: dict[str, int] = field(default_factory=dict)

    @property
    def done(self) -> int:
        counts = (self.registered, self.known, self.moved, self.updated, self.deleted, self.failed, self.embedded)
        return sum(counts) + self.left_out

    def add_failure(self, sentence: str) -> None:
        self.failed += 1
        self.failures.append(sentence)


KNOWN_BATCH = 500  # files in one query to the store
BYTES_AHEAD = 256 * 2**20  # of files that are read and wait for the model
BYTES_IN_BATCH = 128 * 2**20
# While the encoder computes one batch a second thread prepares the next one, and a third batch waits.
ENCODING_THREADS, BATCHES_AT_MODEL = 2, 3


@dataclass(frozen=True, slots=True)
class Rejected:
    """The reason why a file was rejected. The exception itself would keep its frames, and the image, in memory."""

    sentence: str


Source = TypeVar("Source")
Item = TypeVar("Item", bound=Encodable)
Outcome = Literal["known", "moved", "deleted", "stopped", "left_out"] | Rejected


class Registrar:
    """Registers files, and embeds what is registered, with one model. report grows while it runs.

    batch_size:  images given to the model at once; a function is called when the first image is there
    on_progress: called often with the report, from the thread that runs register
    on_message:  called with one sentence for everything a person should know at once, from any thread
    stop:        set it to end early; the batches that the model and the store have in hand are finished
    include_deleted: take in what a person deleted from the library, too
    pauses:      seconds to wait, one after the other, for a store that is away; two minutes together when left out
    """

    def __init__(
        self,
        store: ImageStore,
        encoder: Encoder,
        *,
        batch_size: int | Callable[[], int] = 8,
        reader: ImageReader | None = None,
        on_progress: Callable[[RegistrationReport], None] | None = None,
        on_message: Callable[[str], None] | None = None,
        stop: threading.Event | None = None,
        pauses: Sequence[float] | None = None,
        include_deleted: bool = False,
    ) -> None:
        self.report = RegistrationReport()
        self._store = store
        self._encoder = encoder
        self._batch_size = batch_size
        self._reader = reader or ImageReader()
        self._on_progress = on_progress or _ignore
        self._on_message = on_message or _ignore
        self._stop = stop or threading.Event()
        self._retry = Retry(self._on_message, self._stop, RETRY_DELAYS if pauses is None else pauses)
        self._changes = ChangeDetector(store, self._retry, include_deleted)
        self._include_deleted = include_deleted
        self._films_hint = ""  # how to install the package that reads films
        self._copies: list[tuple[str, FoundFile]] = []  # of images and films that are on their way into the store

    @cached_property
    def model(self) -> EmbeddingModel:
        """The store's entry of the encoder's model; made when it is new and can be loaded.

        Raises StoreError, ModelUnavailable.
        """
        encoder = self._encoder
        if find_model(self._store.list_models(), encoder.name, encoder.version) is None:
            encoder.load()  # the first entry becomes the library's current model
        return self._store.get_or_create_model(encoder.name, encoder.version, encoder.dimension)

    @cached_property
    def _films(self) -> FilmRegistrar:
        return FilmRegistrar(
            self._store, self._reader, self._retry, self._stop, self._on_message, self._include_deleted
        )

    def register(self, found: FileList) -> RegistrationReport:
        """Register these files. One that cannot be read is counted and reported, and the run goes on.

        Raises StoreError or EncoderError when going on makes no sense; report tells what was done until then.
        """
        model_id = self.model.model_id
        # A folder may hold the library, too, whose copies are no files of the user's.
        files = [file for file in found.files if not self._store.is_original(file.path)]
        self.report.total += len(files) + len(found.failures)
        self.report.unread = found.unread or self.report.unread
        for sentence in found.failures:
            self._fail(sentence)

        def write_images(items: list[ReadFile], embeddings: Embeddings) -> None:
            is_new = np.array(
                [
                    not replace_content(self._store, model_id, item, embedding)
                    for item, embedding in zip(items, embeddings, strict=True)
                ]
            )
            images = [item.image for item, new in zip(items, is_new, strict=True) if new]
            self._store.add_images(model_id, images, embeddings[is_new])
            self.report.registered += len(images)
            self.report.updated += len(items) - len(images)

        def write(batch: EncodedBatch[ReadFile | ReadFrame]) -> None:
            images = [(place, item) for place, item in enumerate(batch.items) if isinstance(item, ReadFile)]
            if images:
                rows = batch.embeddings[[place for place, _ in images]]
                self._retry.call(write_images, [item for _, item in images], rows)
            if any(isinstance(item, ReadFrame) for item in (*batch.items, *batch.failed)):
                for film, count in self._films.write(batch, model_id):
                    self.report.registered += film.former is None
                    self.report.updated += film.former is not None
                    self.report.films += 1
                    self.report.frames += count

        for _ in self._run(self._skip_known(files), self._read_file, write, _weigh_file):
            self._on_progress(self.report)
        self._add_copies()
        if self._films_hint:
            self._on_message(f"Films were left out: {self.report.left_out}. {self._films_hint}")
        return self.report

    def embed_missing(self, shard: tuple[int, int] = (1, 1), repair: bool = False) -> RegistrationReport:
        """Give every registered image that lacks an embedding of this model one, from its stored original.

        shard: (number, count); only this machine's share, by image_id. repair: embeddings and previews that an older
        way of decoding made (images.RECIPE) are made again, too. Raises as register does.
        """
        model_id = self.model.model_id
        status = self._store.get_status()
        embedded = sum(count for model, count in status.models if model.model_id == model_id)
        self.report.total += max(0, status.image_count - embedded) // shard[1]

        def write(batch: EncodedBatch[ReadOriginal]) -> None:
            for item in batch.items if repair else ():
                self._replace_preview(item)
            image_ids = [item.image_id for item in batch.items]
            self._retry.call(self._store.add_embeddings, model_id, image_ids, batch.embeddings, RECIPE)
            self.report.embedded += len(batch.items)

        sources = self._list_outdated(shard) if repair else self._list_missing(shard, 0)
        for _ in self._run(sources, self._read_original, write):
            self._on_progress(self.report)
        if repair:
            self._replace_old_previews(shard)
        return self.report

    def _list_outdated(self, shard: tuple[int, int]) -> Iterator[int]:
        """Images to embed. Those that the previous recipe decoded alike are only marked."""
        older = set(self._list_missing(shard, RECIPE - 1))
        kept: list[int] = []
        for image_id in self._list_missing(shard, RECIPE):
            if image_id in older or not self._keeps_preview(image_id):
                yield image_id
                continue
            kept.append(image_id)
            if len(kept) == _MARK_BATCH:
                self._mark_embeddings(kept)
                kept.clear()
        self._mark_embeddings(kept)

    def _mark_embeddings(self, image_ids: list[int]) -> None:
        """Mark embeddings as made by this recipe."""
        model_id = self.model.model_id
        found = self._retry.call(self._store.get_embeddings, image_ids, model_id)
        if found:
            self._retry.call(self._store.add_embeddings, model_id, list(found), np.stack(list(found.values())), RECIPE)

    def _keeps_preview(self, image_id: int) -> bool:
        """Whether an image is decoded as by the previous recipe. Its preview is then marked as of this one."""
        try:
            record = self._retry.call(self._store.get_image, image_id)
            if record.frame is None:  # whose preview is all there is
                if record.recipe < RECIPE - 1:
                    return False
                if not looks_as_before(record.file_type, partial(self._store.read_original, image_id)):
                    return False
            if record.recipe < RECIPE:
                preview = self._retry.call(self._store.read_preview, image_id)
                self._retry.call(self._store.set_preview, image_id, preview, record.dominant_color, RECIPE)
        except (ImageNotFound, OriginalMissing, UnreadableImage):  # reported when it is made again
            return False
        return True

    def _replace_old_previews(self, shard: tuple[int, int]) -> None:
        """Remake old previews of images whose embedding is new already."""
        last = 0
        while image_ids := self._retry.call(self._store.find_images_of_old_recipe, RECIPE, last):
            last = image_ids[-1]
            for image_id in image_ids:
                if self._stop.is_set():
                    return
                if image_id % shard[1] != shard[0] - 1 or self._keeps_preview(image_id):
                    continue
                read = self._read_original(image_id)
                if isinstance(read, ReadOriginal):
                    self._replace_preview(read)

    def _replace_preview(self, item: ReadOriginal) -> None:
        with suppress(ImageNotFound):  # deleted a moment ago
            if self._retry.call(self._store.get_image, item.image_id).frame is not None:
                return  # a preview of a preview would lose more each time
            preview, color = make_preview(item.decoded), find_dominant_color(item.decoded)
            self._retry.call(self._store.set_preview, item.image_id, preview, color, RECIPE)

    def _run(
        self,
        sources: Iterator[Source],
        read: Callable[[Source], Item | NewFilm | Outcome],
        write: Callable[[EncodedBatch[Item]], None],
        size_of: Callable[[Source], int] | None = None,
    ) -> Iterator[None]:
        """Take sources through all stages; yields after every batch that was written."""

        def read_unless_stopped(source: Source) -> Item | NewFilm | Outcome:
            return "stopped" if self._stop.is_set() else read(source)

        def encode(items: list[Item]) -> EncodedBatch[Item] | None:
            return None if self._stop.is_set() else encode_batch(self._encoder, items)

        def write_batches(batches: list[EncodedBatch[Item]]) -> EncodedBatch[Item]:
            batch = concat_batches(batches)
            write(batch)
            return batch

        with (
            open_workers(_count_cores(), "read") as readers,
            open_workers(ENCODING_THREADS, "encode") as encoders,
            open_workers(1, "write") as writer,
        ):
            for first in islice(sources, 1):  # without anything new, the model is not even loaded
                size = self._batch_size if isinstance(self._batch_size, int) else self._batch_size()
                ahead = _count_cores() + 2 * size
                outcomes = bounded_map(
                    readers, read_unless_stopped, chain([first], sources), ahead, size_of, BYTES_AHEAD
                )
                batches = batched(self._dedupe(outcomes), size, lambda item: item.weight, BYTES_IN_BATCH)
                encoded = (batch for batch in bounded_map(encoders, encode, batches, BATCHES_AT_MODEL) if batch)
                # A transaction waits for the disk, so a quick model's batches are written several at once.
                for batch in coalescing_map(writer, write_batches, encoded, lambda batch: batch.weight, BYTES_IN_BATCH):
                    for sentence in batch.failures:
                        self._fail(sentence)
                    yield

    def _dedupe(self, outcomes: Iterable[Item | NewFilm | Outcome]) -> Iterator[Item]:
        """Count what needs no model, and let every other image through once, and every frame of a film."""
        seen: set[object] = set()
        for outcome in outcomes:
            if isinstance(outcome, NewFilm):
                if outcome.film_sha256 in seen:
                    self.report.known += 1
                    self._copies.append((outcome.film_sha256, outcome.file))
                else:
                    seen.add(outcome.film_sha256)
                    yield from self._read_film(outcome)  # type: ignore[misc]  # an item of register, which has films
            elif isinstance(outcome, Rejected):
                self._fail(outcome.sentence)
            elif outcome == "moved":
                self.report.moved += 1
            elif outcome == "deleted":
                self.report.deleted += 1
            elif outcome == "left_out":
                self.report.left_out += 1
            elif outcome == "known":
                self.report.known += 1
            elif isinstance(outcome, str):
                continue
            elif outcome.key in seen:
                self.report.known += 1
                if isinstance(outcome, ReadFile):
                    self._copies.append((outcome.key, outcome.file))
            else:
                seen.add(outcome.key)
                yield outcome
            self._on_progress(self.report)

    def _skip_known(self, files: Sequence[FoundFile]) -> Iterator[Candidate]:
        """Files that are new or have changed since the store saw them, by size and time of modification."""
        for start in range(0, len(files), KNOWN_BATCH):
            chunk = files[start : start + KNOWN_BATCH]
            paths = [file.path for file in chunk]
            known = self._retry.call(self._store.find_known_files, paths)
            deleted = self._retry.call(self._store.find_deleted_paths, paths)
            for file in chunk:
                if self._stop.is_set():
                    return
                former = known.get(file.path)
                is_unchanged = former and (former.byte_size, former.modified_ns) == (file.byte_size, file.modified_ns)
                # One whose original the library has lost is read again, which brings it back.
                if former and is_unchanged and (former.film_sha256 or self._store.has_original(former.content_sha256)):
                    self.report.known += 1
                else:
                    yield Candidate(file, former, deleted.get(file.path))
            self._on_progress(self.report)

    def _read_film(self, film: NewFilm) -> Iterator[ReadFrame]:
        """Read in this thread, so that there is one film, and one frame of it, in memory at a time."""
        if self._stop.is_set():
            return
        try:
            for frame in self._films.read(film):
                yield frame
                self._on_progress(self.report)
        except UnreadableFilm as error:
            self._fail(str(error))

    def _read_file(self, candidate: Candidate) -> ReadFile | NewFilm | Outcome:
        file = candidate.file
        try:
            if is_film(file.path):
                return self._films.judge(candidate, self.model.model_id)
            data = read_file(file.path)
            content_sha256 = hash_bytes(data)
            change = self._changes.judge(candidate, content_sha256)
            if not isinstance(change, NewContent):
                if change != "deleted":
                    self._heal(content_sha256, data)
                return change
            return replace(self._reader.read_file(file, data, content_sha256), replaces=change.replaces)
        except (UnreadableImage, UnreadableFilm) as error:
            return Rejected(str(error))
        except FilmsUnavailable as error:
            self._films_hint = str(error)
            return "left_out"

    def _heal(self, content_sha256: str, data: bytes) -> None:
        """Write the original of a known image again if the library has lost it."""
        for image_id in self._retry.call(self._store.find_known_hashes, [content_sha256]).values():
            with suppress(ImageNotFound):  # deleted a moment ago
                self._retry.call(self._store.heal_original, image_id, data)

    def _add_copies(self) -> None:
        """Tell the store where copies lie whose image or film it did not have when they were read."""
        for _, film in [copy for copy in self._copies if is_film(copy[1].path)]:
            with suppress(UnreadableFilm):  # it failed under its other name as well, and that was reported
                self._films.judge(Candidate(film), self.model.model_id)
        copies, self._copies = [copy for copy in self._copies if not is_film(copy[1].path)], []
        known = self._retry.call(self._store.find_known_hashes, [content_sha256 for content_sha256, _ in copies])
        for content_sha256, file in copies:
            if content_sha256 in known:
                with suppress(ImageNotFound):  # deleted a moment ago
                    self._retry.call(
                        self._store.set_path, known[content_sha256], file.path, file.byte_size, file.modified_ns
                    )

    def _list_missing(self, shard: tuple[int, int], min_recipe: int) -> Iterator[int]:
        number, count = shard
        last = 0
        while not self._stop.is_set():
            image_ids = self._retry.call(
                self._store.find_images_without_embedding, self.model.model_id, last, min_recipe=min_recipe
            )
            if not image_ids:
                return
            yield from (image_id for image_id in image_ids if image_id % count == number - 1)
            last = image_ids[-1]

    def _read_original(self, image_id: int) -> ReadOriginal | Outcome:
        try:
            is_frame = self._retry.call(self._store.get_image, image_id).frame is not None
            # A film may have moved; the preview of a frame is as large as models look at.
            read = self._store.read_preview if is_frame else self._store.read_original
            return self._reader.read_original(image_id, self._retry.call(read, image_id))
        except ImageNotFound:
            return "stopped"
        except StoreUnavailable:
            raise
        except (UnreadableImage, StoreError) as error:  # its original is lost or damaged; the others may be whole
            return Rejected(str(error))

    def _fail(self, sentence: str) -> None:
        self.report.add_failure(sentence)
        self._on_message(sentence)


def _weigh_file(candidate: Candidate) -> int:
    return 0 if is_film(candidate.file.path) else candidate.file.byte_size


def _ignore(news: object) -> None:
    """Reports nothing."""


def _count_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
