"""Carries a library of schema 1 over: documents with layers, paths of their own, tokens that may be beginnings.

Every step can be done again. The version is written last (Connection), so an interrupted migration starts over.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis import exceptions

from image_search.stores.documents import drop_paths
from image_search.stores.redis.client import Connection
from image_search.stores.redis.writes import Changes, find_members, read_images

_CHUNK = 200
_FIELDS_OF_1 = ("file_type", "generator", "generation_model", "keywords")


def migrate(client: Any, connection: Connection, keep_lock: Callable[[], object]) -> None:
    """Write every image of schema 1 as schema 2 has it, and remove the index."""
    # From the latest image on: a path that several images had is that of the latest one.
    image_ids = sorted((int(image_id) for image_id in client.hvals(connection.make_key("hashes"))), reverse=True)
    for start in range(0, len(image_ids), _CHUNK):
        _migrate_images(client, connection, image_ids[start : start + _CHUNK])
        keep_lock()
    with suppress(exceptions.ResponseError):  # removed by a migration that was interrupted
        client.execute_command("FT.DROPINDEX", connection.index)


def _migrate_images(client: Any, connection: Connection, image_ids: list[int]) -> None:
    found = read_images(connection, image_ids, client)
    places = [(path, image_id) for image_id, values in found.items() for path in values.document.paths]
    owners = find_members(client, connection, "paths", places)
    changes = Changes(connection, {})
    taken: set[str] = set()
    for (path, image_id), members in zip(places, owners, strict=True):
        if path in taken or any(int(owner) != image_id for _, owner in members):
            document = drop_paths(found[image_id].document, [path])
            found[image_id] = found[image_id]._replace(document=document)
        taken.add(path)
    for image_id, values in found.items():
        changes.documents[image_id] = values.document
        changes.set_recipes(image_id, {model_id: max(recipe, 1) for model_id, recipe in values.recipes.items()})
    with client.pipeline() as pipeline:
        changes.write(pipeline)
        for image_id in found:
            pipeline.hdel(connection.make_image_key(image_id), *_FIELDS_OF_1)
        pipeline.execute()
