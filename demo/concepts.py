"""The things a scene can show: one row of concepts.tsv each, with their glyphs and names in three languages."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("concepts.tsv")


@dataclass(frozen=True)
class Concept:
    """One thing. `glyphs` all mean the same (a cat, the face of a cat); of the names the first is the plain one."""

    id: str
    group: str
    stands: str
    glyphs: tuple[str, ...]
    en: tuple[str, ...]
    ja: tuple[str, ...]
    zh: tuple[str, ...]


def _split_names(cell: str) -> tuple[str, ...]:
    return tuple(name for name in cell.split(", ") if name)


@cache
def load_concepts() -> dict[str, Concept]:
    """Every concept by its id, in the order of the table."""
    with TABLE.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t")
        return {
            row["id"]: Concept(
                id=row["id"],
                group=row["group"],
                stands=row["stands"],
                glyphs=tuple(row["glyphs"].split()),
                en=_split_names(row["en"]),
                ja=_split_names(row["ja"]),
                zh=_split_names(row["zh"]),
            )
            for row in rows
        }
