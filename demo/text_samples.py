"""Samples with words in them: signs, a screenshot, receipts, a slide. Their names say nothing of the words.

Drawn with DejaVu and Noto Sans CJK (apt-get install fonts-dejavu fonts-noto-cjk).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from demo.glyphs import FontMissing
from demo.places import draw_place

_FOLDERS = ("opentype/noto", "truetype/dejavu", "noto-cjk", "google-noto-cjk", "dejavu")
_JAPANESE, _JAPANESE_BOLD, _MONO = "NotoSansCJK-Regular.ttc", "NotoSansCJK-Bold.ttc", "DejaVuSansMono.ttf"
_INK = "#222222"


def _load_font(name: str, size: int) -> ImageFont.FreeTypeFont:
    for folder in _FOLDERS:
        path = Path("/usr/share/fonts") / folder / name
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    raise FontMissing(f"{name} was not found below /usr/share/fonts: apt-get install fonts-noto-cjk fonts-dejavu")


def _draw_centred(board: Image.Image, lines: Sequence[tuple[str, int]], color: str, top: int) -> None:
    draw = ImageDraw.Draw(board)
    for text, size in lines:
        draw.text((board.width / 2, top), text, color, _load_font(_JAPANESE_BOLD, size), anchor="mt")
        top += round(size * 1.35)


def _stand_in(place: str, board: Image.Image, seed: int, angle: float) -> Image.Image:
    """A board on a pole in a place, seen from a little aside."""
    image = draw_place(place, "day", "clear", seed, (640, 480)).filter(ImageFilter.GaussianBlur(1.2))
    ImageDraw.Draw(image).rectangle((312, 200, 326, 480), "#8a8d91")
    turned = board.convert("RGBA").rotate(angle, Image.Resampling.BICUBIC, expand=True)
    image.paste(turned, ((640 - turned.width) // 2, 60), turned)
    return image


def _draw_litter_sign() -> Image.Image:
    board = Image.new("RGB", (380, 220), "white")
    ImageDraw.Draw(board).rectangle((6, 6, 373, 213), outline="#c62828", width=8)
    _draw_centred(board, [("ポイ捨て禁止", 54), ("きれいな町にしましょう", 26), ("NO LITTERING", 34)], "#b71c1c", 34)
    return _stand_in("meadow", board, 7101, 4)


def _draw_parking_sign() -> Image.Image:
    board = Image.new("RGB", (300, 250), "#1a4fa0")
    _draw_centred(
        board, [("NO PARKING", 42), ("TOW-AWAY ZONE", 30), ("8:00 - 20:00", 36), ("駐車禁止", 40)], "white", 28
    )
    return _stand_in("city", board, 7102, -5)


def _draw_vertical_sign() -> Image.Image:
    board = Image.new("RGB", (120, 330), "#fdd835")
    draw, font = ImageDraw.Draw(board), _load_font(_JAPANESE_BOLD, 66)
    for place, letter in enumerate("立入禁止"):
        draw.text((60, 20 + place * 74), letter, _INK, font, anchor="mt")
    return _stand_in("mountain", board, 7103, 0)


def _draw_screenshot() -> Image.Image:
    image = Image.new("RGB", (900, 520), "#1e1f26")
    draw, font, title = ImageDraw.Draw(image), _load_font(_MONO, 18), _load_font(_JAPANESE, 17)
    draw.rectangle((0, 0, 900, 34), "#3b3d48")
    draw.text((16, 6), "端末 - sqlplus", "#e8e8ee", title)
    lines = [
        ("SQL> SELECT employee_id last_name, salary", "#d7dae5"),
        ("  2    employees WHERE department_id = 80;", "#d7dae5"),
        ("  employees WHERE department_id = 80", "#d7dae5"),
        ("  *", "#d7dae5"),
        ("ERROR at line 2:", "#ff8a80"),
        ("ORA-00923: FROM keyword not found where expected", "#ff8a80"),
        ("", ""),
        ("Help: https://docs.oracle.com/error-help/db/ora-00923/", "#8ab4f8"),
        ("SQL> _", "#d7dae5"),
    ]
    for row, (text, color) in enumerate(lines):
        if text:
            draw.text((20, 56 + row * 34), text, color, font)
    draw.text((20, 440), "接続先: FREEPDB1 ・ 文字コード: AL32UTF8", "#a9adba", title)
    return image


def _draw_receipt() -> Image.Image:
    paper = Image.new("RGB", (360, 520), "#fbfaf6")
    draw, plain = ImageDraw.Draw(paper), _load_font(_JAPANESE, 22)
    draw.text((180, 28), "領収書", _INK, _load_font(_JAPANESE_BOLD, 44), anchor="mt")
    draw.text((180, 96), "喫茶 みどり", _INK, plain, anchor="mt")
    draw.text((180, 130), "2024年5月1日 10:24", _INK, plain, anchor="mt")
    for row, (name, price) in enumerate([("ブレンドコーヒー", "380円"), ("トースト", "200円")]):
        draw.text((30, 190 + 40 * row), name, _INK, plain)
        draw.text((330, 190 + 40 * row), price, _INK, plain, anchor="ra")
    draw.line((30, 290, 330, 290), _INK, 2)
    bold = _load_font(_JAPANESE_BOLD, 32)
    draw.text((30, 306), "合計", _INK, bold)
    draw.text((330, 306), "580円", _INK, bold, anchor="ra")
    draw.text((30, 366), "お預り", _INK, plain)
    draw.text((330, 366), "1,000円", _INK, plain, anchor="ra")
    draw.text((30, 402), "お釣り", _INK, plain)
    draw.text((330, 402), "420円", _INK, plain, anchor="ra")
    draw.text((180, 462), "ありがとうございました", _INK, plain, anchor="mt")
    return _lay_on_table(paper, 3)


def _draw_english_receipt() -> Image.Image:
    paper = Image.new("RGB", (360, 460), "#fbfaf6")
    draw, plain = ImageDraw.Draw(paper), _load_font(_MONO, 19)
    draw.text((180, 30), "CORNER BOOKSHOP", _INK, _load_font(_JAPANESE_BOLD, 32), anchor="mt")
    for row, (name, price) in enumerate(
        [("Paperback", "12.50"), ("Postcards x3", "4.50"), ("Subtotal", "17.00"), ("Tax 8%", "1.36")]
    ):
        draw.text((28, 100 + 38 * row), name, _INK, plain)
        draw.text((332, 100 + 38 * row), price, _INK, plain, anchor="ra")
    bold = _load_font(_JAPANESE_BOLD, 30)
    draw.text((28, 270), "TOTAL", _INK, bold)
    draw.text((332, 270), "$18.36", _INK, bold, anchor="ra")
    draw.text((180, 350), "Invoice INV-2024-0815", _INK, plain, anchor="mt")
    draw.text((180, 396), "Thank you!", _INK, plain, anchor="mt")
    return _lay_on_table(paper, -4)


def _lay_on_table(paper: Image.Image, angle: float) -> Image.Image:
    noise = np.random.default_rng(7).normal(0, 3, (680, 560, 1))
    grain = np.linspace(-8, 8, 560)[None, :, None] + noise
    table = Image.fromarray((np.array([139, 100, 67]) + grain).clip(0, 255).astype(np.uint8))
    turned = paper.convert("RGBA").rotate(angle, Image.Resampling.BICUBIC, expand=True)
    table.paste(turned, ((560 - turned.width) // 2, (680 - turned.height) // 2), turned)
    return table


def _draw_slide() -> Image.Image:
    image = Image.new("RGB", (800, 450), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 800, 92), "#283593")
    draw.text((36, 22), "2024年度 売上報告", "white", _load_font(_JAPANESE_BOLD, 38))
    font = _load_font(_JAPANESE, 26)
    for row, text in enumerate(["・前年比 12% の増加", "・海外の比率は 38%", "・Next quarter: new warehouse in Osaka"]):
        draw.text((44, 124 + 50 * row), text, _INK, font)
    for place, height in enumerate((60, 84, 102, 128)):
        draw.rectangle((520 + 58 * place, 420 - height, 560 + 58 * place, 420), "#7986cb")
    draw.text((44, 404), "社外秘 Confidential", "#c62828", _load_font(_JAPANESE, 20))
    return image


TEXT_SAMPLES: dict[str, Callable[[], Image.Image]] = {
    "IMG_7101.jpg": _draw_litter_sign,
    "IMG_7102.jpg": _draw_parking_sign,
    "IMG_7103.jpg": _draw_vertical_sign,
    "IMG_7104.jpg": _draw_receipt,
    "IMG_7105.jpg": _draw_english_receipt,
    "screenshot-1.png": _draw_screenshot,
    "slide-1.png": _draw_slide,
}


def write_text_sample(name: str, folder: Path) -> None:
    """Draw one of TEXT_SAMPLES and save it in the format of its name. Raises FontMissing."""
    image = TEXT_SAMPLES[name]()
    if name.endswith(".png"):
        image.quantize(64, dither=Image.Dither.NONE).save(folder / name, optimize=True)
    else:
        image.save(folder / name, quality=80, optimize=True)
