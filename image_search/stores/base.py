"""The second seam: what a database must do to hold a library of images.

The contract is this file; tests/store_contract.py checks it on every engine. Arguments are checked here, once, so that
engines cannot disagree. An engine implements the methods whose names begin with an underscore and inherits the rest.

Distance is always minus the inner product of unit vectors: smaller is nearer. Ties are broken by image_id, so that
every ranking is one total order and pages of it never overlap. No method opens a connection before it needs one. Any
method may raise StoreUnavailable; the same call works again when the database is back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from image_search.errors import EmbeddingRefused, ImageNotFound, SchemaError, StoreError
from image_search.originals import check_originals
from image_search.records import (
    EmbeddingModel,
    Finding,
    ImageRecord,
    ImageText,
    KnownFile,
    NewImage,
    SearchFilter,
    SearchHit,
    StoreStatus,
)
from image_search.stores.text import make_file_name, make_image_storable, make_text_storable, sanitize

# What every engine answers when it must refuse: the same sentence, whichever engine it is.


def image_not_found(image_id: int) -> ImageNotFound:
    """The error for an image_id that is not there."""
    return ImageNotFound(f"There is no image {image_id}. It may have been deleted.")


def embedding_not_found(image_id: int, model_id: int) -> ImageNotFound:
    """The error for an image without an embedding of a model."""
    return ImageNotFound(f"Image {image_id} has no embedding of model {model_id}. Register it with that model.")


def model_not_found(model_id: int) -> StoreError:
    """The error for a model_id that is not there."""
    return StoreError(f"There is no model {model_id} in this library. Register images with it first.")


def model_is_current(model_id: int) -> StoreError:
    """The error for removing the model that searches use."""
    return StoreError(f"Model {model_id} is the current one. Make another model current, then remove it.")


def dimension_mismatch(model: EmbeddingModel, dimension: int) -> SchemaError:
    """The error for a model the library knows with another dimension."""
    return SchemaError(
        f"The library knows the model {model.name} ({model.version}) with {model.dimension} dimensions, "
        f"not {dimension}. Check EMBEDDING_MODEL, or name a new library in DATABASE_URL."
    )


Embeddings = npt.NDArray[np.float32]

CountedField = Literal["generator", "generation_model", "file_type", "keyword"]

EVERYTHING = SearchFilter()

_NO_MODEL = 0  # model_ids begin at 1, so every image lacks an embedding of this one


class ImageStore(ABC):
    """A library of images with their embeddings and texts."""

    def __init__(self) -> None:
        self._dimensions: dict[int, int] = {}  # of the models, by model_id; an engine forgets a model that it removes

    # --- models ---------------------------------------------------------------------------------------------------

    def get_or_create_model(self, name: str, version: str, dimension: int) -> EmbeddingModel:
        """The model of this name and version; made, and made current when none is, if it is new.

        Raises SchemaError when it exists with another dimension.
        """
        model = find_model(self.list_models(), name, version)
        if model is None:
            self._add_model(name, version, dimension)
            model = find_model(self.list_models(), name, version)
        if model is None:
            raise StoreError(f"The model {name} was removed by another program. Try again.")
        if model.dimension != dimension:
            raise dimension_mismatch(model, dimension)
        return model

    @abstractmethod
    def _add_model(self, name: str, version: str, dimension: int) -> None:
        """Current when no model is. Nothing is done if another program has added it meanwhile."""

    @abstractmethod
    def list_models(self) -> list[EmbeddingModel]:
        """All models by model_id. [] in an empty store."""

    def find_current_model(self) -> EmbeddingModel | None:
        """The model that searches use, or None when there is none yet."""
        return next((model for model in self.list_models() if model.is_current), None)

    @abstractmethod
    def set_current_model(self, model_id: int) -> None:
        """Make this model the current one, in one transaction. Raises StoreError when there is no such model."""

    @abstractmethod
    def remove_model(self, model_id: int) -> None:
        """Remove a model and its embeddings. Raises StoreError for the current model or an unknown one."""

    # --- registration -----------------------------------------------------------------------------------------------

    def find_known_hashes(self, hashes: Sequence[str]) -> dict[str, int]:
        """Those of these SHA-256 hashes (64 hexadecimal digits) that are registered, with their image_id."""
        return self._find_known_hashes(list(dict.fromkeys(hashes))) if hashes else {}

    @abstractmethod
    def _find_known_hashes(self, hashes: list[str]) -> dict[str, int]: ...

    def find_known_files(self, paths: Sequence[str]) -> dict[str, KnownFile]:
        """Those of these absolute paths an image was read from, with size and time of the file then."""
        stored = {sanitize(path): path for path in paths}
        known = self._find_known_files(list(stored)) if stored else {}
        return {stored[path]: file for path, file in known.items()}

    @abstractmethod
    def _find_known_files(self, paths: list[str]) -> dict[str, KnownFile]: ...

    def set_file(self, image_id: int, file_path: str, modified_ns: int | None) -> None:
        """Remember that the image's file is now here (moved, renamed or touched); file_name follows. One transaction.

        Raises ImageNotFound.
        """
        self._set_file(image_id, sanitize(file_path), make_file_name(file_path), modified_ns)

    @abstractmethod
    def _set_file(self, image_id: int, file_path: str, file_name: str, modified_ns: int | None) -> None: ...

    def add_images(self, model_id: int, images: Sequence[NewImage], embeddings: Embeddings) -> list[int]:
        """Register a batch in one transaction: all of it is in, or none. Returns the image_ids in order.

        An image whose hash is known already keeps its record; it only gains the embedding if it lacked one of this
        model. The same hash twice in a batch is one image. The original is safe on disk before the record is visible.
        embeddings: float32 (n, dimension), rows of length 1. Raises EmbeddingRefused before anything is written.
        """
        self._check_embeddings(model_id, embeddings, len(images))
        if not images:
            return []
        return self._add_images(model_id, [make_image_storable(image) for image in images], embeddings)

    @abstractmethod
    def _add_images(self, model_id: int, images: list[NewImage], embeddings: Embeddings) -> list[int]: ...

    def add_embeddings(self, model_id: int, image_ids: Sequence[int], embeddings: Embeddings) -> None:
        """Add or replace the embeddings of registered images, in one transaction.

        An image deleted meanwhile is left out silently. Raises EmbeddingRefused before anything is written.
        """
        self._check_embeddings(model_id, embeddings, len(image_ids))
        if image_ids:
            self._add_embeddings(model_id, list(image_ids), embeddings)

    @abstractmethod
    def _add_embeddings(self, model_id: int, image_ids: list[int], embeddings: Embeddings) -> None: ...

    @abstractmethod
    def find_images_without_embedding(self, model_id: int, after_id: int = 0, limit: int = 1000) -> list[int]:
        """image_ids above after_id, ascending, that lack an embedding of this model."""

    def list_image_ids(self, after_id: int = 0, limit: int = 1000) -> list[int]:
        """All image_ids above after_id, ascending."""
        return self.find_images_without_embedding(_NO_MODEL, after_id, limit)

    def set_text(self, image_id: int, text: ImageText) -> bool:
        """Replace everything the image says about itself; never doubles. Returns whether anything changed.

        Raises ImageNotFound.
        """
        return self._set_text(image_id, make_text_storable(text))

    @abstractmethod
    def _set_text(self, image_id: int, text: ImageText) -> bool: ...

    def delete_images(self, image_ids: Sequence[int]) -> int:
        """Delete images with everything that belongs to them; unknown ids are no error. Returns how many there were."""
        return self._delete_images(list(dict.fromkeys(image_ids))) if image_ids else 0

    @abstractmethod
    def _delete_images(self, image_ids: list[int]) -> int: ...

    # --- search -----------------------------------------------------------------------------------------------------

    def search_embedding(
        self,
        model_id: int,
        embedding: Embeddings,
        limit: int = 16,
        offset: int = 0,
        filter: SearchFilter = EVERYTHING,
    ) -> list[SearchHit]:
        """The images nearest to one embedding of shape (dimension,), nearest first; [] when nothing qualifies.

        Only embeddings of this model are compared. Under a filter the result is as complete as without.
        """
        _check_page(limit, offset)
        if np.shape(embedding) != (np.size(embedding),):
            raise EmbeddingRefused(f"A query is one embedding of shape (dimension,), not {np.shape(embedding)}.")
        self._check_embeddings(model_id, np.reshape(embedding, (1, -1)), 1)
        return self._search_embedding(model_id, np.ascontiguousarray(embedding, np.float32), limit, offset, filter)

    @abstractmethod
    def _search_embedding(
        self, model_id: int, embedding: Embeddings, limit: int, offset: int, filter: SearchFilter
    ) -> list[SearchHit]: ...

    def search_words(
        self, words: Sequence[str], limit: int = 16, offset: int = 0, filter: SearchFilter = EVERYTHING
    ) -> list[SearchHit]:
        """Images in which every one of these words occurs (generation_prompt, description, keywords or file_name).

        A word is taken literally, whatever characters it has; upper and lower case, full and half width are alike;
        blanks inside a word make it a phrase. Japanese and Chinese are found wherever they occur, down to one
        character. Letters and digits are found as whole words at least; whether cat also finds cats is the engine's
        affair. Ordered as find_latest, so that engines agree. [] for no words.
        """
        _check_page(limit, offset)
        wanted = [stripped for word in words if (stripped := sanitize(word).strip())]
        return self._search_words(wanted, limit, offset, filter) if wanted else []

    @abstractmethod
    def _search_words(self, words: list[str], limit: int, offset: int, filter: SearchFilter) -> list[SearchHit]: ...

    def find_latest(self, limit: int = 16, offset: int = 0, filter: SearchFilter = EVERYTHING) -> list[SearchHit]:
        """Images by upload_date, newest first, then by image_id, highest first. Distance is None."""
        _check_page(limit, offset)
        return self._find_latest(limit, offset, filter)

    @abstractmethod
    def _find_latest(self, limit: int, offset: int, filter: SearchFilter) -> list[SearchHit]: ...

    @abstractmethod
    def count_images(self, filter: SearchFilter = EVERYTHING) -> int:
        """How many images qualify."""

    @abstractmethod
    def count_values(self, field: CountedField, filter: SearchFilter = EVERYTHING) -> dict[str, int]:
        """How many of the images that qualify have each value of a field, most frequent first, then by value."""

    # --- one image --------------------------------------------------------------------------------------------------

    def get_image(self, image_id: int) -> ImageRecord:
        """One record. Raises ImageNotFound."""
        return self.get_images([image_id])[0]

    @abstractmethod
    def get_images(self, image_ids: Sequence[int]) -> list[ImageRecord]:
        """Records in the order of the ids, in one query. Raises ImageNotFound naming the first id that is unknown."""

    @abstractmethod
    def read_original(self, image_id: int) -> bytes:
        """The file as it was registered, byte for byte. Raises ImageNotFound."""

    @abstractmethod
    def read_preview(self, image_id: int) -> bytes:
        """The WebP preview. Raises ImageNotFound."""

    @abstractmethod
    def get_embedding(self, image_id: int, model_id: int) -> Embeddings:
        """The stored embedding, float32 (dimension,). Raises ImageNotFound when the image has none of this model."""

    @abstractmethod
    def find_by_file_name(self, file_name: str) -> list[int]:
        """image_ids of this file name (NFC, case-sensitive), ascending; several folders may hold the same name."""

    # --- the store as a whole -----------------------------------------------------------------------------------------

    @abstractmethod
    def sample_embeddings(self, model_id: int, size: int) -> Embeddings:
        """Up to size embeddings of this model, the same while the library stays the same. Shape (n, dimension)."""

    @abstractmethod
    def get_status(self) -> StoreStatus:
        """Engine, place and counts."""

    def check(self) -> Iterator[Finding]:
        """Look for whatever may be wrong with this engine and its files, changing nothing; for --check.

        An engine that can tell more than its details overrides this. May raise StoreError at any step.
        """
        yield check_originals(getattr(self, "originals", None))
        for name, value in self.get_status().details.items():
            if name != "originals":
                yield Finding(name.replace("_", " "), True, str(value))

    @abstractmethod
    def close(self) -> None:
        """Let go of connections and files. A second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- checks -------------------------------------------------------------------------------------------------------

    def _get_dimension(self, model_id: int) -> int:
        """Dimension of a model, remembered after the first look. Raises StoreError when there is no such model."""
        if model_id not in self._dimensions:
            self._dimensions = {model.model_id: model.dimension for model in self.list_models()}
        if model_id not in self._dimensions:
            raise model_not_found(model_id)
        return self._dimensions[model_id]

    def _check_embeddings(self, model_id: int, embeddings: Embeddings, count: int) -> None:
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


def _check_page(limit: int, offset: int) -> None:
    if limit < 1 or offset < 0:
        raise StoreError(f"limit must be at least 1 and offset at least 0, not {limit} and {offset}.")


def find_model(models: Sequence[EmbeddingModel], name: str, version: str) -> EmbeddingModel | None:
    """The model of this name and version, or None."""
    return next((model for model in models if (model.name, model.version) == (name, version)), None)
