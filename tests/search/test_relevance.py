"""How much a hit stands out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from image_search.records import ImageRecord
from image_search.search import Searcher
from image_search.search.query import IMAGE_WEIGHT, Query, QueryVector, blend_embeddings
from image_search.search.ranking import FoundHit
from image_search.search.relevance import (
    compute_match_threshold,
    compute_relevance,
    compute_relevance_threshold,
    compute_z_scores,
    expect_best,
    measure_reference_scores,
)
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.ui.results import find_cutoff
from tests.fakes import FakeEncoder, make_embeddings, make_image

DIMENSION = 64


def make_hits(*relevances: float | None) -> list[FoundHit]:
    record = cast("ImageRecord", None)
    return [FoundHit(record, -0.5, "meaning", relevance) for relevance in relevances]


def test_random_query_stands_out_nowhere_and_a_twin_does() -> None:
    sample = make_embeddings(500, DIMENSION)
    background = measure_reference_scores(sample, make_embeddings(100, DIMENSION, seed=1))
    assert background is not None
    for seed in range(2, 12):
        [query] = make_embeddings(1, DIMENSION, seed=seed)
        evidence = compute_relevance(background, QueryVector(query, 0.0), sample @ query)
        assert evidence is not None
        assert evidence.max() < expect_best(500) * 1.25
        twin = compute_relevance(background, QueryVector(query, 0.0), [1.0])
        assert twin is not None
        assert twin[0] > expect_best(500)


def test_own_mean_of_a_query_counts_by_half_only() -> None:
    # A library full of what is asked for: nothing is above the query's own mean, everything above the usual one.
    rng = np.random.default_rng(0)
    centre = np.eye(DIMENSION)[0]
    rows = centre + rng.standard_normal((200, DIMENSION)) * 0.06
    sample = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    background = measure_reference_scores(sample, make_embeddings(300, DIMENSION, seed=1))
    assert background is not None
    query = np.asarray(centre, np.float32)
    evidence = compute_relevance(background, QueryVector(query, 0.0), sample @ query)
    assert evidence is not None
    assert evidence.max() > expect_best(200)


def test_too_few_images_tell_nothing() -> None:
    assert measure_reference_scores(make_embeddings(19, DIMENSION), make_embeddings(9, DIMENSION)) is None


def test_words_to_an_image_only_model_are_not_judged() -> None:
    background = measure_reference_scores(make_embeddings(50, DIMENSION), None)
    assert background is not None
    [query] = make_embeddings(1, DIMENSION, seed=1)
    assert compute_relevance(background, QueryVector(query, 0.0), [0.5]) is None
    assert compute_relevance(background, QueryVector(query, 1.0), [0.5]) is not None


def test_bars_go_from_nothing_to_full_with_the_line_in_the_middle() -> None:
    words = QueryVector(np.zeros(DIMENSION, np.float32), 0.0)
    assert compute_z_scores(words, [-1, 0, 3.3, 6.6, 99], 10_000).tolist() == pytest.approx([0, 0, 0.5, 1, 1])
    assert compute_z_scores(words, [compute_relevance_threshold(words, 50)], 50) == pytest.approx([0.5])


def test_words_with_an_image_ask_more_of_a_match_than_either_alone() -> None:
    asked = [
        compute_match_threshold(QueryVector(np.zeros(DIMENSION, np.float32), share), 1000)
        for share in (0.0, 0.2, 0.4, 1.0)
    ]
    assert expect_best(1000) < asked[0] < asked[1] < asked[2] > asked[3] == asked[0]


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0, None])
@pytest.mark.parametrize("count", [1, 50, 1000, 10**6])
def test_match_is_never_below_the_line(share: float | None, count: int) -> None:
    blend = QueryVector(np.zeros(DIMENSION, np.float32), share)
    assert compute_relevance_threshold(blend, count) <= compute_match_threshold(blend, count)


def test_usual_scores_of_words_with_an_image_are_known_at_any_weight() -> None:
    background = measure_reference_scores(make_embeddings(200, DIMENSION), make_embeddings(100, DIMENSION, seed=1))
    assert background is not None
    [query] = make_embeddings(1, DIMENSION, seed=9)
    for share in (0.0, 0.1, 0.4, 0.9, 1.0, None):
        evidence = compute_relevance(background, QueryVector(query, share), [0.0, 1.0])
        assert evidence is not None
        assert evidence[0] < expect_best(200) < evidence[1]


@pytest.mark.parametrize(
    ("relevances", "place"),
    [((), 0), ((0.9, 0.8, 0.2, 0.1), 2), ((0.1, 0.2), 0), ((0.9, 0.4, 0.9, 0.1, 0.1, 0.6), 3), ((0.9, None), 2),
     ((0.5, 0.4), 1), ((0.9, 0.9), 2)],
)  # fmt: skip
def test_line_lies_where_relevance_ends_on_the_whole(relevances: tuple[float | None, ...], place: int) -> None:
    assert find_cutoff(make_hits(*relevances)) == place


def test_blend_knows_what_it_was_made_of() -> None:
    words, picture, away = make_embeddings(3, DIMENSION)
    blends = [blend_embeddings(*parts) for parts in (
        ([words], [], []), ([], [picture], []), ([words], [picture], []), ([words], [], [away]), ([], [], [away])
    )]  # fmt: skip
    assert [blend and blend.share for blend in blends] == [0, 1, IMAGE_WEIGHT, None, None]
    assert blend_embeddings([], [], []) is None


def test_parts_that_cancel_each_other_out_stay_finite() -> None:
    [vector] = make_embeddings(1, DIMENSION)
    blend = blend_embeddings([vector], [-vector], [vector])
    assert blend is not None
    assert np.linalg.norm(blend.embedding) == pytest.approx(1)


@pytest.fixture
def searcher(tmp_path: Path) -> Iterator[Searcher]:
    """A library of 60 random images and one that lies where "猫" lies."""
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library.db")) as store:
        searcher = Searcher(store, FakeEncoder(dimension=DIMENSION))
        rows = np.concatenate([make_embeddings(60, DIMENSION), searcher.encoder.encode_texts(["猫"])])
        images = [make_image(f"{number}.png") for number in range(61)]
        store.add_images(searcher.get_model().model_id, images, rows)
        yield searcher


def test_search_says_whether_anything_stands_out(searcher: Searcher) -> None:
    assert searcher.search(Query("猫")).has_match is None  # the list of tags is not embedded yet
    searcher.tagger.prepare()
    found = searcher.search(Query("猫"))
    assert found.has_match
    assert found.hits[0].relevance == 1
    assert all(hit.relevance is not None and hit.relevance < 0.8 for hit in found.hits[1:])
    assert searcher.search(Query("象")).has_match is False
    assert searcher.search(Query()).has_match is None


@pytest.mark.parametrize("query", [Query("-猫"), Query(excluded_text="猫")])
def test_only_something_to_leave_out_has_no_match_to_miss(searcher: Searcher, query: Query) -> None:
    searcher.tagger.prepare()
    result = searcher.search(query)
    assert result.has_match is None
    assert {hit.relevance for hit in result.hits} == {None}
    assert searcher.search(Query("象 -猫")).has_match is False


def test_image_named_in_words_is_relevant(searcher: Searcher) -> None:
    searcher.tagger.prepare()
    result = searcher.search(Query("17.png"))
    assert result.has_match
    assert result.hits[0].image.file_name == "17.png"
    assert (result.hits[0].relevance or 0) >= 0.5


def test_background_follows_a_growing_library(searcher: Searcher) -> None:
    searcher.tagger.prepare()
    searcher.search(Query("猫"))
    before = searcher._model.get_reference_scores()
    assert before is searcher._model.get_reference_scores()
    images = [make_image(f"more{number}.png") for number in range(20)]
    searcher.store.add_images(searcher.get_model().model_id, images, make_embeddings(20, DIMENSION, seed=5))
    after = searcher._model.get_reference_scores()
    assert after is not None
    assert after is not before
    assert len(after.sample) == 81
