"""Colours: whatever space a file is in, pixels become sRGB once, while it is decoded."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from image_search.errors import UnreadableImage
from image_search.images import decode_image

COLOR = (200, 60, 50)


def write(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)  # type: ignore[arg-type]
    return file.getvalue()


def decode_color(data: bytes) -> np.ndarray:
    return np.asarray(decode_image(data, "image").image, float).reshape(-1, 3).mean(0)


def add_chunk(png: bytes, kind: bytes, content: bytes, crc: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + content) if crc is None else crc
    return png[:33] + struct.pack(">I4s", len(content), kind) + content + checksum.to_bytes(4) + png[33:]


def make_gamma_profile(gamma: float) -> bytes:
    """A minimal ICC profile: sRGB's primaries with this gamma."""
    base = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    place = len(base)
    base += curve
    for entry in range(132, 132 + 12 * struct.unpack_from(">I", base, 128)[0], 12):
        if base[entry : entry + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            struct.pack_into(">II", base, entry + 4, place, len(curve))
        if base[entry : entry + 4] == b"desc":
            base[entry : entry + 4] = b"xxxx"
    struct.pack_into(">I", base, 0, len(base))
    return bytes(base)


def test_profile_of_another_gamma_is_converted() -> None:
    linear = [round(255 * (((c / 255 + 0.055) / 1.055) ** 2.4)) for c in COLOR]
    data = write(Image.new("RGB", (8, 8), tuple(linear)), icc_profile=make_gamma_profile(1.0))
    assert np.abs(decode_color(data) - COLOR).max() <= 4


def test_broken_profile_and_one_of_another_mode_are_ignored() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.abs(decode_color(write(Image.new("RGB", (8, 8), COLOR), icc_profile=b"\0" * 300)) - COLOR).max() == 0
    assert np.abs(decode_color(write(Image.new("L", (8, 8), 90), icc_profile=srgb)) - 90).max() == 0


def test_png_gamma_is_applied_unless_it_is_that_of_srgb() -> None:
    png = write(Image.new("RGB", (8, 8), (55, 55, 55)))
    assert np.abs(decode_color(add_chunk(png, b"gAMA", struct.pack(">I", 100_000))) - 128).max() <= 2
    assert np.abs(decode_color(add_chunk(png, b"gAMA", struct.pack(">I", 45_455))) - 55).max() == 0


def test_hdr_png_becomes_a_picture_for_a_plain_screen() -> None:
    # 58 % of the PQ signal is the reference white of 203 nits.
    color = decode_color(add_chunk(write(Image.new("RGB", (8, 8), (148, 148, 148))), b"cICP", bytes([9, 16, 0, 1])))
    assert color.min() > 240


def test_transparent_grey_of_16_bits_is_composed_on_white() -> None:
    image = Image.fromarray(np.full((8, 8), 1000, np.uint16))
    data = add_chunk(write(image), b"tRNS", struct.pack(">H", 1000))
    assert decode_color(data).min() == 255


def test_grey_of_12_bits_in_16_is_as_bright_as_that_of_8() -> None:
    data = write(Image.fromarray(np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)), "TIFF")
    assert abs(decode_color(data).mean() - 127) < 3


def test_jpeg_without_its_end_is_taken_and_marked() -> None:
    rng = np.random.default_rng(1)
    whole = write(Image.fromarray(rng.integers(0, 255, (200, 200, 3), np.uint8)), "JPEG", quality=90)
    for cut in (2, len(whole) // 50):
        picture = decode_image(whole[:-cut], "a.jpg")
        assert picture.is_incomplete
        assert (picture.width, picture.height) == (200, 200)
    assert not decode_image(whole, "a.jpg").is_incomplete
    with pytest.raises(UnreadableImage, match=r"a\.jpg is cut short: \d+% of it is there\. Copy it again\."):
        decode_image(whole[: len(whole) // 2], "a.jpg")


def test_progressive_jpeg_is_taken_from_its_first_whole_scan_on() -> None:
    rng = np.random.default_rng(1)
    whole = write(Image.fromarray(rng.integers(0, 255, (200, 200, 3), np.uint8)), "JPEG", progressive=True)
    second_scan = whole.find(b"\xff\xda", whole.find(b"\xff\xda") + 2)
    assert decode_image(whole[: second_scan + 20], "a.jpg").is_incomplete


def test_png_with_damage_or_excess_outside_the_pixels_is_taken() -> None:
    png = write(Image.new("RGB", (8, 8), COLOR))
    huge = zlib.compress(bytes(3 << 20))
    assert np.abs(decode_color(add_chunk(png, b"zTXt", b"Comment\0\0" + huge)) - COLOR).max() == 0
    assert np.abs(decode_color(add_chunk(png, b"tEXt", b"Comment\0hello", crc=1)) - COLOR).max() == 0


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "a PNG file, but damaged"),
        (b"II*\0" + bytes(50), "a TIFF file"),
        (b"8BPS" + bytes(50), "a Photoshop file"),
        (b"\0\0\0\x18ftypisom" + bytes(50), "a film"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), "a JPEG XL (picture|file)"),
        (b"<!DOCTYPE html><html>", "an HTML page"),
        (b"PK\x03\x04" + bytes(50), "an archive"),
    ],
)
def test_refusal_names_the_kind_of_file(data: bytes, named: str) -> None:
    with pytest.raises(UnreadableImage, match=f"thing.jpg is {named}"):
        decode_image(data, "thing.jpg")
