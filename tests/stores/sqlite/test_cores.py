"""The second core: it helps a search that is alone, and no other."""

from __future__ import annotations

import threading
import time

import pytest

from image_search.stores.sqlite import cores as cores_module
from image_search.stores.sqlite.cores import Cores


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Cores:
    monkeypatch.setattr(cores_module.os, "cpu_count", lambda: 2)
    return Cores(lambda: None)


def name_thread(_: int) -> int:
    return threading.get_ident()


def test_a_search_that_is_alone_has_two_threads_and_one_of_several_has_one(cores: Cores) -> None:
    with cores.searching():
        first, second = cores.share(name_thread, (0, 1))
        assert first == threading.get_ident() != second
        with cores.searching():
            assert set(cores.share(name_thread, (0, 1))) == {threading.get_ident()}
        assert set(cores.share(name_thread, (0,))) == {threading.get_ident()}


def test_a_computer_with_one_core_shares_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores_module.os, "cpu_count", lambda: 1)
    assert set(Cores(lambda: None).share(name_thread, (0, 1))) == {threading.get_ident()}


def test_a_search_that_fails_waits_for_its_other_half(cores: Cores) -> None:
    ended = []

    def work(part: int) -> None:
        if part == 0:
            raise MemoryError
        time.sleep(0.1)
        ended.append(part)

    with cores.searching(), pytest.raises(MemoryError):
        cores.share(work, (0, 1))
    assert ended == [1]
