"""Notice that searches were switched to another model of the library, and load it while the old one still answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from PIL import Image

from image_search.errors import ImageSearchError, ModelUnavailable
from image_search.records import EmbeddingModel

if TYPE_CHECKING:
    from image_search.encoders.base import Encoder
    from image_search.search import Searcher
    from image_search.settings import Settings

SECONDS_BETWEEN_LOOKS = 5.0


class ModelFollower:
    """Looks at the library's current model. What it is at the first look is not news: there EMBEDDING_MODEL decides."""

    def __init__(self, searcher: Searcher, open_model: Callable[[str], Encoder], say: Callable[[str], None]) -> None:
        """open_model: the encoder of that name. say: told about every switch, and why one failed."""
        self._searcher = searcher
        self._open_model = open_model
        self._say = say
        self._stop = threading.Event()
        self._has_looked = False
        self._current: int | None = None

    def start(self) -> None:
        """Look every few seconds, in a thread of its own that ends with the program or with stop."""
        threading.Thread(target=self._look_until_stopped, name="follow model", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def look(self) -> None:
        """Search with the current model from now on if it was switched since the last look. May raise StoreError."""
        current = self._searcher.store.find_current_model()
        former, self._current = self._current, current.model_id if current else None
        is_first, self._has_looked = not self._has_looked, True
        if current is None or is_first or current.model_id in (former, self._searcher.get_model().model_id):
            return
        try:
            encoder = self._load(current)
        except ImageSearchError as error:
            self._say(
                f"Searches were switched to {current.name}, but it cannot be loaded ({error}) Searches go on with "
                f"{self._searcher.encoder.name}; set EMBEDDING_MODEL and start again."
            )
            return
        self._searcher.use(encoder)
        self._say(f"Searches use {current.name} ({current.version}) from now on.")
        with suppress(ImageSearchError):  # an image-only model has no tags
            self._searcher.tagger.prepare()

    def _load(self, model: EmbeddingModel) -> Encoder:
        encoder = self._open_model(model.name)
        if encoder.version != model.version:
            raise ModelUnavailable(f"What is found under this name is version {encoder.version}, not {model.version}.")
        encoder.encode_images([Image.new("RGB", (64, 64))])
        return encoder

    def _look_until_stopped(self) -> None:
        while True:
            with suppress(ImageSearchError):  # a database that is away is told about by whoever searches
                self.look()
            if self._stop.wait(SECONDS_BETWEEN_LOOKS):
                return


def make_follower(searcher: Searcher, settings: Settings, say: Callable[[str], None]) -> ModelFollower:
    """A follower that finds models by the name the library knows them by: a hub id, or a folder of this project."""

    def open_model(name: str) -> Encoder:
        from image_search.encoders import open_encoder

        return open_encoder(replace(settings, embedding_model=name, embedding_model_revision=""))

    return ModelFollower(searcher, open_model, say)
