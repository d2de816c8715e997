"""Dates: the most trusted plausible one, with its precision, its source, and a mark where a reset clock wrote it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_search.metadata import read_image_text
from image_search.metadata.photo import parse_name
from image_search.metadata.sidecars import find_sidecars
from image_search.records import ImageText
from tests.fakes.images_with_text import make_exif, make_iptc, make_jpeg, make_png, make_xmp, text_chunk

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
        ("2024: 2: 3 10:11:12", TIME),
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
    "written",
    ["0001:01:01 00:00:00", "1904:01:01 00:00:00", "1970:01:01 00:00:00", "1970:01:01 09:00:00", "12345:01:01"],
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
    for written, precision in (("19680500", "month"), ("19680000", "year")):  # as IPTC writes what is not known
        assert read_image_text(make_jpeg((0xED, make_iptc([(55, written)])))).taken_precision == precision


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


@pytest.mark.parametrize(
    ("name", "sidecar"),
    [
        ("a.jpg", "a.jpg.json"),
        ("a.jpg", "a.json"),
        ("a.jpg", "a.jpg.supplemental-me.json"),
        ("a(1).jpg", "a.jpg.supplemental-metadata(1).json"),
        ("a(1).jpg", "a.jpg(1).json"),
        ("PXL_20240203_101112345.PORTRAIT.ORIGINAL.jpg", "PXL_20240203_101112345.PORTRAIT.ORIGINAL.jpg.s.json"),
        (f"{'a' * 60}.jpg", f"{'a' * 46}.json"),
        ("写真.jpg", "写真.jpg.supplemental-metadata.json"),
    ],
)
def test_takeout_file_is_found_under_its_cut_name(tmp_path: Path, name: str, sidecar: str) -> None:
    (tmp_path / sidecar).write_text('{"photoTakenTime": {"timestamp": "1706955072"}}')
    assert list(find_sidecars(tmp_path / name)) == [sidecar]


def test_png_creation_time_is_read_in_both_spellings() -> None:
    for written in ("Sat, 03 Feb 2024 10:11:12 +0900", "2024:02:03 10:11:12"):
        assert read_image_text(make_png(text_chunk("Creation Time", written))).taken_at == TIME


# Names that phones, cameras, messengers, screenshots, consoles and people give.
DAYS = [
    "IMG-20240203-WA0001.jpg", "VID-20240203-WA0001.mp4", "LINE_ALBUM_20240203_240203_1.jpg",
    "LINE_ALBUM_旅行_20240203_12.jpg", "WP_20240203_001.jpg", "20240203.jpg", "640x480_20240203.jpg",
    "20240203_640x480.jpg", "20240203 (1).jpg", "旅行20240203.jpg", "20240203旅行.jpg", "IMG_20240203.jpg",
    "IMG20240203.jpg", "20240203_0001.jpg", "20240203_999999.jpg", "Scan_20240203.jpg", "2024.02.03.jpg",
    "2024_02_03.jpg", "2024-2-3.jpg", "trip 2024-02-03 01.jpg", "２０２４０２０３.jpg", "2024年2月3日(土).jpg",
    "IMG_20240203_00012.jpg", "IMG-20240203-00012.jpg",
]  # fmt: skip
TIMES = [
    "WhatsApp Image 2024-02-03 at 10.11.12.jpeg", "WhatsApp Image 2024-02-03 at 10.11.12 AM (1).jpeg",
    "WhatsApp Image 2024-02-03 at 10.11.12_1a2b3c4d.jpg", "signal-2024-02-03-101112.jpeg",
    "signal-2024-02-03-10-11-12-123.jpg", "signal-2024-02-03-101112_002.jpeg",
    "signal-attachment-2024-02-03-101112.jpg", "signal-2024-02-03T10-11-12.jpg", "photo_2024-02-03_10-11-12.jpg",
    "photo_2024-02-03 10.11.12.jpeg", "photo_5@03-02-2024_10-11-12.jpg", "photo_2024-02-03_10-11-12 (2).jpg",
    "LINE_P20240203_101112345.jpg", "1706955072000.jpg", "20240203_101112.jpg", "20240203_101112(0).jpg",
    "20240203_101112_HDR.jpg", "20240203_101112~2.jpg", "Screenshot_20240203-101112_Chrome.jpg",
    "Screenshot_20240203_101112_Samsung Internet.jpg", "SmartSelect_20240203-101112_Gallery.jpg",
    "Screen_Recording_20240203-101112.mp4", "PXL_20240203_101112345.jpg", "PXL_20240203_101112345.MP.jpg",
    "PXL_20240203_101112345.PORTRAIT.ORIGINAL.jpg", "PXL_20240203_101112345~2.jpg", "MVIMG_20240203_101112.jpg",
    "00000IMG_00000_BURST20240203101112345_COVER.jpg", "00100lPORTRAIT_00100_BURST20240203101112345_COVER.jpg",
    "IMG_20240203_101112_BURST001_COVER.jpg", "IMG_20240203_101112123_HDR.jpg",
    "Burst_Cover_Collage_20240203101112.jpg", "IMG20240203101112.jpg", "VID20240203101112.mp4",
    "DSC_0001_BURST20240203101112345.JPG", "Screenshot_2024-02-03-10-11-12-123_com.android.chrome.jpg",
    "Screenshot_2024-02-03-10-11-12-12_40deb401b9ffe8e1df2f1cc5ba480b12.jpg",
    "スクリーンショット 2024-02-03 10.11.12.png",
    "スクリーンショット 2024-02-03 午前10.11.12.png", "Screenshot 2024-02-03 at 10.11.12\u202fAM.png",
    "スクリーンショット 2024-02-03 101112.png", "Screenshot 2024-02-03 101112.png", "截屏2024-02-03 上午10.11.12.png",
    "Bildschirmfoto 2024-02-03 um 10.11.12.png", "Capture d’écran 2024-02-03 à 10.11.12.png",
    "Captura de pantalla 2024-02-03 a la(s) 10.11.12.png", "画面収録 2024-02-03 10.11.12.mov",
    "2024-02-03 10.11.12.jpg", "2024-02-03 10.11.12-1.jpg", "2024-02-03 10.11.12 HDR.jpg",
    "WIN_20240203_10_11_12_Pro.jpg",
    "WP_20240203_10_11_12_Pro.jpg", "Minecraft 2024_02_03 10_11_12.png", "vlcsnap-2024-02-03-10h11m12s123.png",
    "Screenshot from 2024-02-03 10-11-12.png", "2024020310111200-4CE9651EE88A979D41F24CE8D6EA1C23.jpg",
    "20240203101112_1.jpg", "DJI_20240203101112_0001_D.JPG", "img20240203_10111234.jpg",
    "KakaoTalk_20240203_101112345.jpg", "KakaoTalk_Photo_2024-02-03-10-11-12.jpeg", "微信图片_20240203101112.jpg",
    "viber_image_2024-02-03_10-11-12-123.jpg", "JPEG_20240203_101112_1234567890123456.jpg",
    "IMG_20240203_101112_123.jpg", "Game Title_20240203101112.jpg", "20240203T101112Z.jpg",
    "2024-02-03T10_11_12.123Z.jpg", "20240203-101112.jpg", "20240203101112345.jpg", "20240203_101112_iOS.jpg",
    "FB_IMG_1706955072000.jpg", "mmexport1706955072000.jpg", "2024年02月03日10時11分12秒.jpg",
    "mmexport1706955072000_1706955079000.jpg", "mmexportf1b5c84a6d2e4_1706955072000.jpg", "IMG_1706955072000.jpg",
    "IMG1706955072000.jpg", "image-1706955072000 (1).png", "microMsg.1706955072000.jpg", "B612_1706955072000.jpg",
    "Screenshot_1706955072000_0.png", "LINE_MOVIE_1706955072000.mp4", "Resized_1706955072000.jpeg",
    "RPReplay_Final1706955072.MP4", "2024_0203_101112_001.JPG", "2024-0203-101112.MP4",
    "WhatsApp Görsel 2024-02-03 saat 10.11.12_1a2b3c4d.jpg", "Снимок экрана 2024-02-03 в 10.11.12.png",
    "Imagem do WhatsApp de 2024-02-03 à(s) 10.11.12.jpg", "Näyttökuva 2024-2-3 kello 10.11.12.png",
]  # fmt: skip
# Seeds, hashes, numbers of things and of people, sizes, prices, days that there are not.
NO_DATES = [
    "S__20240203.jpg", "S__12345678_0.jpg", "スクリーンショット (12).png", "Screenshot (20).png", "00012-20240203.png",
    "seed20240203.png", "seed_20240203.png", "19000101_000000.jpg", "received_1234567890.jpeg", "DSC_0042.jpg",
    "2024-13-45.jpg", "12024-02-03x.jpg", "d41d8cd98f00b204e9800998ecf8427e.jpg", "a3f20240203b9c1d.jpg",
    "3f2a20240203101112ff00.jpg", "20240203-1234-4abc-8def-123456789abc.jpg", "20240203_p0.jpg", "1920x1080.jpg",
    "1920-1080.jpg", "2048x1536.jpg", "20240203x1080.jpg", "090-1234-5678.jpg", "0312345678.jpg",
    "+81-3-1234-5678.jpg", "tel 20240203.jpg", "¥20240203.jpg", "20240203円.jpg", "$20240203.png",
    "price_20240203.png", "no.20240203.jpg", "id-20240203.jpg", "ID20240203.jpg", "408123456_1234567890_n.jpg",
    "20240203_10158012345678901_123456_n.jpg", "Snapchat-1234567890.jpg", "4901234567894.jpg", "03022024.jpg",
    "19022024.jpg", "20102011.jpg", "IMG_2024.JPG", "IMG_202402.JPG", "20240230.jpg", "99999999.jpg",
    "1234567890.jpg", "IMG_20240203a7f3.jpg", "0.20240203.png", "v2024.2.3.png", "2024.png", "P1010042.JPG",
    "20991231.jpg", "1234567890123456789.jpg", "1280-720-2024.jpg",
    "1234567890123.jpg", "1000000000000.jpg", "1999999999999.jpg", "received_1706955072000.jpeg",
    "Messenger_creation_1706955072000.jpeg", "179489_1706955072000_1234567890_31234567_5678_n.jpg",
    "1706955072000_1234567_n.jpg", "photo-1706955072000-46273834b3fb.jpg", "order-1706955072000.jpg",
    "item1706955072000.jpg", "seed_1706955072000.png", "00012-1706955072000.png", "1706955072000円.jpg",
    "1706955072000123.jpg", "a1706955072000b.png", "2024_0230_101112.JPG", "1706955072000_p0.jpg",
]  # fmt: skip
OTHER_TIMES = [
    ("WhatsApp Image 2024-02-03 at 10.11.12 PM.jpeg", datetime(2024, 2, 3, 22, 11, 12)),
    ("スクリーンショット 2024-02-03 午後10.11.12.png", datetime(2024, 2, 3, 22, 11, 12)),
    ("Screen Shot 2024-02-03 at 9.05.12 PM.png", datetime(2024, 2, 3, 21, 5, 12)),
    ("스크린샷 2024-02-03 오후 10.11.12.png", datetime(2024, 2, 3, 22, 11, 12)),
    ("202402031011.jpg", datetime(2024, 2, 3, 10, 11, 0)),
    ("2024年2月.jpg", datetime(2024, 2, 1)),
    ("2024年2月3日 10時11分.jpg", datetime(2024, 2, 3, 10, 11, 0)),
    ("1965-07-12 wedding.jpg", datetime(1965, 7, 12)),
    ("19850712.jpg", datetime(1985, 7, 12)),
]


@pytest.mark.parametrize(
    ("name", "meant"), [*((name, DAY) for name in DAYS), *((name, TIME) for name in TIMES), *OTHER_TIMES]
)
def test_name_gives_the_date_when_nothing_inside_says_one(name: str, meant: datetime) -> None:
    text = read_image_text(make_jpeg(), file_name=name)
    assert (text.taken_at, text.taken_source) == (meant, "name")
    assert name not in DAYS or text.taken_precision == "day"
    dated = make_jpeg((0xE1, make_exif({}, {0x9003: "2020:01:02 03:04:05"})))
    assert read_image_text(dated, file_name=name).taken_at == datetime(2020, 1, 2, 3, 4, 5)


@pytest.mark.parametrize("name", NO_DATES)
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
        ("a(1)-edited.jpg", "a.jpg.supplemental-metadata(1).json"),
        (normalize("NFD", "a-modifié.jpg"), "a.jpg.json"),
        (f"{'a' * 44}-ed.jpg", f"{'a' * 44}.j.json"),
        (f"{'a' * 46}-.jpg", f"{'a' * 46}.json"),
        ("a-編集済み(2).jpg", "a.jpg.supplemental-metadata(2).json"),
    ],
)
def test_edited_copy_of_a_takeout_has_the_facts_of_the_original(tmp_path: Path, name: str, sidecar: str) -> None:
    (tmp_path / sidecar).write_text('{"photoTakenTime": {"timestamp": "1706955072"}}')
    assert list(find_sidecars(tmp_path / name)) == [sidecar]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("24-02-03 10-11-12 1234.jpg", datetime(2024, 2, 3, 10, 11, 12)),  # Nextcloud on iOS
        ("Picsart_24-02-03_10-11-12-123.jpg", datetime(2024, 2, 3, 10, 11, 12)),
        ("LINE_ALBUM_旅行_240203_1.jpg", datetime(2024, 2, 3)),
        ("Foto 03.02.24, 10 11 12.jpg", datetime(2024, 2, 3, 10, 11, 12)),
        ("Scan 03.02.2024.jpg", datetime(2024, 2, 3)),
        ("Version 1.2.3.2024.jpg", None),
        ("99-12-24.jpg", None),
    ],
)
def test_name_with_the_year_in_two_digits_or_the_day_first_has_its_date(name: str, expected: datetime | None) -> None:
    taken = parse_name(name)
    assert (taken.moment if taken else None) == expected


@pytest.mark.parametrize("text", ["1 May 2024", "May 1, 2024", "01.05.2024"])
def test_day_that_is_spelt_out_in_a_png_is_read(text: str) -> None:
    found = read_image_text(make_png(text_chunk("Creation Time", text)))
    assert (found.taken_at, found.taken_precision) == (datetime(2024, 5, 1), "day")


@pytest.mark.parametrize("mark", ["edited", "redigerad", "изменено", "đã chỉnh sửa", "已编辑"])
def test_edited_copy_of_takeout_takes_the_facts_of_the_original_in_any_language(tmp_path: Path, mark: str) -> None:
    (tmp_path / "IMG_1.jpg.supplemental-metadata.json").write_text('{"photoTakenTime": {"timestamp": "1258375918"}}')
    assert find_sidecars(tmp_path / f"IMG_1-{mark}.jpg")
    assert find_sidecars(tmp_path / "IMG_1.jpg")


def test_facts_of_another_image_are_not_taken_for_an_edited_copy(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg.json").write_text('{"description": "A cat"}')
    assert not find_sidecars(tmp_path / "cat-black.jpg")


def test_film_of_a_live_photograph_takes_the_facts_of_the_photograph(tmp_path: Path) -> None:
    (tmp_path / "IMG_1.HEIC.supplemental-metadata.json").write_text('{"photoTakenTime": {"timestamp": "1258375918"}}')
    assert find_sidecars(tmp_path / "IMG_1.MP4")
