"""How fast is a folder registered, against the loop one writes first, against the model alone, and against the machine?

naive:   for every file: open, decode whole, embed one picture, insert, commit; no preview, no texts
ours:    Registrar, with previews and texts
model:   the network on tensors that are ready, in batches of the same size, on all cores
machine: the number of cores divided by what an image costs them: thousandths of a second of a core to read a file, to
         embed it and to store it, each stage measured by itself; nothing that does all three can be faster.
         together is what an image costs while all stages run side by side
known:   the second run over the same files

Every figure comes from a process of its own, so that peak memory is its own, too. Photographs are synthetic JPEGs as
large as a telephone's; networks have the shapes of known models and random weights, which compute as fast as trained
ones.

    python benchmarks/registration.py [--pictures "12 MP" "1.5 MP" images] [--files 500] [--models "CLIP ViT-B/32" ...]
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from image_search.encoders.base import Encoder
from image_search.images import hash_bytes, read_file
from image_search.records import NewImage
from image_search.registration import Registrar
from image_search.registration.files import FoundFile, find_files
from image_search.registration.pipeline import ImageReader, ReadFile
from image_search.settings import ROOT, Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore

MODELS = ("demo", "CLIP ViT-B/32", "CLIP ViT-L/16")
SIZES = {"12 MP": (4000, 3000), "1.5 MP": (1440, 1080)}
QUALITY = 90
SECONDS = 15  # of the model alone

COLUMNS = (
    "pictures", "files", "model", "naive", "ours", "model alone", "machine", "ours / naive", "ours / model",
    "ours / machine", "read", "embed", "store", "together", "MB naive", "MB ours",
)  # fmt: skip

Figures = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """What a measurement works on; each takes what it needs. model is a number of files for known."""

    folder: Path
    library: Path
    model: str


def main() -> None:
    options = parse_arguments()
    if options.measure:
        figures = MEASURES[options.measure](Case(options.folder, options.library, options.models[0]))
        print(json.dumps(figures | {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
        return
    with tempfile.TemporaryDirectory() as scratch:
        print(f"{count_cores()} cores. Images a second, thousandths of a second of a core for one image, and MB.\n")
        print(f"| {' | '.join(COLUMNS)} |")
        print("|---|" + "---:|" * (len(COLUMNS) - 1))
        for pictures in options.pictures:
            folder = find_pictures(pictures, Path(scratch), options.files)
            for model in options.models:
                print(measure_row(pictures, folder, Path(scratch) / "library", model), flush=True)
        if options.known:
            known = measure("known", Path(scratch) / "known", Path(scratch) / "library", str(options.known))
            print(
                f"\nSecond run over {options.known} known files: {known['rate']:.0f} files/s, {known['memory']:.0f} MB"
            )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", nargs="+", default=[*SIZES, "images"], help=f"{', '.join(SIZES)} or folders")
    parser.add_argument("--files", type=int, default=500, help="synthetic photographs of each size")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--known", type=int, default=10_000, help="files of the second run; 0 leaves it out")
    parser.add_argument("--measure", choices=list(MEASURES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--library", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure_row(pictures: str, folder: Path, library: Path, model: str) -> str:
    naive, ours, alone, cost = (measure(name, folder, library, model) for name in ("naive", "ours", "model", "costs"))
    machine = min(alone["rate"], count_cores() / (cost["read"] + cost["embed"] + cost["store"]))
    rate = ours["rate"]
    name = f"{model}, {cost['precision']}"
    cells = [pictures, str(len(find_files([folder]).files)), name]
    cells += [f"{value:.1f}" for value in (naive["rate"], rate, alone["rate"], machine)]
    cells += [f"{rate / limit:.2f}" for limit in (naive["rate"], alone["rate"], machine)]
    cells += [f"{1000 * seconds:.1f}" for seconds in (cost["read"], cost["embed"], cost["store"], ours["cpu"])]
    cells += [f"{figures['memory']:.0f}" for figures in (naive, ours)]
    return f"| {' | '.join(cells)} |"


def measure(name: str, folder: Path, library: Path, model: str) -> Figures:
    """What one measurement in a process of its own found: rates in images a second, seconds of a core, MB."""
    command = [sys.executable, __file__, "--measure", name, "--models", model, "--folder", folder, "--library", library]
    finished = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    shutil.rmtree(library, ignore_errors=True)
    figures: Figures = json.loads(finished.stdout.splitlines()[-1])
    return figures


def find_pictures(pictures: str, scratch: Path, count: int) -> Path:
    """The folder of that name, or a new one of synthetic photographs of that size."""
    if pictures not in SIZES:
        return ROOT / pictures
    folder = scratch / pictures.replace(" ", "-")
    if not folder.exists():
        make_photographs(folder, count, SIZES[pictures])
    return folder


def make_photographs(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Different files; every eighth shows the same, which nothing here can take advantage of."""
    folder.mkdir()
    width, height = size
    random = np.random.default_rng(0)
    contents = []
    for _ in range(min(count, 8)):
        smooth = Image.fromarray(random.integers(0, 256, (47, 63, 3), dtype=np.uint8)).resize(size)
        grain = random.integers(-9, 10, (height, width, 1), dtype=np.int16)
        pixels = np.clip(np.asarray(smooth, dtype=np.int16) + grain, 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
        contents.append(file.getvalue())
    for number in range(count):
        (folder / f"{number:05d}.jpg").write_bytes(contents[number % len(contents)] + number.to_bytes(4, "big"))


class BareEncoder:
    """A network of a known shape with random weights."""

    def __init__(self, shape: str) -> None:
        from benchmarks.encoders import build_runner
        from image_search.encoders.runner import choose_device, choose_dtype

        device = choose_device("auto")
        self.runner = build_runner(shape, device)
        parameters = sum(parameter.numel() for parameter in self.runner.towers.network.parameters())
        self.runner.convert(choose_dtype("auto", device, parameters))
        self.name, self.version, self.dimension, self.supports_text = shape, "random", 512, False
        self.encode_images = self.runner.embed_images
        self.batch_size, self.precision = self.runner.batch_size, self.runner.precision

    def load(self) -> None:
        """Is loaded."""


class NoEncoder:
    """For files that are known, no model is needed."""

    name, version, dimension, supports_text = "none", "1", 4, False

    def load(self) -> None:
        """Nothing is to be loaded."""

    def encode_images(self, images: Sequence[object]) -> np.ndarray:
        return np.tile(np.array([[1, 0, 0, 0]], np.float32), (len(images), 1))


def open_model(model: str) -> Encoder:
    """A warm encoder with its batch_size and precision."""
    if model == "demo":
        from image_search.encoders import open_encoder

        encoder = open_encoder(Settings())
    else:
        encoder = BareEncoder(model)
    encoder.encode_images([Image.new("RGB", (64, 64))] * encoder.batch_size)
    return encoder


def open_library(place: Path) -> ImageStore:
    place.mkdir(parents=True)
    return open_store(Settings(database_url=f"sqlite:///{place}/image_search.db"))


def measure_naive(case: Case) -> Figures:
    encoder = open_model(case.model)
    files = find_files([case.folder]).files[:50]  # slow enough to be exact
    with open_library(case.library) as store:
        model_id = store.get_or_create_model(encoder.name, encoder.version, encoder.dimension).model_id
        begin = time.perf_counter()
        for file in files:
            data = Path(file.path).read_bytes()
            picture = Image.open(io.BytesIO(data)).convert("RGB")
            image = NewImage(
                hashlib.sha256(data).hexdigest(), Path(file.path).name, "image/jpeg", *picture.size, data, b"none"
            )
            store.add_images(model_id, [image], encoder.encode_images([picture]))
        return {"rate": len(files) / (time.perf_counter() - begin)}


def measure_ours(case: Case) -> Figures:
    encoder = open_model(case.model)
    with open_library(case.library) as store:
        registrar = Registrar(store, encoder, batch_size=encoder.batch_size, on_message=print)
        begin, begin_cpu = time.perf_counter(), time.process_time()
        count = registrar.register(find_files([case.folder])).registered
        return {"rate": count / (time.perf_counter() - begin), "cpu": (time.process_time() - begin_cpu) / count}


def measure_model(case: Case) -> Figures:
    import torch

    encoder = open_model(case.model)
    runner = encoder.runner if isinstance(encoder, BareEncoder) else encoder._start()
    picture = runner.towers.prepare(Image.new("RGB", (512, 512), "olive"))
    pixels = torch.from_numpy(np.stack([picture] * encoder.batch_size))
    begin = time.perf_counter()

    def embed_for_long(_: int) -> int:
        count = 0
        while time.perf_counter() - begin < SECONDS:
            count += len(runner.embed_pixels(pixels))
        return count

    with ThreadPoolExecutor(2) as workers:  # as many as the Registrar has
        return {"rate": sum(workers.map(embed_for_long, range(2))) / (time.perf_counter() - begin)}


def measure_costs(case: Case) -> Figures:
    encoder = open_model(case.model)
    files = find_files([case.folder]).files[: 6 * encoder.batch_size]
    reader = ImageReader()
    cost: Figures = defaultdict(float)
    with open_library(case.library) as store, ThreadPoolExecutor(count_cores()) as workers:
        model_id = store.get_or_create_model(encoder.name, encoder.version, encoder.dimension).model_id
        for start in range(0, len(files), encoder.batch_size):
            batch = files[start : start + encoder.batch_size]
            with adding_time(cost, "read"):
                # On all cores at once: two of them may be halves of one.
                items = list(workers.map(read_whole, repeat(reader), batch))
            with adding_time(cost, "embed"):
                embeddings = encoder.encode_images([item.pixels for item in items])
            with adding_time(cost, "store"):
                store.add_images(model_id, [item.image for item in items], embeddings)
    return {step: seconds / len(files) for step, seconds in cost.items()} | {"precision": encoder.precision}


@contextmanager
def adding_time(cost: Figures, step: str) -> Iterator[None]:
    """Seconds that the cores spend on this process meanwhile."""
    begin = time.process_time()
    yield
    cost[step] += time.process_time() - begin


def read_whole(reader: ImageReader, file: FoundFile) -> ReadFile:
    data = read_file(file.path)
    return reader.read_file(file, data, hash_bytes(data))


def count_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure_known(case: Case) -> Figures:
    case.folder.mkdir()
    count = int(case.model)
    images = []
    for number in range(count):
        path = case.folder / f"{number:05d}.jpg"
        path.write_bytes(number.to_bytes(4, "big"))
        data, status = path.read_bytes(), path.stat()
        images.append(
            NewImage(
                hashlib.sha256(data).hexdigest(),
                path.name,
                "image/jpeg",
                1,
                1,
                data,
                b"none",
                file_path=str(path),
                modified_ns=status.st_mtime_ns,
            )
        )
    encoder = NoEncoder()
    with open_library(case.library) as store:
        model_id = store.get_or_create_model(encoder.name, encoder.version, encoder.dimension).model_id
        for start in range(0, count, 500):
            batch = images[start : start + 500]
            store.add_images(model_id, batch, encoder.encode_images([image.data for image in batch]))
        begin = time.perf_counter()
        report = Registrar(store, encoder).register(find_files([case.folder]))
        assert report.known == count
        return {"rate": count / (time.perf_counter() - begin)}


MEASURES = {
    "naive": measure_naive,
    "ours": measure_ours,
    "model": measure_model,
    "costs": measure_costs,
    "known": measure_known,
}

if __name__ == "__main__":
    main()
