"""Wherever an image carries text, it is found, in the letters it was written in."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from image_search.metadata import read_image_text
from image_search.metadata.sidecars import find_sidecars
from tests.fakes.images_with_text import (
    INFOTEXT,
    alternatives,
    hide_text,
    international_chunk,
    make_chunk,
    make_exif,
    make_gif_with_xmp,
    make_image,
    make_jpeg,
    make_png,
    make_user_comment,
    make_webp,
    make_xmp,
    packed_chunk,
    save_image,
    text_chunk,
)

CAPTION = "夕焼けの海、café"
CAPTION_XMP = make_xmp(alternatives("dc:description", CAPTION))


@pytest.mark.parametrize(
    "chunk",
    [
        text_chunk("parameters", INFOTEXT.encode()),
        packed_chunk("parameters", INFOTEXT),
        international_chunk("parameters", INFOTEXT),
        international_chunk("parameters", INFOTEXT, packed=True),
        make_chunk(b"eXIf", make_exif({}, {0x9286: make_user_comment(INFOTEXT)})[6:]),
        make_chunk(b"comf", b"parameters\0" + INFOTEXT.encode()),
    ],
    ids=["tEXt", "zTXt", "iTXt", "packed iTXt", "eXIf", "comf"],
)
@pytest.mark.parametrize("after_pixels", [False, True])
def test_png_chunk_is_read_before_and_after_the_pixels(chunk: bytes, after_pixels: bool) -> None:
    text = read_image_text(make_png(chunk, after_pixels=after_pixels))
    assert (text.prompt, text.negative_prompt, text.seed) == ("白い猫, 1girl", "low quality", "12345")


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp932"])
def test_png_text_is_read_in_the_encoding_it_was_written_in(encoding: str) -> None:
    words = "カメラと猫" if encoding == "cp932" else "pâté à la crème"
    assert read_image_text(make_png(text_chunk("Notes", words.encode(encoding)))).description == f"Notes: {words}"


def test_chunk_longer_than_the_decoder_allows_is_read_from_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", 1 << 20)
    data = make_png(packed_chunk("parameters", "very " * 400_000 + INFOTEXT))
    with pytest.raises(ValueError, match="Decompressed data too large"):
        Image.open(io.BytesIO(data)).load()
    assert read_image_text(data).seed == "12345"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "comment",
    [
        make_user_comment(INFOTEXT, encoding="utf-16-be"),
        make_user_comment(INFOTEXT, encoding="utf-16-le"),
        make_user_comment(INFOTEXT, encoding="utf-16"),
        make_user_comment(INFOTEXT, encoding="utf-8"),
        make_user_comment(INFOTEXT, "ASCII", "utf-8"),
        make_user_comment(INFOTEXT, "JIS", "iso2022_jp"),
        make_user_comment(INFOTEXT, "", "utf-8"),
        INFOTEXT.encode(),
    ],
    ids=["big endian", "little endian", "byte order mark", "UTF-8 as UNICODE", "ASCII", "JIS", "undefined", "no code"],
)
def test_user_comment_is_read_in_every_character_code_and_byte_order(comment: bytes, order: str) -> None:
    exif = make_exif({}, {0x9286: comment}, order)
    for data in (make_jpeg((0xE1, exif)), make_webp((b"EXIF", exif[6:])), make_webp((b"EXIF", exif))):
        assert read_image_text(data).prompt == "白い猫, 1girl"


def test_user_comment_without_a_latin_letter_is_read_in_the_byte_order_of_its_block() -> None:
    for order, encoding in (("<", "utf-16-le"), (">", "utf-16-be")):
        exif = make_exif({}, {0x9286: make_user_comment("白猫黒猫", encoding=encoding)}, order)
        assert read_image_text(make_jpeg((0xE1, exif))).description == "白猫黒猫"


@pytest.mark.parametrize(
    "tags",
    [{0x010E: CAPTION}, {0x9C9B: (CAPTION + "\0").encode("utf-16-le")}, {0x9C9C: (CAPTION + "\0").encode("utf-16-le")}],
    ids=["ImageDescription", "XPTitle", "XPComment"],
)
def test_caption_is_read_from_every_exif_tag_that_holds_one(tags: dict[int, bytes | str]) -> None:
    assert read_image_text(make_jpeg((0xE1, make_exif(tags)))).description == CAPTION


@pytest.mark.parametrize(
    "data",
    [
        make_jpeg((0xFE, CAPTION.encode())),
        make_jpeg((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + CAPTION_XMP)),
        make_webp((b"XMP ", CAPTION_XMP)),
        make_png(international_chunk("XML:com.adobe.xmp", CAPTION_XMP)),
        make_image(format="GIF", comment=CAPTION.encode()),
        make_gif_with_xmp(CAPTION_XMP),
        make_image(format="TIFF", tiffinfo={270: CAPTION.encode()}),
        make_image(format="TIFF", tiffinfo={700: CAPTION_XMP}),
        make_image(format="AVIF", xmp=CAPTION_XMP),
        make_image(format="AVIF", exif=make_exif({0x010E: CAPTION})),
    ],
    ids=["JPEG COM", "JPEG XMP", "WebP XMP", "PNG XMP", "GIF", "GIF XMP", "TIFF", "TIFF XMP", "AVIF XMP", "AVIF EXIF"],
)
def test_caption_is_read_from_every_kind_of_file(data: bytes) -> None:
    assert read_image_text(data).description == CAPTION


def test_block_that_imagemagick_moved_into_a_png_is_read() -> None:
    exif = make_exif({0x010E: CAPTION})
    profile = f"\nexif\n{len(exif):8}\n{exif.hex()}\n"
    assert read_image_text(make_png(packed_chunk("Raw profile type exif", profile))).description == CAPTION


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("bands", ["A", "RGB"])
@pytest.mark.parametrize("size", [(64, 130), (500, 20)])
def test_text_hidden_in_the_lowest_bits_is_read(bands: str, packed: bool, size: tuple[int, int]) -> None:
    image = hide_text(INFOTEXT, bands, packed, size=size)
    for data in (save_image(image), save_image(image, "WEBP", lossless=True, exact=True)):
        assert read_image_text(data).seed == "12345"
    if bands == "RGB":
        assert read_image_text(save_image(image.convert("RGB"))).seed == "12345"


@pytest.mark.parametrize("filter_kind", range(5))
def test_hidden_text_is_seen_through_every_kind_of_png_filter(filter_kind: int) -> None:
    import struct
    import zlib

    image = hide_text(INFOTEXT, "A", packed=True)
    pixels = image.tobytes()
    stride = 4 * image.width
    rows, above = b"", bytes(stride)
    for y in range(image.height):
        row = pixels[y * stride : (y + 1) * stride]
        rows += bytes([filter_kind]) + bytes(
            (value - _predict(filter_kind, row[x - 4] if x > 3 else 0, above[x], above[x - 4] if x > 3 else 0)) & 255
            for x, value in enumerate(row)
        )
        above = row
    header = make_chunk(b"IHDR", struct.pack(">IIBBBBB", *image.size, 8, 6, 0, 0, 0))
    packed = zlib.compress(rows)
    data = b"\x89PNG\r\n\x1a\n" + header + make_chunk(b"IDAT", packed[:50]) + make_chunk(b"IDAT", packed[50:])
    assert read_image_text(data + make_chunk(b"IEND", b"")).seed == "12345"


def _predict(kind: int, left: int, above: int, corner: int) -> int:
    estimate = left + above - corner
    nearest = min((left, above, corner), key=lambda value: abs(value - estimate))
    return (0, left, above, (left + above) // 2, nearest)[kind]


def test_pixels_without_the_magic_word_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("decoded")

    data = save_image(Image.effect_noise((200, 200), 90).convert("RGBA"))
    monkeypatch.setattr(Image, "open", refuse)
    assert read_image_text(data).generator is None


def test_image_whose_pixels_are_broken_still_says_what_it_says() -> None:
    data = make_jpeg((0xE1, make_exif({0x010E: CAPTION})))
    assert read_image_text(data[: data.index(b"\xff\xda") + 8]).description == CAPTION
    data = make_png(international_chunk("parameters", INFOTEXT))
    assert read_image_text(data[: data.index(b"IDAT") + 6]).seed == "12345"


def test_file_that_says_nothing_gives_nothing() -> None:
    for data in (
        b"",
        b"hello",
        make_image(),
        make_image(format="JPEG"),
        make_image(format="WEBP"),
        make_image(format="BMP"),
    ):
        text = read_image_text(data)
        assert (text.generation_prompt, text.description, text.generator, text.keywords) == (None, None, None, ())


def test_files_beside_an_image_are_found_and_read(tmp_path) -> None:
    path = tmp_path / "猫.png"
    path.write_bytes(make_image())
    (tmp_path / "猫.txt").write_text(INFOTEXT, encoding="utf-8")
    (tmp_path / "猫.png.json").write_text('{"tags": ["ねこ", "白"]}', encoding="utf-8")
    (tmp_path / "猫.json").write_text('{"tags": ["wrong"]}', encoding="utf-8")
    (tmp_path / "犬.txt").write_text("another picture's", encoding="utf-8")
    sidecars = find_sidecars(path)
    assert sorted(sidecars) == ["猫.png.json", "猫.txt"]
    text = read_image_text(path.read_bytes(), sidecars=sidecars)
    assert (text.seed, text.keywords) == ("12345", ("ねこ", "白"))


def test_text_beside_a_photograph_is_its_caption_and_an_xmp_file_its_keywords(tmp_path) -> None:
    path = tmp_path / "a.jpg"
    (tmp_path / "a.txt").write_text(CAPTION, encoding="utf-8")
    (tmp_path / "a.xmp").write_bytes(make_xmp("<dc:subject><rdf:Bag><rdf:li>海</rdf:li></rdf:Bag></dc:subject>"))
    text = read_image_text(make_image(format="JPEG"), sidecars=find_sidecars(path))
    assert (text.description, text.keywords) == (CAPTION, ("海",))


def test_metadata_jsonl_gives_captions_after_a_text_beside_the_image(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "train").mkdir()
    lines = [
        '{"file_name": "a.jpg", "text": "港の灯"}',
        "{broken",
        "",
        '{"file_name": "train/b.jpg", "caption": "雪の町"}',
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")

    def describe(name: str) -> str | None:
        return read_image_text(make_image(format="JPEG"), sidecars=find_sidecars(tmp_path / name)).description

    assert [describe("a.jpg"), describe("train/b.jpg"), describe("c.jpg")] == ["港の灯", "雪の町", None]
    assert len(caplog.records) == 1
    assert "line 2 is no JSON object" in caplog.text
    (tmp_path / "a.txt").write_text(CAPTION, encoding="utf-8")
    assert describe("a.jpg") == CAPTION


def test_named_pipe_beside_an_image_is_no_sidecar(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")  # opening it would wait for its writer
    assert find_sidecars(tmp_path / "a.jpg") == {}


def test_text_in_the_file_comes_before_what_lies_beside_it() -> None:
    data = make_png(international_chunk("parameters", INFOTEXT))
    assert read_image_text(data, sidecars={"a.txt": b"other\nSteps: 1, Sampler: x, Seed: 9"}).seed == "12345"


def test_texts_are_kept_as_found_under_the_name_of_their_place() -> None:
    data = make_png(international_chunk("a", "1"), international_chunk("a", "2"), text_chunk("Software", "Program 7"))
    assert dict(read_image_text(data).raw) == {"a": "1", "a (2)": "2", "Software": "Program 7"}
