"""Looking after the library: copies of one image are found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from image_search.errors import ImageSearchError
from image_search.images import make_printable
from image_search.search.duplicates import DuplicateGroup, find_duplicates
from image_search.search.searcher import Searcher
from image_search.stores.text import get_folder
from image_search.ui.facts import describe_size
from image_search.ui.messages import Language, translate
from image_search.ui.rendering import render
from image_search.ui.results import describe_error
from image_search.ui.tiles import get_version

_MAX_GROUPS = 200  # shown at once; the rest is found again when these are done


class UpkeepPanel:
    """Built inside a Blocks context: a button for copies, and a line that says how far it is."""

    def __init__(self, translate: Callable[[str], Any]) -> None:
        self.find = gr.Button(translate("find_duplicates"), elem_id="find-duplicates")
        self.progress = gr.HTML(elem_id="progress", apply_default_css=False)


@dataclass(frozen=True)
class MaintenancePanel:
    """The answers to a person's clicks in the panel, as HTML."""

    searcher: Searcher

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
