"""Rows of the PostgreSQL tables as records, and back; searches and lists as single statements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from pgvector import Vector

from image_search.records import EmbeddingModel, Finding, Hits, ImageRecord, NewImage, Order, SearchFilter, SearchHit
from image_search.stores.base import Embeddings
from image_search.stores.postgres.database import Connection
from image_search.stores.reads import image_not_found
from image_search.stores.sql import (
    LIVE,
    ORDERS,
    RECORD_COLUMNS,
    Condition,
    list_after,
    list_columns,
    list_conditions,
    make_record,
)
from image_search.stores.text import (
    dump_lines,
    get_folder,
    list_searchable,
    make_new_record,
    name_after_paths,
    sanitize,
)
from image_search.stores.tokens import make_index_tokens, make_query_tokens

# Words in PostgreSQL: an index of tokens narrows down, and the stream of tokens decides.
#
# The built-in parser and pg_trgm cannot find Japanese words of one or two characters, so the tokens of stores/tokens.py
# are kept as they are: in words, a tsvector that answers which images have these tokens, and in tokens, the same in
# their order, where a word is a piece of text. No dictionary, no language setting and no further extension is needed.

_TOKEN_LENGTH = 100  # characters; a lexeme may have 2046 bytes
_MAX_BYTES = 500_000  # of all lexemes; a tsvector may have 1 MiB
_ANYTHING = "\ue0fe"  # private use: represents all tokens of an image that has too many


def _make_tokens(record: ImageRecord) -> tuple[str, list[str]]:
    """The columns tokens and words of an image."""
    stream = make_index_tokens(list_searchable(record))
    lexemes = sorted({token[:_TOKEN_LENGTH] for token in stream.split(" ") if token})
    if sum(len(lexeme.encode()) for lexeme in lexemes) > _MAX_BYTES:
        lexemes = [_ANYTHING]
    return f" {stream} ", lexemes


def _match_word(word: str) -> Condition:
    """The condition that a word occurs in an image."""
    tokens, is_prefix = make_query_tokens(word)
    if not tokens:
        return "false", []
    lexemes = [f"'{token[:_TOKEN_LENGTH]}'" for token in tokens]
    if is_prefix:
        lexemes[-1] += ":*"
    phrase = " " + " ".join(tokens) + ("" if is_prefix else " ")
    return (
        "(i.words @@ %s::tsquery AND i.tokens LIKE %s)",  # nothing in a token means anything to LIKE or to a tsquery
        [f"{' & '.join(lexemes)} | '{_ANYTHING}'", f"%{phrase}%"],
    )


# Of images i LEFT JOIN image_descriptions d, in the order make_record expects.
_COLUMNS = (
    f"{RECORD_COLUMNS}, i.details::text, "
    "ARRAY(SELECT p.file_path FROM image_paths p WHERE p.image_id = i.image_id ORDER BY p.path_id DESC)"
)


def _read_record(row: Sequence[Any]) -> ImageRecord:
    """The record of one row of _COLUMNS."""
    return make_record(row[:-2], *row[-2:])


def find_records(connection: Connection, image_ids: Sequence[int]) -> dict[int, ImageRecord]:
    """Those of these images that exist, live or in the trash, in one query."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM images i LEFT JOIN image_descriptions d USING (image_id) "
        "WHERE i.image_id = ANY(%s::bigint[])",
        [list(image_ids)],
    )
    return {row[0]: _read_record(row) for row in rows}


def get_live_record(connection: Connection, image_id: int, or_trashed: bool = False) -> ImageRecord:
    """The record of a live image. Raises ImageNotFound, without or_trashed also for one in the trash."""
    record = find_records(connection, [image_id]).get(image_id)
    if record is None or (record.deleted_at is not None and not or_trashed):
        raise image_not_found(image_id)
    return record


def find_hashes(connection: Connection, hashes: Iterable[str], condition: str = "true") -> dict[str, int]:
    """Those of these SHA-256 hashes that images have, live or in the trash, with image_id."""
    rows = connection.execute(
        f"SELECT content_sha256, image_id FROM images WHERE content_sha256 = ANY(%s::bytea[]) AND {condition}",
        [pack_hashes(hashes)],
    )
    return {sha256.hex(): image_id for sha256, image_id in rows}


def pack_hashes(hashes: Iterable[str]) -> list[bytes]:
    """Hashes as they are stored."""
    return [bytes.fromhex(sha256) for sha256 in hashes]


def insert_images(
    connection: Connection, images: Sequence[NewImage], upload_date: datetime, with_originals: bool
) -> list[int]:
    """Insert everything but embeddings and paths. Returns the image_ids, in order."""
    rows = connection.execute(
        "SELECT nextval(pg_get_serial_sequence('images', 'image_id')) FROM generate_series(1, %s)", [len(images)]
    )
    image_ids = [row[0] for row in rows]
    records = [make_new_record(i, image, upload_date) for i, image in zip(image_ids, images, strict=True)]
    _execute_many(
        connection,
        "INSERT INTO images (image_id, content_sha256, file_type, byte_size, width, height, image_data, preview, "
        f"upload_date, recognized_lines, film_sha256, frame_ms, {', '.join(_DERIVED)}, tokens, words) "
        f"VALUES ({'%s, ' * (13 + len(_DERIVED))} array_to_tsvector(%s::text[]))",
        [
            (
                record.image_id,
                bytes.fromhex(image.content_sha256),
                image.file_type,
                image.byte_size,
                image.width,
                image.height,
                image.data if with_originals else None,
                image.preview,
                record.upload_date,
                image.recognized and dump_lines(image.recognized),
                image.frame and bytes.fromhex(image.frame.film_sha256),
                image.frame and image.frame.frame_ms,
                *_list_derived(record),
            )
            for record, image in zip(records, images, strict=True)
        ],
    )
    _insert_texts(connection, records)
    return image_ids


def date_back(connection: Connection, moment: datetime) -> None:
    """Give live images of a later time than this one (UTC), whose clock was ahead, this one."""
    connection.execute(
        "UPDATE images SET upload_date = %s WHERE upload_date > %s AND deleted_at IS NULL", [moment, moment]
    )


def update_records(connection: Connection, records: Sequence[ImageRecord]) -> None:
    """Write everything that is derived from the texts and facts of these records."""
    _execute_many(
        connection,
        f"UPDATE images SET {', '.join(f'{name} = %s' for name in _DERIVED)}, tokens = %s, "
        "words = array_to_tsvector(%s::text[]) WHERE image_id = %s",
        [(*_list_derived(record), record.image_id) for record in records],
    )
    image_ids = [record.image_id for record in records]
    for table in ("image_descriptions", "image_keywords", "image_loras"):
        connection.execute(f"DELETE FROM {table} WHERE image_id = ANY(%s::bigint[])", [image_ids])
    _insert_texts(connection, records)


def update_content(connection: Connection, record: ImageRecord, image: NewImage, with_originals: bool) -> None:
    """Write the new content of an image, of which this is the record; recognised lines are forgotten."""
    connection.execute(
        "UPDATE images SET content_sha256 = %s, file_type = %s, byte_size = %s, width = %s, height = %s, "
        "image_data = %s, preview = %s, recognized_lines = NULL WHERE image_id = %s",
        [
            bytes.fromhex(image.content_sha256),
            image.file_type,
            image.byte_size,
            image.width,
            image.height,
            image.data if with_originals else None,
            image.preview,
            record.image_id,
        ],
    )
    update_records(connection, [record])


def rewrite_texts(connection: Connection) -> None:
    """Write what is derived from the texts of all images again."""
    after_id = 0
    while True:
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM images i LEFT JOIN image_descriptions d USING (image_id) "
            "WHERE i.image_id > %s ORDER BY i.image_id LIMIT 500",
            [after_id],
        ).fetchall()
        if not rows:
            return
        update_records(connection, [_read_record(row) for row in rows])
        after_id = rows[-1][0]


def insert_embeddings(
    connection: Connection,
    model_id: int,
    image_ids: Sequence[int],
    embeddings: Embeddings,
    recipes: Sequence[int],
    replaces: bool = False,
) -> None:
    """Insert the embeddings of those of these images that are live. replaces: also where there is one already."""
    action = "UPDATE SET embedding = excluded.embedding, recipe = excluded.recipe" if replaces else "NOTHING"
    _execute_many(
        connection,
        "INSERT INTO image_embeddings (image_id, model_id, embedding, recipe) SELECT image_id, %s, %s, %s FROM images "
        f"WHERE image_id = %s AND deleted_at IS NULL ON CONFLICT (image_id, model_id) DO {action}",
        [
            (model_id, Vector(row), recipe, image_id)
            for image_id, row, recipe in zip(image_ids, embeddings, recipes, strict=True)
        ],
    )


def insert_paths(connection: Connection, paths: Sequence[tuple[int, str, int, int | None]]) -> None:
    """Give images their paths (image_id, stored path, byte_size, modified_ns), the last one as the latest.

    Another image loses such a path, except a frame of the same film.
    """
    _execute_many(
        connection,
        "INSERT INTO image_paths (image_id, file_path, folder, byte_size, modified_ns) VALUES (%s, %s, %s, %s, %s)",
        [(image_id, path, get_folder(path), *known) for image_id, path, *known in paths],
    )
    # A path may come several times: every row gives way to a later one.
    lost = connection.execute(
        "DELETE FROM image_paths p USING image_paths l, images own, images other "
        "WHERE p.file_path = ANY(%s::text[]) AND l.file_path = p.file_path AND l.path_id > p.path_id "
        "AND own.image_id = l.image_id AND other.image_id = p.image_id "
        "AND (p.image_id = own.image_id OR own.film_sha256 IS NULL "
        "OR other.film_sha256 IS DISTINCT FROM own.film_sha256) RETURNING p.image_id, p.file_path",
        [list(dict.fromkeys(path for _, path, *_ in paths))],
    ).fetchall()
    _rename_images(connection, lost)


def delete_paths(connection: Connection, paths: Sequence[str]) -> int:
    """Delete those of these stored paths that live images have. Returns how many they are."""
    lost = connection.execute(
        "DELETE FROM image_paths p USING images i WHERE p.file_path = ANY(%s::text[]) "
        "AND i.image_id = p.image_id AND i.deleted_at IS NULL RETURNING p.image_id, p.file_path",
        [list(paths)],
    ).fetchall()
    _rename_images(connection, lost)
    return len({path for _, path in lost})


def _rename_images(connection: Connection, lost: Sequence[tuple[int, str]]) -> None:
    """Let no image keep the name of a path (image_id, stored path) that it lost."""
    records = find_records(connection, list({image_id for image_id, _ in lost})) if lost else {}
    renamed = name_after_paths(records, lost)
    if renamed:
        update_records(connection, renamed)


_DERIVED = (
    *("file_name", "sort_name", "recipe", "generator", "generation_model", "taken_at", "camera", "lens", "rating"),
    *("recognizer", "generation_prompt", "recognized_text", "details"),
)


def _list_derived(record: ImageRecord) -> list[object]:
    columns = list_columns(record)
    return [*(columns[name] for name in _DERIVED), *_make_tokens(record)]


def _insert_texts(connection: Connection, records: Sequence[ImageRecord]) -> None:
    for statement, rows in (
        (
            "INSERT INTO image_descriptions (image_id, description) VALUES (%s, %s)",
            [(r.image_id, r.text.description) for r in records if r.text.description is not None],
        ),
        (
            "INSERT INTO image_keywords (image_id, keyword) VALUES (%s, %s)",
            [(r.image_id, keyword) for r in records for keyword in r.keywords],
        ),
        (
            "INSERT INTO image_loras (image_id, lora) VALUES (%s, %s)",
            [(r.image_id, lora) for r in records for lora in r.text.loras],
        ),
    ):
        _execute_many(connection, statement, rows)


def _execute_many(connection: Connection, statement: str, rows: Sequence[Sequence[object]]) -> None:
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(statement, rows)


# Searches and lists on PostgreSQL as single statements: a page of hits and the number of all, of one moment.


TRASH: list[Condition] = [("i.deleted_at IS NOT NULL", [])]
TRASH_ORDER = "k.deleted_at DESC, k.image_id DESC"


def list_live_conditions(filter: SearchFilter, terms: Sequence[str] = ()) -> list[Condition]:
    """Conditions on images i: live, let through by the filter, and with these terms in them."""
    wanted = [word for word in map(sanitize, filter.words) if word.strip()]
    return [(LIVE, []), *list_conditions(filter), *(_match_word(word) for word in (*wanted, *terms))]


def build_where(conditions: Sequence[Condition]) -> tuple[str, list[object]]:
    """A WHERE clause and its values."""
    clause = " AND ".join(sql for sql, _ in conditions)
    return f"WHERE {clause}", [value for _, values in conditions for value in values]


def list_page(
    connection: Connection,
    conditions: Sequence[Condition],
    order: str,
    limit: int,
    offset: int,
    repeats: bool,
    after: Condition = ("", []),
) -> Hits:
    """Images in this order. repeats: looking for them twice, to list and to count, is quicker than keeping them.

    after: the condition that a row k is behind the former page.
    """
    where, values = build_where(conditions)
    behind, keys = f"WHERE {after[0]}" if after[0] else "", after[1]
    statement = (
        f"WITH found AS {'NOT ' if repeats else ''}MATERIALIZED "
        f"(SELECT i.image_id, i.upload_date, i.taken_at, i.sort_name, i.deleted_at FROM images i {where}), "
        f"page AS (SELECT k.*, NULL::float8 AS distance FROM found k {behind} ORDER BY {order} LIMIT %s OFFSET %s) "
        f"{_write_result(order)}"
    )
    return _fetch(connection, statement, [*values, *keys, limit, offset])


def list_images(
    connection: Connection,
    terms: list[str],
    limit: int,
    offset: int,
    filter: SearchFilter,
    order: Order,
    after: ImageRecord | None,
) -> Hits:
    """Live images in which all terms occur."""
    conditions, behind = list_live_conditions(filter, terms), list_after(order, after)
    return list_page(connection, conditions, ORDERS[order], limit, offset, len(conditions) == 1, behind)


def search_embedding(
    connection: Connection, model_id: int, embedding: Embeddings, limit: int, offset: int, filter: SearchFilter
) -> Hits:
    """The nearest images, of the view where the model is the current one, else of the table."""
    hits = Hits()
    for table in ("current_image_embeddings", "image_embeddings"):
        statement, values = _write_search(table, model_id, len(embedding), filter)
        hits = _fetch(connection, statement, [Vector(embedding), *values, offset + limit, limit, offset])
        if hits.total:
            break
    return hits


def _write_search(table: str, model_id: int, dimension: int, filter: SearchFilter) -> tuple[str, list[object]]:
    # Model and dimension are written out and the distance has the form of the index in docs/engines.md, and it alone
    # orders the inner query: only so can PostgreSQL use the index. Ties at the end are kept for the outer order. The
    # page is found first, so that a large library is not sorted with its texts.
    where, values = build_where([(f"e.model_id = {int(model_id)}", []), *list_live_conditions(filter)[1:]])
    images = "" if filter.is_empty else "JOIN images i ON i.image_id = e.image_id"
    return (
        "WITH found AS NOT MATERIALIZED (SELECT e.image_id, "
        f"e.embedding::vector({dimension}) <#> %s AS distance FROM {table} e {images} {where}), "
        "near AS (SELECT f.image_id, f.distance FROM found f ORDER BY f.distance FETCH FIRST (%s) ROWS WITH TIES), "
        "page AS (SELECT k.image_id, k.distance FROM near k ORDER BY k.distance, k.image_id LIMIT %s OFFSET %s) "
        f"{_write_result('k.distance, k.image_id')}",
        values,
    )


def _write_result(order: str) -> str:
    # From the total, so that it is there also where the page is empty.
    return (
        f"SELECT t.total, k.distance, {_COLUMNS} FROM (SELECT count(*) AS total FROM found) t "
        "LEFT JOIN page k ON true LEFT JOIN images i ON i.image_id = k.image_id "
        f"LEFT JOIN image_descriptions d ON d.image_id = k.image_id ORDER BY {order}"
    )


def _fetch(connection: Connection, statement: str, values: Sequence[object]) -> Hits:
    rows = connection.execute(statement, values).fetchall()
    hits = tuple(SearchHit(_read_record(row[2:]), row[1]) for row in rows if row[2] is not None)
    return Hits(hits, rows[0][0])


# --check on PostgreSQL: the vector index that an administrator may have made, and whether searches use it.

_FIND_INDEXES = """
SELECT c.relname, a.amname, i.indisvalid, pg_relation_size(c.oid)
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_am a ON a.oid = c.relam
WHERE i.indrelid = 'image_embeddings'::regclass AND a.amname IN ('hnsw', 'ivfflat')
ORDER BY c.relname"""


def check_vector_index(connection: Connection, model: EmbeddingModel | None) -> Finding:
    """Which index there is, and whether a search with the current model goes by it."""
    rows = connection.execute(_FIND_INDEXES).fetchall()
    if not rows:
        return Finding("vector index", True, "none: every search is exact")
    for name, _, is_valid, _ in rows:
        if not is_valid:
            remedy = f"DROP INDEX {name}; then make it again as docs/engines.md shows."
            return Finding("vector index", False, f"{name} was not built to its end", remedy)
    what = ", ".join(f"{name} ({kind}, {int(size) / 2**20:,.0f} MiB)" for name, kind, _, size in rows)
    if model is None:
        return Finding("vector index", True, what)
    plan = explain_search(connection, model)
    if any(name in plan for name, *_ in rows):
        return Finding("vector index", True, f"{what}, used for the current model: results are approximate")
    remedy = f"Run ANALYZE image_embeddings; if it stays, DROP INDEX {rows[0][0]} or make it as docs/engines.md shows."
    return Finding("vector index", False, f"{what}, not used for the current model: its searches are exact", remedy)


def explain_search(connection: Connection, model: EmbeddingModel) -> str:
    """The plan of a search without a filter."""
    statement, values = _write_search("current_image_embeddings", model.model_id, model.dimension, SearchFilter())
    query = Vector([1.0] + [0.0] * (model.dimension - 1))
    rows = connection.execute(f"EXPLAIN {statement}", [query, *values, 16, 16, 0])
    return "\n".join(str(row[0]) for row in rows)
