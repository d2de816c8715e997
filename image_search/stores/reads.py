"""Searches in a library, and what is read of its images: the half of the contract of stores that changes nothing.

stores/base.py says what holds for both halves. The errors that both raise are at the end.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import numpy as np
import numpy.typing as npt

from image_search.errors import ContentKnown, EmbeddingRefused, ImageNotFound, SchemaError, StoreError
from image_search.originals import FolderOriginals, Originals
from image_search.records import EmbeddingModel, Hits, ImageRecord, Order, SearchFilter
from image_search.stores.text import sanitize

Embeddings = npt.NDArray[np.float32]

# "folder": the folder of each path, as paths are given (decode_path). "keyword" and "rating": the effective ones.
# "kind": "image" or "frame". "film": the film hash of each frame.
CountedField = (
    Literal["generator", "generation_model", "lora", "file_type", "keyword", "camera", "lens", "rating"]
    | Literal["folder", "kind", "film"]
)
COUNTS_FRAMES = ("kind", "film")  # by every other field a film is counted once
EVERYTHING = SearchFilter()

PAGE = 1000  # images or records read at once
SCHEMA_VERSION = 2  # of every engine


class ReadWriteLock:
    """Readers come in together; a writer waits for those inside, and holds back those that come after it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._writers = 0  # inside or waiting
        self._writing = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._writers == 0)
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        with self._changed:
            self._writers += 1
            self._changed.wait_for(lambda: self._readers == 0 and not self._writing)
            self._writing = True
        try:
            yield
        finally:
            with self._changed:
                self._writers -= 1
                self._writing = False
                self._changed.notify_all()


class ImageReads(ABC):
    """The models of a library, searches in it, and its images with their embeddings, previews and originals."""

    originals: Originals | None = None  # where original files are kept; None: in the database
    concurrency = 8  # threads that may read at once; every engine has so many connections

    def __init__(self) -> None:
        self._dimensions: dict[int, int] = {}  # of the models, by model_id; an engine forgets a model that it removes

    # --- models ---

    @abstractmethod
    def list_models(self) -> list[EmbeddingModel]:
        """All models by model_id. [] in an empty store."""

    def find_current_model(self) -> EmbeddingModel | None:
        """The model that searches use, or None when there is none yet."""
        return next((model for model in self.list_models() if model.is_current), None)

    # --- search ---

    def snapshot(self) -> AbstractContextManager[None]:
        """Until the block ends, this thread's reads are of one moment, on engines that can tell; it writes nothing."""
        return nullcontext()

    def search_embedding(
        self,
        model_id: int,
        embedding: Embeddings,
        limit: int = 16,
        offset: int = 0,
        filter: SearchFilter = EVERYTHING,
    ) -> Hits:
        """The images nearest to one embedding of shape (dimension,), nearest first; empty when nothing qualifies.

        Only embeddings of this model are compared. Under a filter the result is as complete as without. total: the
        images that qualify and have an embedding of this model, of the same moment.
        """
        check_page(limit, offset)
        if np.shape(embedding) != (np.size(embedding),):
            raise EmbeddingRefused(f"A query is one embedding of shape (dimension,), not {np.shape(embedding)}.")
        self._check_embeddings(model_id, np.reshape(embedding, (1, -1)), 1)
        return self._search_embedding(model_id, np.ascontiguousarray(embedding, np.float32), limit, offset, filter)

    @abstractmethod
    def _search_embedding(
        self, model_id: int, embedding: Embeddings, limit: int, offset: int, filter: SearchFilter
    ) -> Hits: ...

    def list_images(
        self,
        terms: Sequence[str] = (),
        limit: int = 16,
        offset: int = 0,
        filter: SearchFilter = EVERYTHING,
        order: Order = "registered",
        after: ImageRecord | None = None,
    ) -> Hits:
        """Images in which every one of these terms occurs; all images without any term.

        A term is looked up in generation_prompt, descriptions and keywords of both layers, recognised text and
        file_name. It is taken literally, whatever characters it has, in any spelling (stores/tokens.py: case, width,
        accents and more are alike); blanks inside a term make it a phrase. Japanese and Chinese are found wherever they
        occur, down to one character; letters and digits from the beginning of a run: cat finds cats and cat01, not
        education. The tokens of stores/tokens.py decide, on every engine.
        order: "registered": upload_date, newest first, then image_id, highest first. "taken": taken_at, newest first,
        images without one last, then as registered. "name": make_sort_name(file_name), then image_id, lowest first.
        after: an image of such a list; the page begins behind its place, wherever that is by now. So pages neither
        overlap nor leave out an image that is there all the time, whatever is added and removed between them.
        total: all images that qualify, of the same moment. Distance is None.
        """
        check_page(limit, offset)
        wanted = [stripped for term in terms if (stripped := sanitize(term).strip())]
        if terms and not wanted:
            return Hits()
        return self._list_images(wanted, limit, offset, filter, order, after)

    @abstractmethod
    def _list_images(
        self, terms: list[str], limit: int, offset: int, filter: SearchFilter, order: Order, after: ImageRecord | None
    ) -> Hits: ...

    def iterate_images(
        self, terms: Sequence[str] = (), filter: SearchFilter = EVERYTHING, order: Order = "registered"
    ) -> Iterator[ImageRecord]:
        """All images of such a list, page by page; the library may change meanwhile."""
        after: ImageRecord | None = None
        while page := self.list_images(terms, PAGE, 0, filter, order, after):
            yield from (hit.image for hit in page)
            after = page[-1].image

    @abstractmethod
    def count_images(self, filter: SearchFilter = EVERYTHING) -> int:
        """How many images qualify."""

    @abstractmethod
    def count_values(self, field: CountedField, filter: SearchFilter = EVERYTHING) -> dict[str, int]:
        """How many of the images that qualify have each value of a field, most frequent first, then by value.

        A film counts once for each value of its frames, but in COUNTS_FRAMES. A rating is given as "0" to "5"; images
        without one are not counted.
        """

    # --- images ---

    def get_image(self, image_id: int) -> ImageRecord:
        """One record, live or in the trash. Raises ImageNotFound."""
        return self.get_images([image_id])[0]

    def get_images(self, image_ids: Sequence[int]) -> list[ImageRecord]:
        """Records in the order of the ids, in one query, live or in the trash. Raises ImageNotFound for a gap."""
        found = self.find_images(image_ids)
        for image_id in image_ids:
            if image_id not in found:
                raise image_not_found(image_id)
        return [found[image_id] for image_id in image_ids]

    def find_images(self, image_ids: Sequence[int]) -> dict[int, ImageRecord]:
        """Records of those of these images that exist, live or in the trash, in one query."""
        return self._find_images(list(dict.fromkeys(image_ids))) if image_ids else {}

    @abstractmethod
    def _find_images(self, image_ids: list[int]) -> dict[int, ImageRecord]: ...

    def read_original(self, image_id: int) -> bytes:
        """The file as it was registered, byte for byte. Raises ImageNotFound; StoreError when it is missing.

        A frame of a film has none: StoreError.
        """
        record = self.get_image(image_id)
        if record.frame is not None:
            raise StoreError(f"Image {image_id} is a frame of a film and has no file of its own.")
        if self.originals is None:
            return self._read_original(image_id)
        return self.originals.read(record.content_sha256, record.paths)

    def _read_original(self, image_id: int) -> bytes:
        """The original in an engine that keeps originals itself (originals is None)."""
        raise StoreError(f"The file of image {image_id} is not kept in this library.")

    def has_original(self, content_sha256: str) -> bool:
        """Whether the original is kept, as far as a quick look tells: True for buckets, databases and references."""
        return type(self.originals) is not FolderOriginals or self.originals.has(content_sha256)

    def is_original(self, path: str) -> bool:
        """Whether this file is an original that the library keeps."""
        return isinstance(self.originals, FolderOriginals) and self.originals.owns(path)

    def read_preview(self, image_id: int) -> bytes:
        """The WebP preview, live or in the trash. Raises ImageNotFound."""
        previews = self.read_previews([image_id])
        if image_id not in previews:
            raise image_not_found(image_id)
        return previews[image_id]

    @abstractmethod
    def read_previews(self, image_ids: Sequence[int]) -> dict[int, bytes]:
        """The WebP previews of those of these images that exist, live or in the trash, in one query."""

    def get_embedding(self, image_id: int, model_id: int) -> Embeddings:
        """The stored embedding, float32 (dimension,). Raises ImageNotFound when the image has none of this model."""
        found = self.get_embeddings([image_id], model_id)
        if image_id not in found:
            self.get_image(image_id)  # raises for one that is gone
            raise ImageNotFound(f"Image {image_id} has no embedding of model {model_id}. Register it with that model.")
        return found[image_id]

    @abstractmethod
    def get_embeddings(self, image_ids: Sequence[int], model_id: int) -> dict[int, Embeddings]:
        """The stored embeddings, float32 (dimension,), of those of these images that have one, in one query.

        Live or in the trash: those of the trash are the parked ones.
        """

    @abstractmethod
    def sample_embeddings(self, model_id: int, size: int) -> Embeddings:
        """Up to size embeddings of this model, the same while the library stays the same. Shape (n, dimension)."""

    # --- checks ---

    def _get_dimension(self, model_id: int) -> int:
        """Dimension of a model, remembered after the first look. Raises StoreError when there is no such model."""
        if model_id not in self._dimensions:
            self._dimensions = {model.model_id: model.dimension for model in self.list_models()}
        if model_id not in self._dimensions:
            raise model_not_found(model_id)
        return self._dimensions[model_id]

    def _check_embeddings(self, model_id: int, embeddings: Embeddings, count: int) -> None:
        """Raise EmbeddingRefused unless there are `count` rows of the model's dimension and of length 1."""
        expected = (count, self._get_dimension(model_id))
        if np.shape(embeddings) != expected:
            raise EmbeddingRefused(
                f"Expected embeddings of shape {expected}, got {np.shape(embeddings)}: "
                "they come from another model than the one of this library."
            )
        lengths = np.linalg.norm(np.asarray(embeddings, np.float64), axis=1)
        wrong = np.flatnonzero(~(np.abs(lengths - 1) < 1e-3))  # NaN and infinity fail the comparison, too
        if wrong.size:
            raise EmbeddingRefused(
                f"Embedding {wrong[0]} has length {lengths[wrong[0]]}, not 1: the model's output is damaged."
            )


# Errors that every engine raises in the same words.


def image_not_found(image_id: int) -> ImageNotFound:
    """The error for an image_id that is not there."""
    return ImageNotFound(f"There is no image {image_id}. It may have been deleted.")


def content_is_known(image_id: int) -> ContentKnown:
    """The error for giving an image the content of another one."""
    return ContentKnown(f"Image {image_id} has this content already. Nothing was changed.")


def frame_is_known(image_id: int) -> StoreError:
    """The error for a frame whose film and time another image has."""
    return StoreError(f"Image {image_id} is the frame of this film at this time already. Nothing was changed.")


def model_not_found(model_id: int) -> StoreError:
    """The error for a model_id that is not there."""
    return StoreError(f"There is no model {model_id} in this library. Register images with it first.")


def model_is_current(model_id: int) -> StoreError:
    """The error for removing the model that searches use."""
    return StoreError(f"Model {model_id} is the current one. Make another model current, then remove it.")


def newer_schema(location: str, version: int) -> SchemaError:
    """The error for a library that a newer version of this program made."""
    return SchemaError(
        f"{location} has schema version {version}; this program knows up to {SCHEMA_VERSION}. Update the program."
    )


def find_model(models: Sequence[EmbeddingModel], name: str, version: str) -> EmbeddingModel | None:
    """The model of this name and version, or None."""
    return next((model for model in models if (model.name, model.version) == (name, version)), None)


def check_page(limit: int, offset: int) -> None:
    """Raise StoreError for a page that cannot be."""
    if limit < 1 or offset < 0:
        raise StoreError(f"limit must be at least 1 and offset at least 0, not {limit} and {offset}.")
