"""Bounds on what is kept for opened pages and for answers that no client reads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.routing import Mount

from image_search.api import LibraryService
from image_search.api.gradio_endpoints import add_endpoints
from image_search.library import Warmup
from image_search.search import Searcher
from image_search.ui import page
from image_search.web.app import build_app
from tests.fakes.api_library import READER, open_client, open_colours

pytestmark = pytest.mark.slow


class Program:
    """The page and its calls, and what Gradio keeps of them."""

    def __init__(self, searcher: Searcher) -> None:
        library = LibraryService(searcher, READER, ())
        app = build_app(searcher, Warmup(searcher), READER, (), lambda: add_endpoints(library))
        assert isinstance(app.routes[-1], Mount)
        self.kept: Any = app.routes[-1].app
        self.queue = self.kept.get_blocks()._queue
        self.client: TestClient = open_client(app)

    def open_page(self, session: str) -> None:
        """Gradio keeps a state for a page that has asked for something."""
        [event] = [item for item in self.kept.get_blocks().config["dependencies"] if item["api_name"] == "status"]
        body = {"fn_index": event["id"], "data": [], "session_hash": session}
        assert self.client.post("/gradio_api/run/predict", json=body).status_code == 200

    def call(self, name: str, *data: object) -> str:
        answer = self.client.post(f"/gradio_api/call/{name}", json={"data": data})
        assert answer.status_code == 200
        return str(answer.json()["event_id"])

    def read(self, name: str, event: str) -> str:
        return self.client.get(f"/gradio_api/call/{name}/{event}").text

    def wait(self) -> None:
        while self.queue.event_ids_to_events or len(self.queue):
            time.sleep(0.01)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    with open_colours(tmp_path, 3) as searcher:
        program = Program(searcher)
        with program.client:
            yield program


def test_pages_used_last_are_kept(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program.kept.state_holder, "capacity", 3)
    for number in (0, 1, 2, 0, 3):
        program.open_page(f"page{number}")
    assert list(program.kept.state_holder.session_data) == ["page2", "page0", "page3"]
    assert len(program.kept.state_holder.time_last_used) == 3


def test_kept_page_holds_no_settings_of_its_components(program: Program) -> None:
    program.open_page("page")
    assert program.kept.state_holder["page"].config_values == {}


def test_unread_answers_go_oldest_first(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MAX_UNREAD", 5)
    events = []
    for _ in range(12):
        events.append(program.call("status"))
        program.wait()
    assert len(program.queue.pending_messages_per_session) == 5
    assert set(program.queue.pending_event_ids_session) == set(events[-5:])
    assert "event: complete" in program.read("status", events[-5])


def test_call_of_a_program_takes_no_place_of_a_page(program: Program) -> None:
    program.open_page("page")
    event = program.call("search", "red", None, "", 0, 1, 16, None)
    program.wait()
    assert list(program.kept.state_holder.session_data) == ["page"]
    assert "red.png" in program.read("search", event)


def test_answer_that_is_waited_for_is_kept_whatever_else_is_asked(program: Program) -> None:
    unread = program.queue.pending_messages_per_session
    program.queue.event_ids_to_events["event"] = type("Event", (), {"session_hash": "waiting"})()
    for number in range(page.MAX_UNREAD + 5):
        unread["waiting" if number == 0 else f"session{number}"] = object()
    del program.queue.event_ids_to_events["event"]
    assert "waiting" in unread
    assert len(unread) == page.MAX_UNREAD


@pytest.mark.slow
def test_hundreds_of_pages_and_calls_leave_a_bounded_number_of_things(program: Program) -> None:
    for number in range(page.MAX_PAGES + 20):
        program.open_page(f"page{number}")
    for _ in range(page.MAX_UNREAD + 50):
        program.call("status")
        program.wait()
    assert page.MAX_PAGES - 5 <= len(program.kept.state_holder.session_data) <= page.MAX_PAGES
    assert len(program.queue.pending_messages_per_session) == page.MAX_UNREAD
    assert len(program.queue.pending_event_ids_session) == page.MAX_UNREAD
    assert len(program.queue.event_analytics) == 1
    assert not program.kept.iterators
