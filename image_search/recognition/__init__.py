"""Text inside images: signs, screenshots, receipts, slides.

TextRecognizer is the seam; open_recognizer returns the one there is. Its packages (requirements-ocr.txt) are loaded by
open_recognizer only; without them all else works, and RecognizerUnavailable says how to get them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from image_search.errors import RecognizerUnavailable
from image_search.records import RecognizedText, TextLine

__all__ = [
    "RECOGNIZER",
    "TextLine",
    "TextRecognizer",
    "check_packages",
    "is_sure",
    "join_lines",
    "name_recognizer",
    "open_recognizer",
    "read_text",
]

# Of the recogniser there is, without loading it. The version changes whenever an image may be read differently.
NAME, VERSION = "PP-OCRv6 small", "2"
RECOGNIZER = f"{NAME} {VERSION}"

if TYPE_CHECKING:
    from PIL import Image

# Scores from which a line is shown; benchmarks/recognition.py counts false ones in images without text. A few letters
# over much of an image are most often a thing that looks like letters, a torii like 开, a window like 日; bubbles look
# like o and the wheels of a train like 00.
SURE, SURE_OF_TWO_LETTERS, SURE_OF_ONE, SURE_WHEN_LARGE = 0.6, 0.85, 0.95, 0.95
FEW_LETTERS, LARGE_PART = 3, 0.1


class TextRecognizer(Protocol):
    """Reads the text in images.

    version: changes whenever the same image may be read differently; images read by another version are read again.
    """

    name: str
    version: str

    def recognize(self, image: Image.Image) -> list[TextLine]:
        """The lines of an upright RGB image in reading order, [] when there is no text. Safe to call from threads."""
        ...


def open_recognizer(threads: int = 0) -> TextRecognizer:
    """The recogniser, loaded, computing with so many threads; 0 for all processor cores.

    Raises RecognizerUnavailable when its packages are missing or broken.
    """
    from image_search.recognition.models import INSTALL_HINT, Networks, choose_threads

    networks = Networks(threads or choose_threads())
    try:
        from image_search.recognition.paddle import PaddleRecognizer
    except ImportError as error:
        raise RecognizerUnavailable(f"OpenCV cannot be loaded ({error}). {INSTALL_HINT}") from error
    return PaddleRecognizer(networks)


def check_packages() -> None:
    """Raises RecognizerUnavailable when a package is missing, and loads none."""
    from image_search.recognition.models import find_models

    find_models()


def is_sure(line: TextLine) -> bool:
    """Whether to show a line. Others are kept for searches: a part of what they say is right."""
    left, top, right, bottom = line.box
    letters = len(line.text)
    if letters <= FEW_LETTERS and (right - left) * (bottom - top) > LARGE_PART:
        return letters > 1 and line.score >= SURE_WHEN_LARGE
    return line.score >= {1: SURE_OF_ONE, 2: SURE_OF_TWO_LETTERS}.get(letters, SURE)


def read_text(recognizer: TextRecognizer, image: Image.Image) -> RecognizedText:
    """The record a store keeps of the text in an image; lines below the threshold are searched and not shown."""
    lines = recognizer.recognize(image)
    return RecognizedText(name_recognizer(recognizer), join_lines(lines, only_sure=True), tuple(lines))


def name_recognizer(recognizer: TextRecognizer) -> str:
    """Name and version, as stores keep them."""
    return f"{recognizer.name} {recognizer.version}"


def join_lines(lines: Iterable[TextLine], only_sure: bool = False) -> str:
    """The text of lines, one a line: all of it for searches, what is sure for people."""
    return "\n".join(line.text for line in lines if not only_sure or is_sure(line))
