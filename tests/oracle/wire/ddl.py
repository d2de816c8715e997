"""CREATE, ALTER and DROP: what they refuse, and what they make of the tables and of the rows in them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from dataclasses import replace

from tests.oracle.wire import definitions
from tests.oracle.wire.database import Database, translate_error
from tests.oracle.wire.definitions import Column, Index, Table, find_table, split_list
from tests.oracle.wire.dictionary import FILTERS, INDEX_TYPES, METRICS, STOPLISTS
from tests.oracle.wire.inference import Inference
from tests.oracle.wire.results import OracleError
from tests.oracle.wire.statements import parse, write, write_condition, write_default, write_key

Connection = sqlite3.Connection
Definer = Callable[[Database, Connection, "re.Match[str]"], None]


def define(database: Database, connection: Connection, sql: str) -> None:
    """Run one statement of one line. Raises OracleError."""
    for pattern, definer in _DEFINERS.items():
        if match := re.fullmatch(pattern, sql, re.IGNORECASE):
            definer(database, connection, match)
            return
    raise OracleError(900, f"invalid SQL statement: {sql}", is_mistake=True)


# --- tables and views ---


def _create_table(database: Database, connection: Connection, match: re.Match[str]) -> None:
    name = match["name"].upper()
    if _is_there(database, name, bool(match["guard"])):
        return
    table = definitions.parse_table(name, match["body"], database.has_long_strings)
    for constraint in definitions.iterate_keys(table, "R"):
        find_table({**database.tables, name: table}, constraint.parent)
    connection.execute(write_table(database, table))
    database.tables[name] = table


def write_table(database: Database, table: Table) -> str:
    """CREATE TABLE for SQLite: types as checks, named so that database.translate_error knows them."""
    parts = [_write_column(database, column) for column in table.columns.values()]
    for constraint in table.constraints.values():
        keys = ", ".join(constraint.columns)
        if constraint.kind in "PU":
            if not (constraint.kind == "P" and table.columns[constraint.columns[0]].identity):
                parts.append(f"UNIQUE ({keys})")
        elif constraint.kind == "C":
            condition = re.search(r"CHECK\s*(\(.*\))$", constraint.text, re.IGNORECASE)
            assert condition
            text = write_condition(condition[1], table, database.find_source)
            parts.append(f'CONSTRAINT "check {constraint.name}" CHECK ({text})')
        else:
            parent = {**database.tables, table.name: table}[constraint.parent]
            [key] = [other.columns for other in definitions.iterate_keys(parent, "P")]
            rule = f" ON DELETE {constraint.delete_rule}" if constraint.delete_rule != "NO ACTION" else ""
            parts.append(f"FOREIGN KEY ({keys}) REFERENCES {constraint.parent} ({', '.join(key)}){rule}")
    return f"CREATE TABLE {table.name} ({', '.join(parts)})"


def _write_column(database: Database, column: Column) -> str:
    if column.default is not None:
        write_default(column, database.find_source)  # judges its type; INSERT writes it out
    if column.identity:
        return f"{column.name} INTEGER PRIMARY KEY AUTOINCREMENT"
    name, checks = column.name, []
    if column.kind in ("VARCHAR2", "CHAR"):
        if column.unit == "CHAR":
            checks.append(f"length({name}) <= {column.length}")
        longest = min(column.longest_bytes, database.longest_string)
        checks.append(f"length(CAST({name} AS BLOB)) <= {longest}")
    elif column.kind == "RAW":
        checks.append(f"length({name}) <= {column.length}")
    label = "length"
    if column.precision is not None:
        label = "precision"
        checks.append(f"typeof({name}) = 'text' OR abs({name}) < 1e{column.precision - (column.scale or 0)}")
    if column.dimension is not None:
        label = "dimension"
        checks.append(f"length({name}) = {4 * column.dimension}")
    check = f' CONSTRAINT "{label} {name}" CHECK ({" AND ".join(checks)})' if checks else ""
    return f"{name}{'' if column.is_nullable else ' NOT NULL'}{check}"


def _create_view(database: Database, connection: Connection, match: re.Match[str]) -> None:
    name = match["name"].upper()
    if name in database.tables or (name in database.queries and not match["replace"]):
        raise OracleError(955, f"name {name} is already used by an existing object", is_mistake=True)
    tree = parse(match["query"])
    columns = Inference(database.find_source).infer_query(tree)
    if len({column for column, _ in columns}) < len(columns):
        raise OracleError(957, "duplicate column name", is_mistake=True)
    database.queries[name] = (write(tree), dict(columns))
    _make_views(database, connection)


def _make_views(database: Database, connection: Connection) -> None:
    for name, (sql, _) in database.queries.items():
        connection.execute(f"DROP VIEW IF EXISTS {name}")
        connection.execute(f"CREATE VIEW {name} AS {sql}")


def _drop_table(database: Database, connection: Connection, match: re.Match[str]) -> None:
    name = match["name"].upper()
    if name not in database.tables and match["guard"]:
        return
    find_table(database.tables, name)
    others = [table for table in database.tables.values() if table.name != name]
    keys = [(t, c) for t in others for c in definitions.iterate_keys(t, "R") if c.parent == name]
    if keys and "CASCADE CONSTRAINTS" not in match["rest"].upper():
        raise OracleError(2449, "unique/primary keys in table referenced by foreign keys")
    for table, constraint in keys:
        _rebuild(database, connection, replace(table, constraints=_without(table, constraint.name)))
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute(f"DROP TABLE {name}")
    connection.execute("PRAGMA foreign_keys = ON")
    del database.tables[name]
    database.indexes = {key: index for key, index in database.indexes.items() if index.table != name}


def _drop_view(database: Database, connection: Connection, match: re.Match[str]) -> None:
    name = match["name"].upper()
    if name not in database.queries:
        if match["guard"]:
            return
        raise OracleError(942, f"view {name} does not exist")
    del database.queries[name]
    connection.execute(f"DROP VIEW {name}")


def _truncate(database: Database, connection: Connection, match: re.Match[str]) -> None:
    connection.execute(f"DELETE FROM {find_table(database.tables, match['name']).name}")


# --- ALTER TABLE ---


def _alter_table(database: Database, connection: Connection, match: re.Match[str]) -> None:
    table = find_table(database.tables, match["name"])
    changed = Table(table.name, dict(table.columns), dict(table.constraints))
    verb, rest = match["verb"].upper(), match["rest"].strip()
    if verb == "ADD":
        for part in split_list(rest[1:-1]) if rest.startswith("(") else [rest]:
            definitions.add_part(changed, part, database.has_long_strings)
    elif verb == "MODIFY":
        for part in split_list(rest[1:-1]) if rest.startswith("(") else [rest]:
            _modify_column(database, changed, part)
    elif verb == "SET UNUSED":
        for name in split_list(rest[1:-1]):
            definitions.check_columns(changed, [name.upper()])
            del changed.columns[name.upper()]
            for index in [*database.indexes.values()]:  # an index on it goes with it
                if index.table == table.name and name.upper() in map(str.upper, index.keys):
                    del database.indexes[index.name]
    elif drop := re.fullmatch(r"CONSTRAINT (\w+)(?: CASCADE)?", rest, re.IGNORECASE):
        if drop[1].upper() not in changed.constraints:
            raise OracleError(2443, f"Cannot drop constraint {drop[1]} - nonexistent constraint", is_mistake=True)
        changed.constraints = _without(changed, drop[1].upper())
    elif drop := re.fullmatch(r"COLUMN (\w+)|\((\w+)\)", rest, re.IGNORECASE):
        name = (drop[1] or drop[2]).upper()
        definitions.check_columns(changed, [name])
        del changed.columns[name]
    else:
        raise OracleError(905, f"missing keyword: {match[0]}", is_mistake=True)
    _rebuild(database, connection, changed)


def _modify_column(database: Database, table: Table, text: str) -> None:
    name, _, change = text.partition(" ")
    name = name.upper()
    definitions.check_columns(table, [name])
    old = table.columns[name]
    for index in database.indexes.values():
        is_computed = index.table == table.name and index.kind.startswith("FUNCTION")
        if is_computed and re.search(rf"\b{name}\b", " ".join(index.keys), re.IGNORECASE):
            raise OracleError(30556, f"functional index {index.name} is defined on the column to be modified")
    has_type = re.match(r"[A-Z]\w*\s*\(|(?!DEFAULT|NOT|NULL)[A-Z]", change, re.IGNORECASE)
    if old.identity or (old.kind == "VECTOR" and has_type):
        raise OracleError(51859, f"column {name} cannot be modified", is_mistake=True)
    written = f"{name} {change}" if has_type else f"{name} {_write_type(old)} {change}"
    new, _ = definitions.parse_column(written, database.has_long_strings)
    if new.kind != old.kind:
        raise OracleError(1439, "column to be modified must be empty to change datatype", is_mistake=True)
    wants_mandatory, wants_optional = change.upper().endswith("NOT NULL"), bool(re.search(r"(?<!NOT )NULL$", change))
    if wants_mandatory and not old.is_nullable:
        raise OracleError(1442, "column to be modified to NOT NULL is already NOT NULL")
    if wants_optional and old.is_nullable:
        raise OracleError(1451, "column to be modified to NULL cannot be modified to NULL")
    default = new.default if new.default is not None else old.default
    is_nullable = wants_optional or (old.is_nullable and not wants_mandatory)
    table.columns[name] = replace(new, default=default, is_nullable=is_nullable)


def _write_type(column: Column) -> str:
    if column.kind in ("VARCHAR2", "CHAR", "RAW"):
        return f"{column.kind}({column.length}{'' if column.kind == 'RAW' else f' {column.unit}'})"
    if column.kind == "NUMBER" and column.precision is not None:
        return f"NUMBER({column.precision}, {column.scale})"
    return f"VECTOR({column.dimension or '*'}, {column.format})" if column.kind == "VECTOR" else column.kind


def _rebuild(database: Database, connection: Connection, table: Table) -> None:
    """Put the rows of a table into one of the new shape. Raises OracleError when they do not suit it."""
    old = database.tables[table.name]
    kept = [name for name in table.columns if name in old.columns]
    values = [*kept]
    for name, column in table.columns.items():
        if name not in old.columns:
            kept.append(name)
            values.append(write_default(column, database.find_source) if column.default else "NULL")
    for name in database.queries:
        connection.execute(f"DROP VIEW IF EXISTS {name}")
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("PRAGMA legacy_alter_table = ON")  # keys of other tables stay with the name
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(f"ALTER TABLE {table.name} RENAME TO the_old_one")
        connection.execute(write_table(database, table))
        rows = f"SELECT {', '.join(values)} FROM the_old_one"
        connection.execute(f"INSERT INTO {table.name} ({', '.join(kept)}) {rows}")
        connection.execute("DROP TABLE the_old_one")
        _check_parents(connection, table)
        for index in database.indexes.values():
            if index.table == table.name:
                _make_index(database, connection, index, table)
    except sqlite3.Error as error:
        connection.execute("ROLLBACK")
        raise _refuse_rows(error) from error
    except OracleError:
        connection.execute("ROLLBACK")
        raise
    else:
        connection.execute("COMMIT")
        database.tables[table.name] = table
    finally:
        connection.execute("PRAGMA foreign_keys = ON")
        _make_views(database, connection)


def _check_parents(connection: Connection, table: Table) -> None:
    if connection.execute(f"PRAGMA foreign_key_check ({table.name})").fetchone():
        raise OracleError(2298, f"cannot validate constraints of {table.name} - parent keys not found")


def _refuse_rows(error: sqlite3.Error) -> OracleError:
    numbers = {1: 2299, 1400: 2296, 2290: 2293, 12899: 12899, 1438: 1440}
    translated = translate_error(error)
    return OracleError(numbers.get(translated.number, translated.number), f"cannot change the table - {error}")


def _without(table: Table, constraint: str) -> dict[str, definitions.Constraint]:
    return {name: other for name, other in table.constraints.items() if name != constraint}


# --- indexes ---


def _create_index(database: Database, connection: Connection, match: re.Match[str]) -> None:
    if _is_there(database, match["name"].upper(), bool(match["guard"])):
        return
    index = definitions.parse_index(match, database.tables)
    if index.kind == "DOMAIN":
        _check_text_index(database, match["type"], index)
    else:
        _check_same_keys(database, index)
    try:
        _make_index(database, connection, index, database.tables[index.table])
    except sqlite3.IntegrityError as error:
        raise OracleError(1452, "cannot CREATE UNIQUE INDEX; duplicate keys found") from error
    database.indexes[index.name] = index


def _make_index(database: Database, connection: Connection, index: Index, table: Table) -> None:
    if index.kind in ("DOMAIN", "VECTOR"):
        return
    keys = ", ".join(write_key(key, table, database.find_source) for key in index.keys)
    connection.execute(f"CREATE {'UNIQUE ' if index.is_unique else ''}INDEX {index.name} ON {index.table} ({keys})")


def _check_same_keys(database: Database, index: Index) -> None:
    keys = tuple(" ".join(key.upper().split()) for key in index.keys)
    others = [
        other.keys for other in database.indexes.values() if other.table == index.table and other.kind != "DOMAIN"
    ]
    table = database.tables[index.table]
    others += [constraint.columns for kind in "PU" for constraint in definitions.iterate_keys(table, kind)]
    if keys in [tuple(" ".join(key.upper().split()) for key in other) for other in others]:
        raise OracleError(1408, "such column list already indexed", is_mistake=True)


def _check_text_index(database: Database, kind: str, index: Index) -> None:
    """Source: Oracle Text Reference 23ai, CREATE INDEX, "PARAMETERS"."""
    if not database.has_text:
        raise OracleError(29833, f"indextype does not exist: {kind}")
    if kind.upper() not in INDEX_TYPES:
        raise OracleError(29833, f"indextype does not exist: {kind}", is_mistake=True)
    rest = index.parameters.upper()
    for word, known in (("LEXER", set(database.preferences)), ("FILTER", FILTERS), ("STOPLIST", STOPLISTS)):
        match = re.search(rf"\b{word} ([\w.]+)", rest)
        if match and match[1] not in known:
            raise OracleError(29855, f"DRG-10700: preference does not exist: {match[1]}", is_mistake=True)
        rest = rest.replace(match[0], "") if match else rest
    rest = re.sub(r"SYNC \((ON COMMIT|MANUAL|EVERY .+?)\)|MAINTENANCE (AUTO|MANUAL)", "", rest)
    if rest.strip():
        raise OracleError(29855, f"DRG-11000: invalid keyword {rest.strip()}", is_mistake=True)


def _create_vector_index(database: Database, connection: Connection, match: re.Match[str]) -> None:
    if _is_there(database, match["name"].upper(), bool(match["guard"])):
        return
    table, column = find_table(database.tables, match["table"]), match["column"].upper()
    definitions.check_columns(table, [column])
    if table.columns[column].kind != "VECTOR" or match["metric"].upper() not in METRICS:
        raise OracleError(51901, f"no vector index can be made: {match[0]}", is_mistake=True)
    if match["accuracy"] and not 1 <= int(match["accuracy"]) <= 100:
        raise OracleError(51905, "TARGET ACCURACY is 1 to 100", is_mistake=True)
    sizes = connection.execute(f"SELECT COUNT(DISTINCT length({column})) FROM {table.name}").fetchone()
    if sizes[0] > 1:
        raise OracleError(51902, "cannot create vector index on column with varying dimensions")
    if any(i.kind == "VECTOR" and i.table == table.name for i in database.indexes.values()):
        raise OracleError(51900, "the column has a vector index already", is_mistake=True)
    is_graph = "GRAPH" in match["organization"].upper()
    subtype = "INMEMORY_NEIGHBOR_GRAPH_HNSW" if is_graph else "NEIGHBOR_PARTITIONS_IVF"
    name = match["name"].upper()
    database.indexes[name] = Index(
        name, table.name, (column,), "VECTOR", subtype=subtype, metric=match["metric"].upper()
    )


def _drop_index(database: Database, connection: Connection, match: re.Match[str]) -> None:
    name = match["name"] if match["quoted"] else match["name"].upper()
    index = database.indexes.get(name)
    if index is None:
        if match["guard"]:
            return
        raise OracleError(1418, f"specified index does not exist: {name}")
    if match["force"] and index.kind != "DOMAIN":
        raise OracleError(29815, "FORCE is for domain indexes", is_mistake=True)
    del database.indexes[name]
    connection.execute(f"DROP INDEX IF EXISTS {name}")


def _rebuild_index(database: Database, _: Connection, match: re.Match[str]) -> None:
    name = match["name"].upper()
    if name not in database.indexes:
        raise OracleError(1418, f"specified index does not exist: {name}")
    database.indexes[name] = replace(database.indexes[name], status="VALID")


def _do_nothing(*_: object) -> None:
    """Users and privileges: checked for their spelling only."""


def _is_there(database: Database, name: str, is_guarded: bool) -> bool:
    if name not in database.tables and name not in database.queries and name not in database.indexes:
        return False
    if not is_guarded:
        raise OracleError(955, f"name {name} is already used by an existing object", is_mistake=True)
    return True


_DEFINERS: dict[str, Definer] = {
    r"CREATE TABLE (?P<guard>IF NOT EXISTS )?(?P<name>\w+) ?\((?P<body>.*)\)": _create_table,
    r"CREATE (?P<replace>OR REPLACE )?VIEW (?P<name>\w+) AS (?P<query>SELECT .*)": _create_view,
    r"ALTER TABLE (?P<name>\w+) (?P<verb>ADD|MODIFY|DROP|SET UNUSED) ?(?P<rest>.*)": _alter_table,
    r"DROP TABLE (?P<guard>IF EXISTS )?(?P<name>\w+)(?P<rest>( CASCADE CONSTRAINTS)?( PURGE)?)": _drop_table,
    r"DROP VIEW (?P<guard>IF EXISTS )?(?P<name>\w+)": _drop_view,
    r"TRUNCATE TABLE (?P<name>\w+)": _truncate,
    definitions.ORDINARY_INDEX.pattern: _create_index,
    definitions.VECTOR_INDEX.pattern: _create_vector_index,
    r"DROP INDEX (?P<guard>IF EXISTS )?(?P<quoted>\"?)(?P<name>\w+)\"?(?P<force> FORCE)?": _drop_index,
    r"ALTER INDEX (?P<name>\w+) REBUILD( ONLINE)?": _rebuild_index,
    r"CREATE USER (IF NOT EXISTS )?\w+ IDENTIFIED BY \"[^\"]+\"": _do_nothing,
    r"ALTER USER \w+ DEFAULT TABLESPACE \w+ QUOTA UNLIMITED ON \w+": _do_nothing,
    r"GRANT [A-Z_, ]+ TO \w+": _do_nothing,
}
