"""A stand-in for Oracle Database: what the driver shows of it, over SQLite, made from create_all_tables.sql.

It proves what the store does with statements and rows, not that Oracle accepts the statements: those are parsed in
test_oracle_sql.py. It is strict where the driver and Oracle are: every bind has a place and every place a bind, values
pass through the driver's own variables, "" is NULL, texts longer than their column are refused. Rows come back in the
driver's types: array.array for VECTOR, bytes for RAW and BLOB, str for CLOB, datetime for TIMESTAMP.
"""

from __future__ import annotations

import array
import re
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import oracledb
from oracledb import errors, thin_impl

from image_search.stores.oracle import sql as oracle_sql
from image_search.stores.oracle.schema import read_statements

Answer = Callable[[dict[str, Any]], Any]

_TYPES = {
    str: oracledb.DB_TYPE_VARCHAR,
    int: oracledb.DB_TYPE_NUMBER,
    float: oracledb.DB_TYPE_NUMBER,
    bytes: oracledb.DB_TYPE_RAW,
    datetime: oracledb.DB_TYPE_TIMESTAMP,
    array.array: oracledb.DB_TYPE_VECTOR,
}


def make_error(code: str, message: str = "as it happens") -> oracledb.Error:
    """The error the driver raises for a code of the server (ORA-00942) or of its own (DPY-4024)."""
    number = int(code[4:])
    detail = errors._Error(message=f"{code}: {message}", code=number if code.startswith("ORA") else 0)
    return detail.exc_type(detail)


def list_binds(statement: str) -> set[str]:
    """Names after colons, outside of strings and comments."""
    bare = re.sub(r"'[^']*'|--[^\n]*|/\*.*?\*/", " ", statement, flags=re.DOTALL)
    return set(re.findall(r":(\w+)", bare))


class StandIn:
    """One database. Hand its create_pool and connect to the code under test in place of the driver's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.version = "23.26.1.0.0"
        self.has_text_index = False
        self.vector_index: str | None = None  # an INDEX_SUBTYPE
        self.events: list[str] = []  # "commit", "rollback", ... and the first line of every statement
        self.statements: list[str] = []
        self.answers: list[tuple[str, Answer]] = []
        self.idle: list[sqlite3.Connection] = []
        with self._open() as connection:
            for statement in read_statements():
                connection.executescript(_translate_schema(statement))

    def answer(self, fragment: str, *answers: Any) -> None:
        """Answer the next statements that contain the fragment so, one after another, instead of running them.

        An exception is raised; anything else is the rows. The last answer stays.
        """
        left = list(answers)

        def give(_: dict[str, Any]) -> Any:
            return left.pop(0) if len(left) > 1 else left[0]

        self.answers.insert(0, (fragment, give))

    def fail_once(self, fragment: str, error: BaseException) -> None:
        """Raise an error at the next statement (or event) that contains the fragment, then go on as usual."""
        left = [error]

        def give(_: dict[str, Any]) -> Any:
            return left.pop() if left else NotImplemented

        self.answers.insert(0, (fragment, give))

    def create_pool(self, **parameters: Any) -> StandInPool:
        parameters.pop("dsn"), parameters.pop("min")
        oracledb.PoolParams(**parameters)  # refuses what the driver would refuse
        return StandInPool(self, parameters["session_callback"], parameters["max"])

    def connect(self, **parameters: Any) -> StandInConnection:
        parameters.pop("dsn")
        oracledb.ConnectParams(**parameters)
        return StandInConnection(self)

    def record(self, event: str, binds: dict[str, Any] | None = None) -> Any:
        """What was prepared for this event, or NotImplemented."""
        self.events.append(event.strip().splitlines()[0])
        for fragment, give in self.answers:
            if fragment in event:
                answer = give(binds or {})
                if isinstance(answer, BaseException):
                    raise answer
                if answer is not NotImplemented:
                    return answer
        if event == oracle_sql.FIND_SEARCH_INDEXES:
            rows = [("IX_IMAGES_SEARCH_TEXT", "DOMAIN", None, "VALID", "VALID")] if self.has_text_index else []
            if self.vector_index:
                rows.append(("IMAGE_EMBEDDING_IDX", "VECTOR", self.vector_index, "VALID", None))
            return rows
        return NotImplemented

    def define(self, connection: sqlite3.Connection, statement: str) -> None:
        """What CREATE and ALTER do: nothing here, where the tables are there from the beginning."""

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=5, check_same_thread=False)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = OFF")
        connection.create_function("VECTOR_DISTANCE", 2, _measure_distance, deterministic=True)
        connection.create_function("UTC_NOW", 0, lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"))
        connection.create_function("ORA_HASH", 1, lambda value: int(value) * 2654435761 % 2**32, deterministic=True)
        connection.create_function("VECTOR_DIMENSION_COUNT", 1, lambda vector: vector and len(vector) // 4)
        connection.create_function("VECTOR_NORM", 1, _measure_length)
        connection.create_function("CONTAINS", 3, contains, deterministic=True)
        return connection


class StandInPool:
    def __init__(self, database: StandIn, session_callback: Callable[[Any, str], None], size: int) -> None:
        self.database = database
        self.session_callback = session_callback
        self.max = size
        self.busy = 0
        self.opened = 0

    def acquire(self) -> StandInConnection:
        self.database.record("acquire")
        connection = StandInConnection(self.database, self)
        self.session_callback(connection, "")
        self.busy += 1
        return connection

    def drop(self, connection: StandInConnection) -> None:
        self.database.record("drop")
        connection.close()

    def close(self, force: bool = False) -> None:
        self.database.record("close pool")


class StandInConnection:
    def __init__(self, database: StandIn, pool: StandInPool | None = None) -> None:
        self.database = database
        self.pool = pool
        self.call_timeout = 0
        self.username = "imgsearch"
        self.real = database.idle.pop() if database.idle else database._open()
        # A connection of the driver that was never made: its cursors make variables, which check values.
        self.driver = oracledb.Connection.__new__(oracledb.Connection)
        self.driver._impl = thin_impl.ThinConnImpl()

    @property
    def version(self) -> str:
        return self.database.version

    def cursor(self) -> StandInCursor:
        return StandInCursor(self)

    def ping(self) -> None:
        self.database.record("ping")

    def commit(self) -> None:
        self.database.record("commit")
        self.real.commit()

    def rollback(self) -> None:
        self.real.rollback()
        self.database.record("rollback")

    def close(self) -> None:
        if self.pool is not None:
            self.pool.busy -= 1
        self.real.rollback()
        self.database.idle.append(self.real)


class StandInCursor:
    def __init__(self, connection: StandInConnection) -> None:
        self.connection = connection
        self.rowcount = 0
        self.rows: Sequence[tuple[Any, ...]] = []
        self.sizes: dict[str, Any] = {}

    def __enter__(self) -> StandInCursor:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def setinputsizes(self, **sizes: Any) -> None:
        self.sizes = sizes

    def var(self, kind: Any) -> Returned:
        return Returned(kind)

    def execute(self, statement: str, binds: dict[str, Any] | None = None, fetch_lobs: bool | None = None) -> None:
        binds = binds or {}
        if statement.startswith("ALTER SESSION SET NLS"):
            return  # of a new connection: texts compare by their bytes here in any case
        self.connection.database.statements.append(statement)
        assert not statement.rstrip().endswith(";") or re.match(r"\s*(BEGIN|DECLARE)\b", statement), statement
        assert list_binds(statement) == set(binds), f"{statement}\n{sorted(binds)}"
        is_query = statement.lstrip().startswith(("SELECT", "WITH"))
        assert fetch_lobs is (False if is_query else None), "a query that reads LOBs by locator, one round trip each"
        values = {name: self._pass(name, value) for name, value in binds.items()}
        answer = self.connection.database.record(statement, binds)
        if answer is not NotImplemented:
            self.rows, self.rowcount = (answer, len(answer)) if isinstance(answer, list) else ([], int(answer or 0))
            return
        if re.match(r"\s*(ALTER|CREATE|DROP|BEGIN|DECLARE|COMMIT|EXPLAIN|MERGE INTO image_search_schema)\b", statement):
            self.connection.commit()
            self.connection.database.define(self.connection.real, statement)
            return
        returned = next((name for name, value in binds.items() if isinstance(value, Returned)), "")
        values.pop(returned, None)
        try:
            if "FOR UPDATE" in statement and not self.connection.real.in_transaction:
                self.connection.real.execute("BEGIN IMMEDIATE")
            cursor = self.connection.real.execute(_translate(statement), values)
            rows = cursor.fetchall()
        except sqlite3.Error as error:
            raise _translate_error(error) from error
        if returned:
            [[binds[returned].number]] = rows
        names = [column[0] for column in cursor.description or ()]
        self.rows = [tuple(map(_as_fetched, names, row)) for row in rows]
        self.rowcount = max(cursor.rowcount, 0)

    def executemany(self, statement: str, rows: Sequence[dict[str, Any]]) -> None:
        assert rows, "the driver refuses an empty list"
        total = 0
        for row in rows:
            self.execute(statement, row)
            total += self.rowcount
        self.rowcount = total

    def fetchall(self) -> list[tuple[Any, ...]]:
        return list(self.rows)

    def _pass(self, name: str, value: Any) -> Any:
        """The value as the server receives it, after the driver's own check."""
        if value is None or isinstance(value, Returned):
            is_time = self.sizes.get(name) is oracledb.DB_TYPE_TIMESTAMP
            assert is_time or name != "upload_date", "a NULL is bound as text, which COALESCE refuses beside a time"
            return value
        if isinstance(value, datetime):
            assert self.sizes.get(name) is oracledb.DB_TYPE_TIMESTAMP, f"{name} would be bound as DATE"
        kind = _TYPES.get(type(value))
        assert kind is not None, f"{name} is a {type(value)}"
        size = max(4 * len(value), 1) if isinstance(value, (str, bytes)) else 0
        self.connection.driver.cursor().var(kind, size=size).setvalue(0, value)
        if isinstance(value, str):
            value.encode()  # half surrogate pairs cannot travel
            assert "\x00" not in value
            return value or None
        if isinstance(value, int) and value.bit_length() > 63:  # a NUMBER has 38 digits, a SQLite integer 18
            return str(value)
        if isinstance(value, array.array):
            assert value.typecode == "f"
            return value.tobytes()
        return value.isoformat(sep=" ", timespec="microseconds") if isinstance(value, datetime) else value


class Returned:
    """A variable of a RETURNING clause; the driver gives a list."""

    def __init__(self, kind: Any) -> None:
        assert kind is oracledb.DB_TYPE_NUMBER
        self.number = 0

    def getvalue(self) -> list[int]:
        return [self.number]


_MERGE = re.compile(
    r"MERGE INTO (?P<table>\w+) (?P<target>\w)\s+USING \((?P<source>.*)\) (?P<alias>\w)\s+ON \((?P<keys>.*?)\)"
    r"(?:\s+WHEN MATCHED THEN\s+UPDATE SET (?P<changes>.*?))?"
    r"\s+WHEN NOT MATCHED THEN\s+INSERT \((?P<columns>.*?)\) VALUES \((?P<values>.*?)\)",
    re.DOTALL,
)


def _translate_merge(statement: str) -> str:
    """MERGE as SQLite has it, from the statement's own words."""
    match = _MERGE.fullmatch(statement.strip())
    if match is None:
        return statement
    keys = ", ".join(re.findall(rf"\b{match['target']}\.(\w+) =", match["keys"]))
    changes = re.sub(rf"\b{match['target']}\.", "", match["changes"]) if match["changes"] else ""
    return (
        f"INSERT INTO {match['table']} ({match['columns']}) SELECT {match['values']} "
        f"FROM ({match['source']}) {match['alias']} WHERE true "
        f"ON CONFLICT ({keys}) DO {f'UPDATE SET {changes}' if changes else 'NOTHING'}"
    )


def _translate(statement: str) -> str:
    statement = _translate_merge(statement)
    for pattern, replacement in (
        (r"OFFSET (:\w+) ROWS FETCH NEXT (:\w+) ROWS ONLY", r"LIMIT \2 OFFSET \1"),
        (r"FETCH (?:APPROX )?FIRST (:?\w+) ROWS ONLY(?: WITH TARGET ACCURACY \d+)?", r"LIMIT \1"),
        (r"(RETURNING \w+) INTO :\w+", r"\1"),
        (r", DOT\)", ")"),
        (r"\bUPDATE (\w+) (\w)\s", r"UPDATE \1 AS \2 "),
        (r"\bDELETE FROM (\w+) (\w)\s", r"DELETE FROM \1 AS \2 "),
        (r"(\bSET|,)\s+\w\.(\w+) = ", r"\1 \2 = "),
        (
            r"JSON_ARRAYAGG\((\w)\.(\w+) ORDER BY (?:\w)\.(\w+)( DESC)? RETURNING CLOB\)\s+FROM (\w+) \1",
            r"json_group_array(\1.\2) FROM (SELECT * FROM \5 ORDER BY \3\4) \1",
        ),
        (r" FROM dual\b", ""),
        (r"SYS_EXTRACT_UTC\(SYSTIMESTAMP\)", "UTC_NOW()"),
        (r"FOR UPDATE", ""),
    ):
        statement = re.sub(pattern, replacement, statement)
    return statement


def _translate_schema(statement: str) -> str:
    if statement.startswith(("DECLARE", "BEGIN", "COMMIT")):
        return ""
    if statement.startswith("MERGE INTO image_search_schema"):
        return _translate(statement) + ";"
    identities = re.findall(r"(\w+) +NUMBER GENERATED BY DEFAULT ON NULL AS IDENTITY", statement)
    for pattern, replacement in (
        (r"NUMBER GENERATED BY DEFAULT ON NULL AS IDENTITY", "INTEGER PRIMARY KEY AUTOINCREMENT"),
        *((rf"CONSTRAINT \w+ PRIMARY KEY \({name}\),?\n", "") for name in identities),
        (r"(\w+) +VARCHAR2\((\d+) CHAR\)", r"\1 TEXT CHECK (length(\1) <= \2)"),
        (r"(\w+) +VARCHAR2\((\d+) BYTE\)", r"\1 TEXT CHECK (length(CAST(\1 AS BLOB)) <= \2)"),
        (r"(\w+) +RAW\((\d+)\)", r"\1 BLOB CHECK (length(\1) = \2)"),
        (r"VECTOR\(.*?\)", "BLOB"),
        (r"TIMESTAMP\(6\)", "TEXT"),
        (r"DEFAULT SYS_EXTRACT_UTC\(SYSTIMESTAMP\)", "DEFAULT (UTC_NOW())"),
        (r"(\w+) IS JSON", r"json_valid(\1)"),
        (r"CREATE OR REPLACE VIEW", "CREATE VIEW IF NOT EXISTS"),
    ):
        statement = re.sub(pattern, replacement, statement)
    return statement + ";"


def _translate_error(error: sqlite3.Error) -> oracledb.Error:
    for text, code in (
        ("UNIQUE", "ORA-00001"),
        ("FOREIGN KEY", "ORA-02291"),
        ("NOT NULL", "ORA-01400"),
        ("CHECK constraint failed: length", "ORA-12899"),
        ("CHECK", "ORA-02290"),
        ("locked", "ORA-00060"),
        ("no such table", "ORA-00942"),
        ("user-defined function", "ORA-51808"),  # of all that are here, distances of two dimensions
    ):
        if text in str(error):
            return make_error(code, str(error))
    raise error


def _as_fetched(name: str, value: Any) -> Any:
    if name in ("upload_date", "taken_at", "deleted_at") and value is not None:
        return datetime.fromisoformat(value)
    if name == "embedding":
        return array.array("f", value)
    return value


def _measure_distance(one: bytes, other: bytes) -> float:
    first, second = (np.frombuffer(vector, np.float32).astype(np.float64) for vector in (one, other))
    if len(first) != len(second):
        raise ValueError("ORA-51808")
    return float(-(first @ second))


def _measure_length(vector: bytes | None) -> float | None:
    return None if vector is None else float(np.linalg.norm(np.frombuffer(vector, np.float32)))


def contains(text: str, query: str, _: int) -> int:
    """Oracle Text as far as its manual promises: words whole or by their beginning, runs of Japanese anywhere."""
    tokens = re.findall(r"[a-z0-9]+", text)
    for term in query.split(" AND "):
        word = term.strip("{}%")
        if word.isascii():
            found = any(token == word or (term.endswith("%") and token.startswith(word)) for token in tokens)
        else:
            found = word in text
        if not found:
            return 0
    return 1
