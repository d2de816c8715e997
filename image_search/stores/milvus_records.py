"""Rows of the images: how a NewImage becomes one and an ImageRecord is read out of it.

What no filter asks for lies in one text, the document. Where that is too long for a field it lies beside the originals,
under the SHA-256 of what it holds; the document names the image, so no two images share one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from image_search.errors import StoreError
from image_search.originals import Originals
from image_search.records import ImageRecord, KnownFile, NewImage
from image_search.stores.milvus_conditions import (
    NEVER,
    count_microseconds,
    list_marks,
    make_key,
    make_words,
    read_microseconds,
)
from image_search.stores.milvus_schema import FILTER_FIELDS, MOST_BYTES, MOST_MARKS
from image_search.stores.storable_text import dump_details, load_text

_SHORT = 1000  # characters; compressing less saves nothing
_FILE, _PACKED = "file:", "zlib:"

Row = dict[str, Any]


class Stored(NamedTuple):
    """An image as it is stored."""

    record: ImageRecord
    modified_ns: int | None

    @property
    def known_file(self) -> KnownFile:
        return KnownFile(self.record.image_id, self.record.byte_size, self.modified_ns)


def name_preview(content_sha256: str) -> str:
    """The name of an image's preview among the originals: its own, for pictures that look alike share none."""
    return hashlib.sha256(f"preview of {content_sha256}".encode()).hexdigest()


def make_stored(image: NewImage, image_id: int, upload_date: int) -> Stored:
    """A new image as it will be read again. upload_date: microseconds since 1970, for an image that has none."""
    if not isinstance(image.data, bytes) or not isinstance(image.preview, bytes):
        raise StoreError(f"{image.file_name} came without its bytes or its preview. Nothing of its batch was kept.")
    moment = count_microseconds(image.upload_date) if image.upload_date else upload_date
    record = ImageRecord(
        image_id,
        image.content_sha256,
        image.file_name,
        image.file_type,
        len(image.data),
        image.width,
        image.height,
        read_microseconds(moment),
        image.file_path,
        image.text,
    )
    return Stored(record, image.modified_ns)


def make_row(stored: Stored) -> tuple[Row, dict[str, bytes]]:
    """The row of an image, and the file that holds its document where the row cannot."""
    record, text = stored.record, stored.record.text
    words, is_cut = _fit_words(make_words(text, record.file_name))
    document, files = _fit_document(_dump(stored))
    row: Row = {
        "image_id": record.image_id,
        "content_sha256": record.content_sha256,
        "file_name_key": make_key(record.file_name),
        "file_path_key": make_key(record.file_path),
        "width": record.width,
        "height": record.height,
        "pixels": record.width * record.height,
        "taken_at": NEVER if text.taken_at is None else count_microseconds(text.taken_at),
        "upload_date": count_microseconds(record.upload_date),
        "has_prompt": text.generation_prompt is not None,
        "file_type": make_key(record.file_type),
        "generator": make_key(text.generator),
        "generation_model": make_key(text.generation_model),
        "marks": list_marks(text, record.file_path)[:MOST_MARKS],
        "words": words,
        "words_cut": is_cut,
        "document": document,
        "nothing": [0.0, 0.0],
    }
    return row, files


def copy_filter_fields(row: Mapping[str, Any]) -> Row:
    """The part of an image's row that lies beside each of its embeddings, too."""
    return {"image_id": row["image_id"], **{field: row[field] for field in FILTER_FIELDS}}


def read_row(row: Mapping[str, Any], originals: Originals) -> Stored:
    """The image of a row with its document."""
    document = json.loads(_read_document(row["document"], originals))
    taken_at = document["taken_at"]
    text = load_text(
        document["details"],
        document["generation_prompt"],
        document["description"],
        document["generator"],
        document["generation_model"],
        None if taken_at is None else read_microseconds(taken_at),
    )
    record = ImageRecord(
        int(row["image_id"]),
        document["content_sha256"],
        document["file_name"],
        document["file_type"],
        document["byte_size"],
        document["width"],
        document["height"],
        read_microseconds(document["upload_date"]),
        document["file_path"],
        text,
    )
    return Stored(record, document["modified_ns"])


def list_files(row: Mapping[str, Any]) -> list[str]:
    """The names of the files an image has among the originals. The row needs content_sha256 and document."""
    sha256, document = row["content_sha256"], row["document"]
    return [sha256, name_preview(sha256), *([document.removeprefix(_FILE)] if document.startswith(_FILE) else [])]


def _dump(stored: Stored) -> str:
    record, text = stored.record, stored.record.text
    document = {
        "content_sha256": record.content_sha256,
        "file_name": record.file_name,
        "file_path": record.file_path,
        "modified_ns": stored.modified_ns,
        "file_type": record.file_type,
        "byte_size": record.byte_size,
        "width": record.width,
        "height": record.height,
        "upload_date": count_microseconds(record.upload_date),
        "generation_prompt": text.generation_prompt,
        "description": text.description,
        "generator": text.generator,
        "generation_model": text.generation_model,
        "taken_at": None if text.taken_at is None else count_microseconds(text.taken_at),
        "details": dump_details(text),
    }
    return json.dumps(document, ensure_ascii=False)


def _fit_document(document: str) -> tuple[str, dict[str, bytes]]:
    if len(document) <= _SHORT:
        return document, {}
    packed = zlib.compress(document.encode())
    text = _PACKED + base64.b64encode(packed).decode()
    if len(text) <= MOST_BYTES:
        return text, {}
    name = hashlib.sha256(packed).hexdigest()
    return _FILE + name, {name: packed}


def _read_document(document: str, originals: Originals) -> bytes:
    if document.startswith(_FILE):
        return zlib.decompress(originals.read(document.removeprefix(_FILE)))
    if document.startswith(_PACKED):
        return zlib.decompress(base64.b64decode(document.removeprefix(_PACKED)))
    return document.encode()


def _fit_words(words: str) -> tuple[str, bool]:
    encoded = words.encode()
    if len(encoded) <= MOST_BYTES:
        return words, False
    end = encoded.rindex(b" ", 0, MOST_BYTES) if b" " in encoded[1:MOST_BYTES] else 0
    return encoded[: end + 1].decode(), True
