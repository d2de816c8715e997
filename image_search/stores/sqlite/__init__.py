"""The embedded store: one SQLite file for the truth, originals in a folder beside it, and an index in memory."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from image_search.errors import SettingsError, StoreError, StoreUnavailable
from image_search.originals import FolderOriginals, Originals, open_originals
from image_search.records import (
    DeletedImage,
    EmbeddingModel,
    Finding,
    Hits,
    ImageRecord,
    ImageText,
    KnownFile,
    NewImage,
    Order,
    RecognizedText,
    SearchFilter,
    StoreStatus,
    TrashReason,
)
from image_search.settings import DEFAULT_DATABASE_URL, ROOT, Settings
from image_search.stores.base import EVERYTHING, ChangeEdits, CountedField, Embeddings, ImageStore
from image_search.stores.reads import content_is_known, image_not_found, model_is_current, model_not_found
from image_search.stores.sql import LIVE
from image_search.stores.sqlite.database import Connections, check_sqlite
from image_search.stores.sqlite.faiss_index import FAISS_VERSION
from image_search.stores.sqlite.index_sync import IndexSync
from image_search.stores.sqlite.rows import (
    EACH,
    build_where,
    date_back,
    delete_paths,
    dump_values,
    find_deleted_paths,
    find_hashes,
    find_known_files,
    find_records,
    find_remembered,
    forget,
    get_live_record,
    get_record,
    insert_embedding,
    insert_image,
    insert_path,
    list_deleted,
    list_paths,
    list_trash,
    park,
    read_counters,
    remember,
    remove_for_good,
    unpark,
    update_content,
    update_record,
    write_lines,
)
from image_search.stores.sqlite.search import (
    Counts,
    TableRows,
    count_values,
    find_embeddings,
    find_nearest,
    gather,
    list_page,
)
from image_search.stores.text import describe_recognized, dump_lines, load_lines

_DEFAULT_NAME = "image_search.db"
_PREFIX = "sqlite:///"
_SMALL = 256 * 2**20  # bytes; about ten thousand images with their previews


class SqliteStore(ImageStore):
    """A library in one file. Any number of threads and processes may use it at once."""

    originals: Originals

    def __init__(self, path: Path, originals: Originals) -> None:
        super().__init__()
        self.path = path
        self.originals = originals
        self._database = Connections(path, self.check_new)
        self.index = IndexSync(self._database)
        self._counts = Counts()
        # As many searches at once as there are processors: more of them hinder each other, so that all take longer.
        self._turns = threading.Semaphore(os.cpu_count() or 1)

    @classmethod
    def open(cls, settings: Settings) -> SqliteStore:
        """The store of DATABASE_URL, sqlite:///relative/path or sqlite:////absolute/path. Opens no file yet."""
        url = settings.database_url or DEFAULT_DATABASE_URL
        name = url.removeprefix(_PREFIX)
        if not url.startswith(_PREFIX) or not name or name.endswith("/"):
            raise SettingsError("DATABASE_URL names no file. Write sqlite:///data/image_search.db for example.")
        try:
            # The default lies where the program is; the current directory may change later.
            path = ROOT / name if url == DEFAULT_DATABASE_URL else Path(name).expanduser().absolute()
        except RuntimeError as error:
            raise SettingsError(f"DATABASE_URL names a home folder that is not known: {name}") from error
        folder = path.with_name("originals") if path.name == _DEFAULT_NAME else path.with_suffix(".originals")
        return cls(path, open_originals(settings.originals_url, folder, settings.s3_endpoint_url))

    def check_new(self) -> None:
        """Raises StoreUnavailable when files of a library are here whose own file is missing."""
        folder = self.originals.folder if isinstance(self.originals, FolderOriginals) else None
        if folder is not None and folder.is_dir() and any(folder.iterdir()):
            raise StoreUnavailable(
                f"The library {self.path} is not there, but its original files are in {folder}. Put the file back "
                "(mount its disk, or take a backup); to begin a new library, move that folder away."
            )

    @property
    def concurrency(self) -> int:  # type: ignore[override]
        """Threads that may read at once: each waits at every row for the GIL, and a small library takes little else."""
        with suppress(OSError):  # its size, because opening an old file may take minutes
            return 2 if self.path.stat().st_size > _SMALL else 1
        return 1

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
            for table in ("image_embeddings", "trashed_embeddings", "embedding_models"):
                connection.execute(f"DELETE FROM {table} WHERE model_id = ?", (model_id,))
        self._dimensions.pop(model_id, None)
        self.index.forget(model_id)

    # --- registration -----------------------------------------------------------------------------------------------

    def _find_known_hashes(self, hashes: list[str]) -> dict[str, int]:
        with self._database.reading() as connection:
            return find_hashes(connection, hashes, LIVE)

    def _find_deleted_hashes(self, hashes: list[str]) -> set[str]:
        with self._database.reading() as connection:
            trashed = find_hashes(connection, hashes, "i.trash_reason = 'deleted'")
            return trashed.keys() | find_remembered(connection, hashes)

    def _find_deleted_paths(self, paths: list[str]) -> dict[str, str]:
        with self._database.reading() as connection:
            return find_deleted_paths(connection, paths)

    def _find_known_files(self, paths: list[str]) -> dict[str, KnownFile]:
        with self._database.reading() as connection:
            return find_known_files(connection, paths)

    def _set_path(self, image_id: int, file_path: str, file_name: str, byte_size: int, modified_ns: int | None) -> None:
        with self._database.writing() as connection:
            record = get_live_record(connection, image_id)
            insert_path(connection, image_id, file_path, byte_size, modified_ns)
            update_record(connection, record, replace(record, file_name=file_name))

    def _remove_paths(self, paths: list[str]) -> int:
        with self._database.writing() as connection:
            return delete_paths(connection, paths)

    def _list_paths(self, folder: str, after: str, limit: int) -> list[tuple[str, int]]:
        with self._database.reading() as connection:
            return list_paths(connection, folder, after, limit)

    def _add_images(self, model_id: int, images: list[NewImage], embeddings: Embeddings) -> list[int]:
        hashes = [image.content_sha256 for image in images]
        contents = {image.content_sha256: image.data for image in images if image.data is not None}
        image_ids = []
        try:
            # The originals are written inside the transaction: while it lasts no other process writes or deletes any.
            with self._database.writing() as connection:
                self._delete_orphaned_originals(connection)
                self.originals.write(contents)
                known = find_hashes(connection, hashes)
                upload_date = datetime.now(UTC).replace(tzinfo=None)
                date_back(connection, upload_date)
                unpark(connection, list(known.values()))
                forget(connection, hashes)
                for image, embedding in zip(images, embeddings, strict=True):
                    image_id = known.get(image.content_sha256)
                    if image_id is None:
                        image_id = known[image.content_sha256] = insert_image(connection, image, upload_date)
                    if image.file_path is not None:
                        insert_path(connection, image_id, image.file_path, image.byte_size, image.modified_ns)
                    insert_embedding(connection, image_id, model_id, embedding, image.recipe)
                    image_ids.append(image_id)
        except BaseException:
            self._delete_unused_originals(list(contents))
            raise
        return image_ids

    def _replace_image(self, image_id: int, model_id: int, image: NewImage, embedding: Embeddings) -> None:
        contents = {} if image.data is None else {image.content_sha256: image.data}
        try:
            with self._database.writing() as connection:
                record = get_live_record(connection, image_id)
                owner = find_hashes(connection, [image.content_sha256]).get(image.content_sha256, image_id)
                if owner != image_id:
                    raise content_is_known(owner)
                self._delete_orphaned_originals(connection)
                self.originals.write(contents)
                forget(connection, [image.content_sha256])
                update_content(connection, record, image)
                insert_embedding(connection, image_id, model_id, embedding, image.recipe)
        except BaseException:
            self._delete_unused_originals(list(contents))
            raise
        with self._database.writing() as connection:
            self._delete_orphaned_originals(connection)

    def _add_embeddings(self, model_id: int, image_ids: list[int], embeddings: Embeddings, recipe: int) -> None:
        with self._database.writing() as connection:
            for image_id, embedding in zip(image_ids, embeddings, strict=True):
                # Delete and insert instead of update: searchers of other processes look for new embedding_ids.
                connection.execute(
                    "DELETE FROM image_embeddings WHERE image_id = ? AND model_id = ?", (image_id, model_id)
                )
                insert_embedding(connection, image_id, model_id, embedding, recipe)

    def find_images_without_embedding(
        self, model_id: int, after_id: int = 0, limit: int = 1000, min_recipe: int = 0
    ) -> list[int]:
        return self._list_ids(
            "NOT EXISTS (SELECT 1 FROM image_embeddings e WHERE e.image_id = i.image_id AND e.model_id = ? "
            "AND e.recipe >= ?)",
            [model_id, min_recipe],
            after_id,
            limit,
        )

    def find_images_of_old_recipe(self, recipe: int, after_id: int = 0, limit: int = 1000) -> list[int]:
        return self._list_ids("i.recipe < ?", [recipe], after_id, limit)

    def find_images_without_recognition(self, recognizer: str, after_id: int = 0, limit: int = 1000) -> list[int]:
        return self._list_ids("i.recognizer IS NOT ?", [recognizer], after_id, limit)

    def _list_ids(self, condition: str, values: list[object], after_id: int, limit: int) -> list[int]:
        # +i.deleted_at: no index is wanted, the rows are walked by image_id.
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT i.image_id FROM images i WHERE i.image_id > ? AND +{LIVE} AND {condition} "
                "ORDER BY i.image_id LIMIT ?",
                [after_id, *values, limit],
            )
            return [row[0] for row in rows]

    def set_preview(self, image_id: int, preview: bytes, dominant_color: str | None, recipe: int) -> None:
        with self._database.writing() as connection:
            record = get_live_record(connection, image_id)
            connection.execute("UPDATE image_previews SET preview = ? WHERE image_id = ?", (preview, image_id))
            update_record(connection, record, replace(record, dominant_color=dominant_color, recipe=recipe))

    def _delete_orphaned_originals(self, connection: sqlite3.Connection) -> None:
        # In a transaction after the one that deleted the records: an original goes only when its record is gone for
        # good and while no other process can add the same image again. The next one finishes what a crash left undone.
        hashes = [row[0].hex() for row in connection.execute("SELECT content_sha256 FROM removed_originals")]
        if hashes:
            self.originals.delete(set(hashes) - find_hashes(connection, hashes).keys())
            connection.execute("DELETE FROM removed_originals")

    def _delete_unused_originals(self, hashes: list[str]) -> None:
        with suppress(StoreError), self._database.writing() as connection:
            self.originals.delete(set(hashes) - find_hashes(connection, hashes).keys())

    # --- texts ------------------------------------------------------------------------------------------------------

    def _set_text(self, image_id: int, text: ImageText) -> bool:
        with self._database.writing() as connection:
            record = get_live_record(connection, image_id)
            if record.text != text:
                update_record(connection, record, replace(record, text=text))
        return record.text != text

    def _change_edits(self, image_ids: list[int], change: ChangeEdits) -> dict[int, bool]:
        with self._database.writing() as connection:
            live = [one for one in find_records(connection, image_ids).values() if one.deleted_at is None]
            pairs = [(record, replace(record, edits=change(record))) for record in live]
            for before, after in pairs:
                if after != before:
                    update_record(connection, before, after)
        return {before.image_id: after != before for before, after in pairs}

    def _set_recognized(self, image_id: int, recognized: RecognizedText | None) -> None:
        with self._database.writing() as connection:
            record = (get_live_record if recognized else get_record)(connection, image_id)
            write_lines(connection, image_id, dump_lines(recognized) if recognized else None)
            update_record(connection, record, replace(record, **describe_recognized(recognized)))

    def get_recognized(self, image_id: int) -> RecognizedText | None:
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT recognizer, recognized_text, recognized_lines FROM images WHERE image_id = ?", (image_id,)
            ).fetchone()
        if row is None:
            raise image_not_found(image_id)
        recognizer, text, lines = row
        return None if recognizer is None else RecognizedText(recognizer, text or "", load_lines(lines))

    # --- trash ------------------------------------------------------------------------------------------------------

    def _trash_images(self, image_ids: list[int], reason: TrashReason, deleted_at: datetime) -> int:
        with self._database.writing() as connection:
            return park(connection, image_ids, deleted_at, reason)

    def _restore_images(self, image_ids: list[int]) -> int:
        with self._database.writing() as connection:
            return unpark(connection, image_ids)

    def _list_trash(self, limit: int, offset: int) -> Hits:
        with self._database.reading() as connection:
            total = connection.execute("SELECT count(*) FROM images WHERE deleted_at IS NOT NULL").fetchone()[0]
            return gather(connection, list_trash(connection, limit, offset), total)

    def _empty_trash(self, image_ids: list[int] | None, before: datetime | None) -> int:
        with self._database.writing() as connection:
            removed = remove_for_good(connection, image_ids, before)
        with self._database.writing() as connection:
            self._delete_orphaned_originals(connection)
        return removed

    def list_deleted(self, after: str = "", limit: int = 1000) -> list[DeletedImage]:
        with self._database.reading() as connection:
            return list_deleted(connection, after, limit)

    def _add_deleted(self, deleted: list[DeletedImage]) -> None:
        with self._database.writing() as connection:
            remember(connection, deleted)

    def forget_deleted(self, hashes: Sequence[str] | None = None) -> int:
        with self._database.writing() as connection:
            if hashes is None:
                return connection.execute("DELETE FROM deleted_images").rowcount
            return forget(connection, hashes)

    # --- search -----------------------------------------------------------------------------------------------------

    def snapshot(self) -> AbstractContextManager[None]:
        return self._database.snapshot()

    def _search_embedding(
        self, model_id: int, embedding: Embeddings, limit: int, offset: int, filter: SearchFilter
    ) -> Hits:
        with self._turns, self._database.reading() as connection:
            counters = read_counters(connection)
            index = self.index.follow(model_id, len(embedding), counters)
            table = TableRows(connection, model_id, len(embedding), counters["image_embeddings"])
            allowed = None if filter.is_empty else find_embeddings(connection, model_id, filter)
            nearest = find_nearest(embedding, offset + limit, index, table, allowed)
            total = (
                self._counts.count_embeddings(connection, model_id, counters, index)
                if allowed is None
                else len(allowed)
            )
            found, distances = nearest.image_ids[offset:].tolist(), nearest.distances[offset:].tolist()
            return gather(connection, found, total, distances)

    def _list_images(
        self, terms: list[str], limit: int, offset: int, filter: SearchFilter, order: Order, after: ImageRecord | None
    ) -> Hits:
        where, values = build_where(filter, terms)
        with self._database.reading() as connection:
            page = list_page(connection, where, values, order, limit, offset, after)
            if filter.is_empty and not terms:
                total = self._counts.count_images(connection, read_counters(connection))
            elif after is None and len(page) < limit and (page or not offset):
                total = offset + len(page)
            else:
                total = connection.execute(f"SELECT count(*) FROM images i {where}", values).fetchone()[0]
            return gather(connection, page, total)

    def count_images(self, filter: SearchFilter = EVERYTHING) -> int:
        where, values = build_where(filter)
        with self._database.reading() as connection:
            if filter.is_empty:
                return self._counts.count_images(connection, read_counters(connection))
            count: int = connection.execute(f"SELECT count(*) FROM images i {where}", values).fetchone()[0]
        return count

    def count_values(self, field: CountedField, filter: SearchFilter = EVERYTHING) -> dict[str, int]:
        where, values = build_where(filter)
        with self._database.reading() as connection:
            return count_values(connection, field, where, values)

    # --- images -----------------------------------------------------------------------------------------------------

    def _find_images(self, image_ids: list[int]) -> dict[int, ImageRecord]:
        with self._database.reading() as connection:
            return find_records(connection, image_ids)

    def read_previews(self, image_ids: Sequence[int]) -> dict[int, bytes]:
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT image_id, preview FROM image_previews WHERE image_id IN {EACH}", [dump_values(image_ids)]
            )
            return dict(rows.fetchall())

    def get_embeddings(self, image_ids: Sequence[int], model_id: int) -> dict[int, Embeddings]:
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT image_id, embedding FROM image_embeddings WHERE image_id IN {EACH} AND model_id = ? UNION ALL "
                f"SELECT image_id, embedding FROM trashed_embeddings WHERE image_id IN {EACH} AND model_id = ?",
                (dump_values(image_ids), model_id, dump_values(image_ids), model_id),
            )
            return {image_id: np.frombuffer(embedding, np.float32) for image_id, embedding in rows}

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
                f"SELECT embedding FROM image_embeddings WHERE embedding_id IN {EACH}", [dump_values(chosen.tolist())]
            ).fetchall()
        return np.frombuffer(b"".join(blob for (blob,) in blobs), np.float32).reshape(len(blobs), dimension)

    def list_settings(self, prefix: str = "") -> dict[str, str]:
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT name, value FROM library_settings WHERE substr(name, 1, ?) = ? ORDER BY name",
                (len(prefix), prefix),
            )
            return dict(rows.fetchall())

    def set_setting(self, name: str, value: str | None) -> None:
        with self._database.writing() as connection:
            if value is None:
                connection.execute("DELETE FROM library_settings WHERE name = ?", (name,))
            else:
                connection.execute("INSERT OR REPLACE INTO library_settings VALUES (?, ?)", (name, value))

    def get_status(self) -> StoreStatus:
        models: tuple[tuple[EmbeddingModel, int], ...] = ()
        live = trashed = 0
        if self.path.exists():
            with self._database.reading() as connection:
                counts = dict(connection.execute("SELECT model_id, count(*) FROM image_embeddings GROUP BY model_id"))
                images = dict(connection.execute("SELECT deleted_at IS NULL, count(*) FROM images GROUP BY 1"))
            models = tuple((model, counts.get(model.model_id, 0)) for model in self.list_models())
            live, trashed = images.get(1, 0), images.get(0, 0)
        else:
            self.check_new()
        engine = f"SQLite {sqlite3.sqlite_version} + FAISS {FAISS_VERSION}"
        return StoreStatus(engine, str(self.path), live, models, trashed)

    def check(self) -> Iterator[Finding]:
        return check_sqlite(self)

    def close(self) -> None:
        self.index.close()
        self._database.close()
