"""Store contract: nearest neighbours, newest images, one image, samples, counts."""

from __future__ import annotations

import numpy as np
import pytest

from image_search.errors import EmbeddingRefused, ImageNotFound, StoreError
from tests.contract.fixtures import DIMENSION, StoreFixtures
from tests.fakes import make_embeddings, make_image, make_images


def list_ids(hits):
    return [hit.image_id for hit in hits]


class SearchContract(StoreFixtures):
    def test_an_empty_store_finds_nothing(self, store, model):
        assert store.search_embedding(model.model_id, make_embeddings(1)[0]) == []
        assert store.find_latest() == []
        assert store.search_words(["猫"]) == []
        assert store.count_images() == 0
        assert store.count_values("generator") == {}
        assert store.find_known_hashes(["0" * 64]) == {}
        assert store.find_images_without_embedding(model.model_id) == []
        assert store.sample_embeddings(model.model_id, 5).shape == (0, DIMENSION)

    # --- nearest neighbours ---

    def test_the_nearest_image_comes_first_with_its_distance(self, store, model):
        embeddings = make_embeddings(50)
        image_ids = store.add_images(model.model_id, make_images(50), embeddings)
        for query in (embeddings[7], make_embeddings(1, seed=3)[0]):
            products = embeddings.astype(np.float64) @ query.astype(np.float64)
            hits = store.search_embedding(model.model_id, query, limit=10)
            assert list_ids(hits) == [image_ids[i] for i in np.argsort(-products)[:10]]
            assert [hit.distance for hit in hits] == pytest.approx(sorted(-products)[:10], abs=1e-6)

    def test_a_hit_carries_its_record(self, store, model):
        [image_id] = store.add_images(model.model_id, [make_image("猫.png")], make_embeddings(1))
        [hit] = store.search_embedding(model.model_id, make_embeddings(1)[0])
        assert hit.image == store.get_image(image_id)

    def test_a_limit_above_the_library_returns_the_library(self, store, model):
        store.add_images(model.model_id, make_images(3), make_embeddings(3))
        assert len(store.search_embedding(model.model_id, make_embeddings(1)[0], limit=100)) == 3
        assert len(store.find_latest(limit=100)) == 3

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
        assert len(set(whole)) == 60
        assert pages[-1] == []

    def test_what_was_added_replaced_or_deleted_is_seen_by_the_next_search(self, store, model):
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

    def test_a_query_of_another_shape_or_length_is_refused(self, store, model):
        store.add_images(model.model_id, make_images(1), make_embeddings(1))
        for wrong in (make_embeddings(1), make_embeddings(1, DIMENSION + 1)[0], 2 * make_embeddings(1)[0]):
            with pytest.raises(EmbeddingRefused):
                store.search_embedding(model.model_id, wrong)
        with pytest.raises(StoreError):
            store.search_embedding(model.model_id + 1, make_embeddings(1)[0])

    @pytest.mark.parametrize("page", [{"limit": 0}, {"limit": -1}, {"offset": -1}])
    def test_a_page_that_cannot_be_is_refused(self, store, model, page):
        with pytest.raises(StoreError, match="limit"):
            store.search_embedding(model.model_id, make_embeddings(1)[0], **page)
        with pytest.raises(StoreError, match="limit"):
            store.search_words(["猫"], **page)
        with pytest.raises(StoreError, match="limit"):
            store.find_latest(**page)

    # --- newest ---

    def test_the_newest_images_come_first(self, store, model):
        first = store.add_images(model.model_id, make_images(3), make_embeddings(3))
        [later] = store.add_images(model.model_id, [make_image("later.png")], make_embeddings(1))
        hits = store.find_latest()
        assert list_ids(hits) == [later, *first[::-1]]
        assert {hit.distance for hit in hits} == {None}
        assert list_ids(store.find_latest(limit=2, offset=1)) == first[:0:-1]

    def test_an_image_without_embedding_is_among_the_newest(self, store, model):
        other = store.get_or_create_model("other", "1", DIMENSION)
        store.add_images(model.model_id, make_images(1), make_embeddings(1))
        assert len(store.find_latest()) == 1
        assert store.search_embedding(other.model_id, make_embeddings(1)[0]) == []

    # --- one image ---

    def test_records_come_in_the_order_of_the_ids(self, store, model):
        image_ids = store.add_images(model.model_id, make_images(5), make_embeddings(5))
        wanted = [image_ids[3], image_ids[0], image_ids[4]]
        assert [record.image_id for record in store.get_images(wanted)] == wanted
        assert store.get_images([]) == []

    def test_an_unknown_image_is_named(self, store, model):
        [image_id] = store.add_images(model.model_id, make_images(1), make_embeddings(1))
        with pytest.raises(ImageNotFound, match="424242"):
            store.get_images([image_id, 424_242])
        for read in (store.get_image, store.read_original, store.read_preview):
            for unknown in (0, -1, 424_242, 2**31, 2**63, 10**30):
                with pytest.raises(ImageNotFound):
                    read(unknown)

    # --- samples and counts ---

    def test_a_sample_is_the_same_while_the_library_is(self, store, model, reopen):
        embeddings = make_embeddings(50)
        store.add_images(model.model_id, make_images(50), embeddings)
        sample = store.sample_embeddings(model.model_id, 10)
        assert sample.shape == (10, DIMENSION)
        assert len({row.tobytes() for row in sample} & {row.tobytes() for row in embeddings}) == 10
        assert np.array_equal(sample, store.sample_embeddings(model.model_id, 10))
        assert np.array_equal(sample, reopen().sample_embeddings(model.model_id, 10))
        assert store.sample_embeddings(model.model_id, 1000).shape == (50, DIMENSION)

    def test_the_status_counts_images_and_embeddings(self, store, model):
        other = store.get_or_create_model("other", "1", DIMENSION)
        image_ids = store.add_images(model.model_id, make_images(3), make_embeddings(3))
        store.add_embeddings(other.model_id, image_ids[:1], make_embeddings(1))
        status = store.get_status()
        assert status.image_count == store.count_images() == 3
        assert status.models == ((model, 3), (other, 1))
        assert status.engine
        assert status.location

    def test_counts_follow_additions_and_deletions(self, store, model):
        image_ids = store.add_images(model.model_id, make_images(3), make_embeddings(3))
        assert store.count_images() == 3
        store.delete_images(image_ids[:1])
        assert store.count_images() == 2
        store.add_images(model.model_id, [make_image("new.png")], make_embeddings(1))
        assert store.count_images() == 3

    def test_closing_twice_is_no_error(self, store, model):
        store.close()
        store.close()
