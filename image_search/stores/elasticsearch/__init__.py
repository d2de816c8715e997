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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np

from image_search.errors import StoreError
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
    SearchHit,
    StoreStatus,
)
from image_search.settings import Settings
from image_search.stores.base import COUNTS_FRAMES, EVERYTHING, CountedField, Embeddings
from image_search.stores.documents import (
    Place,
    change_record,
    date_back,
    drop_model,
    drop_paths,
    dump_models,
    list_wanted,
    load_models,
    load_record,
    merge_image,
    read_recognized,
    recognize,
    replace_content,
    set_path,
    switch_model,
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
from image_search.stores.elasticsearch.trash import ElasticsearchTrash
from image_search.stores.elasticsearch.writes import (
    Changes,
    change_document,
    change_documents,
    change_images,
    choose_field,
    count_frames,
    count_up,
    migrate,
    put_model,
    read_documents,
    read_sources,
    renew_words,
    unpack,
    unpack_embedding,
)
from image_search.stores.reads import content_is_known, image_not_found, model_not_found
from image_search.stores.search_fields import (
    LIVE,
    TRASHED,
    count_microseconds,
    get_sort_name,
    list_numbers,
    make_folder_key,
    make_path_key,
    make_recognizer_key,
    sort_counts,
)

_ORDERS: dict[Order, list[dict[str, str]]] = {
    "registered": [{"upload_date": "desc"}, {"image_id": "desc"}],
    "taken": [{"taken_order": "desc"}, {"upload_date": "desc"}, {"image_id": "desc"}],
    "name": [{"sort_name": "asc"}, {"image_id": "asc"}],
}
_CHUNK = 500
_MAX_VALUES = 65_535  # of one count
_MAX_NEIGHBOURS = 10_000
_MAX_BUCKETS = 1000


class ElasticsearchStore(ElasticsearchTrash):
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

    def set_current_model(self, model_id: int) -> None:
        self._change_models(lambda models: switch_model(models, model_id))

    def remove_model(self, model_id: int) -> None:
        self._change_models(lambda models: drop_model(models, model_id))
        self._dimensions.pop(model_id, None)

        def drop(changes: Changes) -> None:
            for image_id, values in changes.found.items():
                if model_id in values.recipes:
                    changes.drop_embedding(image_id, model_id)

        # No search finds the embeddings any more; what a crash leaves of them only takes room.
        for query in (match_model(model_id), match_keys([TRASHED])):
            image_ids = [int(hit["_id"]) for hit in self._cluster.scan(query, [])]
            for start in range(0, len(image_ids), _CHUNK):
                change_images(self._cluster, image_ids[start : start + _CHUNK], drop)

    def _change_models(self, change: Callable[[list[EmbeddingModel]], list[EmbeddingModel]]) -> None:
        def put(state: State) -> None:
            state["models"] = dump_models(change(load_models(state["models"])))

        self._cluster.change_state(put)

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

    def _set_path(self, image_id: int, file_path: str, file_name: str, byte_size: int, modified_ns: int | None) -> None:
        place = Place(file_path, byte_size, modified_ns)

        def put(changes: Changes) -> None:
            if image_id not in changes.list_live():
                raise image_not_found(image_id)
            set_path(changes.documents, image_id, file_name, place)

        with self._writing() as ensure_locked:
            document = read_documents(self._cluster, [image_id]).get(image_id)
            owners = self._find_owners([(file_path, document.film if document else None)])
            change_images(self._cluster, [image_id, *owners], put, ensure_locked)

    def _remove_paths(self, paths: list[str]) -> int:
        known: set[str] = set()

        def drop(changes: Changes) -> None:
            for image_id in changes.list_live():
                document = changes.documents[image_id]
                known.update({*paths}.intersection(document.paths))
                changes.documents[image_id] = drop_paths(document, paths)

        with self._writing() as ensure_locked:
            owners = self._find_owners([(path, None) for path in paths])
            change_images(self._cluster, owners, drop, ensure_locked)
        return len(known)

    def _list_paths(self, folder: str, after: str, limit: int) -> list[tuple[str, int]]:
        found = dict[str, int]()
        query = {"bool": {"filter": [match_keys([LIVE]), match_keys([make_folder_key(folder)])]}}
        for separator in ("/", "\\"):
            start, end = folder + separator, folder + chr(ord(separator) + 1)
            found |= self._list_paths_between(query, max(start, after), end, limit)
        return sorted(found.items())[:limit]

    def _list_paths_between(self, query: Query, after: str, end: str, limit: int) -> dict[str, int]:
        """Paths behind one and before another, with one of their images."""
        found: dict[str, int] = {}
        sources = [{"path": {"terms": {"field": "paths"}}}]
        while len(found) < limit:
            pages = {
                "composite": {"size": min(limit, _MAX_BUCKETS), "sources": sources, "after": {"path": after}},
                "aggregations": {"first": {"min": {"field": "image_id"}}},
            }
            answer = self._cluster.ask(query=query, size=0, aggregations={"pages": pages})
            buckets = answer["aggregations"]["pages"]["buckets"]
            for bucket in buckets:
                if bucket["key"]["path"] >= end:
                    return found
                found[bucket["key"]["path"]] = int(bucket["first"]["value"])
            if not buckets:
                break
            after = buckets[-1]["key"]["path"]
        return found

    def _add_images(self, model_id: int, images: list[NewImage], embeddings: Embeddings) -> list[int]:
        if any(not isinstance(image.preview, bytes) for image in images):
            raise StoreError("An image without a preview cannot be added. Nothing of this batch was kept.")
        hashes = list(dict.fromkeys(image.content_sha256 for image in images))
        # The first of equal images counts.
        first = {image.content_sha256: number for number, image in reversed(list(enumerate(images)))}
        upload_date = datetime.now(UTC).replace(tzinfo=None)
        with self._writing(_list_contents(images)) as ensure_locked:
            documents = self._find_documents_of(hashes)
            known = {sha256: document.image_id for sha256, document in documents.items()}
            there = set(known.values())
            self._check_frames(images, known)
            owners = self._find_owners(list_wanted(images))
            ahead = self._list_after(0, _CHUNK, [{"range": {"upload_date": {"gt": count_microseconds(upload_date)}}}])
            known |= self._reserve_ids([sha256 for sha256 in hashes if sha256 not in known])

            def add(changes: Changes) -> None:
                date_back(changes.documents, upload_date)
                for image in images:
                    merge_image(changes.documents, known[image.content_sha256], image, upload_date)
                for sha256, number in first.items():
                    image_id, image = known[sha256], images[number]
                    if image_id not in there:
                        changes.previews[image_id] = image.preview
                    if image_id not in there or model_id not in changes.recipes.get(image_id, {}):
                        changes.put_embedding(image_id, model_id, embeddings[number], image.recipe)

            change_images(self._cluster, [*known.values(), *owners, *ahead], add, ensure_locked)
            self._forget(list(self._find_remembered(hashes)))
        return [known[image.content_sha256] for image in images]

    def _reserve_ids(self, hashes: Sequence[str]) -> dict[str, int]:
        if not hashes:
            return {}
        last = self._cluster.change_state(lambda state: count_up(state, "last_image_id", len(hashes)))
        return dict(zip(hashes, range(last - len(hashes) + 1, last + 1), strict=True))

    def _replace_image(self, image_id: int, model_id: int, image: NewImage, embedding: Embeddings) -> None:
        old: set[str] = set()

        def put(changes: Changes) -> None:
            if image_id not in changes.list_live():
                raise image_not_found(image_id)
            before = changes.documents[image_id]
            old.add(before.sha256)
            changes.documents[image_id] = replace_content(before, image)
            changes.previews[image_id] = image.preview
            for other_id in list(changes.recipes[image_id]):
                changes.drop_embedding(image_id, other_id)
            changes.put_embedding(image_id, model_id, embedding, image.recipe)

        with self._writing(_list_contents([image])) as ensure_locked:
            before = read_documents(self._cluster, [image_id])
            if image_id not in before or not before[image_id].is_live:
                raise image_not_found(image_id)
            owner = self._find_documents_of([image.content_sha256]).get(image.content_sha256)
            if owner is not None and owner.image_id != image_id:
                raise content_is_known(owner.image_id)
            self._cluster.change_state(lambda state: state["removed_originals"].append(before[image_id].sha256))
            change_images(self._cluster, [image_id], put, ensure_locked)
            self._forget(list(self._find_remembered([image.content_sha256])))
            self._delete_orphaned_originals()

    def _add_embeddings(self, model_id: int, image_ids: list[int], embeddings: Embeddings, recipe: int) -> None:
        rows = dict(zip(image_ids, embeddings, strict=True))

        def put(changes: Changes) -> None:
            for image_id in changes.list_live():
                changes.put_embedding(image_id, model_id, rows[image_id], recipe)

        change_images(self._cluster, image_ids, put)

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

    def set_preview(self, image_id: int, preview: bytes, dominant_color: str | None, recipe: int) -> None:
        def put(changes: Changes) -> None:
            if image_id not in changes.list_live():
                raise image_not_found(image_id)
            before = changes.documents[image_id]
            changes.documents[image_id] = change_record(before, dominant_color=dominant_color, recipe=recipe)
            changes.previews[image_id] = preview

        change_images(self._cluster, [image_id], put)

    # --- texts ------------------------------------------------------------------------------------------------------

    def _set_text(self, image_id: int, text: ImageText) -> bool:
        return change_document(self._cluster, image_id, partial(change_record, text=text))

    def _change_edits(self, edits: dict[int, Edits]) -> dict[int, bool]:
        return change_documents(
            self._cluster, edits, lambda document: change_record(document, edits=edits[document.image_id])
        )

    def _set_recognized(self, image_id: int, recognized: RecognizedText | None) -> None:
        change_document(self._cluster, image_id, partial(recognize, recognized=recognized), recognized is None)

    def get_recognized(self, image_id: int) -> RecognizedText | None:
        found = read_documents(self._cluster, [image_id])
        if image_id not in found:
            raise image_not_found(image_id)
        return read_recognized(found[image_id])

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
        values = {**list_numbers(after), "sort_name": get_sort_name(after)}
        keys = [values[field] for key in _ORDERS[order] for field in key]
        page = self._list_hits(query, _ORDERS[order], offset + limit, 0, keys)
        return Hits(page[offset:], page.total)

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


def _list_contents(images: Sequence[NewImage]) -> Mapping[str, bytes]:
    """The originals that are kept, by hash."""
    return {image.content_sha256: image.data for image in images if image.data is not None}
