"""Text in drawn images is read right, whatever way it runs; bad input is read as no text or in bounded time."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from benchmarks._text_images import draw_screenshot, draw_sign, draw_vertical, find_fonts
from benchmarks.recognition import count_right
from image_search.recognition import TextLine, TextRecognizer, is_sure, join_lines, open_recognizer, paddle
from tests.fakes.absent import leave_out

pytestmark = pytest.mark.slow

Draw = Callable[..., Image.Image]


@pytest.fixture(scope="module")
def recognizer() -> TextRecognizer:
    return open_recognizer()


@pytest.fixture(scope="module")
def draw() -> Draw:
    """draw(lines, size): lines of black letters on white."""
    try:
        path, index = find_fonts("ja")[0]
    except (OSError, SystemExit):
        leave_out("A Japanese font is needed: apt-get install fonts-noto-cjk")

    def draw(*lines: str, size: int = 28, at: int = 30) -> Image.Image:
        font = ImageFont.truetype(path, size, index=index)
        width = max(round(font.getlength(line)) for line in lines)
        image = Image.new("RGB", (width + 2 * at, 2 * size * len(lines) + 2 * at), "white")
        for row, line in enumerate(lines):
            ImageDraw.Draw(image).text((at, at + row * 2 * size), line, "black", font)
        return image

    return draw


def read(recognizer: TextRecognizer, image: Image.Image) -> list[str]:
    return [line.text for line in recognizer.recognize(image)]


@pytest.mark.parametrize("size", [12, 20, 60])
def test_recognizer_reads_japanese_and_english(recognizer: TextRecognizer, draw: Draw, size: int) -> None:
    lines = ["立入禁止区域です", "ORA-00923: FROM keyword not found", "領収書580円"]
    assert read(recognizer, draw(*lines, size=size)) == lines


def test_recognizer_removes_spaces_between_japanese_characters_only(recognizer: TextRecognizer, draw: Draw) -> None:
    (line,) = read(recognizer, draw("立 入 禁 止", size=40))
    assert line == "立入禁止"
    (line,) = read(recognizer, draw("keep off the grass", size=40))
    assert line == "keep off the grass"


@pytest.mark.usefixtures("draw")
def test_recognizer_says_where_a_line_stands(recognizer: TextRecognizer) -> None:
    path, index = find_fonts("ja")[0]
    image = Image.new("RGB", (800, 400), "white")
    ImageDraw.Draw(image).text((400, 200), "駐車場", "black", ImageFont.truetype(path, 40, index=index))
    (line,) = recognizer.recognize(image)
    left, top, right, bottom = line.box
    assert left == pytest.approx(400 / 800, abs=0.02)
    assert right == pytest.approx(520 / 800, abs=0.02)
    assert top == pytest.approx(210 / 400, abs=0.04)
    assert bottom == pytest.approx(250 / 400, abs=0.05)
    assert is_sure(line)


@pytest.mark.parametrize("angle", [-12, 8, 90, 180, 270])
def test_recognizer_reads_turned_text_in_its_own_order(recognizer: TextRecognizer, draw: Draw, angle: int) -> None:
    lines = ["東京都千代田区丸の内", "The quick brown fox", "営業時間のご案内"]
    image = draw(*lines).rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor="white")
    assert read(recognizer, image) == lines


@pytest.mark.usefixtures("draw")
def test_recognizer_reads_vertical_japanese_from_the_right(recognizer: TextRecognizer) -> None:
    drawn = draw_vertical(random.Random(3))
    right, there = count_right("".join(drawn.lines), join_lines(recognizer.recognize(drawn.image)))
    assert right >= 0.95 * there


@pytest.mark.usefixtures("draw")
def test_recognizer_reads_small_print_of_a_screenshot(recognizer: TextRecognizer) -> None:
    drawn = draw_screenshot(random.Random(1))
    right, there = count_right("".join(drawn.lines), join_lines(recognizer.recognize(drawn.image)))
    assert right >= 0.9 * there


@pytest.mark.usefixtures("draw")
def test_recognizer_finds_a_small_sign_in_a_large_photograph(recognizer: TextRecognizer) -> None:
    drawn = draw_sign(random.Random(2))
    assert drawn.lines[0] in join_lines(recognizer.recognize(drawn.image))


def test_recognizer_reads_columns_one_after_the_other(recognizer: TextRecognizer, draw: Draw) -> None:
    left = [
        "駐車場の出入口につき駐車ご遠慮ください",
        "携帯電話の使用はお控えください",
        "工事中につき迂回をお願いします",
    ]
    right = ["吾輩は猫である名前はまだ無い", "国境の長いトンネルを抜けると", "次の会議は来週の火曜日に行います"]
    image = draw(*[f"{one:　<22}{other}" for one, other in zip(left, right, strict=True)], size=22)
    assert read(recognizer, image) == left + right


@pytest.mark.parametrize("size", [(1, 1), (20000, 10), (10, 20000), (3, 700), (64, 64)])
def test_recognizer_finds_nothing_in_an_empty_image_of_any_shape(
    recognizer: TextRecognizer, size: tuple[int, int]
) -> None:
    assert recognizer.recognize(Image.new("RGB", size, (90, 120, 200))) == []


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_recognizer_takes_images_of_any_mode(recognizer: TextRecognizer, draw: Draw, mode: str) -> None:
    assert read(recognizer, draw("立入禁止").convert(mode)) == ["立入禁止"]


def test_recognizer_reads_one_letter_repeated(recognizer: TextRecognizer, draw: Draw) -> None:
    text = "".join(read(recognizer, draw("あ" * 60, size=32)))
    assert set(text) == {"あ"} and len(text) >= 50


def test_recognizer_reads_a_line_far_wider_than_its_input(recognizer: TextRecognizer, draw: Draw) -> None:
    text = "国境の長いトンネルを抜けると雪国であった夜の底が白くなった信号所に汽車が止まった"
    text += "向側の座席から娘が立って来て島村の前のガラス窓を落した"
    right, there = count_right(text, join_lines(recognizer.recognize(draw(text, size=40))))
    assert right >= 0.95 * there


def test_recognizer_survives_noise(recognizer: TextRecognizer) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    assert not any(is_sure(line) for line in recognizer.recognize(Image.fromarray(noise)))


def test_recognizer_bounds_the_number_of_lines(
    recognizer: TextRecognizer, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paddle, "MAX_BOXES", 20)
    image = draw(*["   ".join(["国会", "予算", "可決", "天気", "株価"])] * 12, size=20)
    assert 10 <= len(recognizer.recognize(image)) <= 20


def test_recognizer_answers_threads_as_it_answers_one(recognizer: TextRecognizer, draw: Draw) -> None:
    images = [draw(f"会議室{number}") for number in range(6)]
    with ThreadPoolExecutor(3) as pool:
        texts = list(pool.map(lambda image: read(recognizer, image), images))
    assert texts == [[f"会議室{number}"] for number in range(6)]


def test_recognizer_keeps_doubtful_lines_but_does_not_show_them(recognizer: TextRecognizer, draw: Draw) -> None:
    small = draw("駐車場の出入口につき", size=28)
    blurred = small.resize((small.width // 5, small.height // 5)).resize(small.size)
    lines = recognizer.recognize(blurred)
    assert all(0 <= line.score <= 1 for line in lines)
    assert join_lines(lines, only_sure=True) == "\n".join(line.text for line in lines if is_sure(line))


def test_recognizer_orders_rows_from_the_top(recognizer: TextRecognizer, draw: Draw) -> None:
    lines = recognizer.recognize(draw("一行目です", "二行目です", "三行目です"))
    assert all(above.box[1] < below.box[1] for above, below in pairwise(lines))


def test_recognizer_reads_a_photograph_saved_with_loss(recognizer: TextRecognizer, draw: Draw) -> None:
    file = io.BytesIO()
    draw("頭上注意", "足元にご注意ください").save(file, "JPEG", quality=40)
    assert read(recognizer, Image.open(file)) == ["頭上注意", "足元にご注意ください"]


def make_line(text: str, score: float, width: float, height: float) -> TextLine:
    return TextLine(text, score, (0.0, 0.0, width, height))


@pytest.mark.parametrize(
    ("line", "sure"),
    [
        (make_line("立入禁止", 0.7, 0.5, 0.5), True),
        (make_line("立入禁止", 0.4, 0.1, 0.1), False),
        (make_line("日", 0.9, 0.5, 0.5), False),
        (make_line("日", 0.9, 0.1, 0.1), False),
        (make_line("日", 0.97, 0.1, 0.1), True),
        (make_line("止", 0.99, 0.5, 0.5), False),
        (make_line("出口", 0.8, 0.1, 0.1), False),
        (make_line("出口", 0.9, 0.1, 0.1), True),
        (make_line("出口", 0.97, 0.5, 0.5), True),
        (make_line("止まれ", 0.9, 0.5, 0.5), False),
        (make_line("止まれ", 0.97, 0.5, 0.5), True),
        (make_line("580", 0.7, 0.1, 0.1), True),
    ],
)
def test_line_of_few_letters_must_be_surer_and_one_over_much_of_an_image_even_more(line: TextLine, sure: bool) -> None:
    assert is_sure(line) is sure
