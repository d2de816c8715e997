"""Draw the sample pictures of images/ as samples.tsv lists them: python -m demo.samples [FOLDER]"""

import argparse
import csv
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from demo import sample_metadata as metadata
from demo.captions import Mention, write_caption
from demo.glyphs import FontMissing
from demo.scenes import Scene, compose_scene, draw_scene
from demo.text_samples import TEXT_SAMPLES, write_text_sample

TABLE = Path(__file__).with_name("samples.tsv")
LONGER_SIDE = {".jpg": 640, ".webp": 640, ".png": 512}
ORIENTATIONS = (1, 6, 8, 3)


@dataclass(frozen=True)
class Sample:
    """One row of the table: a file, what it shows, and what is written into it (`extra`)."""

    file_name: str
    concepts: tuple[str, ...]
    place: str
    time: str
    weather: str
    aspect: tuple[int, int]
    extra: str
    seed: int


def list_samples() -> Iterator[Sample]:
    with TABLE.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            width, height = map(int, row["aspect"].split(":"))
            yield Sample(
                row["file_name"],
                tuple(row["concepts"].split()),
                row["place"],
                row["time"],
                row["weather"],
                (width, height),
                row["extra"],
                int(row["seed"]),
            )


def compose_sample(sample: Sample) -> Scene:
    return compose_scene(
        random.Random(sample.seed),
        sample.concepts[0],
        others=sample.concepts[1:],
        place=sample.place,
        time=sample.time,
        weather=sample.weather,
        aspect=sample.aspect,
    )


def write_sample(sample: Sample, folder: Path) -> None:
    """Draw one sample and save it in the format of its name, with its metadata."""
    scene, rng = compose_sample(sample), random.Random(f"file {sample.seed}")
    target = folder / sample.file_name
    longer = LONGER_SIDE[target.suffix]
    size = (longer * scene.aspect[0] // max(scene.aspect), longer * scene.aspect[1] // max(scene.aspect))
    fine = draw_scene(scene, (size[0] * 2, size[1] * 2))
    picture = fine.resize(size, Image.Resampling.LANCZOS)
    weather = "" if scene.weather == "clear" else scene.weather
    mention = Mention(scene.concepts, scene.count, scene.place, scene.time, weather)
    caption = write_caption(rng, mention, rng.choice(("ja", "en")) if sample.extra == "caption" else "en")
    if target.suffix == ".png":
        save_png(picture, target, sample, caption)
    elif target.suffix == ".webp":
        picture.save(target, quality=82, method=6, xmp=metadata.make_xmp(caption) if sample.extra == "caption" else b"")
    else:
        save_jpeg(picture, target, sample, caption, rng)


def save_png(picture: Image.Image, target: Path, sample: Sample, caption: str) -> None:
    if sample.extra == "a1111":
        chunks = metadata.make_automatic1111_chunks(caption, sample.seed, picture.size)
    elif sample.extra == "comfyui":
        chunks = metadata.make_comfyui_chunks(caption, sample.seed, picture.size)
    else:
        chunks = PngInfo()
        chunks.add_itxt("Description", caption)
    picture.save(target, optimize=True, pnginfo=chunks)


def save_jpeg(picture: Image.Image, target: Path, sample: Sample, caption: str, rng: random.Random) -> None:
    exif = Image.Exif()
    if sample.extra == "exif":
        orientation = rng.choice(ORIENTATIONS)
        exif = metadata.make_exif(rng, orientation)
        turn = metadata.TURNS[orientation]
        picture = picture.transpose(turn) if turn is not None else picture
    elif sample.extra == "caption":
        exif = metadata.make_described_exif(caption)
    picture.save(target, quality=84, optimize=True, exif=exif)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the sample pictures.")
    folder = Path(__file__).parent.parent / "images"
    parser.add_argument("folder", type=Path, nargs="?", default=folder, help="where the pictures go (images/)")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    samples = list(list_samples())
    try:
        for sample in samples:
            write_sample(sample, arguments.folder)
        for name in TEXT_SAMPLES:
            write_text_sample(name, arguments.folder)
    except FontMissing as error:
        sys.exit(str(error))
    names = [*(sample.file_name for sample in samples), *TEXT_SAMPLES]
    size = sum((arguments.folder / name).stat().st_size for name in names)
    print(f"{len(names)} pictures, {size / 1e6:.1f} MB, in {arguments.folder}")


if __name__ == "__main__":
    main()
