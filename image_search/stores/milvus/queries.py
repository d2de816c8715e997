"""Orders, exact distances and counts, which Milvus leaves to the program."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from image_search.records import Hits, ImageRecord, SearchHit
from image_search.stores.base import COUNTS_FRAMES, CountedField, Embeddings
from image_search.stores.documents import NEVER, Document, exact_key, list_counted, list_ranges_up_to, sort_counts
from image_search.stores.milvus.schema import IMAGES, match_ids, name_embeddings
from image_search.stores.milvus.session import Snapshot
from image_search.stores.text import make_sort_name

# Orders.

_WINDOW = 10_000  # images that are put in order here
_DRAWN = 1000  # images that are looked at together for a sample


def list_by_name(
    view: Snapshot, condition: str, offset: int, limit: int, after: ImageRecord | None = None
) -> tuple[list[int], int]:
    """image_ids by sort_name, byte by byte, then by image_id, lowest first; and how many there are in all.

    after: begin behind this image.
    """
    rows = view.iterate(IMAGES, condition, ["sort_name"])
    named = sorted((row["sort_name"].encode(), int(row["image_id"])) for row in rows)
    start = offset + (bisect_right(named, (make_sort_name(after.file_name).encode(), after.image_id)) if after else 0)
    return [image_id for _, image_id in named[start : start + limit]], len(named)


def list_newest(
    view: Snapshot,
    condition: str,
    offset: int,
    limit: int,
    fields: tuple[str, ...],
    after: ImageRecord | None = None,
) -> tuple[list[int], int]:
    """image_ids by these times, newest first, then by image_id, highest first; and how many there are in all.

    after: begin behind this image.
    """
    for ranges in list_ranges_up_to(after, fields) if after else ():
        within = " and ".join(f"{field} >= {low} and {field} < {high}" for field, low, high in ranges)
        offset += view.count(IMAGES, f"{condition} and {within}")
    since = ""
    if (count := view.count(IMAGES, condition)) > _WINDOW:
        since = _find_window(view, condition, fields[0], min(offset + limit, count))
    rows = view.iterate(IMAGES, condition + since, fields)
    dated = sorted((tuple(int(row[name]) for name in (*fields, "image_id")) for row in rows), reverse=True)
    if since and len(dated) < min(offset + limit, count):  # another program removed some meanwhile
        return list_newest(view, condition, offset, limit, fields)
    return [image_id for *_, image_id in dated[offset : offset + limit]], count if since else len(dated)


def _find_window(view: Snapshot, condition: str, field: str, wanted: int) -> str:
    # A server cannot sort, so the newest images are found by bisecting the time range.
    early, late = NEVER, -NEVER
    while late - early > 1:
        middle = (early + late) // 2
        count = view.count(IMAGES, f"{condition} and {field} >= {middle}")
        if count < wanted:
            late = middle
        else:
            early = middle
            if count <= _WINDOW:
                break
    return f" and {field} >= {early}"


def make_hits(view: Snapshot, page: Iterable[tuple[int, float | None]], total: int) -> Hits:
    """Hits of image_ids and distances."""
    found = list(page)
    stored = view.get_stored([image_id for image_id, _ in found])
    hits = (SearchHit(stored[image_id].record, distance) for image_id, distance in found if image_id in stored)
    return Hits(tuple(hits), total)


# The nearest embeddings in one total order, to any depth, from limited searches that break ties arbitrarily.


MAX_RESULTS = 16_384  # of one search; the limit of a Milvus server
_TIE = 5e-7  # inner products this near may have changed places by rounding
_MARGIN = 8
_MIN_SCORE = -2.0  # below every inner product of unit vectors

# how many at most, with an inner product up to this (None: any), without these images -> inner products by image_id
Search = Callable[[int, float | None, list[int]], dict[int, float]]


def search_nearest(
    view: Snapshot, model_id: int, condition: str, embedding: Embeddings, offset: int, limit: int
) -> list[tuple[int, float]]:
    """image_ids and distances of one page of the images that qualify, nearest first, ties by image_id."""

    def search(count: int, upto: float | None, without: list[int]) -> dict[int, float]:
        found = view.client.search(
            name_embeddings(model_id),
            data=[embedding.tolist()],
            filter=f"{condition} and {match_ids(without, 'not in')}" if without else condition,
            limit=count,
            search_params={
                "metric_type": "IP",
                "params": {} if upto is None else {"radius": _MIN_SCORE, "range_filter": upto},
            },
        )
        return {int(hit["image_id"]): float(hit["distance"]) for hit in found[0]}

    return find_nearest(search, lambda ids: view.read_embeddings(model_id, ids), embedding, offset, limit)


def find_nearest(
    search: Search, read: Callable[[list[int]], Mapping[int, Embeddings]], query: Embeddings, offset: int, limit: int
) -> list[tuple[int, float]]:
    """image_ids and distances of one page, nearest first, ties by image_id.

    read: gives the stored embeddings of some images. The page is ordered and measured by them, for how a search rounds
    depends on where a row lies.
    """
    ranking = _rank(_gather(search, offset + limit))
    groups = _list_groups(ranking, offset, limit)
    embeddings = read([image_id for group in groups for image_id, _ in group])
    exact = {
        image_id: -float(np.sum(embedding.astype(np.float64) * query)) for image_id, embedding in embeddings.items()
    }
    ordered = [
        (image_id, exact[image_id])
        for group in groups
        for image_id in sorted((n for n, _ in group if n in exact), key=lambda n: (exact[n], n))
    ]
    return ordered[_count_skipped(ranking, offset) :][:limit]


def _gather(search: Search, count: int) -> dict[int, float]:
    """The first count, and everything that ties with the last of them."""
    found: dict[int, float] = {}
    wanted = count + _MARGIN
    upto, known = None, list[int]()
    while True:
        asked = min(wanted, MAX_RESULTS)
        more = search(asked, upto, known)
        found |= more
        products = sorted(found.values(), reverse=True)
        if len(more) < asked or (len(found) > count and products[count - 1] - products[-1] > _TIE):
            return found
        upto = products[-1] + _TIE
        known = [image_id for image_id, product in found.items() if product <= upto + _TIE]
        wanted = max(count - len(found), len(found)) + _MARGIN


def _rank(found: Mapping[int, float]) -> list[tuple[int, float]]:
    return sorted(((image_id, -product) for image_id, product in found.items()), key=lambda hit: (hit[1], hit[0]))


def _list_starts(ranking: list[tuple[int, float]]) -> list[int]:
    """Where a group of hits begins that may all tie with one another."""
    return [n for n in range(len(ranking)) if n == 0 or ranking[n][1] - ranking[n - 1][1] > _TIE]


def _count_skipped(ranking: list[tuple[int, float]], offset: int) -> int:
    """The number of hits before the page within the group of ties that it begins in."""
    return offset - max((start for start in _list_starts(ranking) if start <= offset), default=0)


def _list_groups(ranking: list[tuple[int, float]], offset: int, limit: int) -> list[list[tuple[int, float]]]:
    starts = [*_list_starts(ranking), len(ranking)]
    return [ranking[start:end] for start, end in pairwise(starts) if end > offset and start < offset + limit]


def sample_embeddings(view: Snapshot, model_id: int, size: int) -> list[Embeddings]:
    """Up to size embeddings of a model, the same while the library stays the same."""
    sample: list[Embeddings] = []
    rows = view.iterate(IMAGES, view.write_live(), ["shuffle"])
    drawn = sorted((int(row["shuffle"]), int(row["image_id"])) for row in rows)
    for start in range(0, len(drawn), _DRAWN):
        image_ids = [image_id for _, image_id in drawn[start : start + _DRAWN]]
        there = view.read_recipes(model_id, image_ids)
        chosen = [image_id for image_id in image_ids if image_id in there][: size - len(sample)]
        embeddings = view.read_embeddings(model_id, chosen)
        sample += [embeddings[image_id] for image_id in chosen]
        if len(sample) >= size:
            break
    return sample


# Counts.

# The mark of an image for a value of a counted field.
_MARKS: dict[CountedField, str] = {
    "generator": "g",
    "generation_model": "m",
    "lora": "l",
    "file_type": "t",
    "keyword": "k",
    "camera": "c",
    "lens": "e",
    "folder": "b",
    "film": "x",
}
_MARK = len(exact_key("", "")) + 1  # characters of a mark for a value


def count_values(view: Snapshot, field: CountedField, condition: str) -> dict[str, int]:
    """How many of the images that qualify have each value of a field."""
    # Milvus cannot group. The marks of all images are counted here; one image of each mark gives its value.
    counts: Counter[str] = Counter()
    examples: dict[str, int] = {}
    counted: set[tuple[str, str]] = set()  # mark and film
    for row in view.iterate(IMAGES, condition, ["marks", *["rating"] * (field == "rating")]):
        film = "" if field in COUNTS_FRAMES else "".join(_list_marks(row, "film"))
        for mark in _list_marks(row, field):
            if film:
                counts[mark] += (mark, film) not in counted
                counted.add((mark, film))
            else:
                counts[mark] += 1
            examples.setdefault(mark, int(row["image_id"]))
    if field == "rating":
        return sort_counts(counts.items(), field)
    stored = view.get_stored(list(examples.values()))
    values = {mark: value for one in stored.values() for mark, value in _list_values(one.document, field)}
    return sort_counts(((values[mark], count) for mark, count in counts.items() if mark in values), field)


def _list_marks(row: Mapping[str, Any], field: CountedField) -> list[str]:
    """The marks of an image for values of a field; a rating is its own."""
    if field == "rating":
        return [str(row["rating"])] if int(row["rating"]) >= 0 else []
    if field == "kind":
        return [mark for mark in row["marks"] if mark in ("image", "frame")]
    return [mark for mark in row["marks"] if mark[0] == _MARKS[field] and len(mark) == _MARK]


def _list_values(document: Document, field: CountedField) -> Iterator[tuple[str, str]]:
    """The marks an image has for a field, with their values."""
    for value in list_counted(document)[field]:
        yield (value if field == "kind" else exact_key(_MARKS[field], value)), value
