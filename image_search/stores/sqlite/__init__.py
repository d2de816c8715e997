"""The embedded store: one SQLite file for the truth, originals in a folder beside it, and an index in memory."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from image_search.errors import SettingsError, StoreError
from image_search.originals import Originals, check_folder, check_originals, open_originals
from image_search.records import (
    EmbeddingModel,
    Finding,
    ImageRecord,
    ImageText,
    KnownFile,
    NewImage,
    SearchFilter,
    SearchHit,
    StoreStatus,
)
from image_search.settings import DEFAULT_DATABASE_URL, Settings
from image_search.stores.base import (
    EVERYTHING,
    CountedField,
    Embeddings,
    ImageStore,
    embedding_not_found,
    image_not_found,
    model_is_current,
    model_not_found,
)
from image_search.stores.sqlite.database import Connections
from image_search.stores.sqlite.exact_search import find_nearest
from image_search.stores.sqlite.faiss_index import FAISS_VERSION, SMALL, Ids
from image_search.stores.sqlite.index_sync import IndexSync
from image_search.stores.sqlite.rows import (
    TableRows,
    build_where,
    delete_records,
    find_records,
    get_record,
    insert_image,
    iterate_in_chunks,
    read_counters,
    replace_file,
    replace_text,
)
from image_search.stores.text import sanitize

# --check on the embedded store: the file, the originals beside it, and the index in memory with its saved copy.

_READ_THROUGH = 2**30  # bytes; a larger file takes longer than a person waits


def check_sqlite(store: SqliteStore) -> Iterator[Finding]:
    """What there is to say of this store. A library that is not there yet is not made. Raises StoreError."""
    folder = store.path.parent
    if not folder.parent.is_dir():
        yield Finding("folder", False, f"{folder} is not there", "Make it, or correct DATABASE_URL.")
        return
    yield check_folder("folder", folder, "DATABASE_URL")
    yield check_originals(store.originals)
    if not store.path.exists():
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
        remedy = "Restore the file from a backup, or remove it and register the pictures again."
        return Finding("database file", False, f"{what}, damaged: {' '.join(str(first).split())}", remedy)
    return Finding("database file", True, f"{what}, undamaged")


def _check_index(store: SqliteStore, model: EmbeddingModel, count: int) -> Finding:
    """The index in memory, if this program has searched already, and its saved copy."""
    copies = list(store.path.parent.glob(f"{store.path.name}-index-{model.model_id}.*"))
    name = f"FAISS {FAISS_VERSION}"
    if count <= SMALL and not copies:
        return Finding("index", True, f"{name}, in half precision, made from the table at the first search")
    found = store.get_status().details.get(f"index of model {model.model_id}", "not looked at")
    size = sum(file.stat().st_size for file in copies) / 2**20
    copy = f"saved copy of {size:,.1f} MiB" if copies else "no saved copy"
    return Finding("index", True, f"{name}: {found} of {count:,}, {copy}; the rest is read from the table")


_DEFAULT_NAME = "image_search.db"
_PREFIX = "sqlite:///"


class SqliteStore(ImageStore):
    """A library in one file. Any number of threads and processes may use it at once."""

    def __init__(self, path: Path, originals: Originals) -> None:
        super().__init__()
        self.path = path
        self.originals = originals
        self._database = Connections(path)
        self._mirror = IndexSync(self._database)
        self._counted: tuple[tuple[int, ...], int] = ((), 0)

    @classmethod
    def open(cls, settings: Settings) -> SqliteStore:
        """The store of DATABASE_URL, sqlite:///relative/path or sqlite:////absolute/path. Opens no file yet."""
        url = settings.database_url or DEFAULT_DATABASE_URL
        name = url.removeprefix(_PREFIX)
        if not url.startswith(_PREFIX) or not name or name.endswith("/"):
            raise SettingsError("DATABASE_URL names no file. Write sqlite:///data/image_search.db for example.")
        path = Path(name).absolute()  # the current directory may change later
        folder = path.with_name("originals") if path.name == _DEFAULT_NAME else path.with_suffix(".originals")
        return cls(path, open_originals(settings.originals_url, folder, settings.s3_endpoint_url))

    # --- models ---------------------------------------------------------------------------------------------------

    def _add_model(self, name: str, version: str, dimension: int) -> None:
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO embedding_models (model_name, model_version, vector_dimension, is_current) "
                "SELECT ?, ?, ?, iif(EXISTS (SELECT 1 FROM current_embedding_model), 'N', 'Y') WHERE true "
                "ON CONFLICT (model_name, model_version) DO NOTHING",
                (name, version, dimension),
            )

    def list_models(self) -> list[EmbeddingModel]:
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT model_id, model_name, model_version, vector_dimension, is_current = 'Y' "
                "FROM embedding_models ORDER BY model_id"
            ).fetchall()
        return [EmbeddingModel(i, name, version, n, bool(is_current)) for i, name, version, n, is_current in rows]

    def set_current_model(self, model_id: int) -> None:
        with self._database.writing() as connection:
            connection.execute("UPDATE embedding_models SET is_current = 'N' WHERE model_id <> ?", (model_id,))
            changed = connection.execute("UPDATE embedding_models SET is_current = 'Y' WHERE model_id = ?", (model_id,))
            if not changed.rowcount:
                raise model_not_found(model_id)

    def remove_model(self, model_id: int) -> None:
        with self._database.writing() as connection:
            row = connection.execute(
                "SELECT is_current FROM embedding_models WHERE model_id = ?", (model_id,)
            ).fetchone()
            if row is None:
                raise model_not_found(model_id)
            if row[0] == "Y":
                raise model_is_current(model_id)
            connection.execute("DELETE FROM image_embeddings WHERE model_id = ?", (model_id,))
            connection.execute("DELETE FROM embedding_models WHERE model_id = ?", (model_id,))
        self._dimensions.pop(model_id, None)
        self._mirror.forget(model_id)

    # --- registration -----------------------------------------------------------------------------------------------

    def _find_known_hashes(self, hashes: list[str]) -> dict[str, int]:
        with self._database.reading() as connection:
            return _find_hashes(connection, hashes)

    def _find_known_files(self, paths: list[str]) -> dict[str, KnownFile]:
        known: dict[str, KnownFile] = {}
        with self._database.reading() as connection:
            for chunk in iterate_in_chunks(paths):
                rows = connection.execute(
                    "SELECT file_path, image_id, byte_size, modified_ns FROM images "
                    f"WHERE file_path IN ({', '.join('?' * len(chunk))}) ORDER BY image_id",
                    chunk,
                )
                known.update((row[0], KnownFile(*row[1:])) for row in rows)  # the latest picture of a path wins
        return known

    def _set_file(self, image_id: int, file_path: str, file_name: str, modified_ns: int | None) -> None:
        with self._database.writing() as connection:
            replace_file(connection, get_record(connection, image_id), file_path, file_name, modified_ns)

    def _add_images(self, model_id: int, images: list[NewImage], embeddings: Embeddings) -> list[int]:
        originals = {image.content_sha256: image.data for image in images}
        image_ids = []
        try:
            # The originals are written inside the transaction: while it lasts no other process writes or deletes any.
            with self._database.writing() as connection:
                self._delete_orphaned_originals(connection)
                self.originals.write(originals)
                known = _find_hashes(connection, list(originals))
                upload_date = datetime.now(UTC).replace(tzinfo=None)
                for image, embedding in zip(images, embeddings, strict=True):
                    image_id = known.get(image.content_sha256)
                    if image_id is None:
                        image_id = known[image.content_sha256] = insert_image(connection, image, upload_date)
                    connection.execute(
                        "INSERT INTO image_embeddings (image_id, model_id, embedding) VALUES (?, ?, ?) "
                        "ON CONFLICT (image_id, model_id) DO NOTHING",
                        (image_id, model_id, _pack(embedding)),
                    )
                    image_ids.append(image_id)
        except BaseException:
            with suppress(StoreError), self._database.writing() as connection:
                self.originals.delete(originals.keys() - _find_hashes(connection, list(originals)).keys())
            raise
        return image_ids

    def _add_embeddings(self, model_id: int, image_ids: list[int], embeddings: Embeddings) -> None:
        with self._database.writing() as connection:
            for image_id, embedding in zip(image_ids, embeddings, strict=True):
                # Delete and insert instead of update: searchers of other processes look for new embedding_ids.
                connection.execute(
                    "DELETE FROM image_embeddings WHERE image_id = ? AND model_id = ?", (image_id, model_id)
                )
                connection.execute(
                    "INSERT INTO image_embeddings (image_id, model_id, embedding) "
                    "SELECT image_id, ?, ? FROM images WHERE image_id = ?",
                    (model_id, _pack(embedding), image_id),
                )

    def find_images_without_embedding(self, model_id: int, after_id: int = 0, limit: int = 1000) -> list[int]:
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT image_id FROM images i WHERE image_id > ? AND NOT EXISTS (SELECT 1 FROM image_embeddings e "
                "WHERE e.image_id = i.image_id AND e.model_id = ?) ORDER BY image_id LIMIT ?",
                (after_id, model_id, limit),
            )
            return [row[0] for row in rows]

    def _set_text(self, image_id: int, text: ImageText) -> bool:
        with self._database.writing() as connection:
            record = get_record(connection, image_id)
            if record.text == text:
                return False
            replace_text(connection, record, text)
        return True

    def _delete_images(self, image_ids: list[int]) -> int:
        with self._database.writing() as connection:
            records = list(find_records(connection, image_ids).values())
            delete_records(connection, records)
        with self._database.writing() as connection:
            self._delete_orphaned_originals(connection)
        return len(records)

    def _delete_orphaned_originals(self, connection: sqlite3.Connection) -> None:
        # In a transaction after the one that deleted the records: an original goes only when its record is gone for
        # good and while nobody can add the same picture again. What a crash left undone is done by the next one.
        hashes = [row[0].hex() for row in connection.execute("SELECT content_sha256 FROM removed_originals")]
        if hashes:
            self.originals.delete(set(hashes) - _find_hashes(connection, hashes).keys())
            connection.execute("DELETE FROM removed_originals")

    # --- search -----------------------------------------------------------------------------------------------------

    def _search_embedding(
        self, model_id: int, embedding: Embeddings, limit: int, offset: int, filter: SearchFilter
    ) -> list[SearchHit]:
        with self._database.reading() as connection:
            index = self._mirror.follow(model_id, len(embedding), read_counters(connection))
            table = TableRows(connection, model_id, len(embedding))
            allowed = None if filter.is_empty else _find_embeddings(connection, model_id, filter)
            nearest = find_nearest(embedding, offset + limit, index, table, allowed)
            image_ids = nearest.image_ids[offset:].tolist()
            records = find_records(connection, image_ids)
        page = zip(image_ids, nearest.distances[offset:].tolist(), strict=True)
        return [SearchHit(records[image_id], distance) for image_id, distance in page]

    def _search_words(self, words: list[str], limit: int, offset: int, filter: SearchFilter) -> list[SearchHit]:
        return self._list_newest(limit, offset, filter, words)

    def _find_latest(self, limit: int, offset: int, filter: SearchFilter) -> list[SearchHit]:
        return self._list_newest(limit, offset, filter)

    def _list_newest(self, limit: int, offset: int, filter: SearchFilter, words: Sequence[str] = ()) -> list[SearchHit]:
        where, values = build_where(filter, words)
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT i.image_id FROM images i {where} "
                "ORDER BY i.upload_date DESC, i.image_id DESC LIMIT ? OFFSET ?",
                [*values, limit, offset],
            )
            page = [row[0] for row in rows]
            records = find_records(connection, page)
        return [SearchHit(records[image_id]) for image_id in page]

    def count_images(self, filter: SearchFilter = EVERYTHING) -> int:
        where, values = build_where(filter)
        with self._database.reading() as connection:
            counters = tuple(read_counters(connection).values())
            if not where and counters == self._counted[0]:  # counting a million rows at every search would be felt
                return self._counted[1]
            count: int = connection.execute(f"SELECT count(*) FROM images i {where}", values).fetchone()[0]
        if not where:
            self._counted = (counters, count)
        return count

    def count_values(self, field: CountedField, filter: SearchFilter = EVERYTHING) -> dict[str, int]:
        where, values = build_where(filter)
        join = "JOIN image_keywords k ON k.image_id = i.image_id" if field == "keyword" else ""
        value = "k.keyword" if field == "keyword" else f"i.{field}"
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT value, count(*) FROM (SELECT {value} AS value FROM images i {join} {where}) "
                "WHERE value IS NOT NULL GROUP BY value ORDER BY count(*) DESC, value",
                values,
            )
            return dict(rows.fetchall())

    # --- one image --------------------------------------------------------------------------------------------------

    def get_images(self, image_ids: Sequence[int]) -> list[ImageRecord]:
        with self._database.reading() as connection:
            records = find_records(connection, image_ids)
        for image_id in image_ids:
            if image_id not in records:
                raise image_not_found(image_id)
        return [records[image_id] for image_id in image_ids]

    def read_original(self, image_id: int) -> bytes:
        return self.originals.read(self.get_image(image_id).content_sha256)

    def read_preview(self, image_id: int) -> bytes:
        with self._database.reading() as connection:
            row = connection.execute("SELECT preview FROM image_previews WHERE image_id = ?", (image_id,)).fetchone()
        if row is None:
            raise image_not_found(image_id)
        return bytes(row[0])

    def get_embedding(self, image_id: int, model_id: int) -> Embeddings:
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT embedding FROM image_embeddings WHERE image_id = ? AND model_id = ?", (image_id, model_id)
            ).fetchone()
        if row is None:
            raise embedding_not_found(image_id, model_id)
        return np.frombuffer(row[0], np.float32)

    def find_by_file_name(self, file_name: str) -> list[int]:
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT image_id FROM images WHERE file_name = ? ORDER BY image_id", (sanitize(file_name),)
            )
            return [row[0] for row in rows]

    # --- the store as a whole -----------------------------------------------------------------------------------------

    def sample_embeddings(self, model_id: int, size: int) -> Embeddings:
        dimension = self._get_dimension(model_id)
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT embedding_id FROM image_embeddings WHERE model_id = ? ORDER BY image_id", (model_id,)
            )
            ids = np.array([row[0] for row in rows], np.int64)
            chosen = np.random.default_rng(0).choice(ids, min(size, len(ids)), replace=False)
            blobs = connection.execute(
                "SELECT embedding FROM image_embeddings WHERE embedding_id IN (SELECT value FROM json_each(?))",
                [json.dumps(chosen.tolist())],
            ).fetchall()
        return np.frombuffer(b"".join(blob for (blob,) in blobs), np.float32).reshape(len(blobs), dimension)

    def get_status(self) -> StoreStatus:
        models, counts, image_count = self._count_rows() if self.path.exists() else ([], {}, 0)
        return StoreStatus(
            engine=f"SQLite {sqlite3.sqlite_version} + FAISS {FAISS_VERSION}",
            location=str(self.path),
            image_count=image_count,
            models=tuple((model, counts.get(model.model_id, 0)) for model in models),
            details={"originals": str(getattr(self.originals, "folder", "")), **self._mirror.describe()},
        )

    def _count_rows(self) -> tuple[list[EmbeddingModel], dict[int, int], int]:
        with self._database.reading() as connection:
            counts = dict(connection.execute("SELECT model_id, count(*) FROM image_embeddings GROUP BY model_id"))
            image_count: int = connection.execute("SELECT count(*) FROM images").fetchone()[0]
        return self.list_models(), counts, image_count

    def check(self) -> Iterator[Finding]:
        return check_sqlite(self)

    def close(self) -> None:
        self._mirror.close()
        self._database.close()


def _find_hashes(connection: sqlite3.Connection, hashes: list[str]) -> dict[str, int]:
    known: dict[str, int] = {}
    for chunk in iterate_in_chunks(hashes):
        rows = connection.execute(
            f"SELECT content_sha256, image_id FROM images WHERE content_sha256 IN ({', '.join('?' * len(chunk))})",
            [bytes.fromhex(sha256) for sha256 in chunk],
        )
        known.update((sha256.hex(), image_id) for sha256, image_id in rows)
    return known


def _find_embeddings(connection: sqlite3.Connection, model_id: int, filter: SearchFilter) -> Ids:
    where, values = build_where(filter)
    rows = connection.execute(
        "SELECT e.embedding_id FROM images i JOIN image_embeddings e ON e.image_id = i.image_id AND e.model_id = ? "
        + where,
        [model_id, *values],
    )
    return np.sort(np.fromiter((row[0] for row in rows), np.int64))


def _pack(embedding: Embeddings) -> bytes:
    return np.ascontiguousarray(embedding, "<f4").tobytes()
