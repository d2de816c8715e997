"""Documented names of Oracle that the program relies on, each with its document: nothing else is accepted.

A name that is missing here is refused as a misspelling. Add it only with the page of the documentation that has it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# --- data types: SQL Language Reference 23ai, "Data Types" ------------------------------------------------------------

DATA_TYPES = {
    "NUMBER", "VARCHAR2", "CHAR", "CLOB", "BLOB", "RAW", "TIMESTAMP", "DATE", "VECTOR", "BINARY_DOUBLE",
}  # fmt: skip

# --- views: name, the document that lists the columns, and those columns the program may rely on ----------------------

_REFERENCE = "Oracle Database Reference 23ai"
_TEXT_REFERENCE = "Oracle Text Reference 23ai, appendix G"


@dataclass(frozen=True)
class View:
    """columns: kind by name."""

    source: str
    columns: dict[str, str]
    needs_text: bool = False


def _view(source: str, texts: str, numbers: str = "", times: str = "", clobs: str = "") -> View:
    kinds = {"VARCHAR2": texts, "NUMBER": numbers, "DATE": times, "CLOB": clobs}
    columns = {name: kind for kind, names in kinds.items() for name in names.split()}
    return View(source, columns, needs_text=source.startswith(_TEXT_REFERENCE))


VIEWS = {
    "DUAL": _view("SQL Language Reference 23ai, Selecting from the DUAL Table", "DUMMY"),
    "USER_TABLES": _view(f"{_REFERENCE}, ALL_TABLES", "TABLE_NAME TABLESPACE_NAME STATUS TEMPORARY", "NUM_ROWS BLOCKS"),
    "USER_VIEWS": _view(f"{_REFERENCE}, ALL_VIEWS", "VIEW_NAME TEXT_VC READ_ONLY", "TEXT_LENGTH"),
    "USER_TAB_COLUMNS": _view(
        f"{_REFERENCE}, ALL_TAB_COLUMNS",
        "TABLE_NAME COLUMN_NAME DATA_TYPE NULLABLE CHAR_USED IDENTITY_COLUMN DEFAULT_ON_NULL VECTOR_INFO "
        "DATA_DEFAULT_VC",
        "DATA_LENGTH DATA_PRECISION DATA_SCALE COLUMN_ID CHAR_LENGTH",
    ),
    "USER_CONSTRAINTS": _view(
        f"{_REFERENCE}, ALL_CONSTRAINTS",
        "OWNER CONSTRAINT_NAME CONSTRAINT_TYPE TABLE_NAME SEARCH_CONDITION_VC R_OWNER R_CONSTRAINT_NAME DELETE_RULE "
        "STATUS VALIDATED GENERATED INDEX_NAME",
    ),
    "USER_CONS_COLUMNS": _view(
        f"{_REFERENCE}, ALL_CONS_COLUMNS", "OWNER CONSTRAINT_NAME TABLE_NAME COLUMN_NAME", "POSITION"
    ),
    "USER_INDEXES": _view(
        f"{_REFERENCE}, ALL_INDEXES",
        "INDEX_NAME INDEX_TYPE TABLE_OWNER TABLE_NAME UNIQUENESS STATUS DOMIDX_STATUS DOMIDX_OPSTATUS FUNCIDX_STATUS "
        "INDEX_SUBTYPE ITYP_OWNER ITYP_NAME PARAMETERS VISIBILITY TABLESPACE_NAME",
        "NUM_ROWS",
    ),
    "USER_IND_COLUMNS": _view(
        f"{_REFERENCE}, ALL_IND_COLUMNS", "INDEX_NAME TABLE_NAME COLUMN_NAME DESCEND", "COLUMN_POSITION COLUMN_LENGTH"
    ),
    "USER_IND_EXPRESSIONS": _view(
        f"{_REFERENCE}, ALL_IND_EXPRESSIONS", "INDEX_NAME TABLE_NAME COLUMN_EXPRESSION", "COLUMN_POSITION"
    ),
    "USER_USERS": _view(
        f"{_REFERENCE}, USER_USERS", "USERNAME ACCOUNT_STATUS DEFAULT_TABLESPACE TEMPORARY_TABLESPACE", "USER_ID",
        "LOCK_DATE EXPIRY_DATE CREATED",
    ),
    "USER_TABLESPACES": _view(
        f"{_REFERENCE}, DBA_TABLESPACES", "TABLESPACE_NAME STATUS CONTENTS SEGMENT_SPACE_MANAGEMENT BIGFILE",
        "BLOCK_SIZE",
    ),
    "USER_TS_QUOTAS": _view(
        f"{_REFERENCE}, DBA_TS_QUOTAS", "TABLESPACE_NAME DROPPED", "BYTES MAX_BYTES BLOCKS MAX_BLOCKS"
    ),
    "USER_SEGMENTS": _view(
        f"{_REFERENCE}, DBA_SEGMENTS", "SEGMENT_NAME PARTITION_NAME SEGMENT_TYPE TABLESPACE_NAME", "BYTES BLOCKS"
    ),
    "USER_LOBS": _view(
        f"{_REFERENCE}, ALL_LOBS", "TABLE_NAME COLUMN_NAME SEGMENT_NAME TABLESPACE_NAME INDEX_NAME SECUREFILE"
    ),
    "USER_RESOURCE_LIMITS": _view(f"{_REFERENCE}, USER_RESOURCE_LIMITS", "RESOURCE_NAME LIMIT"),
    "SESSION_PRIVS": _view(f"{_REFERENCE}, SESSION_PRIVS", "PRIVILEGE"),
    "SESSION_ROLES": _view(f"{_REFERENCE}, SESSION_ROLES", "ROLE"),
    "NLS_DATABASE_PARAMETERS": _view(f"{_REFERENCE}, NLS_DATABASE_PARAMETERS", "PARAMETER VALUE"),
    "PRODUCT_COMPONENT_VERSION": _view(
        f"{_REFERENCE}, PRODUCT_COMPONENT_VERSION", "PRODUCT VERSION VERSION_FULL STATUS"
    ),
    "V$VECTOR_MEMORY_POOL": _view(
        f"{_REFERENCE}, V$VECTOR_MEMORY_POOL", "POOL POPULATE_STATUS", "ALLOC_BYTES USED_BYTES CON_ID"
    ),
    "PLAN_TABLE": _view(
        "SQL Tuning Guide 23ai, PLAN_TABLE Columns",
        "STATEMENT_ID OPERATION OPTIONS OBJECT_OWNER OBJECT_NAME OBJECT_TYPE",
        "PLAN_ID ID PARENT_ID POSITION COST CARDINALITY",
    ),
    "DATABASE_PROPERTIES": _view(f"{_REFERENCE}, DATABASE_PROPERTIES", "PROPERTY_NAME PROPERTY_VALUE DESCRIPTION"),
    "DBA_ROLES": _view(f"{_REFERENCE}, DBA_ROLES", "ROLE COMMON ORACLE_MAINTAINED", "ROLE_ID"),
    "CTX_USER_INDEXES": _view(
        f"{_TEXT_REFERENCE}, CTX_USER_INDEXES",
        "IDX_NAME IDX_TABLE_OWNER IDX_TABLE IDX_KEY_NAME IDX_TEXT_NAME IDX_STATUS IDX_TYPE IDX_SYNC_TYPE "
        "IDX_SYNC_MEMORY IDX_OPTION",
        "IDX_ID IDX_DOCID_COUNT",
    ),
    "CTX_USER_INDEX_OBJECTS": _view(
        f"{_TEXT_REFERENCE}, CTX_USER_INDEX_OBJECTS", "IXO_INDEX_NAME IXO_CLASS IXO_OBJECT"
    ),
    "CTX_USER_INDEX_VALUES": _view(
        f"{_TEXT_REFERENCE}, CTX_USER_INDEX_VALUES", "IXV_INDEX_NAME IXV_CLASS IXV_OBJECT IXV_ATTRIBUTE IXV_VALUE"
    ),
    "CTX_USER_PENDING": _view(
        f"{_TEXT_REFERENCE}, CTX_USER_PENDING", "PND_INDEX_NAME PND_PARTITION_NAME PND_ROWID", "", "PND_TIMESTAMP"
    ),
    "CTX_USER_INDEX_ERRORS": _view(
        f"{_TEXT_REFERENCE}, CTX_USER_INDEX_ERRORS", "ERR_INDEX_NAME ERR_TEXTKEY ERR_TEXT", "", "ERR_TIMESTAMP"
    ),
    "CTX_USER_PREFERENCES": _view(f"{_TEXT_REFERENCE}, CTX_USER_PREFERENCES", "PRE_NAME PRE_CLASS PRE_OBJECT"),
    "CTX_USER_PREFERENCE_VALUES": _view(
        f"{_TEXT_REFERENCE}, CTX_USER_PREFERENCE_VALUES", "PRV_PREFERENCE PRV_ATTRIBUTE PRV_VALUE"
    ),
}  # fmt: skip

# --- functions: arguments and result, "?" for what depends on the arguments -------------------------------------------


@dataclass(frozen=True)
class Function:
    """arguments: kinds, "TEXT" for any character type or CLOB, "ANY" for any; the last one may repeat with "*"."""

    arguments: tuple[str, ...]
    result: str


# Each has a page of its name in SQL Language Reference 23ai, "Functions"; CONTAINS and SCORE in Oracle Text Reference.
FUNCTIONS = {
    "ABS": Function(("NUMBER",), "NUMBER"),
    "AVG": Function(("NUMBER",), "NUMBER"),
    "COALESCE": Function(("SAME*",), "?"),
    "CONTAINS": Function(("TEXT", "VARCHAR2", "NUMBER"), "NUMBER"),
    "COUNT": Function(("ANY",), "NUMBER"),
    "GREATEST": Function(("SAME*",), "?"),
    "HEXTORAW": Function(("VARCHAR2",), "RAW"),
    "INSTR": Function(("TEXT", "VARCHAR2", "NUMBER", "NUMBER"), "NUMBER"),
    "LEAST": Function(("SAME*",), "?"),
    "JSON_ARRAYAGG": Function(("TEXT",), "CLOB"),
    "LENGTH": Function(("TEXT",), "NUMBER"),
    "LENGTHB": Function(("TEXT",), "NUMBER"),
    "LOWER": Function(("TEXT",), "?"),
    "MAX": Function(("ANY",), "?"),
    "MIN": Function(("ANY",), "?"),
    "NULLIF": Function(("SAME*",), "?"),
    "NVL": Function(("SAME*",), "?"),
    "ORA_HASH": Function(("ANY", "NUMBER", "NUMBER"), "NUMBER"),
    "REPLACE": Function(("TEXT", "TEXT", "TEXT"), "?"),
    "ROW_NUMBER": Function((), "NUMBER"),
    "RTRIM": Function(("TEXT", "VARCHAR2"), "?"),
    "SUBSTR": Function(("TEXT", "NUMBER", "NUMBER"), "?"),
    "SUM": Function(("NUMBER",), "NUMBER"),
    "SYS_CONTEXT": Function(("VARCHAR2", "VARCHAR2"), "VARCHAR2"),
    "SYS_EXTRACT_UTC": Function(("TIMESTAMP",), "TIMESTAMP"),
    "TO_CHAR": Function(("ANY", "VARCHAR2"), "VARCHAR2"),
    "TO_CLOB": Function(("TEXT",), "CLOB"),
    "TO_NUMBER": Function(("VARCHAR2", "VARCHAR2"), "NUMBER"),
    "TO_VECTOR": Function(("TEXT", "NUMBER"), "VECTOR"),
    "TRIM": Function(("TEXT",), "?"),
    "UPPER": Function(("TEXT",), "?"),
    "VECTOR_DIMENSION_COUNT": Function(("VECTOR",), "NUMBER"),
    "VECTOR_DISTANCE": Function(("VECTOR", "VECTOR", "METRIC"), "BINARY_DOUBLE"),
    "VECTOR_NORM": Function(("VECTOR",), "BINARY_DOUBLE"),
}
METRICS = {"COSINE", "DOT", "EUCLIDEAN", "EUCLIDEAN_SQUARED", "L2_SQUARED", "MANHATTAN", "HAMMING", "JACCARD"}

# AI Vector Search User's Guide 23ai, "Vector Index Hints"; SQL Language Reference 23ai, "Hints".
QUERY_HINTS = {"INLINE", "MATERIALIZE"}  # of the query of a WITH clause they stand in
HINTS = {"NO_VECTOR_INDEX_TRANSFORM", "VECTOR_INDEX_TRANSFORM", "VECTOR_INDEX_SCAN", "FULL", "INDEX"}

# Parameters of the namespace USERENV: SQL Language Reference 23ai, SYS_CONTEXT.
USERENV = {"CON_NAME", "CLOUD_SERVICE", "DB_NAME", "SERVICE_NAME", "CURRENT_SCHEMA", "SESSION_USER", "SID"}

# ALTER SESSION SET: SQL Language Reference 23ai, "ALTER SESSION", and the Reference's initialization parameters.
SESSION_PARAMETERS = {"DDL_LOCK_TIMEOUT", "TIME_ZONE", "NLS_SORT", "NLS_COMP", "CURRENT_SCHEMA"}

# --- packages ---------------------------------------------------------------------------------------------------------

# PL/SQL Packages and Types Reference 23ai; CTX_DDL: Oracle Text Reference 23ai. Number of arguments: from, to.
PROCEDURES = {
    "CTX_DDL.CREATE_PREFERENCE": (2, 2),
    "CTX_DDL.DROP_PREFERENCE": (1, 1),
    "CTX_DDL.SET_ATTRIBUTE": (3, 3),
    "CTX_DDL.SYNC_INDEX": (1, 5),
    "DBMS_OUTPUT.PUT_LINE": (1, 1),
    "DBMS_ASSERT.SIMPLE_SQL_NAME": (1, 1),
    "DBMS_ASSERT.ENQUOTE_NAME": (1, 2),
    "RAISE_APPLICATION_ERROR": (2, 3),
}

# --- Oracle Text: Oracle Text Reference 23ai, "Indexing Elements" -----------------------------------------------------

LEXERS = {
    "AUTO_LEXER": set[str](),
    "BASIC_LEXER": {"MIXED_CASE", "BASE_LETTER", "INDEX_THEMES", "PRINTJOINS", "SKIPJOINS"},
    "JAPANESE_VGRAM_LEXER": {"DELIMITER", "MIXED_CASE_ASCII7", "BIGRAM"},
    "JAPANESE_LEXER": {"DELIMITER", "MIXED_CASE_ASCII7"},
    "WORLD_LEXER": {"MIXED_CASE"},
}
FILTERS = {"CTXSYS.NULL_FILTER", "CTXSYS.AUTO_FILTER"}
STOPLISTS = {"CTXSYS.EMPTY_STOPLIST", "CTXSYS.DEFAULT_STOPLIST"}
INDEX_TYPES = {"CTXSYS.CONTEXT"}

# --- words before a bracket that are no functions ---------------------------------------------------------------------

_WORDS = (
    "ADD ALL AND ANY AS BETWEEN BY CASE CHECK COMMIT DEFAULT DISTINCT ELSE EXISTS EXPLAIN FOR FROM HAVING IF IN "
    "INSERT INTO JOIN KEY LIKE MODIFY NOT ON OR OVER RETURNING SELECT SET SYNC THEN UNIQUE UPDATE USING VALUES "
    "WHEN WHERE PARAMETERS CHAR CLOB BLOB DATE NUMBER RAW TIMESTAMP VARCHAR2 VECTOR CAST JSON "
)
_NO_FUNCTIONS = set(_WORDS.split())
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)


def find_unknown_functions(sql: str) -> list[str]:
    """Names that are called like functions and are none of Oracle's, or none that are listed here."""
    bare = _QUOTED.sub(" ", sql)
    bare = re.sub(r"\b(INTO|TABLE|REFERENCES|ON|INDEX)\s+\w+(\s+\w+)?\s*\(", r"\1 (", bare, flags=re.IGNORECASE)
    names = {name.upper() for name in re.findall(r"(?<![\w.:$])([A-Za-z_]\w*)\s*\(", bare)}
    packaged = {name.upper() for name in re.findall(r"(?<![\w.])(\w+\.\w+)\s*\(", bare)}
    return sorted((names - set(FUNCTIONS) - _NO_FUNCTIONS - set(PROCEDURES)) | (packaged - set(PROCEDURES)))
