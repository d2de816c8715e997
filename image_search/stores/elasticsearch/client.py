"""One library in one Elasticsearch cluster: its indexes, its state, its lock, the messages for its errors, and queries.

The index NAME-images holds the images, NAME-deleted what is remembered of deleted ones, NAME-library settings and one
document with everything that is there once: models and counters. It is changed on the condition that no other program
changed it meanwhile. Schema 1 had the images in the index NAME.

No text of a user ever stands in a query: exact values are digests, words are plain tokens (stores/tokens.py).
"""

from __future__ import annotations

import logging
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import elasticsearch
from elastic_transport import TransportError
from elasticsearch import (
    ApiError,
    AuthorizationException,
    BadRequestError,
    ConflictError,
    NotFoundError,
    UnsupportedProductError,
)

from image_search.errors import SettingsError, StoreError, StoreFull, StoreUnavailable
from image_search.records import SearchFilter
from image_search.stores.base import Embeddings
from image_search.stores.documents import LIVE, list_filter_keys, list_filter_ranges, make_model_key
from image_search.stores.reads import SCHEMA_VERSION, newer_schema
from image_search.stores.text import sanitize
from image_search.stores.tokens import (
    BEGUN,
    TOKEN_RULE,
    TOKEN_SETTING,
    has_old_tokens,
    is_beginning_query,
    tokenize_query,
)

T = TypeVar("T")
State = dict[str, Any]
Change = Callable[["Connection", Any, State, Callable[[], None]], None]
Query = dict[str, Any]

_log = logging.getLogger(__name__)

_STATE_ID = "state"
_SETTING = "setting:"  # before the name of a setting, in the index of the state
_MAX_SETTINGS = 10_000
_CHUNK = 500
_FIRST_STATE = {
    "schema": SCHEMA_VERSION,
    "models": "[]",
    "fields": {},  # the vector field of each model, by model_id
    "last_model_id": 0,
    "last_image_id": 0,
    "removed_originals": [],
}
_FORM = (
    "DATABASE_URL cannot be read. Write elasticsearch://user:password@host:9200/image_search, with special characters "
    "of the password as %40 for @, %2F for / and so on; for TLS elasticsearch+https://, and ?ca_certs=/path/ca.crt "
    "where the server has a certificate of its own."
)

# The settings and mappings of the indexes.

# Elasticsearch Serverless chooses these itself and refuses them.
_SIZING = {"number_of_shards": 1, "auto_expand_replicas": "0-1", "max_result_window": 1_000_000}
# Prefixes are indexed as tokens, so that one look-up finds all tokens with a prefix, however many there are.
_ANALYSIS = {
    "filter": {"beginnings": {"type": "edge_ngram", "min_gram": 2, "max_gram": 250}},
    "analyzer": {"beginnings": {"type": "custom", "tokenizer": "whitespace", "filter": ["beginnings"]}},
}
# In UTF-16 units of at most 3 bytes each; an entry may have 32,766 bytes.
_EXACT = {"type": "keyword", "ignore_above": 10_922}
_COUNTED = {**_EXACT, "index": False}
_KEPT = {"type": "keyword", "index": False, "doc_values": False}
_NOT_READ = {"type": "object", "enabled": False}
_BEGINNINGS = {
    "type": "text",
    "analyzer": "beginnings",
    "search_analyzer": "whitespace",
    "index_options": "docs",
    "norms": False,
}
_NUMBERS = ("image_id", "upload_date", "taken_at", "taken_order", "pixels", "rating", "recipe", "shuffle", "deleted_at")
_COUNTED_FIELDS = (
    *("generator", "generation_model", "lora", "file_type", "keyword", "camera", "lens", "rating"),
    *("folder", "kind", "film"),
)
_MAPPINGS: dict[str, Any] = {
    "dynamic": "strict",
    "properties": {
        "record": _KEPT,
        "preview": {"type": "binary"},
        "vectors": _NOT_READ,  # by model_id, base64: as they were given, to the last bit
        "recipes": _NOT_READ,  # of the embeddings, by model_id
        "models": {"type": "keyword"},
        "content_sha256": {"type": "keyword"},
        "tags": {"type": "keyword"},
        "words": {"type": "text", "analyzer": "whitespace", "norms": False, "fields": {"beginnings": _BEGINNINGS}},
        "sort_name": _COUNTED,
        "paths": _COUNTED,
        **{name: {"type": "long"} for name in _NUMBERS},
        **{f"counted_{name}": _COUNTED for name in _COUNTED_FIELDS},
    },
}
# Of deleted images that are remembered, under their hash.
_DELETED_MAPPINGS: dict[str, Any] = {
    "dynamic": "strict",
    "properties": {"content_sha256": {"type": "keyword"}, "paths": {"type": "keyword"}, "deleted": _KEPT},
}


def describe_vector_field(dimension: int) -> dict[str, Any]:
    """A field of embeddings that every search compares one by one, so that the nearest are exact."""
    return {
        "type": "dense_vector",
        "dims": dimension,
        "index": True,
        "similarity": "max_inner_product",
        "index_options": {"type": "flat"},
    }


class Connection:
    """Speaks with one cluster for any number of threads. It is reached, and the indexes made, when first needed."""

    def __init__(self, url: str, migrate: Change, renew_words: Change) -> None:
        """migrate: carries a library of schema 1 over. renew_words: writes the tokens of all images again.

        Both get the client, the state and a function that keeps the lock, and may be interrupted and called again.
        """
        self._migrate = migrate
        self._renew_words = renew_words
        address, self.name, options = _read_url(url)
        self.location = f"{address}/{self.name}"
        self.index = f"{self.name}-images"
        self.deleted_index = f"{self.name}-deleted"
        self.state_index = f"{self.name}-library"
        self._client = elasticsearch.Elasticsearch(address, request_timeout=120, max_retries=2, **options)
        self._lock = threading.Lock()
        self._prepared = False

    @contextmanager
    def client(self) -> Iterator[elasticsearch.Elasticsearch]:
        """The client, prepared. Raises StoreError for errors of the cluster inside."""
        try:
            with self._lock:
                if not self._prepared:
                    self._prepare()
                    self._prepared = True
            yield self._client
        except (ApiError, TransportError, UnsupportedProductError) as error:
            raise explain_error(error, self.location) from error

    def read_state(self) -> State:
        """The document that a library has once."""
        with self.client() as client:
            state: State = client.get(index=self.state_index, id=_STATE_ID)["_source"]
        return state

    def change_state(self, change: Callable[[State], T]) -> T:
        """Change the state in place, at once or not at all; repeated when another program was quicker."""
        while True:
            with self.client() as client:
                found = client.get(index=self.state_index, id=_STATE_ID)
                state = found["_source"]
                result = change(state)
                try:
                    client.index(
                        index=self.state_index,
                        id=_STATE_ID,
                        document=state,
                        if_seq_no=found["_seq_no"],
                        if_primary_term=found["_primary_term"],
                    )
                except ConflictError:
                    continue
            return result

    def write(self, operations: Sequence[dict[str, Any]], index: str | None = None) -> list[dict[str, Any]]:
        """Send operations in one request and make them visible together. Returns what became of each.

        The driver repeats a request that was not answered, so an operation may meet its own result.
        """
        with self.client() as client:
            answer = client.bulk(index=index or self.index, operations=operations, refresh=True)
        return [next(iter(item.values())) for item in answer["items"]]

    def search(self, index: str | None = None, **question: Any) -> tuple[list[dict[str, Any]], int]:
        """The hits of a search, in the index of images unless another is named, and how many there are in all."""
        answer = self.ask(index, track_total_hits=True, **question)
        return answer["hits"]["hits"], int(answer["hits"]["total"]["value"])

    def ask(self, index: str | None = None, **question: Any) -> Any:
        """The whole answer to a search."""
        with self.client() as client:
            answer = client.search(index=index or self.index, **question)
        if answer["timed_out"] or answer["_shards"]["failed"]:
            raise StoreUnavailable(f"{self.location} answered in part only. Check the state of the cluster.")
        return answer

    def scan(self, query: dict[str, Any], source: Sequence[str], order: str = "asc") -> Iterator[dict[str, Any]]:
        """All hits of a query by image_id, page by page."""
        after: dict[str, Any] = {}
        while True:
            hits, _ = self.search(query=query, sort=[{"image_id": order}], size=_CHUNK, source=source, **after)
            yield from hits
            if len(hits) < _CHUNK:
                return
            after = {"search_after": hits[-1]["sort"]}

    def list_settings(self, prefix: str) -> dict[str, str]:
        """Settings with names that begin like this, each a document of its own."""
        with self.client() as client:
            answer = client.search(index=self.state_index, query={"match_all": {}}, size=_MAX_SETTINGS)
        documents = {hit["_id"].removeprefix(_SETTING): hit["_source"] for hit in answer["hits"]["hits"]}
        found = {name: document["value"] for name, document in documents.items() if "value" in document}
        return {name: found[name] for name in sorted(found) if name.startswith(prefix)}

    def set_setting(self, name: str, value: str | None) -> None:
        """Keep a setting; None removes it."""
        with self.client() as client:
            if value is not None:
                client.index(index=self.state_index, id=_SETTING + name, document={"value": value}, refresh=True)
                return
            with suppress(NotFoundError):
                client.delete(index=self.state_index, id=_SETTING + name, refresh=True)

    def add_vector_field(self, field: str, dimension: int) -> None:
        """Let the index hold embeddings of a dimension. Nothing happens when it does already."""
        with self.client() as client:
            client.indices.put_mapping(index=self.index, properties={field: describe_vector_field(dimension)})

    @contextmanager
    def writing(self) -> Iterator[Callable[[], None]]:
        """Hold the lock. Yields a function that raises StoreUnavailable if it was lost in the meantime."""
        with self.client() as client, lock(client, self.state_index, self.location) as held:
            yield held.ensure

    def close(self) -> None:
        self._client.close()

    def _prepare(self) -> None:
        try:
            state = self._client.get(index=self.state_index, id=_STATE_ID)["_source"]
        except NotFoundError:
            self.make_indexes(self._client)
            with suppress(ConflictError):  # the last step of making a library; another program was quicker
                self._client.create(index=self.state_index, id=_STATE_ID, document=_FIRST_STATE)
                self._set_token_rule(str(TOKEN_RULE))
            return
        if state["schema"] > SCHEMA_VERSION:
            raise newer_schema(self.location, state["schema"])
        if state["schema"] < SCHEMA_VERSION:
            with lock(self._client, self.state_index, self.location) as held:
                state = self._client.get(index=self.state_index, id=_STATE_ID)["_source"]
                if state["schema"] < SCHEMA_VERSION:
                    self.make_indexes(self._client)
                    self._migrate(self, self._client, state, held.keep)
                    self._set_token_rule(str(TOKEN_RULE))
                    done = {**_FIRST_STATE, **state, "schema": SCHEMA_VERSION}  # the last step
                    self._client.index(index=self.state_index, id=_STATE_ID, document=done)
                    self._client.options(ignore_status=404).indices.delete(index=self.name)
                    _log.warning("%s: migrated the library to schema %s.", self.location, SCHEMA_VERSION)

        if self.has_old_words(self._client):
            with suppress(AuthorizationException):  # who may only read finds words as they were indexed
                self._renew_words_alone(state)

    def has_old_words(self, client: Any) -> bool:
        """Whether words are indexed by an older rule. Raises SchemaError for a newer one."""
        found = client.options(ignore_status=404).get(index=self.state_index, id=_SETTING + TOKEN_SETTING)
        return has_old_tokens(found["_source"]["value"] if found["found"] else None, self.location)

    def _set_token_rule(self, rule: str) -> None:
        name = _SETTING + TOKEN_SETTING
        self._client.index(index=self.state_index, id=name, document={"value": rule}, refresh=True)

    def _renew_words_alone(self, state: State) -> None:
        with lock(self._client, self.state_index, self.location) as held:
            if self.has_old_words(self._client):  # still: another program may have been quicker
                _log.warning("%s: indexing all words again, by rule %s.", self.location, TOKEN_RULE)
                self._set_token_rule(BEGUN)  # from here on older programs write nothing
                self._renew_words(self, self._client, state, held.keep)
                self._set_token_rule(str(TOKEN_RULE))

    def make_indexes(self, client: Any) -> None:
        """Make what indexes of the library are not there."""
        for index, mappings in (
            (self.index, _MAPPINGS),
            (self.deleted_index, _DELETED_MAPPINGS),
            (self.state_index, {"enabled": False}),
        ):
            try:
                client.indices.create(index=index, mappings=mappings, settings={**_SIZING, "analysis": _ANALYSIS})
            except BadRequestError as error:
                if "serverless" in _find_reason(error):
                    client.options(ignore_status=400).indices.create(
                        index=index, mappings=mappings, settings={"analysis": _ANALYSIS}
                    )
                elif error.message != "resource_already_exists_exception":
                    raise


def explain_error(error: Exception, location: str) -> StoreError:
    """The error in one sentence, with the server and what to do. No password is in it."""
    if isinstance(error, UnsupportedProductError):
        return StoreError(f"{location} is not Elasticsearch (OpenSearch is another program). Check DATABASE_URL.")
    if not isinstance(error, ApiError):
        reason = str(error).strip().partition("\n")[0]
        return StoreUnavailable(f"{location} cannot be reached just now ({reason}). Check the server and DATABASE_URL.")
    return explain_refusal(error.meta.status, _find_reason(error), location)


def explain_refusal(status: int, reason: str, location: str) -> StoreError:
    """The same for the status and reason of a request or of one operation in it."""
    if "flood-stage" in reason or "disk usage exceeded" in reason:
        return StoreFull(f"The disk of {location} is full. Nothing of this batch was kept; free some space, run again.")
    if "Result window is too large" in reason:
        return StoreError(f"{location} gives no images so far down a list. Narrow the search by a filter.")
    if status in (401, 403):
        return StoreError(f"{location} does not let this user do that ({reason}). Check the user in DATABASE_URL.")
    if status in (408, 429, 502, 503, 504):
        return StoreUnavailable(f"{location} cannot answer just now ({reason}). Try again.")
    return StoreError(f"{location} refused: {reason}.")


def _find_reason(error: ApiError) -> str:
    """The innermost reason an answer gives, in one line."""
    body = error.body if isinstance(error.body, dict) else {}
    details = body.get("error", {})
    causes = details.get("root_cause", []) if isinstance(details, dict) else []
    reasons = [cause.get("reason") for cause in causes if cause.get("reason")]
    return str(reasons[0] if reasons else error.message).partition("\n")[0][:300]


def _read_url(url: str) -> tuple[str, str, dict[str, Any]]:
    """The address without secrets, the index, and the options for the driver."""
    try:
        parts = urlsplit(url)
        scheme = "https" if parts.scheme == "elasticsearch+https" else "http"
        if not parts.hostname:
            raise ValueError
        address = f"{scheme}://{parts.hostname}:{parts.port or 9200}"
        given = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    except ValueError:
        raise SettingsError(_FORM) from None
    index = parts.path.strip("/") or "image_search"
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,99}", index, re.ASCII):
        raise SettingsError("The index in DATABASE_URL may have small letters, digits, - and _ : /image_search")
    options: dict[str, Any] = {}
    if parts.username:
        options["basic_auth"] = (unquote(parts.username), unquote(parts.password or ""))
    if "ca_certs" in given:
        options["ca_certs"] = given.pop("ca_certs")
    if given:
        raise SettingsError(_FORM)
    return address, index, options


# One writer at a time, by a document that only one program can create.
#
# No clocks are compared: a lock that did not change during its whole lease belongs to a program that
# died, and is taken over on the condition that it did not change in the last moment either.

_ID = "writer"
_LEASE = 60.0  # seconds
_PATIENCE = 150.0
_PAUSE = 0.05


class Held(NamedTuple):
    """A lock that is held. Both raise StoreUnavailable if it was lost in the meantime."""

    ensure: Callable[[], None]
    keep: Callable[[], None]  # for work that takes longer than a lease


@contextmanager
def lock(client: Any, index: str, location: str) -> Iterator[Held]:
    """Hold the lock of a library. index: that of its state."""
    holder = uuid.uuid4().hex
    _take(client, index, location, holder)

    def ensure() -> None:
        try:
            if client.get(index=index, id=_ID)["_source"]["holder"] == holder:
                return
        except NotFoundError:
            pass
        raise StoreUnavailable(f"Writing to {location} took too long. Nothing was kept; try again.")

    def keep() -> None:
        ensure()
        client.index(index=index, id=_ID, document={"holder": holder})

    try:
        yield Held(ensure, keep)
    finally:
        with suppress(ApiError, TransportError, StoreUnavailable):  # an error inside says more
            ensure()
            client.delete(index=index, id=_ID)


def _take(client: Any, index: str, location: str, holder: str) -> None:
    document = {"holder": holder}
    seen, since, begun = None, time.monotonic(), time.monotonic()
    while time.monotonic() - begun < _PATIENCE:
        with suppress(ConflictError):
            client.create(index=index, id=_ID, document=document)
            return
        with suppress(NotFoundError, ConflictError):
            found = client.get(index=index, id=_ID)
            version = (found["_seq_no"], found["_primary_term"])
            if found["_source"]["holder"] == holder:  # made by a request that was not answered
                return
            if version != seen:
                seen, since = version, time.monotonic()
            elif time.monotonic() - since > _LEASE:
                client.index(index=index, id=_ID, document=document, if_seq_no=version[0], if_primary_term=version[1])
                return
            time.sleep(_PAUSE)
    raise StoreUnavailable(f"{location} is held by another program. Try again when it has finished.")


# Queries.


def build_query(filter: SearchFilter, terms: Sequence[str] = (), model_id: int | None = None) -> Query:
    """The query for live images that qualify, have all terms, and have an embedding of the model."""
    conditions: list[Query] = [match_keys([LIVE])]
    excluded: list[Query] = []
    for is_wanted, keys in list_filter_keys(filter):
        (conditions if is_wanted else excluded).append(match_keys(keys))
    conditions += _list_ranges(filter)
    conditions += [_match_term(term) for term in (*filter.words, *terms) if term.strip()]
    if model_id is not None:
        conditions.append(match_model(model_id))
    return {"bool": {"filter": conditions, **({"must_not": excluded} if excluded else {})}}


def build_nearest(query: Query, field: str, embedding: Embeddings) -> Query:
    """The query that scores what qualifies by 1 plus the inner product, which is never negative but for rounding."""
    script = f"Math.max(0.0, dotProduct(params.embedding, '{field}') + 1.0)"
    return {"script_score": {"query": query, "script": {"source": script, "params": {"embedding": embedding.tolist()}}}}


def build_neighbours(query: Query, field: str, embedding: Embeddings, count: int) -> Query:
    """The query for `count` nearest images, for clusters without scripts. The search must request as many hits."""
    return {
        "knn": {
            "field": field,
            "query_vector": embedding.tolist(),
            "num_candidates": count,
            "filter": query,
        }
    }


def read_neighbour_score(score: float) -> float:
    """The inner product that max_inner_product makes a positive score of."""
    return score - 1 if score >= 1 else 1 - 1 / score


def match_keys(keys: Sequence[str]) -> Query:
    """The condition that an image has one of these keys."""
    return {"terms": {"tags": list(keys)}}


def match_model(model_id: int, min_recipe: int = 0) -> Query:
    """The condition that an image has an embedding of a model, of at least this recipe."""
    return {"term": {"models": make_model_key(model_id, min_recipe)}}


def _list_ranges(filter: SearchFilter) -> Iterator[Query]:
    for field, low, high in list_filter_ranges(filter):
        bounds = {name: bound for name, bound in (("gte", low), ("lt", high)) if bound is not None}
        yield {"range": {field: bounds}}


def _match_term(term: str) -> Query:
    tokens = tokenize_query(sanitize(term))
    if not tokens:
        return {"match_none": {}}
    if is_beginning_query(sanitize(term)):
        return {"term": {"words.beginnings": tokens}}
    return {"match_phrase": {"words": tokens}}
