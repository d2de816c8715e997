"""Gradio's part of the page: the fields of a question, and bounds on what Gradio takes and keeps.

A click is answered in the browser: a handler tells the modules in static/ by an event of the document, and they ask
this program's own addresses (routes.py). Nothing here asks the database while it is built.
"""

from __future__ import annotations

import json
import sys
from abc import ABCMeta
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import gradio as gr
import gradio.processing_utils
from fastapi import FastAPI
from gradio.block_function import BlockFunction
from gradio.blocks import Block
from gradio.data_classes import ImageData
from gradio.processing_utils import sh as safehttpx
from gradio.queueing import Event, Queue
from gradio.state_holder import SessionState, StateHolder
from gradio.utils import LRUCache, get_upload_folder
from starlette.routing import Mount

from image_search.errors import UnreadableImage
from image_search.images import read_file
from image_search.ui.messages import MESSAGES

_REFUSAL = "A picture is not taken from an address. Save it, and send the file."


def build_image_box(label: Any, height: int, elem_id: str) -> gr.Image:
    """A box for an image to search with. Its value is the path of the uploaded file: opening it safely is not left to
    gr.Image."""
    return _ImageBox(
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
    # A class statement would make Gradio's metaclass write a .pyi file beside this one. is_template: the browser
    # treats it as its base class.
    return ABCMeta.__new__(type(base), name, (base,), {"preprocess": preprocess, "is_template": True})


_ImageBox = _derive(gr.Image, "ImageBox", _take_file)


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
# Height of the image box in pixels: the bar shows it as a thumbnail.
_BOX_HEIGHT = 48


def build_page() -> gr.Blocks:
    """The Blocks of the page, to be mounted by build_app."""
    with gr.Blocks(title="類似画像検索", analytics_enabled=False, fill_width=True) as blocks:
        with gr.Row(elem_id="query"):
            text = _build_text_box()
            image = build_image_box(TRANSLATIONS("image_label"), _BOX_HEIGHT, "picture")
            search = gr.Button(TRANSLATIONS("search"), variant="primary", elem_id="search")
            clear = gr.Button(TRANSLATIONS("clear"), elem_id="clear")
        # The modules fill the fields through it: its event takes what window.pageFields holds.
        bridge = gr.Button(elem_id="bridge")

        gr.on([text.submit, search.click], None, [text], None, js=_tell("search", "text"), **_QUIET)
        clear.click(None, None, [text, image], js=_tell("clear", returned=["", None]), **_QUIET)
        image.upload(None, [image], None, js=_tell("image", "file"), **_QUIET)
        image.clear(None, None, None, js=_tell("image-removed"), **_QUIET)
        bridge.click(None, None, [text, image], js="() => window.pageFields", **_QUIET)
        blocks.load(None, None, None, js=_BRIDGE, **_QUIET)
    return blocks


_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
_BRIDGE = """() => {
  window.fillFields = (text, image) => {
    window.pageFields = [text, image];
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


# Bounds on what Gradio keeps for pages and for calls of programs, so that memory does not grow with their number.

MAX_PAGES = 500  # whose state is kept, some 70 KiB each: the latest used
MAX_UNREAD = 200  # sessions whose answers wait to be read
_MAX_QUEUE = 200  # uploads and calls of programs that wait; more are told that there are too many
_QUEUE_PAUSE = 0.02  # seconds between looks at an empty queue; Gradio looks a thousand times a second, all day


def bound_queue(page: gr.Blocks) -> None:
    """Give a page a queue that forgets unread answers. To be called before it is mounted."""
    page._queue = _AnswerQueue(
        live_updates=True, concurrency_count=page.max_threads, update_intervals=1, max_size=_MAX_QUEUE, blocks=page
    )


def bound_sessions(app: FastAPI, page: gr.Blocks) -> None:
    """Keep so many pages' states, and keep them small. app: what the page was mounted in just now."""
    mounted = app.routes[-1]
    assert isinstance(mounted, Mount)
    page.state_session_capacity = MAX_PAGES
    sessions = _Sessions()
    sessions.set_blocks(page)
    mounted.app.state_holder = sessions  # type: ignore[attr-defined]


class _Sessions(StateHolder):  # type: ignore[misc]
    """The states of pages by session, the latest used."""

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self.session_data[session_id] = _PageState(self.blocks)
        self.update(session_id)
        self.time_last_used[session_id] = datetime.now()
        return self.session_data[session_id]

    def forget(self, session_id: str) -> None:
        with self.lock:
            self.session_data.pop(session_id, None)
            self.time_last_used.pop(session_id, None)


class _PageState(SessionState):  # type: ignore[misc]
    """A state without a copy of every component's settings, 150 KiB that only deep links need, which are not served."""

    def __init__(self, blocks: gr.Blocks) -> None:
        super().__init__(blocks)
        self.config_values.clear()

    def __setitem__(self, key: int, value: Any) -> None:
        super().__setitem__(key, value)
        self.config_values.clear()

    def _update_config(self, key: int) -> None: ...

    def _update_value_in_config(self, key: int, value: Any) -> None: ...


class _AnswerQueue(Queue):  # type: ignore[misc]
    """Gradio's queue, which keeps the newest answers only and counts no times for a dashboard that is not served."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.sleep_when_free = self.progress_update_sleep_when_free = _QUEUE_PAUSE
        self.pending_messages_per_session = _Unread(self)
        self.ANALYTICS_MAX_EVENTS = 1
        self.ANAYLTICS_CACHE_FREQUENCY = sys.maxsize

    async def process_events(self, events: list[Event], batch: bool, begin_time: float, fn: BlockFunction) -> None:
        try:
            await super().process_events(events, batch, begin_time, fn)
        finally:
            for event in events:
                # A call without a session is given one of its own, in which nothing is ever asked again.
                if event.session_hash == event._id and self.server_app is not None:
                    self.server_app.state_holder.forget(event._id)


class _Unread(LRUCache[str, Any]):  # type: ignore[misc]
    """Messages by session. A session goes with its oldest ones, unless it waits for an answer."""

    def __init__(self, queue: _AnswerQueue) -> None:
        super().__init__(sys.maxsize)
        self._queue = queue

    def __setitem__(self, session: str, messages: Any) -> None:
        super().__setitem__(session, messages)
        if len(self) > MAX_UNREAD:
            busy = {event.session_hash for event in self._queue.event_ids_to_events.values()}
            oldest = next((other for other in self if other != session and other not in busy), None)
            if oldest is not None:
                del self[oldest]

    def __delitem__(self, session: str) -> None:
        super().__delitem__(session)
        self._queue.pending_event_ids_session.pop(session, None)
