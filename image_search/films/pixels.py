"""Decoded frames as upright RGB images in the colours of a screen, and as signatures."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from image_search.films.selection import Signature

if TYPE_CHECKING:
    import av

IMAGE_SIDE = 1280  # pixels of the longer side of an image at most

_SIGNATURE_SIDE = 64  # swscale shrinks by 256 times at most: enough for frames of 16,384 pixels
_HD_HEIGHT = 720  # from here on players take colours that are not labelled for BT.709, below for BT.601

# Codes of ITU-T H.273 for the transfer of light, the matrix and the range of values.
_PQ, _HLG = 16, 18
_UNSPECIFIED = 2
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}  # to numbers of swscale

_SDR_WHITE = 203.0  # candela per square metre of diffuse white in HDR (ITU-R BT.2408)
_PQ_PEAK = 10_000.0
_HLG_PEAK = 1_000.0
_KNEE = 0.8  # share of the screen's white from which highlights are compressed instead of clipped
# BT.2020 primaries to those of BT.709 and sRGB (ITU-R BT.2087).
_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], dtype=np.float32
)


class FrameConverter:
    """Turns decoded frames of one film into images and signatures; keeps swscale's tables from frame to frame."""

    def __init__(self, pixel_ratio: float) -> None:
        """pixel_ratio: width of a stored pixel divided by its height."""
        from av.video.reformatter import VideoReformatter

        self._pixel_ratio = pixel_ratio
        self._to_image, self._to_signature = VideoReformatter(), VideoReformatter()

    def measure(self, frame: av.VideoFrame) -> tuple[int, int]:
        """Width and height of a frame with square pixels, before it is turned."""
        return max(1, round(frame.width * self._pixel_ratio)), frame.height

    def make_signature(self, frame: av.VideoFrame) -> Signature:
        """Mean red, green and blue of 16 x 16 cells, of the frame as it is stored: int16 of shape (16, 16, 3)."""
        side = _SIGNATURE_SIDE
        pixels = self._to_signature.reformat(
            frame, side, side, "rgb24", interpolation="AREA", threads=1, **_describe_colours(frame)
        ).to_ndarray()
        cells: Signature = pixels.reshape(16, side // 16, 16, side // 16, 3).mean(axis=(1, 3)).astype(np.int16)
        return cells

    def make_image(self, frame: av.VideoFrame) -> Image.Image:
        """RGB of 1280 pixels at most, upright, with square pixels; HDR (PQ, HLG) brought to what a screen shows."""
        width, height = fit_size(*self.measure(frame))
        hdr = is_hdr(frame)
        pixels = self._to_image.reformat(
            frame,
            width,
            height,
            "rgb48le" if hdr else "rgb24",
            interpolation="AREA" if width < frame.width else "BICUBIC",
            threads=1,
            **_describe_colours(frame),
        ).to_ndarray()
        if hdr:
            pixels = _convert_hdr(pixels, frame.color_trc)
        image = Image.fromarray(pixels)
        # The display matrix says counterclockwise, as Pillow does.
        turns = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
        turn = turns.get(read_rotation(frame))
        return image.transpose(turn) if turn is not None else image


def read_rotation(frame: av.VideoFrame) -> int:
    """0, 90, 180 or 270 degrees counterclockwise by which the frame is turned to stand upright."""
    return round(frame.rotation / 90) % 4 * 90


def fit_size(width: int, height: int) -> tuple[int, int]:
    """The size, reduced so that the longer side has IMAGE_SIDE pixels at most."""
    factor = min(1.0, IMAGE_SIDE / max(width, height))
    return max(1, round(width * factor)), max(1, round(height * factor))


def is_hdr(frame: av.VideoFrame) -> bool:
    """Whether the frame's light is stored as PQ or HLG."""
    return frame.color_trc in (_PQ, _HLG)


def _describe_colours(frame: av.VideoFrame) -> dict[str, int]:
    matrix = _MATRICES.get(frame.colorspace)
    if matrix is None:
        matrix = 1 if frame.height >= _HD_HEIGHT else 5
    return {"src_colorspace": matrix}


def _convert_hdr(pixels: npt.NDArray[Any], transfer: int) -> npt.NDArray[np.uint8]:
    """uint16 in BT.2020 with PQ or HLG to uint8 in sRGB: linear light, other primaries, a knee, the curve of sRGB."""
    light = _list_light(transfer)[pixels >> 4] @ _TO_BT709.T
    over = np.maximum(light - _KNEE, 0)
    light = np.minimum(light, _KNEE) + (1 - _KNEE) * over / (over + (1 - _KNEE))
    shown: npt.NDArray[np.uint8] = _list_srgb()[(np.clip(light, 0, 1) * 4095).astype(np.uint16)]
    return shown


@cache
def _list_light(transfer: int) -> npt.NDArray[np.float32]:
    """Linear light for each of 4096 signal values; 1 is the white of a screen (ITU-R BT.2100)."""
    signal = np.linspace(0, 1, 4096)
    if transfer == _PQ:
        m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
        root = signal ** (1 / m2)
        nits = _PQ_PEAK * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    else:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
        nits = _HLG_PEAK * scene**1.2
    return (nits / _SDR_WHITE).astype(np.float32)


@cache
def _list_srgb() -> npt.NDArray[np.uint8]:
    light = np.linspace(0, 1, 4096)
    signal = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(signal * 255).astype(np.uint8)
