"""Does a query find the second of a film? Films with known scenes at known seconds, through the demo model.

Each film shows 100 scenes of 12 seconds that the model was never trained on, 20 minutes in all, with a slow movement
of the camera; every other change is a cut, the rest are dissolves of one second. Keyframes lie a fixed number of
frames apart (GOP), wherever the scenes change. A query by words names a thing, a place and a time of day; one by
picture shows the scene under other light and crop. It is right when the nearest of all kept frames lies within a scene
that the query is true of, give or take two seconds. Another film, in 1920 x 1080, is for the speed.

    python benchmarks/films.py [--quick] [--seed another]

--quick takes 12 scenes. Films are drawn in another process, so that the memory is that of reading.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from demo.captions import Mention, list_facts, write_caption  # noqa: E402
from demo.evaluate import draw_picture  # noqa: E402
from demo.scenes import Scene, compose_scene, draw_scene  # noqa: E402
from image_search.encoders import open_encoder  # noqa: E402
from image_search.encoders.base import Embeddings, Encoder  # noqa: E402
from image_search.films import read_film  # noqa: E402
from image_search.settings import Settings  # noqa: E402

RATE = 24  # frames a second
SCENE_SECONDS = 12
DISSOLVE_SECONDS = 1
TOLERANCE_MS = 2_000
MARGIN = 1.12  # of a scene over the view that moves across it
BATCH = 16  # images that are embedded together
GOPS = (12, 48, 250)


@dataclass(frozen=True)
class Reading:
    """A film that was read: times and embeddings of the kept frames, and what it took."""

    times_ms: list[int]
    embeddings: Embeddings
    read_seconds: float
    all_seconds: float
    memory_mib: float


def main() -> None:
    parser = argparse.ArgumentParser(description="Find known moments in drawn films.")
    parser.add_argument("--quick", action="store_true", help="12 scenes instead of 100")
    parser.add_argument("--seed", default="films", help="another word draws other scenes")
    arguments = parser.parse_args()
    count = 12 if arguments.quick else 100
    scenes = compose_film(count, arguments.seed)
    encoder = open_encoder(Settings(embedding_model=str(ROOT / "demo" / "model")))
    encoder.encode_images([draw_picture(scene, random.Random(0)) for scene in (scenes * BATCH)[:BATCH]])
    print(f"{count} scenes of {SCENE_SECONDS} s, seed {arguments.seed}, model {encoder.name} {encoder.version}\n")
    print("| film | kept frames | a scene | words ja | words en | picture | reading | and embedding | memory |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        paths = {gop: Path(folder, f"gop{gop}.mp4") for gop in GOPS}
        draw_elsewhere(paths, scenes, (640, 360))
        for gop, path in paths.items():
            reading = measure_reading(path, encoder)
            print_row(f"640 x 360, GOP {gop}", scenes, reading, find_moments(scenes, reading, encoder, arguments.seed))
            path.unlink()
        path = Path(folder, "large.mp4")
        draw_elsewhere({48: path}, scenes[:10], (1920, 1080))
        print_row("1920 x 1080, GOP 48", scenes[:10], measure_reading(path, encoder), ["-"] * 3)


def compose_film(count: int, seed: str) -> list[Scene]:
    """Scenes of the shape of a film, each of a thing, a place and a time of day that training left out."""
    rng = random.Random(seed)
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = compose_scene(rng, aspect=(16, 9), held_out=True)
        if scene.time:
            scenes.append(scene)
    return scenes


def draw_elsewhere(paths: dict[int, Path], scenes: list[Scene], size: tuple[int, int]) -> None:
    """Write films in a process of its own, whose memory is not ours."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(write_films, paths, scenes, size).result()


def write_films(paths: dict[int, Path], scenes: list[Scene], size: tuple[int, int]) -> None:
    """The same film once for each GOP, in H.264, with keyframes exactly so many frames apart wherever scenes change."""
    import av

    options = {"preset": "ultrafast", "crf": "23", "sc_threshold": "0", "bf": "2"}
    with ExitStack() as stack:
        outputs: list[tuple[Any, Any]] = []
        for gop, path in paths.items():
            container = stack.enter_context(av.open(str(path), "w"))
            stream: Any = container.add_stream("libx264", rate=RATE, options=options)
            stream.width, stream.height = size
            stream.pix_fmt, stream.gop_size = "yuv420p", gop
            outputs.append((container, stream))
        for place, image in enumerate(list_frames(scenes, size)):
            frame = av.VideoFrame.from_image(image).reformat(format="yuv420p")
            for container, stream in outputs:
                frame.pts, frame.time_base = place, Fraction(1, RATE)
                container.mux(stream.encode(frame))
        for container, stream in outputs:
            container.mux(stream.encode(None))


def list_frames(scenes: list[Scene], size: tuple[int, int]) -> Iterator[Image.Image]:
    """Every frame: the view moves across the scene, and every other scene blends in."""
    large = (round(size[0] * MARGIN), round(size[1] * MARGIN))
    before: Image.Image | None = None
    for number, scene in enumerate(scenes):
        picture = draw_scene(scene, large)
        count = SCENE_SECONDS * RATE
        for place in range(count):
            shift = place / count if number % 3 else 1 - place / count
            x, y = round((large[0] - size[0]) * shift), round((large[1] - size[1]) * shift)
            image = picture.crop((x, y, x + size[0], y + size[1]))
            share = (place + 1) / (DISSOLVE_SECONDS * RATE + 1)
            yield Image.blend(before, image, share) if before is not None and number % 2 and share < 1 else image
        before = image


def measure_reading(path: Path, encoder: Encoder) -> Reading:
    memory = read_peak_memory()
    times, rows = [], []
    batch: list[Image.Image] = []
    started = time.perf_counter()
    embedding = 0.0
    film = read_film(path)
    for frame in film:
        times.append(frame.frame_ms)
        batch.append(frame.image)
        if len(batch) == BATCH:
            before = time.perf_counter()
            rows.append(encoder.encode_images(batch))
            embedding += time.perf_counter() - before
            batch = []
    read_seconds = time.perf_counter() - started - embedding
    rows.append(encoder.encode_images(batch))
    for note in film.notes:
        print(f"{path.name}: {note}", file=sys.stderr)
    seconds = time.perf_counter() - started
    return Reading(times, np.concatenate(rows), read_seconds, seconds, read_peak_memory() - memory)


def find_moments(scenes: list[Scene], reading: Reading, encoder: Encoder, seed: str) -> list[str]:
    """Shares of queries whose nearest frame lies in a right scene: by words ja and en, and by picture."""
    rng = random.Random(f"{seed} queries")
    facts = [frozenset(list_facts(scene)) for scene in scenes]
    mentions = [Mention((scene.items[0].concept,), 0, scene.place, scene.time) for scene in scenes]
    found = []
    for language in ("ja", "en"):
        queries = encoder.encode_texts([write_caption(rng, mention, language) for mention in mentions])
        right = [
            any(frozenset(mention.facts) <= facts[place] and is_within(time_ms, place) for place in range(len(scenes)))
            for mention, time_ms in zip(mentions, find_nearest(queries, reading), strict=True)
        ]
        found.append(f"{np.mean(right):.0%}")
    pictures = encoder.encode_images([draw_picture(scene, rng) for scene in scenes])
    right = [is_within(time_ms, place) for place, time_ms in enumerate(find_nearest(pictures, reading))]
    return [*found, f"{np.mean(right):.0%}"]


def find_nearest(queries: Embeddings, reading: Reading) -> list[int]:
    return [reading.times_ms[place] for place in (queries @ reading.embeddings.T).argmax(axis=1)]


def is_within(time_ms: int, scene: int) -> bool:
    start = scene * SCENE_SECONDS * 1000
    return start - TOLERANCE_MS <= time_ms <= start + SCENE_SECONDS * 1000 + TOLERANCE_MS


def print_row(name: str, scenes: list[Scene], reading: Reading, found: list[str]) -> None:
    length, kept = len(scenes) * SCENE_SECONDS, len(reading.times_ms)
    speeds = [f"{length / seconds:.0f} x" for seconds in (reading.read_seconds, reading.all_seconds)]
    cells = [name, str(kept), f"{kept / len(scenes):.2f}", *found, *speeds, f"+{reading.memory_mib:.0f} MiB"]
    print(f"| {' | '.join(cells)} |", flush=True)


def read_peak_memory() -> float:
    """MiB this process has held at most so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
