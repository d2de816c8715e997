"""One writer at a time, by a document that only one program can create.

No clocks are compared: a lock that did not change while somebody waited for its whole lease belongs to a program that
died, and is taken over on the condition that it did not change in the last moment either.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from elastic_transport import TransportError
from elasticsearch import ApiError, ConflictError, NotFoundError

from image_search.errors import StoreUnavailable
from image_search.stores.elasticsearch_connection import Connection

_ID = "writer"
_LEASE = 60.0  # seconds
_PATIENCE = 150.0
_PAUSE = 0.05


@contextmanager
def writing(connection: Connection) -> Iterator[Callable[[], None]]:
    """Hold the lock. Yields a function that raises StoreUnavailable if it was lost in the meantime."""
    holder = uuid.uuid4().hex
    index = connection.state_index
    with connection.speaking() as client:
        _take(connection, holder)

        def hold() -> None:
            try:
                if client.get(index=index, id=_ID)["_source"]["holder"] == holder:
                    return
            except NotFoundError:
                pass
            raise StoreUnavailable(f"Writing to {connection.location} took too long. Nothing was kept; try again.")

        try:
            yield hold
        finally:
            with suppress(ApiError, TransportError, StoreUnavailable):  # an error inside says more
                hold()
                client.delete(index=index, id=_ID)


def _take(connection: Connection, holder: str) -> None:
    index = connection.state_index
    seen, since, begun = None, time.monotonic(), time.monotonic()
    while time.monotonic() - begun < _PATIENCE:
        with connection.speaking() as client:
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
