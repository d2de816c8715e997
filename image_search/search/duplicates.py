"""Images that are the same image: saved again, resized or slightly edited; and which of them is worth keeping.

Exactly equal files cannot be in a library twice. Nearly equal ones are found by two measures that err in different
ways and must agree: the embedding (the same content) and a difference hash of the preview (the same places of light
and dark). Either alone confuses series of similar photographs with copies. A flat image says nothing to either, so that
it is a duplicate only of an equal file; frames of films are alike by nature and are not compared.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from PIL import Image

from image_search.errors import ImageNotFound
from image_search.records import ImageRecord, ImageText
from image_search.search import Searcher
from image_search.stores.base import ImageStore

NEAREST = -0.9  # distance; lenient, because the hash has to agree
MAX_DIFFERENT_BITS = 6  # of 64
MIN_EDGES = 12  # of 64 places that differ from their neighbour; below, an image is too flat to be told from another
_EDGE = 3  # grey levels of 256; noise of compression is smaller
_NEIGHBOURS = 8  # copies of one image looked at; groups grow through each other's neighbours
_PAGE = 200
_LOSSLESS = ("image/png", "image/tiff", "image/bmp", "image/qoi", "image/x-portable-pixmap", "image/x-tga")
_FOUND = "duplicate_groups"  # setting of the library: content hashes of the groups found last
_KEPT = "duplicates/"  # settings of the library: groups that a person wants to keep whole

KeepReason = Literal["pixels", "lossless", "text", "older", "first"]


@dataclass(frozen=True)
class DuplicateGroup:
    """Images that are the same image, the one to keep first. dates: of their files (UTC), in the same order."""

    images: tuple[ImageRecord, ...]
    dates: tuple[datetime, ...]

    @classmethod
    def of(cls, images: Iterable[ImageRecord], dates: Mapping[int, datetime]) -> DuplicateGroup:
        """dates: by image_id; the upload date stands for one that is unknown."""
        ranked = [(image, dates.get(image.image_id, image.upload_date)) for image in images]
        ranked.sort(key=lambda pair: tuple(_rank(*pair).values()))
        return cls(tuple(image for image, _ in ranked), tuple(date for _, date in ranked))

    @property
    def kept_because(self) -> KeepReason:
        """The first quality by which the image to keep beats the next one; "first": it was registered first."""
        first, second = (_rank(*pair) for pair in list(zip(self.images, self.dates, strict=True))[:2])
        return next(reason for reason in first if first[reason] != second[reason])

    def without(self, image_ids: Iterable[int]) -> DuplicateGroup | None:
        """The rest of the group; None when fewer than two images are left."""
        gone = set(image_ids)
        left = [pair for pair in zip(self.images, self.dates, strict=True) if pair[0].image_id not in gone]
        return replace(self, images=tuple(i for i, _ in left), dates=tuple(d for _, d in left)) if left[1:] else None


@dataclass(frozen=True)
class DuplicateSearch:
    """Progress of a search for duplicates, and its groups once it is over."""

    done: int
    count: int
    groups: tuple[DuplicateGroup, ...] = ()
    is_over: bool = False


def find_duplicates(searcher: Searcher) -> Iterator[DuplicateSearch]:
    """Compare every image with its nearest ones; yields how far it is, at last the groups. Raises StoreError."""
    store, model_id = searcher.store, searcher.get_model().model_id
    count = store.count_images()
    fingerprints = _Fingerprints(store)
    leaders: dict[int, int] = {}
    done = last = 0
    while image_ids := store.list_image_ids(last, _PAGE):
        embeddings = store.get_embeddings(image_ids, model_id)  # not yet of all images
        for image_id, embedding in embeddings.items():
            for other in store.search_embedding(model_id, embedding, _NEIGHBOURS):
                is_near = other.distance is not None and other.distance <= NEAREST
                if is_near and other.image_id != image_id and fingerprints.agree(image_id, other.image_id):
                    _join(leaders, image_id, other.image_id)
        done, last = done + len(image_ids), image_ids[-1]
        yield DuplicateSearch(done, max(count, done))
    yield DuplicateSearch(done, done, _collect_groups(store, leaders), is_over=True)


# Groups that a person looked at and wants to keep, all of them.


def keep_all(store: ImageStore, group: DuplicateGroup) -> None:
    """Remember that these images are all wanted: they are no group again, unless another image joins them."""
    hashes = sorted(image.content_sha256 for image in group.images)
    name = hashlib.sha256("".join(hashes).encode()).hexdigest()
    store.set_setting(_KEPT + name, json.dumps(hashes))


def save_groups(store: ImageStore, groups: Iterable[DuplicateGroup]) -> None:
    """Keep with the library what a look for duplicates found, until the next one. Raises StoreError."""
    store.set_setting(_FOUND, json.dumps([[image.content_sha256 for image in group.images] for group in groups]))


def load_groups(store: ImageStore, limit: int) -> tuple[list[DuplicateGroup], int] | None:
    """Groups of the last look that are still there, and how many; None before the first look. Raises StoreError.

    limit: groups that are read.
    """
    kept = store.list_settings(_FOUND).get(_FOUND)
    if kept is None:
        return None
    groups: list[DuplicateGroup] = []
    left = 0
    whole = _list_kept(store)
    for hashes in json.loads(kept):
        if len(groups) == limit:
            left += 1
            continue
        images = list(store.find_images(list(store.find_known_hashes(hashes).values())).values())
        images = [image for image in images if image.deleted_at is None]
        left_of_it = {image.content_sha256 for image in images}
        if len(images) > 1 and not any(left_of_it <= group for group in whole):
            groups.append(DuplicateGroup.of(images, _read_dates(store, images)))
    return groups, len(groups) + left


def _list_kept(store: ImageStore) -> list[frozenset[str]]:
    return [frozenset(json.loads(hashes)) for hashes in store.list_settings(_KEPT).values()]


# The second measure: a difference hash of 64 places.


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """bits: whether each of 8 x 8 places is darker than its right neighbour (Krawetz' difference hash).

    edges: how many places differ from their neighbour by more than noise.
    """

    bits: int
    edges: int

    @property
    def is_flat(self) -> bool:
        return self.edges < MIN_EDGES


def compute_fingerprint(preview: bytes) -> Fingerprint:
    """The fingerprint of a preview."""
    with Image.open(io.BytesIO(preview)) as image:
        grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS), np.int16)
    steps = grey[:, :-1] - grey[:, 1:]
    bits = int.from_bytes(np.packbits(steps < 0).tobytes(), "big")
    return Fingerprint(bits, int(np.count_nonzero(np.abs(steps) >= _EDGE)))


class _Fingerprints:
    """Fingerprints of the images of a library, each computed once."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._known: dict[int, Fingerprint | None] = {}

    def agree(self, one: int, other: int) -> bool:
        """Whether two images have the same places of light and dark. A flat image has none."""
        missing = [image_id for image_id in (one, other) if image_id not in self._known]
        previews = self._store.read_previews(missing) if missing else {}
        for image_id in missing:
            self._known[image_id] = compute_fingerprint(previews[image_id]) if image_id in previews else None
        first, second = self._known[one], self._known[other]
        if first is None or second is None or first.is_flat or second.is_flat:
            return False
        # The fewer places have an edge, the fewer of them may differ.
        allowed = min(MAX_DIFFERENT_BITS, first.edges // 4, second.edges // 4)
        return (first.bits ^ second.bits).bit_count() <= allowed


def _find_leader(leaders: dict[int, int], image_id: int) -> int:
    while leaders.setdefault(image_id, image_id) != image_id:
        leaders[image_id] = leaders[leaders[image_id]]
        image_id = leaders[image_id]
    return image_id


def _join(leaders: dict[int, int], one: int, other: int) -> None:
    first, second = sorted((_find_leader(leaders, one), _find_leader(leaders, other)))
    leaders[second] = first


def _collect_groups(store: ImageStore, leaders: dict[int, int]) -> tuple[DuplicateGroup, ...]:
    members: dict[int, list[ImageRecord]] = {}
    for image_id in sorted(leaders):
        try:
            record = store.get_image(image_id)
        except ImageNotFound:
            continue  # deleted meanwhile
        if record.deleted_at is None and record.frame is None:
            members.setdefault(_find_leader(leaders, image_id), []).append(record)
    kept = _list_kept(store)
    groups = []
    for images in members.values():
        hashes = {image.content_sha256 for image in images}
        if len(images) > 1 and not any(hashes <= whole for whole in kept):
            groups.append(DuplicateGroup.of(images, _read_dates(store, images)))
    return tuple(groups)


def _read_dates(store: ImageStore, images: Iterable[ImageRecord]) -> dict[int, datetime]:
    """When their files were changed last, by image_id, as far as known."""
    files = store.find_known_files([image.file_path for image in images if image.file_path])
    return {
        file.image_id: datetime.fromtimestamp(file.modified_ns / 1e9, UTC).replace(tzinfo=None)
        for file in files.values()
        if file.modified_ns is not None
    }


def _rank(image: ImageRecord, date: datetime) -> dict[KeepReason, object]:
    """Criteria for the image to keep, the most important first; smaller is better."""
    says_something = replace(image.text, raw={}) != ImageText() or not image.edits.is_empty
    return {
        "pixels": -image.width * image.height,
        "lossless": image.file_type not in _LOSSLESS,
        "text": not says_something,
        "older": date,
        "first": image.image_id,
    }
