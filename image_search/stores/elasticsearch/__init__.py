"""Elasticsearch 8.15 or newer. Everything but the originals is in its indexes; the originals are at ORIGINALS_URL.

Elasticsearch has no transactions, so the order of writes decides. An image with its texts, preview and embeddings is
one document, found whole or not at all; one in the trash is the same document without the fields that searches read.
Originals are written before their documents; a batch is one request, and its images are taken back when the cluster
refused a part. Only a crash in that request leaves a part of a batch: whole images, and the next run adds the rest. Of
images that are removed the hashes are noted first, then the documents go, then the originals; the next writer finishes
what a crash left. A lock lets one program at a time add, trash and remove images.

Searches are exact: the inner product with every embedding that qualifies.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np

from image_search.errors import StoreError
from image_search.originals import Originals, open_separate_originals
from image_search.records import (
    DeletedImage,
    EmbeddingModel,
    Frame,
    Hits,
    ImageRecord,
    KnownFile,
    NewImage,
    Order,
    SearchFilter,
    SearchHit,
    StoreStatus,
)
from image_search.settings import Settings
from image_search.stores.base import COUNTS_FRAMES, EVERYTHING, CountedField, Embeddings
from image_search.stores.document_store import (
    Changes,
    DocumentStore,
    EnsureLocked,
    choose_latest,
    dump_models,
    load_models,
)
from image_search.stores.documents import (
    LIVE,
    TRASHED,
    Document,
    count_microseconds,
    decode_deleted,
    list_numbers,
    load_document,
    load_record,
    make_deleted,
    make_deleted_path_key,
    make_film_key,
    make_folder_key,
    make_frame_key,
    make_path_key,
    make_recognizer_key,
    make_trashed_path_key,
    sort_counts,
)
from image_search.stores.elasticsearch.client import (
    Connection,
    Query,
    State,
    build_nearest,
    build_neighbours,
    build_query,
    match_keys,
    match_model,
    read_neighbour_score,
)
from image_search.stores.elasticsearch.writes import (
    change_images,
    check_results,
    choose_field,
    count_frames,
    count_up,
    find_remembered,
    forget,
    list_paths_between,
    migrate,
    put_model,
    read_documents,
    read_sources,
    remember,
    renew_words,
    search_remembered,
    unpack,
    unpack_embedding,
)
from image_search.stores.reads import model_not_found
from image_search.stores.text import make_sort_name

_ORDERS: dict[Order, list[dict[str, str]]] = {
    "registered": [{"upload_date": "desc"}, {"image_id": "desc"}],
    "taken": [{"taken_order": "desc"}, {"upload_date": "desc"}, {"image_id": "desc"}],
    "name": [{"sort_name": "asc"}, {"image_id": "asc"}],
}
_CHUNK = 500
_MAX_VALUES = 65_535  # of one count
_MAX_NEIGHBOURS = 10_000


class ElasticsearchStore(DocumentStore):
    """A library in one Elasticsearch cluster. Any number of threads and programs may use it at once."""

    def __init__(self, url: str, originals: Originals) -> None:
        super().__init__()
        self.originals = originals
        self._cluster = Connection(url, migrate, renew_words)
        self._fields: dict[int, str] = {}  # the vector field of each model
        self._refuses_scripts = False

    @classmethod
    def open(cls, settings: Settings) -> ElasticsearchStore:
        """The store of DATABASE_URL, elasticsearch://user:password@host:9200/index. Connects to nothing yet."""
        originals = open_separate_originals(settings.originals_url, "Elasticsearch", settings.s3_endpoint_url)
        return cls(settings.database_url, originals)

    # --- models ---------------------------------------------------------------------------------------------------

    def _add_model(self, name: str, version: str, dimension: int) -> None:
        while True:
            field = choose_field(self._cluster.read_state(), dimension)
            self._cluster.add_vector_field(field, dimension)  # first, so that no model is without its field
            if self._cluster.change_state(partial(put_model, field, name, version, dimension)):
                return

    def list_models(self) -> list[EmbeddingModel]:
        return load_models(self._cluster.read_state()["models"])

    def _change_models(self, change: Callable[[list[EmbeddingModel]], list[EmbeddingModel]]) -> None:
        def put(state: State) -> None:
            state["models"] = dump_models(change(load_models(state["models"])))

        self._cluster.change_state(put)

    def _iterate_embedded(self, model_id: int) -> Iterator[list[int]]:
        for query in (match_model(model_id), match_keys([TRASHED])):
            image_ids = [int(hit["_id"]) for hit in self._cluster.scan(query, [])]
            for start in range(0, len(image_ids), _CHUNK):
                yield image_ids[start : start + _CHUNK]

    def _find_field(self, model_id: int) -> str:
        """The vector field of a model."""
        if model_id not in self._fields:
            fields = self._cluster.read_state()["fields"]
            self._fields = {int(known_id): field for known_id, field in fields.items()}
        if model_id not in self._fields:
            raise model_not_found(model_id)
        return self._fields[model_id]

    # --- registration -----------------------------------------------------------------------------------------------

    def _find_known_files(self, paths: list[str]) -> dict[str, KnownFile]:
        wanted = set(paths)
        known: dict[str, KnownFile] = {}
        for document in self._find_documents("tags", list(map(make_path_key, paths))):
            for path in wanted.intersection(document.paths):
                if file := document.find_known_file(path):
                    known[path] = file
        return known

    def _list_paths(self, folder: str, after: str, limit: int) -> list[tuple[str, int]]:
        found = dict[str, int]()
        query = {"bool": {"filter": [match_keys([LIVE]), match_keys([make_folder_key(folder)])]}}
        for separator in ("/", "\\"):
            start, end = folder + separator, folder + chr(ord(separator) + 1)
            found |= list_paths_between(self._cluster, query, max(start, after), end, limit)
        return sorted(found.items())[:limit]

    def _add_images(self, model_id: int, images: list[NewImage], embeddings: Embeddings) -> list[int]:
        if any(not isinstance(image.preview, bytes) for image in images):
            raise StoreError("An image without a preview cannot be added. Nothing of this batch was kept.")
        return super()._add_images(model_id, images, embeddings)

    def find_images_without_embedding(
        self, model_id: int, after_id: int = 0, limit: int = 1000, min_recipe: int = 0
    ) -> list[int]:
        return self._list_after(after_id, limit, must_not=[match_model(model_id, min_recipe)])

    def find_images_of_old_recipe(self, recipe: int, after_id: int = 0, limit: int = 1000) -> list[int]:
        return self._list_after(after_id, limit, [{"range": {"recipe": {"lt": recipe}}}])

    def find_images_without_recognition(self, recognizer: str, after_id: int = 0, limit: int = 1000) -> list[int]:
        return self._list_after(after_id, limit, must_not=[match_keys([make_recognizer_key(recognizer)])])

    def _list_after(
        self, after_id: int, limit: int, conditions: Sequence[Query] = (), must_not: Sequence[Query] = ()
    ) -> list[int]:
        after = {"range": {"image_id": {"gt": after_id}}}
        query = {"bool": {"filter": [match_keys([LIVE]), after, *conditions], "must_not": list(must_not)}}
        hits, _ = self._cluster.search(query=query, sort=[{"image_id": "asc"}], size=limit, source=False)
        return [int(hit["_id"]) for hit in hits]

    # --- changes ----------------------------------------------------------------------------------------------------

    def _locking(self) -> AbstractContextManager[EnsureLocked]:
        return self._cluster.writing()

    def _read_documents(self, image_ids: Collection[int]) -> dict[int, Document]:
        return read_documents(self._cluster, image_ids)

    def _change_images(
        self,
        image_ids: Iterable[int],
        change: Callable[[Changes], None],
        ensure_locked: EnsureLocked | None = None,
        forgotten: Collection[str] = (),
        removed: Collection[str] = (),
    ) -> None:
        if removed:
            self._cluster.change_state(lambda state: state["removed_originals"].extend(removed))
        change_images(self._cluster, image_ids, change, ensure_locked)
        forget(self._cluster, list(find_remembered(self._cluster, list(forgotten))))

    def _find_frames(self, frames: Sequence[Frame]) -> dict[Frame, int]:
        found = self._find_documents("tags", list(map(make_frame_key, frames)))
        return {document.record.frame: document.image_id for document in found if document.record.frame}

    def _find_owners(self, places: Sequence[tuple[str, str | None]]) -> list[int]:
        owners: dict[int, None] = {}
        for film in dict.fromkeys(film for _, film in places):
            paths = [path for path, of in places if of == film]
            keys = [make_key(path) for make_key in (make_path_key, make_trashed_path_key) for path in paths]
            other: list[Query] = []
            if film is not None:
                other = [{"bool": {"filter": [], "must_not": [match_keys([make_film_key(film)])]}}]
            owners |= {document.image_id: None for document in self._find_documents("tags", keys, *other)}
        return list(owners)

    def _list_newer(self, moment: datetime) -> list[int]:
        return self._list_after(0, _CHUNK, [{"range": {"upload_date": {"gt": count_microseconds(moment)}}}])

    def _count_up_ids(self, number: int) -> int:
        return self._cluster.change_state(lambda state: count_up(state, "last_image_id", number))

    def _list_removed_originals(self) -> set[str]:
        return set(self._cluster.read_state()["removed_originals"])

    def _forget_removed_originals(self, hashes: Collection[str]) -> None:
        def drop(state: State) -> None:
            state["removed_originals"] = [sha256 for sha256 in state["removed_originals"] if sha256 not in hashes]

        self._cluster.change_state(drop)

    # --- look-ups ---------------------------------------------------------------------------------------------------

    def _find_documents(self, field: str, values: Sequence[str], *conditions: Query) -> Iterator[Document]:
        """Images with one of these values in a field, ascending by image_id within each 500 values."""
        for start in range(0, len(values), _CHUNK):
            chosen: list[Query] = [{"terms": {field: list(values[start : start + _CHUNK])}}, *conditions]
            for hit in self._cluster.scan({"bool": {"filter": chosen}}, ["record"]):
                yield load_document(hit["_source"]["record"])

    def _find_documents_of(self, hashes: Sequence[str]) -> dict[str, Document]:
        """Images by hash, live or in the trash."""
        return {document.sha256: document for document in self._find_documents("content_sha256", hashes)}

    def _find_all_hashes(self, hashes: list[str]) -> dict[str, int]:
        return {sha256: document.image_id for sha256, document in self._find_documents_of(hashes).items()}

    def _find_known_hashes(self, hashes: list[str]) -> dict[str, int]:
        found = self._find_documents_of(hashes)
        return {sha256: document.image_id for sha256, document in found.items() if document.is_live}

    def _find_deleted_hashes(self, hashes: list[str]) -> set[str]:
        found = self._find_documents_of(hashes)
        trashed = {sha256 for sha256, document in found.items() if document.record.trash_reason == "deleted"}
        # One that is there was registered again by a program that ended before it could forget it.
        return trashed | (find_remembered(self._cluster, hashes).keys() - found.keys())

    def _find_deleted_paths(self, paths: list[str]) -> dict[str, str]:
        keys = list(map(make_deleted_path_key, paths))
        deleted = [make_deleted(document) for document in self._find_documents("tags", keys)]
        for start in range(0, len(keys), _CHUNK):
            deleted += search_remembered(self._cluster, {"terms": {"paths": keys[start : start + _CHUNK]}})
        return choose_latest(deleted, paths, self._find_documents("tags", list(map(make_path_key, paths))))

    # --- trash ------------------------------------------------------------------------------------------------------

    def _list_trash(self, limit: int, offset: int) -> Hits:
        order = [{"deleted_at": "desc"}, {"image_id": "desc"}]
        return self._list_hits(match_keys([TRASHED]), order, limit, offset)

    def _empty_trash(self, image_ids: list[int] | None, before: datetime | None) -> int:
        with self._writing() as ensure_locked:
            if image_ids is None:
                found = self._cluster.scan(match_keys([TRASHED]), ["record"])
                documents = [load_document(hit["_source"]["record"]) for hit in found]
            else:
                documents = list(read_documents(self._cluster, image_ids).values())
            chosen = [document for document in documents if _is_due(document, before)]
            for start in range(0, len(chosen), _CHUNK):
                self._remove_images(chosen[start : start + _CHUNK], ensure_locked)
            self._delete_orphaned_originals()
        return len(chosen)

    def _remove_images(self, documents: list[Document], ensure_locked: Callable[[], None]) -> None:
        hashes = [document.sha256 for document in documents]
        ensure_locked()
        remember(
            self._cluster,
            [make_deleted(document) for document in documents if document.record.trash_reason == "deleted"],
        )
        self._cluster.change_state(lambda state: state["removed_originals"].extend(hashes))
        operations = [{"delete": {"_id": str(document.image_id)}} for document in documents]
        check_results(self._cluster, self._cluster.write(operations))

    # --- remembered -------------------------------------------------------------------------------------------------

    def list_deleted(self, after: str = "", limit: int = 1000) -> list[DeletedImage]:
        query = {"range": {"content_sha256": {"gt": after}}} if after else {"match_all": {}}
        return [decode_deleted(deleted) for deleted in search_remembered(self._cluster, query, limit)]

    def _add_deleted(self, deleted: list[DeletedImage]) -> None:
        with self._writing() as ensure_locked:
            found = self._find_documents_of([one.content_sha256 for one in deleted])
            held = {sha256 for sha256, document in found.items() if document.record.trash_reason != "deleted"}
            ensure_locked()
            remember(self._cluster, [one for one in deleted if one.content_sha256 not in held])

    def forget_deleted(self, hashes: Sequence[str] | None = None) -> int:
        forgotten = 0
        with self._writing() as ensure_locked:
            while True:
                if hashes is not None:
                    found = list(find_remembered(self._cluster, list(dict.fromkeys(hashes))))
                else:
                    found = [one.content_sha256 for one in search_remembered(self._cluster, {"match_all": {}}, _CHUNK)]
                ensure_locked()
                forget(self._cluster, found)
                forgotten += len(found)
                if hashes is not None or not found:
                    return forgotten

    # --- search -----------------------------------------------------------------------------------------------------

    def _search_embedding(
        self, model_id: int, embedding: Embeddings, limit: int, offset: int, filter: SearchFilter
    ) -> Hits:
        field, query = self._find_field(model_id), build_query(filter, model_id=model_id)
        if not self._refuses_scripts:
            try:
                hits, total = self._cluster.search(
                    query=build_nearest(query, field, embedding),
                    sort=[{"_score": "desc"}, {"image_id": "asc"}],
                    from_=offset,
                    size=limit,
                    source=["record"],
                )
                found = [(hit, 1 - hit["sort"][0]) for hit in hits]
                return Hits(tuple(_make_hit(hit, distance) for hit, distance in found), total)
            except StoreError as error:
                if "allow_expensive_queries" not in str(error):
                    raise
                self._refuses_scripts = True
        return self._list_neighbours(query, field, embedding, limit, offset)

    def _list_neighbours(self, query: Query, field: str, embedding: Embeddings, limit: int, offset: int) -> Hits:
        depth = offset + limit
        if depth > _MAX_NEIGHBOURS:
            raise StoreError(
                f"{self._cluster.location} refuses scripts (search.allow_expensive_queries) and gives the nearest "
                f"{_MAX_NEIGHBOURS:,} images only. Narrow the search by a filter."
            )
        count = min(depth + 16, _MAX_NEIGHBOURS)
        while True:
            hits, _ = self._cluster.search(
                query=build_neighbours(query, field, embedding, count),
                sort=[{"_score": "desc"}, {"image_id": "asc"}],
                size=count,
                source=False,
            )
            # The cluster chooses among equally near images, so a tie is requested whole.
            scores = [hit["sort"][0] for hit in hits]
            if len(hits) < count or count == _MAX_NEIGHBOURS or scores[-1] < scores[depth - 1]:
                break
            count = min(2 * count, _MAX_NEIGHBOURS)
        page = hits[offset:depth]
        sources = dict(read_sources(self._cluster, [int(hit["_id"]) for hit in page], ["record"]))
        found = [(sources.get(int(hit["_id"])), -read_neighbour_score(hit["sort"][0])) for hit in page]
        hits_found = tuple(_make_hit(source, distance) for source, distance in found if source is not None)
        return Hits(hits_found, self._count(query))

    def _list_images(
        self, terms: list[str], limit: int, offset: int, filter: SearchFilter, order: Order, after: ImageRecord | None
    ) -> Hits:
        query = build_query(filter, terms)
        if after is None:
            return self._list_hits(query, _ORDERS[order], limit, offset)
        values = {**list_numbers(after), "sort_name": make_sort_name(after.file_name)}
        keys = [values[field] for key in _ORDERS[order] for field in key]
        page = self._list_hits(query, _ORDERS[order], offset + limit, 0, keys)
        return Hits(page[offset:], page.total)

    def _list_hits(
        self, query: Query, order: list[dict[str, str]], limit: int, offset: int, after: Sequence[object] = ()
    ) -> Hits:
        """after: the keys of the image behind which the list begins."""
        behind = {"search_after": list(after)} if after else {"from_": offset}
        hits, total = self._cluster.search(query=query, sort=order, size=limit, source=["record"], **behind)
        return Hits(tuple(SearchHit(load_record(hit["_source"]["record"])) for hit in hits), total)

    def count_images(self, filter: SearchFilter = EVERYTHING) -> int:
        return self._count(build_query(filter))

    def _count(self, query: Query) -> int:
        with self._cluster.client() as client:
            return int(client.count(index=self._cluster.index, query=query)["count"])

    def count_values(self, field: CountedField, filter: SearchFilter = EVERYTHING) -> dict[str, int]:
        counted = {"values": {"terms": {"field": f"counted_{field}", "size": _MAX_VALUES}}}
        answer = self._cluster.ask(query=build_query(filter), size=0, aggregations=counted)
        counts = {bucket["key"]: int(bucket["doc_count"]) for bucket in answer["aggregations"]["values"]["buckets"]}
        if field not in COUNTS_FRAMES and filter.kind != "image":
            for value, frames in count_frames(self._cluster, field, replace(filter, kind="frame")):
                counts[value] = max(1, counts.get(value, 0) - frames + 1)  # another program may add some meanwhile
        return sort_counts(counts.items(), field)

    # --- images -----------------------------------------------------------------------------------------------------

    def _find_images(self, image_ids: list[int]) -> dict[int, ImageRecord]:
        return {image_id: found.record for image_id, found in read_documents(self._cluster, image_ids).items()}

    def read_previews(self, image_ids: Sequence[int]) -> dict[int, bytes]:
        sources = read_sources(self._cluster, image_ids, ["preview"])
        return {image_id: unpack(found["_source"]["preview"]) for image_id, found in sources}

    def get_embeddings(self, image_ids: Sequence[int], model_id: int) -> dict[int, Embeddings]:
        if all(model.model_id != model_id for model in self.list_models()):
            return {}
        name = str(model_id)
        embeddings: dict[int, Embeddings] = {}
        for image_id, found in read_sources(self._cluster, image_ids, [f"vectors.{name}"]):
            packed = (found["_source"].get("vectors") or {}).get(name)
            if packed is not None:
                embeddings[image_id] = unpack_embedding(packed)
        return embeddings

    # --- the store as a whole -----------------------------------------------------------------------------------------

    def sample_embeddings(self, model_id: int, size: int) -> Embeddings:
        dimension = self._get_dimension(model_id)
        hits, _ = self._cluster.search(
            query=build_query(EVERYTHING, model_id=model_id),
            sort=[{"shuffle": "asc"}, {"image_id": "asc"}],
            size=size,
            source=[f"vectors.{model_id}"],
        )
        rows = [unpack_embedding(hit["_source"]["vectors"][str(model_id)]) for hit in hits]
        return np.array(rows, np.float32).reshape(len(rows), dimension)

    def list_settings(self, prefix: str = "") -> dict[str, str]:
        return self._cluster.list_settings(prefix)

    def set_setting(self, name: str, value: str | None) -> None:
        self._cluster.set_setting(name, value)

    def get_status(self) -> StoreStatus:
        models = self.list_models()
        with self._cluster.client() as client:
            version = client.info()["version"]["number"]
        return StoreStatus(
            engine=f"Elasticsearch {version}",
            location=self._cluster.location,
            image_count=self.count_images(),
            models=tuple((model, self._count(build_query(EVERYTHING, model_id=model.model_id))) for model in models),
            trash_count=self._count(match_keys([TRASHED])),
        )

    def close(self) -> None:
        self._cluster.close()


def _make_hit(hit: Any, distance: float) -> SearchHit:
    return SearchHit(load_record(hit["_source"]["record"]), distance)


def _is_due(document: Document, before: datetime | None) -> bool:
    deleted_at = document.record.deleted_at
    if deleted_at is None:
        return False
    return before is None or count_microseconds(deleted_at) < count_microseconds(before)
