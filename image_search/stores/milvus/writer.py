"""Writes to a library in Milvus, step by step; the next writer finishes an interrupted one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from image_search.errors import StoreError
from image_search.originals import Originals
from image_search.stores.base import Embeddings
from image_search.stores.milvus.rows import (
    Row,
    Stored,
    copy_filter_fields,
    list_files,
    make_row,
    match_ids,
    name_preview,
    read_row,
)
from image_search.stores.milvus.schema import (
    FILTER_FIELDS,
    IMAGES,
    LibraryState,
    name_embeddings,
    read_state,
    write_state,
)
from image_search.stores.milvus.session import Snapshot

_ROWS = 500  # in one message to the server
_PAGE = 200  # documents

EmbeddingRows = Mapping[int, tuple[Embeddings, int]]  # embedding and recipe by image_id


class Writer(Snapshot):
    """A view whose owner is the only writer, and who left nothing unfinished of those before."""

    def __init__(self, client: Any, originals: Originals, ensure_locked: Callable[[], None]) -> None:
        """ensure_locked: raises StoreError when another program writes by now."""
        ensure_locked()
        super().__init__(client, read_state(client), originals)
        self.originals = originals
        self._ensure_locked = ensure_locked
        self._sweep_unseen()
        self._finish_removal()
        self._finish_change()
        for model_id in self.state.dropped:
            client.drop_collection(name_embeddings(model_id))
        if self.state.is_unfinished:
            self.save(replace(self.state, removed=(), changed=(), hidden=(), dropped=()))

    def save(self, state: LibraryState) -> None:
        """Make this the state of the library: what was prepared counts from now on."""
        self._ensure_locked()
        write_state(self.client, state)
        self.state = state

    # --- adding -----------------------------------------------------------------------------------------------------

    def add_images(
        self, model_id: int, images: Sequence[Stored], contents: Mapping[str, bytes], embeddings: EmbeddingRows
    ) -> None:
        """Add new images with one embedding each. contents: their originals and previews. All are seen at once."""
        rows, files = [], dict(contents)
        for image in images:
            row, documents = make_row(image)
            rows.append(row)
            files |= documents
        self._write_rows(IMAGES, rows)
        self.originals.write(files)
        copies = [_make_embedding_row(row, *embeddings[row["image_id"]]) for row in rows]
        self._write_rows(name_embeddings(model_id), copies)
        if rows:
            has_cut_words = self.state.has_cut_words or any(row["words_cut"] for row in rows)
            self.save(replace(self.state, last_image_id=rows[-1]["image_id"], has_cut_words=has_cut_words))

    def put_embeddings(self, model_id: int, embeddings: EmbeddingRows) -> None:
        """Add or replace the embeddings of those of these images that are live."""
        condition = self.write_live([match_ids(embeddings)]) if embeddings else ""
        rows = self.iterate(IMAGES, condition, FILTER_FIELDS) if embeddings else ()
        copies = [_make_embedding_row(row, *embeddings[int(row["image_id"])]) for row in rows]
        self._write_rows(name_embeddings(model_id), copies)

    # --- changing ---------------------------------------------------------------------------------------------------

    def change_images(
        self, images: Sequence[Stored], contents: Mapping[str, bytes] | None = None, is_hidden: bool = False
    ) -> None:
        """Rewrite images, and their fields beside the embeddings. contents: files they refer to.

        is_hidden: no search finds them until all is done.
        """
        if not images:
            return
        ids = [image.record.image_id for image in images]
        before = self.get_rows(IMAGES, ids, ["content_sha256", "document"])
        rows, files = [], dict(contents or {})
        for image in images:
            row, documents = make_row(image)
            rows.append(row)
            files |= documents
        if files:
            self.originals.write(files)
        has_cut_words = self.state.has_cut_words or any(row["words_cut"] for row in rows)
        hidden = tuple(ids) if is_hidden else ()
        old_files = {name for row in before.values() for name in list_files(row, self.originals)}
        self.save(replace(self.state, changed=tuple(ids), hidden=hidden, has_cut_words=has_cut_words))
        self._write_rows(IMAGES, rows)
        self._finish_change()
        self.save(replace(self.state, changed=(), hidden=()))
        after = self.get_rows(IMAGES, ids, ["content_sha256", "document"])
        self._delete_files(old_files, {name for row in after.values() for name in list_files(row, self.originals)})

    def park(self, images: Sequence[Stored]) -> list[Stored]:
        """The same images with their embeddings in them."""
        parked: dict[int, dict[int, tuple[Embeddings, int]]] = {image.record.image_id: {} for image in images}
        for model in self.state.models:
            rows = self.get_rows(name_embeddings(model.model_id), list(parked), ["embedding", "recipe"])
            for image_id, row in rows.items():
                embedding = np.array(row["embedding"], np.float32)
                parked[image_id][model.model_id] = (embedding, int(row["recipe"]))
        return [replace(image, parked=parked[image.record.image_id]) for image in images]

    def remove_images(self, image_ids: Sequence[int]) -> int:
        """Remove those of these images that are there, and say how many."""
        there = list(self.get_rows(IMAGES, image_ids, []))
        if there:
            self.save(replace(self.state, removed=tuple(there)))
            self._finish_removal()
            self.save(replace(self.state, removed=()))
        return len(there)

    def _sweep_unseen(self) -> None:
        # The rest of an unfinished batch. Its images were written first and are removed last.
        unseen = f"image_id > {self.state.last_image_id}"
        rows = self.client.query(IMAGES, filter=unseen, output_fields=["image_id", "content_sha256", "document"])
        known = self.find_hashes([row["content_sha256"] for row in rows]) if rows else {}
        self._remove_rows(rows, {name for document in known.values() for name in self._list_files(document.image_id)})

    def _list_files(self, image_id: int) -> list[str]:
        rows = self.get_rows(IMAGES, [image_id], ["content_sha256", "document"])
        return [name for row in rows.values() for name in list_files(row, self.originals)]

    def _finish_removal(self) -> None:
        for start in range(0, len(self.state.removed), _ROWS):
            condition = match_ids(self.state.removed[start : start + _ROWS])
            self._remove_rows(list(self.iterate(IMAGES, condition, ["content_sha256", "document"])), set())

    def _finish_change(self) -> None:
        """Bring the embeddings of the changed images in line with their rows; done as often as it takes."""
        if not self.state.changed:
            return
        rows = self.get_rows(IMAGES, self.state.changed, [*FILTER_FIELDS, "document"])
        images = {image_id: read_row(row, self.originals) for image_id, row in rows.items()}
        trashed = [image_id for image_id, image in images.items() if not image.document.is_live]
        renewed = [image_id for image_id, image in images.items() if image.document.is_live and image.parked]
        kept = list(rows.keys() - {*trashed, *renewed})
        for model in self.state.models:
            name = name_embeddings(model.model_id)
            if gone := [n for n in (*trashed, *renewed) if n in trashed or model.model_id not in images[n].parked]:
                self.client.delete(name, ids=gone)
            new = {n: images[n].parked[model.model_id] for n in renewed if model.model_id in images[n].parked}
            for image_id, row in self.get_rows(name, kept, ["embedding", "recipe"]).items():
                new[image_id] = (np.array(row["embedding"], np.float32), int(row["recipe"]))
            self._write_rows(name, [_make_embedding_row(rows[n], *embedding) for n, embedding in new.items()])
        # Only when its embeddings are where they are searched, an image lets go of its own copy.
        self._write_rows(IMAGES, [make_row(replace(images[image_id], parked={}))[0] for image_id in renewed])

    def _remove_rows(self, rows: Sequence[Row], spared: set[str]) -> None:
        """Remove images with all their rows, the row that lists them last. spared: files that other images have."""
        if not rows:
            return
        image_ids = [int(row["image_id"]) for row in rows]
        for model in self.state.models:
            self.client.delete(name_embeddings(model.model_id), ids=image_ids)
        names: set[str] = set()
        for row in rows:
            with suppress(StoreError):  # its document may not have been written yet
                names.update(list_files(row, self.originals))
            names.update((row["content_sha256"], name_preview(row["content_sha256"])))
        self._delete_files(names, spared)
        self.client.delete(IMAGES, ids=image_ids)

    def _delete_files(self, names: set[str], spared: set[str]) -> None:
        self.originals.delete(names - spared)

    def _write_rows(self, collection: str, rows: Sequence[Row]) -> None:
        for start in range(0, len(rows), _ROWS):
            self.client.upsert(collection, list(rows[start : start + _ROWS]))


def _make_embedding_row(row: Row, embedding: Embeddings, recipe: int) -> Row:
    return copy_filter_fields(row) | {"embedding": np.asarray(embedding, np.float32), "recipe": recipe}
