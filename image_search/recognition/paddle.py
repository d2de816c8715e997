"""PP-OCRv6: find lines, cut them out, read them, turn those that stand on their side or on their head."""

from __future__ import annotations

import re
import threading
from math import ceil, sqrt

import numpy as np
from PIL import Image

from image_search.recognition import FEW_LETTERS, NAME, SURE, VERSION, TextLine
from image_search.recognition.characters import HEIGHT, Reading, crop_line, read_lines
from image_search.recognition.detection import Box, Pixels
from image_search.recognition.finding import find_lines
from image_search.recognition.models import Networks
from image_search.recognition.order import sort_lines

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
