"""Does memory grow with the number of pages that were opened and of calls whose answers are never read?

    python benchmarks/memory.py [--pages 3000] [--calls 6000]

Opens so many pages, each a session of its own, and makes so many calls of Gradio's API, beside the same program with
the first 200 of each behind it. Exit code 1 where memory has grown by more than a tenth since then. Linux.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx

from benchmarks.load import read_memory, serve, wait_until_idle

FIRST = 200
CLIENTS = 4
MOST_GROWTH = 0.1


def main() -> int:
    """Run the program. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=int, default=3000)
    parser.add_argument("--calls", type=int, default=6000)
    options = parser.parse_args()
    with serve() as (address, process), httpx.Client(base_url=address, timeout=120) as http:
        wait_until_idle(process)
        config = http.get("/config").raise_for_status().json()
        [event] = [item["id"] for item in config["dependencies"] if item["api_name"] == "status"]

        def open_page(number: int) -> None:
            http.get("/").raise_for_status()
            http.get("/ui/results").raise_for_status()
            body = {"fn_index": event, "data": [], "session_hash": f"page{number}"}
            http.post("/gradio_api/run/predict", json=body).raise_for_status()

        def call(number: int) -> None:
            body = {"data": [f"red {number}", None, "", 0, 1, 16, None]}
            http.post("/gradio_api/call/search", json=body).raise_for_status()

        def act(first: int, pages: int, calls: int) -> float:
            repeat(open_page, range(first, pages))
            repeat(call, range(first, calls))
            wait_until_idle(process)
            memory = read_memory(process)
            print(f"memory after {pages:,} pages and {calls:,} calls: {memory:.0f} MiB", flush=True)
            return memory

        before = act(0, FIRST, FIRST)
        growth = act(FIRST, options.pages, options.calls) / before - 1
    print(f"grown by {growth:.1%}")
    return 1 if growth > MOST_GROWTH else 0


def repeat(act: Callable[[int], None], numbers: range) -> None:
    """Do something for each number, some at a time."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(act, numbers))


if __name__ == "__main__":
    sys.exit(main())
