"""Which characters stand in a line: crops from an image, batches of equal width, the best path through the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from image_search.recognition.detection import Box, Pixels, to_input
from image_search.recognition.models import Floats, Networks

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
