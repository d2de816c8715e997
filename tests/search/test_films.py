"""A film is one hit wherever its frames rank, pages are full and never overlap, on every kind of index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_search import search as searching
from image_search.records import Frame, NewImage, SearchFilter
from image_search.search import Searcher
from image_search.search.query import Query
from image_search.settings import Settings
from image_search.stores.base import ImageStore
from image_search.stores.sqlite import SqliteStore
from image_search.stores.text import hash_frame
from tests.fakes import FakeEncoder, make_embeddings, make_image, make_images
from tests.fakes.examples import scale
from tests.fakes.memory_store import MemoryStore

FILMS, FRAMES, IMAGES = 5, 12, 9


def make_frame(film: int, frame_ms: int) -> NewImage:
    sha256 = f"{film:064x}"
    image = make_image(f"film{film}.mp4", file_type="video/mp4", file_path=f"/films/film{film}.mp4", modified_ns=1)
    frame = Frame(sha256, frame_ms, 60_000)
    return replace(image, content_sha256=hash_frame(sha256, frame_ms), data=None, size=1, frame=frame)


def fill(store: ImageStore) -> None:
    model = store.get_or_create_model("fake", "1", 16)
    frames = [make_frame(film, place * 1000) for film in range(FILMS) for place in range(FRAMES)]
    images = make_images(IMAGES)
    store.add_images(model.model_id, [*frames, *images], make_embeddings(len(frames) + len(images)))


@pytest.fixture(params=["memory", "exact", pytest.param("indexed", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageStore]:
    if request.param == "memory":
        with MemoryStore() as store:
            fill(store)
            yield store
        return
    if request.param == "indexed":
        monkeypatch.setattr("image_search.stores.sqlite.faiss_index.SMALL", 8)
    with SqliteStore.open(Settings(database_url=f"sqlite:///{tmp_path}/library.db")) as store:
        fill(store)
        yield store


@pytest.fixture
def searcher(store: ImageStore) -> Searcher:
    return Searcher(store, FakeEncoder())


def name_hits(hits) -> list[str]:
    return [hit.image.frame.film_sha256 if hit.image.frame else hit.image.file_name for hit in hits]


@pytest.mark.parametrize("query", [Query("rain"), Query("image"), Query(""), Query("mp4")])
def test_every_film_is_one_hit_and_pages_are_full_and_never_overlap(searcher: Searcher, query: Query) -> None:
    plan = searcher.plan(query)
    whole = searcher.rank(plan, 100)
    names = name_hits(whole.hits)
    assert len(set(names)) == len(names) == whole.total == FILMS + IMAGES
    for size in (1, 3, 4, 14):
        pages = [searcher.rank(plan, size, offset) for offset in range(0, FILMS + IMAGES, size)]
        assert [name for page in pages for name in name_hits(page.hits)] == names
        assert all(len(page.hits) == size and page.has_more for page in pages[:-1])
        assert not pages[-1].has_more
        assert {page.total for page in pages} == {FILMS + IMAGES}


def test_best_moment_stands_for_a_film_and_counts_the_others(searcher: Searcher, store: ImageStore) -> None:
    embedding = searcher.plan(Query("rain")).blend.embedding
    every = store.search_embedding(1, embedding, 1000)
    for hit in searcher.search(Query("rain"), 100).hits:
        if hit.image.frame:
            film = [other for other in every if name_hits([other]) == name_hits([hit])]
            assert hit.image_id == film[0].image_id and hit.distance == film[0].distance
            assert hit.moments == FRAMES - 1
        else:
            assert hit.moments == 0


def test_every_film_that_is_named_in_words_comes_before_what_is_not(searcher: Searcher) -> None:
    hits = searcher.search(Query("film2.mp4"), 100).hits
    assert name_hits(hits)[0] == f"{2:064x}"
    hits = searcher.search(Query("mp4"), FILMS).hits
    assert {hit.found_by for hit in hits} <= {"words", "both"}
    assert set(name_hits(hits)) == {f"{film:064x}" for film in range(FILMS)}


@pytest.mark.parametrize("order", ["registered", "taken", "name"])
def test_first_frame_stands_for_a_film_in_a_list(searcher: Searcher, order: str) -> None:
    hits = searcher.rank(searcher.plan(Query("")), 100, 0, order).hits
    frames = [hit.image.frame for hit in hits if hit.image.frame]
    assert [frame.frame_ms for frame in frames] == [0] * FILMS
    assert len(hits) == FILMS + IMAGES


def test_moments_of_one_film_are_hits_of_their_own(searcher: Searcher) -> None:
    query = Query("rain", filter=SearchFilter(film_sha256=f"{2:064x}"))
    result = searcher.search(query, 100)
    assert (len(result.hits), result.total) == (FRAMES, FRAMES)
    assert {hit.moments for hit in result.hits} == {0}


def test_films_and_images_are_found_apart(searcher: Searcher) -> None:
    films = searcher.search(Query("rain", filter=SearchFilter(kind="frame")), 100)
    images = searcher.search(Query("rain", filter=SearchFilter(kind="image")), 100)
    assert (len(films.hits), films.total) == (FILMS, FILMS)
    assert (len(images.hits), images.total) == (IMAGES, IMAGES)


def test_frame_finds_what_is_similar_and_is_left_out_itself(searcher: Searcher, store: ImageStore) -> None:
    [frame] = store.list_images(limit=1, filter=SearchFilter(film_sha256=f"{3:064x}"))
    result = searcher.search(Query(like=frame.image_id), 100)
    assert frame.image_id not in [hit.image_id for hit in result.hits]
    [own] = [hit for hit in result.hits if hit.image.frame and hit.image.frame.film_sha256 == f"{3:064x}"]
    assert own.moments == FRAMES - 2
    assert len(result.hits) == result.total == FILMS + IMAGES
    [image] = store.list_images(["a.png"], 1) or store.list_images(limit=1, filter=SearchFilter(kind="image"))
    result = searcher.search(Query(like=image.image_id), 5)
    assert result.total == FILMS + IMAGES - 1


def test_list_of_films_that_is_longer_than_may_be_looked_through_ends(
    searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "_MAX_RANKED", 30)
    monkeypatch.setattr(searching, "_STEP", 5)
    pages = [searcher.search(Query("rain"), 4, offset) for offset in range(0, 16, 4)]
    names = [name for page in pages for name in name_hits(page.hits)]
    assert len(names) == len(set(names)) <= FILMS + IMAGES
    assert not pages[-1].has_more


@settings(max_examples=scale(60), deadline=None)
@given(
    films=st.lists(st.one_of(st.none(), st.integers(0, 4)), max_size=60),
    limit=st.integers(1, 9),
    offset=st.integers(0, 30),
    step=st.integers(1, 20),
)
def test_any_order_of_frames_and_images_gives_the_same_as_grouping_all_of_it(films, limit, offset, step) -> None:
    with MemoryStore() as store:
        model = store.get_or_create_model("fake", "1", 4)
        images = [
            replace(make_image(f"{place}.png"), content_sha256=f"{place:064x}")
            if film is None
            else make_frame(film, place)
            for place, film in enumerate(films)
        ]
        rows = np.zeros((len(images), 4), np.float32)
        angles = np.linspace(0, 1, len(images), dtype=np.float32)
        rows[:, 0], rows[:, 1] = np.cos(angles), np.sin(angles)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        store.add_images(model.model_id, images, rows)
        query = np.array([1, 0, 0, 0], np.float32)

        def fetch(limit: int, offset: int):
            found = store.search_embedding(model.model_id, query, limit, offset)
            return found, found.total

        counted = searching.count_films(store, SearchFilter())
        every = store.search_embedding(model.model_id, query, 1000)
        expected = list(dict.fromkeys(name_hits(every)))
        if counted is None:
            assert all(film is None for film in films)
            return
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(searching, "_STEP", step)
            hits, total = searching.group_hits(fetch, limit, offset, counted)
        assert name_hits(hits) == expected[offset : offset + limit]
        assert total == len(expected)
