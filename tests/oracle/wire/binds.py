"""Binds against where they go: the wire type, the length in bytes, and the order of long values.

A driver sends what Python gave it. Oracle converts much of it in silence, by rules of the session, or refuses it on one
database and not on another. Here each such bind is a mistake.
"""

from __future__ import annotations

from tests.oracle.wire.inference import Place
from tests.oracle.wire.results import Bind, OracleError
from tests.oracle.wire.statements import Statement
from tests.oracle.wire.values import BYTES, LOBS, TEXTS, WireType

_TEXT_TYPES = {WireType.VARCHAR2, WireType.CHAR}
_ACCEPTED = {
    "NUMBER": {WireType.NUMBER},
    "BINARY_DOUBLE": {WireType.NUMBER, WireType.BINARY_DOUBLE},
    "VARCHAR2": _TEXT_TYPES,
    "LITERAL": _TEXT_TYPES,
    "CHAR": _TEXT_TYPES,
    "CLOB": {*_TEXT_TYPES, WireType.LONG, WireType.CLOB},
    "BLOB": {WireType.RAW, WireType.LONG_RAW, WireType.BLOB},
    "RAW": {WireType.RAW},
    "TIMESTAMP": {WireType.TIMESTAMP},
    "TIMESTAMP WITH TIME ZONE": {WireType.TIMESTAMP},
    "DATE": {WireType.DATE},  # a TIMESTAMP would lose its fraction
    "VECTOR": {WireType.VECTOR},
}
_LONG_IN_PLACE = 4000  # bytes: longer values than this may not follow those of LOB columns


def check_binds(statement: Statement, binds: list[Bind], longest_string: int) -> None:
    """Raises OracleError for a bind that does not suit its place. longest_string: 4000 or 32767 bytes."""
    by_name = {bind.name: bind for bind in binds}
    for place in statement.places:
        if place.bind not in by_name:
            raise OracleError(1008, f"not all variables bound: :{place.bind}", is_mistake=True)
        _check_type(place, by_name[place.bind])
        _check_length(place, by_name[place.bind], longest_string)
    _check_order(statement, by_name)


def _check_type(place: Place, bind: Bind) -> None:
    column = place.column
    is_untyped_null = bind.value is None and bind.kind in _TEXT_TYPES and place.use == "store"
    # Such a NULL suits every column but these two kinds; a NOT NULL column refuses it anyway (ORA-01400).
    if is_untyped_null and (place.kind not in ("BLOB", "VECTOR") or (column is not None and not column.is_nullable)):
        return
    if bind.kind not in _ACCEPTED[place.kind]:
        where = f"{place.kind} {column.name if column else ''} ({place.use})"
        raise OracleError(932, f":{bind.name} is a {bind.kind.name}, its place is a {where}", is_mistake=True)
    if place.kind == "VECTOR" and bind.value is not None:
        form = column.format if column else "*"
        if {"f": "FLOAT32", "d": "FLOAT64"}[bind.value.typecode] != form and form != "*":
            raise OracleError(51804, f":{bind.name} is converted to {form} in silence", is_mistake=True)


def _check_length(place: Place, bind: Bind, longest_string: int) -> None:
    size = len(bind.value.encode()) if isinstance(bind.value, str) else 0
    size = len(bind.value) if isinstance(bind.value, bytes) else size
    is_lob = place.use == "store" and place.kind in ("CLOB", "BLOB")
    if size > longest_string and not is_lob:
        raise OracleError(1461, f"can bind a LONG value only for insert into a LONG column: :{bind.name}, {size} bytes")


def _check_order(statement: Statement, by_name: dict[str, Bind]) -> None:
    """ORA-24816: "Expanded non LONG bind data supplied after actual LONG or LOB column"."""
    stored = {place.bind: place.kind for place in statement.places if place.use == "store"}
    long_came_first = False
    for name in statement.order:
        bind = by_name.get(name)
        if bind is None or name not in stored or bind.kind not in (*TEXTS, *BYTES, *LOBS):
            continue
        if stored[name] in ("CLOB", "BLOB"):
            long_came_first = True
        elif long_came_first and bind.size > _LONG_IN_PLACE:
            raise OracleError(24816, f":{name} of up to {bind.size} bytes after a LOB", is_mistake=True)
