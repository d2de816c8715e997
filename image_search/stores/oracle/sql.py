"""Every statement the store sends to Oracle Database, in one place to be read by a database administrator.

Values travel as binds only. Names in capitals are whole statements; functions write those that depend on a filter.
"""

from __future__ import annotations

from collections.abc import Sequence

from image_search.records import Order
from image_search.stores.base import CountedField
from image_search.stores.sql import COUNTED, LIVE, ORDERS, RECORD_COLUMNS, count_once

# One writer at a time, as in every engine: a path never gets two images, an image in the trash never an embedding that
# searches see, and no original is removed from its folder while it is added again.
LOCK_WRITES = """
SELECT v.schema_version
FROM image_search_schema v
FOR UPDATE"""

# --- models -----------------------------------------------------------------------------------------------------------

LIST_MODELS = """
SELECT m.model_id, m.model_name, m.model_version, m.vector_dimension, m.is_current
FROM embedding_models m
ORDER BY m.model_id"""

COUNT_EMBEDDINGS = """
SELECT e.model_id, COUNT(*)
FROM image_embeddings e
GROUP BY e.model_id"""

INSERT_MODEL = """
INSERT INTO embedding_models (model_name, model_version, vector_dimension, is_current)
VALUES (:model_name, :model_version, :dimension, :is_current)
RETURNING model_id INTO :model_id"""

GET_MODEL = """
SELECT m.is_current
FROM embedding_models m
WHERE m.model_id = :model_id"""

# In this order and in one transaction: a unique index allows one 'Y'.
CLEAR_CURRENT_MODEL = """
UPDATE embedding_models
SET is_current = 'N'
WHERE is_current = 'Y' AND model_id <> :model_id"""

SET_CURRENT_MODEL = """
UPDATE embedding_models
SET is_current = 'Y'
WHERE model_id = :model_id"""

# In pieces: all of them at once could take longer than a call may.
DELETE_MODEL_EMBEDDINGS = """
DELETE FROM image_embeddings
WHERE model_id = :model_id AND ROWNUM <= :max_rows"""

DELETE_PARKED_EMBEDDINGS = """
DELETE FROM trashed_embeddings
WHERE model_id = :model_id"""

DELETE_MODEL = """
DELETE FROM embedding_models
WHERE model_id = :model_id"""

# --- registration -----------------------------------------------------------------------------------------------------


def find_hashes(values: str) -> str:
    """image_ids of hashes, live or in the trash, and when they were deleted."""
    return f"""
SELECT i.content_sha256, i.image_id, i.deleted_at
FROM images i
WHERE i.content_sha256 IN ({values})"""


def find_files(values: str) -> str:
    """Registered files at these paths, the latest last."""
    return f"""
SELECT p.file_path, i.image_id, p.byte_size, p.modified_ns, i.content_sha256, i.film_sha256
FROM image_paths p
JOIN images i ON i.image_id = p.image_id
WHERE p.file_path IN ({values}) AND {LIVE}
ORDER BY p.path_id"""


def find_embedded(values: str) -> str:
    """Those of these images that have an embedding, with the model."""
    return f"""
SELECT e.image_id, e.model_id
FROM image_embeddings e
WHERE e.image_id IN ({values})"""


# One statement an image: its number comes back at once, and only one original is on its way. LOB columns last: the
# server refuses other long values after them (ORA-24816). The date is the database's own unless one is given: several
# machines that register together need not have the same time.
INSERT_IMAGE = """
INSERT INTO images (content_sha256, file_name, sort_name, file_type, byte_size, width, height, recipe, upload_date,
                    generator, generation_model, taken_at, camera, lens, rating, recognizer, film_sha256, frame_ms,
                    generation_prompt, recognized_text, recognized_lines, details, search_text, preview, image_data)
VALUES (:sha256, :file_name, :sort_name, :file_type, :byte_size, :width, :height, :recipe,
        COALESCE(:upload_date, SYS_EXTRACT_UTC(SYSTIMESTAMP)),
        :generator, :generation_model, :taken_at, :camera, :lens, :rating, :recognizer, :film_sha256, :frame_ms,
        :generation_prompt, :recognized_text, :recognized_lines, :details, :search_text, :preview, :image_data)
RETURNING image_id INTO :image_id"""

# Of live images whose clock was ahead; else what is added after them would not be newer.
DATE_BACK = """
UPDATE images
SET upload_date = SYS_EXTRACT_UTC(SYSTIMESTAMP)
WHERE upload_date > SYS_EXTRACT_UTC(SYSTIMESTAMP) AND deleted_at IS NULL"""

INSERT_EMBEDDING = """
INSERT INTO image_embeddings (image_id, model_id, embedding, recipe)
VALUES (:image_id, :model_id, :embedding, :recipe)"""

# The subquery looks up the image, so that a concurrently deleted one is skipped.
REPLACE_EMBEDDING = """
MERGE INTO image_embeddings e
USING (SELECT i.image_id FROM images i WHERE i.image_id = :image_id AND i.deleted_at IS NULL) s
ON (e.image_id = s.image_id AND e.model_id = :model_id)
WHEN MATCHED THEN
  UPDATE SET e.embedding = :embedding, e.recipe = :recipe
WHEN NOT MATCHED THEN
  INSERT (image_id, model_id, embedding, recipe) VALUES (s.image_id, :model_id, :embedding, :recipe)"""

DELETE_EMBEDDINGS = """
DELETE FROM image_embeddings
WHERE image_id = :image_id"""

FIND_IMAGES_WITHOUT_EMBEDDING = """
SELECT i.image_id
FROM images i
WHERE i.image_id > :after_id
  AND i.deleted_at IS NULL
  AND NOT EXISTS (SELECT 1 FROM image_embeddings e
                  WHERE e.image_id = i.image_id AND e.model_id = :model_id AND e.recipe >= :min_recipe)
ORDER BY i.image_id
FETCH FIRST :max_rows ROWS ONLY"""

FIND_IMAGES_OF_OLD_RECIPE = """
SELECT i.image_id
FROM images i
WHERE i.image_id > :after_id AND i.deleted_at IS NULL AND i.recipe < :recipe
ORDER BY i.image_id
FETCH FIRST :max_rows ROWS ONLY"""

FIND_IMAGES_WITHOUT_RECOGNITION = """
SELECT i.image_id
FROM images i
WHERE i.image_id > :after_id AND i.deleted_at IS NULL AND (i.recognizer IS NULL OR i.recognizer <> :recognizer)
ORDER BY i.image_id
FETCH FIRST :max_rows ROWS ONLY"""

# Everything that is derived from the texts and facts of an image.
UPDATE_RECORD = """
UPDATE images
SET file_name = :file_name,
    sort_name = :sort_name,
    recipe = :recipe,
    generator = :generator,
    generation_model = :generation_model,
    taken_at = :taken_at,
    camera = :camera,
    lens = :lens,
    rating = :rating,
    recognizer = :recognizer,
    generation_prompt = :generation_prompt,
    recognized_text = :recognized_text,
    details = :details,
    search_text = :search_text
WHERE image_id = :image_id"""

UPDATE_CONTENT = """
UPDATE images
SET content_sha256 = :sha256,
    file_type = :file_type,
    byte_size = :byte_size,
    width = :width,
    height = :height,
    recognized_lines = NULL,
    preview = :preview,
    image_data = :image_data
WHERE image_id = :image_id"""

SET_PREVIEW = """
UPDATE images
SET preview = :preview
WHERE image_id = :image_id"""

SET_LINES = """
UPDATE images
SET recognized_lines = :recognized_lines
WHERE image_id = :image_id"""

GET_RECOGNIZED = """
SELECT i.recognizer, i.recognized_text, i.recognized_lines
FROM images i
WHERE i.image_id = :image_id"""

INSERT_DESCRIPTION = """
INSERT INTO image_descriptions (image_id, description)
VALUES (:image_id, :description)"""

DELETE_DESCRIPTION = """
DELETE FROM image_descriptions
WHERE image_id = :image_id"""

INSERT_KEYWORD = """
INSERT INTO image_keywords (image_id, keyword)
VALUES (:image_id, :keyword)"""

DELETE_KEYWORDS = """
DELETE FROM image_keywords
WHERE image_id = :image_id"""

INSERT_LORA = """
INSERT INTO image_loras (image_id, lora)
VALUES (:image_id, :lora)"""

DELETE_LORAS = """
DELETE FROM image_loras
WHERE image_id = :image_id"""

# --- paths ------------------------------------------------------------------------------------------------------------

# From the image itself, so that it becomes the latest, and from any other, except a frame of the same film.
TAKE_PATH = """
DELETE FROM image_paths p
WHERE p.file_path = :file_path
  AND (p.image_id = :image_id
       OR NOT EXISTS (SELECT 1
                      FROM images o
                      JOIN images f ON f.film_sha256 = o.film_sha256
                      WHERE o.image_id = :image_id AND f.image_id = p.image_id))"""

INSERT_PATH = """
INSERT INTO image_paths (image_id, file_path, folder, byte_size, modified_ns)
VALUES (:image_id, :file_path, :folder, :byte_size, :modified_ns)"""


def find_paths(values: str) -> str:
    """Images that have these paths, live or in the trash."""
    return f"""
SELECT p.file_path, i.content_sha256, i.deleted_at, i.trash_reason, i.image_id
FROM image_paths p
JOIN images i ON i.image_id = p.image_id
WHERE p.file_path IN ({values})"""


def delete_paths(values: str) -> str:
    """Delete paths of live images; the images stay."""
    return f"""
DELETE FROM image_paths p
WHERE p.file_path IN ({values})
  AND EXISTS (SELECT 1 FROM images i WHERE i.image_id = p.image_id AND i.deleted_at IS NULL)"""


def list_paths(conditions: Sequence[str]) -> str:
    """Each path once, in the order of its bytes (the session sorts so)."""
    return f"""
SELECT p.file_path, MIN(p.image_id)
FROM image_paths p
JOIN images i ON i.image_id = p.image_id
WHERE {_all_of([LIVE, *conditions])}
GROUP BY p.file_path
ORDER BY p.file_path
FETCH FIRST :max_rows ROWS ONLY"""


# --- search -----------------------------------------------------------------------------------------------------------

_RECORD = f"""{RECORD_COLUMNS}, i.details,
       (SELECT JSON_ARRAYAGG(p.file_path ORDER BY p.path_id DESC RETURNING CLOB)
        FROM image_paths p
        WHERE p.image_id = i.image_id) AS paths"""

TARGET_ACCURACY = 95

# A vector index is always asked for this many rows, and pages are cut out of them, so that they do not overlap. Further
# down the list, where few people look, the search is exact.
APPROXIMATE_ROWS = 200

_NEW_LINE = "\n"  # which an f-string may not write before Python 3.12

_CURRENT, _ALL = ("current_image_embeddings", "e.ie"), ("image_embeddings", "e")


def search_exactly(conditions: Sequence[str], is_current: bool = True) -> str:
    """A page of the nearest images and how many there are, decided on numbers and embeddings alone.

    is_current: read the view of the current model, in which no other model's embeddings are; else the table. The outer
    ORDER BY is needed because a join does not keep the order of its input. The hint keeps the search exact on releases
    that would use a vector index without being asked (Autonomous Database, 26ai).
    """
    table, alias = _CURRENT if is_current else _ALL
    join = "\n            JOIN images i ON i.image_id = e.image_id" if conditions else ""
    hint = "MATERIALIZE" if conditions else "INLINE"
    found = f"""SELECT /*+ {hint} NO_VECTOR_INDEX_TRANSFORM({alias}) */
                   e.image_id, VECTOR_DISTANCE(e.embedding, :query_embedding, DOT) AS distance
            FROM {table} e{join}
            WHERE {_all_of(["e.model_id = :model_id", *conditions])}"""
    return _write_page(found, "k.image_id, k.distance", "k.distance, k.image_id")


# The shape in which the optimizer considers a vector index: one table, the bare distance as first key of the order, the
# metric of the index, and the accuracy as a literal. The page is cut before the join. other_models: how many of the
# rows are of another model; then they say nothing about this one.
SEARCH_APPROXIMATELY = f"""
SELECT (SELECT COUNT(*) FROM image_embeddings c WHERE c.model_id = :model_id) AS total, k.other_models, k.distance,
       {_RECORD}
FROM (SELECT a.image_id, a.distance, SUM(CASE WHEN a.model_id = :model_id THEN 0 ELSE 1 END) OVER () AS other_models
      FROM (SELECT e.image_id, e.model_id, VECTOR_DISTANCE(e.embedding, :query_embedding, DOT) AS distance
            FROM image_embeddings e
            ORDER BY distance
            FETCH APPROX FIRST {APPROXIMATE_ROWS} ROWS ONLY WITH TARGET ACCURACY {TARGET_ACCURACY}) a
      ORDER BY a.distance, a.image_id
      OFFSET :skip_rows ROWS FETCH NEXT :max_rows ROWS ONLY) k
JOIN images i ON i.image_id = k.image_id
LEFT JOIN image_descriptions d ON d.image_id = k.image_id
ORDER BY k.distance, k.image_id"""


def list_images(conditions: Sequence[str], order: Order, behind: str = "") -> str:
    """A page of images in this order, and how many there are. The first condition is that they are live.

    behind: the condition that a row k is behind the former page.
    """
    # Without another condition the count walks an index; with one, rows are looked for once and kept.
    return _list_page(conditions, ORDERS[order], "INLINE" if len(conditions) == 1 else "MATERIALIZE", behind)


def list_trash() -> str:
    """A page of the trash, the latest deleted first, and how many there are."""
    return _list_page(["i.deleted_at IS NOT NULL"], "k.deleted_at DESC, k.image_id DESC", "INLINE")


def _list_page(conditions: Sequence[str], order: str, hint: str, behind: str = "") -> str:
    found = f"""SELECT /*+ {hint} */ i.image_id, i.upload_date, i.taken_at, i.sort_name, i.deleted_at
            FROM images i
            WHERE {_all_of(conditions)}"""
    columns = "k.image_id, k.upload_date, k.taken_at, k.sort_name, k.deleted_at, NULL AS distance"
    return _write_page(found, columns, order, behind)


def _write_page(found: str, columns: str, order: str, behind: str = "") -> str:
    # From the total, so that it is there also where the page is empty.
    return f"""
WITH found AS (
            {found})
SELECT t.total, k.distance, {_RECORD}
FROM (SELECT COUNT(*) AS total FROM found) t
LEFT JOIN (SELECT {columns}
           FROM found k{behind and f"{_NEW_LINE}           WHERE {behind}"}
           ORDER BY {order}
           OFFSET :skip_rows ROWS FETCH NEXT :max_rows ROWS ONLY) k ON 1 = 1
LEFT JOIN images i ON i.image_id = k.image_id
LEFT JOIN image_descriptions d ON d.image_id = k.image_id
ORDER BY {order}"""


def count_images(conditions: Sequence[str]) -> str:
    """How many images qualify."""
    return f"""
SELECT COUNT(*)
FROM images i{_where(conditions)}"""


def count_values(field: CountedField, conditions: Sequence[str]) -> str:
    """How many of the images that qualify have each value. A folder of NULL is the root."""
    value, table = COUNTED[field]
    join = f"\nJOIN {table} v ON v.image_id = i.image_id" if table else ""
    known = [] if field == "folder" else [f"{value} IS NOT NULL"]
    return f"""
SELECT {value}, {count_once(field)}
FROM images i{join}{_where([*conditions, *known])}
GROUP BY {value}"""


# --- images -----------------------------------------------------------------------------------------------------------


def get_records(values: str) -> str:
    """Records without their bytes, live or in the trash."""
    return f"""
SELECT {_RECORD}
FROM images i
LEFT JOIN image_descriptions d ON d.image_id = i.image_id
WHERE i.image_id IN ({values})"""


# Columns that version 1 of the schema does not have.
LIST_UNWRITTEN = f"""
SELECT {_RECORD}
FROM images i
LEFT JOIN image_descriptions d ON d.image_id = i.image_id
WHERE i.sort_name IS NULL
ORDER BY i.image_id
FETCH FIRST :max_rows ROWS ONLY"""

LIST_AFTER = f"""
SELECT {_RECORD}
FROM images i
LEFT JOIN image_descriptions d ON d.image_id = i.image_id
WHERE i.image_id > :after_id
ORDER BY i.image_id
FETCH FIRST :max_rows ROWS ONLY"""

SET_FOLDER = """
UPDATE image_paths
SET folder = :folder
WHERE file_path = :file_path AND image_id = :image_id"""

READ_ORIGINAL = """
SELECT i.image_data
FROM images i
WHERE i.image_id = :image_id"""


def read_previews(values: str) -> str:
    """Previews of images, live or in the trash."""
    return f"""
SELECT i.image_id, i.preview
FROM images i
WHERE i.image_id IN ({values})"""


def get_embeddings(values: str) -> str:
    """Embeddings of images, live or in the trash."""
    return f"""
SELECT e.image_id, e.embedding
FROM image_embeddings e
WHERE e.model_id = :model_id AND e.image_id IN ({values})
UNION ALL
SELECT e.image_id, e.embedding
FROM trashed_embeddings e
WHERE e.model_id = :model_id AND e.image_id IN ({values})"""


# --- the store as a whole ---------------------------------------------------------------------------------------------

# Chosen by a hash of the number: neither the oldest nor the newest, and the same rows every time.
SAMPLE_EMBEDDINGS = """
SELECT e.embedding
FROM (SELECT s.image_id
      FROM image_embeddings s
      WHERE s.model_id = :model_id
      ORDER BY ORA_HASH(s.image_id), s.image_id
      FETCH FIRST :max_rows ROWS ONLY) k
JOIN image_embeddings e ON e.image_id = k.image_id AND e.model_id = :model_id
ORDER BY e.image_id"""

COUNT_TRASH = """
SELECT COUNT(*)
FROM images i
WHERE i.deleted_at IS NOT NULL"""


def list_settings(conditions: Sequence[str]) -> str:
    """Settings kept with the library."""
    return f"""
SELECT s.name, s.value
FROM library_settings s{_where(conditions)}
ORDER BY s.name"""


DELETE_SETTING = """
DELETE FROM library_settings
WHERE name = :setting_name"""

INSERT_SETTING = """
INSERT INTO library_settings (name, value)
VALUES (:setting_name, :setting_value)"""

GET_SCHEMA_VERSION = """
SELECT MAX(v.schema_version)
FROM image_search_schema v"""

# Two plain indexes are named in create_all_tables.sql; these two may be missing or broken without harm.
FIND_SEARCH_INDEXES = """
SELECT x.index_name, x.index_type, x.index_subtype, x.status, x.domidx_opstatus
FROM user_indexes x
WHERE x.index_name = 'IX_IMAGES_SEARCH_TEXT'
   OR x.index_type = 'VECTOR' AND x.table_name = 'IMAGE_EMBEDDINGS'"""


def _all_of(conditions: Sequence[str]) -> str:
    return "\n        AND ".join(conditions)


def _where(conditions: Sequence[str]) -> str:
    return f"\n      WHERE {_all_of(conditions)}" if conditions else ""
