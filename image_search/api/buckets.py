"""Token buckets: so many at once, and so many a second after that; each key has a bucket of its own."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

_MOST_KEYS = 10_000  # the longest unused are forgotten, so that strangers cannot fill the memory


class Buckets:
    """Not for several threads: asked on the event loop only."""

    def __init__(self, size: float, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._per_second = per_second
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when

    def check(self, key: str) -> float:
        """Seconds until there is a token; 0 when there is one now."""
        return max(0.0, (1 - self._fill(key)) / self._per_second)

    def take(self, key: str) -> float:
        """Take a token if there is one. Seconds until there is one; 0 when one was taken."""
        wait = self.check(key)
        if not wait:
            self.spend(key)
        return wait

    def spend(self, key: str) -> None:
        """Take a token."""
        self._levels[key] = (self._fill(key) - 1, self._clock())
        self._levels.move_to_end(key)
        if len(self._levels) > _MOST_KEYS:
            self._levels.popitem(last=False)

    def _fill(self, key: str) -> float:
        now = self._clock()
        tokens, since = self._levels.get(key, (self._size, now))
        return min(self._size, tokens + (now - since) * self._per_second)
