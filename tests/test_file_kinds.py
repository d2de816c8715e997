"""RAW, HEIC and JPEG XL: read with the packages that are made for them, named where these are missing."""

from __future__ import annotations

import contextlib
import io
import struct
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from image_search import images
from image_search.errors import UnreadableImage
from image_search.file_kinds import (
    decode_webp,
    describe_content,
    is_raw,
    name_raw_type,
    read_box_size,
    read_jxl_size,
    register_decoders,
)
from image_search.images import decode_image, hash_bytes, list_image_suffixes
from image_search.metadata import read_image_text
from image_search.registration import Registrar
from image_search.registration.files import find_files
from image_search.settings import Settings
from image_search.stores.sqlite import SqliteStore
from tests.fakes import FakeEncoder
from tests.fakes.examples import scale
from tests.fakes.raw_files import make_dng

RED, GREEN = (200, 60, 50), (60, 160, 70)


def make_halves(width: int = 1200, height: int = 900) -> Image.Image:
    """Green on the left, red on the right."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (0, 0, width // 2, height))
    return image


def save(image: Image.Image, format: str, **options: Any) -> bytes:
    register_decoders()
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def is_near(image: Image.Image, place: tuple[float, float], colour: tuple[int, int, int]) -> bool:
    pixel: Any = image.getpixel((int(image.width * place[0]), int(image.height * place[1])))
    return max(abs(got - wanted) for got, wanted in zip(pixel, colour, strict=True)) < 12


# --- RAW --------------------------------------------------------------------------------------------------------------


def test_raw_file_is_shown_by_the_preview_of_the_camera() -> None:
    data = make_dng(make_halves())
    decoded = decode_image(data, "a.dng")
    assert (decoded.width, decoded.height, decoded.file_type) == (1280, 960, "image/x-adobe-dng")
    assert is_near(decoded.image, (0.25, 0.5), GREEN) and is_near(decoded.image, (0.75, 0.5), RED)
    text = read_image_text(data, sidecars={})
    assert (text.taken_at, text.camera) == (datetime(2024, 5, 6, 7, 8, 9), "Test One")


@pytest.mark.parametrize("preview", [None, make_halves(160, 120)])
def test_raw_file_without_a_large_preview_is_developed(preview: Image.Image | None) -> None:
    decoded = decode_image(make_dng(preview), "a.dng")
    assert (decoded.width, decoded.height) == (1280, 960) and decoded.image.size == (640, 480)
    low, high = decoded.image.convert("L").getextrema()
    assert high - low < 5  # the grey of the sensor, not the preview


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_raw_file_is_turned_upright(orientation: int) -> None:
    upright = make_halves()
    turned = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[orientation]
    lying = (make_halves(900, 1200) if orientation != 3 else upright).transpose(turned)
    decoded = decode_image(make_dng(lying, orientation=orientation), "a.dng")
    assert (decoded.width > decoded.height) == (orientation == 3)
    assert is_near(decoded.image, (0.25, 0.5), GREEN) and is_near(decoded.image, (0.75, 0.5), RED)


def test_preview_that_the_camera_has_turned_already_is_not_turned_again() -> None:
    decoded = decode_image(make_dng(make_halves(900, 1200), orientation=6), "a.dng")
    assert is_near(decoded.image, (0.25, 0.5), GREEN) and is_near(decoded.image, (0.75, 0.5), RED)


def test_raw_file_is_registered_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "p" / "a.DNG"
    path.parent.mkdir()
    path.write_bytes(make_dng(make_halves()))
    before = hash_bytes(path.read_bytes())
    with SqliteStore.open(Settings(database_url=f"sqlite:///{tmp_path}/library/image_search.db")) as store:
        report = Registrar(store, FakeEncoder()).register(find_files([tmp_path / "p"]))
        assert (report.registered, report.failed, report.unread) == (1, 0, {})
        [hit] = store.list_images()
        assert hit.image.text.taken_at == datetime(2024, 5, 6, 7, 8, 9)
        assert hash_bytes(store.read_original(hit.image_id)) == before == hash_bytes(path.read_bytes())


def test_raw_file_without_its_package_is_counted_and_the_package_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    list_image_suffixes.cache_clear()
    data = make_dng(make_halves())
    (tmp_path / "a.DNG").write_bytes(data)
    try:
        assert find_files([tmp_path]).unread == {".DNG": 1}
        with pytest.raises(UnreadableImage, match=r"a\.DNG is a RAW file of a camera, .* requirements-raw\.txt"):
            decode_image(data, "a.DNG")
    finally:
        list_image_suffixes.cache_clear()


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"FUJIFILMCCD-RAW 0201", "image/x-fuji-raf"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "image/x-canon-cr3"),
        (b"II*\0\x10\0\0\0CR\2\0", "image/x-canon-cr2"),
        (b"IIRO\x08\0\0\0", "image/x-olympus-orf"),
        (b"IIU\0\x18\0\0\0", "image/x-panasonic-rw2"),
        (b"II*\0\x08\0\0\0\0\0", ""),
        (b"12345678CR\2", ""),
        (b"\xff\xd8\xff\xe0", ""),
    ],
)
def test_raw_files_are_known_by_their_content(start: bytes, kind: str) -> None:
    assert name_raw_type(start) == kind
    if kind:
        with pytest.raises(UnreadableImage, match=r"a\.bin is a RAW file that cannot be decoded"):
            decode_image(start, "a.bin")


def test_ordinary_tiff_is_no_raw_file() -> None:
    assert not is_raw(save(make_halves(), "TIFF"))


def test_facts_of_raw_files_are_read_from_where_each_camera_puts_them() -> None:
    exif = Image.Exif()
    exif[271], exif[272], exif[306] = "Test", "One", "2024:05:06 07:08:09"
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    jpeg = save(make_halves(), "JPEG", exif=exif)
    raf = b"FUJIFILMCCD-RAW ".ljust(84, b"\0") + struct.pack(">II", 92, len(jpeg)) + jpeg

    def box(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content) + 8) + name + content

    cr3 = box(b"ftyp", b"crx \0\0\0\1crx isom") + box(b"moov", box(b"uuid", bytes(16) + box(b"CMT1", block)))
    orf = b"IIRO" + block[4:] if block[:2] == b"II" else b"MMOR" + block[4:]
    for data in (raf, cr3, orf):
        text = read_image_text(data, sidecars={})
        assert (text.camera, text.taken_at) == ("Test One", datetime(2024, 5, 6, 7, 8, 9)), data[:16]


@settings(max_examples=scale(60), deadline=None)
@given(data=st.data())
def test_damaged_raw_files_are_an_image_or_one_error(data: st.DataObject) -> None:
    content = bytearray(make_dng(make_halves(640, 480), size=(640, 480)))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, 700))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.sampled_from([len(content), 300, 2000]))]
    with contextlib.suppress(UnreadableImage):
        assert decode_image(bytes(content), "a.dng", max_pixels=10**6).image.mode == "RGB"


# --- HEIC and JPEG XL -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("format", "kind"), [("HEIF", "image/heif"), ("JXL", "image/jxl")])
def test_heic_and_jpeg_xl_are_read(tmp_path: Path, format: str, kind: str) -> None:
    data = save(make_halves(), format)
    decoded = decode_image(data, "a")
    assert (decoded.width, decoded.height, decoded.file_type) == (1200, 900, kind)
    assert is_near(decoded.image, (0.25, 0.5), GREEN) and is_near(decoded.image, (0.75, 0.5), RED)
    (tmp_path / "a.photo").write_bytes(data)
    assert len(find_files([tmp_path]).files) == 1


@pytest.mark.parametrize("options", [{}, {"use_container": True}])
def test_cut_jpeg_xl_is_refused_with_the_reason_that_its_decoder_has(options: dict[str, Any]) -> None:
    file = io.BytesIO()
    make_halves().save(file, "JXL", **options)
    with pytest.raises(UnreadableImage, match=r"cut short.*decoded whole only"):
        decode_image(file.getvalue()[:-9], "a")


def test_jpeg_xl_is_upright_once() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[306] = 6, "2024:05:06 07:08:09"
    data = save(make_halves(), "JXL", exif=exif.tobytes())
    decoded = decode_image(data, "a.jxl")
    assert (decoded.width, decoded.height) == (1200, 900)  # the codestream decides, not EXIF
    assert read_image_text(data, sidecars={}).taken_at == datetime(2024, 5, 6, 7, 8, 9)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (256, 256), (1000, 333), (333, 1000), (1920, 1080), (9000, 2)])
def test_size_of_a_jpeg_xl_is_known_before_it_is_decoded(size: tuple[int, int]) -> None:
    data = save(Image.new("RGB", size, RED), "JXL")
    assert read_jxl_size(data) == size
    with pytest.raises(UnreadableImage, match="more than"):
        decode_image(data, "a.jxl", max_pixels=size[0] * size[1] - 1)


@given(st.binary(max_size=40))
def test_size_of_any_bytes_does_no_harm(data: bytes) -> None:
    for start in (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"):
        read_jxl_size(start + data)
        is_raw(b"II*\0" + data)


def test_missing_package_is_named() -> None:
    for start, package in ((b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "pillow-heif"), (b"\xff\x0a", "pillow-jxl-plugin")):
        assert package in describe_content(start) and "requirements-formats.txt" in describe_content(start)


def test_avif_of_too_many_pixels_is_refused_for_that_reason() -> None:
    data = save(make_halves(64, 48), "AVIF")
    assert read_box_size(data) == (64, 48) and read_box_size(b"\xff\xd8\xff") is None
    place = data.index(b"ispe") + 8
    huge = data[:place] + struct.pack(">II", 40_000, 40_000) + data[place + 8 :]
    with pytest.raises(UnreadableImage, match=r"a\.avif has more than 100000000 pixels"):
        decode_image(huge, "a.avif")


@pytest.mark.parametrize("start", [b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", b"\xff\x0a"])
def test_damaged_file_is_not_told_to_need_a_package_that_is_there(start: bytes) -> None:
    with pytest.raises(UnreadableImage, match=r"a is a (HEIC|JPEG XL) file") as caught:
        decode_image(start, "a")
    assert "install" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 90}])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_large_webp_is_decoded_as_by_pillow_while_other_threads_run(mode: str, options: dict[str, object]) -> None:
    slope = Image.linear_gradient("L").resize((2400, 1600))
    image = Image.merge(mode, [slope, slope.rotate(180), slope.rotate(5), slope][: len(mode)])
    data = save(image, "WEBP", method=0, **options)
    decoded = decode_webp(data, mode, image.size)
    with Image.open(io.BytesIO(data)) as expected:
        assert decoded is not None
        assert np.array_equal(np.asarray(decoded)[..., : len(mode)], np.asarray(expected))
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "decode_webp", lambda *arguments: calls.append(arguments))  # Pillow decodes it then
        by_pillow = decode_image(data, "a.webp")
    shown = decode_image(data, "a.webp")
    assert len(calls) == 1 and np.array_equal(np.asarray(shown.image), np.asarray(by_pillow.image))
    assert (shown.width, shown.height, shown.file_type) == (2400, 1600, "image/webp")
    assert decode_webp(data[: len(data) // 2], mode, image.size) is None
