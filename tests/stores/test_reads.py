"""Many readers or one writer."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from image_search.stores.reads import ReadWriteLock


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
