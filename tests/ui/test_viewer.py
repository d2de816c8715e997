"""Which parts of the lines in an image are marked as asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_search.records import RecognizedText, TextLine
from image_search.ui.viewer import describe_lines

BOX = (0.0, 0.25, 0.5, 0.35)


def recognize(*lines: str, score: float = 0.99) -> RecognizedText:
    return RecognizedText("reader 1", "\n".join(lines), tuple(TextLine(line, score, BOX) for line in lines))


def mark(lines: tuple[str, ...], *terms: str) -> list[str]:
    """The lines with brackets around what is marked."""
    found = describe_lines(recognize(*lines), terms)
    return ["".join(f"[{text}]" if is_asked else text for text, is_asked in line["pieces"]) for line in found]


@pytest.mark.parametrize(
    ("lines", "terms", "marked"),
    [
        (("ポイ捨て禁止",), ["捨て"], ["ポイ[捨て]禁止"]),
        (("ポイ捨て", "禁止です"), ["ポイ捨て禁止"], ["[ポイ捨て]", "[禁止]です"]),
        (("立 入 禁 止",), ["入禁"], ["立 [入] [禁] 止"]),
        (("ﾎﾟｲ捨て",), ["ポイ"], ["[ﾎﾟｲ]捨て"]),
        (("ＯＲＡ－００９２３",), ["ora-00923"], ["[ＯＲＡ－００９２３]"]),
        (("ORA-00923: FROM",), ["23", "from"], ["ORA-00923: [FROM]"]),
        (("keyword not", "found where"), ["not found"], ["keyword [not]", "[found] where"]),
        (("education of cats",), ["cat"], ["education of [cat]s"]),
        (("領収書", "合計 580円"), ["領収書", "580円"], ["[領収書]", "合計 [580円]"]),
        (("é ﬁx",), ["e fi"], ["[é ﬁ]x"]),
        (("nothing",), [" ", "\u200b"], ["nothing"]),
    ],
)
def test_marks_stand_where_the_term_is_found(lines: tuple[str, ...], terms: list[str], marked: list[str]) -> None:
    assert mark(lines, *terms) == marked


def test_doubtful_lines_are_not_described() -> None:
    assert describe_lines(recognize("開", score=0.3), ["開"]) == []
    assert describe_lines(None, ["開"]) == []


def test_boxes_are_kept() -> None:
    [line] = describe_lines(recognize("出口"), [])
    assert line == {"box": BOX, "pieces": [("出口", False)]}


@given(st.lists(st.text(max_size=12), max_size=4), st.lists(st.text(max_size=4), max_size=3))
def test_pieces_together_are_the_line(lines: list[str], terms: list[str]) -> None:
    found = describe_lines(recognize(*lines), terms)
    assert ["".join(text for text, _ in line["pieces"]) for line in found] == lines
