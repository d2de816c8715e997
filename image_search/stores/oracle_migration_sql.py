"""Statements that turn the tables of the original application into those of create_all_tables.sql.

Definitions of columns and constraints are not written here: they are read from that file. Everything may be run again.
"""

from __future__ import annotations

FIND_COLUMNS = """
SELECT c.table_name, c.column_name, c.nullable
FROM user_tab_columns c
ORDER BY c.table_name, c.column_id"""

FIND_CONSTRAINTS = """
SELECT c.table_name, c.constraint_name, c.constraint_type, c.delete_rule
FROM user_constraints c
WHERE c.constraint_type IN ('P', 'R', 'U', 'C')"""

# The vector index was built on an empty table and the word indexes without a Japanese lexer; all are made anew.
FIND_OLD_INDEXES = """
SELECT x.index_name, x.index_type
FROM user_indexes x
WHERE x.index_type IN ('VECTOR', 'DOMAIN') AND x.index_name <> 'IX_IMAGES_SEARCH_TEXT'
  AND x.table_name IN ('IMAGES', 'IMAGE_DESCRIPTIONS', 'IMAGE_EMBEDDINGS')"""

# --- what is doubled or belongs to nothing: counted before anything is changed ---

COUNT_PROBLEMS = {
    "models that are listed twice": """
SELECT COUNT(*)
FROM embedding_models m
WHERE m.model_id > (SELECT MIN(f.model_id) FROM embedding_models f
                    WHERE f.model_name = m.model_name AND f.model_version = m.model_version)""",
    "models that are marked as current beside another": """
SELECT COUNT(*)
FROM embedding_models m
WHERE m.is_current = 'Y'
  AND m.model_id > (SELECT MIN(f.model_id) FROM embedding_models f WHERE f.is_current = 'Y')""",
    "embeddings that are stored twice": """
SELECT COUNT(*)
FROM image_embeddings e
WHERE e.embedding_id < (SELECT MAX(l.embedding_id) FROM image_embeddings l
                        WHERE l.image_id = e.image_id AND l.model_id = e.model_id AND l.embedding IS NOT NULL)""",
    "embeddings that are empty or belong to nothing": """
SELECT COUNT(*)
FROM image_embeddings e
WHERE e.image_id IS NULL OR e.model_id IS NULL OR e.embedding IS NULL""",
    "descriptions beside a newer one of the same image": """
SELECT COUNT(*)
FROM image_descriptions d
WHERE d.description_id < (SELECT MAX(l.description_id) FROM image_descriptions l
                          WHERE l.image_id = d.image_id AND l.description IS NOT NULL)""",
    "descriptions that are empty or belong to nothing": """
SELECT COUNT(*)
FROM image_descriptions d
WHERE d.image_id IS NULL OR d.description IS NULL""",
}

# These cannot be repaired here: what is right is not known.
COUNT_OBSTACLES = {
    "models have no name, version or dimension. Fill in EMBEDDING_MODELS": """
SELECT COUNT(*)
FROM embedding_models m
WHERE m.model_name IS NULL OR m.model_version IS NULL OR m.vector_dimension IS NULL""",
    "embeddings have another dimension than their model says. Correct VECTOR_DIMENSION or delete them": """
SELECT COUNT(*)
FROM image_embeddings e
JOIN embedding_models m ON m.model_id = e.model_id
WHERE VECTOR_DIMENSION_COUNT(e.embedding) <> m.vector_dimension""",
    "images have no bytes. Delete them": """
SELECT COUNT(*)
FROM images i
WHERE i.image_data IS NULL""",
}

# Distances are only right for vectors of length 1; these go on working, and are better embedded again.
COUNT_UNNORMALISED = """
SELECT COUNT(*)
FROM image_embeddings e
WHERE ABS(VECTOR_NORM(e.embedding) - 1) > 0.01"""

# --- repairs, in this order ---

REPAIRS = (
    """
UPDATE image_embeddings e
SET e.model_id = (SELECT MIN(f.model_id)
                  FROM embedding_models f
                  JOIN embedding_models m ON m.model_name = f.model_name AND m.model_version = f.model_version
                  WHERE m.model_id = e.model_id)
WHERE e.model_id IN (SELECT m.model_id
                     FROM embedding_models m
                     WHERE m.model_id > (SELECT MIN(f.model_id) FROM embedding_models f
                                         WHERE f.model_name = m.model_name AND f.model_version = m.model_version))""",
    """
UPDATE embedding_models m
SET m.is_current = 'Y'
WHERE m.model_id IN (SELECT MIN(f.model_id)
                     FROM embedding_models f
                     JOIN embedding_models c ON c.model_name = f.model_name AND c.model_version = f.model_version
                     WHERE c.is_current = 'Y'
                     GROUP BY f.model_name, f.model_version)""",
    """
DELETE FROM embedding_models m
WHERE m.model_id > (SELECT MIN(f.model_id) FROM embedding_models f
                    WHERE f.model_name = m.model_name AND f.model_version = m.model_version)""",
    """
UPDATE embedding_models m
SET m.is_current = 'N'
WHERE m.is_current IS NULL
   OR m.is_current = 'Y'
  AND m.model_id > (SELECT MIN(f.model_id) FROM embedding_models f WHERE f.is_current = 'Y')""",
    """
DELETE FROM image_embeddings e
WHERE e.image_id IS NULL OR e.model_id IS NULL OR e.embedding IS NULL
   OR e.embedding_id < (SELECT MAX(l.embedding_id) FROM image_embeddings l
                        WHERE l.image_id = e.image_id AND l.model_id = e.model_id AND l.embedding IS NOT NULL)""",
    """
DELETE FROM image_descriptions d
WHERE d.image_id IS NULL OR d.description IS NULL
   OR d.description_id < (SELECT MAX(l.description_id) FROM image_descriptions l
                          WHERE l.image_id = d.image_id AND l.description IS NOT NULL)""",
    """
UPDATE images i
SET i.file_name = COALESCE(i.file_name, 'image' || i.image_id),
    i.upload_date = COALESCE(i.upload_date, SYS_EXTRACT_UTC(SYSTIMESTAMP))
WHERE i.file_name IS NULL OR i.upload_date IS NULL""",
)

# --- images, one after another: what SQL cannot know is read from the bytes ---

READ_IMAGES = """
SELECT i.image_id, i.file_name, i.image_data
FROM images i
WHERE i.image_id > :after_id
ORDER BY i.image_id
FETCH FIRST :max_rows ROWS ONLY"""

DESCRIBE_IMAGE = """
UPDATE images
SET content_sha256 = :sha256,
    file_type = :file_type,
    byte_size = :byte_size,
    width = :width,
    height = :height,
    preview = :preview
WHERE image_id = :image_id"""

# Of two images with the same bytes the older one stays, and takes over what it lacks.
MERGE_IMAGES = (
    """
UPDATE image_embeddings e
SET e.image_id = :kept
WHERE e.image_id = :removed
  AND NOT EXISTS (SELECT 1 FROM image_embeddings k WHERE k.image_id = :kept AND k.model_id = e.model_id)""",
    """
DELETE FROM image_embeddings
WHERE image_id = :removed""",
    """
UPDATE image_descriptions d
SET d.image_id = :kept
WHERE d.image_id = :removed
  AND NOT EXISTS (SELECT 1 FROM image_descriptions k WHERE k.image_id = :kept)""",
    """
DELETE FROM image_descriptions
WHERE image_id = :removed""",
    """
UPDATE images i
SET i.generation_prompt = (SELECT o.generation_prompt FROM images o WHERE o.image_id = :removed)
WHERE i.image_id = :kept AND i.generation_prompt IS NULL""",
    """
DELETE FROM images
WHERE image_id = :removed""",
)

READ_TEXTS = """
SELECT i.image_id, i.file_name, i.generation_prompt, d.description
FROM images i
LEFT JOIN image_descriptions d ON d.image_id = i.image_id
WHERE i.image_id > :after_id
ORDER BY i.image_id
FETCH FIRST :max_rows ROWS ONLY"""

SET_SEARCH_TEXT = """
UPDATE images
SET search_text = :search_text
WHERE image_id = :image_id"""

# The model the embeddings were made with goes on under the name this program gives it.
ADOPT_MODEL = """
UPDATE embedding_models
SET model_name = :model_name, model_version = :model_version
WHERE is_current = 'Y' AND vector_dimension = :dimension"""
