"""The store contract in plain dictionaries: what every engine is compared with, and a library for tests that need one.

Slow and short on purpose. An image keeps its embeddings and paths when it goes to the trash; only live images are
looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from threading import RLock

import numpy as np

from image_search.errors import StoreError
from image_search.records import (
    DeletedImage,
    EmbeddingModel,
    Hits,
    ImageRecord,
    ImageText,
    KnownFile,
    NewImage,
    Order,
    RecognizedText,
    SearchFilter,
    SearchHit,
    StoreStatus,
    TrashReason,
)
from image_search.stores.base import COUNTS_FRAMES, EVERYTHING, ChangeEdits, CountedField, Embeddings, ImageStore
from image_search.stores.reads import content_is_known, image_not_found, model_is_current, model_not_found
from image_search.stores.text import decode_path, make_sort_name
from image_search.stores.tokens import TOKEN_RULE, TOKEN_SETTING
from tests.fakes.matching import occurs
from tests.fakes.memory_entry import Entry, Place, check_filter, is_below, list_fields, list_values


@dataclass
class MemoryLibrary:
    """The state that all handles on one library share."""

    models: list[EmbeddingModel] = field(default_factory=list)
    entries: dict[int, Entry] = field(default_factory=dict)
    deleted: dict[str, DeletedImage] = field(default_factory=dict)  # paths: as stored
    settings: dict[str, str] = field(default_factory=lambda: {TOKEN_SETTING: str(TOKEN_RULE)})
    image_ids: Iterator[int] = field(default_factory=lambda: count(1))
    model_ids: Iterator[int] = field(default_factory=lambda: count(1))
    lock: RLock = field(default_factory=RLock)  # held by whatever writes; readers look at a copy of the list


class MemoryStore(ImageStore):
    def __init__(self, library: MemoryLibrary | None = None) -> None:
        super().__init__()
        self.library = library or MemoryLibrary()

    def _list_live(self) -> list[Entry]:
        """By image_id."""
        return [entry for entry in list(self.library.entries.values()) if entry.facts.deleted_at is None]

    def _list_trashed(self) -> list[Entry]:
        return [entry for entry in list(self.library.entries.values()) if entry.facts.deleted_at is not None]

    def _get_live(self, image_id: int) -> Entry:
        entry = self.library.entries.get(image_id)
        if entry is None or entry.facts.deleted_at is not None:
            raise image_not_found(image_id)
        return entry

    def _find_hash(self, sha256: str) -> Entry | None:
        """Live or in the trash."""
        entries = list(self.library.entries.values())
        return next((entry for entry in entries if entry.facts.content_sha256 == sha256), None)

    # --- models ---------------------------------------------------------------------------------------------------

    def _add_model(self, name: str, version: str, dimension: int) -> None:
        with self.library.lock:
            if not any((model.name, model.version) == (name, version) for model in self.library.models):
                is_current = not self.library.models
                model = EmbeddingModel(next(self.library.model_ids), name, version, dimension, is_current)
                self.library.models.append(model)

    def list_models(self) -> list[EmbeddingModel]:
        return list(self.library.models)

    def set_current_model(self, model_id: int) -> None:
        with self.library.lock:
            self._get_model(model_id)
            models = [replace(model, is_current=model.model_id == model_id) for model in self.library.models]
            self.library.models = models

    def remove_model(self, model_id: int) -> None:
        with self.library.lock:
            if self._get_model(model_id).is_current:
                raise model_is_current(model_id)
            self.library.models = [model for model in self.library.models if model.model_id != model_id]
            for entry in self.library.entries.values():
                entry.embeddings.pop(model_id, None)
            self._dimensions.pop(model_id, None)

    def _get_model(self, model_id: int) -> EmbeddingModel:
        for model in self.library.models:
            if model.model_id == model_id:
                return model
        raise model_not_found(model_id)

    # --- registration -----------------------------------------------------------------------------------------------

    def _find_known_hashes(self, hashes: list[str]) -> dict[str, int]:
        live = {entry.facts.content_sha256: entry.facts.image_id for entry in self._list_live()}
        return {sha256: live[sha256] for sha256 in hashes if sha256 in live}

    def _list_deleted(self) -> list[DeletedImage]:
        """Images that a person deleted, in the trash or remembered; the latest deleted last. paths: as stored."""
        trashed = [_make_deleted(entry) for entry in self._list_trashed() if entry.facts.trash_reason == "deleted"]
        return sorted([*self.library.deleted.values(), *trashed], key=lambda one: one.deleted_at)

    def _find_deleted_hashes(self, hashes: list[str]) -> set[str]:
        return {one.content_sha256 for one in self._list_deleted()} & set(hashes)

    def _find_deleted_paths(self, paths: list[str]) -> dict[str, str]:
        deleted = {path: one.content_sha256 for one in self._list_deleted() for path in one.paths}
        live = {path for entry in self._list_live() for path in entry.paths}
        return {path: deleted[path] for path in paths if path in deleted and path not in live}

    def _find_known_files(self, paths: list[str]) -> dict[str, KnownFile]:
        known = {}
        for entry in self._list_live():
            for path, place in entry.paths.items():
                known[path] = KnownFile(
                    entry.facts.image_id, place.byte_size, place.modified_ns, entry.facts.content_sha256, entry.film
                )
        return {path: known[path] for path in paths if path in known}

    def _set_path(self, image_id: int, file_path: str, file_name: str, byte_size: int, modified_ns: int | None) -> None:
        with self.library.lock:
            entry = self._get_live(image_id)
            entry.facts = replace(entry.facts, file_name=file_name)
            self._put_path(entry, file_path, Place(byte_size, modified_ns))

    def _put_path(self, entry: Entry, path: str, place: Place) -> None:
        for other in self.library.entries.values():
            if entry.film is None or entry.film != other.film:
                other.drop_paths([path] if other is not entry else [])
        entry.paths.pop(path, None)
        entry.paths = {path: place, **entry.paths}

    def _remove_paths(self, paths: list[str]) -> int:
        with self.library.lock:
            known = self._find_known_files(paths)
            for entry in self._list_live():
                entry.drop_paths(known)
            return len(known)

    def _list_paths(self, folder: str, after: str, limit: int) -> list[tuple[str, int]]:
        found = {path: entry.facts.image_id for entry in self._list_live() for path in entry.paths}
        below = [path for path in sorted(found) if is_below(path, folder) and path > after]
        return [(path, found[path]) for path in below[:limit]]

    def _add_images(self, model_id: int, images: list[NewImage], embeddings: Embeddings) -> list[int]:
        with self.library.lock:
            for image in images:
                self._check_image(image)
            now = datetime.now(UTC).replace(tzinfo=None)
            for entry in self._list_live():
                entry.facts = replace(entry.facts, upload_date=min(entry.facts.upload_date, now))
            return [
                self._add_image(model_id, image, embedding, now)
                for image, embedding in zip(images, embeddings, strict=True)
            ]

    def _check_image(self, image: NewImage) -> None:
        if not isinstance(image.preview, bytes):
            raise StoreError(f"{image.file_name} has no preview.")
        for entry in self.library.entries.values():
            if image.frame and image.frame == entry.facts.frame and image.content_sha256 != entry.facts.content_sha256:
                raise StoreError(f"{image.file_name} is a frame of another hash.")

    def _add_image(self, model_id: int, image: NewImage, embedding: Embeddings, now: datetime) -> int:
        entry = self._find_hash(image.content_sha256)
        if entry is None:
            facts = _make_facts(next(self.library.image_ids), image, image.upload_date or now)
            entry = Entry(facts, image.preview, image.data, image.recognized)
            self.library.entries[facts.image_id] = entry
        entry.facts = replace(entry.facts, deleted_at=None, trash_reason=None)
        if image.file_path is not None:
            self._put_path(entry, image.file_path, Place(image.byte_size, image.modified_ns))
        entry.embeddings.setdefault(model_id, (embedding.copy(), image.recipe))
        self.library.deleted.pop(image.content_sha256, None)
        return entry.facts.image_id

    def _replace_image(self, image_id: int, model_id: int, image: NewImage, embedding: Embeddings) -> None:
        with self.library.lock:
            entry = self._get_live(image_id)
            other = self._find_hash(image.content_sha256)
            if other is not None and other is not entry:
                raise content_is_known(other.facts.image_id)
            old = entry.facts
            new = _make_facts(image_id, image, old.upload_date)
            entry.facts = replace(new, file_name=old.file_name, edits=old.edits)
            entry.preview, entry.data, entry.recognized = image.preview, image.data, None
            entry.embeddings = {model_id: (embedding.copy(), image.recipe)}
            self.library.deleted.pop(image.content_sha256, None)

    def _add_embeddings(self, model_id: int, image_ids: list[int], embeddings: Embeddings, recipe: int) -> None:
        with self.library.lock:
            live = {entry.facts.image_id: entry for entry in self._list_live()}
            for image_id, embedding in zip(image_ids, embeddings, strict=True):
                if image_id in live:
                    live[image_id].embeddings[model_id] = (np.array(embedding, np.float32), recipe)

    def find_images_without_embedding(
        self, model_id: int, after_id: int = 0, limit: int = 1000, min_recipe: int = 0
    ) -> list[int]:
        def lacks(entry: Entry) -> bool:
            return model_id not in entry.embeddings or entry.embeddings[model_id][1] < min_recipe

        return self._list_ids(lacks, after_id, limit)

    def find_images_of_old_recipe(self, recipe: int, after_id: int = 0, limit: int = 1000) -> list[int]:
        return self._list_ids(lambda entry: entry.facts.recipe < recipe, after_id, limit)

    def find_images_without_recognition(self, recognizer: str, after_id: int = 0, limit: int = 1000) -> list[int]:
        return self._list_ids(lambda entry: entry.record.recognizer != recognizer, after_id, limit)

    def _list_ids(self, condition: Callable[[Entry], bool], after_id: int, limit: int) -> list[int]:
        found = [entry.facts.image_id for entry in self._list_live() if condition(entry)]
        return [image_id for image_id in found if image_id > after_id][:limit]

    def set_preview(self, image_id: int, preview: bytes, dominant_color: str | None, recipe: int) -> None:
        with self.library.lock:
            entry = self._get_live(image_id)
            entry.preview = preview
            entry.facts = replace(entry.facts, dominant_color=dominant_color, recipe=recipe)

    # --- texts ------------------------------------------------------------------------------------------------------

    def _set_text(self, image_id: int, text: ImageText) -> bool:
        with self.library.lock:
            entry = self._get_live(image_id)
            before, entry.facts = entry.facts, replace(entry.facts, text=text)
            return entry.facts != before

    def _change_edits(self, image_ids: list[int], change: ChangeEdits) -> dict[int, bool]:
        with self.library.lock:
            live = [entry for entry in self._list_live() if entry.facts.image_id in image_ids]
            edits = {entry.facts.image_id: change(entry.record) for entry in live}
            changed = {entry.facts.image_id: entry.facts.edits != edits[entry.facts.image_id] for entry in live}
            for entry in live:
                entry.facts = replace(entry.facts, edits=edits[entry.facts.image_id])
            return changed

    def _set_recognized(self, image_id: int, recognized: RecognizedText | None) -> None:
        with self.library.lock:
            if recognized is None and image_id in self.library.entries:
                self.library.entries[image_id].recognized = None
            else:
                self._get_live(image_id).recognized = recognized

    def get_recognized(self, image_id: int) -> RecognizedText | None:
        if image_id not in self.library.entries:
            raise image_not_found(image_id)
        return self.library.entries[image_id].recognized

    # --- trash ------------------------------------------------------------------------------------------------------

    def _trash_images(self, image_ids: list[int], reason: TrashReason, deleted_at: datetime) -> int:
        with self.library.lock:
            chosen = [entry for entry in self._list_live() if entry.facts.image_id in image_ids]
            for entry in chosen:
                entry.facts = replace(entry.facts, deleted_at=deleted_at, trash_reason=reason)
            return len(chosen)

    def _restore_images(self, image_ids: list[int]) -> int:
        with self.library.lock:
            chosen = [entry for entry in self._list_trashed() if entry.facts.image_id in image_ids]
            for entry in chosen:
                entry.facts = replace(entry.facts, deleted_at=None, trash_reason=None)
                self.library.deleted.pop(entry.facts.content_sha256, None)
            return len(chosen)

    def _list_trash(self, limit: int, offset: int) -> Hits:
        records = [entry.record for entry in self._list_trashed()]
        records.sort(key=lambda record: (record.deleted_at, record.image_id), reverse=True)
        return _cut(records, limit, offset)

    def _empty_trash(self, image_ids: list[int] | None, before: datetime | None) -> int:
        with self.library.lock:
            chosen = [
                entry
                for entry in self._list_trashed()
                if (image_ids is None or entry.facts.image_id in image_ids)
                and (before is None or _make_deleted(entry).deleted_at < before)
            ]
            for entry in chosen:
                del self.library.entries[entry.facts.image_id]
                if entry.facts.trash_reason == "deleted":
                    self._remember(_make_deleted(entry))
            return len(chosen)

    def _remember(self, one: DeletedImage) -> None:
        known = self.library.deleted.get(one.content_sha256)
        paths = tuple(dict.fromkeys([*(known.paths if known else ()), *one.paths]))
        self.library.deleted[one.content_sha256] = replace(known or one, paths=paths)

    def list_deleted(self, after: str = "", limit: int = 1000) -> list[DeletedImage]:
        found = sorted(self.library.deleted.values(), key=lambda one: one.content_sha256)
        behind = [replace(one, paths=tuple(map(decode_path, one.paths))) for one in found if one.content_sha256 > after]
        return behind[:limit]

    def _add_deleted(self, deleted: list[DeletedImage]) -> None:
        with self.library.lock:
            for one in deleted:
                entry = self._find_hash(one.content_sha256)
                if entry is None or entry.facts.trash_reason == "deleted":
                    self._remember(one)

    def forget_deleted(self, hashes: Sequence[str] | None = None) -> int:
        with self.library.lock:
            chosen = set(self.library.deleted if hashes is None else hashes) & self.library.deleted.keys()
            for sha256 in chosen:
                del self.library.deleted[sha256]
            return len(chosen)

    # --- search -----------------------------------------------------------------------------------------------------

    def _list_qualified(self, filter: SearchFilter) -> list[Entry]:
        return [entry for entry in self._list_live() if all(check_filter(entry, filter))]

    def _search_embedding(
        self, model_id: int, embedding: Embeddings, limit: int, offset: int, filter: SearchFilter
    ) -> Hits:
        ranked = []
        for entry in self._list_qualified(filter):
            if model_id in entry.embeddings:
                distance = -float(entry.embeddings[model_id][0].astype(np.float64) @ embedding.astype(np.float64))
                ranked.append((distance, entry.facts.image_id, entry.record))
        ranked.sort(key=lambda hit: hit[:2])
        hits = [SearchHit(record, distance) for distance, _, record in ranked[offset : offset + limit]]
        return Hits(tuple(hits), len(ranked))

    def _list_images(
        self, terms: list[str], limit: int, offset: int, filter: SearchFilter, order: Order, after: ImageRecord | None
    ) -> Hits:
        entries = self._list_qualified(filter)
        records = [entry.record for entry in entries if all(occurs(term, list_fields(entry)) for term in terms)]
        if order == "name":
            records.sort(key=lambda record: (make_sort_name(record.file_name), record.image_id))
        else:
            records.sort(key=lambda record: (record.upload_date, record.image_id), reverse=True)
        if order == "taken":
            records.sort(key=lambda record: record.text.taken_at or datetime.min, reverse=True)
        if order == "taken":
            records.sort(key=lambda record: record.text.taken_at or datetime.min, reverse=True)
        behind = records if after is None else [record for record in records if _is_behind(record, after, order)]
        return replace(_cut(behind, limit, offset), total=len(records))

    def count_images(self, filter: SearchFilter = EVERYTHING) -> int:
        return len(self._list_qualified(filter))

    def count_values(self, field: CountedField, filter: SearchFilter = EVERYTHING) -> dict[str, int]:
        counted: dict[tuple[str, object], str] = {}
        for entry in self._list_qualified(filter):
            frame = None if field in COUNTS_FRAMES else entry.record.frame
            one = frame.film_sha256 if frame else entry.record.image_id
            counted.update({(value, one): value for value in list_values(entry, field)})
        counts = Counter(counted.values())
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    # --- images -----------------------------------------------------------------------------------------------------

    def _find_images(self, image_ids: list[int]) -> dict[int, ImageRecord]:
        entries = self.library.entries
        return {image_id: entries[image_id].record for image_id in image_ids if image_id in entries}

    def _read_original(self, image_id: int) -> bytes:
        data = self.library.entries[image_id].data
        return super()._read_original(image_id) if data is None else data

    def read_previews(self, image_ids: Sequence[int]) -> dict[int, bytes]:
        entries = self.library.entries
        return {image_id: entries[image_id].preview for image_id in image_ids if image_id in entries}

    def get_embeddings(self, image_ids: Sequence[int], model_id: int) -> dict[int, Embeddings]:
        entries = [self.library.entries[image_id] for image_id in image_ids if image_id in self.library.entries]
        return {e.facts.image_id: e.embeddings[model_id][0].copy() for e in entries if model_id in e.embeddings}

    # --- the store as a whole -----------------------------------------------------------------------------------------

    def sample_embeddings(self, model_id: int, size: int) -> Embeddings:
        chosen = sorted(self._list_live(), key=lambda entry: entry.facts.content_sha256)
        rows = [entry.embeddings[model_id][0] for entry in chosen if model_id in entry.embeddings][:size]
        return np.array(rows, np.float32).reshape(len(rows), self._get_dimension(model_id))

    def list_settings(self, prefix: str = "") -> dict[str, str]:
        return {name: value for name, value in self.library.settings.items() if name.startswith(prefix)}

    def set_setting(self, name: str, value: str | None) -> None:
        with self.library.lock:
            self.library.settings = {key: kept for key, kept in self.library.settings.items() if key != name}
            if value is not None:
                self.library.settings[name] = value

    def get_status(self) -> StoreStatus:
        live = self._list_live()
        models = tuple(
            (model, sum(model.model_id in entry.embeddings for entry in live)) for model in self.list_models()
        )
        return StoreStatus("dictionaries", "memory", len(live), models, len(self._list_trashed()))

    def close(self) -> None:
        pass


def _make_facts(image_id: int, image: NewImage, upload_date: datetime) -> ImageRecord:
    return ImageRecord(
        image_id=image_id,
        content_sha256=image.content_sha256,
        file_name=image.file_name,
        file_type=image.file_type,
        byte_size=image.byte_size,
        width=image.width,
        height=image.height,
        upload_date=upload_date,
        paths=(),
        text=image.text,
        edits=image.edits,
        frame=image.frame,
        is_incomplete=image.is_incomplete,
        dominant_color=image.dominant_color,
        recipe=image.recipe,
    )


def _is_behind(record: ImageRecord, after: ImageRecord, order: Order) -> bool:
    if order == "name":
        return (make_sort_name(record.file_name), record.image_id) > (make_sort_name(after.file_name), after.image_id)
    keys = [(one.upload_date, one.image_id) for one in (record, after)]
    if order == "taken":
        taken = [one.text.taken_at or datetime.min for one in (record, after)]
        return (taken[0], *keys[0]) < (taken[1], *keys[1])
    return keys[0] < keys[1]


def _make_deleted(entry: Entry) -> DeletedImage:
    assert entry.facts.deleted_at is not None
    return DeletedImage(entry.facts.content_sha256, entry.facts.deleted_at, tuple(entry.paths))


def _cut(records: list[ImageRecord], limit: int, offset: int) -> Hits:
    return Hits(tuple(SearchHit(record) for record in records[offset : offset + limit]), len(records))
