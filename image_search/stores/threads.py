"""Threads of a store: a lock for readers and writers, and a second core for a search that is alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
Part = TypeVar("Part")


class ReadWriteLock:
    """Readers come in together; a writer waits for those inside, and holds back those that come after it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._writers = 0  # inside or waiting
        self._writing = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._writers == 0)
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        with self._changed:
            self._writers += 1
            self._changed.wait_for(lambda: self._readers == 0 and not self._writing)
            self._writing = True
        try:
            yield
        finally:
            with self._changed:
                self._writers -= 1
                self._writing = False
                self._changed.notify_all()


class Cores:
    """Lets a second core take its share of a search while no other search is under way, in the whole program.

    When several people search, each search has one core, and none waits for another thread.
    """

    def __init__(self, prepare: Callable[[], object]) -> None:
        """prepare: called once in the thread of the second core."""
        self._has_two = (os.cpu_count() or 1) > 1
        self._second = ThreadPoolExecutor(1, "second core", prepare)
        self._searches = 0
        self._lock = threading.Lock()

    @contextmanager
    def searching(self) -> Iterator[None]:
        with self._lock:
            self._searches += 1
        try:
            yield
        finally:
            with self._lock:
                self._searches -= 1

    def share(self, work: Callable[[Part], T], parts: tuple[Part, ...]) -> list[T]:
        """The work for each of one or two parts."""
        if len(parts) < 2 or self._searches > 1 or not self._has_two:
            return [work(part) for part in parts]
        second = self._second.submit(work, parts[1])
        try:
            first = work(parts[0])
        finally:
            wait([second])  # the index may change when this search has ended
        return [first, second.result()]
