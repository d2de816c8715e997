"""Arithmetic on unit vectors: words, pictures and what to leave out become one embedding.

With t for the words, p for the pictures, n for what is left out, all of length 1, and w for the pictures' weight:

    q = unit((1 - w) t + w p)        words and pictures together
    q = unit(q - EXCLUSION n)        moved away from what is left out
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from image_search.encoders.base import Embeddings

# Measured on demo scenes: of what is left out little remains among the first, of what is wanted nearly everything.
EXCLUSION = 0.5
# Pictures say more than words (a place, a light, besides the thing); at this share both are heard best.
IMAGE_WEIGHT = 0.4


@dataclass(frozen=True, eq=False)
class Blend:
    """A query's embedding, float32 (dimension,) of length 1, and what it was made of.

    share: of pictures, 0 for words alone, 1 for pictures alone; None when something was left out
    """

    embedding: Embeddings
    share: float | None


def blend_embeddings(
    words: Sequence[Embeddings],
    pictures: Sequence[Embeddings],
    left_out: Sequence[Embeddings],
    image_weight: float = IMAGE_WEIGHT,
) -> Blend | None:
    """One embedding of all parts, or None when nothing was given. All inputs are of length 1."""
    weight = min(max(image_weight, 0.0), 1.0) if words and pictures else float(bool(pictures))
    sides = [(1 - weight, words), (weight, pictures)]
    wanted = [share * to_unit_length(np.sum(side, axis=0)) for share, side in sides if side]
    away = to_unit_length(np.sum(left_out, axis=0)) if left_out else None
    if not wanted:
        return None if away is None else Blend(-away, None)
    total = to_unit_length(np.sum(wanted, axis=0))
    if away is not None:
        return Blend(to_unit_length(total - EXCLUSION * away), None)
    return Blend(total, weight)


def to_unit_length(vector: Embeddings) -> Embeddings:
    """The same direction with length 1; what cancelled itself out points anywhere, but is finite and of length 1."""
    length = float(np.linalg.norm(vector))
    if length < 1e-6:
        return np.eye(1, len(vector), dtype=np.float32).reshape(-1)
    return np.asarray(vector / length, np.float32)
