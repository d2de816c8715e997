"""Store contract: embedding models, and embeddings of a further one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from image_search.errors import ImageNotFound, SchemaError, StoreError
from tests.contract.fixtures import DIMENSION, StoreFixtures
from tests.fakes import make_embeddings, make_images


class ModelContract(StoreFixtures):
    def test_first_model_is_current_and_a_second_is_not(self, store, model):
        second = store.get_or_create_model("fake", "2", DIMENSION)
        assert (model.is_current, second.is_current) == (True, False)
        assert store.find_current_model() == model
        assert store.list_models() == [model, second]

    def test_empty_store_has_no_model(self, store):
        assert store.list_models() == []
        assert store.find_current_model() is None

    def test_model_is_made_only_once(self, store, model):
        assert store.get_or_create_model("fake", "1", DIMENSION) == model
        assert store.list_models() == [model]

    def test_known_model_with_another_dimension_is_refused(self, store, model):
        with pytest.raises(SchemaError, match="fake"):
            store.get_or_create_model("fake", "1", DIMENSION + 1)

    def test_switching_the_current_model_leaves_exactly_one(self, store, model):
        second = store.get_or_create_model("fake", "2", DIMENSION)
        store.set_current_model(second.model_id)
        store.set_current_model(second.model_id)
        assert [known.is_current for known in store.list_models()] == [False, True]

    def test_switching_to_an_unknown_model_changes_nothing(self, store, model):
        with pytest.raises(StoreError):
            store.set_current_model(model.model_id + 1)
        assert store.find_current_model() == model

    def test_model_is_removed_with_its_embeddings_but_never_the_current_one(self, store, model):
        second = store.get_or_create_model("large", "1", 3 * DIMENSION)
        [image_id] = store.add_images(model.model_id, make_images(1), make_embeddings(1))
        store.add_embeddings(second.model_id, [image_id], make_embeddings(1, 3 * DIMENSION))
        with pytest.raises(StoreError, match="current"):
            store.remove_model(model.model_id)
        store.remove_model(second.model_id)
        assert store.list_models() == [model]
        assert store.count_images() == 1
        with pytest.raises(ImageNotFound):
            store.get_embedding(image_id, second.model_id)
        with pytest.raises(StoreError):
            store.remove_model(second.model_id)
        with pytest.raises(StoreError):
            store.search_embedding(second.model_id, make_embeddings(1, 3 * DIMENSION)[0])

    # --- embeddings of a further model ---

    def test_images_without_an_embedding_are_listed_in_pages(self, store, model):
        other = store.get_or_create_model("other", "1", DIMENSION)
        image_ids = store.add_images(model.model_id, make_images(5), make_embeddings(5))
        store.add_embeddings(other.model_id, [image_ids[1]], make_embeddings(1))
        lacking = [image_ids[0], *image_ids[2:]]
        assert store.find_images_without_embedding(model.model_id) == []
        assert store.find_images_without_embedding(other.model_id, limit=2) == lacking[:2]
        assert store.find_images_without_embedding(other.model_id, after_id=lacking[1]) == lacking[2:]

    def test_embedding_is_replaced_not_doubled(self, store, model):
        [image_id] = store.add_images(model.model_id, make_images(1), make_embeddings(1))
        new = make_embeddings(1, seed=9)
        store.add_embeddings(model.model_id, [image_id], new)
        assert np.array_equal(store.get_embedding(image_id, model.model_id), new[0])
        hits = store.search_embedding(model.model_id, new[0])
        assert [(hit.image_id, hit.distance) for hit in hits] == [(image_id, pytest.approx(-1, abs=1e-6))]

    def test_embedding_for_a_deleted_image_is_left_out(self, store, model):
        image_ids = store.add_images(model.model_id, make_images(2), make_embeddings(2))
        store.delete_images([image_ids[0]])
        store.add_embeddings(model.model_id, image_ids, make_embeddings(2, seed=1))
        hits = store.search_embedding(model.model_id, make_embeddings(1)[0])
        assert [hit.image_id for hit in hits] == [image_ids[1]]

    def test_embeddings_come_in_one_batch(self, store, model):
        other = store.get_or_create_model("other", "1", DIMENSION)
        embeddings = make_embeddings(5)
        image_ids = store.add_images(model.model_id, make_images(5), embeddings)
        store.add_embeddings(other.model_id, image_ids[:2], make_embeddings(2, seed=1))
        found = store.get_embeddings([image_ids[3], image_ids[1], 424_242], model.model_id)
        assert found.keys() == {image_ids[3], image_ids[1]}
        assert np.array_equal(found[image_ids[3]], embeddings[3])
        assert store.get_embeddings(image_ids, other.model_id).keys() == set(image_ids[:2])
        assert store.get_embeddings([], model.model_id) == {}
        assert store.get_embeddings(image_ids, other.model_id + 7) == {}

    def test_embeddings_and_previews_of_an_old_recipe_are_listed(self, store, model):
        images = [replace(image, recipe=1 + number % 2) for number, image in enumerate(make_images(6))]
        image_ids = store.add_images(model.model_id, images, make_embeddings(6))
        assert [record.recipe for record in store.get_images(image_ids)] == [1, 2] * 3
        old = image_ids[::2]
        assert store.find_images_without_embedding(model.model_id) == []
        assert store.find_images_without_embedding(model.model_id, min_recipe=2) == old
        assert store.find_images_without_embedding(model.model_id, min_recipe=3) == image_ids
        assert store.find_images_without_embedding(model.model_id, old[0], 1, min_recipe=2) == old[1:2]
        assert store.find_images_of_old_recipe(2) == old
        assert store.find_images_of_old_recipe(2, old[0], 1) == old[1:2]
        store.add_embeddings(model.model_id, old[:1], make_embeddings(1, seed=1), recipe=2)
        store.set_preview(old[1], b"new preview", "#0a0b0c", 2)
        assert store.find_images_without_embedding(model.model_id, min_recipe=2) == old[1:]
        assert store.find_images_of_old_recipe(2) == [old[0], old[2]]
        record = store.get_image(old[1])
        assert (record.recipe, record.dominant_color, store.read_preview(old[1])) == (2, "#0a0b0c", b"new preview")
        with pytest.raises(ImageNotFound):
            store.set_preview(424_242, b"", None, 2)
