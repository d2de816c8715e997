"""The reference store: Oracle Database 23ai/26ai, everything in one schema, AI Vector Search and Oracle Text.

Statements are in sql.py and trash.py, the schema in create_all_tables.sql, what is done when a connection breaks in
connection.py. A page of hits is one query: it is decided on numbers and embeddings, then joined with its texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from types import MappingProxyType

import numpy as np

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
from image_search.stores.oracle import sql, trash
from image_search.stores.oracle.connection import Connections, Row, Session, T
from image_search.stores.oracle.health import check_oracle
from image_search.stores.oracle.messages import OracleError, get_code, is_text_failure
from image_search.stores.oracle.rows import (
    bind_embedding,
    bind_values,
    build_conditions,
    change_record,
    delete_paths,
    find_hashes,
    get_live_record,
    insert_image,
    insert_paths,
    is_storable,
    list_models,
    make_record,
    read_hits,
    set_setting,
    to_embedding,
    to_vector,
    update_content,
    update_record,
)
from image_search.stores.oracle.schema import SearchIndexes, check_version, has_old_words, renew_words, upgrade_schema
from image_search.stores.oracle.sql import APPROXIMATE_ROWS
from image_search.stores.reads import content_is_known, find_model, image_not_found, model_is_current, model_not_found
from image_search.stores.sql import list_after, list_folder_bounds, read_counts, replace_content
from image_search.stores.text import describe_recognized, dump_lines, load_lines

# Rows of one transaction, so that none lasts longer than a call may (connection.py) or fills the undo tablespace.
_ROWS_OF_A_DELETION = 10_000  # embeddings
_IMAGES_OF_A_DELETION = 500  # with their originals


class OracleStore(ImageStore):
    """A library in the schema of DB_USER. Any number of threads and processes may use it at once."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.location = f"{settings.db_user} at {settings.db_dsn.rpartition('@')[2]}"  # a password may precede @
        # Originals are in the database unless a folder is named: its backup, privileges and transactions are theirs.
        self.originals: Originals | None = None
        if settings.originals_url:
            self.originals = open_originals(settings.originals_url, s3_endpoint_url=settings.s3_endpoint_url)
        self._settings = settings
        self._connections = Connections(settings, self._check_schema)
        self._read = self._connections.read
        self._indexes = SearchIndexes()

    @classmethod
    def open(cls, settings: Settings) -> OracleStore:
        """The store of DB_USER, DB_PASSWORD and DB_DSN. Connects to nothing yet."""
        return cls(settings)

    def _check_schema(self, session: Session) -> None:
        check_version(session, lambda: upgrade_schema(self._settings, self.location))
        if has_old_words(session, self.location):
            renew_words(self._settings, self.location)

    def _write(self, work: Callable[[Session], T]) -> T:
        def work_alone(session: Session) -> T:
            session.query(sql.LOCK_WRITES)
            has_old_words(session, self.location)  # refuses what a newer program has written
            return work(session)

        return self._connections.write(work_alone)

    # --- models ---------------------------------------------------------------------------------------------------

    def _add_model(self, name: str, version: str, dimension: int) -> None:
        def insert_once(session: Session) -> None:
            models = list_models(session)
            if find_model(models, name, version) is None:
                is_current = not any(model.is_current for model in models)
                binds = {
                    "model_name": name,
                    "model_version": version,
                    "dimension": dimension,
                    "is_current": "Y" if is_current else "N",
                }
                session.insert(sql.INSERT_MODEL, binds, returning="model_id")

        self._write(insert_once)

    def list_models(self) -> list[EmbeddingModel]:
        return self._read(list_models)

    def set_current_model(self, model_id: int) -> None:
        def switch(session: Session) -> None:
            session.execute(sql.CLEAR_CURRENT_MODEL, {"model_id": model_id})
            if not session.execute(sql.SET_CURRENT_MODEL, {"model_id": model_id}):
                raise model_not_found(model_id)

        self._write(switch)

    def remove_model(self, model_id: int) -> None:
        def remove_piece(session: Session) -> bool:
            rows = session.query(sql.GET_MODEL, {"model_id": model_id})
            if not rows:
                raise model_not_found(model_id)
            if rows[0][0] == "Y":
                raise model_is_current(model_id)
            piece = {"model_id": model_id, "max_rows": _ROWS_OF_A_DELETION}
            if session.execute(sql.DELETE_MODEL_EMBEDDINGS, piece) == _ROWS_OF_A_DELETION:
                return False
            for statement in (sql.DELETE_PARKED_EMBEDDINGS, sql.DELETE_MODEL):
                session.execute(statement, {"model_id": model_id})
            return True

        while not self._write(remove_piece):  # an interrupted removal goes on where it stopped
            pass
        self._dimensions.pop(model_id, None)

    # --- registration -----------------------------------------------------------------------------------------------

    def _find_known_hashes(self, hashes: list[str]) -> dict[str, int]:
        rows = self._read(lambda session: find_hashes(session, hashes))
        return {sha256: image_id for sha256, (image_id, deleted_at) in rows.items() if deleted_at is None}

    def _find_deleted_hashes(self, hashes: list[str]) -> set[str]:
        return self._read(lambda session: trash.find_deleted(session, hashes))

    def _find_deleted_paths(self, paths: list[str]) -> dict[str, str]:
        stored = [path for path in paths if is_storable(path)]
        return self._read(lambda session: trash.find_deleted_paths(session, stored))

    def _find_known_files(self, paths: list[str]) -> dict[str, KnownFile]:
        stored = [path for path in paths if is_storable(path)]
        rows = self._read(lambda session: list(session.query_chunks(sql.find_files, stored)))
        return {
            path: KnownFile(image_id, byte_size, modified_ns, sha256.hex(), film.hex() if film else None)
            for path, image_id, byte_size, modified_ns, sha256, film in rows
        }

    def _set_path(self, image_id: int, file_path: str, file_name: str, byte_size: int, modified_ns: int | None) -> None:
        def place(session: Session) -> None:
            record = get_live_record(session, image_id)
            insert_paths(session, [(image_id, file_path, byte_size, modified_ns)])
            if record.file_name != file_name:
                update_record(session, replace(record, file_name=file_name))

        self._write(place)

    def _remove_paths(self, paths: list[str]) -> int:
        def remove(session: Session) -> int:
            return delete_paths(session, [path for path in paths if is_storable(path)])

        return self._write(remove)

    def _list_paths(self, folder: str, after: str, limit: int) -> list[tuple[str, int]]:
        names = [(f"lower_{n}", f"upper_{n}") for n, _ in enumerate(list_folder_bounds(folder))]
        below = " OR ".join(f"p.file_path >= :{lower} AND p.file_path < :{upper}" for lower, upper in names)
        conditions = [f"({below})"]
        binds: dict[str, object] = {"max_rows": limit}
        for pair, bounds in zip(names, list_folder_bounds(folder), strict=True):
            binds.update(zip(pair, bounds, strict=True))
        if after:  # the empty text would be NULL
            conditions.append("p.file_path > :after_path")
            binds["after_path"] = after
        return [(path, image_id) for path, image_id in self._query(sql.list_paths(conditions), binds)]

    def _add_images(self, model_id: int, images: list[NewImage], embeddings: Embeddings) -> list[int]:
        different: dict[str, tuple[NewImage, Embeddings]] = {}
        for image, embedding in zip(images, embeddings, strict=True):
            different.setdefault(image.content_sha256, (image, embedding))

        def add(session: Session) -> dict[str, int]:
            self._write_originals([image for image, _ in different.values()])
            known = find_hashes(session, list(different))
            session.execute(sql.DATE_BACK)
            trash.restore(session, [image_id for image_id, deleted_at in known.values() if deleted_at is not None])
            image_ids = {sha256: image_id for sha256, (image_id, _) in known.items()}
            rows = session.query_chunks(sql.find_embedded, list(image_ids.values()))
            embedded = {row[0] for row in rows if row[1] == model_id}
            for sha256, (image, _) in different.items():
                if sha256 not in image_ids:
                    image_ids[sha256] = insert_image(session, image, has_data=self.originals is None)
            session.execute_many(
                sql.INSERT_EMBEDDING,
                [
                    bind_embedding(image_ids[sha256], model_id, embedding, image.recipe)
                    for sha256, (image, embedding) in different.items()
                    if image_ids[sha256] not in embedded
                ],
            )
            insert_paths(
                session,
                [
                    (image_ids[image.content_sha256], image.file_path, image.byte_size, image.modified_ns)
                    for image in images
                    if image.file_path is not None
                ],
            )
            trash.forget(session, list(different))
            return image_ids

        image_ids = self._write(add)
        return [image_ids[image.content_sha256] for image in images]

    def _replace_image(self, image_id: int, model_id: int, image: NewImage, embedding: Embeddings) -> None:
        def change(session: Session) -> str:
            record = get_live_record(session, image_id)
            other, _ = find_hashes(session, [image.content_sha256]).get(image.content_sha256, (image_id, None))
            if other != image_id:
                raise content_is_known(other)
            self._write_originals([image])
            update_content(session, replace_content(record, image), image, has_data=self.originals is None)
            session.execute(sql.DELETE_EMBEDDINGS, {"image_id": image_id})
            session.execute(sql.INSERT_EMBEDDING, bind_embedding(image_id, model_id, embedding, image.recipe))
            trash.forget(session, [image.content_sha256])
            return record.content_sha256

        self._sweep_originals([self._write(change)])

    def _add_embeddings(self, model_id: int, image_ids: list[int], embeddings: Embeddings, recipe: int) -> None:
        rows = [
            bind_embedding(image_id, model_id, embedding, recipe)
            for image_id, embedding in zip(image_ids, embeddings, strict=True)
        ]
        self._write(lambda session: session.execute_many(sql.REPLACE_EMBEDDING, rows))

    def find_images_without_embedding(
        self, model_id: int, after_id: int = 0, limit: int = 1000, min_recipe: int = 0
    ) -> list[int]:
        binds = {"model_id": model_id, "min_recipe": min_recipe, "after_id": after_id, "max_rows": limit}
        return [row[0] for row in self._query(sql.FIND_IMAGES_WITHOUT_EMBEDDING, binds)]

    def find_images_of_old_recipe(self, recipe: int, after_id: int = 0, limit: int = 1000) -> list[int]:
        binds = {"recipe": recipe, "after_id": after_id, "max_rows": limit}
        return [row[0] for row in self._query(sql.FIND_IMAGES_OF_OLD_RECIPE, binds)]

    def set_preview(self, image_id: int, preview: bytes, dominant_color: str | None, recipe: int) -> None:
        def change(session: Session) -> None:
            record = get_live_record(session, image_id)
            session.execute(sql.SET_PREVIEW, {"preview": preview, "image_id": image_id})
            update_record(session, replace(record, dominant_color=dominant_color, recipe=recipe))

        self._write(change)

    # --- texts ------------------------------------------------------------------------------------------------------

    def _set_text(self, image_id: int, text: ImageText) -> bool:
        return self._write(lambda session: change_record(session, image_id, lambda record: replace(record, text=text)))

    def _change_edits(self, image_ids: list[int], change: ChangeEdits) -> dict[int, bool]:
        def change_all(session: Session) -> dict[int, bool]:
            found = map(make_record, session.query_chunks(sql.get_records, image_ids))
            live = [record for record in found if record.deleted_at is None]
            pairs = [(record, replace(record, edits=change(record))) for record in live]
            for before, after in pairs:
                if after != before:
                    update_record(session, after)
            return {before.image_id: after != before for before, after in pairs}

        return self._write(change_all)

    def _set_recognized(self, image_id: int, recognized: RecognizedText | None) -> None:
        lines = dump_lines(recognized) if recognized else None

        def change(session: Session) -> None:
            change_record(
                session,
                image_id,
                lambda record: replace(record, **describe_recognized(recognized)),
                or_trashed=recognized is None,
            )
            session.execute(sql.SET_LINES, {"recognized_lines": lines, "image_id": image_id})

        self._write(change)

    def get_recognized(self, image_id: int) -> RecognizedText | None:
        recognizer, text, lines = self._get_row(sql.GET_RECOGNIZED, image_id)
        return None if recognizer is None else RecognizedText(recognizer, text or "", load_lines(lines))

    def find_images_without_recognition(self, recognizer: str, after_id: int = 0, limit: int = 1000) -> list[int]:
        binds = {"recognizer": recognizer, "after_id": after_id, "max_rows": limit}
        return [row[0] for row in self._query(sql.FIND_IMAGES_WITHOUT_RECOGNITION, binds)]

    # --- trash ------------------------------------------------------------------------------------------------------

    def _trash_images(self, image_ids: list[int], reason: TrashReason, deleted_at: datetime) -> int:
        return self._write(lambda session: trash.move_to_trash(session, image_ids, reason, deleted_at))

    def _restore_images(self, image_ids: list[int]) -> int:
        return self._write(lambda session: trash.restore(session, image_ids))

    def _list_trash(self, limit: int, offset: int) -> Hits:
        return read_hits(self._query(sql.list_trash(), {"skip_rows": offset, "max_rows": limit}))

    def _empty_trash(self, image_ids: list[int] | None, before: datetime | None) -> int:
        trashed = self._read(lambda session: trash.list_trashed(session, image_ids, before))
        count = 0
        for start in range(0, len(trashed), _IMAGES_OF_A_DELETION):  # what was committed stays when a piece fails
            piece = trashed[start : start + _IMAGES_OF_A_DELETION]
            removed = self._write(partial(trash.remove_trashed, image_ids=piece))
            self._sweep_originals(removed)
            count += len(removed)
        return count

    def list_deleted(self, after: str = "", limit: int = 1000) -> list[DeletedImage]:
        return self._read(lambda session: trash.list_deleted(session, after, limit))

    def _add_deleted(self, deleted: list[DeletedImage]) -> None:
        self._write(lambda session: trash.add_deleted(session, deleted))

    def forget_deleted(self, hashes: Sequence[str] | None = None) -> int:
        return self._write(lambda session: trash.forget(session, hashes))

    # --- search -----------------------------------------------------------------------------------------------------

    def _search_embedding(
        self, model_id: int, embedding: Embeddings, limit: int, offset: int, filter: SearchFilter
    ) -> Hits:
        page = {"skip_rows": offset, "max_rows": limit}
        binds = {"query_embedding": to_vector(embedding), "model_id": model_id, **page}
        # Under a filter an index may give fewer rows than there are, and so it may among rows of other models.
        if filter.is_empty and offset + limit <= APPROXIMATE_ROWS:
            rows = self._read(lambda session: self._search_approximately(session, binds))
            if rows and not rows[0][1] and len(rows) == min(limit, rows[0][0] - offset):
                return read_hits([(row[0], *row[2:]) for row in rows])
        has_filter = not filter.is_empty
        for is_current in (True, False):

            def write_sql(conditions: Sequence[str], is_current: bool = is_current) -> str:
                return sql.search_exactly(conditions[1:] if has_filter else [], is_current)

            hits = read_hits(self._query_filtered(write_sql, filter, binds=binds))
            if hits.total:
                break
        return hits

    def _search_approximately(self, session: Session, binds: Mapping[str, object]) -> list[Row]:
        if not self._indexes.look(session).vector:
            return []
        try:
            return session.query(sql.SEARCH_APPROXIMATELY, binds)
        except OracleError as error:
            if get_code(error) != "ORA-51808":
                raise
            return []  # the index has just been dropped, and a model of another dimension came

    def _list_images(
        self, terms: list[str], limit: int, offset: int, filter: SearchFilter, order: Order, after: ImageRecord | None
    ) -> Hits:
        behind, keys = bind_values(list_after(order, after), "after")
        page = {**keys, "skip_rows": offset, "max_rows": limit}
        rows = self._query_filtered(lambda found: sql.list_images(found, order, behind), filter, terms, page)
        return read_hits(rows)

    def count_images(self, filter: SearchFilter = EVERYTHING) -> int:
        return int(self._query_filtered(sql.count_images, filter)[0][0])

    def count_values(self, field: CountedField, filter: SearchFilter = EVERYTHING) -> dict[str, int]:
        rows = self._query_filtered(lambda conditions: sql.count_values(field, conditions), filter)
        return read_counts(field, [(value, count) for value, count in rows])

    def _query_filtered(
        self,
        write_sql: Callable[[Sequence[str]], str],
        filter: SearchFilter,
        words: Sequence[str] = (),
        binds: Mapping[str, object] = MappingProxyType({}),
    ) -> list[Row]:
        """Rows of a query under a filter; by the word index where it helps, without it where it fails."""

        def query(session: Session, has_text_index: bool) -> list[Row]:
            conditions, values = build_conditions(filter, words, has_text_index)
            return session.query(write_sql(conditions), {**values, **binds})

        def query_either_way(session: Session) -> list[Row]:
            if (words or filter.words) and self._indexes.look(session).text:
                try:
                    return query(session, has_text_index=True)
                except OracleError as error:
                    if not is_text_failure(error):
                        raise
                    self._indexes.disable_text_index()
            return query(session, has_text_index=False)

        return self._read(query_either_way)

    # --- images -----------------------------------------------------------------------------------------------------

    def _find_images(self, image_ids: list[int]) -> dict[int, ImageRecord]:
        rows = self._read(lambda session: list(session.query_chunks(sql.get_records, image_ids)))
        return {row[0]: make_record(row) for row in rows}

    def read_original(self, image_id: int) -> bytes:
        if self.originals is not None:
            [data] = self._get_row(sql.READ_ORIGINAL, image_id)
            if data is not None:  # registered before ORIGINALS_URL was set
                return bytes(data)
        return super().read_original(image_id)

    def _read_original(self, image_id: int) -> bytes:
        [data] = self._get_row(sql.READ_ORIGINAL, image_id)
        if data is None:
            raise StoreError(f"The original of image {image_id} is not in the database. Set ORIGINALS_URL as it was.")
        return bytes(data)

    def read_previews(self, image_ids: Sequence[int]) -> dict[int, bytes]:
        rows = self._read(lambda session: list(session.query_chunks(sql.read_previews, image_ids)))
        return {image_id: bytes(preview) for image_id, preview in rows}

    def get_embeddings(self, image_ids: Sequence[int], model_id: int) -> dict[int, Embeddings]:
        binds = {"model_id": model_id}
        rows = self._read(lambda session: list(session.query_chunks(sql.get_embeddings, image_ids, binds)))
        return {image_id: to_embedding(vector) for image_id, vector in rows}

    # --- the store as a whole -----------------------------------------------------------------------------------------

    def sample_embeddings(self, model_id: int, size: int) -> Embeddings:
        dimension = self._get_dimension(model_id)
        rows = self._query(sql.SAMPLE_EMBEDDINGS, {"model_id": model_id, "max_rows": size})
        return np.array([to_embedding(row[0]) for row in rows], np.float32).reshape(len(rows), dimension)

    def list_settings(self, prefix: str = "") -> dict[str, str]:
        conditions = ["INSTR(s.name, :prefix) = 1"] if prefix else []
        rows = self._query(sql.list_settings(conditions), {"prefix": prefix} if prefix else {})
        return {name: value or "" for name, value in rows}  # the empty text is kept as NULL

    def set_setting(self, name: str, value: str | None) -> None:
        self._write(lambda session: set_setting(session, name, value))

    def get_status(self) -> StoreStatus:
        def look(session: Session) -> StoreStatus:
            counts: dict[int, int] = dict(session.query(sql.COUNT_EMBEDDINGS))
            conditions, _ = build_conditions(EVERYTHING, [], has_text_index=False)
            return StoreStatus(
                engine=f"Oracle Database {session.connection.version}",
                location=self.location,
                image_count=int(session.query(sql.count_images(conditions))[0][0]),
                models=tuple((model, counts.get(model.model_id, 0)) for model in list_models(session)),
                trash_count=int(session.query(sql.COUNT_TRASH)[0][0]),
            )

        return self._read(look)

    def check(self) -> Iterator[Finding]:
        yield from check_oracle(self._settings)
        yield check_originals(self.originals)

    def close(self) -> None:
        self._connections.close()

    # --- originals outside of the database, and single rows -----------------------------------------------------------

    def _write_originals(self, images: Sequence[NewImage]) -> None:
        if self.originals is not None:
            self.originals.write({image.content_sha256: image.data for image in images if image.data is not None})

    def _sweep_originals(self, hashes: list[str]) -> None:
        """Remove originals after a deletion is committed, while no program can add the same image again."""
        if (originals := self.originals) is not None and hashes:
            self._write(lambda session: originals.delete(set(hashes) - find_hashes(session, hashes).keys()))

    def _query(self, statement: str, binds: Mapping[str, object]) -> list[Row]:
        return self._read(lambda session: session.query(statement, binds))

    def _get_row(self, statement: str, image_id: int) -> Row:
        rows = self._query(statement, {"image_id": image_id})
        if not rows:
            raise image_not_found(image_id)
        return rows[0]
