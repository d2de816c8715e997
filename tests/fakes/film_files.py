"""Films that tests write with PyAV: known scenes at known seconds."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

RATE = 8  # frames a second: enough for a test, and quick to encode
SIZE = (192, 108)
CODECS = {".webm": "libvpx", ".avi": "mpeg4"}


def make_scene(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """A sight of large patches of colour; another seed gives quite another one."""
    patches = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC)


def write_film(
    path: Path,
    scenes: Sequence[tuple[Image.Image, float]],
    *,
    codec: str | None = None,
    gop: int = RATE,
    rate: int = RATE,
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
    rotation: int = 0,
    dissolve: float = 0.0,
    times: Iterable[float] | None = None,
) -> Path:
    """Write scenes of so many seconds each. times: seconds of the frames, where they are not evenly spaced."""
    codec = codec or CODECS.get(path.suffix, "libx264")
    quick = {
        "libx264": {"preset": "ultrafast", "sc_threshold": "0"},
        "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    }
    frames = list(list_frames(scenes, rate, dissolve))
    stamps = iter(times) if times is not None else (place / rate for place in range(len(frames)))
    with av.open(str(path), "w", options=container_options or {}) as container:
        container.metadata.update(tags or {})
        stream: Any = container.add_stream(codec, rate=rate, options={**quick.get(codec, {}), **(options or {})})
        stream.width, stream.height = frames[0].size
        stream.pix_fmt, stream.gop_size = pixel_format, gop
        if rotation:
            stream.set_display_rotation(rotation)
        for image, seconds in zip(frames, stamps, strict=False):
            frame = av.VideoFrame.from_image(image)
            frame.pts, frame.time_base = round(seconds * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def list_frames(scenes: Sequence[tuple[Image.Image, float]], rate: int, dissolve: float = 0.0) -> Iterable[Image.Image]:
    """Every frame of the scenes; the first `dissolve` seconds of each blend in from the one before."""
    before: Image.Image | None = None
    for image, seconds in scenes:
        for place in range(round(seconds * rate)):
            share = (place + 1) / (dissolve * rate + 1) if dissolve else 1.0
            yield Image.blend(before, image, share) if before is not None and share < 1 else image
        before = image


def make_scenes(number: int, seconds: float, seed: int = 0) -> list[tuple[Image.Image, float]]:
    rng = random.Random(seed)
    return [(make_scene(rng.randrange(10**6)), seconds) for _ in range(number)]
