"""Store contract: nearest neighbours, newest images, one image, samples, counts."""

from __future__ import annotations

import numpy as np
import pytest

from image_search.errors import EmbeddingRefused, ImageNotFound, StoreError
from image_search.records import Hits
from tests.contract.fixtures import DIMENSION, StoreFixtures, list_ids
from tests.fakes import make_embeddings, make_image, make_images


class SearchContract(StoreFixtures):
    def test_empty_store_finds_nothing(self, store, model):
        assert store.search_embedding(model.model_id, make_embeddings(1)[0]) == Hits()
        assert store.list_images() == Hits()
        assert store.list_images(["猫"]) == Hits()
        assert store.list_trash() == Hits()
        assert store.list_deleted() == []
        assert store.list_paths("/") == []
        assert store.count_images() == 0
        assert store.count_values("generator") == {}
        assert store.find_known_hashes(["0" * 64]) == {}
        assert store.find_images_without_embedding(model.model_id) == []
        assert store.sample_embeddings(model.model_id, 5).shape == (0, DIMENSION)

    # --- nearest neighbours ---

    def test_nearest_image_comes_first_with_its_distance(self, store, model):
        embeddings = make_embeddings(50)
        image_ids = store.add_images(model.model_id, make_images(50), embeddings)
        for query in (embeddings[7], make_embeddings(1, seed=3)[0]):
            products = embeddings.astype(np.float64) @ query.astype(np.float64)
            hits = store.search_embedding(model.model_id, query, limit=10)
            assert list_ids(hits) == [image_ids[i] for i in np.argsort(-products)[:10]]
            assert [hit.distance for hit in hits] == pytest.approx(sorted(-products)[:10], abs=1e-6)

    def test_hit_carries_its_record(self, store, model):
        [image_id] = store.add_images(model.model_id, [make_image("猫.png")], make_embeddings(1))
        [hit] = store.search_embedding(model.model_id, make_embeddings(1)[0])
        assert hit.image == store.get_image(image_id)

    def test_limit_above_the_library_returns_the_library(self, store, model):
        store.add_images(model.model_id, make_images(3), make_embeddings(3))
        assert len(store.search_embedding(model.model_id, make_embeddings(1)[0], limit=100)) == 3
        assert len(store.list_images(limit=100)) == 3

    def test_equal_distances_are_ordered_by_image_id(self, store, model):
        embeddings = np.repeat(make_embeddings(1), 100, axis=0)
        image_ids = store.add_images(model.model_id, make_images(100), embeddings)
        query = make_embeddings(1, seed=1)[0]
        assert list_ids(store.search_embedding(model.model_id, query, limit=100)) == sorted(image_ids)
        assert list_ids(store.search_embedding(model.model_id, query, limit=10, offset=40)) == sorted(image_ids)[40:50]

    def test_pages_do_not_overlap_and_reach_the_end(self, store, model):
        embeddings = np.concatenate([make_embeddings(30), np.repeat(make_embeddings(1, seed=7), 30, axis=0)])
        store.add_images(model.model_id, make_images(60), embeddings)
        query = make_embeddings(1, seed=2)[0]
        whole = list_ids(store.search_embedding(model.model_id, query, limit=60))
        pages = [list_ids(store.search_embedding(model.model_id, query, limit=16, offset=o)) for o in range(0, 80, 16)]
        assert [image_id for page in pages for image_id in page] == whole
        for offset in (0, 48, 60, 80):
            assert store.search_embedding(model.model_id, query, 16, offset).total == 60
        assert len(set(whole)) == 60
        assert pages[-1] == []

    def test_search_sees_what_was_added_replaced_or_deleted(self, store, model):
        query = make_embeddings(1)[0]
        first = store.add_images(model.model_id, make_images(2), make_embeddings(2))
        assert list_ids(store.search_embedding(model.model_id, query, limit=1)) == [first[0]]
        [later] = store.add_images(model.model_id, [make_image("later.png")], -make_embeddings(1))
        assert list_ids(store.search_embedding(model.model_id, -query, limit=1)) == [later]
        store.add_embeddings(model.model_id, [first[1]], make_embeddings(1))
        assert list_ids(store.search_embedding(model.model_id, query, limit=2)) == first
        store.delete_images([first[0]])
        assert list_ids(store.search_embedding(model.model_id, query)) == [first[1], later]

    def test_models_never_mix(self, store, model):
        other = store.get_or_create_model("large", "1", 2 * DIMENSION)
        image_ids = store.add_images(model.model_id, make_images(4), make_embeddings(4))
        store.add_embeddings(other.model_id, image_ids[:2], make_embeddings(2, 2 * DIMENSION))
        assert len(store.search_embedding(model.model_id, make_embeddings(1)[0])) == 4
        hits = store.search_embedding(other.model_id, make_embeddings(2, 2 * DIMENSION)[1])
        assert list_ids(hits) == [image_ids[1], image_ids[0]]

    def test_query_of_another_shape_or_length_is_refused(self, store, model):
        store.add_images(model.model_id, make_images(1), make_embeddings(1))
        for wrong in (make_embeddings(1), make_embeddings(1, DIMENSION + 1)[0], 2 * make_embeddings(1)[0]):
            with pytest.raises(EmbeddingRefused):
                store.search_embedding(model.model_id, wrong)
        with pytest.raises(StoreError):
            store.search_embedding(model.model_id + 1, make_embeddings(1)[0])

    @pytest.mark.parametrize("page", [{"limit": 0}, {"limit": -1}, {"offset": -1}])
    def test_page_that_cannot_be_is_refused(self, store, model, page):
        with pytest.raises(StoreError, match="limit"):
            store.search_embedding(model.model_id, make_embeddings(1)[0], **page)
        with pytest.raises(StoreError, match="limit"):
            store.list_images(["猫"], **page)
        with pytest.raises(StoreError, match="limit"):
            store.list_trash(**page)

    # --- one image ---

    def test_records_come_in_the_order_of_the_ids(self, store, model):
        image_ids = store.add_images(model.model_id, make_images(5), make_embeddings(5))
        wanted = [image_ids[3], image_ids[0], image_ids[4]]
        assert [record.image_id for record in store.get_images(wanted)] == wanted
        assert store.get_images([]) == []

    def test_unknown_image_is_named(self, store, model):
        [image_id] = store.add_images(model.model_id, make_images(1), make_embeddings(1))
        with pytest.raises(ImageNotFound, match="424242"):
            store.get_images([image_id, 424_242])
        for read in (store.get_image, store.read_original, store.read_preview):
            for unknown in (0, -1, 424_242, 2**31, 2**63, 10**30):
                with pytest.raises(ImageNotFound):
                    read(unknown)

    # --- samples and counts ---

    def test_sample_is_the_same_while_the_library_is(self, store, model, reopen):
        embeddings = make_embeddings(50)
        store.add_images(model.model_id, make_images(50), embeddings)
        sample = store.sample_embeddings(model.model_id, 10)
        assert sample.shape == (10, DIMENSION)
        assert len({row.tobytes() for row in sample} & {row.tobytes() for row in embeddings}) == 10
        assert np.array_equal(sample, store.sample_embeddings(model.model_id, 10))
        assert np.array_equal(sample, reopen().sample_embeddings(model.model_id, 10))
        assert store.sample_embeddings(model.model_id, 1000).shape == (50, DIMENSION)

    def test_closing_twice_is_no_error(self, store, model):
        store.close()
        store.close()
