"""Text that every database can hold, and a record's layers as columns and JSON.

Images carry whatever bytes were written into them. Databases differ in what they refuse (half surrogate pairs, zero
characters, NaN in JSON, the empty string, which Oracle takes for NULL), so it is settled here for all engines.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import datetime
from typing import Any
from unicodedata import normalize

from image_search.records import Edits, Frame, ImageRecord, ImageText, NewImage, RecognizedText, TextLine
from image_search.stores.tokens import join_recognized

# These are columns of their own in every engine, because searches and filters use them.
COLUMNS = ("generation_prompt", "description", "generator", "generation_model", "taken_at")
_TEXT_DETAILS = dict.fromkeys(item.name for item in fields(ImageText) if item.name not in COLUMNS)
_FACTS = ("is_incomplete", "dominant_color", "recipe", "recognizer", "searched_text")  # of a record, in details
_NO_EDITS = Edits()
_DECODER = json.JSONDecoder()

_ESCAPE = 0x10FF00  # private use: byte b of a path that is not UTF-8 is stored as this character plus b
_ESCAPED_BYTE = re.compile("[\U0010ff80-\U0010ffff]")


def sanitize(value: str) -> str:
    """The same text without zero characters, and with half surrogate pairs (bad file names) spelt out."""
    return value.replace("\x00", "").encode("utf-8", "backslashreplace").decode()


def encode_path(path: str) -> str:
    """A path, as os.fsdecode gives it, as text any database holds; lossless, byte for byte (decode_path).

    Bytes that are not UTF-8 (os.fsdecode: U+DC80 to U+DCFF) become private characters, one each.
    """
    if path.isascii():
        return path
    # A genuine character of that range is written byte by byte, so that every stored one means a byte.
    genuine = _ESCAPED_BYTE.sub(lambda match: match.group().encode().decode("ascii", "surrogateescape"), path)
    return re.sub("[\udc80-\udcff]", lambda match: chr(_ESCAPE + ord(match.group()) - 0xDC00), genuine)


def decode_path(stored: str) -> str:
    """The path that encode_path was given."""
    if stored.isascii() or not _ESCAPED_BYTE.search(stored):
        return stored
    surrogates = _ESCAPED_BYTE.sub(lambda match: chr(ord(match.group()) - _ESCAPE + 0xDC00), stored)
    return surrogates.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def get_folder(path: str) -> str:
    """The folder of a stored path, without the last separator."""
    return path[: max(path.rfind("/"), path.rfind("\\"), 0)]


def make_file_name(file_path: str) -> str:
    """The name of a file without its folder, composed (NFC) as file_name always is."""
    return normalize("NFC", sanitize(os.path.basename(file_path)))


def name_after_path(record: ImageRecord) -> ImageRecord:
    """The record with the name of its latest path, unless it has that of another one, or no path at all."""
    if not record.paths or record.file_name in map(make_file_name, record.paths):
        return record
    return replace(record, file_name=make_file_name(record.paths[0]))


def name_after_paths(records: Mapping[int, ImageRecord], lost: Iterable[tuple[int, str]]) -> list[ImageRecord]:
    """Those of these images, renamed, that must not keep the name of a path they lost (image_id, path as stored)."""
    of_records = [(records[image_id], decode_path(path)) for image_id, path in lost if image_id in records]
    affected = {record.image_id: record for record, path in of_records if path not in record.paths}
    renamed = map(name_after_path, affected.values())
    return [record for record in renamed if record.file_name != affected[record.image_id].file_name]


def make_sort_name(file_name: str) -> str:
    """The key of the order "name": compared byte by byte, numbers by their value. At most 400 characters."""
    padded = re.sub(r"\d+", lambda match: match.group().zfill(12), normalize("NFKC", file_name).casefold())
    return sanitize(padded)[:400]


def make_image_storable(image: NewImage) -> NewImage:
    """The same image with texts a database can hold; file_path as it is stored."""
    return replace(
        image,
        file_name=sanitize(image.file_name),
        file_path=None if image.file_path is None else encode_path(image.file_path),
        text=make_text_storable(image.text),
        edits=make_edits_storable(image.edits),
        recognized=image.recognized and make_recognized_storable(image.recognized),
    )


def make_text_storable(text: ImageText) -> ImageText:
    """The same facts as a database gives them back: no empty strings, no NaN, keywords once each, none blank."""
    changes: dict[str, Any] = {}
    for item in fields(ImageText):
        value = getattr(text, item.name)
        if isinstance(value, str):
            changes[item.name] = sanitize(value) or None
        elif isinstance(value, float) and not math.isfinite(value):
            changes[item.name] = None
    changes["taken_precision"] = text.taken_precision
    if text.taken_at is not None:
        changes["taken_at"] = text.taken_at.replace(tzinfo=None)
    raw = {sanitize(name): sanitize(value) for name, value in text.raw.items()}
    return replace(text, **changes, keywords=_once(text.keywords), loras=_once(text.loras), raw=raw)


def make_edits_storable(edits: Edits) -> Edits:
    """The same edits as a database gives them back: keywords as make_text_storable has them."""
    return Edits(
        None if edits.description is None else sanitize(edits.description),
        None if edits.keywords is None else _once(edits.keywords),
        edits.rating,
    )


def make_recognized_storable(recognized: RecognizedText) -> RecognizedText:
    """The same text as a database gives it back."""
    lines = tuple(replace(line, text=sanitize(line.text)) for line in recognized.lines)
    return RecognizedText(sanitize(recognized.recognizer), sanitize(recognized.text), lines)


def _once(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(kept for value in values if (kept := sanitize(value)).strip()))


def list_searchable(record: ImageRecord) -> list[str | None]:
    """The fields that terms are looked up in, of both layers and of what was recognised."""
    recognized = record.searched_text or record.recognized_text
    return [
        record.text.generation_prompt,
        record.text.description,
        *record.text.keywords,
        record.edits.description,
        *(record.edits.keywords or ()),
        recognized and join_recognized(recognized),
        record.file_name,
    ]


def describe_recognized(recognized: RecognizedText | None) -> dict[str, Any]:
    """The fields of ImageRecord that tell of recognised text."""
    if recognized is None:
        return {"recognizer": None, "recognized_text": None, "searched_text": None}
    searched = "\n".join(line.text for line in recognized.lines)
    return {
        "recognizer": recognized.recognizer,
        "recognized_text": recognized.text,
        "searched_text": searched if recognized.lines and searched != recognized.text else None,
    }


def make_new_record(image_id: int, image: NewImage, upload_date: datetime) -> ImageRecord:
    """The record of a new image, without its path. upload_date: unless it brings its own."""
    return ImageRecord(
        image_id=image_id,
        content_sha256=image.content_sha256,
        file_name=image.file_name,
        file_type=image.file_type,
        byte_size=image.byte_size,
        width=image.width,
        height=image.height,
        upload_date=image.upload_date or upload_date,
        paths=(),
        text=image.text,
        edits=image.edits,
        **describe_recognized(image.recognized),
        frame=image.frame,
        is_incomplete=image.is_incomplete,
        dominant_color=image.dominant_color,
        recipe=image.recipe,
    )


def dump_details(record: ImageRecord) -> str:
    """Everything of a record that has no column of its own, as a JSON object without empty entries."""
    values: dict[str, Any] = {name: getattr(record.text, name) for name in _TEXT_DETAILS}
    if record.text.taken_precision == "second":
        del values["taken_precision"]
    if not record.text.taken_is_doubtful:
        del values["taken_is_doubtful"]
    values |= {name: getattr(record, name) for name in _FACTS}
    if not record.is_incomplete:
        del values["is_incomplete"]
    if record.recipe == 1:
        del values["recipe"]
    kept = {name: value for name, value in values.items() if value is not None and value not in ((), {})}
    edits = {name: value for name, value in asdict(record.edits).items() if value is not None}
    if edits:
        kept["edits"] = edits
    if record.frame is not None:
        kept["frame"] = asdict(record.frame)
    return json.dumps(kept, ensure_ascii=False, allow_nan=False, default=dict)


def load_details(
    details: str | None,
    generation_prompt: str | None,
    description: str | None,
    generator: str | None,
    generation_model: str | None,
    taken_at: datetime | None,
) -> dict[str, Any]:
    """The fields of ImageRecord that dump_details and the columns were made of: text, edits, frame and facts.

    description: the file's.
    """
    values = read_json(details) if details else {}
    known: dict[str, Any] = {name: value for name, value in values.items() if name in _TEXT_DETAILS}
    for name in ("keywords", "loras"):
        if name in known:
            known[name] = tuple(known[name])
    text = ImageText(
        generation_prompt=generation_prompt,
        description=description,
        generator=generator,
        generation_model=generation_model,
        taken_at=taken_at,
        **known,
    )
    edits = values.get("edits", {})
    if "keywords" in edits:
        edits["keywords"] = tuple(edits["keywords"])
    frame = values.get("frame")
    return {
        "text": text,
        "edits": Edits(**edits) if edits else _NO_EDITS,
        "frame": Frame(**frame) if frame else None,
        **{name: value for name, value in values.items() if name in _FACTS},
    }


def read_json(text: str) -> Any:
    """The value of JSON without blanks around it, in half the time of json.loads."""
    return _DECODER.raw_decode(text)[0]


def dump_lines(recognized: RecognizedText) -> str:
    """The lines of a recognised text as JSON: [text, score, left, top, right, bottom] each."""
    lines = [[line.text, round(line.score, 4), *(round(side, 5) for side in line.box)] for line in recognized.lines]
    return json.dumps(lines, ensure_ascii=False)


def load_lines(document: str | None) -> tuple[TextLine, ...]:
    """The lines dump_lines was given."""
    lines: Sequence[Sequence[Any]] = json.loads(document or "[]")
    return tuple(TextLine(text, score, (left, top, right, bottom)) for text, score, left, top, right, bottom in lines)


def hash_frame(film_sha256: str, frame_ms: int) -> str:
    """The content hash of a frame: SHA-256 of film hash and time, 64 hexadecimal digits."""
    return hashlib.sha256(f"{film_sha256}@{frame_ms}".encode()).hexdigest()


_MODEL_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".sft")


def trim_model_name(name: str) -> str:
    """The name of a generator's model or LoRA without the suffix of its file: X and X.safetensors are one model."""
    lowered = name.lower()
    suffix = next((suffix for suffix in _MODEL_SUFFIXES if lowered.endswith(suffix)), "")
    return name[: len(name) - len(suffix)] or name


def list_model_names(name: str) -> list[str]:
    """Every spelling of a model's name that a file may have."""
    plain = trim_model_name(name)
    return list(dict.fromkeys([plain, *(plain + suffix for suffix in _MODEL_SUFFIXES), name]))
