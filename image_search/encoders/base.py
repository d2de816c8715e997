"""The first seam: what a model must do to be searched with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

Embeddings = npt.NDArray[np.float32]


class Encoder(Protocol):
    """Turns images, and words where the model can, into embeddings of one space.

    Every method may be called from several threads. A model that cannot be loaded raises ModelUnavailable from the
    first call that needs it, with a sentence that says what to do; the next call tries again.
    """

    @property
    def name(self) -> str:
        """Name of the model: a hub id or the name of its folder. Known without loading."""

    @property
    def version(self) -> str:
        """Weights, preprocessing recipe and precision class in one short text: embeddings of another version differ."""

    @property
    def dimension(self) -> int:
        """Length of an embedding."""

    @property
    def supports_text(self) -> bool:
        """False for a model that embeds images only; encode_texts then raises TextNotSupported."""

    def load(self) -> None:
        """Load the model now, in this thread; nothing when it is loaded. Raises ModelUnavailable."""

    def encode_images(self, images: Sequence[Image.Image]) -> Embeddings:
        """Embed images (any mode and size, already turned upright).

        Returns float32 of shape (n, dimension), every row of length 1; shape (0, dimension) for no images.
        Raises EncoderError when the model's output is not finite.
        """

    def is_too_long(self, text: str) -> bool:
        """Whether the model reads the beginning of this text only. Raises ModelUnavailable."""

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Embed queries. Same shape and length as encode_images. Raises TextNotSupported for an image-only model."""
