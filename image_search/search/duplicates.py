"""Pictures that are the same picture: saved again, resized or slightly edited.

Exactly equal files cannot be in a library twice. Nearly equal ones are found by two witnesses that err in different
ways and must agree: the embedding (the same content) and a difference hash of the preview (the same places of light
and dark). Either alone confuses series of similar photographs with copies.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from image_search.errors import ImageNotFound
from image_search.records import ImageRecord
from image_search.search.searcher import Searcher

NEAREST = -0.9  # distance; lenient, because the hash has to agree
MAX_DIFFERENT_BITS = 6  # of 64
_NEIGHBOURS = 8  # copies of one picture looked at; groups grow through each other's neighbours
_PAGE = 200


@dataclass(frozen=True)
class DuplicateSearch:
    """How far it is, and the groups once it is over: each the same picture, the largest first."""

    done: int
    count: int
    groups: tuple[tuple[ImageRecord, ...], ...] = ()
    is_over: bool = False


def find_duplicates(searcher: Searcher) -> Iterator[DuplicateSearch]:
    """Compare every image with its nearest ones; yields how far it is, at last the groups. Raises StoreError."""
    store, model_id = searcher.store, searcher.get_model().model_id
    count = store.count_images()
    hashes: dict[int, int] = {}
    records: dict[int, ImageRecord] = {}
    leaders: dict[int, int] = {}

    def get_hash(image_id: int) -> int:
        if image_id not in hashes:
            hashes[image_id] = compute_difference_hash(store.read_preview(image_id))
        return hashes[image_id]

    done = 0
    while page := store.find_latest(_PAGE, done):
        for hit in page:
            done += 1
            try:
                embedding = store.get_embedding(hit.image_id, model_id)
                near = store.search_embedding(model_id, embedding, _NEIGHBOURS)
                for other in near:
                    is_near = other.distance is not None and other.distance <= NEAREST
                    if other.image_id == hit.image_id or not is_near:
                        continue
                    if (get_hash(hit.image_id) ^ get_hash(other.image_id)).bit_count() <= MAX_DIFFERENT_BITS:
                        records[hit.image_id], records[other.image_id] = hit.image, other.image
                        _join(leaders, hit.image_id, other.image_id)
            except ImageNotFound:
                continue  # deleted meanwhile, or not yet embedded with this model
        yield DuplicateSearch(done, max(count, done))
    yield DuplicateSearch(done, done, _collect_groups(leaders, records), is_over=True)


def compute_difference_hash(preview: bytes) -> int:
    """64 bits: whether each of 8 x 8 places is darker than its right neighbour (Krawetz' difference hash)."""
    with Image.open(io.BytesIO(preview)) as image:
        grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS), np.int16)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


def _find_leader(leaders: dict[int, int], image_id: int) -> int:
    while leaders.setdefault(image_id, image_id) != image_id:
        leaders[image_id] = leaders[leaders[image_id]]
        image_id = leaders[image_id]
    return image_id


def _join(leaders: dict[int, int], one: int, other: int) -> None:
    first, second = sorted((_find_leader(leaders, one), _find_leader(leaders, other)))
    leaders[second] = first


def _collect_groups(leaders: dict[int, int], records: dict[int, ImageRecord]) -> tuple[tuple[ImageRecord, ...], ...]:
    groups: dict[int, list[ImageRecord]] = {}
    for image_id in sorted(records):
        groups.setdefault(_find_leader(leaders, image_id), []).append(records[image_id])
    largest_first = [
        tuple(sorted(group, key=lambda image: (-image.width * image.height, -image.byte_size, image.image_id)))
        for group in groups.values()
    ]
    return tuple(largest_first)
