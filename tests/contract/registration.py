"""Store contract: models, adding, changing and deleting images."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from image_search.errors import EmbeddingRefused, ImageNotFound, StoreError
from image_search.records import Hits, ImageText, SearchFilter
from tests.contract.fixtures import DIMENSION, StoreFixtures
from tests.fakes import make_embeddings, make_image, make_images

FULL_TEXT = ImageText(
    generation_prompt="富士山, masterpiece\nNegative prompt: blurry\nSteps: 20",
    description="雪の富士山",
    generator="AUTOMATIC1111",
    prompt="富士山, masterpiece",
    negative_prompt="blurry",
    generation_model="sd_xl_base_1.0",
    seed="18446744073709551617",
    steps=20,
    sampler="DPM++ 2M Karras",
    cfg=7.5,
    generated_size="1024x1536",
    keywords=("山", "snow & ice", 'say "hi"'),
    taken_at=datetime(2024, 1, 2, 3, 4, 5),
    camera="NIKON Z 6_2",
    lens="24-70mm f/4",
    latitude=35.3606,
    longitude=-138.7274,
    raw={"parameters": "富士山, masterpiece…", "説明": "{'a': 1}\\"},
)

AWKWARD_NAMES = [
    "猫.png",
    "👨‍👩‍👧‍👦🏔️.jpg",
    "か\u3099.png",
    'it\'s "quoted".png',
    "100%_[x]*?{a}.png",
    "back\\slash;--.png",
    "  blanks  .png",
    "a" * 251 + ".png",
    "あ" * 251 + ".png",
]


class RegistrationContract(StoreFixtures):
    # --- adding ---

    def test_image_comes_back_as_it_was_added(self, store, model):
        before = datetime.now(UTC).replace(tzinfo=None)
        image = make_image("山.png", FULL_TEXT, width=800, height=600, file_path="/写真/山.png", modified_ns=2**62 + 1)
        [image_id] = store.add_images(model.model_id, [image], make_embeddings(1))
        record = store.get_image(image_id)
        assert record.text == FULL_TEXT
        assert (record.image_id, record.content_sha256) == (image_id, image.content_sha256)
        assert (record.file_name, record.file_path, record.file_type) == ("山.png", "/写真/山.png", "image/png")
        assert (record.width, record.height, record.byte_size) == (800, 600, len(image.data))
        assert abs(record.upload_date - before) < timedelta(minutes=10)
        assert store.read_original(image_id) == image.data
        assert store.read_preview(image_id) == image.preview

    def test_time_of_registration_that_is_given_is_kept(self, store, model):
        moment = datetime(2019, 5, 6, 7, 8, 9, 123456)
        [image_id] = store.add_images(model.model_id, [replace(make_image(), upload_date=moment)], make_embeddings(1))
        assert store.get_image(image_id).upload_date == moment

    def test_all_images_are_listed_in_pages(self, store, model):
        image_ids = store.add_images(model.model_id, make_images(5), make_embeddings(5))
        assert store.list_image_ids() == image_ids
        assert store.list_image_ids(image_ids[1], limit=2) == image_ids[2:4]
        assert store.list_image_ids(image_ids[4]) == []

    def test_large_originals_come_back_byte_for_byte(self, store, model):
        data = np.random.default_rng(0).bytes(5_000_000)
        [image_id] = store.add_images(model.model_id, [make_image(data=data)], make_embeddings(1))
        assert store.read_original(image_id) == data

    def test_embeddings_come_back_bit_for_bit(self, store, model):
        embeddings = make_embeddings(5)
        image_ids = store.add_images(model.model_id, make_images(5), embeddings)
        for image_id, embedding in zip(image_ids, embeddings, strict=True):
            stored = store.get_embedding(image_id, model.model_id)
            assert stored.dtype == np.float32
            assert np.array_equal(stored, embedding)

    @pytest.mark.parametrize("name", AWKWARD_NAMES)
    def test_awkward_file_names_come_back_and_are_found(self, store, model, name):
        image = make_image(name, ImageText(description=name, keywords=(name,)), file_path=f"/photos/{name}")
        [image_id] = store.add_images(model.model_id, [image], make_embeddings(1))
        record = store.get_image(image_id)
        assert (record.file_name, record.file_path) == (name, f"/photos/{name}")
        assert (record.text.description, record.text.keywords) == (name, (name,))
        assert [hit.image_id for hit in store.list_images(filter=SearchFilter(file_name=name))] == [image_id]
        assert list(store.find_known_files([f"/photos/{name}"])) == [f"/photos/{name}"]

    def test_text_no_database_can_hold_is_stored_as_far_as_it_goes(self, store, model):
        text = ImageText(
            generation_prompt="",
            description="a\x00b \ud83d",
            keywords=("", "x", "x"),
            cfg=float("nan"),
            raw={"k": "\x00"},
        )
        image = make_image("bad \udcff.png", text, file_path="/photos/bad \udcff.png")
        [image_id] = store.add_images(model.model_id, [image], make_embeddings(1))
        stored = store.get_image(image_id).text
        assert (stored.generation_prompt, stored.cfg, stored.keywords, stored.raw) == (None, None, ("x",), {"k": ""})
        assert stored.description is not None
        assert stored.description.startswith("ab ")
        assert store.find_known_files(["/photos/bad \udcff.png"])["/photos/bad \udcff.png"].image_id == image_id

    def test_long_prompt_comes_back_whole(self, store, model):
        prompt = "富士山と桜, " * 20_000
        image = make_image(text=ImageText(generation_prompt=prompt, raw={"parameters": prompt}))
        [image_id] = store.add_images(model.model_id, [image], make_embeddings(1))
        assert store.get_image(image_id).text == image.text

    def test_same_image_again_keeps_its_record(self, store, model):
        images = make_images(2)
        first = store.add_images(model.model_id, images, make_embeddings(2))
        renamed = [replace(image, file_name="other.png") for image in images[::-1]]
        assert store.add_images(model.model_id, renamed, make_embeddings(2, seed=1)) == first[::-1]
        assert store.count_images() == 2
        assert store.get_image(first[0]).file_name == images[0].file_name
        assert np.array_equal(store.get_embedding(first[0], model.model_id), make_embeddings(2)[0])

    def test_same_image_twice_in_a_batch_is_one_image(self, store, model):
        image = make_image()
        first, second = store.add_images(model.model_id, [image, image], make_embeddings(2))
        assert first == second
        assert store.count_images() == 1

    def test_known_image_gains_the_embedding_of_another_model(self, store, model):
        other = store.get_or_create_model("large", "1", 2 * DIMENSION)
        [image_id] = store.add_images(model.model_id, [make_image()], make_embeddings(1))
        assert store.add_images(other.model_id, [make_image()], make_embeddings(1, 2 * DIMENSION)) == [image_id]
        assert store.get_embedding(image_id, other.model_id).shape == (2 * DIMENSION,)
        assert store.get_embedding(image_id, model.model_id).shape == (DIMENSION,)

    def test_no_images_are_added_without_error(self, store, model):
        assert store.add_images(model.model_id, [], np.empty((0, DIMENSION), np.float32)) == []

    @pytest.mark.parametrize("damage", [0.0, 2.0, np.nan, np.inf])
    def test_damaged_embedding_is_refused_before_anything_is_written(self, store, model, damage):
        embeddings = make_embeddings(2)
        embeddings[1] *= damage
        with pytest.raises(EmbeddingRefused):
            store.add_images(model.model_id, make_images(2), embeddings)
        assert store.count_images() == 0

    def test_embedding_of_another_dimension_is_refused_before_anything_is_written(self, store, model):
        with pytest.raises(EmbeddingRefused, match=str(DIMENSION)):
            store.add_images(model.model_id, make_images(2), make_embeddings(2, DIMENSION + 1))
        with pytest.raises(EmbeddingRefused):
            store.add_images(model.model_id, make_images(2), make_embeddings(3))
        assert store.count_images() == 0

    def test_batch_that_fails_half_way_leaves_nothing(self, store, model):
        images = make_images(3)
        damaged = replace(images[1], preview=None)  # type: ignore[arg-type]
        with pytest.raises(StoreError):
            store.add_images(model.model_id, [images[0], damaged, images[2]], make_embeddings(3))
        assert store.count_images() == 0
        assert store.find_known_hashes([image.content_sha256 for image in images]) == {}
        assert store.list_images(["image0000"]) == Hits()
        assert len(store.add_images(model.model_id, images, make_embeddings(3))) == 3

    # --- what is known ---

    def test_known_hashes_are_told_from_unknown_ones(self, store, model):
        images = make_images(1500)
        image_ids = store.add_images(model.model_id, images[:1200], make_embeddings(1200))
        known = store.find_known_hashes([image.content_sha256 for image in images])
        assert known == dict(zip([image.content_sha256 for image in images[:1200]], image_ids, strict=True))
        assert store.find_known_hashes([]) == {}

    def test_known_files_come_with_size_and_time(self, store, model):
        image = make_image(file_path="/photos/a.png", modified_ns=1_700_000_000_123_456_789)
        [image_id] = store.add_images(model.model_id, [image], make_embeddings(1))
        known = store.find_known_files(["/photos/a.png", "/photos/b.png"])
        assert list(known) == ["/photos/a.png"]
        assert known["/photos/a.png"].image_id == image_id
        assert known["/photos/a.png"].byte_size == len(image.data)
        assert known["/photos/a.png"].modified_ns == 1_700_000_000_123_456_789

    # --- deletion ---

    def test_deleted_image_is_gone_everywhere(self, store, model):
        embeddings = make_embeddings(3)
        image_ids = store.add_images(model.model_id, make_images(3), embeddings)
        assert store.delete_images([image_ids[0], 999_999, image_ids[0]]) == 1
        assert {hit.image_id for hit in store.search_embedding(model.model_id, embeddings[0])} == set(image_ids[1:])
        assert {hit.image_id for hit in store.list_images()} == set(image_ids[1:])
        assert store.list_images(["image0000"]) == Hits()
        assert store.count_images() == 2
        assert store.list_trash() == Hits()
        for read in (store.get_image, store.read_original, store.read_preview):
            with pytest.raises(ImageNotFound, match=str(image_ids[0])):
                read(image_ids[0])
        with pytest.raises(ImageNotFound):
            store.get_embedding(image_ids[0], model.model_id)
        assert store.delete_images([]) == 0

    def test_image_id_is_never_given_out_again(self, store, model):
        image_ids = store.add_images(model.model_id, make_images(3), make_embeddings(3))
        store.delete_images(image_ids)
        again = store.add_images(model.model_id, make_images(3), make_embeddings(3))
        assert not set(again) & set(image_ids)
        assert store.read_original(again[0]) == make_images(1)[0].data
