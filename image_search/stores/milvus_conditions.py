"""A SearchFilter, and words that must occur, as expressions of Milvus over images or embeddings.

Texts of people never get into an expression: equal texts are found by a digest of theirs, and words by the tokens of
words.py, which have no character that means anything in an expression or to LIKE. Expression templates would do for
servers, but Milvus Lite does not know them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from image_search.records import ImageText, SearchFilter
from image_search.stores.storable_text import make_storable
from image_search.stores.words import make_index_tokens, make_query_tokens

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


def make_phrase(word: str) -> str | None:
    """The piece of make_words that is there where this word occurs; None when a word is found nowhere."""
    tokens, is_beginning = make_query_tokens(make_storable(word))
    return " " + " ".join(tokens) + ("" if is_beginning else " ") if tokens else None


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
        yield _match_mark(mark_folder(make_storable(filter.folder).rstrip("/\\")))
    if filter.file_types:
        yield match_any("file_type", [make_key(make_storable(file_type)) for file_type in filter.file_types])
    if filter.orientation is not None:
        yield _ORIENTATIONS[filter.orientation]
    if filter.min_pixels is not None:
        yield f"pixels >= {min(int(filter.min_pixels), 2**62)}"
    if filter.generator is not None:
        yield f"generator == {_quote(make_key(make_storable(filter.generator)))}"
    if filter.generation_model is not None:
        yield f"generation_model == {_quote(make_key(make_storable(filter.generation_model)))}"
    if filter.has_prompt is not None:
        yield f"has_prompt == {'true' if filter.has_prompt else 'false'}"
    if filter.keyword is not None:
        yield _match_mark(mark_keyword(make_storable(filter.keyword)))


def _match_mark(mark: str) -> str:
    return f"array_contains(marks, {_quote(mark)})"


def _quote(text: str) -> str:
    # Reached only by digests and tokens; the last defence should either ever change.
    if any(character in text for character in '"\\\r\n'):
        raise ValueError(f"{text!r} is no part of an expression")
    return f'"{text}"'
