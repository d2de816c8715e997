"""A library in Milvus as one reader sees it, the rows that count, page by page; and as its only writer changes it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from image_search.errors import StoreError
from image_search.originals import Originals
from image_search.records import DeletedImage, EmbeddingModel, NewImage, SearchFilter
from image_search.stores.base import Embeddings
from image_search.stores.documents import (
    LIVE,
    Document,
    dump_deleted,
    exact_key,
    join_deleted,
    load_deleted,
    make_deleted_path_key,
    make_film_key,
    make_frame_key,
    make_path_key,
    make_trashed_path_key,
)
from image_search.stores.milvus.schema import (
    ENTRIES,
    FILTER_FIELDS,
    IMAGES,
    MAX_MARKS,
    LibraryState,
    Row,
    Stored,
    copy_filter_fields,
    fit_text,
    list_conditions,
    list_files,
    list_text_files,
    make_row,
    make_words,
    match_any,
    match_ids,
    match_marks,
    match_phrase,
    name_embeddings,
    name_preview,
    read_row,
    read_state,
    read_text,
    tokenize_query,
    write_state,
)
from image_search.stores.reads import frame_is_known, image_not_found, model_not_found
from image_search.stores.tokens import BEGUN, TOKEN_RULE, TOKEN_SETTING, has_old_tokens

_log = logging.getLogger(__name__)

_PAGE = 10_000  # rows of numbers; a server gives 16,384 at most
_DOCUMENTS = 200
_LOOKED_UP = 1000
_MAX_SETTINGS = 16_000  # rows of one question; a server gives 16,384
_SETTING, _DELETED = "setting", "deleted"  # kinds of entries


class Snapshot:
    """Queries of one moment. Excludes uncommitted additions and pending deletions."""

    def __init__(self, client: Any, state: LibraryState, originals: Originals) -> None:
        self.client = client
        self.state = state
        self._originals = originals

    def find_model(self, model_id: int) -> EmbeddingModel:
        """One model. Raises StoreError when there is no such model."""
        for model in self.state.models:
            if model.model_id == model_id:
                return model
        raise model_not_found(model_id)

    def write_condition(self, conditions: Sequence[str] = ()) -> str:
        """An expression: what counts, live or in the trash, and all of these."""
        counting = [f"image_id <= {self.state.last_image_id}"]
        if self.state.removed:
            counting.append(match_ids(self.state.removed, "not in"))
        return " and ".join([*counting, *conditions])

    def write_live(self, conditions: Sequence[str] = ()) -> str:
        """An expression: live images, and all of these."""
        moving = [match_ids(self.state.hidden, "not in")] if self.state.hidden else []
        return self.write_condition([match_marks([LIVE]), *moving, *conditions])

    def write_filter(self, filter: SearchFilter, words: Sequence[str] = ()) -> str:
        """An expression: live images, and this filter, and all of these words."""
        phrases = [tokenize_query(word) for word in (*filter.words, *words) if word.strip()]
        uncut = self._list_uncut_words() if phrases and self.state.has_cut_words else {}
        occurring = [
            match_phrase(phrase, [image_id for image_id, text in uncut.items() if phrase and phrase in text])
            for phrase in phrases
        ]
        return self.write_live([*list_conditions(filter), *occurring])

    # --- rows -------------------------------------------------------------------------------------------------------

    def count(self, collection: str, condition: str) -> int:
        """How many rows there are."""
        return int(self.client.query(collection, filter=condition, output_fields=["count(*)"])[0]["count(*)"])

    def iterate(self, collection: str, condition: str, fields: Sequence[str], page: int = _PAGE) -> Iterator[Row]:
        """All rows, in no order. Paged: a server returns at most 16,384 rows."""
        last = self.state.last_image_id
        pages = [condition]
        if self.count(collection, condition) > page:
            pages = [
                f"image_id > {start} and image_id <= {start + page} and {condition}" for start in range(0, last, page)
            ]
        for one in pages:
            yield from self.client.query(collection, filter=one, output_fields=["image_id", *fields])

    def get_rows(self, collection: str, image_ids: Sequence[int], fields: Sequence[str]) -> dict[int, Row]:
        """Rows of those of these images that are there, by image_id."""
        known = [image_id for image_id in dict.fromkeys(image_ids) if 0 < image_id <= self.state.last_image_id]
        found: dict[int, Row] = {}
        for start in range(0, len(known), _LOOKED_UP):
            condition = self.write_condition([match_ids(known[start : start + _LOOKED_UP])])
            rows = self.client.query(collection, filter=condition, output_fields=["image_id", *fields])
            found.update((int(row["image_id"]), row) for row in rows)
        return found

    def look_up(self, field: str, keys: Sequence[str], besides: Sequence[str] = ()) -> dict[int, Document]:
        """Images, live or in the trash, whose field has one of these keys; "marks" for one of these marks.

        besides: more conditions.
        """
        rows: list[Row] = []
        for start in range(0, len(keys), _LOOKED_UP):
            chunk = keys[start : start + _LOOKED_UP]
            chosen = match_marks(chunk) if field == "marks" else match_any(field, chunk)
            condition = self.write_condition([chosen, *besides])
            rows += self.iterate(IMAGES, condition, ["document"], _DOCUMENTS)
        return {int(row["image_id"]): read_row(row, self._originals).document for row in rows}

    def find_hashes(self, hashes: Sequence[str]) -> dict[str, Document]:
        """Those of these SHA-256 hashes that are registered, live or in the trash."""
        found = self.look_up("content_sha256", [sha256 for sha256 in hashes if sha256.isalnum()])
        return {document.sha256: document for document in found.values()}

    def find_owners(self, wanted: Sequence[tuple[str, str | None]]) -> dict[int, Document]:
        """Images at any of these paths, live or in the trash, except frames of the film beside it."""
        owners: dict[int, Document] = {}
        for film in dict.fromkeys(film for _, film in wanted):
            paths = [path for path, of in wanted if of == film]
            marks = [make_key(path) for make_key in (make_path_key, make_trashed_path_key) for path in paths]
            besides = [] if film is None else [f"not {match_marks([make_film_key(film)])}"]
            owners |= self.look_up("marks", marks, besides)
        return owners

    def check_frames(self, images: Sequence[NewImage], known: Mapping[str, int]) -> None:
        """Raise StoreError for a frame of whose film and time another image is. known: image_ids by hash."""
        frames = {make_frame_key(image.frame): known.get(image.content_sha256) for image in images if image.frame}
        for image_id, document in self.look_up("marks", list(frames)).items():
            frame = document.record.frame
            if frame is not None and frames.get(make_frame_key(frame), image_id) != image_id:
                raise frame_is_known(image_id)

    # --- images -----------------------------------------------------------------------------------------------------

    def get_stored(self, image_ids: Sequence[int]) -> dict[int, Stored]:
        """Those of these images that are there, live or in the trash, by image_id."""
        rows = self.get_rows(IMAGES, image_ids, ["document"])
        return {image_id: read_row(row, self._originals) for image_id, row in rows.items()}

    def get_live(self, image_id: int, or_trashed: bool = False) -> Stored:
        """One live image. Raises ImageNotFound, without or_trashed also for one in the trash."""
        stored = self.get_stored([image_id]).get(image_id)
        if stored is None or not (stored.document.is_live or or_trashed):
            raise image_not_found(image_id)
        return stored

    def read_embeddings(self, model_id: int, image_ids: Sequence[int]) -> dict[int, Embeddings]:
        """The stored embeddings of those of these images that have one of this model."""
        rows = self.get_rows(name_embeddings(model_id), image_ids, ["embedding"])
        return {image_id: np.array(row["embedding"], np.float32) for image_id, row in rows.items()}

    def read_recipes(self, model_id: int, image_ids: Sequence[int]) -> dict[int, int]:
        """The recipes of the embeddings that these images have of this model."""
        if all(model.model_id != model_id for model in self.state.models):
            return {}
        rows = self.get_rows(name_embeddings(model_id), image_ids, ["recipe"])
        return {image_id: int(row["recipe"]) for image_id, row in rows.items()}

    def list_lacking(self, model_id: int, image_ids: list[int], min_recipe: int = 0) -> set[int]:
        """Those of these images that have no embedding of a model, of at least this recipe."""
        recipes = self.read_recipes(model_id, image_ids)
        return {image_id for image_id in image_ids if image_id not in recipes or recipes[image_id] < min_recipe}

    # --- entries: remembered images and settings --------------------------------------------------------------------

    def find_remembered(self, hashes: Sequence[str]) -> dict[str, DeletedImage]:
        """Records of deleted images with these hashes, with paths as they are stored."""
        found: dict[str, DeletedImage] = {}
        for chunk in cut_in_chunks([sha256 for sha256 in hashes if sha256.isalnum()]):
            names = [f"{_DELETED}:{sha256}" for sha256 in chunk]
            found |= {one.content_sha256: one for one in self.read_deleted(match_any("name", names))}
        return found

    def read_deleted(self, condition: str) -> list[DeletedImage]:
        """The same of the entries that meet a condition."""
        rows = self.client.query(ENTRIES, filter=condition, output_fields=["name", "content"])
        texts = {row["name"].partition(":")[2]: read_text(row["content"], self._originals) for row in rows}
        return [load_deleted(sha256, text) for sha256, text in texts.items()]

    def list_deleted_hashes(self) -> list[str]:
        """The hashes of all remembered images."""
        hashes: list[str] = []
        for digit in "0123456789abcdef":  # in parts that a server gives at once
            condition = f'{match_any("kind", [_DELETED])} and name like "{_DELETED}:{digit}%"'
            rows = self.client.query(ENTRIES, filter=condition, output_fields=["name"])
            hashes += [row["name"].partition(":")[2] for row in rows]
        return hashes

    def list_settings(self) -> dict[str, str]:
        """All settings."""
        rows = self.client.query(
            ENTRIES, filter=match_any("kind", [_SETTING]), output_fields=["name", "content"], limit=_MAX_SETTINGS
        )
        return dict(json.loads(read_text(row["content"], self._originals)) for row in rows)

    def _list_uncut_words(self) -> Mapping[int, str]:
        rows = self.iterate(IMAGES, self.write_condition(["words_cut == true"]), ["document"], _DOCUMENTS)
        records = (read_row(row, self._originals).record for row in rows)
        return {record.image_id: make_words(record) for record in records}


# Writes to a library in Milvus, step by step; the next writer finishes an interrupted one.


_ROWS = 500  # in one message to the server

EmbeddingRows = Mapping[int, tuple[Embeddings, int]]  # embedding and recipe by image_id


class Writer(Snapshot):
    """A view whose owner is the only writer, and who left nothing unfinished of those before."""

    def __init__(self, client: Any, originals: Originals, ensure_locked: Callable[[], None]) -> None:
        """ensure_locked: raises StoreError when another program writes by now."""
        ensure_locked()
        super().__init__(client, read_state(client), originals)
        self.originals = originals
        self._ensure_locked = ensure_locked
        self._sweep_unseen()
        self._finish_removal()
        self._finish_change()
        for model_id in self.state.dropped:
            client.drop_collection(name_embeddings(model_id))
        if self.state.is_unfinished:
            self.save(replace(self.state, removed=(), changed=(), hidden=(), dropped=()))

    def save(self, state: LibraryState) -> None:
        """Make this the state of the library: what was prepared counts from now on."""
        self._ensure_locked()
        write_state(self.client, state)
        self.state = state

    # --- adding -----------------------------------------------------------------------------------------------------

    def add_images(
        self, model_id: int, images: Sequence[Stored], contents: Mapping[str, bytes], embeddings: EmbeddingRows
    ) -> None:
        """Add new images with one embedding each. contents: their originals and previews. All are seen at once."""
        rows, files = [], dict(contents)
        for image in images:
            row, documents = make_row(image)
            rows.append(row)
            files |= documents
        self._write_rows(IMAGES, rows)
        self.originals.write(files)
        copies = [_make_embedding_row(row, *embeddings[row["image_id"]]) for row in rows]
        self._write_rows(name_embeddings(model_id), copies)
        if rows:
            has_cut_words = self.state.has_cut_words or any(row["words_cut"] for row in rows)
            self.save(replace(self.state, last_image_id=rows[-1]["image_id"], has_cut_words=has_cut_words))

    def put_embeddings(self, model_id: int, embeddings: EmbeddingRows) -> None:
        """Add or replace the embeddings of those of these images that are live."""
        condition = self.write_live([match_ids(embeddings)]) if embeddings else ""
        rows = self.iterate(IMAGES, condition, FILTER_FIELDS) if embeddings else ()
        copies = [_make_embedding_row(row, *embeddings[int(row["image_id"])]) for row in rows]
        self._write_rows(name_embeddings(model_id), copies)

    # --- changing ---------------------------------------------------------------------------------------------------

    def change_images(
        self, images: Sequence[Stored], contents: Mapping[str, bytes] | None = None, is_hidden: bool = False
    ) -> None:
        """Rewrite images, and their fields beside the embeddings. contents: files they refer to.

        is_hidden: no search finds them until all is done.
        """
        if not images:
            return
        ids = [image.record.image_id for image in images]
        before = self.get_rows(IMAGES, ids, ["content_sha256", "document"])
        rows, files = [], dict(contents or {})
        for image in images:
            row, documents = make_row(image)
            rows.append(row)
            files |= documents
        if files:
            self.originals.write(files)
        has_cut_words = self.state.has_cut_words or any(row["words_cut"] for row in rows)
        hidden = tuple(ids) if is_hidden else ()
        old_files = {name for row in before.values() for name in list_files(row, self.originals)}
        self.save(replace(self.state, changed=tuple(ids), hidden=hidden, has_cut_words=has_cut_words))
        self._write_rows(IMAGES, rows)
        self._finish_change()
        self.save(replace(self.state, changed=(), hidden=()))
        after = self.get_rows(IMAGES, ids, ["content_sha256", "document"])
        self._delete_files(old_files, {name for row in after.values() for name in list_files(row, self.originals)})

    def change_documents(self, documents: Mapping[int, Document]) -> None:
        """Write those of these documents that are other than they are stored; images in the trash come back."""
        stored = self.get_stored(list(documents))
        changed = [
            one.change(documents[image_id]) for image_id, one in stored.items() if one.document != documents[image_id]
        ]
        back = any(one.document.is_live != stored[one.document.image_id].document.is_live for one in changed)
        # Those that lose a path before those that gain it.
        changed.sort(key=lambda one: len(one.document.places) > len(stored[one.document.image_id].document.places))
        self.change_images(changed, is_hidden=back)

    def renew_words(self, location: str) -> None:
        """Make the tokens of all live images again; an image in the trash has none."""
        if self.state.last_image_id:
            _log.warning("%s: indexing all words again, by rule %s.", location, TOKEN_RULE)
            self.set_setting(TOKEN_SETTING, BEGUN)  # from here on older programs write nothing
            for page in cut_in_pages(self.iterate(IMAGES, self.write_live(), []), _ROWS):
                self.change_images(list(self.get_stored(page).values()))
        self.set_setting(TOKEN_SETTING, str(TOKEN_RULE))

    def park(self, images: Sequence[Stored]) -> list[Stored]:
        """The same images with their embeddings in them."""
        parked: dict[int, dict[int, tuple[Embeddings, int]]] = {image.record.image_id: {} for image in images}
        for model in self.state.models:
            rows = self.get_rows(name_embeddings(model.model_id), list(parked), ["embedding", "recipe"])
            for image_id, row in rows.items():
                embedding = np.array(row["embedding"], np.float32)
                parked[image_id][model.model_id] = (embedding, int(row["recipe"]))
        return [replace(image, parked=parked[image.record.image_id]) for image in images]

    def remove_images(self, image_ids: Sequence[int]) -> int:
        """Remove those of these images that are there, and say how many."""
        there = list(self.get_rows(IMAGES, image_ids, []))
        if there:
            self.save(replace(self.state, removed=tuple(there)))
            self._finish_removal()
            self.save(replace(self.state, removed=()))
        return len(there)

    # --- entries ----------------------------------------------------------------------------------------------------

    def remember(self, deleted: Sequence[DeletedImage]) -> None:
        """Remember deleted images, with what was remembered of them before."""
        joined = self.find_remembered([one.content_sha256 for one in deleted])
        for one in deleted:
            joined[one.content_sha256] = join_deleted(joined.get(one.content_sha256), one)
        entries = [
            (f"{_DELETED}:{sha256}", dump_deleted(one), list(map(make_deleted_path_key, one.paths)))
            for sha256, one in joined.items()
        ]
        self._put_entries(_DELETED, entries)

    def forget(self, hashes: Sequence[str]) -> int:
        """Forget remembered images. Returns how many there were."""
        remembered = list(self.find_remembered(hashes))
        for chunk in cut_in_chunks(remembered):
            self._drop_entries([f"{_DELETED}:{sha256}" for sha256 in chunk])
        return len(remembered)

    def set_setting(self, name: str, value: str | None) -> None:
        """Keep a setting; None removes it."""
        if value is None:
            self._drop_entries([_name_setting(name)])
        else:
            self._put_entries(_SETTING, [(_name_setting(name), json.dumps([name, value]), [])])

    def _put_entries(self, kind: str, entries: Sequence[tuple[str, str, list[str]]]) -> None:
        rows = []
        for name, text, marks in entries:
            content, files = fit_text(text)
            if files:
                self.originals.write(files)
            row = {"name": name, "kind": kind, "marks": marks[:MAX_MARKS], "content": content, "nothing": [0.0, 0.0]}
            rows.append(row)
        self._write_rows(ENTRIES, rows)

    def _drop_entries(self, names: Sequence[str]) -> None:
        rows = self.client.get(ENTRIES, ids=list(names), output_fields=["content"])
        self.client.delete(ENTRIES, ids=list(names))
        self.originals.delete(file for row in rows for file in list_text_files(row["content"]))

    def _sweep_unseen(self) -> None:
        # The rest of an unfinished batch. Its images were written first and are removed last.
        unseen = f"image_id > {self.state.last_image_id}"
        rows = self.client.query(IMAGES, filter=unseen, output_fields=["image_id", "content_sha256", "document"])
        known = self.find_hashes([row["content_sha256"] for row in rows]) if rows else {}
        self._remove_rows(rows, {name for document in known.values() for name in self._list_files(document.image_id)})

    def _list_files(self, image_id: int) -> list[str]:
        rows = self.get_rows(IMAGES, [image_id], ["content_sha256", "document"])
        return [name for row in rows.values() for name in list_files(row, self.originals)]

    def _finish_removal(self) -> None:
        for start in range(0, len(self.state.removed), _ROWS):
            condition = match_ids(self.state.removed[start : start + _ROWS])
            self._remove_rows(list(self.iterate(IMAGES, condition, ["content_sha256", "document"])), set())

    def _finish_change(self) -> None:
        """Bring the embeddings of the changed images in line with their rows; done as often as it takes."""
        if not self.state.changed:
            return
        rows = self.get_rows(IMAGES, self.state.changed, [*FILTER_FIELDS, "document"])
        images = {image_id: read_row(row, self.originals) for image_id, row in rows.items()}
        trashed = [image_id for image_id, image in images.items() if not image.document.is_live]
        renewed = [image_id for image_id, image in images.items() if image.document.is_live and image.parked]
        kept = list(rows.keys() - {*trashed, *renewed})
        for model in self.state.models:
            name = name_embeddings(model.model_id)
            if gone := [n for n in (*trashed, *renewed) if n in trashed or model.model_id not in images[n].parked]:
                self.client.delete(name, ids=gone)
            new = {n: images[n].parked[model.model_id] for n in renewed if model.model_id in images[n].parked}
            for image_id, row in self.get_rows(name, kept, ["embedding", "recipe"]).items():
                new[image_id] = (np.array(row["embedding"], np.float32), int(row["recipe"]))
            self._write_rows(name, [_make_embedding_row(rows[n], *embedding) for n, embedding in new.items()])
        # An image drops its parked embeddings only after they are written where searches find them.
        self._write_rows(IMAGES, [make_row(replace(images[image_id], parked={}))[0] for image_id in renewed])

    def _remove_rows(self, rows: Sequence[Row], spared: set[str]) -> None:
        """Remove images with all their rows, the row that lists them last. spared: files that other images have."""
        if not rows:
            return
        image_ids = [int(row["image_id"]) for row in rows]
        for model in self.state.models:
            self.client.delete(name_embeddings(model.model_id), ids=image_ids)
        names: set[str] = set()
        for row in rows:
            with suppress(StoreError):  # its document may not have been written yet
                names.update(list_files(row, self.originals))
            names.update((row["content_sha256"], name_preview(row["content_sha256"])))
        self._delete_files(names, spared)
        self.client.delete(IMAGES, ids=image_ids)

    def _delete_files(self, names: set[str], spared: set[str]) -> None:
        self.originals.delete(names - spared)

    def _write_rows(self, collection: str, rows: Sequence[Row]) -> None:
        for start in range(0, len(rows), _ROWS):
            self.client.upsert(collection, list(rows[start : start + _ROWS]))


def _make_embedding_row(row: Row, embedding: Embeddings, recipe: int) -> Row:
    return copy_filter_fields(row) | {"embedding": np.asarray(embedding, np.float32), "recipe": recipe}


def _name_setting(name: str) -> str:
    return f"{_SETTING}:{exact_key('', name)}"  # a digest, for a name may have any character


def has_old_words(client: Any, location: str) -> bool:
    """Whether words are indexed by an older rule. Raises SchemaError for a newer one."""
    rows = client.get(ENTRIES, ids=[_name_setting(TOKEN_SETTING)], output_fields=["content"])
    return has_old_tokens(json.loads(rows[0]["content"])[1] if rows else None, location)


def cut_in_chunks(values: Sequence[Any]) -> Iterator[list[Any]]:
    """Values, as many at a time as go into one message to the server."""
    for start in range(0, len(values), _ROWS):
        yield list(values[start : start + _ROWS])


def cut_in_pages(rows: Iterator[dict[str, int]], size: int = 1000) -> Iterator[list[int]]:
    """image_ids of rows, some at a time."""
    page: list[int] = []
    for row in rows:
        page.append(int(row["image_id"]))
        if len(page) == size:
            yield page
            page = []
    if page:
        yield page
