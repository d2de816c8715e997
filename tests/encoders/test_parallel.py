"""Parts of a batch are computed side by side, texts of several callers together, unnoticed by other threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import torch

from image_search.encoders.runner import MAX_TEXTS, CpuParallel, TextBatches


@pytest.fixture(autouse=True)
def threads() -> Iterator[int]:
    """PyTorch with six threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    yield 6
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_batch_of_any_size_comes_back_whole_and_in_order(count: int) -> None:
    batch = torch.arange(count * 3.0).reshape(count, 3)
    assert torch.equal(CpuParallel(3).compute(lambda part: part * 2, batch), batch * 2)


def test_lanes_compute_a_part_each_at_once(threads: int) -> None:
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


def test_error_in_a_lane_is_raised_where_it_was_asked_for() -> None:
    def fail(_: torch.Tensor) -> torch.Tensor:
        raise MemoryError("too much")

    with pytest.raises(MemoryError, match="too much"):
        CpuParallel(2).compute(fail, torch.zeros(4, 1))


class Model:
    """Embeds a text as its length, once it may begin. batches: what it was given together."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.go_on = threading.Event()

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        self.batches.append(list(texts))
        assert self.go_on.wait(60)
        if "unreadable" in texts:
            raise ValueError("a text that no model takes")
        return torch.tensor([[float(len(text))] for text in texts])


def ask(batches: TextBatches, model: Model, *texts: str) -> list[Future[torch.Tensor]]:
    """One caller for each text; the first is being computed while the others arrive."""
    pool = ThreadPoolExecutor(len(texts))
    asked = [pool.submit(batches.compute, [texts[0]])]
    while not model.batches:
        pass
    for count, text in enumerate(texts[1:], start=1):
        asked.append(pool.submit(batches.compute, [text]))
        while len(batches._waiting) < count:
            pass
    model.go_on.set()
    return asked


def test_texts_that_arrive_while_one_is_computed_are_the_next_batch() -> None:
    model = Model()
    asked = ask(TextBatches(model.embed, 1), model, "a", "bb", "ccc", "dddd")
    assert [answer.result(60).tolist() for answer in asked] == [[[1.0]], [[2.0]], [[3.0]], [[4.0]]]
    assert model.batches == [["a"], ["bb", "ccc", "dddd"]]


def test_long_text_is_not_what_short_ones_are_padded_to() -> None:
    model = Model()
    asked = ask(TextBatches(model.embed, 1), model, "a", "bb", "c" * 500, "dd")
    assert [answer.result(60).item() for answer in asked] == [1, 2, 500, 2]
    assert model.batches == [["a"], ["bb", "dd"], ["c" * 500]]


def test_text_that_cannot_be_embedded_fails_for_its_caller_only() -> None:
    model = Model()
    asked = ask(TextBatches(model.embed, 1), model, "a", "bb", "unreadable", "dd")
    with pytest.raises(ValueError, match="no model takes"):
        asked[2].result(60)
    assert [asked[place].result(60).item() for place in (0, 1, 3)] == [1, 2, 2]


def test_many_texts_of_one_caller_are_embedded_in_order_and_in_parts() -> None:
    model = Model()
    model.go_on.set()
    texts = ["x" * length for length in range(1, 3 * MAX_TEXTS)]
    assert TextBatches(model.embed, 1).compute(texts).flatten().tolist() == [float(len(text)) for text in texts]
    assert max(map(len, model.batches)) == MAX_TEXTS


def test_texts_are_computed_with_their_own_number_of_threads(threads: int) -> None:
    batches = TextBatches(lambda texts: torch.full((len(texts), 1), torch.get_num_threads()), 1)
    assert batches.compute(["a"]).item() == 1
    assert torch.get_num_threads() == threads
