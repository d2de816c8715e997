"""A library in Milvus as one reader sees it: the rows that count, page by page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from image_search.originals import Originals
from image_search.records import EmbeddingModel, SearchFilter
from image_search.stores.base import Embeddings
from image_search.stores.milvus_conditions import (
    count_now,
    list_conditions,
    make_phrase,
    make_words,
    match_any,
    match_ids,
    match_phrase,
)
from image_search.stores.milvus_records import Row, Stored, read_row
from image_search.stores.milvus_schema import IMAGES, LibraryState, name_embeddings
from image_search.stores.refusals import no_image, no_model

_PAGE = 10_000  # rows of numbers; a server gives 16,384 at most
_DOCUMENTS = 200
_LOOKED_UP = 1000
_WINDOW = 10_000  # images that are put in order here


class View:
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
        raise no_model(model_id)

    def write_condition(self, conditions: Sequence[str] = ()) -> str:
        """An expression: what counts, and all of these."""
        counting = [f"image_id <= {self.state.last_image_id}"]
        if self.state.removed:
            counting.append(match_ids(self.state.removed, "not in"))
        return " and ".join([*counting, *conditions])

    def write_filter(self, filter: SearchFilter, words: Sequence[str] = ()) -> str:
        """An expression: what counts, and this filter, and all of these words."""
        phrases = [make_phrase(word) for word in (*filter.words, *words) if word.strip()]
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
        raise no_image(image_id)

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
