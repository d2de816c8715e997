"""What every engine answers when it must refuse: the same sentence, whichever engine it is."""

from __future__ import annotations

from image_search.errors import ImageNotFound, SchemaError, StoreError
from image_search.records import EmbeddingModel


def no_image(image_id: int) -> ImageNotFound:
    """The error for an image_id that is not there."""
    return ImageNotFound(f"There is no image {image_id}. It may have been deleted.")


def no_embedding(image_id: int, model_id: int) -> ImageNotFound:
    """The error for an image without an embedding of a model."""
    return ImageNotFound(f"Image {image_id} has no embedding of model {model_id}. Register it with that model.")


def no_model(model_id: int) -> StoreError:
    """The error for a model_id that is not there."""
    return StoreError(f"There is no model {model_id} in this library. Register images with it first.")


def model_is_current(model_id: int) -> StoreError:
    """The error for removing the model that searches use."""
    return StoreError(f"Model {model_id} is the current one. Make another model current, then remove it.")


def other_dimension(model: EmbeddingModel, dimension: int) -> SchemaError:
    """The error for a model the library knows with another dimension."""
    return SchemaError(
        f"The library knows the model {model.name} ({model.version}) with {model.dimension} dimensions, "
        f"not {dimension}. Check EMBEDDING_MODEL, or name a new library in DATABASE_URL."
    )
