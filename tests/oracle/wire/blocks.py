"""PL/SQL, as far as the project's scripts use it: run from its own text, so that every literal in it is judged, too.

Source: PL/SQL Language Reference 23ai. A construct that is not known is a NotImplementedError: teach it here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.oracle.wire.dictionary import LEXERS, PROCEDURES
from tests.oracle.wire.results import OracleError

if TYPE_CHECKING:
    from tests.oracle.wire.database import DatabaseSession

_TOKEN = re.compile(
    r"(?P<space>\s+|--[^\n]*|/\*.*?\*/)|(?P<text>q'\[.*?\]'|'(?:[^']|'')*')|(?P<name>[A-Za-z_][\w$#]*(?:\.\w+)*)"
    r"|(?P<number>\d+(?:\.\d+)?)|(?P<sign>:=|\|\||<>|<=|>=|=>|[-+*/()<>=,;.%:])",
    re.DOTALL,
)
_KINDS = {"PLS_INTEGER": "NUMBER", "NUMBER": "NUMBER", "INTEGER": "NUMBER", "VARCHAR2": "VARCHAR2", "CLOB": "CLOB"}
_STATEMENTS = ("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "COMMIT", "ROLLBACK")
_COMPILATION_FAILED = 6550


@dataclass
class _Block:
    """A block while it runs: its words, where it stands, and its variables."""

    session: DatabaseSession
    words: list[str]
    at: int = 0
    kinds: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    error: OracleError | None = None  # that an exception handler deals with

    # --- reading ---

    @property
    def word(self) -> str:
        return self.words[self.at].upper() if self.at < len(self.words) else ""

    def take(self, *expected: str) -> str:
        if expected and self.word not in expected:
            raise OracleError(_COMPILATION_FAILED, f"PLS-00103: {self.word} where {expected} is due", is_mistake=True)
        self.at += 1
        return self.words[self.at - 1]

    def take_until(self, *ends: str) -> list[str]:
        """Words up to one of the ends, outside of brackets."""
        start, depth = self.at, 0
        while depth or self.word not in ends:
            if not self.word:
                raise OracleError(_COMPILATION_FAILED, f"PLS-00103: no {ends} to end a statement", is_mistake=True)
            depth += (self.word == "(") - (self.word == ")")
            self.at += 1
        return self.words[start : self.at]

    # --- running ---

    def run(self) -> None:
        if self.word == "DECLARE":
            self.take()
            while self.word != "BEGIN":
                self._declare()
        self.take("BEGIN")
        start = self.at
        handlers = self._find_handlers(start)
        try:
            self._run_until("EXCEPTION", "END")
        except OracleError as error:
            if handlers is None or error.is_mistake:
                raise
            self.at, self.error = handlers, error
            for word in ("WHEN", "OTHERS", "THEN"):
                self.take(word)
            self._run_until("END")
        else:
            if self.word == "EXCEPTION":
                self.at = len(self.words) - 2
        self.take("END")
        self.take(";")

    def _find_handlers(self, start: int) -> int | None:
        words = [word.upper() for word in self.words]
        return words.index("EXCEPTION", start) + 1 if "EXCEPTION" in words[start:] else None

    def _declare(self) -> None:
        name, kind = self.take().upper(), self.take().upper()
        if kind not in _KINDS:
            raise NotImplementedError(f"a variable of {kind}")
        if self.word == "(":
            self.take_until(":=", ";")
        self.kinds[name], self.values[name] = _KINDS[kind], None
        if self.word == ":=":
            self.take()
            self.values[name] = self._evaluate(self.take_until(";"))
        self.take(";")

    def _run_until(self, *ends: str) -> None:
        while self.word not in ends:
            self._run_statement()

    def _run_statement(self) -> None:
        if self.word == "IF":
            self._run_if()
        elif self.word == "EXECUTE":
            self._run_dynamic()
        elif self.word == "RAISE":
            self.take(), self.take(";")
            assert self.error is not None
            raise self.error
        elif self.word == "NULL":
            self.take(), self.take(";")
        elif self.word in _STATEMENTS:
            self._run_sql(self.take_until(";"))
            self.take(";")
        elif self.at + 1 < len(self.words) and self.words[self.at + 1] == ":=":
            name = self.take().upper()
            self._check_variable(name)
            self.take(":=")
            self.values[name] = self._evaluate(self.take_until(";"))
            self.take(";")
        else:
            self._run_call()

    def _run_if(self) -> None:
        done = False
        self.take("IF")
        while True:
            condition = self.take_until("THEN")
            self.take("THEN")
            is_chosen = not done and bool(self._evaluate(condition))  # conditions after the first true one: read only
            self._run_branch(is_chosen)
            done = done or is_chosen
            if self.word == "ELSIF":
                self.take()
                continue
            if self.word == "ELSE":
                self.take()
                self._run_branch(not done)
            self.take("END"), self.take("IF"), self.take(";")
            return

    def _run_branch(self, is_chosen: bool) -> None:
        if is_chosen:
            self._run_until("ELSIF", "ELSE", "END")
            return
        depth = 0
        while depth or self.word not in ("ELSIF", "ELSE", "END"):
            if self.word == "IF":
                depth += 1
            elif self.word == "END":
                self.take()
                depth -= 1
            self.take()

    def _run_dynamic(self) -> None:
        self.take(), self.take("IMMEDIATE")
        text = self._evaluate(self.take_until("INTO", ";"))
        targets = []
        if self.word == "INTO":
            self.take()
            targets = [word.upper() for word in self.take_until(";") if word != ","]
        self.take(";")
        self._store(self.session.execute(str(text), []).rows, targets)

    def _run_sql(self, words: list[str]) -> None:
        targets: list[str] = []
        upper = [word.upper() for word in words]
        if upper[0] == "SELECT":
            start = upper.index("INTO")
            end = upper.index("FROM")
            targets = [word for word in upper[start + 1 : end] if word != ","]
            words = words[:start] + words[end:]
        if upper[0] in ("COMMIT", "ROLLBACK"):
            self.session.execute(" ".join(words), [])
            return
        statement = self.session.database.prepare(" ".join(words), self.kinds)
        values = {f"plsql_{name.lower()}": value for name, value in self.values.items()}
        self._store(self.session.run(statement, values).rows, targets)

    def _store(self, rows: list[tuple[Any, ...]], targets: list[str]) -> None:
        if not targets:
            return
        if len(rows) != 1:
            raise OracleError(1403 if not rows else 1422, "not exactly one row for INTO")
        for name, value in zip(targets, rows[0], strict=True):
            self._check_variable(name)
            self.values[name] = value

    def _run_call(self) -> None:
        name = self.take().upper()
        arguments = []
        if self.word == "(":
            self.take()
            while self.word != ")":
                arguments.append(self._evaluate(self.take_until(",", ")")))
                if self.word == ",":
                    self.take()
            self.take(")")
        self.take(";")
        _call(self.session, name, arguments)

    def _evaluate(self, words: list[str]) -> Any:
        """The value of an expression, found as the database finds it."""
        upper = [word.upper() for word in words]
        if "DBMS_ASSERT.SIMPLE_SQL_NAME" in upper:
            at = upper.index("DBMS_ASSERT.SIMPLE_SQL_NAME")
            words = [*words[:at], *words[at + 2 : at + 3], *words[at + 4 :]]
        if "SQLCODE" in upper:
            code = -self.error.number if self.error else 0
            words = [str(code) if word.upper() == "SQLCODE" else word for word in words]
        statement = f"SELECT CASE WHEN {' '.join(words)} THEN 1 ELSE 0 END AS v FROM dual"
        if not set(upper) & {"=", "<>", "<", ">", "<=", ">=", "IN", "IS"}:
            statement = f"SELECT {' '.join(words)} AS v FROM dual"
        prepared = self.session.database.prepare(statement, self.kinds)
        values = {f"plsql_{name.lower()}": value for name, value in self.values.items()}
        return self.session.run(prepared, values).rows[0][0]

    def _check_variable(self, name: str) -> None:
        if name not in self.kinds:
            raise OracleError(_COMPILATION_FAILED, f"PLS-00201: identifier {name} must be declared", is_mistake=True)


def run(session: DatabaseSession, text: str) -> None:
    """Run a block. Raises OracleError: what it raises itself, or what it cannot be compiled for."""
    _Block(session, split_words(text)).run()


def split_words(text: str) -> list[str]:
    """Words, literals and signs of a block, without comments."""
    words, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match:
            raise OracleError(_COMPILATION_FAILED, f"PLS-00103: {text[at : at + 20]!r}", is_mistake=True)
        if match["text"] and match["text"].startswith("q'"):
            words.append("'" + match["text"][3:-2].replace("'", "''") + "'")
        elif not match["space"]:
            words.append(match[0])
        at = match.end()
    return words


def _call(session: DatabaseSession, name: str, arguments: list[Any]) -> None:
    if name not in PROCEDURES:
        raise OracleError(_COMPILATION_FAILED, f"PLS-00201: identifier {name} must be declared", is_mistake=True)
    least, most = PROCEDURES[name]
    if not least <= len(arguments) <= most:
        raise OracleError(_COMPILATION_FAILED, f"PLS-00306: wrong number of arguments to {name}", is_mistake=True)
    if name == "RAISE_APPLICATION_ERROR":
        raise OracleError(-int(arguments[0]), str(arguments[1]))
    if name == "DBMS_OUTPUT.PUT_LINE":
        session.output.append(str(arguments[0]))
    elif name.startswith("CTX_DDL."):
        _call_ctx_ddl(session, name.removeprefix("CTX_DDL."), [str(argument).upper() for argument in arguments])


def _call_ctx_ddl(session: DatabaseSession, procedure: str, arguments: list[str]) -> None:
    """Source: Oracle Text Reference 23ai, CTX_DDL Package."""
    from tests.oracle.wire.database import Lexer

    database = session.database
    if not database.has_text:
        raise OracleError(_COMPILATION_FAILED, "PLS-00201: identifier CTX_DDL must be declared")
    preferences = database.preferences
    name = arguments[0]
    if procedure == "CREATE_PREFERENCE":
        if arguments[1] not in LEXERS:
            raise OracleError(20000, f"DRG-10703: invalid framework object {arguments[1]}", is_mistake=True)
        if name in preferences:
            raise OracleError(20000, f"DRG-10701: preference already exists: {name}", is_mistake=True)
        preferences[name] = Lexer(arguments[1])
    elif name not in preferences:
        raise OracleError(20000, f"DRG-10700: preference does not exist: {name}", is_mistake=True)
    elif procedure == "DROP_PREFERENCE":
        del preferences[name]
    elif procedure == "SET_ATTRIBUTE":
        if arguments[1] not in LEXERS[preferences[name].name]:
            raise OracleError(20000, f"DRG-12207: unrecognized attribute {arguments[1]}", is_mistake=True)
        preferences[name].attributes[arguments[1]] = arguments[2]
