"""Faults that the words of a statement show, and that a tolerant parser lets through.

Source: SQL Language Reference 23ai, "Oracle SQL Reserved Words", "Database Object Names and Qualifiers", SELECT.
"""

from __future__ import annotations

import re

from tests.oracle.wire.dictionary import find_unknown_functions
from tests.oracle.wire.results import OracleError, list_places

_WORDS = (
    "ACCESS ADD ALL ALTER AND ANY AS ASC AUDIT BETWEEN BY CHAR CHECK CLUSTER COLUMN COMMENT COMPRESS CONNECT CREATE "
    "CURRENT DATE DECIMAL DEFAULT DELETE DESC DISTINCT DROP ELSE EXCLUSIVE EXISTS FILE FLOAT FOR FROM GRANT GROUP "
    "HAVING IDENTIFIED IMMEDIATE IN INCREMENT INDEX INITIAL INSERT INTEGER INTERSECT INTO IS LEVEL LIKE LOCK LONG "
    "MAXEXTENTS MINUS MLSLABEL MODE MODIFY NOAUDIT NOCOMPRESS NOT NOWAIT NULL NUMBER OF OFFLINE ON ONLINE OPTION OR "
    "ORDER PCTFREE PRIOR PUBLIC RAW RENAME RESOURCE REVOKE ROW ROWID ROWNUM ROWS SELECT SESSION SET SHARE SIZE "
    "SMALLINT START SUCCESSFUL SYNONYM SYSDATE TABLE THEN TO TRIGGER UID UNION UNIQUE UPDATE USER VALIDATE VALUES "
    "VARCHAR VARCHAR2 VIEW WHENEVER WHERE WITH"
)
RESERVED = frozenset(_WORDS.split())

_LITERAL = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
_TABLE_ALIAS = re.compile(
    r"\b(?:FROM|JOIN|INTO|UPDATE|USING)\s+[\w$]+\s+AS\b|\)\s+AS\s+\w+\s*(?=JOIN\b|LEFT\b|WHERE\b|ON\b|ORDER\b|\)|$)",
    re.IGNORECASE,
)
_EMPTY = re.compile(r"(?:=|<>|!=)\s*''|''\s*(?:=|<>|!=)")


def check_spelling(sql: str) -> None:
    """Raises OracleError for a statement that Oracle would not read, or would read differently."""
    if sql.rstrip().endswith(";"):
        raise OracleError(933, "SQL command not properly ended: it ends in a semicolon", is_mistake=True)
    if _EMPTY.search(_LITERAL.sub(lambda literal: literal[0] if literal[0] == "''" else "x", sql)):
        raise OracleError(0, "a comparison with '', which is NULL: it is never true", is_mistake=True)
    bare = _LITERAL.sub(" ", sql)
    if match := _TABLE_ALIAS.search(bare):
        raise OracleError(933, f"SQL command not properly ended: AS before an alias in {match[0]}", is_mistake=True)
    for name in list_places(sql):
        if name.upper() in RESERVED:
            raise OracleError(1745, f"invalid host/bind variable name :{name}", is_mistake=True)
    for name in re.findall(r"\bAS\s+([A-Za-z]\w*)", bare, re.IGNORECASE):
        check_name(name)
    if unknown := find_unknown_functions(sql):
        raise OracleError(904, f"{unknown[0]}: invalid identifier", is_mistake=True)


def check_name(name: str) -> None:
    """Raises OracleError for a name that no column, table or alias may have without quotes."""
    if name.upper() in RESERVED or len(name) > 128:
        raise OracleError(904, f"{name}: invalid identifier", is_mistake=True)
