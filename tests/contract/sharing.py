"""Store contract: several handles and threads on one library, as several people and programs have it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from image_search.records import Hits
from tests.contract.fixtures import DIMENSION, StoreFixtures, list_ids
from tests.fakes import make_embeddings, make_image, make_images


class SharingContract(StoreFixtures):
    def test_another_handle_sees_additions_and_deletions_at_its_next_search(self, store, model, reopen):
        other = reopen()
        embeddings = make_embeddings(4)
        query = embeddings[0]
        assert other.search_embedding(model.model_id, query) == Hits()
        image_ids = store.add_images(model.model_id, make_images(4), embeddings)
        assert list_ids(other.search_embedding(model.model_id, query, limit=1)) == image_ids[:1]
        store.delete_images(image_ids[:1])
        assert image_ids[0] not in list_ids(other.search_embedding(model.model_id, query))
        store.add_embeddings(model.model_id, [image_ids[3]], make_embeddings(1))
        assert list_ids(other.search_embedding(model.model_id, query, limit=1)) == [image_ids[3]]
        assert other.count_images() == 3

    def test_another_handle_sees_the_switch_of_the_model(self, store, model, reopen):
        other = reopen()
        assert other.find_current_model() == model
        second = store.get_or_create_model("second", "1", 2 * DIMENSION)
        store.set_current_model(second.model_id)
        current = other.find_current_model()
        assert current is not None
        assert current.model_id == second.model_id

    def test_store_holds_everything_after_reopening(self, store, model, reopen):
        images, embeddings = make_images(5), make_embeddings(5)
        image_ids = store.add_images(model.model_id, images, embeddings)
        store.close()
        again = reopen()
        assert again.list_models() == [model]
        assert list_ids(again.search_embedding(model.model_id, embeddings[2], limit=1)) == [image_ids[2]]
        assert again.read_original(image_ids[4]) == images[4].data

    def test_two_registrars_of_the_same_images_make_no_doubles(self, store, model, reopen):
        images, embeddings = make_images(60), make_embeddings(60)

        def register(batches):
            handle = reopen()
            model_id = handle.get_or_create_model("fake", "1", DIMENSION).model_id
            ids = {}
            for start in batches:
                chunk = slice(start, start + 6)
                for image, image_id in zip(
                    images[chunk], handle.add_images(model_id, images[chunk], embeddings[chunk]), strict=True
                ):
                    ids[image.content_sha256] = image_id
            return ids

        with ThreadPoolExecutor(2) as pool:
            forwards, backwards = pool.map(register, [range(0, 60, 6), range(54, -1, -6)])
        assert forwards == backwards
        assert store.count_images() == 60
        assert store.get_status().models[0][1] == 60

    def test_changes_that_threads_make_at_once_to_different_fields_are_all_kept(self, store, model, reopen):
        image_ids = store.add_images(model.model_id, make_images(3), make_embeddings(3))

        def add_keyword(image, word):
            return replace(image.edits, keywords=(*image.keywords, word))

        changes = [
            *(partial(add_keyword, word=f"word {number}") for number in range(8)),
            lambda image: replace(image.edits, description="said"),
            lambda image: replace(image.edits, rating=4),
        ]
        handles = store, reopen()
        start = threading.Barrier(len(changes))

        def edit(number):
            start.wait(30)
            return handles[number % 2].change_edits(image_ids, changes[number])

        with ThreadPoolExecutor(len(changes)) as pool:
            changed = list(pool.map(edit, range(len(changes))))
        assert changed == [dict.fromkeys(image_ids, True)] * len(changes)
        for image in store.get_images(image_ids):
            assert (image.edits.description, image.edits.rating) == ("said", 4)
            assert sorted(image.edits.keywords) == [f"word {number}" for number in range(8)]
        assert store.count_values("keyword") == {f"word {number}": 3 for number in range(8)}

    def test_threads_search_while_another_adds_and_deletes(self, store, model):
        embeddings = make_embeddings(200)
        [anchor] = store.add_images(model.model_id, [make_image("anchor.png")], embeddings[:1])

        def change():
            for number in range(1, 40):
                image = make_image(f"{number}.png")
                [image_id] = store.add_images(model.model_id, [image], embeddings[number : number + 1])
                if number % 3 == 0:
                    store.delete_images([image_id])

        def search(_):
            for _ in range(20):
                hits = store.search_embedding(model.model_id, embeddings[0], limit=8)
                assert hits[0].image_id == anchor
                assert store.read_preview(anchor)
                store.list_images(limit=8)

        with ThreadPoolExecutor(5) as pool:
            changed = pool.submit(change)
            list(pool.map(search, range(4)))
            changed.result()
        assert store.count_images() == 1 + 39 - 13
        assert len(store.search_embedding(model.model_id, embeddings[0], limit=100)) == 27
