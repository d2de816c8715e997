"""Two rankings of one library made into one: by meaning, and of those in whose texts the words occur.

Reciprocal rank fusion (Cormack, Clarke, Buettcher 2009): every list gives 1 / (60 + rank). Both lists are ordered by
the same distance, so the sum asks one question only: how much being named in words lifts an image.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from image_search.records import SearchHit

FoundBy = Literal["meaning", "words", "both"]

_DAMPING = 60
# Identifiers say nothing by their meaning: twice the weight puts every image that has them before all others.
_WORDS_WEIGHT, _EXACT_WEIGHT = 1.0, 2.0
_NEAR = 32  # ranks by meaning that count as found by meaning, too


@dataclass(frozen=True, slots=True)
class FoundHit(SearchHit):
    """A hit and how it was found; None for the newest images, which nobody searched for.

    relevance: 0 to 1, 0.5 is the line (search_relevance.py); None when it cannot be told.
    """

    found_by: FoundBy | None = None
    relevance: float | None = None


def fuse_rankings(by_meaning: Sequence[SearchHit], by_words: Sequence[SearchHit], is_exact: bool) -> list[FoundHit]:
    """One list of all hits of both, each once, best first. Images named in words win ties."""
    weight = _EXACT_WEIGHT if is_exact else _WORDS_WEIGHT
    scores: dict[int, float] = {}
    for rank, hit in enumerate(by_words, start=1):
        scores[hit.image_id] = weight / (_DAMPING + rank)
    near = {hit.image_id for hit in by_meaning[:_NEAR]}
    named = set(scores)
    for rank, hit in enumerate(by_meaning, start=1):
        scores[hit.image_id] = scores.get(hit.image_id, 0.0) + 1 / (_DAMPING + rank)
    hits = {hit.image_id: hit for hit in (*by_words, *by_meaning)}  # by_words first: its order breaks ties
    order = sorted(hits, key=lambda image_id: -scores[image_id])
    return [mark_hit(hits[image_id], _name_source(image_id, near, named)) for image_id in order]


def mark_hit(hit: SearchHit, found_by: FoundBy | None) -> FoundHit:
    return FoundHit(hit.image, hit.distance, found_by)


def _name_source(image_id: int, near: Collection[int], named: Collection[int]) -> FoundBy:
    if image_id not in named:
        return "meaning"
    return "both" if image_id in near else "words"
