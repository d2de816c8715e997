"""One writer at a time on a Milvus server, which has neither transactions nor locks.

Making a collection is the one thing a Milvus server does for only one of two programs that ask at once. The name of a
field says who made it and when; whoever finds its own name there may write, and drops the collection afterwards.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pymilvus import DataType
from pymilvus.exceptions import MilvusException

from image_search.errors import StoreUnavailable

LOCK = "image_search_lock"
_WAIT_SECONDS = 60.0
_PAUSE_SECONDS = 0.05
_DEAD_AFTER_SECONDS = 600  # a batch takes seconds; who has held the lock for so long was killed


@contextmanager
def collection_lock(client: Any, location: str) -> Iterator[Callable[[], None]]:
    """Holds the lock while the block runs. Raises StoreUnavailable when another program does not let go of it.

    Gives a function that raises StoreUnavailable when the lock was lost, for what must not be done then.
    """
    own = f"held_since_{int(time.time())}_by_{uuid.uuid4().hex}"
    until = time.monotonic() + _WAIT_SECONDS
    while not _take(client, own):
        if time.monotonic() > until:
            raise StoreUnavailable(f"{location} is held by another program. Try again when it has finished.")
        time.sleep(_PAUSE_SECONDS)

    def confirm() -> None:
        if _find_holder(client) != own:
            raise StoreUnavailable(f"{location} took too long, and another program writes now. Try again.")

    try:
        yield confirm
    finally:
        with suppress(MilvusException):
            if _find_holder(client) == own:
                client.drop_collection(LOCK)


def _take(client: Any, own: str) -> bool:
    schema = client.create_schema()
    schema.add_field(own, DataType.INT64, is_primary=True)
    schema.add_field("nothing", DataType.FLOAT_VECTOR, dim=2)
    holder = _find_holder(client)
    if holder is None:
        with suppress(MilvusException):  # another program was quicker; that is seen next
            client.create_collection(LOCK, schema=schema)
        return _find_holder(client) == own
    if time.time() - _read_time(holder) > _DEAD_AFTER_SECONDS:
        client.drop_collection(LOCK)
    return False


def _find_holder(client: Any) -> str | None:
    if not client.has_collection(LOCK):
        return None
    try:
        fields = client.describe_collection(LOCK)["fields"]
    except MilvusException:  # dropped in between
        return None
    return next((field["name"] for field in fields if field["name"].startswith("held_since_")), "")


def _read_time(holder: str) -> float:
    digits = holder.removeprefix("held_since_").partition("_")[0]
    return float(digits) if digits.isdigit() else 0.0
