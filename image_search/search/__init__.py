"""A query (words, images, what to leave out, or nothing) to one ranked list.

Two steps, so that the next page of a result embeds nothing again: plan() turns what was asked into one embedding and
the words to look up, rank() asks the store for a page. Store and encoder are known here by their two types only.
"""

from __future__ import annotations

import functools
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar
from unicodedata import normalize

from image_search.encoders.base import Embeddings, Encoder
from image_search.errors import TextNotSupported
from image_search.records import EmbeddingModel, Hits, ImageRecord, Order, SearchFilter, SearchHit
from image_search.search.query import (
    ParsedText,
    Plan,
    Query,
    QueryVector,
    apply_conditions,
    blend_embeddings,
    normalise_folder,
    parse_conditions,
    parse_text,
    resolve_values,
    split_excluded,
)
from image_search.search.ranking import (
    FUSION_DEPTH,
    FoundHit,
    add_source,
    join_rankings,
    label_text,
)
from image_search.search.relevance import (
    SAMPLE_SIZE,
    ReferenceScores,
    compute_match_threshold,
    compute_relevance,
    compute_z_scores,
    measure_reference_scores,
)
from image_search.search.tagging import Tagger
from image_search.stores.base import ImageStore

_MAX_REMEMBERED = 1024  # embeddings of texts

# The model of searches with everything computed by it; another model replaces all of it.


class ModelContext:
    """An encoder with its entry in the store, its tags, the words asked lately, and its sense of relevance."""

    def __init__(self, store: ImageStore, encoder: Encoder) -> None:
        self.encoder = encoder
        self.tagger = Tagger(encoder)
        self.is_too_long = functools.lru_cache(maxsize=1024)(encoder.is_too_long)
        self._store = store
        self._embedded: dict[str, Any] = {}  # the latest texts
        self._entry: EmbeddingModel | None = None
        self._background: tuple[int, ReferenceScores | None] = (-1, None)

    def get_row(self) -> EmbeddingModel:
        """The store's entry of this model, made if it is new: embeddings of another model never answer a query."""
        if self._entry is None:
            encoder = self.encoder
            self._entry = self._store.get_or_create_model(encoder.name, encoder.version, encoder.dimension)
        return self._entry

    def get_reference_scores(self) -> ReferenceScores | None:
        """Measured once the list of tags is embedded, and again when the library has grown or shrunk by a tenth."""
        count = self._store.count_images()
        measured = self._background[0]
        if measured >= 0 and abs(count - measured) <= measured // 10:
            return self._background[1]
        if self.encoder.supports_text and not self.tagger.is_ready:
            return None
        sample = self._store.sample_embeddings(self.get_row().model_id, SAMPLE_SIZE)
        words = self.tagger.embeddings if self.encoder.supports_text else None
        self._background = (count, measure_reference_scores(sample, words))
        return self._background[1]

    def encode_text(self, text: str) -> Embeddings:
        """The embedding (dimension,) of a text. Raises EncoderError."""
        return self.encode_texts([text])[text]

    def encode_texts(self, texts: Sequence[str]) -> Mapping[str, Embeddings]:
        """The embedding (dimension,) of each text; as one batch, unless it is remembered. Raises EncoderError."""
        rows: dict[str, Any] = {text: self._embedded.get(text) for text in texts}
        new = [text for text, row in rows.items() if row is None]
        if new:
            rows.update(zip(new, self.encoder.encode_texts(new), strict=True))
            latest = [*self._embedded.items(), *((text, rows[text]) for text in new)]
            self._embedded = dict(latest[-_MAX_REMEMBERED:])
        return rows


# One hit for each film: the best of its moments stands for it, and tells how many others there are.

_Hit = TypeVar("_Hit", bound=SearchHit)

_MAX_RANKED = 20_000  # hits, frames included, among which the films of a page are looked for
_STEP = 200  # hits that are asked for at least, once the first page held frames of one film


@dataclass(frozen=True)
class Films:
    """Films and images under a filter. frames: their number by film hash; images: those that are no frame."""

    frames: Mapping[str, int]
    images: int

    @property
    def total(self) -> int:
        return len(self.frames) + self.images


def count_films(store: ImageStore, filter: SearchFilter) -> Films | None:
    """Films and images that qualify; None where a search has nothing to group. Raises StoreError."""
    if filter.kind == "image" or filter.film_sha256 is not None:
        return None
    if not store.count_images(SearchFilter(kind="frame")):
        return None
    images = 0 if filter.kind == "frame" else store.count_images(replace(filter, kind="image"))
    return Films(store.count_values("film", filter), images)


def count_hits(store: ImageStore, filter: SearchFilter) -> int:
    """How many hits there are under a filter: a film is one. Raises StoreError."""
    films = count_films(store, filter)
    return films.total if films else store.count_images(filter)


def group_hits(
    fetch: Callable[[int, int], tuple[Sequence[_Hit], int]],
    limit: int,
    offset: int,
    films: Films,
    is_passed: Callable[[_Hit], bool] = lambda _: False,
) -> tuple[list[_Hit], int]:
    """One page of hits, each film once with its best hit, and how many there are in all.

    fetch: hits of one total order by limit and offset, and their total. It is asked until the page is full, so that a
    page is short only at the end; or after _MAX_RANKED hits, where the list ends.
    is_passed: whether the film of a frame was a hit of an earlier page, which fetch does not tell.
    """
    groups: list[_Hit] = []
    seen: set[str] = set()
    start, step, wanted = 0, offset + limit, offset + limit
    while len(groups) < wanted:
        hits, total = fetch(step, start)
        for hit in hits:
            film = hit.image.frame.film_sha256 if hit.image.frame else None
            if film is None or (film not in seen and not is_passed(hit)):
                groups.append(hit)
            if film is not None:
                seen.add(film)
        start += len(hits)
        if not hits or start >= total or start >= _MAX_RANKED:
            return groups[offset:wanted], len(groups)
        step = min(max(_STEP, 2 * step), _MAX_RANKED - start)
    return groups[offset:wanted], max(films.total, len(groups))


# The search itself.

PAGE_SIZE = 16
_ALIKE = 1000  # images of one name at most that are registered in one second


@dataclass(frozen=True)
class SearchResult:
    """One page of a ranked list, best first. total: how many qualified on all pages together; a film counts once.

    has_match: whether anything on this page stands out; None when unknown.
    is_text_cut: the model has read the beginning of the words only; it takes no more.
    last: of a list, the image behind whose place the next page begins.
    relevance_left: no hit of a later page is more relevant.
    notes: sentences on what was made of typed conditions.
    """

    hits: tuple[FoundHit, ...]
    total: int
    encode_ms: float
    search_ms: float
    has_more: bool
    has_match: bool | None = None
    is_text_cut: bool = False
    last: ImageRecord | None = None
    relevance_left: float = 1.0
    notes: tuple[str, ...] = ()


class Searcher:
    """Searches one store with one encoder. Safe to use from several threads when the two are."""

    def __init__(self, store: ImageStore, encoder: Encoder) -> None:
        self.store = store
        self._model = ModelContext(store, encoder)

    @property
    def model(self) -> ModelContext:
        """The model in use with all that belongs to it. Take it once where several of its parts must agree."""
        return self._model

    @property
    def encoder(self) -> Encoder:
        return self._model.encoder

    @property
    def tagger(self) -> Tagger:
        return self._model.tagger

    def use(self, encoder: Encoder) -> None:
        """Search with this model from now on. Plans made with the former one are still ranked by it."""
        self._model = ModelContext(self.store, encoder)

    def search(self, query: Query, limit: int = PAGE_SIZE, offset: int = 0) -> SearchResult:
        """Plan and rank in one call. Raises EncoderError or StoreError, ready to be shown."""
        return self.rank(self.plan(query), limit, offset)

    def list_texts(self, query: Query) -> list[str]:
        """Every text of a query that plan() embeds."""
        return list(filter(None, _list_texts(query, parse_text(parse_conditions(query.text).rest))))

    def plan(self, query: Query) -> Plan:
        """Embed what was asked. Raises ModelUnavailable or another EncoderError, ImageNotFound for query.like."""
        started = time.perf_counter()
        model = self._model
        typed = parse_conditions(query.text)
        if typed.values or typed.negated:
            typed = resolve_values(typed, self.store)
            query = replace(query, filter=apply_conditions(typed, query.filter))
        query = replace(query, filter=self.find_folder(query.filter))
        text = parse_text(typed.rest)
        has_image = query.image is not None or query.like is not None
        try:
            blend = self._embed(model, query, text)
        except TextNotSupported:
            # An image-only model still leaves the words themselves to be looked up.
            if has_image or not text.words or not self.store.list_images(text.words, 1, 0, query.filter):
                raise
            blend = None
        return Plan(
            blend,
            model_id=model.get_row().model_id if blend else None,
            words=() if has_image else text.words,
            excluded=(*text.excluded, *_list_excluded_words(query.excluded_text)),
            is_identifier_query=text.is_identifier_query,
            exclude_id=query.like,
            filter=replace(query.filter, words=(*query.filter.words, *text.required)),
            encode_ms=_milliseconds_since(started),
            is_text_cut=blend is not None and any(map(model.is_too_long, filter(None, _list_texts(query, text)))),
            notes=typed.notes,
        )

    def rank(
        self,
        plan: Plan,
        limit: int = PAGE_SIZE,
        offset: int = 0,
        order: Order = "registered",
        after: ImageRecord | None = None,
    ) -> SearchResult:
        """A page of the images that answer the plan, or of a list in an order where nothing was embedded.

        A film is one hit, the best of its frames, unless the filter names the film. after: last of an earlier page of
        such a list, from which the offset counts. Raises StoreError.
        """
        started = time.perf_counter()
        candidates, lifted = 0, 0
        model = self._model
        if plan.blend is not None:
            model.get_row()  # outside the snapshot: it may have to be written

        def fetch(limit: int, offset: int) -> tuple[list[FoundHit], int]:
            nonlocal candidates, lifted
            if plan.blend is None:
                found = self.store.list_images(plan.words, limit, offset, plan.filter, order, after)
                hits, candidates = [add_source(hit, "words" if plan.words else None) for hit in found], found.total
            else:
                hits, candidates, lifted = self._rank_by_both(model, plan, plan.blend.embedding, limit, offset, films)
            return hits, candidates

        def is_passed(hit: FoundHit) -> bool:
            """Whether the first frame of this film in the order is in front of this page."""
            if after is None or hit.image.frame is None:
                return False
            of_film = replace(plan.filter, film_sha256=hit.image.frame.film_sha256)
            return self.store.list_images(plan.words, 1, 0, of_film, order)[0].image_id != hit.image_id

        more = 0 if plan.blend is not None else 1  # of a list one more, to know whether anything follows
        with self.store.snapshot():
            films = self._count_films(plan)
            hits, total = (
                group_hits(fetch, limit + more, offset, films, is_passed) if films else fetch(limit + more, offset)
            )
            if after is not None and films:
                total = films.total
            has_more = len(hits) > limit if more else len(hits) == limit and offset + limit < total
            hits = hits[:limit]
            last = hits[-1].image if hits and more else None
            hits, has_match = self._judge(model, plan, label_text(hits, plan.terms), candidates)
            if films:
                hits = [self._describe_film(plan, hit, films) for hit in hits]
        lowest = hits[-1].relevance if offset + len(hits) > lifted and hits else None
        return SearchResult(
            tuple(hits),
            total,
            plan.encode_ms,
            _milliseconds_since(started),
            has_more=has_more,
            has_match=has_match,
            is_text_cut=plan.is_text_cut,
            last=last,
            relevance_left=1.0 if lowest is None else lowest,
            notes=plan.notes,
        )

    def find_folder(self, filter: SearchFilter) -> SearchFilter:
        """The filter with its folder as the library spells it: as asked, or else composed or decomposed.

        Raises StoreError.
        """
        if filter.folder is None:
            return filter
        asked = normalise_folder(filter.folder)
        spellings = dict.fromkeys([asked, normalize("NFC", asked), normalize("NFD", asked)])
        known = (folder for folder in spellings if self.store.list_paths(folder, limit=1))
        return replace(filter, folder=asked if len(spellings) == 1 else next(known, asked))

    def _count_films(self, plan: Plan) -> Films | None:
        words = plan.words if plan.blend is None else ()
        films = count_films(self.store, replace(plan.filter, words=(*plan.filter.words, *words)))
        if films is None or plan.exclude_id is None or not self._leaves_one_out(plan):
            return films
        frame = self.store.get_image(plan.exclude_id).frame
        if frame is None:
            return replace(films, images=max(films.images - 1, 0))
        others = {**films.frames, frame.film_sha256: films.frames.get(frame.film_sha256, 1) - 1}
        return replace(films, frames={film: count for film, count in others.items() if count > 0})

    def _describe_film(self, plan: Plan, hit: FoundHit, films: Films) -> FoundHit:
        """A frame that stands for its film: with the others counted, and in a list the first of them."""
        if hit.image.frame is None:
            return hit
        film = hit.image.frame.film_sha256
        hit = replace(hit, moments=max(films.frames.get(film, 1) - 1, 0))
        if plan.blend is not None:
            return hit
        first = self.store.list_images(plan.words, 1, 0, replace(plan.filter, film_sha256=film), "name")
        return replace(hit, image=first[0].image) if first else hit

    def get_model(self) -> EmbeddingModel:
        """The store's entry of the loaded model. Raises StoreError, ModelUnavailable."""
        return self._model.get_row()

    def _embed(self, model: ModelContext, query: Query, text: ParsedText) -> QueryVector | None:
        words = [model.encode_text(text.meaning)] if text.meaning else []
        images = [model.encoder.encode_images([query.image])[0]] if query.image is not None else []
        if query.like is not None:
            images.append(self.store.get_embedding(query.like, model.get_row().model_id))
        excluded = [model.encode_text(word) for word in (*text.excluded, *split_excluded(query.excluded_text))]
        if query.excluded_image is not None:
            excluded.append(model.encoder.encode_images([query.excluded_image])[0])
        return blend_embeddings(words, images, excluded, query.image_weight)

    def _rank_by_both(
        self,
        model: ModelContext,
        plan: Plan,
        embedding: Embeddings,
        limit: int,
        offset: int,
        films: Films | None,
    ) -> tuple[list[FoundHit], int, int]:
        """A part of both rankings joined, how many qualify, and behind how many hits relevance falls for certain.

        One total order: pages never overlap.
        """
        search = functools.partial(self.store.search_embedding, plan.model_id or model.get_row().model_id, embedding)
        depth = max(FUSION_DEPTH, offset + limit + (plan.exclude_id is not None))
        named = self._list_named(search, plan, depth, films) if plan.words else ()
        if not named and plan.exclude_id is None:
            hits = search(limit, offset, plan.filter)
            return [add_source(hit, "meaning") for hit in hits], hits.total, 0
        near = search(depth if len(named) < depth else FUSION_DEPTH, 0, plan.filter)
        order = join_rankings(near, named, plan.is_identifier_query)
        kept = [hit for hit in order if hit.image_id != plan.exclude_id]
        lifted = len(named) and (len(named) + FUSION_DEPTH if len(named) < depth else sys.maxsize)
        return kept[offset : offset + limit], near.total - self._leaves_one_out(plan), lifted

    def _list_named(
        self, search: Callable[[int, int, SearchFilter], Hits], plan: Plan, depth: int, films: Films | None
    ) -> Sequence[SearchHit]:
        """At least the depth nearest images, or all, that are named in all words and in none that is left out."""
        with_words = replace(plan.filter, words=(*plan.filter.words, *plan.words))

        def fetch(limit: int, offset: int) -> tuple[Sequence[SearchHit], int]:
            found = search(limit, offset, with_words)
            return found, found.total

        wanted = depth
        while True:
            # The name of a film is that of all its frames, which would leave no room for what else is named so.
            found = group_hits(fetch, depth, 0, films)[0] if films else fetch(depth, 0)[0]
            gone: set[int] = set()
            for word in plan.excluded if found else ():
                gone.update(
                    hit.image_id for hit in search(depth, 0, replace(with_words, words=(*with_words.words, word)))
                )
            named = [hit for hit in found if hit.image_id not in gone]
            if len(named) >= wanted or len(found) < depth:
                return named
            depth *= 2

    def _leaves_one_out(self, plan: Plan) -> bool:
        """Whether the image that others are to be like would be one of the hits."""
        if plan.exclude_id is None:
            return False
        image = self.store.find_images([plan.exclude_id]).get(plan.exclude_id)
        if image is None or image.deleted_at:
            return False
        since, until = plan.filter.registered_from, plan.filter.registered_to
        moment, later = image.upload_date, image.upload_date + timedelta(seconds=1)
        same = replace(
            plan.filter,
            file_name=plan.filter.file_name or image.file_name,
            registered_from=max(moment, since) if since else moment,
            registered_to=min(later, until) if until else later,
        )
        return any(hit.image_id == image.image_id for hit in self.store.list_images((), _ALIKE, 0, same))

    def _judge(
        self, model: ModelContext, plan: Plan, hits: list[FoundHit], total: int
    ) -> tuple[list[FoundHit], bool | None]:
        """The hits with their relevance, and whether any stands out. Hits whose texts hold the terms are relevant."""
        is_current = plan.blend is not None and plan.model_id == model.get_row().model_id
        background = model.get_reference_scores() if is_current and hits else None
        scores = [-hit.distance for hit in hits if hit.distance is not None]
        if background is None or plan.blend is None or not plan.blend.has_wanted or len(scores) < len(hits):
            return hits, None
        evidence = compute_relevance(background, plan.blend, scores)
        if evidence is None:
            return hits, None
        named = [hit.found_by in ("words", "both") for hit in hits]
        rated = [
            replace(hit, relevance=max(float(rating), 0.5) if is_named else float(rating))
            for hit, rating, is_named in zip(hits, compute_z_scores(plan.blend, evidence, total), named, strict=True)
        ]
        return rated, any(named) or bool(evidence.max() >= compute_match_threshold(plan.blend, total))


def _list_excluded_words(text: str) -> list[str]:
    quoted = set(re.findall(r'"([^"]*)"', text))
    return [word for part in split_excluded(text) for word in ([part] if part in quoted else part.split())]


def _list_texts(query: Query, text: ParsedText) -> list[str]:
    """Every text of a query that is embedded."""
    return [text.meaning, *text.excluded, *split_excluded(query.excluded_text)]


def _milliseconds_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
