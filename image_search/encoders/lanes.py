"""Parts of a batch side by side on the cores of a CPU, each computed by a thread of its own.

PyTorch alone lets all cores work on one layer and wait for the slowest before the next, hundreds of times a batch. When
anything else needs a core for a moment (files being read, another program) they all wait for it; lanes wait once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

_MOST_LANES = 4  # every lane holds intermediate results of its own in memory


class Lanes:
    """As many as the threads PyTorch would use, up to four; these threads are shared out among them."""

    def __init__(self, threads: int) -> None:
        self.count = min(threads, _MOST_LANES)
        self._threads_each = threads // self.count
        self._arrived = threading.Barrier(self.count)
        self._workers = ThreadPoolExecutor(self.count, thread_name_prefix="embed")
        list(self._workers.map(lambda _: self._enter(), range(self.count)))
        # What a thread sets for itself becomes the default of threads that are still to come.
        torch.set_num_threads(threads)

    def compute(self, embed: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
        """embed for the whole batch, part by part. Several threads may call it at once; their parts take turns."""
        return torch.cat(list(self._workers.map(embed, batch.tensor_split(min(self.count, len(batch))))))

    def _enter(self) -> None:
        torch.get_num_threads()  # a thread takes the default when it first looks, even over what was set before
        torch.set_num_threads(self._threads_each)
        self._arrived.wait()  # so that every lane does this once
