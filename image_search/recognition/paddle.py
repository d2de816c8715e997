"""PP-OCRv6: find lines, cut them out, read them in batches of equal width, and put them in the order of reading.

Lines are found by differentiable binarization (arXiv 1911.08947), in two looks: a quick one at a small size, and a
closer one where it saw something small. A photograph without text costs the first look alone. The second covers only
what the first has found, so that a small sign in a large photograph is seen at full size, and a page of small print as
large as its budget allows. Lines that stand on their side or on their head are turned.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from image_search.recognition import FEW_LETTERS, NAME, SURE, VERSION, Floats, Networks, TextLine

Pixels = npt.NDArray[np.uint8]

MAX_BOXES = 1000
_TEXT, _LINE = 0.3, 0.5  # probability from which a pixel, and the mean of a line, count as text
_GROWTH = 1.6  # the network marks the core of a line; this gives it back its height
_MIN_CORE = 3  # pixels of a core
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


def _detect_lines(networks: Networks, pixels: Pixels, scale: float, most_pixels: int) -> tuple[list[Box], float]:
    """Lines of text in RGB pixels (height, width, 3), the largest MAX_BOXES of them.

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
    """The pixels at a size and place on a canvas, their border repeated around: an edge would look like a stroke."""
    height, width = shape
    if shape != pixels.shape[:2]:
        smaller = width < pixels.shape[1]
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    bottom, right = canvas[0] - height - top, canvas[1] - width - left
    pixels = cv2.copyMakeBorder(pixels, top, bottom, left, right, cv2.BORDER_REPLICATE)
    return _to_input(pixels)[np.newaxis]


def _to_input(pixels: Pixels) -> Floats:
    """(height, width, 3) in RGB to (3, height, width) from -1 to 1 in the order the networks know: blue, green, red."""
    return np.ascontiguousarray(pixels[:, :, ::-1].transpose(2, 0, 1)) * np.float32(2 / 255) - np.float32(1)


def _find_boxes(probabilities: Floats) -> list[Box]:
    mask = (probabilities > _TEXT).astype(np.uint8)
    mask = cv2.dilate(mask, np.ones((2, 2), np.uint8))
    contours = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)[0]
    rectangles = [cv2.minAreaRect(contour) for contour in contours]
    rectangles = [rectangle for rectangle in rectangles if min(rectangle[1]) >= _MIN_CORE]
    rectangles.sort(key=lambda rectangle: rectangle[1][0] * rectangle[1][1], reverse=True)
    boxes = []
    for centre, (width, height), angle in rectangles[:MAX_BOXES]:
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
_MAX_REGIONS = 6

Region = tuple[int, int, int, int]  # left, top, right, bottom


def _find_lines(networks: Networks, pixels: Pixels) -> list[Box]:
    """Boxes around the lines of text in RGB pixels (height, width, 3), in no order."""
    boxes, scale = _detect_lines(networks, pixels, 1.0, _QUICK)
    small = [box for box in boxes if box.thickness * scale < _SMALL]
    if not small or scale > 0.9:
        return boxes
    found = [box for box in boxes if box.thickness * scale >= _SMALL]
    thickness = float(np.percentile([box.thickness for box in small], 20))
    for left, top, right, bottom in _list_regions(small, pixels.shape[:2]):
        part = np.ascontiguousarray(pixels[top:bottom, left:right])
        closer, _ = _detect_lines(networks, part, min(1.0, _WANTED / thickness), _CLOSE)
        moved = [box.move(left, top) for box in closer]
        found += [box for box in moved if not any(box.repeats(other) for other in found)]
    return found[:MAX_BOXES]


def _list_regions(boxes: list[Box], shape: tuple[int, ...]) -> list[Region]:
    """Rectangles around boxes and their neighbourhood that do not overlap."""
    height, width = shape
    regions = [_surround(box, width, height) for box in boxes]
    while True:
        merged = _merge(regions, max(width, height) / 512)
        if len(merged) == len(regions):
            break
        regions = merged
    if len(regions) > _MAX_REGIONS:
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
    """Sort from the top; lines whose middle lies beside the first of a row belong to it, from the left."""
    middles, heights = (rectangles[:, 1] + rectangles[:, 3]) / 2, rectangles[:, 3] - rectangles[:, 1]
    waiting, ordered = np.argsort(middles, kind="stable").tolist(), []
    while waiting:
        first = waiting[0]
        row = [line for line in waiting if abs(middles[line] - middles[first]) <= heights[first] / 2]
        ordered += sorted(row, key=lambda line: rectangles[line, 0])
        waiting = [line for line in waiting if line not in row]
    return [int(places[line]) for line in ordered]


HEIGHT = 48  # of the network's input
# Widths of inputs, and how many lines go into one: few shapes, little padding. The answer to 1920 pixels has 18 MB.
_BATCHES = {96: 20, 160: 12, 240: 8, 320: 6, 480: 4, 640: 3, 960: 2, 1280: 1, 1920: 1}
_WIDEST = max(_BATCHES)


@dataclass(frozen=True, slots=True)
class Reading:
    """The text read in a crop. score: mean probability of its characters, 0.0 without any."""

    text: str
    score: float

    @property
    def weight(self) -> float:
        """How many characters are probably right; larger for the better of two readings."""
        return self.score * len(self.text)


def crop_line(pixels: Pixels, box: Box) -> Pixels:
    """The part of an image in a box, upright, scaled to a line of HEIGHT pixels."""
    width, height = max(box.width, 1.0), max(box.height, 1.0)
    size = max(8, round(width * HEIGHT / height)), HEIGHT
    if height > 2 * HEIGHT:  # a crop that is much reduced would lose strokes between the pixels that are looked at
        size = round(width), round(height)
    corners = np.array([(0, 0), (size[0], 0), size, (0, size[1])], np.float32)
    transform = cv2.getPerspectiveTransform(box.corners, corners)
    crop = cv2.warpPerspective(pixels, transform, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return scale_line(crop)


def scale_line(crop: Pixels) -> Pixels:
    height, width = crop.shape[:2]
    if height == HEIGHT:
        return crop
    size = max(8, round(width * HEIGHT / height)), HEIGHT
    scaled: Pixels = cv2.resize(crop, size, interpolation=cv2.INTER_AREA if height > HEIGHT else cv2.INTER_CUBIC)
    return scaled


def read_lines(networks: Networks, crops: Sequence[Pixels]) -> list[Reading]:
    """The texts of lines of HEIGHT pixels, in their order; lines wider than the widest input are read in parts."""
    parts = [(place, part) for place, crop in enumerate(crops) for part in split_line(crop)]
    readings: list[list[Reading]] = [[] for _ in crops]
    texts: list[Reading | None] = [None] * len(parts)
    for chosen, pixels in _make_batches([part for _, part in parts]):
        for place, reading in zip(chosen, _decode(networks, networks.recognize(pixels)), strict=False):
            texts[place] = reading
    for (place, _), text in zip(parts, texts, strict=True):
        if text:
            readings[place].append(text)
    return [_join(line) for line in readings]


def split_line(crop: Pixels) -> list[Pixels]:
    """Parts no wider than the widest input, cut where the least is drawn."""
    widest, parts = _WIDEST, []
    while crop.shape[1] > widest:
        window = crop[:, widest // 2 : widest].astype(np.float32)
        drawn = window.std(axis=(0, 2))
        drawn = np.convolve(drawn, np.full(9, 1 / 9), "same")  # a gap between letters, not one within
        drawn[:5] = drawn[-5:] = np.inf
        cut = widest // 2 + len(drawn) - 1 - int(np.argmin(drawn[::-1]))
        parts.append(crop[:, :cut])
        crop = crop[:, cut:]
    return [*parts, crop]


def _make_batches(parts: Sequence[Pixels]) -> Iterator[tuple[list[int], Floats]]:
    """Places of parts and their pixels, by width."""
    by_width: dict[int, list[int]] = {}
    for place, part in enumerate(parts):
        width = next(width for width in _BATCHES if part.shape[1] <= width)
        by_width.setdefault(width, []).append(place)
    for width, places in sorted(by_width.items()):
        while places:
            # A batch is filled with empty lines rather than given another shape, and a few lines are read one by one.
            count = _BATCHES[width] if 2 * len(places) > _BATCHES[width] else 1
            chosen, places = places[:count], places[count:]
            pixels = np.zeros((count, 3, HEIGHT, width), np.float32)
            for row, place in enumerate(chosen):
                part = parts[place]
                pixels[row, :, :, : part.shape[1]] = _to_input(part)
            yield chosen, pixels


def _decode(networks: Networks, probabilities: Floats) -> Iterator[Reading]:
    """Best path of connectionist temporal classification: the likeliest at each place, repeats and blanks left out."""
    likeliest = probabilities.argmax(2)
    for line, best in zip(likeliest, np.take_along_axis(probabilities, likeliest[..., None], 2)[..., 0], strict=True):
        kept = line != 0
        kept[1:] &= line[1:] != line[:-1]
        text = "".join(networks.characters[index] for index in line[kept])
        yield Reading(text, float(best[kept].mean()) if text else 0.0)


def _join(parts: Sequence[Reading]) -> Reading:
    letters = sum(len(part.text) for part in parts)
    score = sum(part.weight for part in parts) / max(letters, 1)
    return Reading("".join(part.text for part in parts), score)


_MAX_PIXELS = 9_000_000  # of an image; letters of larger ones are large enough at half the size
_TALL = 1.5  # a box this many times as high as wide has a line that runs down
_DOUBTFUL = 0.8  # score below which a line may stand on its head
_JAPANESE = r"\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef"
_SPACES = re.compile(rf"(?<=[{_JAPANESE}])[ \u3000]+(?=[{_JAPANESE}])")


class PaddleRecognizer:
    """Reads Japanese, Chinese, English and 46 more languages in Latin letters; no Korean, no Thai."""

    name = NAME
    version = VERSION

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._lock = threading.Lock()  # a network computes one thing at a time

    def recognize(self, image: Image.Image) -> list[TextLine]:
        """The lines of an upright RGB image in reading order; see TextRecognizer."""
        pixels = _take_pixels(image)
        with self._lock:
            boxes = _find_lines(self._networks, pixels)
            read = self._read(pixels, boxes)
        return [_make_line(box, reading, pixels.shape) for box, reading in sort_lines(read)]

    def _read(self, pixels: Pixels, boxes: list[Box]) -> list[tuple[Box, Reading]]:
        # Vertical Japanese lies on its left side like other lines that run down: the network was trained with it.
        boxes = [box.turn(1) if box.height > _TALL * box.width else box for box in boxes]
        crops = [crop_line(pixels, box) for box in boxes]
        read = list(zip(boxes, read_lines(self._networks, crops), strict=True))
        waiting = [place for place, crop in enumerate(crops) if _is_doubtful(*read[place], crop)]
        tried: set[int] = set()
        while waiting:
            tried.update(waiting)
            heads = [np.ascontiguousarray(crops[place][::-1, ::-1]) for place in waiting]
            better = [
                (place, reading)
                for place, reading in zip(waiting, read_lines(self._networks, heads), strict=True)
                if reading.weight > read[place][1].weight and reading.score > SURE
            ]
            for place, reading in better:
                read[place] = boxes[place].turn(2), reading
            # Where one line stands on its head, others of the same image may.
            goes_on = any(len(reading.text) > FEW_LETTERS for _, reading in better)
            waiting = [place for place in range(len(crops)) if place not in tried] if goes_on else []
        return [(box, cleaned) for box, reading in read if (cleaned := _clean(reading)).text]


def _take_pixels(image: Image.Image) -> Pixels:
    factor = ceil(sqrt(image.width * image.height / _MAX_PIXELS))
    if factor > 1:
        image = image.reduce(factor)
    return np.asarray(image.convert("RGB"))


def _is_doubtful(box: Box, reading: Reading, crop: Pixels) -> bool:
    """Whether a line may stand on its head: it runs up or down, was read badly, or has few characters for its width."""
    runs_across = abs(box.corners[1, 0] - box.corners[0, 0]) > abs(box.corners[1, 1] - box.corners[0, 1])
    return not runs_across or reading.score < _DOUBTFUL or 2 * len(reading.text) < crop.shape[1] / HEIGHT


def _clean(reading: Reading) -> Reading:
    return Reading(" ".join(_SPACES.sub("", reading.text).split()), reading.score)


def _make_line(box: Box, reading: Reading, shape: tuple[int, ...]) -> TextLine:
    corners = (box.corners / (shape[1], shape[0])).clip(0, 1).round(4)
    (left, top), (right, bottom) = corners.min(0).tolist(), corners.max(0).tolist()
    return TextLine(reading.text, round(reading.score, 3), (left, top, right, bottom))
