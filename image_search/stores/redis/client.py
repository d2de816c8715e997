"""One library in one Redis server: its keys, its index, its lock, and what the server's refusals mean to a person."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
from redis import exceptions

from image_search.errors import SchemaError, SettingsError, StoreError, StoreFull, StoreUnavailable
from image_search.stores.documents import load_models

SCHEMA_VERSION = b"1"

_LEASE = 60  # seconds; after a crash of its holder the lock is free again
_PATIENCE = 90.0
# tags, models: exact values (redis_query.py). words: the tokens of phrases.py; no stop words, no stems.
_FIELDS = ("tags", "TAG", "models", "TAG", "words", "TEXT", "NOSTEM", "taken_at", "NUMERIC", "pixels", "NUMERIC")
_SORTED_FIELDS = ("image_id", "upload_date", "shuffle")
_FORM = (
    "DATABASE_URL cannot be read. Write redis://user:password@host:6379/0, with special characters of the password "
    "as %40 for @, %2F for / and so on; ?library=name keeps several libraries on one server."
)


class Connection:
    """Speaks with one server for any number of threads. It is reached, and the index made, when first needed."""

    def __init__(self, url: str) -> None:
        url, self.library, self.location = _read_url(url)
        try:
            self._client: Any = redis.Redis.from_url(
                url, protocol=2, socket_connect_timeout=10, socket_timeout=120, health_check_interval=30
            )
        except ValueError:
            raise SettingsError(_FORM) from None  # the driver's words may hold the password
        self.index = self.make_key("index")
        self._lock = threading.Lock()
        self._prepared = False

    def make_key(self, name: str) -> str:
        """The key of one thing of this library."""
        return f"{self.library}:{name}"

    def make_image_key(self, image_id: int) -> str:
        """The key of the hash that holds one image."""
        return self.make_key(f"image:{image_id}")

    @contextmanager
    def client(self) -> Iterator[Any]:
        """The client, prepared. What the server refuses inside is raised as a StoreError."""
        try:
            with self._lock:
                if not self._prepared:
                    self._prepare()
                    self._prepared = True
            yield self._client
        except exceptions.RedisError as error:
            raise explain_error(error, self.location) from error

    @contextmanager
    def writing(self) -> Iterator[Any]:
        """The client while nobody else adds images or removes originals. Yields a function that checks it is so.

        The function is given a pipeline: its transaction is refused if the lock was lost in the meantime.
        """
        with self.client() as client:
            key = self.make_key("writer")
            lock = client.lock(key, timeout=_LEASE, sleep=0.02, blocking_timeout=_PATIENCE)
            if not lock.acquire():
                raise StoreUnavailable(f"{self.location} is held by another program. Try again when it has finished.")

            def ensure_locked(pipeline: Any) -> None:
                pipeline.watch(key)
                if pipeline.get(key) != lock.local.token:
                    raise StoreUnavailable(f"Writing to {self.location} took too long. Nothing was kept; try again.")

            try:
                yield ensure_locked
            finally:
                with suppress(exceptions.RedisError):  # an error inside says more than one of letting go
                    lock.release()

    def add_vector_field(self, model_id: int, dimension: int) -> None:
        """Let the index hold embeddings of a new model: exact search, inner product."""
        with self.client() as client:
            field = _describe_vector_field(model_id, dimension)
            client.execute_command("FT.ALTER", self.index, "SKIPINITIALSCAN", "SCHEMA", "ADD", *field)

    def close(self) -> None:
        self._client.close()

    def _prepare(self) -> None:
        # There are models already where the index was lost, for example with a backup that holds the hashes only.
        models = load_models(self._client.get(self.make_key("models")))
        vectors = [word for model in models for word in _describe_vector_field(model.model_id, model.dimension)]
        try:
            self._client.execute_command(
                *("FT.CREATE", self.index, "ON", "HASH", "PREFIX", 1, self.make_image_key(0)[:-1]),
                *("STOPWORDS", 0, "SCHEMA", *_FIELDS),
                *(word for field in _SORTED_FIELDS for word in (field, "NUMERIC", "SORTABLE")),
                *vectors,
            )
        except exceptions.ResponseError as error:
            if "unknown command" in str(error).lower():
                raise SchemaError(
                    f"The Redis server of {self.location} has no query engine (module search). Use Redis 8 or newer, "
                    "for example: docker compose --profile redis up --detach --wait"
                ) from error
            if "already exists" not in str(error).lower():
                raise
        key = self.make_key("schema")
        self._client.setnx(key, SCHEMA_VERSION)
        found = self._client.get(key)
        if found != SCHEMA_VERSION:
            raise SchemaError(
                f"{self.location} has schema version {found.decode()}, this program knows version "
                f"{SCHEMA_VERSION.decode()}. Use the version of the program that made it, or name another library: "
                "?library=name at the end of DATABASE_URL."
            )


def make_vector_field(model_id: int) -> str:
    """The field that holds the embeddings of a model."""
    return f"embedding_{int(model_id)}"


def _describe_vector_field(model_id: int, dimension: int) -> list[str | int]:
    options: list[str | int] = ["TYPE", "FLOAT32", "DIM", dimension, "DISTANCE_METRIC", "IP"]
    return [make_vector_field(model_id), "VECTOR", "FLAT", len(options), *options]


def explain_error(error: exceptions.RedisError, location: str) -> StoreError:
    """What went wrong in one sentence, with the server and what to do. No password is in it."""
    reason = str(error).strip().partition("\n")[0]
    if isinstance(error, exceptions.OutOfMemoryError) or reason.startswith("OOM"):
        return StoreFull(f"The memory of {location} is full. Nothing of this batch was kept; raise maxmemory.")
    if reason.startswith("MISCONF"):
        return StoreFull(f"{location} cannot save to its disk ({reason}). Free some space there and run again.")
    if isinstance(error, exceptions.AuthenticationError | exceptions.NoPermissionError):
        return StoreError(f"{location} does not let this user do that ({reason}). Check the user in DATABASE_URL.")
    if isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError | exceptions.BusyLoadingError):
        return StoreUnavailable(f"{location} cannot be reached just now ({reason}). Check the server and DATABASE_URL.")
    return StoreError(f"{location} refused: {reason}.")


def _read_url(url: str) -> tuple[str, str, str]:
    """The URL for the driver, the name of the library, and the place without secrets."""
    try:
        parts = urlsplit(url)
        place = f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
        options = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    except ValueError:
        raise SettingsError(_FORM) from None
    library = options.pop("library", "image_search")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", library):
        raise SettingsError("The library in DATABASE_URL may have letters, digits, - and _: ?library=pictures-2024")
    if parts.path.strip("/") not in ("", "0") or options.get("db", "0") != "0":
        raise SettingsError(
            "DATABASE_URL names another database than 0, and Redis searches in that one only. "
            "Write redis://host:6379/0?library=name to keep several libraries apart."
        )
    driver_url = urlunsplit(parts._replace(query=urlencode(options)))
    return driver_url, library, f"{parts.scheme}://{place}/0?library={library}"
