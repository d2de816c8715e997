"""Rows of Milvus: what an image becomes there and is read out of, and filters and terms as expressions over them.

Values that no filter compares are in one text, the document. One too long for a field is kept beside the originals,
under the SHA-256 of what it holds; the document names the image, so no two images share one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from image_search.errors import StoreError
from image_search.originals import Originals
from image_search.records import ImageRecord, NewImage, SearchFilter
from image_search.stores.base import CountedField, Embeddings
from image_search.stores.documents import (
    NEVER,
    Document,
    count_microseconds,
    drop_paths,
    dump_document,
    exact_key,
    list_counted,
    list_filter_keys,
    list_filter_ranges,
    list_keys,
    list_numbers,
    load_document,
)
from image_search.stores.milvus.schema import (
    FILTER_FIELDS,
    IMAGES,
    MAX_BYTES,
    MAX_MARKS,
    OLD_IMAGES,
    name_embeddings,
    name_old_embeddings,
    read_state,
)
from image_search.stores.text import (
    get_folder,
    list_searchable,
    make_index_tokens,
    make_query_tokens,
    make_sort_name,
    sanitize,
)

# Expressions.
#
# Texts of people never get into an expression: equal texts are found by a digest of theirs, and words by the tokens of
# stores/text.py, which have no character that means anything in an expression or to LIKE. Expression templates would do
# for servers, but Milvus Lite does not know them.

_MAX_NUMBER = 2**62


def make_words(record: ImageRecord) -> str:
    """The tokens of an image in their order, each between blanks."""
    return f" {make_index_tokens(list_searchable(record))} "


def tokenize_query(word: str) -> str | None:
    """The piece of make_words that is there where this word occurs; None when a word is found nowhere."""
    tokens, is_prefix = make_query_tokens(sanitize(word))
    return " " + " ".join(tokens) + ("" if is_prefix else " ") if tokens else None


def match_ids(image_ids: Iterable[int], operator: str = "in") -> str:
    """The condition that an image is one of these, or is none of these (operator "not in")."""
    return f"image_id {operator} [{', '.join(str(int(image_id)) for image_id in image_ids)}]"


def match_any(field: str, keys: Iterable[str]) -> str:
    """The condition that a field has one of these keys."""
    return f"{field} in [{', '.join(_quote(key) for key in keys)}]"


def match_marks(marks: Sequence[str]) -> str:
    """The condition that an image has one of these marks."""
    if len(marks) == 1:
        return f"array_contains(marks, {_quote(marks[0])})"
    return f"array_contains_any(marks, [{', '.join(map(_quote, marks))}])"


def match_phrase(phrase: str | None, besides: Sequence[int] = ()) -> str:
    """The condition that a phrase occurs; besides: images in whose words it occurs where no field holds them."""
    if phrase is None:
        return "image_id < 0"
    condition = f"words like {_quote(f'%{phrase}%')}"
    return f"({condition} or {match_ids(besides)})" if besides else condition


def list_conditions(filter: SearchFilter) -> Iterator[str]:
    """A condition for every field that is set, except words."""
    for is_wanted, keys in list_filter_keys(filter):
        yield match_marks(keys) if is_wanted else f"not {match_marks(keys)}"
    for name, low, high in list_filter_ranges(filter):
        if low is not None:
            yield f"{name} >= {min(int(low), _MAX_NUMBER)}"
        if high is not None:
            yield f"{name} < {int(high)} and {name} > {NEVER}"


def _quote(text: str) -> str:
    # Reached only by digests and tokens; the last defence should either ever change.
    if any(character in text for character in '"\\\r\n'):
        raise ValueError(f"{text!r} is no part of an expression")
    return f'"{text}"'


# Rows.

_SHORT = 1000  # characters; compressing less saves nothing
_FILE, _PACKED = "file:", "zlib:"

Row = dict[str, Any]


@dataclass(frozen=True)
class Stored:
    """An image as it is stored.

    preview: the name of its file. parked: embeddings and their recipes by model_id, of an image in the trash. A live
    image has some only while it comes back, or gets new content: then they are all its embeddings.
    """

    document: Document
    preview: str
    parked: Mapping[int, tuple[Embeddings, int]] = field(default_factory=dict)

    @property
    def record(self) -> ImageRecord:
        return self.document.record

    def change(self, document: Document) -> Stored:
        return replace(self, document=document)


def name_preview(content_sha256: str) -> str:
    """The name of an image's preview among the originals: its own, for images that look alike share none."""
    return hashlib.sha256(f"preview of {content_sha256}".encode()).hexdigest()


def name_new_preview(content_sha256: str, preview: bytes) -> str:
    """The name of a preview that replaces another."""
    return name_preview(f"{content_sha256} {hashlib.sha256(preview).hexdigest()}")


def check_image(image: NewImage) -> None:
    """Raise StoreError for an image without a preview."""
    if not isinstance(image.preview, bytes):
        raise StoreError(f"{image.file_name} came without its preview. Nothing of its batch was kept.")


def make_row(stored: Stored) -> tuple[Row, dict[str, bytes]]:
    """The row of an image, and the file that holds its document where the row cannot."""
    document, record = stored.document, stored.record
    words, is_cut = _fit_words(make_words(record) if document.is_live else " ")
    text, files = fit_text(_dump(stored))
    numbers = list_numbers(record)
    folders = [exact_key("b", get_folder(path)) for path in document.paths] if document.is_live else []
    row: Row = {
        **numbers,
        "taken_at": numbers["taken_order"],
        "rating": -1 if record.rating is None else record.rating,
        "deleted_at": NEVER if record.deleted_at is None else count_microseconds(record.deleted_at),
        "content_sha256": document.sha256,
        "sort_name": make_sort_name(record.file_name),
        "marks": list(dict.fromkeys([*folders, *list_keys(document)]))[:MAX_MARKS],
        "words": words,
        "words_cut": is_cut,
        "document": text,
        "nothing": [0.0, 0.0],
    }
    return row, files


def copy_filter_fields(row: Mapping[str, Any]) -> Row:
    """The part of an image's row that is also stored with each of its embeddings."""
    return {"image_id": row["image_id"], **{name: row[name] for name in FILTER_FIELDS}}


def read_row(row: Mapping[str, Any], originals: Originals) -> Stored:
    """The image of a row with its document."""
    values = json.loads(read_text(row["document"], originals))
    if "document" not in values:  # of schema 1
        return _read_old_row(int(row["image_id"]), values)
    parked = {
        int(model_id): (np.frombuffer(base64.b64decode(packed), np.float32).copy(), recipe)
        for model_id, (packed, recipe) in values.get("parked", {}).items()
    }
    return Stored(load_document(values["document"]), values["preview"], parked)


def _read_old_row(image_id: int, values: dict[str, Any]) -> Stored:
    names = ("details", "generation_prompt", "description", "generator", "generation_model")
    text = [*(values.pop(name) for name in names), _write_moment(values.pop("taken_at"))]
    moment = _write_moment(values.pop("upload_date"))
    document = load_document(json.dumps({**values, "image_id": image_id, "upload_date": moment, "text": text}))
    return Stored(document, name_preview(document.sha256))


def _write_moment(microseconds: int | None) -> str | None:
    return None if microseconds is None else str(np.datetime64(microseconds, "us"))


def list_files(row: Mapping[str, Any], originals: Originals) -> list[str]:
    """The names of the files an image has among the originals. The row needs content_sha256 and document."""
    return [row["content_sha256"], read_row(row, originals).preview, *list_text_files(row["document"])]


def list_text_files(text: str) -> list[str]:
    """The name of the file fit_text made of a text, if it did."""
    return [text.removeprefix(_FILE)] if text.startswith(_FILE) else []


def _dump(stored: Stored) -> str:
    values: dict[str, Any] = {"document": dump_document(stored.document), "preview": stored.preview}
    if stored.parked:
        values["parked"] = {
            str(model_id): [base64.b64encode(np.asarray(embedding, np.float32).tobytes()).decode(), recipe]
            for model_id, (embedding, recipe) in stored.parked.items()
        }
    return json.dumps(values, ensure_ascii=False)


def fit_text(text: str) -> tuple[str, dict[str, bytes]]:
    """A text as a field holds it, and the file that holds it where the field cannot."""
    if len(text) <= _SHORT:
        return text, {}
    packed = zlib.compress(text.encode())
    short = _PACKED + base64.b64encode(packed).decode()
    if len(short) <= MAX_BYTES:
        return short, {}
    name = hashlib.sha256(packed).hexdigest()
    return _FILE + name, {name: packed}


def read_text(text: str, originals: Originals) -> str:
    """The text fit_text was given."""
    if text.startswith(_FILE):
        return zlib.decompress(originals.read(text.removeprefix(_FILE))).decode()
    if text.startswith(_PACKED):
        return zlib.decompress(base64.b64decode(text.removeprefix(_PACKED))).decode()
    return text


def _fit_words(words: str) -> tuple[str, bool]:
    encoded = words.encode()
    if len(encoded) <= MAX_BYTES:
        return words, False
    end = encoded.rindex(b" ", 0, MAX_BYTES) if b" " in encoded[1:MAX_BYTES] else 0
    return encoded[: end + 1].decode(), True


# Copies the images of schema 1 into the collections of schema 2, which are new and empty (schema.py).


_MIGRATED = 200


def migrate(client: Any, originals: Originals) -> None:
    """Copy every image and its embeddings; rows of images that do not count are left behind."""
    state = read_state(client)
    for name in (OLD_IMAGES, *(name_old_embeddings(model.model_id) for model in state.models)):
        client.load_collection(name)
    taken: set[str] = set()
    # From the latest image on: a path that several images had is that of the latest one.
    for end in range(state.last_image_id, 0, -_MIGRATED):
        condition = f"image_id > {end - _MIGRATED} and image_id <= {end}"
        if state.removed:
            condition += f" and {match_ids(state.removed, 'not in')}"
        found = client.query(OLD_IMAGES, filter=condition, output_fields=["image_id", "document"])
        rows: dict[int, Row] = {}
        for old in sorted(found, key=lambda row: -int(row["image_id"])):
            stored = read_row(old, originals)
            paths = [path for path in stored.document.paths if path in taken]
            taken.update(stored.document.paths)
            row, files = make_row(stored.change(drop_paths(stored.document, paths)))
            originals.write(files)
            rows[int(row["image_id"])] = row
        if rows:
            client.upsert(IMAGES, list(rows.values()))
        for model in state.models:
            _copy_embeddings(client, model.model_id, rows)


def _copy_embeddings(client: Any, model_id: int, rows: dict[int, Row]) -> None:
    if not rows:
        return
    fields = ["image_id", "embedding"]
    found = client.query(name_old_embeddings(model_id), filter=match_ids(rows), output_fields=fields)
    copies = [
        copy_filter_fields(rows[int(old["image_id"])])
        | {"embedding": np.array(old["embedding"], np.float32), "recipe": 1}
        for old in found
    ]
    if copies:
        client.upsert(name_embeddings(model_id), copies)


# The nearest embeddings in one total order, to any depth, from limited searches that break ties arbitrarily.


MAX_RESULTS = 16_384  # of one search; the limit of a Milvus server
_TIE = 5e-7  # inner products this near may have changed places by rounding
_MARGIN = 8

# how many at most, with an inner product up to this (None: any), without these images -> inner products by image_id
Search = Callable[[int, float | None, list[int]], dict[int, float]]


def find_nearest(
    search: Search, read: Callable[[list[int]], Mapping[int, Embeddings]], query: Embeddings, offset: int, limit: int
) -> list[tuple[int, float]]:
    """image_ids and distances of one page, nearest first, ties by image_id.

    read: gives the stored embeddings of some images. The page is ordered and measured by them, for how a search rounds
    depends on where a row lies.
    """
    ranking = _rank(_gather(search, offset + limit))
    groups = _list_groups(ranking, offset, limit)
    embeddings = read([image_id for group in groups for image_id, _ in group])
    exact = {
        image_id: -float(np.sum(embedding.astype(np.float64) * query)) for image_id, embedding in embeddings.items()
    }
    ordered = [
        (image_id, exact[image_id])
        for group in groups
        for image_id in sorted((n for n, _ in group if n in exact), key=lambda n: (exact[n], n))
    ]
    return ordered[_count_skipped(ranking, offset) :][:limit]


def _gather(search: Search, count: int) -> dict[int, float]:
    """The first count, and everything that ties with the last of them."""
    found: dict[int, float] = {}
    wanted = count + _MARGIN
    upto, known = None, list[int]()
    while True:
        asked = min(wanted, MAX_RESULTS)
        more = search(asked, upto, known)
        found |= more
        products = sorted(found.values(), reverse=True)
        if len(more) < asked or (len(found) > count and products[count - 1] - products[-1] > _TIE):
            return found
        upto = products[-1] + _TIE
        known = [image_id for image_id, product in found.items() if product <= upto + _TIE]
        wanted = max(count - len(found), len(found)) + _MARGIN


def _rank(found: Mapping[int, float]) -> list[tuple[int, float]]:
    return sorted(((image_id, -product) for image_id, product in found.items()), key=lambda hit: (hit[1], hit[0]))


def _list_starts(ranking: list[tuple[int, float]]) -> list[int]:
    """Where a group of hits begins that may all tie with one another."""
    return [n for n in range(len(ranking)) if n == 0 or ranking[n][1] - ranking[n - 1][1] > _TIE]


def _count_skipped(ranking: list[tuple[int, float]], offset: int) -> int:
    """The number of hits before the page within the group of ties that it begins in."""
    return offset - max((start for start in _list_starts(ranking) if start <= offset), default=0)


def _list_groups(ranking: list[tuple[int, float]], offset: int, limit: int) -> list[list[tuple[int, float]]]:
    starts = [*_list_starts(ranking), len(ranking)]
    return [ranking[start:end] for start, end in pairwise(starts) if end > offset and start < offset + limit]


# The mark of an image for a value of a counted field.
_MARKS: dict[CountedField, str] = {
    "generator": "g",
    "generation_model": "m",
    "lora": "l",
    "file_type": "t",
    "keyword": "k",
    "camera": "c",
    "lens": "e",
    "folder": "b",
    "film": "x",
}
_MARK = len(exact_key("", "")) + 1  # characters of a mark for a value


def list_marks(row: Mapping[str, Any], field: CountedField) -> list[str]:
    """The marks of an image for values of a field; a rating is its own."""
    if field == "rating":
        return [str(row["rating"])] if int(row["rating"]) >= 0 else []
    if field == "kind":
        return [mark for mark in row["marks"] if mark in ("image", "frame")]
    return [mark for mark in row["marks"] if mark[0] == _MARKS[field] and len(mark) == _MARK]


def list_values(document: Document, field: CountedField) -> Iterator[tuple[str, str]]:
    """The marks an image has for a field, with their values."""
    for value in list_counted(document)[field]:
        yield (value if field == "kind" else exact_key(_MARKS[field], value)), value
