"""Texts of unstated encoding: read in the language they are written in, and never as signs of another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_search.metadata import read_image_text
from image_search.metadata.text import decode_text
from tests.fakes.images_with_text import make_jpeg, make_xmp

JAPANESE = [
    "夕焼けの海と猫の写真です",
    "東京駅",
    "運動会、二〇二四年",
    "カメラ",
    "京都 清水寺 紅葉",
    "富士山頂",
    "うみ IMG_0012 by Canon EOS",
]
SIMPLIFIED = [
    "小猫在沙发上睡觉",
    "北京故宫的雪景，二〇二四年",
    "我们一家人在海边",
    "上海外滩夜景",
    "你好",
    "在 Paris 的照片",
]
TRADITIONAL = ["小貓在沙發上睡覺", "台北的夜景", "我們一家人在海邊", "臺灣", "貓"]
KOREAN = ["고양이가 소파에서 자고 있다", "서울의 밤"]
WESTERN = [
    "café au lait à Paris",
    "Zürich",
    "naïve",
    "It’s fine",
    "“Hello” he said",
    "São João",
    "Straße",
    "Málaga — 2024",
    "été",
]
CASES = [
    *((text, encoding) for text in JAPANESE for encoding in ("utf-8", "cp932", "euc_jp", "iso2022_jp")),
    *((text, "gb18030") for text in SIMPLIFIED),
    *((text, "big5") for text in TRADITIONAL),
    *((text, "cp949") for text in KOREAN),
    *((text, encoding) for text in WESTERN for encoding in ("utf-8", "cp1252")),
]
WIDE = [
    "夕焼けの海と猫の写真です",
    "1girl, solo",
    "京都 清水寺 紅葉",
    "小猫在沙发上睡觉",
    "서울의 밤",
    "It’s fine",
    "a cat\non a sofa",
]


@pytest.mark.parametrize(("text", "encoding"), CASES)
def test_caption_beside_an_image_is_read_in_the_encoding_of_its_language(text: str, encoding: str) -> None:
    assert read_image_text(make_jpeg(), sidecars={"a.txt": text.encode(encoding)}).description == text


@pytest.mark.parametrize("text", WIDE)
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16", "utf-32"])
def test_wide_text_is_read_with_and_without_a_mark(text: str, encoding: str) -> None:
    assert read_image_text(make_jpeg(), sidecars={"a.txt": text.encode(encoding)}).description == text


def test_utf_8_with_a_cut_end_or_a_wrong_byte_stays_utf_8() -> None:
    data = "夕焼けの海と猫の写真です。" * 3
    assert decode_text(data.encode()[:-1]) == data[:-1]
    assert decode_text(data.encode().replace("猫".encode(), b"\xff", 1)).count("海") == 3


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_xmp_sidecar_is_read_in_any_form_of_unicode(encoding: str) -> None:
    packet = make_xmp("<dc:subject><rdf:Bag><rdf:li>海</rdf:li></rdf:Bag></dc:subject>").decode()
    packet = packet[packet.index("<x:") :]
    assert read_image_text(make_jpeg(), sidecars={"a.xmp": packet.encode(encoding)}).keywords == ("海",)


@given(st.text(st.characters(max_codepoint=126, min_codepoint=32), max_size=200))
def test_plain_ascii_is_itself(text: str) -> None:
    assert decode_text(text.encode()) == text


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(data: bytes) -> None:
    decode_text(data)


@pytest.mark.parametrize(
    "text", ["ﾈｺﾁｬﾝ", "ｻｸﾗ", "ﾃﾚﾋﾞ", "ﾗｰﾒﾝ", "ﾄｳｷｮｳ ﾀﾜｰ", "｢ｻｸﾗ｣､ｷﾚｲ｡", "ｺｳｴﾝﾃﾞｱｿﾌﾞ ｺﾄﾞﾓ", "ﾀﾝﾎﾟﾎﾟの写真"]
)
def test_kana_of_half_width_are_read_without_a_mark(text: str) -> None:
    assert decode_text(text.encode("cp932")) == text


@pytest.mark.parametrize("text", ["Élève à Nîmes", "20 °C", "£5 ½", "CAFÉ", "«Été»", "¿Qué?", "Ünlü ÇIÇEK", "ÄÖÜ äöü"])
def test_accents_of_western_europe_are_not_taken_for_kana(text: str) -> None:
    assert decode_text(text.encode("cp1252")) == text
