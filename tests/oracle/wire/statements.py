"""A query, INSERT, UPDATE, DELETE or MERGE as SQLite runs it, made from its own text and judged on the way."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import sqlglot
from sqlglot import exp

from tests.oracle.wire.definitions import Column, Table, check_columns
from tests.oracle.wire.inference import Columns, Inference, Place, Scope, Type
from tests.oracle.wire.results import OracleError, list_places
from tests.oracle.wire.spelling import check_spelling

# Additions of 23ai to the row limit; sqlglot knows the rest.
_APPROXIMATE = re.compile(r"\bFETCH APPROX(?:IMATE)? (?=FIRST|NEXT)", re.IGNORECASE)
_ACCURACY = re.compile(r"(\bROWS ONLY)\s+WITH TARGET ACCURACY \d+", re.IGNORECASE)


@dataclass(frozen=True)
class Statement:
    """parts: what SQLite runs, one after another. reads, writes, locks: names of tables.

    is_ordered: a query that says in which order its rows come; a join does not keep the order of what it joins.
    is_approximate: a search that asks for the vector index, in the shape in which the optimizer considers it.
    """

    parts: tuple[str, ...]
    places: tuple[Place, ...]
    columns: tuple[tuple[str, Type], ...] = ()
    reads: frozenset[str] = frozenset()
    writes: str = ""
    locks: bool = False
    is_returning: bool = False
    is_ordered: bool = False
    is_approximate: bool = False
    metric: str = ""
    order: tuple[str, ...] = field(default=())  # names of binds in the text, once for every place


def prepare(
    sql: str,
    tables: dict[str, Table],
    find_source: Callable[[str], Columns],
    variables: dict[str, str] | None = None,
) -> Statement:
    """Raises OracleError for what Oracle refuses, and for what it would convert in silence."""
    check_spelling(sql)
    tree = parse(sql)
    inference = Inference(find_source, variables or {})
    if isinstance(tree, exp.Query):
        statement = _prepare_query(sql, tree, inference)
    else:
        kinds = {exp.Insert: _prepare_insert, exp.Update: _prepare_update, exp.Delete: _prepare_delete}
        kinds[exp.Merge] = _prepare_merge
        if type(tree) not in kinds:
            raise NotImplementedError(sql)
        statement = kinds[type(tree)](tree, inference, tables)
    order = tuple(list_places(sql))
    returned = order[-1:] if statement.is_returning else ()
    unplaced = set(order) - {place.bind for place in inference.places} - set(returned)
    if unplaced:
        raise OracleError(932, f"no type is known for :{', :'.join(sorted(unplaced))}", is_mistake=True)
    reads = frozenset(inference.read)
    return Statement(**{**vars(statement), "places": tuple(inference.places), "order": order, "reads": reads})


def parse(sql: str) -> exp.Expression:
    """The tree of a statement. Raises OracleError where it cannot be read."""
    try:
        return sqlglot.parse_one(_ACCURACY.sub(r"\1", _APPROXIMATE.sub("FETCH ", sql)), dialect="oracle")
    except sqlglot.errors.ParseError as error:
        raise OracleError(900, f"invalid SQL statement: {error}", is_mistake=True) from error


def write(tree: exp.Expression) -> str:
    """A tree as SQLite wants it. Raises where SQLite cannot say the same."""
    return tree.sql(dialect="sqlite", identify=True, unsupported_level=sqlglot.ErrorLevel.RAISE)


def _prepare_query(sql: str, tree: exp.Query, inference: Inference) -> Statement:
    locks = bool(tree.args.get("locks"))
    metric = _find_index_shape(tree) if _APPROXIMATE.search(sql) else ""
    is_ordered = tree.args.get("order") is not None
    columns = tuple(inference.infer_query(tree))
    return Statement(
        (write(tree),),
        (),
        columns,
        locks=locks,
        is_ordered=is_ordered,
        is_approximate=bool(_APPROXIMATE.search(sql)),
        metric=metric,
    )


def _find_index_shape(tree: exp.Query) -> str:
    """The metric of a search that may use a vector index. Raises OracleError for another shape.

    Source: AI Vector Search User's Guide 23ai, "Approximate Search Using ..."; SQL Language Reference 23ai, SELECT,
    "Rules for an Approximate Vector Search": one table, the bare distance first in the order, ascending.
    """
    for query in tree.find_all(exp.Select):
        order, limit = query.args.get("order"), query.args.get("limit")
        if not order or not limit:
            continue
        first = order.expressions[0]
        named = {item.alias: item.this for item in query.expressions if isinstance(item, exp.Alias)}
        distance = named.get(first.this.name, first.this)
        is_bare = isinstance(distance, exp.Anonymous) and distance.name.upper() == "VECTOR_DISTANCE"
        if is_bare and not query.args.get("joins") and not first.args.get("desc"):
            return str(distance.expressions[2].name.upper())
    raise OracleError(0, "an approximate search of a shape that no vector index answers", is_mistake=True)


def _prepare_insert(tree: exp.Insert, inference: Inference, tables: dict[str, Table]) -> Statement:
    if not isinstance(tree.this, exp.Schema):
        raise OracleError(947, "INSERT without a list of columns breaks with the next column", is_mistake=True)
    table = _find_target(tables, tree.this.this)
    names = [column.name.upper() for column in tree.this.expressions]
    values = tree.expression
    if isinstance(values, exp.Values):
        [row] = values.expressions
        _store_all(inference, table, names, row.expressions, Scope({}))
        names = _add_defaults(table, names, row, inference)
    else:
        _store_query(inference, table, names, values)
    tree.this.set("expressions", [exp.to_identifier(name) for name in names])
    is_returning = _strip_returning(tree, table, inference)
    return Statement((write(tree),), (), writes=table.name, is_returning=is_returning)


def _prepare_update(tree: exp.Update, inference: Inference, tables: dict[str, Table]) -> Statement:
    table = _find_target(tables, tree.this)
    scope = Scope({tree.this.alias_or_name.upper(): _type_columns(table)})
    for setting in tree.expressions:
        check_columns(table, [setting.this.name.upper()])
        inference.store(table.columns[setting.this.name.upper()], setting.expression, scope)
        setting.set("this", exp.column(setting.this.name))
    if where := tree.args.get("where"):
        inference.infer_condition(where.this, scope)
    return Statement((write(tree),), (), writes=table.name)


def _prepare_delete(tree: exp.Delete, inference: Inference, tables: dict[str, Table]) -> Statement:
    table = _find_target(tables, tree.this)
    scope = Scope({tree.this.alias_or_name.upper(): _type_columns(table)})
    where = tree.args.get("where")
    if where:
        inference.infer_condition(where.this, scope)
        limit = _take_row_limit(where)
        if limit:
            inner = exp.select("rowid").from_(tree.this.copy())
            if tree.args.get("where"):
                inner = inner.where(where.this)
            tree.set("where", exp.Where(this=exp.In(this=exp.column("rowid"), query=inner.limit(limit).subquery())))
    is_returning = _strip_returning(tree, table, inference)
    return Statement((write(tree),), (), writes=table.name, is_returning=is_returning)


def _take_row_limit(where: exp.Where) -> exp.Expression | None:
    """The count of ROWNUM <= count, taken out of a condition: SQLite has a LIMIT instead."""
    for comparison in where.find_all(exp.LTE):
        if comparison.this.name.upper() == "ROWNUM":
            comparison.replace(exp.true())
            return comparison.expression
    return None


def _prepare_merge(tree: exp.Merge, inference: Inference, tables: dict[str, Table]) -> Statement:
    """An UPDATE of the rows that match and an INSERT of the others, both from the text of the MERGE."""
    table = _find_target(tables, tree.this)
    using, alias = tree.args["using"], tree.this.alias_or_name
    scope = Scope({alias.upper(): _type_columns(table)})
    inference._add_source(using, scope)
    inference.infer_condition(tree.args["on"], scope)
    condition = tree.args["on"].unnest()
    keys = {column.name.upper() for column in condition.find_all(exp.Column) if column.table == alias}
    parts = []
    for when in tree.args["whens"].expressions:
        action = when.args["then"]
        if when.args["matched"] and isinstance(action, exp.Update):
            for setting in action.expressions:
                name = setting.this.name.upper()
                check_columns(table, [name])
                if name in keys:
                    raise OracleError(38104, f"columns referenced in the ON clause cannot be updated: {name}", True)
                inference.store(table.columns[name], setting.expression, scope)
            settings = [exp.EQ(this=exp.column(s.this.name), expression=s.expression) for s in action.expressions]
            update = exp.Update(this=tree.this.copy(), expressions=settings, where=exp.Where(this=condition.copy()))
            update.set("from_", exp.From(this=using.copy()))
            parts.insert(0, write(update))
        elif not when.args["matched"] and isinstance(action, exp.Insert):
            names = [column.name.upper() for column in action.this.expressions]
            source = Scope({name: columns for name, columns in scope.sources.items() if name != alias.upper()})
            _store_all(inference, table, names, action.expression.expressions, source)
            row = exp.Tuple(expressions=list(action.expression.expressions))
            names = _add_defaults(table, names, row, inference)
            there = exp.select("1").from_(tree.this.copy()).where(condition.copy())
            rows = exp.select(*row.expressions).from_(using.copy()).where(exp.not_(exp.Exists(this=there)))
            parts.append(write(exp.insert(rows, table.name, columns=names)))
        else:
            raise NotImplementedError(tree.sql("oracle"))
    return Statement(tuple(parts), (), writes=table.name)


# --- what they share ---


def _find_target(tables: dict[str, Table], node: exp.Expression) -> Table:
    name = node.name.upper()
    if name not in tables:
        raise OracleError(942, f"table or view {name} does not exist")
    return tables[name]


def _type_columns(table: Table) -> Columns:
    return {name: Type(column.kind, column=column) for name, column in table.columns.items()}


def _store_all(
    inference: Inference, table: Table, names: list[str], values: list[exp.Expression], scope: Scope
) -> None:
    check_columns(table, names)
    if len(names) != len(values):
        raise OracleError(913 if len(values) > len(names) else 947, "as many values as columns, please", True)
    if len(set(names)) < len(names):
        raise OracleError(957, "duplicate column name", is_mistake=True)
    for name, value in zip(names, values, strict=True):
        if table.columns[name].identity == "ALWAYS":
            raise OracleError(32795, "cannot insert into a generated always identity column", is_mistake=True)
        inference.store(table.columns[name], value, scope)


def _store_query(inference: Inference, table: Table, names: list[str], query: exp.Expression) -> None:
    check_columns(table, names)
    columns = inference.infer_query(query)
    if len(columns) != len(names):
        raise OracleError(947, "as many values as columns, please", is_mistake=True)
    for name, (_, kind) in zip(names, columns, strict=True):
        inference._meet(Type(table.columns[name].kind), kind, "store")


def _add_defaults(table: Table, names: list[str], row: exp.Tuple, inference: Inference) -> list[str]:
    """Defaults of the columns that were left out, written into the values. Returns all names."""
    added = [column for column in table.columns.values() if column.default is not None and column.name not in names]
    for column in added:
        row.append("expressions", parse_expression(column.default or ""))
        inference.store(column, row.expressions[-1], Scope({}))
    return [*names, *(column.name for column in added)]


def parse_expression(text: str) -> exp.Expression:
    return sqlglot.parse_one(text, dialect="oracle")


def write_condition(text: str, table: Table, find_source: Callable[[str], Columns]) -> str:
    """A condition of a CHECK constraint, as SQLite wants it."""
    holder = exp.Where(this=parse_expression(text))
    Inference(find_source).infer_condition(holder.this, Scope({table.name: _type_columns(table)}))
    return write(holder.this)


def write_key(text: str, table: Table, find_source: Callable[[str], Columns]) -> str:
    """An expression that is indexed, as SQLite wants it."""
    match = re.fullmatch(r"(.*?)( ASC| DESC)?", text, re.IGNORECASE | re.DOTALL)
    assert match
    holder = exp.Paren(this=parse_expression(match[1]))
    Inference(find_source).infer(holder.this, Scope({table.name: _type_columns(table)}))
    return write(holder.this) + (match[2] or "")


def write_default(column: Column, find_source: Callable[[str], Columns]) -> str:
    """The default of a column, as SQLite wants it; its type is judged."""
    holder = exp.Paren(this=parse_expression(column.default or "NULL"))
    Inference(find_source).store(column, holder.this, Scope({}))
    return write(holder.this)


def _strip_returning(tree: exp.Expression, table: Table, inference: Inference) -> bool:
    returning = tree.args.get("returning")
    if not returning:
        return False
    scope = Scope({table.name: _type_columns(table)})
    for item in returning.expressions:
        inference.infer(item, scope)
    if not returning.args.get("into"):
        raise OracleError(925, "missing INTO keyword", is_mistake=True)
    returning.set("into", None)
    return True
