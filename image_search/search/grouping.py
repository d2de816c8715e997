"""One hit for each film: the best of its moments stands for it, and tells how many others there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from image_search.records import SearchFilter, SearchHit
from image_search.stores.base import ImageStore

Hit = TypeVar("Hit", bound=SearchHit)

MAX_RANKED = 20_000  # hits, frames included, among which the films of a page are looked for
_STEP = 200  # hits that are asked for at least, once the first page held frames of one film


@dataclass(frozen=True)
class Films:
    """Films and images under a filter. frames: their number by film hash; images: those that are no frame."""

    frames: Mapping[str, int]
    images: int

    @property
    def total(self) -> int:
        return len(self.frames) + self.images


def count_films(store: ImageStore, filter: SearchFilter) -> Films | None:
    """Films and images that qualify; None where a search has nothing to group. Raises StoreError."""
    if filter.kind == "image" or filter.film_sha256 is not None:
        return None
    if not store.count_images(SearchFilter(kind="frame")):
        return None
    images = 0 if filter.kind == "frame" else store.count_images(replace(filter, kind="image"))
    return Films(store.count_values("film", filter), images)


def group_hits(
    fetch: Callable[[int, int], tuple[Sequence[Hit], int]],
    limit: int,
    offset: int,
    films: Films,
    is_passed: Callable[[Hit], bool] = lambda _: False,
) -> tuple[list[Hit], int]:
    """One page of hits, each film once with its best hit, and how many there are in all.

    fetch: hits of one total order by limit and offset, and their total. It is asked until the page is full, so that a
    page is short only at the end; or after MAX_RANKED hits, where the list ends.
    is_passed: whether the film of a frame was a hit of an earlier page, which fetch does not tell.
    """
    groups: list[Hit] = []
    seen: set[str] = set()
    start, step, wanted = 0, offset + limit, offset + limit
    while len(groups) < wanted:
        hits, total = fetch(step, start)
        for hit in hits:
            film = hit.image.frame.film_sha256 if hit.image.frame else None
            if film is None or (film not in seen and not is_passed(hit)):
                groups.append(hit)
            if film is not None:
                seen.add(film)
        start += len(hits)
        if not hits or start >= total or start >= MAX_RANKED:
            return groups[offset:wanted], len(groups)
        step = min(max(_STEP, 2 * step), MAX_RANKED - start)
    return groups[offset:wanted], max(films.total, len(groups))
