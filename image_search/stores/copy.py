"""Copy a library from one store into another: images with their embeddings, layers, paths, trash, settings.

Copied images are read back and compared, so that the old library can be deleted safely. A copy that
was interrupted goes on where it stopped: what is there is not written again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from image_search.errors import StoreError, StoreUnavailable
from image_search.records import EmbeddingModel, ImageRecord, NewImage, TrashReason
from image_search.stores.base import CHOSEN_MODEL, LOCAL_SETTINGS, Embeddings, ImageStore

_COPY_BATCH = 64
_PAGE = 1000

# In the target: hashes of images that are live there only until their batch is complete and they go to the trash.
_BOUND_FOR_TRASH = "copy.bound_for_trash"

Models = Sequence[tuple[EmbeddingModel, EmbeddingModel]]  # the source's and the target's
Rows = Mapping[str, Embeddings]  # by content hash


@dataclass
class CopyReport:
    """Counts of a copy so far. Images count once, live ones and those in the trash; embeddings once for each model."""

    images: int = 0  # in the library copied from
    added_images: int = 0
    added_embeddings: int = 0
    embeddings_already_there: int = 0
    images_without_embedding: int = 0  # nothing can find them, so they stay behind
    images_deleted_there: int = 0  # a user deleted them in the target for good, so they stay behind
    failures: list[str] = field(default_factory=list)  # a sentence for each image that could not be read


def copy_library(
    source: ImageStore, target: ImageStore, on_progress: Callable[[CopyReport], None] = lambda _: None
) -> CopyReport:
    """Copy everything the target lacks; what it has of its own stays. image_ids are new, their order is kept.

    An image that is in both keeps the target's record and texts, live or in its trash. One of the source's trash
    arrives in the trash, deleted at the same time for the same reason. Hashes remembered as deleted are remembered, and
    settings taken over where the target has none of that name. An empty target also takes over which model is current
    and chosen.
    Raises StoreError when what comes back from the target is not what was given, and what the stores raise.
    """
    trash = {record.image_id for record in source.iterate_trash()}
    own_trash = {record.content_sha256 for record in target.iterate_trash()}
    report = CopyReport(images=source.count_images() + len(trash))
    was_empty = target.find_current_model() is None
    models = [
        (model, target.get_or_create_model(model.name, model.version, model.dimension))
        for model in source.list_models()
    ]
    for model, own in models:
        if was_empty and model.is_current:
            target.set_current_model(own.model_id)
    image_ids = sorted({*_list_live(source), *trash})
    embedded = 0
    for start in range(0, len(image_ids), _COPY_BATCH):
        batch = _Batch(source, target, models, image_ids[start : start + _COPY_BATCH], own_trash, report)
        batch.copy()
        embedded += len(batch.embedded)
        on_progress(report)
    report.images_without_embedding = max(report.images - embedded, 0)
    _copy_remembered(source, target)
    _copy_settings(source, target, (*LOCAL_SETTINGS, *([] if was_empty else [CHOSEN_MODEL])))
    return report


def _list_live(store: ImageStore) -> Iterator[int]:
    last = 0
    while image_ids := store.list_image_ids(last, _PAGE):
        yield from image_ids
        last = image_ids[-1]


def _copy_remembered(source: ImageStore, target: ImageStore) -> None:
    last = ""
    while deleted := source.list_deleted(last, _PAGE):
        target.add_deleted(deleted)
        last = deleted[-1].content_sha256


def _copy_settings(source: ImageStore, target: ImageStore, left_out: Collection[str]) -> None:
    own = target.list_settings()
    for name, value in source.list_settings().items():
        if name not in own and name not in (*left_out, _BOUND_FOR_TRASH):
            target.set_setting(name, value)


class _Batch:
    """Some images of the source, on their way."""

    def __init__(
        self,
        source: ImageStore,
        target: ImageStore,
        models: Models,
        image_ids: Sequence[int],
        own_trash: set[str],
        report: CopyReport,
    ) -> None:
        self.source, self.target, self.models, self.report = source, target, models, report
        self.own_trash = own_trash
        self.records = {record.content_sha256: record for record in source.get_images(image_ids)}
        self.rows: dict[int, Rows] = {own.model_id: self._read_rows(model) for model, own in models}
        self.embedded = {sha256 for rows in self.rows.values() for sha256 in rows}

    def _read_rows(self, model: EmbeddingModel) -> Rows:
        found = self.source.get_embeddings([record.image_id for record in self.records.values()], model.model_id)
        return {sha256: found[record.image_id] for sha256, record in self.records.items() if record.image_id in found}

    def copy(self) -> None:
        hashes = list(self.records)
        known = self.target.find_known_hashes(hashes)
        deleted = (self.target.find_deleted_hashes(hashes) - self.own_trash) & self.embedded
        self.report.images_deleted_there += len(deleted)
        new = self.embedded - known.keys() - self.own_trash - deleted
        images = self._read_images([record for sha256, record in self.records.items() if sha256 in new])
        bound = self._mark_bound_for_trash(images)
        added = self._add_images(images)
        self._add_embeddings(added, known | added)
        self._trash(bound, known | added)

    def _add_images(self, images: Mapping[str, list[NewImage]]) -> dict[str, int]:
        """Each with one of its embeddings, in the order of the source. Returns the new image_ids by hash."""
        added: dict[str, int] = {}
        for _, own in self.models:
            rows = self.rows[own.model_id]
            chosen = [
                image for sha256, same in images.items() if sha256 in rows and sha256 not in added for image in same
            ]
            if chosen:
                embeddings = np.array([rows[image.content_sha256] for image in chosen], np.float32)
                image_ids = self.target.add_images(own.model_id, chosen, embeddings)
                added |= {image.content_sha256: image_id for image, image_id in zip(chosen, image_ids, strict=True)}
        for sha256, image_id in added.items():
            if images[sha256][0].data is not None:
                self._compare_original(image_id, self.records[sha256])
        self.report.added_images += len(added)
        return added

    def _add_embeddings(self, added: Mapping[str, int], there: Mapping[str, int]) -> None:
        """Images and embeddings missing in the target, and recipes of embeddings older than their previews."""
        for model, own in self.models:
            rows = self.rows[own.model_id]
            stored = self.target.get_embeddings([there[sha256] for sha256 in rows if sha256 in there], own.model_id)
            lacking = [sha256 for sha256 in rows if sha256 in there and there[sha256] not in stored]
            outdated = self._find_outdated(model)
            for recipe, chosen in self._group_by_recipe(lacking, outdated & added.keys() & rows.keys(), outdated):
                embeddings = np.array([rows[sha256] for sha256 in chosen], np.float32)
                self.target.add_embeddings(own.model_id, [there[sha256] for sha256 in chosen], embeddings, recipe)
            written = [sha256 for sha256 in rows if sha256 in added or sha256 in lacking]
            self._compare_embeddings(own, {there[sha256]: sha256 for sha256 in written}, rows)
            self.report.added_embeddings += len(written)
            self.report.embeddings_already_there += len(rows.keys() & (there.keys() | self.own_trash)) - len(written)

    def _group_by_recipe(
        self, lacking: Sequence[str], again: set[str], outdated: set[str]
    ) -> Iterator[tuple[int, list[str]]]:
        groups: dict[int, list[str]] = {}
        for sha256 in dict.fromkeys([*lacking, *again]):
            recipe = 1 if sha256 in outdated else self.records[sha256].recipe
            groups.setdefault(recipe, []).append(sha256)
        yield from groups.items()

    def _find_outdated(self, model: EmbeddingModel) -> set[str]:
        """Hashes of live images whose embedding is of an older recipe than their preview."""
        outdated: set[str] = set()
        image_ids = [record.image_id for record in self.records.values()]
        for recipe in {record.recipe for record in self.records.values()} - {1}:
            found = self.source.find_images_without_embedding(
                model.model_id, min(image_ids) - 1, len(image_ids), min_recipe=recipe
            )
            outdated |= {
                sha256
                for sha256, record in self.records.items()
                if record.recipe == recipe and record.image_id in found
            }
        return outdated

    # --- trash ----------------------------------------------------------------------------------------------------

    def _mark_bound_for_trash(self, images: Mapping[str, object]) -> list[str]:
        """Hashes that go to the trash: of new images, and of those that an interrupted copy has left live."""
        left = self.target.list_settings(_BOUND_FOR_TRASH).get(_BOUND_FOR_TRASH, "").split()
        bound = [
            sha256
            for sha256, record in self.records.items()
            if record.trash_reason is not None and (sha256 in images or sha256 in left)
        ]
        if bound:
            self.target.set_setting(_BOUND_FOR_TRASH, " ".join(dict.fromkeys([*left, *bound])))
        return bound

    def _trash(self, bound: Sequence[str], there: Mapping[str, int]) -> None:
        chosen: dict[tuple[TrashReason, datetime], list[int]] = {}
        for sha256 in bound:
            record = self.records[sha256]
            if sha256 in there and record.trash_reason is not None and record.deleted_at is not None:
                chosen.setdefault((record.trash_reason, record.deleted_at), []).append(there[sha256])
        for (reason, deleted_at), image_ids in chosen.items():
            self.target.trash_images(image_ids, reason, deleted_at)
        if bound:
            self.target.set_setting(_BOUND_FOR_TRASH, None)

    # --- reading --------------------------------------------------------------------------------------------------

    def _read_images(self, records: Sequence[ImageRecord]) -> dict[str, list[NewImage]]:
        """Each image once for every path, the latest last, because an image that is added again gains the path."""
        if not records:
            return {}
        previews = self.source.read_previews([record.image_id for record in records])
        paths = [path for record in records for path in record.paths]
        files, taken = self.source.find_known_files(paths), self.target.find_known_files(paths)
        images = {}
        for record in records:
            try:
                image = self._read_image(record, previews)
            except StoreUnavailable:
                raise
            except StoreError as error:  # one image that is lost does not keep the others
                self.report.failures.append(str(error))
                continue
            placed = []
            for path in reversed(record.paths):
                if path not in taken or (record.frame and record.frame.film_sha256 == taken[path].film_sha256):
                    # The file time of a path in the trash is unknown. A frame shares its path with others of the film.
                    modified_ns = files[path].modified_ns if path in files else None
                    placed.append(replace(image, file_path=path, modified_ns=modified_ns))
            images[record.content_sha256] = placed or [image]
        return images

    def _read_image(self, record: ImageRecord, previews: Mapping[int, bytes]) -> NewImage:
        data = None
        if record.frame is None:
            data = self.source.read_original(record.image_id)
            if hashlib.sha256(data).hexdigest() != record.content_sha256:
                raise StoreError(f"The original of {record.file_name} is damaged. Register that image again.")
        if record.image_id not in previews:
            raise StoreError(f"{record.file_name} has no preview. Register that image again.")
        return NewImage(
            content_sha256=record.content_sha256,
            file_name=record.file_name,
            file_type=record.file_type,
            width=record.width,
            height=record.height,
            data=data,
            preview=previews[record.image_id],
            text=record.text,
            upload_date=record.upload_date,
            size=record.byte_size,
            frame=record.frame,
            is_incomplete=record.is_incomplete,
            dominant_color=record.dominant_color,
            recipe=record.recipe,
            edits=record.edits,
            recognized=None if record.recognizer is None else self.source.get_recognized(record.image_id),
        )

    # --- comparing ------------------------------------------------------------------------------------------------

    def _compare_original(self, image_id: int, record: ImageRecord) -> None:
        if hashlib.sha256(self.target.read_original(image_id)).hexdigest() != record.content_sha256:
            raise _damaged("original", record)

    def _compare_embeddings(self, model: EmbeddingModel, written: Mapping[int, str], rows: Rows) -> None:
        stored = self.target.get_embeddings(list(written), model.model_id)
        for image_id, sha256 in written.items():
            if image_id not in stored or not np.array_equal(stored[image_id], rows[sha256]):
                raise _damaged("embedding", self.records[sha256])


def _damaged(what: str, record: ImageRecord) -> StoreError:
    return StoreError(f"The {what} of {record.file_name} did not arrive whole. Check the disk, then copy again.")
