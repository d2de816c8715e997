"""Keeps an index of each model's embeddings near the table, in the background, whichever process changes the table.

A search never waits for this: what the index lacks, the search reads from the table (search.py). So the index may
lag behind, be under construction or be missing; only speed depends on it.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import faiss as typed_faiss
import numpy as np
import numpy.typing as npt

from image_search.errors import StoreError
from image_search.stores.sqlite.database import Connections
from image_search.stores.sqlite.faiss_index import SMALL, EmbeddingIndex
from image_search.stores.sqlite.inverted_file import InvertedFile, count_lists
from image_search.stores.sqlite.rows import read_counters
from image_search.stores.sqlite.search import TableRows

faiss: Any = typed_faiss  # its type hints know the C++ signatures, not those of its Python classes

_SAMPLE = 32_768  # embeddings the compression is fitted to at least
_SAMPLE_OF_LIST = 8  # and for each list
_FORMAT = 7  # of the saved copy
_READ_BATCH = 2048  # of these
_GROWTH = 4  # refitted when the number of embeddings has grown, or shrunk, by this factor
_DEAD = 0.2  # compacted when this share of it was removed
_BLOCK = 1 << 20  # bytes of the copy that are added up together
_UNSAVED = 0.05  # saved again when this share of it is new
_SPOTS = 32  # embeddings by which a saved index is compared with the table
_NEAR = 0.5  # what four bits a dimension may lose of a unit vector at most; other images are farther off


class IndexSync:
    """The indexes of a library by model. follow() asks for one to be brought up to date, and returns at once."""

    def __init__(self, database: Connections) -> None:
        self._database = database
        self._indexes: dict[int, EmbeddingIndex] = {}
        self._saved: dict[int, int] = {}  # how many embeddings the saved copy of a model holds
        self._wanted: dict[int, int] = {}  # model_id to dimension
        self._worker: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def follow(self, model_id: int, dimension: int, counters: dict[str, int]) -> EmbeddingIndex:
        """The index of this model as it is now; behind these counters it is brought up to date in the background."""
        with self._lock:
            if model_id not in self._indexes:
                # Once and at once: reading the copy is quicker than looking at every row of the table.
                self._indexes[model_id] = self._load(model_id, dimension) or EmbeddingIndex(dimension)
            index = self._indexes[model_id]
            behind = (index.watermark, index.last_removal) < (counters["image_embeddings"], counters["removals"])
            if behind and not self._closed.is_set():
                self._wanted[model_id] = dimension
                if self._worker is None:
                    self._worker = threading.Thread(target=self._work, name="embedding index", daemon=True)
                    self._worker.start()
        return index

    def describe(self) -> dict[int, str]:
        """How far the index of each model is, for people; nothing for a model that was not searched with yet."""
        return {
            model_id: f"{len(index):,} embeddings, " + ("compressed" if index.is_compressed else "uncompressed")
            for model_id, index in self._indexes.copy().items()
        }

    def wait(self) -> None:
        """Until the indexes are up to date, for measurements."""
        while (worker := self._worker) is not None and worker.is_alive():
            worker.join()

    def forget(self, model_id: int) -> None:
        """Drop the index of a model that is gone, and its saved copy."""
        with self._lock:
            self._indexes.pop(model_id, None)
        remove_index(self._name_copy(model_id))

    def close(self) -> None:
        """Stop the work in the background and wait for its end."""
        self._closed.set()
        self.wait()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._wanted or self._closed.is_set():
                    self._worker = None
                    return
                model_id, dimension = self._wanted.popitem()
            # The database is unavailable, or memory is short: the next search reports the one, and does without the
            # index in case of the other.
            with suppress(StoreError, MemoryError):
                self._bring_up_to_date(model_id, dimension)

    def _bring_up_to_date(self, model_id: int, dimension: int) -> None:
        present = self._indexes[model_id]
        index = self._choose(present, model_id, dimension)
        if not len(present):
            self._indexes[model_id] = index  # better than nothing while it fills
        self._catch_up(index, model_id, dimension)
        if self._closed.is_set():
            return
        self._indexes[model_id] = index
        if index.is_compressed and len(index) - self._saved.get(model_id, 0) > _UNSAVED * len(index):
            self._saved[model_id] = len(index)
            with suppress(OSError):  # a full disk costs the next start some time, and nothing else
                save_index(index, self._name_copy(model_id))

    def _choose(self, index: EmbeddingIndex, model_id: int, dimension: int) -> EmbeddingIndex:
        """The present index, or a better one for as many embeddings as there are."""
        is_fit = len(index) <= _GROWTH * index.trained_on
        if index.dead_share > _DEAD:
            index.compact()
            self._saved[model_id] = 0
            is_fit &= index.trained_on <= _GROWTH * len(index)
        if index.is_compressed and is_fit:
            return index
        with self._database.reading() as connection:
            added = read_counters(connection)["image_embeddings"] - index.watermark
            if len(index) + added <= SMALL or TableRows(connection, model_id, dimension).count() <= SMALL:
                return EmbeddingIndex(dimension) if index.is_compressed else index
        return self._build(model_id, dimension)

    def _load(self, model_id: int, dimension: int) -> EmbeddingIndex | None:
        index = load_index(self._name_copy(model_id), dimension)
        if index is None or not len(index):
            return None
        with self._database.reading() as connection:
            counters = read_counters(connection)
            if index.watermark > counters["image_embeddings"] or index.last_removal > counters["removals"]:
                return None
            spots = np.linspace(0, len(index) - 1, _SPOTS).astype(np.int64)
            rows = TableRows(connection, model_id, dimension).read(index.embedding_ids[spots])
        known = index.codes.reconstruct(np.searchsorted(index.embedding_ids, rows.embedding_ids))
        if (np.linalg.norm(known - rows.embeddings, axis=1) > _NEAR).any():
            return None  # the library is another one, or was restored from a copy
        self._saved[model_id] = len(index)
        return index

    def _build(self, model_id: int, dimension: int) -> EmbeddingIndex:
        with self._database.reading() as connection:
            table = TableRows(connection, model_id, dimension)
            ids = table.list_ids()
            size = min(max(_SAMPLE, _SAMPLE_OF_LIST * count_lists(len(ids))), len(ids))
            chosen = np.random.default_rng(0).choice(ids, size, replace=False)
            sample = np.empty((len(chosen), dimension), np.float32)
            for start in range(0, len(chosen), _READ_BATCH):
                rows = table.read(np.sort(chosen[start : start + _READ_BATCH]))
                sample[start : start + len(rows.embeddings)] = rows.embeddings
            last_removal = read_counters(connection)["removals"]
        index = EmbeddingIndex.fit(sample, len(ids))
        index.last_removal = last_removal
        self._saved[model_id] = 0
        return index

    def _catch_up(self, index: EmbeddingIndex, model_id: int, dimension: int) -> None:
        """Add and remove what the table has added and removed since, in short transactions."""
        while not self._closed.is_set():
            with self._database.reading() as connection:
                table = TableRows(connection, model_id, dimension)
                counters = read_counters(connection)
                removed = table.list_removed(index.last_removal)
                rows = next(table.read_after(index.watermark), None)
            if index.last_removal != counters["removals"]:
                index.remove(removed, counters["removals"])
            if rows is None:
                index.watermark = counters["image_embeddings"]
                return
            index.add(rows.embedding_ids, rows.embeddings)

    def _name_copy(self, model_id: int) -> Path:
        return self._database.path.with_name(f"{self._database.path.name}-index-{model_id}")


# A compressed EmbeddingIndex in three files, so that the next start need not build it again.
#
# They are a copy and nothing more: whatever is wrong with them, they are left aside and the index is built from the
# table. The codes stay in their file, which is mapped into memory; FAISS reads the sketches straight into place, which
# numpy's archive cannot. Checksums tell, before FAISS sees these files, that they are whole and belong to the archive.


def save_index(index: EmbeddingIndex, path: Path) -> None:
    """Write the index to path.codes, path.faiss and path.npz. Raises OSError when the disk will not take it."""
    assert index.lists
    codes, sketches, arrays = _name_files(path)
    partial = path.with_name(f"{path.name}.part")
    checksums = []
    try:
        for write, file in (
            (index.codes.write, codes),
            (lambda path: faiss.write_index(index.lists.sketches, str(path)), sketches),
        ):
            write(partial)
            checksums.append(_add_up(partial))
            partial.replace(file)
        with partial.open("wb") as archive:
            np.savez(
                archive,
                numbers=np.array([_FORMAT, index.watermark, index.last_removal, index.trained_on], np.int64),
                codes=checksums[0],
                faiss=checksums[1],
                mean=index.codes.mean,
                steps=index.codes.steps,
                errors=index.codes.variances,
                squares=index.codes.squares,
                leading=index.lists.leading,
                centroids=index.lists.get_centroids(),
                variances=index.lists.variances,
                sums=index.lists.sums,
                reach=np.array(index.lists.reach),
                sketch_errors=index.lists.errors,
                rotation=index.rotation,
                embedding_ids=index.embedding_ids,
                alive=index.alive,
            )
        partial.replace(arrays)
        index.map_codes(codes)
    except RuntimeError as error:  # FAISS's word for a disk that is full
        raise OSError(str(error)) from error
    finally:
        partial.unlink(missing_ok=True)


def load_index(path: Path, dimension: int) -> EmbeddingIndex | None:
    """The index that was saved, or None when there is none, it is damaged, or it is of another kind."""
    codes, sketches, arrays = _name_files(path)
    try:
        with ThreadPoolExecutor(1) as pool, np.load(arrays) as stored:
            read = pool.submit(_read_sketches, sketches, stored["faiss"])  # takes as long as all the rest
            form, watermark, last_removal, trained_on = stored["numbers"].tolist()
            index = EmbeddingIndex(dimension)
            index.codes.mean, index.rotation = stored["mean"], stored["rotation"]
            if form != _FORMAT or index.codes.mean.shape != (dimension,):
                return None
            index.codes.steps, index.codes.variances = stored["steps"], stored["errors"]
            index.codes.squares = stored["squares"]
            index.watermark, index.last_removal, index.trained_on = watermark, last_removal, trained_on
            index.embedding_ids, index.alive = stored["embedding_ids"], stored["alive"]
            leading, centroids = stored["leading"], stored["centroids"]
            if not np.array_equal(_add_up(codes), stored["codes"]):
                return None
            index.lists = InvertedFile(leading, centroids, read.result())
            index.lists.reach = float(stored["reach"])
            index.lists.errors = stored["sketch_errors"]
            index.lists.variances = stored["variances"]
            index.lists.take_sums(stored["sums"])
        index.codes.map(codes)
        return index
    except Exception:  # nothing that can be wrong with a copy is worth more than leaving it aside
        return None


def _read_sketches(file: Path, checksum: npt.NDArray[np.uint64]) -> Any:
    if not np.array_equal(_add_up(file), checksum):
        raise ValueError(file)
    return faiss.read_index(str(file))


def remove_index(path: Path) -> None:
    """Remove the files, if they are there."""
    for file in _name_files(path):
        with suppress(OSError):
            file.unlink()


def _name_files(path: Path) -> list[Path]:
    return [path.with_name(f"{path.name}.{suffix}") for suffix in ("codes", "faiss", "npz")]


def _add_up(file: Path) -> npt.NDArray[np.uint64]:
    """Sums of the numbers of eight bytes in each block, and the file's last ones with its size: five times as fast as
    a CRC, and as good against what is cut off, overwritten or of another file."""
    content = np.memmap(file, np.uint8, "r")
    numbers = content[: len(content) // 8 * 8].view(np.uint64)
    sums = np.add.reduceat(numbers, np.arange(0, len(numbers), _BLOCK // 8))
    return np.append(sums, np.array([int.from_bytes(content[-8:].tobytes()), len(content)], np.uint64))
