"""Dates: the most trusted plausible one, with its precision, its source, and a mark where a reset clock wrote it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_search.metadata import find_sidecars, read_image_text
from image_search.metadata.photo import parse_name
from image_search.records import ImageText
from tests.fakes.images_with_text import make_exif, make_jpeg, make_png, make_xmp, text_chunk

DAY = datetime(2024, 2, 3)
TIME = datetime(2024, 2, 3, 10, 11, 12)


def read_exif(original: str = "", **more: bytes) -> ImageText:
    tags = {0x9003: original} if original else {}
    return read_image_text(make_jpeg((0xE1, make_exif({}, tags))), **more)


def read_xmp(attributes: str) -> ImageText:
    return read_image_text(make_jpeg((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + make_xmp("", attributes))))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2024:02:03 10:11:12", TIME),
        ("2024-02-03T10:11:12Z", TIME),
        ("2024:02:03 10:11:12+09:00", TIME),
        ("2024:02:03 24:05:00", datetime(2024, 2, 4, 0, 5)),
        ("2024:02:03 23:59:60", datetime(2024, 2, 4)),
        ("2024:02:03 PM 3:10:20", datetime(2024, 2, 3, 15, 10, 20)),
        ("2024:02:03 3:10:20 pm", datetime(2024, 2, 3, 15, 10, 20)),
        ("2024:02:03 AM 12:10:20", datetime(2024, 2, 3, 0, 10, 20)),
        ("2024:2:3 10:11:12", TIME),
        ("20240203T101112", TIME),
        ("20240203 101112", TIME),
        ("2024:02:03-10:11:12", TIME),
        ("2024:02:03 10-11-12", TIME),
        ("Sat Feb 03 10:11:12 2024", TIME),
    ],
)
def test_exif_date_is_local_time_in_whatever_spelling(written: str, meant: datetime) -> None:
    text = read_exif(written)
    assert (text.taken_at, text.taken_precision, text.taken_source) == (meant, "second", "exif")


@pytest.mark.parametrize(
    "written", ["0001:01:01 00:00:00", "1904:01:01 00:00:00", "1970:01:01 00:00:00", "12345:01:01"]
)
def test_implausible_date_is_none(written: str) -> None:
    assert read_exif(written).taken_at is None


@pytest.mark.parametrize("written", ["2002:12:08 12:00:00", "2002:01:01 00:00:00"])
def test_date_of_a_reset_clock_is_kept_and_marked(written: str) -> None:
    text = read_exif(written)
    assert text.taken_at is not None
    assert text.taken_is_doubtful
    assert not read_exif("2002:12:08 12:01:00").taken_is_doubtful


def test_precision_is_what_was_written() -> None:
    assert read_exif("2021:08:09").taken_precision == "day"
    month = read_xmp('photoshop:DateCreated="1968-05"')
    assert (month.taken_at, month.taken_precision) == (datetime(1968, 5, 1), "month")
    assert read_xmp('photoshop:DateCreated="1968"').taken_precision == "year"


def test_xmp_create_date_counts_after_the_more_trusted_ones() -> None:
    assert read_xmp('xmp:CreateDate="2024-02-03T10:11:12+02:00"').taken_at == TIME
    both = read_xmp('xmp:CreateDate="2020-01-02T03:04:05" exif:DateTimeOriginal="2024-02-03T10:11:12"')
    assert both.taken_at == TIME


def test_exif_date_of_the_file_is_taken_when_the_original_is_not_set() -> None:
    data = make_jpeg((0xE1, make_exif({0x0132: "2024:02:03 10:11:12"}, {0x9003: "0000:00:00 00:00:00"})))
    assert read_image_text(data).taken_at == TIME


def test_takeout_file_gives_date_and_caption() -> None:
    takeout = {"description": "pandas", "photoTakenTime": {"timestamp": "1706955072"}}
    text = read_exif(sidecars={"a.jpg.supplemental-metadata.json": json.dumps(takeout).encode()})
    assert (text.taken_at, text.taken_source, text.description) == (TIME, "takeout", "pandas")


def test_png_creation_time_is_read_in_both_spellings() -> None:
    for written in ("Sat, 03 Feb 2024 10:11:12 +0900", "2024:02:03 10:11:12"):
        assert read_image_text(make_png(text_chunk("Creation Time", written))).taken_at == TIME


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("IMG-20240203-WA0001.jpg", DAY),
        ("IMG_20240203_101112.jpg", TIME),
        ("PXL_20240203_101112345.jpg", TIME),
        ("VID_20240203_101112.mp4", TIME),
        ("Screenshot_20240203-101112.png", TIME),
        ("Screenshot 2024-02-03 at 10.11.12.png", TIME),
        ("2024-02-03 10.11.12.jpg", TIME),
        ("2024-02-03.jpg", DAY),
        ("20240203_101112.jpg", TIME),
        ("20240203101112.jpg", TIME),
        ("Screenshot 2024-02-03 at 10.11.12\u202fAM.png", TIME),
        ("Screen Shot 2024-02-03 at 10.11.12 PM.png", datetime(2024, 2, 3, 22, 11, 12)),
        ("写真 2024-02-03 10 11 12.jpg", TIME),
        ("2024年2月3日.jpg", DAY),
        ("2024年2月3日 10時11分12秒.jpg", TIME),
        ("FB_IMG_1706955072000.jpg", TIME),
        ("mmexport1706955072000.jpg", TIME),
    ],
)
def test_name_gives_the_date_when_nothing_inside_says_one(name: str, meant: datetime) -> None:
    text = read_image_text(make_jpeg(), file_name=name)
    assert (text.taken_at, text.taken_source) == (meant, "name")
    assert read_image_text(
        make_jpeg((0xE1, make_exif({}, {0x9003: "2020:01:02 03:04:05"}))), file_name=name
    ).taken_at == (datetime(2020, 1, 2, 3, 4, 5))


@pytest.mark.parametrize(
    "name",
    [
        "00012-20240203.png",
        "seed20240203.png",
        "19000101_000000.jpg",
        "received_1234567890.jpeg",
        "DSC_0042.jpg",
        "2024-13-45.jpg",
        "12024-02-03x",
    ],
)
def test_name_with_other_numbers_gives_no_date(name: str) -> None:
    assert parse_name(name) is None


@given(st.text(max_size=300))
def test_any_name_is_read_without_an_error(name: str) -> None:
    taken = parse_name(name)
    assert taken is None or taken.moment.year >= 1826


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2024年02月03日 10:11:12", TIME),
        ("2024:02:03 午後 3:10:20", datetime(2024, 2, 3, 15, 10, 20)),
        ("2024:02:03 下午03:10:20", datetime(2024, 2, 3, 15, 10, 20)),
        ("2024/02/03 12:10:20 午前", datetime(2024, 2, 3, 0, 10, 20)),
    ],
)
def test_date_is_read_in_the_language_of_the_phone(written: str, meant: datetime) -> None:
    assert read_xmp(f'photoshop:DateCreated="{written}"').taken_at == meant


@pytest.mark.parametrize(
    ("name", "sidecar"),
    [
        ("a-edited.jpg", "a.jpg.json"),
        ("a-edited.jpg", "a.jpg.supplemental-metadata.json"),
        ("a-編集済み.jpg", "a.jpg.supplemental-meta.json"),
        ("a-bearbeitet(1).jpg", "a.jpg(1).json"),
    ],
)
def test_edited_copy_of_a_takeout_has_the_facts_of_the_original(tmp_path: Path, name: str, sidecar: str) -> None:
    (tmp_path / sidecar).write_text('{"photoTakenTime": {"timestamp": "1706955072"}}')
    assert list(find_sidecars(tmp_path / name)) == [sidecar]
