"""Sketches in lists: two cores look at them together, and find what one finds."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest

from image_search.stores.sqlite import inverted_file
from image_search.stores.sqlite.inverted_file import Cores, InvertedFile, count_lists, divide

WIDTH = 12


def make_file(lists: int, sizes: list[int]) -> InvertedFile:
    """An inverted file to which so many embeddings are added one after the other."""
    turned = np.random.default_rng(1).standard_normal((600, WIDTH)).astype(np.float32)
    file = InvertedFile.fit(turned, np.arange(WIDTH) < WIDTH // 3, divide(turned, lists))
    first = 0
    for size in sizes:
        file.add(*file.find_residuals(turned[first : first + size]), first)
        first += size
    return file


def test_few_embeddings_lie_in_two_lists_of_one_size_however_they_come() -> None:
    file = make_file(count_lists(600), [1] * 101 + [7] * 20)
    assert file.sums[:, 0].tolist() == [121, 120]


def test_sketches_lie_in_the_lists_whose_centroids_are_nearest() -> None:
    file = make_file(40, [599, 1])
    assert [file.sketches.invlists.list_size(number) for number in range(40)] == file.sums[:, 0].tolist()


@pytest.mark.parametrize("lists", [2, 20])
def test_two_cores_find_what_one_finds(lists: int, cores: Cores, monkeypatch: pytest.MonkeyPatch) -> None:
    file = make_file(lists, [600])
    every = np.arange(lists)
    query = np.random.default_rng(2).standard_normal(WIDTH).astype(np.float32)
    near = file.bound(query).near
    scores, positions = file.scan(query, near, every, 50, cores)
    monkeypatch.setattr(inverted_file, "_WORTH_HALVES", 0)
    with cores.searching():
        shared, shared_positions = file.scan(query, near, every, 50, cores)
    np.testing.assert_allclose(shared, scores, rtol=0.02, atol=0.02)  # FAISS rounds by what it looks at together
    assert len(np.intersect1d(shared_positions, positions)) > 45
    assert np.all(np.diff(shared) <= 0)


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Cores:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    return Cores()


def name_thread(_: int) -> int:
    return threading.get_ident()


def test_search_that_is_alone_has_two_threads_and_one_of_several_has_one(cores: Cores) -> None:
    with cores.searching():
        first, second = cores.share(name_thread, (0, 1))
        assert first == threading.get_ident() != second
        with cores.searching():
            assert set(cores.share(name_thread, (0, 1))) == {threading.get_ident()}
        assert set(cores.share(name_thread, (0,))) == {threading.get_ident()}


def test_computer_with_one_core_shares_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert set(Cores().share(name_thread, (0, 1))) == {threading.get_ident()}


def test_search_that_fails_waits_for_its_other_half(cores: Cores) -> None:
    ended = []

    def work(part: int) -> None:
        if part == 0:
            raise MemoryError
        time.sleep(0.1)
        ended.append(part)

    with cores.searching(), pytest.raises(MemoryError):
        cores.share(work, (0, 1))
    assert ended == [1]
