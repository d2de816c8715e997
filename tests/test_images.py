"""Every image opens the same way, and nothing else opens at all."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, features

from image_search.errors import UnreadableImage
from image_search.images import (
    PREVIEW_SIDE,
    decode_image,
    hash_bytes,
    list_image_suffixes,
    make_preview,
    make_printable,
    open_image,
    read_file,
    read_small_preview,
)
from image_search.settings import ROOT
from tests.fakes.absent import leave_out
from tests.fakes.examples import scale


def write(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def decode(data: bytes) -> Image.Image:
    return decode_image(data, "picture").image


def middle(image: Image.Image) -> tuple[int, int, int]:
    return image.getpixel((image.width // 2, image.height // 2))


def make_quadrants(size: tuple[int, int] = (40, 20)) -> Image.Image:
    """Red, green over blue, white: tells every orientation from every other."""
    image = Image.new("RGB", (2, 2))
    image.putdata([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)])
    return image.resize(size, Image.Resampling.NEAREST)


# --- formats and colours ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "file_type"),
    [
        ("PNG", "image/png"),
        ("JPEG", "image/jpeg"),
        ("MPO", "image/jpeg"),
        ("WEBP", "image/webp"),
        ("GIF", "image/gif"),
        ("BMP", "image/bmp"),
        ("TIFF", "image/tiff"),
        ("JPEG2000", "image/jp2"),
        ("AVIF", "image/avif"),
        ("TGA", "image/x-tga"),
        ("ICO", "image/x-icon"),
        ("PPM", "image/x-portable-anymap"),
    ],
)
def test_type_is_found_by_decoding(format: str, file_type: str) -> None:
    if format == "AVIF" and not features.check("avif"):
        leave_out("this Pillow has no AVIF")
    decoded = decode_image(write(make_quadrants((32, 32)), format), "misleading.txt")
    assert (decoded.file_type, decoded.width, decoded.height) == (file_type, 32, 32)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "I", "LAB", "F"])
def test_every_colour_mode_becomes_rgb(mode: str) -> None:
    format = "TIFF" if mode in ("CMYK", "LAB", "F", "I") else "PNG"
    image = Image.new(mode, (8, 6))
    assert decode(write(image, format)).mode == "RGB"


def test_transparency_lies_on_white() -> None:
    assert middle(decode(write(Image.new("RGBA", (8, 8), (255, 0, 0, 0))))) == (255, 255, 255)
    assert middle(decode(write(Image.new("LA", (8, 8), (0, 0))))) == (255, 255, 255)
    assert middle(decode(write(Image.new("RGB", (8, 8), (9, 9, 9)), transparency=(9, 9, 9)))) == (255, 255, 255)
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    assert middle(decode(write(palette, transparency=1))) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_sixteen_bits_are_scaled_and_not_clipped(mode: str) -> None:
    values = np.full((8, 8), 0x8080, ">u2" if mode == "I;16B" else "<u2")
    image = Image.frombytes(mode, (8, 8), values.tobytes())
    assert middle(decode(write(image, "TIFF"))) == (128, 128, 128)


def test_floating_point_from_zero_to_one_is_no_black_image() -> None:
    image = Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8))
    assert np.asarray(decode(write(image, "TIFF"))).max() == 255


def test_odd_numbers_in_a_floating_point_image_do_no_harm() -> None:
    image = Image.fromarray(np.array([[np.nan, np.inf], [-np.inf, -3]], np.float32))
    assert decode(write(image, "TIFF")).size == (2, 2)
    assert middle(decode(write(Image.new("F", (4, 4), 0.0), "TIFF"))) == (0, 0, 0)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_an_animation_counts(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    lossless = {"lossless": True} if format == "WEBP" else {}
    data = write(frames[0], format, save_all=True, append_images=frames[1:], **lossless)
    assert middle(decode(data)) == (255, 0, 0)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright_once(format: str, orientation: int) -> None:
    upright = make_quadrants()
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(back[orientation]) if orientation in back else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode_image(write(stored, format, exif=exif), "picture")
    assert (decoded.width, decoded.height) == decoded.image.size == (40, 20)
    difference = np.abs(np.asarray(decoded.image, int) - np.asarray(upright, int))
    assert np.median(difference) < 40  # the borders of quadrants blur in lossy formats


def test_damaged_camera_data_do_not_make_an_image_unreadable() -> None:
    data = write(make_quadrants(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40)
    assert decode(data).size == (40, 20)


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (20000, 10), (10, 20000)])
def test_extreme_proportions_open_and_get_a_preview(size: tuple[int, int]) -> None:
    decoded = decode_image(write(Image.new("RGB", size, "red")), "strip")
    assert (decoded.width, decoded.height) == size
    preview = Image.open(io.BytesIO(make_preview(decoded)))
    assert max(preview.size) == min(PREVIEW_SIDE, max(size)) and min(preview.size) >= 1


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_large_image_is_reduced_to_its_preview_which_models_look_at_too(format: str) -> None:
    decoded = decode_image(write(make_quadrants((4000, 3000)), format), "large")
    assert (decoded.width, decoded.height) == (4000, 3000)
    assert decoded.image.size == Image.open(io.BytesIO(make_preview(decoded))).size == (PREVIEW_SIDE, 576)


def test_image_decoded_nearly_as_large_as_a_preview_is_one() -> None:
    decoded = decode_image(write(make_quadrants((1440, 1080)), "JPEG"), "photograph")
    assert decoded.image.size == Image.open(io.BytesIO(make_preview(decoded))).size == (720, 540)


def test_panorama_keeps_more_for_models_than_for_its_preview() -> None:
    decoded = decode_image(write(make_quadrants((6000, 1000)), "JPEG"), "panorama")
    assert decoded.image.height >= 480
    assert Image.open(io.BytesIO(make_preview(decoded))).size == (PREVIEW_SIDE, 128)


def test_encoder_sees_nearly_the_same_in_the_reduced_image() -> None:
    whole = Image.effect_mandelbrot((2000, 1500), (-3, -2.5, 2, 2.5), 100).convert("RGB")
    seen = [image.resize((224, 224), Image.Resampling.BICUBIC) for image in (whole, decode(write(whole, "JPEG")))]
    first, second = (np.asarray(image, float).ravel() for image in seen)
    assert first @ second / np.linalg.norm(first) / np.linalg.norm(second) > 0.999


def test_preview_is_webp_and_never_enlarged() -> None:
    preview = Image.open(io.BytesIO(make_preview(decode_image(write(make_quadrants((30, 20))), "small"))))
    assert (preview.format, preview.size) == ("WEBP", (30, 20))
    preview = Image.open(io.BytesIO(make_preview(decode_image(write(make_quadrants((1200, 800))), "large"))))
    assert preview.size == (PREVIEW_SIDE, 512)


def test_preview_of_an_image_with_a_profile_is_srgb_without_one() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    preview = Image.open(io.BytesIO(make_preview(decode_image(write(make_quadrants(), icc_profile=profile), "a"))))
    assert "icc_profile" not in preview.info


@pytest.mark.parametrize("profile", [b"", ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()])
def test_preview_carries_a_small_one_for_the_grid(profile: bytes) -> None:
    data = write(make_quadrants((1600, 1200)), "JPEG", icc_profile=profile)
    preview = make_preview(decode_image(data, "large"))
    whole, small = (Image.open(io.BytesIO(file)) for file in (preview, read_small_preview(preview)))
    assert whole.format == small.format == "WEBP"
    assert (whole.size, small.size) == ((768, 576), (384, 288))
    seen = [np.asarray(image.convert("RGB").resize((32, 24)), float) for image in (whole, small)]
    assert np.abs(seen[0] - seen[1]).mean() < 4


def test_preview_with_nothing_smaller_in_it_is_its_own_small_one() -> None:
    for size in [(30, 20), (6000, 1000)]:
        preview = make_preview(decode_image(write(make_quadrants(size)), "picture"))
        assert read_small_preview(preview) == preview


@given(st.binary(max_size=64) | st.binary(max_size=64).map(lambda data: b"RIFF\x40\0\0\0WEBP" + data))
def test_bytes_that_are_no_preview_do_no_harm(data: bytes) -> None:
    assert read_small_preview(data) in data


def test_more_pixels_than_allowed_are_refused_before_they_are_decoded() -> None:
    with pytest.raises(UnreadableImage, match=r"bomb\.png has more than 1000 pixels.*MAX_IMAGE_PIXELS"):
        decode_image(write(Image.new("1", (40, 30))), "bomb.png", max_pixels=1000)
    assert decode_image(write(Image.new("1", (40, 25))), "fits.png", max_pixels=1000).width == 40


def test_image_that_announces_terapixels_is_refused() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 2**30, 2**30, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(UnreadableImage, match="more than"):
        decode_image(data, "bomb.png")


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_truncated_file_is_refused_with_its_name(format: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    data = write(noise, format)
    with pytest.raises(UnreadableImage, match=r"holiday\.jpg is "):
        decode_image(data[: len(data) // 2], "holiday.jpg")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"hello", "not a picture"),
        (b"\x89PNG\r\n\x1a\n", "."),
        (b"%PDF-1.7\n", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "PostScript"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG drawing"),
    ],
)
def test_file_that_is_no_image_is_refused_with_advice(data: bytes, what: str) -> None:
    with pytest.raises(UnreadableImage, match=f"thing.dat is .*{what}"):
        decode_image(data, "thing.dat")


def test_empty_file_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(UnreadableImage, match=r"empty\.png is empty"):
        open_image(tmp_path / "empty.png")
    with pytest.raises(UnreadableImage, match="is not a file"):
        open_image(tmp_path)
    with pytest.raises(UnreadableImage, match=r"none\.png cannot be read"):
        open_image(tmp_path / "none.png")
    with pytest.raises(UnreadableImage, match="cannot be read"):
        open_image("a\0b.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_named_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UnreadableImage, match="is not a file"):
        read_file(tmp_path / "pipe.png")


@pytest.mark.parametrize("format", ["PNG", "JPEG2000"])
def test_icon_with_an_image_larger_than_icons_are_is_refused_before_it_is_decoded(format: str) -> None:
    part = write(Image.new("RGB", (1500, 1500)), format)
    block = b"ic10" + struct.pack(">I", 8 + len(part)) + part
    with pytest.raises(UnreadableImage, match=r"an icon of 1,500 x 1,500 pixels"):
        decode(b"icns" + struct.pack(">I", 8 + len(block)) + block)


def test_icon_with_blocks_without_end_is_refused() -> None:
    for block in (b"ic10\0\0\0\x08", b"ic10\0\0\0\0"):
        with pytest.raises(UnreadableImage, match="list of icons is damaged"):
            decode(b"icns" + struct.pack(">I", 8 + 8000) + block * 1000)
    assert decode(write(Image.new("RGB", (1024, 1024), "red"), "ICNS")).size == (768, 768)


def test_huge_file_is_refused_without_reading_it_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("image_search.images.MAX_FILE_BYTES", 2**20)
    (tmp_path / "huge.png").write_bytes(b"\0" * (2**20 + 1))
    with pytest.raises(UnreadableImage, match=r"huge\.png is larger than 1 MiB"):
        read_file(tmp_path / "huge.png")


@settings(max_examples=scale(150), deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "TGA", "ICO"]), st.data())
def test_damaged_bytes_are_an_image_or_one_error(format: str, data: st.DataObject) -> None:
    content = bytearray(write(make_quadrants((24, 24)), format))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(UnreadableImage):
        assert decode_image(bytes(content), "odd", max_pixels=10**6).image.mode == "RGB"


# --- names and threads ------------------------------------------------------------------------------------------------


def test_folders_are_searched_for_images_and_not_for_documents() -> None:
    suffixes = list_image_suffixes()
    assert {".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".avif", ".jp2", ".heic", ".mpo"} <= suffixes
    assert not {".pdf", ".eps", ".ps", ".mpg", ".h5", ".wmf", ".txt", ""} & suffixes


def test_names_in_messages_are_composed_and_stay_on_one_line() -> None:
    assert make_printable("か\u3099.png") == "が.png"
    assert make_printable("a\nb\x1b[31m.png") == "a\\nb\\x1b[31m.png"
    assert make_printable(os.fsdecode(b"caf\xe9.png")) == "caf\\udce9.png"


def test_hash_is_of_the_bytes() -> None:
    assert hash_bytes(b"abc") == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.slow
def test_threads_do_not_disturb_each_other() -> None:
    good, wide = write(make_quadrants((64, 64))), write(Image.new("L", (5000, 5100)))
    wrong: list[object] = []

    def work() -> None:
        for _ in range(5):
            try:
                if decode(good).size != (64, 64) or decode(wide).mode != "RGB":
                    wrong.append("size")
            except UnreadableImage as error:
                wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- TIFF -------------------------------------------------------------------------------------------------------------


def make_damaged_tiff(compression: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "TIFF", compression=compression)
    data = file.getvalue()
    return data[:200] + bytes(1000) + data[1200:]


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg"])
def test_no_decoder_writes_lines_of_its_own(compression: str, tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(make_damaged_tiff(compression))
    (tmp_path / "b.tif").write_bytes(make_damaged_tiff(compression)[:150])
    program = (
        "import sys; from image_search.images import open_image; from image_search.errors import UnreadableImage\n"
        "for path in sys.argv[1:]:\n  try: open_image(path)\n  except UnreadableImage as error: print(error)"
    )
    paths = [str(tmp_path / name) for name in ("a.tif", "b.tif")]
    done = subprocess.run([sys.executable, "-c", program, *paths], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "b.tif is " in done.stdout


@pytest.mark.parametrize("is_tiled", [False, True])
def test_tiff_with_webp_inside_is_read(is_tiled: bool) -> None:
    """Strips or tiles of 32 rows, of 80 x 80 pixels: green on top, red below."""
    part_width, part_height = (32, 32) if is_tiled else (80, 32)
    parts = []
    whole = Image.new("RGB", (96, 96), (200, 60, 50))
    whole.paste((60, 160, 70), (0, 0, 96, 40))
    for top in range(0, 80, part_height):
        for left in range(0, 80, part_width):
            bottom = top + part_height if is_tiled else min(top + part_height, 80)
            parts.append(write(whole.crop((left, top, left + part_width, bottom)), "WEBP", lossless=True))
    size = [(322, 4, [32]), (323, 4, [32])] if is_tiled else [(278, 4, [32])]
    places = (324, 325) if is_tiled else (273, 279)
    starts = [1000 + sum(map(len, parts[:number])) for number in range(len(parts))]
    entries = [(256, 4, [80]), (257, 4, [80]), (258, 3, [8, 8, 8]), (259, 3, [50001]), (262, 3, [2]), (277, 3, [3])]
    entries += [*size, (places[0], 4, starts), (places[1], 4, list(map(len, parts)))]
    directory, rest, end = struct.pack("<2sHIH", b"II", 42, 8, len(entries)), b"", 10 + 12 * len(entries) + 4
    for tag, kind, values in sorted(entries):
        value = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(value) > 4:
            rest, value = rest + value, struct.pack("<I", end + len(rest))
        directory += struct.pack("<HHI4s", tag, kind, len(values), value)
    data = (directory + bytes(4) + rest).ljust(1000, b"\0") + b"".join(parts)
    decoded = decode_image(data, "a.tif")
    assert (decoded.image.size, decoded.file_type) == ((80, 80), "image/tiff")
    assert decoded.image.getpixel((5, 5)) == (60, 160, 70) == decoded.image.getpixel((75, 35))
    assert decoded.image.getpixel((5, 45)) == (200, 60, 50) == decoded.image.getpixel((75, 75))
    with pytest.raises(UnreadableImage, match="cut short"):
        decode_image(data[:1100], "a.tif")


@pytest.mark.parametrize("bits", [4, 8])
def test_run_length_encoded_bmp_is_right_or_refused(bits: int) -> None:
    palette = b"".join(bytes((blue, 100, 50, 0)) for blue in range(1 << bits))
    pixels = bytes((8, 3 if bits == 8 else 0x33, 0, 0)) * 4 + b"\0\1"  # four rows of eight pixels of colour 3
    size = (40, 8, 4, 1, bits, 1 if bits == 8 else 2, len(pixels), 0, 0, 1 << bits, 0)
    header = struct.pack("<IiiHHIIiiII", *size) + palette
    data = struct.pack("<2sIHHI", b"BM", 14 + len(header) + len(pixels), 0, 0, 14 + len(header)) + header + pixels
    if bits == 4:
        with pytest.raises(UnreadableImage, match="BMP of 16 colours, run-length encoded"):
            decode_image(data, "a.bmp")
    else:
        assert decode_image(data, "a.bmp").image.getpixel((7, 3)) == (50, 100, 3)


# --- files that are cut short -----------------------------------------------------------------------------------------


def make_noise(mode: str = "RGB") -> Image.Image:
    return Image.fromarray(np.random.default_rng(2).integers(0, 255, (200, 100, 3), np.uint8)).convert(mode)


@pytest.mark.parametrize(
    ("format", "mode"),
    [("PNG", "RGB"), ("PNG", "L"), ("PNG", "P"), ("PNG", "RGBA"), ("PNG", "1"), ("BMP", "RGB"), ("PPM", "RGB")],
)
def test_file_without_its_last_rows_is_taken_as_incomplete(format: str, mode: str) -> None:
    data = write(make_noise(mode), format)
    whole = decode_image(data, "a")
    assert not whole.is_incomplete
    cut = decode_image(data[: int(len(data) * 0.95)], "a")
    assert cut.is_incomplete and (cut.width, cut.height) == (100, 200)
    there = (0, 30, 100, 200) if format == "BMP" else (0, 0, 100, 170)  # a BMP begins at the bottom
    assert cut.image.crop(there).tobytes() == whole.image.crop(there).tobytes()


def test_png_of_which_too_little_is_there_is_refused_with_its_share() -> None:
    data = write(make_noise())
    with pytest.raises(UnreadableImage, match=r"a\.png is cut short: [456]\d% of it is there"):
        decode_image(data[: len(data) // 2], "a.png")
    with pytest.raises(UnreadableImage, match=r"a\.png is "):
        decode_image(data[:60], "a.png")


@settings(max_examples=scale(60), deadline=None)
@given(st.data())
def test_cut_and_damaged_png_is_an_image_or_one_error(drawn: st.DataObject) -> None:
    content = bytearray(write(make_noise()))
    for _ in range(drawn.draw(st.integers(0, 4))):
        content[drawn.draw(st.integers(8, 200))] = drawn.draw(st.integers(0, 255))
    with contextlib.suppress(UnreadableImage):
        decode_image(bytes(content[: drawn.draw(st.integers(8, len(content)))]), "a.png", max_pixels=10**6)
