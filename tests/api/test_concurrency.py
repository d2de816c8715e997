"""Under load: a slow database, one that goes away and comes back, a busy encoder. Bounded, and no worker lost."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from image_search.api import ConcurrencyLimiter, Overloaded, TextGate
from image_search.errors import ModelUnavailable, StoreUnavailable
from image_search.search import Searcher
from image_search.web.middleware import RequestLogMiddleware
from tests.fakes.api_library import build_small, open_client, open_colours


@pytest.fixture
def searcher(tmp_path: Path) -> Iterator[Searcher]:
    with open_colours(tmp_path, 3) as searcher:
        yield searcher


class Stoppable:
    """Stands in for a store or an encoder: while stopped, every call of the named methods waits."""

    def __init__(self, inner: Any, *stopped: str) -> None:
        self._inner = inner
        self._stopped = stopped
        self.go_on = threading.Event()
        self.running = 0
        self.most_running = 0
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name not in self._stopped:
            return method

        def wait(*arguments: Any, **named: Any) -> Any:
            with self._lock:
                self.running += 1
                self.most_running = max(self.most_running, self.running)
            try:
                assert self.go_on.wait(60)
                return method(*arguments, **named)
            finally:
                with self._lock:
                    self.running -= 1

        return wait


async def wait_until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def open_async(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost", timeout=60)


# --- gates ------------------------------------------------------------------------------------------------------------


def test_gate_lets_so_many_in_and_refuses_who_would_wait_too_long() -> None:
    async def run() -> None:
        gate, go_on = ConcurrencyLimiter("model", at_once=2, waiting=3, max_wait=60), threading.Event()
        tasks = [asyncio.create_task(gate.run(go_on.wait)) for _ in range(5)]
        await wait_until(lambda: gate.waiting == 3)
        with pytest.raises(Overloaded, match="The model is busy"):
            await gate.run(go_on.wait)
        go_on.set()
        assert await asyncio.gather(*tasks) == [True] * 5
        assert gate.waiting == 0
        impatient = ConcurrencyLimiter("model", at_once=1, waiting=9, max_wait=0.01)
        go_on.clear()
        first = asyncio.create_task(impatient.run(go_on.wait))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await impatient.run(go_on.wait)
        go_on.set()
        assert await first
        assert await impatient.run(lambda: 7) == 7

    asyncio.run(run())


def test_gate_begins_the_next_work_while_the_event_loop_is_busy() -> None:
    async def run() -> None:
        gate, order = ConcurrencyLimiter("model", at_once=1, waiting=9, max_wait=60), list[int]()
        tasks = [asyncio.create_task(gate.run(lambda number=number: order.append(number))) for number in range(3)]
        await asyncio.sleep(0)
        deadline = time.monotonic() + 60
        while len(order) < 3 and time.monotonic() < deadline:
            time.sleep(0.001)  # without giving the loop a turn
        assert order == [0, 1, 2]
        await asyncio.gather(*tasks)

    asyncio.run(run())


def test_gate_stays_open_when_work_fails_or_is_given_up() -> None:
    async def run() -> None:
        gate = ConcurrencyLimiter("model", at_once=1, waiting=9, max_wait=60)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await gate.run(lambda: 1 // 0)
        go_on = threading.Event()
        first = asyncio.create_task(gate.run(go_on.wait))
        second = asyncio.create_task(gate.run(go_on.wait))
        await wait_until(lambda: gate.waiting == 1)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        go_on.set()
        assert await first
        assert await gate.run(lambda: 7) == 7

    asyncio.run(run())


def test_text_gate_embeds_what_gathered_while_others_were_busy_as_one_batch() -> None:
    async def run() -> None:
        batches: list[list[str]] = []
        gate = TextGate(lambda texts: batches.append(list(texts)), lambda: True, at_once=3, waiting=9, max_wait=60)
        await asyncio.gather(*(gate.run([f"word {n}"]) for n in range(5)))  # three are enough, two wait for a moment
        assert [len(batch) for batch in batches] == [3, 2]

    asyncio.run(run())


def test_text_gate_refuses_who_waits_too_long_for_a_batch_but_nobody_whose_batch_has_begun() -> None:
    async def run() -> None:
        go_on = threading.Event()
        gate = TextGate(lambda _: go_on.wait(), lambda: False, at_once=1, waiting=9, max_wait=0.01)
        first = asyncio.create_task(gate.run(["slow"]))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await gate.run(["impatient"])
        go_on.set()
        await first

    asyncio.run(run())


def test_text_gate_lets_a_text_that_fails_be_told_where_it_is_needed_and_a_missing_model_everywhere() -> None:
    def fail(_: object) -> None:
        raise errors.pop()

    async def run() -> None:
        gate = TextGate(fail, lambda: False, max_wait=60)
        await gate.run(["unreadable"])
        with pytest.raises(ModelUnavailable):
            await gate.run(["anything"])

    errors: list[Exception] = [ModelUnavailable("no model"), ValueError("unreadable")]
    asyncio.run(run())


# --- faces ------------------------------------------------------------------------------------------------------------


def test_busy_encoder_refuses_the_surplus_and_leaves_everything_else_quick(searcher: Searcher) -> None:
    encoder = Stoppable(searcher.encoder, "encode_texts")
    searcher.use(encoder)
    gate = TextGate(lambda texts: searcher.model.encode_texts(texts), lambda: False, at_once=2, waiting=4, max_wait=60)
    app = build_small(searcher, text_gate=gate)

    async def run() -> None:
        async with open_async(app) as client:
            asked = [asyncio.create_task(client.post("/api/search", json={"text": f"word {n}"})) for n in range(20)]
            await wait_until(lambda: sum(task.done() for task in asked) == 14 and encoder.running == 1)
            refused = [task.result() for task in asked if task.done()]
            assert {(answer.status_code, answer.json()["code"]) for answer in refused} == {(503, "busy")}
            assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
            # Requests that need no encoder are answered meanwhile.
            assert (await client.post("/api/search")).status_code == 200
            assert (await client.get("/api/images/1/preview")).status_code == 200
            encoder.go_on.set()
            answered = [answer for answer in await asyncio.gather(*asked) if answer.status_code == 200]
            assert len(answered) == 6
            assert encoder.most_running == 1
            assert (await client.post("/api/search", json={"text": "afterwards"})).status_code == 200

    asyncio.run(run())


def test_slow_database_is_asked_by_few_at_once_and_loses_no_worker(searcher: Searcher) -> None:
    store = Stoppable(searcher.store, "list_images", "read_preview")
    searcher.store = store  # type: ignore[assignment]
    app = build_small(searcher, store_gate=ConcurrencyLimiter("database", at_once=4, waiting=8, max_wait=60))

    async def run() -> None:
        async with open_async(app) as client:
            previews = [asyncio.create_task(client.get("/api/images/1/preview")) for _ in range(60)]
            await wait_until(lambda: store.running == store.concurrency)
            searches = [asyncio.create_task(client.post("/api/search")) for _ in range(50)]
            await wait_until(
                lambda: sum(task.done() for task in searches) == 38 and store.running == store.concurrency + 4
            )
            store.go_on.set()
            statuses = [answer.status_code for answer in await asyncio.gather(*searches)]
            assert (statuses.count(200), statuses.count(503)) == (12, 38)
            assert {answer.status_code for answer in await asyncio.gather(*previews)} == {200}
            assert store.running == 0
            again = await asyncio.gather(*(client.post("/api/search") for _ in range(12)))
            assert {answer.status_code for answer in again} == {200}

    asyncio.run(run())


def test_database_that_goes_away_and_comes_back_is_asked_again_by_itself(
    searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = open_client(build_small(searcher))
    asked = {"text": "red"}
    assert client.post("/api/search", json=asked).status_code == 200

    def refuse(*_: object, **__: object) -> None:
        raise StoreUnavailable("The database at localhost:1521 does not answer. Start it and search again.")

    with monkeypatch.context() as away:
        for name in ("search_embedding", "list_images", "get_image", "get_images", "count_images"):
            away.setattr(searcher.store, name, refuse)
        for _ in range(30):  # more than there are places: none is kept by a failure
            answer = client.post("/api/search", json=asked)
            assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert client.get("/api/images/1/preview").status_code == 503
    assert client.post("/api/search", json=asked).json()["hits"][0]["image"]["file_name"] == "red.png"
    assert client.get("/api/images/1/preview").status_code == 200


def test_request_that_breaks_off_is_no_error_in_the_log(searcher: Searcher, caplog: pytest.LogCaptureFixture) -> None:
    app = RequestLogMiddleware(build_small(searcher))
    for kind in (b"application/json", b"multipart/form-data; boundary=b"):
        headers = [(b"host", b"localhost"), (b"content-type", kind), (b"content-length", b"100")]
        scope = {"type": "http", "method": "POST", "path": "/api/search", "headers": headers, "query_string": b""}
        sent: list[Any] = []

        async def receive() -> dict[str, str]:
            return {"type": "http.disconnect"}

        async def send(message: Any, sent: list[Any] = sent) -> None:
            sent.append(message)

        asyncio.run(app(scope, receive, send))
        assert sent[0]["status"] == 400
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []
