"""A batch of images to embeddings, such that one image a model chokes on is not the end of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
from PIL import Image

from image_search.encoders.base import Embeddings, Encoder
from image_search.errors import EncoderError, ModelUnavailable


class Encodable(Protocol):
    """A picture on its way to the model."""

    @property
    def picture(self) -> Image.Image:
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
        return EncodedBatch(list(items), encoder.encode_images([item.picture for item in items]))
    except ModelUnavailable:
        raise
    except EncoderError:
        encoded: list[EncodedItem] = []
        rows: list[Embeddings] = []
        failures: list[str] = []
        failed: list[EncodedItem] = []
        for item in items:
            try:
                rows.append(encoder.encode_images([item.picture]))
                encoded.append(item)
            except EncoderError as error:
                failures.append(f"{item.name} was not embedded. {error}")
                failed.append(item)
        if not encoded:
            raise
        return EncodedBatch(encoded, np.concatenate(rows), failures, failed)
