"""The stages of a registration keep order and bounds, however quick or slow each of them is."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from image_search.registration.pipeline import batched, bounded_map, coalescing_map, open_workers


def test_coalescing_map_gathers_what_comes_while_one_list_is_worked_on() -> None:
    all_came = threading.Event()

    def give() -> Iterator[int]:
        yield from range(5)
        all_came.set()

    def work(items: list[int]) -> list[int]:
        assert all_came.wait(60)
        return items

    with open_workers(1, "write") as workers:
        assert list(coalescing_map(workers, work, give(), lambda _: 1, 100)) == [[0], [1, 2, 3, 4]]


def test_list_that_weighs_enough_waits_for_the_one_before_it() -> None:
    first_may_end = threading.Event()

    def give() -> Iterator[int]:
        yield from (0, 1, 2)
        first_may_end.set()
        yield from (3, 4, 5, 6)

    def work(items: list[int]) -> list[int]:
        assert first_may_end.wait(60)
        return items

    with open_workers(1, "write") as workers:
        lists = list(coalescing_map(workers, work, give(), lambda _: 1, 3))
    assert lists[:2] == [[0], [1, 2, 3]] and [item for part in lists for item in part] == list(range(7))


def test_coalescing_map_of_nothing_does_nothing() -> None:
    with open_workers(1, "write") as workers:
        assert list(coalescing_map(workers, list, iter([]), lambda _: 1, 3)) == []


def test_coalescing_map_raises_what_fails_and_does_not_begin_the_rest() -> None:
    begun: list[list[int]] = []

    def work(items: list[int]) -> None:
        begun.append(items)
        raise OSError("full")

    with open_workers(1, "write") as workers, pytest.raises(OSError, match="full"):
        list(coalescing_map(workers, work, iter(range(9)), lambda _: 1, 1))
    assert begun == [[0]]


def test_results_come_in_order_and_only_so_many_are_under_way() -> None:
    started, most_ahead = 0, 0

    def give() -> Iterator[int]:
        nonlocal started
        for number in range(20):
            started += 1
            yield number

    with open_workers(3, "read") as workers:
        for number, result in enumerate(bounded_map(workers, lambda item: item, give(), 4)):
            assert result == number
            most_ahead = max(most_ahead, started - number)
    assert most_ahead <= 5


def test_batch_ends_where_its_weight_is_reached() -> None:
    assert list(batched([1, 1, 1, 5, 1], size=2, size_of=int, most=5)) == [[1, 1], [1, 5], [1]]
