"""Captions, keywords, dates, cameras and lenses of photographs; places only when asked for."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from image_search.metadata import read_image_text
from image_search.metadata.photo import is_caption
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


def test_photograph_tells_when_and_with_what_it_was_taken() -> None:
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
def test_camera_is_named_once(make: str, model: str, camera: str | None) -> None:
    assert read_exif({0x010F: make, 0x0110: model}).camera == camera


@pytest.mark.parametrize("date", ["0000:00:00 00:00:00", "2024:13:45 99:99:99", "    :  :     :  :  ", "yesterday", ""])
def test_clock_that_was_never_set_gives_no_date(date: str) -> None:
    assert read_exif({}, {0x9003: date}).taken_at is None


def test_date_comes_from_xmp_or_iptc_where_exif_has_none() -> None:
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


def list_items(tag: str, *words: str) -> str:
    return f"<{tag}><rdf:Bag>{''.join(f'<rdf:li>{word}</rdf:li>' for word in words)}</rdf:Bag></{tag}>"


LR, MEDIAPRO = (
    f'xmlns:{prefix}="{space}"'
    for prefix, space in (
        ("lr", "http://ns.adobe.com/lightroom/1.0/"),
        ("mediapro", "http://ns.iview-multimedia.com/mediapro/1.0/"),
    )
)


@pytest.mark.parametrize(
    ("properties", "space", "keywords", "people"),
    [
        (list_items("lr:hierarchicalSubject", "Places|Japan|Kyoto", "People|Tom"), LR, ("Kyoto",), ("Tom",)),
        (
            list_items("dc:subject", "darktable", "format", "nef", "Kyoto")
            + list_items("lr:hierarchicalSubject", "darktable|format|nef", "Places|Kyoto"),
            LR,
            ("Kyoto",),
            (),
        ),
        (list_items("mediapro:CatalogSets", "Places|Kyoto", "Dogs"), MEDIAPRO, ("Kyoto", "Dogs"), ()),
        (list_items("mediapro:People", "Tom"), MEDIAPRO, (), ("Tom",)),
        (
            list_items("Iptc4xmpExt:PersonInImage", "Tom") + list_items("dc:subject", "sea", "Tom"),
            "",
            ("sea",),
            ("Tom",),
        ),
    ],
)
def test_keywords_of_cataloguing_programs_are_read_and_names_of_people_only_when_asked_for(
    properties: str, space: str, keywords: tuple[str, ...], people: tuple[str, ...]
) -> None:
    packet = make_xmp(properties, space)
    assert read_image_text(make_jpeg(), sidecars={"a.xmp": packet}).keywords == keywords
    assert set(read_image_text(make_jpeg(), sidecars={"a.xmp": packet}, read_people=True).keywords) == {
        *keywords,
        *people,
    }


def test_acdsee_gives_caption_keywords_categories_and_stars_in_its_own_properties() -> None:
    tree = '&lt;Category Assigned="0"&gt;Places&lt;Category Assigned="1"&gt;Kyoto&lt;/Category&gt;&lt;/Category&gt;'
    packet = make_xmp(
        f"<a:categories>{tree}</a:categories><a:caption>港の灯</a:caption>" + list_items("a:keywords", "sea"),
        'xmlns:a="http://ns.acdsee.com/iptc/1.0/" a:rating="4"',
    )
    text = read_image_text(make_jpeg(), sidecars={"a.xmp": packet})
    assert (text.description, text.keywords, text.rating) == ("港の灯", ("sea", "Kyoto"), 4)


@pytest.mark.parametrize(("percent", "stars"), [(0, None), (1, 1), (25, 2), (50, 3), (75, 4), (99, 5)])
def test_percent_of_windows_are_stars(percent: int, stars: int | None) -> None:
    packet = make_xmp("", f'xmlns:m="http://ns.microsoft.com/photo/1.0/" m:Rating="{percent}"')
    assert read_image_text(make_jpeg(), sidecars={"a.xmp": packet}).rating == stars


def test_default_language_of_a_caption_is_taken() -> None:
    item = '<rdf:li xml:lang="{}">{}</rdf:li>'
    items = item.format("fr", "mer") + item.format("x-default", "海") + item.format("en", "sea")
    assert read_xmp(f"<dc:description><rdf:Alt>{items}</rdf:Alt></dc:description>").description == "海"


def test_title_stands_before_the_caption_unless_it_is_part_of_it() -> None:
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
        "Exif_JPEG_PICTURE",
        "Minolta DSC",
        "cof",
        "FBMD01000a9b0d0000",
        "IMG_0001.JPG",
        "Uploaded with ImageShack",
        "*",
        '{"mirror":false}',
        '{"nodes":[1',
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">',
    ],
)
def test_text_that_cameras_and_programs_write_by_themselves_is_no_caption(words: str) -> None:
    assert read_exif({0x010E: words}).description is None
    assert read_image_text(make_jpeg((0xFE, words.encode()))).description is None
    assert read_image_text(make_png(text_chunk("Comment", words))).description is None


@pytest.mark.parametrize(
    "words", ["海", "[Sunset] at the beach", "<3 my dog", "Created by my daughter in the garden", "Adobe house in Taos"]
)
def test_words_of_a_person_that_look_like_those_of_a_program_are_a_caption(words: str) -> None:
    assert read_exif({0x010E: words.encode()}).description == words


def test_place_is_read_only_when_asked_for_and_kept_nowhere_else() -> None:
    data = make_jpeg((0xE1, make_gps((43, 28, 30), True, (11, 53, 6), True)))
    silent, asked = read_image_text(data), read_image_text(data, read_gps=True)
    assert (silent.latitude, silent.longitude, silent.raw) == (None, None, {})
    assert (asked.latitude, asked.longitude) == pytest.approx((-43.475, -11.885))


def test_place_in_xmp_is_not_kept() -> None:
    text = read_xmp(alternatives("dc:description", "海"), 'exif:GPSLatitude="43,28.5N"')
    assert "43,28" not in str(text)


def test_impossible_place_is_none() -> None:
    data = make_jpeg((0xE1, make_gps((143, 0, 0), False, (11, 0, 0), False)))
    assert read_image_text(data, read_gps=True).latitude is None


def test_tags_comfyui_borrows_are_no_camera() -> None:
    text = read_exif({0x010F: 'workflow:{"nodes": []}', 0x0110: 'prompt:{"1": {"class_type": "X", "inputs": {}}}'})
    assert (text.camera, text.description) == (None, None)


def test_prompt_is_no_caption_but_a_signed_image_may_have_one() -> None:
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


def test_json_file_beside_a_photograph_may_hold_its_caption() -> None:
    sidecars = {
        "a.jpg.json": '{"title": "a.jpg", "description": "夕焼けの海", "creationTime": {"timestamp": "1"}}'.encode()
    }
    assert read_image_text(make_image(format="JPEG"), sidecars=sidecars).description == "夕焼けの海"


# Annotations, tables, licences, read-me files, subtitles, logs, lists, code.
NO_CAPTIONS = [
    "0 0.5 0.5 0.1 0.1",
    "dog 0.5 0.5 0.1 0.2",
    "dog 0.5 0.5 0.1 0.2\ncat 0.1 0.2 0.3 0.4",
    "person 120 30 200 400 0.98",
    "0 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8",
    "7",
    "1,2,3,4",
    "name,age,city\nTom,3,Paris\nAnn,5,Rome",
    "name, age, city\nTom, 3, Paris\nAnn, 5, Rome",
    "x;y;w;h;label\n1;2;3;4;cat",
    "frame\tx\ty\n1\t2\t3\n2\t3\t4",
    "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,640,480,cat,1,2,3,4",
    "MIT License\n\nCopyright (c) 2024 Jane\n\nPermission is hereby granted, free of charge, to any pers"
    "on obtaining a copy of this software and associated documentation files, to deal in the Software wi"
    'thout restriction.\n\nTHE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND.',
    "Apache License\nVersion 2.0, January 2004\nhttp://www.apache.org/licenses/",
    "Creative Commons Attribution 4.0 International Public License\n\nBy exercising the Licensed Rights "
    "(defined below), You accept and agree to be bound by the terms and conditions of this Creative Comm"
    "ons Attribution 4.0 International Public License",
    "This work is licensed under the Creative Commons Attribution 4.0 License. To view a copy of this li"
    "cense, visit http://creativecommons.org/licenses/by/4.0/ or send a letter to Creative Commons, PO Box 1866.",
    "# My wallpapers\n\n## Installation\n\nUnzip the files.\n",
    "README\n======\n\nUnzip the files and enjoy.",
    "README\n\nThese are the files of the course. Please read this first.\n1. Unzip\n2. Open",
    "readme\n\nこの素材について\n・商用利用可能です。\n・再配布は禁止です。\n利用規約をお読みください。",
    "<html><body>x</body></html>",
    '{"a":1}',
    "[1,2]",
    "[section]\nkey=value\nother=3",
    "key = value\nwidth = 640\nheight = 480",
    "width: 640\nheight: 480\nfps: 30\n",
    "1\n00:00:01,000 --> 00:00:04,000\nHello",
    "WEBVTT\n\n00:01.000 --> 00:04.000\nHello",
    "d41d8cd98f00b204e9800998ecf8427e  a.jpg\n",
    "https://example.com/a.jpg\nhttps://example.com/b.jpg",
    "2024-02-03 10:11:12 INFO start\n2024-02-03 10:11:13 INFO end",
    "import os\nprint('x')\n",
    "def f():\n    return 1\n",
    "#!/bin/sh\necho hi",
    "C:\\a\\b.jpg\nC:\\a\\c.jpg",
    "/home/a/b.jpg\n/home/a/c.jpg",
    "imagesource:GoogleEarth\ngsd:0.146\n2753 2408 2861 2385 2888 2468 2805 2502 plane 0",
    "Car 0.00 0 -1.58 587.01 173.33 614.12 200.12 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59",
    "377,117,463,117,465,130,378,130,Genaxis Theatre\n493,115,519,115,519,131,493,131,[06]",
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
    "a.jpg\nb.jpg\nc.jpg",
    "-----BEGIN PGP SIGNATURE-----\nabc\n-----END PGP SIGNATURE-----",
    "yaml: 1\nlist:\n  - a\n  - b\n",
    "Image Width: 640\nImage Height: 480\nBit Depth: 8\nColor Type: RGB",
    "left=10 top=20 right=30 bottom=40",
    "id\tlabel\n1\tcat",
]
CAPTIONS = [
    "a cat on a sofa",
    "7 cats",
    "3 of 12 photographs of 2024",
    "1girl, solo, long_hair, blue_eyes",
    "1girl,solo,long_hair",
    "1girl\nsolo\nlong_hair",
    "夕焼けの海",
    "A cat, sleeping.\nA dog, running.",
    "Photo by Jane Doe, licensed under CC BY 4.0",
    "© 2024 Jane Doe. All rights reserved.",
    "masterpiece, best quality, (cat:1.2), <lora:x:0.8>",
    "score_9, score_8_up, 1boy",
    "Me & Tom at 10:30",
    "Kyoto; temple; autumn",
    "2024年5月 京都",
    "https://example.com/photo my cat",
    "Title: Sunset\nThe sea at Kamakura.",
    "- a cat\n- a dog",
    "My notes: nice weather.",
    "#sunset #beach #cat",
    "F/2.8 1/250 ISO 100 Tokyo",
    "a photo of a man, 35mm, f/1.8\na bench, trees",
    "Room 101, 3rd floor, 2nd door",
    "I love this! See more at www.example.com",
    "a cat | a dog | a bird",
    "Version 2 of the poster",
]


@pytest.mark.parametrize(
    "content",
    [
        *(text.encode() for text in NO_CAPTIONS),
        b"word " * 2000,
        b"<!DOCTYPE html><html><body>page</body></html>",
        bytes(range(1, 256)),
        bytes(100),
    ],
)
def test_text_beside_an_image_that_is_data_or_a_document_is_no_caption(content: bytes) -> None:
    assert read_image_text(make_jpeg(), sidecars={"a.txt": content}).description is None


@pytest.mark.parametrize("caption", [*CAPTIONS, "café au lait à Paris", "This is a long caption. " * 60])
def test_caption_of_any_style_is_kept_as_it_is(caption: str) -> None:
    assert read_image_text(make_jpeg(), sidecars={"a.txt": caption.encode()}).description == caption.strip()


def test_read_me_beside_an_image_of_its_name_is_its_caption_only_when_it_is_one_sentence() -> None:
    for text, expected in (("my cat Readme", "my cat Readme"), ("About these files\n\nUnzip them.", None)):
        assert read_image_text(make_jpeg(), sidecars={"readme.txt": text.encode()}).description == expected


@pytest.mark.parametrize(
    "annotation",
    [
        {"version": "5.2", "flags": {}, "shapes": [{"label": "cat", "points": [[1, 2]], "description": "x"}]},
        {"images": [{"id": 1}], "annotations": [{"id": 1, "bbox": [1, 2, 3, 4]}], "categories": [{"name": "cat"}]},
        {"info": {"description": "COCO 2017 Dataset"}, "licenses": [], "annotations": []},
        {"a.jpg123": {"filename": "a.jpg", "regions": [{"shape_attributes": {"x": 1}}]}},
        {"description": "", "tags": [{"name": "cat", "value": None}], "size": {"height": 1}, "objects": []},
        {"image": "a.jpg", "annotations": [{"label": "cat", "coordinates": {"x": 1}}]},
    ],
)
def test_annotation_of_objects_gives_neither_caption_nor_keywords(annotation: dict[str, Any]) -> None:
    text = read_image_text(make_jpeg(), sidecars={"a.json": json.dumps(annotation).encode()})
    assert (text.description, text.keywords, text.generator) == (None, (), None)


def test_caption_is_that_of_the_first_language_that_says_something() -> None:
    items = '<rdf:li xml:lang="x-default"></rdf:li><rdf:li xml:lang="en">A cat</rdf:li>'
    assert read_xmp(f"<dc:description><rdf:Alt>{items}</rdf:Alt></dc:description>").description == "A cat"


@pytest.mark.parametrize(
    ("name", "content", "caption", "keywords"),
    [
        ("a.caption", b"a cat on a mat", "a cat on a mat", ()),
        ("a.json", b'{"tag_string": "long_hair 1girl"}', None, ("long_hair", "1girl")),
        ("a.json", b'{"tags": "New York, cat"}', None, ("New York", "cat")),
        ("a.json", b'{"content": "Look at my cat"}', "Look at my cat", ()),
    ],
)
def test_captions_and_tags_of_trainers_and_boorus_are_read(
    name: str, content: bytes, caption: str | None, keywords: tuple[str, ...]
) -> None:
    found = read_image_text(make_jpeg(), sidecars={name: content})
    assert (found.description, found.keywords) == (caption, keywords)


@pytest.mark.parametrize(("encoding", "text"), [("Shift_JIS", "猫"), ("ISO-8859-1", "München"), ("UTF-8", "猫")])
def test_sidecar_is_read_in_the_encoding_that_it_declares(encoding: str, text: str) -> None:
    packet = make_xmp(f"<dc:description>{text}</dc:description>").decode()
    packet = packet[packet.index("<x:xmpmeta") : packet.rindex(">") + 1]
    content = f'<?xml version="1.0" encoding="{encoding}"?>\n{packet}'.encode(encoding)
    assert read_image_text(make_jpeg(), sidecars={"a.xmp": content}).description == text


@pytest.mark.parametrize(
    "junk",
    ["NIKON", "IMG_1234", "null", "Created with The GIMP", "vsig:abc", "https://example.com/a", "Paint.NET v3.5"],
)
def test_notes_of_programs_and_cameras_are_no_captions(junk: str) -> None:
    assert not is_caption(junk)


@pytest.mark.parametrize("words", ["NIKON day trip", "IMG of a cat", "Title fight 1971", "Canva and canvas", "P 7"])
def test_words_that_begin_as_notes_are_captions(words: str) -> None:
    assert is_caption(words)
