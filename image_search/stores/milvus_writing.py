"""What a writer of a library in Milvus does, step by step, and how the next one finishes what was interrupted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from image_search.originals import Originals
from image_search.stores.base import Embeddings
from image_search.stores.milvus_records import Row, Stored, copy_filter_fields, list_files, make_row
from image_search.stores.milvus_schema import (
    FILTER_FIELDS,
    IMAGES,
    LibraryState,
    name_embeddings,
    read_state,
    write_state,
)
from image_search.stores.milvus_view import View

_ROWS = 500  # in one message to the server
_NO_ROWS: Mapping[int, Row] = {}


class Writer(View):
    """A view whose owner is the only writer, and who left nothing unfinished of those before."""

    def __init__(self, client: Any, originals: Originals, confirm: Callable[[], None]) -> None:
        """confirm: raises StoreError when another program writes by now."""
        confirm()
        super().__init__(client, read_state(client), originals)
        self.originals = originals
        self._confirm = confirm
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
