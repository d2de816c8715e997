"""The glyphs of Noto Color Emoji as small transparent pictures."""

import os
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

STRIKE = 109  # the one size, in pixels, that the font's bitmaps exist in
FONT_FILES = (
    Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"),
    Path("/usr/share/fonts/google-noto-emoji/NotoColorEmoji.ttf"),
    Path("/usr/share/fonts/noto/NotoColorEmoji.ttf"),
)


class FontMissing(RuntimeError):
    """The emoji font is not on this machine."""


@cache
def _load_font() -> ImageFont.FreeTypeFont:
    named = os.environ.get("NOTO_COLOR_EMOJI")
    for path in (Path(named),) if named else FONT_FILES:
        if path.is_file():
            return ImageFont.truetype(str(path), STRIKE, layout_engine=ImageFont.Layout.BASIC)
    raise FontMissing(
        "Noto Color Emoji was not found: install it (Debian, Ubuntu: apt-get install fonts-noto-color-emoji) "
        "or name the file in NOTO_COLOR_EMOJI."
    )


def _print_glyph(character: str, paper: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    canvas = Image.new("RGB", (160, 160), paper)
    ImageDraw.Draw(canvas).text((8, 8), character, font=_load_font(), embedded_color=True)
    return np.asarray(canvas, dtype=np.float32)


@cache
def draw_glyph(character: str, longest: int = 0) -> Image.Image:
    """The glyph as RGBA, cut to what is painted; its longer side made `longest` pixels when that is not 0."""
    # Painted on nothing, half-clear edges come out too dark; black and white paper together tell colour from clearness.
    black, white = (_print_glyph(character, paper) for paper in ((0, 0, 0), (255, 255, 255)))
    alpha = 1 - (white - black).mean(axis=2, keepdims=True) / 255
    colour = black / np.maximum(alpha, 1 / 255)
    pixels = np.concatenate((colour, alpha * 255), axis=2).round().clip(0, 255).astype(np.uint8)
    glyph = Image.fromarray(pixels)
    glyph = glyph.crop(glyph.getchannel("A").getbbox())
    if longest:
        scale = longest / max(glyph.size)
        size = (max(1, round(glyph.width * scale)), max(1, round(glyph.height * scale)))
        glyph = glyph.resize(size, Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS)
    return glyph
