"""Copies a whole library from one store into another: records, texts, embeddings of every model, previews, originals.

What is written is read back and compared, so that the old library can be given up with a good conscience. A copy that
was interrupted goes on where it stopped: what is there is not written again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from image_search.errors import ImageNotFound, StoreError, StoreUnavailable
from image_search.records import EmbeddingModel, ImageRecord, NewImage
from image_search.stores.base import Embeddings, ImageStore

_COPY_BATCH = 64


@dataclass
class CopyReport:
    """What a copy did so far. Images count once; embeddings once for each model."""

    images: int = 0  # in the library copied from
    added_images: int = 0
    added_embeddings: int = 0
    embeddings_already_there: int = 0
    images_without_embedding: int = 0  # nothing can find them, so they stay behind
    failures: list[str] = field(default_factory=list)  # a sentence for each image that could not be read


def copy_library(
    source: ImageStore, target: ImageStore, on_progress: Callable[[CopyReport], None] = lambda _: None
) -> CopyReport:
    """Copy everything the target lacks; what it has of its own stays. image_ids are new, their order is kept.

    An image that is in both keeps the target's record and texts. An empty target also takes over which model is
    current. Raises StoreError when what comes back from the target is not what was given, and what the stores raise.
    """
    report = CopyReport(images=source.count_images())
    was_empty = target.find_current_model() is None
    models = [
        (model, target.get_or_create_model(model.name, model.version, model.dimension))
        for model in source.list_models()
    ]
    for model, own in models:
        if was_empty and model.is_current:
            target.set_current_model(own.model_id)
    embedded: set[int] = set()
    for model, own in models:
        for batch in _list_batches(source, model):
            _copy_batch(source, target, model, own, batch, report)
            embedded.update(batch)
            on_progress(report)
    report.images_without_embedding = report.images - len(embedded)
    return report


def _list_batches(source: ImageStore, model: EmbeddingModel) -> list[list[int]]:
    """image_ids with an embedding of this model, ascending."""
    chosen: list[int] = []
    last = 0
    while image_ids := source.list_image_ids(last):
        lacking = set(source.find_images_without_embedding(model.model_id, last, len(image_ids)))
        chosen += [image_id for image_id in image_ids if image_id not in lacking]
        last = image_ids[-1]
    return [chosen[start : start + _COPY_BATCH] for start in range(0, len(chosen), _COPY_BATCH)]


def _copy_batch(
    source: ImageStore,
    target: ImageStore,
    model: EmbeddingModel,
    own: EmbeddingModel,
    image_ids: Sequence[int],
    report: CopyReport,
) -> None:
    records = {record.content_sha256: record for record in source.get_images(image_ids)}
    rows = np.array([source.get_embedding(image_id, model.model_id) for image_id in image_ids], np.float32)
    embeddings = dict(zip(records, rows, strict=True))
    known = target.find_known_hashes(list(records))
    images = _read_images(source, [record for sha256, record in records.items() if sha256 not in known], report)
    if images:
        added = [image.content_sha256 for image in images]
        new_ids = target.add_images(own.model_id, images, np.array([embeddings[sha256] for sha256 in added]))
        for sha256, new_id in zip(added, new_ids, strict=True):
            _compare_original(target, new_id, records[sha256])
            _compare_embedding(target, new_id, own, embeddings[sha256], records[sha256])
        report.added_images += len(added)
        report.added_embeddings += len(added)
    lacking = [sha256 for sha256, own_id in known.items() if not _has_embedding(target, own_id, own)]
    if lacking:
        rows = np.array([embeddings[sha256] for sha256 in lacking])
        target.add_embeddings(own.model_id, [known[sha256] for sha256 in lacking], rows)
        for sha256 in lacking:
            _compare_embedding(target, known[sha256], own, embeddings[sha256], records[sha256])
        report.added_embeddings += len(lacking)
    report.embeddings_already_there += len(known) - len(lacking)


def _read_images(source: ImageStore, records: Sequence[ImageRecord], report: CopyReport) -> list[NewImage]:
    files = source.find_known_files([record.file_path for record in records if record.file_path])
    images = []
    for record in records:
        try:
            data, preview = source.read_original(record.image_id), source.read_preview(record.image_id)
            if hashlib.sha256(data).hexdigest() != record.content_sha256:
                raise StoreError(f"The original of {record.file_name} is damaged. Register that picture again.")
        except StoreUnavailable:
            raise
        except StoreError as error:  # one picture that is lost does not keep the others
            report.failures.append(str(error))
            continue
        file = files.get(record.file_path) if record.file_path else None
        images.append(
            NewImage(
                content_sha256=record.content_sha256,
                file_name=record.file_name,
                file_type=record.file_type,
                width=record.width,
                height=record.height,
                data=data,
                preview=preview,
                file_path=record.file_path,
                modified_ns=file.modified_ns if file and file.image_id == record.image_id else None,
                text=record.text,
                upload_date=record.upload_date,
            )
        )
    return images


def _has_embedding(store: ImageStore, image_id: int, model: EmbeddingModel) -> bool:
    try:
        store.get_embedding(image_id, model.model_id)
    except ImageNotFound:
        return False
    return True


def _compare_original(target: ImageStore, image_id: int, record: ImageRecord) -> None:
    if hashlib.sha256(target.read_original(image_id)).hexdigest() != record.content_sha256:
        raise StoreError(f"The original of {record.file_name} did not arrive whole. Check the disk, then copy again.")


def _compare_embedding(
    target: ImageStore, image_id: int, model: EmbeddingModel, embedding: Embeddings, record: ImageRecord
) -> None:
    if not np.array_equal(target.get_embedding(image_id, model.model_id), embedding):
        raise StoreError(f"The embedding of {record.file_name} did not arrive whole. Check the disk, then copy again.")
