"""The part of Elasticsearch 8 this program uses, in memory, over HTTP, by its published meaning.

Strict on purpose: what is not written out here is refused, and searches see only what was refreshed, as with the real
one, so that a test never passes on an unforeseen option or on luck.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import threading
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import numpy as np

_JSON = "application/vnd.elasticsearch+json;compatible-with=8"
_SCRIPT = re.compile(r"Math\.max\(0\.0, dotProduct\(params\.embedding, '([a-z_0-9]+)'\) \+ 1\.0\)")

_ANALYSIS = {
    "filter": {"beginnings": {"type": "edge_ngram", "min_gram": 2, "max_gram": 250}},
    "analyzer": {"beginnings": {"type": "custom", "tokenizer": "whitespace", "filter": ["beginnings"]}},
}

Json = dict[str, Any]


class Rejected(Exception):
    def __init__(self, status: int, kind: str, reason: str) -> None:
        self.status, self.kind, self.reason = status, kind, reason


@dataclass
class Index:
    mappings: Json
    settings: Json
    documents: dict[str, Json] = field(default_factory=dict)  # by _id: source and version, as they are now
    searchable: dict[str, Json] = field(default_factory=dict)  # as they were at the last refresh
    number: int = -1  # of the last change


class ElasticsearchStandIn(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.indexes: dict[str, Index] = {}
        self.lock = threading.Lock()
        self.refusals: dict[str, Rejected] = {}  # by path: what a test wants refused
        self.product = "Elasticsearch"
        self.is_serverless = False
        self.allows_expensive_queries = True
        self.repeats_bulk = False  # whether a request is carried out twice, as when the first answer got lost
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def answer(self, method: str, path: str, options: Json, body: Any) -> tuple[int, Json]:
        parts = [unquote(part) for part in path.strip("/").split("/")]
        match method, parts:
            case "GET", [""]:
                return 200, {"version": {"number": "8.19.3"}, "tagline": "You Know, for Search"}
            case "PUT", [name]:
                return self._create_index(name, body)
            case "HEAD", [name]:
                return 200 if name in self.indexes else 404, {}
        index = self._find_index(parts[0])
        if (method, len(parts)) == ("DELETE", 1):
            del self.indexes[parts[0]]
            return 200, {}
        return self._answer_of(index, method, parts, options, body)

    def _answer_of(self, index: Index, method: str, parts: list[str], options: Json, body: Any) -> tuple[int, Json]:
        match method, parts[1:]:
            case "GET", ["_mapping"]:
                return 200, {parts[0]: {"mappings": index.mappings}}
            case "PUT", ["_mapping"]:
                return self._add_fields(index, body)
            case "PUT", ["_create", key]:
                return self._change(index, "create", key, options, body)
            case "PUT" | "DELETE", ["_doc", key]:
                return self._change(index, "index" if method == "PUT" else "delete", key, options, body)
            case "GET", ["_doc", key]:
                found = _describe(index, key, None)
                return 200 if found["found"] else 404, found
            case "PUT" | "POST", ["_bulk"]:
                return [self._bulk(index, options, body) for _ in range(1 + self.repeats_bulk)][-1]
            case "POST", ["_mget"]:
                columns = options.pop("_source_includes").split(",")
                _refuse_others(options, {})
                return 200, {"docs": [_describe(index, key, columns) for key in body["ids"]]}
            case "POST", ["_count"]:
                return 200, {"count": len(self._filter(index, body["query"]))}
            case "POST", ["_search"]:
                return self._search(index, body)
        raise Rejected(400, "illegal_argument_exception", f"no handler found for {method} {parts}")

    def _find_index(self, name: str) -> Index:
        if name not in self.indexes:
            raise Rejected(404, "index_not_found_exception", f"no such index [{name}]")
        return self.indexes[name]

    def _create_index(self, name: str, body: Json) -> tuple[int, Json]:
        if name in self.indexes:
            raise Rejected(400, "resource_already_exists_exception", f"index [{name}] already exists")
        body.setdefault("settings", {})
        sizing = {"number_of_shards", "auto_expand_replicas", "max_result_window"}
        _refuse_others(body["settings"], {*sizing, "analysis"})
        if self.is_serverless and sizing & set(body["settings"]):
            reason = f"Settings [{sorted(sizing)}] are not available when running in serverless mode"
            raise Rejected(400, "illegal_argument_exception", reason)
        assert body["settings"].get("analysis", _ANALYSIS) == _ANALYSIS
        for column in body["mappings"].get("properties", {}).values():
            _check_field(column)
        self.indexes[name] = Index(body["mappings"], body["settings"])
        return 200, {"acknowledged": True}

    def _add_fields(self, index: Index, body: Json) -> tuple[int, Json]:
        for name, column in body["properties"].items():
            _check_field(column)
            if index.mappings["properties"].get(name, column) != column:
                raise Rejected(400, "illegal_argument_exception", f"Mapper for [{name}] conflicts")
            index.mappings["properties"][name] = column
        return 200, {"acknowledged": True}

    def _bulk(self, index: Index, options: Json, lines: list[Json]) -> tuple[int, Json]:
        assert options == {"refresh": "true"}
        items = []
        position = 0
        while position < len(lines):
            [(action, values)] = lines[position].items()
            values = dict(values)
            key = values.pop("_id")
            position += 1
            document = None
            if action != "delete":
                document = lines[position]
                position += 1
            try:
                status, result = self._change(index, action, key, values, document)
            except Rejected as refusal:
                status, result = refusal.status, {"error": {"type": refusal.kind, "reason": refusal.reason}}
            items.append({action: {**result, "_id": key, "status": status}})
        index.searchable = dict(index.documents)
        return 200, {"errors": any("error" in item for item in items), "items": items}

    def _change(self, index: Index, action: str, key: str, options: Json, body: Any) -> tuple[int, Json]:
        answer = self._change_document(index, action, key, options, body)
        if options.get("refresh") == "true":
            index.searchable = dict(index.documents)
        return answer

    def _change_document(self, index: Index, action: str, key: str, options: Json, body: Any) -> tuple[int, Json]:
        _refuse_others(options, {"if_seq_no", "if_primary_term", "refresh"})
        before = index.documents.get(key)
        if "if_seq_no" in options and (before is None or before["_seq_no"] != int(options["if_seq_no"])):
            raise Rejected(409, "version_conflict_engine_exception", f"[{key}]: version conflict")
        if action == "create" and before is not None:
            raise Rejected(409, "version_conflict_engine_exception", f"[{key}]: document already exists")
        if action == "update" and before is None:
            raise Rejected(404, "document_missing_exception", f"[{key}]: document missing")
        if action == "delete":
            if before is None:
                return 404, {"result": "not_found", "_id": key}
            del index.documents[key]
            return 200, {"result": "deleted", "_id": key}
        source = deepcopy(body)
        if action == "update":
            _refuse_others(body, {"doc"})
            source = _merge(deepcopy(before["_source"]), source["doc"]) if before else {}
        elif action not in ("create", "index"):
            raise Rejected(400, "illegal_argument_exception", f"Malformed action [{action}]")
        _check_document(index, source)
        index.number += 1
        index.documents[key] = {"_source": source, "_seq_no": index.number}
        return 200 if before else 201, {"result": "updated" if before else "created", "_id": key}

    def _filter(self, index: Index, query: Json) -> dict[str, tuple[Json, float]]:
        if "script_score" in query and not self.allows_expensive_queries:
            reason = "[script score] queries cannot be executed when 'search.allow_expensive_queries' is set to false."
            raise Rejected(400, "exception", reason)
        return _filter(index, query)

    def _search(self, index: Index, body: Json) -> tuple[int, Json]:
        known = {"query", "sort", "from", "size", "_source", "track_total_hits", "aggregations", "search_after"}
        _refuse_others(body, known)
        start, number = body.get("from", 0), body["size"]
        window = 10_000 if self.is_serverless else index.settings.get("max_result_window", 10_000)
        if start + number > window:
            reason = f"Result window is too large, from + size must be less than or equal to: [{window}]"
            raise Rejected(400, "illegal_argument_exception", reason)
        found = self._filter(index, body["query"])
        if "aggregations" in body:
            [(name, values)] = body["aggregations"].items()
            return 200, _wrap([], len(found), {"aggregations": {name: {"buckets": _aggregate(index, found, values)}}})
        hits = []
        for key, (source, score) in found.items():
            values = []
            for [(column, _)] in (clause.items() for clause in body.get("sort", [])):
                assert column == "_score" or index.mappings["properties"][column]["type"] in ("long", "keyword")
                values.append(score if column == "_score" else source[column])
            hits.append(({"_id": key, "_score": score, "sort": values}, source))
        hits.reverse()  # among equals any order may come: here, not the one that one hopes for
        for place, clause in reversed(list(enumerate(body.get("sort", [])))):
            hits.sort(key=lambda item: item[0]["sort"][place], reverse=list(clause.values()) == ["desc"])
        if "search_after" in body:
            assert not start  # which Elasticsearch refuses
            hits = [hit for hit in hits if _is_behind(hit[0]["sort"], body["search_after"], body["sort"])]
        columns = body.get("_source", True)
        page = hits[start : start + number]
        return 200, _wrap([{**hit, **_pick(source, columns)} for hit, source in page], len(found), {})


def _is_behind(values: list[Any], last: list[Any], sort: list[Json]) -> bool:
    for value, other, clause in zip(values, last, sort, strict=True):
        if value != other:
            return bool(value < other if list(clause.values()) == ["desc"] else value > other)
    return False


def _wrap(hits: list[Json], total: int, more: Json) -> Json:
    counted = {"total": {"value": total, "relation": "eq"}, "hits": hits}
    return {"timed_out": False, "_shards": {"failed": 0}, "hits": counted, **more}


def _describe(index: Index, key: str, columns: list[str] | None) -> Json:
    found = index.documents.get(key)
    if found is None:
        return {"_id": key, "found": False}
    source = found["_source"] if columns is None else _pick(found["_source"], columns)["_source"]
    return {"_id": key, "found": True, "_seq_no": found["_seq_no"], "_primary_term": 1, "_source": deepcopy(source)}


def _pick(source: Json, columns: Any) -> Json:
    if columns is False:
        return {}
    if columns is True:
        return {"_source": source}
    picked: Json = {}
    for column in columns:
        name, _, rest = column.partition(".")
        if name in source and (not rest or source[name]):
            picked[name] = _pick(source[name], [rest])["_source"] if rest else source[name]
    return {"_source": picked}


def _merge(before: Json, after: Json) -> Json:
    for name, value in after.items():
        both = isinstance(value, dict) and isinstance(before.get(name), dict)
        before[name] = _merge(before[name], value) if both else value
    return before


# --- fields ---


def _check_field(column: Json) -> None:
    known = {
        "keyword": {"index", "doc_values", "ignore_above"},
        "binary": set[str](),
        "object": {"enabled"},
        "long": set[str](),
        "text": {"analyzer", "search_analyzer", "index_options", "norms", "fields"},
        "dense_vector": {"dims", "index", "similarity", "index_options"},
    }
    for inner in column.get("fields", {}).values():
        _check_field(inner)
    _refuse_others({name: value for name, value in column.items() if name != "type"}, known[column["type"]])
    if column["type"] == "dense_vector" and not 1 <= column["dims"] <= 4096:
        raise Rejected(400, "mapper_parsing_exception", "The number of dimensions should be in the range [1, 4096]")


def _check_document(index: Index, source: Json) -> None:
    if index.mappings.get("enabled") is False:
        return
    for name, value in source.items():
        column = index.mappings["properties"].get(name)
        if column is None:
            raise Rejected(400, "strict_dynamic_mapping_exception", f"[{name}] is not allowed")
        values = value if isinstance(value, list) and column["type"] != "dense_vector" else [value]
        for one in values:
            if one is not None and not _fits(column, one):
                raise Rejected(400, "document_parsing_exception", f"failed to parse field [{name}]: {one!r}")


def _fits(column: Json, value: Any) -> bool:
    match column["type"]:
        case "long":
            return type(value) is int and -(2**63) <= value < 2**63
        case "keyword":
            is_kept = column.get("index", True) or column.get("doc_values", True)
            return isinstance(value, str) and (
                not is_kept or _is_ignored(column, value) or len(value.encode()) <= 32766
            )
        case "text":
            return isinstance(value, str)
        case "binary":
            return isinstance(base64.b64decode(value, validate=True), bytes)
        case "dense_vector":
            return isinstance(value, list) and len(value) == column["dims"] and bool(np.isfinite(value).all())
    return isinstance(value, dict)


def _is_ignored(column: Json, value: str) -> bool:
    """Whether a value is too long to be indexed: ignore_above counts as Java does, in units of UTF-16."""
    return len(value.encode("utf-16-le")) // 2 > column.get("ignore_above", 2**31)


# --- questions ---


def _filter(index: Index, query: Json) -> dict[str, tuple[Json, float]]:
    found = {}
    for key, document in index.searchable.items():
        score = _score(index, query, document["_source"])
        if score is not None:
            found[key] = (document["_source"], score)
    return found


def _score(index: Index, query: Json, source: Json) -> float | None:
    """The score of a document, or None when it does not match."""
    [(kind, values)] = query.items()
    if kind == "bool":
        _refuse_others(values, {"filter", "must_not"})
        is_in = all(_score(index, clause, source) is not None for clause in values["filter"])
        is_out = any(_score(index, clause, source) is not None for clause in values.get("must_not", []))
        return 0.0 if is_in and not is_out else None
    if kind == "script_score":
        if _score(index, values["query"], source) is None:
            return None
        script = _SCRIPT.fullmatch(values["script"]["source"])
        if not script:
            raise Rejected(400, "script_exception", "compile error")
        row = np.array(source[script[1]], np.float32)
        asked = np.array(values["script"]["params"]["embedding"], np.float32)
        if len(asked) != index.mappings["properties"][script[1]]["dims"]:
            raise Rejected(400, "script_exception", "runtime error")
        return float(np.float32(max(0.0, float(np.dot(row, asked)) + 1.0)))
    if kind == "knn":
        return _find_neighbours(index, values).get(source["image_id"])
    if kind == "match_none":
        return None
    if kind == "match_all":
        return 1.0
    [(name, wanted)] = values.items()
    name, _, inner = name.partition(".")
    column = index.mappings["properties"][name]
    if inner:
        assert column["fields"][inner]["analyzer"] == "beginnings"
        assert kind == "term"
        tokens = {token[:end] for token in source.get(name, "").split() for end in range(2, min(len(token), 250) + 1)}
        return 0.0 if wanted in tokens else None
    assert column.get("index", True)
    held = source.get(name)
    stored = held if isinstance(held, list) else [] if held is None else [held]
    return 0.0 if _holds(kind, column["type"], stored, wanted) else None


def _holds(kind: str, column: str, stored: list[Any], wanted: Any) -> bool:
    if kind == "term":
        return wanted in stored and column in ("keyword", "long")
    if kind == "terms":
        assert len(wanted) <= 65_536
        return bool({*wanted} & {*stored}) and column in ("keyword", "long")
    if kind == "match_phrase":
        assert column == "text"
        return any(f" {' '.join(wanted.split())} " in f" {' '.join(text.split())} " for text in stored)
    if kind == "range":
        _refuse_others(wanted, {"gte", "gt", "lt"})
        return any(
            ("gte" not in wanted or value >= wanted["gte"])
            and ("gt" not in wanted or value > wanted["gt"])
            and ("lt" not in wanted or value < wanted["lt"])
            for value in stored
        )
    raise Rejected(400, "parsing_exception", f"unknown query [{kind}]")


def _find_neighbours(index: Index, knn: Json) -> dict[int, float]:
    """Scores of the nearest by image_id, as max_inner_product makes them."""
    _refuse_others(knn, {"field", "query_vector", "num_candidates", "filter"})
    column = index.mappings["properties"][knn["field"]]
    assert (column["index"], column["similarity"]) == (True, "max_inner_product")
    if not knn["num_candidates"] <= 10_000:
        raise Rejected(400, "illegal_argument_exception", "[num_candidates] cannot exceed [10000]")
    scores = {}
    for source, _ in _filter(index, knn["filter"]).values():
        if source.get(knn["field"]) is not None:
            product = np.float32(np.dot(np.float32(source[knn["field"]]), np.float32(knn["query_vector"])))
            scores[source["image_id"]] = float(product + 1 if product >= 0 else 1 / (1 - product))
    # Among equals the last ones, which is not what one hopes for.
    return dict(sorted(scores.items(), key=lambda item: (-item[1], -item[0]))[: knn["num_candidates"]])


def _aggregate(index: Index, found: dict[str, tuple[Json, float]], values: Json) -> list[Json]:
    if "composite" in values:
        return _list_composite(index, found, values)
    _refuse_others(values, {"terms"})
    _refuse_others(values["terms"], {"field", "size"})
    field, size = values["terms"]["field"], values["terms"]["size"]
    assert size <= 65_536
    counts: dict[str, int] = {}
    for source, _ in found.values():
        for one in _list_indexed(index, source, field):
            counts[one] = counts.get(one, 0) + 1
    return [{"key": key, "doc_count": count} for key, count in counts.items()][:size]


def _list_composite(index: Index, found: dict[str, tuple[Json, float]], values: Json) -> list[Json]:
    if "aggregations" not in values:
        return _count_pairs(index, found, **values["composite"])
    [(name, source)] = values["composite"]["sources"][0].items()
    [(first, least)] = values["aggregations"].items()
    field, number = source["terms"]["field"], least["min"]["field"]
    smallest: dict[str, int] = {}
    for document, _ in found.values():
        for value in _list_indexed(index, document, field):
            smallest[value] = min(document[number], smallest.get(value, document[number]))
    page = sorted(value for value in smallest if value > values["composite"]["after"][name])
    return [
        {"key": {name: value}, first: {"value": float(smallest[value])}}
        for value in page[: values["composite"]["size"]]
    ]


def _count_pairs(
    index: Index, found: dict[str, tuple[Json, float]], sources: list[Json], size: int, after: Json | None = None
) -> list[Json]:
    """Combinations of values, ascending; a document that lacks one of them is in none."""
    fields = {name: source["terms"]["field"] for one in sources for name, source in one.items()}
    counts: Counter[tuple[str, ...]] = Counter()
    for document, _ in found.values():
        counts.update(itertools.product(*(_list_indexed(index, document, field) for field in fields.values())))
    behind = tuple(after.values()) if after else ()
    page = sorted(values for values in counts if values > behind)[:size]
    return [{"key": dict(zip(fields, values, strict=True)), "doc_count": counts[values]} for values in page]


def _list_indexed(index: Index, source: Json, field: str) -> set[str]:
    column = index.mappings["properties"][field]
    assert column.get("doc_values", True)
    value = source.get(field)
    given = value if isinstance(value, list) else [] if value is None else [value]
    return {one for one in given if not _is_ignored(column, one)}


def _refuse_others(given: Json, known: Any) -> None:
    if set(given) - set(known):
        raise Rejected(400, "illegal_argument_exception", f"unknown option {sorted(set(given) - set(known))}")


# --- the protocol ---


class _Conversation(BaseHTTPRequestHandler):
    server: ElasticsearchStandIn
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body leave in two pieces

    def _converse(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        data = self.rfile.read(length)
        if len(data) < length:  # the program was killed between headers and body
            self.close_connection = True
            return
        parts = urlsplit(self.path)
        options = dict(parse_qsl(parts.query))
        lines = parts.path.endswith("/_bulk")
        try:
            assert self.headers["Accept"].replace(" ", "") == _JSON, self.headers["Accept"]
            body = [json.loads(line) for line in data.splitlines()] if lines else json.loads(data) if data else None
            with self.server.lock:
                if parts.path in self.server.refusals:
                    raise self.server.refusals[parts.path]
                status, answer = self.server.answer(self.command, parts.path, options, body)
        except Rejected as refusal:
            cause = {"type": refusal.kind, "reason": refusal.reason}
            status, answer = refusal.status, {"error": {**cause, "root_cause": [cause]}, "status": refusal.status}
        except Exception as error:  # whatever goes wrong here is a failed test there, not a connection that hangs
            status, answer = 400, {"error": {"type": "stand_in", "reason": f"{error!r} {self.path} {data[:300]!r}"}}
        reply = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("X-Elastic-Product", self.server.product)
        self.send_header("Content-Type", _JSON)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _converse

    def log_message(self, format: str, *arguments: object) -> None:
        pass
