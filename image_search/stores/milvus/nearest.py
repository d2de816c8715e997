"""The nearest embeddings in one total order, to any depth, from limited searches that break ties arbitrarily."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np

from image_search.stores.base import Embeddings

MAX_RESULTS = 16_384  # of one search; the limit of a Milvus server
_TIE = 5e-7  # inner products this near may have changed places by rounding
_MARGIN = 8

# how many at most, with an inner product up to this (None: any), without these images -> inner products by image_id
Search = Callable[[int, float | None, list[int]], dict[int, float]]


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
