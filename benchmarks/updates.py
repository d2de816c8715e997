"""Does a search stay quick and right while images are added and deleted?

    python benchmarks/updates.py --size 100k --seconds 60 --rate 1000

Another process adds --rate images a second and deletes as many, in ten transactions each a second, while this one
searches, without a pause where nothing else is said. What is deleted goes to the trash, with --for-good out of it at
once. Every few seconds one search is compared, in its own transaction,
with products of all stored embeddings in double precision: that is the recall. Prints one row of a table; a writer that
does not reach the rate says so by the rates it reached.
"""

from __future__ import annotations

import argparse
import json
import select
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._search_engines import Ours
from benchmarks._vectors import KINDS, make_vectors

COUNT = 16
BATCHES = 10  # of additions, and as many of deletions, a second
CHECK_EVERY = 3.0  # seconds


def main() -> None:
    """Build a library, search it while another process changes it, and print what came out."""
    arguments = parse_arguments()
    size = int(arguments.size.lower().replace("k", "000").replace("m", "000000"))
    if arguments.step:
        write(Path(arguments.folder), size, arguments)
        return
    with tempfile.TemporaryDirectory(prefix="updates-benchmark-") as name:
        folder = Path(name)
        vectors, queries = make_vectors(arguments.data, size, folder)
        engine = Ours()
        engine.build(folder, vectors, np.zeros(size, np.bool_))
        engine.open(folder)
        asked = next(iter(queries.values()))
        alone = measure(engine, asked, min(arguments.seconds, 10))
        command = [sys.executable, __file__, "--step", "write", "--folder", name, "--size", arguments.size]
        command += ["--data", arguments.data, "--rate", str(arguments.rate)]
        command += ["--reference"] * arguments.reference + ["--for-good"] * arguments.for_good
        writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        writer.stdout.readline()
        beside = measure(engine, asked, arguments.seconds, arguments.searches)
        written = json.loads(writer.communicate("\n")[0])
        engine.close()
    print("| images | added/s | deleted/s | searches/s | p50 ms | p95 ms | recall@16 | p50 alone ms | p95 alone ms |")
    print("|---" * 9 + "|")
    print(
        f"| {size:,} | {written['added']:.0f} | {written['deleted']:.0f} | {beside['rate']:.0f} | {beside['p50']:.2f} "
        f"| {beside['p95']:.2f} | {beside['recall']:.4f} | {alone['p50']:.2f} | {alone['p95']:.2f} |"
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="100k", help="images at first (default 100k)")
    parser.add_argument("--seconds", type=float, default=60, help="how long (default 60)")
    parser.add_argument("--rate", type=int, default=1000, help="additions, and deletions, a second (default 1000)")
    parser.add_argument("--searches", type=float, default=np.inf, help="a second at most (default: without a pause)")
    parser.add_argument("--reference", action="store_true", help="originals stay where they are: none is written")
    parser.add_argument("--for-good", action="store_true", help="what is deleted leaves the trash at once")
    parser.add_argument("--data", default=KINDS[0], choices=KINDS)
    parser.add_argument("--step", choices=["write"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(engine: Ours, queries: np.ndarray, seconds: float, most: float = np.inf) -> dict[str, float]:
    """Times of searches in ms, how many there were a second, and the recall of those that were compared."""
    times: list[float] = []
    recalls: list[float] = []
    started = time.perf_counter()
    ends = started + seconds
    next_check = 0.0
    while (now := time.perf_counter()) < ends:
        query = queries[len(times) % len(queries)]
        if now >= next_check:
            recalls.append(compare(engine.store, query))
            next_check = time.perf_counter() + CHECK_EVERY
            continue
        engine.search(query, COUNT)
        times.append((time.perf_counter() - now) * 1000)
        time.sleep(max(0.0, started + len(times) / most - time.perf_counter()))
    p50, p95 = np.percentile(times, [50, 95])
    rate = len(times) / (time.perf_counter() - started)
    return {"p50": p50, "p95": p95, "rate": rate, "recall": float(np.mean(recalls))}


def compare(store: Any, query: np.ndarray) -> float:
    """Recall of one search against all embeddings that its transaction sees."""
    from image_search.stores.sqlite.search import TableRows

    with store.snapshot():
        found = {hit.image_id for hit in store.search_embedding(1, query, COUNT)}
        with store._database.reading() as connection:
            ids, products = [], []
            for rows in TableRows(connection, 1, len(query)).read_after(0):
                ids.append(rows.image_ids)
                products.append(np.vecdot(rows.embeddings, query, dtype=np.float64))
    nearest = np.concatenate(ids)[np.argsort(-np.concatenate(products), kind="stable")[:COUNT]]
    return len(found & set(nearest.tolist())) / COUNT


def write(folder: Path, size: int, arguments: argparse.Namespace) -> None:
    """Add and delete until a line comes in; tell the rates that were reached."""
    from tests.fakes import make_image

    rate = arguments.rate
    vectors, _ = make_vectors(arguments.data, size, folder)
    engine = Ours()
    engine.open(folder)
    random = np.random.default_rng(77)
    batch = max(1, rate // BATCHES)
    alive = list(range(1, size + 1))
    added = deleted = 0
    print("writing", flush=True)
    started = time.perf_counter()
    while not select.select([sys.stdin], [], [], 0)[0]:
        rows = vectors[random.integers(0, size, batch)] + 0.02 * random.standard_normal(
            (batch, vectors.shape[1]), np.float32
        )
        rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        images = [make_image(f"{added + n}.png") for n in range(batch)]
        if arguments.reference:
            images = [replace(image, data=None, size=image.byte_size) for image in images]
        alive += engine.store.add_images(1, images, rows)
        gone = []
        for place in sorted(set(random.integers(0, len(alive), batch).tolist()), reverse=True):
            alive[place], alive[-1] = alive[-1], alive[place]
            gone.append(alive.pop())
        delete = engine.store.delete_images if arguments.for_good else engine.store.trash_images
        deleted += delete(gone)
        added += batch
        time.sleep(max(0.0, started + added / rate - time.perf_counter()))
    seconds = time.perf_counter() - started
    engine.close()
    print(json.dumps({"added": added / seconds, "deleted": deleted / seconds}))


if __name__ == "__main__":
    main()
