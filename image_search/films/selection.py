"""Which frames of a film are kept: by change, sparing with their number, and never two of the same sight.

Works on signatures, small arrays that stand for frames; knows nothing of containers and decoders.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Signature = npt.NDArray[np.int16]  # (16, 16, 3), red, green and blue from 0 to 255

LONGEST_GAP_MS = 20_000  # a sight that does not change is kept again after so long
SHORTEST_LOOK_MS = 500  # frames are compared so far apart at least
KEYFRAME_GAP_MS = 2_000  # frames between keyframes are decoded where those lie further apart

# Measured on drawn scenes: a camera that moves by one cell changes 10 cells so, another thing in the same place 30.
_CELL_CHANGE = 12  # levels of 256 by which a cell lies outside of its surroundings, in the mean of the three colours
_CHANGED_CELLS = 20  # of 2 x 256, compared both ways
_BLANK = 2.0  # levels of standard deviation: black, or one even colour
_TRANSITION_MS = 1_000  # two looks so close may lie in the same dissolve
_LONGEST_TRANSITION_MS = 2_000  # then it is movement, not a dissolve
_UNKNOWN_SPARE = 0.25  # share of the frames that may be kept at once in a film of unknown length


@dataclass(frozen=True, slots=True)
class Look:
    """A frame that is looked at. source: whatever the caller needs to make the image of it."""

    frame_ms: int
    signature: Signature
    source: Any


class FrameSelector:
    """Takes looks in the order of time, and returns those to keep.

    A look is kept when it differs from the one kept last, or after 20 seconds; one in the middle of a dissolve gives
    way to the settled sight after it; an even colour (black between scenes) is kept only where a film has nothing
    else. A frame is kept for every 20 seconds of the film at least, while max_frames lasts. Half of the others may be
    used wherever the film changes, the other half is spread evenly over its length.

    max_frames:  the most that are kept.
    duration_ms: of the film; None if unknown.
    """

    def __init__(self, max_frames: int, duration_ms: int | None) -> None:
        self.kept = 0
        self.look_ms, self.keyframe_gap_ms = SHORTEST_LOOK_MS, KEYFRAME_GAP_MS
        self._max_frames = max_frames
        self._spare = max_frames * _UNKNOWN_SPARE
        if duration_ms:
            # A long film has no room for a frame every two seconds, so looking that often would be wasted.
            slot = duration_ms // max_frames
            self.look_ms = max(SHORTEST_LOOK_MS, slot // 16)
            self.keyframe_gap_ms = max(KEYFRAME_GAP_MS, slot // 2)
            self._spare = max(0.0, (max_frames - duration_ms / LONGEST_GAP_MS) / 2)
        self._last: Look | None = None
        self._held: Look | None = None
        self._held_since = 0
        self._blank: Look | None = None

    def offer(self, look: Look, progress: float) -> Iterator[Look]:
        """The looks to keep, none to two, now that this one is known. progress: share of the film read, 0 to 1."""
        held, self._held = self._held, None
        since = look.frame_ms
        if held is not None:
            moving = (
                is_changed(held.signature, look.signature)
                and look.frame_ms - held.frame_ms < _TRANSITION_MS
                and look.frame_ms - self._held_since < _LONGEST_TRANSITION_MS
            )
            if moving:
                since = self._held_since
            else:
                yield from self._keep(held, progress)
        if look.signature.std(axis=(0, 1)).max() < _BLANK:
            self._blank = self._blank or look
        elif self._last is None or is_changed(self._last.signature, look.signature):
            self._held, self._held_since = look, since
        elif look.frame_ms - self._last.frame_ms >= LONGEST_GAP_MS:
            yield from self._keep(look, progress)

    def finish(self) -> Iterator[Look]:
        """The looks to keep at the end of the film."""
        if self._held is not None:
            yield from self._keep(self._held, 1.0)
        if not self.kept and self._blank is not None:
            yield from self._keep(self._blank, 1.0)
        self._held = self._blank = None

    def _keep(self, look: Look, progress: float) -> Iterator[Look]:
        allowed = self._spare + (self._max_frames - self._spare) * min(1.0, progress)
        if self.kept < min(self._max_frames, max(1.0, allowed)):
            self.kept += 1
            self._last = Look(look.frame_ms, look.signature, None)
            yield look


def is_changed(before: Signature, after: Signature) -> bool:
    """Whether two signatures show different sights.

    A cell counts as changed when its colour lies outside of the colours of the same cell and its eight neighbours in
    the other signature: noise, compression and a small movement of the camera then change next to nothing.
    """
    return _count_changes(before, after) + _count_changes(after, before) >= _CHANGED_CELLS


def _count_changes(cells: Signature, others: Signature) -> int:
    below = _spread(np.minimum, others) - cells
    above = cells - _spread(np.maximum, others)
    outside = np.maximum(np.maximum(below, above), 0).mean(axis=2)
    return int((outside > _CELL_CHANGE).sum())


def _spread(choose: np.ufunc, cells: Signature) -> Signature:
    """For each cell the lowest or highest value among itself and its neighbours."""
    padded = np.pad(cells, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = choose(choose(padded[:-2], padded[1:-1]), padded[2:])
    spread: Signature = choose(choose(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
    return spread
