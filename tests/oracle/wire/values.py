"""Values as Oracle writes them on the wire: NUMBER, TIMESTAMP, BINARY_DOUBLE and VECTOR.

Source: python-oracledb, src/oracledb/impl/thin (buffer.pyx, vector.pyx), and "Internal Datatypes" of the Oracle Call
Interface Developer's Guide.
"""

from __future__ import annotations

import array
import struct
from datetime import datetime
from decimal import Decimal
from enum import IntEnum
from typing import Any


class WireType(IntEnum):
    """Numbers of data types in TTC messages."""

    VARCHAR2 = 1
    NUMBER = 2
    LONG = 8
    DATE = 12
    RAW = 23
    LONG_RAW = 24
    CHAR = 96
    BINARY_DOUBLE = 101
    CLOB = 112
    BLOB = 113
    VECTOR = 127
    TIMESTAMP = 180


TEXTS = (WireType.VARCHAR2, WireType.CHAR, WireType.LONG)
BYTES = (WireType.RAW, WireType.LONG_RAW)
LOBS = (WireType.CLOB, WireType.BLOB)
TIMES = (WireType.DATE, WireType.TIMESTAMP)

_VECTOR_HEADER = ">BBHBI"  # magic byte, version, flags, format, number of dimensions
_VECTOR_MAGIC = 0xDB
_VECTOR_FLAGS = 0x02 | 0x10  # a norm follows, and it is reserved space only
_FLOAT32, _FLOAT64 = 2, 3


def encode(value: Any, kind: WireType) -> bytes:
    """A value that is not NULL. Raises TypeError for a type that no column of the project has."""
    if kind in TEXTS:
        return str(value).encode()
    if kind in BYTES:
        return bytes(value)
    if kind is WireType.NUMBER:
        return encode_number(value)
    if kind is WireType.BINARY_DOUBLE:
        return _order(struct.pack(">d", value))
    if kind in TIMES:
        return encode_time(value)
    if kind is WireType.VECTOR:
        return encode_vector(value)
    raise TypeError(f"{kind!r} is not sent in rows")


def decode(data: bytes, kind: WireType) -> Any:
    """A bind value that is not NULL: str, int, float, bytes, datetime or array.array."""
    if kind in TEXTS:
        return data.decode()
    if kind in BYTES:
        return data
    if kind is WireType.NUMBER:
        return decode_number(data)
    if kind is WireType.BINARY_DOUBLE:
        return struct.unpack(">d", _restore(data))[0]
    if kind in TIMES:
        return decode_time(data)
    if kind is WireType.VECTOR:
        return decode_vector(data)
    raise TypeError(f"{kind!r} is not read from binds")


def encode_number(value: float | str | Decimal) -> bytes:
    """Base 100: an exponent byte, then digit pairs plus one; negative numbers as complements with an end mark."""
    number = Decimal(str(value))
    if number == 0:
        return b"\x80"
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits))
    point = len(text) + exponent  # digits before the decimal point
    if point % 2:
        text, point = "0" + text, point + 1
    text += "0" * (len(text) % 2)
    pairs = [int(text[at : at + 2]) for at in range(0, len(text), 2)]
    while pairs[-1] == 0:
        pairs.pop()
    if sign:
        return bytes([~(point // 2 + 192) & 255, *(101 - pair for pair in pairs), 102])
    return bytes([point // 2 + 192, *(pair + 1 for pair in pairs)])


def decode_number(data: bytes) -> int | float:
    """The same backwards; whole numbers as int."""
    if data == b"\x80":
        return 0
    is_positive = bool(data[0] & 0x80)
    exponent = (data[0] if is_positive else ~data[0] & 255) - 193
    digits = data[1:] if is_positive else data[1:].removesuffix(b"\x66")
    number = Decimal(0)
    for place, digit in enumerate(digits):
        number += Decimal(digit - 1 if is_positive else 101 - digit) * Decimal(100) ** (exponent - place)
    number = number if is_positive else -number
    return int(number) if number == number.to_integral() else float(number)


def encode_time(moment: datetime) -> bytes:
    """Century and year plus 100, hours to seconds plus 1; nanoseconds only where there are some."""
    head = [moment.year // 100 + 100, moment.year % 100 + 100, moment.month, moment.day]
    data = bytes([*head, moment.hour + 1, moment.minute + 1, moment.second + 1])
    return data + struct.pack(">I", moment.microsecond * 1000) if moment.microsecond else data


def decode_time(data: bytes) -> datetime:
    """A DATE (7 bytes) or a TIMESTAMP (11 bytes)."""
    nanoseconds = struct.unpack(">I", data[7:11])[0] if len(data) >= 11 else 0
    year = (data[0] - 100) * 100 + data[1] - 100
    return datetime(year, data[2], data[3], data[4] - 1, data[5] - 1, data[6] - 1, nanoseconds // 1000)


def encode_vector(vector: array.array[float]) -> bytes:
    """A VECTOR of FLOAT32 (typecode "f") or FLOAT64 ("d")."""
    kind = {"f": _FLOAT32, "d": _FLOAT64}[vector.typecode]
    head = struct.pack(_VECTOR_HEADER, _VECTOR_MAGIC, 0, _VECTOR_FLAGS, kind, len(vector)) + bytes(8)
    return head + b"".join(_order(struct.pack(f">{vector.typecode}", number)) for number in vector)


def decode_vector(data: bytes) -> array.array[float]:
    """The typecode tells the format: "f" or "d"."""
    size = struct.calcsize(_VECTOR_HEADER)
    magic, _, _, kind, count = struct.unpack(_VECTOR_HEADER, data[:size])
    assert magic == _VECTOR_MAGIC, "not a vector"
    code, width = {_FLOAT32: ("f", 4), _FLOAT64: ("d", 8)}[kind]
    body = data[size + 8 :]
    numbers = (_restore(body[at : at + width]) for at in range(0, count * width, width))
    return array.array(code, [struct.unpack(f">{code}", number)[0] for number in numbers])


def _order(data: bytes) -> bytes:
    # Floating point numbers travel so that their bytes compare as they do.
    if data[0] & 0x80:
        return bytes(~byte & 255 for byte in data)
    return bytes([data[0] | 0x80]) + data[1:]


def _restore(data: bytes) -> bytes:
    if data[0] & 0x80:
        return bytes([data[0] & 0x7F]) + data[1:]
    return bytes(~byte & 255 for byte in data)
