"""A compressed EmbeddingIndex in two files, so that the next start need not build it again.

They are a copy and nothing more: whatever is wrong with them, they are left aside and the index is built from the
table. FAISS reads its part straight into place, which numpy's archive cannot; a checksum tells, before FAISS sees it,
that the part is whole and belongs to the other.
"""

from __future__ import annotations

import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import faiss as typed_faiss
import numpy as np

from image_search.stores.faiss_index import EmbeddingIndex

faiss: Any = typed_faiss  # its type hints know the C++ signatures, not those of its Python classes

_FORMAT = 1
_CHUNK = 1 << 20


def save_index(index: EmbeddingIndex, path: Path) -> None:
    """Write the index to path.faiss and path.npz. Raises OSError when the disk will not take it."""
    codes, arrays = _name_files(path)
    partial = path.with_name(f"{path.name}.part")
    try:
        writer = faiss.FileIOWriter(str(partial))
        try:
            faiss.write_index(index.codes, writer)
            faiss.write_index(index.sketch, writer)
        finally:
            del writer  # closes the file
        checksum = _add_up(partial)
        partial.replace(codes)
        with partial.open("wb") as file:
            np.savez(
                file,
                numbers=np.array([_FORMAT, index.watermark, index.last_removal, index.trained_on], np.int64),
                checksum=np.array(checksum),
                error=np.array(index.error),
                doubled=index.doubled,
                mean=index.mean,
                rotation=np.empty(0) if index.rotation is None else index.rotation,
                embedding_ids=index.embedding_ids,
                alive=index.alive,
            )
        partial.replace(arrays)
    except RuntimeError as error:  # FAISS's word for a disk that is full
        raise OSError(str(error)) from error
    finally:
        partial.unlink(missing_ok=True)


def load_index(path: Path, dimension: int) -> EmbeddingIndex | None:
    """The index that was saved, or None when there is none, it is damaged, or it is of another kind."""
    codes, arrays = _name_files(path)
    try:
        with np.load(arrays) as stored:
            form, watermark, last_removal, trained_on = stored["numbers"].tolist()
            index = EmbeddingIndex(dimension)
            index.mean, index.rotation = stored["mean"], stored["rotation"]
            if form != _FORMAT or index.mean.shape != (dimension,):
                return None
            index.watermark, index.last_removal, index.trained_on = watermark, last_removal, trained_on
            index.error, index.doubled = float(stored["error"]), stored["doubled"]
            index.embedding_ids, index.alive = stored["embedding_ids"], stored["alive"]
            checksum = int(stored["checksum"])
        if _add_up(codes) != checksum:
            return None
        reader = faiss.FileIOReader(str(codes))
        index.codes, index.sketch = faiss.read_index(reader), faiss.read_index(reader)
        return index
    except Exception:  # nothing that can be wrong with a copy is worth more than leaving it aside
        return None


def remove_index(path: Path) -> None:
    """Remove the files, if they are there."""
    for file in _name_files(path):
        with suppress(OSError):
            file.unlink()


def _name_files(path: Path) -> tuple[Path, Path]:
    return path.with_name(path.name + ".faiss"), path.with_name(path.name + ".npz")


def _add_up(file: Path) -> int:
    checksum = 0
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
