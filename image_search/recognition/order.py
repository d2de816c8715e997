"""The order in which lines are read: rows from the top, columns from the left; vertical Japanese from the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from image_search.recognition.detection import Box
from image_search.recognition.models import Floats

T = TypeVar("T")


def sort_lines(lines: Sequence[tuple[Box, T]]) -> list[tuple[Box, T]]:
    """Lines in reading order. Those that run the same way stand together, the more frequent way first."""
    ways: dict[int, list[tuple[Box, T]]] = {}
    for line in lines:
        ways.setdefault(_find_way(line[0]), []).append(line)
    ordered = []
    for group in sorted(ways.values(), key=len, reverse=True):
        rectangles = _straighten([box for box, _ in group])
        ordered += [group[place] for place in _sort_block(rectangles, np.arange(len(group)))]
    return ordered


def _find_way(box: Box) -> int:
    """0 for a line that runs to the right, 1 down, 2 to the left, 3 up."""
    x, y = box.corners[1] - box.corners[0]
    return (0 if x > 0 else 2) if abs(x) >= abs(y) else (1 if y > 0 else 3)


def _straighten(boxes: Sequence[Box]) -> Floats:
    """Rectangles (left, top, right, bottom) of boxes that run about the same way, turned to run to the right."""
    longest = sorted(boxes, key=lambda box: box.width)[len(boxes) // 2 :]  # short ones have no clear direction
    directions = np.array([(box.corners[1] - box.corners[0]) / max(box.width, 1.0) for box in longest])
    x, y = np.median(directions, axis=0)
    corners = np.stack([box.corners for box in boxes]) @ np.array([[x, -y], [y, x]])
    return np.concatenate([corners.min(1), corners.max(1)], axis=1).astype(np.float32)


def _sort_block(rectangles: np.ndarray, places: np.ndarray) -> list[int]:
    """Places in reading order: a block is split where a gap runs through it, into columns or else into rows."""
    if len(places) < 2:
        return [int(place) for place in places]
    chosen = rectangles[places]
    columns = _split(chosen, 0)
    # Two columns of text are read one after the other; the cells of a table, row by row.
    if len(columns) > 1 and all(_is_column(chosen[column]) for column in columns):
        return [place for column in columns for place in _sort_block(rectangles, places[column])]
    rows = _split(chosen, 1)
    if len(rows) > 1:
        return [place for row in rows for place in _sort_block(rectangles, places[row])]
    return _sort_rows(chosen, places)


def _split(rectangles: np.ndarray, axis: int) -> list[np.ndarray]:
    """Positions of rectangles by the parts that gaps along an axis leave (0: columns, 1: rows)."""
    order = np.argsort(rectangles[:, axis], kind="stable")
    ends = np.maximum.accumulate(rectangles[order, axis + 2])
    # Boxes are a little larger than their text, so neighbours may overlap by a part of their height.
    slack = 0.25 * np.median(rectangles[:, 3] - rectangles[:, 1])
    gaps = np.flatnonzero(rectangles[order[1:], axis] > ends[:-1] - (slack if axis else 0)) + 1
    return np.split(order, gaps)


def _is_column(rectangles: np.ndarray) -> bool:
    heights = rectangles[:, 3] - rectangles[:, 1]
    return len(rectangles) >= 3 and float(np.median((rectangles[:, 2] - rectangles[:, 0]) / heights.clip(1))) >= 8


def _sort_rows(rectangles: np.ndarray, places: np.ndarray) -> list[int]:
    """From the top; lines whose middle lies beside the first of a row belong to it, from the left."""
    middles, heights = (rectangles[:, 1] + rectangles[:, 3]) / 2, rectangles[:, 3] - rectangles[:, 1]
    waiting, ordered = np.argsort(middles, kind="stable").tolist(), []
    while waiting:
        first = waiting[0]
        row = [line for line in waiting if abs(middles[line] - middles[first]) <= heights[first] / 2]
        ordered += sorted(row, key=lambda line: rectangles[line, 0])
        waiting = [line for line in waiting if line not in row]
    return [int(places[line]) for line in ordered]
