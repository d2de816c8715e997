"""Store contract: the trash, and what is remembered after it was emptied."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from image_search.errors import ImageNotFound
from image_search.records import DeletedImage, Edits, Hits, ImageText, RecognizedText, SearchFilter, TextLine
from tests.contract.fixtures import DIMENSION, StoreFixtures, list_ids
from tests.fakes import make_embeddings, make_image

COUNT = 30
TEXT = ImageText(
    generation_prompt="猫",
    generator="ComfyUI",
    generation_model="sdxl",
    loras=("ink",),
    keywords=("山",),
    rating=3,
    camera="X100",
    lens="23mm",
    taken_at=datetime(2024, 1, 1),
)
FIELDS = ("generator", "generation_model", "lora", "file_type", "keyword", "camera", "lens", "rating", "folder", "kind")
READER = "reader 1"


def read_everything(store, image_id):
    """All that a store tells of one image."""
    embeddings = [store.get_embeddings([image_id], model.model_id) for model in store.list_models()]
    return (
        store.get_image(image_id),
        store.get_recognized(image_id),
        store.read_preview(image_id),
        store.read_original(image_id),
        [{key: row.tobytes() for key, row in found.items()} for found in embeddings],
    )


class TrashContract(StoreFixtures):
    @pytest.fixture
    def other(self, store, model):
        return store.get_or_create_model("other", "1", 2 * DIMENSION)

    @pytest.fixture
    def rich_ids(self, store, model, other):
        """Thirty images with everything an image can have; every second one has an embedding of the other model."""
        recognized = RecognizedText(READER, "出口", (TextLine("出口", 0.5, (0.0, 0.0, 0.5, 0.5)),))
        images = [
            replace(
                make_image(f"{n}.png", TEXT, file_path=f"/photos/{n}.png", modified_ns=n),
                edits=Edits("mine", ("山", "雪"), 4),
                recognized=recognized,
                dominant_color="#010203",
            )
            for n in range(COUNT)
        ]
        rich_ids = store.add_images(model.model_id, images, make_embeddings(COUNT))
        store.add_embeddings(other.model_id, rich_ids[::2], make_embeddings(COUNT, 2 * DIMENSION)[::2])
        return rich_ids

    def test_trash_is_left_out_everywhere(self, store, model, other, rich_ids):
        hashes = {record.image_id: record.content_sha256 for record in store.get_images(rich_ids)}
        query = make_embeddings(1)[0]
        nearest = list_ids(store.search_embedding(model.model_id, query, COUNT))
        # The nearest ones go, so that a search that leaves them out afterwards has short pages.
        trashed, kept = nearest[:12], nearest[12:]
        assert store.trash_images(trashed) == 12
        rest = COUNT - 12
        found = store.search_embedding(model.model_id, query)
        assert (list_ids(found), found.total) == (kept[:16], rest)
        found = store.search_embedding(model.model_id, query, 16, 10, SearchFilter(keyword="雪"))
        assert (list_ids(found), found.total) == (kept[10:], rest)
        second = store.search_embedding(other.model_id, make_embeddings(1, 2 * DIMENSION)[0], COUNT)
        assert sorted(list_ids(second)) == sorted(set(rich_ids[::2]) & set(kept))
        for order in ("registered", "taken", "name"):
            found = store.list_images(order=order)
            assert (len(found), found.total) == (16, rest)
            assert set(list_ids(store.list_images(limit=COUNT, order=order))) == set(kept)
        for terms in (["猫"], ["出口"], ["雪"], ["mine"], ["png"]):
            found = store.list_images(terms, 10, 10)
            assert (len(found), found.total) == (rest - 10, rest), terms
            assert set(list_ids(store.list_images(terms, COUNT))) == set(kept)
        assert store.count_images() == store.count_images(SearchFilter(keyword="雪", min_rating=4)) == rest
        for field in FIELDS:
            assert set(store.count_values(field).values()) == {rest}, field
        assert store.find_known_hashes(list(hashes.values())) == {hashes[i]: i for i in kept}
        assert len(store.find_known_files([f"/photos/{n}.png" for n in range(COUNT)])) == rest
        assert {image_id for _, image_id in store.list_paths("/photos")} == set(kept)
        assert store.list_image_ids() == store.find_images_without_embedding(model.model_id, min_recipe=9)
        assert store.list_image_ids() == store.find_images_of_old_recipe(9) == sorted(kept)
        assert store.find_images_without_recognition("reader 2") == sorted(kept)
        assert set(store.find_images_without_embedding(other.model_id)) == set(rich_ids[1::2]) & set(kept)
        assert store.sample_embeddings(model.model_id, COUNT).shape == (rest, DIMENSION)
        status = store.get_status()
        assert (status.image_count, status.trash_count, status.models[0][1]) == (rest, 12, rest)

    def test_trash_can_be_looked_at(self, store, model, rich_ids):
        before = read_everything(store, rich_ids[0])
        store.trash_images(rich_ids[:1])
        store.trash_images(rich_ids[1:2], "gone")
        first, second = store.get_images(rich_ids[:2])
        assert (first.trash_reason, second.trash_reason) == ("deleted", "gone")
        assert first.deleted_at is not None
        assert replace(first, deleted_at=None, trash_reason=None) == before[0]
        assert read_everything(store, rich_ids[0])[1:] == before[1:]
        assert store.read_previews(rich_ids[:3]).keys() == set(rich_ids[:3])
        assert store.get_embeddings(rich_ids[:3], model.model_id).keys() == set(rich_ids[:3])

    def test_trash_cannot_be_changed(self, store, model, rich_ids):
        store.trash_images(rich_ids[:1])
        before = read_everything(store, rich_ids[0])
        for change in (
            lambda image_id: store.set_text(image_id, ImageText()),
            lambda image_id: store.set_edits(image_id, Edits()),
            lambda image_id: store.set_recognized(image_id, RecognizedText(READER, "入口")),
            lambda image_id: store.set_preview(image_id, b"new", None, 2),
            lambda image_id: store.set_path(image_id, "/new.png", 1, 1),
            lambda image_id: store.replace_image(image_id, model.model_id, make_image("x"), make_embeddings(1)[0]),
        ):
            with pytest.raises(ImageNotFound, match=str(rich_ids[0])):
                change(rich_ids[0])
        store.add_embeddings(model.model_id, rich_ids[:2], make_embeddings(2, seed=8))
        assert read_everything(store, rich_ids[0]) == before

    def test_recognised_text_is_forgotten_in_the_trash_as_well(self, store, model, rich_ids):
        store.trash_images(rich_ids[:1])
        before = read_everything(store, rich_ids[0])
        store.set_recognized(rich_ids[0], None)
        after = read_everything(store, rich_ids[0])
        assert after[0] == replace(before[0], recognizer=None, recognized_text=None, searched_text=None)
        assert (after[1], after[2:]) == (None, before[2:])
        store.restore_images(rich_ids[:1])
        assert rich_ids[0] not in list_ids(store.list_images(["出口"], COUNT))
        assert rich_ids[0] in list_ids(store.search_embedding(model.model_id, make_embeddings(1)[0], COUNT))
        assert store.find_images_without_recognition(READER) == rich_ids[:1]

    def test_restoring_brings_everything_back(self, store, model, other, rich_ids):
        chosen = rich_ids[3:9]
        before = [read_everything(store, image_id) for image_id in chosen]
        query, far = make_embeddings(1)[0], make_embeddings(1, 2 * DIMENSION)[0]

        def look():
            return [
                store.search_embedding(model.model_id, query, COUNT),
                store.search_embedding(other.model_id, far, COUNT),
                store.list_images(["出口", "雪"], COUNT),
                [store.count_values(field) for field in FIELDS],
                store.list_paths("/photos"),
                store.find_known_files([f"/photos/{n}.png" for n in range(COUNT)]),
                store.get_status(),
            ]

        library = look()
        store.trash_images(chosen)
        assert store.restore_images([*chosen, rich_ids[0], 424_242]) == len(chosen)
        assert [read_everything(store, image_id) for image_id in chosen] == before
        assert look() == library
        assert store.find_deleted_hashes([record[0].content_sha256 for record in before]) == set()
        assert store.restore_images(chosen) == store.restore_images([]) == 0

    def test_only_live_images_are_trashed_and_the_first_reason_stays(self, store, rich_ids):
        assert store.trash_images([rich_ids[0], rich_ids[0], 424_242], "gone") == 1
        assert store.trash_images(rich_ids[:2]) == 1
        assert [record.trash_reason for record in store.get_images(rich_ids[:3])] == ["gone", "deleted", None]
        assert store.trash_images([]) == 0

    def test_image_may_have_been_deleted_earlier(self, store, rich_ids):
        moments = [datetime(2020, 5, 6, 7, 8, 9, 123_456), datetime(2021, 1, 1)]
        for image_id, moment in zip(rich_ids, moments, strict=False):
            store.trash_images([image_id], "gone", moment)
        store.trash_images(rich_ids[2:3])
        assert [record.deleted_at for record in store.get_images(rich_ids[:2])] == moments
        assert list_ids(store.list_trash()) == [rich_ids[2], rich_ids[1], rich_ids[0]]
        assert [image.image_id for image in store.iterate_trash()] == [rich_ids[2], rich_ids[1], rich_ids[0]]
        assert store.empty_trash(before=moments[1]) == 1

    def test_trash_is_listed_latest_first_in_pages(self, store, rich_ids):
        store.trash_images([rich_ids[5], rich_ids[3]])
        store.trash_images(rich_ids[:1])
        listed = store.list_trash()
        assert (list_ids(listed), listed.total) == ([rich_ids[0], rich_ids[5], rich_ids[3]], 3)
        page = store.list_trash(1, 1)
        assert (list_ids(page), page.total) == ([rich_ids[5]], 3)
        assert listed[0].image == store.get_image(rich_ids[0])
        assert listed[0].distance is None
        assert store.list_trash(5, 3) == Hits((), 3)

    # --- emptying ---

    def test_emptying_removes_for_good_and_remembers_hash_and_paths(self, store, model, rich_ids):
        store.set_path(rich_ids[0], "/copies/\udce9.png", 1, 1)
        records = store.get_images(rich_ids[:2])
        hashes = [record.content_sha256 for record in records]
        store.trash_images(rich_ids[:2])
        deleted_at = store.get_image(rich_ids[0]).deleted_at
        assert store.find_deleted_hashes([*hashes, "0" * 64]) == set(hashes)
        assert store.list_deleted() == []
        assert store.empty_trash() == 2
        assert store.list_trash() == Hits()
        for read in (store.get_image, store.read_original, store.read_preview, store.get_recognized):
            with pytest.raises(ImageNotFound, match=str(rich_ids[0])):
                read(rich_ids[0])
        assert store.get_embeddings(rich_ids[:3], model.model_id).keys() == {rich_ids[2]}
        assert store.restore_images(rich_ids[:2]) == 0
        assert store.find_deleted_hashes([*hashes, "0" * 64]) == set(hashes)
        remembered = {one.content_sha256: one for one in store.list_deleted()}
        assert remembered.keys() == set(hashes)
        assert set(remembered[hashes[0]].paths) == {"/copies/\udce9.png", "/photos/0.png"}
        assert remembered[hashes[0]].deleted_at == deleted_at
        assert store.find_deleted_paths(["/copies/\udce9.png", "/photos/1.png", "/photos/2.png"]) == {
            "/copies/\udce9.png": hashes[0],
            "/photos/1.png": hashes[1],
        }
        assert store.get_status().trash_count == 0
        assert store.empty_trash() == 0

    def test_trash_is_emptied_of_some_images_or_of_old_ones(self, store, rich_ids):
        for image_id in rich_ids[:4]:
            store.trash_images([image_id])
        assert store.empty_trash([rich_ids[3], rich_ids[9], 424_242]) == 1
        assert store.empty_trash([]) == 0
        third = store.get_image(rich_ids[2]).deleted_at
        assert third is not None
        assert store.empty_trash([rich_ids[2]], before=third) == 0
        assert store.empty_trash(before=third) == 2
        assert list_ids(store.list_trash()) == [rich_ids[2]]
        assert store.empty_trash(before=third + timedelta(days=1)) == 1
        assert store.count_images() == COUNT - 4

    def test_files_that_disappeared_are_not_remembered(self, store, rich_ids):
        [sha256] = [store.get_image(rich_ids[0]).content_sha256]
        store.trash_images(rich_ids[:1], "gone")
        assert store.find_deleted_hashes([sha256]) == set()
        assert store.find_deleted_paths(["/photos/0.png"]) == {}
        assert store.empty_trash() == 1
        assert store.find_deleted_hashes([sha256]) == set()
        assert store.list_deleted() == []

    def test_deleting_for_good_reaches_into_the_trash(self, store, rich_ids):
        store.trash_images(rich_ids[:2])
        assert store.delete_images([*rich_ids[1:4], 424_242]) == 3
        assert list_ids(store.list_trash()) == rich_ids[:1]
        assert len(store.list_deleted()) == 3
        assert store.count_images() == COUNT - 4

    def test_path_of_a_live_image_was_not_deleted(self, store, model, rich_ids):
        store.trash_images(rich_ids[:1])
        first = store.get_image(rich_ids[0]).content_sha256
        assert store.find_deleted_paths(["/photos/0.png", "/photos/1.png"]) == {"/photos/0.png": first}
        store.empty_trash()
        assert store.find_deleted_paths(["/photos/0.png"]) == {"/photos/0.png": first}
        store.set_path(rich_ids[1], "/photos/0.png", 1, 1)
        assert store.find_deleted_paths(["/photos/0.png"]) == {}
        store.remove_paths(["/photos/0.png"])
        assert store.find_deleted_paths(["/photos/0.png"]) == {"/photos/0.png": first}

    @pytest.mark.parametrize("days", [(8, 9), (9, 8)], ids=["in order", "the other way round"])
    @pytest.mark.parametrize("is_emptied", [False, True])
    def test_path_of_several_deleted_images_has_the_hash_of_the_latest(self, store, rich_ids, days, is_emptied):
        hashes = {}
        for image_id, day in zip(rich_ids, days, strict=False):
            hashes[day] = store.get_image(image_id).content_sha256
            store.set_path(image_id, "/shared/a.png", 1, 1)
            store.trash_images([image_id], deleted_at=datetime(2024, 1, day))
            if is_emptied or image_id == rich_ids[0]:
                store.empty_trash([image_id])
        assert store.find_deleted_paths(["/shared/a.png"]) == {"/shared/a.png": hashes[9]}

    def test_image_in_the_trash_is_remembered_at_another_path(self, store, model, rich_ids):
        store.trash_images(rich_ids[:1])
        sha256 = store.get_image(rich_ids[0]).content_sha256
        paths = ["/photos/0.png", "/renamed/0.png"]
        store.add_deleted([DeletedImage(sha256, datetime(2024, 1, 2), (paths[1],))])
        assert store.find_deleted_paths(paths) == dict.fromkeys(paths, sha256)
        assert store.find_deleted_hashes([sha256]) == {sha256}
        assert store.get_image(rich_ids[0]).paths == (paths[0],)
        store.add_deleted([DeletedImage(sha256, datetime(2024, 1, 2), (paths[0],))])
        assert store.forget_deleted([sha256]) == 1
        assert store.find_deleted_paths(paths) == {paths[0]: sha256}  # it is in the trash nevertheless
        store.add_deleted([DeletedImage(sha256, datetime(2024, 1, 2), (paths[1],))])
        assert store.empty_trash() == 1
        [remembered] = store.list_deleted()
        assert (remembered.content_sha256, set(remembered.paths)) == (sha256, set(paths))
        assert store.find_deleted_paths(paths) == dict.fromkeys(paths, sha256)

    def test_path_that_is_remembered_is_not_forgotten_when_the_image_in_the_trash_loses_it(self, store, rich_ids):
        store.trash_images(rich_ids[:1])
        sha256 = store.get_image(rich_ids[0]).content_sha256
        store.add_deleted([DeletedImage(sha256, datetime(2024, 1, 2), ("/photos/0.png",))])
        store.set_path(rich_ids[1], "/photos/0.png", 1, 1)
        assert store.get_image(rich_ids[0]).paths == ()
        assert store.find_deleted_paths(["/photos/0.png"]) == {}
        store.remove_paths(["/photos/0.png"])
        assert store.find_deleted_paths(["/photos/0.png"]) == {"/photos/0.png": sha256}

    def test_image_that_is_back_from_the_trash_is_not_remembered(self, store, model, rich_ids):
        hashes = [record.content_sha256 for record in store.get_images(rich_ids[:3])]
        store.trash_images(rich_ids[:2])
        store.trash_images(rich_ids[2:3], "gone")
        store.add_deleted([DeletedImage(sha256, datetime(2024, 1, 2), ("/renamed.png",)) for sha256 in hashes])
        assert {one.content_sha256 for one in store.list_deleted()} == set(hashes[:2])
        assert store.find_deleted_hashes(hashes) == set(hashes[:2])
        store.restore_images(rich_ids[:1])
        store.add_images(model.model_id, [make_image("1.png")], make_embeddings(1))
        assert store.list_deleted() == []
        assert store.find_deleted_paths(["/renamed.png", "/photos/0.png", "/photos/1.png"]) == {}
        assert store.find_deleted_hashes(hashes) == set()

    # --- coming back ---

    def test_image_that_is_added_again_is_restored(self, store, model, other, rich_ids):
        before = read_everything(store, rich_ids[1])
        store.trash_images(rich_ids[1:2])
        again = make_image("1.png", file_path="/new/1.png")
        assert store.add_images(other.model_id, [again], make_embeddings(1, 2 * DIMENSION, 5)) == rich_ids[1:2]
        record = store.get_image(rich_ids[1])
        assert record == replace(before[0], paths=("/new/1.png", "/photos/1.png"))
        assert store.find_deleted_hashes([again.content_sha256]) == set()
        for embedding_model in (model, other):
            assert rich_ids[1] not in store.find_images_without_embedding(embedding_model.model_id)
        assert np.array_equal(store.get_embedding(rich_ids[1], model.model_id), make_embeddings(COUNT)[1])
        found = store.search_embedding(model.model_id, make_embeddings(COUNT)[1], 1)
        assert (list_ids(found), found.total) == (rich_ids[1:2], COUNT)

    def test_embedding_of_the_trash_is_kept_when_the_image_is_added_again(self, store, model, rich_ids):
        store.trash_images(rich_ids[:1])
        store.add_images(model.model_id, [make_image("0.png")], make_embeddings(1, seed=5))
        assert np.array_equal(store.get_embedding(rich_ids[0], model.model_id), make_embeddings(COUNT)[0])

    def test_remembered_image_that_is_added_again_is_forgotten(self, store, model, rich_ids):
        store.delete_images(rich_ids[:2])
        [again] = store.add_images(model.model_id, [make_image("0.png")], make_embeddings(1))
        assert again not in rich_ids
        record = store.get_image(again)
        assert (record.edits, record.paths) == (Edits(), ())
        assert store.read_original(again) == b"original of 0.png"
        assert store.find_deleted_hashes([record.content_sha256]) == set()
        assert store.find_deleted_paths(["/photos/0.png"]) == {}
        assert len(store.list_deleted()) == 1

    def test_model_is_removed_with_its_parked_embeddings(self, store, model, other, rich_ids):
        store.trash_images(rich_ids[:1])
        store.remove_model(other.model_id)
        store.restore_images(rich_ids[:1])
        again = store.get_or_create_model("other", "1", 2 * DIMENSION)
        assert store.get_embeddings(rich_ids[:1], again.model_id) == {}
        assert store.search_embedding(model.model_id, make_embeddings(1)[0], COUNT).total == COUNT
        assert len(store.find_images_without_embedding(again.model_id)) == COUNT

    def test_image_without_any_embedding_comes_back_from_the_trash(self, store, model, other, rich_ids):
        store.set_current_model(other.model_id)
        store.remove_model(model.model_id)
        store.trash_images(rich_ids[:2])
        assert store.restore_images(rich_ids[:2]) == 2
        assert store.count_images() == COUNT

    def test_another_handle_sees_the_trash_at_its_next_search(self, store, model, rich_ids, reopen):
        handle = reopen()
        query = make_embeddings(1)[0]
        assert handle.search_embedding(model.model_id, query).total == COUNT
        store.trash_images(rich_ids[:3])
        found = handle.search_embedding(model.model_id, query, COUNT)
        assert (len(found), found.total) == (COUNT - 3, COUNT - 3)
        handle.restore_images(rich_ids[:1])
        assert list_ids(store.search_embedding(model.model_id, query, 1)) == rich_ids[:1]

    # --- what is remembered ---

    def test_deletions_are_listed_by_hash_in_pages_and_forgotten(self, store, model):
        moment = datetime(2024, 1, 2, 3, 4, 5, 678_901)
        deleted = [DeletedImage(f"{n:064x}", moment, (f"/x/{n}", f"/y/{n}")) for n in (7, 3, 5)]
        store.add_deleted(deleted)
        listed = store.list_deleted()
        assert [one.content_sha256 for one in listed] == [f"{n:064x}" for n in (3, 5, 7)]
        assert (listed[0].deleted_at, set(listed[0].paths)) == (moment, {"/x/3", "/y/3"})
        assert store.list_deleted(f"{3:064x}", 1) == listed[1:2]
        assert store.find_deleted_paths(["/y/5", "/y/6"]) == {"/y/5": f"{5:064x}"}
        assert store.forget_deleted([f"{5:064x}", f"{6:064x}"]) == 1
        assert store.find_deleted_paths(["/y/5"]) == {}
        assert store.forget_deleted([]) == 0
        assert store.forget_deleted() == 2
        assert store.list_deleted() == []

    def test_deletion_may_have_a_mark_in_place_of_a_path(self, store, model, rich_ids):
        store.trash_images(rich_ids[:1])
        origin = store.get_image(rich_ids[0]).content_sha256
        later = DeletedImage("ab" * 32, datetime(2024, 1, 2), (f"sha256:{origin}",))
        store.add_deleted([later])
        assert store.list_deleted() == [later]
        assert store.find_deleted_hashes(["ab" * 32]) == {"ab" * 32}
        assert store.find_deleted_paths(["/photos/0.png"]) == {"/photos/0.png": origin}
        store.restore_images(rich_ids[:1])
        assert store.list_deleted() == [later]

    def test_remembering_leaves_what_is_there_alone(self, store, model, rich_ids):
        moment = datetime(2024, 1, 2)
        live, trashed = (record.content_sha256 for record in store.get_images(rich_ids[:2]))
        store.trash_images(rich_ids[1:2], "gone")
        known = "ab" * 32
        store.add_deleted([DeletedImage(known, moment, ("/a",))])
        store.add_deleted([DeletedImage(sha256, datetime(2025, 1, 1), ("/b",)) for sha256 in (live, trashed, known)])
        [one] = store.list_deleted()
        assert (one.content_sha256, set(one.paths)) == (known, {"/a", "/b"})
        assert one.deleted_at == moment
        assert store.get_image(rich_ids[0]).content_sha256 == live
        store.add_deleted([])

    def test_library_that_was_emptied_has_held_images(self, store, model, reopen):
        assert not store.has_held_images()
        [image_id] = store.add_images(model.model_id, [make_image("a")], make_embeddings(1))
        assert store.has_held_images()
        store.delete_images([image_id])
        store.forget_deleted()
        assert store.has_held_images()
        assert reopen().has_held_images()
