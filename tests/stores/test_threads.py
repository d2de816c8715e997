"""Many readers or one writer; the second core helps a search that is alone, and no other."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from image_search.stores.threads import Cores, ReadWriteLock


def test_readers_are_inside_together():
    lock = ReadWriteLock()
    meeting = threading.Barrier(3, timeout=10)

    def read() -> None:
        with lock.reading():
            meeting.wait()

    with ThreadPoolExecutor(3) as pool:
        for result in [pool.submit(read) for _ in range(3)]:
            result.result()


def test_writer_is_alone():
    lock = ReadWriteLock()
    inside: list[str] = []
    seen: list[list[str]] = []

    def write() -> None:
        for _ in range(200):
            with lock.writing():
                inside.append("writer")
                seen.append(list(inside))
                inside.remove("writer")

    def read() -> None:
        for _ in range(200):
            with lock.reading():
                inside.append("reader")
                assert "writer" not in inside
                inside.remove("reader")

    with ThreadPoolExecutor(4) as pool:
        for result in [pool.submit(task) for task in (write, write, read, read)]:
            result.result()
    assert seen == [["writer"]] * 400


def test_waiting_writer_comes_before_later_readers():
    lock = ReadWriteLock()
    order: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        with lock.reading():

            def write() -> None:
                with lock.writing():
                    order.append("writer")

            def read() -> None:
                with lock.reading():
                    order.append("reader")

            writer = pool.submit(write)
            while lock._writers == 0:
                pass
            reader = pool.submit(read)
            assert order == []
        writer.result()
        reader.result()
    assert order == ["writer", "reader"]


def test_error_inside_lets_go():
    lock = ReadWriteLock()
    for ensure_locked in (lock.reading, lock.writing):
        try:
            with ensure_locked():
                raise ValueError
        except ValueError:
            pass
    with lock.writing():
        pass


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Cores:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    return Cores(lambda: None)


def name_thread(_: int) -> int:
    return threading.get_ident()


def test_search_that_is_alone_has_two_threads_and_one_of_several_has_one(cores: Cores) -> None:
    with cores.searching():
        first, second = cores.share(name_thread, (0, 1))
        assert first == threading.get_ident() != second
        with cores.searching():
            assert set(cores.share(name_thread, (0, 1))) == {threading.get_ident()}
        assert set(cores.share(name_thread, (0,))) == {threading.get_ident()}


def test_computer_with_one_core_shares_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert set(Cores(lambda: None).share(name_thread, (0, 1))) == {threading.get_ident()}


def test_search_that_fails_waits_for_its_other_half(cores: Cores) -> None:
    ended = []

    def work(part: int) -> None:
        if part == 0:
            raise MemoryError
        time.sleep(0.1)
        ended.append(part)

    with cores.searching(), pytest.raises(MemoryError):
        cores.share(work, (0, 1))
    assert ended == [1]
