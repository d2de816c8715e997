"""Redis 8 with its query engine. Everything but the originals is in the memory of the server.

An image is one hash, and everything a batch changes is one MULTI/EXEC, so that readers see all of it or nothing, and
an append-only file keeps all of it or nothing. Before it, the originals are written to ORIGINALS_URL; after a deletion
they are removed. A lock with a lease lets one program at a time add, trash and remove images, and the transaction of
one that lost its lease is refused. Whatever a crash left behind (originals of deleted images) is removed by the next
writer. The trash is outside the index: no search has to leave it out.

Searches are exact scans (FLAT) with the filter in the same query.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np

from image_search.originals import Originals, open_separate_originals
from image_search.records import (
    Edits,
    EmbeddingModel,
    Hits,
    ImageRecord,
    ImageText,
    KnownFile,
    NewImage,
    Order,
    RecognizedText,
    SearchFilter,
    StoreStatus,
)
from image_search.settings import Settings
from image_search.stores.base import COUNTS_FRAMES, EVERYTHING, CountedField, Embeddings
from image_search.stores.documents import (
    Document,
    Place,
    add_model,
    change_record,
    date_back,
    drop_model,
    drop_paths,
    list_wanted,
    load_models,
    merge_image,
    read_recognized,
    recognize,
    replace_content,
    set_path,
    switch_model,
)
from image_search.stores.reads import content_is_known, frame_is_known, image_not_found
from image_search.stores.redis.client import (
    Connection,
    build_expression,
    count,
    count_values,
    list_ids,
    list_nearest,
    list_page,
    list_tokens,
    make_vector_field,
    match_keys,
    match_model,
    match_ranges,
)
from image_search.stores.redis.trash import RedisTrash
from image_search.stores.redis.writes import (
    Changes,
    change_document,
    change_documents,
    change_images,
    change_models,
    find_members,
    find_owners,
    forget_deleted,
    make_counted_field,
    migrate,
    read_images,
    read_member,
    renew_words,
)
from image_search.stores.search_fields import (
    NEWEST,
    count_microseconds,
    get_sort_name,
    list_ranges_up_to,
    make_recognizer_key,
    name_frame,
    sort_counts,
)

_ORDERS: dict[Order, tuple[str, ...]] = {
    "registered": ("@upload_date", "DESC", "@image_id", "DESC"),
    "taken": ("@taken_order", "DESC", "@upload_date", "DESC", "@image_id", "DESC"),
    "name": ("@sort_name", "ASC", "@image_id", "ASC"),
}
_CHUNK = 500

EnsureLocked = Callable[[Any], None]


class RedisStore(RedisTrash):
    """A library in one Redis server. Any number of threads and programs may use it at once."""

    def __init__(self, url: str, originals: Originals) -> None:
        super().__init__()
        self.originals = originals
        self._server = Connection(url, migrate, renew_words)

    @classmethod
    def open(cls, settings: Settings) -> RedisStore:
        """The store of DATABASE_URL, redis://user:password@host:6379/0?library=name. Connects to nothing yet."""
        originals = open_separate_originals(settings.originals_url, "Redis", settings.s3_endpoint_url)
        return cls(settings.database_url, originals)

    # --- models ---------------------------------------------------------------------------------------------------

    def _add_model(self, name: str, version: str, dimension: int) -> None:
        with self._server.client() as client:
            model_id = int(client.incr(self._server.make_key("last_model_id")))
        self._server.add_vector_field(model_id, dimension)  # first, so that no model is without its index
        change_models(self._server, lambda models: add_model(models, model_id, name, version, dimension))

    def list_models(self) -> list[EmbeddingModel]:
        with self._server.client() as client:
            return load_models(client.get(self._server.make_key("models")))

    def set_current_model(self, model_id: int) -> None:
        change_models(self._server, lambda models: switch_model(models, model_id))

    def remove_model(self, model_id: int) -> None:
        change_models(self._server, lambda models: drop_model(models, model_id))
        self._dimensions.pop(model_id, None)

        def drop(changes: Changes) -> None:
            for image_id in changes.found:
                changes.drop_embedding(image_id, model_id)

        # No search finds the embeddings any more; what a crash leaves of them only takes room.
        while image_ids := list_ids(self._server, match_model(model_id), _CHUNK):
            change_images(self._server, image_ids, drop)
        with self._server.client() as client:
            parked = [int(member) for member in client.zrange(self._server.make_key("trash"), 0, -1)]
        for start in range(0, len(parked), _CHUNK):
            change_images(self._server, parked[start : start + _CHUNK], drop)

    # --- registration -----------------------------------------------------------------------------------------------

    def _find_deleted_paths(self, paths: list[str]) -> dict[str, str]:
        with self._server.client() as client:
            places = [(path, None) for path in paths]
            found = find_members(client, self._server, "deleted_paths", places)
            owners = find_members(client, self._server, "paths", places)
        hashes = {
            path: [sha256 for [sha256] in members]
            for path, members, owned in zip(paths, found, owners, strict=True)
            if members and not owned
        }
        return {path: self._find_latest_deleted(several) for path, several in hashes.items()}

    def _find_known_files(self, paths: list[str]) -> dict[str, KnownFile]:
        with self._server.client() as client:
            owners = find_members(client, self._server, "paths", [(path, None) for path in paths])
            first = {path: int(members[0][1]) for path, members in zip(paths, owners, strict=True) if members}
            found: dict[int, Document] = {}
            image_ids = list(dict.fromkeys(first.values()))
            for start in range(0, len(image_ids), _CHUNK):
                values = read_images(self._server, image_ids[start : start + _CHUNK])
                found |= {image_id: one.document for image_id, one in values.items()}
        files = {path: found[image_id].find_known_file(path) for path, image_id in first.items() if image_id in found}
        return {path: file for path, file in files.items() if file is not None}

    def _set_path(self, image_id: int, file_path: str, file_name: str, byte_size: int, modified_ns: int | None) -> None:
        place = Place(file_path, byte_size, modified_ns)

        def put(changes: Changes) -> None:
            if image_id not in changes.list_live():
                raise image_not_found(image_id)
            set_path(changes.documents, image_id, file_name, place)

        with self._writing() as (client, ensure_locked):
            found = read_images(self._server, [image_id])
            film = found[image_id].document.film if image_id in found else None
            owners = find_owners(client, self._server, [(file_path, film)])
            change_images(self._server, [image_id, *owners], put, self._keep_remembered(owners), ensure_locked)

    def _remove_paths(self, paths: list[str]) -> int:
        def drop(changes: Changes) -> None:
            for image_id, document in changes.documents.items():
                changes.documents[image_id] = drop_paths(document, paths)

        with self._writing() as (client, ensure_locked):
            owners = find_members(client, self._server, "paths", [(path, None) for path in paths])
            image_ids = [int(image_id) for members in owners for _, image_id in members]
            change_images(self._server, image_ids, drop, ensure_locked=ensure_locked)
        return sum(bool(members) for members in owners)

    def _list_paths(self, folder: str, after: str, limit: int) -> list[tuple[str, int]]:
        found: dict[str, int] = {}
        with self._server.client() as client:
            for separator in ("/", "\\"):
                start = max(f"{folder}{separator}".encode(), after.encode() + b"\x01" if after else b"")
                end = folder.encode() + bytes([ord(separator) + 1])
                read = 0
                listed: dict[str, int] = {}
                # Frames of a film share a path, which is listed once.
                while len(listed) < limit:
                    members = client.zrangebylex(
                        self._server.make_key("paths"), b"[" + start, b"(" + end, start=read, num=_CHUNK
                    )
                    read += len(members)
                    for path, image_id in map(read_member, members):
                        listed.setdefault(path, image_id)
                    if len(members) < _CHUNK:
                        break
                found |= listed
        return sorted(found.items(), key=lambda item: item[0].encode())[:limit]

    def _add_images(self, model_id: int, images: list[NewImage], embeddings: Embeddings) -> list[int]:
        hashes = list(dict.fromkeys(image.content_sha256 for image in images))
        # The first of equal images counts.
        first = {image.content_sha256: number for number, image in reversed(list(enumerate(images)))}
        upload_date = datetime.now(UTC).replace(tzinfo=None)
        with self._writing(_list_contents(images)) as (client, ensure_locked):
            known = self._find_all_hashes(hashes)
            there = set(known.values())
            self._check_frames(images, known)
            remembered = self._list_remembered(hashes)
            owners = find_owners(client, self._server, list_wanted(images))
            keep = self._keep_remembered(owners)
            ahead = list_ids(self._server, f"@upload_date:[({count_microseconds(upload_date)} +inf]", _CHUNK)
            known |= self._reserve_ids([sha256 for sha256 in hashes if sha256 not in known])

            def add(changes: Changes) -> None:
                date_back(changes.documents, upload_date)
                for image in images:
                    merge_image(changes.documents, known[image.content_sha256], image, upload_date)
                for sha256, number in first.items():
                    image_id, image = known[sha256], images[number]
                    if image_id not in there:
                        changes.previews[image_id] = image.preview
                    if model_id not in changes.recipes.get(image_id, {}):
                        changes.put_embedding(image_id, model_id, embeddings[number], image.recipe)

            def forget(pipeline: Any) -> None:
                keep(pipeline)
                for deleted in remembered.values():
                    forget_deleted(pipeline, self._server, deleted)

            change_images(self._server, [*there, *owners, *ahead], add, forget, ensure_locked)
        return [known[image.content_sha256] for image in images]

    def _check_frames(self, images: Sequence[NewImage], known: Mapping[str, int]) -> None:
        """Raise StoreError for a frame of whose film and time another image is. known: image_ids by hash."""
        frames = {name_frame(image.frame): known.get(image.content_sha256) for image in images if image.frame}
        for name, image_id in self._read_map("frames", list(frames)).items():
            if int(image_id) != frames[name]:
                raise frame_is_known(int(image_id))

    def _reserve_ids(self, hashes: Sequence[str]) -> dict[str, int]:
        if not hashes:
            return {}
        with self._server.client() as client:
            last = int(client.incrby(self._server.make_key("last_image_id"), len(hashes)))
        return dict(zip(hashes, range(last - len(hashes) + 1, last + 1), strict=True))

    def _replace_image(self, image_id: int, model_id: int, image: NewImage, embedding: Embeddings) -> None:
        old: list[str] = []

        def put(changes: Changes) -> None:
            if image_id not in changes.list_live():
                raise image_not_found(image_id)
            before = changes.documents[image_id]
            old[:] = [before.sha256]
            changes.documents[image_id] = replace_content(before, image)
            changes.previews[image_id] = image.preview
            for other_id in changes.recipes[image_id]:
                changes.drop_embedding(image_id, other_id)
            changes.put_embedding(image_id, model_id, embedding, image.recipe)

        def remove_old(pipeline: Any) -> None:
            pipeline.sadd(self._server.make_key("removed_originals"), *old)
            for deleted in remembered.values():
                forget_deleted(pipeline, self._server, deleted)

        with self._writing(_list_contents([image])) as (_, ensure_locked):
            found = read_images(self._server, [image_id])
            if image_id not in found or not found[image_id].document.is_live:
                raise image_not_found(image_id)
            owner = self._find_all_hashes([image.content_sha256]).get(image.content_sha256, image_id)
            if owner != image_id:
                raise content_is_known(owner)
            remembered = self._list_remembered([image.content_sha256])
            change_images(self._server, [image_id], put, remove_old, ensure_locked)
            self._delete_orphaned_originals()

    def _add_embeddings(self, model_id: int, image_ids: list[int], embeddings: Embeddings, recipe: int) -> None:
        rows = dict(zip(image_ids, embeddings, strict=True))

        def put(changes: Changes) -> None:
            for image_id in changes.list_live():
                changes.put_embedding(image_id, model_id, rows[image_id], recipe)

        change_images(self._server, image_ids, put)

    def find_images_without_embedding(
        self, model_id: int, after_id: int = 0, limit: int = 1000, min_recipe: int = 0
    ) -> list[int]:
        return self._list_after(after_id, f"-{match_model(model_id, min_recipe)}", limit)

    def find_images_of_old_recipe(self, recipe: int, after_id: int = 0, limit: int = 1000) -> list[int]:
        return self._list_after(after_id, f"@recipe:[-inf ({int(recipe)}]", limit)

    def find_images_without_recognition(self, recognizer: str, after_id: int = 0, limit: int = 1000) -> list[int]:
        return self._list_after(after_id, f"-{match_keys([make_recognizer_key(recognizer)])}", limit)

    def _list_after(self, after_id: int, condition: str, limit: int) -> list[int]:
        return list_ids(self._server, f"@image_id:[({int(after_id)} +inf] {condition}", limit)

    def set_preview(self, image_id: int, preview: bytes, dominant_color: str | None, recipe: int) -> None:
        def put(changes: Changes) -> None:
            if image_id not in changes.list_live():
                raise image_not_found(image_id)
            before = changes.documents[image_id]
            changes.documents[image_id] = change_record(before, dominant_color=dominant_color, recipe=recipe)
            changes.previews[image_id] = preview

        change_images(self._server, [image_id], put)

    # --- texts ------------------------------------------------------------------------------------------------------

    def _set_text(self, image_id: int, text: ImageText) -> bool:
        return change_document(self._server, image_id, partial(change_record, text=text))

    def _change_edits(self, edits: dict[int, Edits]) -> dict[int, bool]:
        return change_documents(
            self._server, edits, lambda document: change_record(document, edits=edits[document.image_id])
        )

    def _set_recognized(self, image_id: int, recognized: RecognizedText | None) -> None:
        change_document(self._server, image_id, partial(recognize, recognized=recognized), recognized is None)

    def get_recognized(self, image_id: int) -> RecognizedText | None:
        found = read_images(self._server, [image_id])
        if image_id not in found:
            raise image_not_found(image_id)
        return read_recognized(found[image_id].document)

    # --- search -----------------------------------------------------------------------------------------------------

    def _build_expression(self, filter: SearchFilter, terms: Sequence[str] = ()) -> str:
        return build_expression(filter, terms, expand=partial(list_tokens, self._server))

    def _search_embedding(
        self, model_id: int, embedding: Embeddings, limit: int, offset: int, filter: SearchFilter
    ) -> Hits:
        expression = self._build_expression(filter)
        found, total = list_nearest(self._server, expression, model_id, embedding, offset + limit)
        return self._read_hits(found[offset:], total)

    def _list_images(
        self, terms: list[str], limit: int, offset: int, filter: SearchFilter, order: Order, after: ImageRecord | None
    ) -> Hits:
        expression = self._build_expression(filter, terms)
        if after is not None:
            offset += self._count_up_to(expression, order, after)
        image_ids, total = list_page(self._server, expression, _ORDERS[order], limit, offset)
        return self._read_hits([(None, image_id) for image_id in image_ids], total)

    def _count_up_to(self, expression: str, order: Order, after: ImageRecord) -> int:
        """How many images of a list are in front of one, itself included."""
        if order != "name":
            before = "" if expression == "*" else f"{expression} "
            ranges = list_ranges_up_to(after, NEWEST[order])
            return sum(count(self._server, before + match_ranges(several)) for several in ranges)
        low, high, key = 0, count(self._server, expression), (get_sort_name(after), after.image_id)
        while low < high:  # the engine has no ranges of texts
            middle = (low + high) // 2
            page = self._find_images(list_page(self._server, expression, _ORDERS[order], 1, middle)[0])
            if any((get_sort_name(record), image_id) <= key for image_id, record in page.items()):
                low = middle + 1
            else:
                high = middle
        return low

    def count_images(self, filter: SearchFilter = EVERYTHING) -> int:
        return count(self._server, self._build_expression(filter))

    def count_values(self, field: CountedField, filter: SearchFilter = EVERYTHING) -> dict[str, int]:
        counts: Counter[str] = Counter()
        films: defaultdict[str, set[bytes]] = defaultdict(set)
        names = map(make_counted_field, [field] if field in COUNTS_FRAMES else [field, "film"])
        for (values, *film), number in count_values(self._server, self._build_expression(filter), *names):
            for value in json.loads(values):
                if json.loads(film[0] or b"[]") if film else ():
                    films[value].add(film[0])
                else:
                    counts[value] += number
        counts.update({value: len(found) for value, found in films.items()})
        return sort_counts(counts.items(), field)

    # --- images -----------------------------------------------------------------------------------------------------

    def read_previews(self, image_ids: Sequence[int]) -> dict[int, bytes]:
        return self._read_field(image_ids, "preview")

    def get_embeddings(self, image_ids: Sequence[int], model_id: int) -> dict[int, Embeddings]:
        if model_id not in {model.model_id for model in self.list_models()}:
            return {}
        found = self._read_field(image_ids, make_vector_field(model_id))
        return {image_id: np.frombuffer(embedding, np.float32).copy() for image_id, embedding in found.items()}

    # --- the store as a whole -----------------------------------------------------------------------------------------

    def sample_embeddings(self, model_id: int, size: int) -> Embeddings:
        dimension = self._get_dimension(model_id)
        image_ids = list_ids(self._server, match_model(model_id), size, ("@shuffle", "ASC", "@image_id", "ASC"))
        rows = list(self.get_embeddings(image_ids, model_id).values())
        return np.array(rows, np.float32).reshape(len(rows), dimension)

    def list_settings(self, prefix: str = "") -> dict[str, str]:
        with self._server.client() as client:
            found = client.hgetall(self._server.make_key("settings"))
        settings = {name.decode(): value.decode() for name, value in found.items()}
        return {name: settings[name] for name in sorted(settings) if name.startswith(prefix)}

    def set_setting(self, name: str, value: str | None) -> None:
        with self._server.client() as client:
            if value is None:
                client.hdel(self._server.make_key("settings"), name)
            else:
                client.hset(self._server.make_key("settings"), name, value)

    def get_status(self) -> StoreStatus:
        models = self.list_models()
        with self._server.client() as client:
            version = client.info("server")["redis_version"]
            trashed = int(client.zcard(self._server.make_key("trash")))
        return StoreStatus(
            engine=f"Redis {version}",
            location=self._server.location,
            image_count=self.count_images(),
            models=tuple((model, count(self._server, match_model(model.model_id))) for model in models),
            trash_count=trashed,
        )

    def close(self) -> None:
        self._server.close()


def _list_contents(images: Sequence[NewImage]) -> dict[str, bytes]:
    """The originals that are kept, by hash."""
    return {image.content_sha256: image.data for image in images if image.data is not None}
