"""Tags without a language model: which words of a list an image is nearest to.

The list is a text file, one tag a line: Japanese, a tab, English. It is embedded once for each model; an image's tags
are the softmax over the inner products, as CLIP classifies.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from image_search.encoders.base import Embeddings, Encoder
from image_search.errors import SettingsError

DEFAULT_LIST = Path(__file__).with_name("tags.tsv")
_SCALE = 100.0  # what CLIP models learn as the largest inverse temperature
_MIN_SCORE = 0.05  # probability below which a tag says nothing


@dataclass(frozen=True)
class Tag:
    """A word for an image, in both languages, and how likely it is among all words of the list."""

    japanese: str
    english: str
    probability: float = 0.0


class Tagger:
    """Names images by their embeddings. Embeds the list at its first use."""

    def __init__(self, encoder: Encoder, words: Path = DEFAULT_LIST) -> None:
        self._encoder = encoder
        self._words = words
        self._lock = threading.Lock()
        self._tags: list[Tag] = []
        self._embeddings: Embeddings | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the list is embedded, so that naming an image takes no time."""
        return self._embeddings is not None

    @property
    def embeddings(self) -> Embeddings:
        """Embeddings of the whole list, float32 (number of tags, dimension), rows of length 1."""
        return self._embed_list()[1]

    def prepare(self) -> None:
        """Embed the list now. Raises as classify_image does."""
        self._embed_list()

    def classify_image(self, embedding: Embeddings, limit: int = 5) -> list[Tag]:
        """The likeliest tags of an embedding of shape (dimension,), best first; [] when nothing stands out.

        Raises TextNotSupported for an image-only model, SettingsError when the list cannot be read.
        """
        tags, embeddings = self._embed_list()
        if not tags:
            return []
        logits = _SCALE * np.vecdot(embeddings, embedding)
        weights = np.exp(logits - logits.max())
        probabilities = weights / weights.sum()
        best = np.argsort(-probabilities, kind="stable")[:limit]
        return [
            Tag(tags[place].japanese, tags[place].english, float(probabilities[place]))
            for place in best
            if probabilities[place] >= _MIN_SCORE
        ]

    def _embed_list(self) -> tuple[list[Tag], Embeddings]:
        with self._lock:
            if self._embeddings is None:
                self._tags = read_tags(self._words)
                # The mean of both languages' embeddings: what a model knows in one of them is enough.
                japanese = self._encoder.encode_texts([tag.japanese for tag in self._tags])
                english = self._encoder.encode_texts([tag.english for tag in self._tags])
                both = japanese + english
                self._embeddings = both / np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-12)
            return self._tags, self._embeddings


def read_tags(path: Path) -> list[Tag]:
    """The tags of a list; empty lines and lines that begin with # are passed over. Raises SettingsError."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The list of tags {path} cannot be read ({error}). Save it as UTF-8 text.") from error
    tags: dict[str, Tag] = {}
    for line in lines:
        japanese, _, english = (part.strip() for part in line.partition("\t"))
        if japanese and not japanese.startswith("#"):
            tags.setdefault(japanese, Tag(japanese, english or japanese))
    return list(tags.values())
