"""Texts in which words are hard to find, and words to look for in them; the same in every run."""

from __future__ import annotations

import random
from collections.abc import Sequence

_PIECES = (
    *(
        "cat",
        "cats",
        "Cat",
        "education",
        "ＣＡＴ",
        "c\u00adat",
        "ca\u200bt",
        "cat01",
        "01",
        "1",
        "0012",
        "IM",
        "IMG",
        "im",
    ),
    *("no", "no no", "long_hair", "long hair", r"fate \(series\)", "fate (series)", "(cat:1.2)", "[cat]", "{猫}"),
    *("don’t", "don't", "“hi”", '"hi"', "café", "cafe\u0301", "cafe", "CAFÉ", "Ångström", "straße", "STRASSE", "ﬁre"),
    *("кот", "КОТЫ", "ёлка", "Ελλάδα", "ελλαδα", "كتاب", "ספר", "กินข้าว", "고양이", "우리", "ไทย"),
    *(
        "猫",
        "黒猫",
        "猫カフェ",
        "ママ",
        "マママ",
        "もも",
        "ももも",
        "いい",
        "いいい",
        "青い空",
        "い空",
        "空",
        "の",
        "々",
        "〆",
    ),
    *("ﾊﾟﾘ", "パリ", "ハリ", "ｶﾞ", "ガ", "か\u3099", "が", "か", "東京都", "京都", "東京 都", "㍿", "①", "Ⅷ", "½"),
    *("𠮷野家", "葛\U000e0100飾", "葛飾", "辻\ufe00", "辻", "❄️", "❄", "👨‍👩‍👧", "👩", "🏔️", "é", "e", "ä"),
    *(
        "c++",
        "C#",
        "a-b",
        "a_b",
        "a/b",
        "100%",
        "50% off",
        "*",
        "?",
        "\\",
        "'",
        "--",
        "AND",
        "OR",
        "NOT",
        "NEAR",
        "OR 1=1",
    ),
    *(
        "👍🏽",
        "👍",
        "1️⃣",
        "🇯🇵",
        "🏴\U000e0067\U000e007f",
        "👩\u200d🚀",
        "☺︎",
        "㊗️",
        "İstanbul",
        "istanbul",
        "ıstanbul",
        "I\u0307",
    ),
    *(
        "a\u0323\u0307",
        "a\u0307\u0323",
        "x\u0336",
        "q\u0301",
        "ệ",
        "한",
        "\u1112\u1161\u11ab",
        "ㅎㅏㄴ",
        "\uf900",
        "豈",
        "﨑",
        "⺠",
        "⼈",
    ),
    *(
        "時々",
        "こゝろ",
        "すゞ",
        "スキー",
        "スキ-",
        "スキ−",
        "ｽｷｰ",
        "10〜20",
        "10～20",
        "a・b",
        "a·b",
        "A–B",
        "A‑B",
        "「猫」",
        "｢猫｣",
    ),
    *(
        "don`t",
        "donʼt",
        "«hi»",
        "か゛",
        "ｳﾞ",
        "ヴ",
        "ゟ",
        "㎏",
        "℃",
        "Æ",
        "ø",
        "ς",
        "Σ",
        "ǆ",
        "ſ",
        "١٢",
        "हिन्दी",
        "שָׁלוֹם",
        "مُحَمَّد",
    ),
    *("Łódź", "smørrebrød", "œuvre", "don´t", "5″", "A─B", "A−B", "l·l", "ジョン･スミス", "一ヵ月", "市ヶ谷", "市ｹ谷"),
    *("髙橋", "高橋", "山﨑", "渡邉", "慶應", "⻑", "أحمد", "احمد", "ی", "ي", "١٢٣", "๑๒", "Lego™ set", "≠", "○", "〇"),
    *("あ゛", "20˚", "👍🏿", "🏽", "q\u0301\u0338", "हि\u093c", "\u3099\u0338" * 20, "\\\\(", "ı", "İİ"),
    *("\ue02d", "\ue0ff", "\U0010ffff", "f0", "c02d", "u4", "w0", "\u1680", "\u2028", "\x1f", "\x85"),
    *("a" * 40, "ж" * 10, "9" * 40, "猫" * 70, "cat " * 20),
)
_SEPARATORS = ("", "", " ", " ", ", ", "\u3000", "\n", "、", ".", "_", "-", "\u200d", "\ufe0f", "\u202e", "\t ", "/")


def make_odd_texts(count: int, seed: int = 16) -> list[str]:
    """Texts of pieces of all scripts, widths and spellings, some with blanks between and some without."""
    rng = random.Random(seed)
    texts = []
    for _ in range(count):
        pieces = rng.choices(_PIECES, k=rng.randint(1, 8))
        texts.append("".join(piece + rng.choice(_SEPARATORS) for piece in pieces))
    return texts


def make_odd_queries(texts: Sequence[str], count: int, seed: int = 17) -> list[str]:
    """Pieces themselves, parts of the texts, and what stands nowhere."""
    rng = random.Random(seed)
    queries = list(_PIECES)
    while len(queries) < count + len(_PIECES):
        text = rng.choice(texts)
        start = rng.randrange(len(text))
        queries.append(text[start : start + rng.randint(1, 8)])
        queries.append(rng.choice(_PIECES)[:3] + rng.choice(_SEPARATORS) + rng.choice(_PIECES)[:3])
    return list(dict.fromkeys(queries))
