"""Gradio's part of the page: the fields of a question.

A click is answered in the browser: a handler tells the modules in static/ by an event of the document, and they ask
this program's own addresses (routes.py). Nothing here asks the database while it is built.
"""

from __future__ import annotations

import json
from abc import ABCMeta
from pathlib import Path
from typing import Any, NoReturn

import gradio as gr
import gradio.processing_utils
from gradio.blocks import Block
from gradio.data_classes import ImageData
from gradio.processing_utils import sh as safehttpx
from gradio.utils import get_upload_folder

from image_search.errors import UnreadableImage
from image_search.images import read_file
from image_search.ui.messages import MESSAGES

_REFUSAL = "A picture is not taken from an address. Save it, and send the file."


def build_picture_box(label: Any, height: int, elem_id: str) -> gr.Image:
    """A box for a picture to search with. Its value is the path of the uploaded file: opening it safely is not left to
    gr.Image."""
    return _PictureBox(
        label=label, type="filepath", sources=["upload", "clipboard"], buttons=[], height=height, elem_id=elem_id
    )


def _take_file(_: gr.Image, payload: ImageData | None) -> str | None:
    return payload.path if payload else None


def read_upload(path: str, name: str) -> bytes:
    """The bytes of a file that Gradio took. The path comes from a visitor: one elsewhere is refused.

    Raises UnreadableImage, which names the file as the visitor does.
    """
    shown = name or "The picture"
    if "\0" in path or not Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve()):
        raise UnreadableImage(f"{shown} was not uploaded. Choose the file again.")
    try:
        return read_file(path)
    except UnreadableImage as error:
        # Where this computer keeps uploads is private.
        raise UnreadableImage(str(error).replace(path, shown)) from error


def _derive(base: type[Any], name: str, preprocess: Any) -> Any:
    # Made like this, because a class statement would have Gradio's metaclass write a .pyi file beside this one.
    # A template is to the browser what it is made from.
    return ABCMeta.__new__(type(base), name, (base,), {"preprocess": preprocess, "is_template": True})


_PictureBox = _derive(gr.Image, "PictureBox", _take_file)


def harden_gradio(blocks: gr.Blocks) -> None:
    """Let a page take no file but what was uploaded to it, and let no request make the server ask another computer.

    A client that calls an event names the file of a component as {"path": ...}. Gradio checks that it was uploaded only
    in an application that was launched, which a mounted one never is; and it downloads a path that is an address.
    """
    blocks.has_launched = True
    Block.async_move_resource_to_block_cache = _move_file
    # Every fetch of Gradio uses safehttpx, which resolves the name first.
    safehttpx.get = _refuse_address
    safehttpx.async_validate_url = _refuse_address
    gradio.processing_utils.async_ssrf_protected_get = _refuse_address
    gradio.processing_utils.unsafe_download = _refuse_address_at_once


_move_to_cache = Block.async_move_resource_to_block_cache


async def _move_file(block: Block, place: str | Path | None) -> str | None:
    if place is not None and "://" in str(place):
        raise gr.Error(_REFUSAL, print_exception=False)
    moved: str | None = await _move_to_cache(block, place)
    return moved


async def _refuse_address(*_: Any, **__: Any) -> NoReturn:
    raise gr.Error(_REFUSAL, print_exception=False)


def _refuse_address_at_once(*_: Any, **__: Any) -> NoReturn:
    raise gr.Error(_REFUSAL, print_exception=False)


_TEXTS = ("image_label", "search", "clear", "text_label", "text_placeholder")  # the page holds them in every language
TRANSLATIONS = gr.I18n(**{language: {key: texts[key] for key in _TEXTS} for language, texts in MESSAGES.items()})
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
        bridge = gr.Button(elem_id="bridge")

        gr.on([text.submit, search.click], None, [text], None, js=_tell("search", "text"), **_QUIET)
        clear.click(None, None, [text, picture], js=_tell("clear", returned=["", None]), **_QUIET)
        picture.upload(None, [picture], None, js=_tell("picture", "file"), **_QUIET)
        picture.clear(None, None, None, js=_tell("picture-removed"), **_QUIET)
        bridge.click(None, None, [text, picture], js="() => window.pageFields", **_QUIET)
        blocks.load(None, None, None, js=_BRIDGE, **_QUIET)
    return blocks


_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
_BRIDGE = """() => {
  window.fillFields = (text, picture) => {
    window.pageFields = [text, picture];
    document.getElementById('bridge').click();
  };
  document.dispatchEvent(new CustomEvent('page:ready'));
}"""


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
