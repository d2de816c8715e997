"""The listener: a thread for every connection, the record of what clients asked for, and the faults to come."""

from __future__ import annotations

import socket
import threading
import traceback
from contextlib import suppress

from tests.oracle.wire.database import Database
from tests.oracle.wire.faults import Action, Event, Faults
from tests.oracle.wire.packets import Connection
from tests.oracle.wire.session import ClientSession

PASSWORD = "Never_Shown_1"


class Server:
    """Listens on this computer from the beginning. Use it as a context, or call close.

    mistakes: what no working program does, such as a bind of the wrong type; a test that uses the server ends with
    check(), which fails when there are any.
    """

    def __init__(self, database: Database, version: str = "23.26.1.0.0") -> None:
        self.database = database
        self.version = version
        self.password = PASSWORD
        self.accept_flags = bytes(1)
        self.protocol_version = 318  # of TNS, as 12.2 and later have it
        self.verifier_type = 0x4815  # of a password as 12c and later keep it
        self.events: list[Event] = []
        self.faults = Faults()
        self.mistakes: list[str] = database.mistakes
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.dsn = f"127.0.0.1:{self._socket.getsockname()[1]}/FREEPDB1"
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def statements(self) -> list[str]:
        """Every statement that was executed, in order."""
        return [event.sql for event in self.events if event.name == "execute"]

    def notice(self, event: Event) -> Action | None:
        """Write down what a client asks for. Returns what goes wrong with it."""
        self.events.append(event)
        return self.faults.find(event)

    def kill_sessions(self) -> None:
        """Cut every connection, as a network that breaks does."""
        for sock in list(self._open):
            sock.shutdown(socket.SHUT_RDWR)

    def check(self) -> None:
        """Raises AssertionError with the first mistake."""
        assert not self.mistakes, f"{len(self.mistakes)} mistakes, the first: {self.mistakes[0]}"

    def close(self) -> None:
        """Stop listening. Connections that are open go on."""
        with suppress(OSError):  # closed already
            self._socket.shutdown(socket.SHUT_RDWR)  # ends the wait in accept, too
        self._socket.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open.add(client)
        session = ClientSession(self, Connection(client))
        try:
            session.serve()
        except (EOFError, OSError):
            pass  # the client has gone, or a fault has cut the connection
        except Exception:
            self.mistakes.append(traceback.format_exc())
        finally:
            self._open.discard(client)
            session.database.close()
            client.close()
