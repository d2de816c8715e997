"""Milvus, a server (milvus://host:19530/database) or embedded as Milvus Lite (milvus:///data/library.db).

Records, texts and embeddings are in Milvus; originals and previews, and documents too long for a field, in the folder
or bucket of ORIGINALS_URL, for Milvus keeps no files.

Milvus has no transactions, so every change is prepared where no search sees it and then begins to count with one row,
the state (schema.py):

- Adding: images get ids above the last one that counts; first their rows are written, then their files, then the
  embeddings, and last the state names the new last id. A crash before leaves rows that no search sees.
- Removing: the state names the ids that are gone; then rows and files are swept away.
- Changing a text: the state names the image; its row is written, then the copies beside its embeddings.
- Trash: the state names the images as hidden; their rows are written, with the embeddings parked in them, and the
  embeddings leave the collection that is searched. Back the same way.

The next writer first finishes or sweeps away what a crash left. One writes at a time (client.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import numpy as np

from image_search.originals import Originals, open_separate_originals
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
    StoreStatus,
    TrashReason,
)
from image_search.settings import Settings
from image_search.stores.base import EVERYTHING, ChangeEdits, CountedField, Embeddings, ImageStore
from image_search.stores.document_store import (
    add_model,
    choose_latest,
    date_back,
    drop_model,
    list_wanted,
    merge_image,
    set_path,
    switch_model,
)
from image_search.stores.documents import (
    NEWEST,
    TRASHED,
    Document,
    Place,
    change_record,
    count_microseconds,
    decode_deleted,
    drop_paths,
    make_deleted,
    make_deleted_path_key,
    make_folder_key,
    make_path_key,
    make_recognizer_key,
    read_recognized,
    recognize,
    replace_content,
    restore,
    trash,
)
from image_search.stores.milvus.client import Confirm, Connections, describe_engine, is_written
from image_search.stores.milvus.queries import (
    count_values,
    list_by_name,
    list_newest,
    make_hits,
    sample_embeddings,
    search_nearest,
)
from image_search.stores.milvus.schema import (
    IMAGES,
    Stored,
    check_image,
    make_embeddings_collection,
    match_marks,
    name_embeddings,
    name_new_preview,
    name_preview,
    prepare_library,
    read_state,
)
from image_search.stores.milvus.session import Snapshot, Writer, cut_in_chunks, cut_in_pages, has_old_words
from image_search.stores.reads import content_is_known, find_model, image_not_found


class MilvusStore(ImageStore):
    """A library in one database of Milvus. Any number of threads may use it at once, and of programs on a server."""

    originals: Originals

    def __init__(self, url: str, originals: Originals) -> None:
        super().__init__()
        self.originals = originals
        self._is_lite = False
        self._database = Connections(url, self._prepare)

    @classmethod
    def open(cls, settings: Settings) -> MilvusStore:
        """The store of DATABASE_URL and ORIGINALS_URL. Connects to nothing yet."""
        originals = open_separate_originals(settings.originals_url, "Milvus", settings.s3_endpoint_url)
        return cls(settings.database_url, originals)

    def _prepare(self, client: object, is_lite: bool, ensure_locked: Confirm) -> None:
        self._is_lite = is_lite
        prepare_library(client, is_lite, self._database.location, self.originals)
        if has_old_words(client, self._database.location):
            Writer(client, self.originals, ensure_locked).renew_words(self._database.location)

    @contextmanager
    def _reading(self) -> Iterator[Snapshot]:
        while True:
            with self._database.reading() as client:
                state = read_state(client)
                if not state.changed or is_written(client):
                    yield Snapshot(client, state, self.originals)
                    return
            with self._writing():  # a text was half changed when its writer died; this finishes it
                pass

    @contextmanager
    def _writing(self) -> Iterator[Writer]:
        with self._database.writing() as (client, ensure_locked):
            has_old_words(client, self._database.location)  # refuses what a newer program has indexed
            try:
                yield Writer(client, self.originals, ensure_locked)
            except BaseException:
                with suppress(Exception):  # removes prepared rows; otherwise the next writer does
                    Writer(client, self.originals, ensure_locked)
                raise

    # --- models ---------------------------------------------------------------------------------------------------

    def _add_model(self, name: str, version: str, dimension: int) -> None:
        with self._writing() as writer:
            state = writer.state
            if find_model(state.models, name, version) is None:
                model_id = state.last_model_id + 1
                make_embeddings_collection(writer.client, model_id, dimension, self._is_lite)
                models = add_model(list(state.models), model_id, name, version, dimension)
                writer.save(replace(state, last_model_id=model_id, models=tuple(models)))

    def list_models(self) -> list[EmbeddingModel]:
        with self._reading() as view:
            return list(view.state.models)

    def set_current_model(self, model_id: int) -> None:
        with self._writing() as writer:
            models = switch_model(list(writer.state.models), model_id)
            writer.save(replace(writer.state, models=tuple(models)))

    def remove_model(self, model_id: int) -> None:
        # Embeddings that are parked stay with their images, where nothing reads them; ids of models are not used again.
        with self._writing() as writer:
            models = drop_model(list(writer.state.models), model_id)
            writer.save(replace(writer.state, models=tuple(models), dropped=(model_id,)))
            writer.client.drop_collection(name_embeddings(model_id))
            writer.save(replace(writer.state, dropped=()))
        self._dimensions.pop(model_id, None)

    # --- registration -----------------------------------------------------------------------------------------------

    def _find_known_files(self, paths: list[str]) -> dict[str, KnownFile]:
        with self._reading() as view:
            found = view.look_up("marks", list(map(make_path_key, paths)))
        files = {path: one.find_known_file(path) for one in found.values() for path in one.paths}
        return {path: file for path in paths if (file := files.get(path)) is not None}

    def _set_path(self, image_id: int, file_path: str, file_name: str, byte_size: int, modified_ns: int | None) -> None:
        with self._writing() as writer:
            stored = writer.get_live(image_id)
            documents = writer.find_owners([(file_path, stored.document.film)]) | {image_id: stored.document}
            set_path(documents, image_id, file_name, Place(file_path, byte_size, modified_ns))
            writer.change_documents(documents)

    def _remove_paths(self, paths: list[str]) -> int:
        with self._writing() as writer:
            found = writer.look_up("marks", list(map(make_path_key, paths)))
            known = {path for document in found.values() for path in document.paths if path in paths}
            changed = {image_id: drop_paths(document, known) for image_id, document in found.items()}
            writer.change_documents(changed)
        return len(known)

    def _list_paths(self, folder: str, after: str, limit: int) -> list[tuple[str, int]]:
        found: dict[str, int] = {}
        with self._reading() as view:
            for document in view.look_up("marks", [make_folder_key(folder)]).values():
                below = (path for path in document.paths if path.startswith((f"{folder}/", f"{folder}\\")))
                found |= {path: document.image_id for path in below if path > after}
        return sorted(found.items())[:limit]

    def _add_images(self, model_id: int, images: list[NewImage], embeddings: Embeddings) -> list[int]:
        for image in images:
            check_image(image)
        first = {image.content_sha256: n for n, image in reversed(list(enumerate(images)))}  # the first of equal ones
        moment = datetime.now(UTC).replace(tzinfo=None)
        with self._writing() as writer:
            writer.find_model(model_id)
            found = writer.find_hashes(list(first))
            known = {sha256: document.image_id for sha256, document in found.items()}
            writer.check_frames(images, known)
            documents = writer.find_owners(list_wanted(images))
            documents |= {document.image_id: document for document in found.values()}
            ahead = writer.iterate(IMAGES, writer.write_live([f"upload_date > {count_microseconds(moment)}"]), [])
            for image_id, stored in writer.get_stored([int(row["image_id"]) for row in ahead]).items():
                documents.setdefault(image_id, stored.document)
            date_back(documents, moment)
            there = set(documents)
            for image in images:
                image_id = known.setdefault(
                    image.content_sha256, writer.state.last_image_id + 1 + len(known) - len(found)
                )
                merge_image(documents, image_id, image, moment)
            writer.change_documents({image_id: documents[image_id] for image_id in there})
            lacking = writer.list_lacking(model_id, [document.image_id for document in found.values()])
            rows = {known[sha256]: (embeddings[n], images[n].recipe) for sha256, n in first.items()}
            writer.put_embeddings(model_id, {image_id: rows[image_id] for image_id in lacking})
            new = sorted(documents.keys() - there)
            added = [Stored(documents[image_id], name_preview(documents[image_id].sha256)) for image_id in new]
            contents = _list_contents([images[n] for sha256, n in first.items() if sha256 not in found])
            writer.add_images(model_id, added, contents, rows)
            writer.forget(list(first))
        return [known[image.content_sha256] for image in images]

    def _replace_image(self, image_id: int, model_id: int, image: NewImage, embedding: Embeddings) -> None:
        check_image(image)
        with self._writing() as writer:
            writer.find_model(model_id)
            stored = writer.get_live(image_id)
            owner = writer.find_hashes([image.content_sha256]).get(image.content_sha256)
            if owner is not None and owner.image_id != image_id:
                raise content_is_known(owner.image_id)
            preview = name_new_preview(image.content_sha256, image.preview)
            document = replace_content(stored.document, image)
            contents = {preview: image.preview} | ({} if image.data is None else {image.content_sha256: image.data})
            changed = Stored(document, preview, {model_id: (embedding, image.recipe)})
            writer.change_images([changed], contents)
            writer.forget([image.content_sha256])

    def _add_embeddings(self, model_id: int, image_ids: list[int], embeddings: Embeddings, recipe: int) -> None:
        with self._writing() as writer:
            writer.find_model(model_id)
            rows = {image_id: (row, recipe) for image_id, row in zip(image_ids, embeddings, strict=True)}
            writer.put_embeddings(model_id, rows)

    def find_images_without_embedding(
        self, model_id: int, after_id: int = 0, limit: int = 1000, min_recipe: int = 0
    ) -> list[int]:
        lacking: list[int] = []
        with self._reading() as view:
            rows = view.iterate(IMAGES, view.write_live([f"image_id > {int(after_id)}"]), [])
            for page in cut_in_pages(rows):
                lacking += sorted(view.list_lacking(model_id, page, min_recipe))
                if len(lacking) >= limit:
                    break
        return lacking[:limit]

    def find_images_of_old_recipe(self, recipe: int, after_id: int = 0, limit: int = 1000) -> list[int]:
        return self._list_after(after_id, f"recipe < {int(recipe)}", limit)

    def find_images_without_recognition(self, recognizer: str, after_id: int = 0, limit: int = 1000) -> list[int]:
        return self._list_after(after_id, f"not {match_marks([make_recognizer_key(recognizer)])}", limit)

    def _list_after(self, after_id: int, condition: str, limit: int) -> list[int]:
        with self._reading() as view:
            rows = view.iterate(IMAGES, view.write_live([f"image_id > {int(after_id)}", condition]), [])
            return sorted(int(row["image_id"]) for row in rows)[:limit]

    def set_preview(self, image_id: int, preview: bytes, dominant_color: str | None, recipe: int) -> None:
        with self._writing() as writer:
            stored = writer.get_live(image_id)
            document = change_record(stored.document, dominant_color=dominant_color, recipe=recipe)
            name = name_new_preview(document.sha256, preview)
            writer.change_images([Stored(document, name)], {name: preview})

    # --- texts ------------------------------------------------------------------------------------------------------

    def _change_record(self, image_id: int, change: Callable[[Document], Document], or_trashed: bool = False) -> bool:
        with self._reading() as view:  # queried first without blocking other writers
            before = view.get_live(image_id, or_trashed).document
        if change(before) == before:
            return False
        with self._writing() as writer:
            stored = writer.get_live(image_id, or_trashed)
            writer.change_images([stored.change(change(stored.document))])
        return True

    def _set_text(self, image_id: int, text: ImageText) -> bool:
        return self._change_record(image_id, partial(change_record, text=text))

    def _change_edits(self, image_ids: list[int], change: ChangeEdits) -> dict[int, bool]:
        with self._writing() as writer:
            live = [one for one in writer.get_stored(image_ids).values() if one.record.deleted_at is None]
            pairs = [(one, one.change(change_record(one.document, edits=change(one.record)))) for one in live]
            writer.change_images([after for before, after in pairs if after.record != before.record])
        return {before.record.image_id: after.record != before.record for before, after in pairs}

    def _set_recognized(self, image_id: int, recognized: RecognizedText | None) -> None:
        self._change_record(image_id, partial(recognize, recognized=recognized), recognized is None)

    def get_recognized(self, image_id: int) -> RecognizedText | None:
        with self._reading() as view:
            stored = view.get_stored([image_id])
        if image_id not in stored:
            raise image_not_found(image_id)
        return read_recognized(stored[image_id].document)

    # --- trash ------------------------------------------------------------------------------------------------------

    def _trash_images(self, image_ids: list[int], reason: TrashReason, deleted_at: datetime) -> int:
        count = 0
        for chunk in cut_in_chunks(image_ids):
            with self._writing() as writer:
                live = [one for one in writer.get_stored(chunk).values() if one.document.is_live]
                parked = [one.change(trash(one.document, reason, deleted_at)) for one in writer.park(live)]
                writer.change_images(parked, is_hidden=True)
                count += len(live)
        return count

    def _restore_images(self, image_ids: list[int]) -> int:
        count = 0
        for chunk in cut_in_chunks(image_ids):
            with self._writing() as writer:
                trashed = [one for one in writer.get_stored(chunk).values() if not one.document.is_live]
                writer.change_images([one.change(restore(one.document)) for one in trashed], is_hidden=True)
                writer.forget([one.document.sha256 for one in trashed])
                count += len(trashed)
        return count

    def _list_trash(self, limit: int, offset: int) -> Hits:
        with self._reading() as view:
            condition = view.write_condition([match_marks([TRASHED])])
            page, total = list_newest(view, condition, offset, limit, ("deleted_at",))
            return make_hits(view, [(image_id, None) for image_id in page], total)

    def _empty_trash(self, image_ids: list[int] | None, before: datetime | None) -> int:
        conditions = [match_marks([TRASHED])]
        if before is not None:
            conditions.append(f"deleted_at < {count_microseconds(before)}")
        with self._writing() as writer:
            rows = writer.iterate(IMAGES, writer.write_condition(conditions), [])
            trashed = {int(row["image_id"]) for row in rows}
            chosen = sorted(trashed if image_ids is None else trashed.intersection(image_ids))
            for chunk in cut_in_chunks(chosen):
                documents = [one.document for one in writer.get_stored(chunk).values()]
                deleted = [make_deleted(one) for one in documents if one.record.trash_reason == "deleted"]
                writer.remember(deleted)
                writer.remove_images(chunk)
        return len(chosen)

    # --- remembered -------------------------------------------------------------------------------------------------

    def _find_known_hashes(self, hashes: list[str]) -> dict[str, int]:
        with self._reading() as view:
            found = view.find_hashes(hashes)
        return {sha256: document.image_id for sha256, document in found.items() if document.is_live}

    def _find_deleted_hashes(self, hashes: list[str]) -> set[str]:
        with self._reading() as view:
            found = view.find_hashes(hashes)
            remembered = view.find_remembered(hashes)
        trashed = {sha256 for sha256, document in found.items() if document.record.trash_reason == "deleted"}
        # One that is there was registered again by a program that ended before it could forget it.
        return trashed | (remembered.keys() - found.keys())

    def _find_deleted_paths(self, paths: list[str]) -> dict[str, str]:
        marks = list(map(make_deleted_path_key, paths))
        with self._reading() as view:
            deleted = [make_deleted(document) for document in view.look_up("marks", marks).values()]
            for chunk in cut_in_chunks(marks):
                deleted += view.read_deleted(match_marks(chunk))
            owners = view.look_up("marks", list(map(make_path_key, paths)))
        return choose_latest(deleted, paths, owners.values())

    def list_deleted(self, after: str = "", limit: int = 1000) -> list[DeletedImage]:
        with self._reading() as view:
            hashes = view.list_deleted_hashes()
            page = sorted(sha256 for sha256 in hashes if sha256 > after)[:limit]
            remembered = view.find_remembered(page)
        return [decode_deleted(remembered[sha256]) for sha256 in page if sha256 in remembered]

    def _add_deleted(self, deleted: list[DeletedImage]) -> None:
        with self._writing() as writer:
            found = writer.find_hashes([one.content_sha256 for one in deleted])
            held = {sha256 for sha256, document in found.items() if document.record.trash_reason != "deleted"}
            writer.remember([one for one in deleted if one.content_sha256 not in held])

    def forget_deleted(self, hashes: Sequence[str] | None = None) -> int:
        with self._writing() as writer:
            if hashes is None:
                hashes = writer.list_deleted_hashes()
            return writer.forget(list(dict.fromkeys(hashes)))

    # --- search -----------------------------------------------------------------------------------------------------

    def _search_embedding(
        self, model_id: int, embedding: Embeddings, limit: int, offset: int, filter: SearchFilter
    ) -> Hits:
        with self._reading() as view:
            view.find_model(model_id)
            condition = view.write_filter(filter)
            page = search_nearest(view, model_id, condition, embedding, offset, limit)
            return make_hits(view, page, view.count(name_embeddings(model_id), condition))

    def _list_images(
        self, terms: list[str], limit: int, offset: int, filter: SearchFilter, order: Order, after: ImageRecord | None
    ) -> Hits:
        with self._reading() as view:
            condition = view.write_filter(filter, terms)
            if order == "name":
                page, total = list_by_name(view, condition, offset, limit, after)
            else:
                page, total = list_newest(view, condition, offset, limit, NEWEST[order], after)
            return make_hits(view, ((image_id, None) for image_id in page), total)

    def count_images(self, filter: SearchFilter = EVERYTHING) -> int:
        with self._reading() as view:
            return view.count(IMAGES, view.write_filter(filter))

    def count_values(self, field: CountedField, filter: SearchFilter = EVERYTHING) -> dict[str, int]:
        with self._reading() as view:
            return count_values(view, field, view.write_filter(filter))

    # --- images -----------------------------------------------------------------------------------------------------

    def _find_images(self, image_ids: list[int]) -> dict[int, ImageRecord]:
        with self._reading() as view:
            return {image_id: stored.record for image_id, stored in view.get_stored(image_ids).items()}

    def read_previews(self, image_ids: Sequence[int]) -> dict[int, bytes]:
        with self._reading() as view:
            stored = view.get_stored(image_ids)
            return {image_id: self.originals.read(one.preview) for image_id, one in stored.items()}

    def get_embeddings(self, image_ids: Sequence[int], model_id: int) -> dict[int, Embeddings]:
        with self._reading() as view:
            if all(model.model_id != model_id for model in view.state.models):
                return {}
            found = view.read_embeddings(model_id, image_ids)
            others = view.get_stored([image_id for image_id in image_ids if image_id not in found])
        parked = {image_id: one.parked[model_id][0] for image_id, one in others.items() if model_id in one.parked}
        return found | parked

    # --- the store as a whole -----------------------------------------------------------------------------------------

    def sample_embeddings(self, model_id: int, size: int) -> Embeddings:
        dimension = self._get_dimension(model_id)
        with self._reading() as view:
            sample = sample_embeddings(view, model_id, size)
        return np.array(sample, np.float32).reshape(len(sample), dimension)

    def list_settings(self, prefix: str = "") -> dict[str, str]:
        with self._reading() as view:
            found = view.list_settings()
        return {name: found[name] for name in sorted(found) if name.startswith(prefix)}

    def set_setting(self, name: str, value: str | None) -> None:
        with self._writing() as writer:
            writer.set_setting(name, value)

    def get_status(self) -> StoreStatus:
        with self._reading() as view:
            condition = view.write_live()
            models = view.state.models
            return StoreStatus(
                engine=describe_engine(view.client),
                location=self._database.location,
                image_count=view.count(IMAGES, condition),
                models=tuple((model, view.count(name_embeddings(model.model_id), condition)) for model in models),
                trash_count=view.count(IMAGES, view.write_condition([match_marks([TRASHED])])),
            )

    def close(self) -> None:
        self._database.close()


def _list_contents(images: Sequence[NewImage]) -> dict[str, bytes]:
    """The originals and previews that are kept, by name."""
    originals = {image.content_sha256: image.data for image in images if image.data is not None}
    return originals | {name_preview(image.content_sha256): image.preview for image in images}
