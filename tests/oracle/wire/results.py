"""Values that a conversation and the database behind it exchange: binds, results and errors."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from tests.oracle.wire.values import WireType

_PLACE = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/|(?<![:\w]):(\w+)", re.DOTALL)


class OracleError(Exception):
    """An error with Oracle's number. is_mistake: no working program provokes it, so the tests fail whatever follows."""

    def __init__(self, number: int, text: str, is_mistake: bool = False) -> None:
        super().__init__(f"ORA-{number:05}: {text}")
        self.number = number
        self.is_mistake = is_mistake


@dataclass(frozen=True)
class Bind:
    """A value as it arrived. size: the bytes its variable may hold, as declared."""

    name: str
    kind: WireType
    size: int
    value: Any


@dataclass(frozen=True)
class ResultColumn:
    name: str
    kind: WireType
    size: int


@dataclass
class Result:
    """columns and rows of a query, or how many rows a statement changed and what RETURNING gives."""

    columns: list[ResultColumn] = field(default_factory=list)
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    row_count: int = 0
    returned: list[Any] = field(default_factory=list)


def list_places(sql: str) -> list[str]:
    """Names of binds in the order of the text, once for every place; none in literals, names and comments."""
    return [match[1].lower() for match in _PLACE.finditer(sql) if match[1]]
