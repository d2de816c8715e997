"""Pictures that are the same picture."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from image_search.images import decode_image, make_preview
from image_search.records import NewImage
from image_search.search.duplicates import compute_fingerprint, find_duplicates
from image_search.search.searcher import Searcher
from image_search.settings import Settings
from image_search.stores import open_store
from tests.fakes import FakeEncoder, make_image


def make_scene(seed: int, size: tuple[int, int] = (640, 480)) -> Image.Image:
    """Soft blobs of random colours: a picture with places of light and dark."""
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
    # The fake encoder sees the mean colour only, so a mirrored picture is the same to it, but not to the hash.
    scene = make_scene(3)
    mirrored = scene.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    # The same places of light and dark in another colour are the same to the hash, but not to the encoder.
    red = Image.merge("RGB", (scene.convert("L"), Image.new("L", scene.size), Image.new("L", scene.size)))
    blue = Image.merge("RGB", (Image.new("L", scene.size), Image.new("L", scene.size), scene.convert("L")))
    for number, picture in enumerate((scene, mirrored, red, blue)):
        register(searcher, (picture, save_image(picture, f"{number}.jpg")))
    assert list_groups(searcher) == []


def test_an_empty_library_has_no_duplicates(searcher: Searcher) -> None:
    assert list_groups(searcher) == []


def test_an_image_without_embedding_is_passed_over(searcher: Searcher) -> None:
    scene = make_scene(4)
    register(searcher, (scene, save_image(scene, "a.jpg")))
    other = Searcher(searcher.store, FakeEncoder(name="another"))
    assert list_groups(other) == []


def test_the_hash_hardly_changes_with_size_and_quality() -> None:
    scene = make_scene(5)
    first, second = (
        compute_fingerprint(save_image(picture, "a.jpg", quality=quality).preview).bits
        for picture, quality in ((scene, 95), (scene.resize((200, 150)), 40))
    )
    assert (first ^ second).bit_count() <= 3
    unlike = compute_fingerprint(save_image(make_scene(6), "b.jpg").preview).bits
    assert (first ^ unlike).bit_count() > 15
