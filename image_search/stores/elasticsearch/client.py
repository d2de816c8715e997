"""One library in one Elasticsearch cluster: its two indexes, its state, and what refusals mean to a person.

The index NAME holds the images, the index NAME-library one document with everything that is there once: models and
counters. It is changed on the condition that nobody else changed it meanwhile.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import elasticsearch
from elastic_transport import TransportError
from elasticsearch import ApiError, BadRequestError, ConflictError, NotFoundError, UnsupportedProductError

from image_search.errors import SchemaError, SettingsError, StoreError, StoreFull, StoreUnavailable
from image_search.stores.elasticsearch.documents import MAPPINGS, SETTINGS, make_vector_field

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
    def client(self) -> Iterator[elasticsearch.Elasticsearch]:
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
        with self.client() as client:
            state: State = client.get(index=self.state_index, id=_STATE_ID)["_source"]
        return state

    def change_state(self, change: Callable[[State], T]) -> T:
        """Change the state in place, at once or not at all; done again if somebody else was quicker."""
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

    def write(self, operations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Send operations in one request and make them visible together. Returns what became of each."""
        with self.client() as client:
            answer = client.bulk(index=self.index, operations=operations, refresh=True)
        return [next(iter(item.values())) for item in answer["items"]]

    def search(self, **question: Any) -> list[dict[str, Any]]:
        """The hits of a search in the index of images."""
        with self.client() as client:
            answer = client.search(index=self.index, track_total_hits=False, **question)
        if answer["timed_out"] or answer["_shards"]["failed"]:
            raise StoreUnavailable(f"{self.location} answered in part only. Check the state of the cluster.")
        hits: list[dict[str, Any]] = answer["hits"]["hits"]
        return hits

    def add_vector_field(self, model_id: int, dimension: int) -> None:
        """Let the index hold embeddings of a new model: without an index of neighbours, so every search is exact."""
        field = {"type": "dense_vector", "dims": dimension, "index": False}
        with self.client() as client:
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


# One writer at a time, by a document that only one program can create.
#
# No clocks are compared: a lock that did not change while somebody waited for its whole lease belongs to a program that
# died, and is taken over on the condition that it did not change in the last moment either.

_ID = "writer"
_LEASE = 60.0  # seconds
_PATIENCE = 150.0
_PAUSE = 0.05


@contextmanager
def writing(connection: Connection) -> Iterator[Callable[[], None]]:
    """Hold the lock. Yields a function that raises StoreUnavailable if it was lost in the meantime."""
    holder = uuid.uuid4().hex
    index = connection.state_index
    with connection.client() as client:
        _take(connection, holder)

        def ensure_locked() -> None:
            try:
                if client.get(index=index, id=_ID)["_source"]["holder"] == holder:
                    return
            except NotFoundError:
                pass
            raise StoreUnavailable(f"Writing to {connection.location} took too long. Nothing was kept; try again.")

        try:
            yield ensure_locked
        finally:
            with suppress(ApiError, TransportError, StoreUnavailable):  # an error inside says more
                ensure_locked()
                client.delete(index=index, id=_ID)


def _take(connection: Connection, holder: str) -> None:
    index = connection.state_index
    seen, since, begun = None, time.monotonic(), time.monotonic()
    while time.monotonic() - begun < _PATIENCE:
        with connection.client() as client:
            try:
                client.create(index=index, id=_ID, document={"holder": holder})
                return
            except ConflictError:
                pass
            try:
                found = client.get(index=index, id=_ID)
                version = (found["_seq_no"], found["_primary_term"])
                if version != seen:
                    seen, since = version, time.monotonic()
                elif time.monotonic() - since > _LEASE:
                    client.index(
                        index=index,
                        id=_ID,
                        document={"holder": holder},
                        if_seq_no=version[0],
                        if_primary_term=version[1],
                    )
                    return
            except (NotFoundError, ConflictError):
                continue
        time.sleep(_PAUSE)
    raise StoreUnavailable(f"{connection.location} is held by another program. Try again when it has finished.")


# Reading and changing documents as they are at this moment, whether searches see it yet or not.

Fields = dict[str, Any]

_CHUNK = 500


def read_images(connection: Connection, hashes: Sequence[str], names: Sequence[str]) -> Iterator[tuple[str, Fields]]:
    """Fields of those of these images that exist, with the version to change them on the condition that it holds."""
    with connection.client() as client:
        for start in range(0, len(hashes), _CHUNK):
            chunk = hashes[start : start + _CHUNK]
            for found in client.mget(index=connection.index, ids=chunk, source_includes=names)["docs"]:
                if found["found"]:
                    version = {"if_seq_no": found["_seq_no"], "if_primary_term": found["_primary_term"]}
                    yield found["_id"], {**found["_source"], "version": version}


def change_images(
    connection: Connection, hashes: Sequence[str], change: Callable[[str, Fields], Fields | None]
) -> None:
    """Change fields of these images, as far as they exist; done again for those somebody else changed meanwhile.

    change is given an image's record and models, and returns the fields to set; None: leave it as it is.
    """
    while hashes:
        operations: list[Fields] = []
        for sha256, found in read_images(connection, hashes, ["record", "models"]):
            fields = change(sha256, found)
            if fields is not None:
                operations += [{"update": {"_id": sha256, **found["version"]}}, {"doc": fields}]
        results = connection.write(operations) if operations else []
        hashes = [result["_id"] for result in results if result["status"] == 409]
        check_results(connection, (result for result in results if result["status"] not in (404, 409)))


def check_results(connection: Connection, results: Iterable[dict[str, Any]]) -> None:
    """Raise the first refusal among what became of the operations of one request."""
    for result in results:
        if "error" in result:
            raise explain_refusal(result["status"], str(result["error"].get("reason")), connection.location)
