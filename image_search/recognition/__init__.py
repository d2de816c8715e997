"""Text inside images: signs, screenshots, receipts, slides.

TextRecognizer is the seam; open_recognizer returns the one there is, PP-OCRv6. The package rapidocr carries the files
of its two networks; OpenVINO runs them, three times as fast as onnxruntime finds lines of text, with the same result.
These packages (requirements-ocr.txt) are loaded by open_recognizer only; without them all else works, and
RecognizerUnavailable says how to get them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from image_search.errors import RecognizerUnavailable
from image_search.records import RecognizedText, TextLine

if TYPE_CHECKING:
    import openvino
    from PIL import Image

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

# The identity of the recogniser, without loading it. The version changes whenever an image may be read differently.
NAME, VERSION = "PP-OCRv6 small", "2"
RECOGNIZER = f"{NAME} {VERSION}"


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
    """The recogniser, loaded, computing with that many threads; 0 for all processor cores.

    Raises RecognizerUnavailable when its packages are missing or broken.
    """
    networks = Networks(threads or choose_threads())
    try:
        from image_search.recognition.paddle import PaddleRecognizer
    except ImportError as error:
        raise RecognizerUnavailable(f"OpenCV cannot be loaded ({error}). {_INSTALL_HINT}") from error
    return PaddleRecognizer(networks)


def check_packages() -> None:
    """Raises RecognizerUnavailable when a package is missing, and loads none."""
    _find_models()


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


# The two networks of PP-OCRv6: loaded once, on the CPU, with memory that does not grow.

Floats = npt.NDArray[np.float32]

_INSTALL_HINT = "Run: pip install -r requirements-ocr.txt"
_PACKAGES = {"rapidocr": "rapidocr", "openvino": "openvino", "cv2": "opencv-python-headless"}
_DETECTION, _RECOGNITION = "PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"


class Networks:
    """detect: pixels to the probability that each belongs to text. recognize: lines to characters.

    characters: what the outputs of the recognising network stand for; the first is the blank that separates letters.
    Every new shape of input takes time and memory that stays: callers use a small set of shapes.
    """

    def __init__(self, threads: int) -> None:
        """Raises RecognizerUnavailable when the packages are missing or broken."""
        folder = _find_models()
        try:
            core = _import_openvino().Core()
            detection = core.read_model(folder / _DETECTION)
            recognition = core.read_model(folder / _RECOGNITION)
            listed = recognition.get_rt_info(["framework", "character"]).astype(str)
            # Letters are told apart by small differences, so their network is not rounded to bfloat16, which is the
            # default where the processor has it. Finding lines survives that, and is then three times as fast.
            self._detection = _compile(core, detection, threads)
            self._recognition = _compile(core, recognition, threads, INFERENCE_PRECISION_HINT="f32")
        except Exception as error:  # a damaged file, a library that does not fit this processor, no memory
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise RecognizerUnavailable(f"The text recogniser does not start ({reason}). {_INSTALL_HINT}") from error
        self.characters = ["", *listed.splitlines(), " "]

    def detect(self, pixels: Floats) -> Floats:
        """(1, 3, height, width) from -1 to 1 to (height, width) from 0 to 1; the sides are multiples of 32."""
        probabilities: Floats = _run(self._detection, pixels)[0, 0]
        return probabilities

    def recognize(self, lines: Floats) -> Floats:
        """(lines, 3, 48, width) from -1 to 1 to (lines, width / 8, characters): probabilities that add up to 1."""
        return _run(self._recognition, lines)


def choose_threads(leave_free: int = 0) -> int:
    """All processor cores that this process may use but leave_free of them; at least 1."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    return max(1, cores - leave_free)


def _find_models() -> Path:
    """The folder of the networks' files. Raises RecognizerUnavailable when a package is missing."""
    missing = [package for name, package in _PACKAGES.items() if find_spec(name) is None]
    if missing:
        raise RecognizerUnavailable(f"Reading text in images needs {', '.join(missing)}. {_INSTALL_HINT}")
    spec = find_spec("rapidocr")
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "models"
        if (folder / _DETECTION).is_file() and (folder / _RECOGNITION).is_file():
            return folder
    raise RecognizerUnavailable(
        f"The installed rapidocr does not carry {_DETECTION} and {_RECOGNITION}. {_INSTALL_HINT}"
    )


def _import_openvino() -> Any:
    # OpenVINO reports its use over the network when this package of its own can be imported.
    sys.modules.setdefault("openvino_telemetry", cast(ModuleType, None))
    return import_module("openvino")


def _compile(core: openvino.Core, model: openvino.Model, threads: int, **options: str) -> openvino.InferRequest:
    # Pinned threads would share the first cores with other work, whatever the others do.
    common = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
    return core.compile_model(model, "CPU", {**common, **options}).create_infer_request()


def _run(request: openvino.InferRequest, pixels: Floats) -> Floats:
    request.infer({0: pixels}, share_inputs=True)
    output: Floats = request.get_output_tensor().data  # overwritten by the next run
    return output
