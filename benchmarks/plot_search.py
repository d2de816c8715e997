"""Draws the table of benchmarks/search.py: how time and memory grow with the library, for each engine.

python benchmarks/plot_search.py [docs/performance.md] [img/search-speed.svg]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html import escape
from math import log10
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OURS = "this store"
COLOURS = ("#d1495b", "#555555", "#00798c", "#edae49", "#7a5195", "#66a182", "#2e5eaa", "#b07d62")
PANELS = (
    ("p50 ms", "one search, ms (p50), by the number of images"),
    ("memory MB", "memory beside the page cache, MB, by the number of images"),
)
WIDTH, HEIGHT, LEFT, TOP, LABELS = 470, 360, 60, 50, 120  # of a panel; around its axes; for the names on its right
Points = list[tuple[float, float]]


def main() -> None:
    """Read the table out of a page and write the picture."""
    names = sys.argv[1:] + ["docs/performance.md", "img/search-speed.svg"][len(sys.argv) - 1 :]
    page, picture = (ROOT / name for name in names)
    rows = [row for row in read_tables(page.read_text(encoding="utf-8")) if row.get("queries") == "images"]
    panels = [draw_panel(gather_lines(rows, column), title) for column, title in PANELS]
    picture.write_text(join_panels(panels), encoding="utf-8")


def read_tables(text: str) -> Iterator[dict[str, str]]:
    """The rows of all Markdown tables, by the headings of their columns."""
    headings: list[str] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            headings = []
            continue
        cells = [cell.strip(" *") for cell in line.strip("|").split("|")]
        if not headings:
            headings = cells
        elif not line.startswith("|---"):
            yield dict(zip(headings, cells, strict=False))


def gather_lines(rows: list[dict[str, str]], column: str) -> dict[str, Points]:
    """For each engine its value in this column over the number of images; the first row of a size counts."""
    lines: dict[str, dict[float, float]] = {}
    for row in rows:
        if value := row.get(column, "").replace(",", ""):
            lines.setdefault(row["engine"], {}).setdefault(float(row["images"].replace(",", "")), float(value))
    return {engine: sorted(points.items()) for engine, points in lines.items()}


def draw_panel(lines: dict[str, Points], title: str) -> str:
    """One pair of logarithmic axes with a line for each engine, named at its end."""
    low, high = find_decades([y for points in lines.values() for _, y in points])
    first, last = find_decades([x for points in lines.values() for x, _ in points])
    right, bottom = WIDTH - LABELS, HEIGHT - TOP

    def place(x: float, y: float) -> tuple[float, float]:
        across = (log10(x) - first) / (last - first)
        up = (log10(y) - low) / (high - low)
        return LEFT + across * (right - LEFT), bottom - up * (bottom - TOP)

    drawn = [f'<text x="{LEFT}" y="{TOP - 22}" class="title">{escape(title)}</text>']
    for power in range(low, high + 1):
        y = place(10**first, 10**power)[1]
        drawn.append(f'<path d="M{LEFT} {y:.1f}H{right}" class="grid"/>')
        drawn.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{write_power(power)}</text>')
    for power in range(first, last + 1):
        x = place(10**power, 10**low)[0]
        drawn.append(f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{write_power(power)}</text>')
    ends = []
    for number, (engine, points) in enumerate(lines.items()):
        colour, width = COLOURS[number % len(COLOURS)], 3.5 if engine == OURS else 1.5
        spots = [place(x, y) for x, y in points]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in spots)
        drawn.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
        drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{width + 1}" fill="{colour}"/>' for x, y in spots]
        ends.append((*spots[-1], engine, colour))
    return "\n".join([*drawn, *draw_names(ends)])


def draw_names(ends: list[tuple[float, float, str, str]]) -> Iterator[str]:
    """The engines' names, each beside the end of its line or as near below as there is room."""
    free: dict[float, float] = {}
    for x, y, engine, colour in sorted(ends):
        free[x] = max(y + 4, free.get(x, 0) + 15)
        weight = ' style="font-weight:bold"' if engine == OURS else ""
        place = f'x="{x + 10:.1f}" y="{free[x]:.1f}"'
        yield f'<text {place} fill="{colour}" class="name"{weight}>{escape(engine)}</text>'


def write_power(power: int) -> str:
    return f"{10**power:,}" if power >= 0 else f"{10**power:g}"


def find_decades(values: list[float]) -> tuple[int, int]:
    """The powers of ten around these values."""
    low = int(log10(min(values)) // 1)
    return low, max(low + 1, int(-(-log10(max(values)) // 1)))


def join_panels(panels: list[str]) -> str:
    width = WIDTH * len(panels)
    style = "text{font:12px sans-serif}.title{font-weight:bold}.grid{stroke:#ddd}"
    style += ".name{paint-order:stroke;stroke:white;stroke-width:4px}"
    moved = (f'<g transform="translate({WIDTH * n} 0)">\n{panel}\n</g>' for n, panel in enumerate(panels))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" fill="#333">\n'
        f"<style>{style}</style>\n"
        f'<rect width="{width}" height="{HEIGHT}" fill="white"/>\n' + "\n".join(moved) + "\n</svg>\n"
    )


if __name__ == "__main__":
    main()
