"""What the page answers to what a person does, as HTML in the person's language."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from image_search.errors import ImageSearchError, UnreadableImage
from image_search.images import open_image, read_small_preview
from image_search.registration.reader import ImageReader
from image_search.search.duplicates import DuplicateGroup
from image_search.search.searcher import PAGE_SIZE, Plan, Query, Searcher, SearchResult
from image_search.search.tagging import Tag
from image_search.ui import html as render
from image_search.ui.html import parse_keywords, render_details
from image_search.ui.messages import Language, error_key, translate
from image_search.ui.search_form import NOTHING_ASKED, SearchForm, to_query_string
from image_search.web.background import Warmup


@dataclass(frozen=True)
class TabView:
    """What one browser tab shows. away: the database could not be asked; the page tries again by itself."""

    asked: SearchForm = NOTHING_ASKED
    plan: Plan | None = None
    tiles: tuple[render.Tile, ...] = ()
    has_match: bool | None = None  # whether anything stood out on the first page
    away: bool = False
    groups: tuple[DuplicateGroup, ...] = ()  # of the same picture, when copies are looked at

    @property
    def is_newest(self) -> bool:
        """Whether it shows the newest pictures, as far as one page goes."""
        return self.plan is not None and self.plan.is_newest and len(self.tiles) <= PAGE_SIZE


@dataclass(frozen=True)
class PageUpdate:
    """New contents of the page."""

    view: TabView
    summary: str
    results: str
    has_more: bool


class PageHandlers:
    """One for all tabs: what a tab shows is in its View."""

    def __init__(self, searcher: Searcher, preparation: Warmup, reader: ImageReader) -> None:
        self.searcher = searcher
        self.preparation = preparation
        self.reader = reader
        self._previews = tempfile.TemporaryDirectory(prefix="image_search_")

    def search(self, asked: SearchForm, language: Language) -> PageUpdate:
        view = TabView(asked)

        def find() -> PageUpdate:
            plan = self.searcher.plan(self._make_query(asked))
            return self._show(self.searcher.rank(plan), replace(view, plan=plan), language)

        return self._try(find, view, language)

    def show_more(self, view: TabView, language: Language) -> PageUpdate:
        def find() -> PageUpdate:
            plan = view.plan or self.searcher.plan(Query())
            result = self.searcher.rank(plan, PAGE_SIZE, len(view.tiles))
            return self._show(result, replace(view, plan=plan), language)

        return self._try(find, view, language)

    def fetch_picture(self, asked: SearchForm) -> SearchForm:
        """A result to find similar ones to is shown in the picture box, as its preview."""
        if asked.like is None:
            return asked
        try:
            image = self.searcher.store.get_image(asked.like)
            file = Path(self._previews.name, f"{image.image_id}-{render.get_version(image)}.webp")
            if not file.exists():
                file.write_bytes(read_small_preview(self.searcher.store.read_preview(image.image_id)))
            return replace(asked, picture=str(file))
        except ImageSearchError:
            return asked  # the search itself says what is wrong

    def restore_source_image(self, asked: SearchForm, shown: TabView) -> SearchForm:
        """What the fields ask: the picture in the box may still be the result it was taken from."""
        former = shown.asked
        is_same = asked.picture and former.picture and Path(asked.picture).name == Path(former.picture).name
        return replace(asked, picture=former.picture, like=former.like) if is_same and former.like else asked

    def describe(self, image_id: int, view: TabView, language: Language) -> str:
        """The inside of the dialog for one picture."""
        try:
            image = self.searcher.store.get_image(image_id)
        except ImageSearchError as error:
            return render_problem(error, language)
        return render_details(image, _find_tile(view, image_id), self._find_tags(image_id), language)

    def save_text(
        self, image_id: int, description: str | None, keywords: str | None, view: TabView, language: Language
    ) -> str:
        """Keep the caption and the keywords a person typed; None was not changed. The dialog as it is now."""
        store = self.searcher.store
        try:
            edits = store.get_image(image_id).edits
            if description is not None:
                edits = replace(edits, description=description.strip())
            if keywords is not None:
                edits = replace(edits, keywords=parse_keywords(keywords))
            store.set_edits(image_id, edits)
            image = store.get_image(image_id)
        except ImageSearchError as error:
            return render_problem(error, language)
        said = translate(language, "saved")
        return render_details(image, _find_tile(view, image_id), self._find_tags(image_id), language, said)

    def delete(self, image_ids: Sequence[int], view: TabView, language: Language) -> PageUpdate:
        """Move images to the trash; the others stay where they are."""

        def remove() -> PageUpdate:
            self.searcher.store.trash_images(image_ids)
            plan = view.plan or Plan()
            result = self.searcher.rank(plan, max(PAGE_SIZE, len(view.tiles)))
            return self._show(result, replace(view, plan=plan, tiles=()), language)

        return self._try(remove, view, language)

    def describe_preparation(self, language: Language) -> str:
        progress = self.preparation.progress
        match progress.phase:
            case "loading":
                return render.render_message(translate(language, "model_loading"), kind="notice")
            case "registering":
                title = translate(language, "registering", done=progress.done, count=progress.count)
                return render.render_progress(title, progress.done, progress.count)
            case "model_failed":
                return render.render_message(translate(language, "model_unavailable"), progress.error, "problem")
            case "registration_failed":
                return render.render_message(translate(language, "registration_failed"), progress.error, "problem")
        return ""

    def needs_polling(self, view: TabView) -> bool:
        """Whether the page should look again by itself in a moment."""
        return view.away or not self.preparation.progress.is_over

    def _find_tags(self, image_id: int) -> list[Tag]:
        model = self.searcher.model
        if not model.tagger.is_ready:
            return []  # a picture is not kept waiting for its tags
        try:
            model_id = model.get_row().model_id
            return model.tagger.classify_image(self.searcher.store.get_embedding(image_id, model_id))
        except ImageSearchError:
            return []

    def _make_query(self, asked: SearchForm) -> Query:
        return Query(
            text=asked.text,
            image=self._open_upload(asked.picture) if asked.picture and asked.like is None else None,
            excluded_text=asked.excluded_text,
            excluded_image=self._open_upload(asked.excluded_picture) if asked.excluded_picture else None,
            like=asked.like,
            image_weight=asked.image_weight,
            filter=asked.filter,
        )

    def _open_upload(self, path: str) -> Image.Image:
        try:
            return open_image(path, self.reader.max_pixels)
        except UnreadableImage as error:
            # Where this computer keeps uploads means nothing to the person, and is nobody's business.
            raise UnreadableImage(str(error).replace(path, Path(path).name)) from error

    def _try(self, find: Callable[[], PageUpdate], view: TabView, language: Language) -> PageUpdate:
        try:
            return find()
        except ImageSearchError as error:
            away = error_key(error) == "store_away"
            return PageUpdate(TabView(view.asked, away=away), "", render_problem(error, language), False)

    def _show(self, result: SearchResult, view: TabView, language: Language) -> PageUpdate:
        shown = {tile.image_id for tile in view.tiles}
        fresh = (render.Tile.of(hit) for hit in result.hits if hit.image_id not in shown)
        has_match = view.has_match if view.tiles else result.has_match
        view = replace(view, tiles=(*view.tiles, *fresh), has_match=has_match)
        plan = view.plan or Plan()
        if view.tiles:
            results = render.render_tiles(view.tiles, language)
            if has_match is False:
                title, hint = translate(language, "no_match"), translate(language, "no_match_hint")
                results = render.render_message(title, hint, "notice") + results
        elif not plan.is_newest and plan.filter.is_empty and self.searcher.store.count_images():
            results = render.render_message(
                translate(language, "not_embedded"), translate(language, "not_embedded_hint")
            )
        elif plan.filter.is_empty and self.preparation.fills_library:
            results = render.render_message(translate(language, "library_in_preparation"))
        elif plan.filter.is_empty:
            results = render.render_message(
                translate(language, "empty_library"), translate(language, "empty_library_hint")
            )
        else:
            results = render.render_message(translate(language, "no_hit"), translate(language, "no_hit_hint"))
        return PageUpdate(view, _summarise(result, view, language), results, result.has_more)


def _find_tile(view: TabView, image_id: int) -> render.Tile | None:
    return next((tile for tile in view.tiles if tile.image_id == image_id), None)


def render_problem(error: ImageSearchError, language: Language) -> str:
    """An error in the person's language, with the sentence that says what to do."""
    return render.render_message(translate(language, error_key(error)), str(error), "problem")


def _summarise(result: SearchResult, view: TabView, language: Language) -> str:
    plan = view.plan or Plan()
    title = translate(language, "latest" if plan.is_newest else "similar" if plan.left_out else "results")
    if plan.is_newest:
        detail = translate(language, "library", total=result.total)
    else:
        detail = translate(
            language,
            "timing",
            total=result.total,
            ms=round(result.encode_ms + result.search_ms),
            encode=round(result.encode_ms),
            search=round(result.search_ms),
        )
    filtered = translate(language, "filtered") if view.asked.is_filtered else ""
    return render.render_summary(title, detail, filtered, to_query_string(view.asked))
