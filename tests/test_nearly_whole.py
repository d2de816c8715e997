"""Images that end before their end, or are damaged beside their pixels: taken, marked, or refused with the reason."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageChops

from image_search.errors import UnreadableImage
from image_search.images import decode_image

NOISE = np.random.default_rng(1).integers(60, 200, (320, 240, 3)).astype(np.uint8)
IMAGE = Image.fromarray(NOISE)
# Grey, 16 x 160 pixels, by cjpeg -arithmetic -quality 20.
ARITHMETIC = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wCDEAAoABwAHgAjAB4AGQAoACMAIQAjAC0AKwAoADAAPABkAEEAPAA3ADcAPAB7AFgAXQBJ"
    "AGQAkQCAAJkAlgCPAIAAjACKAKAAtADmAMMAoACqANoArQCKAIwAyAERAMsA2gDuAPUBAgEEAQIAmwDBARsBLwEYAPoBLADmAP0B"
    "AgD4/8kACwgAoAAQAQERAP/MAAYAEBAF/9oACAEBAAA/AP3Ax3XeAM+tAlDXVZEGo4y+IRhbphpF9zVlXHuiUyrN0oGscVr1ULO2"
    "1VWVwACStomu3e0fpjjEjuffBDclRiiVJGd+nNO8NiRsiWz2MKwNruInvHtbbXrqokzMbSDjIA4N1F++l0O8tY+8IpZTkqCDAtNf"
    "C48XS1E7BA0kpdfc345i6/YcsOr7DeSOaPGOecr6AjMfhP8AdeA15G3tBxaepTwq6zVUJzV/2WOBhki7/M87gP/Z"
)


def write(format: str, image: Image.Image = IMAGE, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def tiff(pixels: np.ndarray = NOISE, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **({"photometric": "rgb"} | options))
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(rows: int, *chunks: bytes, body: bytes = b"", color: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", 240, 320, 8, color, 0, 0, 0)
    pixels = body or zlib.compress(b"".join(b"\0" + row.tobytes() for row in NOISE[:rows]))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def is_taken_incomplete(data: bytes) -> bool:
    return decode_image(data, "a").is_incomplete


def explain(data: bytes) -> str:
    with pytest.raises(UnreadableImage) as caught:
        decode_image(data, "a")
    return str(caught.value)


JPEG = write("JPEG", quality=90)


def test_jpeg_that_was_given_an_end_where_it_was_cut_counts_as_cut() -> None:
    assert "cut short: 4" in explain(JPEG[: len(JPEG) // 2] + b"\xff\xd9")
    assert is_taken_incomplete(JPEG[: len(JPEG) * 97 // 100] + b"\xff\xd9")


def test_jpeg_with_another_behind_its_half_is_cut_short() -> None:
    assert "cut short" in explain(JPEG[: len(JPEG) // 2] + JPEG)


def test_grey_corner_does_not_make_a_jpeg_incomplete() -> None:
    assert not is_taken_incomplete(write("JPEG", Image.new("RGB", (64, 64), (128, 128, 128))))


def test_scans_of_a_thumbnail_are_not_those_of_the_image() -> None:
    exif = Image.Exif()
    exif[0x927C] = b"\xff\xda" * 20  # as of a thumbnail
    progressive = write("JPEG", progressive=True, exif=exif)
    start = progressive.index(b"\xff\xda", progressive.index(b"\xff\xc2"))
    assert "cut short" in explain(progressive[: start + 400])


@pytest.mark.parametrize("lost", [2, 10])
def test_arithmetic_jpeg_without_its_end_is_taken(lost: int) -> None:
    assert is_taken_incomplete(ARITHMETIC[:-lost])


def test_png_of_half_the_rows_is_refused_though_its_stream_ends_well() -> None:
    assert "cut short: 50%" in explain(png(160))
    assert is_taken_incomplete(png(310))


def test_png_that_ends_black_is_whole() -> None:
    image = IMAGE.copy()
    image.paste((0, 0, 0), (0, 300, 240, 320))
    assert not is_taken_incomplete(write("PNG", image))


@pytest.mark.parametrize(
    "extra", [(b"gAMA", b""), (b"gAMA", b"\0"), (b"sRGB", b""), (b"tRNS", b"\0"), (b"PLTE", b"\0")]
)
def test_png_with_a_broken_note_beside_its_pixels_is_taken(extra: tuple[bytes, bytes]) -> None:
    assert not is_taken_incomplete(png(320, chunk(*extra)))


def test_png_with_a_wrong_checksum_behind_its_pixels_is_taken() -> None:
    stream = zlib.compress(b"".join(b"\0" + row.tobytes() for row in NOISE))
    assert not is_taken_incomplete(png(0, body=stream[:-4] + b"abcd"))
    assert is_taken_incomplete(png(0, body=stream[: len(stream) * 97 // 100] + b"\xff" * 40))


@pytest.mark.parametrize("options", [{}, {"exif": b"Exif\0\0II*\0" + bytes(400), "xmp": b"<x/>" * 200}])
def test_webp_is_taken_though_what_follows_its_image_is_lost(options: dict[str, Any]) -> None:
    data = write("WEBP", quality=90, **options)
    assert all(is_taken_incomplete(data[:-lost]) for lost in (1, 300, 1500 if options else 300))


def test_webp_without_loss_is_taken_with_the_rows_that_are_there() -> None:
    image = IMAGE.resize((480, 640))
    data = write("WEBP", image, lossless=True, icc_profile=b"profile that means nothing")
    shown = decode_image(data[: len(data) * 98 // 100], "a")
    assert shown.is_incomplete
    kept = (0, 0, 480, 576)
    assert not ImageChops.difference(shown.image.crop(kept), image.crop(kept)).getbbox()
    assert "cut short: " in explain(data[: len(data) * 7 // 10])


def test_webp_animation_is_taken_for_its_first_frame() -> None:
    data = write("WEBP", save_all=True, append_images=[IMAGE.rotate(180)], quality=90)
    assert is_taken_incomplete(data[: len(data) * 7 // 10])
    assert "cut short" in explain(data[: len(data) // 4])


def test_webp_of_a_wrong_length_is_taken() -> None:
    data = write("WEBP", quality=90)
    assert all(is_taken_incomplete(data[:4] + struct.pack("<I", size) + data[8:]) for size in (0, 200, 1 << 20))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bigtiff": True},
        {"compression": "deflate", "rowsperstrip": 320},
        {"bigtiff": True, "compression": "deflate", "rowsperstrip": 16},
    ],
)
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32])
def test_tiff_without_its_end_is_taken(options: dict[str, Any], kind: type) -> None:
    data = tiff(NOISE.astype(kind) * (np.iinfo(kind).max // 255), **options)
    assert is_taken_incomplete(data[: len(data) * 97 // 100])
    assert "cut short" in explain(data[: len(data) // 2])


def put_directory_first(data: bytes) -> bytes:
    """A TIFF of one strip, as Pillow writes it with the directory at the end, the other way round."""
    with Image.open(io.BytesIO(data)) as image:
        tags = {tag: image.tag_v2[tag] for tag in image.tag_v2 if tag in (256, 257, 259, 262, 277, 278, 284, 317)}  # type: ignore[attr-defined]
        (start,), (size,) = (image.tag_v2[tag] for tag in (273, 279))  # type: ignore[attr-defined]
        tables = image.tag_v2.get(347, b"")  # type: ignore[attr-defined]
    bits = 8 + 2 + 12 * (len(tags) + 4) + 4
    begin = bits + 6 + len(tables)
    entries = [(tag, 4, 1, value) for tag, value in tags.items()]
    entries += [(258, 3, 3, bits), (273, 4, 1, begin), (279, 4, 1, size), (347, 7, len(tables), bits + 6)]
    directory = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + struct.pack("<HHH", 8, 8, 8)
    return head + tables + data[start : start + size]


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "jpeg"])
def test_tiff_of_one_strip_without_its_end_is_taken_with_the_right_rows(compression: str) -> None:
    data = put_directory_first(write("TIFF", compression=compression, strip_size=1 << 20))
    assert not is_taken_incomplete(data)
    decoded = decode_image(data[: len(data) * 97 // 100], "a")
    assert decoded.is_incomplete
    assert np.abs(np.asarray(decoded.image, int)[:280] - NOISE[:280]).mean() < 25


def test_tiff_with_files_inside_is_read() -> None:
    part = write("PNG")
    plain = tiff(NOISE, rowsperstrip=320)
    with tifffile.TiffFile(io.BytesIO(plain)) as file:
        tags = file.pages.first.tags  # type: ignore[attr-defined]
        places = {code: tags[code].valueoffset for code in (259, 273, 279)}
    data = bytearray(plain + part)
    struct.pack_into("<H", data, places[259], 34933)
    struct.pack_into("<I", data, places[273], len(plain))
    struct.pack_into("<I", data, places[279], len(part))
    assert np.abs(np.asarray(decode_image(bytes(data), "a").image, int) - NOISE).max() <= 1


def test_rgb_of_12_bits_in_16_is_as_bright_as_that_of_8() -> None:
    data = tiff((NOISE.astype(np.uint32) * 4095 // 255).astype(np.uint16))
    assert np.abs(np.asarray(decode_image(data, "a").image, int) - NOISE).mean() < 8


@pytest.mark.parametrize("kind", [np.uint32, np.float32])
def test_colours_multiplied_by_alpha_lie_on_white(kind: type) -> None:
    top = np.iinfo(kind).max if np.issubdtype(kind, np.integer) else 1
    alpha = np.full((16, 16, 1), 0.5)
    pixels = np.concatenate([np.full((16, 16, 3), 0.25), alpha], -1) * top
    data = tiff(pixels.astype(kind), extrasamples=["assocalpha"])
    assert abs(decode_image(data, "a").image.getpixel((8, 8))[0] - 191) <= 2  # type: ignore[index]


def test_jpeg_2000_counts_its_tiles_by_their_pixels() -> None:
    data = write("JPEG2000", tile_size=(128, 300))  # the last row of tiles has 20 rows of pixels
    assert is_taken_incomplete(data[: len(data) * 97 // 100])


def test_bmp_of_runs_without_its_end_is_taken() -> None:
    row = b"\x78\1\x78\2\0\0"
    palette = bytes(range(8)) * 128
    pixels = row * 320 + b"\0\1"
    info = struct.pack("<IiiHHIIiiII", 40, 240, 320, 1, 8, 1, len(pixels), 0, 0, 0, 0)
    data = b"BM" + struct.pack("<IHHI", 54 + 1024 + len(pixels), 0, 0, 54 + 1024) + info + palette + pixels
    assert is_taken_incomplete(data[: 54 + 1024 + len(row) * 300])
    assert "cut short" in explain(data[: 54 + 1024 + len(row) * 100])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (JPEG.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c"), "a JPEG file of 12 bits a sample"),
        (b"\xff\xd8\xff\xf7\0\x0b\x08\0\x10\0\x10\1\1\x11\0" + bytes(40), "a JPEG-LS file"),
        (
            b"\x89PNG\r\n\x1a\n" + chunk(b"CgBI", b"\x50\0\x20\2") + png(0, body=b"\x01\x02\x03")[8:],
            "a PNG file packed in Apple's own way",
        ),
        (png(320, color=3), "its palette is missing"),
        (b"gimp xcf v011" + bytes(40), "a GIMP (XCF) file, which is not read"),
        (b"v/1\1" + bytes(40), "an OpenEXR file, which is not read"),
        ("<svg xmlns='x'/>".encode("utf-16"), "an SVG drawing"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a pointer of Git LFS"),
        (b"RIFF\x20\0\0\0AVI LIST" + bytes(30), "a film"),
        (b"\0\0\0\x18ftypcrx " + bytes(60), "(Unsupported file format or not RAW file)"),
        (
            tiff(compression=None).replace(struct.pack("<HHII", 259, 3, 1, 1), struct.pack("<HHII", 259, 3, 1, 22610)),
            "compressed as JPEGXR",
        ),
        (JPEG[:300], "cut short"),
    ],
)
def test_refusal_names_the_kind_within_the_format(data: bytes, reason: str) -> None:
    assert reason in explain(data)
