"""Looking after the library: pictures dropped on the page are registered, copies of one picture are found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from image_search.errors import ImageSearchError
from image_search.registration import ImageReader
from image_search.search_duplicates import DuplicateSearch, find_duplicates
from image_search.ui import render
from image_search.ui.answers import Answers, Outcome, View, render_problem
from image_search.ui.components import build_upload_box
from image_search.ui.duplicates import render_duplicates
from image_search.ui.uploads import UploadedFile, UploadReport, register_uploads
from image_search.ui.words import Language, say

_MOST_GROUPS = 200  # shown at once; the rest is found again when these are done


class UpkeepPanel:
    """Built inside a Blocks context: a field for files, a button for copies, and a line that says how far it is."""

    def __init__(self, translate: Callable[[str], Any]) -> None:
        self.files = build_upload_box(translate("add_pictures"), 150, "add")
        self.find = gr.Button(translate("find_duplicates"), elem_id="find-duplicates")
        self.progress = gr.HTML(elem_id="progress", apply_default_css=False)


@dataclass(frozen=True)
class Upkeep:
    """The answers to what a person does in the panel."""

    answers: Answers
    reader: ImageReader

    def register(self, files: Sequence[UploadedFile], language: Language) -> Iterator[tuple[str, bool]]:
        """HTML that says how far it is, and whether it is over."""
        try:
            report = UploadReport(len(files))
            for report in register_uploads(self.answers.searcher, self.reader, files):
                name = files[report.done].name if report.done < report.count else ""
                title = say(language, "registering", done=report.done, count=report.count)
                yield render.render_progress(title, report.done, report.count, name), False
            yield _render_report(report, language), True
        except ImageSearchError as error:
            yield render_problem(error, language), True

    def find_duplicates(self, language: Language) -> Iterator[tuple[str, Outcome | None]]:
        """HTML that says how far it is, and at last the groups."""
        try:
            for found in find_duplicates(self.answers.searcher):
                title = say(language, "comparing", done=found.done, count=found.count)
                yield render.render_progress(title, found.done, found.count), None
                if found.is_over:
                    yield "", show_groups(found, language)
        except ImageSearchError as error:
            yield render_problem(error, language), None

    def delete(self, image_ids: Sequence[int], view: View, language: Language) -> Outcome:
        """Delete pictures of the groups shown, and show the groups that are left."""
        try:
            self.answers.searcher.store.delete_images(image_ids)
        except ImageSearchError as error:
            return Outcome(view, "", render_problem(error, language), False)
        gone = set(image_ids)
        left = (tuple(image for image in group if image.image_id not in gone) for group in view.groups)
        groups = tuple(group for group in left if len(group) > 1)
        return show_groups(DuplicateSearch(0, 0, groups, is_over=True), language)


def show_groups(found: DuplicateSearch, language: Language) -> Outcome:
    groups = found.groups[:_MOST_GROUPS]
    tiles = tuple(render.Tile.of_image(image) for group in groups for image in group)
    summary = render.render_summary(
        say(language, "duplicates"), say(language, "duplicate_groups", count=len(found.groups)), "", ""
    )
    return Outcome(View(tiles=tiles, groups=groups), summary, render_duplicates(groups, language), False)


def _render_report(report: UploadReport, language: Language) -> str:
    title = say(language, "registered_count", registered=report.registered, known=report.known)
    if not report.refusals:
        return render.render_message(title, kind="notice")
    refused = say(language, "refused_count", count=len(report.refusals))
    return render.render_message(title, "\n".join((refused, *report.refusals)), "problem")
