"""An image as one JSON document, and what changes of images do to it, for engines without tables."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from image_search.records import (
    DeletedImage,
    EmbeddingModel,
    ImageRecord,
    KnownFile,
    NewImage,
    RecognizedText,
    TrashReason,
)
from image_search.stores.reads import find_model, model_is_current, model_not_found
from image_search.stores.text import (
    decode_path,
    describe_recognized,
    dump_details,
    dump_lines,
    encode_path,
    load_details,
    load_lines,
    make_new_record,
)


class Place(NamedTuple):
    """One path of an image, as it is stored (encode_path), and what is known of the file there."""

    path: str
    byte_size: int
    modified_ns: int | None


@dataclass(frozen=True, slots=True)
class Document:
    """An image without its bytes and embeddings. places: the latest first; record.paths are the same paths."""

    record: ImageRecord
    places: tuple[Place, ...] = ()
    lines: str = "[]"  # of the recognised text (dump_lines)

    @property
    def image_id(self) -> int:
        return self.record.image_id

    @property
    def sha256(self) -> str:
        return self.record.content_sha256

    @property
    def paths(self) -> list[str]:
        """The paths as they are stored."""
        return [place.path for place in self.places]

    @property
    def film(self) -> str | None:
        return self.record.frame.film_sha256 if self.record.frame else None

    @property
    def is_live(self) -> bool:
        return self.record.deleted_at is None

    def shares_with(self, other: Document) -> bool:
        """Whether both are frames of one film, and may have one path."""
        return self.film is not None and self.film == other.film

    def find_known_file(self, path: str) -> KnownFile | None:
        """The file at this stored path as it was registered; None when the image is not there."""
        for place in self.places:
            if place.path == path:
                return KnownFile(self.image_id, place.byte_size, place.modified_ns, self.sha256, self.film)
        return None


def make_document(image_id: int, image: NewImage, upload_date: datetime) -> Document:
    """A new image. upload_date: for an image that brings none."""
    document = Document(make_new_record(image_id, image, upload_date))
    return recognize(_place(document, list_places(image)), image.recognized)


def list_places(image: NewImage) -> tuple[Place, ...]:
    """Where a new image is: one place, or none for an upload."""
    return () if image.file_path is None else (Place(image.file_path, image.byte_size, image.modified_ns),)


# Changes of a document; none of them changes the one it is given.


def change_record(document: Document, **changes: Any) -> Document:
    """With other values of the record."""
    return replace(document, record=replace(document.record, **changes))


def add_places(document: Document, places: Collection[Place]) -> Document:
    """With these places in front of the others, each path once."""
    paths = {place.path for place in places}
    return _place(document, (*places, *(place for place in document.places if place.path not in paths)))


def drop_paths(document: Document, paths: Collection[str]) -> Document:
    """Without these paths."""
    return _place(document, tuple(place for place in document.places if place.path not in paths))


def recognize(document: Document, recognized: RecognizedText | None) -> Document:
    """With this recognised text, or as if none had been looked for."""
    changed = change_record(document, **describe_recognized(recognized))
    return replace(changed, lines=dump_lines(recognized) if recognized else "[]")


def read_recognized(document: Document) -> RecognizedText | None:
    """The recognised text with its lines."""
    record = document.record
    if record.recognizer is None:
        return None
    return RecognizedText(record.recognizer, record.recognized_text or "", load_lines(document.lines))


def replace_content(document: Document, image: NewImage) -> Document:
    """With the content of another file, and without what was recognised in the old one."""
    changed = change_record(
        document,
        content_sha256=image.content_sha256,
        file_type=image.file_type,
        byte_size=image.byte_size,
        width=image.width,
        height=image.height,
        text=image.text,
        is_incomplete=image.is_incomplete,
        dominant_color=image.dominant_color,
        recipe=image.recipe,
    )
    return recognize(changed, None)


def trash(document: Document, reason: TrashReason, moment: datetime) -> Document:
    """In the trash since a moment (UTC)."""
    return change_record(document, deleted_at=moment, trash_reason=reason)


def restore(document: Document) -> Document:
    """Out of the trash."""
    return change_record(document, deleted_at=None, trash_reason=None)


def make_deleted(document: Document) -> DeletedImage:
    """Record of an image in the trash; paths as they are stored."""
    assert document.record.deleted_at is not None
    return DeletedImage(document.sha256, document.record.deleted_at, tuple(document.paths))


def _place(document: Document, places: tuple[Place, ...]) -> Document:
    paths = tuple(decode_path(place.path) for place in places)
    return replace(document, record=replace(document.record, paths=paths), places=places)


# Changes of several documents, by image_id, because a path belongs to one image, or to frames of one film. Who calls
# these has read every other image with one of the paths (list_wanted), live or in the trash.


def list_wanted(images: Iterable[NewImage]) -> list[tuple[str, str | None]]:
    """Path and film of each of these images that has a path, which other images have to lose."""
    return list(
        dict.fromkeys(
            (image.file_path, image.frame.film_sha256 if image.frame else None)
            for image in images
            if image.file_path is not None
        )
    )


def date_back(documents: dict[int, Document], moment: datetime) -> None:
    """Give live images of a later time than this one (UTC), whose clock was ahead, this one."""
    for image_id, document in documents.items():
        if document.is_live and document.record.upload_date > moment:
            documents[image_id] = change_record(document, upload_date=moment)


def merge_image(documents: dict[int, Document], image_id: int, image: NewImage, upload_date: datetime) -> None:
    """Add a new image, or to one that is there its path, out of the trash. Other images lose the path."""
    if image_id in documents:
        documents[image_id] = add_places(restore(documents[image_id]), list_places(image))
    else:
        documents[image_id] = make_document(image_id, image, upload_date)
    if image.file_path is not None:
        _take_path(documents, image_id, image.file_path)


def set_path(documents: dict[int, Document], image_id: int, file_name: str, place: Place) -> None:
    """Put a path in front of the others of an image. Other images lose it."""
    documents[image_id] = add_places(change_record(documents[image_id], file_name=file_name), [place])
    _take_path(documents, image_id, place.path)


def _take_path(documents: dict[int, Document], image_id: int, path: str) -> None:
    for other_id, other in documents.items():
        if path in other.paths and other_id != image_id and not documents[image_id].shares_with(other):
            documents[other_id] = drop_paths(other, [path])


# JSON.

_PLAIN = (
    "image_id",
    "content_sha256",
    "file_name",
    "file_type",
    "byte_size",
    "width",
    "height",
    "recognized_text",
)


def dump_document(document: Document) -> str:
    """A document as text without half surrogate pairs."""
    record, text = document.record, document.record.text
    values = {
        **{name: getattr(record, name) for name in _PLAIN},
        "upload_date": record.upload_date.isoformat(),
        "deleted_at": record.deleted_at and record.deleted_at.isoformat(),
        "trash_reason": record.trash_reason,
        "paths": document.places,
        "lines": document.lines,
        "text": [
            dump_details(record),
            text.generation_prompt,
            text.description,
            text.generator,
            text.generation_model,
            text.taken_at and text.taken_at.isoformat(),
        ],
    }
    return json.dumps(values, ensure_ascii=False)


def load_document(document: str | bytes) -> Document:
    """The document dump_document was given, or the same of schema 1, which knew one path and no trash."""
    values = json.loads(document)
    details, prompt, description, generator, model, taken_at = values["text"]
    layers = load_details(details, prompt, description, generator, model, _read_moment(taken_at))
    if "paths" in values:
        places = tuple(Place(*place) for place in values["paths"])
    else:
        path = values["file_path"]
        places = () if path is None else (Place(encode_path(path), values["byte_size"], values["modified_ns"]),)
    record = ImageRecord(
        **{name: values.get(name) for name in _PLAIN},
        upload_date=datetime.fromisoformat(values["upload_date"]),
        deleted_at=_read_moment(values.get("deleted_at")),
        trash_reason=values.get("trash_reason"),
        paths=(),
        **layers,
    )
    return _place(Document(record, (), values.get("lines", "[]")), places)


def load_record(document: str | bytes) -> ImageRecord:
    """The record of a document."""
    return load_document(document).record


def dump_deleted(deleted: DeletedImage) -> str:
    """Record of a deleted image. paths: as they are stored."""
    return json.dumps([deleted.deleted_at.isoformat(), deleted.paths], ensure_ascii=False)


def load_deleted(sha256: str, document: str | bytes) -> DeletedImage:
    """The image dump_deleted was given."""
    deleted_at, paths = json.loads(document)
    return DeletedImage(sha256, datetime.fromisoformat(deleted_at), tuple(paths))


def decode_deleted(deleted: DeletedImage) -> DeletedImage:
    """The same with its paths as the file system knows them."""
    return replace(deleted, paths=tuple(map(decode_path, deleted.paths)))


def join_deleted(before: DeletedImage | None, deleted: DeletedImage) -> DeletedImage:
    """A remembered image that gains the paths of another; as it was given when none was remembered."""
    if before is None:
        return deleted
    return replace(before, paths=tuple(dict.fromkeys((*before.paths, *deleted.paths))))


def _read_moment(moment: str | None) -> datetime | None:
    return datetime.fromisoformat(moment) if moment else None


# The models of a library as one list, for engines that keep it in one document and change it at once.


def load_models(document: str | bytes | None) -> list[EmbeddingModel]:
    """The models dump_models was given; [] where nothing is stored."""
    return [EmbeddingModel(**values) for values in json.loads(document or "[]")]


def dump_models(models: Iterable[EmbeddingModel]) -> str:
    """All models as one document, so that exactly one of them is the current one at any moment."""
    return json.dumps([asdict(model) for model in models], ensure_ascii=False)


def add_model(
    models: list[EmbeddingModel], model_id: int, name: str, version: str, dimension: int
) -> list[EmbeddingModel]:
    """With this model, current if none is; the same list if name and version are in it already."""
    if find_model(models, name, version):
        return models
    is_current = not any(model.is_current for model in models)
    return [*models, EmbeddingModel(model_id, name, version, dimension, is_current)]


def switch_model(models: list[EmbeddingModel], model_id: int) -> list[EmbeddingModel]:
    """With this model as the current one. Raises StoreError when it is not there."""
    if all(model.model_id != model_id for model in models):
        raise model_not_found(model_id)
    return [replace(model, is_current=model.model_id == model_id) for model in models]


def drop_model(models: list[EmbeddingModel], model_id: int) -> list[EmbeddingModel]:
    """Without this model. Raises StoreError when it is the current one or not there."""
    model = next((model for model in models if model.model_id == model_id), None)
    if model is None:
        raise model_not_found(model_id)
    if model.is_current:
        raise model_is_current(model_id)
    return [other for other in models if other != model]
