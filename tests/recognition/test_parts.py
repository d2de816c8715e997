"""Parts of the recogniser whose input is wild: order of boxes, cuts of lines, canvases of images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_search.recognition.paddle import HEIGHT, Box, choose_canvas, sort_lines, split_line

sides = st.integers(1, 30_000)


def make_box(left: float, top: float, width: float, height: float, angle: float = 0.0) -> Box:
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], np.float32)
    return Box(corners @ turn + np.array([left, top], np.float32), 1.0)


def sort(*boxes: Box) -> list[int]:
    return [place for _, place in sort_lines([(box, place) for place, box in enumerate(boxes)])]


numbers = st.floats(0, 1000, width=32)
boxes = st.builds(make_box, numbers, numbers, numbers, numbers, st.floats(-4, 4, width=32))


@given(st.lists(boxes, max_size=30))
def test_order_has_every_line_once(found: list[Box]) -> None:
    assert sorted(sort(*found)) == list(range(len(found)))


def test_order_reads_cells_of_a_table_row_by_row() -> None:
    assert sort(*[make_box(x, y, 60, 20) for y in (0, 40, 80, 120) for x in (0, 300)]) == list(range(8))


def test_order_reads_columns_of_text_one_after_the_other() -> None:
    placed = [make_box(x, y, 250, 20) for y in (0, 40, 80, 120) for x in (0, 300)]
    assert sort(*placed) == [0, 2, 4, 6, 1, 3, 5, 7]


@given(st.integers(1, 9000), st.integers(0, 2**32 - 1))
def test_cut_line_has_all_its_pixels_and_parts_that_fit(width: int, seed: int) -> None:
    line = np.random.default_rng(seed).integers(0, 256, (HEIGHT, width, 3), dtype=np.uint8)
    parts = split_line(line)
    assert np.array_equal(np.concatenate(parts, axis=1), line)
    assert all(0 < part.shape[1] <= 1920 for part in parts)


def test_cut_lies_in_the_gap_between_letters() -> None:
    line = np.full((HEIGHT, 3000, 3), 255, np.uint8)
    line[10:40, :1700:4] = line[10:40, 1760::4] = 0
    first = split_line(line)[0]
    assert 1700 <= first.shape[1] <= 1760


@given(sides, sides, st.floats(0.01, 1), st.sampled_from([320_000, 1_300_000]))
def test_image_of_any_shape_fits_on_its_canvas(height: int, width: int, scale: float, pixels: int) -> None:
    (rows, columns), used = choose_canvas((height, width), scale, pixels)
    assert rows * columns <= pixels and rows % 32 == columns % 32 == 0
    assert 0 < used <= scale
    assert max(1, round(height * used)) <= rows and max(1, round(width * used)) <= columns


@pytest.mark.parametrize("shape", [(480, 640), (1080, 1920), (3000, 4000), (600, 600)])
def test_canvas_is_mostly_used_by_common_proportions(shape: tuple[int, int]) -> None:
    (rows, columns), used = choose_canvas(shape, 1.0, 320_000)
    assert shape[0] * shape[1] * used**2 > 0.6 * rows * columns
