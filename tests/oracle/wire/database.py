"""Sessions, transactions, locks and rows: the statements of statements.py, run by SQLite on tables made from DDL."""

from __future__ import annotations

import array
import re
import sqlite3
import threading
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.oracle.wire import blocks, definitions, functions, views
from tests.oracle.wire.binds import check_binds
from tests.oracle.wire.definitions import Index, Table
from tests.oracle.wire.dictionary import SESSION_PARAMETERS, VIEWS
from tests.oracle.wire.inference import Columns, Type
from tests.oracle.wire.results import Bind, OracleError, Result, ResultColumn, list_places
from tests.oracle.wire.statements import Statement, prepare
from tests.oracle.wire.values import WireType

_WIRE_TYPES = {
    "VARCHAR2": WireType.VARCHAR2,
    "LITERAL": WireType.VARCHAR2,
    "CHAR": WireType.CHAR,
    "NUMBER": WireType.NUMBER,
    "BINARY_DOUBLE": WireType.BINARY_DOUBLE,
    "CLOB": WireType.CLOB,
    "BLOB": WireType.BLOB,
    "RAW": WireType.RAW,
    "DATE": WireType.DATE,
    "TIMESTAMP": WireType.TIMESTAMP,
    "TIMESTAMP WITH TIME ZONE": WireType.TIMESTAMP,
    "VECTOR": WireType.VECTOR,
}
# SQLite's word for a constraint that is not held (see ddl.write_table), and Oracle's number for it.
_REFUSALS = (
    ("UNIQUE constraint", 1),
    ("NOT NULL constraint", 1400),
    ("constraint failed: length ", 12899),
    ("constraint failed: precision ", 1438),
    ("constraint failed: dimension ", 51803),
    ("CHECK constraint", 2290),
    ("locked", 60),
    ("user-defined function raised", 51808),  # VECTOR_DISTANCE; CONTAINS keeps its own refusal
)


@dataclass
class Lexer:
    """A preference of Oracle Text; name: which lexer it is."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)


class Database:
    """One schema. Empty at first: tables come by DDL over the wire.

    has_long_strings: MAX_STRING_SIZE = EXTENDED. has_text: Oracle Text is installed.
    views: rows of dictionary views in place of what they would show. hidden: views this user may not read.
    approximate_rows: how many rows a vector index finds at most, as one does that has fallen behind.
    """

    def __init__(self, path: Path, has_long_strings: bool = True, has_text: bool = True) -> None:
        self.path = path
        self.has_long_strings = has_long_strings
        self.has_text = has_text
        self.tables: dict[str, Table] = {}
        self.queries: dict[str, tuple[str, Columns]] = {}  # of views: SQL for SQLite, columns
        self.indexes: dict[str, Index] = {}
        self.preferences: dict[str, Lexer] = {}
        self.views: dict[str, list[views.Row]] = {}
        self.hidden: set[str] = set()
        self.approximate_rows: int | None = None
        self.mistakes: list[str] = []
        self.lock = threading.RLock()  # held while DDL runs
        self._prepared: dict[str, Statement] = {}

    @property
    def longest_string(self) -> int:
        """Bytes of the longest VARCHAR2."""
        return 32767 if self.has_long_strings else 4000

    def copy(self, path: Path) -> Database:
        """The same tables, rows and indexes as a database of their own."""
        other = Database(path, self.has_long_strings, self.has_text)
        source, target = sqlite3.connect(self.path), sqlite3.connect(path)
        source.backup(target)
        source.close(), target.close()
        for name in ("tables", "queries", "indexes", "preferences"):
            setattr(other, name, dict(getattr(self, name)))
        return other

    def open_session(self) -> DatabaseSession:
        return DatabaseSession(self)

    def find_source(self, name: str) -> Columns:
        """Columns of a table or view. Raises OracleError for one that is not there or may not be read."""
        if name in self.tables:
            return {key: Type(column.kind, column=column) for key, column in self.tables[name].columns.items()}
        if name in self.queries:
            return self.queries[name][1]
        view = VIEWS.get(name)
        if view is None or name in self.hidden or (view.needs_text and not self.has_text):
            # A user's own table may be missing; a dictionary view of this name does not exist anywhere.
            is_dictionary = re.match(r"(USER|ALL|DBA|V|CTX|NLS|SESSION)[_$]", name) is not None
            raise OracleError(942, f"table or view {name} does not exist", is_mistake=is_dictionary and view is None)
        return {column: Type(kind) for column, kind in view.columns.items()}

    def find_lexer(self, index: Index) -> Lexer:
        """The lexer of a word index: the one its parameters name, or the database's own."""
        match = re.search(r"LEXER (\w+)", index.parameters, re.IGNORECASE)
        return self.preferences.get(match[1].upper(), Lexer("BASIC_LEXER")) if match else Lexer("BASIC_LEXER")

    def find_text_index(self) -> Index | None:
        return next((index for index in self.indexes.values() if index.kind == "DOMAIN"), None)

    def find_vector_index(self) -> Index | None:
        return next((index for index in self.indexes.values() if index.kind == "VECTOR"), None)

    def prepare(self, sql: str, variables: dict[str, str] | None = None) -> Statement:
        """A statement, judged once until the tables change."""
        key = f"{sql}\n{variables}"
        if key not in self._prepared:
            self._prepared[key] = prepare(sql, self.tables, self.find_source, variables)
        return self._prepared[key]

    def forget_statements(self) -> None:
        """After DDL every statement is parsed again."""
        self._prepared.clear()

    def contains(self, text: str, query: str, _: int) -> int:
        """CONTAINS: whether Oracle Text finds a query in a text that was committed."""
        index = self.find_text_index()
        if index is None:
            raise OracleError(20000, "Oracle Text error:\nDRG-10599: column is not indexed")
        is_japanese = self.find_lexer(index).name == "JAPANESE_VGRAM_LEXER"
        found = functions.has_terms(text, query, is_japanese)
        return int(found and "SYNC (ON COMMIT)" in index.parameters.upper())  # else it waits to be indexed


class DatabaseSession:
    """A connection to the database. Used by one thread at a time."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.in_transaction = False
        self.output: list[str] = []  # of DBMS_OUTPUT
        self._failure: BaseException | None = None
        # Rows read and rows locked since the store began a piece of writing work, which it does with a ping.
        self._unlocked: set[str] | None = None
        self._locked: set[str] = set()
        self.connection = sqlite3.connect(database.path, timeout=5, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode = WAL", "synchronous = OFF", "foreign_keys = ON"):
            self.connection.execute(f"PRAGMA {pragma}")
        functions.add_functions(self.connection, self._guard(database.contains))

    # --- the end of transactions ---

    def commit(self) -> None:
        if self.in_transaction:
            self.connection.execute("COMMIT")
        self._end()

    def rollback(self) -> None:
        if self.in_transaction:
            self.connection.execute("ROLLBACK")
        self._end()

    def ping(self) -> None:
        self._unlocked, self._locked = set(), set()

    def close(self) -> None:
        self.rollback()
        self.connection.close()

    def _end(self) -> None:
        self.in_transaction = False
        self._unlocked, self._locked = None, set()

    # --- statements ---

    def execute(self, sql: str, binds: list[Bind]) -> Result:
        """Run one statement. Raises OracleError."""
        verb = sql.split(None, 1)[0].upper() if sql.strip() else ""
        if verb in ("DECLARE", "BEGIN"):
            blocks.run(self, sql)
            return Result()
        if verb in ("COMMIT", "ROLLBACK"):
            self.commit() if verb == "COMMIT" else self.rollback()
            return Result()
        if verb == "EXPLAIN":
            return self._explain(sql)
        if verb == "ALTER" and re.fullmatch(r"ALTER SESSION SET( \w+ ?= ?('[^']*'|\w+))+", sql.strip(), re.I):
            for name in re.findall(r"(\w+) ?=", sql):
                if name.upper() not in SESSION_PARAMETERS:
                    raise OracleError(2248, f"invalid option for ALTER SESSION: {name}", is_mistake=True)
            return Result()
        if verb in ("CREATE", "ALTER", "DROP", "TRUNCATE", "GRANT"):
            self._define(sql)
            return Result()
        statement = self.database.prepare(sql)
        check_binds(statement, binds, self.database.longest_string)
        return self.run(statement, {bind.name: _to_sqlite(bind.value) for bind in binds})

    def run(self, statement: Statement, values: dict[str, Any]) -> Result:
        """Run a statement that is already judged. values: of its binds, as SQLite keeps them."""
        self._watch_locks(statement)
        if (statement.writes or statement.locks) and not self.in_transaction:
            self._run_sqlite("BEGIN IMMEDIATE", {})
            self.in_transaction = True
        for view in statement.reads & VIEWS.keys() - self.database.tables.keys():
            self._show_view(view)
        count, rows = 0, []
        for part in statement.parts:
            used = {name: values.get(name.lower()) for name in re.findall(r"(?<![\w:']):(\w+)", part)}
            cursor = self._run_sqlite(part, used, statement.writes)
            rows = cursor.fetchall()
            if statement.is_approximate:
                rows = rows[: self.database.approximate_rows]
            count += len(rows) if statement.is_returning else max(cursor.rowcount, 0)
        if statement.is_returning:
            return Result(row_count=count, returned=[row[0] for row in rows])
        if not statement.columns:
            return Result(row_count=count)
        if not statement.is_ordered:
            rows.reverse()  # as good an order as any other
        columns = [_describe(name, kind) for name, kind in statement.columns]
        kinds = [kind.kind for _, kind in statement.columns]
        return Result(columns, [tuple(map(_from_sqlite, row, kinds)) for row in rows])

    def _watch_locks(self, statement: Statement) -> None:
        """A row that is read, then changed by what was read, has to be locked in between: another may change it."""
        if self._unlocked is None:
            return
        if "IMAGE_SEARCH_SCHEMA" in self._locked:
            return  # every writer locks this row first (LOCK_WRITES): no other one is there
        own = set(statement.reads & self.database.tables.keys())
        if statement.locks:
            self._locked |= own
        elif not statement.writes:
            self._unlocked |= own
        is_change = statement.writes and not statement.parts[0].startswith("INSERT")
        if not is_change or statement.writes not in self._unlocked:
            return
        keys = definitions.iterate_keys(self.database.tables[statement.writes], "R")
        if not {statement.writes, *(key.parent for key in keys)} & self._locked:  # the image's row stands for its texts
            raise OracleError(0, f"{statement.writes} was read without FOR UPDATE and is changed now", is_mistake=True)

    def _run_sqlite(self, sql: str, values: dict[str, Any], target: str = "") -> sqlite3.Cursor:
        self._failure = None
        try:
            return self.connection.execute(sql, values)
        except sqlite3.Error as error:
            if self._failure is not None:
                raise self._failure from error
            raise translate_error(error, is_deletion=sql.startswith("DELETE"), target=target) from error

    def _guard(self, function: Any) -> Any:
        # SQLite hides what a function of ours raised.
        def call(*arguments: Any) -> Any:
            try:
                return function(*arguments)
            except OracleError as error:
                self._failure = error
                raise

        return call

    def _show_view(self, name: str) -> None:
        columns = list(VIEWS[name].columns)
        self.connection.execute(f'CREATE TEMP TABLE IF NOT EXISTS "{name}" ({", ".join(map(_quote, columns))})')
        if name == "PLAN_TABLE":
            return  # a temporary table of the session, which EXPLAIN PLAN fills
        self.connection.execute(f'DELETE FROM temp."{name}"')
        for row in views.list_rows(self.database, name):
            values = [row.get(column) for column in columns]
            self.connection.execute(f'INSERT INTO temp."{name}" VALUES ({", ".join("?" * len(columns))})', values)

    def _explain(self, sql: str) -> Result:
        match = re.match(r"EXPLAIN PLAN SET STATEMENT_ID = '(\w+)' FOR\s+(.*)", sql.strip(), re.DOTALL)
        if not match or list_places(sql):
            raise OracleError(905, "missing keyword in EXPLAIN PLAN, or binds in it", is_mistake=True)
        statement = self.database.prepare(match[2])
        index = self.database.find_vector_index()
        self._show_view("PLAN_TABLE")
        plan = ("TABLE ACCESS", "FULL", "IMAGE_EMBEDDINGS")
        if index and statement.is_approximate and statement.metric == index.metric:
            plan = ("VECTOR INDEX", f"{'HNSW' if 'HNSW' in index.subtype else 'IVF'} SCAN", index.name)
        insert = 'INSERT INTO temp."PLAN_TABLE" (statement_id, operation, options, object_name) VALUES (?, ?, ?, ?)'
        self.connection.execute(insert, (match[1], *plan))
        return Result()

    def _define(self, sql: str) -> None:
        from tests.oracle.wire import ddl

        self.commit()
        with self.database.lock:
            ddl.define(self.database, self.connection, " ".join(sql.split()))
            self.database.forget_statements()


def translate_error(error: sqlite3.Error, is_deletion: bool = False, target: str = "") -> OracleError:
    """An error of SQLite with Oracle's number."""
    text = str(error)
    if "FOREIGN KEY" in text:
        return OracleError(2292 if is_deletion else 2291, f"integrity constraint violated in {target}")
    for fragment, number in _REFUSALS:
        if fragment in text:
            return OracleError(number, f"{text} ({target})")
    return OracleError(600, f"the wire database cannot run this: {text}", is_mistake=True)


def _quote(name: str) -> str:
    return f'"{name}"'


def _describe(name: str, kind: Type) -> ResultColumn:
    wire = _WIRE_TYPES[kind.kind or "VARCHAR2"]
    size = kind.column.longest_bytes if kind.column else 22 if wire is WireType.NUMBER else 4000
    return ResultColumn(name, wire, size)


def _to_sqlite(value: Any) -> Any:
    if isinstance(value, array.array):
        return array.array("f", value).tobytes()
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="microseconds")
    if isinstance(value, int) and value.bit_length() > 63:  # a NUMBER has 38 digits, a SQLite integer 18
        return str(value)
    return None if value == "" else value


def _from_sqlite(value: Any, kind: str | None) -> Any:
    if value is None:
        return None
    if kind in ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "DATE"):
        return datetime.fromisoformat(value)
    return array.array("f", value) if kind == "VECTOR" else value
