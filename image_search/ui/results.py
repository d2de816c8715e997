"""Answers to a question of the page, which may have query images: tiles and the words around them, ready for JSON."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

from PIL import Image

from image_search.errors import ImageSearchError, UnreadableImage
from image_search.images import decode_image, make_preview
from image_search.library import Warmup
from image_search.records import ImageRecord, Order, SearchFilter, SearchHit
from image_search.search import Searcher, SearchResult
from image_search.search.query import Plan, Query
from image_search.search.ranking import FoundHit
from image_search.search.tagging import Tag
from image_search.settings import SAMPLES
from image_search.stores.text import make_sort_name
from image_search.ui.messages import Language, error_key, explain_error, translate
from image_search.ui.search_form import NOTHING_ASKED, SearchForm, find_unknown_name, to_query_string

_MAX_QUERY_IMAGES = 500  # kept; the longest unused goes first
_MAX_QUERY_BYTES = 2 * 2**30


class QueryImageGone(UnreadableImage):
    """A token whose image is no longer kept."""


class QueryImages:
    """Images that visitors search with, on disk for as long as the program runs: an address names one by its token.

    Safe to use from several threads. A token is a hash of the image: the same image has the same address.
    """

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._folder = tempfile.TemporaryDirectory(prefix="image_search_")  # readable by this user only
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, data: bytes, name: str) -> str:
        """Keep an image. Returns its token. Raises UnreadableImage."""
        preview = make_preview(decode_image(data, name, self._max_pixels, is_query=True))
        token = hashlib.sha256(data).hexdigest()[:32]
        with self._lock:
            Path(self._folder.name).mkdir(0o700, exist_ok=True)  # a cleaner of the system may have removed it
            self._get_path(token).write_bytes(data)
            self._get_path(token, ".webp").write_bytes(preview)
            self._sizes[token] = len(data) + len(preview)
            self._sizes.move_to_end(token)
            while len(self._sizes) > _MAX_QUERY_IMAGES or (
                sum(self._sizes.values()) > _MAX_QUERY_BYTES and len(self._sizes) > 1
            ):
                oldest, _ = self._sizes.popitem(last=False)
                self._get_path(oldest).unlink(missing_ok=True)
                self._get_path(oldest, ".webp").unlink(missing_ok=True)
        return token

    def open(self, token: str) -> Image.Image:
        """The image, decoded. Raises QueryImageGone."""
        return decode_image(self._read(token), "The query picture", self._max_pixels).image

    def read_preview(self, token: str) -> bytes:
        """The image as WebP. Raises QueryImageGone."""
        return self._read(token, ".webp")

    def _read(self, token: str, suffix: str = "") -> bytes:
        with self._lock:
            if not re.fullmatch(r"[0-9a-f]{32}", token) or token not in self._sizes:
                raise QueryImageGone("The query picture is no longer kept here. Choose it again.")
            try:
                data = self._get_path(token, suffix).read_bytes()
            except FileNotFoundError as error:
                del self._sizes[token]
                raise QueryImageGone("The query picture is no longer kept here. Choose it again.") from error
            self._sizes.move_to_end(token)
            return data

    def _get_path(self, token: str, suffix: str = "") -> Path:
        return Path(self._folder.name, token + suffix)


_MAX_PLANS = 256  # kept, so that the next page of a result embeds nothing again
_MAX_SORTED = 1000  # best hits of a semantic search that are put into another order


class PageSearch:
    """Searches for the page. Safe to use from several threads; nothing is kept for a visitor but query images."""

    def __init__(self, searcher: Searcher, preparation: Warmup, query_images: QueryImages) -> None:
        self.searcher = searcher
        self.preparation = preparation
        self.query_images = query_images
        self._plans: OrderedDict[tuple[object, SearchForm], Plan] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, asked: SearchForm, offset: int, limit: int, language: Language) -> dict[str, Any]:
        """Tiles offset to offset + limit of the answer. Raises ImageSearchError.

        total: images that qualify; has_match: whether a hit of the first page stands out, None when it cannot be told;
        address: the question in its one spelling; message: {kind, title, hint} where there are no tiles.
        """
        plan = self.plan(asked)
        result = self._rank(plan, asked, offset, limit)
        heading = "latest" if plan.is_newest else "similar" if plan.exclude_id else "results"
        if plan.is_newest and (asked.store_order or asked.is_filtered):
            heading = "results" if asked.is_filtered else "all_pictures"
        answer: dict[str, Any] = {
            "examples": self._list_examples(language) if asked == NOTHING_ASKED and not offset else [],
            "tiles": [make_tile(hit, hit.moments) for hit in result.hits],
            "offset": offset,
            "total": result.total,
            "has_more": result.has_more,
            "has_match": result.has_match,
            "ranked": not plan.is_newest,
            "newest": plan.is_newest and not asked.store_order,
            "address": to_query_string(asked),
            "heading": translate(language, heading),
            "count": translate(language, "library", total=result.total),
            "timing": "",
            "note": self._note(plan, asked, language),
            "message": None if result.hits or offset else self._explain_nothing(plan, asked, result, language),
        }
        if not plan.is_newest:
            encode, search = round(result.encode_ms), round(result.search_ms)
            answer["timing"] = translate(
                language, "timing", total=result.total, ms=encode + search, encode=encode, search=search
            )
        return answer

    def _note(self, plan: Plan, asked: SearchForm, language: Language) -> str:
        if plan.is_text_cut:
            return translate(language, "text_cut")
        unknown = find_unknown_name(asked.text)
        return translate(language, "unknown_condition", name=unknown) if unknown else ""

    def plan(self, asked: SearchForm) -> Plan:
        """The question made ready, from memory where it was asked lately. Raises ImageSearchError."""
        key = (self.searcher.model, asked.without_order)
        with self._lock:
            plan = self._plans.get(key)
            if plan is not None:
                self._plans.move_to_end(key)
                return plan
        plan = self.searcher.plan(self._make_query(asked))
        with self._lock:
            self._plans[key] = plan
            while len(self._plans) > _MAX_PLANS:
                self._plans.popitem(last=False)
        return plan

    def find_tags(self, image_id: int) -> list[Tag]:
        """The likeliest words for an image; [] while the list of tags is not embedded, and where there are none."""
        model = self.searcher.model
        if not model.tagger.is_ready:
            return []  # an image is not kept waiting for its tags
        try:
            model_id = model.get_row().model_id
            return model.tagger.classify_image(self.searcher.store.get_embedding(image_id, model_id))
        except ImageSearchError:
            return []

    def describe_progress(self, language: Language) -> dict[str, Any]:
        """How far the preparation of model and library is: {kind, title, hint, done, count, is_loading, is_over}."""
        progress = self.preparation.progress
        said = {"kind": "", "title": "", "hint": "", "done": progress.done, "count": progress.count}
        match progress.phase:
            case "loading":
                said |= {"kind": "notice", "title": translate(language, "model_loading")}
            case "registering":
                title = translate(language, "registering", done=progress.done, count=progress.count)
                said |= {"kind": "progress", "title": title}
            case "model_failed" | "registration_failed" as phase:
                key = "model_unavailable" if phase == "model_failed" else phase
                said |= {
                    "kind": "problem",
                    "title": translate(language, key),
                    "hint": explain_error(progress.error, language),
                }
        return {**said, "is_loading": progress.phase == "loading", "is_over": progress.is_over}

    def _list_examples(self, language: Language) -> list[str]:
        """Words that find samples, where there are some."""
        has_samples = self.searcher.store.count_images(SearchFilter(folder=os.path.abspath(SAMPLES)))
        return translate(language, "example_searches").split("|") if has_samples else []

    def _rank(self, plan: Plan, asked: SearchForm, offset: int, limit: int) -> SearchResult:
        order = asked.store_order
        if order is None:
            return self.searcher.rank(plan, limit, offset)
        if plan.blend is None:  # every image that qualifies, in the store's order
            return self.searcher.rank(plan, limit, offset, order)
        best = self.searcher.rank(plan, _MAX_SORTED)
        relevant = _sort(best.hits[: find_cutoff(best.hits)], order)
        page = tuple(relevant[offset : offset + limit])
        more = offset + limit < len(relevant)
        return SearchResult(page, len(relevant), best.encode_ms, best.search_ms, more, best.has_match)

    def _make_query(self, asked: SearchForm) -> Query:
        open_image = self.query_images.open
        return Query(
            text=f"{asked.text} {asked.required_text}".strip(),
            image=open_image(asked.image) if asked.image and asked.like is None else None,
            excluded_text=asked.excluded_text,
            excluded_image=open_image(asked.excluded_image) if asked.excluded_image else None,
            like=asked.like,
            image_weight=asked.image_weight,
            filter=asked.filter,
        )

    def _explain_nothing(
        self, plan: Plan, asked: SearchForm, result: SearchResult, language: Language
    ) -> dict[str, Any]:
        name = self.searcher.encoder.name
        if not plan.is_newest and self._lacks_embeddings(name):
            keys = ("not_embedded", "library_in_preparation" if self.preparation.fills_library else "not_embedded_hint")
        elif asked.store_order and result.has_match is False:  # there are hits, all below the line
            keys = ("no_match", "no_match_in_order")
        elif asked.is_backwards:
            keys = ("no_hit", "dates_backwards")
        elif not plan.filter.is_empty:
            keys = ("no_hit", "no_hit_hint")
        elif self.preparation.fills_library:
            keys = ("library_in_preparation", "")
        else:
            keys = ("empty_library", "empty_library_hint")
        title, hint = (translate(language, key, model=name) if key else "" for key in keys)
        return {"kind": "empty", "title": title, "hint": hint, "is_library_empty": keys[0] == "empty_library"}

    def _lacks_embeddings(self, name: str) -> bool:
        """Whether there are images, of which the model has embedded none."""
        status = self.searcher.store.get_status()
        return status.image_count > 0 and not any(count for model, count in status.models if model.name == name)


def describe_error(error: ImageSearchError, language: Language) -> dict[str, Any]:
    """An error for the page: {kind, code, title, hint}, the title in the visitor's language."""
    if isinstance(error, QueryImageGone):
        return {
            "kind": "problem",
            "code": "query_image_gone",
            "title": translate(language, "query_image_gone"),
            "hint": "",
        }
    key = error_key(error)
    # Of these the title says all.
    hint = (
        ""
        if key in ("image_gone", "text_not_supported", "recognizer_unavailable")
        else explain_error(str(error), language)
    )
    return {"kind": "problem", "code": key, "title": translate(language, key), "hint": hint}


def _sort(hits: Sequence[FoundHit], order: Order) -> list[FoundHit]:
    """Hits in an order of ImageStore.list_images."""
    if order == "name":
        return sorted(hits, key=lambda hit: (make_sort_name(hit.image.file_name), hit.image_id))
    newest = sorted(hits, key=lambda hit: (hit.image.upload_date, hit.image_id), reverse=True)
    if order == "registered":
        return newest
    dated = [hit for hit in newest if hit.image.text.taken_at]
    undated = [hit for hit in newest if not hit.image.text.taken_at]
    return sorted(dated, key=lambda hit: hit.image.text.taken_at or datetime.min, reverse=True) + undated


# Tiles: an image as the grid shows it.

# Types every browser of the last years can draw; any other is offered as a download.
DRAWABLE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/avif", "image/bmp")
_MAX_ALT = 250  # characters


def get_version(image: ImageRecord) -> str:
    """A short name of the image's content, which makes the address of its preview immutable."""
    return f"{image.content_sha256[:16]}-{image.recipe}"


def make_tile(hit: SearchHit, moments: int = 0) -> dict[str, Any]:
    """A hit as the page's script takes it, ready for JSON. Values that are None are unknown.

    relevance: 0 to 1, 0.5 is the line. text: whether text was recognised in it. month: of the time it was taken,
    "2024-05". moments: other frames of the same film that the tile stands for.
    """
    image = hit.image
    taken_at = image.text.taken_at
    return {
        "id": image.image_id,
        "name": image.file_name,
        "version": get_version(image),
        "width": image.width,
        "height": image.height,
        "color": image.dominant_color,
        "alt": _describe(image),
        "rating": image.rating,
        "month": f"{taken_at:%Y-%m}" if taken_at else None,
        "frame_ms": image.frame.frame_ms if image.frame else None,
        "moments": moments,
        "original": image.frame is None and image.file_type in DRAWABLE_TYPES,
        "size": image.byte_size,
        "distance": None if hit.distance is None else round(hit.distance, 6),
        "relevance": None if not isinstance(hit, FoundHit) or hit.relevance is None else round(hit.relevance, 3),
        "found_by": hit.found_by if isinstance(hit, FoundHit) else None,
        "found_in_text": isinstance(hit, FoundHit) and hit.found_in_text,
        "text": bool(image.recognized_text),
    }


def find_cutoff(hits: Sequence[FoundHit]) -> int:
    """How many hits from the first on are relevant on the whole; all of them where it cannot be told.

    Where the sum of the evidence for and against relevance is largest: one stray hit further down moves nothing.
    """
    if any(hit.relevance is None for hit in hits):
        return len(hits)
    sums = list(accumulate((hit.relevance or 0) - 0.5 for hit in hits))
    best = max(range(len(sums)), key=lambda place: (sums[place], place), default=-1)
    return best + 1 if sums and sums[best] >= 0 else 0


def _describe(image: ImageRecord) -> str:
    text = image.description or image.text.prompt or image.text.generation_prompt or image.file_name
    return " ".join(text.split())[:_MAX_ALT]
