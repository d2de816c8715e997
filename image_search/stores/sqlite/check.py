"""--check on the embedded store: the file, the originals beside it, and the index in memory with its saved copy."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from image_search.originals import check_folder, check_originals
from image_search.records import EmbeddingModel, Finding
from image_search.stores.sqlite.faiss_index import FAISS_VERSION, SMALL

if TYPE_CHECKING:
    from image_search.stores.sqlite import SqliteStore

_READ_THROUGH = 2**30  # bytes; a larger file takes longer than a user waits


def check_sqlite(store: SqliteStore) -> Iterator[Finding]:
    """Findings about this store. Does not create a library that is not there yet. Raises StoreError."""
    folder = store.path.parent
    if not folder.parent.is_dir():
        yield Finding("folder", False, f"{folder} is not there", "Make it, or correct DATABASE_URL.")
        return
    yield check_folder("folder", folder, "DATABASE_URL")
    yield check_originals(store.originals)
    if not store.path.exists():
        store.check_new()
        yield Finding("database file", True, f"{store.path.name} is not there yet: it is made when it is first needed")
        return
    models = store.get_status().models  # opens the file: a foreign one, or one of another schema, is refused here
    yield _check_file(store.path)
    for model, count in models:
        if model.is_current and count:
            yield _check_index(store, model, count)


def _check_file(path: Path) -> Finding:
    size = path.stat().st_size
    what = f"{path.name}, {size / 2**20:,.1f} MiB"
    if size > _READ_THROUGH:
        return Finding("database file", True, f"{what}, too large to be read through here")
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        [first, *_] = [row[0] for row in connection.execute("PRAGMA quick_check(1)")]
    if first != "ok":
        remedy = "Restore the file from a backup, or name a new one in DATABASE_URL and register the images again."
        return Finding("database file", False, f"{what}, damaged: {' '.join(str(first).split())}", remedy)
    return Finding("database file", True, f"{what}, undamaged")


def _check_index(store: SqliteStore, model: EmbeddingModel, count: int) -> Finding:
    """The index in memory, if this program has searched already, and its saved copy."""
    copies = list(store.path.parent.glob(f"{store.path.name}-index-{model.model_id}.*"))
    name = f"FAISS {FAISS_VERSION}"
    if count <= SMALL and not copies:
        return Finding("index", True, f"{name}, uncompressed, made from the table at the first search")
    found = store.index.describe().get(model.model_id, "not looked at")
    size = sum(file.stat().st_size for file in copies) / 2**20
    copy = f"saved copy of {size:,.1f} MiB" if copies else "no saved copy"
    return Finding("index", True, f"{name}: {found} of {count:,}, {copy}; the rest is read from the table")
