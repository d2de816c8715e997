"""Copies the images of schema 1 into the collections of schema 2, which are new and empty (schema.py)."""

from __future__ import annotations

from typing import Any

import numpy as np

from image_search.originals import Originals
from image_search.stores.documents import drop_paths
from image_search.stores.milvus.rows import Row, copy_filter_fields, make_row, match_ids, read_row
from image_search.stores.milvus.schema import IMAGES, OLD_IMAGES, name_embeddings, name_old_embeddings, read_state

_CHUNK = 200


def migrate(client: Any, originals: Originals) -> None:
    """Copy every image and its embeddings; rows of images that do not count are left behind."""
    state = read_state(client)
    for name in (OLD_IMAGES, *(name_old_embeddings(model.model_id) for model in state.models)):
        client.load_collection(name)
    taken: set[str] = set()
    # From the latest image on: a path that several images had is that of the latest one.
    for end in range(state.last_image_id, 0, -_CHUNK):
        condition = f"image_id > {end - _CHUNK} and image_id <= {end}"
        if state.removed:
            condition += f" and {match_ids(state.removed, 'not in')}"
        found = client.query(OLD_IMAGES, filter=condition, output_fields=["image_id", "document"])
        rows: dict[int, Row] = {}
        for old in sorted(found, key=lambda row: -int(row["image_id"])):
            stored = read_row(old, originals)
            paths = [path for path in stored.document.paths if path in taken]
            taken.update(stored.document.paths)
            row, files = make_row(stored.change(drop_paths(stored.document, paths)))
            originals.write(files)
            rows[int(row["image_id"])] = row
        if rows:
            client.upsert(IMAGES, list(rows.values()))
        for model in state.models:
            _copy_embeddings(client, model.model_id, rows)


def _copy_embeddings(client: Any, model_id: int, rows: dict[int, Row]) -> None:
    if not rows:
        return
    fields = ["image_id", "embedding"]
    found = client.query(name_old_embeddings(model_id), filter=match_ids(rows), output_fields=fields)
    copies = [
        copy_filter_fields(rows[int(old["image_id"])])
        | {"embedding": np.array(old["embedding"], np.float32), "recipe": 1}
        for old in found
    ]
    if copies:
        client.upsert(name_embeddings(model_id), copies)
