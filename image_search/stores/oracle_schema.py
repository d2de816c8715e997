"""create_all_tables.sql as a program reads it: its statements, its tables, and its version."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import oracledb

from image_search.errors import SchemaError
from image_search.settings import ROOT, Settings
from image_search.stores.oracle_connection import Session, connect
from image_search.stores.oracle_errors import describe, get_code
from image_search.stores.oracle_sql import GET_SCHEMA_VERSION

SCHEMA_FILE = ROOT / "create_all_tables.sql"
SCHEMA_VERSION = 1
_OLDEST_DATABASE = (23, 4)  # VECTOR, IF NOT EXISTS

_DIRECTIVE = re.compile(r"(SET (DEFINE|SERVEROUTPUT|VERIFY)|WHENEVER|ACCEPT|UNDEFINE|PROMPT)\b", re.IGNORECASE)
_BLOCK = re.compile(r"(DECLARE|BEGIN)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """A table as create_all_tables.sql defines it: column and constraint definitions by name."""

    name: str
    columns: dict[str, str]
    constraints: dict[str, str]


def create_schema(settings: Settings, print_only: bool = False) -> Iterator[str]:
    """Run create_all_tables.sql, which may be done any number of times. Yields each statement after it has run.

    print_only: yields what would run, as a script for SQL*Plus or SQLcl, and connects to nothing.
    Raises SchemaError for a database that is too old or tables of another shape, StoreError for anything else.
    """
    if print_only:
        yield from map(write_for_script, read_statements())
        return
    with connect(settings) as session:
        check_release(session)
        session.execute("ALTER SESSION SET DDL_LOCK_TIMEOUT = 30")  # seconds, instead of giving up on a busy table
        for statement in read_statements():
            try:
                session.execute(statement)
            except oracledb.Error as error:
                raise describe(error, doing=statement.splitlines()[0]) from error
            yield write_for_script(statement)


def check_release(session: Session) -> None:
    """Raises SchemaError when the database has no vectors."""
    if session.version < _OLDEST_DATABASE:
        raise SchemaError(
            f"Oracle Database {session.connection.version} has no vectors. Version 23.4 (23ai) or later is needed."
        )


def check_version(session: Session) -> None:
    """Raises SchemaError when the tables are missing, made by the original application, or of another version."""
    check_release(session)
    try:
        version = session.query(GET_SCHEMA_VERSION)[0][0]
    except oracledb.Error as error:
        if get_code(error) != "ORA-00942":
            raise
        version = None
    if version is None:
        raise SchemaError(
            "The schema of DB_USER has no tables of this program. Run: python register_images.py --create-schema"
        )
    if version != SCHEMA_VERSION:
        raise SchemaError(
            f"The tables have schema version {version}, this program knows version {SCHEMA_VERSION}. "
            "Use the version of the program that made them."
        )


def read_statements(text: str | None = None) -> list[str]:
    """Statements of create_all_tables.sql (or of another script) as the driver wants them.

    Without comments and SQL*Plus directives between them, without the final semicolon of SQL and without the slash
    after PL/SQL.
    """
    lines = (SCHEMA_FILE.read_text(encoding="utf-8") if text is None else text).splitlines()
    statements: list[str] = []
    current: list[str] = []
    for line in lines:
        if not current and (not line.strip() or line.startswith("--") or _DIRECTIVE.match(line)):
            continue
        is_block = bool(_BLOCK.match(current[0] if current else line))
        if is_block and line.strip() == "/":
            statements.append("\n".join(current))
            current = []
        elif not is_block and line.rstrip().endswith(";"):
            statements.append("\n".join([*current, line.rstrip().removesuffix(";")]))
            current = []
        else:
            current.append(line)
    return statements


def write_for_script(statement: str) -> str:
    """A statement as SQL*Plus and SQLcl want it, with its end."""
    return f"{statement}\n/" if _BLOCK.match(statement) else f"{statement};"


def read_tables() -> dict[str, Table]:
    """The tables of create_all_tables.sql by name, in capitals as the dictionary of the database has them."""
    tables = {}
    for statement in read_statements():
        head, _, body = statement.partition("(\n")
        match = re.fullmatch(r"CREATE TABLE IF NOT EXISTS (\w+) ", head)
        if match:
            lines = [line.strip().removesuffix(",") for line in body.splitlines()[:-1]]
            constraints = {line.split()[1].upper(): line for line in lines if line.startswith("CONSTRAINT ")}
            columns = {line.split()[0].upper(): line for line in lines if not line.startswith("CONSTRAINT ")}
            tables[match[1].upper()] = Table(match[1].upper(), columns, constraints)
    return tables
