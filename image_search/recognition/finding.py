"""Find lines in two looks: a quick one at a small size, and a closer one where it saw something small.

A photograph without text costs the first look alone. The second covers only what the first has found, so that a small
sign in a large photograph is seen at full size, and a page of small print as large as its budget allows.
"""

from __future__ import annotations

import cv2
import numpy as np

from image_search.recognition.detection import MOST_BOXES, Box, Pixels, detect_lines
from image_search.recognition.models import Networks

_QUICK, _CLOSE = 320_000, 1_300_000  # pixels of a look
_SMALL, _WANTED = 26, 32  # pixels of a line's box: below, a closer look pays; at this size it is exact
_MOST_REGIONS = 6

Region = tuple[int, int, int, int]  # left, top, right, bottom


def find_lines(networks: Networks, pixels: Pixels) -> list[Box]:
    """Boxes around the lines of text in RGB pixels (height, width, 3), in no order."""
    boxes, scale = detect_lines(networks, pixels, 1.0, _QUICK)
    small = [box for box in boxes if box.thickness * scale < _SMALL]
    if not small or scale > 0.9:
        return boxes
    found = [box for box in boxes if box.thickness * scale >= _SMALL]
    thickness = float(np.percentile([box.thickness for box in small], 20))
    for left, top, right, bottom in _list_regions(small, pixels.shape[:2]):
        part = np.ascontiguousarray(pixels[top:bottom, left:right])
        closer, _ = detect_lines(networks, part, min(1.0, _WANTED / thickness), _CLOSE)
        moved = [box.move(left, top) for box in closer]
        found += [box for box in moved if not any(box.repeats(other) for other in found)]
    return found[:MOST_BOXES]


def _list_regions(boxes: list[Box], shape: tuple[int, ...]) -> list[Region]:
    """Rectangles around boxes and their neighbourhood that do not overlap."""
    height, width = shape
    regions = [_surround(box, width, height) for box in boxes]
    while True:
        merged = _merge(regions, max(width, height) / 512)
        if len(merged) == len(regions):
            break
        regions = merged
    if len(regions) > _MOST_REGIONS:
        return [_unite(regions)]
    return regions


def _surround(box: Box, width: int, height: int) -> Region:
    """A rectangle with room for what the first look may have missed beside a line."""
    room = 2 * box.thickness
    left, top = np.maximum(box.corners.min(0) - room, 0)
    right, bottom = np.minimum(box.corners.max(0) + room, (width, height))
    return int(left), int(top), int(np.ceil(right)), int(np.ceil(bottom))


def _merge(regions: list[Region], step: float) -> list[Region]:
    """Regions that overlap on a grid whose cells have step pixels, made one."""
    cells = [tuple(int(side / step) for side in region) for region in regions]
    grid = np.zeros((max(cell[3] for cell in cells) + 1, max(cell[2] for cell in cells) + 1), np.uint8)
    for left, top, right, bottom in cells:
        grid[top : bottom + 1, left : right + 1] = 1
    labels = cv2.connectedComponents(grid)[1]
    groups: dict[int, list[Region]] = {}
    for (left, top, _, _), region in zip(cells, regions, strict=True):
        groups.setdefault(int(labels[top, left]), []).append(region)
    return [_unite(group) for group in groups.values()]


def _unite(regions: list[Region]) -> Region:
    left, top, right, bottom = zip(*regions, strict=True)
    return min(left), min(top), max(right), max(bottom)
