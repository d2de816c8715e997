"""The fields below the box: what to leave out, how much the picture counts, and what the images must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from image_search.errors import ImageSearchError
from image_search.search.query import IMAGE_WEIGHT
from image_search.stores.base import CountedField
from image_search.ui.components import build_picture_box
from image_search.ui.handlers import PageHandlers, TabView
from image_search.ui.messages import Language, translate
from image_search.ui.search_form import SearchForm

# Most frequent values offered; any other can be typed where the field takes typing.
_MAX_CHOICES = 200
_MEGAPIXELS = (1, 2, 4, 8, 16)
# The word for a value, and the value in Asked.
_ORIENTATIONS = (("landscape", "landscape"), ("portrait", "portrait"), ("square", "square"))
_PROMPTS = (("has_prompt", "yes"), ("has_no_prompt", "no"))
_COUNTED: tuple[CountedField, ...] = ("generator", "generation_model", "file_type", "keyword")
_NAMED = {"orientation": _ORIENTATIONS, "has_prompt": _PROMPTS}


class FilterPanel:
    """Built inside a Blocks context. components are in the order of Asked's fields after text and picture."""

    def __init__(self, translate: Callable[[str], Any]) -> None:
        def offer(key: str, *choices: tuple[Any, Any], value: Any = "") -> gr.Dropdown:
            everything = (translate("anything"), value)
            return gr.Dropdown(
                [everything, *choices], value=value, label=translate(key), filterable=False, min_width=140
            )

        with gr.Row(equal_height=True, elem_id="wishes"):
            self.excluded = gr.Textbox(
                label=translate("excluded_label"),
                placeholder=translate("excluded_placeholder"),
                max_lines=1,
                elem_id="excluded",
            )
            self.excluded_picture = build_picture_box(translate("excluded_picture"), 128, "excluded-picture")
            self.weight = gr.Slider(
                0,
                1,
                value=IMAGE_WEIGHT,
                step=0.05,
                label=translate("weight_label"),
                info=translate("weight_info"),
                elem_id="weight",
                buttons=[],
            )
        with gr.Row():
            self.date_of = gr.Dropdown(
                [(translate("registered_at"), "registered"), (translate("taken_at"), "taken")],
                value="registered",
                label=translate("date_of"),
                filterable=False,
                min_width=140,
            )
            self.since = gr.Textbox(label=translate("since"), placeholder="2024-01-31", max_lines=1, min_width=140)
            self.until = gr.Textbox(label=translate("until"), placeholder="2024-12", max_lines=1, min_width=140)
            self.orientation = offer("orientation", *((translate(word), value) for word, value in _ORIENTATIONS))
            sizes = ((f"{number} MP", number * 1_000_000) for number in _MEGAPIXELS)
            self.min_pixels = offer("min_pixels", *sizes, value=0)
            self.file_type = offer("file_type")
        with gr.Row():
            self.generator = offer("generator")
            self.generation_model = offer("generation_model")
            self.has_prompt = offer("prompt", *((translate(word), value) for word, value in _PROMPTS))
            self.keyword = offer("keyword")
            self.folder = gr.Textbox(label=translate("folder"), placeholder="/photos/2024", max_lines=1, min_width=140)
        self._anything = translate("anything")

    @property
    def components(self) -> list[Any]:
        return [
            self.excluded, self.excluded_picture, self.weight, self.date_of, self.since, self.until, self.file_type,
            self.orientation, self.min_pixels, self.generator, self.generation_model, self.has_prompt, self.keyword,
            self.folder,
        ]  # fmt: skip

    @property
    def events(self) -> list[Any]:
        """What starts a search by itself."""
        dropdowns = (
            self.date_of, self.file_type, self.orientation, self.min_pixels, self.generator, self.generation_model,
            self.has_prompt, self.keyword,
        )  # fmt: skip
        return [
            self.weight.release,
            self.excluded_picture.upload,
            *(box.submit for box in self._boxes),
            *(field.input for field in dropdowns),
        ]

    @property
    def blurs(self) -> list[Any]:
        """What starts a search when it changed anything: a person who leaves a field has finished typing."""
        return [box.blur for box in self._boxes]

    @property
    def _boxes(self) -> tuple[Any, ...]:
        return self.excluded, self.since, self.until, self.folder

    def fill(self, asked: SearchForm) -> list[Any]:
        """Values for the components. A value that came in an address is offered even before it was counted.

        A plain value where it will do: Gradio builds a component again, which takes it 1 ms, to change anything else.
        """
        return [
            asked.excluded_text, asked.excluded_picture, asked.image_weight, asked.date_of, asked.since, asked.until,
            self._offer(asked.file_type), asked.orientation, asked.min_pixels, self._offer(asked.generator),
            self._offer(asked.generation_model), asked.has_prompt, self._offer(asked.keyword), asked.folder,
        ]  # fmt: skip

    @property
    def counted(self) -> list[Any]:
        """Those whose choices count() counts."""
        return [getattr(self, field) for field in (*_COUNTED, *_NAMED)]

    def count(self, answers: PageHandlers, shown: TabView, language: Language) -> list[Any]:
        """For the counted components: the values there are in the library under the other conditions, with how many
        images have each.

        The choices only, never a value: a person may have chosen another one since.
        """
        asked, store = shown.asked, answers.searcher.store
        updates = []
        try:
            for field in _COUNTED:
                counts = store.count_values(field, _replace(asked, field, "").filter)
                values = list(counts)[:_MAX_CHOICES]
                chosen = getattr(asked, field)
                values += [chosen] if chosen and chosen not in values else []
                updates.append(_offer_counted([(v, v) for v in values], counts, language))
            for name, kinds in _NAMED.items():
                named = [(translate(language, word), value) for word, value in kinds]
                counts = {value: store.count_images(_replace(asked, name, value).filter) for _, value in kinds}
                updates.append(_offer_counted(named, counts, language))
        except ImageSearchError:
            return [gr.skip()] * len(self.counted)  # the search beside it says what is wrong
        return updates

    def _offer(self, value: str) -> Any:
        return gr.Dropdown([(self._anything, ""), (value, value)], value=value) if value else ""


def _replace(asked: SearchForm, field: str, value: str) -> SearchForm:
    others: dict[str, Any] = {field: value}
    return replace(asked, **others)


def _offer_counted(choices: Sequence[tuple[str, str]], counts: Mapping[str, int], language: Language) -> Any:
    counted = [(f"{name} ({counts.get(value, 0):,})", value) for name, value in choices]
    return gr.update(choices=[(translate(language, "anything"), ""), *counted])
