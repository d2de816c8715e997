"""Milvus, a server (milvus://host:19530/database) or embedded as Milvus Lite (milvus:///data/library.db).

Records, texts and embeddings are in Milvus; originals and previews, and documents too long for a field, in the folder
or bucket of ORIGINALS_URL, for Milvus keeps no files.

Milvus has no transactions, so every change is prepared where nobody sees it and then begins to count with one row, the
state (milvus_schema.py):

- Adding: images get ids above the last one that counts; first their rows are written, then their files, then the
  embeddings, and last the state names the new last id. A crash before leaves rows that no search sees.
- Deleting: the state names the ids that are gone; then rows and files are swept away.
- Changing a text: the state names the image; its row is written, then the copies beside its embeddings.

Who writes next first finishes or sweeps away what a crash left. One writes at a time (milvus_lock.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import numpy as np

from image_search.originals import Originals, open_separate_originals
from image_search.records import (
    EmbeddingModel,
    ImageRecord,
    ImageText,
    KnownFile,
    NewImage,
    SearchFilter,
    SearchHit,
    StoreStatus,
)
from image_search.settings import Settings
from image_search.stores.base import (
    EVERYTHING,
    CountedField,
    Embeddings,
    ImageStore,
    embedding_not_found,
    find_model,
    image_not_found,
    model_is_current,
)
from image_search.stores.milvus.client import LOCK, Connections, describe_engine
from image_search.stores.milvus.rows import (
    Stored,
    count_now,
    make_key,
    make_stored,
    mark_keyword,
    match_ids,
    name_preview,
)
from image_search.stores.milvus.schema import (
    IMAGES,
    make_embeddings_collection,
    name_embeddings,
    prepare_library,
    read_state,
)
from image_search.stores.milvus.session import Snapshot, Writer, find_nearest
from image_search.stores.text import sanitize

_REMOVE_BATCH = 1000
_MIN_SCORE = -2.0  # below every inner product of unit vectors


class MilvusStore(ImageStore):
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

    def _prepare(self, client: object, is_lite: bool) -> None:
        self._is_lite = is_lite
        prepare_library(client, is_lite, self._database.location)

    @contextmanager
    def _reading(self) -> Iterator[Snapshot]:
        while True:
            with self._database.reading() as client:
                state = read_state(client)
                if not state.changed or client.has_collection(LOCK):
                    yield Snapshot(client, state, self.originals)
                    return
            with self._writing():  # a text was half changed when its writer died; this finishes it
                pass

    @contextmanager
    def _writing(self) -> Iterator[Writer]:
        with self._database.writing() as (client, ensure_locked):
            try:
                yield Writer(client, self.originals, ensure_locked)
            except BaseException:
                with suppress(Exception):  # sweeps away what was prepared; otherwise the next writer does
                    Writer(client, self.originals, ensure_locked)
                raise

    # --- models ---------------------------------------------------------------------------------------------------

    def _add_model(self, name: str, version: str, dimension: int) -> None:
        with self._writing() as writer:
            state = writer.state
            if find_model(state.models, name, version) is None:
                is_current = not any(known.is_current for known in state.models)
                model = EmbeddingModel(state.last_model_id + 1, name, version, dimension, is_current)
                make_embeddings_collection(writer.client, model.model_id, dimension, self._is_lite)
                writer.save(replace(state, last_model_id=model.model_id, models=(*state.models, model)))

    def list_models(self) -> list[EmbeddingModel]:
        with self._reading() as view:
            return list(view.state.models)

    def set_current_model(self, model_id: int) -> None:
        with self._writing() as writer:
            writer.find_model(model_id)
            models = tuple(replace(known, is_current=known.model_id == model_id) for known in writer.state.models)
            writer.save(replace(writer.state, models=models))

    def remove_model(self, model_id: int) -> None:
        with self._writing() as writer:
            if writer.find_model(model_id).is_current:
                raise model_is_current(model_id)
            state = writer.state
            models = tuple(known for known in state.models if known.model_id != model_id)
            writer.save(replace(state, models=models, dropped=(model_id,)))
            writer.client.drop_collection(name_embeddings(model_id))
            writer.save(replace(writer.state, dropped=()))
        self._dimensions.pop(model_id, None)

    # --- registration -----------------------------------------------------------------------------------------------

    def _find_known_hashes(self, hashes: list[str]) -> dict[str, int]:
        with self._reading() as view:
            return view.find_hashes(hashes)

    def _find_known_files(self, paths: list[str]) -> dict[str, KnownFile]:
        with self._reading() as view:
            rows = list(view.look_up("file_path_key", [make_key(path) for path in paths], []))
            stored = view.get_stored(sorted(int(row["image_id"]) for row in rows))
        files = (stored[image_id] for image_id in sorted(stored))  # the latest picture of a path wins
        return {file.record.file_path: file.known_file for file in files if file.record.file_path is not None}

    def _set_file(self, image_id: int, file_path: str, file_name: str, modified_ns: int | None) -> None:
        with self._writing() as writer:
            record = self._get_stored(writer, image_id).record
            writer.replace_image(Stored(replace(record, file_path=file_path, file_name=file_name), modified_ns))

    def _add_images(self, model_id: int, images: list[NewImage], embeddings: Embeddings) -> list[int]:
        given = {image.content_sha256: n for n, image in reversed(list(enumerate(images)))}  # the first of equal ones
        moment = count_now()
        with self._writing() as writer:
            writer.find_model(model_id)
            known = writer.find_hashes(list(given))
            new = [n for sha256, n in sorted(given.items(), key=lambda item: item[1]) if sha256 not in known]
            first = writer.state.last_image_id + 1
            added = [make_stored(images[n], image_id, moment) for image_id, n in enumerate(new, first)]
            contents = {images[n].content_sha256: images[n].data for n in given.values()}
            contents |= {name_preview(images[n].content_sha256): images[n].preview for n in given.values()}
            lacking = self._list_lacking(writer, model_id, list(known.values()))
            writer.put_embeddings(
                model_id, {known[sha]: embeddings[given[sha]] for sha in known if known[sha] in lacking}
            )
            writer.add_rows(model_id, added, contents, [embeddings[n] for n in new])
            known |= {stored.record.content_sha256: stored.record.image_id for stored in added}
        return [known[image.content_sha256] for image in images]

    def _add_embeddings(self, model_id: int, image_ids: list[int], embeddings: Embeddings) -> None:
        with self._writing() as writer:
            writer.find_model(model_id)
            writer.put_embeddings(model_id, dict(zip(image_ids, embeddings, strict=True)))

    def find_images_without_embedding(self, model_id: int, after_id: int = 0, limit: int = 1000) -> list[int]:
        lacking: list[int] = []
        with self._reading() as view:
            for page in _cut_in_pages(view.iterate(IMAGES, view.write_condition([f"image_id > {after_id}"]), [])):
                lacking += sorted(self._list_lacking(view, model_id, page))
                if len(lacking) >= limit:
                    break
        return lacking[:limit]

    @staticmethod
    def _list_lacking(view: Snapshot, model_id: int, image_ids: list[int]) -> set[int]:
        if not any(model.model_id == model_id for model in view.state.models):
            return set(image_ids)
        return set(image_ids) - view.get_rows(name_embeddings(model_id), image_ids, []).keys()

    def _set_text(self, image_id: int, text: ImageText) -> bool:
        if self.get_image(image_id).text == text:  # asked first without keeping other writers waiting
            return False
        with self._writing() as writer:
            stored = self._get_stored(writer, image_id)
            writer.replace_image(Stored(replace(stored.record, text=text), stored.modified_ns))
        return True

    def _delete_images(self, image_ids: list[int]) -> int:
        count = 0
        for start in range(0, len(image_ids), _REMOVE_BATCH):
            with self._writing() as writer:
                count += writer.remove_images(image_ids[start : start + _REMOVE_BATCH])
        return count

    # --- search -----------------------------------------------------------------------------------------------------

    def _search_embedding(
        self, model_id: int, embedding: Embeddings, limit: int, offset: int, filter: SearchFilter
    ) -> list[SearchHit]:
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
            stored = view.get_stored([image_id for image_id, _ in page])
        return [SearchHit(stored[image_id].record, distance) for image_id, distance in page if image_id in stored]

    def _search_words(self, words: list[str], limit: int, offset: int, filter: SearchFilter) -> list[SearchHit]:
        return self._list_newest(limit, offset, filter, words)

    def _find_latest(self, limit: int, offset: int, filter: SearchFilter) -> list[SearchHit]:
        return self._list_newest(limit, offset, filter)

    def _list_newest(self, limit: int, offset: int, filter: SearchFilter, words: Sequence[str] = ()) -> list[SearchHit]:
        with self._reading() as view:
            page = view.list_newest(view.write_filter(filter, words), offset, limit)
            stored = view.get_stored(page)
        return [SearchHit(stored[image_id].record) for image_id in page if image_id in stored]

    def count_images(self, filter: SearchFilter = EVERYTHING) -> int:
        with self._reading() as view:
            return view.count(IMAGES, view.write_filter(filter))

    def count_values(self, field: CountedField, filter: SearchFilter = EVERYTHING) -> dict[str, int]:
        # Milvus cannot group. The keys of all images are counted here; what they stand for, one image of each tells.
        column = "marks" if field == "keyword" else field
        counts: Counter[str] = Counter()
        examples: dict[str, int] = {}
        with self._reading() as view:
            for row in view.iterate(IMAGES, view.write_filter(filter), [column]):
                keys = [key for key in row["marks"] if key[0] == "k"] if column == "marks" else [row[column]]
                for key in keys:
                    counts[key] += key != ""
                    examples.setdefault(key, int(row["image_id"]))
            stored = view.get_stored([examples[key] for key in counts])
        values: dict[str, str] = {}
        for image in stored.values():
            values |= _list_values(image.record, field)
        counted = ((values[key], count) for key, count in counts.items() if key in values)
        return dict(sorted(counted, key=lambda item: (-item[1], item[0])))

    # --- one image --------------------------------------------------------------------------------------------------

    def get_images(self, image_ids: Sequence[int]) -> list[ImageRecord]:
        with self._reading() as view:
            stored = view.get_stored(image_ids)
        for image_id in image_ids:
            if image_id not in stored:
                raise image_not_found(image_id)
        return [stored[image_id].record for image_id in image_ids]

    @staticmethod
    def _get_stored(view: Snapshot, image_id: int) -> Stored:
        stored = view.get_stored([image_id])
        if image_id not in stored:
            raise image_not_found(image_id)
        return stored[image_id]

    def read_original(self, image_id: int) -> bytes:
        with self._reading() as view:
            sha256 = view.get_hash(image_id)
        return self.originals.read(sha256)

    def read_preview(self, image_id: int) -> bytes:
        with self._reading() as view:
            sha256 = view.get_hash(image_id)
        return self.originals.read(name_preview(sha256))

    def get_embedding(self, image_id: int, model_id: int) -> Embeddings:
        with self._reading() as view:
            if any(model.model_id == model_id for model in view.state.models):
                for embedding in view.read_embeddings(model_id, [image_id]).values():
                    return embedding
        raise embedding_not_found(image_id, model_id)

    def find_by_file_name(self, file_name: str) -> list[int]:
        with self._reading() as view:
            rows = view.look_up("file_name_key", [make_key(sanitize(file_name))], [])
            return sorted(int(row["image_id"]) for row in rows)

    # --- the store as a whole -----------------------------------------------------------------------------------------

    def sample_embeddings(self, model_id: int, size: int) -> Embeddings:
        dimension = self._get_dimension(model_id)
        sample: dict[int, Embeddings] = {}
        with self._reading() as view:
            drawn = np.random.default_rng(0).permutation(view.state.last_image_id) + 1
            for start in range(0, len(drawn), _REMOVE_BATCH):
                ids = drawn[start : start + _REMOVE_BATCH].tolist()
                there = view.get_rows(name_embeddings(model_id), ids, [])
                chosen = [image_id for image_id in ids if image_id in there][: size - len(sample)]
                sample |= view.read_embeddings(model_id, chosen)
                if len(sample) >= size:
                    break
        return np.array([sample[image_id] for image_id in sorted(sample)], np.float32).reshape(len(sample), dimension)

    def get_status(self) -> StoreStatus:
        with self._reading() as view:
            condition = view.write_condition()
            models = view.state.models
            return StoreStatus(
                engine=describe_engine(view.client),
                location=self._database.location,
                image_count=view.count(IMAGES, condition),
                models=tuple((model, view.count(name_embeddings(model.model_id), condition)) for model in models),
                details={"originals": str(getattr(self.originals, "folder", self.originals))},
            )

    def close(self) -> None:
        self._database.close()


def _list_values(record: ImageRecord, field: CountedField) -> dict[str, str]:
    """The keys an image has for a field, and what they stand for."""
    if field == "keyword":
        return {mark_keyword(keyword): keyword for keyword in record.text.keywords}
    value = record.file_type if field == "file_type" else getattr(record.text, field)
    return {} if value is None else {make_key(value): value}


def _cut_in_pages(rows: Iterator[dict[str, int]], size: int = 1000) -> Iterator[list[int]]:
    page: list[int] = []
    for row in rows:
        page.append(int(row["image_id"]))
        if len(page) == size:
            yield page
            page = []
    if page:
        yield page
