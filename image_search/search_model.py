"""The model that searches are made with, and what was computed with it: another model takes the place of all of it."""

from __future__ import annotations

import functools

from image_search.encoders.base import Embeddings, Encoder
from image_search.records import EmbeddingModel
from image_search.search_relevance import SAMPLE_SIZE, Background, measure_background
from image_search.search_tags import Tagger
from image_search.stores.base import ImageStore


class SearchModel:
    """An encoder with its entry in the store, its tags, the words asked lately, and its sense of relevance."""

    def __init__(self, store: ImageStore, encoder: Encoder) -> None:
        self.encoder = encoder
        self.tagger = Tagger(encoder)
        self.encode_text = functools.lru_cache(maxsize=1024)(self._encode_text_anew)
        self._store = store
        self._entry: EmbeddingModel | None = None
        self._background: tuple[int, Background | None] = (-1, None)

    def get_entry(self) -> EmbeddingModel:
        """The store's entry of this model, made if it is new: embeddings of another model never answer a query."""
        if self._entry is None:
            encoder = self.encoder
            self._entry = self._store.get_or_create_model(encoder.name, encoder.version, encoder.dimension)
        return self._entry

    def get_background(self) -> Background | None:
        """Measured once the list of tags is embedded, and again when the library has grown or shrunk by a tenth."""
        count = self._store.count_images()
        measured = self._background[0]
        if measured >= 0 and abs(count - measured) <= measured // 10:
            return self._background[1]
        if self.encoder.supports_text and not self.tagger.is_ready:
            return None
        sample = self._store.sample_embeddings(self.get_entry().model_id, SAMPLE_SIZE)
        words = self.tagger.embeddings if self.encoder.supports_text else None
        self._background = (count, measure_background(sample, words))
        return self._background[1]

    def _encode_text_anew(self, text: str) -> Embeddings:
        embedding: Embeddings = self.encoder.encode_texts([text])[0]
        return embedding
