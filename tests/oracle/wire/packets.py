"""TNS packets, and the fields of the TTC messages in them.

Source: python-oracledb, src/oracledb/impl/thin (packet.pyx, transport.pyx, constants.pxi).
"""

from __future__ import annotations

import select
import socket
import struct
import time
from enum import IntEnum

SDU = 8192  # bytes of a packet, as offered when a connection is accepted
_HEADER = 8
_EOF_FLAG = 0x40
_LONG = 0xFE  # in place of a length: pieces follow, each with its own
_LARGEST_SHORT, _PIECE = 252, 32767


class PacketType(IntEnum):
    CONNECT = 1
    ACCEPT = 2
    REFUSE = 4
    DATA = 6
    MARKER = 12


class Marker(IntEnum):
    BREAK = 1
    RESET = 2
    INTERRUPT = 3


class Interrupted(Exception):
    """The client does not wait any longer (its call timeout) and asks for the answer to be given up."""


class Connection:
    """A socket that carries packets; reading crosses their borders."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.has_large_lengths = False  # from the acceptance on, lengths of packets are 4 bytes
        self._data = b""
        self._position = 0

    # --- packets ---

    def read_packet(self) -> tuple[PacketType, bytes]:
        """Type and body of the next packet. Raises EOFError when the client has hung up."""
        header = self._receive(_HEADER)
        form = ">I" if self.has_large_lengths else ">H"
        [size] = struct.unpack(form, header[: struct.calcsize(form)])
        return PacketType(header[4]), self._receive(size - _HEADER)

    def send_packet(self, kind: PacketType, body: bytes) -> None:
        size = _HEADER + len(body)
        lengths = struct.pack(">I", size) if self.has_large_lengths else struct.pack(">HH", size, 0)
        self.sock.sendall(lengths + struct.pack(">BBH", kind, 0, 0) + body)

    def send(self, message: bytes) -> None:
        """A message, in as many packets as it needs."""
        step = SDU - 192
        for start in range(0, len(message), step):
            self.send_packet(PacketType.DATA, bytes(2) + message[start : start + step])

    def wait(self, seconds: float) -> None:
        """Let time pass as a busy server does. Raises Interrupted when the client loses its patience meanwhile."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self.sock], [], [], left)[0]:
                kind, _ = self.read_packet()
                assert kind is PacketType.MARKER, f"a {kind!r} while an answer is due"
                raise Interrupted

    def acknowledge_interruption(self) -> None:
        """The reset that both sides agree on after an interruption."""
        for marker in (Marker.BREAK, Marker.RESET):
            self.send_packet(PacketType.MARKER, bytes([1, 0, marker]))
        while True:
            kind, body = self.read_packet()
            if kind is PacketType.MARKER and body[2] == Marker.RESET:
                return

    def close(self) -> None:
        self.sock.close()

    def _receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self.sock.recv(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)

    # --- fields ---

    def read_raw(self, size: int) -> bytes:
        """So many bytes of the message. Raises EOFError at the packet by which a client says goodbye."""
        while len(self._data) - self._position < size:
            kind, body = self.read_packet()
            if kind is not PacketType.DATA or struct.unpack(">H", body[:2])[0] & _EOF_FLAG:
                raise EOFError
            self._data, self._position = self._data[self._position :] + body[2:], 0
        self._position += size
        return self._data[self._position - size : self._position]

    def read_byte(self) -> int:
        return self.read_raw(1)[0]

    def read_number(self) -> int:
        """A whole number: its length, then its bytes."""
        return int.from_bytes(self.read_raw(self.read_byte()), "big")

    def read_bytes(self) -> bytes | None:
        """Bytes with their length, in pieces when they are many. None for NULL."""
        size = self.read_byte()
        if size in (0, 255):
            return None
        if size != _LONG:
            return self.read_raw(size)
        data = bytearray()
        while size := self.read_number():
            data += self.read_raw(size)
        return bytes(data)

    def read_counted_bytes(self) -> bytes | None:
        """Bytes after a number that tells whether there are any."""
        return self.read_bytes() if self.read_number() else None

    def skip_numbers(self, count: int) -> None:
        for _ in range(count):
            self.read_number()


def write_number(number: int) -> bytes:
    """A whole number with its length of 0, 1, 2, 4 or 8 bytes."""
    size = next(size for size in (0, 1, 2, 4, 8) if number < 1 << 8 * size)
    return bytes([size]) + number.to_bytes(size, "big")


def write_numbers(*numbers: int) -> bytes:
    return b"".join(map(write_number, numbers))


def write_bytes(data: bytes) -> bytes:
    """Bytes with their length; no bytes are NULL."""
    if len(data) <= _LARGEST_SHORT:
        return bytes([len(data)]) + data
    pieces = [data[start : start + _PIECE] for start in range(0, len(data), _PIECE)]
    return bytes([_LONG]) + b"".join(write_number(len(piece)) + piece for piece in pieces) + write_number(0)


def write_counted_text(text: str) -> bytes:
    data = text.encode()
    return write_number(len(data)) + (write_bytes(data) if data else b"")
