"""The errors that every engine raises in the same words, and the checks of arguments that raise them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from image_search.errors import ContentKnown, EmbeddingRefused, ImageNotFound, SchemaError, StoreError
from image_search.records import EmbeddingModel
from image_search.stores.text import TOKEN_RULE

SCHEMA_VERSION = 2  # of every engine


def image_not_found(image_id: int) -> ImageNotFound:
    """The error for an image_id that is not there."""
    return ImageNotFound(f"There is no image {image_id}. It may have been deleted.")


def embedding_not_found(image_id: int, model_id: int) -> ImageNotFound:
    """The error for an image without an embedding of a model."""
    return ImageNotFound(f"Image {image_id} has no embedding of model {model_id}. Register it with that model.")


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


def dimension_mismatch(model: EmbeddingModel, dimension: int) -> SchemaError:
    """The error for a model the library knows with another dimension."""
    return SchemaError(
        f"The library knows the model {model.name} ({model.version}) with {model.dimension} dimensions, "
        f"not {dimension}. Check EMBEDDING_MODEL, or name a new library in DATABASE_URL."
    )


def newer_schema(location: str, version: int) -> SchemaError:
    """The error for a library that a newer version of this program made."""
    return SchemaError(
        f"{location} has schema version {version}; this program knows up to {SCHEMA_VERSION}. Update the program."
    )


def has_old_tokens(kept: str | None, location: str) -> bool:
    """Whether tokens of a library are of an older rule. kept: its TOKEN_SETTING.

    Raises SchemaError for a newer rule.
    """
    rule, _, is_begun = (kept or "1").partition(" ")
    if int(rule) > TOKEN_RULE:
        raise SchemaError(
            f"The words of {location} are indexed by rule {rule}; this program knows up to {TOKEN_RULE}. "
            "Update the program."
        )
    return int(rule) < TOKEN_RULE or bool(is_begun)


def find_model(models: Sequence[EmbeddingModel], name: str, version: str) -> EmbeddingModel | None:
    """The model of this name and version, or None."""
    return next((model for model in models if (model.name, model.version) == (name, version)), None)


def check_embeddings(embeddings: npt.NDArray[np.float32], count: int, dimension: int) -> None:
    """Raise EmbeddingRefused unless there are `count` rows of this dimension and of length 1."""
    expected = (count, dimension)
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


def check_page(limit: int, offset: int) -> None:
    """Raise StoreError for a page that cannot be."""
    if limit < 1 or offset < 0:
        raise StoreError(f"limit must be at least 1 and offset at least 0, not {limit} and {offset}.")
