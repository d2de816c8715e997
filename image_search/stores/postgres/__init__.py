"""PostgreSQL with pgvector. Everything is in the database; originals only unless ORIGINALS_URL names another place.

Searches are exact scans. Where a library is too large for that, an HNSW index made as docs/engines.md shows is used by
the same query, without any setting.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psycopg
from pgvector import Vector

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
from image_search.settings import Settings
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
from image_search.stores.postgres.database import Connection, Connections
from image_search.stores.postgres.rows import (
    RECORD_COLUMNS,
    find_hashes,
    find_records,
    get_record,
    insert_embeddings,
    insert_images,
    make_record,
    match_word,
    replace_file,
    replace_text,
)
from image_search.stores.sql import Condition, list_conditions
from image_search.stores.text import sanitize

# --check on PostgreSQL: the vector index that an administrator may have made, and whether searches use it.

_FIND_INDEXES = """
SELECT c.relname, a.amname, i.indisvalid, pg_relation_size(c.oid)
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_am a ON a.oid = c.relam
WHERE i.indrelid = 'image_embeddings'::regclass AND a.amname IN ('hnsw', 'ivfflat')
ORDER BY c.relname"""


def check_vector_index(connection: psycopg.Connection[tuple[object, ...]], model: EmbeddingModel | None) -> Finding:
    """Which index there is, and whether a search with the current model goes by it."""
    rows = connection.execute(_FIND_INDEXES).fetchall()
    if not rows:
        return Finding("vector index", True, "none: every search is exact")
    for name, _, is_valid, _ in rows:
        if not is_valid:
            remedy = f"DROP INDEX {name}; then make it again as docs/engines.md shows."
            return Finding("vector index", False, f"{name} was not built to its end", remedy)
    what = ", ".join(f"{name} ({kind}, {int(str(size)) / 2**20:,.0f} MiB)" for name, kind, _, size in rows)
    if model is None:
        return Finding("vector index", True, what)
    plan = _explain_search(connection, model)
    if any(str(name) in plan for name, *_ in rows):
        return Finding("vector index", True, f"{what}, used for the current model: results are approximate")
    return Finding("vector index", True, f"{what}, not used for the current model: its searches are exact")


def _explain_search(connection: psycopg.Connection[tuple[object, ...]], model: EmbeddingModel) -> str:
    """The plan of a search as PostgresStore writes it."""
    query = np.eye(1, model.dimension, dtype=np.float32)[0]
    rows = connection.execute(
        f"EXPLAIN SELECT e.image_id, e.embedding::vector({model.dimension}) <#> %s AS distance "
        f"FROM image_embeddings e WHERE e.model_id = {model.model_id} ORDER BY distance, e.image_id LIMIT 16",
        [Vector(query)],
    )
    return "\n".join(str(row[0]) for row in rows)


class PostgresStore(ImageStore):
    """A library in one PostgreSQL database. Any number of threads and programs may use it at once."""

    def __init__(self, url: str, originals: Originals | None = None) -> None:
        super().__init__()
        self.originals = originals  # None: in the database
        self._database = Connections(url)

    @classmethod
    def open(cls, settings: Settings) -> PostgresStore:
        """The store of DATABASE_URL, postgresql://user:password@host:5432/database. Connects to nothing yet."""
        url, endpoint_url = settings.originals_url, settings.s3_endpoint_url
        return cls(settings.database_url, open_originals(url, Path(url), endpoint_url) if url else None)

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
            rows = connection.execute(
                "SELECT model_id, model_name, model_version, vector_dimension, is_current = 'Y' "
                "FROM embedding_models ORDER BY model_id"
            ).fetchall()
        return [EmbeddingModel(*row) for row in rows]

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
            connection.execute("DELETE FROM image_embeddings WHERE model_id = %s", [model_id])
            connection.execute("DELETE FROM embedding_models WHERE model_id = %s", [model_id])
        self._dimensions.pop(model_id, None)

    # --- registration -----------------------------------------------------------------------------------------------

    def _find_known_hashes(self, hashes: list[str]) -> dict[str, int]:
        with self._database.reading() as connection:
            return find_hashes(connection, hashes)

    def _find_known_files(self, paths: list[str]) -> dict[str, KnownFile]:
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT file_path, image_id, byte_size, modified_ns FROM images WHERE file_path = ANY(%s::text[]) "
                "ORDER BY image_id",
                [paths],
            )
            return {row[0]: KnownFile(*row[1:]) for row in rows}  # the latest picture of a path wins

    def _set_file(self, image_id: int, file_path: str, file_name: str, modified_ns: int | None) -> None:
        with self._database.writing() as connection:
            replace_file(connection, get_record(connection, image_id), file_path, file_name, modified_ns)

    def _add_images(self, model_id: int, images: list[NewImage], embeddings: Embeddings) -> list[int]:
        try:
            with self._database.writing() as connection:
                if self.originals is not None:  # inside the transaction: meanwhile nobody else writes or deletes any
                    self._delete_orphaned_originals(connection, self.originals)
                    self.originals.write({image.content_sha256: image.data for image in images})
                known = find_hashes(connection, [image.content_sha256 for image in images])
                new = {image.content_sha256: image for image in reversed(images) if image.content_sha256 not in known}
                added = list(new.values())[::-1]  # the first of equal pictures, in the order given
                upload_date = datetime.now(UTC).replace(tzinfo=None)
                image_ids = insert_images(connection, added, upload_date, with_originals=self.originals is None)
                known |= {image.content_sha256: image_id for image, image_id in zip(added, image_ids, strict=True)}
                image_ids = [known[image.content_sha256] for image in images]
                insert_embeddings(connection, model_id, image_ids, embeddings, "DO NOTHING")
        except BaseException:
            if self.originals is not None:
                with suppress(StoreError), self._database.writing() as connection:
                    written = {image.content_sha256 for image in images}
                    self.originals.delete(written - find_hashes(connection, list(written)).keys())
            raise
        return image_ids

    def _add_embeddings(self, model_id: int, image_ids: list[int], embeddings: Embeddings) -> None:
        with self._database.writing() as connection:
            insert_embeddings(
                connection, model_id, image_ids, embeddings, "DO UPDATE SET embedding = excluded.embedding"
            )

    def find_images_without_embedding(self, model_id: int, after_id: int = 0, limit: int = 1000) -> list[int]:
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT image_id FROM images i WHERE image_id > %s AND NOT EXISTS (SELECT 1 FROM image_embeddings e "
                "WHERE e.image_id = i.image_id AND e.model_id = %s) ORDER BY image_id LIMIT %s",
                [after_id, model_id, limit],
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
            deleted = connection.execute(
                "DELETE FROM images WHERE image_id = ANY(%s::bigint[]) RETURNING content_sha256", [image_ids]
            ).fetchall()
            if self.originals is not None:
                connection.execute(
                    "INSERT INTO removed_originals SELECT unnest(%s::bytea[]) ON CONFLICT DO NOTHING",
                    [[row[0] for row in deleted]],
                )
        if self.originals is not None:
            with self._database.writing() as connection:
                self._delete_orphaned_originals(connection, self.originals)
        return len(deleted)

    def _delete_orphaned_originals(self, connection: Connection, originals: Originals) -> None:
        # In a transaction after the one that deleted the records: an original goes only when its record is gone for
        # good and while nobody can add the same picture again. What a crash left undone is done by the next one.
        hashes = [row[0].hex() for row in connection.execute("SELECT content_sha256 FROM removed_originals")]
        if hashes:
            originals.delete(set(hashes) - find_hashes(connection, hashes).keys())
            connection.execute("DELETE FROM removed_originals")

    # --- search -----------------------------------------------------------------------------------------------------

    def _search_embedding(
        self, model_id: int, embedding: Embeddings, limit: int, offset: int, filter: SearchFilter
    ) -> list[SearchHit]:
        # Model and dimension are written out and the distance has the form of the index in docs/engines.md: only so
        # can PostgreSQL use it. The page is found first, so that a large library is not sorted with its texts.
        where, values = _write_where([(f"e.model_id = {int(model_id)}", []), *_list_conditions(filter)])
        images = "" if filter.is_empty else "JOIN images i USING (image_id)"
        with self._database.reading() as connection:
            rows = connection.execute(
                f"WITH page AS (SELECT e.image_id, e.embedding::vector({len(embedding)}) <#> %s AS distance "
                f"FROM image_embeddings e {images} {where} ORDER BY distance, e.image_id LIMIT %s OFFSET %s) "
                f"SELECT p.distance, {RECORD_COLUMNS} FROM page p JOIN images i USING (image_id) "
                "LEFT JOIN image_descriptions d USING (image_id) ORDER BY p.distance, i.image_id",
                [Vector(embedding), *values, limit, offset],
            )
            return [SearchHit(make_record(row[1:]), row[0]) for row in rows]

    def _search_words(self, words: list[str], limit: int, offset: int, filter: SearchFilter) -> list[SearchHit]:
        return self._list_newest(limit, offset, filter, words)

    def _find_latest(self, limit: int, offset: int, filter: SearchFilter) -> list[SearchHit]:
        return self._list_newest(limit, offset, filter)

    def _list_newest(self, limit: int, offset: int, filter: SearchFilter, words: Sequence[str] = ()) -> list[SearchHit]:
        where, values = _write_where(_list_conditions(filter, words))
        with self._database.reading() as connection:
            rows = connection.execute(
                f"WITH page AS (SELECT i.image_id FROM images i {where} "
                "ORDER BY i.upload_date DESC, i.image_id DESC LIMIT %s OFFSET %s) "
                f"SELECT {RECORD_COLUMNS} FROM page JOIN images i USING (image_id) "
                "LEFT JOIN image_descriptions d USING (image_id) ORDER BY i.upload_date DESC, i.image_id DESC",
                [*values, limit, offset],
            )
            return [SearchHit(make_record(row)) for row in rows]

    def count_images(self, filter: SearchFilter = EVERYTHING) -> int:
        where, values = _write_where(_list_conditions(filter))
        with self._database.reading() as connection:
            row = connection.execute(f"SELECT count(*) FROM images i {where}", values).fetchone()
        return int(row[0]) if row else 0

    def count_values(self, field: CountedField, filter: SearchFilter = EVERYTHING) -> dict[str, int]:
        where, values = _write_where(_list_conditions(filter))
        join = "JOIN image_keywords v ON v.image_id = i.image_id" if field == "keyword" else ""
        value = "v.keyword" if field == "keyword" else f"i.{field}"
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT value, count(*) FROM (SELECT {value} AS value FROM images i {join} {where}) found "
                "WHERE value IS NOT NULL GROUP BY value ORDER BY count(*) DESC, value",
                values,
            )
            return {row[0]: row[1] for row in rows}

    # --- one image --------------------------------------------------------------------------------------------------

    def get_images(self, image_ids: Sequence[int]) -> list[ImageRecord]:
        with self._database.reading() as connection:
            records = find_records(connection, image_ids)
        for image_id in image_ids:
            if image_id not in records:
                raise image_not_found(image_id)
        return [records[image_id] for image_id in image_ids]

    def read_original(self, image_id: int) -> bytes:
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT image_data, content_sha256 FROM images WHERE image_id = %s", [image_id]
            ).fetchone()
        if row is None:
            raise image_not_found(image_id)
        if row[0] is not None:  # also after ORIGINALS_URL was changed
            return bytes(row[0])
        if self.originals is None:
            raise StoreError(f"The original of image {image_id} is not in the database. Correct ORIGINALS_URL.")
        return self.originals.read(row[1].hex())

    def read_preview(self, image_id: int) -> bytes:
        with self._database.reading() as connection:
            row = connection.execute("SELECT preview FROM images WHERE image_id = %s", [image_id]).fetchone()
        if row is None:
            raise image_not_found(image_id)
        return bytes(row[0])

    def get_embedding(self, image_id: int, model_id: int) -> Embeddings:
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT embedding FROM image_embeddings WHERE image_id = %s AND model_id = %s", [image_id, model_id]
            ).fetchone()
        if row is None:
            raise embedding_not_found(image_id, model_id)
        return _unpack(row[0])

    def find_by_file_name(self, file_name: str) -> list[int]:
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT image_id FROM images WHERE file_name = %s ORDER BY image_id", [sanitize(file_name)]
            )
            return [row[0] for row in rows]

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

    def get_status(self) -> StoreStatus:
        models = self.list_models()
        with self._database.reading() as connection:
            rows = connection.execute("SELECT model_id, count(*) FROM image_embeddings GROUP BY model_id")
            counts = dict(rows.fetchall())
            versions = connection.execute(
                "SELECT split_part(current_setting('server_version'), ' ', 1), extversion FROM pg_extension "
                "WHERE extname = 'vector'"
            ).fetchall()
        return StoreStatus(
            engine="PostgreSQL {} + pgvector {}".format(*versions[0]),
            location=self._database.location,
            image_count=self.count_images(),
            models=tuple((model, counts.get(model.model_id, 0)) for model in models),
            details={"originals": "in the database" if self.originals is None else str(self.originals)},
        )

    def check(self) -> Iterator[Finding]:
        model = self.find_current_model()
        with self._database.reading() as connection:
            yield check_vector_index(connection, model)
        yield check_originals(self.originals)

    def close(self) -> None:
        self._database.close()


def _list_conditions(filter: SearchFilter, words: Sequence[str] = ()) -> list[Condition]:
    wanted = [sanitize(word) for word in (*filter.words, *words) if word.strip()]
    return [*list_conditions(filter), *(match_word(word) for word in wanted)]


def _write_where(conditions: Sequence[Condition]) -> tuple[str, list[object]]:
    clause = " AND ".join(sql for sql, _ in conditions)
    return f"WHERE {clause}" if clause else "", [value for _, values in conditions for value in values]


def _unpack(embedding: Vector) -> Embeddings:
    return embedding.to_numpy().copy()
