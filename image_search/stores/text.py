"""Text that every database can hold, and ImageText as columns and one JSON document.

Pictures carry whatever bytes somebody wrote into them. Databases differ in what they refuse (half surrogate pairs,
zero characters, NaN in JSON, the empty string, which Oracle takes for NULL), so it is settled here for all engines.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import fields, replace
from datetime import datetime
from typing import Any
from unicodedata import normalize

from image_search.records import ImageText, NewImage

# Words in Japanese and other text, as a stream of tokens that any word index can hold.
#
# Japanese is written without spaces, and word indexes of databases either cut it by dictionary (and then miss what the
# dictionary does not know) or by three characters (and then miss 猫). Here every character of such a script becomes one
# token: itself and the character after it. A word of n characters is then found as a phrase of its n-1 pairs, wherever
# it occurs, and a single character as the beginning of a pair. Letters and digits make one token for each run,
# so that cat is found in cat01.png and in cats, but not in education. Everything else that is not blank is a token by
# itself.
#
# Tokens hold letters, digits and characters above 127 only: no query language gives them a meaning.

# Scripts written without spaces: Thai, Lao, Myanmar, Khmer; Chinese, Japanese and Korean with their punctuation.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u2fff\u3001-\u9fff"
    "\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
_PIECES = re.compile(rf"[{_UNSPACED}]+|[^\W\d_{_UNSPACED}]+|\d+|\S")
_BOUNDARY = "\ue0ff"  # private use: between fields, so that no phrase reaches from one into the next
_SYMBOLS = 0xE000  # ASCII symbols move here, out of reach of query languages


def make_index_tokens(fields: Iterable[str | None]) -> str:
    """The tokens of all fields of an image, separated by blanks."""
    return f" {_BOUNDARY} ".join(" ".join(_cut(field)) for field in fields if field)


def make_query_tokens(word: str) -> tuple[list[str], bool]:
    """The tokens that must follow one another where this word occurs, and whether the last is only a beginning.

    [] for a word without any visible character.
    """
    tokens = _cut(word)
    if not tokens:
        return [], False
    if not is_unspaced(tokens[-1]):
        return tokens, tokens[-1].isalnum()
    # The last character of a Japanese word: its pair reaches beyond the word. The pair before already contains it.
    if len(tokens) > 1 and len(tokens[-2]) == 2 and is_unspaced(tokens[-2]):
        return tokens[:-1], False
    return tokens, True


def normalise_text(text: str) -> str:
    """Text as it is compared: full and half width, upper and lower case alike."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", folded)


def split_text(text: str) -> list[str]:
    """The pieces of a text, normalised: runs of an unspaced script, runs of letters, runs of digits, single symbols."""
    return _PIECES.findall(normalise_text(text))


def is_unspaced(piece: str) -> bool:
    """Whether a piece belongs to a script that is written without spaces."""
    return bool(re.match(f"[{_UNSPACED}]", piece))


def _cut(text: str) -> list[str]:
    tokens: list[str] = []
    for piece in split_text(text):
        if is_unspaced(piece):
            tokens += [piece[i : i + 2] for i in range(len(piece))]
        elif piece.isalnum() or ord(piece[0]) > 127:
            tokens.append(piece)
        else:
            tokens.append(chr(_SYMBOLS + ord(piece)))
    return tokens


# Words for indexes that know nothing of languages: every text becomes a row of plain tokens, every word a phrase.
#
# Each character of a script written without spaces is a token by itself, so that a Japanese word is found wherever it
# occurs, down to one character, by the phrase search that every text index has. Runs of letters and of digits are one
# token, every other character is one, too.
#
# A token holds a-z and 0-9 only. No analyser cuts or changes it, and no query language gives it a meaning.

_FIELD_BOUNDARY = "f0"  # between fields, so that no phrase reaches from one into the next
_MAX_TOKEN = 64  # characters; indexes cut or refuse longer ones


def tokenize_document(fields: Iterable[str | None]) -> str:
    """The tokens of all fields of an image, separated by blanks."""
    return f" {_FIELD_BOUNDARY} ".join(tokenize_query(field) for field in fields if field)


def tokenize_query(word: str) -> str:
    """The tokens that follow one another where this word occurs; "" for a word without any visible character."""
    pieces: list[str] = []
    for piece in split_text(word):
        pieces += piece if is_unspaced(piece) else [piece]
    return " ".join(map(_spell, pieces))


def _spell(piece: str) -> str:
    # Runs are letters only or digits only, so that what has both can stand for everything else.
    if piece.isascii() and piece.isalnum():
        spelt = piece
    elif len(piece) == 1:
        spelt = f"c0{ord(piece):x}"
    else:
        spelt = f"w0{piece.encode().hex()}"
    return spelt if len(spelt) <= _MAX_TOKEN else f"l0{hashlib.sha256(spelt.encode()).hexdigest()}"


# These are columns of their own in every engine, because searches and filters use them.
COLUMNS = ("generation_prompt", "description", "generator", "generation_model", "taken_at")
_DETAILS = tuple(item.name for item in fields(ImageText) if item.name not in COLUMNS)


def sanitize(value: str) -> str:
    """The same text without zero characters, and with half surrogate pairs (bad file names) spelt out."""
    return value.replace("\x00", "").encode("utf-8", "backslashreplace").decode()


def make_file_name(file_path: str) -> str:
    """The name of a file without its folder, composed (NFC) as file_name always is."""
    return normalize("NFC", sanitize(os.path.basename(file_path)))


def make_image_storable(image: NewImage) -> NewImage:
    """The same image with texts a database can hold."""
    return replace(
        image,
        file_name=sanitize(image.file_name),
        file_path=None if image.file_path is None else sanitize(image.file_path),
        text=make_text_storable(image.text),
    )


def make_text_storable(text: ImageText) -> ImageText:
    """The same facts as a database gives them back: no empty strings, no NaN, keywords once each."""
    changes: dict[str, Any] = {}
    for item in fields(ImageText):
        value = getattr(text, item.name)
        if isinstance(value, str):
            changes[item.name] = sanitize(value) or None
        elif isinstance(value, float) and not math.isfinite(value):
            changes[item.name] = None
    if text.taken_at is not None:
        changes["taken_at"] = text.taken_at.replace(tzinfo=None)
    keywords = dict.fromkeys(sanitize(keyword) for keyword in text.keywords)
    keywords.pop("", None)
    raw = {sanitize(name): sanitize(value) for name, value in text.raw.items()}
    return replace(text, **changes, keywords=tuple(keywords), raw=raw)


def dump_details(text: ImageText) -> str:
    """Everything of an ImageText that has no column of its own, as a JSON object without empty entries."""
    values = {name: getattr(text, name) for name in _DETAILS}
    kept = {name: value for name, value in values.items() if value is not None and value not in ((), {})}
    return json.dumps(kept, ensure_ascii=False, allow_nan=False, default=dict)


def load_text(
    details: str | None,
    generation_prompt: str | None,
    description: str | None,
    generator: str | None,
    generation_model: str | None,
    taken_at: datetime | None,
) -> ImageText:
    """The ImageText that dump_details and the columns were made of."""
    values = json.loads(details) if details else {}
    known: dict[str, Any] = {name: values[name] for name in _DETAILS if name in values}
    if "keywords" in known:
        known["keywords"] = tuple(known["keywords"])
    return ImageText(
        generation_prompt=generation_prompt,
        description=description,
        generator=generator,
        generation_model=generation_model,
        taken_at=taken_at,
        **known,
    )
