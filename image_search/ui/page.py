"""Gradio's part of the page: the fields of a question.

A click is answered in the browser: a handler tells the modules in static/ by an event of the document, and they ask
this program's own addresses (routes.py). Nothing here asks the database while it is built.
"""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from image_search.ui.components import build_picture_box
from image_search.ui.messages import MESSAGES

TRANSLATIONS = gr.I18n(**MESSAGES)
# Called with the picture box's height; the bar shows it as a thumbnail.
_PICTURE_HEIGHT = 48


def build_page() -> gr.Blocks:
    """The Blocks of the page, to be mounted by build_app."""
    with gr.Blocks(title="類似画像検索", analytics_enabled=False, fill_width=True) as blocks:
        with gr.Row(elem_id="query"):
            text = _build_text_box()
            picture = build_picture_box(TRANSLATIONS("image_label"), _PICTURE_HEIGHT, "picture")
            search = gr.Button(TRANSLATIONS("search"), variant="primary", elem_id="search")
            clear = gr.Button(TRANSLATIONS("clear"), elem_id="clear")
        # The modules fill the fields through it: its event takes what window.pageFields holds.
        bridge = gr.HTML(elem_id="bridge", apply_default_css=False, js_on_load=_BRIDGE)

        gr.on([text.submit, search.click], None, [text], None, js=_tell("search", "text"), **_QUIET)
        clear.click(None, None, [text, picture], js=_tell("clear", returned=["", None]), **_QUIET)
        picture.upload(None, [picture], None, js=_tell("picture", "file"), **_QUIET)
        picture.clear(None, None, None, js=_tell("picture-removed"), **_QUIET)
        bridge.fill(None, None, [text, picture], js="() => window.pageFields", **_QUIET)
    return blocks


_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
_BRIDGE = """
window.fillFields = (text, picture) => { window.pageFields = [text, picture]; trigger('fill', {}); };
document.dispatchEvent(new CustomEvent('page:ready'));
"""


def _tell(event: str, argument: str = "", returned: object = None) -> str:
    """Script that dispatches page:<event> at the document, with the component's value as detail.<argument>."""
    detail = f"{{ detail: {{ {argument} }} }}" if argument else "{}"
    answer = json.dumps(returned if returned is not None else [])
    return f"({argument}) => {{ document.dispatchEvent(new CustomEvent('page:{event}', {detail})); return {answer}; }}"


def _build_text_box() -> gr.Textbox:
    return gr.Textbox(
        label=TRANSLATIONS("text_label"),
        placeholder=TRANSLATIONS("text_placeholder"),
        lines=1,
        max_lines=1,
        elem_id="text",
        html_attributes=gr.InputHTMLAttributes(enterkeyhint="search", autocomplete="off"),
    )
