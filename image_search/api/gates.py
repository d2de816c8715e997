"""How many at once may use what is scarce, and how long the others wait before they are told to come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import anyio.to_thread

from image_search.errors import ImageSearchError

T = TypeVar("T")


class Busy(ImageSearchError):
    """More is asked than can be done just now. retry_after: seconds."""

    def __init__(self, message: str, retry_after: float = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Gate:
    """Lets some work run in threads at once; a bounded number waits, for a bounded time, on the event loop.

    Waiting holds no thread: whoever needs something else is served meanwhile.
    """

    def __init__(self, name: str, at_once: int, waiting: int, patience: float) -> None:
        """name: of what is scarce, for the sentence. patience: seconds one waits at most."""
        self._name = name
        self._places = asyncio.Semaphore(at_once)
        self._most_waiting = waiting
        self._patience = patience
        self.waiting = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Do the work in a thread. Raises Busy when there are too many before it."""
        if self._places.locked():
            await self._wait()
        else:
            await self._places.acquire()
        try:
            return await anyio.to_thread.run_sync(work)
        finally:
            self._places.release()

    async def _wait(self) -> None:
        refusal = Busy(f"The {self._name} is busy with other requests. Try again in a few seconds.")
        if self.waiting >= self._most_waiting:
            raise refusal
        self.waiting += 1
        try:
            async with asyncio.timeout(self._patience):
                await self._places.acquire()
        except TimeoutError:
            raise refusal from None
        finally:
            self.waiting -= 1
