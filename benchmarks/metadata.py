"""How many files a second does reading their texts take? Compares with Pillow opening the same files.

    python benchmarks/metadata.py [--files N] [--folder FOLDER]

Without a folder, N files (10,000) of eight kinds are made in a temporary folder: pictures of 512 x 512 pixels of noise
with and without text. Every figure is CPU time of one thread, because other programs may run on the machine; files are
read from the page cache. "open" is Image.open, which reads the header and some of the texts; "open and load" decodes
the pixels, as Pillow must to reach text behind them.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from image_search.metadata import read_image_text  # noqa: E402
from tests.fakes import images_with_text as pictures  # noqa: E402
from tests.metadata.test_comfyui import GRAPH  # noqa: E402


def make_files(folder: Path, count: int) -> None:
    noise = Image.effect_noise((512, 512), 60)
    colour = Image.merge("RGB", (noise, noise.rotate(90), noise.rotate(180)))
    png = pictures.save_image(colour)
    with_alpha = pictures.save_image(Image.merge("RGBA", (*colour.split(), noise)))
    exif = pictures.make_exif({0x0110: "Camera"}, {0x9286: pictures.make_user_comment(pictures.INFOTEXT)})
    graph = pictures.international_chunk("prompt", str(GRAPH).replace("'", '"'))
    kinds = {
        "infotext.png": pictures.make_png(pictures.text_chunk("parameters", pictures.INFOTEXT.encode()), base=png),
        "behind.png": pictures.make_png(
            pictures.packed_chunk("parameters", pictures.INFOTEXT), after_pixels=True, base=png
        ),
        "comfyui.png": pictures.make_png(graph, base=png),
        "plain.png": png,
        "alpha.png": with_alpha,
        "exif.jpg": pictures.save_image(colour, "JPEG", exif=exif),
        "plain.jpg": pictures.save_image(colour, "JPEG"),
        "exif.webp": pictures.save_image(colour, "WEBP", exif=exif),
    }
    for number in range(count):
        name = list(kinds)[number % len(kinds)]
        first = folder / f"{number % len(kinds):05} {name}"
        if number < len(kinds):
            first.write_bytes(kinds[name])
        else:
            (folder / f"{number:05} {name}").hardlink_to(first)  # gigabytes would measure the disk


def open_with_pillow(data: bytes) -> None:
    Image.open(io.BytesIO(data)).close()


def load_with_pillow(data: bytes) -> None:
    with Image.open(io.BytesIO(data)) as image:
        image.load()


def measure(paths: list[Path], read: Callable[[bytes], object]) -> float:
    """Files a second of CPU time."""
    began = time.process_time()
    for path in paths:
        try:
            read(path.read_bytes())
        except (OSError, ValueError, SyntaxError):
            continue
    return len(paths) / max(time.process_time() - began, 1e-9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        if not options.folder:
            make_files(Path(made), options.files)
        files = sorted(path for path in (options.folder or Path(made)).rglob("*") if path.is_file())
        read_image_text(files[0].read_bytes())
        print(f"{len(files)} files, {sum(path.stat().st_size for path in files) / len(files) / 1024:.0f} KiB each")
        rates = {
            "read_image_text": measure(files, read_image_text),
            "Pillow, open": measure(files, open_with_pillow),
            "Pillow, open and load": measure(files[:: max(1, len(files) // 1000)], load_with_pillow),
        }
        for name, rate in rates.items():
            print(f"{name:24}{rate:10.0f} files/s")
        suffixes = sorted({path.name.partition(" ")[2] or path.suffix for path in files})
        for suffix in suffixes:
            chosen = [path for path in files if path.name.endswith(suffix)]
            print(f"  {suffix:22}{measure(chosen, read_image_text):10.0f} files/s")


if __name__ == "__main__":
    main()
