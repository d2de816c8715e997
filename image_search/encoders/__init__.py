"""Models that turn pictures and words into embeddings."""

from __future__ import annotations

from image_search.encoders.hub import set_hub_environment
from image_search.encoders.lazy import LazyEncoder
from image_search.settings import Settings

__all__ = ["LazyEncoder", "open_encoder"]


def open_encoder(settings: Settings) -> LazyEncoder:
    """The encoder of EMBEDDING_MODEL. Returns at once; the model is loaded by its first use, or by load()."""
    set_hub_environment()
    return LazyEncoder(settings)
