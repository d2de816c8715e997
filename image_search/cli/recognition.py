"""The text in an image, line by line."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from image_search.images import open_detailed_image
from image_search.recognition import is_sure, open_recognizer
from image_search.settings import Settings


def print_text(settings: Settings, path: Path, as_json: bool) -> bool:
    """Print what stands in an image; as_json: every line with score and box, the doubtful ones, too.

    Returns whether there was any text. Raises UnreadableImage, RecognizerUnavailable.
    """
    image = open_detailed_image(path, settings.max_image_pixels)
    lines = open_recognizer().recognize(image)
    chosen = [line for line in lines if as_json or is_sure(line)]
    for line in chosen:
        print(json.dumps(asdict(line), ensure_ascii=False) if as_json else line.text)
    return bool(chosen)
