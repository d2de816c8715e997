"""Milvus, a server (milvus://host:19530/database) or embedded as Milvus Lite (milvus:///data/library.db).

Records, texts and embeddings are in Milvus; originals and previews, and documents too long for a field, in the folder
or bucket of ORIGINALS_URL, for Milvus keeps no files.

Milvus has no transactions, so every change is prepared where no search sees it and then begins to count with one row,
the state (schema.py):

- Adding: images get ids above the last one that counts; first their rows are written, then their files, then the
  embeddings, and last the state names the new last id. A crash before leaves rows that no search sees.
- Removing: the state names the ids that are gone; then rows and files are swept away.
- Changing a text: the state names the image; its row is written, then the copies beside its embeddings.
- Trash: the state names the images as hidden; their rows are written, with the embeddings parked in them, and the
  embeddings leave the collection that is searched. Back the same way.

The next writer first finishes or sweeps away what a crash left. One writes at a time (client.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import numpy as np

from image_search.originals import Originals, open_separate_originals
from image_search.records import (
    Edits,
    EmbeddingModel,
    Hits,
    ImageRecord,
    ImageText,
    KnownFile,
    NewImage,
    Order,
    RecognizedText,
    SearchFilter,
    StoreStatus,
)
from image_search.settings import Settings
from image_search.stores.base import COUNTS_FRAMES, EVERYTHING, CountedField, Embeddings
from image_search.stores.document_store import (
    add_model,
    date_back,
    drop_model,
    list_wanted,
    merge_image,
    set_path,
    switch_model,
)
from image_search.stores.documents import (
    NEWEST,
    TRASHED,
    Document,
    Place,
    change_record,
    count_microseconds,
    drop_paths,
    make_film_key,
    make_folder_key,
    make_frame_key,
    make_path_key,
    make_recognizer_key,
    make_trashed_path_key,
    read_recognized,
    recognize,
    replace_content,
    sort_counts,
)
from image_search.stores.milvus.client import Confirm, Connections, describe_engine, is_written
from image_search.stores.milvus.rows import (
    Stored,
    check_image,
    find_nearest,
    list_marks,
    list_values,
    match_ids,
    match_marks,
    migrate,
    name_new_preview,
    name_preview,
)
from image_search.stores.milvus.schema import (
    IMAGES,
    make_embeddings_collection,
    name_embeddings,
    prepare_library,
    read_state,
)
from image_search.stores.milvus.session import Snapshot, Writer, cut_in_pages
from image_search.stores.milvus.trash import MilvusTrash, make_hits
from image_search.stores.reads import content_is_known, find_model, frame_is_known, image_not_found

_BATCH = 1000
_MIN_SCORE = -2.0  # below every inner product of unit vectors


class MilvusStore(MilvusTrash):
    """A library in one database of Milvus. Any number of threads may use it at once, and of programs on a server."""

    def __init__(self, url: str, originals: Originals) -> None:
        super().__init__()
        self.originals = originals
        self._is_lite = False
        self._database = Connections(url, self._prepare)

    @classmethod
    def open(cls, settings: Settings) -> MilvusStore:
        """The store of DATABASE_URL and ORIGINALS_URL. Connects to nothing yet."""
        originals = open_separate_originals(settings.originals_url, "Milvus", settings.s3_endpoint_url)
        return cls(settings.database_url, originals)

    def _prepare(self, client: object, is_lite: bool, ensure_locked: Confirm) -> None:
        self._is_lite = is_lite
        prepare_library(client, is_lite, self._database.location, lambda client: migrate(client, self.originals))
        if self._has_old_words(client, self._database.location):
            self._renew_words(Writer(client, self.originals, ensure_locked), self._database.location)

    @contextmanager
    def _reading(self) -> Iterator[Snapshot]:
        while True:
            with self._database.reading() as client:
                state = read_state(client)
                if not state.changed or is_written(client):
                    yield Snapshot(client, state, self.originals)
                    return
            with self._writing():  # a text was half changed when its writer died; this finishes it
                pass

    @contextmanager
    def _writing(self) -> Iterator[Writer]:
        with self._database.writing() as (client, ensure_locked):
            self._has_old_words(client, self._database.location)  # refuses what a newer program has indexed
            try:
                yield Writer(client, self.originals, ensure_locked)
            except BaseException:
                with suppress(Exception):  # removes prepared rows; otherwise the next writer does
                    Writer(client, self.originals, ensure_locked)
                raise

    # --- models ---------------------------------------------------------------------------------------------------

    def _add_model(self, name: str, version: str, dimension: int) -> None:
        with self._writing() as writer:
            state = writer.state
            if find_model(state.models, name, version) is None:
                model_id = state.last_model_id + 1
                make_embeddings_collection(writer.client, model_id, dimension, self._is_lite)
                models = add_model(list(state.models), model_id, name, version, dimension)
                writer.save(replace(state, last_model_id=model_id, models=tuple(models)))

    def list_models(self) -> list[EmbeddingModel]:
        with self._reading() as view:
            return list(view.state.models)

    def set_current_model(self, model_id: int) -> None:
        with self._writing() as writer:
            models = switch_model(list(writer.state.models), model_id)
            writer.save(replace(writer.state, models=tuple(models)))

    def remove_model(self, model_id: int) -> None:
        # Embeddings that are parked stay with their images, where nothing reads them; ids of models are not used again.
        with self._writing() as writer:
            models = drop_model(list(writer.state.models), model_id)
            writer.save(replace(writer.state, models=tuple(models), dropped=(model_id,)))
            writer.client.drop_collection(name_embeddings(model_id))
            writer.save(replace(writer.state, dropped=()))
        self._dimensions.pop(model_id, None)

    # --- registration -----------------------------------------------------------------------------------------------

    def _find_known_files(self, paths: list[str]) -> dict[str, KnownFile]:
        with self._reading() as view:
            found = view.look_up("marks", list(map(make_path_key, paths)))
        files = {path: one.find_known_file(path) for one in found.values() for path in one.paths}
        return {path: file for path in paths if (file := files.get(path)) is not None}

    def _set_path(self, image_id: int, file_path: str, file_name: str, byte_size: int, modified_ns: int | None) -> None:
        with self._writing() as writer:
            stored = writer.get_live(image_id)
            documents = self._find_owners(writer, [(file_path, stored.document.film)]) | {image_id: stored.document}
            set_path(documents, image_id, file_name, Place(file_path, byte_size, modified_ns))
            self._change_documents(writer, documents)

    def _remove_paths(self, paths: list[str]) -> int:
        with self._writing() as writer:
            found = writer.look_up("marks", list(map(make_path_key, paths)))
            known = {path for document in found.values() for path in document.paths if path in paths}
            changed = {image_id: drop_paths(document, known) for image_id, document in found.items()}
            self._change_documents(writer, changed)
        return len(known)

    def _list_paths(self, folder: str, after: str, limit: int) -> list[tuple[str, int]]:
        found: dict[str, int] = {}
        with self._reading() as view:
            for document in view.look_up("marks", [make_folder_key(folder)]).values():
                below = (path for path in document.paths if path.startswith((f"{folder}/", f"{folder}\\")))
                found |= {path: document.image_id for path in below if path > after}
        return sorted(found.items())[:limit]

    @staticmethod
    def _find_owners(writer: Writer, wanted: Sequence[tuple[str, str | None]]) -> dict[int, Document]:
        """Images at any of these paths, live or in the trash, except frames of the film beside it."""
        owners: dict[int, Document] = {}
        for film in dict.fromkeys(film for _, film in wanted):
            paths = [path for path, of in wanted if of == film]
            marks = [make_key(path) for make_key in (make_path_key, make_trashed_path_key) for path in paths]
            besides = [] if film is None else [f"not {match_marks([make_film_key(film)])}"]
            owners |= writer.look_up("marks", marks, besides)
        return owners

    @staticmethod
    def _change_documents(writer: Writer, documents: Mapping[int, Document]) -> None:
        """Write those of these documents that are other than they are stored; images in the trash come back."""
        stored = writer.get_stored(list(documents))
        changed = [
            one.change(documents[image_id]) for image_id, one in stored.items() if one.document != documents[image_id]
        ]
        back = any(one.document.is_live != stored[one.document.image_id].document.is_live for one in changed)
        # Those that lose a path before those that gain it.
        changed.sort(key=lambda one: len(one.document.places) > len(stored[one.document.image_id].document.places))
        writer.change_images(changed, is_hidden=back)

    @staticmethod
    def _check_frames(writer: Writer, images: Sequence[NewImage], known: Mapping[str, int]) -> None:
        """Raise StoreError for a frame of whose film and time another image is. known: image_ids by hash."""
        frames = {make_frame_key(image.frame): known.get(image.content_sha256) for image in images if image.frame}
        for image_id, document in writer.look_up("marks", list(frames)).items():
            frame = document.record.frame
            if frame is not None and frames.get(make_frame_key(frame), image_id) != image_id:
                raise frame_is_known(image_id)

    def _add_images(self, model_id: int, images: list[NewImage], embeddings: Embeddings) -> list[int]:
        for image in images:
            check_image(image)
        first = {image.content_sha256: n for n, image in reversed(list(enumerate(images)))}  # the first of equal ones
        moment = datetime.now(UTC).replace(tzinfo=None)
        with self._writing() as writer:
            writer.find_model(model_id)
            found = writer.find_hashes(list(first))
            known = {sha256: document.image_id for sha256, document in found.items()}
            self._check_frames(writer, images, known)
            documents = self._find_owners(writer, list_wanted(images))
            documents |= {document.image_id: document for document in found.values()}
            ahead = writer.iterate(IMAGES, writer.write_live([f"upload_date > {count_microseconds(moment)}"]), [])
            for image_id, stored in writer.get_stored([int(row["image_id"]) for row in ahead]).items():
                documents.setdefault(image_id, stored.document)
            date_back(documents, moment)
            there = set(documents)
            for image in images:
                image_id = known.setdefault(
                    image.content_sha256, writer.state.last_image_id + 1 + len(known) - len(found)
                )
                merge_image(documents, image_id, image, moment)
            self._change_documents(writer, {image_id: documents[image_id] for image_id in there})
            lacking = self._list_lacking(writer, model_id, [document.image_id for document in found.values()])
            rows = {known[sha256]: (embeddings[n], images[n].recipe) for sha256, n in first.items()}
            writer.put_embeddings(model_id, {image_id: rows[image_id] for image_id in lacking})
            new = sorted(documents.keys() - there)
            added = [Stored(documents[image_id], name_preview(documents[image_id].sha256)) for image_id in new]
            contents = _list_contents([images[n] for sha256, n in first.items() if sha256 not in found])
            writer.add_images(model_id, added, contents, rows)
            self._forget(writer, list(first))
        return [known[image.content_sha256] for image in images]

    def _replace_image(self, image_id: int, model_id: int, image: NewImage, embedding: Embeddings) -> None:
        check_image(image)
        with self._writing() as writer:
            writer.find_model(model_id)
            stored = writer.get_live(image_id)
            owner = writer.find_hashes([image.content_sha256]).get(image.content_sha256)
            if owner is not None and owner.image_id != image_id:
                raise content_is_known(owner.image_id)
            preview = name_new_preview(image.content_sha256, image.preview)
            document = replace_content(stored.document, image)
            contents = {preview: image.preview} | ({} if image.data is None else {image.content_sha256: image.data})
            changed = Stored(document, preview, {model_id: (embedding, image.recipe)})
            writer.change_images([changed], contents)
            self._forget(writer, [image.content_sha256])

    def _add_embeddings(self, model_id: int, image_ids: list[int], embeddings: Embeddings, recipe: int) -> None:
        with self._writing() as writer:
            writer.find_model(model_id)
            rows = {image_id: (row, recipe) for image_id, row in zip(image_ids, embeddings, strict=True)}
            writer.put_embeddings(model_id, rows)

    def find_images_without_embedding(
        self, model_id: int, after_id: int = 0, limit: int = 1000, min_recipe: int = 0
    ) -> list[int]:
        lacking: list[int] = []
        with self._reading() as view:
            rows = view.iterate(IMAGES, view.write_live([f"image_id > {int(after_id)}"]), [])
            for page in cut_in_pages(rows):
                lacking += sorted(self._list_lacking(view, model_id, page, min_recipe))
                if len(lacking) >= limit:
                    break
        return lacking[:limit]

    @staticmethod
    def _list_lacking(view: Snapshot, model_id: int, image_ids: list[int], min_recipe: int = 0) -> set[int]:
        recipes = view.read_recipes(model_id, image_ids)
        return {image_id for image_id in image_ids if image_id not in recipes or recipes[image_id] < min_recipe}

    def find_images_of_old_recipe(self, recipe: int, after_id: int = 0, limit: int = 1000) -> list[int]:
        return self._list_after(after_id, f"recipe < {int(recipe)}", limit)

    def find_images_without_recognition(self, recognizer: str, after_id: int = 0, limit: int = 1000) -> list[int]:
        return self._list_after(after_id, f"not {match_marks([make_recognizer_key(recognizer)])}", limit)

    def _list_after(self, after_id: int, condition: str, limit: int) -> list[int]:
        with self._reading() as view:
            rows = view.iterate(IMAGES, view.write_live([f"image_id > {int(after_id)}", condition]), [])
            return sorted(int(row["image_id"]) for row in rows)[:limit]

    def set_preview(self, image_id: int, preview: bytes, dominant_color: str | None, recipe: int) -> None:
        with self._writing() as writer:
            stored = writer.get_live(image_id)
            document = change_record(stored.document, dominant_color=dominant_color, recipe=recipe)
            name = name_new_preview(document.sha256, preview)
            writer.change_images([Stored(document, name)], {name: preview})

    # --- texts ------------------------------------------------------------------------------------------------------

    def _change_record(self, image_id: int, change: Callable[[Document], Document], or_trashed: bool = False) -> bool:
        with self._reading() as view:  # queried first without blocking other writers
            before = view.get_live(image_id, or_trashed).document
        if change(before) == before:
            return False
        with self._writing() as writer:
            stored = writer.get_live(image_id, or_trashed)
            writer.change_images([stored.change(change(stored.document))])
        return True

    def _set_text(self, image_id: int, text: ImageText) -> bool:
        return self._change_record(image_id, partial(change_record, text=text))

    def _change_edits(self, edits: dict[int, Edits]) -> dict[int, bool]:
        with self._writing() as writer:
            found = writer.get_stored(list(edits))
            live = [one for one in found.values() if one.record.deleted_at is None]
            changed = [one for one in live if one.record.edits != edits[one.record.image_id]]
            writer.change_images(
                [one.change(change_record(one.document, edits=edits[one.record.image_id])) for one in changed]
            )
        return {one.record.image_id: one.record.edits != edits[one.record.image_id] for one in live}

    def _set_recognized(self, image_id: int, recognized: RecognizedText | None) -> None:
        self._change_record(image_id, partial(recognize, recognized=recognized), recognized is None)

    def get_recognized(self, image_id: int) -> RecognizedText | None:
        with self._reading() as view:
            stored = view.get_stored([image_id])
        if image_id not in stored:
            raise image_not_found(image_id)
        return read_recognized(stored[image_id].document)

    # --- search -----------------------------------------------------------------------------------------------------

    def _search_embedding(
        self, model_id: int, embedding: Embeddings, limit: int, offset: int, filter: SearchFilter
    ) -> Hits:
        with self._reading() as view:
            view.find_model(model_id)
            condition = view.write_filter(filter)

            def search(count: int, upto: float | None, without: list[int]) -> dict[int, float]:
                found = view.client.search(
                    name_embeddings(model_id),
                    data=[embedding.tolist()],
                    filter=f"{condition} and {match_ids(without, 'not in')}" if without else condition,
                    limit=count,
                    search_params={
                        "metric_type": "IP",
                        "params": {} if upto is None else {"radius": _MIN_SCORE, "range_filter": upto},
                    },
                )
                return {int(hit["image_id"]): float(hit["distance"]) for hit in found[0]}

            page = find_nearest(search, lambda ids: view.read_embeddings(model_id, ids), embedding, offset, limit)
            return make_hits(view, page, view.count(name_embeddings(model_id), condition))

    def _list_images(
        self, terms: list[str], limit: int, offset: int, filter: SearchFilter, order: Order, after: ImageRecord | None
    ) -> Hits:
        with self._reading() as view:
            condition = view.write_filter(filter, terms)
            if order == "name":
                page, total = view.list_by_name(condition, offset, limit, after)
            else:
                page, total = view.list_newest(condition, offset, limit, NEWEST[order], after)
            return make_hits(view, ((image_id, None) for image_id in page), total)

    def count_images(self, filter: SearchFilter = EVERYTHING) -> int:
        with self._reading() as view:
            return view.count(IMAGES, view.write_filter(filter))

    def count_values(self, field: CountedField, filter: SearchFilter = EVERYTHING) -> dict[str, int]:
        # Milvus cannot group. The marks of all images are counted here; one image of each mark gives its value.
        counts: Counter[str] = Counter()
        examples: dict[str, int] = {}
        counted: set[tuple[str, str]] = set()  # mark and film
        with self._reading() as view:
            for row in view.iterate(IMAGES, view.write_filter(filter), ["marks", *["rating"] * (field == "rating")]):
                film = "" if field in COUNTS_FRAMES else "".join(list_marks(row, "film"))
                for mark in list_marks(row, field):
                    if film:
                        counts[mark] += (mark, film) not in counted
                        counted.add((mark, film))
                    else:
                        counts[mark] += 1
                    examples.setdefault(mark, int(row["image_id"]))
            if field == "rating":
                return sort_counts(counts.items(), field)
            stored = view.get_stored(list(examples.values()))
        values = {mark: value for one in stored.values() for mark, value in list_values(one.document, field)}
        return sort_counts(((values[mark], count) for mark, count in counts.items() if mark in values), field)

    # --- images -----------------------------------------------------------------------------------------------------

    def _find_images(self, image_ids: list[int]) -> dict[int, ImageRecord]:
        with self._reading() as view:
            return {image_id: stored.record for image_id, stored in view.get_stored(image_ids).items()}

    def read_previews(self, image_ids: Sequence[int]) -> dict[int, bytes]:
        with self._reading() as view:
            stored = view.get_stored(image_ids)
            return {image_id: self.originals.read(one.preview) for image_id, one in stored.items()}

    def get_embeddings(self, image_ids: Sequence[int], model_id: int) -> dict[int, Embeddings]:
        with self._reading() as view:
            if all(model.model_id != model_id for model in view.state.models):
                return {}
            found = view.read_embeddings(model_id, image_ids)
            others = view.get_stored([image_id for image_id in image_ids if image_id not in found])
        parked = {image_id: one.parked[model_id][0] for image_id, one in others.items() if model_id in one.parked}
        return found | parked

    # --- the store as a whole -----------------------------------------------------------------------------------------

    def sample_embeddings(self, model_id: int, size: int) -> Embeddings:
        dimension = self._get_dimension(model_id)
        sample: list[Embeddings] = []
        with self._reading() as view:
            rows = view.iterate(IMAGES, view.write_live(), ["shuffle"])
            drawn = sorted((int(row["shuffle"]), int(row["image_id"])) for row in rows)
            for start in range(0, len(drawn), _BATCH):
                image_ids = [image_id for _, image_id in drawn[start : start + _BATCH]]
                there = view.read_recipes(model_id, image_ids)
                chosen = [image_id for image_id in image_ids if image_id in there][: size - len(sample)]
                embeddings = view.read_embeddings(model_id, chosen)
                sample += [embeddings[image_id] for image_id in chosen]
                if len(sample) >= size:
                    break
        return np.array(sample, np.float32).reshape(len(sample), dimension)

    def get_status(self) -> StoreStatus:
        with self._reading() as view:
            condition = view.write_live()
            models = view.state.models
            return StoreStatus(
                engine=describe_engine(view.client),
                location=self._database.location,
                image_count=view.count(IMAGES, condition),
                models=tuple((model, view.count(name_embeddings(model.model_id), condition)) for model in models),
                trash_count=view.count(IMAGES, view.write_condition([match_marks([TRASHED])])),
            )

    def close(self) -> None:
        self._database.close()


def _list_contents(images: Sequence[NewImage]) -> dict[str, bytes]:
    """The originals and previews that are kept, by name."""
    originals = {image.content_sha256: image.data for image in images if image.data is not None}
    return originals | {name_preview(image.content_sha256): image.preview for image in images}
