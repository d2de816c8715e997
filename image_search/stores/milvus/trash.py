"""The trash of a library in Milvus, what is remembered of deleted images, and settings."""

from __future__ import annotations

import json
import logging
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from image_search.originals import Originals
from image_search.records import DeletedImage, Hits, SearchHit, TrashReason
from image_search.stores.base import ImageStore
from image_search.stores.documents import (
    TRASHED,
    count_microseconds,
    decode_deleted,
    dump_deleted,
    exact_key,
    join_deleted,
    load_deleted,
    make_deleted,
    make_deleted_path_key,
    make_path_key,
    restore,
    trash,
)
from image_search.stores.milvus.rows import fit_text, list_text_files, match_any, match_marks, read_text
from image_search.stores.milvus.schema import ENTRIES, IMAGES, MAX_MARKS
from image_search.stores.milvus.session import Snapshot, Writer
from image_search.stores.text import BEGUN, TOKEN_RULE, TOKEN_SETTING, has_old_tokens

_log = logging.getLogger(__name__)

_BATCH = 500
_LISTED = 16_000  # rows of one question; a server gives 16,384

_SETTING, _DELETED = "setting", "deleted"


class MilvusTrash(ImageStore):
    """The part of MilvusStore that moves images to the trash, back, and out of the library."""

    originals: Originals

    @abstractmethod
    def _reading(self) -> AbstractContextManager[Snapshot]: ...

    @abstractmethod
    def _writing(self) -> AbstractContextManager[Writer]: ...

    # --- trash ------------------------------------------------------------------------------------------------------

    def _trash_images(self, image_ids: list[int], reason: TrashReason, deleted_at: datetime) -> int:
        count = 0
        for chunk in _cut(image_ids):
            with self._writing() as writer:
                live = [one for one in writer.get_stored(chunk).values() if one.document.is_live]
                parked = [one.change(trash(one.document, reason, deleted_at)) for one in writer.park(live)]
                writer.change_images(parked, is_hidden=True)
                count += len(live)
        return count

    def _restore_images(self, image_ids: list[int]) -> int:
        count = 0
        for chunk in _cut(image_ids):
            with self._writing() as writer:
                trashed = [one for one in writer.get_stored(chunk).values() if not one.document.is_live]
                writer.change_images([one.change(restore(one.document)) for one in trashed], is_hidden=True)
                self._forget(writer, [one.document.sha256 for one in trashed])
                count += len(trashed)
        return count

    def _list_trash(self, limit: int, offset: int) -> Hits:
        with self._reading() as view:
            condition = view.write_condition([match_marks([TRASHED])])
            page, total = view.list_newest(condition, offset, limit, ("deleted_at",))
            return make_hits(view, [(image_id, None) for image_id in page], total)

    def _empty_trash(self, image_ids: list[int] | None, before: datetime | None) -> int:
        conditions = [match_marks([TRASHED])]
        if before is not None:
            conditions.append(f"deleted_at < {count_microseconds(before)}")
        with self._writing() as writer:
            rows = writer.iterate(IMAGES, writer.write_condition(conditions), [])
            trashed = {int(row["image_id"]) for row in rows}
            chosen = sorted(trashed if image_ids is None else trashed.intersection(image_ids))
            for chunk in _cut(chosen):
                documents = [one.document for one in writer.get_stored(chunk).values()]
                deleted = [make_deleted(one) for one in documents if one.record.trash_reason == "deleted"]
                self._remember(writer, deleted)
                writer.remove_images(chunk)
        return len(chosen)

    # --- remembered -------------------------------------------------------------------------------------------------

    def _find_known_hashes(self, hashes: list[str]) -> dict[str, int]:
        with self._reading() as view:
            found = view.find_hashes(hashes)
        return {sha256: document.image_id for sha256, document in found.items() if document.is_live}

    def _find_deleted_hashes(self, hashes: list[str]) -> set[str]:
        with self._reading() as view:
            found = view.find_hashes(hashes)
            remembered = self._find_remembered(view, hashes)
        trashed = {sha256 for sha256, document in found.items() if document.record.trash_reason == "deleted"}
        # One that is there was registered again by a program that ended before it could forget it.
        return trashed | (remembered.keys() - found.keys())

    def _find_deleted_paths(self, paths: list[str]) -> dict[str, str]:
        marks = list(map(make_deleted_path_key, paths))
        with self._reading() as view:
            deleted = [make_deleted(document) for document in view.look_up("marks", marks).values()]
            for chunk in _cut(marks):
                deleted += self._read_deleted(view.client, match_marks(chunk))
            owners = view.look_up("marks", list(map(make_path_key, paths)))
        found: dict[str, str] = {}
        for one in sorted(deleted, key=lambda one: one.deleted_at):  # the latest counts
            found |= dict.fromkeys(one.paths, one.content_sha256)
        live = {path for document in owners.values() for path in document.paths}
        return {path: found[path] for path in paths if path in found and path not in live}

    def _find_remembered(self, view: Snapshot, hashes: Sequence[str]) -> dict[str, DeletedImage]:
        """Records of deleted images with these hashes, with paths as they are stored."""
        found: dict[str, DeletedImage] = {}
        for chunk in _cut([sha256 for sha256 in hashes if sha256.isalnum()]):
            condition = match_any("name", [f"{_DELETED}:{sha256}" for sha256 in chunk])
            found |= {one.content_sha256: one for one in self._read_deleted(view.client, condition)}
        return found

    def _read_deleted(self, client: Any, condition: str) -> list[DeletedImage]:
        rows = client.query(ENTRIES, filter=condition, output_fields=["name", "content"])
        return [load_deleted(row["name"].partition(":")[2], read_text(row["content"], self.originals)) for row in rows]

    def _remember(self, writer: Writer, deleted: Sequence[DeletedImage]) -> None:
        """Remember deleted images, with what was remembered of them before."""
        joined = self._find_remembered(writer, [one.content_sha256 for one in deleted])
        for one in deleted:
            joined[one.content_sha256] = join_deleted(joined.get(one.content_sha256), one)
        entries = [
            (f"{_DELETED}:{sha256}", dump_deleted(one), list(map(make_deleted_path_key, one.paths)))
            for sha256, one in joined.items()
        ]
        self._put_entries(writer.client, _DELETED, entries)

    def _forget(self, writer: Writer, hashes: Sequence[str]) -> int:
        remembered = list(self._find_remembered(writer, hashes))
        for chunk in _cut(remembered):
            self._drop_entries(writer.client, [f"{_DELETED}:{sha256}" for sha256 in chunk])
        return len(remembered)

    def list_deleted(self, after: str = "", limit: int = 1000) -> list[DeletedImage]:
        with self._reading() as view:
            hashes = [name.partition(":")[2] for name in self._list_entries(view.client, _DELETED)]
            page = sorted(sha256 for sha256 in hashes if sha256 > after)[:limit]
            remembered = self._find_remembered(view, page)
        return [decode_deleted(remembered[sha256]) for sha256 in page if sha256 in remembered]

    def _add_deleted(self, deleted: list[DeletedImage]) -> None:
        with self._writing() as writer:
            found = writer.find_hashes([one.content_sha256 for one in deleted])
            held = {sha256 for sha256, document in found.items() if document.record.trash_reason != "deleted"}
            self._remember(writer, [one for one in deleted if one.content_sha256 not in held])

    def forget_deleted(self, hashes: Sequence[str] | None = None) -> int:
        with self._writing() as writer:
            if hashes is None:
                hashes = [name.partition(":")[2] for name in self._list_entries(writer.client, _DELETED)]
            return self._forget(writer, list(dict.fromkeys(hashes)))

    # --- settings ---------------------------------------------------------------------------------------------------

    def list_settings(self, prefix: str = "") -> dict[str, str]:
        with self._reading() as view:
            rows = view.client.query(
                ENTRIES, filter=match_any("kind", [_SETTING]), output_fields=["name", "content"], limit=_LISTED
            )
            found = dict(json.loads(read_text(row["content"], self.originals)) for row in rows)
        return {name: found[name] for name in sorted(found) if name.startswith(prefix)}

    def set_setting(self, name: str, value: str | None) -> None:
        with self._writing() as writer:
            if value is None:
                self._drop_entries(writer.client, [_name_setting(name)])
            else:
                self._put_setting(writer.client, name, value)

    def _put_setting(self, client: Any, name: str, value: str) -> None:
        self._put_entries(client, _SETTING, [(_name_setting(name), json.dumps([name, value]), [])])

    def _has_old_words(self, client: Any, location: str) -> bool:
        """Whether words are indexed by an older rule. Raises SchemaError for a newer one."""
        rows = client.get(ENTRIES, ids=[_name_setting(TOKEN_SETTING)], output_fields=["content"])
        return has_old_tokens(json.loads(rows[0]["content"])[1] if rows else None, location)

    def _renew_words(self, writer: Writer, location: str) -> None:
        if writer.state.last_image_id:
            _log.warning("%s: indexing all words again, by rule %s.", location, TOKEN_RULE)
            self._put_setting(writer.client, TOKEN_SETTING, BEGUN)  # from here on older programs write nothing
            writer.renew_words()
        self._put_setting(writer.client, TOKEN_SETTING, str(TOKEN_RULE))

    # --- entries ----------------------------------------------------------------------------------------------------

    def _list_entries(self, client: Any, kind: str) -> list[str]:
        """The names of all entries of a kind, in parts that a server gives at once."""
        names: list[str] = []
        for digit in "0123456789abcdef":
            condition = f'{match_any("kind", [kind])} and name like "{kind}:{digit}%"'
            names += [row["name"] for row in client.query(ENTRIES, filter=condition, output_fields=["name"])]
        return names

    def _put_entries(self, client: Any, kind: str, entries: Sequence[tuple[str, str, list[str]]]) -> None:
        rows = []
        for name, text, marks in entries:
            content, files = fit_text(text)
            if files:
                self.originals.write(files)
            row = {"name": name, "kind": kind, "marks": marks[:MAX_MARKS], "content": content, "nothing": [0.0, 0.0]}
            rows.append(row)
        for chunk in _cut(rows):
            client.upsert(ENTRIES, chunk)

    def _drop_entries(self, client: Any, names: Sequence[str]) -> None:
        rows = client.get(ENTRIES, ids=list(names), output_fields=["content"])
        client.delete(ENTRIES, ids=list(names))
        self.originals.delete(file for row in rows for file in list_text_files(row["content"]))


def _name_setting(name: str) -> str:
    return f"{_SETTING}:{exact_key('', name)}"  # a digest, for a name may have any character


def make_hits(view: Snapshot, page: Iterable[tuple[int, float | None]], total: int) -> Hits:
    """Hits of image_ids and distances."""
    found = list(page)
    stored = view.get_stored([image_id for image_id, _ in found])
    hits = (SearchHit(stored[image_id].record, distance) for image_id, distance in found if image_id in stored)
    return Hits(tuple(hits), total)


def _cut(values: Sequence[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(values), _BATCH):
        yield list(values[start : start + _BATCH])
