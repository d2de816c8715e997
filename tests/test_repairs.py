"""Files that are cut short, and kinds that Pillow does not decode: taken where nine tenths are there, else refused."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from image_search.errors import UnreadableImage
from image_search.images import DecodedImage, decode_image
from tests.fakes.absent import leave_out

WIDTH, HEIGHT = 320, 240


def draw_image() -> Image.Image:
    """A slope of colours with a little noise, so that its size as a file follows its rows."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([columns * 220 // WIDTH, rows * 220 // HEIGHT, np.full_like(rows, 128)], -1).astype(np.uint8)
    return Image.fromarray(pixels + np.random.default_rng(0).integers(0, 20, pixels.shape, np.uint8))


IMAGE = draw_image()


def write(format: str, image: Image.Image = IMAGE, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)  # type: ignore[arg-type]
    return file.getvalue()


def write_interlaced_png() -> bytes:
    pixels, raw = np.asarray(IMAGE), b""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    for left, top, across, down in passes:
        raw += b"".join(b"\0" + row.tobytes() for row in pixels[top::down, left::across])
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    made = (len(c).to_bytes(4) + kind + c + zlib.crc32(kind + c).to_bytes(4) for kind, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def write_tiff(compression: str | None) -> bytes:
    """A TIFF whose directory comes before its strips, as cameras and scanners write it."""
    file = io.BytesIO()
    tifffile.imwrite(file, np.asarray(IMAGE), photometric="rgb", compression=compression, rowsperstrip=4)
    return file.getvalue()


def write_heic() -> bytes:
    try:
        import pillow_heif
    except ImportError:
        leave_out("pillow-heif is not installed")
    pillow_heif.register_heif_opener()
    return write("HEIF")


def write_avif() -> bytes:
    if not features.check("avif"):
        leave_out("this Pillow has no AVIF")
    return write("AVIF")


KINDS = {
    "JPEG": lambda: write("JPEG"),
    "progressive JPEG": lambda: write("JPEG", progressive=True),
    "PNG": lambda: write("PNG"),
    "interlaced PNG": write_interlaced_png,
    "GIF": lambda: write("GIF"),
    "interlaced GIF": lambda: write("GIF", interlace=1),
    "WebP": lambda: write("WEBP"),
    "lossless WebP": lambda: write("WEBP", lossless=True),
    "AVIF": write_avif,
    "HEIC": write_heic,
    "TIFF": lambda: write_tiff(None),
    "packed TIFF": lambda: write_tiff("zlib"),
    "BMP": lambda: write("BMP"),
    "PPM": lambda: write("PPM"),
    "TGA": lambda: write("TGA"),
    "QOI": lambda: write("QOI"),
    "JPEG 2000": lambda: write("JPEG2000"),
    "JPEG 2000 by position": lambda: write("JPEG2000", progression="PCRL"),
    "JPEG 2000 in layers": lambda: write("JPEG2000", irreversible=True, quality_mode="rates", quality_layers=[20, 8]),
    "JPEG 2000 in tiles": lambda: write("JPEG2000", tile_size=(32, 32)),
    "bare JPEG 2000 in tiles": lambda: write("JPEG2000", tile_size=(32, 32), no_jp2=True),
}


def measure_upper_part(decoded: DecodedImage) -> float:
    """Mean difference of the upper four fifths (a GIF has 256 colours, a JPEG less detail)."""
    pixels = np.asarray(decoded.image, float)[: HEIGHT * 4 // 5]
    return float(np.abs(pixels - np.asarray(IMAGE, float)[: HEIGHT * 4 // 5]).mean())


@pytest.mark.parametrize(
    "kind",
    [pytest.param(k, marks=pytest.mark.slow) if k.endswith(("layers", "position", "tiles")) else k for k in KINDS],
)
def test_file_that_lacks_its_end_is_taken_and_marked(kind: str) -> None:
    whole = KINDS[kind]()
    assert not decode_image(whole, "a").is_incomplete
    for share in (0.99, 0.96):
        decoded = decode_image(whole[: int(len(whole) * share)], "a")
        assert decoded.is_incomplete
        assert (decoded.width, decoded.height) == (WIDTH, HEIGHT)
        if kind not in ("TGA", "BMP"):  # which begin below
            assert measure_upper_part(decoded) < 12


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("progressive")])
def test_file_that_lacks_its_half_is_refused_with_the_reason(kind: str) -> None:
    whole = KINDS[kind]()
    with pytest.raises(UnreadableImage) as refused:
        decode_image(whole[: len(whole) // 2], "a.bin")
    assert "cut short" in str(refused.value) or "truncated" in str(refused.value) or kind == "QOI"


@pytest.mark.parametrize("is_bare", [False, True])
def test_jpeg_2000_that_lacks_bytes_of_its_end_is_the_whole_image(is_bare: bool) -> None:
    whole = write("JPEG2000", no_jp2=is_bare)
    for cut in (1, 2, 3):
        decoded = decode_image(whole[:-cut], "a.jp2")
        assert decoded.is_incomplete
        assert np.abs(np.asarray(decoded.image, int) - np.asarray(IMAGE, int)).mean() < 0.1


@given(st.binary(max_size=200), st.integers(0, 400), st.booleans())
def test_damaged_jpeg_2000_is_taken_or_refused(noise: bytes, place: int, is_bare: bool) -> None:
    whole = write("JPEG2000", Image.new("RGB", (40, 30), "red"), tile_size=(16, 16), no_jp2=is_bare)
    with suppress(UnreadableImage):
        decode_image(whole[:place] + noise + whole[place + len(noise) : -20], "a.jp2", 10_000)


def test_jpeg_that_is_black_at_its_end_is_not_taken_for_one_that_is_cut() -> None:
    pixels = np.asarray(IMAGE).copy()
    pixels[HEIGHT // 2 :] = 0
    assert decode_image(write("JPEG", Image.fromarray(pixels))[:-2], "a.jpg").is_incomplete


def test_tiff_whose_directory_is_lost_is_called_cut_short() -> None:
    whole = write("TIFF", compression="tiff_lzw")
    with pytest.raises(UnreadableImage, match=r"a\.tif is cut short\. Copy it again\."):
        decode_image(whole[:-40], "a.tif")


def make_bmp(bits: int, compression: int, masks: tuple[int, ...], pixels: bytes, palette: bytes = b"") -> bytes:
    """Of 4 x 1 pixels."""
    extra = b"".join(mask.to_bytes(4, "little") for mask in masks) + palette
    start = 54 + len(extra)
    header = struct.pack("<IiiHHIIiiII", 40, 4, 1, 1, bits, compression, len(pixels), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + extra + pixels


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (make_bmp(16, 3, (0xF000, 0x0F00, 0x00F0), struct.pack("<4H", 0xF000, 0x0F00, 0x00F0, 0xFFF0)), "RGBW"),
        (
            make_bmp(
                32, 3, (0x3FF00000, 0xFFC00, 0x3FF), struct.pack("<4I", 0x3FF << 20, 0x3FF << 10, 0x3FF, 2**30 - 1)
            ),
            "RGBW",
        ),
        (make_bmp(2, 0, (), b"\x1b\0\0\0", b"\0\0\xff\0\0\xff\0\0\xff\0\0\0\xff\xff\xff\0"), "RGBW"),
    ],
)
def test_bmp_with_unusual_bits_has_the_right_colours(data: bytes, expected: str) -> None:
    names = {(255, 0, 0): "R", (0, 255, 0): "G", (0, 0, 255): "B", (255, 255, 255): "W"}
    image = decode_image(data, "a.bmp").image
    assert "".join(names[image.getpixel((column, 0))] for column in range(4)) == expected


@pytest.mark.parametrize(("format", "compression"), [("JPEG", 4), ("PNG", 5)])
def test_bmp_for_printers_is_the_image_inside_it(format: str, compression: int) -> None:
    decoded = decode_image(make_bmp(0, compression, (), write(format)), "a.bmp")
    assert (decoded.width, decoded.height, decoded.file_type) == (WIDTH, HEIGHT, "image/bmp")
    assert measure_upper_part(decoded) < 12
