"""Rows of the images: how a NewImage becomes one and an ImageRecord is read out of it.

What no filter asks for lies in one text, the document. Where that is too long for a field it lies beside the originals,
under the SHA-256 of what it holds; the document names the image, so no two images share one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from image_search.errors import StoreError
from image_search.originals import Originals
from image_search.records import ImageRecord, ImageText, KnownFile, NewImage, SearchFilter
from image_search.stores.milvus.schema import FILTER_FIELDS, MAX_BYTES, MAX_MARKS
from image_search.stores.text import dump_details, load_text, make_index_tokens, make_query_tokens, sanitize

# A SearchFilter, and words that must occur, as expressions of Milvus over images or embeddings.
#
# Texts of people never get into an expression: equal texts are found by a digest of theirs, and words by the tokens of
# words.py, which have no character that means anything in an expression or to LIKE. Expression templates would do for
# servers, but Milvus Lite does not know them.

NEVER = -(2**62)  # taken_at of an image without

_EPOCH = datetime(1970, 1, 1)
_ORIENTATIONS = {"landscape": "width > height", "portrait": "width < height", "square": "width == height"}


def make_key(text: str | None) -> str:
    """32 hexadecimal digits that stand for a text; "" for none."""
    return "" if text is None else hashlib.sha256(text.encode()).hexdigest()[:32]


def mark_folder(folder: str) -> str:
    """What marks an image below this folder, written without the separator at its end."""
    return "f" + make_key(folder)


def mark_keyword(keyword: str) -> str:
    """What marks an image with this keyword."""
    return "k" + make_key(keyword)


def list_marks(text: ImageText, file_path: str | None) -> list[str]:
    """The marks of an image: its keywords, and every folder its file is below."""
    path = file_path or ""
    folders = [path[:end] for end, character in enumerate(path) if character in "/\\"]
    return list(dict.fromkeys([*map(mark_keyword, text.keywords), *map(mark_folder, folders)]))


def make_words(text: ImageText, file_name: str) -> str:
    """The tokens of an image in their order, each between blanks."""
    return f" {make_index_tokens([text.generation_prompt, text.description, *text.keywords, file_name])} "


def tokenize_query(word: str) -> str | None:
    """The piece of make_words that is there where this word occurs; None when a word is found nowhere."""
    tokens, is_prefix = make_query_tokens(sanitize(word))
    return " " + " ".join(tokens) + ("" if is_prefix else " ") if tokens else None


def count_microseconds(moment: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return (moment.replace(tzinfo=None) - _EPOCH) // timedelta(microseconds=1)


def read_microseconds(microseconds: int) -> datetime:
    """The moment count_microseconds was given."""
    return _EPOCH + timedelta(microseconds=microseconds)


def count_now() -> int:
    """This moment in UTC as microseconds since 1970."""
    return count_microseconds(datetime.now(UTC))


def match_ids(image_ids: Iterable[int], operator: str = "in") -> str:
    """The condition that an image is one of these, or is none of these (operator "not in")."""
    return f"image_id {operator} [{', '.join(str(int(image_id)) for image_id in image_ids)}]"


def match_any(field: str, keys: Iterable[str]) -> str:
    """The condition that a field has one of these keys."""
    return f"{field} in [{', '.join(_quote(key) for key in keys)}]"


def match_phrase(phrase: str | None, besides: Sequence[int] = ()) -> str:
    """The condition that a phrase occurs; besides: images in whose words it occurs where no field holds them."""
    if phrase is None:
        return "image_id < 0"
    condition = f"words like {_quote(f'%{phrase}%')}"
    return f"({condition} or {match_ids(besides)})" if besides else condition


def list_conditions(filter: SearchFilter) -> Iterator[str]:
    """A condition for every field that is set, except words."""
    if filter.taken_from is not None:
        yield f"taken_at >= {count_microseconds(filter.taken_from)}"
    if filter.taken_to is not None:
        yield f"taken_at < {count_microseconds(filter.taken_to)} and taken_at > {NEVER}"
    if filter.registered_from is not None:
        yield f"upload_date >= {count_microseconds(filter.registered_from)}"
    if filter.registered_to is not None:
        yield f"upload_date < {count_microseconds(filter.registered_to)}"
    if filter.folder is not None:
        yield _match_mark(mark_folder(sanitize(filter.folder).rstrip("/\\")))
    if filter.file_types:
        yield match_any("file_type", [make_key(sanitize(file_type)) for file_type in filter.file_types])
    if filter.orientation is not None:
        yield _ORIENTATIONS[filter.orientation]
    if filter.min_pixels is not None:
        yield f"pixels >= {min(int(filter.min_pixels), 2**62)}"
    if filter.generator is not None:
        yield f"generator == {_quote(make_key(sanitize(filter.generator)))}"
    if filter.generation_model is not None:
        yield f"generation_model == {_quote(make_key(sanitize(filter.generation_model)))}"
    if filter.has_prompt is not None:
        yield f"has_prompt == {'true' if filter.has_prompt else 'false'}"
    if filter.keyword is not None:
        yield _match_mark(mark_keyword(sanitize(filter.keyword)))


def _match_mark(mark: str) -> str:
    return f"array_contains(marks, {_quote(mark)})"


def _quote(text: str) -> str:
    # Reached only by digests and tokens; the last defence should either ever change.
    if any(character in text for character in '"\\\r\n'):
        raise ValueError(f"{text!r} is no part of an expression")
    return f'"{text}"'


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
        "marks": list_marks(text, record.file_path)[:MAX_MARKS],
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
    if len(text) <= MAX_BYTES:
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
    if len(encoded) <= MAX_BYTES:
        return words, False
    end = encoded.rindex(b" ", 0, MAX_BYTES) if b" " in encoded[1:MAX_BYTES] else 0
    return encoded[: end + 1].decode(), True
