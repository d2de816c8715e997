"""A library in Milvus as one reader sees it: the rows that count, page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from image_search.originals import Originals
from image_search.records import EmbeddingModel, SearchFilter
from image_search.stores.base import Embeddings, image_not_found, model_not_found
from image_search.stores.milvus.rows import (
    Row,
    Stored,
    copy_filter_fields,
    count_now,
    list_conditions,
    list_files,
    make_row,
    make_words,
    match_any,
    match_ids,
    match_phrase,
    read_row,
    tokenize_query,
)
from image_search.stores.milvus.schema import (
    FILTER_FIELDS,
    IMAGES,
    LibraryState,
    name_embeddings,
    read_state,
    write_state,
)

_PAGE = 10_000  # rows of numbers; a server gives 16,384 at most
_DOCUMENTS = 200
_LOOKED_UP = 1000
_WINDOW = 10_000  # images that are put in order here


class Snapshot:
    """Queries of one moment. What is being added, or is removed but not yet swept away, is not seen."""

    def __init__(self, client: Any, state: LibraryState, originals: Originals) -> None:
        self.client = client
        self.state = state
        self._originals = originals

    def find_model(self, model_id: int) -> EmbeddingModel:
        """One model. Raises StoreError when there is no such model."""
        for model in self.state.models:
            if model.model_id == model_id:
                return model
        raise model_not_found(model_id)

    def write_condition(self, conditions: Sequence[str] = ()) -> str:
        """An expression: what counts, and all of these."""
        counting = [f"image_id <= {self.state.last_image_id}"]
        if self.state.removed:
            counting.append(match_ids(self.state.removed, "not in"))
        return " and ".join([*counting, *conditions])

    def write_filter(self, filter: SearchFilter, words: Sequence[str] = ()) -> str:
        """An expression: what counts, and this filter, and all of these words."""
        phrases = [tokenize_query(word) for word in (*filter.words, *words) if word.strip()]
        uncut = self._list_uncut_words() if phrases and self.state.has_cut_words else {}
        occurring = [
            match_phrase(phrase, [image_id for image_id, text in uncut.items() if phrase and phrase in text])
            for phrase in phrases
        ]
        return self.write_condition([*list_conditions(filter), *occurring])

    # --- rows -------------------------------------------------------------------------------------------------------

    def count(self, collection: str, condition: str) -> int:
        """How many rows there are."""
        return int(self.client.query(collection, filter=condition, output_fields=["count(*)"])[0]["count(*)"])

    def iterate(self, collection: str, condition: str, fields: Sequence[str], page: int = _PAGE) -> Iterator[Row]:
        """All rows, in no order. What a page is given for is that a server gives 16,384 rows at most."""
        last = self.state.last_image_id
        pages = [condition]
        if self.count(collection, condition) > page:
            pages = [
                f"image_id > {start} and image_id <= {start + page} and {condition}" for start in range(0, last, page)
            ]
        for one in pages:
            yield from self.client.query(collection, filter=one, output_fields=["image_id", *fields])

    def get_rows(self, collection: str, image_ids: Sequence[int], fields: Sequence[str]) -> dict[int, Row]:
        """Rows of those of these images that are there, by image_id."""
        known = [image_id for image_id in dict.fromkeys(image_ids) if 0 < image_id <= self.state.last_image_id]
        found: dict[int, Row] = {}
        for start in range(0, len(known), _LOOKED_UP):
            condition = self.write_condition([match_ids(known[start : start + _LOOKED_UP])])
            rows = self.client.query(collection, filter=condition, output_fields=["image_id", *fields])
            found.update((int(row["image_id"]), row) for row in rows)
        return found

    def look_up(self, field: str, keys: Sequence[str], fields: Sequence[str]) -> Iterator[Row]:
        """Rows of the images whose field has one of these keys, in no order."""
        for start in range(0, len(keys), _LOOKED_UP):
            condition = self.write_condition([match_any(field, keys[start : start + _LOOKED_UP])])
            yield from self.client.query(IMAGES, filter=condition, output_fields=["image_id", field, *fields])

    def find_hashes(self, hashes: Sequence[str]) -> dict[str, int]:
        """Those of these SHA-256 hashes that are registered, with their image_id."""
        rows = self.look_up("content_sha256", [sha256 for sha256 in hashes if sha256.isalnum()], [])
        return {row["content_sha256"]: int(row["image_id"]) for row in rows}

    # --- images -----------------------------------------------------------------------------------------------------

    def get_stored(self, image_ids: Sequence[int]) -> dict[int, Stored]:
        """Those of these images that are there, by image_id."""
        rows = self.get_rows(IMAGES, image_ids, ["document"])
        return {image_id: read_row(row, self._originals) for image_id, row in rows.items()}

    def get_hash(self, image_id: int) -> str:
        """The SHA-256 of one image. Raises ImageNotFound."""
        for row in self.get_rows(IMAGES, [image_id], ["content_sha256"]).values():
            return str(row["content_sha256"])
        raise image_not_found(image_id)

    def read_embeddings(self, model_id: int, image_ids: Sequence[int]) -> dict[int, Embeddings]:
        """The stored embeddings of those of these images that have one of this model."""
        rows = self.get_rows(name_embeddings(model_id), image_ids, ["embedding"])
        return {image_id: np.array(row["embedding"], np.float32) for image_id, row in rows.items()}

    def list_newest(self, condition: str, offset: int, limit: int) -> list[int]:
        """image_ids by upload_date, newest first, then by image_id, highest first."""
        since = ""
        if (count := self.count(IMAGES, condition)) > _WINDOW:
            since = self._find_window(condition, min(offset + limit, count))
        rows = self.iterate(IMAGES, condition + since, ["upload_date"])
        dated = sorted(((int(row["upload_date"]), int(row["image_id"])) for row in rows), reverse=True)
        if since and len(dated) < min(offset + limit, count):  # somebody deleted meanwhile
            return self.list_newest(condition, offset, limit)
        return [image_id for _, image_id in dated[offset : offset + limit]]

    def _find_window(self, condition: str, wanted: int) -> str:
        # A server cannot sort, so as few of the newest as will do are found by halving the time they were added in.
        early, late = 0, count_now() * 2
        while late - early > 1:
            middle = (early + late) // 2
            count = self.count(IMAGES, f"{condition} and upload_date >= {middle}")
            if count < wanted:
                late = middle
            else:
                early = middle
                if count <= _WINDOW:
                    break
        return f" and upload_date >= {early}" if early else ""

    def _list_uncut_words(self) -> Mapping[int, str]:
        rows = self.iterate(IMAGES, self.write_condition(["words_cut == true"]), ["document"], _DOCUMENTS)
        stored = (read_row(row, self._originals) for row in rows)
        return {one.record.image_id: make_words(one.record.text, one.record.file_name) for one in stored}


# What a writer of a library in Milvus does, step by step, and how the next one finishes what was interrupted.

_ROWS = 500  # in one message to the server
_NO_ROWS: Mapping[int, Row] = {}


class Writer(Snapshot):
    """A view whose owner is the only writer, and who left nothing unfinished of those before."""

    def __init__(self, client: Any, originals: Originals, ensure_locked: Callable[[], None]) -> None:
        """confirm: raises StoreError when another program writes by now."""
        ensure_locked()
        super().__init__(client, read_state(client), originals)
        self.originals = originals
        self._confirm = ensure_locked
        self._sweep_unseen()
        self._finish_removal()
        self._finish_change()
        for model_id in self.state.dropped:
            client.drop_collection(name_embeddings(model_id))
        if self.state.is_unfinished:
            self.save(replace(self.state, removed=(), changed=(), dropped=()))

    def save(self, state: LibraryState) -> None:
        """Make this the state of the library: whatever was prepared counts from now on."""
        self._confirm()
        write_state(self.client, state)
        self.state = state

    def add_rows(
        self, model_id: int, images: Sequence[Stored], contents: Mapping[str, bytes], embeddings: Sequence[Embeddings]
    ) -> None:
        """Add new images with one embedding each. contents: their originals and previews. All are seen at once."""
        rows, files = [], dict(contents)
        for image in images:
            row, documents = make_row(image)
            rows.append(row)
            files |= documents
        self._insert(IMAGES, rows)
        self.originals.write(files)
        copies = [
            copy_filter_fields(row) | {"embedding": embedding} for row, embedding in zip(rows, embeddings, strict=True)
        ]
        self._insert(name_embeddings(model_id), copies)
        if rows:
            has_cut_words = self.state.has_cut_words or any(row["words_cut"] for row in rows)
            self.save(replace(self.state, last_image_id=rows[-1]["image_id"], has_cut_words=has_cut_words))

    def put_embeddings(self, model_id: int, embeddings: Mapping[int, Embeddings]) -> None:
        """Add or replace the embeddings of those of these images that are there."""
        rows = self.get_rows(IMAGES, list(embeddings), FILTER_FIELDS)
        copies = [copy_filter_fields(row) | {"embedding": embeddings[image_id]} for image_id, row in rows.items()]
        for start in range(0, len(copies), _ROWS):
            self.client.upsert(name_embeddings(model_id), copies[start : start + _ROWS])

    def replace_image(self, image: Stored) -> None:
        """Write an image anew, and what lies beside its embeddings."""
        image_id = image.record.image_id
        [old] = self.get_rows(IMAGES, [image_id], ["content_sha256", "document"]).values()
        row, files = make_row(image)
        self.originals.write(files)
        has_cut_words = self.state.has_cut_words or row["words_cut"]
        self.save(replace(self.state, changed=(image_id,), has_cut_words=has_cut_words))
        self.client.upsert(IMAGES, [row])
        self._finish_change()
        self.save(replace(self.state, changed=()))
        self.originals.delete(set(list_files(old)) - set(list_files(row)))

    def remove_images(self, image_ids: Sequence[int]) -> int:
        """Remove those of these images that are there, and say how many."""
        there = list(self.get_rows(IMAGES, image_ids, []))
        if there:
            self.save(replace(self.state, removed=tuple(there)))
            self._finish_removal()
            self.save(replace(self.state, removed=()))
        return len(there)

    def _sweep_unseen(self) -> None:
        # What a batch that was never finished left. Its images were written first and are swept away last.
        unseen = f"image_id > {self.state.last_image_id}"
        rows = self.client.query(IMAGES, filter=unseen, output_fields=["image_id", "content_sha256", "document"])
        self._remove_rows(rows, spared=self.find_hashes([row["content_sha256"] for row in rows]) if rows else {})

    def _finish_removal(self) -> None:
        for start in range(0, len(self.state.removed), _ROWS):
            ids = ", ".join(str(image_id) for image_id in self.state.removed[start : start + _ROWS])
            fields = ["content_sha256", "document"]
            self._remove_rows(list(self.iterate(IMAGES, f"image_id in [{ids}]", fields)), {})

    def _finish_change(self) -> None:
        rows = self.get_rows(IMAGES, self.state.changed, FILTER_FIELDS) if self.state.changed else _NO_ROWS
        for model in self.state.models if rows else ():
            embeddings = self.read_embeddings(model.model_id, list(rows))
            copies = [copy_filter_fields(rows[n]) | {"embedding": embedding} for n, embedding in embeddings.items()]
            if copies:
                self.client.upsert(name_embeddings(model.model_id), copies)

    def _remove_rows(self, rows: Sequence[Row], spared: Mapping[str, int]) -> None:
        """Everything of some images, the row that tells what there is last. spared: hashes other images have."""
        if not rows:
            return
        image_ids = [int(row["image_id"]) for row in rows]
        for model in self.state.models:
            self.client.delete(name_embeddings(model.model_id), ids=image_ids)
        self.originals.delete(name for row in rows if row["content_sha256"] not in spared for name in list_files(row))
        self.client.delete(IMAGES, ids=image_ids)

    def _insert(self, collection: str, rows: Sequence[Row]) -> None:
        for start in range(0, len(rows), _ROWS):
            self.client.insert(collection, list(rows[start : start + _ROWS]))


# The nearest embeddings in one total order, to any depth, out of searches that give so many and break ties anyhow.

MAX_RESULTS = 16_384  # of one search; the limit of a Milvus server
_TIE = 5e-7  # inner products this near may have changed places by rounding
_MARGIN = 8

# how many at most, with an inner product up to this (None: any), without these images -> inner products by image_id
Search = Callable[[int, float | None, list[int]], dict[int, float]]


def find_nearest(
    search: Search, read: Callable[[list[int]], Mapping[int, Embeddings]], query: Embeddings, offset: int, limit: int
) -> list[tuple[int, float]]:
    """image_ids and distances of one page, nearest first, ties by image_id.

    read: gives the stored embeddings of some images; those that lie equally far are compared by them.
    """
    ranking = _rank(_gather(search, offset + limit))
    return [
        (image_id, distance)
        for group in _list_groups(ranking, offset, limit)
        for image_id, distance in _order_group(group, read, query)
    ][_count_skipped(ranking, offset) :][:limit]


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
    """How many hits of the group the page begins in lie before it."""
    return offset - max((start for start in _list_starts(ranking) if start <= offset), default=0)


def _list_groups(ranking: list[tuple[int, float]], offset: int, limit: int) -> list[list[tuple[int, float]]]:
    starts = [*_list_starts(ranking), len(ranking)]
    return [ranking[start:end] for start, end in pairwise(starts) if end > offset and start < offset + limit]


def _order_group(
    group: list[tuple[int, float]], read: Callable[[list[int]], Mapping[int, Embeddings]], query: Embeddings
) -> list[tuple[int, float]]:
    if len(group) == 1:
        return group
    embeddings = read([image_id for image_id, _ in group])
    exact = {
        image_id: -float(np.sum(embedding.astype(np.float64) * query)) for image_id, embedding in embeddings.items()
    }
    return sorted(((image_id, exact[image_id]) for image_id in exact), key=lambda hit: (hit[1], hit[0]))
