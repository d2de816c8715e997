"""Store contract: lists of images in every order, previews, settings and the status."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from image_search.records import Hits, ImageText, SearchFilter
from tests.contract.fixtures import DIMENSION, StoreFixtures, list_ids, list_names
from tests.fakes import make_embeddings, make_image, make_images

NAMES = [
    "IMG_2.jpg",
    "IMG_10.jpg",
    "img_9.jpg",
    "ＩＭＧ_3.jpg",
    "Ábc.png",
    "猫.png",
    "10.png",
    "9.png",
    "1" * 30,
    "いぬ",
]
# Numbers by their value, case and width alike, then by the bytes.
SORTED_NAMES = [
    "9.png",
    "10.png",
    "1" * 30,
    "IMG_2.jpg",
    "ＩＭＧ_3.jpg",
    "img_9.jpg",
    "IMG_10.jpg",
    "Ábc.png",
    "いぬ",
    "猫.png",
]


class ListContract(StoreFixtures):
    def test_newest_images_come_first(self, store, model):
        first = store.add_images(model.model_id, make_images(3), make_embeddings(3))
        [later] = store.add_images(model.model_id, [make_image("later.png")], make_embeddings(1))
        hits = store.list_images()
        assert list_ids(hits) == [later, *first[::-1]]
        assert {hit.distance for hit in hits} == {None}
        assert list_ids(store.list_images(limit=2, offset=1)) == first[:0:-1]

    def test_image_without_embedding_is_among_the_newest(self, store, model):
        other = store.get_or_create_model("other", "1", DIMENSION)
        store.add_images(model.model_id, make_images(1), make_embeddings(1))
        assert len(store.list_images()) == 1
        assert store.search_embedding(other.model_id, make_embeddings(1)[0]) == Hits()

    def test_images_are_listed_in_pages_with_their_total(self, store, model):
        texts = [ImageText(description="猫" if n % 2 else "犬") for n in range(20)]
        images = [make_image(f"{n}", text) for n, text in enumerate(texts)]
        image_ids = store.add_images(model.model_id, images, make_embeddings(20))
        cats = image_ids[1::2][::-1]
        for offset in (0, 3, 9, 10, 50):
            found = store.list_images(["猫"], 4, offset)
            assert (list_ids(found), found.total) == (cats[offset : offset + 4], 10)
        assert store.list_images(["鳥"]) == Hits()
        assert store.list_images(limit=5, filter=SearchFilter(words=("犬",))).total == 10

    def test_images_are_listed_by_the_time_they_were_taken(self, store, model):
        moments = [
            datetime(2024, 1, 2),
            None,
            datetime(1890, 5, 6),
            datetime(2024, 1, 2),
            None,
            datetime(2024, 1, 2, 0, 0, 1),
        ]
        upload_date = datetime(2025, 1, 1)
        images = [
            replace(make_image(f"{n}", ImageText(taken_at=moment)), upload_date=upload_date.replace(day=1 + n % 3))
            for n, moment in enumerate(moments)
        ]
        image_ids = store.add_images(model.model_id, images, make_embeddings(6))
        wanted = [image_ids[n] for n in (5, 3, 0, 2, 4, 1)]
        assert list_ids(store.list_images(order="taken")) == wanted
        pages = [store.list_images(limit=2, offset=offset, order="taken") for offset in (0, 2, 4)]
        assert [image_id for page in pages for image_id in list_ids(page)] == wanted
        assert {page.total for page in pages} == {6}
        store.set_text(image_ids[1], ImageText(taken_at=datetime(2030, 1, 1)))
        assert list_ids(store.list_images(limit=1, order="taken")) == [image_ids[1]]

    def test_images_are_listed_by_the_time_they_were_registered(self, store, model):
        days = (3, 1, 2, 3)
        images = [replace(make_image(f"{n}"), upload_date=datetime(2024, 1, day)) for n, day in enumerate(days)]
        image_ids = store.add_images(model.model_id, images, make_embeddings(4))
        assert list_ids(store.list_images(order="registered")) == [image_ids[n] for n in (3, 0, 2, 1)]

    @pytest.mark.parametrize("order", ["registered", "taken", "name"])
    def test_pages_go_on_behind_an_image_whatever_was_added_and_removed(self, store, model, order):
        moments = [None, datetime(2020, 1, 2), datetime(2020, 1, 2), datetime(2021, 1, 1), None]
        images = [
            replace(
                make_image(f"{number % 7}.png", ImageText(taken_at=moments[number % 5]), data=b"%d" % number),
                upload_date=datetime(2024, 1, 1 + number % 3),
            )
            for number in range(40)
        ]
        store.add_images(model.model_id, images[:30], make_embeddings(30))
        wanted = list_ids(store.list_images(limit=30, order=order))
        for place in (0, 11, 28, 29):
            after = store.get_image(wanted[place])
            page = store.list_images(limit=4, offset=1, order=order, after=after)
            assert (list_ids(page), page.total) == (wanted[place + 2 : place + 6], 30), place
            if order == "registered":  # its keys are all that a cursor of another program has kept
                keys = replace(after, content_sha256="0" * 64, file_name="", file_type="", paths=(), text=ImageText())
                assert store.list_images(limit=4, offset=1, order=order, after=keys) == page
        after = store.get_image(wanted[11])
        store.add_images(model.model_id, images[30:], make_embeddings(40)[30:])
        removed = {*wanted[3:5], *wanted[11:14]}
        store.trash_images(wanted[3:12])
        store.restore_images(wanted[5:11])
        store.delete_images(wanted[12:14])
        behind = list_ids(store.list_images(limit=40, order=order, after=after))
        assert [image_id for image_id in behind if image_id in wanted] == wanted[14:]
        everything = [image.image_id for image in store.iterate_images(order=order)]
        assert everything == list_ids(store.list_images(limit=100, order=order))
        assert set(everything) >= set(wanted) - removed

    def test_pages_behind_an_image_know_terms_and_filters(self, store, model):
        texts = [ImageText(description="猫" if n % 2 else "犬") for n in range(20)]
        images = [make_image(f"{n}", text) for n, text in enumerate(texts)]
        cats = store.add_images(model.model_id, images, make_embeddings(20))[1::2][::-1]
        after = store.get_image(cats[2])
        for terms, filter in ((["猫"], SearchFilter()), ([], SearchFilter(words=("猫",)))):
            page = store.list_images(terms, 4, 0, filter, after=after)
            assert (list_ids(page), page.total) == (cats[3:7], 10)
        assert store.list_images(["猫"], after=store.get_image(cats[-1])) == Hits((), 10)

    def test_image_that_was_registered_by_a_clock_that_was_ahead_does_not_stay_the_newest(self, store, model):
        now = datetime.now(UTC).replace(tzinfo=None)
        ahead = [replace(make_image(f"{n}.png"), upload_date=now + timedelta(days=400 + n)) for n in range(2)]
        image_ids = store.add_images(model.model_id, ahead, make_embeddings(2))
        [later] = store.add_images(model.model_id, [make_image("later.png")], make_embeddings(1))
        assert list_ids(store.list_images()) == [later, *image_ids[::-1]]
        dates = [image.upload_date for image in store.get_images([*image_ids, later])]
        assert max(dates) < now + timedelta(days=1)
        old = store.get_image(later)
        store.add_images(model.model_id, [make_image("last.png")], make_embeddings(1))
        assert store.get_image(later) == old
        assert store.count_images(SearchFilter(registered_from=now + timedelta(days=1))) == 0

    def test_images_are_listed_by_name(self, store, model):
        images = [make_image(name) for name in NAMES]
        images.append(make_image("9.PNG", data=b"the same name but for its case"))
        image_ids = store.add_images(model.model_id, images, make_embeddings(len(images)))
        wanted = [SORTED_NAMES[0], "9.PNG", *SORTED_NAMES[1:]]
        assert list_names(store.list_images(order="name")) == wanted
        pages = [store.list_images(limit=4, offset=offset, order="name") for offset in (0, 4, 8)]
        assert [name for page in pages for name in list_names(page)] == wanted
        found = store.list_images(["img"], order="name")
        assert (list_names(found), found.total) == (["IMG_2.jpg", "ＩＭＧ_3.jpg", "img_9.jpg", "IMG_10.jpg"], 4)
        store.set_path(image_ids[NAMES.index("猫.png")], "/a/0.png", 1, 1)
        assert list_names(store.list_images(limit=1, order="name")) == ["0.png"]

    # --- previews ---

    def test_previews_come_in_one_batch(self, store, model):
        image_ids = store.add_images(model.model_id, make_images(600), make_embeddings(600))
        wanted = [image_ids[3], image_ids[0], image_ids[3]]
        assert store.read_previews([*wanted, 424_242]) == {image_ids[n]: make_images(4)[n].preview for n in (3, 0)}
        assert store.read_previews(image_ids).keys() == set(image_ids)
        assert store.read_previews([]) == store.read_previews([424_242, 0, -1]) == {}

    def test_facts_of_an_image_come_back(self, store, model):
        image = replace(make_image(), is_incomplete=True, dominant_color="#a0b1c2", recipe=7)
        [image_id] = store.add_images(model.model_id, [image], make_embeddings(1))
        record = store.get_image(image_id)
        assert (record.is_incomplete, record.dominant_color, record.recipe) == (True, "#a0b1c2", 7)
        assert (record.frame, record.deleted_at, record.trash_reason) == (None, None, None)

    # --- settings ---

    def test_settings_are_kept_with_the_library(self, store, reopen):
        assert store.list_settings("groups.") == {}
        long = "猫,{}\"'\\\n" * 20_000
        values = {"groups.1": "a", "groups.2": long, "group": "b", "groups%": "c", "Groups.1": "d", "x" * 100: ""}
        for name, value in values.items():
            store.set_setting(name, value)
        for handle in (store, reopen()):
            assert handle.list_settings("groups.") == {"groups.1": "a", "groups.2": long}
            assert handle.list_settings("groups%") == {"groups%": "c"}
            assert handle.list_settings("group_") == {}
            assert handle.list_settings().items() >= values.items()
        store.set_setting("groups.1", "new")
        store.set_setting("groups.2", None)
        store.set_setting("unknown", None)
        assert store.list_settings("groups.") == {"groups.1": "new"}

    # --- the whole library ---

    def test_status_counts_images_and_embeddings(self, store, model):
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
