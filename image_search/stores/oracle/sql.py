"""Every statement the store sends to Oracle Database, in one place to be read by whoever looks after the database.

Values travel as binds only. Names in capitals are whole statements; functions write those that depend on a filter.
"""

from __future__ import annotations

from collections.abc import Sequence

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

LOCK_MODEL = """
SELECT m.is_current
FROM embedding_models m
WHERE m.model_id = :model_id
FOR UPDATE"""

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

DELETE_MODEL = """
DELETE FROM embedding_models
WHERE model_id = :model_id"""

# --- registration -----------------------------------------------------------------------------------------------------


def find_hashes(values: str) -> str:
    """image_ids of hashes."""
    return f"""
SELECT i.content_sha256, i.image_id
FROM images i
WHERE i.content_sha256 IN ({values})"""


def find_files(values: str) -> str:
    """What is known of files at these paths; several rows for a path that held several pictures, the latest last."""
    return f"""
SELECT i.file_path, i.image_id, i.byte_size, i.modified_ns
FROM images i
WHERE i.file_path IN ({values})
ORDER BY i.image_id"""


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
INSERT INTO images (content_sha256, file_name, file_path, modified_ns, file_type, byte_size, width, height,
                    upload_date, generator, generation_model, taken_at,
                    generation_prompt, details, search_text, preview, image_data)
VALUES (:sha256, :file_name, :file_path, :modified_ns, :file_type, :byte_size, :width, :height,
        COALESCE(:upload_date, SYS_EXTRACT_UTC(SYSTIMESTAMP)), :generator, :generation_model, :taken_at,
        :generation_prompt, :details, :search_text, :preview, :image_data)
RETURNING image_id INTO :image_id"""

INSERT_EMBEDDING = """
INSERT INTO image_embeddings (image_id, model_id, embedding)
VALUES (:image_id, :model_id, :embedding)"""

# The image is looked up on the way, so that one deleted meanwhile is left out.
REPLACE_EMBEDDING = """
MERGE INTO image_embeddings e
USING (SELECT i.image_id FROM images i WHERE i.image_id = :image_id) s
ON (e.image_id = s.image_id AND e.model_id = :model_id)
WHEN MATCHED THEN
  UPDATE SET e.embedding = :embedding
WHEN NOT MATCHED THEN
  INSERT (image_id, model_id, embedding) VALUES (s.image_id, :model_id, :embedding)"""

FIND_IMAGES_WITHOUT_EMBEDDING = """
SELECT i.image_id
FROM images i
WHERE i.image_id > :after_id
  AND NOT EXISTS (SELECT 1 FROM image_embeddings e WHERE e.image_id = i.image_id AND e.model_id = :model_id)
ORDER BY i.image_id
FETCH FIRST :max_rows ROWS ONLY"""

LOCK_IMAGE = """
SELECT i.image_id
FROM images i
WHERE i.image_id = :image_id
FOR UPDATE"""

SET_TEXT = """
UPDATE images
SET generator = :generator,
    generation_model = :generation_model,
    taken_at = :taken_at,
    generation_prompt = :generation_prompt,
    details = :details,
    search_text = :search_text
WHERE image_id = :image_id"""

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

SET_FILE = """
UPDATE images
SET file_name = :file_name,
    file_path = :file_path,
    modified_ns = :modified_ns,
    search_text = :search_text
WHERE image_id = :image_id"""


def lock_hashes(values: str) -> str:
    """Hashes of these images, which stay as they are until the end of the transaction."""
    return f"""
SELECT i.content_sha256
FROM images i
WHERE i.image_id IN ({values})
FOR UPDATE"""


def delete_images(values: str) -> str:
    """Embeddings, description and keywords go with the image (ON DELETE CASCADE)."""
    return f"""
DELETE FROM images
WHERE image_id IN ({values})"""


# Held while originals are written to a folder or removed from it, so that no file is removed while it is added again.
LOCK_ORIGINALS = """
SELECT v.schema_version
FROM image_search_schema v
FOR UPDATE"""

# --- search -----------------------------------------------------------------------------------------------------------

_RECORD = """i.image_id, i.content_sha256, i.file_name, i.file_type, i.byte_size, i.width, i.height, i.upload_date,
       i.file_path, i.details, i.generation_prompt, d.description, i.generator, i.generation_model, i.taken_at"""

TARGET_ACCURACY = 95


def search_exactly(conditions: Sequence[str]) -> str:
    """The nearest images, decided on numbers and embeddings alone; texts are read for the page only.

    The outer ORDER BY is needed because a join does not keep the order of its input. The hint keeps the search exact
    on releases that would use a vector index without being asked (Autonomous Database, 26ai).
    """
    join = "\n      JOIN images i ON i.image_id = e.image_id" if conditions else ""
    return f"""
SELECT {_RECORD}, k.distance
FROM (SELECT /*+ NO_VECTOR_INDEX_TRANSFORM(e) */
             e.image_id, VECTOR_DISTANCE(e.embedding, :query_embedding, DOT) AS distance
      FROM image_embeddings e{join}
      WHERE {_all_of(["e.model_id = :model_id", *conditions])}
      ORDER BY distance, e.image_id
      OFFSET :skip_rows ROWS FETCH NEXT :max_rows ROWS ONLY) k
JOIN images i ON i.image_id = k.image_id
LEFT JOIN image_descriptions d ON d.image_id = k.image_id
ORDER BY k.distance, k.image_id"""


# The shape in which the optimizer considers a vector index: one table, the bare distance as first key of the order, the
# metric of the index, and the accuracy as a literal.
SEARCH_APPROXIMATELY = f"""
SELECT {_RECORD}, k.distance
FROM (SELECT e.image_id, VECTOR_DISTANCE(e.embedding, :query_embedding, DOT) AS distance
      FROM image_embeddings e
      WHERE e.model_id = :model_id
      ORDER BY distance
      FETCH APPROX FIRST :max_rows ROWS ONLY WITH TARGET ACCURACY {TARGET_ACCURACY}) k
JOIN images i ON i.image_id = k.image_id
LEFT JOIN image_descriptions d ON d.image_id = k.image_id
ORDER BY k.distance, k.image_id"""


def list_newest(conditions: Sequence[str]) -> str:
    """A page of images, newest first."""
    return f"""
SELECT {_RECORD}
FROM (SELECT i.image_id, i.upload_date
      FROM images i{_where(conditions)}
      ORDER BY i.upload_date DESC, i.image_id DESC
      OFFSET :skip_rows ROWS FETCH NEXT :max_rows ROWS ONLY) k
JOIN images i ON i.image_id = k.image_id
LEFT JOIN image_descriptions d ON d.image_id = k.image_id
ORDER BY k.upload_date DESC, k.image_id DESC"""


def count_images(conditions: Sequence[str]) -> str:
    """How many images qualify."""
    return f"""
SELECT COUNT(*)
FROM images i{_where(conditions)}"""


def count_values(field: str, conditions: Sequence[str]) -> str:
    """How many of the images that qualify have each value of a column, or each keyword."""
    if field == "keyword":
        return f"""
SELECT v.keyword, COUNT(*)
FROM images i
JOIN image_keywords v ON v.image_id = i.image_id{_where(conditions)}
GROUP BY v.keyword"""
    return f"""
SELECT i.{field}, COUNT(*)
FROM images i{_where([f"i.{field} IS NOT NULL", *conditions])}
GROUP BY i.{field}"""


# --- one image --------------------------------------------------------------------------------------------------------


def get_records(values: str) -> str:
    """Records without their bytes."""
    return f"""
SELECT {_RECORD}
FROM images i
LEFT JOIN image_descriptions d ON d.image_id = i.image_id
WHERE i.image_id IN ({values})"""


READ_ORIGINAL = """
SELECT i.image_data, i.content_sha256
FROM images i
WHERE i.image_id = :image_id"""

READ_PREVIEW = """
SELECT i.preview
FROM images i
WHERE i.image_id = :image_id"""

GET_EMBEDDING = """
SELECT e.embedding
FROM image_embeddings e
WHERE e.image_id = :image_id AND e.model_id = :model_id"""

FIND_BY_FILE_NAME = """
SELECT i.image_id
FROM images i
WHERE i.file_name = :file_name
ORDER BY i.image_id"""

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
