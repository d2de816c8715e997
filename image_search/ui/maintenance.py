"""Looking after the library: pictures dropped on the page are registered, copies of one picture are found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from image_search.errors import FilmsUnavailable, ImageSearchError, UnreadableFilm, UnreadableImage
from image_search.images import make_printable, read_file
from image_search.registration.files import is_film
from image_search.registration.films.uploading import register_uploaded_film
from image_search.registration.reader import ImageReader
from image_search.registration.uploads import clean_name, register_upload
from image_search.search.duplicates import DuplicateGroup, find_duplicates
from image_search.search.searcher import Searcher
from image_search.stores.text import get_folder
from image_search.ui.components import UploadedFile, build_upload_box
from image_search.ui.facts import describe_size
from image_search.ui.messages import Language, translate
from image_search.ui.messages.errors import explain_error
from image_search.ui.rendering import render
from image_search.ui.results import describe_error
from image_search.ui.tiles import get_version

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
            if _is_known(searcher, reader, file):
                report = replace(report, known=report.known + 1)
            else:
                report = replace(report, registered=report.registered + 1)
        except (UnreadableImage, UnreadableFilm, FilmsUnavailable) as error:
            # Where this computer keeps uploads means nothing to the person, and is private.
            sentence = str(error).replace(file.path, clean_name(file.name))
            report = replace(report, refusals=(*report.refusals, sentence))
        yield report


def _is_known(searcher: Searcher, reader: ImageReader, file: UploadedFile) -> bool:
    """Register a file. Whether it was in the library already."""
    store, model = searcher.store, searcher.model
    if is_film(file.name):
        sent = register_uploaded_film(store, model.encoder, reader, file.path, clean_name(file.name))
        return sent.outcome == "known"
    data = read_file(file.path)
    made = register_upload(store, model.encoder, lambda: model.get_row().model_id, reader, data, file.name)
    return made.outcome == "known"


_MAX_GROUPS = 200  # shown at once; the rest is found again when these are done


class UpkeepPanel:
    """Built inside a Blocks context: a field for files, a button for copies, and a line that says how far it is."""

    def __init__(self, translate: Callable[[str], Any]) -> None:
        self.files = build_upload_box(translate("add_pictures"), 150, "add")
        self.find = gr.Button(translate("find_duplicates"), elem_id="find-duplicates")
        self.progress = gr.HTML(elem_id="progress", apply_default_css=False)


@dataclass(frozen=True)
class MaintenancePanel:
    """The answers to a person's clicks in the panel, as HTML."""

    searcher: Searcher
    reader: ImageReader

    def register(self, files: Sequence[UploadedFile], language: Language) -> Iterator[tuple[str, bool]]:
        """HTML that says how far it is, and whether it is over."""
        try:
            report = UploadReport(len(files))
            for report in register_uploads(self.searcher, self.reader, files):
                name = files[report.done].name if report.done < report.count else ""
                title = translate(language, "registering", done=report.done, count=report.count)
                yield _say(language, title, name, done=report.done, count=report.count), False
            title = translate(language, "registered_count", registered=report.registered, known=report.known)
            refused = translate(language, "refused_count", count=len(report.refusals)) if report.refusals else ""
            reasons = [explain_error(sentence, language) for sentence in report.refusals]
            kind = "problem" if refused else "notice"
            yield _say(language, title, "\n".join(filter(None, (refused, *reasons))), kind), True
        except ImageSearchError as error:
            yield _say_error(language, error), True

    def find_duplicates(self, language: Language) -> Iterator[str]:
        """HTML that says how far it is, and at last the groups: the best stays, every other one is marked."""
        try:
            for found in find_duplicates(self.searcher):
                title = translate(language, "comparing", done=found.done, count=found.count)
                yield _say(language, title, done=found.done, count=found.count)
                if found.is_over and not found.groups:
                    yield _say(language, translate(language, "no_duplicates"))
                elif found.is_over:
                    groups = [_describe_group(group, language) for group in found.groups[:_MAX_GROUPS]]
                    yield render("duplicates.html", language, groups=groups, count=len(found.groups))
        except ImageSearchError as error:
            yield _say_error(language, error)


def _describe_group(group: DuplicateGroup, language: Language) -> list[dict[str, Any]]:
    described = []
    for place, (image, date) in enumerate(zip(group.images, group.dates, strict=True)):
        facts = [describe_size(image), f"{date:%Y-%m-%d}"]
        facts += [make_printable(get_folder(image.file_path))] if image.file_path else []
        facts += [] if place else [translate(language, f"kept_{group.kept_because}")]
        described.append({"image": image, "version": get_version(image), "facts": facts})
    return described


def _say(
    language: Language, title: str, hint: str = "", kind: str = "notice", done: int | None = None, count: int = 0
) -> str:
    return render("message.html", language, title=title, hint=hint, kind=kind, done=done, count=count)


def _say_error(language: Language, error: ImageSearchError) -> str:
    said = describe_error(error, language)
    return _say(language, said["title"], said["hint"], "problem")
