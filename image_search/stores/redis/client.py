"""One library in one Redis server: its keys, its index, its lock, the messages for its errors, and queries.

No text of a user ever stands in an expression: exact values are digests, words are plain tokens (stores/tokens.py).
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
from redis import exceptions

from image_search.errors import SchemaError, SettingsError, StoreError, StoreFull, StoreUnavailable
from image_search.records import SearchFilter
from image_search.stores.base import Embeddings
from image_search.stores.document_store import load_models
from image_search.stores.documents import list_filter_keys, list_filter_ranges, make_model_key
from image_search.stores.reads import SCHEMA_VERSION, newer_schema
from image_search.stores.text import sanitize
from image_search.stores.tokens import (
    BEGUN,
    TOKEN_RULE,
    TOKEN_SETTING,
    has_old_tokens,
    is_beginning_query,
    tokenize_document,
    tokenize_query,
)

_log = logging.getLogger(__name__)

_LEASE = 60  # seconds; after a crash of its holder the lock is free again
_PATIENCE = 90.0
_ATTEMPTS = 20  # to see one moment while others write
_INDEXING = 60.0  # seconds to wait for an index that is being built
# tags, models: exact values (documents.py). words: tokens of stores/tokens.py; no stop words, no stems.
_FIELDS = ("tags", "TAG", "models", "TAG", "words", "TEXT", "NOSTEM")
_NUMBERS = ("taken_at", "pixels", "rating", "recipe")
_SORTED_NUMBERS = ("image_id", "upload_date", "taken_order", "shuffle")
# Sorted only: compared byte by byte (UNF), found by nothing.
_SORTED_TEXT = ("sort_name", "TAG", "SORTABLE", "UNF", "NOINDEX")
_FORM = (
    "DATABASE_URL cannot be read. Write redis://user:password@host:6379/0, with special characters of the password "
    "as %40 for @, %2F for / and so on; ?library=name keeps several libraries on one server."
)

Change = Callable[[Any, "Connection", Callable[[], object]], None]


class Connection:
    """Speaks with one server for any number of threads. It is reached, and the index made, when first needed."""

    def __init__(self, url: str, migrate: Change, renew_words: Change) -> None:
        """migrate: carries a library of schema 1 over. renew_words: writes the tokens of all images again.

        Both are given the client and a function that keeps the lock, and may be interrupted and called again.
        """
        self._migrate = migrate
        self._renew_words = renew_words
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

        The transaction of a pipeline that the function is given is refused if the lock is lost later.
        """
        with self.client() as client:
            key = self.make_key("writer")
            lock = client.lock(key, timeout=_LEASE, sleep=0.02, blocking_timeout=_PATIENCE)
            if not lock.acquire():
                raise StoreUnavailable(f"{self.location} is held by another program. Try again when it has finished.")

            def ensure_locked(pipeline: Any = None) -> None:
                if pipeline is not None:
                    pipeline.watch(key)
                with self.client() as client:
                    holder = (client if pipeline is None else pipeline).get(key)
                if holder != lock.local.token:
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
            with self._only_writer() as keep_lock:
                if int(self._client.get(self.make_key("schema"))) == 1:
                    self._migrate(self._client, self, keep_lock)
                    self._make_index()
                    self._set_token_rule(str(TOKEN_RULE))
                    self._client.set(self.make_key("schema"), SCHEMA_VERSION)  # the last step
                    _log.warning("%s: migrated the library to schema %s.", self.location, SCHEMA_VERSION)
            return
        if not self._is_indexed():
            self._make_index()
        if version != SCHEMA_VERSION:
            self._set_token_rule(str(TOKEN_RULE))
            self._client.set(self.make_key("schema"), SCHEMA_VERSION)  # the last step of making a library
        if self.has_old_words(self._client):
            # Without the right to write, or with a full memory, words are found as they were indexed.
            with suppress(exceptions.OutOfMemoryError, exceptions.NoPermissionError, exceptions.ReadOnlyError):
                self._renew_words_alone()

    def has_old_words(self, client: Any) -> bool:
        """Whether words are indexed by an older rule. Raises SchemaError for a newer one."""
        kept = client.hget(self.make_key("settings"), TOKEN_SETTING)
        return has_old_tokens(kept and kept.decode(), self.location)

    def _set_token_rule(self, rule: str) -> None:
        self._client.hset(self.make_key("settings"), TOKEN_SETTING, rule)

    def _renew_words_alone(self) -> None:
        with self._only_writer() as keep_lock:
            if self.has_old_words(self._client):  # still: another program may have been quicker
                _log.warning("%s: indexing all words again, by rule %s.", self.location, TOKEN_RULE)
                self._set_token_rule(BEGUN)  # from here on older programs write nothing
                self._renew_words(self._client, self, keep_lock)
                self._set_token_rule(str(TOKEN_RULE))

    @contextmanager
    def _only_writer(self) -> Iterator[Callable[[], object]]:
        """Hold the lock for work that takes longer than a lease. Yields a function that keeps it."""
        lock = self._client.lock(self.make_key("writer"), timeout=_LEASE, sleep=0.1, blocking_timeout=_PATIENCE)
        if not lock.acquire():
            raise StoreUnavailable(f"{self.location} is held by another program. Try again when it has finished.")
        try:
            yield lock.reacquire
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


# Queries: a SearchFilter and terms as one expression, and the commands around it.

_ALL = 1_000_000  # the engine returns no more at once
# Half a second, the default, would silently cut results short.
_COMMON = ("TIMEOUT", 110_000, "DIALECT", 2)
_NOTHING = "@tags:{nothing}"
_SLACK = 16  # extra neighbours, to see whether a tie continues beyond the last

# Words.
#
# The engine lets two equal tokens of a phrase stand at one position, when one follows the other: "no no" would find a
# single no. So every second one of equal tokens in a row is stored under another name, and a phrase, which may begin
# anywhere in such a row, is asked for in both ways it can be stored.
#
# The beginning of a token is not left to the engine, either: it looks at the first 200 tokens that begin so. Every
# token is kept in a sorted set (vocabulary), and all that begin so are asked for by name.

_REPEATED = "z0"  # no token begins so: runs are letters or digits only
_NO_RUNS = ("c0", "f0")  # single characters and boundaries


def make_words(fields: Iterable[str | None]) -> str:
    """The tokens of all fields of an image as they are stored."""
    return " ".join(_mark_repeated(tokenize_document(fields).split()))


def list_beginnings(fields: Iterable[str | None]) -> set[str]:
    """The tokens of an image that a term may be the beginning of."""
    return {token for token in tokenize_document(fields).split() if len(token) > 1 and token[:2] not in _NO_RUNS}


def _mark_repeated(tokens: Sequence[str], first: bool = False) -> list[str]:
    """Every second one of equal tokens in a row under its other name. first: whether the first token is such a one."""
    marked: list[str] = []
    is_marked = first
    for number, token in enumerate(tokens):
        if number > 0:
            is_marked = token == tokens[number - 1] and not is_marked
        marked.append(_REPEATED + token if is_marked else token)
    return marked


def list_tokens(connection: Connection, start: str) -> list[str]:
    """All stored tokens that begin like this one."""
    [tokens] = connection.ask(("ZRANGEBYLEX", connection.make_key("vocabulary"), f"[{start}", f"({start}\x7f"))
    return [token.decode() for token in tokens]


def _match_term(term: str, expand: Callable[[str], list[str]]) -> str:
    tokens = tokenize_query(sanitize(term)).split()
    if not tokens:
        return _NOTHING
    if is_beginning_query(sanitize(term)):
        phrases = expand(tokens[0])
    elif len(tokens) == 1:
        phrases = tokens
    else:
        phrases = [" ".join(_mark_repeated(tokens, first)) for first in (False, True)]
    quoted = "|".join(f'"{phrase}"' for phrase in phrases)
    return f"@words:({quoted})" if quoted else _NOTHING


# Expressions.


def build_expression(
    filter: SearchFilter,
    terms: Sequence[str] = (),
    model_id: int | None = None,
    expand: Callable[[str], list[str]] = lambda token: [token],
) -> str:
    """The expression for images that qualify, have all terms, and have an embedding of the model.

    expand: gives all stored tokens that begin like one.
    """
    conditions = list(_list_conditions(filter))
    conditions += [_match_term(term, expand) for term in (*filter.words, *terms) if term.strip()]
    if model_id is not None:
        conditions.append(match_model(model_id))
    return " ".join(conditions) or "*"


def _list_conditions(filter: SearchFilter) -> Iterator[str]:
    for field, low, high in list_filter_ranges(filter):
        yield f"@{field}:[{'-inf' if low is None else int(low)} {'+inf' if high is None else f'({int(high)}'}]"
    for is_wanted, keys in list_filter_keys(filter):
        yield ("" if is_wanted else "-") + match_keys(keys)


def match_keys(keys: Sequence[str]) -> str:
    """The condition that an image has one of these keys."""
    return f"@tags:{{{'|'.join(keys)}}}"


def match_ranges(ranges: Iterable[tuple[str, int, int]]) -> str:
    """The condition that numbers lie in ranges (field, lowest, too high)."""
    return " ".join(f"@{field}:[{low} ({high}]" for field, low, high in ranges)


def match_model(model_id: int, min_recipe: int = 0) -> str:
    """The condition that an image has an embedding of a model, of at least this recipe."""
    return f"@models:{{{make_model_key(model_id, min_recipe)}}}"


# Commands.


def _ask_count(connection: Connection, expression: str) -> tuple[Any, ...]:
    """The command that counts images; its answer begins with the number."""
    return ("FT.SEARCH", connection.index, expression, "LIMIT", 0, 0, *_COMMON)


def count(connection: Connection, expression: str) -> int:
    """How many images there are."""
    [[total, *_]] = connection.ask(_ask_count(connection, expression))
    return int(total)


def list_page(
    connection: Connection, expression: str, order: Sequence[str], limit: int, offset: int = 0
) -> tuple[list[int], int]:
    """image_ids in an order such as ("@upload_date", "DESC", "@image_id", "DESC"), and how many there are in all."""
    _check_depth(connection, offset + limit)
    [total, *_], rows = connection.ask(
        _ask_count(connection, expression),
        (
            *("FT.AGGREGATE", connection.index, expression, "LOAD", 1, "@__key"),
            *("SORTBY", len(order), *order, "MAX", offset + limit, "LIMIT", offset, limit, *_COMMON),
        ),
    )
    return [_read_id(_make_dict(row)[b"__key"]) for row in rows[1:]], int(total)


def list_ids(
    connection: Connection, expression: str, limit: int, order: Sequence[str] = ("@image_id", "ASC")
) -> list[int]:
    """The first image_ids, ascending."""
    return list_page(connection, expression, order, limit)[0]


def list_nearest(
    connection: Connection, expression: str, model_id: int, embedding: Embeddings, limit: int
) -> tuple[list[tuple[float, int]], int]:
    """Distances and image_ids of the limit nearest images, in order, and how many there are in all."""
    neighbours = limit + _SLACK
    _check_depth(connection, neighbours)
    field = make_vector_field(model_id)
    before = expression if expression == "*" else f"({expression})"
    everything = match_model(model_id) if expression == "*" else f"{expression} {match_model(model_id)}"
    while True:
        [total, *_], [_, *rows] = connection.ask(
            _ask_count(connection, everything),
            (
                *("FT.SEARCH", connection.index, f"{before}=>[KNN {neighbours} @{field} $query AS distance]"),
                *("PARAMS", 2, "query", embedding.tobytes(), "SORTBY", "distance", "ASC"),
                *("LIMIT", 0, neighbours, "RETURN", 1, "distance", *_COMMON),
            ),
        )
        # Its distance is 1 minus the inner product.
        found = sorted(
            (float(_make_dict(values)[b"distance"]) - 1, _read_id(key))
            for key, values in zip(rows[::2], rows[1::2], strict=True)
        )
        if len(found) < neighbours or neighbours >= _ALL or found[-1][0] > found[limit - 1][0]:
            return found[:limit], int(total)
        neighbours = min(2 * neighbours, _ALL)


def count_values(connection: Connection, expression: str, *fields: str) -> Iterator[tuple[list[Any], int]]:
    """The different contents of some fields, as bytes or None, with their numbers. Images without the first: none."""
    names = [f"@{field}" for field in fields]
    [rows] = connection.ask(
        (
            *("FT.AGGREGATE", connection.index, expression, "LOAD", len(names), *names),
            *("GROUPBY", len(names), *names, "REDUCE", "COUNT", 0, "AS", "number", "LIMIT", 0, _ALL, *_COMMON),
        )
    )
    for row in rows[1:]:
        values = _make_dict(row)
        contents = [values.get(field.encode()) for field in fields]
        if contents[0] is not None:
            yield contents, int(values[b"number"])


def _check_depth(connection: Connection, depth: int) -> None:
    """Raise StoreError for a page the engine cannot give."""
    if depth > _ALL:
        raise StoreError(
            f"{connection.location} gives the first {_ALL:,} images of a list only. Narrow the search by a filter."
        )


def _make_dict(row: Sequence[Any]) -> dict[bytes, Any]:
    return dict(zip(row[::2], row[1::2], strict=True))


def _read_id(key: bytes) -> int:
    return int(key.rpartition(b":")[2])
