"""A query (words, pictures, what to leave out, or nothing) to one ranked list.

Two steps, so that the next page of a result embeds nothing again: plan() turns what was asked into one embedding and
the words to look up, rank() asks the store for a page. Store and encoder are known here by their two types only.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from image_search.encoders.base import Embeddings, Encoder
from image_search.errors import TextNotSupported
from image_search.records import EmbeddingModel, SearchFilter
from image_search.search_fusion import FoundHit, fuse_rankings, mark_hit
from image_search.search_model import SearchModel
from image_search.search_relevance import expect_match, judge_scores, rate_evidence
from image_search.search_tags import Tagger
from image_search.search_text import ParsedText, parse_text
from image_search.search_vectors import IMAGE_WEIGHT, Blend, blend_embeddings
from image_search.stores.base import EVERYTHING, ImageStore

if TYPE_CHECKING:
    from PIL import Image

PAGE_SIZE = 16
# Ranks that take part in the fusion; what is further down follows by distance alone. Three pages.
_WINDOW = 48


@dataclass(frozen=True)
class Query:
    """What a person asks for. Blank words and no picture ask for the newest images.

    text:          words; "quoted" ones must occur, -this is left out
    excluded_text: more words to leave out
    like:          image_id of a registered image to find similar ones to; itself is left out
    image_weight:  0 to 1: how much pictures count against words when both are given
    """

    text: str = ""
    image: Image.Image | None = None
    excluded_text: str = ""
    excluded_image: Image.Image | None = None
    like: int | None = None
    image_weight: float = IMAGE_WEIGHT
    filter: SearchFilter = EVERYTHING


@dataclass(frozen=True)
class Plan:
    """A query made ready for the store.

    blend:     what was embedded; None for the newest images, and for words to an image-only model
    model_id:  the model it was embedded with
    words:     what to look up in the images' texts; () when a picture says what is meant, too
    excluded:  words that lift no image in whose texts they occur, whatever else is named there
    """

    blend: Blend | None = None
    model_id: int | None = None
    words: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    is_exact: bool = False
    left_out: int | None = None
    filter: SearchFilter = EVERYTHING
    encode_ms: float = 0.0

    @property
    def is_newest(self) -> bool:
        return self.blend is None and not self.words


@dataclass(frozen=True)
class SearchResult:
    """One page of a ranked list, best first. total: how many images qualified, on all pages together.

    has_match: whether anything on this page stands out; None when it cannot be told.
    """

    hits: tuple[FoundHit, ...]
    total: int
    encode_ms: float
    search_ms: float
    has_more: bool
    has_match: bool | None = None


class Searcher:
    """Searches one store with one encoder. Safe to use from several threads when the two are."""

    def __init__(self, store: ImageStore, encoder: Encoder) -> None:
        self.store = store
        self._model = SearchModel(store, encoder)

    @property
    def model(self) -> SearchModel:
        """The model in use with all that belongs to it. Take it once where several of its parts must agree."""
        return self._model

    @property
    def encoder(self) -> Encoder:
        return self._model.encoder

    @property
    def tagger(self) -> Tagger:
        return self._model.tagger

    def use(self, encoder: Encoder) -> None:
        """Search with this model from now on. What was planned with the one before it is still ranked by that one."""
        self._model = SearchModel(self.store, encoder)

    def search(self, query: Query, limit: int = PAGE_SIZE, offset: int = 0) -> SearchResult:
        """Plan and rank in one call. Raises EncoderError or StoreError, ready to be shown."""
        return self.rank(self.plan(query), limit, offset)

    def plan(self, query: Query) -> Plan:
        """Embed what was asked. Raises ModelUnavailable or another EncoderError, ImageNotFound for query.like."""
        started = time.perf_counter()
        model = self._model
        text = parse_text(query.text)
        has_picture = query.image is not None or query.like is not None
        try:
            blend = self._embed(model, query, text)
        except TextNotSupported:
            # An image-only model still leaves the words themselves to be looked up.
            if has_picture or not text.words or not self.store.search_words(text.words, 1, 0, query.filter):
                raise
            blend = None
        return Plan(
            blend,
            model_id=model.get_entry().model_id if blend else None,
            words=() if has_picture else text.words,
            excluded=(*text.excluded, *query.excluded_text.split()),
            is_exact=text.is_exact,
            left_out=query.like,
            filter=replace(query.filter, words=(*query.filter.words, *text.required)),
            encode_ms=_milliseconds_since(started),
        )

    def rank(self, plan: Plan, limit: int = PAGE_SIZE, offset: int = 0) -> SearchResult:
        """A page of the images that answer the plan, or of the newest. Raises StoreError."""
        started = time.perf_counter()
        if plan.is_newest:
            hits = [mark_hit(hit, None) for hit in self.store.find_latest(limit, offset, plan.filter)]
        elif plan.blend is None:
            found = self.store.search_words(plan.words, limit, offset, plan.filter)
            hits = [mark_hit(hit, "words") for hit in found]
        else:
            hits = self._rank_by_both(plan, plan.blend.embedding, limit, offset)
        total = self._count(plan)
        hits, has_match = self._judge(plan, hits, total)
        return SearchResult(
            tuple(hits),
            total,
            plan.encode_ms,
            _milliseconds_since(started),
            has_more=len(hits) == limit and offset + limit < total,
            has_match=has_match,
        )

    def get_model(self) -> EmbeddingModel:
        """The store's entry of the loaded model. Raises StoreError, ModelUnavailable."""
        return self._model.get_entry()

    def _embed(self, model: SearchModel, query: Query, text: ParsedText) -> Blend | None:
        words = [model.encode_text(text.meaning)] if text.meaning else []
        pictures = [model.encoder.encode_images([query.image])[0]] if query.image is not None else []
        if query.like is not None:
            pictures.append(self.store.get_embedding(query.like, model.get_entry().model_id))
        excluded = [model.encode_text(word) for word in (*text.excluded, query.excluded_text.strip()) if word]
        if query.excluded_image is not None:
            excluded.append(model.encoder.encode_images([query.excluded_image])[0])
        return blend_embeddings(words, pictures, excluded, query.image_weight)

    def _rank_by_both(self, plan: Plan, embedding: Embeddings, limit: int, offset: int) -> list[FoundHit]:
        """Fused ranks first, then the rest by distance. One total order, so that pages never overlap."""
        model_id = plan.model_id or self.get_model().model_id
        named = []
        if plan.words:
            with_words = replace(plan.filter, words=(*plan.filter.words, *plan.words))
            named = self.store.search_embedding(model_id, embedding, _WINDOW, 0, with_words)
        for word in plan.excluded if named else ():
            unwanted = replace(plan.filter, words=(*plan.filter.words, *plan.words, word))
            gone = {hit.image_id for hit in self.store.search_embedding(model_id, embedding, _WINDOW, 0, unwanted)}
            named = [hit for hit in named if hit.image_id not in gone]
        if not named and plan.left_out is None:
            hits = self.store.search_embedding(model_id, embedding, limit, offset, plan.filter)
            return [mark_hit(hit, "meaning") for hit in hits]
        near = self.store.search_embedding(model_id, embedding, _WINDOW, 0, plan.filter)
        order = fuse_rankings(near, named, plan.is_exact)
        missing = offset + limit + (plan.left_out is not None) - len(order)
        if missing > 0 and len(near) == _WINDOW:
            # Of the ranks behind the window, at most as many as are named in words were fused already.
            rest = self.store.search_embedding(model_id, embedding, missing + len(named), _WINDOW, plan.filter)
            fused = {hit.image_id for hit in order}
            order += [mark_hit(hit, "meaning") for hit in rest if hit.image_id not in fused]
        return [hit for hit in order if hit.image_id != plan.left_out][offset : offset + limit]

    def _judge(self, plan: Plan, hits: list[FoundHit], total: int) -> tuple[list[FoundHit], bool | None]:
        """The hits with their relevance, and whether anything stands out. What is named in words is relevant."""
        model = self._model
        is_current = plan.blend is not None and plan.model_id == model.get_entry().model_id
        background = model.get_background() if is_current and hits else None
        scores = [-hit.distance for hit in hits if hit.distance is not None]
        if background is None or plan.blend is None or len(scores) < len(hits):
            return hits, None
        evidence = judge_scores(background, plan.blend, scores)
        if evidence is None:
            return hits, None
        named = [hit.found_by in ("words", "both") for hit in hits]
        rated = [
            replace(hit, relevance=max(float(rating), 0.5) if is_named else float(rating))
            for hit, rating, is_named in zip(hits, rate_evidence(plan.blend, evidence, total), named, strict=True)
        ]
        return rated, any(named) or bool(evidence.max() >= expect_match(plan.blend, total))

    def _count(self, plan: Plan) -> int:
        if not plan.is_newest and plan.blend is None:
            return self.store.count_images(replace(plan.filter, words=(*plan.filter.words, *plan.words)))
        return max(0, self.store.count_images(plan.filter) - (plan.left_out is not None))


def _milliseconds_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
