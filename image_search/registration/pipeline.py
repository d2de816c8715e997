"""The stages of a registration: read an image, embed a batch, and run stages at the same time, each a bounded number of
steps ahead of the next.

A batch of images becomes embeddings such that one image a model chokes on is not the end of the others.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, ParamSpec, Protocol, TypeVar
from unicodedata import normalize

import numpy as np
from PIL import Image

from image_search.encoders.base import Embeddings, Encoder
from image_search.errors import EncoderError, ModelUnavailable, StoreUnavailable
from image_search.images import (
    MAX_IMAGE_PIXELS,
    RECIPE,
    DecodedImage,
    decode_image,
    find_dominant_color,
    hash_bytes,
    make_preview,
    make_printable,
)
from image_search.metadata import read_image_text
from image_search.metadata.sidecars import find_sidecars, separate_edits
from image_search.records import ImageText, KnownFile, NewImage
from image_search.registration.files import FoundFile
from image_search.settings import Settings

# Everything that can be done with an image before the model is needed.


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A new image, and its pixels for the encoder. replaces: the registered image whose file it was."""

    image: NewImage
    pixels: Image.Image
    replaces: KnownFile | None = None

    @property
    def name(self) -> str:
        return make_printable(self.image.file_path or self.image.file_name)

    @property
    def key(self) -> str:
        return self.image.content_sha256

    @property
    def file(self) -> FoundFile:
        """The file it was read from; the path is "" for an upload."""
        return FoundFile(self.image.file_path or "", self.image.byte_size, self.image.modified_ns or 0)

    @property
    def weight(self) -> int:
        return self.image.byte_size + 3 * self.pixels.width * self.pixels.height


@dataclass(frozen=True, slots=True)
class ReadOriginal:
    """A registered image, and what its stored original holds."""

    image_id: int
    decoded: DecodedImage

    @property
    def pixels(self) -> Image.Image:
        return self.decoded.image

    @property
    def name(self) -> str:
        return f"Image {self.image_id}"

    @property
    def key(self) -> int:
        return self.image_id

    @property
    def weight(self) -> int:
        return 3 * self.pixels.width * self.pixels.height


@dataclass(frozen=True)
class ImageReader:
    """How images are read.

    read_gps: whether the place of a photograph is kept. read_people: whether names of people become keywords.
    video_frames: the most frames that are kept of one film.
    """

    max_pixels: int = MAX_IMAGE_PIXELS
    read_gps: bool = False
    read_people: bool = False
    video_frames: int = Settings.video_frames

    def read_file(self, file: FoundFile, data: bytes, content_sha256: str) -> ReadFile:
        """Decode the bytes of a file, make its preview and find its texts. Raises UnreadableImage."""
        decoded = decode_image(data, file.path, self.max_pixels)
        sidecars, edits = separate_edits(find_sidecars(Path(file.path)))
        image = self._describe(data, os.path.basename(file.path), content_sha256, decoded, sidecars)
        image = replace(image, file_path=file.path, modified_ns=file.modified_ns, edits=edits)
        return ReadFile(image, decoded.image)

    def read_upload(self, data: bytes, file_name: str) -> ReadFile:
        """The same for an image that comes from somewhere else than a file. Raises UnreadableImage."""
        decoded = decode_image(data, file_name, self.max_pixels)
        return ReadFile(self._describe(data, file_name, hash_bytes(data), decoded, {}), decoded.image)

    def read_bytes(self, data: bytes, file_name: str) -> NewImage:
        """The same without the pixels for the encoder. Raises UnreadableImage."""
        return self.read_upload(data, file_name).image

    def read_original(self, image_id: int, data: bytes) -> ReadOriginal:
        """Decode a stored original. Raises UnreadableImage."""
        return ReadOriginal(image_id, decode_image(data, f"Image {image_id}", self.max_pixels))

    def read_text(self, data: bytes, file_name: str, sidecars: Mapping[str, bytes]) -> ImageText:
        """The file's layer, out of the bytes of a file and of those beside it (name to content)."""
        return read_image_text(
            data, sidecars=sidecars, read_gps=self.read_gps, read_people=self.read_people, file_name=file_name
        )

    def _describe(
        self, data: bytes, file_name: str, content_sha256: str, decoded: DecodedImage, sidecars: Mapping[str, bytes]
    ) -> NewImage:
        return NewImage(
            content_sha256=content_sha256,
            file_name=normalize("NFC", file_name),
            file_type=decoded.file_type,
            width=decoded.width,
            height=decoded.height,
            data=data,
            preview=make_preview(decoded),
            text=self.read_text(data, file_name, sidecars),
            is_incomplete=decoded.is_incomplete,
            dominant_color=find_dominant_color(decoded),
            recipe=RECIPE,
        )


def make_reader(settings: Settings) -> ImageReader:
    """The reader that the settings ask for."""
    return ImageReader(settings.max_image_pixels, settings.read_gps, settings.read_people, settings.video_frames)


# Stages that work at the same time.

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def open_workers(count: int, name: str) -> Iterator[Executor]:
    """Threads for one stage. On the way out, also by an error, what has not begun is forgotten."""
    workers = ThreadPoolExecutor(count, thread_name_prefix=name)
    try:
        yield workers
    finally:
        workers.shutdown(cancel_futures=True)


def bounded_map(
    workers: Executor,
    work: Callable[[Item], Result],
    items: Iterable[Item],
    count: int,
    size_of: Callable[[Item], int] | None = None,
    most: int = 0,
) -> Iterator[Result]:
    """The results of work for all items, in order, with up to count items under way at any time.

    size_of, most: what is under way together weighs no more than most, unless one item alone does.
    """
    under_way: deque[tuple[Future[Result], int]] = deque()
    load = 0
    for item in items:
        weight = size_of(item) if size_of else 0
        while under_way and (len(under_way) >= count or load + weight > most):
            future, lighter = under_way.popleft()
            load -= lighter
            yield future.result()
        under_way.append((workers.submit(work, item), weight))
        load += weight
    while under_way:
        yield under_way.popleft()[0].result()


def coalescing_map(
    workers: Executor,
    work: Callable[[list[Item]], Result],
    items: Iterable[Item],
    size_of: Callable[[Item], int],
    most: int,
) -> Iterator[Result]:
    """The results of work for lists of items, in order: what comes while one list is worked on is the next list.

    So work that costs as much for many as for one keeps up with whatever comes. A list that weighs most waits its turn.
    """
    under_way: Future[Result] | None = None
    gathered: list[Item] = []
    load = 0
    for item in items:
        gathered.append(item)
        load += size_of(item)
        if under_way is not None and (under_way.done() or load >= most):
            yield under_way.result()
            under_way = None
        if under_way is None:
            under_way = workers.submit(work, gathered)
            gathered, load = [], 0
    if under_way is not None:
        yield under_way.result()
    if gathered:
        yield workers.submit(work, gathered).result()


def batched(items: Iterable[Item], size: int, size_of: Callable[[Item], int], most: int) -> Iterator[list[Item]]:
    """Batches of size items, the last one shorter; shorter also where their weight together reaches most."""
    batch: list[Item] = []
    load = 0
    for item in items:
        batch.append(item)
        load += size_of(item)
        if len(batch) >= size or load >= most:
            yield batch
            batch, load = [], 0
    if batch:
        yield batch


# Retry while the database is unavailable, with a limit.

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")

RETRY_DELAYS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)  # seconds; two minutes together


@dataclass
class Retry:
    """Repeats what failed because the database was away, with growing delays.

    on_message: called before each retry. stop: set to end a delay immediately.
    """

    on_message: Callable[[str], None]
    stop: threading.Event
    delays: Sequence[float] = RETRY_DELAYS

    def call(
        self, action: Callable[Arguments, Returned], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Returned:
        """The result of an action that may be repeated without harm. Raises StoreUnavailable after the last delay."""
        for delay in self.delays:
            try:
                return action(*args, **kwargs)
            except StoreUnavailable as error:
                if self.stop.is_set():
                    raise
                self.on_message(f"{error} Trying again in {delay:g} seconds.")
                self.stop.wait(delay)
        return action(*args, **kwargs)


# From images to embeddings.


class Encodable(Protocol):
    """An image on its way to the model."""

    @property
    def pixels(self) -> Image.Image:
        """RGB, upright."""

    @property
    def name(self) -> str:
        """Its name in messages."""

    @property
    def key(self) -> object:
        """Equal keys are the same image."""

    @property
    def weight(self) -> int:
        """Bytes it holds in memory, roughly."""


EncodedItem = TypeVar("EncodedItem", bound=Encodable)


@dataclass(frozen=True)
class EncodedBatch(Generic[EncodedItem]):
    """items with their embeddings, row by row.

    failures: a sentence for each that the model gave no embedding for; failed: these items.
    """

    items: list[EncodedItem]
    embeddings: Embeddings
    failures: list[str] = field(default_factory=list)
    failed: list[EncodedItem] = field(default_factory=list)

    @property
    def weight(self) -> int:
        return sum(item.weight for item in self.items)


def concat_batches(batches: Sequence[EncodedBatch[EncodedItem]]) -> EncodedBatch[EncodedItem]:
    """Several batches, at least one, as one."""
    return EncodedBatch(
        [item for batch in batches for item in batch.items],
        np.concatenate([batch.embeddings for batch in batches]),
        [sentence for batch in batches for sentence in batch.failures],
        [item for batch in batches for item in batch.failed],
    )


def encode_batch(encoder: Encoder, items: Sequence[EncodedItem]) -> EncodedBatch[EncodedItem]:
    """Embed a batch at once, or one by one when that fails. Raises EncoderError when it fails for all of them."""
    try:
        return EncodedBatch(list(items), encoder.encode_images([item.pixels for item in items]))
    except ModelUnavailable:
        raise
    except EncoderError:
        encoded: list[EncodedItem] = []
        rows: list[Embeddings] = []
        failures: list[str] = []
        failed: list[EncodedItem] = []
        for item in items:
            try:
                rows.append(encoder.encode_images([item.pixels]))
                encoded.append(item)
            except EncoderError as error:
                failures.append(f"{item.name} was not embedded. {error}")
                failed.append(item)
        if not encoded:
            raise
        return EncodedBatch(encoded, np.concatenate(rows), failures, failed)
