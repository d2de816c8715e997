"""Oracle's functions for SQLite: vectors, hashes, texts and Oracle Text."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np

from tests.oracle.wire.results import OracleError

# The server stands in Tokyo, so that a time without SYS_EXTRACT_UTC is noticed.
ZONE = timedelta(hours=9)

_TERM = re.compile(r"\{(?P<word>(?:[^{}]|\}\})+)\}|(?P<beginning>[a-z0-9]{1,64})%")
# Oracle Text Reference 23ai, "Reserved Words and Characters": a bare one of these is an operator.
_WORDS = (
    "about accum and bt btg bti btp equiv fuzzy haspath inpath mdata minus mnot near not nt ntg nti ntp or "
    "pattern pt rt sdata sqe syn tr trsyn tt within "
)
_OPERATORS = set(_WORDS.split())


def add_functions(connection: sqlite3.Connection, contains: Callable[[str, str, int], int]) -> None:
    """Functions under the names that inference.py gives them. contains: of the database, which knows the index."""
    for name, count, function in (
        ("ORA_PAD", 2, lambda text, size: None if text is None else str(text).ljust(size)),
        ("ORA_CONCAT", 2, lambda one, other: f"{_to_text(one)}{_to_text(other)}" or None),
        ("ORA_SYSTIMESTAMP", 0, lambda: _write_time(datetime.now(UTC) + ZONE)),
        ("SYS_EXTRACT_UTC", 1, lambda text: _write_time(datetime.fromisoformat(text) - ZONE)),
        ("ORA_HASH", 1, lambda value: int(value) * 2654435761 % 2**32),
        ("LENGTHB", 1, lambda text: None if text is None else len(text.encode())),
        ("HEXTORAW", 1, lambda text: None if text is None else bytes.fromhex(text)),
        ("TO_CLOB", 1, lambda text: text),
        ("TO_VECTOR", 1, lambda text: None if text is None else np.array(_read_json(text), np.float32).tobytes()),
        ("NVL", 2, lambda value, other: other if value is None else value),
        ("SYS_CONTEXT", 2, lambda _, name: "FREEPDB1" if str(name).upper() == "CON_NAME" else None),
        ("VECTOR_DIMENSION_COUNT", 1, lambda vector: None if vector is None else len(vector) // 4),
        ("VECTOR_NORM", 1, lambda vector: None if vector is None else float(np.linalg.norm(_to_array(vector)))),
        ("VECTOR_DISTANCE_DOT", 2, lambda one, other: _measure(one, other, lambda a, b: -(a @ b))),
        ("VECTOR_DISTANCE_COSINE", 2, lambda one, other: _measure(one, other, _measure_cosine)),
        ("VECTOR_DISTANCE_EUCLIDEAN", 2, lambda one, other: _measure(one, other, lambda a, b: np.linalg.norm(a - b))),
        ("CONTAINS", 3, contains),
    ):
        connection.create_function(name, count, function)


def has_terms(text: str, query: str, is_japanese: bool) -> bool:
    """Whether all terms of a query occur, as far as the manual promises: words whole or by their beginning.

    is_japanese: the lexer cuts Japanese into pairs of characters, so that every run of two or more is found.
    Raises OracleError for a query in which a user's words could be taken for operators.
    """
    tokens = re.findall(r"[a-z0-9]+", text)
    runs = re.findall(r"[^\W\d_a-z]+", text)
    for term in query.split(" AND "):
        match = _TERM.fullmatch(term)
        if not match or match["beginning"] in _OPERATORS:
            text = f"error in executing ODCIIndexStart() routine\nDRG-50901: text query parser syntax error: {term}"
            raise OracleError(29902, text, is_mistake=True)
        word = (match["word"] or "").replace("}}", "}")
        if match["beginning"]:
            found = any(token.startswith(match["beginning"]) for token in tokens)
        elif word.isascii():
            found = word in tokens
        else:
            found = len(word) > 1 and word in text if is_japanese else word in runs
        if not found:
            return False
    return True


def _to_array(vector: bytes) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.frombuffer(vector, np.float32).astype(np.float64)


def _measure(one: bytes | None, other: bytes | None, metric: Callable[..., float]) -> float | None:
    if one is None or other is None:
        return None
    if len(one) != len(other):
        raise OracleError(51808, "VECTOR_DISTANCE is not supported for vectors with different dimension counts")
    return float(metric(_to_array(one), _to_array(other)))


def _measure_cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(1 - one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


def _read_json(text: str) -> list[float]:
    return [float(number) for number in text.strip().strip("[]").split(",")]


def _to_text(value: object) -> str:
    return "" if value is None else str(value)


def _write_time(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
