"""What every loaded model offers to the encoder, whatever its family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from image_search.encoders.preprocessing import Preprocessing
from image_search.encoders.texts import Tokens
from image_search.errors import TextNotSupported


class Towers(ABC):
    """A network with what is needed to feed it. Tensors are on the device and in the precision of the network.

    scale: what the model was trained to multiply the inner product of unit embeddings by, before a softmax over
           texts; None where it has no text tower.
    """

    def __init__(self, network: Any, prepare: Preprocessing, scale: float | None = None) -> None:
        self.network = network
        self.prepare = prepare
        self.scale = scale

    @abstractmethod
    def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embeddings (n, dimension), of any length, of pixels (n, 3, height, width)."""

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Token ids of texts, each tensor of shape (n, length)."""
        raise TextNotSupported("This model embeds pictures only.")

    def embed_tokens(self, tokens: Tokens) -> torch.Tensor:
        """Embeddings (n, dimension), of any length."""
        raise TextNotSupported("This model embeds pictures only.")
