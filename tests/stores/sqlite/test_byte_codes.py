"""One byte an axis: estimates are as far off as they say, whatever is added later, in memory and in a file.

The second core helps a search that is alone, and no other.
"""

from __future__ import annotations

import numpy as np
import pytest

from image_search.stores.sqlite.byte_codes import ByteCodes
from image_search.stores.sqlite.inverted_file import Cores
from tests.fakes import make_embeddings

COUNT, DIMENSION = 3000, 64
CORES = Cores()


@pytest.fixture
def rows() -> np.ndarray:
    return make_embeddings(COUNT, DIMENSION)


@pytest.fixture
def codes(rows) -> ByteCodes:
    codes = ByteCodes(DIMENSION)
    codes.fit(rows)
    codes.add(rows)
    return codes


@pytest.fixture(params=["in memory", "in a file", "in both"])
def anywhere(request, rows, tmp_path) -> ByteCodes:
    codes = ByteCodes(DIMENSION)
    codes.fit(rows)
    count = {"in memory": 0, "in a file": COUNT, "in both": COUNT // 2}[request.param]
    if count:
        codes.add(rows[:count])
        codes.write(tmp_path / "codes")
        codes.map(tmp_path / "codes")
    for start in range(count, COUNT, 700):
        codes.add(rows[start : start + 700])
    return codes


def measure_errors(codes: ByteCodes, rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    estimates = codes.estimate(query, np.arange(len(rows))) + query @ codes.mean
    return estimates - rows @ query


def test_estimates_are_off_by_the_error_they_state(anywhere, rows):
    assert len(anywhere) == COUNT
    for query in make_embeddings(5, DIMENSION, seed=1):
        error = anywhere.find_error(query)
        assert measure_errors(anywhere, rows, query).std() == pytest.approx(error, rel=0.2)
        assert error < 0.003


def test_scan_finds_the_best_and_tells_what_all_others_stay_below(anywhere, monkeypatch):
    monkeypatch.setattr("image_search.stores.sqlite.byte_codes._WORTH_HALVES", 100)
    for query in make_embeddings(5, DIMENSION, seed=1):
        products, positions, floor = anywhere.scan(query, 50, None, CORES)
        assert (np.diff(products) <= 0).all()
        assert products.tolist() == anywhere.estimate(query, positions).tolist()
        others = np.setdiff1d(np.arange(COUNT), positions)
        assert anywhere.estimate(query, others).max() < floor < products[25]
        assert anywhere.scan(query, COUNT, None, CORES)[2] == -np.inf


def test_scan_finds_only_what_is_usable(anywhere, rows):
    usable = np.zeros(COUNT, np.bool_)
    usable[[5, 1400, 1600, 2999]] = True
    query = rows[1600]
    products, positions, _ = anywhere.scan(query, 16, usable, CORES)
    assert positions[0] == 1600
    assert sorted(positions.tolist()) == [5, 1400, 1600, 2999]
    assert len(products) == 4


def test_embeddings_farther_out_than_those_before_are_not_cut_off(codes, rows, tmp_path):
    far = np.eye(DIMENSION, dtype=np.float32)[:3]
    codes.write(tmp_path / "codes")
    codes.map(tmp_path / "codes")
    wider = codes.widen(far)
    wider.add(far)
    assert len(codes) == len(codes.mapped) == COUNT  # for the searches that are under way
    codes = wider
    everything = np.concatenate([rows, far])
    for query in (*far, *make_embeddings(3, DIMENSION, seed=2)):
        errors = measure_errors(codes, everything, query)
        assert np.abs(errors).max() < 5 * codes.find_error(query)
        assert codes.scan(query, 1, None, CORES)[1][0] == np.argmax(everything @ query)


def test_library_that_begins_with_one_image_grows_to_any(rows):
    codes = ByteCodes(DIMENSION)
    for some in (*rows[:50, None], rows[50:]):
        codes = codes.widen(some)
        codes.add(some)
    query = rows[7]
    errors = measure_errors(codes, rows, query)
    assert errors.std() < 1.2 * codes.find_error(query)
    assert codes.find_error(query) < 0.005


def test_axis_on_which_all_are_alike_costs_nothing():
    codes = ByteCodes(3)
    rows = np.array([[0.6, 0.8, 0], [0.8, 0.6, 0]], np.float32)
    codes.fit(rows)
    codes.add(rows)
    query = np.array([0, 0, 1], np.float32)
    assert codes.estimate(query, np.arange(2)) == pytest.approx([0, 0], abs=1e-6)
    assert codes.scan(query, 2, None, CORES)[0] == pytest.approx([0, 0], abs=1e-6)


def test_codes_without_any_find_nothing():
    products, positions, _ = ByteCodes(3).scan(np.array([1, 0, 0], np.float32), 16, None, CORES)
    assert len(products) == len(positions) == 0
