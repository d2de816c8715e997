"""Rows of the PostgreSQL tables as records, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pgvector import Vector

from image_search.records import ImageRecord, ImageText, NewImage
from image_search.stores.base import Embeddings, image_not_found
from image_search.stores.postgres.database import Connection
from image_search.stores.sql import Condition
from image_search.stores.text import dump_details, load_text, make_index_tokens, make_query_tokens

# Words in PostgreSQL: an index of tokens narrows down, and the stream of tokens decides.
#
# The built-in parser and pg_trgm cannot find Japanese words of one or two characters, so the tokens of words.py are
# kept as they are: in words, a tsvector that answers which images have these tokens, and in tokens, the same in their
# order, where a word is a piece of text. No dictionary, no language setting and no further extension is needed.

_TOKEN_LENGTH = 100  # characters; a lexeme may have 2046 bytes
_MAX_BYTES = 500_000  # of all lexemes; a tsvector may have 1 MiB
_ANYTHING = "\ue0fe"  # private use: stands for all tokens of an image that has too many


def make_tokens(text: ImageText, file_name: str) -> tuple[str, list[str]]:
    """What an image's columns tokens and words are made of."""
    stream = make_index_tokens([text.generation_prompt, text.description, *text.keywords, file_name])
    lexemes = sorted({token[:_TOKEN_LENGTH] for token in stream.split(" ") if token})
    if sum(len(lexeme.encode()) for lexeme in lexemes) > _MAX_BYTES:
        lexemes = [_ANYTHING]
    return f" {stream} ", lexemes


def match_word(word: str) -> Condition:
    """The condition that a word occurs in an image."""
    tokens, is_prefix = make_query_tokens(word)
    if not tokens:
        return "false", []
    lexemes = [f"'{token[:_TOKEN_LENGTH]}'" for token in tokens]
    if is_prefix:
        lexemes[-1] += ":*"
    phrase = " " + " ".join(tokens) + ("" if is_prefix else " ")
    return (
        "(i.words @@ %s::tsquery AND i.tokens LIKE %s)",  # nothing in a token means anything to LIKE or to a tsquery
        [f"{' & '.join(lexemes)} | '{_ANYTHING}'", f"%{phrase}%"],
    )


# Of images i LEFT JOIN image_descriptions d, in the order make_record expects.
RECORD_COLUMNS = """i.image_id, i.content_sha256, i.file_name, i.file_type, i.byte_size, i.width, i.height,
  i.upload_date, i.file_path, i.details::text, i.generation_prompt, d.description, i.generator, i.generation_model,
  i.taken_at"""


def make_record(row: Sequence[Any]) -> ImageRecord:
    """The record of one row of RECORD_COLUMNS."""
    image_id, sha256, file_name, file_type, byte_size, width, height, upload_date, file_path, *text = row
    return ImageRecord(
        image_id, sha256.hex(), file_name, file_type, byte_size, width, height, upload_date, file_path, load_text(*text)
    )


def find_records(connection: Connection, image_ids: Sequence[int]) -> dict[int, ImageRecord]:
    """Those of these images that exist, in one query."""
    rows = connection.execute(
        f"SELECT {RECORD_COLUMNS} FROM images i LEFT JOIN image_descriptions d USING (image_id) "
        "WHERE i.image_id = ANY(%s::bigint[])",
        [list(image_ids)],
    )
    return {row[0]: make_record(row) for row in rows}


def get_record(connection: Connection, image_id: int) -> ImageRecord:
    """One record. Raises ImageNotFound."""
    records = find_records(connection, [image_id])
    if image_id not in records:
        raise image_not_found(image_id)
    return records[image_id]


def find_hashes(connection: Connection, hashes: Sequence[str]) -> dict[str, int]:
    """Those of these SHA-256 hashes that are registered, with their image_id."""
    rows = connection.execute(
        "SELECT content_sha256, image_id FROM images WHERE content_sha256 = ANY(%s::bytea[])",
        [[bytes.fromhex(sha256) for sha256 in hashes]],
    )
    return {sha256.hex(): image_id for sha256, image_id in rows}


def insert_images(
    connection: Connection, images: Sequence[NewImage], upload_date: datetime, with_originals: bool
) -> list[int]:
    """Insert everything but the embeddings. Returns the image_ids, in order."""
    rows = connection.execute(
        "SELECT nextval(pg_get_serial_sequence('images', 'image_id')) FROM generate_series(1, %s)", [len(images)]
    )
    image_ids = [row[0] for row in rows]
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO images (image_id, content_sha256, file_name, file_path, modified_ns, file_type, byte_size, "
            "width, height, image_data, preview, upload_date, generation_prompt, generator, generation_model, "
            f"taken_at, details, tokens, words) VALUES ({'%s, ' * 18} array_to_tsvector(%s::text[]))",
            [
                (
                    image_id,
                    bytes.fromhex(image.content_sha256),
                    image.file_name,
                    image.file_path,
                    image.modified_ns,
                    image.file_type,
                    len(image.data),
                    image.width,
                    image.height,
                    image.data if with_originals else None,
                    image.preview,
                    image.upload_date or upload_date,
                    *_list_text_columns(image.text),
                    *make_tokens(image.text, image.file_name),
                )
                for image_id, image in zip(image_ids, images, strict=True)
            ],
        )
    _insert_texts(connection, {image_id: image.text for image_id, image in zip(image_ids, images, strict=True)})
    return image_ids


def insert_embeddings(
    connection: Connection, model_id: int, image_ids: Sequence[int], embeddings: Embeddings, on_conflict: str
) -> None:
    """Insert the embeddings of those of these images that exist. on_conflict: what to do where there is one."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO image_embeddings (image_id, model_id, embedding) "
            f"SELECT image_id, %s, %s FROM images WHERE image_id = %s ON CONFLICT (image_id, model_id) {on_conflict}",
            [(model_id, Vector(row), image_id) for image_id, row in zip(image_ids, embeddings, strict=True)],
        )


def replace_text(connection: Connection, record: ImageRecord, text: ImageText) -> None:
    """Replace everything an image says about itself."""
    connection.execute(
        "UPDATE images SET generation_prompt = %s, generator = %s, generation_model = %s, taken_at = %s, details = %s, "
        "tokens = %s, words = array_to_tsvector(%s::text[]) WHERE image_id = %s",
        [*_list_text_columns(text), *make_tokens(text, record.file_name), record.image_id],
    )
    connection.execute("DELETE FROM image_descriptions WHERE image_id = %s", [record.image_id])
    connection.execute("DELETE FROM image_keywords WHERE image_id = %s", [record.image_id])
    _insert_texts(connection, {record.image_id: text})


def replace_file(
    connection: Connection, record: ImageRecord, file_path: str, file_name: str, modified_ns: int | None
) -> None:
    """Remember where an image's file is now, and its name."""
    connection.execute(
        "UPDATE images SET file_path = %s, modified_ns = %s, file_name = %s, tokens = %s, "
        "words = array_to_tsvector(%s::text[]) WHERE image_id = %s",
        [file_path, modified_ns, file_name, *make_tokens(record.text, file_name), record.image_id],
    )


def _list_text_columns(text: ImageText) -> list[object]:
    return [text.generation_prompt, text.generator, text.generation_model, text.taken_at, dump_details(text)]


def _insert_texts(connection: Connection, texts: Mapping[int, ImageText]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO image_descriptions (image_id, description) VALUES (%s, %s)",
            [(image_id, text.description) for image_id, text in texts.items() if text.description is not None],
        )
        cursor.executemany(
            "INSERT INTO image_keywords (image_id, keyword) VALUES (%s, %s)",
            [(image_id, keyword) for image_id, text in texts.items() for keyword in text.keywords],
        )
