"""Many images that are named in the words of a query, and where pages of it end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from image_search.records import Edits, ImageText, SearchFilter
from image_search.search import Searcher
from image_search.search.query import Query
from image_search.search.ranking import FUSION_DEPTH, FoundHit
from image_search.settings import Settings
from image_search.stores import open_store
from tests.fakes import FakeEncoder, find_ids, make_embeddings, make_image

COUNT, NAMED = 300, 100


@pytest.fixture
def searcher(tmp_path: Path) -> Iterator[Searcher]:
    """COUNT images anywhere, of which NAMED have the keywords "trip_2024" and "harbour", every other of them "rain"."""
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library.db")) as store:
        searcher = Searcher(store, FakeEncoder(dimension=32))
        images = [make_image(f"{number:03}.png") for number in range(COUNT)]
        for number in range(0, COUNT, COUNT // NAMED):
            words = ("trip_2024", "harbour", *(["rain"] if number % 2 == 0 else []))
            images[number] = make_image(f"{number:03}.png", ImageText(keywords=words))
        model_id = searcher.get_model().model_id
        store.add_images(model_id, images, make_embeddings(COUNT, 32))
        searcher.tagger.prepare()
        yield searcher


def collect(searcher: Searcher, query: Query, least: float = 0.0, size: int = 16) -> list[FoundHit]:
    """The hits of all pages that are relevant enough, as a client collects them."""
    plan = searcher.plan(query)
    kept: list[FoundHit] = []
    offset = 0
    while True:
        page = searcher.rank(plan, size, offset)
        kept += [hit for hit in page.hits if (hit.relevance or 0) >= least]
        offset += size
        if not page.has_more or page.relevance_left < least:
            return kept


def is_named(hit: FoundHit) -> bool:
    return "harbour" in hit.image.keywords


@pytest.mark.parametrize("size", [7, 50, COUNT])
def test_identifier_puts_all_images_that_have_it_before_all_others(searcher: Searcher, size: int) -> None:
    hits = collect(searcher, Query("trip_2024"), size=size)
    assert [is_named(hit) for hit in hits] == [True] * NAMED + [False] * (COUNT - NAMED)
    assert all((hit.found_by != "meaning") == is_named(hit) for hit in hits)
    assert len({hit.image_id for hit in hits}) == COUNT


@pytest.mark.parametrize("size", [7, 50, COUNT])
def test_images_with_the_words_stand_before_what_is_too_far_to_be_fused(searcher: Searcher, size: int) -> None:
    hits = collect(searcher, Query("harbour"), size=size)
    places = [place for place, hit in enumerate(hits) if is_named(hit)]
    assert len(places) == NAMED and places[-1] < NAMED + FUSION_DEPTH
    assert all((hit.found_by != "meaning") == is_named(hit) for hit in hits)
    assert len({hit.image_id for hit in hits}) == COUNT


def test_words_that_must_occur_are_why_every_image_is_found(searcher: Searcher) -> None:
    hits = collect(searcher, Query('"harbour"'))
    assert len(hits) == NAMED
    assert {hit.found_by for hit in hits} == {"both", "words"}
    assert all(hit.relevance is not None and hit.relevance >= 0.5 for hit in hits)


def test_images_named_in_a_word_to_leave_out_come_behind_all_others_that_are_named(searcher: Searcher) -> None:
    hits = [hit for hit in collect(searcher, Query("trip_2024 -rain"), size=9) if hit.found_by != "meaning"]
    assert len(hits) == NAMED - len(range(0, COUNT, 6))
    assert not any("rain" in hit.image.keywords for hit in hits)


@pytest.mark.parametrize("typed", ["harbour", "trip_2024", '"harbour"', "sunset"])
@pytest.mark.parametrize("least", [0.3, 0.5, 0.6, 0.9])
@pytest.mark.parametrize("size", [1, 16])
def test_pages_with_a_least_relevance_hold_every_hit_that_reaches_it(
    searcher: Searcher, typed: str, least: float, size: int
) -> None:
    every = searcher.search(Query(typed), COUNT).hits
    wanted = [hit.image_id for hit in every if hit.relevance is not None and hit.relevance >= least]
    assert [hit.image_id for hit in collect(searcher, Query(typed), least, size)] == wanted


def test_pages_by_meaning_alone_end_where_relevance_falls_below_the_least(searcher: Searcher) -> None:
    page = searcher.search(Query("sunset"), 16)
    assert page.has_more and page.relevance_left == page.hits[-1].relevance


@pytest.mark.parametrize(
    ("file_name", "filter", "expected"),
    [
        ("000.png", SearchFilter(), COUNT - 1),
        ("000.png", SearchFilter(words=("harbour",)), NAMED - 1),
        ("001.png", SearchFilter(words=("harbour",)), NAMED),
        ("000.png", SearchFilter(min_rating=4), 0),
        ("001.png", SearchFilter(min_rating=4), 1),
    ],
)
def test_similar_ones_are_counted_whether_or_not_the_filter_holds_for_the_image_itself(
    searcher: Searcher, file_name: str, filter: SearchFilter, expected: int
) -> None:
    searcher.store.set_edits(1, Edits(rating=5))
    [image_id] = find_ids(searcher.store, file_name)
    page = searcher.search(Query(like=image_id, filter=filter), COUNT)
    assert page.total == len(page.hits) == expected


def test_similar_to_an_image_in_the_trash_counts_all_others(searcher: Searcher) -> None:
    plan = searcher.plan(Query(like=1))
    searcher.store.trash_images([1])
    page = searcher.rank(plan, COUNT)
    assert page.total == len(page.hits) == COUNT - 1
