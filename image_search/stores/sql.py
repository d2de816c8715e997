"""Conditions, columns and rows that the engines with the tables of create_all_tables.sql have in common.

Statements name images i, image_descriptions d. Placeholders are written %s and times are datetimes; texts must compare
by their bytes (binary or "C" collation).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from image_search.records import ImageRecord, NewImage, Order, SearchFilter
from image_search.stores.base import COUNTS_FRAMES, CountedField
from image_search.stores.text import (
    decode_path,
    describe_recognized,
    dump_details,
    encode_path,
    list_model_names,
    load_details,
    make_new_record,
    make_sort_name,
    sanitize,
)

Condition = tuple[str, list[object]]  # with the values of its placeholders

LIVE = "i.deleted_at IS NULL"

_ORIENTATIONS = {"landscape": "i.width > i.height", "portrait": "i.width < i.height", "square": "i.width = i.height"}
_EQUAL = ("file_name", "generator", "camera", "lens")


def list_conditions(filter: SearchFilter) -> Iterator[Condition]:
    """A condition for every field that is set, except words: how those are found is each engine's own."""
    for condition, value in (
        ("i.taken_at >= %s", filter.taken_from),
        ("i.taken_at < %s", filter.taken_to),
        ("i.upload_date >= %s", filter.registered_from),
        ("i.upload_date < %s", filter.registered_to),
        ("i.width * i.height >= %s", filter.min_pixels),
        ("i.rating >= %s", filter.min_rating),
        ("i.film_sha256 = %s", filter.film_sha256 and bytes.fromhex(filter.film_sha256)),
        *((f"i.{name} = %s", _sanitize(getattr(filter, name))) for name in _EQUAL),
        (_exists("image_keywords", "x.keyword = %s"), _sanitize(filter.keyword)),
    ):
        if value is not None:
            yield condition, [value]
    if filter.generation_model is not None:
        names, placeholders = _list_model_names(filter.generation_model)
        yield f"i.generation_model IN ({placeholders})", names
    if filter.lora is not None:
        names, placeholders = _list_model_names(filter.lora)
        yield _exists("image_loras", f"x.lora IN ({placeholders})"), names
    if filter.folder is not None:
        yield _match_folder(filter.folder)
    if filter.file_types:
        placeholders = ", ".join(["%s"] * len(filter.file_types))
        yield f"i.file_type IN ({placeholders})", [sanitize(file_type) for file_type in filter.file_types]
    if filter.orientation is not None:
        yield _ORIENTATIONS[filter.orientation], []
    if filter.has_prompt is not None:
        yield f"i.generation_prompt IS {'NOT ' if filter.has_prompt else ''}NULL", []
    if filter.has_text is not None:
        yield f"COALESCE(LENGTH(i.recognized_text), 0) {'>' if filter.has_text else '='} 0", []
    if filter.kind is not None:
        yield f"i.film_sha256 IS {'NOT ' if filter.kind == 'frame' else ''}NULL", []


def _list_model_names(name: str) -> tuple[list[object], str]:
    names: list[object] = list(list_model_names(sanitize(name)))
    return names, ", ".join(["%s"] * len(names))


def list_folder_bounds(folder: str) -> list[tuple[str, str]]:
    """Every stored path below a folder lies between one of these pairs, the upper bound not included."""
    # Every path below /a/b lies between /a/b/ and /a/b0 (0 follows the slash), which an index can walk.
    below = folder.rstrip("/\\")
    return [(below + separator, below + chr(ord(separator) + 1)) for separator in "/\\"]


def _match_folder(folder: str) -> Condition:
    bounds = list_folder_bounds(encode_path(folder))
    condition = " OR ".join("x.file_path >= %s AND x.file_path < %s" for _ in bounds)
    return _exists("image_paths", f"({condition})"), [value for pair in bounds for value in pair]


def _exists(table: str, condition: str) -> str:
    return f"i.image_id IN (SELECT x.image_id FROM {table} x WHERE {condition})"


def _sanitize(value: str | None) -> str | None:
    return None if value is None else sanitize(value)


# The value that is counted, and the table it is in when an image may have several of it. Images i qualify.
COUNTED: dict[CountedField, tuple[str, str]] = {
    "generator": ("i.generator", ""),
    "generation_model": ("i.generation_model", ""),
    "file_type": ("i.file_type", ""),
    "camera": ("i.camera", ""),
    "lens": ("i.lens", ""),
    "rating": ("i.rating", ""),
    "kind": ("CASE WHEN i.film_sha256 IS NULL THEN 'image' ELSE 'frame' END", ""),
    "film": ("i.film_sha256", ""),
    "keyword": ("v.keyword", "image_keywords"),
    "lora": ("v.lora", "image_loras"),
    "folder": ("v.folder", "image_paths"),
}


def count_once(field: CountedField) -> str:
    """The number of images i of a group, each film once where the field is counted so."""
    if field in COUNTS_FRAMES:
        return "COUNT(DISTINCT i.image_id)"
    return "COUNT(DISTINCT CASE WHEN i.film_sha256 IS NULL THEN i.image_id END) + COUNT(DISTINCT i.film_sha256)"


def read_counts(field: CountedField, rows: Iterable[tuple[Any, int]]) -> dict[str, int]:
    """Counted values as they are given, most frequent first, then by value. Rows: value, count."""
    counts = {_read_value(field, value): count for value, count in rows}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _read_value(field: CountedField, value: Any) -> str:
    if field == "folder":
        return decode_path(value or "")
    return bytes(value).hex() if field == "film" else str(value)


# The keys of each order, of a table k that has these columns of images.
ORDERS: dict[Order, str] = {
    "registered": "k.upload_date DESC, k.image_id DESC",
    "taken": "k.taken_at DESC NULLS LAST, k.upload_date DESC, k.image_id DESC",
    "name": "k.sort_name, k.image_id",
}


def list_after(order: Order, after: ImageRecord | None) -> Condition:
    """The condition that a row of the table k of ORDERS comes behind an image; it has none (None) of the first page."""
    if after is None:
        return "", []
    older, moment = "(k.upload_date < %s OR k.upload_date = %s AND k.image_id < %s)", after.upload_date
    values: list[object] = [moment, moment, after.image_id]
    if order == "name":
        name = make_sort_name(after.file_name)
        return "k.sort_name >= %s AND (k.sort_name > %s OR k.image_id > %s)", [name, name, after.image_id]
    if order == "registered":
        return f"k.upload_date <= %s AND {older}", [moment, *values]
    taken_at = after.text.taken_at
    if taken_at is None:
        return f"k.taken_at IS NULL AND {older}", values
    return (
        f"(k.taken_at < %s OR k.taken_at IS NULL OR k.taken_at = %s AND {older})",
        [taken_at, taken_at, *values],
    )


# In the order make_record expects.
RECORD_COLUMNS = (
    "i.image_id, i.content_sha256, i.file_name, i.file_type, i.byte_size, i.width, i.height, i.upload_date, "
    "i.deleted_at, i.trash_reason, i.recognized_text, i.generation_prompt, d.description, i.generator, "
    "i.generation_model, i.taken_at"
)


def make_record(row: Sequence[Any], details: str, paths: Iterable[str]) -> ImageRecord:
    """The record of a row of RECORD_COLUMNS. paths: as stored, the latest first."""
    image_id, sha256, name, file_type, byte_size, width, height, upload_date, deleted_at, *more = row
    reason, recognized, *text = more
    return ImageRecord(
        image_id=image_id,
        content_sha256=sha256.hex(),
        file_name=name,
        file_type=file_type,
        byte_size=byte_size,
        width=width,
        height=height,
        upload_date=upload_date,
        deleted_at=deleted_at,
        trash_reason=reason,
        recognized_text=recognized,
        paths=tuple(map(decode_path, paths)),
        **load_details(details, *text),
    )


def list_columns(record: ImageRecord) -> dict[str, Any]:
    """The columns of images that are derived from a record, by name. A change of a text is a change of these."""
    text = record.text
    return {
        "file_name": record.file_name,
        "sort_name": make_sort_name(record.file_name),
        "recipe": record.recipe,
        "generator": text.generator,
        "generation_model": text.generation_model,
        "taken_at": text.taken_at,
        "camera": text.camera,
        "lens": text.lens,
        "rating": record.rating,
        "recognizer": record.recognizer,
        "generation_prompt": text.generation_prompt,
        "recognized_text": record.recognized_text,
        "details": dump_details(record),
    }


def replace_content(record: ImageRecord, image: NewImage) -> ImageRecord:
    """The record after its file changed: name, paths, date of registration and the user's layer stay.

    Text in the image has not been looked for in the new content.
    """
    new = make_new_record(record.image_id, image, record.upload_date)
    return replace(
        new,
        file_name=record.file_name,
        upload_date=record.upload_date,
        paths=record.paths,
        edits=record.edits,
        deleted_at=record.deleted_at,
        trash_reason=record.trash_reason,
        **describe_recognized(None),
    )
