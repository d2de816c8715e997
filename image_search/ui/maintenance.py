"""Looking after the library: pictures dropped on the page are registered, copies of one picture are found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from image_search.errors import ImageSearchError, UnreadableImage
from image_search.images import read_file
from image_search.registration.reader import ImageReader
from image_search.registration.uploads import UploadedImage, clean_name, register_upload
from image_search.search.duplicates import DuplicateSearch, find_duplicates, keep_all
from image_search.search.searcher import Searcher
from image_search.ui import html as render
from image_search.ui.components import UploadedFile, build_upload_box
from image_search.ui.handlers import PageHandlers, PageUpdate, TabView, render_problem
from image_search.ui.html import render_duplicates
from image_search.ui.messages import Language, translate

# Files dropped on the page, into the library at once: read, embedded and stored one after the other.


@dataclass(frozen=True)
class UploadReport:
    """How far it is. refusals: one sentence for every file that is not in the library now."""

    count: int
    registered: int = 0
    known: int = 0
    refusals: tuple[str, ...] = ()

    @property
    def done(self) -> int:
        return self.registered + self.known + len(self.refusals)


def register_uploads(searcher: Searcher, reader: ImageReader, files: Sequence[UploadedFile]) -> Iterator[UploadReport]:
    """Register files; yields a report before the first and after each. Raises EncoderError or StoreError."""
    report = UploadReport(len(files))
    yield report
    for file in files:
        try:
            if _register_upload(searcher, reader, file).outcome == "known":
                report = replace(report, known=report.known + 1)
            else:
                report = replace(report, registered=report.registered + 1)
        except UnreadableImage as error:
            # Where this computer keeps uploads means nothing to the person, and is nobody's business.
            sentence = str(error).replace(file.path, clean_name(file.name))
            report = replace(report, refusals=(*report.refusals, sentence))
        yield report


def _register_upload(searcher: Searcher, reader: ImageReader, file: UploadedFile) -> UploadedImage:
    data = read_file(file.path)
    store, model = searcher.store, searcher.model
    return register_upload(store, model.encoder, lambda: model.get_row().model_id, reader, data, file.name)


_MAX_GROUPS = 200  # shown at once; the rest is found again when these are done


class UpkeepPanel:
    """Built inside a Blocks context: a field for files, a button for copies, and a line that says how far it is."""

    def __init__(self, translate: Callable[[str], Any]) -> None:
        self.files = build_upload_box(translate("add_pictures"), 150, "add")
        self.find = gr.Button(translate("find_duplicates"), elem_id="find-duplicates")
        self.progress = gr.HTML(elem_id="progress", apply_default_css=False)


@dataclass(frozen=True)
class MaintenancePanel:
    """The answers to what a person does in the panel."""

    answers: PageHandlers
    reader: ImageReader

    def register(self, files: Sequence[UploadedFile], language: Language) -> Iterator[tuple[str, bool]]:
        """HTML that says how far it is, and whether it is over."""
        try:
            report = UploadReport(len(files))
            for report in register_uploads(self.answers.searcher, self.reader, files):
                name = files[report.done].name if report.done < report.count else ""
                title = translate(language, "registering", done=report.done, count=report.count)
                yield render.render_progress(title, report.done, report.count, name), False
            yield _render_report(report, language), True
        except ImageSearchError as error:
            yield render_problem(error, language), True

    def find_duplicates(self, language: Language) -> Iterator[tuple[str, PageUpdate | None]]:
        """HTML that says how far it is, and at last the groups."""
        try:
            for found in find_duplicates(self.answers.searcher):
                title = translate(language, "comparing", done=found.done, count=found.count)
                yield render.render_progress(title, found.done, found.count), None
                if found.is_over:
                    yield "", show_groups(found, language)
        except ImageSearchError as error:
            yield render_problem(error, language), None

    def delete(self, image_ids: Sequence[int], view: TabView, language: Language) -> PageUpdate:
        """Move pictures of the groups shown to the trash, and show the groups that are left."""
        try:
            self.answers.searcher.store.trash_images(image_ids)
        except ImageSearchError as error:
            return PageUpdate(view, "", render_problem(error, language), False)
        groups = tuple(left for group in view.groups if (left := group.without(image_ids)))
        return show_groups(DuplicateSearch(0, 0, groups, is_over=True), language)

    def keep(self, image_ids: Sequence[int], view: TabView, language: Language) -> PageUpdate:
        """Keep all pictures of a group shown, now and whenever duplicates are looked for, and show the other groups."""
        chosen = set(image_ids)
        kept = [group for group in view.groups if chosen == {image.image_id for image in group.images}]
        try:
            for group in kept:
                keep_all(self.answers.searcher.store, group)
        except ImageSearchError as error:
            return PageUpdate(view, "", render_problem(error, language), False)
        groups = tuple(group for group in view.groups if group not in kept)
        return show_groups(DuplicateSearch(0, 0, groups, is_over=True), language)


def show_groups(found: DuplicateSearch, language: Language) -> PageUpdate:
    groups = found.groups[:_MAX_GROUPS]
    tiles = tuple(render.Tile.of_image(image) for group in groups for image in group.images)
    summary = render.render_summary(
        translate(language, "duplicates"), translate(language, "duplicate_groups", count=len(found.groups)), "", ""
    )
    return PageUpdate(TabView(tiles=tiles, groups=groups), summary, render_duplicates(groups, language), False)


def _render_report(report: UploadReport, language: Language) -> str:
    title = translate(language, "registered_count", registered=report.registered, known=report.known)
    if not report.refusals:
        return render.render_message(title, kind="notice")
    refused = translate(language, "refused_count", count=len(report.refusals))
    return render.render_message(title, "\n".join((refused, *report.refusals)), "problem")
