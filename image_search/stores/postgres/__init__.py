"""PostgreSQL with pgvector. Everything is in the database; originals only unless ORIGINALS_URL names another place.

Searches are exact scans. Where a library is too large for that, an HNSW index made as docs/engines.md shows is used by
the same query, without any setting.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from pgvector import Vector

from image_search.errors import StoreError
from image_search.originals import Originals, check_originals, open_originals
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
from image_search.settings import Settings
from image_search.stores.base import EVERYTHING, ChangeEdits, CountedField, Embeddings, ImageStore
from image_search.stores.postgres import trash
from image_search.stores.postgres.database import Connection, Connections
from image_search.stores.postgres.rows import (
    TRASH,
    TRASH_ORDER,
    build_where,
    check_vector_index,
    date_back,
    delete_paths,
    find_hashes,
    find_records,
    get_live_record,
    insert_embeddings,
    insert_images,
    insert_paths,
    list_images,
    list_live_conditions,
    list_page,
    pack_hashes,
    rewrite_texts,
    search_embedding,
    update_content,
    update_records,
)
from image_search.stores.reads import content_is_known, image_not_found, model_is_current, model_not_found
from image_search.stores.sql import COUNTED, count_once, list_folder_bounds, read_counts, replace_content
from image_search.stores.text import describe_recognized, dump_lines, load_lines


class PostgresStore(ImageStore):
    """A library in one PostgreSQL database. Any number of threads and programs may use it at once."""

    def __init__(self, url: str, originals: Originals | None = None) -> None:
        super().__init__()
        self.originals = originals  # None: in the database
        self._database = Connections(url, rewrite_texts)

    @classmethod
    def open(cls, settings: Settings) -> PostgresStore:
        """The store of DATABASE_URL, postgresql://user:password@host:5432/database. Connects to nothing yet."""
        url, endpoint_url = settings.originals_url, settings.s3_endpoint_url
        return cls(settings.database_url, open_originals(url, s3_endpoint_url=endpoint_url) if url else None)

    # --- models ---------------------------------------------------------------------------------------------------

    def _add_model(self, name: str, version: str, dimension: int) -> None:
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO embedding_models (model_name, model_version, vector_dimension, is_current) "
                "SELECT %s, %s, %s, CASE WHEN EXISTS (SELECT 1 FROM current_embedding_model) THEN 'N' ELSE 'Y' END "
                "ON CONFLICT (model_name, model_version) DO NOTHING",
                [name, version, dimension],
            )

    def list_models(self) -> list[EmbeddingModel]:
        with self._database.reading() as connection:
            return _list_models(connection)

    def set_current_model(self, model_id: int) -> None:
        with self._database.writing() as connection:
            connection.execute("UPDATE embedding_models SET is_current = 'N' WHERE model_id <> %s", [model_id])
            changed = connection.execute("UPDATE embedding_models SET is_current = 'Y' WHERE model_id = %s", [model_id])
            if not changed.rowcount:
                raise model_not_found(model_id)

    def remove_model(self, model_id: int) -> None:
        with self._database.writing() as connection:
            row = connection.execute(
                "SELECT is_current FROM embedding_models WHERE model_id = %s", [model_id]
            ).fetchone()
            if row is None:
                raise model_not_found(model_id)
            if row[0] == "Y":
                raise model_is_current(model_id)
            for table in ("image_embeddings", "trashed_embeddings", "embedding_models"):
                connection.execute(f"DELETE FROM {table} WHERE model_id = %s", [model_id])
        self._dimensions.pop(model_id, None)

    # --- registration -----------------------------------------------------------------------------------------------

    def _find_known_hashes(self, hashes: list[str]) -> dict[str, int]:
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT content_sha256, image_id FROM images "
                "WHERE content_sha256 = ANY(%s::bytea[]) AND deleted_at IS NULL",
                [pack_hashes(hashes)],
            )
            return {sha256.hex(): image_id for sha256, image_id in rows}

    def _find_deleted_hashes(self, hashes: list[str]) -> set[str]:
        with self._database.reading() as connection:
            return trash.find_deleted_hashes(connection, hashes)

    def _find_deleted_paths(self, paths: list[str]) -> dict[str, str]:
        with self._database.reading() as connection:
            return trash.find_deleted_paths(connection, paths)

    def _find_known_files(self, paths: list[str]) -> dict[str, KnownFile]:
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT p.file_path, i.image_id, p.byte_size, p.modified_ns, encode(i.content_sha256, 'hex'), "
                "encode(i.film_sha256, 'hex') FROM image_paths p JOIN images i USING (image_id) "
                "WHERE p.file_path = ANY(%s::text[]) AND i.deleted_at IS NULL ORDER BY p.path_id",
                [paths],
            )
            return {row[0]: KnownFile(*row[1:]) for row in rows}

    def _set_path(self, image_id: int, file_path: str, file_name: str, byte_size: int, modified_ns: int | None) -> None:
        with self._database.writing() as connection:
            record = get_live_record(connection, image_id)
            insert_paths(connection, [(image_id, file_path, byte_size, modified_ns)])
            if record.file_name != file_name:
                update_records(connection, [replace(record, file_name=file_name)])

    def _remove_paths(self, paths: list[str]) -> int:
        with self._database.writing() as connection:
            return delete_paths(connection, paths)

    def _list_paths(self, folder: str, after: str, limit: int) -> list[tuple[str, int]]:
        below = " OR ".join("p.file_path >= %s AND p.file_path < %s" for _ in list_folder_bounds(folder))
        with self._database.reading() as connection:
            return connection.execute(
                f"SELECT p.file_path, min(p.image_id) FROM image_paths p JOIN images i USING (image_id) "
                f"WHERE ({below}) AND left(p.file_path, 600) >= left(%s, 600) AND p.file_path > %s "
                "AND i.deleted_at IS NULL GROUP BY left(p.file_path, 600), p.file_path "
                "ORDER BY left(p.file_path, 600), p.file_path LIMIT %s",
                [*(bound for pair in list_folder_bounds(folder) for bound in pair), after, after, limit],
            ).fetchall()

    def _add_images(self, model_id: int, images: list[NewImage], embeddings: Embeddings) -> list[int]:
        hashes = [image.content_sha256 for image in images]
        try:
            with self._database.writing() as connection:
                self._write_originals(connection, images)  # meanwhile no other program writes or deletes any
                known = find_hashes(connection, hashes)
                now = datetime.now(UTC).replace(tzinfo=None)
                date_back(connection, now)
                trash.restore_images(connection, list(known.values()))
                new: dict[str, NewImage] = {}
                for image in images:
                    if image.content_sha256 not in known:
                        new.setdefault(image.content_sha256, image)
                added = list(new.values())
                ids = insert_images(connection, added, now, with_originals=self.originals is None)
                known |= {image.content_sha256: image_id for image, image_id in zip(added, ids, strict=True)}
                image_ids = [known[sha256] for sha256 in hashes]
                insert_embeddings(connection, model_id, image_ids, embeddings, [image.recipe for image in images])
                insert_paths(
                    connection,
                    [
                        (image_id, image.file_path, image.byte_size, image.modified_ns)
                        for image_id, image in zip(image_ids, images, strict=True)
                        if image.file_path is not None
                    ],
                )
                trash.forget_deleted(connection, hashes)
        except BaseException:
            self._remove_written(hashes)
            raise
        return image_ids

    def _replace_image(self, image_id: int, model_id: int, image: NewImage, embedding: Embeddings) -> None:
        try:
            with self._database.writing() as connection:
                record = get_live_record(connection, image_id)
                other = find_hashes(connection, [image.content_sha256]).get(image.content_sha256, image_id)
                if other != image_id:
                    raise content_is_known(other)
                self._write_originals(connection, [image])
                if record.content_sha256 != image.content_sha256:
                    self._note_removed(connection, [bytes.fromhex(record.content_sha256)])
                update_content(connection, replace_content(record, image), image, self.originals is None)
                connection.execute("DELETE FROM image_embeddings WHERE image_id = %s", [image_id])
                insert_embeddings(connection, model_id, [image_id], embedding[np.newaxis], [image.recipe])
                trash.forget_deleted(connection, [image.content_sha256])
        except BaseException:
            self._remove_written([image.content_sha256])
            raise
        self._sweep_originals()

    def _add_embeddings(self, model_id: int, image_ids: list[int], embeddings: Embeddings, recipe: int) -> None:
        with self._database.writing() as connection:
            insert_embeddings(connection, model_id, image_ids, embeddings, [recipe] * len(image_ids), replaces=True)

    def find_images_without_embedding(
        self, model_id: int, after_id: int = 0, limit: int = 1000, min_recipe: int = 0
    ) -> list[int]:
        condition = (
            "NOT EXISTS (SELECT 1 FROM image_embeddings e "
            "WHERE e.image_id = i.image_id AND e.model_id = %s AND e.recipe >= %s)"
        )
        return self._list_ids(condition, [model_id, min_recipe], after_id, limit)

    def find_images_of_old_recipe(self, recipe: int, after_id: int = 0, limit: int = 1000) -> list[int]:
        return self._list_ids("i.recipe < %s", [recipe], after_id, limit)

    def set_preview(self, image_id: int, preview: bytes, dominant_color: str | None, recipe: int) -> None:
        with self._database.writing() as connection:
            record = get_live_record(connection, image_id)
            connection.execute("UPDATE images SET preview = %s WHERE image_id = %s", [preview, image_id])
            update_records(connection, [replace(record, dominant_color=dominant_color, recipe=recipe)])

    def _list_ids(self, condition: str, values: list[object], after_id: int, limit: int) -> list[int]:
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT i.image_id FROM images i WHERE i.image_id > %s AND i.deleted_at IS NULL AND {condition} "
                "ORDER BY i.image_id LIMIT %s",
                [after_id, *values, limit],
            )
            return [row[0] for row in rows]

    # --- texts ------------------------------------------------------------------------------------------------------

    def _set_text(self, image_id: int, text: ImageText) -> bool:
        with self._database.writing() as connection:
            record = get_live_record(connection, image_id)
            return _update(connection, record, replace(record, text=text))

    def _change_edits(self, image_ids: list[int], change: ChangeEdits) -> dict[int, bool]:
        with self._database.writing() as connection:
            live = [one for one in find_records(connection, image_ids).values() if one.deleted_at is None]
            pairs = [(record, replace(record, edits=change(record))) for record in live]
            if changed := [after for before, after in pairs if after != before]:
                update_records(connection, changed)
        return {before.image_id: after != before for before, after in pairs}

    def _set_recognized(self, image_id: int, recognized: RecognizedText | None) -> None:
        with self._database.writing() as connection:
            record = get_live_record(connection, image_id, or_trashed=recognized is None)
            update_records(connection, [replace(record, **describe_recognized(recognized))])
            connection.execute(
                "UPDATE images SET recognized_lines = %s WHERE image_id = %s",
                [recognized and dump_lines(recognized), image_id],
            )

    def get_recognized(self, image_id: int) -> RecognizedText | None:
        recognizer, text, lines = self._get_row("recognizer, recognized_text, recognized_lines", image_id)
        return None if recognizer is None else RecognizedText(recognizer, text, load_lines(lines))

    def find_images_without_recognition(self, recognizer: str, after_id: int = 0, limit: int = 1000) -> list[int]:
        return self._list_ids("i.recognizer IS DISTINCT FROM %s", [recognizer], after_id, limit)

    # --- trash ------------------------------------------------------------------------------------------------------

    def _trash_images(self, image_ids: list[int], reason: TrashReason, deleted_at: datetime) -> int:
        with self._database.writing() as connection:
            return trash.trash_images(connection, image_ids, reason, deleted_at)

    def _restore_images(self, image_ids: list[int]) -> int:
        with self._database.writing() as connection:
            return trash.restore_images(connection, image_ids)

    def _list_trash(self, limit: int, offset: int) -> Hits:
        with self._database.reading() as connection:
            return list_page(connection, TRASH, TRASH_ORDER, limit, offset, repeats=True)

    def _empty_trash(self, image_ids: list[int] | None, before: datetime | None) -> int:
        with self._database.writing() as connection:
            removed = trash.empty_trash(connection, image_ids, before)
            self._note_removed(connection, removed)
        self._sweep_originals()
        return len(removed)

    def list_deleted(self, after: str = "", limit: int = 1000) -> list[DeletedImage]:
        with self._database.reading() as connection:
            return trash.list_deleted(connection, after, limit)

    def _add_deleted(self, deleted: list[DeletedImage]) -> None:
        with self._database.writing() as connection:
            trash.add_deleted(connection, deleted)

    def forget_deleted(self, hashes: Sequence[str] | None = None) -> int:
        with self._database.writing() as connection:
            return trash.forget_deleted(connection, hashes)

    # --- search -----------------------------------------------------------------------------------------------------

    def _search_embedding(
        self, model_id: int, embedding: Embeddings, limit: int, offset: int, filter: SearchFilter
    ) -> Hits:
        with self._database.reading() as connection:
            return search_embedding(connection, model_id, embedding, limit, offset, filter)

    def _list_images(
        self, terms: list[str], limit: int, offset: int, filter: SearchFilter, order: Order, after: ImageRecord | None
    ) -> Hits:
        with self._database.reading() as connection:
            return list_images(connection, terms, limit, offset, filter, order, after)

    def count_images(self, filter: SearchFilter = EVERYTHING) -> int:
        where, values = build_where(list_live_conditions(filter))
        with self._database.reading() as connection:
            row = connection.execute(f"SELECT count(*) FROM images i {where}", values).fetchone()
        return int(row[0]) if row else 0

    def count_values(self, field: CountedField, filter: SearchFilter = EVERYTHING) -> dict[str, int]:
        value, table = COUNTED[field]
        join = f"JOIN {table} v ON v.image_id = i.image_id" if table else ""
        where, values = build_where([(f"{value} IS NOT NULL", []), *list_live_conditions(filter)])
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {value}, {count_once(field)} FROM images i {join} {where} GROUP BY 1", values
            ).fetchall()
        return read_counts(field, rows)

    # --- images -----------------------------------------------------------------------------------------------------

    def _find_images(self, image_ids: list[int]) -> dict[int, ImageRecord]:
        with self._database.reading() as connection:
            return find_records(connection, image_ids)

    def read_original(self, image_id: int) -> bytes:
        if self.originals is not None:
            [data] = self._get_row("image_data", image_id)
            if data is not None:  # registered before ORIGINALS_URL was set
                return bytes(data)
        return super().read_original(image_id)

    def _read_original(self, image_id: int) -> bytes:
        [data] = self._get_row("image_data", image_id)
        if data is None:
            raise StoreError(f"The original of image {image_id} is not in the database. Correct ORIGINALS_URL.")
        return bytes(data)

    def read_previews(self, image_ids: Sequence[int]) -> dict[int, bytes]:
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT image_id, preview FROM images WHERE image_id = ANY(%s::bigint[])", [list(image_ids)]
            )
            return {image_id: bytes(preview) for image_id, preview in rows}

    def get_embeddings(self, image_ids: Sequence[int], model_id: int) -> dict[int, Embeddings]:
        with self._database.reading() as connection:
            rows = connection.execute(
                " UNION ALL ".join(
                    f"SELECT image_id, embedding FROM {table} WHERE model_id = %s AND image_id = ANY(%s::bigint[])"
                    for table in ("image_embeddings", "trashed_embeddings")
                ),
                [model_id, list(image_ids)] * 2,
            )
            return {image_id: _unpack(embedding) for image_id, embedding in rows}

    def _get_row(self, columns: str, image_id: int) -> tuple[Any, ...]:
        with self._database.reading() as connection:
            row = connection.execute(f"SELECT {columns} FROM images WHERE image_id = %s", [image_id]).fetchone()
        if row is None:
            raise image_not_found(image_id)
        return row

    # --- the store as a whole -----------------------------------------------------------------------------------------

    def sample_embeddings(self, model_id: int, size: int) -> Embeddings:
        dimension = self._get_dimension(model_id)
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT embedding FROM image_embeddings WHERE model_id = %s ORDER BY hashint8(image_id), image_id "
                "LIMIT %s",
                [model_id, size],
            ).fetchall()
        return np.array([_unpack(row[0]) for row in rows], np.float32).reshape(len(rows), dimension)

    def list_settings(self, prefix: str = "") -> dict[str, str]:
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT name, value FROM library_settings WHERE starts_with(name, %s) ORDER BY name", [prefix]
            )
            return dict(rows.fetchall())

    def set_setting(self, name: str, value: str | None) -> None:
        with self._database.writing() as connection:
            if value is None:
                connection.execute("DELETE FROM library_settings WHERE name = %s", [name])
            else:
                connection.execute(
                    "INSERT INTO library_settings VALUES (%s, %s) "
                    "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                    [name, value],
                )

    def get_status(self) -> StoreStatus:
        with self._database.reading() as connection:
            [row] = connection.execute(
                "SELECT split_part(current_setting('server_version'), ' ', 1), extversion, "
                "(SELECT count(*) FROM images WHERE deleted_at IS NULL), "
                "(SELECT count(*) FROM images WHERE deleted_at IS NOT NULL) FROM pg_extension WHERE extname = 'vector'"
            ).fetchall()
            counts = dict(
                connection.execute("SELECT model_id, count(*) FROM image_embeddings GROUP BY model_id").fetchall()
            )
            models = _list_models(connection)
        return StoreStatus(
            engine=f"PostgreSQL {row[0]} + pgvector {row[1]}",
            location=self._database.location,
            image_count=row[2],
            models=tuple((model, counts.get(model.model_id, 0)) for model in models),
            trash_count=row[3],
        )

    def check(self) -> Iterator[Finding]:
        model = self.find_current_model()
        with self._database.reading() as connection:
            yield check_vector_index(connection, model)
        yield check_originals(self.originals)

    def close(self) -> None:
        self._database.close()

    # --- originals outside of the database ----------------------------------------------------------------------------

    def _write_originals(self, connection: Connection, images: Sequence[NewImage]) -> None:
        if self.originals is not None:
            self._delete_orphaned_originals(connection, self.originals)
            self.originals.write({image.content_sha256: image.data for image in images if image.data is not None})

    def _note_removed(self, connection: Connection, hashes: list[bytes]) -> None:
        if self.originals is not None:
            connection.execute(
                "INSERT INTO removed_originals SELECT unnest(%s::bytea[]) ON CONFLICT DO NOTHING", [hashes]
            )

    def _sweep_originals(self) -> None:
        if self.originals is not None:
            with self._database.writing() as connection:
                self._delete_orphaned_originals(connection, self.originals)

    def _delete_orphaned_originals(self, connection: Connection, originals: Originals) -> None:
        # In a transaction after the one that deleted the records: an original goes only when its record is gone for
        # good and while no program can add the same image again. The next deletion finishes an interrupted one.
        hashes = [row[0].hex() for row in connection.execute("SELECT content_sha256 FROM removed_originals")]
        if hashes:
            originals.delete(set(hashes) - find_hashes(connection, hashes).keys())
            connection.execute("DELETE FROM removed_originals")

    def _remove_written(self, hashes: list[str]) -> None:
        """Remove the originals that a failed transaction has written."""
        if self.originals is not None:
            with suppress(StoreError), self._database.writing() as connection:
                self.originals.delete(set(hashes) - find_hashes(connection, hashes).keys())


def _list_models(connection: Connection) -> list[EmbeddingModel]:
    rows = connection.execute(
        "SELECT model_id, model_name, model_version, vector_dimension, is_current = 'Y' "
        "FROM embedding_models ORDER BY model_id"
    ).fetchall()
    return [EmbeddingModel(*row) for row in rows]


def _update(connection: Connection, record: ImageRecord, changed: ImageRecord) -> bool:
    if changed == record:
        return False
    update_records(connection, [changed])
    return True


def _unpack(embedding: Vector) -> Embeddings:
    return embedding.to_numpy().copy()
