"""The dictionary views of a database: rows by column, for the views listed in dictionary.py."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tests.oracle.wire.definitions import Column

if TYPE_CHECKING:
    from tests.oracle.wire.database import Database

Row = dict[str, Any]

# Of a healthy database. A test may put other rows into Database.views.
CONSTANT: dict[str, list[Row]] = {
    "DUAL": [{"DUMMY": "X"}],
    "USER_USERS": [{"USERNAME": "IMGSEARCH", "ACCOUNT_STATUS": "OPEN", "DEFAULT_TABLESPACE": "USERS"}],
    "USER_TABLESPACES": [{"TABLESPACE_NAME": "USERS", "STATUS": "ONLINE", "SEGMENT_SPACE_MANAGEMENT": "AUTO"}],
    "USER_TS_QUOTAS": [{"TABLESPACE_NAME": "USERS", "BYTES": 10 * 2**20, "MAX_BYTES": -1}],
    "USER_SEGMENTS": [{"SEGMENT_NAME": "IMAGES", "SEGMENT_TYPE": "TABLE", "BYTES": 10 * 2**20}],
    "USER_RESOURCE_LIMITS": [{"RESOURCE_NAME": "SESSIONS_PER_USER", "LIMIT": "UNLIMITED"}],
    "SESSION_PRIVS": [
        {"PRIVILEGE": name} for name in ("CREATE SESSION", "CREATE TABLE", "CREATE VIEW", "CREATE SEQUENCE")
    ],
    "SESSION_ROLES": [{"ROLE": "CTXAPP"}],
    "NLS_DATABASE_PARAMETERS": [
        {"PARAMETER": "NLS_CHARACTERSET", "VALUE": "AL32UTF8"},
        {"PARAMETER": "NLS_LENGTH_SEMANTICS", "VALUE": "BYTE"},
    ],
    "PRODUCT_COMPONENT_VERSION": [{"PRODUCT": "Oracle AI Database 26ai Enterprise Edition", "VERSION": "23.0.0.0.0"}],
    "DATABASE_PROPERTIES": [{"PROPERTY_NAME": "DEFAULT_PERMANENT_TABLESPACE", "PROPERTY_VALUE": "USERS"}],
    "DBA_ROLES": [{"ROLE": "CTXAPP"}],
    "CTX_USER_PENDING": [],
    "CTX_USER_INDEX_ERRORS": [],
}


def list_rows(database: Database, view: str) -> list[Row]:
    """The rows of a view as they are now."""
    if view in database.views:
        return database.views[view]
    if view in CONSTANT:
        return CONSTANT[view]
    makers = {
        "USER_TABLES": _list_tables,
        "USER_VIEWS": lambda database: ({"VIEW_NAME": name} for name in database.queries),
        "USER_TAB_COLUMNS": _list_columns,
        "USER_CONSTRAINTS": _list_constraints,
        "USER_CONS_COLUMNS": _list_constraint_columns,
        "USER_INDEXES": _list_indexes,
        "USER_IND_COLUMNS": _list_index_columns,
        "USER_IND_EXPRESSIONS": _list_index_expressions,
        "CTX_USER_INDEXES": _list_text_indexes,
        "CTX_USER_INDEX_OBJECTS": _list_text_index_objects,
        "CTX_USER_INDEX_VALUES": _list_text_index_values,
        "CTX_USER_PREFERENCES": _list_preferences,
        "CTX_USER_PREFERENCE_VALUES": _list_preference_values,
    }
    return list(makers[view](database)) if view in makers else []


def _list_tables(database: Database) -> Iterator[Row]:
    yield from ({"TABLE_NAME": name, "TABLESPACE_NAME": "USERS", "STATUS": "VALID"} for name in database.tables)


def _list_columns(database: Database) -> Iterator[Row]:
    for table in database.tables.values():
        for number, column in enumerate(table.columns.values(), start=1):
            yield {
                "TABLE_NAME": table.name,
                "COLUMN_NAME": column.name,
                "COLUMN_ID": number,
                "DATA_TYPE": "TIMESTAMP(6)" if column.kind == "TIMESTAMP" else column.kind,
                "NULLABLE": "Y" if column.is_nullable else "N",
                "DATA_LENGTH": column.longest_bytes,
                "CHAR_LENGTH": column.length if column.kind in ("VARCHAR2", "CHAR") else 0,
                "CHAR_USED": column.unit[0] if column.kind in ("VARCHAR2", "CHAR") else None,
                "DATA_PRECISION": column.precision,
                "DATA_SCALE": column.scale,
                "DATA_DEFAULT_VC": column.default,
                "IDENTITY_COLUMN": "YES" if column.identity else "NO",
                "DEFAULT_ON_NULL": "YES" if column.identity.endswith("NULL") else "NO",
                "VECTOR_INFO": _write_vector_info(column),
            }


def _write_vector_info(column: Column) -> str | None:
    return f"VECTOR({column.dimension or '*'},{column.format},DENSE)" if column.kind == "VECTOR" else None


def _list_constraints(database: Database) -> Iterator[Row]:
    for table in database.tables.values():
        for constraint in table.constraints.values():
            yield {
                "CONSTRAINT_NAME": constraint.name,
                "CONSTRAINT_TYPE": constraint.kind,
                "TABLE_NAME": table.name,
                "DELETE_RULE": constraint.delete_rule or None,
                "STATUS": "ENABLED",
                "VALIDATED": "VALIDATED",
                "GENERATED": "GENERATED NAME" if constraint.is_generated else "USER NAME",
            }
        for column in table.columns.values():
            if not column.is_nullable and not column.identity:
                yield {
                    "CONSTRAINT_NAME": f"SYS_NN_{table.name}_{column.name}",
                    "CONSTRAINT_TYPE": "C",
                    "TABLE_NAME": table.name,
                    "SEARCH_CONDITION_VC": f'"{column.name}" IS NOT NULL',
                    "GENERATED": "GENERATED NAME",
                }


def _list_constraint_columns(database: Database) -> Iterator[Row]:
    for table in database.tables.values():
        for constraint in table.constraints.values():
            for number, column in enumerate(constraint.columns, start=1):
                yield {
                    "CONSTRAINT_NAME": constraint.name,
                    "TABLE_NAME": table.name,
                    "COLUMN_NAME": column,
                    "POSITION": number,
                }


def _list_indexes(database: Database) -> Iterator[Row]:
    for index in database.indexes.values():
        is_domain = index.kind == "DOMAIN"
        yield {
            "INDEX_NAME": index.name,
            "INDEX_TYPE": index.kind,
            "TABLE_NAME": index.table,
            "UNIQUENESS": "UNIQUE" if index.is_unique else "NONUNIQUE",
            "STATUS": "VALID" if is_domain else index.status,
            "DOMIDX_STATUS": "VALID" if is_domain else None,
            "DOMIDX_OPSTATUS": index.status if is_domain else None,
            "FUNCIDX_STATUS": "ENABLED" if index.kind.startswith("FUNCTION") else None,
            "INDEX_SUBTYPE": index.subtype or None,
            "PARAMETERS": index.parameters or None,
            "VISIBILITY": "VISIBLE",
        }
    for table in database.tables.values():
        for constraint in table.constraints.values():
            if constraint.kind in "PU":
                yield {
                    "INDEX_NAME": constraint.name,
                    "INDEX_TYPE": "NORMAL",
                    "TABLE_NAME": table.name,
                    "UNIQUENESS": "UNIQUE",
                    "STATUS": "VALID",
                }


def _list_index_columns(database: Database) -> Iterator[Row]:
    for index in database.indexes.values():
        for number, key in enumerate(index.keys, start=1):
            name = re.sub(r" (ASC|DESC)$", "", key, flags=re.IGNORECASE).upper()
            is_plain = name == key.upper() and name.isidentifier()
            yield {
                "INDEX_NAME": index.name,
                "TABLE_NAME": index.table,
                "COLUMN_NAME": name if is_plain else f"SYS_NC{number:05}$",
                "COLUMN_POSITION": number,
                "DESCEND": "DESC" if key.upper().endswith(" DESC") else "ASC",
            }


def _list_index_expressions(database: Database) -> Iterator[Row]:
    for index in database.indexes.values():
        for number, key in enumerate(index.keys, start=1):
            if not key.isidentifier() and index.kind.startswith("FUNCTION"):
                name = re.sub(r" (ASC|DESC)$", "", key, flags=re.IGNORECASE)
                expression = f'"{name.upper()}"' if name.isidentifier() else name
                yield {
                    "INDEX_NAME": index.name,
                    "TABLE_NAME": index.table,
                    "COLUMN_EXPRESSION": expression,
                    "COLUMN_POSITION": number,
                }


def _list_text_indexes(database: Database) -> Iterator[Row]:
    for index in database.indexes.values():
        if index.kind == "DOMAIN":
            sync = re.search(r"SYNC \((.*?)\)", index.parameters, re.IGNORECASE)
            yield {
                "IDX_NAME": index.name,
                "IDX_TABLE": index.table,
                "IDX_TEXT_NAME": index.keys[0].upper(),
                "IDX_STATUS": "INDEXED" if index.status == "VALID" else "FAILED",
                "IDX_TYPE": "CONTEXT",
                "IDX_SYNC_TYPE": sync[1].upper() if sync else "MANUAL",
            }


def _list_text_index_objects(database: Database) -> Iterator[Row]:
    for index in database.indexes.values():
        if index.kind == "DOMAIN":
            yield {
                "IXO_INDEX_NAME": index.name,
                "IXO_CLASS": "LEXER",
                "IXO_OBJECT": database.find_lexer(index).name or "BASIC_LEXER",
            }


def _list_text_index_values(database: Database) -> Iterator[Row]:
    for index in database.indexes.values():
        if index.kind == "DOMAIN":
            lexer = database.find_lexer(index)
            for attribute, value in lexer.attributes.items():
                yield {
                    "IXV_INDEX_NAME": index.name,
                    "IXV_CLASS": "LEXER",
                    "IXV_OBJECT": lexer.name,
                    "IXV_ATTRIBUTE": attribute,
                    "IXV_VALUE": value,
                }


def _list_preferences(database: Database) -> Iterator[Row]:
    for name, lexer in database.preferences.items():
        yield {"PRE_NAME": name, "PRE_CLASS": "LEXER", "PRE_OBJECT": lexer.name}


def _list_preference_values(database: Database) -> Iterator[Row]:
    for name, lexer in database.preferences.items():
        for attribute, value in lexer.attributes.items():
            yield {"PRV_PREFERENCE": name, "PRV_ATTRIBUTE": attribute, "PRV_VALUE": value}
