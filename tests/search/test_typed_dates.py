"""Days as people type them, in Japanese, by eras, and in English."""

from __future__ import annotations

from datetime import datetime
from time import process_time

import pytest

from image_search.records import SearchFilter
from image_search.search.query import ConditionNotUnderstood, apply_conditions, parse_conditions, parse_date


@pytest.mark.parametrize(
    ("typed", "since", "until"),
    [
        ("令和6年5月1日", "2024-05-01", "2024-05-02"),
        ("令和６年５月", "2024-05-01", "2024-06-01"),
        ("令和元年", "2019-01-01", "2020-01-01"),
        ("平成31年4月30日", "2019-04-30", "2019-05-01"),
        ("昭和64年1月7日", "1989-01-07", "1989-01-08"),
        ("R6.5.1", "2024-05-01", "2024-05-02"),
        ("S55", "1980-01-01", "1981-01-01"),
        ("2024年5月1日（水）", "2024-05-01", "2024-05-02"),
        ("二〇二四年五月一日", "2024-05-01", "2024-05-02"),
        ("令和六年十二月三十一日", "2024-12-31", "2025-01-01"),
        ("昭和六十三年十月", "1988-10-01", "1988-11-01"),
        ("2024‐05‐01", "2024-05-01", "2024-05-02"),
        ("May 1, 2024", "2024-05-01", "2024-05-02"),
        ("1 May 2024", "2024-05-01", "2024-05-02"),
        ("May 2024", "2024-05-01", "2024-06-01"),
    ],
)
def test_date_is_read_as_people_type_it(typed: str, since: str, until: str) -> None:
    assert (parse_date(typed), parse_date(typed, last=True)) == tuple(map(datetime.fromisoformat, (since, until)))


IMPOSSIBLE = (
    "平成40年1月1日 昭和65年 令和0年 令和元年4月30日 平成31年5月1日 令和6年13月1日 2024-00-01 2024-02-30 Foo2024"
)


@pytest.mark.parametrize("typed", IMPOSSIBLE.split())
def test_day_that_there_never_was_is_none(typed: str) -> None:
    assert parse_date(typed) is None


def test_typed_era_is_a_condition_and_an_impossible_one_is_refused() -> None:
    typed = parse_conditions("猫 令和6年5月1日")
    assert (typed.text, apply_conditions(typed, SearchFilter()).taken_from) == ("猫", datetime(2024, 5, 1))
    assert dict(parse_conditions("猫 二〇二四年五月一日(水)").values) == {"taken": "2024年5月1日"}
    assert parse_conditions("三年二組 十日市 日曜日").text == "三年二組 十日市 日曜日"
    for impossible in ("猫 2024年13月1日", "令和6年2月30日"):
        with pytest.raises(ConditionNotUnderstood, match="is not a date"):
            apply_conditions(parse_conditions(impossible), SearchFilter())
    assert parse_conditions("猫 2024-13").text == "猫 2024-13"


@pytest.mark.parametrize(
    "typed", ["2024-05..2024-08", "2024年5月〜2024年8月", "2024/5～2024/8", "taken:2024-05..2024-08-31"]
)
def test_typed_range_of_dates_is_a_condition(typed: str) -> None:
    conditions = parse_conditions(f"猫 {typed}")
    filter = apply_conditions(conditions, SearchFilter())
    assert conditions.text == "猫"
    assert (filter.taken_from, filter.taken_to) == (datetime(2024, 5, 1), datetime(2024, 9, 1))


def test_typed_range_that_is_backwards_or_half_is_refused_and_one_of_no_dates_is_words() -> None:
    with pytest.raises(ConditionNotUnderstood, match="ends before it begins"):
        apply_conditions(parse_conditions("2024-08..2024-05"), SearchFilter())
    with pytest.raises(ConditionNotUnderstood, match="is not a date"):
        apply_conditions(parse_conditions("taken:2024-05..soon"), SearchFilter())
    assert parse_conditions("1..2 a~b 2024-05~").text == "1..2 a~b 2024-05~"


def test_reading_dates_takes_linear_time() -> None:
    began = process_time()
    for filling in (" ", "令和", "1", "May ", "年", "("):
        parse_date(filling * 100_000)
    assert process_time() - began < 2
