"""Store contract: frames of films."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from image_search.errors import StoreError
from image_search.records import DeletedImage, Edits, Frame, Hits, ImageText, NewImage, SearchFilter
from image_search.stores.text import hash_frame
from tests.contract.fixtures import StoreFixtures, list_ids
from tests.fakes import make_embeddings, make_image, make_images

FILM, OTHER_FILM = "f1" * 32, "f2" * 32


def make_frame(frame_ms: int, film: str = FILM, path: str | None = "/films/a.mp4") -> NewImage:
    image = make_image("a.mp4", file_type="video/mp4", file_path=path, modified_ns=7)
    return replace(
        image,
        content_sha256=hash_frame(film, frame_ms),
        data=None,
        size=9_000_000_000,
        preview=f"frame {frame_ms}".encode(),
        frame=Frame(film, frame_ms, 60_000),
    )


class FrameContract(StoreFixtures):
    @pytest.fixture
    def frame_ids(self, store, model):
        """Three frames of one film; behind them an ordinary image."""
        images = [*(make_frame(time) for time in (0, 500, 1000)), make_image("b.png", file_path="/films/b.png")]
        return store.add_images(model.model_id, images, make_embeddings(4))[:3]

    def test_frame_comes_back_without_an_original(self, store, frame_ids):
        record = store.get_image(frame_ids[1])
        assert record.frame == Frame(FILM, 500, 60_000)
        assert (record.byte_size, record.file_type, record.paths) == (9_000_000_000, "video/mp4", ("/films/a.mp4",))
        assert store.read_preview(frame_ids[1]) == b"frame 500"
        with pytest.raises(StoreError, match="frame of a film"):
            store.read_original(frame_ids[1])

    def test_frame_gets_no_content_of_its_own(self, store, model, frame_ids):
        before = store.get_images(frame_ids)
        [image_id] = store.add_images(model.model_id, [make_image("c.png")], make_embeddings(1))
        for chosen, image in ((frame_ids[0], make_image("new.png")), (image_id, make_frame(7000))):
            with pytest.raises(StoreError, match="frame of a film"):
                store.replace_image(chosen, model.model_id, image, make_embeddings(1)[0])
        assert store.get_images(frame_ids) == before
        assert store.get_image(image_id).frame is None

    def test_frame_is_registered_once(self, store, model, frame_ids):
        again = store.add_images(model.model_id, [make_frame(500), make_frame(1500)], make_embeddings(2, seed=1))
        assert again[0] == frame_ids[1]
        assert store.count_images(SearchFilter(film_sha256=FILM)) == 4

    def test_frames_of_two_films_at_the_same_time_are_two(self, store, model, frame_ids):
        other = make_frame(500, OTHER_FILM, "/films/other.mp4")
        [image_id] = store.add_images(model.model_id, [other], make_embeddings(1, seed=1))
        assert image_id not in frame_ids
        assert list_ids(store.list_images(filter=SearchFilter(film_sha256=OTHER_FILM))) == [image_id]

    def test_kind_and_film_are_filters_and_kind_is_counted(self, store, frame_ids):
        assert sorted(list_ids(store.list_images(filter=SearchFilter(kind="frame")))) == frame_ids
        assert [hit.image.file_name for hit in store.list_images(filter=SearchFilter(kind="image"))] == ["b.png"]
        assert sorted(list_ids(store.list_images(filter=SearchFilter(film_sha256=FILM)))) == frame_ids
        assert store.list_images(filter=SearchFilter(film_sha256=OTHER_FILM)) == Hits()
        assert store.list_images(filter=SearchFilter(film_sha256=FILM, kind="image")) == Hits()
        assert list(store.count_values("kind").items()) == [("frame", 3), ("image", 1)]
        assert store.count_values("kind", SearchFilter(kind="image")) == {"image": 1}

    def test_frames_of_each_film_are_counted(self, store, model, frame_ids):
        assert store.count_values("film") == {FILM: 3}
        assert store.count_values("film", SearchFilter(kind="image")) == {}
        others = [make_frame(time, OTHER_FILM, "/films/other.mp4") for time in (0, 500, 1000, 1500)]
        store.add_images(model.model_id, others, make_embeddings(4, seed=1))
        store.trash_images(frame_ids[:1])
        assert list(store.count_values("film").items()) == [(OTHER_FILM, 4), (FILM, 2)]
        assert store.count_values("film", SearchFilter(folder="/films", film_sha256=FILM)) == {FILM: 2}

    def test_values_of_a_film_are_counted_once(self, store, model):
        text = ImageText(
            keywords=("sea",), camera="X100", lens="23mm", generation_model="flux", loras=("ink",), rating=3
        )
        frames = [replace(make_frame(time), text=text) for time in (0, 500, 1000)]
        frames += [replace(make_frame(time, OTHER_FILM, "/films/2/b.mp4"), text=text) for time in (0, 500)]
        images = [make_image(f"{n}.png", text, file_path=f"/films/{n}.png") for n in range(2)]
        image_ids = store.add_images(model.model_id, [*frames, *images], make_embeddings(7))
        store.set_edits(image_ids[0], Edits(keywords=("sea", "boat")))  # one moment has what the others lack
        for field in ("camera", "lens", "generation_model", "lora", "rating"):
            assert list(store.count_values(field).values()) == [4], field
        assert store.count_values("keyword") == {"sea": 4, "boat": 1}
        assert store.count_values("file_type") == {"image/png": 2, "video/mp4": 2}
        assert store.count_values("folder") == {"/films": 3, "/films/2": 1}
        assert store.count_values("keyword", SearchFilter(folder="/films/2")) == {"sea": 1}
        assert store.count_values("keyword", SearchFilter(keyword="boat")) == {"boat": 1, "sea": 1}
        assert store.count_values("camera", SearchFilter(kind="image")) == {"X100": 2}
        assert store.count_values("camera", SearchFilter(kind="frame")) == {"X100": 2}
        store.trash_images(image_ids[:3])
        assert store.count_values("keyword") == {"sea": 3}

    def test_frames_of_one_film_share_a_path(self, store, frame_ids):
        known = store.find_known_files(["/films/a.mp4", "/films/b.png"])
        assert (known["/films/a.mp4"].film_sha256, known["/films/b.png"].film_sha256) == (FILM, None)
        assert known["/films/a.mp4"].image_id in frame_ids
        assert (known["/films/a.mp4"].byte_size, known["/films/a.mp4"].modified_ns) == (9_000_000_000, 7)
        listed = store.list_paths("/films")
        assert [path for path, _ in listed] == ["/films/a.mp4", "/films/b.png"]
        assert listed[0][1] in frame_ids
        assert store.list_paths("/films", limit=1) == listed[:1]
        assert store.list_paths("/films", after="/films/a.mp4") == listed[1:]
        assert store.count_images(SearchFilter(folder="/films")) == 4
        assert store.count_values("folder") == {"/films": 2}

    def test_film_that_moved_keeps_its_frames(self, store, frame_ids):
        for image_id in frame_ids:
            store.set_path(image_id, "/moved/a.mp4", 9_000_000_000, 8)
        store.remove_paths(["/films/a.mp4"])
        assert [record.paths for record in store.get_images(frame_ids)] == [("/moved/a.mp4",)] * 3
        assert store.count_images(SearchFilter(folder="/moved")) == 3

    def test_frames_that_are_added_again_at_another_path_have_both(self, store, model, frame_ids):
        again = [make_frame(time, path="/copies/a.mp4") for time in (0, 500, 1000)]
        assert store.add_images(model.model_id, again, make_embeddings(3, seed=7)) == frame_ids
        assert [set(record.paths) for record in store.get_images(frame_ids)] == [{"/films/a.mp4", "/copies/a.mp4"}] * 3
        assert store.count_images() == 4
        known = store.find_known_files(["/films/a.mp4", "/copies/a.mp4"])
        assert {file.film_sha256 for file in known.values()} == {FILM}
        touched = [replace(image, modified_ns=99) for image in again]
        store.add_images(model.model_id, touched, make_embeddings(3, seed=7))
        assert store.find_known_files(["/copies/a.mp4"])["/copies/a.mp4"].modified_ns == 99
        assert store.remove_paths(["/films/a.mp4"]) == 1
        assert [record.paths for record in store.get_images(frame_ids)] == [("/copies/a.mp4",)] * 3

    def test_frames_have_no_name_of_a_path_their_film_lost(self, store, model, frame_ids):
        for image_id in frame_ids:
            store.set_path(image_id, "/copies/copy.mp4", 9_000_000_000, 8)
        assert [record.file_name for record in store.get_images(frame_ids)] == ["copy.mp4"] * 3
        other = [make_frame(time, OTHER_FILM, "/copies/copy.mp4") for time in (0, 500)]
        store.add_images(model.model_id, other, make_embeddings(2, seed=1))
        found = [(record.paths, record.file_name) for record in store.get_images(frame_ids)]
        assert found == [(("/films/a.mp4",), "a.mp4")] * 3

    def test_film_hash_that_is_remembered_says_that_the_film_was_deleted(self, store, frame_ids):
        store.add_deleted([DeletedImage(FILM, datetime(2024, 1, 2), ("/films/a.mp4",))])
        assert store.find_deleted_hashes([FILM, OTHER_FILM]) == {FILM}
        assert store.find_deleted_paths(["/films/a.mp4"]) == {}  # its frames are live
        assert store.forget_deleted([FILM]) == 1
        assert store.find_deleted_hashes([FILM]) == set()

    def test_another_film_takes_the_path_from_every_frame(self, store, model, frame_ids):
        later = store.add_images(
            model.model_id, [make_frame(0, OTHER_FILM), make_frame(500, OTHER_FILM)], make_embeddings(2, seed=1)
        )
        assert [record.paths for record in store.get_images(frame_ids)] == [()] * 3
        assert [record.paths for record in store.get_images(later)] == [("/films/a.mp4",)] * 2
        assert store.find_known_files(["/films/a.mp4"])["/films/a.mp4"].film_sha256 == OTHER_FILM

    def test_image_takes_the_path_from_every_frame(self, store, model, frame_ids):
        [image_id] = store.add_images(model.model_id, make_images(1), make_embeddings(1))
        store.set_path(image_id, "/films/a.mp4", 5, 5)
        assert store.list_paths("/films")[0] == ("/films/a.mp4", image_id)
        assert [record.paths for record in store.get_images(frame_ids)] == [()] * 3

    def test_one_frame_in_the_trash_leaves_the_path_to_the_others(self, store, frame_ids):
        store.trash_images(frame_ids[:1])
        assert store.find_known_files(["/films/a.mp4"])["/films/a.mp4"].image_id in frame_ids[1:]
        assert store.find_deleted_paths(["/films/a.mp4"]) == {}
        store.trash_images(frame_ids[1:])
        deleted = store.find_deleted_paths(["/films/a.mp4"])
        assert deleted["/films/a.mp4"] in {hash_frame(FILM, time) for time in (0, 500, 1000)}
        store.restore_images(frame_ids)
        assert [record.paths for record in store.get_images(frame_ids)] == [("/films/a.mp4",)] * 3
