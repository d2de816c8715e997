"""When searches are switched to another model, a running program notices and loads it, and no search ever fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_search.encoders.base import Encoder
from image_search.errors import ModelUnavailable
from image_search.library import ModelWatcher
from image_search.search import Searcher
from image_search.search.query import Query
from image_search.settings import Settings
from image_search.stores.base import ImageStore
from image_search.stores.sqlite import SqliteStore
from tests.fakes import COLOURS, FakeEncoder, draw_image, make_image

OLD, NEW = FakeEncoder("old", dimension=16), FakeEncoder("new", dimension=8)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    """Images in the colours, embedded with both models; the old one is current."""
    with SqliteStore.open(Settings(database_url=f"sqlite:///{tmp_path}/image_search.db")) as store:
        for encoder in (OLD, NEW):
            model = store.get_or_create_model(encoder.name, encoder.version, encoder.dimension)
            images = [make_image(f"{colour}.png") for colour in COLOURS]
            store.add_images(model.model_id, images, encoder.encode_images([draw_image(c) for c in COLOURS]))
        yield store


def open_new(name: str) -> Encoder:
    assert name == "new"
    return NEW


def switch(store: ImageStore, name: str) -> None:
    store.set_current_model(next(model.model_id for model in store.list_models() if model.name == name))


def find_nearest(searcher: Searcher, text: str) -> str:
    return searcher.search(Query(text)).hits[0].image.file_name


def test_switch_is_noticed_and_searches_use_the_new_model(store: ImageStore) -> None:
    searcher, told = Searcher(store, OLD), []
    follower = ModelWatcher(searcher, open_new, told.append)
    assert find_nearest(searcher, "green") == "green.png"
    follower.look()
    assert searcher.encoder is OLD and told == []
    switch(store, "new")
    follower.look()
    follower.look()
    assert searcher.encoder is NEW and searcher.get_model().name == "new"
    assert told == ["Searches use new (1) from now on."]
    assert find_nearest(searcher, "green") == "green.png"


def test_query_that_was_planned_before_the_switch_is_answered_to_its_last_page(store: ImageStore) -> None:
    searcher = Searcher(store, OLD)
    plan = searcher.plan(Query("green"))
    first = searcher.rank(plan, limit=4)
    searcher.use(NEW)
    assert searcher.rank(plan, limit=4).hits[0].image_id == first.hits[0].image_id
    assert len(searcher.rank(plan, limit=4, offset=4).hits) == 4


def test_current_model_at_the_first_look_is_not_news(store: ImageStore) -> None:
    switch(store, "new")
    searcher, told = Searcher(store, OLD), []
    follower = ModelWatcher(searcher, open_new, told.append)
    follower.look()
    follower.look()
    assert searcher.encoder is OLD and told == []


def test_model_that_cannot_be_loaded_is_told_once_and_the_old_one_goes_on(store: ImageStore) -> None:
    def fail(name: str) -> Encoder:
        raise ModelUnavailable(f"{name} is not there.")

    searcher, told = Searcher(store, OLD), []
    follower = ModelWatcher(searcher, fail, told.append)
    follower.look()
    switch(store, "new")
    follower.look()
    follower.look()
    assert searcher.encoder is OLD and find_nearest(searcher, "red") == "red.png"
    assert told == [
        "Searches were switched to new, but it cannot be loaded (new is not there.) Searches go on with old; "
        "set EMBEDDING_MODEL and start again."
    ]


def test_other_weights_under_the_same_name_are_refused(store: ImageStore) -> None:
    searcher, told = Searcher(store, OLD), []
    follower = ModelWatcher(searcher, lambda name: FakeEncoder(name, version="2", dimension=8), told.append)
    follower.look()
    switch(store, "new")
    follower.look()
    assert searcher.encoder is OLD and "is version 2, not 1." in told[0]


@pytest.mark.slow
def test_searches_never_fail_while_models_are_switched_to_and_fro(store: ImageStore) -> None:
    searcher = Searcher(store, OLD)
    follower = ModelWatcher(searcher, lambda name: {"old": OLD, "new": NEW}[name], lambda _: None)
    over, wrong = threading.Event(), []

    def search_on() -> None:
        while not over.is_set():
            try:
                if find_nearest(searcher, "blue") != "blue.png":
                    wrong.append("another picture")
            except Exception as error:
                wrong.append(error)

    follower.look()
    searching = threading.Thread(target=search_on)
    searching.start()
    for name in ("new", "old") * 5:
        switch(store, name)
        follower.look()
    over.set()
    searching.join()
    assert wrong == []
