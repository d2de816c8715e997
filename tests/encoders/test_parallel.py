"""Parts of a batch are computed side by side, and nobody else notices."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from image_search.encoders.runner import CpuParallel


@pytest.fixture(autouse=True)
def threads() -> Iterator[int]:
    """PyTorch with six threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    yield 6
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_a_batch_of_any_size_comes_back_whole_and_in_order(count: int) -> None:
    batch = torch.arange(count * 3.0).reshape(count, 3)
    assert torch.equal(CpuParallel(3).compute(lambda part: part * 2, batch), batch * 2)


def test_as_many_parts_as_lanes_are_computed_at_once(threads: int) -> None:
    lanes = CpuParallel(threads)
    together = threading.Barrier(lanes.count)

    def embed(part: torch.Tensor) -> torch.Tensor:
        together.wait(60)  # would break if one part waited for another
        return part

    assert lanes.count == 4
    assert len(lanes.compute(embed, torch.zeros(8, 1))) == 8


def test_lanes_share_the_threads_and_leave_everybody_else_all_of_them(threads: int) -> None:
    lanes = CpuParallel(threads)
    seen = lanes.compute(lambda part: torch.full((len(part), 1), torch.get_num_threads()), torch.zeros(4, 1))
    elsewhere: list[int] = []
    newcomer = threading.Thread(target=lambda: elsewhere.append(torch.get_num_threads()))
    newcomer.start()
    newcomer.join()
    assert seen.flatten().tolist() == [1] * 4
    assert [torch.get_num_threads(), *elsewhere] == [6, 6]


def test_one_thread_is_one_lane() -> None:
    assert CpuParallel(1).count == 1


def test_what_goes_wrong_in_a_lane_is_raised_where_it_was_asked_for() -> None:
    def fail(_: torch.Tensor) -> torch.Tensor:
        raise MemoryError("too much")

    with pytest.raises(MemoryError, match="too much"):
        CpuParallel(2).compute(fail, torch.zeros(4, 1))
