"""Reading and changing documents as they are at this moment, whether searches see it yet or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from image_search.stores.elasticsearch_connection import Connection, explain_refusal

Fields = dict[str, Any]

_CHUNK = 500


def read_images(connection: Connection, hashes: Sequence[str], names: Sequence[str]) -> Iterator[tuple[str, Fields]]:
    """Fields of those of these images that exist, with the version to change them on the condition that it holds."""
    with connection.speaking() as client:
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
