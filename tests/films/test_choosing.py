"""Which frames are kept: change, dissolves, even colours, and a number that is spread over the film."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_search.films import FrameSelector, Look, is_changed
from image_search.films.decoding import Signature

MINUTE = 60_000


@cache
def make_signature(seed: int) -> Signature:
    """A sight of smooth patches: noise alone would look like movement."""
    patches = np.random.default_rng(seed).integers(0, 256, (4, 4, 3))
    return np.kron(patches, np.ones((4, 4, 1), int)).astype(np.int16)


def select(looks: Iterable[tuple[int, Signature]], duration_ms: int, max_frames: int = 300) -> list[int]:
    """Times of the looks that are kept."""
    selector = FrameSelector(max_frames, duration_ms)
    kept = []
    for frame_ms, signature in looks:
        kept += selector.offer(Look(frame_ms, signature, None), frame_ms / duration_ms)
    return [look.frame_ms for look in [*kept, *selector.finish()]]


def test_selector_keeps_the_first_frame_of_each_scene() -> None:
    looks = [(ms, make_signature(ms // 5_000)) for ms in range(0, 30_000, 500)]
    assert select(looks, 30_000) == [0, 5_000, 10_000, 15_000, 20_000, 25_000]


def test_selector_keeps_a_sight_that_does_not_change_every_20_seconds() -> None:
    looks = [(ms, make_signature(1)) for ms in range(0, 2 * MINUTE, 500)]
    assert select(looks, 2 * MINUTE) == [0, 20_000, 40_000, 60_000, 80_000, 100_000]


def test_selector_lets_the_middle_of_a_dissolve_give_way_to_the_settled_sight() -> None:
    first, second = make_signature(1), make_signature(2)
    dissolve = [(5_000, first), (5_300, (2 * first + second) // 3), (5_600, (first + 2 * second) // 3)]
    looks = [(0, first), (2_000, first), *dissolve, (6_000, second), (6_500, second), (8_000, second)]
    assert select(looks, 10_000) == [0, 6_000]


def test_selector_keeps_frames_of_a_movement_that_never_settles() -> None:
    looks = [(ms, make_signature(ms)) for ms in range(0, 20_000, 500)]
    kept = select(looks, 20_000)
    assert max(np.diff(kept)) <= 3_000


def test_selector_passes_over_black_between_scenes_but_keeps_it_when_there_is_nothing_else() -> None:
    black = np.zeros((16, 16, 3), np.int16)
    looks = [(0, black), (2_000, make_signature(1)), (4_000, black), (6_000, make_signature(2)), (8_000, black)]
    assert select(looks, 10_000) == [2_000, 6_000]
    assert select([(0, black), (2_000, black)], 4_000) == [0]


@pytest.mark.slow
def test_selector_spreads_its_frames_over_a_film_that_changes_all_the_time() -> None:
    length = 20 * MINUTE
    kept = select([(ms, make_signature(n % 50)) for n, ms in enumerate(range(0, length, 1_000))], length, 60)
    assert len(kept) == 60
    counts, _ = np.histogram(kept, 6, (0, length))
    assert min(counts) >= 9, counts


@pytest.mark.slow
@pytest.mark.parametrize("minutes", [120, 600])
def test_selector_covers_a_long_film_from_end_to_end(minutes: int) -> None:
    length = minutes * MINUTE
    selector = FrameSelector(300, length)
    kept = select([(ms, make_signature(n % 50)) for n, ms in enumerate(range(0, length, selector.look_ms))], length)
    assert len(kept) == pytest.approx(300, abs=2)
    assert max(np.diff([*kept, length])) < 2 * length / 300


@pytest.mark.slow
def test_selector_keeps_20_seconds_apart_at_the_end_of_a_film_that_was_busy_in_the_beginning() -> None:
    length = 60 * MINUTE
    busy = [(ms, make_signature(n % 50)) for n, ms in enumerate(range(0, 20 * MINUTE, 1_000))]
    quiet = [(ms, make_signature(98)) for ms in range(20 * MINUTE, length, 1_000)]
    kept = select([*busy, *quiet], length)
    assert len(kept) <= 300
    assert max(np.diff([ms for ms in kept if ms > 20 * MINUTE])) <= 21_000


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 60_000), st.integers(0, 5)), max_size=60),
    st.one_of(st.none(), st.integers(1, 10**8)),
    st.integers(1, 20),
)
def test_selector_never_keeps_more_than_allowed_nor_out_of_order_nor_nothing(
    steps: list[tuple[int, int]], duration_ms: int | None, max_frames: int
) -> None:
    selector = FrameSelector(max_frames, duration_ms)
    frame_ms, kept = 0, []
    for step, seed in steps:
        frame_ms += step
        kept += selector.offer(Look(frame_ms, make_signature(seed), None), min(1.0, frame_ms / (duration_ms or 10**6)))
    kept += selector.finish()
    times = [look.frame_ms for look in kept]
    assert len(times) <= max_frames
    assert times == sorted(set(times))
    assert bool(times) == bool(steps)


def test_signature_of_a_view_that_moves_a_little_is_unchanged_and_of_another_thing_changed() -> None:
    rows, columns = np.mgrid[0:16, 0:17]
    scene = np.stack([rows * 8 + columns * 4, columns * 9, 200 - rows * 7], axis=2).astype(np.int16)
    before, moved = scene[:, :16], scene[:, 1:]
    assert not is_changed(before, moved)
    with_thing = before.copy()
    with_thing[4:8, 4:8] = (250, 40, 40)
    assert is_changed(before, with_thing)
