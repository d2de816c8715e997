"""Elasticsearch 8 or 9. Everything but the originals is in two indexes; the originals are at ORIGINALS_URL.

Elasticsearch has no transactions, so the order of writes decides. An image with its texts, preview and embeddings is
one document, found whole or not at all. Originals are written before their documents; a batch is one request,
and what the cluster accepted of it is taken back when it refused a part. Only a crash in that request leaves a part of
a batch: whole images, and the next run adds the rest. Of deleted images the hashes are noted first, then the documents
go, then the originals; the next writer finishes what a crash left. A lock lets one program at a time do either.

Searches are exact: the inner product with every embedding that qualifies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from image_search.errors import StoreError
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
    image_not_found,
)
from image_search.stores.documents import (
    add_model,
    drop_model,
    dump_models,
    exact_key,
    load_known_file,
    load_models,
    load_modified_ns,
    load_record,
    make_record,
    switch_model,
)
from image_search.stores.elasticsearch.client import (
    Connection,
    State,
    change_images,
    check_results,
    explain_refusal,
    read_images,
    writing,
)
from image_search.stores.elasticsearch.documents import (
    Query,
    add_embedding,
    build_nearest,
    build_query,
    drop_embedding,
    make_fields,
    make_vector_field,
    pack,
    unpack,
    unpack_embedding,
)

_NEWEST_FIRST = [{"upload_date": "desc"}, {"image_id": "desc"}]
_OLDEST_FIRST = [{"image_id": "asc"}]
_CHUNK = 500
_ALL = 1_000_000
_MAX_VALUES = 65_535  # of one count
_MAX_ID = 2**63 - 1


class ElasticsearchStore(ImageStore):
    """A library in one Elasticsearch cluster. Any number of threads and programs may use it at once."""

    def __init__(self, url: str, originals: Originals) -> None:
        super().__init__()
        self.originals = originals
        self._cluster = Connection(url)

    @classmethod
    def open(cls, settings: Settings) -> ElasticsearchStore:
        """The store of DATABASE_URL, elasticsearch://user:password@host:9200/index. Connects to nothing yet."""
        originals = open_separate_originals(settings.originals_url, "Elasticsearch", settings.s3_endpoint_url)
        return cls(settings.database_url, originals)

    # --- models ---------------------------------------------------------------------------------------------------

    def _add_model(self, name: str, version: str, dimension: int) -> None:
        model_id = self._cluster.change_state(lambda state: _count_up(state, "last_model_id", 1))
        self._cluster.add_vector_field(model_id, dimension)  # first, so that no model is without its field
        self._change_models(lambda models: add_model(models, model_id, name, version, dimension))

    def list_models(self) -> list[EmbeddingModel]:
        return load_models(self._cluster.read_state()["models"])

    def set_current_model(self, model_id: int) -> None:
        self._change_models(lambda models: switch_model(models, model_id))

    def remove_model(self, model_id: int) -> None:
        self._change_models(lambda models: drop_model(models, model_id))
        self._dimensions.pop(model_id, None)
        # Nobody finds the embeddings any more; what a crash leaves of them only takes room.
        query = build_query(EVERYTHING, model_id=model_id)
        while hits := self._cluster.search(query=query, size=_CHUNK, source=False):
            change_images(
                self._cluster, [hit["_id"] for hit in hits], lambda _, found: drop_embedding(found["models"], model_id)
            )

    def _change_models(self, change: Callable[[list[EmbeddingModel]], list[EmbeddingModel]]) -> None:
        def put(state: State) -> None:
            state["models"] = dump_models(change(load_models(state["models"])))

        self._cluster.change_state(put)

    # --- registration -----------------------------------------------------------------------------------------------

    def _find_known_hashes(self, hashes: list[str]) -> dict[str, int]:
        return {sha256: found["image_id"] for sha256, found in read_images(self._cluster, hashes, ["image_id"])}

    def _find_known_files(self, paths: list[str]) -> dict[str, KnownFile]:
        known: dict[str, KnownFile] = {}
        for start in range(0, len(paths), _CHUNK):
            tags = [exact_key("p", path) for path in paths[start : start + _CHUNK]]
            for document in self._list_records({"terms": {"tags": tags}}, _OLDEST_FIRST, _ALL):
                path, file = load_known_file(document)
                known[path] = file  # the latest picture of a path wins
        return known

    def _set_file(self, image_id: int, file_path: str, file_name: str, modified_ns: int | None) -> None:
        self._change_record(
            image_id, lambda record, _: (replace(record, file_path=file_path, file_name=file_name), modified_ns)
        )

    def _add_images(self, model_id: int, images: list[NewImage], embeddings: Embeddings) -> list[int]:
        # The first of equal pictures counts.
        first: dict[str, int] = {}
        for number, image in enumerate(images):
            first.setdefault(image.content_sha256, number)
        if any(not isinstance(image.preview, bytes) for image in images):
            raise StoreError("An image without a preview cannot be added. Nothing of this batch was kept.")
        with writing(self._cluster) as ensure_locked:
            self._delete_orphaned_originals()
            try:
                self.originals.write({image.content_sha256: image.data for image in images})
                known = self._find_known_hashes(list(first))
                new = [images[number] for sha256, number in first.items() if sha256 not in known]
                rows = {sha256: embeddings[number] for sha256, number in first.items()}
                ensure_locked()
                self._put_embeddings(model_id, {sha256: rows[sha256] for sha256 in known}, is_replacing=False)
                known |= self._insert(model_id, new, rows)
            except BaseException:
                with suppress(StoreError):
                    ensure_locked()  # else somebody may be adding the same pictures by now
                    self.originals.delete(first.keys() - self._find_known_hashes(list(first)).keys())
                raise
        return [known[image.content_sha256] for image in images]

    def _insert(self, model_id: int, images: list[NewImage], rows: Mapping[str, Embeddings]) -> dict[str, int]:
        if not images:
            return {}
        upload_date = datetime.now(UTC).replace(tzinfo=None)
        last = self._cluster.change_state(lambda state: _count_up(state, "last_image_id", len(images)))
        operations: list[dict[str, Any]] = []
        inserted = {}
        for image_id, image in enumerate(images, last - len(images) + 1):
            record = make_record(image_id, image, upload_date)
            inserted[image.content_sha256] = image_id
            document = {
                **make_fields(record, image.modified_ns),
                **add_embedding([], model_id, rows[image.content_sha256]),
                "preview": pack(image.preview),
            }
            operations += [{"create": {"_id": image.content_sha256}}, document]
        results = self._cluster.write(operations)
        refused = next((result for result in results if "error" in result), None)
        if refused is not None:
            accepted = [result["_id"] for result in results if "error" not in result]
            self._cluster.write([{"delete": {"_id": sha256}} for sha256 in accepted])
            raise explain_refusal(refused["status"], str(refused["error"].get("reason")), self._cluster.location)
        return inserted

    def _add_embeddings(self, model_id: int, image_ids: list[int], embeddings: Embeddings) -> None:
        hashes = self._find_hashes(image_ids)
        rows = {
            hashes[image_id]: row for image_id, row in zip(image_ids, embeddings, strict=True) if image_id in hashes
        }
        self._put_embeddings(model_id, rows, is_replacing=True)

    def _put_embeddings(self, model_id: int, rows: Mapping[str, Embeddings], is_replacing: bool) -> None:
        def put(sha256: str, found: dict[str, Any]) -> dict[str, Any] | None:
            if model_id in found["models"] and not is_replacing:
                return None
            return add_embedding(found["models"], model_id, rows[sha256])

        change_images(self._cluster, list(rows), put)

    def find_images_without_embedding(self, model_id: int, after_id: int = 0, limit: int = 1000) -> list[int]:
        after = {"range": {"image_id": {"gt": after_id}}}
        query = {"bool": {"filter": [after], "must_not": [{"term": {"models": model_id}}]}}
        hits = self._cluster.search(query=query, sort=_OLDEST_FIRST, size=limit, source=["image_id"])
        return [hit["_source"]["image_id"] for hit in hits]

    def _set_text(self, image_id: int, text: ImageText) -> bool:
        return self._change_record(image_id, lambda record, modified_ns: (replace(record, text=text), modified_ns))

    def _change_record(
        self, image_id: int, change: Callable[[ImageRecord, int | None], tuple[ImageRecord, int | None]]
    ) -> bool:
        was_found = has_changed = False

        def put(_: str, found: dict[str, Any]) -> dict[str, Any] | None:
            nonlocal was_found, has_changed
            before = load_record(found["record"]), load_modified_ns(found["record"])
            after = change(*before)
            was_found, has_changed = True, after != before
            return make_fields(*after) if has_changed else None

        change_images(self._cluster, list(self._find_hashes([image_id]).values()), put)
        if not was_found:
            raise image_not_found(image_id)
        return has_changed

    def _delete_images(self, image_ids: list[int]) -> int:
        hashes = list(self._find_hashes(image_ids).values())
        if not hashes:
            return 0
        with writing(self._cluster) as ensure_locked:
            ensure_locked()
            self._cluster.change_state(lambda state: state["removed_originals"].extend(hashes))
            results = self._cluster.write([{"delete": {"_id": sha256}} for sha256 in hashes])
            check_results(self._cluster, results)
            self._delete_orphaned_originals()
        return sum(result["result"] == "deleted" for result in results)

    def _delete_orphaned_originals(self) -> None:
        # While nobody can add the same picture again. What a crash left undone is done by the next one.
        removed = self._cluster.read_state()["removed_originals"]
        if removed:
            self.originals.delete(set(removed) - self._find_known_hashes(removed).keys())

            def forget(state: State) -> None:
                state["removed_originals"] = [sha256 for sha256 in state["removed_originals"] if sha256 not in removed]

            self._cluster.change_state(forget)

    # --- search -----------------------------------------------------------------------------------------------------

    def _search_embedding(
        self, model_id: int, embedding: Embeddings, limit: int, offset: int, filter: SearchFilter
    ) -> list[SearchHit]:
        qualifying = build_query(filter, model_id=model_id)
        hits = self._cluster.search(
            query=build_nearest(qualifying, make_vector_field(model_id), embedding),
            sort=[{"_score": "desc"}, {"image_id": "asc"}],
            from_=offset,
            size=limit,
            source=["record"],
        )
        return [SearchHit(load_record(hit["_source"]["record"]), 1 - hit["sort"][0]) for hit in hits]

    def _search_words(self, words: list[str], limit: int, offset: int, filter: SearchFilter) -> list[SearchHit]:
        return self._list_newest(build_query(filter, words), limit, offset)

    def _find_latest(self, limit: int, offset: int, filter: SearchFilter) -> list[SearchHit]:
        return self._list_newest(build_query(filter), limit, offset)

    def _list_newest(self, query: Query, limit: int, offset: int) -> list[SearchHit]:
        return [SearchHit(load_record(found)) for found in self._list_records(query, _NEWEST_FIRST, limit, offset)]

    def _list_records(self, query: Query, order: list[dict[str, str]], limit: int, offset: int = 0) -> list[str]:
        hits = self._cluster.search(query=query, sort=order, from_=offset, size=limit, source=["record"])
        return [hit["_source"]["record"] for hit in hits]

    def count_images(self, filter: SearchFilter = EVERYTHING) -> int:
        return self._count(build_query(filter))

    def _count(self, query: Query) -> int:
        with self._cluster.client() as client:
            return int(client.count(index=self._cluster.index, query=query)["count"])

    def count_values(self, field: CountedField, filter: SearchFilter = EVERYTHING) -> dict[str, int]:
        counted = {"values": {"terms": {"field": field, "size": _MAX_VALUES}}}
        with self._cluster.client() as client:
            answer = client.search(index=self._cluster.index, query=build_query(filter), size=0, aggregations=counted)
        counts = {bucket["key"]: bucket["doc_count"] for bucket in answer["aggregations"]["values"]["buckets"]}
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    # --- one image --------------------------------------------------------------------------------------------------

    def get_images(self, image_ids: Sequence[int]) -> list[ImageRecord]:
        found = self._read_images(image_ids, "record")
        for image_id in image_ids:
            if image_id not in found:
                raise image_not_found(image_id)
        return [load_record(found[image_id]) for image_id in image_ids]

    def _read_images(self, image_ids: Sequence[int], field: str) -> dict[int, Any]:
        """One field of those of these images that exist; a dot leads into it."""
        found: dict[int, Any] = {}
        known = [image_id for image_id in image_ids if 0 < image_id <= _MAX_ID]
        for start in range(0, len(known), _CHUNK):
            query = {"terms": {"image_id": known[start : start + _CHUNK]}}
            for hit in self._cluster.search(query=query, size=_CHUNK, source=["image_id", field]):
                value: Any = hit["_source"]
                for name in field.split("."):
                    value = value.get(name) if value else None
                found[hit["_source"]["image_id"]] = value
        return found

    def _find_hashes(self, image_ids: Sequence[int]) -> dict[int, str]:
        found = self._read_images(image_ids, "record")
        return {image_id: load_record(document).content_sha256 for image_id, document in found.items()}

    def read_original(self, image_id: int) -> bytes:
        return self.originals.read(self.get_image(image_id).content_sha256)

    def read_preview(self, image_id: int) -> bytes:
        found = self._read_images([image_id], "preview")
        if image_id not in found:
            raise image_not_found(image_id)
        return unpack(found[image_id])

    def get_embedding(self, image_id: int, model_id: int) -> Embeddings:
        embedding = self._read_images([image_id], f"vectors.{model_id}").get(image_id)
        if embedding is None or all(model.model_id != model_id for model in self.list_models()):
            raise embedding_not_found(image_id, model_id)
        return unpack_embedding(embedding)

    def find_by_file_name(self, file_name: str) -> list[int]:
        query = {"term": {"tags": exact_key("n", file_name)}}
        hits = self._cluster.search(query=query, sort=_OLDEST_FIRST, size=_ALL, source=["image_id"])
        return [hit["_source"]["image_id"] for hit in hits]

    # --- the store as a whole -----------------------------------------------------------------------------------------

    def sample_embeddings(self, model_id: int, size: int) -> Embeddings:
        dimension = self._get_dimension(model_id)
        hits = self._cluster.search(
            query=build_query(EVERYTHING, model_id=model_id),
            sort=[{"shuffle": "asc"}, {"image_id": "asc"}],
            size=size,
            source=[f"vectors.{model_id}"],
        )
        rows = [unpack_embedding(hit["_source"]["vectors"][str(model_id)]) for hit in hits]
        return np.array(rows, np.float32).reshape(len(rows), dimension)

    def get_status(self) -> StoreStatus:
        models = self.list_models()
        with self._cluster.client() as client:
            version = client.info()["version"]["number"]
        return StoreStatus(
            engine=f"Elasticsearch {version}",
            location=self._cluster.location,
            image_count=self.count_images(),
            models=tuple((model, self._count(build_query(EVERYTHING, model_id=model.model_id))) for model in models),
            details={"originals": str(self.originals)},
        )

    def close(self) -> None:
        self._cluster.close()


def _count_up(state: State, counter: str, number: int) -> int:
    state[counter] += number
    return int(state[counter])
