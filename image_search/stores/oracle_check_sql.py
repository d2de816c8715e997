"""What ImageSearch.py --check asks the database: views that every user may read, or whose absence tells something."""

from __future__ import annotations

GET_PRODUCT = """
SELECT p.product
FROM product_component_version p
ORDER BY p.product DESC
FETCH FIRST 1 ROWS ONLY"""

GET_CHARACTER_SET = """
SELECT p.value
FROM nls_database_parameters p
WHERE p.parameter = 'NLS_CHARACTERSET'"""

LIST_PRIVILEGES = """
SELECT p.privilege
FROM session_privs p"""

# A tablespace in which the user has no quota is not shown to it.
GET_TABLESPACE = """
SELECT u.default_tablespace, t.segment_space_management
FROM user_users u
LEFT JOIN user_tablespaces t ON t.tablespace_name = u.default_tablespace"""

GET_QUOTA = """
SELECT q.bytes, q.max_bytes
FROM user_ts_quotas q
WHERE q.tablespace_name = :tablespace"""

GET_OWN_BYTES = """
SELECT COALESCE(SUM(s.bytes), 0)
FROM user_segments s"""

GET_VECTOR_COLUMN = """
SELECT c.vector_info
FROM user_tab_columns c
WHERE c.table_name = 'IMAGE_EMBEDDINGS' AND c.column_name = 'EMBEDDING'"""

GET_WORD_INDEX = """
SELECT x.idx_status, x.idx_sync_type,
       (SELECT COUNT(*) FROM ctx_user_pending p WHERE p.pnd_index_name = 'IX_IMAGES_SEARCH_TEXT')
FROM ctx_user_indexes x
WHERE x.idx_name = 'IX_IMAGES_SEARCH_TEXT'"""

LIST_WORD_INDEX_ERRORS = """
SELECT e.err_text
FROM ctx_user_index_errors e
WHERE e.err_index_name = 'IX_IMAGES_SEARCH_TEXT'
ORDER BY e.err_timestamp DESC
FETCH FIRST 20 ROWS ONLY"""

GET_SESSION_LIMIT = """
SELECT l.limit
FROM user_resource_limits l
WHERE l.resource_name = 'SESSIONS_PER_USER'"""

EXPLAIN = "EXPLAIN PLAN SET STATEMENT_ID = 'image_search' FOR"

READ_PLAN = """
SELECT p.operation || ' ' || p.options, p.object_name
FROM plan_table p
WHERE p.statement_id = 'image_search'"""
