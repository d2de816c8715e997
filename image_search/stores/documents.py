"""An image as one JSON document, for engines without tables: its changes, and what searches read of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from image_search.records import (
    DeletedImage,
    Frame,
    ImageRecord,
    KnownFile,
    NewImage,
    Order,
    RecognizedText,
    SearchFilter,
    TrashReason,
)
from image_search.stores.base import CountedField
from image_search.stores.text import (
    decode_path,
    describe_recognized,
    dump_details,
    dump_lines,
    encode_path,
    get_folder,
    list_model_names,
    load_details,
    load_lines,
    make_new_record,
    name_after_path,
    sanitize,
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
    """The document with other values of the record."""
    return replace(document, record=replace(document.record, **changes))


def add_places(document: Document, places: Collection[Place]) -> Document:
    """The document with these places in front of the others, each path once."""
    paths = {place.path for place in places}
    return _place(document, (*places, *(place for place in document.places if place.path not in paths)))


def drop_paths(document: Document, paths: Collection[str]) -> Document:
    """The document without these paths, and without the name of one of them if others are left."""
    places = tuple(place for place in document.places if place.path not in paths)
    if len(places) == len(document.places):
        return document
    changed = _place(document, places)
    return replace(changed, record=name_after_path(changed.record))


def recognize(document: Document, recognized: RecognizedText | None) -> Document:
    """The document with this recognised text, or as if none had been looked for."""
    changed = change_record(document, **describe_recognized(recognized))
    return replace(changed, lines=dump_lines(recognized) if recognized else "[]")


def read_recognized(document: Document) -> RecognizedText | None:
    """The recognised text with its lines."""
    record = document.record
    if record.recognizer is None:
        return None
    return RecognizedText(record.recognizer, record.recognized_text or "", load_lines(document.lines))


def replace_content(document: Document, image: NewImage) -> Document:
    """The document with the content of another file, and without text recognised in the old one."""
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
    """The document in the trash since a moment (UTC)."""
    return change_record(document, deleted_at=moment, trash_reason=reason)


def restore(document: Document) -> Document:
    """The document out of the trash."""
    return change_record(document, deleted_at=None, trash_reason=None)


def make_deleted(document: Document) -> DeletedImage:
    """Record of an image in the trash; paths as they are stored."""
    assert document.record.deleted_at is not None
    return DeletedImage(document.sha256, document.record.deleted_at, tuple(document.paths))


def _place(document: Document, places: tuple[Place, ...]) -> Document:
    paths = tuple(decode_path(place.path) for place in places)
    return replace(document, record=replace(document.record, paths=paths), places=places)


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


# Keys and numbers that searches, filters, orders and counts read of a document.
#
# Exact values are searched as digests: any length, any characters, nothing for a query language to misunderstand.

LIVE = "live"
TRASHED = "trash"
WITH_PROMPT = "prompt"
WITH_TEXT = "text"
NEVER = -(2**53)  # microseconds; in place of a time for images without one, exact as float64

_EPOCH = datetime(1970, 1, 1)


def list_numbers(record: ImageRecord) -> dict[str, int | None]:
    """The values that ranges and orders compare."""
    taken_at = record.text.taken_at
    return {
        "image_id": record.image_id,
        "upload_date": count_microseconds(record.upload_date),
        "taken_at": count_microseconds(taken_at) if taken_at else None,
        "taken_order": count_microseconds(taken_at) if taken_at else NEVER,
        "pixels": record.width * record.height,
        "rating": record.rating,
        "recipe": record.recipe,
        "shuffle": int(record.content_sha256[:12], 16),  # an order that has nothing to do with the images
    }


def list_keys(document: Document) -> list[str]:
    """Every exact value of an image as a key. In the trash it has those only that the trash is searched by."""
    if document.is_live:
        return list(dict.fromkeys([LIVE, *_list_keys(document)]))
    make_keys = [make_trashed_path_key]
    if document.record.trash_reason == "deleted":
        make_keys.append(make_deleted_path_key)
    keys = [TRASHED, *(make_key(path) for path in document.paths for make_key in make_keys)]
    if document.record.frame is not None:
        keys += [make_frame_key(document.record.frame), make_film_key(document.record.frame.film_sha256)]
    return list(dict.fromkeys(keys))


def _list_keys(document: Document) -> Iterator[str]:
    record, text = document.record, document.record.text
    yield exact_key("n", record.file_name)
    yield exact_key("t", record.file_type)
    yield "square" if record.width == record.height else "landscape" if record.width > record.height else "portrait"
    if text.generation_prompt is not None:
        yield WITH_PROMPT
    if record.recognized_text:
        yield WITH_TEXT
    if record.recognizer is not None:
        yield make_recognizer_key(record.recognizer)
    for kind, value in (
        ("g", text.generator),
        ("m", text.generation_model),
        ("c", text.camera),
        ("e", text.lens),
        ("x", document.film),
    ):
        if value is not None:
            yield exact_key(kind, value)
    yield "image" if record.frame is None else "frame"
    if record.frame is not None:
        yield make_frame_key(record.frame)
    for path in document.paths:
        yield make_path_key(path)
        for end, character in enumerate(path):
            if character in "/\\":
                yield exact_key("f", path[:end])
    for lora in text.loras:
        yield exact_key("l", lora)
    for keyword in record.keywords:  # last, for there may be more than an engine holds
        yield exact_key("k", keyword)


def make_path_key(path: str) -> str:
    """The key of images at this stored path."""
    return exact_key("p", path)


def make_trashed_path_key(path: str) -> str:
    """The key of images in the trash at this stored path."""
    return exact_key("q", path)


def make_film_key(film_sha256: str) -> str:
    """The key of frames of this film, live or in the trash."""
    return exact_key("x", film_sha256)


def make_frame_key(frame: Frame) -> str:
    """The key of the one frame of a film at a time, live or in the trash."""
    return exact_key("z", name_frame(frame))


def name_frame(frame: Frame) -> str:
    """Film and time as one text."""
    return f"{frame.film_sha256}@{frame.frame_ms}"


def make_deleted_path_key(path: str) -> str:
    """The key of images at this stored path that a user deleted."""
    return exact_key("d", path)


def make_folder_key(folder: str) -> str:
    """The key of images below this stored folder."""
    return exact_key("f", folder.rstrip("/\\"))


def make_recognizer_key(recognizer: str) -> str:
    """The key of images this recogniser has read."""
    return exact_key("r", recognizer)


def exact_key(kind: str, value: str) -> str:
    """An exact value of any length and any characters, as a key without a special one."""
    return kind + hashlib.sha256(sanitize(value).encode()).hexdigest()[:24]


def list_filter_keys(filter: SearchFilter) -> Iterator[tuple[bool, list[str]]]:
    """Conditions on exact values: whether an image must have one of these keys, or none of them."""
    if filter.folder is not None:
        yield True, [make_folder_key(encode_path(filter.folder))]
    if filter.file_types:
        yield True, [exact_key("t", file_type) for file_type in filter.file_types]
    for kind, value in (
        ("n", filter.file_name),
        ("g", filter.generator),
        ("c", filter.camera),
        ("e", filter.lens),
        ("x", filter.film_sha256),
        ("k", filter.keyword),
    ):
        if value is not None:
            yield True, [exact_key(kind, value)]
    for kind, model in (("m", filter.generation_model), ("l", filter.lora)):
        if model is not None:
            yield True, [exact_key(kind, name) for name in list_model_names(model)]
    for key in (filter.orientation, filter.kind):
        if key is not None:
            yield True, [key]
    if filter.has_prompt is not None:
        yield filter.has_prompt, [WITH_PROMPT]
    if filter.has_text is not None:
        yield filter.has_text, [WITH_TEXT]


def list_filter_ranges(filter: SearchFilter) -> Iterator[tuple[str, int | None, int | None]]:
    """Conditions on numbers: field, lowest value, and the value that is too high already."""
    for field, start, end in (
        ("taken_at", filter.taken_from, filter.taken_to),
        ("upload_date", filter.registered_from, filter.registered_to),
    ):
        if start is not None or end is not None:
            yield (
                field,
                None if start is None else count_microseconds(start),
                None if end is None else count_microseconds(end),
            )
    if filter.min_pixels is not None:
        yield "pixels", filter.min_pixels, None
    if filter.min_rating is not None:
        yield "rating", filter.min_rating, None


# The fields that an order compares, the newest first, before image_id; the order by name has its own way.
NEWEST: dict[Order, tuple[str, ...]] = {"registered": ("upload_date",), "taken": ("taken_order", "upload_date")}


def list_ranges_up_to(after: ImageRecord, fields: Sequence[str]) -> Iterator[list[tuple[str, int, int]]]:
    """Ranges (field, lowest, too high) of images up to this one, itself included, the newest by these fields first.

    An image is in all ranges of exactly one of these lists, or comes behind.
    """
    numbers = list_numbers(after)
    same: list[tuple[str, int, int]] = []
    for field in (*fields, "image_id"):
        number = int(numbers[field] or 0)
        yield [*same, (field, number + (field != "image_id"), -NEVER)]
        same.append((field, number, number + 1))


def list_counted(document: Document) -> dict[CountedField, list[str]]:
    """The values of an image in each field that is counted; folders as they are stored."""
    record, text = document.record, document.record.text
    return {
        "generator": [text.generator] if text.generator is not None else [],
        "generation_model": [text.generation_model] if text.generation_model is not None else [],
        "lora": list(text.loras),
        "file_type": [record.file_type],
        "keyword": list(record.keywords),
        "camera": [text.camera] if text.camera is not None else [],
        "lens": [text.lens] if text.lens is not None else [],
        "rating": [str(record.rating)] if record.rating is not None else [],
        "folder": list(dict.fromkeys(map(get_folder, document.paths))),
        "kind": ["image" if record.frame is None else "frame"],
        "film": [document.film] if document.film is not None else [],
    }


def sort_counts(counts: Iterable[tuple[str, int]], field: CountedField) -> dict[str, int]:
    """Counts by value as count_values gives them."""
    ordered = sorted(counts, key=lambda item: (-item[1], item[0]))
    return {decode_path(value) if field == "folder" else value: count for value, count in ordered}


def count_microseconds(moment: datetime) -> int:
    """Since 1970; exact as float64 until the year 2255."""
    return (moment.replace(tzinfo=None) - _EPOCH) // timedelta(microseconds=1)


# Which models an image has embeddings of, and of which recipe. A model is one key, and one more for each recipe up to
# that of the embedding, so that "none of at least this recipe" is one condition.


def list_model_keys(recipes: dict[int, int]) -> list[str]:
    """Keys of the models an image has embeddings of. recipes: by model_id."""
    return [
        key
        for model_id, recipe in sorted(recipes.items())
        for key in (str(model_id), *(f"{model_id}r{number}" for number in range(1, recipe + 1)))
    ]


def make_model_key(model_id: int, min_recipe: int = 0) -> str:
    """The key of images with an embedding of this model, of at least this recipe."""
    return f"{int(model_id)}r{int(min_recipe)}" if min_recipe > 0 else str(int(model_id))


def read_recipes(keys: Iterable[str]) -> dict[int, int]:
    """The recipe of each model in these keys, by model_id: the inverse of list_model_keys."""
    recipes: dict[int, int] = {}
    for key in keys:
        model_id, _, recipe = key.partition("r")
        recipes[int(model_id)] = max(int(recipe or 0), recipes.get(int(model_id), 0))
    return recipes
