"""The reference store: Oracle Database 23ai/26ai, everything in one schema, AI Vector Search and Oracle Text.

Statements are in oracle_sql.py, the schema in create_all_tables.sql, what is done when a connection breaks in
oracle_connection.py. A search is one query: the page is decided on numbers and embeddings, then joined with its texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import oracledb

from image_search.errors import StoreError
from image_search.originals import Originals, check_originals, open_originals
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
from image_search.settings import ROOT, Settings
from image_search.stores.base import (
    EVERYTHING,
    CountedField,
    Embeddings,
    ImageStore,
    embedding_not_found,
    find_model,
    image_not_found,
    model_is_current,
    model_not_found,
)
from image_search.stores.oracle import sql
from image_search.stores.oracle.connection import Connections, Row, Session
from image_search.stores.oracle.errors import OracleError, is_text_failure
from image_search.stores.oracle.health import check_oracle
from image_search.stores.oracle.rows import (
    FILE_NAME_LENGTH,
    bind_file,
    bind_image,
    bind_keywords,
    bind_text,
    make_record,
    make_search_text,
    match_words,
    to_embedding,
    to_vector,
)
from image_search.stores.oracle.schema import SearchIndexes, check_version
from image_search.stores.sql import list_conditions
from image_search.stores.text import sanitize

# A SearchFilter and words as conditions on images i, with binds for every value that comes from outside.

Conditions = tuple[list[str], dict[str, object]]

# More could not be bound as VARCHAR2 (4000 bytes), and no column that is filtered holds more.
_MAX_VALUE = 1000


def build_conditions(filter: SearchFilter, words: Sequence[str], has_text_index: bool) -> Conditions:
    """Conditions that hold for the images the filter lets through and in which the words occur, and their binds."""
    wanted = [word for given in (*filter.words, *words) if (word := sanitize(given).strip())]
    conditions, binds = match_words(wanted, has_text_index)
    for condition, values in list_conditions(filter):
        for value in values:
            name = f"filter_{len(binds)}"
            condition = condition.replace("%s", f":{name}", 1)
            binds[name] = value[:_MAX_VALUE] if isinstance(value, str) else value
        conditions.append(condition)
    return conditions, binds


# So many rows are asked of a vector index, and pages are cut out of them: then they do not overlap. Further down the
# list, where nobody looks often, the search is exact.
APPROXIMATE_ROWS = 200

# Rows of one transaction, so that none lasts longer than a call may (connection.py) or fills the undo tablespace.
_ROWS_OF_A_DELETION = 10_000  # embeddings
_IMAGES_OF_A_DELETION = 1000  # with their originals


class OracleStore(ImageStore):
    """A library in the schema of DB_USER. Any number of threads and processes may use it at once."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.location = f"{settings.db_user} at {settings.db_dsn.rpartition('@')[2]}"  # before @ may stand a password
        # Originals are in the database unless a folder is named: its backup, privileges and transactions are theirs.
        self.originals: Originals | None = None
        if settings.originals_url:
            folder = ROOT / "data" / "originals"
            self.originals = open_originals(settings.originals_url, folder, settings.s3_endpoint_url)
        self._settings = settings
        self._connections = Connections(settings, check_version)
        self._read, self._write = self._connections.read, self._connections.write
        self._indexes = SearchIndexes()

    @classmethod
    def open(cls, settings: Settings) -> OracleStore:
        """The store of DB_USER, DB_PASSWORD and DB_DSN. Connects to nothing yet."""
        return cls(settings)

    # --- models ---------------------------------------------------------------------------------------------------

    def _add_model(self, name: str, version: str, dimension: int) -> None:
        def insert_once(session: Session) -> None:
            models = _list_models(session)
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
        return self._read(_list_models)

    def set_current_model(self, model_id: int) -> None:
        def switch(session: Session) -> None:
            session.execute(sql.CLEAR_CURRENT_MODEL, {"model_id": model_id})
            if not session.execute(sql.SET_CURRENT_MODEL, {"model_id": model_id}):
                raise model_not_found(model_id)

        self._write(switch)

    def remove_model(self, model_id: int) -> None:
        def remove_piece(session: Session) -> bool:
            rows = session.query(sql.LOCK_MODEL, {"model_id": model_id})
            if not rows:
                raise model_not_found(model_id)
            if rows[0][0] == "Y":
                raise model_is_current(model_id)
            piece = {"model_id": model_id, "max_rows": _ROWS_OF_A_DELETION}
            if session.execute(sql.DELETE_MODEL_EMBEDDINGS, piece) == _ROWS_OF_A_DELETION:
                return False
            session.execute(sql.DELETE_MODEL, {"model_id": model_id})
            return True

        while not self._write(remove_piece):  # an interrupted removal goes on where it stopped
            pass
        self._dimensions.pop(model_id, None)

    # --- registration -----------------------------------------------------------------------------------------------

    def _find_known_hashes(self, hashes: list[str]) -> dict[str, int]:
        return self._read(lambda session: _find_hashes(session, hashes))

    def _find_known_files(self, paths: list[str]) -> dict[str, KnownFile]:
        rows = self._read(lambda session: list(session.query_chunks(sql.find_files, paths)))
        return {row[0]: KnownFile(*row[1:]) for row in rows}

    def _set_file(self, image_id: int, file_path: str, file_name: str, modified_ns: int | None) -> None:
        def move(session: Session) -> None:
            text = _lock_image(session, image_id).text
            words = make_search_text([file_name, text.generation_prompt, text.description, *text.keywords])
            binds = {**bind_file(file_name, file_path, modified_ns), "search_text": words, "image_id": image_id}
            session.execute(sql.SET_FILE, binds)

        self._write(move)

    def _add_images(self, model_id: int, images: list[NewImage], embeddings: Embeddings) -> list[int]:
        pictures = {
            image.content_sha256: (image, embedding) for image, embedding in zip(images, embeddings, strict=True)
        }

        def add(session: Session) -> dict[str, int]:
            if self.originals is not None:
                session.query(sql.LOCK_ORIGINALS)
                self.originals.write({sha256: image.data for sha256, (image, _) in pictures.items()})
            image_ids = _find_hashes(session, list(pictures))
            known = list(image_ids.values())
            embedded = {row[0] for row in session.query_chunks(sql.find_embedded, known) if row[1] == model_id}
            for sha256, (image, _) in pictures.items():
                if sha256 not in image_ids:
                    image_ids[sha256] = self._insert_image(session, image)
            session.execute_many(
                sql.INSERT_EMBEDDING,
                [
                    {"image_id": image_ids[sha256], "model_id": model_id, "embedding": to_vector(embedding)}
                    for sha256, (_, embedding) in pictures.items()
                    if image_ids[sha256] not in embedded
                ],
            )
            return image_ids

        image_ids = self._write(add)
        return [image_ids[image.content_sha256] for image in images]

    def _insert_image(self, session: Session, image: NewImage) -> int:
        # A NULL shows no type; as text it would neither go into a BLOB nor stand beside a time.
        types = {"upload_date": oracledb.DB_TYPE_TIMESTAMP, "image_data": oracledb.DB_TYPE_BLOB}
        binds = bind_image(image, has_data=self.originals is None)
        types = {name: kind for name, kind in types.items() if binds[name] is None}
        image_id = session.insert(sql.INSERT_IMAGE, binds, returning="image_id", types=types)
        _insert_satellites(session, image_id, image.text)
        return image_id

    def _add_embeddings(self, model_id: int, image_ids: list[int], embeddings: Embeddings) -> None:
        rows = [
            {"image_id": image_id, "model_id": model_id, "embedding": to_vector(embedding)}
            for image_id, embedding in zip(image_ids, embeddings, strict=True)
        ]
        self._write(lambda session: session.execute_many(sql.REPLACE_EMBEDDING, rows))

    def find_images_without_embedding(self, model_id: int, after_id: int = 0, limit: int = 1000) -> list[int]:
        binds = {"model_id": model_id, "after_id": after_id, "max_rows": limit}
        return [row[0] for row in self._query(sql.FIND_IMAGES_WITHOUT_EMBEDDING, binds)]

    def _set_text(self, image_id: int, text: ImageText) -> bool:
        def replace(session: Session) -> bool:
            record = _lock_image(session, image_id)
            if record.text == text:
                return False
            session.execute(sql.SET_TEXT, {**bind_text(text, record.file_name), "image_id": image_id})
            session.execute(sql.DELETE_DESCRIPTION, {"image_id": image_id})
            session.execute(sql.DELETE_KEYWORDS, {"image_id": image_id})
            _insert_satellites(session, image_id, text)
            return True

        return self._write(replace)

    def _delete_images(self, image_ids: list[int]) -> int:
        ids = sorted(image_ids)
        pieces = (ids[start : start + _IMAGES_OF_A_DELETION] for start in range(0, len(ids), _IMAGES_OF_A_DELETION))
        return sum(map(self._delete_piece, pieces))

    def _delete_piece(self, image_ids: list[int]) -> int:
        def delete(session: Session) -> tuple[int, list[str]]:
            rows = session.query_chunks(sql.lock_hashes, image_ids) if self.originals is not None else ()
            hashes = [sha256.hex() for (sha256,) in rows]
            return session.execute_chunks(sql.delete_images, image_ids), hashes

        def sweep(session: Session) -> None:
            # After the deletion is certain, and while nobody can add the same picture again.
            session.query(sql.LOCK_ORIGINALS)
            assert self.originals is not None
            self.originals.delete(set(hashes) - _find_hashes(session, hashes).keys())

        count, hashes = self._write(delete)
        if hashes:
            self._write(sweep)
        return count

    # --- search -----------------------------------------------------------------------------------------------------

    def _search_embedding(
        self, model_id: int, embedding: Embeddings, limit: int, offset: int, filter: SearchFilter
    ) -> list[SearchHit]:
        binds = {"query_embedding": to_vector(embedding), "model_id": model_id}
        rows: list[Row] = []
        # Under a filter an index may give fewer rows than there are, and so it may among rows of other models.
        if filter.is_empty and offset + limit <= APPROXIMATE_ROWS:
            rows = self._read(lambda session: self._search_approximately(session, binds))[offset : offset + limit]
        if len(rows) < limit:
            page = {"skip_rows": offset, "max_rows": limit}
            rows = self._query_filtered(sql.search_exactly, filter, binds={**binds, **page})
        return [SearchHit(make_record(row[:-1]), float(row[-1])) for row in rows]

    def _search_approximately(self, session: Session, binds: Mapping[str, object]) -> list[Row]:
        if not self._indexes.look(session).vector:
            return []
        return session.query(sql.SEARCH_APPROXIMATELY, {**binds, "max_rows": APPROXIMATE_ROWS})

    def _search_words(self, words: list[str], limit: int, offset: int, filter: SearchFilter) -> list[SearchHit]:
        page = {"skip_rows": offset, "max_rows": limit}
        return [SearchHit(make_record(row)) for row in self._query_filtered(sql.list_newest, filter, words, page)]

    def _find_latest(self, limit: int, offset: int, filter: SearchFilter) -> list[SearchHit]:
        return self._search_words([], limit, offset, filter)

    def count_images(self, filter: SearchFilter = EVERYTHING) -> int:
        return int(self._query_filtered(sql.count_images, filter)[0][0])

    def count_values(self, field: CountedField, filter: SearchFilter = EVERYTHING) -> dict[str, int]:
        rows = self._query_filtered(lambda conditions: sql.count_values(field, conditions), filter)
        return dict(sorted(rows, key=lambda row: (-row[1], row[0])))  # here: the order of texts is the session's affair

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

    # --- one image --------------------------------------------------------------------------------------------------

    def get_images(self, image_ids: Sequence[int]) -> list[ImageRecord]:
        rows = self._read(lambda session: list(session.query_chunks(sql.get_records, image_ids)))
        records = {row[0]: make_record(row) for row in rows}
        for image_id in image_ids:
            if image_id not in records:
                raise image_not_found(image_id)
        return [records[image_id] for image_id in image_ids]

    def read_original(self, image_id: int) -> bytes:
        data, sha256 = self._get_row(sql.READ_ORIGINAL, image_id)
        if data is not None:
            return bytes(data)
        if self.originals is None:
            raise StoreError(f"The original of image {image_id} is not in the database. Set ORIGINALS_URL as it was.")
        return self.originals.read(sha256.hex())

    def read_preview(self, image_id: int) -> bytes:
        return bytes(self._get_row(sql.READ_PREVIEW, image_id)[0])

    def get_embedding(self, image_id: int, model_id: int) -> Embeddings:
        rows = self._query(sql.GET_EMBEDDING, {"image_id": image_id, "model_id": model_id})
        if not rows:
            raise embedding_not_found(image_id, model_id)
        return to_embedding(rows[0][0])

    def find_by_file_name(self, file_name: str) -> list[int]:
        stored = sanitize(file_name)[:FILE_NAME_LENGTH]
        return [row[0] for row in self._query(sql.FIND_BY_FILE_NAME, {"file_name": stored})]

    # --- the store as a whole -----------------------------------------------------------------------------------------

    def sample_embeddings(self, model_id: int, size: int) -> Embeddings:
        dimension = self._get_dimension(model_id)
        rows = self._query(sql.SAMPLE_EMBEDDINGS, {"model_id": model_id, "max_rows": size})
        return np.array([to_embedding(row[0]) for row in rows], np.float32).reshape(len(rows), dimension)

    def get_status(self) -> StoreStatus:
        def look(session: Session) -> StoreStatus:
            counts: dict[int, int] = dict(session.query(sql.COUNT_EMBEDDINGS))
            indexes = self._indexes.look(session)
            return StoreStatus(
                engine=f"Oracle Database {session.connection.version}",
                location=self.location,
                image_count=int(session.query(sql.count_images([]))[0][0]),
                models=tuple((model, counts.get(model.model_id, 0)) for model in _list_models(session)),
                details={
                    "vector_index": indexes.vector or "none (exact search)",
                    "word_index": "Oracle Text" if indexes.text else "none",
                    "originals": "in the database" if self.originals is None else str(self.originals),
                },
            )

        return self._read(look)

    def check(self) -> Iterator[Finding]:
        yield from check_oracle(self._settings)
        yield check_originals(self.originals)

    def close(self) -> None:
        self._connections.close()

    def _query(self, statement: str, binds: Mapping[str, object]) -> list[Row]:
        return self._read(lambda session: session.query(statement, binds))

    def _get_row(self, statement: str, image_id: int) -> Row:
        rows = self._query(statement, {"image_id": image_id})
        if not rows:
            raise image_not_found(image_id)
        return rows[0]


def _list_models(session: Session) -> list[EmbeddingModel]:
    rows = session.query(sql.LIST_MODELS)
    return [EmbeddingModel(i, name, version, n, is_current == "Y") for i, name, version, n, is_current in rows]


def _find_hashes(session: Session, hashes: Sequence[str]) -> dict[str, int]:
    rows = session.query_chunks(sql.find_hashes, [bytes.fromhex(sha256) for sha256 in hashes])
    return {sha256.hex(): image_id for sha256, image_id in rows}


def _lock_image(session: Session, image_id: int) -> ImageRecord:
    if not session.query(sql.LOCK_IMAGE, {"image_id": image_id}):
        raise image_not_found(image_id)
    [row] = session.query_chunks(sql.get_records, [image_id])
    return make_record(row)


def _insert_satellites(session: Session, image_id: int, text: ImageText) -> None:
    if text.description is not None:
        session.execute(sql.INSERT_DESCRIPTION, {"image_id": image_id, "description": text.description})
    session.execute_many(sql.INSERT_KEYWORD, bind_keywords(image_id, text))
