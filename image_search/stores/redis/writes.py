"""Changes of images: each one MULTI/EXEC, done again if another program was quicker.

An image is a hash: its document, the preview, an embedding for each model, and beside them what the index reads: keys
as tags, times and sizes as numbers, words as tokens. In the trash it is the same hash under another name, which the
index does not look at. Beside the hashes, and always changed with them:

hashes          hash   content_sha256 of each live image: image_id
trashed_hashes  hash   content_sha256 of each image in the trash: image_id and reason
trash           zset   image_ids in the trash by the time they were deleted
paths           zset   every path of a live image, film and image_id, in the order of their bytes
trashed_paths   zset   the same of images in the trash
frames          hash   film and time of each frame: image_id
deleted         hash   content_sha256 of each remembered image: what is remembered; deleted_order: a zset of the hashes
deleted_paths   zset   every path of an image that a user deleted, and its content_sha256
vocabulary      zset   every token that may begin like a term
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from redis import exceptions

from image_search.records import DeletedImage
from image_search.stores.document_store import Changes, Values
from image_search.stores.documents import (
    Document,
    count_microseconds,
    drop_paths,
    dump_deleted,
    dump_document,
    list_counted,
    list_keys,
    list_model_keys,
    list_numbers,
    load_document,
    name_frame,
    read_recipes,
)
from image_search.stores.redis.client import Connection, list_beginnings, make_vector_field, make_words
from image_search.stores.text import list_searchable, make_sort_name

_SEPARATOR = "\x00"  # between the parts of a member; no path has it


def _write_changes(pipeline: Any, connection: Connection, changes: Changes) -> None:
    """Fill a transaction that has begun."""
    for image_id, document in changes.documents.items():
        values = changes.found.get(image_id)
        if values is None or values.document != document:
            _put(pipeline, connection, values.document if values else None, document)
    keys = {image_id: _find_key(connection, document) for image_id, document in changes.documents.items()}
    for image_id, preview in changes.previews.items():
        pipeline.hset(keys[image_id], "preview", preview)
    for image_id, embeddings in changes.embeddings.items():
        for model_id, embedding in embeddings.items():
            field = make_vector_field(model_id)
            if embedding is None:
                pipeline.hdel(keys[image_id], field)
            else:
                pipeline.hset(keys[image_id], field, np.ascontiguousarray(embedding, np.float32).tobytes())
        pipeline.hset(keys[image_id], "models", ",".join(list_model_keys(changes.recipes[image_id])))
    pipeline.incr(connection.make_key("revision"))


def _put(pipeline: Any, connection: Connection, before: Document | None, after: Document) -> None:
    key = _find_key(connection, after)
    if before is not None and (old_key := _find_key(connection, before)) != key:
        pipeline.rename(old_key, key)
    _put_fields(pipeline, key, make_fields(after))
    make_key = connection.make_key
    old, new = _list_entries(before), _list_entries(after)
    for name in old:
        if gone := old[name].keys() - new[name].keys():
            remove = pipeline.hdel if name in _HASHES else pipeline.zrem
            remove(make_key(name), *gone)
        put = {member: value for member, value in new[name].items() if old[name].get(member) != value}
        if put and name in _HASHES:
            pipeline.hset(make_key(name), mapping=put)
        elif put:
            pipeline.zadd(make_key(name), put)
    if beginnings := list_beginnings(list_searchable(after.record)):
        pipeline.zadd(make_key("vocabulary"), dict.fromkeys(beginnings, 0))


_HASHES = ("hashes", "trashed_hashes", "frames")


def _list_entries(document: Document | None) -> dict[str, dict[str, Any]]:
    """Fields beside the hash of an image, by name."""
    entries: dict[str, dict[str, Any]] = {
        "hashes": {},
        "trashed_hashes": {},
        "trash": {},
        "paths": {},
        "trashed_paths": {},
        "deleted_paths": {},
        "frames": {},
    }
    if document is None:
        return entries
    if document.record.frame is not None:
        entries["frames"] = {name_frame(document.record.frame): document.image_id}
    members = (_SEPARATOR.join((path, document.film or "", str(document.image_id))) for path in document.paths)
    entries["paths" if document.is_live else "trashed_paths"] = dict.fromkeys(members, 0)
    if document.record.deleted_at is None:
        entries["hashes"] = {document.sha256: document.image_id}
        return entries
    entries["trashed_hashes"] = {document.sha256: f"{document.image_id} {document.record.trash_reason}"}
    entries["trash"] = {f"{document.image_id:020}": count_microseconds(document.record.deleted_at)}
    if document.record.trash_reason == "deleted":
        entries["deleted_paths"] = _list_deleted_paths(document.sha256, document.paths)
    return entries


def _list_deleted_paths(sha256: str, paths: Iterable[str]) -> dict[str, Any]:
    return {f"{path}{_SEPARATOR}{sha256}": 0 for path in paths}


def _find_key(connection: Connection, document: Document) -> str:
    is_live = document.record.deleted_at is None
    return connection.make_image_key(document.image_id) if is_live else connection.make_trash_key(document.image_id)


def make_fields(document: Document) -> Mapping[str, object]:
    """The fields that follow from a document; None: the hash has no such field."""
    counted = {name: json.dumps(values, ensure_ascii=False) for name, values in list_counted(document).items()}
    return {
        **list_numbers(document.record),
        "sort_name": make_sort_name(document.record.file_name),
        "tags": ",".join(list_keys(document)),
        "words": make_words(list_searchable(document.record)),
        "record": dump_document(document),
        **{make_counted_field(name): value for name, value in counted.items()},
    }


def make_counted_field(name: str) -> str:
    """The field with the values of one that is counted, as a JSON list."""
    return f"counted_{name}"


def read_images(connection: Connection, image_ids: Collection[int], client: Any = None) -> dict[int, Values]:
    """Those of these images that exist, live or in the trash, of one moment.

    client: for who watches these images and so notices when one moves between live and trash.
    """
    keys = [make(image_id) for image_id in image_ids for make in (connection.make_image_key, connection.make_trash_key)]
    commands = [("HMGET", key, "record", "models") for key in keys]
    if not commands:
        return {}
    if client is None:
        values = connection.ask(*commands)
    else:
        with client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            values = pipeline.execute()
    return {
        image_id: Values(load_document(record), read_recipes(filter(None, (models or b"").decode().split(","))))
        for image_id, pair in zip(image_ids, zip(values[::2], values[1::2], strict=True), strict=True)
        for record, models in pair
        if record is not None
    }


def change_images(
    connection: Connection,
    image_ids: Iterable[int],
    change: Callable[[Changes], None],
    also: Callable[[Any], None] = lambda _: None,
    ensure_locked: Callable[[Any], None] | None = None,
) -> None:
    """Change images, as far as they exist.

    change: edits what is there; called again if another program changes one of these images meanwhile.
    also: adds commands to the transaction. ensure_locked: checks that the lock is still held (Connection.writing).
    """
    ids = list(dict.fromkeys(image_ids))
    keys = [make(image_id) for image_id in ids for make in (connection.make_image_key, connection.make_trash_key)]
    with connection.client() as client:

        def transact(pipeline: Any) -> None:
            if ensure_locked is not None:
                ensure_locked(pipeline)
            connection.has_old_words(pipeline)  # refuses what a newer program has indexed
            changes = Changes(read_images(connection, ids, client))  # while the pipeline watches
            change(changes)
            pipeline.multi()
            _write_changes(pipeline, connection, changes)
            also(pipeline)

        client.transaction(transact, *keys)


def _put_fields(pipeline: Any, key: str, fields: Mapping[str, object]) -> None:
    """Set the fields of one hash; None: it has no such field."""
    absent = [name for name, value in fields.items() if value is None]
    if absent:
        pipeline.hdel(key, *absent)
    pipeline.hset(key, mapping={name: value for name, value in fields.items() if value is not None})


# Images that are removed or remembered.


def remove_image(pipeline: Any, connection: Connection, document: Document) -> None:
    """Remove an image in the trash with all its keys."""
    pipeline.delete(connection.make_trash_key(document.image_id))
    for name, members in _list_entries(document).items():
        if members:
            (pipeline.hdel if name in _HASHES else pipeline.zrem)(connection.make_key(name), *members)
    pipeline.sadd(connection.make_key("removed_originals"), document.sha256)
    pipeline.incr(connection.make_key("revision"))


def remember_deleted(pipeline: Any, connection: Connection, deleted: DeletedImage) -> None:
    """Remember a deleted image, in place of what was remembered of it. Paths as they are stored."""
    sha256 = deleted.content_sha256
    pipeline.hset(connection.make_key("deleted"), sha256, dump_deleted(deleted))
    pipeline.zadd(connection.make_key("deleted_order"), {sha256: 0})
    if deleted.paths:
        pipeline.zadd(connection.make_key("deleted_paths"), _list_deleted_paths(sha256, deleted.paths))


def forget_deleted(pipeline: Any, connection: Connection, deleted: DeletedImage) -> None:
    """Forget a remembered image and its paths."""
    sha256 = deleted.content_sha256
    pipeline.hdel(connection.make_key("deleted"), sha256)
    pipeline.zrem(connection.make_key("deleted_order"), sha256)
    if deleted.paths:
        pipeline.zrem(connection.make_key("deleted_paths"), *_list_deleted_paths(sha256, deleted.paths))
    pipeline.incr(connection.make_key("revision"))


def keep_deleted_paths(pipeline: Any, connection: Connection, document: Document) -> None:
    """Write the paths of an image in the trash again: forgetting a remembered image may have removed some."""
    if members := _list_entries(document)["deleted_paths"]:
        pipeline.zadd(connection.make_key("deleted_paths"), members)


# Members of paths and deleted_paths.


def find_owners(client: Any, connection: Connection, places: Iterable[tuple[str, str | None]]) -> list[int]:
    """Images at any of these paths, live or in the trash, except frames of the film beside it."""
    wanted = list(dict.fromkeys(places))
    return [
        int(image_id)
        for name in ("paths", "trashed_paths")
        for (_, film), members in zip(wanted, find_members(client, connection, name, wanted), strict=True)
        for other, image_id in members
        if film is None or other != film
    ]


def find_members(
    client: Any, connection: Connection, name: str, places: Sequence[tuple[str, object]]
) -> list[list[list[str]]]:
    """The rest of the members of each path, in parts."""
    with client.pipeline(transaction=False) as pipeline:
        for path, _ in places:
            start = path.encode() + _SEPARATOR.encode()
            pipeline.zrangebylex(connection.make_key(name), b"[" + start, b"(" + path.encode() + b"\x01")
        answers = pipeline.execute()
    return [[member.decode().split(_SEPARATOR)[1:] for member in members] for members in answers]


def read_member(member: bytes) -> tuple[str, int]:
    """Path and image_id of a member of paths."""
    path, _, image_id = member.decode().split(_SEPARATOR)
    return path, int(image_id)


# Carries a library of schema 1 over: documents with layers, paths of their own, tokens that may be beginnings.
#
# Every step can be done again. The version is written last (Connection), so an interrupted migration starts over.


_MIGRATED = 200
_FIELDS_OF_1 = ("file_type", "generator", "generation_model", "keywords")


def migrate(client: Any, connection: Connection, keep_lock: Callable[[], object]) -> None:
    """Write every image of schema 1 as schema 2 has it, and remove the index."""
    # From the latest image on: a path that several images had is that of the latest one.
    image_ids = sorted((int(image_id) for image_id in client.hvals(connection.make_key("hashes"))), reverse=True)
    for start in range(0, len(image_ids), _MIGRATED):
        _migrate_images(client, connection, image_ids[start : start + _MIGRATED])
        keep_lock()
    with suppress(exceptions.ResponseError):  # removed by a migration that was interrupted
        client.execute_command("FT.DROPINDEX", connection.index)


def _migrate_images(client: Any, connection: Connection, image_ids: list[int]) -> None:
    found = read_images(connection, image_ids, client)
    places = [(path, image_id) for image_id, values in found.items() for path in values.document.paths]
    owners = find_members(client, connection, "paths", places)
    changes = Changes({})
    taken: set[str] = set()
    for (path, image_id), members in zip(places, owners, strict=True):
        if path in taken or any(int(owner) != image_id for _, owner in members):
            document = drop_paths(found[image_id].document, [path])
            found[image_id] = found[image_id]._replace(document=document)
        taken.add(path)
    for image_id, values in found.items():
        changes.documents[image_id] = values.document
        changes.recipes[image_id] = {model_id: max(recipe, 1) for model_id, recipe in values.recipes.items()}
        changes.embeddings[image_id] = {}
    with client.pipeline() as pipeline:
        _write_changes(pipeline, connection, changes)
        for image_id in found:
            pipeline.hdel(connection.make_image_key(image_id), *_FIELDS_OF_1)
        pipeline.execute()


def renew_words(client: Any, connection: Connection, keep_lock: Callable[[], object]) -> None:
    """Write the tokens of every image again, some at a time; one that changes meanwhile is read again."""
    live = client.hvals(connection.make_key("hashes"))
    trashed = client.hvals(connection.make_key("trashed_hashes"))
    image_ids = sorted(int(value.split()[0]) for value in (*live, *trashed))
    for start in range(0, len(image_ids), _MIGRATED):
        _renew_words(client, connection, image_ids[start : start + _MIGRATED])
        keep_lock()


def _renew_words(client: Any, connection: Connection, image_ids: list[int]) -> None:
    def transact(pipeline: Any) -> None:
        found = read_images(connection, image_ids, client)
        pipeline.multi()
        for values in found.values():
            texts = list_searchable(values.document.record)
            pipeline.hset(_find_key(connection, values.document), "words", make_words(texts))
            if beginnings := list_beginnings(texts):
                pipeline.zadd(connection.make_key("vocabulary"), dict.fromkeys(beginnings, 0))
        pipeline.incr(connection.make_key("revision"))

    makers = (connection.make_image_key, connection.make_trash_key)
    client.transaction(transact, *(make(image_id) for image_id in image_ids for make in makers))
