"""Small files that were read wrong once, with the value wanted and the value got: benchmarks/cases.py FOLDER

FOLDER holds subfolders by kind: dates, sidecars, meta, colour, nearly, refusals, formats. Exit code 1 when any differs.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from image_search.errors import UnreadableImage  # noqa: E402
from image_search.images import decode_image, make_preview, read_small_preview  # noqa: E402
from image_search.metadata import read_image_text  # noqa: E402
from image_search.metadata.sidecars import find_sidecars  # noqa: E402
from image_search.records import ImageText  # noqa: E402

Row = tuple[str, str, str]  # case, wanted, got

# Beginning of the name: the local time, to the precision that is known; "" for none.
DATES = {
    "01": "2024-12-31 23:30:00", "02": "2025-01-14 18:31:30", "03": "2019-07-20 10:00:00", "04": "2018-03-03 03:03:03",
    "05": "2018-04-04 04:04:04", "06": "", "07": "", "08": "2024-02-21 10:14:22", "09": "2013-05-02 00:05:00",
    "11": "2020-06-07 08:09:10", "12": "2021-08-09", "13": "", "14": "", "16": "2017-05-06 07:08:09", "18": "1968-05",
    "20_": "2017-05-06 07:08:09", "21": "2024-02-01 12:00:00", "22": "2024-02-01 12:00:00", "23": "2009-11-16 12:51:58",
    "24": "2009-11-16 12:51:58", "26": "2022-02-02 02:02:02", "29": "2015-09-08", "30": "", "31": "",
    "32": "2012-05-05 15:10:20", "34": "2002-12-08 12:00:00 (doubtful)", "IMG-2024": "2024-02-03",
    "Screenshot_2024": "2024-02-03 10:11:12", "2024-02-03": "2024-02-03 10:11:12",
}  # fmt: skip
CAPTIONS = {
    "UPPERSIDE.JPG": "upper-case sidecar", "labelme.jpg": "", "labelme_small.jpg": "", "yolo.jpg": "", "readme.jpg": "",
}  # fmt: skip
PATCHES = [(200, 60, 50), (60, 160, 70), (50, 80, 190), (230, 200, 60), (128, 128, 128), (190, 140, 110)]
TAKEN = {
    "nearly": ("jpg_no_eoi", "jpg_minus_1pct", "jpg_bad_exif", "png_after", "png_bad_iccp", "png_bad_text", "png_big"),
    "refusals": ("multipage_rgb",),
    "formats": ("photo.j", "photo.JPG", "noext", "really_png", "really_webp", "IMG_12_really_jpeg"),
}
INCOMPLETE = ("jpg_no_eoi", "jpg_minus_1pct")
NAMED = {"really_html": "HTML", "really_svg": "SVG", "really_mp4": "film", "really_jxlbox": "JPEG XL"} | {
    "really_heic": "HEIC", "pal4rle": "BMP",
}  # fmt: skip


def read(path: Path) -> ImageText:
    return read_image_text(path.read_bytes(), sidecars=find_sidecars(path), read_gps=True, file_name=path.name)


def describe_date(text: ImageText) -> str:
    if text.taken_at is None:
        return ""
    length = {"second": 19, "day": 10, "month": 7, "year": 4}[text.taken_precision]
    return str(text.taken_at)[:length] + (" (doubtful)" if text.taken_is_doubtful else "")


def check_dates(folder: Path) -> Iterator[Row]:
    for path in sorted(folder.iterdir()):
        if path.suffix == ".json":
            continue
        text = read(path)
        # Of a file that is not listed above only what is got is shown.
        wanted = next((value for start, value in DATES.items() if path.name.startswith(start)), describe_date(text))
        yield path.name, wanted, describe_date(text)
        if path.name.startswith(("30", "31")):
            yield f"{path.name} place", "None", str(text.latitude)
        if path.name.startswith(("23", "24")):
            yield f"{path.name} caption", "Panda sanctuary", text.description or ""


def check_sidecars(folder: Path) -> Iterator[Row]:
    for name, wanted in CAPTIONS.items():
        yield name, wanted, read(folder / name).description or ""
    yield "digikam.jpg keywords", "Kyoto", ", ".join(read(folder / "digikam.jpg").keywords)


def check_meta(folder: Path) -> Iterator[Row]:
    avif = read(folder / "comfy-xmp.avif")
    yield "comfy-xmp.avif", "ComfyUI: AVIF fixture prompt", f"{avif.generator}: {avif.prompt}"
    for name in ("exif_text.png", "photoshop_namespaces.png"):
        yield name, "", read(folder / name).description or ""
    yield "workflow_only_linked_size.png", "None", str(read(folder / "workflow_only_linked_size.png").generated_size)
    cascade = read(folder / "cascade_two_stages.png")
    yield "cascade_two_stages.png", "314307448448003 20 4.0", f"{cascade.seed} {cascade.steps} {cascade.cfg}"


def check_colour(folder: Path) -> Iterator[Row]:
    for path in sorted(folder.iterdir()):
        limit = 2.0 if path.suffix == ".jpg" or "cmyk" in path.name else 1.0
        try:
            picture = decode_image(path.read_bytes(), path.name)
        except UnreadableImage as error:
            yield path.name, f"dE <= {limit}", str(error)
            continue
        preview = Image.open(io.BytesIO(read_small_preview(make_preview(picture)))).convert("RGB")
        if path.name == "i_trns.png":
            white = np.asarray(preview.convert("L")).max()
            yield (
                path.name,
                "white where transparent",
                "white where transparent" if white > 250 else f"brightest {white}",
            )
            continue
        # Fields of 07 lie outside what its press can print: within its profile's own way there and back.
        limit = 6.0 if path.name.startswith("07") else limit
        # 09 keeps luminance in linear light; the others the luma of the sRGB values, as Pillow makes grey.
        grey = "light" if path.name.startswith("09") else "luma" if path.name.startswith(("14", "21")) else ""
        distance = measure_patches(preview, grey)
        yield path.name, f"dE <= {limit}", f"dE <= {limit}" if distance <= limit else f"dE {distance:.1f}"


def measure_patches(image: Image.Image, grey: str) -> float:
    """Mean CIE76 distance of the six fields to their colours (of grey images: to their luminance)."""
    pixels = np.asarray(image, np.float64)
    height, width = pixels.shape[:2]
    distances = []
    for number, wanted in enumerate(PATCHES):
        row, column = divmod(number, 3)
        top, left = int(height * (row + 0.3) / 2), int(width * (column + 0.3) / 3)
        field = pixels[top : int(height * (row + 0.7) / 2), left : int(width * (column + 0.7) / 3)].reshape(-1, 3)
        goal = np.array(wanted, np.float64)
        if grey == "luma":
            goal = np.full(3, np.dot(goal, [0.299, 0.587, 0.114]))
        elif grey:
            light = np.dot(to_linear(goal), [0.2126729, 0.7151522, 0.072175])
            goal = np.full(3, 255 * (12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055))
        distances.append(np.linalg.norm(to_lab(field.mean(0)) - to_lab(goal)))
    return float(np.mean(distances))


def to_linear(rgb: np.ndarray) -> np.ndarray:
    return np.where(rgb / 255 <= 0.04045, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)


def to_lab(rgb: np.ndarray) -> np.ndarray:
    matrix = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
    scaled = np.array(matrix) @ to_linear(rgb) / np.array([0.95047, 1, 1.08883])
    root = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def check_taken(folder: Path) -> Iterator[Row]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            continue
        try:
            picture = decode_image(path.read_bytes(), path.name)
            got = "incomplete" if getattr(picture, "is_incomplete", False) else "taken"
        except UnreadableImage as error:
            got = str(error)
        wanted = next((name for start, name in NAMED.items() if path.name.startswith(start)), None)
        if path.name.startswith(TAKEN[folder.name]):
            yield path.name, "incomplete" if path.name.startswith(INCOMPLETE) else "taken", got
        elif wanted:
            yield path.name, f"named: {wanted}", f"named: {wanted}" if wanted in got else got
        elif "not a picture, or of a format" in got and path.suffix in (".png", ".jpg", ".tif", ".bmp"):
            yield path.name, "the true reason", got


CHECKS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "dates": check_dates, "sidecars": check_sidecars, "meta": check_meta, "colour": check_colour,
    "nearly": check_taken, "refusals": check_taken, "formats": check_taken,
}  # fmt: skip


def main(root: Path) -> int:
    wrong = 0
    for kind, check in CHECKS.items():
        if not (root / kind).is_dir():
            continue
        for case, wanted, got in check(root / kind):
            wrong += wanted != got
            mark = "ok " if wanted == got else "BAD"
            print(f"{mark} {kind:<9} {case:<42} wanted {wanted or '-'!s:<34} got {got or '-'}")
    print(f"{wrong} wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        print("No folder of cases was named; nothing is checked.")
        sys.exit(0)
    sys.exit(main(Path(sys.argv[1])))
