"""One library in one Elasticsearch cluster: its two indexes, its state, and what refusals mean to a person.

The index NAME holds the images, the index NAME-library one document with everything that is there once: models and
counters. It is changed on the condition that nobody else changed it meanwhile.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import elasticsearch
from elastic_transport import TransportError
from elasticsearch import ApiError, BadRequestError, ConflictError, UnsupportedProductError

from image_search.errors import SchemaError, SettingsError, StoreError, StoreFull, StoreUnavailable
from image_search.stores.elasticsearch_documents import MAPPINGS, SETTINGS, make_vector_field

T = TypeVar("T")
State = dict[str, Any]

SCHEMA_VERSION = 1

_STATE_ID = "state"
_FIRST_STATE = {
    "schema": SCHEMA_VERSION,
    "models": "[]",
    "last_model_id": 0,
    "last_image_id": 0,
    "removed_originals": [],
}
_FORM = (
    "DATABASE_URL cannot be read. Write elasticsearch://user:password@host:9200/image_search, with special characters "
    "of the password as %40 for @, %2F for / and so on; for TLS elasticsearch+https://, and ?ca_certs=/path/ca.crt "
    "where the server has a certificate of its own."
)


class Connection:
    """Speaks with one cluster for any number of threads. It is reached, and the indexes made, when first needed."""

    def __init__(self, url: str) -> None:
        address, self.index, options = _read_url(url)
        self.location = f"{address}/{self.index}"
        self.state_index = f"{self.index}-library"
        self._client = elasticsearch.Elasticsearch(address, request_timeout=120, max_retries=2, **options)
        self._lock = threading.Lock()
        self._prepared = False

    @contextmanager
    def speaking(self) -> Iterator[elasticsearch.Elasticsearch]:
        """The client, prepared. What the cluster refuses inside is raised as a StoreError."""
        try:
            with self._lock:
                if not self._prepared:
                    self._prepare()
                    self._prepared = True
            yield self._client
        except (ApiError, TransportError, UnsupportedProductError) as error:
            raise explain_error(error, self.location) from error

    def read_state(self) -> State:
        """What is there once in a library."""
        with self.speaking() as client:
            state: State = client.get(index=self.state_index, id=_STATE_ID)["_source"]
        return state

    def change_state(self, change: Callable[[State], T]) -> T:
        """Change the state in place, at once or not at all; done again if somebody else was quicker."""
        while True:
            with self.speaking() as client:
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

    def write(self, operations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Send operations in one request and make them visible together. Returns what became of each."""
        with self.speaking() as client:
            answer = client.bulk(index=self.index, operations=operations, refresh=True)
        return [next(iter(item.values())) for item in answer["items"]]

    def search(self, **question: Any) -> list[dict[str, Any]]:
        """The hits of a search in the index of images."""
        with self.speaking() as client:
            answer = client.search(index=self.index, track_total_hits=False, **question)
        if answer["timed_out"] or answer["_shards"]["failed"]:
            raise StoreUnavailable(f"{self.location} answered in part only. Check the state of the cluster.")
        hits: list[dict[str, Any]] = answer["hits"]["hits"]
        return hits

    def add_vector_field(self, model_id: int, dimension: int) -> None:
        """Let the index hold embeddings of a new model: without an index of neighbours, so every search is exact."""
        field = {"type": "dense_vector", "dims": dimension, "index": False}
        with self.speaking() as client:
            client.indices.put_mapping(index=self.index, properties={make_vector_field(model_id): field})

    def close(self) -> None:
        self._client.close()

    def _prepare(self) -> None:
        for index, mappings in ((self.index, MAPPINGS), (self.state_index, {"enabled": False})):
            try:
                self._client.indices.create(index=index, mappings=mappings, settings=SETTINGS)
            except BadRequestError as error:
                if error.message != "resource_already_exists_exception":
                    raise
        try:
            self._client.create(index=self.state_index, id=_STATE_ID, document=_FIRST_STATE)
        except ConflictError:
            found = self._client.get(index=self.state_index, id=_STATE_ID)["_source"]["schema"]
            if found != SCHEMA_VERSION:
                raise SchemaError(
                    f"{self.location} has schema version {found}, this program knows version {SCHEMA_VERSION}. "
                    "Use the version of the program that made it, or name another index in DATABASE_URL."
                ) from None


def explain_error(error: Exception, location: str) -> StoreError:
    """What went wrong in one sentence, with the server and what to do. No password is in it."""
    if isinstance(error, UnsupportedProductError):
        return StoreError(f"{location} is not Elasticsearch (OpenSearch is another program). Check DATABASE_URL.")
    if not isinstance(error, ApiError):
        reason = str(error).strip().partition("\n")[0]
        return StoreUnavailable(f"{location} cannot be reached just now ({reason}). Check the server and DATABASE_URL.")
    return explain_refusal(error.meta.status, find_reason(error), location)


def explain_refusal(status: int, reason: str, location: str) -> StoreError:
    """The same for the status and reason of a request or of one operation in it."""
    if "flood-stage" in reason or "disk usage exceeded" in reason:
        return StoreFull(f"The disk of {location} is full. Nothing of this batch was kept; free some space, run again.")
    if status in (401, 403):
        return StoreError(f"{location} does not let this user do that ({reason}). Check the user in DATABASE_URL.")
    if status in (408, 429, 502, 503, 504):
        return StoreUnavailable(f"{location} cannot answer just now ({reason}). Try again.")
    return StoreError(f"{location} refused: {reason}.")


def find_reason(error: ApiError) -> str:
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
