"""The page: its components, and what happens on every click. Nothing here asks the database while it is built."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr

from image_search.ui import html as render
from image_search.ui.components import UploadedFile, build_picture_box
from image_search.ui.filters import FilterPanel
from image_search.ui.handlers import PageHandlers, PageUpdate, TabView
from image_search.ui.maintenance import MaintenancePanel, UpkeepPanel
from image_search.ui.messages import Language, collect_translations, negotiate_language
from image_search.ui.search_form import NOTHING_ASKED, SearchForm, from_query_string
from image_search.ui.tab_state import TabState

STATIC = Path(__file__).parent / "static"
TRANSLATIONS = gr.I18n(**collect_translations())
# Uploads and looks for copies that may run at the same time, of all people together.
TASK_CONCURRENCY = 4

Updates = list[Any]


def build_page(answers: PageHandlers) -> gr.Blocks:  # noqa: C901, PLR0915  one layout, read from top to bottom
    """The Blocks of the page, to be mounted by build_app."""
    upkeep = MaintenancePanel(answers, answers.reader)
    with gr.Blocks(title="類似画像検索", analytics_enabled=False, fill_width=True) as blocks:
        tab = gr.State(TabState())
        number = gr.Number(0, precision=0, visible=False)  # of a question: counted in the browser when it is asked
        heading = gr.HTML(elem_id="heading", apply_default_css=False, js_on_load=read_asset("page.js"))
        notice = gr.HTML(elem_id="notice", apply_default_css=False)
        with gr.Row(elem_id="query"):
            with gr.Column(scale=3, elem_id="words"):
                text = _build_text_box()
                with gr.Row(elem_id="buttons"):
                    search = gr.Button(TRANSLATIONS("search"), variant="primary", elem_id="search")
                    clear = gr.Button(TRANSLATIONS("clear"), elem_id="clear")
            with gr.Column(scale=1, min_width=220):
                picture = build_picture_box(TRANSLATIONS("image_label"), 176, "picture")
        with gr.Accordion(TRANSLATIONS("details"), open=False, elem_id="details") as details:
            choices = FilterPanel(TRANSLATIONS)
        summary = gr.HTML(elem_id="summary", apply_default_css=False, js_on_load=read_asset("address.js"))
        results = gr.HTML(elem_id="results", apply_default_css=False, js_on_load=read_asset("results.js"))
        more = gr.Button(TRANSLATIONS("more"), visible=False, elem_id="more")
        with gr.Accordion(TRANSLATIONS("upkeep"), open=False, elem_id="upkeep"):
            panel = UpkeepPanel(TRANSLATIONS)
        viewer = gr.HTML(
            elem_id="viewer", apply_default_css=False, html_template="", js_on_load=read_asset("viewer.js")
        )
        pulse = gr.Timer(1.5)

        asked_fields = [text, picture, *choices.components]  # in the order of Asked
        outputs = [summary, results, more, pulse]

        def update(outcome: PageUpdate | None) -> Updates:
            if outcome is None:
                return [gr.skip()] * len(outputs)
            active = answers.needs_polling(outcome.view)
            return [outcome.summary, outcome.results, gr.update(visible=outcome.has_more), gr.Timer(active=active)]

        def search_for(tab: TabState, number: int, asked: SearchForm, request: gr.Request) -> Updates:
            return update(tab.ask(number, asked, lambda: answers.search(asked, get_language(request))))

        def fill_and_search(tab: TabState, number: int, asked: SearchForm, request: gr.Request) -> Updates:
            outcome = tab.ask(number, asked, lambda: answers.search(asked, get_language(request)))
            fields = fill_fields(asked) if outcome else [gr.skip()] * len(asked_fields)
            return [*fields, *update(outcome)]

        def fill_fields(asked: SearchForm) -> Updates:
            return [asked.text, asked.picture, *choices.fill(asked)]

        def open_heading(request: gr.Request) -> Updates:
            language = get_language(request)
            return [
                render.render_heading(language, answers.searcher.encoder.name),
                answers.describe_preparation(language),
            ]

        def open_fields(request: gr.Request) -> Updates:
            asked = answers.fetch_picture(from_query_string(dict(request.query_params)))
            both = zip(fill_fields(asked), fill_fields(NOTHING_ASKED), strict=True)
            # What is not asked is left alone: somebody may be typing already.
            return [gr.skip() if value == unasked else value for value, unasked in both]

        def open_page(request: gr.Request, tab: TabState, number: int) -> Updates:
            asked = answers.fetch_picture(from_query_string(dict(request.query_params)))
            return search_for(tab, number, asked, request)

        def open_address(event: gr.EventData, request: gr.Request, tab: TabState, number: int) -> Updates:
            asked = answers.fetch_picture(from_query_string(dict(parse_qsl(str(event.address)))))
            return fill_and_search(tab, number, asked, request)

        def run_search(request: gr.Request, tab: TabState, number: int, *values: Any) -> Updates:
            return search_for(tab, number, answers.restore_source_image(SearchForm.of(*values), tab.view), request)

        def run_changed(request: gr.Request, tab: TabState, number: int, *values: Any) -> Updates:
            asked = answers.restore_source_image(SearchForm.of(*values), tab.view)
            return update(None) if asked == tab.asked else search_for(tab, number, asked, request)

        def run_clear(request: gr.Request, tab: TabState, number: int) -> Updates:
            return search_for(tab, number, NOTHING_ASKED, request)

        def run_similar(event: gr.EventData, request: gr.Request, tab: TabState, number: int) -> Updates:
            return fill_and_search(tab, number, answers.fetch_picture(SearchForm(like=int(event.image_id))), request)

        def run_words(event: gr.EventData, request: gr.Request, tab: TabState, number: int) -> Updates:
            return fill_and_search(tab, number, SearchForm(str(event.words)), request)

        def run_more(request: gr.Request, tab: TabState) -> Updates:
            return update(tab.go_on(lambda shown: answers.show_more(shown, get_language(request))))

        def run_open(event: gr.EventData, request: gr.Request, tab: TabState, number: int) -> Any:
            opened = tab.open(number, lambda: answers.describe(int(event.image_id), tab.view, get_language(request)))
            return gr.skip() if opened is None else opened

        def run_save(event: gr.EventData, request: gr.Request, tab: TabState) -> str:
            typed = getattr(event, "description", None), getattr(event, "keywords", None)
            return answers.save_text(int(event.image_id), *typed, tab.view, get_language(request))

        def run_delete(event: gr.EventData, request: gr.Request, tab: TabState) -> Updates:
            return delete(tab, [int(event.image_id)], get_language(request))

        def run_delete_marked(event: gr.EventData, request: gr.Request, tab: TabState) -> Updates:
            return delete(tab, [int(image_id) for image_id in event.image_ids], get_language(request))

        def run_keep(event: gr.EventData, request: gr.Request, tab: TabState) -> Updates:
            image_ids = [int(image_id) for image_id in event.image_ids]
            return update(tab.change(lambda shown: upkeep.keep(image_ids, shown, get_language(request))))

        def delete(tab: TabState, image_ids: Sequence[int], language: Language) -> Updates:
            def act(shown: TabView) -> PageUpdate:
                return (upkeep if shown.groups else answers).delete(image_ids, shown, language)

            return update(tab.change(act))

        def run_count(request: gr.Request, tab: TabState) -> Updates:
            return choices.count(answers, tab.view, get_language(request))

        def run_pulse(request: gr.Request, tab: TabState) -> Updates:
            language = get_language(request)
            progress = answers.describe_preparation(language)
            if tab.view.away or tab.view.is_newest:
                return [progress, *update(tab.go_on(lambda shown: answers.search(shown.asked, language)))]
            return [progress, *[gr.skip()] * 3, gr.Timer(active=answers.needs_polling(tab.view))]

        def run_upload(files: list[UploadedFile], request: gr.Request, tab: TabState) -> Iterator[Updates]:
            language = get_language(request)
            before = tab.view
            for progress, is_over in upkeep.register(files, language):
                shown = [gr.skip()] * (len(asked_fields) + len(outputs))
                # A person who searched meanwhile wants to go on looking at what was found.
                if is_over and tab.view is before:
                    outcome = tab.go_on(lambda _: answers.search(SearchForm(), language))
                    shown = [*fill_fields(SearchForm()), *update(outcome)] if outcome else shown
                yield [progress, None if is_over else gr.skip(), *shown]

        def run_find_duplicates(request: gr.Request, tab: TabState, number: int) -> Iterator[Updates]:
            for progress, found in upkeep.find_duplicates(get_language(request)):
                if tab.is_outdated(number):
                    yield ["", *update(None)]
                    return
                yield [progress, *update(tab.show(number, found) if found else None)]

        private = {"show_progress": "hidden", "api_visibility": "private"}
        # Answered in the request that asks. Gradio's queue answers over a second connection that it shuts when nothing
        # waits; a click in that moment gets no answer (a page cannot tell), and every click pays for opening it.
        quiet = private | {"queue": False}
        # Several at once: Gradio would repeat the first event instead of the last. A tab knows which answer counts.
        asking = quiet | {"trigger_mode": "multiple", "js": _count_questions()}
        busy = {"show_progress": "minimal", "show_progress_on": [summary]}
        question = [tab, number]
        filled = [*asked_fields, *outputs]
        # Several events: a search in the address waits for the model, the fields and the news of the model do not.
        blocks.load(open_heading, None, [heading, notice], **quiet)
        # The fields come before the pictures: who sees those may change them.
        blocks.load(open_fields, None, asked_fields, **quiet).then(open_page, question, outputs, **asking)
        asks = [text.submit, search.click, picture.upload, *choices.events]
        gr.on(asks, run_search, [*question, *asked_fields], outputs, **asking | busy)
        gr.on(choices.blurs, run_changed, [*question, *asked_fields], outputs, **asking | busy)
        # When a picture is taken out, its box still holds it.
        for box in (picture, choices.excluded_picture):
            emptied = asking | {"js": _count_questions(without=asked_fields.index(box))}
            box.clear(run_search, [*question, *asked_fields], outputs, **emptied | busy)
        # Emptied in the browser, at once: what is typed while the answer is on its way stays.
        clear.click(None, None, asked_fields, js=f"() => {json.dumps(fill_fields(NOTHING_ASKED))}", **quiet)
        clear.click(run_clear, question, outputs, **asking)
        for component in (results, viewer):
            component.show_similar(run_similar, question, filled, **asking | busy)
        viewer.search_words(run_words, question, filled, **asking | busy)
        summary.open_address(open_address, question, filled, **asking)
        more.click(run_more, [tab], outputs, **quiet | busy)
        results.open_image(run_open, question, [viewer], **asking)
        viewer.save_text(run_save, [tab], [viewer], **quiet | {"trigger_mode": "multiple"})
        viewer.delete_image(run_delete, [tab], outputs, **quiet | {"trigger_mode": "multiple"})
        results.delete_marked(run_delete_marked, [tab], outputs, **quiet)
        results.keep_images(run_keep, [tab], outputs, **quiet)
        counting = quiet | {"trigger_mode": "always_last"}
        details.expand(run_count, [tab], choices.counted, **counting)
        summary.count_values(run_count, [tab], choices.counted, **counting)
        pulse.tick(run_pulse, [tab], [notice, *outputs], **quiet)
        # What tells its progress needs the queue: one connection for many answers.
        task = private | {"concurrency_limit": TASK_CONCURRENCY}
        panel.files.upload(run_upload, [panel.files, tab], [panel.progress, panel.files, *filled], **task)
        numbered = task | {"js": _count_questions()}
        panel.find.click(run_find_duplicates, question, [panel.progress, *outputs], **numbered)
    return blocks


def get_language(request: gr.Request) -> Language:
    return negotiate_language(request.headers.get("accept-language", ""))


def _build_text_box() -> gr.Textbox:
    return gr.Textbox(
        label=TRANSLATIONS("text_label"),
        placeholder=TRANSLATIONS("text_placeholder"),
        lines=1,
        max_lines=1,
        autofocus=True,
        elem_id="text",
        html_attributes=gr.InputHTMLAttributes(enterkeyhint="search", autocomplete="off"),
    )


def _count_questions(without: int | None = None) -> str:
    """Script that puts the number of the question behind the tab; without: place of a field to leave empty."""
    emptied = "" if without is None else f"values[{without}] = null;"
    return (
        "(tab, _, ...values) => {"
        f"{emptied} window.questions = (window.questions ?? 0) + 1; return [tab, window.questions, ...values]; }}"
    )


def read_asset(name: str) -> str:
    """A file beside this one: script, style or picture of the page."""
    return (STATIC / name).read_text(encoding="utf-8")
