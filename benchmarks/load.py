"""What 50 impatient clients get, and what they cost: answers a second, how long they take, errors by kind, CPU, memory.

Each client sends the next request as soon as the last one is answered: half of them words (never the same twice, so
that each is embedded), a fifth the newest images, a fifth previews, a tenth pictures. The program is started in a
process of its own with the demo model and the samples; --address takes one that runs, and then tells no memory. The
clients share the cores with it, so they are made of bare streams, which take a sixth of the CPU of an HTTP client.
Memory is told after each of several runs: it must not grow with the number of answers. CPU per answer can be compared
while other programs use the cores, the times cannot.

newest and previews need no model: they show what is left for the others while the model is busy. Compare p50 of words
with clients / (words a second the model embeds): the queue in front of the model costs nothing more.

    python benchmarks/load.py [--clients 50] [--seconds 60] [--runs 4] [--address http://127.0.0.1:8899]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
KINDS = {"words": 5, "newest": 2, "preview": 2, "picture": 1}
THINGS = ("sunset", "mountain", "cat", "house", "boat", "tree", "夕焼け", "海", "猫", "雪", "花", "船")
COLOURS = ("red", "blue", "green", "golden", "dark", "bright", "赤い", "青い", "白い", "明るい")


class Tally:
    """What happened, by kind of request."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.errors: dict[str, Counter[str]] = defaultdict(Counter)

    def print_table(self, duration: float) -> None:
        print(f"{'':10}{'answers/s':>10}{'p50 ms':>10}{'p95 ms':>10}{'p99 ms':>10}  errors")
        for kind in (*KINDS, "all"):
            kinds = KINDS if kind == "all" else (kind,)
            times = [second for name in kinds for second in self.seconds[name]]
            errors = sum((self.errors[name] for name in kinds), Counter[str]())
            told = ", ".join(f"{name}: {count}" for name, count in sorted(errors.items())) or "none"
            points = np.percentile(times, [50, 95, 99]) * 1000 if times else [float("nan")] * 3
            figures = "".join(f"{value:10.0f}" for value in points)
            print(f"{kind:10}{len(times) / duration:10.1f}{figures}  {told}")


def main() -> None:
    options = parse_options()
    if options.address:
        asyncio.run(press(options.address, options.clients, options.seconds)).print_table(options.seconds)
        return
    with serve() as (address, process):
        wait_until_idle(process)  # the words in the samples are read, the tags embedded
        asyncio.run(press(address, options.clients, 5))  # every connection and buffer is made
        print(f"{options.clients} clients, {options.seconds} s, {os.cpu_count()} cores shared with the clients")
        print(f"memory at first {read_memory(process):.0f} MiB")
        for run in range(1, options.runs + 1):
            served, asked = read_cpu_seconds(process), time.process_time()
            tally = asyncio.run(press(address, options.clients, options.seconds))
            served, asked = read_cpu_seconds(process) - served, time.process_time() - asked
            tally.print_table(options.seconds)
            count = max(1, sum(map(len, tally.seconds.values())))
            print(f"CPU of an answer: server {1000 * served / count:.2f} ms, client {1000 * asked / count:.2f} ms")
            print(f"memory after run {run}: {read_memory(process):.0f} MiB", flush=True)
        asyncio.run(check_is_alive(address))


async def press(address: str, clients: int, seconds: float) -> Tally:
    tally = Tally()
    end = time.perf_counter() + seconds
    image_ids = list_images(address)
    await asyncio.gather(*(ask_until(end, address, image_ids, random.Random(), tally) for _ in range(clients)))
    return tally


async def ask_until(end: float, address: str, image_ids: list[int], chance: random.Random, t: Tally) -> None:
    connection = Connection(address)
    while time.perf_counter() < end:
        [kind] = chance.choices(list(KINDS), list(KINDS.values()))
        request = make_request(kind, image_ids, chance)
        started = time.perf_counter()
        try:
            status, body = await connection.ask(request)
        except (OSError, EOFError) as error:
            t.errors[kind][type(error).__name__] += 1
            connection.close()
            continue
        if status < 300:
            t.seconds[kind].append(time.perf_counter() - started)
        else:
            t.errors[kind][f"{status} {json.loads(body)['code']}"] += 1
            await asyncio.sleep(0.5)  # a client that was told to come back later
    connection.close()


def make_request(kind: str, image_ids: list[int], chance: random.Random) -> bytes:
    match kind:
        case "words":
            text = f"{chance.choice(COLOURS)} {chance.choice(THINGS)} {chance.randrange(10**9)}"
            return write_request("POST", "/api/search", json.dumps({"text": text}).encode(), "application/json")
        case "newest":
            return write_request("POST", "/api/search")
        case "preview":
            return write_request("GET", f"/api/images/{chance.choice(image_ids)}/preview")
        case _:
            return PICTURE


def write_request(method: str, path: str, body: bytes = b"", content_type: str = "") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    return (head + (f"Content-Type: {content_type}\r\n" if content_type else "") + "\r\n").encode() + body


def write_picture() -> bytes:
    picture = next((ROOT / "images").glob("*.*")).read_bytes()
    part = b'--part\r\nContent-Disposition: form-data; name="picture"; filename="query"\r\n\r\n'
    body = part + picture + b"\r\n--part--\r\n"
    return write_request("POST", "/api/search", body, "multipart/form-data; boundary=part")


PICTURE = write_picture()


class Connection:
    """One connection, with as much of HTTP as the answers of this program need."""

    def __init__(self, address: str) -> None:
        self._host, _, self._port = address.removeprefix("http://").rstrip("/").partition(":")
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body. Raises OSError, EOFError."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, int(self._port or 80), limit=2**20)
        reader, writer = self._streams
        writer.write(request)
        async with asyncio.timeout(120):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
            return int(head[9:12]), await reader.readexactly(int(length))

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def list_images(address: str) -> list[int]:
    answer = httpx.post(f"{address}/api/search", json={"page_size": 100}, timeout=30)
    return [hit["image"]["image_id"] for hit in answer.raise_for_status().json()["hits"]]


async def check_is_alive(address: str) -> None:
    async with httpx.AsyncClient(base_url=address, timeout=30) as http:
        started = time.perf_counter()
        (await http.post("/api/search", json={"text": "afterwards"})).raise_for_status()
        print(f"one search afterwards: {(time.perf_counter() - started) * 1000:.0f} ms")


@contextmanager
def serve() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """ImageSearch.py with the samples, in an empty folder; yields its address once the samples are registered."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        settings = {"DATABASE_URL": f"sqlite:///{folder}/library.db", "APP_PORT": str(port), "APP_HOST": "127.0.0.1"}
        command = [sys.executable, str(ROOT / "ImageSearch.py")]
        process = subprocess.Popen(command, env=os.environ | settings, stdout=subprocess.DEVNULL)
        try:
            wait_for_samples(f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.terminate()
            process.wait(30)


def wait_for_samples(address: str) -> None:
    expected = sum(1 for path in (ROOT / "images").rglob("*.*") if path.suffix in (".png", ".jpg", ".jpeg", ".webp"))
    while True:
        try:
            if httpx.get(f"{address}/api/status", timeout=30).json()["image_count"] >= expected:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)


def wait_until_idle(process: subprocess.Popen[bytes]) -> None:
    """Return when the process has hardly used a processor for three seconds (Linux)."""
    before = float("-inf")
    while (now := read_cpu_seconds(process)) - before > 0.3:
        before = now
        time.sleep(3)


def read_memory(process: subprocess.Popen[bytes]) -> float:
    """What the process keeps in memory, in MiB (Linux)."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def read_cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """What the process has used of the processors so far (Linux)."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--address", help="of a program that runs already")
    return parser.parse_args()


if __name__ == "__main__":
    main()
