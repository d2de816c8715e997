"""Bounds on what Gradio keeps for pages and for calls of programs, so that memory does not grow with their number."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

import gradio as gr
from fastapi import FastAPI
from gradio.block_function import BlockFunction
from gradio.queueing import Event, Queue
from gradio.state_holder import SessionState, StateHolder
from gradio.utils import LRUCache
from starlette.routing import Mount

MOST_PAGES = 500  # whose state is kept, some 70 KiB each: the latest used
MOST_UNREAD = 200  # sessions whose answers wait to be read
MAX_QUEUE = 200  # uploads and calls of programs that wait; more are told that there are too many
_QUEUE_PAUSE = 0.02  # seconds between looks at an empty queue; Gradio looks a thousand times a second, all day


def bound_queue(page: gr.Blocks) -> None:
    """Give a page a queue that forgets unread answers. To be called before it is mounted."""
    page._queue = AnswerQueue(
        live_updates=True, concurrency_count=page.max_threads, update_intervals=1, max_size=MAX_QUEUE, blocks=page
    )


def bound_sessions(app: FastAPI, page: gr.Blocks) -> None:
    """Keep so many pages' states, and keep them small. app: what the page was mounted in just now."""
    mounted = app.routes[-1]
    assert isinstance(mounted, Mount)
    page.state_session_capacity = MOST_PAGES
    sessions = Sessions()
    sessions.set_blocks(page)
    mounted.app.state_holder = sessions  # type: ignore[attr-defined]


class Sessions(StateHolder):  # type: ignore[misc]
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
    """Without a copy of every component's settings, 150 KiB: only deep links ask for it, which are not served."""

    def __init__(self, blocks: gr.Blocks) -> None:
        super().__init__(blocks)
        self.config_values.clear()

    def __setitem__(self, key: int, value: Any) -> None:
        super().__setitem__(key, value)
        self.config_values.clear()

    def _update_config(self, key: int) -> None: ...

    def _update_value_in_config(self, key: int, value: Any) -> None: ...


class AnswerQueue(Queue):  # type: ignore[misc]
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

    def __init__(self, queue: AnswerQueue) -> None:
        super().__init__(sys.maxsize)
        self._queue = queue

    def __setitem__(self, session: str, messages: Any) -> None:
        super().__setitem__(session, messages)
        if len(self) > MOST_UNREAD:
            busy = {event.session_hash for event in self._queue.event_ids_to_events.values()}
            oldest = next((other for other in self if other != session and other not in busy), None)
            if oldest is not None:
                del self[oldest]

    def __delitem__(self, session: str) -> None:
        super().__delitem__(session)
        self._queue.pending_event_ids_session.pop(session, None)
