"""Captions, keywords, dates, cameras and lenses of photographs; places only when asked for."""

from __future__ import annotations

from datetime import datetime

import pytest

from image_search.metadata import read_image_text
from image_search.records import ImageText
from tests.fakes.images_with_text import (
    INFOTEXT,
    alternatives,
    international_chunk,
    make_exif,
    make_gps,
    make_image,
    make_iptc,
    make_jpeg,
    make_png,
    make_webp,
    make_xmp,
    text_chunk,
)


def read_exif(tags: dict[int, bytes | str], exif: dict[int, bytes | str] | None = None) -> ImageText:
    return read_image_text(make_jpeg((0xE1, make_exif(tags, exif))))


def read_xmp(properties: str, attributes: str = "") -> ImageText:
    return read_image_text(make_jpeg((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + make_xmp(properties, attributes))))


def test_a_photograph_tells_when_and_with_what_it_was_taken() -> None:
    text = read_exif(
        {0x010F: "NIKON CORPORATION", 0x0110: "NIKON D90"},
        {0x9003: "2024:05:06 07:08:09", 0xA434: "AF-S 35mm f/1.8"},
    )
    assert text.taken_at == datetime(2024, 5, 6, 7, 8, 9)
    assert (text.camera, text.lens) == ("NIKON D90", "AF-S 35mm f/1.8")


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("SONY", "ILCE-7M3", "SONY ILCE-7M3"),
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        (" ", "X100", "X100"),
        ("A", "", None),
    ],
)
def test_a_camera_is_named_once(make: str, model: str, camera: str | None) -> None:
    assert read_exif({0x010F: make, 0x0110: model}).camera == camera


@pytest.mark.parametrize("date", ["0000:00:00 00:00:00", "2024:13:45 99:99:99", "    :  :     :  :  ", "yesterday", ""])
def test_a_clock_that_was_never_set_gives_no_date(date: str) -> None:
    assert read_exif({}, {0x9003: date}).taken_at is None


def test_a_date_comes_from_xmp_or_iptc_where_exif_has_none() -> None:
    assert read_xmp("", 'exif:DateTimeOriginal="2024-05-06T07:08:09.12+09:00"').taken_at == datetime(
        2024, 5, 6, 7, 8, 9
    )
    iptc = make_iptc([(55, "20240506"), (60, "070809+0900")])
    assert read_image_text(make_jpeg((0xED, iptc))).taken_at == datetime(2024, 5, 6, 7, 8, 9)


def test_caption_and_keywords_come_from_iptc_in_any_encoding() -> None:
    for encoding in ("utf-8", "cp932"):
        iptc = make_iptc([(105, "見出し"), (120, "夕焼けのうみ"), (25, "うみ"), (25, "空ソラ")], encoding)
        text = read_image_text(make_jpeg((0xED, iptc)))
        assert text.description == "見出し\n夕焼けのうみ"
        assert text.keywords == ("うみ", "空ソラ")


def test_keywords_of_all_places_are_gathered_each_once() -> None:
    xmp = make_xmp("<dc:subject><rdf:Bag><rdf:li>海</rdf:li><rdf:li>猫</rdf:li></rdf:Bag></dc:subject>")
    exif = make_exif({0x9C9E: "猫; 空\0".encode("utf-16-le")})
    data = make_jpeg((0xE1, exif), (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp), (0xED, make_iptc([(25, "海")])))
    assert read_image_text(data).keywords == ("海", "猫", "空")


def test_the_default_language_of_a_caption_is_taken() -> None:
    item = '<rdf:li xml:lang="{}">{}</rdf:li>'
    items = item.format("fr", "mer") + item.format("x-default", "海") + item.format("en", "sea")
    assert read_xmp(f"<dc:description><rdf:Alt>{items}</rdf:Alt></dc:description>").description == "海"


def test_a_title_stands_before_the_caption_unless_it_is_part_of_it() -> None:
    assert read_xmp(alternatives("dc:title", "海") + alternatives("dc:description", "朝")).description == "海\n朝"
    assert read_xmp(alternatives("dc:title", "海") + alternatives("dc:description", "朝の海")).description == "朝の海"


@pytest.mark.parametrize(
    "words",
    [
        "OLYMPUS DIGITAL CAMERA",
        "SONY DSC",
        "Created with GIMP",
        "CREATOR: gd-jpeg v1.0 (using IJG)",
        "   ",
        "cmp3.10.3.2Lq3 0x756ffbf7",
        "AI augmented image",
        "NovelAI generated image",
    ],
)
def test_what_cameras_and_programs_write_by_themselves_is_no_caption(words: str) -> None:
    assert read_exif({0x010E: words}).description is None
    assert read_image_text(make_jpeg((0xFE, words.encode()))).description is None
    assert read_image_text(make_png(text_chunk("Comment", words))).description is None


def test_a_place_is_read_only_when_asked_for_and_kept_nowhere_else() -> None:
    data = make_jpeg((0xE1, make_gps((43, 28, 30), True, (11, 53, 6), True)))
    silent, asked = read_image_text(data), read_image_text(data, read_gps=True)
    assert (silent.latitude, silent.longitude, silent.raw) == (None, None, {})
    assert (asked.latitude, asked.longitude) == pytest.approx((-43.475, -11.885))


def test_a_place_in_xmp_is_not_kept() -> None:
    text = read_xmp(alternatives("dc:description", "海"), 'exif:GPSLatitude="43,28.5N"')
    assert "43,28" not in str(text)


def test_an_impossible_place_is_none() -> None:
    data = make_jpeg((0xE1, make_gps((143, 0, 0), False, (11, 0, 0), False)))
    assert read_image_text(data, read_gps=True).latitude is None


def test_the_tags_comfyui_borrows_are_no_camera() -> None:
    text = read_exif({0x010F: 'workflow:{"nodes": []}', 0x0110: 'prompt:{"1": {"class_type": "X", "inputs": {}}}'})
    assert (text.camera, text.description) == (None, None)


def test_a_prompt_is_no_caption_but_a_signed_picture_may_have_one() -> None:
    assert (
        read_image_text(make_png(international_chunk("parameters", INFOTEXT), text_chunk("Title", "x"))).description
        is None
    )
    packet = make_xmp(alternatives("dc:description", "海") + "<photoshop:Credit>Made with Google AI</photoshop:Credit>")
    text = read_image_text(make_webp((b"XMP ", packet)))
    assert (text.generator, text.description) == ("Gemini", "海")


def test_only_keywords_and_no_words_give_no_description() -> None:
    text = read_image_text(make_image(), sidecars={"a.json": b'{"keywords": "cat, dog, cat"}'})
    assert (text.keywords, text.description) == (("cat", "dog"), None)


def test_a_json_file_beside_a_photograph_may_hold_its_caption() -> None:
    sidecars = {
        "a.jpg.json": '{"title": "a.jpg", "description": "夕焼けの海", "creationTime": {"timestamp": "1"}}'.encode()
    }
    assert read_image_text(make_image(format="JPEG"), sidecars=sidecars).description == "夕焼けの海"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be", "cp932", "euc_jp", "iso2022_jp"])
def test_a_caption_beside_an_image_is_read_in_any_japanese_encoding(encoding: str) -> None:
    caption = "夕焼けの海と猫の写真です"
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    text = read_image_text(make_jpeg(), sidecars={"a.txt": f"{mark}{caption}".encode(encoding)})
    assert text.description == caption


@pytest.mark.parametrize(
    "content",
    [
        b"0 0.5 0.5 0.1 0.1\n1 0.2 0.2 0.3 0.3\n",
        b"Car 0.00 0 -1.58 587.01 173.33 614.12 200.12 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59\n",
        b"imagesource:GoogleEarth\ngsd:0.146\n2753 2408 2861 2385 2888 2468 2805 2502 plane 0\n",
        b"7",
        b"<!DOCTYPE html><html><body>page</body></html>",
        bytes(range(1, 256)),
        bytes(100),
    ],
)
def test_annotations_pages_and_bytes_beside_an_image_are_no_caption(content: bytes) -> None:
    assert read_image_text(make_jpeg(), sidecars={"a.txt": content}).description is None


@pytest.mark.parametrize(
    "caption", ["7 cats", "3 of 12 photographs of 2024", "1girl, solo, 2boys", "café au lait à Paris"]
)
def test_captions_with_numbers_are_captions(caption: str) -> None:
    assert read_image_text(make_jpeg(), sidecars={"a.txt": caption.encode("latin-1")}).description == caption
