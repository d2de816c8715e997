"""The query engine of Redis 8, as far as this program uses it, in front of a plain Redis server that keeps the data.

Every command goes on to the server as it came, except FT.*: those are answered here, from the hashes the server holds,
by the published meaning of the commands. Strict on purpose: what is not written out here is refused, so that a test
never passes on an unforeseen option or piece of syntax.
"""

from __future__ import annotations

import itertools
import re
import socket
import socketserver
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import redis

# Everything under a prefix at one moment, as an index sees it.
_READ = """
local found = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
  found[#found + 1] = key
  found[#found + 1] = redis.call('HMGET', key, unpack(ARGV, 2))
end
return found
"""
_PHRASE = '"[a-z0-9]+(?: [a-z0-9]+)*"'
_TERM = re.compile(
    rf"(-?)@([a-z_0-9]+):(?:\{{([A-Za-z0-9|]+)\}}|\[(\S+) (\S+)\]|\(({_PHRASE}(?:\|{_PHRASE})*)\)|({_PHRASE}))(?: |$)",
    re.ASCII,
)
_SCANS = 2  # how often an index that is being built says so
_NEAREST = re.compile(r"(\*|\(.+\))=>\[KNN ([1-9][0-9]*) @([a-z_0-9]+) \$([a-z]+) AS ([a-z]+)\]", re.ASCII)
_NUMBER = re.compile(r"\(?-?[0-9]+|[+-]inf", re.ASCII)

Row = dict[str, bytes]


class Rejected(Exception):
    """Sent back as an error."""


@dataclass
class Index:
    prefix: str
    kinds: dict[str, str] = field(default_factory=dict)
    dimensions: dict[str, int] = field(default_factory=dict)
    scans: int = _SCANS  # until all that was there before the index is in it; half of it is found before


class SearchStandIn(socketserver.ThreadingTCPServer):
    """Listens on a port of its own; upstream: host and port of the plain server."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, upstream: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.upstream = upstream
        self.client: Any = redis.Redis(*upstream, protocol=2)
        self.indexes: dict[str, Index] = {}
        self.commands: list[list[bytes]] = []  # the FT.* that were asked
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def answer(self, command: list[bytes]) -> Any:
        name, index, *rest = (part.decode("utf-8", "replace") for part in command)
        self.commands.append(command)
        if name == "FT.CREATE":
            return self._create(index, rest)
        if index not in self.indexes:
            raise Rejected(f"{index}: no such index" if name == "FT.INFO" else "Unknown index name")
        if name == "FT.ALTER":
            return self._alter(self.indexes[index], rest)
        if name == "FT.INFO":
            return self._describe(self.indexes[index])
        if name == "FT.DROPINDEX":
            del self.indexes[index]
            return "OK"
        if name == "FT.SEARCH":
            return self._search(self.indexes[index], rest, command[2:])
        if name == "FT.AGGREGATE":
            return self._aggregate(self.indexes[index], rest)
        raise Rejected(f"unknown command '{name}'")

    def _create(self, name: str, words: list[str]) -> str:
        if name in self.indexes:
            raise Rejected("Index already exists")
        if words[:4] != ["ON", "HASH", "PREFIX", "1"] or words[5:8] != ["STOPWORDS", "0", "SCHEMA"]:
            raise Rejected(f"Unknown argument in {words}")
        index = Index(words[4])
        if not list(self.client.scan_iter(index.prefix + "*", count=1000)):
            index.scans = 0
        plain, *vectors = re.split(r" (?=\w+ VECTOR)", " ".join(words[8:]))
        kinds = "TAG SORTABLE UNF NOINDEX|TAG|TEXT NOSTEM|NUMERIC SORTABLE|NUMERIC"
        for column, kind in re.findall(rf"(\w+) ({kinds})(?= |$)", plain):
            index.kinds[column] = kind
        if " ".join(f"{column} {kind}" for column, kind in index.kinds.items()) != plain:
            raise Rejected(f"Unknown field type in {plain}")
        for vector in vectors:
            self._add_vector(index, vector.split())
        self.indexes[name] = index
        return "OK"

    def _alter(self, index: Index, words: list[str]) -> str:
        if words[:3] != ["SKIPINITIALSCAN", "SCHEMA", "ADD"]:
            raise Rejected(f"Unknown argument in {words}")
        return self._add_vector(index, words[3:])

    def _add_vector(self, index: Index, words: list[str]) -> str:
        match words:
            case [column, "VECTOR", "FLAT", "6", "TYPE", "FLOAT32", "DIM", dimension, "DISTANCE_METRIC", "IP"]:
                if column in index.kinds:
                    raise Rejected(f"Duplicate field in schema - {column}")
                index.kinds[column] = "VECTOR"
                index.dimensions[column] = int(dimension)
                return "OK"
        raise Rejected(f"Unknown argument in {words}")

    def _describe(self, index: Index) -> list[Any]:
        is_building = index.scans > 0
        index.scans = max(index.scans - 1, 0)
        share = "0.5" if is_building else "1"
        return ["index_name", "index", "percent_indexed", share, "indexing", str(int(is_building))]

    # --- questions ---

    def _search(self, index: Index, words: list[str], raw: list[bytes]) -> list[Any]:
        expression, options = words[0], _read_options(words[1:], {"PARAMS", "SORTBY", "LIMIT", "RETURN"})
        start, number = map(int, options["LIMIT"])
        nearest = _NEAREST.fullmatch(expression)
        if not nearest:
            total = len(self._filter(index, expression))
            assert number == 0
            return [total]
        before, neighbours, column, parameter, name = nearest.groups()
        assert options["PARAMS"][0] == parameter
        assert options["SORTBY"] == [name, "ASC"]
        assert options["RETURN"] == [name]
        if index.kinds.get(column) != "VECTOR":
            raise Rejected(f"Unknown field at {column}")
        query = np.frombuffer(raw[words.index(parameter, 1) + 1], np.float32)
        if len(query) != index.dimensions[column]:
            raise Rejected("Error parsing vector similarity query: query vector blob size does not match")
        rows = self._filter(index, before if before == "*" else before[1:-1], [column])
        found = [
            (float(np.float32(1) - np.dot(np.frombuffer(row[column], np.float32), query)), key)
            for key, row in rows.items()
            if column in row and len(row[column]) == query.nbytes
        ]
        # Which of several equally near ones are among the nearest is the engine's affair: here, the last ones.
        found = sorted(found, key=lambda item: (item[0], -int(item[1].rpartition(":")[2])))[: int(neighbours)]
        page = found[start : start + number]
        return [len(found), *(part for distance, key in page for part in (key, [name, f"{distance:.12g}"]))]

    def _aggregate(self, index: Index, words: list[str]) -> list[Any]:
        options = _read_options(words[1:], {"LOAD", "GROUPBY", "REDUCE", "SORTBY", "LIMIT"})
        loaded = options["LOAD"]
        start, number = map(int, options["LIMIT"])
        order = options.get("SORTBY", [])
        columns = [column.removeprefix("@") for column in order[::2] if column != "MAX"]
        if any("SORTABLE" not in index.kinds.get(column, "") for column in columns):
            raise Rejected(f"Property not loaded nor in schema: {columns}")
        names = [column.removeprefix("@") for column in loaded]
        wanted = [name for name in names if name != "__key"]
        rows = self._filter(index, words[0], columns + wanted)
        if "GROUPBY" not in options:
            most = int(order[order.index("MAX") + 1])
            keys = list(rows)
            for place, column in reversed(list(enumerate(columns))):
                is_text = index.kinds[column].startswith("TAG")
                keys.sort(
                    key=lambda key: rows[key][column] if is_text else float(rows[key][column]),
                    reverse=order[2 * place + 1] == "DESC",
                )
            return [1, *([*names, key] for key in keys[:most][start : start + number])]
        assert (options["GROUPBY"], options["REDUCE"]) == (loaded, ["COUNT", "0", "AS", "number"])
        counts = Counter(tuple(row.get(name) for name in names) for row in rows.values())
        groups = [
            [*itertools.chain(*zip(names, values, strict=True)), "number", str(count)]
            for values, count in counts.items()
        ]
        return [len(groups), *groups[start : start + number]]

    def _filter(self, index: Index, expression: str, columns: list[str] | None = None) -> dict[str, Row]:
        terms = _read_terms(index, expression)
        names = list(dict.fromkeys([*(column for _, column, _, _ in terms), *(columns or []), "record"]))
        found = self.client.eval(_READ, 0, index.prefix + "*", *names)
        rows = {
            key.decode(): {name: value for name, value in zip(names, values, strict=True) if value is not None}
            for key, values in zip(found[::2], found[1::2], strict=True)
            if not index.scans or int(key.rpartition(b":")[2]) % 2
        }
        return {
            key: row
            for key, row in rows.items()
            if all(_holds(row, kind, column, wanted) != negated for negated, column, kind, wanted in terms)
        }


def _read_terms(index: Index, expression: str) -> list[tuple[bool, str, str, Any]]:
    if expression == "*":
        return []
    terms, position = [], 0
    while position < len(expression):
        term = _TERM.match(expression, position)
        if not term:
            raise Rejected(f"Syntax error at offset {position} near {expression[position : position + 20]}")
        negation, column, tags, low, high, several, one = term.groups()
        kind: str
        wanted: list[Any]
        if tags:
            kind, wanted = "TAG", tags.split("|")
        elif phrases := several or one:
            kind, wanted = "TEXT NOSTEM", [phrase.strip('"').split() for phrase in phrases.split("|")]
        else:
            kind, wanted = "NUMERIC", [low, high]
        if not index.kinds.get(column, "").startswith(kind):
            raise Rejected(f"Unknown field at offset {position} near {column}")
        if kind == "NUMERIC" and not all(map(_NUMBER.fullmatch, wanted)):
            raise Rejected(f"Syntax error at offset {position}: expected a number")
        terms.append((bool(negation), column, kind, wanted))
        position = term.end()
    return terms


def _holds(row: Row, kind: str, column: str, wanted: list[Any]) -> bool:
    if column not in row:
        return False
    value = row[column].decode()
    if kind == "TAG":
        return bool({tag.lower() for tag in value.split(",")} & {tag.lower() for tag in wanted})
    if kind == "TEXT NOSTEM":
        assert re.fullmatch("[a-z0-9 ]*", value), "an analyser would cut this text"
        return any(occurs(value.split(), phrase) for phrase in wanted)
    low, high = wanted
    above = float(value) > float(low[1:]) if low[0] == "(" else float(value) >= float(low)
    return above and (float(value) < float(high[1:]) if high[0] == "(" else float(value) <= float(high))


def occurs(tokens: list[str], phrase: list[str]) -> bool:
    """Whether a phrase occurs, as the engine sees it: each token at or behind the place of the one before it.

    So equal tokens that follow one another may stand at one place, and make up for a gap elsewhere.
    """
    places = [[place for place, token in enumerate(tokens, 1) if token == wanted] for wanted in phrase]
    for first in places[0]:
        last, gaps = first, 0
        for later in places[1:]:
            place = next((place for place in later if place >= last), None)
            if place is None:
                return False
            gaps += place - last - 1
            last = place
        if gaps <= 0:
            return True
    return False


def _read_options(words: list[str], known: set[str]) -> dict[str, list[str]]:
    """Options with their values: a fixed number of them, or as many as the first says."""
    options: dict[str, list[str]] = {}
    while words:
        name = words[0]
        if name in ("TIMEOUT", "DIALECT"):
            length, skipped = 1, 1
        elif name not in known:
            raise Rejected(f"Unknown argument `{name}`")
        elif name == "REDUCE":
            length, skipped = 4, 1
        elif name == "LIMIT" or (name == "SORTBY" and not words[1].isdigit()):
            length, skipped = 2, 1
        else:
            length, skipped = int(words[1]), 2
        options[name] = words[skipped : skipped + length]
        words = words[skipped + length :]
        if name == "SORTBY" and words[:1] == ["MAX"]:
            options[name] += words[:2]
            words = words[2:]
    assert options["DIALECT"] == ["2"]
    assert "TIMEOUT" in options, "half a second would silently cut results short"
    return options


# --- the protocol ---


class _Conversation(socketserver.StreamRequestHandler):
    server: SearchStandIn

    disable_nagle_algorithm = True  # the answers of a pipeline are written one by one: each would wait for an ACK

    def handle(self) -> None:
        with socket.create_connection(self.server.upstream) as upstream, upstream.makefile("rb") as replies:
            while head := self.rfile.readline():
                raw, command = head, []
                for _ in range(int(head[1:])):
                    length = self.rfile.readline()
                    part = self.rfile.read(int(length[1:]) + 2)
                    raw += length + part
                    command.append(part[:-2])
                if command[0].startswith(b"FT."):
                    self.wfile.write(self._answer(command))
                else:
                    upstream.sendall(raw)
                    self.wfile.write(_read_reply(replies))

    def _answer(self, command: list[bytes]) -> bytes:
        try:
            return _encode(self.server.answer(command))
        except Rejected as refusal:
            return f"-{refusal}\r\n".encode()
        except Exception as error:  # whatever goes wrong here is a failed test there, not a connection that hangs
            return f"-STANDIN {error!r} {command[:3]!r}".replace("\r\n", " ").encode("ascii", "replace") + b"\r\n"


def _read_reply(replies: BinaryIO) -> bytes:
    head = replies.readline()
    if head[:1] == b"$" and head[1:2] != b"-":
        return head + replies.read(int(head[1:]) + 2)
    if head[:1] == b"*" and head[1:2] != b"-":
        return head + b"".join(_read_reply(replies) for _ in range(int(head[1:])))
    return head


def _encode(value: Any) -> bytes:
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, list):
        return b"*%d\r\n" % len(value) + b"".join(map(_encode, value))
    data = value if isinstance(value, bytes) else value.encode()
    return b"$%d\r\n" % len(data) + data + b"\r\n"
