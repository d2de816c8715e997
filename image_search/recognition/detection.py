"""Where text stands in an image: boxes around lines, found by differentiable binarization (arXiv 1911.08947).

In two looks: a quick one at a small size, and a closer one where it saw something small. A photograph without text
costs the first look alone. The second covers only what the first has found, so that a small sign in a large photograph
is seen at full size, and a page of small print as large as its budget allows.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from image_search.recognition.models import Floats, Networks

Pixels = npt.NDArray[np.uint8]

MOST_BOXES = 1000
_TEXT, _LINE = 0.3, 0.5  # probability from which a pixel, and the mean of a line, count as text
_GROWTH = 1.6  # the network marks the core of a line; this gives it back its height
_SMALLEST = 3  # pixels of a core
_MARGIN = 16  # pixels around: text that touches the border is found, too
# Heights and widths of inputs: few shapes, and one that fits any proportion.
_SHAPES = (
    (320, 320),
    (192, 640),
    (224, 1280),
    (352, 832),
    (480, 640),
    (544, 544),
    (736, 1280),
    (960, 1280),
    (448, 1920),
)
_CANVASES = tuple(dict.fromkeys(canvas for shape in _SHAPES for canvas in (shape, shape[::-1])))


@dataclass(frozen=True, slots=True)
class Box:
    """A line of text: four corners (x, y) in pixels, clockwise from the upper left, and how sure the network is."""

    corners: Floats
    score: float

    @property
    def width(self) -> float:
        return float(np.linalg.norm(self.corners[1] - self.corners[0]))

    @property
    def height(self) -> float:
        return float(np.linalg.norm(self.corners[3] - self.corners[0]))

    @property
    def thickness(self) -> float:
        """The shorter of both: the height of the line, whichever way it runs."""
        return min(self.width, self.height)

    def move(self, x: float, y: float) -> Box:
        return Box(self.corners + np.array([x, y], np.float32), self.score)

    def turn(self, quarters: int) -> Box:
        """The same place for text whose lines start so many corners further, clockwise."""
        return Box(np.roll(self.corners, -quarters, 0), self.score)

    def repeats(self, other: Box) -> bool:
        """Whether this is part of another line, rather than a line of another height that lies within it."""
        inside = cv2.pointPolygonTest(other.corners, self.corners.mean(0).tolist(), False) >= 0
        return inside and self.thickness > 0.5 * other.thickness


def detect_lines(networks: Networks, pixels: Pixels, scale: float, most_pixels: int) -> tuple[list[Box], float]:
    """Lines of text in RGB pixels (height, width, 3), the largest MOST_BOXES of them.

    They are looked for at scale times the size of the image, less when that has more than most_pixels. Returns them and
    the scale that was used.
    """
    canvas, scale = choose_canvas(pixels.shape[:2], scale, most_pixels)
    height, width = pixels.shape[:2]
    shape = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = ((side - used) // 2 for side, used in zip(canvas, shape, strict=True))
    probabilities = networks.detect(_prepare(pixels, shape, canvas, top, left))
    boxes = _find_boxes(probabilities)
    zoom = np.array([width / shape[1], height / shape[0]], np.float32)
    limit = np.array([width, height], np.float32)
    moved = [Box(np.clip((box.corners - (left, top)) * zoom, 0, limit).astype(np.float32), box.score) for box in boxes]
    return [box for box in moved if box.thickness > 2], scale


def choose_canvas(shape: tuple[int, ...], scale: float, most_pixels: int) -> tuple[tuple[int, int], float]:
    """The smallest canvas on which an image fits at this scale; otherwise the one on which it fits the largest."""
    best, best_rank = (_CANVASES[0], 0.0), (0.0, 0)
    for canvas in _CANVASES:
        if (area := canvas[0] * canvas[1]) <= most_pixels:
            fitting = min(scale, *((room - 2 * _MARGIN) / side for room, side in zip(canvas, shape, strict=True)))
            if (fitting, -area) > best_rank:
                best, best_rank = (canvas, fitting), (fitting, -area)
    return best


def _prepare(pixels: Pixels, shape: tuple[int, int], canvas: tuple[int, int], top: int, left: int) -> Floats:
    """The pixels at a size and place on a canvas, with their border repeated around: an edge there would look drawn."""
    height, width = shape
    if shape != pixels.shape[:2]:
        smaller = width < pixels.shape[1]
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    bottom, right = canvas[0] - height - top, canvas[1] - width - left
    pixels = cv2.copyMakeBorder(pixels, top, bottom, left, right, cv2.BORDER_REPLICATE)
    return to_input(pixels)[np.newaxis]


def to_input(pixels: Pixels) -> Floats:
    """(height, width, 3) in RGB to (3, height, width) from -1 to 1 in the order the networks know: blue, green, red."""
    return np.ascontiguousarray(pixels[:, :, ::-1].transpose(2, 0, 1)) * np.float32(2 / 255) - np.float32(1)


def _find_boxes(probabilities: Floats) -> list[Box]:
    mask = (probabilities > _TEXT).astype(np.uint8)
    mask = cv2.dilate(mask, np.ones((2, 2), np.uint8))
    contours = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)[0]
    rectangles = [cv2.minAreaRect(contour) for contour in contours]
    rectangles = [rectangle for rectangle in rectangles if min(rectangle[1]) >= _SMALLEST]
    rectangles.sort(key=lambda rectangle: rectangle[1][0] * rectangle[1][1], reverse=True)
    boxes = []
    for centre, (width, height), angle in rectangles[:MOST_BOXES]:
        score = _measure_mean(probabilities, cv2.boxPoints((centre, (width, height), angle)))
        if score >= _LINE:
            grown = width * height * _GROWTH / (width + height)  # twice area x growth / circumference
            corners = cv2.boxPoints((centre, (width + grown, height + grown), angle))
            boxes.append(Box(_order_corners(np.asarray(corners, np.float32)), score))
    return boxes


def _measure_mean(probabilities: Floats, corners: Floats) -> float:
    """The mean probability within a rectangle."""
    rows, columns = probabilities.shape
    left, top = np.maximum(np.floor(corners.min(0)), 0).astype(int)
    right, bottom = np.minimum(np.ceil(corners.max(0)), (columns - 1, rows - 1)).astype(int)
    part = probabilities[top : bottom + 1, left : right + 1]
    inside = np.zeros(part.shape, np.uint8)
    cv2.fillPoly(inside, [(corners - (left, top)).astype(np.int32)], [1])
    return float(cv2.mean(part, inside)[0])


def _order_corners(corners: Floats) -> Floats:
    """Clockwise from the upper left one."""
    left, right = np.split(corners[np.argsort(corners[:, 0], kind="stable")], 2)
    (upper_left, lower_left), (upper_right, lower_right) = (pair[np.argsort(pair[:, 1])] for pair in (left, right))
    return np.stack([upper_left, upper_right, lower_right, lower_left])


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
