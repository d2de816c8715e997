"""PP-OCRv6: find lines, cut them out, read them in batches of equal width, and put them in the order of reading.

Lines that stand on their side or on their head are turned.
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
from PIL import Image

from image_search.recognition import FEW_LETTERS, NAME, SURE, VERSION, TextLine
from image_search.recognition.detection import Box, Pixels, find_lines, to_input
from image_search.recognition.models import Floats, Networks

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
                pixels[row, :, :, : part.shape[1]] = to_input(part)
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


_MOST_PIXELS = 9_000_000  # of an image; letters of larger ones are large enough at half the size
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
            boxes = find_lines(self._networks, pixels)
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
    factor = ceil(sqrt(image.width * image.height / _MOST_PIXELS))
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
