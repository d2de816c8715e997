"""Rows of the Oracle tables as records, and records as binds."""

from __future__ import annotations

import array
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from image_search.records import ImageRecord, ImageText, NewImage
from image_search.stores.base import Embeddings
from image_search.stores.text import dump_details, is_unspaced, load_text, split_text

# Words on Oracle Database: the text they are looked up in, and the conditions that find them.
#
# SEARCH_TEXT holds everything an image says in one spelling, a blank between any two pieces that are not one run of
# Japanese: " cat 01 . png \n 猫の写真 ". A word, cut the same way, occurs in an image when it is a part of that
# text, and INSTR finds just that, down to one character and whatever the character is. With Oracle Text the index finds
# most words by itself: letters and digits as the beginning of a token, Japanese from two characters on. What the index
# cannot decide (single characters, symbols, other scripts, phrases) is left to INSTR on what the index lets through.

_FIELD_END = "\n"  # never inside a field once it is cut: no phrase reaches from one field into the next
# Longer binds would not be VARCHAR2 any more (4000 bytes); nobody tells two words apart by their 900th character.
_MAX_WORD = 900
_MAX_BIND = 4000  # bytes of a VARCHAR2 where MAX_STRING_SIZE is STANDARD; longer ones are refused (ORA-01461)
_AND = " AND "

# What JAPANESE_VGRAM_LEXER certainly keeps: kana, the long vowel mark and kanji, at least two of them.
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
    text = " ".join(pieces)[:_MAX_WORD].rstrip()
    return text if is_unspaced(pieces[0]) else " " + text


def _make_terms(pieces: list[str]) -> tuple[list[str], bool]:
    """Terms of a CONTAINS query that hold wherever the pieces occur, and whether they hold nowhere else."""
    terms = []
    for piece in pieces:
        if _LATIN.fullmatch(piece) and len(piece) < 64:  # a token ends at 64 bytes
            terms += [] if _RESERVED.fullmatch(piece) else [piece + "%"]
        else:
            terms += ["{" + run + "}" for run in _JAPANESE.findall(piece)]
    decides = len(pieces) == 1 and terms in (["{" + pieces[0] + "}"], [pieces[0] + "%"])
    return terms, decides


# As many as the columns hold; what is longer is cut, and stays whole in the file itself.
FILE_NAME_LENGTH = 255
_PATH_BYTES = 4000
_GENERATOR_LENGTH = 255
_GENERATION_MODEL_LENGTH = 1000
_KEYWORD_LENGTH = 255

Row = Sequence[Any]
Binds = dict[str, object]


def make_record(row: Row) -> ImageRecord:
    """A row of oracle_sql's record columns. CLOBs come as str, RAW as bytes, TIMESTAMPs as datetimes without zone."""
    image_id, sha256, file_name, file_type, byte_size, width, height, upload_date, file_path, *text = row
    return ImageRecord(
        image_id=image_id,
        content_sha256=sha256.hex(),
        file_name=file_name,
        file_type=file_type,
        byte_size=byte_size,
        width=width,
        height=height,
        upload_date=upload_date,
        file_path=file_path,
        text=load_text(*text),
    )


def bind_image(image: NewImage, has_data: bool) -> Binds:
    """The binds of a new image. has_data: whether the database keeps the original."""
    return {
        "sha256": bytes.fromhex(image.content_sha256),
        **bind_file(image.file_name, image.file_path, image.modified_ns),
        "file_type": image.file_type,
        "byte_size": len(image.data),
        "width": image.width,
        "height": image.height,
        "upload_date": image.upload_date,
        **bind_text(image.text, image.file_name),
        "preview": image.preview,
        "image_data": image.data if has_data else None,
    }


def bind_file(file_name: str, file_path: str | None, modified_ns: int | None) -> Binds:
    """Where a file is. A path too long for its column is not remembered: the picture is still known by its hash."""
    fits = file_path is not None and len(file_path.encode()) <= _PATH_BYTES
    return {
        "file_name": file_name[:FILE_NAME_LENGTH],
        "file_path": file_path if fits else None,
        "modified_ns": modified_ns,
    }


def bind_text(text: ImageText, file_name: str) -> Binds:
    """Everything an image says about itself but description and keywords, which have tables of their own."""
    return {
        "generator": text.generator and text.generator[:_GENERATOR_LENGTH],
        "generation_model": text.generation_model and text.generation_model[:_GENERATION_MODEL_LENGTH],
        "taken_at": text.taken_at,
        "generation_prompt": text.generation_prompt,
        "details": dump_details(text),
        "search_text": make_search_text([file_name, text.generation_prompt, text.description, *text.keywords]),
    }


def bind_keywords(image_id: int, text: ImageText) -> list[Binds]:
    """One row for each keyword."""
    keywords = dict.fromkeys(keyword[:_KEYWORD_LENGTH] for keyword in text.keywords)
    return [{"image_id": image_id, "keyword": keyword} for keyword in keywords]


def to_vector(embedding: Embeddings) -> array.array[float]:
    """What the driver binds as a VECTOR of FLOAT32; it refuses numpy arrays and makes FLOAT64 of lists."""
    return array.array("f", np.ascontiguousarray(embedding, np.float32).tobytes())


def to_embedding(vector: Any) -> Embeddings:
    """A fetched VECTOR (array.array of float, or of double when another program wrote it) as float32 (dimension,)."""
    return np.asarray(vector, np.float32)
