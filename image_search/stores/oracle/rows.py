"""Rows of the Oracle tables as records, records as binds, and the work on the rows of one image."""

from __future__ import annotations

import array
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import oracledb

from image_search.records import EmbeddingModel, Hits, ImageRecord, NewImage, SearchFilter, SearchHit
from image_search.stores.base import Embeddings
from image_search.stores.oracle import sql
from image_search.stores.oracle.connection import Session
from image_search.stores.reads import image_not_found
from image_search.stores.sql import LIVE, list_columns, list_conditions
from image_search.stores.sql import make_record as build_record
from image_search.stores.text import (
    dump_lines,
    get_folder,
    list_searchable,
    make_new_record,
    name_after_paths,
    sanitize,
)
from image_search.stores.tokens import is_beginning, is_unspaced, split_text

# Words on Oracle Database: the text they are looked up in, and the conditions that find them.
#
# SEARCH_TEXT holds all that is known of an image in one spelling, a blank between any two pieces that are not one run
# of Japanese: " cat 01 . png \n 猫の写真 ". A word, cut the same way, occurs in an image when it is a part of that
# text, and INSTR finds just that, down to one character and whatever the character is. The blanks around a word say
# where a run has to begin and end, by the rule of stores/tokens.py. With Oracle Text the index decides on Japanese from
# two characters on, and lets through what has a run of letters or digits at the beginning of a token; INSTR decides on
# that, and on what the index cannot find (single characters, symbols, other scripts).

_FIELD_END = "\n"  # never inside a field once it is cut: no phrase reaches from one field into the next
# Longer binds would not be VARCHAR2 any more (4000 bytes); two words that differ behind their 900th character are one.
_MAX_WORD = 900
_MAX_BIND = 4000  # bytes of a VARCHAR2 where MAX_STRING_SIZE is STANDARD; longer ones are refused (ORA-01461)
_AND = " AND "

# Characters that JAPANESE_VGRAM_LEXER certainly keeps: kana, the long vowel mark and kanji, at least two of them.
_JAPANESE = re.compile(r"[\u3041-\u3096\u30a1-\u30fa\u30fc\u3400-\u4dbf\u4e00-\u9fff]{2,}")
_LATIN = re.compile(r"[a-z0-9]{2,}")  # the beginning "a%" would expand to too many tokens
# Oracle Text gives these a meaning. Braces would take it away, and with it the possibility to ask for a beginning.
_RESERVED = re.compile(
    "about|accum|and|bt[gip]?|equiv|fuzzy|haspath|inpath|mdata|minus|mnot|near|not|nt[gip]?|or|pattern|pt|rt|sdata|sqe|"
    "syn|tr|trsyn|tt|within"
)

Condition = tuple[list[str], dict[str, object]]


def make_search_text(fields: Iterable[str | None]) -> str:
    """All fields of an image as SEARCH_TEXT holds them. Never empty."""
    return "".join(f" {' '.join(split_text(field))} {_FIELD_END}" for field in fields if field) or _FIELD_END


def match_words(words: Sequence[str], has_text_index: bool) -> Condition:
    """Conditions on images i that hold where all words occur, and their binds."""
    conditions: list[str] = []
    binds: dict[str, object] = {}
    terms: dict[str, None] = {}
    for number, word in enumerate(words):
        pieces = split_text(word)
        if not pieces:
            return ["1 = 0"], {}
        found, decides = _make_terms(pieces) if has_text_index else ([], False)
        wanted = {**terms, **dict.fromkeys(found)}
        if len(_AND.join(wanted).encode()) <= _MAX_BIND:
            terms = wanted
        else:
            decides = False  # the index decides on the words before
        if not decides:
            conditions.append(f"INSTR(i.search_text, :word_{number}) > 0")
            binds[f"word_{number}"] = _make_needle(pieces)
    if terms:
        conditions.insert(0, "CONTAINS(i.search_text, :text_query, 1) > 0")
        binds["text_query"] = _AND.join(terms)
    return conditions, binds


def _make_needle(pieces: list[str]) -> str:
    text = " ".join(pieces)
    before = "" if is_unspaced(pieces[0]) else " "
    if len(text) > _MAX_WORD:
        return before + text[:_MAX_WORD].rstrip()
    is_open = is_unspaced(pieces[-1]) or (len(pieces) == 1 and is_beginning(pieces[0]))
    return before + text + ("" if is_open else " ")


def _make_terms(pieces: list[str]) -> tuple[list[str], bool]:
    """Terms of a CONTAINS query that hold wherever the pieces occur, and whether they hold nowhere else."""
    terms = []
    for piece in pieces:
        if _LATIN.fullmatch(piece) and len(piece) < 64:  # a token ends at 64 bytes
            terms += [] if _RESERVED.fullmatch(piece) else [piece + "%"]
        else:
            terms += ["{" + run + "}" for run in _JAPANESE.findall(piece)]
    # A run of ASCII letters may be a token of the index and only part of a run here: after letters of another script.
    return terms, len(pieces) == 1 and terms == ["{" + pieces[0] + "}"]


# As many as the columns hold; a longer value is cut there, and stays whole in details.
_LENGTHS = {
    "file_name": 255,
    "generator": 255,
    "generation_model": 1000,
    "camera": 255,
    "lens": 255,
    "recognizer": 255,
    "keyword": 255,
    "lora": 255,
}

Row = Sequence[Any]
Binds = dict[str, object]


def build_conditions(filter: SearchFilter, words: Sequence[str], has_text_index: bool) -> Condition:
    """Conditions on images i: live, let through by the filter, and with these words in them; and their binds."""
    wanted = [word for given in (*filter.words, *words) if (word := sanitize(given).strip())]
    conditions, binds = match_words(wanted, has_text_index)
    conditions.insert(0, LIVE)
    stored: dict[str, Any] = {name: cut(name, getattr(filter, name)) for name in _LENGTHS if hasattr(filter, name)}
    for condition, values in list_conditions(replace(filter, **stored)):
        bound, named = bind_values((condition, values), f"filter_{len(conditions)}")
        conditions.append(bound)
        binds |= named
    return conditions, binds


def bind_values(condition: tuple[str, list[object]], name: str) -> tuple[str, dict[str, object]]:
    """A condition of stores/sql.py with named binds, name_0 and so on, and their values."""
    bound, values = condition
    binds: dict[str, object] = {}
    for number, value in enumerate(values):
        bound = bound.replace("%s", f":{name}_{number}", 1)
        binds[f"{name}_{number}"] = _cut_bytes(value) if isinstance(value, str) else value
    return bound, binds


def cut(name: str, value: str | None) -> str | None:
    """A value as its column holds it."""
    return value and value[: _LENGTHS[name]]


def _cut_bytes(value: str) -> str:
    return value.encode()[:_MAX_BIND].decode(errors="ignore")


def is_storable(path: str) -> bool:
    """Whether a stored path fits in its column. A longer one is not kept: the image is still known by its hash."""
    return len(path.encode()) <= _MAX_BIND


def make_record(row: Row) -> ImageRecord:
    """A row of the record columns of sql.py. CLOBs come as str, RAW as bytes, TIMESTAMPs as datetimes without zone."""
    *columns, details, paths = row
    record = build_record(columns, details, json.loads(paths or "[]"))
    if record.recognizer is not None and record.recognized_text is None:
        return replace(record, recognized_text="")  # which Oracle keeps as NULL
    return record


def bind_image(image: NewImage, record: ImageRecord, has_data: bool) -> Binds:
    """The binds of a new image. has_data: whether the database keeps the original."""
    return {
        **bind_content(image, has_data),
        "upload_date": image.upload_date,
        "film_sha256": bytes.fromhex(image.frame.film_sha256) if image.frame else None,
        "frame_ms": image.frame.frame_ms if image.frame else None,
        "recognized_lines": dump_lines(image.recognized) if image.recognized else None,
        **bind_record(record),
    }


def bind_content(image: NewImage, has_data: bool) -> Binds:
    """Columns that change with the bytes of a file."""
    return {
        "sha256": bytes.fromhex(image.content_sha256),
        "file_type": image.file_type,
        "byte_size": image.byte_size,
        "width": image.width,
        "height": image.height,
        "preview": image.preview,
        "image_data": image.data if has_data else None,
    }


def bind_record(record: ImageRecord) -> Binds:
    """The columns that are derived from the texts and facts of an image."""
    columns = list_columns(record)
    for name in columns.keys() & _LENGTHS.keys():
        columns[name] = cut(name, columns[name])
    return {**columns, "search_text": make_search_text(list_searchable(record))}


def bind_path(image_id: int, file_path: str, byte_size: int, modified_ns: int | None) -> Binds:
    """A place of an image. file_path: as stored."""
    return {
        "image_id": image_id,
        "file_path": file_path,
        "folder": get_folder(file_path),
        "byte_size": byte_size,
        "modified_ns": modified_ns,
    }


def bind_embedding(image_id: int, model_id: int, embedding: Embeddings, recipe: int) -> Binds:
    """An embedding of an image."""
    return {"image_id": image_id, "model_id": model_id, "embedding": to_vector(embedding), "recipe": recipe}


def bind_keywords(record: ImageRecord) -> list[Binds]:
    """One row for each keyword."""
    keywords = dict.fromkeys(cut("keyword", keyword) for keyword in record.keywords)
    return [{"image_id": record.image_id, "keyword": keyword} for keyword in keywords]


def bind_loras(record: ImageRecord) -> list[Binds]:
    """One row for each LoRA."""
    loras = dict.fromkeys(cut("lora", lora) for lora in record.text.loras)
    return [{"image_id": record.image_id, "lora": lora} for lora in loras]


def to_vector(embedding: Embeddings) -> array.array[float]:
    """An array that the driver binds as a VECTOR of FLOAT32; it rejects numpy arrays and makes FLOAT64 of lists."""
    return array.array("f", np.ascontiguousarray(embedding, np.float32).tobytes())


def to_embedding(vector: Any) -> Embeddings:
    """A fetched VECTOR (array.array of float, or of double when another program wrote it) as float32 (dimension,)."""
    return np.asarray(vector, np.float32)


# Work on the rows of one image, on a session inside a transaction.


def find_hashes(session: Session, hashes: Sequence[str]) -> dict[str, tuple[int, datetime | None]]:
    """Those of these hashes that images have, with image_id and, in the trash, the time of deletion."""
    rows = session.query_chunks(sql.find_hashes, [bytes.fromhex(sha256) for sha256 in hashes])
    return {sha256.hex(): (image_id, deleted_at) for sha256, image_id, deleted_at in rows}


def get_live_record(session: Session, image_id: int, or_trashed: bool = False) -> ImageRecord:
    """The record of a live image. Raises ImageNotFound, without or_trashed also for one in the trash."""
    for record in map(make_record, session.query_chunks(sql.get_records, [image_id])):
        if record.deleted_at is None or or_trashed:
            return record
    raise image_not_found(image_id)


def change_record(
    session: Session, image_id: int, change: Callable[[ImageRecord], ImageRecord], or_trashed: bool = False
) -> bool:
    """Write what a change makes of a record. Returns whether that is anything else. Raises ImageNotFound."""
    record = get_live_record(session, image_id, or_trashed)
    changed = change(record)
    if changed == record:
        return False
    update_record(session, changed)
    return True


def update_record(session: Session, record: ImageRecord) -> None:
    """Write everything that is derived from the texts and facts of an image."""
    session.execute(sql.UPDATE_RECORD, {**bind_record(record), "image_id": record.image_id})
    for statement in (sql.DELETE_DESCRIPTION, sql.DELETE_KEYWORDS, sql.DELETE_LORAS):
        session.execute(statement, {"image_id": record.image_id})
    _insert_texts(session, record)


def insert_image(session: Session, image: NewImage, has_data: bool) -> int:
    """Insert everything but embedding and path. has_data: whether the database keeps the original."""
    record = make_new_record(0, image, datetime.min)
    binds = bind_image(image, record, has_data)
    image_id = session.insert(sql.INSERT_IMAGE, binds, returning="image_id", types=_list_null_types(binds))
    _insert_texts(session, replace(record, image_id=image_id))
    return image_id


def update_content(session: Session, record: ImageRecord, image: NewImage, has_data: bool) -> None:
    """Write the new content of an image, of which this is the record; recognised lines are forgotten."""
    binds = {**bind_content(image, has_data), "image_id": record.image_id}
    session.execute(sql.UPDATE_CONTENT, binds, _list_null_types(binds))
    update_record(session, record)


def _insert_texts(session: Session, record: ImageRecord) -> None:
    if record.text.description is not None:
        binds = {"image_id": record.image_id, "description": record.text.description}
        session.execute(sql.INSERT_DESCRIPTION, binds)
    session.execute_many(sql.INSERT_KEYWORD, bind_keywords(record))
    session.execute_many(sql.INSERT_LORA, bind_loras(record))


def insert_paths(session: Session, paths: Sequence[tuple[int, str, int, int | None]]) -> None:
    """Give images their paths (image_id, stored path, byte_size, modified_ns), the last one as the latest.

    Another image loses such a path, except a frame of the same film.
    """
    storable = [path for path in paths if is_storable(path[1])]
    rows = session.query_chunks(sql.find_paths, list(dict.fromkeys(path for _, path, *_ in storable)))
    before = [(image_id, path) for path, *_, image_id in rows]
    for image_id, path, byte_size, modified_ns in storable:
        session.execute(sql.TAKE_PATH, {"file_path": path, "image_id": image_id})
        session.execute(sql.INSERT_PATH, bind_path(image_id, path, byte_size, modified_ns))
    _rename_images(session, [*before, *((image_id, path) for image_id, path, *_ in storable)] if before else [])


def delete_paths(session: Session, paths: Sequence[str]) -> int:
    """Delete those of these stored paths that live images have. Returns how many they are."""
    rows = session.query_chunks(sql.find_paths, paths)
    lost = [(image_id, path) for path, _, deleted_at, _, image_id in rows if deleted_at is None]
    known = sorted({path for _, path in lost})
    session.execute_chunks(sql.delete_paths, known)
    _rename_images(session, lost)
    return len(known)


def _rename_images(session: Session, lost: Sequence[tuple[int, str]]) -> None:
    """Let no image keep the name of a path (image_id, stored path) that it lost."""
    rows = session.query_chunks(sql.get_records, sorted({image_id for image_id, _ in lost}))
    records = {record.image_id: record for record in map(make_record, rows)}
    for record in name_after_paths(records, lost):
        update_record(session, record)


def _list_null_types(binds: Mapping[str, object]) -> dict[str, object]:
    # A NULL shows no type; as text it would neither go into a BLOB nor stand beside a time.
    types = {"upload_date": oracledb.DB_TYPE_TIMESTAMP, "image_data": oracledb.DB_TYPE_BLOB}
    return {name: kind for name, kind in types.items() if name in binds and binds[name] is None}


def read_hits(rows: Sequence[Row]) -> Hits:
    """Hits of rows: total, distance, record. A page without any is one row without a record."""
    hits = tuple(
        SearchHit(make_record(row[2:]), None if row[1] is None else float(row[1])) for row in rows if row[2] is not None
    )
    return Hits(hits, int(rows[0][0]))


def set_setting(session: Session, name: str, value: str | None) -> None:
    """Keep a setting; None removes it."""
    session.execute(sql.DELETE_SETTING, {"setting_name": name})
    if value is not None:
        session.execute(sql.INSERT_SETTING, {"setting_name": name, "setting_value": value})


def list_models(session: Session) -> list[EmbeddingModel]:
    """All models by model_id."""
    rows = session.query(sql.LIST_MODELS)
    return [EmbeddingModel(i, name, version, n, is_current == "Y") for i, name, version, n, is_current in rows]
