"""How much a hit stands out, without a threshold to choose.

A fixed cut-off on the distance does not work: images are nearer to images than to words, broad words nearer than
special ones, and every model has its own scale. So a score s (the inner product) is compared with what this query and
queries of its kind score with a random image of this very library, of which a sample is kept:

    e = (s - m) / d        how many spreads d it lies above the mean m

m and d are half the query's own and half what is usual for its kind: words from the list of tags, images from the
sample, both together from blends of the two. The query's own alone would call nothing relevant in a library full of
what is asked for; the usual alone ignores that queries differ. With exclusions nothing is usual, so the query's own
alone counts. The best of N random images would reach about sqrt(2 ln N): a score that is not clearly higher is no
match. benchmarks/relevance.py compares this with the best fixed cut-off and with plain z-scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from image_search.encoders.base import Embeddings
from image_search.search.query import IMAGE_WEIGHT, QueryVector, blend_embeddings

SAMPLE_SIZE = 1000
MIN_SAMPLE = 20  # with fewer images, mean and spread say nothing
# Kinds of queries by their share of images; what lies between is interpolated.
SHARES = (0.0, IMAGE_WEIGHT, 1.0)
# Chosen on one library of scenes and tried on another (docs/relevance.md). A match is this many times what chance
# reaches. An image that shows half of a query is far above chance, so a query of words and images asks more.
MATCH = (1.12, 1.2, 1.12)
# The line asks less than a match: where most is relevant was found here.
LINE = (3.3, 4.6, 3.3)
# A query's own mean and spread count up to this many usual deviations, or times the usual: beyond, the library is
# full of what is asked for, and that is no reason to find it irrelevant.
_MAX_ABOVE, _MAX_SPREAD = 1.0, 1.25
_BLENDS = 500  # of words with images tell what is usual for both


@dataclass(frozen=True)
class ScoreStats:
    """Inner products of one kind of query with random images: mean, its deviation among queries, and spread."""

    mean: float
    deviation: float
    spread: float


@dataclass(frozen=True, eq=False)
class ReferenceScores:
    """The distribution of scores in one library with one model.

    usual: by SHARES; of images only for an image-only model
    """

    sample: Embeddings
    usual: dict[float, ScoreStats]


def measure_reference_scores(sample: Embeddings, words: Embeddings | None) -> ReferenceScores | None:
    """Reference scores of a random sample of images (n, d) and everyday words (k, d); None for too small a sample."""
    if len(sample) < MIN_SAMPLE:
        return None
    alike = sample @ sample.T
    usual = {1.0: _describe(alike[~np.eye(len(sample), dtype=bool)].reshape(len(sample), -1))}
    if words is not None:
        random = np.random.default_rng(0)
        pairs = zip(random.choice(words, _BLENDS), random.choice(sample, _BLENDS), strict=True)
        blends = [blend_embeddings([word], [image], []) for word, image in pairs]
        both = np.stack([blend.embedding for blend in blends if blend])
        usual |= {0.0: _describe(words @ sample.T), IMAGE_WEIGHT: _describe(both @ sample.T)}
    return ReferenceScores(sample, usual)


def compute_relevance(
    background: ReferenceScores, blend: QueryVector, scores: npt.ArrayLike
) -> npt.NDArray[np.float64] | None:
    """How many spreads each score (an inner product with the query) lies above the mean.

    None when unknown: words to an image-only model.
    """
    # Not as a matrix product: numpy's helper thread would wait for more of it, and keep a processor busy for 40 ms.
    own = np.vecdot(background.sample, blend.embedding)
    mean, spread = float(own.mean()), float(own.std())
    if blend.share is not None:
        usual = _find_usual(background, blend.share)
        if usual is None:
            return None
        mean = (min(mean, usual.mean + _MAX_ABOVE * usual.deviation) + usual.mean) / 2
        spread = (min(spread, _MAX_SPREAD * usual.spread) + usual.spread) / 2
    return (np.asarray(scores, np.float64) - mean) / max(spread, 1e-6)


def compute_match_threshold(blend: QueryVector, count: int) -> float:
    """Evidence from which on the best of so many images is a match."""
    return _interpolate(blend, MATCH) * expect_best(count)


def compute_relevance_threshold(blend: QueryVector, count: int) -> float:
    """Evidence below which less is relevant than not, among so many images of which one is a match."""
    return min(_interpolate(blend, LINE), compute_match_threshold(blend, count))


def expect_best(count: int) -> float:
    """The score that the best of `count` random images reaches."""
    return math.sqrt(2 * math.log(max(count, 2)))


def compute_z_scores(blend: QueryVector, evidence: npt.ArrayLike, count: int) -> npt.NDArray[np.float64]:
    """Evidence as a bar from 0 to 1; 0.5 is the line below which less is relevant than not."""
    return np.clip(np.asarray(evidence, np.float64) / (2 * compute_relevance_threshold(blend, count)), 0.0, 1.0)


def _find_usual(background: ReferenceScores, share: float) -> ScoreStats | None:
    known = sorted(background.usual)
    if share not in known and len(known) == 1:
        return None
    values = [(usual.mean, usual.deviation, usual.spread) for _, usual in sorted(background.usual.items())]
    return ScoreStats(*(float(np.interp(share, known, column)) for column in zip(*values, strict=True)))


def _interpolate(blend: QueryVector, values: tuple[float, float, float]) -> float:
    return float(np.interp(blend.share or 0.0, SHARES, values))


def _describe(scores: Embeddings) -> ScoreStats:
    means = scores.mean(axis=1)
    return ScoreStats(float(means.mean()), float(means.std()), float(scores.std(axis=1).mean()))
