"""Images that are the same image."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from image_search.images import decode_image, make_preview
from image_search.records import Edits, ImageRecord, ImageText, NewImage
from image_search.search import Searcher
from image_search.search.duplicates import DuplicateGroup, compute_fingerprint, find_duplicates, keep_all
from image_search.settings import Settings
from image_search.stores import open_store
from tests.fakes import FakeEncoder, make_image


def make_scene(seed: int, size: tuple[int, int] = (640, 480)) -> Image.Image:
    """Soft blobs of random colours: an image with places of light and dark."""
    small = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def save_image(picture: Image.Image, name: str, **options: object) -> NewImage:
    file = io.BytesIO()
    picture.save(file, "JPEG", **options)
    preview = make_preview(decode_image(file.getvalue(), name))
    plain = make_image(name, data=file.getvalue(), width=picture.width, height=picture.height)
    return NewImage(**{**{field: getattr(plain, field) for field in NewImage.__slots__}, "preview": preview})


@pytest.fixture
def searcher(tmp_path: Path) -> Iterator[Searcher]:
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library.db")) as store:
        yield Searcher(store, FakeEncoder())


def register(searcher: Searcher, *pictures: tuple[Image.Image, NewImage]) -> None:
    embeddings = searcher.encoder.encode_images([picture for picture, _ in pictures])
    searcher.store.add_images(searcher.get_model().model_id, [image for _, image in pictures], embeddings)


def list_groups(searcher: Searcher) -> list[list[str]]:
    *_, last = find_duplicates(searcher)
    assert last.is_over
    return [[image.file_name for image in group.images] for group in last.groups]


def test_copies_saved_smaller_or_worse_are_one_group_largest_first(searcher: Searcher) -> None:
    scene, other = make_scene(1), make_scene(2)
    small = scene.resize((320, 240))
    register(
        searcher,
        (small, save_image(small, "small.jpg", quality=80)),
        (scene, save_image(scene, "large.jpg", quality=95)),
        (scene, save_image(scene, "worse.jpg", quality=30)),
        (other, save_image(other, "other.jpg")),
    )
    assert list_groups(searcher) == [["large.jpg", "worse.jpg", "small.jpg"]]


def test_one_witness_alone_is_not_enough(searcher: Searcher) -> None:
    # The fake encoder sees the mean colour only, so a mirrored image is the same to it, but not to the hash.
    scene = make_scene(3)
    mirrored = scene.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    # The same places of light and dark in another colour are the same to the hash, but not to the encoder.
    red = Image.merge("RGB", (scene.convert("L"), Image.new("L", scene.size), Image.new("L", scene.size)))
    blue = Image.merge("RGB", (Image.new("L", scene.size), Image.new("L", scene.size), scene.convert("L")))
    for number, picture in enumerate((scene, mirrored, red, blue)):
        register(searcher, (picture, save_image(picture, f"{number}.jpg")))
    assert list_groups(searcher) == []


def test_empty_library_has_no_duplicates(searcher: Searcher) -> None:
    assert list_groups(searcher) == []


def test_image_without_embedding_is_passed_over(searcher: Searcher) -> None:
    scene = make_scene(4)
    register(searcher, (scene, save_image(scene, "a.jpg")))
    other = Searcher(searcher.store, FakeEncoder(name="another"))
    assert list_groups(other) == []


def test_hash_hardly_changes_with_size_and_quality() -> None:
    scene = make_scene(5)
    first, second = (
        compute_fingerprint(save_image(picture, "a.jpg", quality=quality).preview).bits
        for picture, quality in ((scene, 95), (scene.resize((200, 150)), 40))
    )
    assert (first ^ second).bit_count() <= 3
    unlike = compute_fingerprint(save_image(make_scene(6), "b.jpg").preview).bits
    assert (first ^ unlike).bit_count() > 15


# --- which one is kept ------------------------------------------------------------------------------------------------


def make_record(image_id: int, **changes: object) -> ImageRecord:
    plain = ImageRecord(
        image_id,
        f"{image_id:064x}",
        f"{image_id}.jpg",
        "image/jpeg",
        1000,
        640,
        480,
        datetime(2024, 1, 1),
        (),
        ImageText(),
    )
    return replace(plain, **changes)


@pytest.mark.parametrize(
    ("better", "reason"),
    [
        ({"width": 641, "byte_size": 10}, "pixels"),
        ({"file_type": "image/png", "byte_size": 10}, "lossless"),
        ({"text": ImageText(generation_prompt="a fox"), "byte_size": 10}, "text"),
        ({"edits": Edits(rating=1), "byte_size": 10}, "text"),
        ({"byte_size": 10, "upload_date": datetime(2023, 1, 1)}, "older"),
    ],
)
def test_best_is_kept_and_why_is_said(better: dict[str, object], reason: str) -> None:
    worse = make_record(1, byte_size=10**9)
    group = DuplicateGroup.of([worse, make_record(2, **better)], {})
    assert [image.image_id for image in group.images] == [2, 1]
    assert group.kept_because == reason


def test_bytes_alone_decide_nothing() -> None:
    group = DuplicateGroup.of([make_record(2, byte_size=10**9), make_record(1)], {})
    assert ([image.image_id for image in group.images], group.kept_because) == ([1, 2], "first")


def test_pixels_come_before_texts_and_the_file_s_date_before_the_registration() -> None:
    large, described = make_record(1, width=1000), make_record(2, text=ImageText(description="x"))
    assert DuplicateGroup.of([described, large], {}).images == (large, described)
    old, new = make_record(2), make_record(1)
    group = DuplicateGroup.of([new, old], {2: datetime(2001, 1, 1)})
    assert (group.images, group.kept_because, group.dates[0]) == ((old, new), "older", datetime(2001, 1, 1))


def test_rest_of_a_group_says_why_again() -> None:
    group = DuplicateGroup.of([make_record(1, width=900), make_record(2, edits=Edits("x")), make_record(3)], {})
    left = group.without([1])
    assert left is not None and (left.images[0].image_id, left.kept_because) == (2, "text")
    assert left.without([2]) is None


def test_file_s_time_tells_which_one_is_older(searcher: Searcher, tmp_path: Path) -> None:
    scene = make_scene(11)
    images = [save_image(scene, name, quality=quality) for name, quality in (("new.jpg", 90), ("old.jpg", 80))]
    images = [
        replace(image, file_path=str(tmp_path / image.file_name), modified_ns=time * 10**9)
        for image, time in zip(images, (2000, 1000), strict=True)
    ]
    register(searcher, *((scene, image) for image in images))
    assert list_groups(searcher) == [["old.jpg", "new.jpg"]]


# --- flat images ------------------------------------------------------------------------------------------------------


def test_flat_images_are_no_duplicates(searcher: Searcher) -> None:
    for side in (1, 2, 7, 64, 256, 1024):
        black = Image.new("RGB", (side, side))
        register(searcher, (black, save_image(black, f"{side}.jpg")))
    assert list_groups(searcher) == []


def test_nearly_blank_pages_are_no_duplicates(searcher: Searcher) -> None:
    white = Image.new("RGB", (600, 800), "white")
    pages = [white]
    for number in range(4):
        page = white.copy()
        ImageDraw.Draw(page).text((60, 60 + 150 * number), f"Chapter {number}", "black", font_size=40)
        pages.append(page)
    register(searcher, *((page, save_image(page, f"{number}.jpg")) for number, page in enumerate(pages)))
    assert list_groups(searcher) == []


# --- kept whole -------------------------------------------------------------------------------------------------------


def test_group_that_is_kept_whole_is_shown_again_only_with_another_image(searcher: Searcher) -> None:
    scene = make_scene(12)
    small = scene.resize((320, 240))
    register(
        searcher,
        (scene, save_image(scene, "a.jpg", quality=95)),
        (scene, save_image(scene, "b.jpg", quality=70)),
        (small, save_image(small, "c.jpg")),
    )
    *_, last = find_duplicates(searcher)
    keep_all(searcher.store, last.groups[0])
    assert list_groups(searcher) == []
    searcher.store.trash_images([last.groups[0].images[0].image_id])
    assert list_groups(searcher) == []
    register(searcher, (scene, save_image(scene, "d.jpg", quality=50)))
    assert len(list_groups(searcher)) == 1


def test_images_in_the_trash_are_not_looked_at(searcher: Searcher) -> None:
    scene = make_scene(13)
    register(searcher, *((scene, save_image(scene, f"{quality}.jpg", quality=quality)) for quality in (90, 60)))
    [group] = list_groups(searcher)
    searcher.store.trash_images([searcher.store.list_image_ids()[0]])
    assert len(group) == 2 and list_groups(searcher) == []
