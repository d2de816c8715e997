"""Two rankings of a library, by meaning and by words, made one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from image_search.records import ImageRecord, SearchHit
from image_search.stores.tokens import contains_phrase, make_phrases

# A library is ranked by meaning, and so are the images in whose texts the words occur. Both are made one order:
#
# 1. The best of both are fused (reciprocal rank fusion, Cormack, Clarke, Buettcher 2009): each ranking gives
#    1 / (60 + rank). Both are ordered by the same distance, so the sum asks one question only: how much being named in
#    words lifts an image. Identifiers have no meaning to embed: all that is named comes first.
# 2. Whatever else is named.
# 3. The rest, by distance.

FoundBy = Literal["meaning", "words", "both"]

FUSION_DEPTH = 48  # ranks of each ranking that are fused: three pages
_RRF_K = 60
_NEAR = 32  # ranks by meaning that count as found by meaning, too


@dataclass(frozen=True, slots=True)
class FoundHit(SearchHit):
    """A hit and how it was found; None for the newest images, which no query asked for.

    relevance: 0 to 1, 0.5 is the line (relevance.py); None when unknown.
    moments:   other frames of the same film that qualify, which this hit stands for.
    found_in_text: whether a term stands in the image itself, as recognised text.
    """

    found_by: FoundBy | None = None
    relevance: float | None = None
    moments: int = 0
    found_in_text: bool = False


def join_rankings(
    by_meaning: Sequence[SearchHit], by_words: Sequence[SearchHit], is_identifier_query: bool
) -> list[FoundHit]:
    """One list of all hits of both, each once, best first.

    Longer rankings, as long as each other or whole, make the list longer and leave its beginning as it is.
    """
    best = [] if is_identifier_query else _fuse(by_meaning[:FUSION_DEPTH], by_words[:FUSION_DEPTH])
    near = {hit.image_id for hit in by_meaning[:_NEAR]}
    named = {hit.image_id for hit in by_words}
    order = {hit.image_id: hit for hit in (*best, *by_words, *by_meaning)}
    return [add_source(hit, _name_source(image_id, near, named)) for image_id, hit in order.items()]


def _fuse(by_meaning: Sequence[SearchHit], by_words: Sequence[SearchHit]) -> list[SearchHit]:
    scores: dict[int, float] = {}
    for ranking in (by_words, by_meaning):
        for rank, hit in enumerate(ranking, start=1):
            scores[hit.image_id] = scores.get(hit.image_id, 0.0) + 1 / (_RRF_K + rank)
    hits = {hit.image_id: hit for hit in (*by_words, *by_meaning)}  # by_words first: its order breaks ties
    return sorted(hits.values(), key=lambda hit: -scores[hit.image_id])


def add_source(hit: SearchHit, found_by: FoundBy | None) -> FoundHit:
    """The hit, and how it was found."""
    return FoundHit(hit.image, hit.distance, found_by)


def _name_source(image_id: int, near: Collection[int], named: Collection[int]) -> FoundBy:
    if image_id not in named:
        return "meaning"
    return "both" if image_id in near else "words"


def label_text(hits: Sequence[FoundHit], terms: Collection[str]) -> list[FoundHit]:
    """The hits, with found_in_text where one of these terms stands in the recognised text."""
    phrases = make_phrases(terms)
    return [
        replace(hit, found_in_text=True) if phrases and _stands_in(hit.image, phrases) else hit  # most have no text
        for hit in hits
    ]


def _stands_in(image: ImageRecord, phrases: Collection[str]) -> bool:
    text = image.searched_text or image.recognized_text
    return contains_phrase(text, phrases) if text else False
