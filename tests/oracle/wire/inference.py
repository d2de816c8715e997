"""Names and types in a statement: what every column is, and where every bind goes.

Walks a statement as sqlglot parses it, resolves names against tables and dictionary views, and respells on the way what
SQLite says otherwise. A construct it does not know is a NotImplementedError: it has to be taught here, not let through.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlglot import exp

from tests.oracle.wire.definitions import Column
from tests.oracle.wire.dictionary import FUNCTIONS, HINTS, METRICS, QUERY_HINTS, USERENV
from tests.oracle.wire.results import OracleError

Use = Literal["store", "compare", "argument", "count"]

_TEXT = {"VARCHAR2", "CHAR", "LITERAL"}
_FAMILIES = {
    **dict.fromkeys(_TEXT, "text"),
    **dict.fromkeys(("NUMBER", "BINARY_DOUBLE"), "number"),
    **dict.fromkeys(("TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "DATE"), "time"),
}
_UNCOMPARABLE = {"CLOB", "BLOB", "VECTOR"}
_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Like)
_ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Div)
_PSEUDO_COLUMNS = {"ROWNUM": "NUMBER", "SQLCODE": "NUMBER"}

# Functions sqlglot has a class for: the name, and where it keeps the arguments.
_CLASSES: dict[type[exp.Expression], tuple[str, tuple[str, ...]]] = {
    exp.Abs: ("ABS", ("this",)),
    exp.Avg: ("AVG", ("this",)),
    exp.Coalesce: ("COALESCE", ("this", "expressions")),
    exp.Contains: ("CONTAINS", ("this", "expression", "json_scope")),
    exp.Count: ("COUNT", ("this",)),
    exp.Greatest: ("GREATEST", ("this", "expressions")),
    exp.Least: ("LEAST", ("this", "expressions")),
    exp.Length: ("LENGTH", ("this",)),
    exp.Lower: ("LOWER", ("this",)),
    exp.Max: ("MAX", ("this",)),
    exp.Min: ("MIN", ("this",)),
    exp.Nullif: ("NULLIF", ("this", "expression")),
    exp.StrPosition: ("INSTR", ("this", "substr", "position")),
    exp.Substring: ("SUBSTR", ("this", "start", "length")),
    exp.Sum: ("SUM", ("this",)),
    exp.Trim: ("TRIM", ("this",)),
    exp.Upper: ("UPPER", ("this",)),
    exp.RowNumber: ("ROW_NUMBER", ()),
    exp.ToChar: ("TO_CHAR", ("this", "format")),
}


@dataclass(frozen=True)
class Type:
    """kind: None for NULL and for binds. column: where the value comes from, if from one column."""

    kind: str | None
    bind: str = ""
    column: Column | None = None

    @property
    def family(self) -> str | None:
        return _FAMILIES.get(self.kind or "", self.kind)


@dataclass(frozen=True)
class Place:
    """Where a bind goes: what is done with it, the kind it meets there, and the column."""

    bind: str
    use: Use
    kind: str
    column: Column | None = None


Columns = dict[str, Type]


@dataclass
class Scope:
    """The columns that names can mean, by alias of their source; then those of the query around."""

    sources: dict[str, Columns]
    parent: Scope | None = None
    aliases: Columns = field(default_factory=dict)


@dataclass
class Inference:
    """One statement. find_source: columns of a table or view by name; raises OracleError."""

    find_source: Callable[[str], Columns]
    variables: dict[str, str] = field(default_factory=dict)  # of a PL/SQL block, with their kinds
    places: list[Place] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    named: dict[str, Columns] = field(default_factory=dict)  # queries of a WITH clause

    # --- queries ---

    def infer_query(self, node: exp.Expression, parent: Scope | None = None) -> list[tuple[str, Type]]:
        """Name and type of every column of a query."""
        node = node.unnest() if isinstance(node, (exp.Subquery, exp.Paren)) else node
        if isinstance(node, exp.SetOperation):
            columns = self.infer_query(node.this, parent)
            for (_, one), (_, other) in zip(columns, self.infer_query(node.expression, parent), strict=True):
                self._meet(one, other, "compare")
            return columns
        if not isinstance(node, exp.Select):
            raise NotImplementedError(f"{type(node).__name__}: {node.sql('oracle')}")
        scope = self._open_scope(node, parent)
        for condition in ("where", "having"):
            if clause := node.args.get(condition):
                self.infer_condition(clause.this, scope)
        if group := node.args.get("group"):
            for key in group.expressions:
                self._check_comparable(self.infer(key, scope))
        self._check_groups(node)
        columns = []
        for item in node.expressions:
            kind = self.infer(item.unalias(), scope)
            columns.append((item.alias_or_name.upper(), kind))
        if node.args.get("distinct"):
            for _, kind in columns:
                self._check_comparable(kind)
        scope.aliases = dict(columns)
        if order := node.args.get("order"):
            for key in order.expressions:
                self._check_comparable(self.infer(key.this, scope))
            order.append("expressions", exp.Ordered(this=exp.func("RANDOM")))  # rows that are equal come in any order
        self._check_limits(node, scope, [name for name, _ in columns])
        return columns

    def _open_scope(self, node: exp.Select, parent: Scope | None) -> Scope:
        scope = Scope({}, parent)
        if clause := node.args.get("with_"):
            for query in clause.expressions:
                self.named[query.alias.upper()] = dict(self.infer_query(query.this, parent))
        joins = node.args.get("joins") or []
        for source in [node.args["from_"].this, *(join.this for join in joins)]:
            self._add_source(source, scope)
        for join in joins:
            if on := join.args.get("on"):
                self.infer_condition(on, scope)
            elif join.kind != "CROSS":
                raise NotImplementedError("a join without ON")
        self._check_hint(node, scope)
        return scope

    def _add_source(self, source: exp.Expression, scope: Scope) -> None:
        if isinstance(source, exp.Table):
            name = source.name.upper()
            if name in self.named:
                columns = self.named[name]
            else:
                columns = self.find_source(name)
                self.read.add(name)
            alias = source.alias.upper() or name
        elif isinstance(source, exp.Subquery):
            columns, alias = dict(self.infer_query(source.this, scope.parent)), source.alias.upper()
        else:
            raise NotImplementedError(f"a source {source.sql('oracle')}")
        scope.sources[alias] = columns

    def _check_groups(self, node: exp.Select) -> None:
        """Whatever is selected beside a count or sum has to be in GROUP BY; SQLite would pick any row's."""
        items = [item.unalias() for item in node.expressions]
        group = node.args.get("group")
        if not group and not any(isinstance(part, exp.AggFunc) for item in items for part in _walk_level(item)):
            return
        keys = {key.sql("oracle").upper() for key in (group.expressions if group else ())}
        for item in items:
            for column in _walk_level(item):
                is_free = isinstance(column, exp.Column) and not column.find_ancestor(exp.AggFunc)
                if is_free and not {column.sql("oracle").upper(), item.sql("oracle").upper()} & keys:
                    raise OracleError(979, f"{column.sql('oracle')}: not a GROUP BY expression", is_mistake=True)

    def _check_hint(self, node: exp.Select, scope: Scope) -> None:
        hint = node.args.get("hint")
        parts = hint.expressions if hint else []  # sqlglot reads some hints and leaves others as text
        text = " ".join(part if isinstance(part, str) else part.sql("oracle") for part in parts)
        for name, arguments in re.findall(r"(\w+)(?:\(([^)]*)\))?", text):
            if name.upper() in QUERY_HINTS and not arguments:
                continue
            # Of a table inside a view: the alias of the view, a point, the alias in it.
            alias = re.split(r"[.\s,]", arguments.strip())[0].upper()
            if name.upper() not in HINTS or alias not in scope.sources:
                raise OracleError(904, f"a hint Oracle would ignore: {name}({arguments})", is_mistake=True)
        node.set("hint", None)

    def _check_limits(self, node: exp.Select, scope: Scope, names: list[str]) -> None:
        limit, offset = node.args.get("limit"), node.args.get("offset")
        if limit is not None and not isinstance(limit, exp.Fetch):
            raise OracleError(933, "SQL command not properly ended: LIMIT", is_mistake=True)
        for count in (limit and limit.args.get("count"), offset and offset.expression):
            if count is not None:
                self._expect(self.infer(count, scope), "NUMBER", "count")
        if limit is not None and len(set(names)) < len(names):
            raise OracleError(918, "column ambiguously defined: two of a name under a row limit", is_mistake=True)
        if node.args.get("locks") and (limit or node.args.get("group") or node.args.get("distinct")):
            raise OracleError(2014, "cannot select FOR UPDATE from a query with a row limit or groups", is_mistake=True)
        node.set("locks", None)

    # --- conditions and expressions ---

    def infer_condition(self, node: exp.Expression, scope: Scope) -> None:
        """A condition; its parts are compared with one another."""
        if isinstance(node, (exp.Paren, exp.Not)):
            self.infer_condition(node.this, scope)
        elif isinstance(node, exp.Connector):
            self.infer_condition(node.this, scope)
            self.infer_condition(node.expression, scope)
        elif isinstance(node, _COMPARISONS):
            self._compare(node.this, node.expression, scope)
        elif isinstance(node, exp.In):
            others = node.expressions or [node.args["query"]]
            if len(others) > 65535:
                raise OracleError(1795, "too many expressions in a list", is_mistake=True)
            for other in others:
                self._compare(node.this, other, scope)
        elif isinstance(node, exp.Between):
            self._compare(node.this, node.args["low"], scope)
            self._compare(node.this, node.args["high"], scope)
        elif isinstance(node, exp.Exists):
            self.infer_query(node.this, scope)
        elif isinstance(node, exp.Is):
            kind = self.infer(node.this, scope)
            if isinstance(node.expression, exp.JSON):
                if kind.family not in ("text", "CLOB", "BLOB"):
                    raise OracleError(40449, f"invalid data type for IS JSON: {kind.kind}", is_mistake=True)
                node.replace(exp.func("JSON_VALID", node.this))
        else:
            raise NotImplementedError(f"a condition {node.sql('oracle')}")

    def infer(self, node: exp.Expression, scope: Scope) -> Type:
        """The type of an expression."""
        for kind, infer in _INFERRERS.items():
            if isinstance(node, kind):
                return infer(self, node, scope)
        return self._infer_function(node, scope)

    def _infer_placeholder(self, node: exp.Placeholder, _: Scope) -> Type:
        return Type(None, bind=node.name.lower())

    def _infer_literal(self, node: exp.Literal, _: Scope) -> Type:
        if node.is_string and node.this == "":  # is NULL
            node.replace(exp.null())
            return Type(None)
        return Type("LITERAL" if node.is_string else "NUMBER")

    def _infer_null(self, *_: object) -> Type:
        return Type(None)

    def _infer_inner(self, node: exp.Expression, scope: Scope) -> Type:
        return self.infer(node.this, scope)

    def _infer_distinct(self, node: exp.Distinct, scope: Scope) -> Type:
        [value] = node.expressions
        kind = self.infer(value, scope)
        self._check_comparable(kind)
        return kind

    def _infer_star(self, *_: object) -> Type:
        return Type("NUMBER")  # of COUNT(*): anywhere else a column list has to be written out

    def _infer_scalar(self, node: exp.Expression, scope: Scope) -> Type:
        return self.infer_query(node, scope)[0][1]

    def _infer_sum(self, node: exp.Binary, scope: Scope) -> Type:
        for side in (node.this, node.expression):
            self._expect(self.infer(side, scope), "NUMBER", "argument")
        return Type("NUMBER")

    def _infer_concatenation(self, node: exp.DPipe, scope: Scope) -> Type:
        for side in (node.this, node.expression):
            self._expect(self.infer(side, scope), "ANY", "argument")
        node.replace(exp.func("ORA_CONCAT", node.this, node.expression))
        return Type("VARCHAR2")

    def _infer_time(self, node: exp.Expression, _: Scope) -> Type:
        node.replace(exp.func("ORA_SYSTIMESTAMP"))
        # The zone of the session is what the original application stored: it is let through, and is 9 hours off.
        return Type("TIMESTAMP WITH TIME ZONE" if isinstance(node, exp.Systimestamp) else "TIMESTAMP")

    def _infer_window(self, node: exp.Window, scope: Scope) -> Type:
        order = node.args.get("order")
        keys = [*(node.args.get("partition_by") or ()), *(key.this for key in (order.expressions if order else ()))]
        for key in keys:
            self._check_comparable(self.infer(key, scope))
        return self.infer(node.this, scope)

    def _infer_json_array(self, node: exp.JSONArrayAgg, scope: Scope) -> Type:
        """JSON_ARRAYAGG(value ORDER BY key RETURNING CLOB) of one table; SQLite takes the order of the rows."""
        order, query = node.args.get("order"), node.find_ancestor(exp.Select)
        self._expect(self.infer(node.this, scope), "VARCHAR2", "argument")
        if order is not None and query is not None:
            for key in order.expressions:
                self._check_comparable(self.infer(key.this, scope))
            source = query.args["from_"].this
            rows = exp.select("*").from_(source.copy()).order_by(*(key.copy() for key in order.expressions))
            source.replace(rows.subquery(source.alias))
        node.replace(exp.func("JSON_GROUP_ARRAY", node.this))
        return Type("CLOB")

    def _infer_case(self, node: exp.Case, scope: Scope) -> Type:
        results = []
        for branch in node.args["ifs"]:
            if node.this:
                self._compare(node.this, branch.this, scope)
            else:
                self.infer_condition(branch.this, scope)
            results.append(self.infer(branch.args["true"], scope))
        if default := node.args.get("default"):
            results.append(self.infer(default, scope))
        return self._unite(results, "argument")

    def _infer_function(self, node: exp.Expression, scope: Scope) -> Type:
        if isinstance(node, exp.Anonymous):
            name, arguments = node.name.upper(), node.expressions
        elif type(node) in _CLASSES:
            name, keys = _CLASSES[type(node)]
            values: list[Any] = [node.args.get(key) for key in keys]
            arguments = [part for value in values for part in (value if isinstance(value, list) else [value]) if part]
        else:
            raise NotImplementedError(f"{type(node).__name__}: {node.sql('oracle')}")
        if name not in FUNCTIONS:
            raise OracleError(904, f"{name}: invalid identifier", is_mistake=True)
        function = FUNCTIONS[name]
        expected = list(function.arguments)
        if expected and expected[-1].endswith("*"):
            expected = [expected[-1].rstrip("*")] * len(arguments)
        if len(arguments) > len(expected):
            raise OracleError(939, f"too many arguments for {name}", is_mistake=True)
        if name == "VECTOR_DISTANCE":
            return self._infer_distance(node, arguments, scope)
        if name == "SYS_CONTEXT" and arguments[1].name.upper() not in USERENV:
            raise OracleError(2003, f"invalid USERENV parameter {arguments[1].name}", is_mistake=True)
        kinds = [self.infer(argument, scope) for argument in arguments]
        for kind, wanted in zip(kinds, expected, strict=False):
            if wanted != "SAME":
                self._expect(kind, wanted, "argument")
        result = self._unite(kinds, "argument") if "SAME" in expected else kinds[0] if kinds else Type("NUMBER")
        if function.result != "?":
            return Type(function.result)
        return Type("VARCHAR2" if result.kind == "LITERAL" else result.kind)

    def _infer_distance(self, node: exp.Expression, arguments: list[exp.Expression], scope: Scope) -> Type:
        if len(arguments) != 3 or arguments[2].name.upper() not in METRICS:
            raise OracleError(904, f"invalid metric in {node.sql('oracle')}", is_mistake=True)
        first, second = (self.infer(vector, scope) for vector in arguments[:2])
        for vector in (first, second):
            if not vector.bind:
                self._expect(vector, "VECTOR", "argument")
        self._meet(first, second, "argument")
        node.replace(exp.func(f"VECTOR_DISTANCE_{arguments[2].name.upper()}", *arguments[:2]))
        return Type("BINARY_DOUBLE")

    def _resolve(self, node: exp.Column, scope: Scope) -> Type:
        name, qualifier = node.name.upper(), node.table.upper()
        around: Scope | None = scope
        while around is not None:
            sources = [columns for alias, columns in around.sources.items() if qualifier in ("", alias)]
            found = [columns[name] for columns in sources if name in columns]
            if len(found) > 1:
                raise OracleError(918, f"{name}: column ambiguously specified", is_mistake=True)
            if found:
                return found[0]
            if not qualifier and name in around.aliases:
                return around.aliases[name]
            around = around.parent
        if not qualifier and name in self.variables:
            node.replace(exp.Placeholder(this=f"plsql_{name.lower()}"))
            return Type(self.variables[name])
        if not qualifier and name in _PSEUDO_COLUMNS:
            return Type(_PSEUDO_COLUMNS[name])
        raise OracleError(904, f"{node.sql('oracle')}: invalid identifier", is_mistake=True)

    # --- how types meet ---

    def store(self, column: Column, value: exp.Expression, scope: Scope) -> None:
        """A value that is written into a column."""
        kind = self.infer(value, scope)
        if kind.bind:
            self.places.append(Place(kind.bind, "store", column.kind, column))
        elif kind.kind is not None and not _fits(column.kind, kind):
            raise OracleError(
                932, f"inconsistent datatypes: {column.name} is {column.kind}, got {kind.kind}", is_mistake=True
            )
        if column.kind == "VECTOR" and kind.family == "text":
            value.replace(exp.func("TO_VECTOR", value.copy()))
        if column.kind == "CHAR":  # filled up with blanks to its length
            value.replace(exp.func("ORA_PAD", value.copy(), exp.Literal.number(column.length or 1)))

    def _compare(self, one: exp.Expression, other: exp.Expression, scope: Scope) -> None:
        first, second = self.infer(one, scope), self.infer(other, scope)
        self._check_comparable(first)
        self._check_comparable(second)
        self._meet(first, second, "compare")
        _pad_literal(one, second)
        _pad_literal(other, first)

    def _meet(self, one: Type, other: Type, use: Use) -> None:
        for kind, against in ((one, other), (other, one)):
            if kind.bind and against.kind:
                self.places.append(Place(kind.bind, use, against.kind, against.column))
        if one.family and other.family and one.family != other.family:
            raise OracleError(932, f"inconsistent datatypes: {one.kind} and {other.kind}", is_mistake=True)

    def _unite(self, kinds: Iterable[Type], use: Use) -> Type:
        types = list(kinds)
        known = next((kind for kind in types if kind.kind), Type(None))
        for kind in types:
            self._meet(known, kind, use)
        return known

    def _expect(self, given: Type, wanted: str, use: Use) -> None:
        if given.bind:
            if wanted == "ANY":
                raise OracleError(932, f":{given.bind} has no type of its own here", is_mistake=True)
            self.places.append(Place(given.bind, use, "VARCHAR2" if wanted == "TEXT" else wanted))
            return
        is_right = (
            wanted == "ANY"
            or given.family is None
            or given.family == _FAMILIES.get(wanted, wanted)
            or (wanted == "TEXT" and given.family in ("text", "CLOB"))
        )
        if not is_right:
            raise OracleError(932, f"inconsistent datatypes: expected {wanted} got {given.kind}", is_mistake=True)

    def _check_comparable(self, kind: Type) -> None:
        if kind.kind in _UNCOMPARABLE:
            raise OracleError(932, f"inconsistent datatypes: {kind.kind} in a comparison or order", is_mistake=True)


def _walk_level(node: exp.Expression) -> Iterator[exp.Expression]:
    """The parts of an expression without those of queries in it, and without the frames of window functions."""
    if not isinstance(node, (exp.Query, exp.Window)):
        yield node
        for child in node.iter_expressions():
            yield from _walk_level(child)


def _fits(wanted: str, given: Type) -> bool:
    """Whether a value may be stored without a conversion that depends on the session or loses something."""
    if wanted in ("CLOB", "VECTOR") and given.family == "text":
        return True
    if wanted == "BLOB" and given.kind == "RAW":
        return True
    if wanted in ("TIMESTAMP", "DATE") and given.family == "time" and given.kind != wanted:
        return False  # the time of the server's zone would be written, or no fraction of a second
    return given.family == _FAMILIES.get(wanted, wanted)


def _pad_literal(node: exp.Expression, against: Type) -> None:
    # A literal is a CHAR: it is compared with a CHAR column as if both were of one length. A bind is not.
    column = against.column
    if isinstance(node, exp.Literal) and node.is_string and column and column.kind == "CHAR":
        node.set("this", node.this.ljust(column.length or 1))


_INFERRERS: dict[type[exp.Expression], Callable[..., Type]] = {
    exp.Column: Inference._resolve,
    exp.Placeholder: Inference._infer_placeholder,
    exp.Literal: Inference._infer_literal,
    exp.Null: Inference._infer_null,
    exp.Paren: Inference._infer_inner,
    exp.Neg: Inference._infer_inner,
    exp.Subquery: Inference._infer_scalar,
    exp.Select: Inference._infer_scalar,
    **dict.fromkeys(_ARITHMETIC, Inference._infer_sum),
    exp.DPipe: Inference._infer_concatenation,
    exp.Case: Inference._infer_case,
    exp.JSONArrayAgg: Inference._infer_json_array,
    exp.Systimestamp: Inference._infer_time,
    exp.CurrentTimestamp: Inference._infer_time,
    exp.Window: Inference._infer_window,
    exp.Star: Inference._infer_star,
    exp.Distinct: Inference._infer_distinct,
}
