"""Store contract: where files are, byte for byte, and what happens when a file moves or changes."""

from __future__ import annotations

import os
from dataclasses import replace
from unicodedata import normalize

import numpy as np
import pytest

from image_search.errors import EmbeddingRefused, ImageNotFound, StoreError
from image_search.records import DeletedImage, Edits, Hits, ImageText, RecognizedText, SearchFilter
from image_search.stores.text import encode_path
from tests.contract.fixtures import DIMENSION, StoreFixtures, list_ids
from tests.fakes import make_embeddings, make_image, make_images

# As a file system may give them: not UTF-8, composed and decomposed, with characters that stand for bytes elsewhere.
ODD_PATHS = [
    os.fsdecode(b"/photos/caf\xe9.jpg"),
    "/photos/café.jpg",
    normalize("NFD", "/photos/café.jpg"),
    os.fsdecode("/photos/写真.jpg".encode("shift_jis")),
    os.fsdecode("/写真/猫.jpg".encode("euc_jp")),
    os.fsdecode(b"/photos/\xff\xfe\x80.jpg"),
    "/photos/\U0010ff80\U0010ffff.jpg",
    os.fsdecode("/photos/\U0010ffe9".encode() + b"\xe9.jpg"),
    "/photos/\ue000 \n'\".jpg",
    "/photos/ÿ.jpg",
    "C:\\写真\\猫.jpg",
    "\\\\server\\share\\a.jpg",
]


class PathContract(StoreFixtures):
    @pytest.fixture
    def image_ids(self, store, model):
        """Two images with a path each, one of an upload."""
        images = [
            make_image("a.png", file_path="/photos/a.png", modified_ns=1),
            make_image("b.png", file_path="/photos/b.png", modified_ns=2),
            make_image("c.png"),
        ]
        return store.add_images(model.model_id, images, make_embeddings(3))

    def test_paths_come_back_byte_for_byte(self, store, model):
        images = [make_image(f"{n}", file_path=path, modified_ns=n) for n, path in enumerate(ODD_PATHS)]
        image_ids = store.add_images(model.model_id, images, make_embeddings(len(images)))
        assert [record.paths for record in store.get_images(image_ids)] == [(path,) for path in ODD_PATHS]
        known = store.find_known_files([*ODD_PATHS, os.fsdecode(b"/photos/caf\xe8.jpg")])
        assert {path: file.image_id for path, file in known.items()} == dict(zip(ODD_PATHS, image_ids, strict=True))
        listed = store.list_paths("/photos")
        below = [pair for pair in zip(ODD_PATHS, image_ids, strict=True) if pair[0].startswith("/photos/")]
        assert listed == sorted(below, key=lambda pair: encode_path(pair[0]).encode())
        pages = [store.list_paths("/photos", after, 3) for after in ("", listed[2][0], listed[5][0], listed[-1][0])]
        assert pages == [listed[:3], listed[3:6], listed[6:9], []]
        assert store.remove_paths(ODD_PATHS[:2]) == 2
        assert store.find_known_files(ODD_PATHS).keys() == set(ODD_PATHS[2:])

    def test_folders_are_compared_byte_for_byte(self, store, model):
        folders = [os.fsdecode(b"/caf\xe9"), "/café", normalize("NFD", "/café"), "/caf%", "/caf_", "/CAFÉ"]
        images = [make_image(f"{n}", file_path=f"{folder}/{n}.png") for n, folder in enumerate(folders)]
        image_ids = store.add_images(model.model_id, images, make_embeddings(len(images)))
        for image_id, folder in zip(image_ids, folders, strict=True):
            assert list_ids(store.list_images(filter=SearchFilter(folder=folder))) == [image_id], folder
            assert [found for _, found in store.list_paths(folder)] == [image_id]
        assert store.count_values("folder") == dict.fromkeys(folders, 1)

    def test_paths_below_a_folder_are_listed_at_any_depth(self, store, model):
        paths = ["/a/b/1", "/a/b/c/2", "/a/b0/3", "/a/b.4", "/a/B/5", "\\\\server\\a\\6", "/a/b\\7"]
        images = [make_image(path[-1], file_path=path) for path in paths]
        image_ids = dict(zip(paths, store.add_images(model.model_id, images, make_embeddings(7)), strict=True))
        for folder, below in (
            ("/a/b", "127"),
            ("/a/b/", "127"),
            ("/a/b/c", "2"),
            ("/a", "123457"),
            ("/", "1234567"),
            ("", "1234567"),
            ("\\\\server\\a", "6"),
            ("/a/b/1", ""),
            ("/x", ""),
        ):
            wanted = sorted((path, image_id) for path, image_id in image_ids.items() if path[-1] in below)
            assert store.list_paths(folder) == wanted, folder
        assert store.list_paths("/a/b", "/a/b/1", 1) == [("/a/b/c/2", image_ids["/a/b/c/2"])]

    def test_image_has_several_paths_the_latest_first(self, store, image_ids):
        store.set_path(image_ids[0], "/copies/a copy.png", 50, 3)
        record = store.get_image(image_ids[0])
        assert record.paths == ("/copies/a copy.png", "/photos/a.png")
        assert (record.file_path, record.file_name) == ("/copies/a copy.png", "a copy.png")
        known = store.find_known_files(["/photos/a.png", "/copies/a copy.png"])
        first, second = known["/photos/a.png"], known["/copies/a copy.png"]
        assert (first.image_id, first.modified_ns, first.content_sha256) == (image_ids[0], 1, record.content_sha256)
        assert (second.image_id, second.byte_size, second.modified_ns) == (image_ids[0], 50, 3)
        for folder in ("/photos", "/copies"):
            assert image_ids[0] in list_ids(store.list_images(filter=SearchFilter(folder=folder)))
        assert list(store.count_values("folder").items()) == [("/photos", 2), ("/copies", 1)]
        store.set_path(image_ids[0], "/photos/a2.png", 50, 3)
        assert list(store.count_values("folder").items()) == [("/photos", 2), ("/copies", 1)]
        assert store.get_image(image_ids[1]).paths == ("/photos/b.png",)

    def test_path_that_is_known_is_refreshed_and_comes_first(self, store, image_ids):
        store.set_path(image_ids[0], "/copies/x.png", 50, 3)
        store.set_path(image_ids[0], "/photos/a.png", 60, None)
        record = store.get_image(image_ids[0])
        assert (record.paths, record.file_name) == (("/photos/a.png", "/copies/x.png"), "a.png")
        known = store.find_known_files(["/photos/a.png"])["/photos/a.png"]
        assert (known.byte_size, known.modified_ns) == (60, None)

    def test_moved_file_keeps_its_image(self, store, image_ids):
        store.set_path(image_ids[0], "/elsewhere/か\u3099新.png", 5, 2)
        assert store.remove_paths(["/photos/a.png"]) == 1
        record = store.get_image(image_ids[0])
        assert (record.paths, record.file_name) == (("/elsewhere/か\u3099新.png",), "が新.png")
        assert list(store.find_known_files(["/photos/a.png", *record.paths])) == list(record.paths)
        assert list_ids(store.list_images(["新"])) == image_ids[:1]
        assert store.list_images(["a.png"]) == Hits()
        assert list_ids(store.list_images(filter=SearchFilter(file_name="が新.png"))) == image_ids[:1]
        for unknown in (424_242, 2**63):
            with pytest.raises(ImageNotFound):
                store.set_path(unknown, "/a.png", 1, None)

    def test_paths_of_images_in_the_trash_are_not_forgotten(self, store, image_ids):
        store.trash_images(image_ids[:1])
        assert store.remove_paths(["/photos/a.png", "/photos/b.png"]) == 1
        assert [record.paths for record in store.get_images(image_ids[:2])] == [("/photos/a.png",), ()]
        assert set(store.find_deleted_paths(["/photos/a.png"])) == {"/photos/a.png"}

    def test_path_that_is_taken_from_the_trash_does_not_come_back(self, store, model, image_ids):
        store.trash_images(image_ids[:1])
        store.set_path(image_ids[1], "/photos/a.png", 5, 5)
        assert store.get_image(image_ids[0]).paths == ()
        store.restore_images(image_ids[:1])
        assert [record.paths for record in store.get_images(image_ids[:2])] == [(), ("/photos/a.png", "/photos/b.png")]

    def test_path_belongs_to_one_image(self, store, model, image_ids):
        store.set_path(image_ids[1], "/photos/a.png", 5, 5)
        assert [record.paths for record in store.get_images(image_ids)] == [(), ("/photos/a.png", "/photos/b.png"), ()]
        new = make_image("a.png", data=b"newer", file_path="/photos/a.png")
        [newest] = store.add_images(model.model_id, [new], make_embeddings(1, seed=1))
        assert store.find_known_files(["/photos/a.png"])["/photos/a.png"].image_id == newest
        assert store.get_image(image_ids[1]).paths == ("/photos/b.png",)
        assert store.list_paths("/photos") == [("/photos/a.png", newest), ("/photos/b.png", image_ids[1])]

    def test_path_that_comes_twice_in_a_batch_is_that_of_the_latest(self, store, model):
        names = ["a.png", "b.png", "a.png", "b.png", "b.png"]
        paths = ["/x/1.png", "/x/1.png", "/x/2.png", "/x/2.png", "/x/2.png"]
        images = [make_image(name, file_path=path) for name, path in zip(names, paths, strict=True)]
        first, second, *_ = store.add_images(model.model_id, images, make_embeddings(2)[[0, 1, 0, 1, 1]])
        assert first < second
        assert [record.paths for record in store.get_images([first, second])] == [(), ("/x/2.png", "/x/1.png")]
        assert store.list_paths("/x") == [("/x/1.png", second), ("/x/2.png", second)]
        assert store.remove_paths(["/x/2.png"]) == 1
        assert store.get_image(second).paths == ("/x/1.png",)

    def test_image_has_no_name_of_a_path_it_lost(self, store, model, image_ids):
        def take_by_path() -> None:
            store.set_path(image_ids[1], "/copies/か\u3099backup.png", 5, 5)

        def take_by_image() -> None:
            new = make_image("new.png", data=b"newer", file_path="/copies/か\u3099backup.png")
            store.add_images(model.model_id, [new], make_embeddings(1, seed=1))

        for lose in (lambda: store.remove_paths(["/copies/か\u3099backup.png"]), take_by_path, take_by_image):
            store.set_path(image_ids[0], "/copies/か\u3099backup.png", 50, 3)
            assert store.get_image(image_ids[0]).file_name == "がbackup.png"
            assert list_ids(store.list_images(["がbackup"])) == image_ids[:1]
            lose()
            record = store.get_image(image_ids[0])
            assert (record.paths, record.file_name) == (("/photos/a.png",), "a.png")
            assert image_ids[0] in list_ids(store.list_images(["a.png"]))
            assert image_ids[0] not in list_ids(store.list_images(["がbackup"]))
            assert list_ids(store.list_images(filter=SearchFilter(file_name="a.png"))) == image_ids[:1]
            assert next(hit.image_id for hit in store.list_images(order="name")) == image_ids[0]

    def test_image_that_loses_paths_keeps_a_name_that_is_left(self, store, image_ids):
        store.set_path(image_ids[0], "/copies/a.png", 50, 3)
        store.set_path(image_ids[0], "/copies/b.png", 50, 3)
        store.set_path(image_ids[0], "/copies/a.png", 50, 3)
        store.remove_paths(["/copies/a.png"])
        assert store.get_image(image_ids[0]).file_name == "a.png"  # that of /photos/a.png
        store.remove_paths(["/photos/a.png"])
        assert store.get_image(image_ids[0]).file_name == "b.png"
        store.remove_paths(["/copies/b.png"])
        assert (store.get_image(image_ids[0]).paths, store.get_image(image_ids[0]).file_name) == ((), "b.png")
        store.set_path(image_ids[2], "/uploads/z.png", 5, 5)
        store.trash_images(image_ids[2:])
        store.set_path(image_ids[1], "/uploads/z.png", 5, 5)
        store.restore_images(image_ids[2:])
        assert (store.get_image(image_ids[2]).paths, store.get_image(image_ids[2]).file_name) == ((), "z.png")

    def test_known_image_gains_the_path_and_keeps_its_record(self, store, model, image_ids):
        again = [
            make_image("z.png", data=b"original of c.png", file_path=path) for path in ("/x/1.png", "/photos/b.png")
        ]
        assert store.add_images(model.model_id, again, make_embeddings(2, seed=1)) == [image_ids[2]] * 2
        record = store.get_image(image_ids[2])
        assert (record.paths, record.file_name) == (("/photos/b.png", "/x/1.png"), "c.png")
        assert store.get_image(image_ids[1]).paths == ()

    def test_images_without_a_path_stay(self, store, image_ids):
        assert store.remove_paths(["/photos/a.png", "/photos/b.png", "/photos/b.png", "/photos/unknown.png"]) == 2
        assert store.list_paths("/") == []
        assert store.count_values("folder") == {}
        assert store.remove_paths(["/photos/a.png"]) == store.remove_paths([]) == 0
        assert store.count_images() == 3
        assert store.get_image(image_ids[0]).file_path is None

    def test_file_name_is_found_in_every_folder_and_by_case(self, store, model):
        images = [make_image(name, data=bytes([n])) for n, name in enumerate(["a.png", "b.png", "a.png", "A.png"], 1)]
        image_ids = store.add_images(model.model_id, images, make_embeddings(4))
        assert sorted(list_ids(store.list_images(filter=SearchFilter(file_name="a.png")))) == image_ids[::2]
        assert store.count_images(SearchFilter(file_name="c.png")) == 0

    # --- a file that changed ---

    def test_new_content_keeps_the_image(self, store, model, image_ids):
        other = store.get_or_create_model("other", "1", DIMENSION)
        store.add_embeddings(other.model_id, image_ids, make_embeddings(3))
        store.set_edits(image_ids[0], Edits("mine", ("mine",), 3))
        store.set_path(image_ids[0], "/copies/a.png", 5, 5)
        store.set_recognized(image_ids[0], RecognizedText("reader 1", "出口"))
        before = store.get_image(image_ids[0])
        image = replace(
            make_image(
                "ignored.png", ImageText(description="rotated", camera="X100"), data=b"new", width=48, height=64
            ),
            recipe=3,
            dominant_color="#010203",
            is_incomplete=True,
        )
        embedding = make_embeddings(1, seed=5)
        store.replace_image(image_ids[0], model.model_id, image, embedding[0])
        record = store.get_image(image_ids[0])
        for name in ("image_id", "upload_date", "file_name", "paths", "edits"):
            assert getattr(record, name) == getattr(before, name), name
        for name in ("content_sha256", "byte_size", "width", "height", "text", "recipe", "dominant_color"):
            assert getattr(record, name) == getattr(image, name), name
        assert record.is_incomplete
        assert (record.recognizer, store.get_recognized(image_ids[0])) == (None, None)
        assert store.read_original(image_ids[0]) == b"new"
        assert store.read_preview(image_ids[0]) == image.preview
        assert np.array_equal(store.get_embedding(image_ids[0], model.model_id), embedding[0])
        assert store.search_embedding(model.model_id, embedding[0])[0].image_id == image_ids[0]
        assert store.find_images_without_embedding(other.model_id) == image_ids[:1]
        assert store.find_images_without_embedding(model.model_id, min_recipe=3) == image_ids[1:]
        assert len(store.search_embedding(other.model_id, embedding[0])) == 2
        assert store.find_known_hashes([before.content_sha256, image.content_sha256]) == {
            image.content_sha256: image_ids[0]
        }
        assert list_ids(store.list_images(["rotated"])) == list_ids(store.list_images(["mine"])) == image_ids[:1]
        assert store.list_images(["出口"]) == Hits()
        assert store.count_values("camera") == {"X100": 1}
        assert store.count_images() == 3
        assert store.find_deleted_hashes([before.content_sha256]) == set()

    def test_old_content_may_be_registered_again(self, store, model, image_ids):
        store.replace_image(image_ids[0], model.model_id, make_image(data=b"new"), make_embeddings(1)[0])
        [again] = store.add_images(model.model_id, [make_image("a.png")], make_embeddings(1))
        assert again not in image_ids
        assert store.read_original(again) == b"original of a.png"
        assert store.read_original(image_ids[0]) == b"new"

    def test_same_content_may_be_read_again(self, store, model, image_ids):
        image = replace(make_image("a.png", ImageText(description="read again")), recipe=2)
        store.replace_image(image_ids[0], model.model_id, image, make_embeddings(1, seed=3)[0])
        assert store.get_image(image_ids[0]).description == "read again"
        assert store.read_original(image_ids[0]) == image.data

    def test_content_of_another_image_is_refused(self, store, model, image_ids):
        before = store.get_images(image_ids)
        for trashed in ([], image_ids[1:2]):
            store.trash_images(trashed)
            with pytest.raises(StoreError):
                store.replace_image(image_ids[0], model.model_id, make_image("b.png"), make_embeddings(1, seed=3)[0])
            assert store.get_image(image_ids[0]) == before[0]
            assert store.read_original(image_ids[1]) == b"original of b.png"
        assert np.array_equal(store.get_embedding(image_ids[0], model.model_id), make_embeddings(3)[0])

    def test_new_content_needs_an_image_and_a_whole_embedding(self, store, model, image_ids):
        image = make_image(data=b"new")
        with pytest.raises(ImageNotFound):
            store.replace_image(424_242, model.model_id, image, make_embeddings(1)[0])
        with pytest.raises(EmbeddingRefused):
            store.replace_image(image_ids[0], model.model_id, image, 2 * make_embeddings(1)[0])
        assert store.find_known_hashes([image.content_sha256]) == {}

    def test_new_content_that_was_remembered_as_deleted_is_forgotten(self, store, model, image_ids):
        image = make_image(data=b"new")
        store.add_deleted([DeletedImage(image.content_sha256, store.get_image(image_ids[0]).upload_date, ("/x",))])
        store.replace_image(image_ids[0], model.model_id, image, make_embeddings(1)[0])
        assert store.find_deleted_hashes([image.content_sha256]) == set()
        assert store.list_deleted() == []
        assert store.find_deleted_paths(["/x"]) == {}

    def test_paths_of_many_images_are_known_at_once(self, store, model):
        images = [replace(image, file_path=f"/many/{image.file_name}") for image in make_images(1200)]
        image_ids = store.add_images(model.model_id, images, make_embeddings(1200))
        known = store.find_known_files([f"/many/image{n:04d}.png" for n in range(1500)])
        assert [file.image_id for file in known.values()] == image_ids
        assert len(store.list_paths("/many")) == 1000
        assert len(store.list_paths("/many", "/many/image0999.png")) == 200
