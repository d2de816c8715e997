"""Without its packages, or with broken ones, the recogniser says so in one sentence, and all else works."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from image_search import recognition
from image_search.errors import RecognizerUnavailable
from image_search.recognition import open_recognizer
from image_search.settings import ROOT

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("module", "package"), [("rapidocr", "rapidocr"), ("openvino", "openvino"), ("cv2", "opencv-python-headless")]
)
def test_missing_package_is_named_with_how_to_get_it(
    module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RecognizerUnavailable, match=rf"needs {package}\. .*pip install -r requirements-ocr\.txt"):
        open_recognizer()


def test_package_without_its_models_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rapidocr").mkdir()
    (tmp_path / "rapidocr" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RecognizerUnavailable, match=r"rapidocr does not carry PP-OCRv6_det_small\.onnx"):
        open_recognizer()


def test_damaged_model_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"):
        (tmp_path / name).write_bytes(b"\0" * 1000)
    monkeypatch.setattr(recognition, "_find_models", lambda: tmp_path)
    with pytest.raises(RecognizerUnavailable, match="does not start") as raised:
        open_recognizer()
    assert "\n" not in str(raised.value)


def test_broken_opencv_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    program = "from image_search.recognition import open_recognizer; open_recognizer(1)"
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {program}"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert "RecognizerUnavailable: OpenCV cannot be loaded (libGL.so.1" in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize("module", ["image_search", "image_search.recognition"])
def test_importing_loads_no_package_for_recognition(module: str) -> None:
    program = f"import sys, {module}; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"cv2", "openvino", "rapidocr"} & set(loaded.stdout.split())


def test_opening_keeps_the_library_from_reporting_its_use() -> None:
    program = "import sys; from image_search.recognition import open_recognizer; open_recognizer(1); "
    program += "print(sys.modules['openvino_telemetry'])"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout == "None\n"


def test_threads_leave_a_core_and_are_never_none() -> None:
    assert recognition.choose_threads() >= 1
    assert recognition.choose_threads(leave_free=1000) == 1


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_run_goes_on_when_the_packages_cannot_be_installed(tmp_path: Path) -> None:
    for path in (ROOT / "Makefile", *ROOT.glob("requirements*.txt")):
        shutil.copy(path, tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\ncase "$*" in *-r\\ requirements-ocr.txt) exit 1;; esac\n')
    python.chmod(0o755)
    made = subprocess.run(["make", ".venv/.run-installed"], cwd=tmp_path, capture_output=True, text=True)
    assert made.returncode == 0
    assert "Text inside images will not be read. To try again: " in made.stderr
    assert (tmp_path / ".venv" / ".run-installed").exists()
