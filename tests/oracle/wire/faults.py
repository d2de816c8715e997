"""Faults on the wire, and when they occur: a connection cut, a request refused, an answer that takes long."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, Literal

EventName = Literal["connect", "login", "execute", "fetch", "commit", "rollback", "ping", "logoff"]


@dataclass(frozen=True)
class Event:
    """Something the client asks for. sql: the statement, for execute and fetch."""

    name: EventName
    sql: str = ""
    rows: int = 1  # of binds


@dataclass(frozen=True)
class Cut:
    """The connection ends: before the request is carried out, after it but before the answer, or amid the answer."""

    when: Literal["before", "after", "midway"] = "before"


@dataclass(frozen=True)
class Refuse:
    """The server answers with an error; at "connect" the listener does."""

    number: int
    text: str = "as the test wants it"


@dataclass(frozen=True)
class Delay:
    """The answer takes so long."""

    seconds: float


@dataclass(frozen=True)
class Answer:
    """A query is judged and run, and then answered with these rows: what a test need not store."""

    rows: tuple[tuple[Any, ...], ...]


Action = Cut | Refuse | Delay | Answer


@dataclass
class Fault:
    """One rule: at the events that match, skipping the first few, so many times."""

    action: Action
    event: EventName | None
    fragment: str
    skip: int
    times: int

    def applies(self, event: Event) -> bool:
        if self.event not in (None, event.name) or self.fragment not in event.sql or not self.times:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


@dataclass
class Faults:
    """The rules of a server. Safe to use from several threads."""

    rules: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(
        self, action: Action, event: EventName | None = None, fragment: str = "", skip: int = 0, times: int = 1
    ) -> None:
        """Let something go wrong at the next events of this name whose statement contains the fragment."""
        with self._lock:
            self.rules.insert(0, Fault(action, event, fragment, skip, times))

    def clear(self) -> None:
        with self._lock:
            self.rules.clear()

    def find(self, event: Event) -> Action | None:
        with self._lock:
            return next((rule.action for rule in self.rules if rule.applies(event)), None)
