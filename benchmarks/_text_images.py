"""Images of known text for benchmarks/recognition.py, drawn by a seeded program with the fonts of this machine."""

from __future__ import annotations

import io
import random
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

PHOTOGRAPHS = Path(__file__).resolve().parent.parent / "images"

JAPANESE = [
    "ポイ捨て禁止", "立入禁止", "駐車場の出入口につき駐車ご遠慮ください", "領収書", "合計金額", "消費税等", "お預り",
    "お釣り", "毎度ありがとうございます", "東京都千代田区丸の内一丁目", "大阪府大阪市北区梅田", "電話番号",
    "営業時間のご案内", "定休日は毎週水曜日です", "本日のおすすめ", "季節の野菜カレー", "新しい画像を登録しました",
    "設定を保存できませんでした", "もう一度お試しください", "検索結果は見つかりませんでした", "ファイルを選択",
    "吾輩は猫である名前はまだ無い", "国境の長いトンネルを抜けると雪国であった", "春はあけぼの",
    "次の会議は来週の火曜日に行います", "資料の第三章をご覧ください", "売上は前年より増加した", "四半期の報告",
    "人工知能の研究", "データベースの構成", "安全第一", "頭上注意", "足元にご注意ください", "非常口", "お手洗い",
    "改札口", "この先行き止まり", "工事中につき迂回をお願いします", "携帯電話の使用はお控えください",
    "写真撮影はご自由にどうぞ", "桜まつり開催中", "温泉旅館",
]  # fmt: skip
ENGLISH = [
    "The quick brown fox jumps over the lazy dog",
    "ORA-00923: FROM keyword not found where expected", "No parking at any time",
    "Thank you for your visit", "Total amount due 24.80", "Please keep off the grass",
    "Connection refused by the server", "File not found: report.txt", "Opening hours 9:00 - 17:30",
    "Quarterly results and outlook", "Save changes before closing?", "All rights reserved 2024",
    "Emergency exit only", "Fresh coffee served daily", "Version 26.1.0 is available",
    "Meeting notes for Thursday", "Traceback (most recent call last)", "Platform 4 to Kings Cross",
    "Handle with care, fragile", "Subtotal 1,280 and tax 128",
    "Mind the gap between train and platform", "Unsubscribe from this list",
    "Chapter three: measurements", "Warning: high voltage",
]  # fmt: skip
SIGNS = ["ポイ捨て禁止", "立入禁止", "駐車場", "非常口", "頭上注意", "NO PARKING", "EXIT 24", "DANGER"]
EFFECTS = ("clean", "blur", "noise", "JPEG 60", "rotation", "light on dark", "busy background")


@dataclass(frozen=True)
class Drawn:
    """An image and the lines that stand in it, in reading order."""

    image: Image.Image
    lines: list[str]


@cache
def find_fonts(language: str) -> list[tuple[str, int]]:
    """Files and faces of fonts that have all letters of a language (ja or en). Raises SystemExit without any."""
    listed = subprocess.run(["fc-list", f":lang={language}", "file", "index", "family"], capture_output=True, text=True)
    fonts = []
    for line in sorted(listed.stdout.splitlines()):
        path, _, rest = line.partition(": ")
        wanted = "JP" in rest if "CJK" in rest else "Emoji" not in rest and "Math" not in rest
        if wanted and (language == "en" or "CJK" in rest or "JP" in rest or "Gothic" in rest or "Mincho" in rest):
            fonts.append((path, int(rest.rpartition("index=")[2] or 0) & 0xFFFF))
    if not fonts:
        raise SystemExit(f"No font for {language} is installed (Debian: apt install fonts-noto-cjk fonts-dejavu).")
    return fonts


def make_line(random: random.Random, language: str) -> str:
    """A line of text in ja, en, or mixed."""
    if language == "en":
        return random.choice(ENGLISH)
    words = random.sample(JAPANESE, 2)
    if language == "ja":
        return "".join(words) if len(words[0]) < 10 else words[0]
    number = random.choice(
        ["580円", "2024年5月3日", "No.12", "Ver 3.1", "03-1234-5678", "Wi-Fi", "(税込)", "A4", "USB", "50%"]
    )
    return f"{words[0]} {number}"


def draw_lines(random: random.Random, language: str, size: int, effect: str, count: int = 4) -> Drawn:
    """Lines of letters of a size in pixels, with one of EFFECTS."""
    path, index = random.choice(find_fonts("en" if language == "en" else "ja"))
    font = ImageFont.truetype(path, size, index=index)
    lines = [make_line(random, language) for _ in range(count)]
    pitch, margin = round(size * 1.8), size
    width = round(max(font.getlength(line) for line in lines)) + 2 * margin
    height = pitch * count + 2 * margin
    dark = effect == "light on dark"
    paper, ink = ((30, 34, 60), (235, 235, 220)) if dark else ((250, 250, 245), (20, 20, 30))
    image = Image.new("RGB", (width, height), paper)
    if effect == "busy background":
        photograph = load_photograph(random).resize((width, height))
        image = Image.blend(photograph, Image.new("RGB", photograph.size, "white"), 0.35)
    draw = ImageDraw.Draw(image)
    outline = {"stroke_width": max(1, size // 12), "stroke_fill": "white"} if effect == "busy background" else {}
    for row, line in enumerate(lines):
        draw.text((margin, margin + row * pitch), line, ink, font, **outline)
    return Drawn(_spoil(random, image, effect, size, paper), lines)


def _spoil(
    random: random.Random, image: Image.Image, effect: str, size: int, paper: tuple[int, int, int]
) -> Image.Image:
    if effect == "blur":
        return image.filter(ImageFilter.GaussianBlur(size / 20))
    if effect == "noise":
        noise = np.random.default_rng(random.randrange(2**32)).normal(0, 18, (image.height, image.width, 3))
        return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))
    if effect == "JPEG 60":
        file = io.BytesIO()
        image.save(file, "JPEG", quality=60)
        return Image.open(file).convert("RGB")
    if effect == "rotation":
        return image.rotate(random.uniform(-15, 15), Image.Resampling.BICUBIC, expand=True, fillcolor=paper)
    return image


def draw_screenshot(random: random.Random) -> Drawn:
    """1920 x 1080 pixels with a title and two dozen lines of 14 pixels."""
    image = Image.new("RGB", (1920, 1080), (245, 246, 248))
    draw = ImageDraw.Draw(image)
    font = ImageFont.truetype(*find_fonts("ja")[0][:1], 14, index=find_fonts("ja")[0][1])
    draw.rectangle((0, 0, 1920, 40), (40, 60, 110))
    draw.rectangle((300, 60, 1880, 1060), "white", (200, 200, 200))
    lines = [make_line(random, "mixed")]
    draw.text((20, 10), lines[0], "white", font)
    for row in range(24):
        line = "  ".join(make_line(random, random.choice(["ja", "en", "mixed"])) for _ in range(random.randint(1, 3)))
        draw.text((330, 80 + row * 38), line, (30, 30, 30), font)
        lines.append(line)
    return Drawn(image, lines)


def draw_page(random: random.Random) -> Drawn:
    """A scanned page of 1240 x 1754 pixels with 30 lines of 24 pixels."""
    path, index = find_fonts("ja")[0]
    font = ImageFont.truetype(path, 24, index=index)
    image = Image.new("RGB", (1240, 1754), "white")
    lines = [make_line(random, random.choice(["ja", "en", "mixed"])) for _ in range(30)]
    for row, line in enumerate(lines):
        ImageDraw.Draw(image).text((120, 100 + row * 52), line, "black", font)
    return Drawn(image, lines)


def draw_sign(random: random.Random, share: float = 0.02) -> Drawn:
    """A photograph of 12 megapixels with a sign whose letters are share of its longer side high."""
    image = load_photograph(random).resize((4000, 3000), Image.Resampling.BICUBIC)
    size = round(4000 * share)
    path, index = random.choice(find_fonts("ja"))
    font, text = ImageFont.truetype(path, size, index=index), random.choice(SIGNS)
    width = round(font.getlength(text))
    board = Image.new(
        "RGB", (width + size, 2 * size), random.choice(["white", (250, 220, 60), (30, 60, 140), (180, 30, 30)])
    )
    dark = sum(board.getpixel((0, 0))) < 380
    ImageDraw.Draw(board).text((size // 2, size // 4), text, "white" if dark else "black", font)
    image.paste(board, (random.randrange(0, 4000 - board.width), random.randrange(0, 3000 - board.height)))
    return Drawn(image.filter(ImageFilter.GaussianBlur(1.5)), [text])


def draw_vertical(random: random.Random, size: int = 30) -> Drawn:
    """Four columns of vertical Japanese, from the right."""
    path, index = random.choice(find_fonts("ja"))
    font = ImageFont.truetype(path, size, index=index)
    lines = [make_line(random, "ja")[:16] for _ in range(4)]
    image = Image.new("RGB", (size * 12, round(size * 18 * 1.1)), "white")
    for column, line in enumerate(lines):
        for row, letter in enumerate(line):
            place = (size * 10 - column * size * 2.5, size + row * size * 1.08)
            upright = letter not in "ー（）「」"
            if upright:
                ImageDraw.Draw(image).text(place, letter, "black", font)
            else:
                cell = Image.new("RGB", (size, round(size * 1.4)), "white")
                ImageDraw.Draw(cell).text((0, 0), letter, "black", font)
                turned = cell.crop((0, size // 4, size, size // 4 + size)).rotate(-90)
                image.paste(turned, (int(place[0]), int(place[1]) + size // 4))
    return Drawn(image, lines)


def load_photograph(random: random.Random) -> Image.Image:
    return Image.open(random.choice(list_photographs())).convert("RGB")


@cache
def list_photographs() -> list[Path]:
    return sorted(path for path in PHOTOGRAPHS.glob("*.jpg") if not path.name.startswith("IMG_71"))  # those have words
