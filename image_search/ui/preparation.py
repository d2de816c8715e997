"""What goes on behind the page: the model is loaded, the library completed, the list of tags embedded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from PIL import Image

from image_search.errors import ImageSearchError
from image_search.search import Searcher

ReportProgress = Callable[[int, int], None]  # done, count


@dataclass(frozen=True)
class Progress:
    """How far it is. error: the sentence of what went wrong in phase failed."""

    phase: Literal["loading", "registering", "ready", "model_failed", "registration_failed"] = "loading"
    done: int = 0
    count: int = 0
    error: str = ""

    @property
    def is_over(self) -> bool:
        return self.phase not in ("loading", "registering")


class Preparation:
    """Prepares in a thread of its own, so that the page is up before the model is."""

    def __init__(self, searcher: Searcher, complete: Callable[[ReportProgress], None] | None = None) -> None:
        """complete: registers or embeds what a library lacks to be searched; None leaves it as it is."""
        self.progress = Progress()
        self._searcher = searcher
        self._complete = complete
        self._thread = threading.Thread(target=self._prepare, name="preparation", daemon=True)

    @property
    def fills_library(self) -> bool:
        """Whether pictures are on their way into the library."""
        return self._complete is not None and not self.progress.is_over

    def start(self) -> None:
        self._thread.start()

    def wait(self, timeout: float | None = None) -> None:
        """Return when it is over, or after so many seconds."""
        self._thread.join(timeout)

    def _prepare(self) -> None:
        phase: Literal["model_failed", "registration_failed"] = "model_failed"
        try:
            # Any picture loads the model; the first person then does not wait for it.
            self._searcher.encoder.encode_images([Image.new("RGB", (64, 64))])
            phase = "registration_failed"
            if self._complete:
                self._complete(self._report)
            self.progress = replace(self.progress, phase="ready")
            with suppress(ImageSearchError):  # an image-only model has no tags
                self._searcher.tagger.prepare()
        except ImageSearchError as error:
            self.progress = Progress(phase, error=str(error))

    def _report(self, done: int, count: int) -> None:
        self.progress = Progress("registering", done, count)
