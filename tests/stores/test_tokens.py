"""The spelling in which texts and terms are compared: what is alike, and what is not."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_search.settings import ROOT
from image_search.stores.tokens import _KANJI, normalise_text

ALIKE = [
    "abc ａｂｃ Ａbc ABC",
    "fire ﬁre FIRE",
    "iii Ⅲ ⅲ",
    "1 ① １ 1️⃣ ١ ۱ १ ๑",
    "1/2 ½ 1∕2",
    "°c ℃ ˚c",
    "(株) ㈱",
    "平成 ㍻",
    "キロ ㌔ ｷﾛ",
    "ガ ｶﾞ カ\u3099 カ゛",
    "パ ﾊﾟ ハ\u309a ハ゜",
    "神 神 神\ufe00",
    "葛城 葛\U000e0100城",
    "長 ⻑ ⾧",
    "大 ⼤",
    "cafe café cafe\u0301 CAFÉ",
    "q q\u0301",
    "istanbul İstanbul ıstanbul ISTANBUL",
    "strasse straße STRASSE STRAẞE",
    "smorrebrod smørrebrød",
    "lodz Łódź",
    "oeuvre œuvre Œuvre",
    "aeon æon ǽon",
    "dong đồng",
    "thor Þór",
    "ελλαδα Ελλάδα ΕΛΛΑΔΑ",
    "елка ёлка",
    "don't don’t donʼt don´t don`t don′t",
    "hawai'i Hawaiʻi",
    '"hi" “hi” „hi“ 〝hi〟 ＂hi＂',
    '5" 5″ 5”',
    "a-b a‐b a‑b a–b a—b a−b a－b a─b",
    "10~20 10〜20 10～20 10∼20",
    "ジョン・スミス ジョン･スミス ジョン·スミス ジョン•スミス",
    "ジャン=ポール ジャン＝ポール ジャン゠ポール",
    "〇 ○ ◯",
    "市ケ谷 市ヶ谷 市ｹ谷",
    "一カ月 一ヵ月",
    "高橋 髙橋",
    "山崎 山﨑 山嵜",
    "吉野家 𠮷野家",
    "渡辺 渡邊 渡邉",
    "斎藤 齋藤",
    "斉藤 齊藤",
    "広島 廣島",
    "桜井 櫻井",
    "👍 👍🏽 👍🏿",
    "❤ ❤️ ❤︎",
    "👩💻 👩‍💻 👩🏽‍💻",
    "כתב כָּתַב",
    "كتاب كِتَاب كتـاب",
    "احمد أحمد",
    "صل ﺻﻞ",
    "colour colo\u00adur col\u200bour",
    "lego Lego™ LEGO®",
    "(series) \\(series\\) （series）",
]


@pytest.mark.parametrize("spellings", ALIKE)
def test_spellings_of_one_word_are_alike(spellings):
    plain, *others = spellings.split(" ")
    assert {normalise_text(other) for other in others} == {normalise_text(plain)} == {plain}


def test_spellings_that_the_documentation_calls_alike_are():
    section = (ROOT / "docs" / "library.md").read_text(encoding="utf-8").split("## Which spellings are alike")[1]
    cells = [line.split(" | ")[1].rstrip(" |") for line in section.split("\n## ")[0].splitlines() if line[:2] == "| "]
    groups = [group.split() for cell in cells[1:] for group in cell.split(", ")]
    assert len(groups) > 20
    for group in groups:
        assert len(group) > 1 and len({normalise_text(spelling) for spelling in group}) == 1, group


@pytest.mark.parametrize(
    "spellings", ["long hair/long_hair/LONG\u00a0HAIR/long\u3000hair/long\u202fhair", "a b/a\u2009b"]
)
def test_blanks_are_alike(spellings):
    assert len({normalise_text(spelling) for spelling in spellings.split("/")}) == 1


@pytest.mark.parametrize(
    "different",
    [
        "か カ",
        "つ っ",
        "は ば ぱ",
        "スキー スキ- スキ",
        "斎藤 斉藤",
        "= ≠",
        "汉 漢",
        "क कि",
        "0 o",
        "1 l i",
        "東京 京都",
        "ee é",
        "ü ue",
        "👍 👎",
    ],
)
def test_different_words_stay_different(different):
    words = different.split()
    assert len({normalise_text(word) for word in words}) == len(words)


def test_mark_that_stands_alone_is_kept_or_dropped_but_never_splits_a_word():
    assert normalise_text("あ゛っ") == "あ\u3099っ"
    assert normalise_text("naı\u0308ve") == "naive"


def test_each_old_kanji_becomes_one_that_stays():
    old, new = _KANJI[::2], _KANJI[1::2]
    assert len(old) == len(new) == len(set(old))
    assert not set(old) & set(new)
    for before, after in zip(old, new, strict=True):
        assert unicodedata.normalize("NFKC", before) == before  # else NFKC does it
        assert normalise_text(before) == normalise_text(after) == after


@pytest.mark.slow
def test_every_character_has_one_spelling():
    for plane in range(0, sys.maxunicode, 0x10000):
        characters = " ".join(map(chr, range(plane, plane + 0x10000)))
        spelling = normalise_text(characters)
        assert normalise_text(spelling) == spelling


@given(st.text())
def test_normalising_twice_is_normalising_once(text):
    assert normalise_text(normalise_text(text)) == normalise_text(text)


@given(st.text("aåø\u0301\u0338\u3099゛カヶ=\\(´ı\u0307\u1112\u1161\u11ab\u200d🏽é~〜", max_size=8))
def test_normalising_twice_is_normalising_once_where_characters_meet(text):
    assert normalise_text(normalise_text(text)) == normalise_text(text)


@given(st.text(), st.text())
def test_words_that_are_alike_with_a_blank_between_are_alike_one_by_one(first, second):
    assert normalise_text(f"{first} {second}").split() == [
        *normalise_text(first).split(),
        *normalise_text(second).split(),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("piece", ["\\", "a\u0301", "\u0301", " ", "\\(", "é", "か゛", "🏽", "\u200b", "a", "髙"])
def test_long_run_of_anything_is_done_in_one_pass(piece):
    normalise_text(piece * 300_000 + "é")  # minutes where the time grows with the square of the length
