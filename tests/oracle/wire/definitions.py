"""Tables, constraints, views and indexes, read from the text of DDL statements as they arrive.

Source: SQL Language Reference 23ai, CREATE TABLE, ALTER TABLE, CREATE INDEX, and "Data Types".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.oracle.wire.dictionary import DATA_TYPES, find_unknown_functions
from tests.oracle.wire.results import OracleError
from tests.oracle.wire.spelling import check_name

_LONGEST_RAW = {False: 2000, True: 32767}
_OPTION = re.compile(
    r"(?P<identity>GENERATED (?P<how>ALWAYS|BY DEFAULT(?: ON NULL)?) AS IDENTITY)"
    r"|(?P<mandatory>NOT NULL)|(?P<optional>NULL)\b"
    r"|DEFAULT (?P<default>.+?)(?= NOT NULL| CONSTRAINT | PRIMARY KEY| UNIQUE| CHECK |$)"
    r"|(?:CONSTRAINT (?P<name>\w+) )?(?P<constraint>PRIMARY KEY|UNIQUE|CHECK \(.+\)|REFERENCES .+)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Column:
    """length: of character types and RAW, in unit (CHAR or BYTE). precision: of NUMBER. dimension: of VECTOR."""

    name: str
    kind: str
    length: int | None = None
    unit: str = "BYTE"
    precision: int | None = None
    scale: int | None = None
    dimension: int | None = None
    format: str | None = None
    default: str | None = None
    is_nullable: bool = True
    identity: str = ""  # ALWAYS, BY DEFAULT or BY DEFAULT ON NULL

    @property
    def longest_bytes(self) -> int:
        """The most bytes a value takes; 4 a character in AL32UTF8."""
        return (self.length or 22) * (4 if self.unit == "CHAR" else 1)


@dataclass(frozen=True)
class Constraint:
    """kind: P, U, R or C as USER_CONSTRAINTS has it. columns: of the key. text: the whole definition."""

    name: str
    kind: str
    columns: tuple[str, ...]
    text: str
    parent: str = ""
    delete_rule: str = ""
    is_generated: bool = False


@dataclass
class Table:
    name: str
    columns: dict[str, Column] = field(default_factory=dict)
    constraints: dict[str, Constraint] = field(default_factory=dict)


@dataclass(frozen=True)
class Index:
    """kind: NORMAL, FUNCTION-BASED NORMAL, VECTOR or DOMAIN as USER_INDEXES has it. keys: expressions as written."""

    name: str
    table: str
    keys: tuple[str, ...]
    kind: str
    is_unique: bool = False
    subtype: str = ""
    metric: str = ""
    parameters: str = ""
    status: str = "VALID"


def split_list(text: str, separator: str = ",") -> list[str]:
    """The parts of a list, whose brackets and literals stay whole."""
    parts, depth, start = [], 0, 0
    for match in re.finditer(rf"'(?:[^']|'')*'|[()]|{re.escape(separator)}", text):
        if match[0] == separator and not depth:
            parts.append(text[start : match.start()].strip())
            start = match.end()
        depth += (match[0] == "(") - (match[0] == ")")
    if depth:
        raise OracleError(907, "missing right parenthesis", is_mistake=True)
    return [*parts, text[start:].strip()]


def parse_table(name: str, body: str, has_long_strings: bool) -> Table:
    """A table from what stands between the brackets of CREATE TABLE."""
    table = Table(name)
    for part in split_list(" ".join(body.split())):
        add_part(table, part, has_long_strings)
    return table


def add_part(table: Table, part: str, has_long_strings: bool) -> None:
    """Add one column or one constraint to a table."""
    if re.match(r"(CONSTRAINT|PRIMARY KEY|UNIQUE|CHECK|FOREIGN KEY)\b", part, re.IGNORECASE):
        constraint = parse_constraint(table, part)
        if constraint.name in table.constraints:
            raise OracleError(2264, f"name {constraint.name} already used by an existing constraint", is_mistake=True)
        table.constraints[constraint.name] = constraint
        return
    column, constraints = parse_column(part, has_long_strings)
    if column.name in table.columns:
        raise OracleError(1430, f"column {column.name} being added already exists in table", is_mistake=True)
    table.columns[column.name] = column
    for text in constraints:
        constraint = parse_constraint(table, _complete(text, column.name))
        table.constraints[constraint.name] = constraint


def parse_column(text: str, has_long_strings: bool) -> tuple[Column, list[str]]:
    """A column, and the constraints written beside it."""
    unknown = find_unknown_functions(text.partition(" ")[2])
    if unknown:
        raise OracleError(904, f"{unknown[0]}: invalid identifier", is_mistake=True)
    match = re.match(r"(\w+)\s+(\w+)(?:\s*\(([^)]*)\))?\s*(.*)$", text)
    if not match or match[2].upper() not in DATA_TYPES:
        raise OracleError(902, f"invalid datatype in {text}", is_mistake=True)
    check_name(match[1])
    column = _read_type(match[1].upper(), match[2].upper(), match[3] or "", has_long_strings)
    rest, constraints = match[4].strip(), []
    default, mandatory, identity = None, False, ""
    while rest:
        option = _OPTION.match(rest)
        if not option:
            raise OracleError(907, f"missing right parenthesis before {rest}", is_mistake=True)
        if option["default"]:
            default = option["default"]
        elif option["identity"]:
            identity, mandatory = option["how"].upper(), True
        elif option["mandatory"]:
            mandatory = True
        elif option["constraint"]:
            named = f"CONSTRAINT {option['name']} " if option["name"] else ""
            constraints.append(named + option["constraint"])
            mandatory = mandatory or option["constraint"].upper() == "PRIMARY KEY"
        rest = rest[option.end() :].strip()
    options = {"default": default, "is_nullable": not mandatory, "identity": identity}
    return Column(**{**vars(column), **options}), constraints


def parse_constraint(table: Table, text: str) -> Constraint:
    """A constraint as it stands in a table or behind ADD."""
    match = re.fullmatch(r"(?:CONSTRAINT (\w+) )?(PRIMARY KEY|UNIQUE|CHECK|FOREIGN KEY)\s*(\(.*)", text, re.IGNORECASE)
    if not match:
        raise OracleError(904, f"invalid identifier in {text}", is_mistake=True)
    kind = {"PRIMARY KEY": "P", "UNIQUE": "U", "CHECK": "C", "FOREIGN KEY": "R"}[match[2].upper()]
    name = match[1].upper() if match[1] else f"SYS_C{len(table.constraints) + 1:05}_{table.name}"
    columns: tuple[str, ...] = ()
    parent = rule = ""
    if kind != "C":
        columns = tuple(split_list(match[3][1 : match[3].index(")")].upper()))
        check_columns(table, columns)
    if kind == "R":
        reference = re.search(r"REFERENCES (\w+)(?: ?\((\w+)\))?(?: ON DELETE (CASCADE|SET NULL))?$", match[3], re.I)
        if not reference:
            raise OracleError(905, f"missing keyword in {text}", is_mistake=True)
        parent, rule = reference[1].upper(), (reference[3] or "NO ACTION").upper()
    for column in columns if kind in "PU" else ():
        if table.columns[column].kind in ("CLOB", "BLOB", "VECTOR"):
            raise OracleError(2329, f"column of datatype {table.columns[column].kind} cannot be a key", is_mistake=True)
    return Constraint(name, kind, columns, text, parent, rule, is_generated=not match[1])


def parse_index(match: re.Match[str], tables: dict[str, Table]) -> Index:
    """An ordinary or a domain index. match: of ORDINARY_INDEX."""
    table = find_table(tables, match["table"])
    keys = tuple(split_list(match["keys"]))
    kind = "NORMAL"
    longest = 0
    for key in keys:
        name = re.sub(r" (ASC|DESC)$", "", key, flags=re.IGNORECASE).upper()
        if re.fullmatch(r"\w+", name):
            check_columns(table, [name])
            if table.columns[name].kind in ("CLOB", "BLOB", "VECTOR") and not match["type"]:
                raise OracleError(2327, f"cannot create index on {table.columns[name].kind} column", is_mistake=True)
            longest += table.columns[name].longest_bytes
        if not re.fullmatch(r"\w+( ASC)?", key, re.IGNORECASE):
            kind = "FUNCTION-BASED NORMAL"
    if longest > 6398 and not match["type"]:  # a block of 8 KB
        raise OracleError(1450, "maximum key length (6398) exceeded", is_mistake=True)
    return Index(
        match["name"].upper(),
        table.name,
        keys,
        "DOMAIN" if match["type"] else kind,
        is_unique=bool(match["unique"]),
        parameters=(match["parameters"] or "").replace("''", "'"),
    )


ORDINARY_INDEX = re.compile(
    r"CREATE (?P<unique>UNIQUE )?INDEX (?P<guard>IF NOT EXISTS )?(?P<name>\w+)\s+ON (?P<table>\w+)\s*"
    r"\((?P<keys>.*?)\)(?: INDEXTYPE IS (?P<type>[\w.]+)(?:\s+PARAMETERS \('(?P<parameters>(?:[^']|'')*)'\))?)?",
    re.IGNORECASE,
)
# AI Vector Search User's Guide 23ai, "Inverted File Flat / Hierarchical Navigable Small World Index Syntax".
VECTOR_INDEX = re.compile(
    r"CREATE VECTOR INDEX (?P<guard>IF NOT EXISTS )?(?P<name>\w+) ON (?P<table>\w+) \((?P<column>\w+)\) "
    r"ORGANIZATION (?P<organization>(?:NEIGHBOR )?PARTITIONS|INMEMORY (?:NEIGHBOR )?GRAPH) "
    r"(?:WITH )?DISTANCE (?P<metric>\w+)(?: WITH TARGET ACCURACY (?P<accuracy>\d+)"
    r"(?: PARAMETERS \(TYPE (?:IVF, NEIGHBOR PARTITIONS \d+|HNSW, (?:NEIGHBORS|M) \d+, EFCONSTRUCTION \d+)\))?)?"
    r"(?: PARALLEL \d+)?",
    re.IGNORECASE,
)


def find_table(tables: dict[str, Table], name: str) -> Table:
    """Raises OracleError for a table that is not there."""
    if name.upper() not in tables:
        raise OracleError(942, f"table or view {name.upper()} does not exist")
    return tables[name.upper()]


def check_columns(table: Table, names: tuple[str, ...] | list[str]) -> None:
    """Raises OracleError for a column that the table has not."""
    for name in names:
        if name not in table.columns:
            raise OracleError(904, f"{table.name}.{name}: invalid identifier", is_mistake=True)


def iterate_keys(table: Table, kind: str) -> Iterator[Constraint]:
    yield from (constraint for constraint in table.constraints.values() if constraint.kind == kind)


def _read_type(name: str, kind: str, arguments: str, has_long_strings: bool) -> Column:
    parts = arguments.upper().split()
    if kind in ("VARCHAR2", "CHAR", "RAW"):
        length = int(parts[0]) if parts else 1
        longest = _LONGEST_RAW[has_long_strings] if kind == "RAW" else 32767 if has_long_strings else 4000
        if (kind != "CHAR" and not parts) or length > (2000 if kind == "CHAR" else longest):
            raise OracleError(910, f"specified length too long for its datatype: {name}", is_mistake=True)
        unit = parts[1] if len(parts) > 1 else "BYTE"  # NLS_LENGTH_SEMANTICS as it is on every new database
        return Column(name, kind, length=length, unit=unit)
    numbers = [part.strip() for part in arguments.split(",")] if arguments else []
    if kind == "VECTOR":
        dimension = numbers[0] if numbers else "*"
        form = numbers[1].upper() if len(numbers) > 1 else "*"
        if form not in ("*", "FLOAT32", "FLOAT64", "INT8", "BINARY"):
            raise OracleError(51801, f"VECTOR column type specification has an unsupported format {form}", True)
        return Column(name, kind, dimension=None if dimension == "*" else int(dimension), format=form)
    if kind == "NUMBER" and numbers:
        return Column(name, kind, precision=int(numbers[0]), scale=int(numbers[1]) if len(numbers) > 1 else 0)
    return Column(name, kind)


def _complete(text: str, column: str) -> str:
    # A constraint beside a column, as it would stand in the list of the table.
    head, text = (match[1], match[2]) if (match := re.match(r"(CONSTRAINT \w+ )(.*)", text, re.I)) else ("", text)
    if text.upper().startswith("REFERENCES"):
        return f"{head}FOREIGN KEY ({column}) {text}"
    return head + (text if text.upper().startswith("CHECK") else f"{text} ({column})")
