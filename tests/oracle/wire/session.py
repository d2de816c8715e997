"""One connection's conversation: login, statements, rows, and the end of transactions, as TTC messages.

An older dialect that every thin driver speaks: TTC version 24 (21c has the same), one request and one answer, no fast
authentication and no end-of-response marks. Source: python-oracledb, src/oracledb/impl/thin/messages.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.oracle.wire.faults import Action, Answer, Cut, Delay, Event, EventName, Refuse
from tests.oracle.wire.packets import (
    SDU,
    Connection,
    Interrupted,
    PacketType,
    write_bytes,
    write_counted_text,
    write_number,
    write_numbers,
)
from tests.oracle.wire.results import Bind, OracleError, Result, list_places
from tests.oracle.wire.values import LOBS, TEXTS, WireType, decode, encode

if TYPE_CHECKING:
    from tests.oracle.wire.server import Server

_TTC_VERSION = 24
_UTF8, _UTF16 = 873, 2000  # Oracle's numbers of AL32UTF8 and AL16UTF16
_LONGEST_CONNECT_STRING = 230  # in the connect packet itself
_NO_DATA_FOUND, _WRONG_PASSWORD, _CANCELLED, _NOT_ALL_BOUND = 1403, 1017, 1013, 1008
_TRANSACTION_OPEN = 2  # in the status after a call


class Message(IntEnum):
    PROTOCOL = 1
    DATA_TYPES = 2
    FUNCTION = 3
    ERROR = 4
    ROW_HEADER = 6
    ROW_DATA = 7
    PARAMETERS = 8
    STATUS = 9
    DESCRIBE = 16
    PIGGYBACK = 17


class Function(IntEnum):
    REEXECUTE = 4
    FETCH = 5
    LOGOFF = 9
    COMMIT = 14
    ROLLBACK = 15
    REEXECUTE_AND_FETCH = 78
    EXECUTE = 94
    CLOSE_CURSORS = 105
    AUTHENTICATE_TWO = 115
    AUTHENTICATE_ONE = 118
    PING = 147


class Option(IntFlag):
    PARSE = 0x01
    DEFINE = 0x10
    FETCH = 0x40


_CALLS: dict[int, EventName] = {
    Function.COMMIT: "commit",
    Function.ROLLBACK: "rollback",
    Function.PING: "ping",
    Function.LOGOFF: "logoff",
}


@dataclass
class Cursor:
    """A statement that was parsed, the types of its binds, and the rows that are still to be fetched."""

    number: int
    sql: str
    names: list[str] = field(default_factory=list)
    binds: list[tuple[WireType, int]] = field(default_factory=list)  # type, declared size in bytes
    defined: list[WireType] | None = None  # how the client wants the columns, where that was said
    result: Result = field(default_factory=Result)

    def set_sql(self, sql: str) -> None:
        self.sql, self.defined = sql, None
        self.names = list_places(sql)

    @property
    def returned(self) -> int:
        """How many of the binds are filled by RETURNING; they are the last ones."""
        into = re.search(r"\bRETURNING\b.*?\bINTO\b(.*)$", self.sql, re.DOTALL | re.IGNORECASE)
        return len(list_places(into[1])) if into else 0

    @property
    def is_query(self) -> bool:
        return self.sql.lstrip().upper().startswith(("SELECT", "WITH"))


class ClientSession:
    """Serves one client until it hangs up."""

    def __init__(self, server: Server, connection: Connection) -> None:
        self.server = server
        self.wire = connection
        self.database = server.database.open_session()
        self._cursors: dict[int, Cursor] = {}
        self._instead: Action | None = None

    def serve(self) -> None:
        """Raises EOFError when the client hangs up or a fault cuts the connection."""
        if not self._accept():
            return
        answers: dict[int, Callable[[], None]] = {
            Message.PROTOCOL: self._agree_on_protocol,
            Message.DATA_TYPES: self._agree_on_data_types,
            Message.PIGGYBACK: self._read_piggyback,
            Message.FUNCTION: self._call,
        }
        while True:
            answers[self.wire.read_byte()]()

    # --- the beginning ---

    def _accept(self) -> bool:
        kind, body = self.wire.read_packet()
        assert kind is PacketType.CONNECT, kind
        if struct.unpack(">H", body[16:18])[0] > _LONGEST_CONNECT_STRING:
            self.wire.read_packet()
        action = self.server.notice(Event("connect"))
        if isinstance(action, Refuse):
            text = f"(DESCRIPTION=(TMP=)(VSNNUM=0)(ERR={action.number}))".encode()
            self.wire.send_packet(PacketType.REFUSE, struct.pack(">BBH", 34, 0, len(text)) + text)
            return False
        self._carry_out(action, lambda: b"")
        body = struct.pack(">HH", self.server.protocol_version, 0) + bytes(10) + self.server.accept_flags + bytes(9)
        self.wire.send_packet(PacketType.ACCEPT, body + struct.pack(">I", SDU) + bytes(5) + struct.pack(">I", 0))
        self.wire.has_large_lengths = True
        return True

    def _agree_on_protocol(self) -> None:
        self.wire.read_raw(2)
        while self.wire.read_byte():
            pass  # the name of the client's platform
        compile_time = bytearray(55)
        compile_time[7] = _TTC_VERSION
        run_time = bytearray(11)
        run_time[6] = 4 if self.server.database.has_long_strings else 0
        formats = bytearray(11)
        formats[9:11] = struct.pack(">H", _UTF16)
        answer = bytes([Message.PROTOCOL, 6, 0]) + b"wire\0" + struct.pack("<HBH", _UTF8, 1, 0)
        answer += struct.pack(">H", len(formats)) + bytes(formats)
        self.wire.send(answer + write_bytes(bytes(compile_time)) + write_bytes(bytes(run_time)))

    def _agree_on_data_types(self) -> None:
        self.wire.read_raw(5)
        self.wire.read_bytes(), self.wire.read_bytes()
        while struct.unpack(">H", self.wire.read_raw(2))[0]:
            self.wire.read_raw(6)
        self.wire.send(bytes([Message.DATA_TYPES, 0, 0]))

    # --- requests ---

    def _read_piggyback(self) -> None:
        function = Function(self.wire.read_byte())
        assert function is Function.CLOSE_CURSORS, function
        self._skip_sequence()
        self.wire.read_byte()
        for _ in range(self.wire.read_number()):
            self._cursors.pop(self.wire.read_number(), None)

    def _call(self) -> None:
        code = self.wire.read_byte()
        self._skip_sequence()
        if code in (Function.AUTHENTICATE_ONE, Function.AUTHENTICATE_TWO):
            self._authenticate(is_second=code == Function.AUTHENTICATE_TWO)
        elif code == Function.EXECUTE:
            self._execute()
        elif code in (Function.REEXECUTE, Function.REEXECUTE_AND_FETCH):
            self._execute_again(is_fetching=code == Function.REEXECUTE_AND_FETCH)
        elif code == Function.FETCH:
            cursor = self._cursors[self.wire.read_number()]
            size = self.wire.read_number()
            self._answer(Event("fetch", cursor.sql), lambda: self._take_rows(cursor, size))
        else:
            self._end_or_ping(Function(code))

    def _skip_sequence(self) -> None:
        self.wire.read_byte()  # the number of the request
        self.wire.read_number()  # a token, for pipelines

    def _end_or_ping(self, function: Function) -> None:
        name = _CALLS[function]

        def carry_out() -> bytes:
            {
                "commit": self.database.commit,
                "rollback": self.database.rollback,
                "logoff": self.database.rollback,
                "ping": self.database.ping,
            }[name]()
            return bytes([Message.STATUS]) + write_numbers(self._status, 1)

        self._answer(Event(name), carry_out)

    def _answer(self, event: Event, carry_out: Callable[[], bytes]) -> None:
        """Send what carry_out returns, or the error it raises, unless a fault is due."""
        action = self.server.notice(event)
        try:
            answer = self._carry_out(action, carry_out)
        except OracleError as error:
            if error.is_mistake:
                self.server.mistakes.append(f"{error} in:\n{event.sql.strip()}")
            answer = self._write_end(error.number, str(error))
        except Interrupted:
            self.wire.acknowledge_interruption()
            answer = self._write_end(_CANCELLED, "ORA-01013: user requested cancel of current operation")
        if action == Cut("midway"):
            answer = answer[: len(answer) // 2]
        self.wire.send(answer)
        if isinstance(action, Cut):
            raise EOFError

    def _carry_out(self, action: Action | None, carry_out: Callable[[], bytes]) -> bytes:
        if action == Cut("before"):
            raise EOFError
        if isinstance(action, Refuse):
            raise OracleError(action.number, action.text)
        if isinstance(action, Delay):
            self.wire.wait(action.seconds)
        self._instead = action
        answer = carry_out()
        if action == Cut("after"):
            raise EOFError
        return answer

    # --- login ---

    def _authenticate(self, is_second: bool) -> None:
        """Both sides show that they know the password without sending it. Source: messages/auth.pyx."""
        has_user = self.wire.read_byte()
        self.wire.skip_numbers(2)
        self.wire.read_byte()
        count = self.wire.read_number()
        self.wire.read_raw(2)
        user = (self.wire.read_bytes() or b"").decode() if has_user else ""
        values: dict[str, str] = {}
        for _ in range(count):
            key = (self.wire.read_counted_bytes() or b"").decode()
            values[key] = (self.wire.read_counted_bytes() or b"").decode()
            self.wire.read_number()
        if is_second:
            self._answer(Event("login", user), lambda: self._log_in(values))
        else:
            self._challenge()

    def _challenge(self) -> None:
        self._salt, self._key_salt, self._our_part = os.urandom(16), os.urandom(16), os.urandom(32)
        password = self.server.password.encode()
        key = hashlib.pbkdf2_hmac("sha512", password, self._salt + b"AUTH_PBKDF2_SPEEDY_KEY", 4096, 64)
        self._verifier = hashlib.sha512(key + self._salt).digest()[:32]
        answer = {
            "AUTH_SESSKEY": _encrypt(self._verifier, self._our_part).hex().upper(),
            "AUTH_VFR_DATA": self._salt.hex().upper(),
            "AUTH_PBKDF2_CSK_SALT": self._key_salt.hex().upper(),
            "AUTH_PBKDF2_VGEN_COUNT": "4096",
            "AUTH_PBKDF2_SDER_COUNT": "3",
        }
        self.wire.send(self._write_pairs(answer))

    def _log_in(self, values: dict[str, str]) -> bytes:
        their_part = _decrypt(self._verifier, bytes.fromhex(values["AUTH_SESSKEY"]))[:32]
        both = (their_part + self._our_part).hex().upper().encode()
        key = hashlib.pbkdf2_hmac("sha512", both, self._key_salt, 3, 32)
        padded = _decrypt(key, bytes.fromhex(values["AUTH_PASSWORD"]))[16:]
        if padded[: -padded[-1]] != self.server.password.encode():
            raise OracleError(_WRONG_PASSWORD, "invalid credential or not authorized; logon denied")
        major, minor, update, port, patch = (int(part) for part in self.server.version.split("."))
        return self._write_pairs(
            {
                "AUTH_SVR_RESPONSE": _encrypt(key, os.urandom(16) + b"SERVER_TO_CLIENT").hex().upper(),
                "AUTH_VERSION_NO": str(major << 24 | minor << 16 | update << 12 | port << 4 | patch),
                "AUTH_SESSION_ID": "17",
                "AUTH_SERIAL_NUM": "5",
                "AUTH_SC_DBUNIQUE_NAME": "FREE",
                "AUTH_SC_SERVICE_NAME": "freepdb1",
                "AUTH_MAX_OPEN_CURSORS": "300",
                "AUTH_INSTANCENAME": "FREE",
                "AUTH_MAX_IDEN_LENGTH": "128",
            }
        )

    def _write_pairs(self, pairs: dict[str, str]) -> bytes:
        answer = bytes([Message.PARAMETERS]) + write_number(len(pairs))
        for key, value in pairs.items():
            verifier_type = self.server.verifier_type if key == "AUTH_VFR_DATA" else 0
            answer += write_counted_text(key) + write_counted_text(value) + write_number(verifier_type)
        return answer + bytes([Message.STATUS]) + write_numbers(self._status, 1)

    # --- statements ---

    def _execute(self) -> None:
        read = self.wire
        options, number = Option(read.read_number()), read.read_number()
        read.read_byte(), read.read_number(), read.read_byte(), read.read_number()
        read.read_raw(2)
        read.read_number()
        prefetch = read.read_number()
        read.read_number(), read.read_byte()
        bind_count = read.read_number()
        read.read_raw(6)
        column_count = read.read_number()
        read.read_number(), read.read_raw(3), read.read_number(), read.read_byte(), read.skip_numbers(2)
        read.read_byte(), read.read_number(), read.read_byte()  # row counts of a batch
        for _ in range(2):  # signature and identifier of the statement
            read.read_byte(), read.read_number()
        read.read_raw(2), read.read_number()
        sql = (read.read_bytes() or b"").decode() if Option.PARSE in options else None
        settings = [read.read_number() for _ in range(13)]
        if Option.DEFINE in options:
            self._define(self._cursors[number], column_count)
            return
        cursor = self._cursors[number] if number else self._new_cursor()
        if sql is not None:
            cursor.set_sql(sql)
        cursor.binds = self._read_types(bind_count)
        executions = 1 if settings[7] else max(1, settings[1])
        self._run(cursor, self._read_binds(cursor, executions), prefetch if Option.FETCH in options else 0)

    def _execute_again(self, is_fetching: bool) -> None:
        cursor = self._cursors[self.wire.read_number()]
        count = self.wire.read_number()
        self.wire.skip_numbers(2)
        self._run(cursor, self._read_binds(cursor, 1 if is_fetching else count), count if is_fetching else 0)

    def _new_cursor(self) -> Cursor:
        number = max(self._cursors, default=0) + 1
        self._cursors[number] = Cursor(number, "")
        return self._cursors[number]

    def _define(self, cursor: Cursor, column_count: int) -> None:
        cursor.defined = [kind for kind, _ in self._read_types(column_count)]
        if set(cursor.defined) & set(LOBS):
            self.server.mistakes.append(f"LOBs are read by locator, one round trip each:\n{cursor.sql.strip()}")
        self.wire.send(self._write_end(cursor=cursor.number))

    def _read_types(self, count: int) -> list[tuple[WireType, int]]:
        types = []
        for _ in range(count):
            kind = WireType(self.wire.read_byte())
            self.wire.read_raw(3)  # flags, precision, scale
            size = self.wire.read_number()
            self.wire.skip_numbers(2)  # elements, flags
            self.wire.read_counted_bytes()  # of an object type
            self.wire.skip_numbers(2)  # version, character set
            self.wire.read_byte()
            self.wire.skip_numbers(2)  # prefetched LOB bytes, identifier
            types.append((kind, size))
        return types

    def _read_binds(self, cursor: Cursor, executions: int) -> list[list[Bind]]:
        """The values of every execution; those that RETURNING fills are not sent."""
        sent = len(cursor.binds) - cursor.returned
        if sent <= 0:
            return [[] for _ in range(executions)]
        longest = self.server.database.longest_string
        rows = []
        for _ in range(executions):
            assert self.wire.read_byte() == Message.ROW_DATA
            row: list[Bind | None] = [None] * sent
            # Values that may be longer than a string of the database come last.
            order = sorted(range(sent), key=lambda at: _is_long(cursor.binds[at], longest))
            for at in order:
                kind, size = cursor.binds[at]
                row[at] = Bind(cursor.names[at], kind, size, self._read_value(kind))
            rows.append([bind for bind in row if bind is not None])
        return rows

    def _read_value(self, kind: WireType) -> Any:
        if kind is WireType.VECTOR:
            if not self.wire.read_number():
                return None
            self.wire.read_raw(41)  # a locator
        data = self.wire.read_bytes()
        assert kind not in LOBS or data is None, "a temporary LOB: bind the value itself"
        return None if data is None else decode(data, kind)

    def _run(self, cursor: Cursor, rows: list[list[Bind]], prefetch: int) -> None:
        def carry_out() -> bytes:
            if len(cursor.binds) != len(cursor.names):
                raise OracleError(_NOT_ALL_BOUND, f"not all variables bound: {cursor.names}", is_mistake=True)
            return self._execute_rows(cursor, rows, prefetch)

        self._answer(Event("execute", cursor.sql, len(rows)), carry_out)

    def _execute_rows(self, cursor: Cursor, rows: list[list[Bind]], prefetch: int) -> bytes:
        total = 0
        returned = b""
        for binds in rows:
            cursor.result = self.database.execute(cursor.sql, binds)
            total += cursor.result.row_count
            if isinstance(self._instead, Answer):
                cursor.result.rows = list(self._instead.rows)
            if cursor.returned:
                values = cursor.result.returned
                returned += bytes([Message.ROW_DATA]) + write_number(len(values))
                returned += b"".join(write_bytes(encode(value, WireType.NUMBER)) + write_number(0) for value in values)
        if not cursor.is_query:
            return returned + self._write_end(cursor=cursor.number, rows=total)
        answer = _describe(cursor.result)
        needs_definition = any(column.kind in (*LOBS, WireType.VECTOR) for column in cursor.result.columns)
        if prefetch and not needs_definition:
            return answer + self._take_rows(cursor, prefetch)
        return answer + self._write_end(cursor=cursor.number)

    def _take_rows(self, cursor: Cursor, size: int) -> bytes:
        rows, cursor.result.rows = cursor.result.rows[:size], cursor.result.rows[size:]
        kinds = cursor.defined or [column.kind for column in cursor.result.columns]
        answer = bytes([Message.ROW_HEADER, 0]) + write_numbers(0, 0, 0, 0, 0, 0) if rows else b""
        for row in rows:
            answer += bytes([Message.ROW_DATA])
            answer += b"".join(_write_value(value, kind) for value, kind in zip(row, kinds, strict=True))
        if cursor.result.rows:
            return answer + self._write_end(cursor=cursor.number, rows=len(rows))
        return answer + self._write_end(_NO_DATA_FOUND, "ORA-01403: no data found", cursor.number, len(rows))

    # --- answers ---

    @property
    def _status(self) -> int:
        return _TRANSACTION_OPEN if self.database.in_transaction else 0

    def _write_end(self, number: int = 0, text: str = "", cursor: int = 0, rows: int = 0) -> bytes:
        """The message that ends an answer, with an error or without one."""
        answer = bytes([Message.ERROR]) + write_numbers(self._status, 1, 0, 0, 0, 0, cursor, 0)
        answer += bytes(6) + write_numbers(0, 0) + bytes(1) + write_numbers(0, 0)  # flags, row identifier
        answer += write_number(0) + bytes(2) + write_numbers(0, 0, 0)
        answer += write_numbers(0, 0, 0)  # errors of a batch: codes, offsets, texts
        answer += write_numbers(number, rows, 0, 0)
        return answer + (write_bytes(text.encode()) if number else b"")


def _describe(result: Result) -> bytes:
    """Names and types of the columns of a query."""
    answer = bytes([Message.DESCRIBE]) + write_bytes(b"x") + write_numbers(100, len(result.columns)) + bytes(1)
    for column in result.columns:
        is_text = column.kind in (*TEXTS, WireType.CLOB)
        scale = 0x81 if column.kind is WireType.NUMBER else 0  # unknown: a whole number or not
        answer += bytes([column.kind, 0, 0, scale]) + write_numbers(column.size, 0, 0, 0, 0)
        answer += write_number(_UTF8 if is_text else 0) + bytes([is_text]) + write_numbers(column.size, 0)
        answer += bytes([1, 0]) + write_counted_text(column.name) + write_counted_text("") + write_counted_text("")
        answer += write_numbers(0, 0) + write_counted_text("") + write_counted_text("")
        answer += write_numbers(0, 0) + bytes(2)  # annotations, dimensions and format of vectors
    return answer + write_numbers(0, 0, 0, 0, 0, 0)


def _write_value(value: Any, kind: WireType) -> bytes:
    if kind is WireType.VECTOR:
        if value is None:
            return write_number(0)
        data = encode(value, kind)
        return write_numbers(len(data), len(data), 0) + write_bytes(data) + write_bytes(b"locator")
    data = bytes(1) if value is None else write_bytes(encode(value, kind))
    return data + (write_numbers(0, 0) if kind in (WireType.LONG, WireType.LONG_RAW) else b"")


def _is_long(bind: tuple[WireType, int], longest: int) -> bool:
    kind, size = bind
    return kind in (*TEXTS, WireType.RAW, WireType.LONG_RAW) and size > longest


def _encrypt(key: bytes, data: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(key), modes.CBC(bytes(16))).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def _decrypt(key: bytes, data: bytes) -> bytes:
    decryptor = Cipher(algorithms.AES(key), modes.CBC(bytes(16))).decryptor()
    return decryptor.update(data) + decryptor.finalize()
