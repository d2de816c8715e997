"""One library in one Redis server: its keys, its index, its lock, and the messages for its errors."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
from redis import exceptions

from image_search.errors import SchemaError, SettingsError, StoreError, StoreFull, StoreUnavailable
from image_search.stores.documents import load_models
from image_search.stores.errors import SCHEMA_VERSION, newer_schema

_log = logging.getLogger(__name__)

_LEASE = 60  # seconds; after a crash of its holder the lock is free again
_PATIENCE = 90.0
_ATTEMPTS = 20  # to see one moment while others write
_INDEXING = 60.0  # seconds to wait for an index that is being built
# tags, models: exact values (documents.py). words: tokens of stores/text.py (query.py); no stop words, no stems.
_FIELDS = ("tags", "TAG", "models", "TAG", "words", "TEXT", "NOSTEM")
_NUMBERS = ("taken_at", "pixels", "rating", "recipe")
_SORTED_NUMBERS = ("image_id", "upload_date", "taken_order", "shuffle")
# Sorted only: compared byte by byte (UNF), found by nothing.
_SORTED_TEXT = ("sort_name", "TAG", "SORTABLE", "UNF", "NOINDEX")
_FORM = (
    "DATABASE_URL cannot be read. Write redis://user:password@host:6379/0, with special characters of the password "
    "as %40 for @, %2F for / and so on; ?library=name keeps several libraries on one server."
)


class Connection:
    """Speaks with one server for any number of threads. It is reached, and the index made, when first needed."""

    def __init__(self, url: str, migrate: Callable[[Any, Connection, Callable[[], object]], None]) -> None:
        """migrate: carries a library of schema 1 over, given the client and a function that keeps the lock.

        It may be interrupted and called again.
        """
        self._migrate = migrate
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

    def make_trash_key(self, image_id: int) -> str:
        """The key of the same hash in the trash, where the index does not look."""
        return self.make_key(f"trash:{image_id}")

    @contextmanager
    def client(self) -> Iterator[Any]:
        """The client, prepared. Refusals of the server inside are raised as a StoreError."""
        try:
            with self._lock:
                if not self._prepared:
                    self._prepare()
                    self._prepared = True
            yield self._client
        except exceptions.RedisError as error:
            raise explain_error(error, self.location) from error

    def ask(self, *commands: Sequence[Any]) -> list[Any]:
        """The answers to commands that change nothing, all of one moment.

        Searches cannot be part of a transaction on every server. So every writer counts up a revision, and answers
        between two different revisions are asked for again. An index that was lost is made again first.
        """
        revision = ("GET", self.make_key("revision"))
        for attempt in range(_ATTEMPTS):
            with self.client() as client, client.pipeline(transaction=False) as pipeline:
                for command in (revision, *commands, revision):
                    pipeline.execute_command(*command)
                answers: list[Any]
                before, *answers, after = pipeline.execute(raise_on_error=False)
            failure = next((answer for answer in answers if isinstance(answer, exceptions.RedisError)), None)
            if failure is None and (before == after or attempt == _ATTEMPTS - 1):
                return answers
            if failure is not None and (attempt > 0 or not _is_without_index(failure)):
                raise explain_error(failure, self.location) from failure
            if failure is not None:
                self._prepared = False
        raise AssertionError

    @contextmanager
    def writing(self) -> Iterator[Any]:
        """Hold the lock of those who add, trash and remove images. Yields a function that checks it is still held.

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
        # Reads only, as long as nothing is missing: a server over its maxmemory must still be searched.
        version = int(self._client.get(self.make_key("schema")) or 0)
        if version > SCHEMA_VERSION:
            raise newer_schema(self.location, version)
        if version == 1:
            self._migrate_alone()
            return
        if not self._is_indexed():
            self._make_index()
        if version != SCHEMA_VERSION:  # the last step of making a library
            self._client.set(self.make_key("schema"), SCHEMA_VERSION)

    def _migrate_alone(self) -> None:
        lock = self._client.lock(self.make_key("writer"), timeout=_LEASE, sleep=0.1, blocking_timeout=_PATIENCE)
        if not lock.acquire():
            raise StoreUnavailable(f"{self.location} is held by another program. Try again when it has finished.")
        try:
            if int(self._client.get(self.make_key("schema"))) == 1:
                self._migrate(self._client, self, lock.reacquire)
                self._make_index()
                self._client.set(self.make_key("schema"), SCHEMA_VERSION)  # the last step
                _log.warning("%s: migrated the library to schema %s.", self.location, SCHEMA_VERSION)
        finally:
            with suppress(exceptions.RedisError):
                lock.release()

    def _is_indexed(self) -> bool:
        """Whether the index is there. Waits until everything that was there before it is in it."""
        until = time.monotonic() + _INDEXING
        while True:
            try:
                info = self._client.execute_command("FT.INFO", self.index)
            except exceptions.ResponseError as error:
                if "unknown command" in str(error).lower():
                    raise SchemaError(
                        f"The Redis server of {self.location} has no query engine (module search). Use Redis 8 or "
                        "newer, for example: docker compose --profile redis up --detach --wait"
                    ) from error
                if not _is_without_index(error):
                    raise
                return False
            values = dict(zip(info[::2], info[1::2], strict=False))
            if int(values.get(b"indexing", 0)) == 0:
                return True
            if time.monotonic() > until:
                share = float(values.get(b"percent_indexed", 0))
                raise StoreUnavailable(f"{self.location} is building its index ({share:.0%}). Try again in a moment.")
            time.sleep(0.05)

    def _make_index(self) -> None:
        # There are models already where the index was lost, for example with a backup that holds the hashes only.
        models = load_models(self._client.get(self.make_key("models")))
        vectors = [word for model in models for word in _describe_vector_field(model.model_id, model.dimension)]
        try:
            self._client.execute_command(
                *("FT.CREATE", self.index, "ON", "HASH", "PREFIX", 1, self.make_image_key(0)[:-1]),
                *("STOPWORDS", 0, "SCHEMA", *_FIELDS),
                *(word for field in _NUMBERS for word in (field, "NUMERIC")),
                *(word for field in _SORTED_NUMBERS for word in (field, "NUMERIC", "SORTABLE")),
                *_SORTED_TEXT,
                *vectors,
            )
        except exceptions.ResponseError as error:
            if "already exists" not in str(error).lower():
                raise
        self._is_indexed()


def _is_without_index(error: Exception) -> bool:
    reason = str(error).lower()
    return any(sign in reason for sign in ("unknown index", "no such index", "index not found"))


def make_vector_field(model_id: int) -> str:
    """The field that holds the embeddings of a model."""
    return f"embedding_{int(model_id)}"


def _describe_vector_field(model_id: int, dimension: int) -> list[str | int]:
    options: list[str | int] = ["TYPE", "FLOAT32", "DIM", dimension, "DISTANCE_METRIC", "IP"]
    return [make_vector_field(model_id), "VECTOR", "FLAT", len(options), *options]


def explain_error(error: exceptions.RedisError, location: str) -> StoreError:
    """The error in one sentence, with the server and what to do. No password is in it."""
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
