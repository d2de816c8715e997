"""Models that turn images and words into embeddings."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from image_search.encoders.base import Embeddings
from image_search.encoders.checkpoint import (
    RECOMMENDED,
    Checkpoint,
    canonical_name,
    find_dimension,
    find_family,
    open_checkpoint,
    read_config,
)
from image_search.encoders.hub import set_hub_environment
from image_search.errors import ModelUnavailable, TextNotSupported
from image_search.settings import Settings

if TYPE_CHECKING:
    from image_search.encoders.runner import Runner


# The encoder all callers share: it knows its name at once and loads its model for the first embedding.


class LazyEncoder:
    """An Encoder for the model that the settings name. Creating one imports nothing heavy and reads no file."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._model = settings.model
        self._lock = threading.RLock()
        self._checkpoint: Checkpoint | None = None
        self._runner: Runner | None = None

    @cached_property
    def name(self) -> str:
        """A hub id, or a folder below the project, or else the folder's own name."""
        return canonical_name(self._model)

    @property
    def version(self) -> str:
        """Twelve letters of the weights, recipe, precision class. Downloads a hub model the first time."""
        return self._open_checkpoint().version

    @cached_property
    def dimension(self) -> int:
        """Known from the list of models or from config.json; else the model is loaded to find out."""
        known = find_dimension(self._model, self._config)
        if known is None:
            known = self._start().embed_images([Image.new("RGB", (64, 64))]).shape[1]
        return known

    @property
    def supports_text(self) -> bool:
        """Never downloads and never fails: a model nothing is known of yet is taken for one that understands words."""
        with contextlib.suppress(ModelUnavailable):
            family = find_family(self._model, self._config)
            return family is None or family.supports_text
        return True

    def load(self) -> None:
        """Load the model now, in this thread; nothing when it is loaded. Raises ModelUnavailable."""
        self._start()

    @property
    def device(self) -> str:
        """cpu or cuda, as chosen. Loads the model."""
        return self._start().device.type

    @property
    def precision(self) -> str:
        """float32, bfloat16 or float16, as chosen. Loads the model."""
        return self._start().precision

    @property
    def batch_size(self) -> int:
        """How many images at a time suit the device. Loads the model."""
        return self._start().batch_size

    def encode_images(self, images: Sequence[Image.Image]) -> Embeddings:
        """Embed images as one batch. Raises EncoderError."""
        if not images:
            return np.empty((0, self.dimension), np.float32)
        return self._start().embed_images(images)

    def is_too_long(self, text: str) -> bool:
        """Whether the model reads the beginning of this text only. Raises ModelUnavailable."""
        return self.supports_text and self._start().is_too_long(text)

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Embed texts as one batch. Raises TextNotSupported, EncoderError."""
        if not self.supports_text:
            raise TextNotSupported(
                f"{self.name} embeds pictures only, so it cannot be searched by words. Search by a picture, or set "
                f"EMBEDDING_MODEL to a model with a text tower, such as {RECOMMENDED}."
            )
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        return self._start().embed_texts(texts)

    @property
    def _config(self) -> dict[str, Any] | None:
        return self._checkpoint.config if self._checkpoint is not None else read_config(self._model)

    def _open_checkpoint(self) -> Checkpoint:
        with self._lock:
            if self._checkpoint is None:
                self._checkpoint = open_checkpoint(self._settings)
            return self._checkpoint

    def _start(self) -> Runner:
        if self._runner is None:
            with self._lock:
                if self._runner is None:
                    try:
                        from image_search.encoders.runner import start_runner
                    except ImportError as error:
                        raise ModelUnavailable(
                            f"{error.name} is not installed. Run: pip install -r requirements.txt"
                        ) from error
                    settings = self._settings
                    self._runner = start_runner(self._open_checkpoint(), settings.device, settings.precision)
        return self._runner


def open_encoder(settings: Settings) -> LazyEncoder:
    """The encoder of EMBEDDING_MODEL. Returns at once; the model is loaded by its first use, or by load()."""
    set_hub_environment()
    return LazyEncoder(settings)
