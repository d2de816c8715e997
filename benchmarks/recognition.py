"""How much of the text in images is read right, how fast, does memory stay where it is, and what does a search cost?

Draws its own images with the fonts of this machine: lines of 12 to 60 pixels in Japanese, English and both, clean and
spoilt; screenshots, pages, small signs in photographs of 12 megapixels, vertical and turned text. Right is the share of
characters: 1 - edit distance / length, without regard to spaces and to the width of letters (NFKC).

    python benchmarks/recognition.py [--quick] [--only accuracy speed memory keywords] [--threads 2]
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._text_images import (
    EFFECTS,
    Drawn,
    draw_lines,
    draw_page,
    draw_screenshot,
    draw_sign,
    draw_vertical,
    list_photographs,
)
from image_search.recognition import TextRecognizer, join_lines, open_recognizer
from image_search.records import ImageText, NewImage, RecognizedText, TextLine
from image_search.settings import Settings
from image_search.stores import open_store

SIZES = (12, 14, 16, 20, 24, 32, 44, 60)
LARGE_PHOTOGRAPH = (4000, 3000)


def count_right(expected: str, read: str) -> tuple[int, int]:
    """Characters read right, and characters there are."""
    expected, read = _plain(expected), _plain(read)
    return max(0, len(expected) - _edit_distance(expected, read)), len(expected)


def _plain(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split())


def _edit_distance(first: str, second: str) -> int:
    row = list(range(len(second) + 1))
    for i, letter in enumerate(first, 1):
        above, row[0] = row[0], i
        for j, other in enumerate(second, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (letter != other))
    return row[-1]


def measure_accuracy(recognizer: TextRecognizer, title: str, images: Iterable[Drawn]) -> None:
    right = total = number = 0
    for drawn in images:
        got, there = count_right("".join(drawn.lines), join_lines(recognizer.recognize(drawn.image)))
        right, total, number = right + got, total + there, number + 1
    print(f"{title:44} {number:6} {100 * right / total:8.1f}%", flush=True)


def measure_all_accuracy(recognizer: TextRecognizer, images: int) -> None:
    print(f"{'text':44} {'images':>6} {'right':>9}")
    each = max(2, images // 30)
    for language in ("ja", "en", "mixed"):
        for effect in EFFECTS:
            for name, sizes in (("12 to 16", SIZES[:3]), ("20 to 60", SIZES[3:])):
                if name == "20 to 60" or effect == "clean":
                    numbers = random.Random(f"{language} {effect} {name}")
                    drawn = (draw_lines(numbers, language, sizes[n % len(sizes)], effect) for n in range(each))
                    measure_accuracy(recognizer, f"{language}, {name} pixels, {effect}", drawn)
    few = max(2, images // 40)
    measure_accuracy(recognizer, "screenshots, 14 pixels", (draw_screenshot(random.Random(n)) for n in range(few)))
    measure_accuracy(recognizer, "pages, 24 pixels", (draw_page(random.Random(n)) for n in range(few)))
    measure_accuracy(recognizer, "vertical Japanese, 30 pixels", (draw_vertical(random.Random(n)) for n in range(few)))
    for angle in (90, 180, 270):
        drawn = (draw_lines(random.Random(n), ("ja", "en")[n % 2], 28, "clean") for n in range(few))
        turned = (Drawn(one.image.rotate(angle, expand=True), one.lines) for one in drawn)
        measure_accuracy(recognizer, f"turned by {angle} degrees, 28 pixels", turned)
    for share in (0.02, 0.01):
        found = 0
        for number in range(2 * few):
            drawn = draw_sign(random.Random(number), share)
            found += _plain(drawn.lines[0]) in _plain(join_lines(recognizer.recognize(drawn.image)))
        print(
            f"{f'signs in 12 megapixels, {100 * share:.0f} % of its side':44} {2 * few:6} {found:4} found", flush=True
        )
    shown = [join_lines(recognizer.recognize(image), only_sure=True) for image in _load_photographs(4 * few)]
    print(f"photographs: {sum(map(bool, shown))} of {len(shown)} show text: {[text for text in shown if text]}")


def _load_photographs(count: int) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in list_photographs()[:count]]


def measure_speed(recognizer: TextRecognizer, images: int) -> None:
    print(f"\n{'speed':44} {'images/s':>9} {'CPU s':>7}")
    number = max(3, images // 30)
    small = _load_photographs(number)
    large = [image.resize(LARGE_PHOTOGRAPH) for image in small]
    groups: list[tuple[str, list[Image.Image]]] = [
        ("photographs of 640 pixels", small),
        ("photographs of 12 megapixels", large),
        ("screenshots of 1920 x 1080, 25 lines", [draw_screenshot(random.Random(n)).image for n in range(number)]),
        ("pages of 1240 x 1754, 30 lines", [draw_page(random.Random(n)).image for n in range(number)]),
    ]
    for title, group in groups:
        recognizer.recognize(group[0])
        begin, used = time.perf_counter(), time.process_time()
        for image in group:
            recognizer.recognize(image)
        wall, used = time.perf_counter() - begin, time.process_time() - used
        print(f"{title:44} {len(group) / wall:9.2f} {used / len(group):7.2f}", flush=True)


def measure_memory(recognizer: TextRecognizer, images: int) -> None:
    """Resident memory while images of random shapes are read, a third of them with text, a sixth with small print."""
    print(f"\n{'memory':44} {'MiB':>9}")
    numbers = random.Random(0)
    photographs = _load_photographs(20)
    for number in range(images + 1):
        if number in (100, images // 4, images // 2, 3 * images // 4, images):
            print(f"{f'after {number} images of random shapes':44} {_measure_resident():9.0f}", flush=True)
        size = round(2 ** numbers.uniform(4, 11.5)), round(2 ** numbers.uniform(4, 11.5))
        image = numbers.choice(photographs).resize(size)
        if number % 6 == 1:  # looked at closely
            image = Image.new(
                "RGB", (round(2 ** numbers.uniform(9, 11.5)), round(2 ** numbers.uniform(9, 11.5))), "white"
            )
            image.paste(draw_screenshot(numbers).image, (0, 0))
        elif number % 3 == 0:
            text = draw_lines(numbers, "mixed", numbers.randint(12, 60), "clean", numbers.randint(1, 6)).image
            image.paste(text, (0, 0))
        recognizer.recognize(image)


def measure_keyword_search(_: TextRecognizer, images: int) -> None:
    """Milliseconds of a keyword search among images with a prompt, with and without 200 recognised characters each."""
    count = 1000 * images // 3
    numbers = random.Random(0)
    words, others = (
        ["".join(numbers.choices(letters, k=numbers.randint(2, 4))) for _ in range(3000)]
        for letters in (
            "山川海空夕焼雪原森猫犬鳥花桜車船駅街夜朝光影人",
            "国会予算料金円年月営業時間案内禁止注意出口受付領収書",
        )
    )
    asked = numbers.sample(words, 50)  # they find the same with and without the text
    print(f"\n{f'keyword search among {count:,} images':44} {'p50 ms':>9} {'p95 ms':>7} {'found':>7}")
    for title, length in (("without recognised text", 0), ("with 200 characters each", 200)):
        with TemporaryDirectory() as folder, open_store(Settings(database_url=f"sqlite:///{folder}/x.db")) as store:
            model = store.get_or_create_model("none", "1", 8)
            for start in range(0, count, 1000):
                new = [_make_image(number, numbers, words, others, length) for number in range(start, start + 1000)]
                store.add_images(model.model_id, new, np.tile(np.float32([1] + 7 * [0]), (1000, 1)))
            times, found = [], []
            for word in [*asked[:5], *asked * 4]:
                begin = time.perf_counter()
                found.append(store.list_images([word]).total)
                times.append(1000 * (time.perf_counter() - begin))
        times = sorted(times[5:])
        print(
            f"{title:44} {times[len(times) // 2]:9.1f} {times[len(times) * 19 // 20]:7.1f} {np.mean(found):7.0f}",
            flush=True,
        )


def _make_image(number: int, numbers: random.Random, words: list[str], others: list[str], length: int) -> NewImage:
    prompt = ImageText(generation_prompt=" ".join(numbers.choices(words, k=20)))
    text = " ".join(numbers.choices(others, k=length // 2))[:length]
    lines = tuple(TextLine(part, 1.0, (0, 0, 1, 0.1)) for part in text.split())
    return NewImage(
        f"{number:064x}", f"{number}.jpg", "image/jpeg", 640, 480, None, b"preview", text=prompt, size=1,
        file_path=f"/photographs/{number}.jpg",
        recognized=RecognizedText("a recogniser 1", text, lines) if length else None,
    )  # fmt: skip


def _measure_resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts: dict[str, Callable[[TextRecognizer, int], None]] = {
        "accuracy": measure_all_accuracy, "speed": measure_speed, "memory": measure_memory,
        "keywords": measure_keyword_search,
    }  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a tenth of the images")
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    recognizer = open_recognizer(given.threads)
    print(f"{recognizer.name}, version {recognizer.version}")
    for name in given.only:
        parts[name](recognizer, (2000 if name == "memory" else 300) // (10 if given.quick else 1))


if __name__ == "__main__":
    main()
