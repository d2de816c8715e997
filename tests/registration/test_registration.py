"""A folder goes into the library once, whatever is in it and however often it is registered."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from image_search.encoders.base import Embeddings
from image_search.errors import EncoderError, ModelUnavailable, StoreFull, StoreUnavailable
from image_search.images import RECIPE
from image_search.records import Frame
from image_search.registration import Registrar, RegistrationReport
from image_search.registration.files import find_files
from image_search.registration.pipeline import ImageReader
from image_search.settings import Settings
from image_search.stores.base import ImageStore
from image_search.stores.sqlite import SqliteStore
from tests.fakes import FakeEncoder, find_ids

READER = ImageReader(max_pixels=10**6)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    with SqliteStore.open(Settings(database_url=f"sqlite:///{tmp_path}/library/image_search.db")) as store:
        yield store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine different images."""
    folder = tmp_path / "pictures"
    fill_folder(folder, 9)
    return folder


def fill_folder(folder: Path, count: int, start: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    for number in range(start, start + count):
        Image.new("RGB", (20, 10), (number % 256, 100, 50)).save(folder / f"{number:03d}.png")


def register(
    store: ImageStore, *paths: Path, encoder: FakeEncoder | None = None, **options: object
) -> RegistrationReport:
    registrar = Registrar(store, encoder or FakeEncoder(), pauses=(0, 0), **options)
    return registrar.register(find_files(paths))


def count(report: RegistrationReport) -> tuple[int, int, int, int]:
    return report.registered, report.known, report.moved, report.failed


# --- once and only once -----------------------------------------------------------------------------------------------


def test_second_run_registers_nothing_and_does_not_even_ask_the_model(store: ImageStore, folder: Path) -> None:
    assert count(register(store, folder)) == (9, 0, 0, 0)
    encoder = FakeEncoder()
    assert count(register(store, folder, encoder=encoder)) == (0, 9, 0, 0)
    assert encoder.calls == []


def test_library_inside_the_folder_does_not_register_its_own_copies(folder: Path) -> None:
    with SqliteStore.open(Settings(database_url=f"sqlite:///{folder}/library.db")) as store:
        assert count(register(store, folder)) == (9, 0, 0, 0)
        assert count(register(store, folder)) == (0, 9, 0, 0)
        (folder.parent / "link").symlink_to(folder)
        assert count(register(store, folder.parent / "link"))[0] == 0
        records = [hit.image for hit in store.list_images(limit=9)]
    assert {record.file_name for record in records} == {f"{number:03d}.png" for number in range(9)}
    assert not [path for record in records for path in record.paths if "originals" in path]


def test_unchanged_file_is_not_even_read(store: ImageStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(store, folder)
    monkeypatch.setattr("image_search.registration.read_file", None)
    assert count(register(store, folder)) == (0, 9, 0, 0)


def test_images_arrive_whole(store: ImageStore, folder: Path) -> None:
    register(store, folder)
    image = store.get_image(find_ids(store, "003.png")[0])
    path = folder / "003.png"
    assert (image.file_type, image.width, image.height) == ("image/png", 20, 10)
    assert image.file_path == str(path) and image.byte_size == path.stat().st_size
    assert store.read_original(image.image_id) == path.read_bytes()
    assert store.read_preview(image.image_id)[8:12] == b"WEBP"
    model = store.find_current_model()
    assert model is not None
    expected = FakeEncoder().encode_images([Image.open(path)])[0]
    assert np.allclose(store.get_embedding(image.image_id, model.model_id), expected)


def test_image_without_a_file_is_described_alike(folder: Path) -> None:
    path = folder / "003.png"
    image = ImageReader().read_bytes(path.read_bytes(), "か\u3099.png")
    assert (image.file_name, image.file_type, image.width, image.height) == ("が.png", "image/png", 20, 10)
    assert image.file_path is None and image.content_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_texts_in_the_file_are_kept(store: ImageStore, tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("parameters", "夜の海\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 8x8")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    register(store, tmp_path / "a.png")
    assert "夜の海" in (store.get_image(find_ids(store, "a.png")[0]).text.generation_prompt or "")


def test_copies_in_one_run_are_one_image(store: ImageStore, folder: Path) -> None:
    (folder / "copy.png").write_bytes((folder / "001.png").read_bytes())
    assert count(register(store, folder)) == (9, 1, 0, 0)
    assert count(register(store, folder)) == (0, 10, 0, 0)
    assert store.count_images() == 9


def test_moved_file_is_recognised_and_its_path_updated(store: ImageStore, folder: Path) -> None:
    register(store, folder)
    (folder / "new").mkdir()
    (folder / "004.png").rename(folder / "new" / "猫.png")
    assert count(register(store, folder)) == (0, 8, 1, 0)
    assert store.get_image(find_ids(store, "猫.png")[0]).file_path == str(folder / "new" / "猫.png")
    assert find_ids(store, "004.png") == []
    assert count(register(store, folder)) == (0, 9, 0, 0)


def test_touched_file_is_read_once_more_and_then_known_again(store: ImageStore, folder: Path) -> None:
    register(store, folder)
    os.utime(folder / "001.png", ns=(1, 1))
    assert count(register(store, folder)) == (0, 9, 0, 0)
    known = store.find_known_files([str(folder / "001.png")])
    assert known[str(folder / "001.png")].modified_ns == 1


@pytest.mark.slow
def test_two_registrars_at_once_make_no_doubles(store: ImageStore, tmp_path: Path) -> None:
    fill_folder(tmp_path / "many", 60)
    reports: list[RegistrationReport] = []
    threads = [
        threading.Thread(target=lambda: reports.append(register(store, tmp_path / "many", batch_size=4)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reports) == 2 and not any(report.failed for report in reports)
    assert store.count_images() == 60


# --- one bad image --------------------------------------------------------------------------------------------------


def test_bad_files_are_a_sentence_each_and_the_run_goes_on(store: ImageStore, folder: Path) -> None:
    (folder / "004a.png").write_bytes((folder / "004.png").read_bytes()[:40])
    (folder / "empty.jpg").touch()
    told: list[str] = []
    report = register(store, folder, on_message=told.append)
    assert count(report) == (9, 0, 0, 2)
    assert told == report.failures
    assert "004a.png" in told[0] and "empty.jpg is empty" in told[1]
    assert store.count_images() == 9


class Picky(FakeEncoder):
    """Fails for batches with an image that is 13 pixels wide."""

    def encode_images(self, images: Sequence[Image.Image]) -> Embeddings:
        if any(image.width == 13 for image in images):
            raise EncoderError("not finite")
        return super().encode_images(images)


def test_image_the_model_chokes_on_does_not_take_its_batch_along(store: ImageStore, folder: Path) -> None:
    Image.new("RGB", (13, 13)).save(folder / "000a.png")
    report = register(store, folder, encoder=Picky())
    assert count(report) == (9, 0, 0, 1)
    assert "000a.png was not embedded. not finite" in report.failures[0]


def test_model_that_fails_for_everything_ends_the_run(store: ImageStore, folder: Path) -> None:
    class Broken(FakeEncoder):
        def encode_images(self, images: Sequence[Image.Image]) -> Embeddings:
            raise ModelUnavailable("no model")

    with pytest.raises(ModelUnavailable, match="no model"):
        register(store, folder, encoder=Broken())
    assert store.count_images() == 0


def test_pixel_limit_is_the_readers(store: ImageStore, folder: Path) -> None:
    report = register(store, folder, reader=ImageReader(max_pixels=100))
    assert report.failed == 9 and "MAX_IMAGE_PIXELS" in report.failures[0]


# --- batches ----------------------------------------------------------------------------------------------------------


def test_model_gets_full_batches(store: ImageStore, folder: Path) -> None:
    encoder = FakeEncoder()
    register(store, folder, encoder=encoder, batch_size=4)
    assert sorted(encoder.calls) == [1, 4, 4]


def test_batch_size_is_asked_for_only_when_an_image_is_there(store: ImageStore, folder: Path) -> None:
    asked: list[int] = []

    def choose() -> int:
        asked.append(1)
        return 4

    register(store, folder, batch_size=choose)
    register(store, folder, batch_size=choose)
    assert asked == [1]


def test_progress_reaches_the_total(store: ImageStore, folder: Path) -> None:
    (folder / "bad.png").write_bytes(b"no")
    steps: list[tuple[int, int]] = []
    report = register(store, folder, on_progress=lambda report: steps.append((report.done, report.total)), batch_size=2)
    assert steps[-1] == (10, 10) == (report.done, report.total)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)


@pytest.mark.slow
def test_stopping_finishes_the_batch_in_hand_and_leaves_the_rest_for_the_next_run(
    store: ImageStore, tmp_path: Path
) -> None:
    fill_folder(tmp_path / "many", 100)
    stop = threading.Event()

    class Stopping(FakeEncoder):
        def encode_images(self, images: Sequence[Image.Image]) -> Embeddings:
            stop.set()
            return super().encode_images(images)

    report = register(store, tmp_path / "many", encoder=Stopping(), batch_size=10, stop=stop)
    assert report.registered in (10, 20)  # the second encoding thread may have begun, too
    assert store.count_images() == report.registered
    assert count(register(store, tmp_path / "many"))[:2] == (100 - report.registered, report.registered)


# --- a store that is away ---------------------------------------------------------------------------------------------


def test_store_that_comes_back_is_waited_for(store: ImageStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = iter([True, True, False, False, False])
    add_images = store.add_images

    def add_unless_lost(*arguments: object) -> list[int]:
        if next(lost):
            raise StoreUnavailable("The database is away.")
        return add_images(*arguments)

    monkeypatch.setattr(store, "add_images", add_unless_lost)
    told: list[str] = []
    assert count(register(store, folder, on_message=told.append)) == (9, 0, 0, 0)
    assert told[0] == "The database is away. Trying again in 0 seconds."


def test_store_that_stays_away_ends_the_run_with_its_error(
    store: ImageStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> list[int]:
        raise StoreUnavailable("The database is away.")

    monkeypatch.setattr(store, "add_images", fail)
    with pytest.raises(StoreUnavailable):
        register(store, folder)


def test_full_store_ends_the_run_at_once(store: ImageStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> list[int]:
        raise StoreFull("The disk is full.")

    monkeypatch.setattr(store, "add_images", fail)
    with pytest.raises(StoreFull):
        register(store, folder)
    assert store.count_images() == 0


# --- several models ---------------------------------------------------------------------------------------------------


def test_another_model_embeds_what_is_there_without_the_files(store: ImageStore, folder: Path) -> None:
    register(store, folder)
    for path in folder.iterdir():
        path.unlink()
    registrar = Registrar(store, FakeEncoder("second", dimension=8), batch_size=4)
    report = registrar.embed_missing()
    assert (report.embedded, report.total, report.failed) == (9, 9, 0)
    assert store.find_images_without_embedding(registrar.model.model_id) == []
    current = store.find_current_model()
    assert current is not None and current.name == "fake"
    assert Registrar(store, FakeEncoder("second", dimension=8)).embed_missing().done == 0


def test_shards_share_the_missing_embeddings(store: ImageStore, folder: Path) -> None:
    register(store, folder)
    encoders = [FakeEncoder("second") for _ in range(3)]
    embedded = [Registrar(store, encoders[number]).embed_missing((number + 1, 3)).embedded for number in range(3)]
    assert embedded == [3, 3, 3]


def test_searches_go_on_while_another_model_is_embedded(store: ImageStore, tmp_path: Path) -> None:
    fill_folder(tmp_path / "many", 40)
    register(store, tmp_path / "many")
    current = store.find_current_model()
    assert current is not None
    query = FakeEncoder().encode_texts(["red"])[0]
    expected = [hit.image_id for hit in store.search_embedding(current.model_id, query)]
    registrar = Registrar(store, FakeEncoder("second", dimension=8), batch_size=1)
    thread = threading.Thread(target=registrar.embed_missing)
    thread.start()
    searches = 0
    while thread.is_alive() or not searches:
        assert [hit.image_id for hit in store.search_embedding(current.model_id, query)] == expected
        searches += 1
    thread.join()
    assert registrar.report.embedded == 40


def test_original_that_is_lost_is_a_sentence(store: SqliteStore, folder: Path) -> None:
    register(store, folder)
    record = store.get_image(find_ids(store, "002.png")[0])
    store.originals.delete([record.content_sha256])
    report = Registrar(store, FakeEncoder("second")).embed_missing()
    assert (report.embedded, report.failed) == (8, 1)


# --- another recipe ---------------------------------------------------------------------------------------------------


def save(format: str, color: str, mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (20, 10), color).save(file, format, **options)
    return file.getvalue()


def test_repair_makes_only_what_another_recipe_makes_differently(store: ImageStore) -> None:
    narrow = PngInfo()
    narrow.add(b"cICP", bytes([1, 13, 0, 0]))
    adobe = Image.Exif()
    adobe.get_ifd(0x8769)[0xA001] = 2
    frame = Frame("f" * 64, 1000, 5000)
    kinds = {
        "jpeg": (save("JPEG", "red"), {}),
        "webp": (save("WEBP", "blue"), {}),
        "gif": (save("GIF", "green"), {}),
        "png": (save("PNG", "white"), {}),
        "frame": (b"", {"data": None, "size": 5, "frame": frame, "content_sha256": "e" * 64}),
        "png with cICP": (save("PNG", "gray", pnginfo=narrow), {}),
        "jpeg in Adobe RGB": (save("JPEG", "teal", exif=adobe), {}),
        "tiff": (save("TIFF", "yellow"), {}),
        "older jpeg": (save("JPEG", "black"), {"recipe": RECIPE - 2}),
    }
    images = []
    for name, (data, values) in kinds.items():
        read = READER.read_bytes(data or save("PNG", "purple"), name)
        images.append(replace(read, **{"recipe": RECIPE - 1, "preview": b"before", **values}))
    encoder = FakeEncoder()
    registrar = Registrar(store, encoder, pauses=(0, 0))
    before = encoder.encode_images([Image.new("RGB", (9, 9), "pink")] * len(kinds))
    ids = dict(zip(kinds, store.add_images(registrar.model.model_id, images, before), strict=True))
    report = registrar.embed_missing(repair=True)
    made = {name for name, image_id in ids.items() if store.read_preview(image_id) != b"before"}
    assert made == {"png with cICP", "jpeg in Adobe RGB", "tiff", "older jpeg"}
    assert (report.embedded, report.failed) == (4, 0)
    embeddings = store.get_embeddings(list(ids.values()), registrar.model.model_id)
    for name, image_id in ids.items():
        assert np.allclose(embeddings[image_id], before[0], atol=1e-3) == (name not in made)
    assert not store.find_images_of_old_recipe(RECIPE)
    assert not store.find_images_without_embedding(registrar.model.model_id, min_recipe=RECIPE)
    assert Registrar(store, encoder).embed_missing(repair=True).done == 0
