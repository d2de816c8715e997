"""Requests to Milvus and its answers: expressions, the lock of a server, the order of neighbours, refusals."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from milvus_lite.search.filter.parser import parse_expr
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from image_search.errors import StoreError, StoreUnavailable
from image_search.records import ImageText, SearchFilter
from image_search.settings import ROOT, Settings
from image_search.stores import open_store
from image_search.stores.milvus import MilvusStore, queries
from image_search.stores.milvus import client as milvus_lock
from image_search.stores.milvus.client import WRITERS, explain_error, writer_lock
from image_search.stores.milvus.queries import find_nearest
from image_search.stores.milvus.schema import list_conditions, match_phrase, tokenize_query
from tests.fakes import make_embeddings, make_image, make_images, milvus_server
from tests.fakes.examples import scale

pytestmark = pytest.mark.engine("milvus")

texts = st.one_of(st.text(), st.text("\"'\\%_[](){}&|\n\r猫a "), st.text(st.characters()))


@settings(deadline=None, max_examples=scale(200))
@given(texts, texts, texts, st.lists(texts, max_size=3))
def test_no_text_breaks_out_of_an_expression(folder: str, generator: str, keyword: str, words: list[str]) -> None:
    chosen = SearchFilter(
        folder=folder, generator=generator, generation_model=generator, keyword=keyword, file_types=(folder, keyword)
    )
    conditions = [*list_conditions(chosen), *(match_phrase(tokenize_query(word), [1, 2]) for word in words)]
    for condition in conditions:
        parse_expr(condition)
        assert condition.count('"') % 2 == 0
        assert "\\" not in condition
    assert len(conditions) == 5 + len(words)


# --- the lock of a server --------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with milvus_server.served(tmp_path / "shared.db") as url:
        yield url


def connect(server: str) -> Any:
    return MilvusClient(server.replace("milvus://", "http://"), dedicated=True)


def test_lock_is_held_by_one_at_a_time(server: str) -> None:
    inside, most = [0], [0]

    def work(_: int) -> None:
        client = connect(server)
        for _ in range(4):
            with writer_lock(client, server):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.002)
                inside[0] -= 1
        client.close()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    assert most == [1]


def hold(client: Any, since: float) -> None:
    """Another program that took the lock at some time."""
    with writer_lock(client, "anywhere"):
        pass
    client.upsert(WRITERS, [{"holder": "other", "number": 1, "since": int(since), "nothing": [0.0, 0.0]}])


def test_lock_that_is_held_is_waited_for_but_not_for_ever(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(milvus_lock, "_WAIT_SECONDS", 0.1)
    client = connect(server)
    hold(client, time.time())
    with pytest.raises(StoreUnavailable, match="held by another program"), writer_lock(client, server):
        pass
    assert [row["holder"] for row in client.query(WRITERS, filter="number >= 0")] == ["other"]


def test_lock_of_a_program_that_died_long_ago_is_broken(server: str) -> None:
    client = connect(server)
    hold(client, time.time() - 3600)
    with writer_lock(client, server):
        pass
    assert client.query(WRITERS, filter="number >= 0") == []


def test_two_handles_share_a_library_on_a_server(server: str, tmp_path: Path) -> None:
    chosen = Settings(database_url=server, originals_url=str(tmp_path / "originals"))
    with open_store(chosen) as first, open_store(chosen) as second:
        model = first.get_or_create_model("fake", "1", 16)
        assert second.get_or_create_model("fake", "1", 16) == model
        image_ids = first.add_images(model.model_id, make_images(5), make_embeddings(5))
        assert second.add_images(model.model_id, make_images(5), make_embeddings(5)) == image_ids
        assert [hit.image_id for hit in second.search_embedding(1, make_embeddings(5)[3], 1)] == [image_ids[3]]
        second.delete_images(image_ids[:1])
        assert first.list_image_ids() == image_ids[1:]
        assert first.get_status().location == server


def test_writer_that_lost_the_lock_changes_nothing(server: str, tmp_path: Path) -> None:
    chosen = Settings(database_url=server, originals_url=str(tmp_path / "originals"))
    with open_store(chosen) as store:
        assert isinstance(store, MilvusStore)
        model = store.get_or_create_model("fake", "1", 16)
        store.originals = LosesLock(store.originals, connect(server))  # type: ignore[assignment]
        with pytest.raises(StoreUnavailable, match="another program writes now"):
            store.add_images(model.model_id, make_images(3), make_embeddings(3))
        assert store.count_images() == 0
        assert len(store.list_models()) == 1
    with open_store(chosen) as store:
        assert len(store.add_images(model.model_id, make_images(3), make_embeddings(3))) == 3
        assert store.count_images() == len(store.list_images()) == 3


class LosesLock:
    """Originals that take so long that another program breaks the lock."""

    def __init__(self, originals: Any, client: Any) -> None:
        self._originals = originals
        self._client = client

    def write(self, contents: dict[str, bytes]) -> None:
        self._client.delete(WRITERS, filter="number >= 0")
        self._originals.write(contents)


def test_index_of_the_manual_finds_nearly_the_same(server: str, tmp_path: Path) -> None:
    chosen = Settings(database_url=server, originals_url=str(tmp_path / "originals"))
    with open_store(chosen) as store:
        model = store.get_or_create_model("fake", "1", 16)
        texts = [ImageText(generator="rare" if n % 10 == 0 else "often") for n in range(200)]
        images = [make_image(f"{n}.png", text) for n, text in enumerate(texts)]
        store.add_images(model.model_id, images, make_embeddings(200))
        query, rare = make_embeddings(1, seed=1)[0], SearchFilter(generator="rare")
        exact = store.search_embedding(model.model_id, query)
        manual = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
        [program] = re.findall(r"^```python\n(from pymilvus.*?)^```", manual, re.DOTALL | re.MULTILINE)
        exec(program.replace("http://localhost:19530", server.replace("milvus://", "http://")), {})
        connect(server).flush("image_search_vectors_1")  # Milvus Lite indexes what is on disk
        found = store.search_embedding(model.model_id, query)
        assert len({hit.image_id for hit in found} & {hit.image_id for hit in exact}) >= 15
        assert len(store.search_embedding(model.model_id, query, 100, filter=rare)) >= 15


# --- neighbours ------------------------------------------------------------------------------------------------------


def test_pages_are_exact_to_the_end_whatever_a_search_gives_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "MAX_RESULTS", 40)
    random = np.random.default_rng(0)
    embeddings = make_embeddings(60, 4)[random.integers(0, 60, 400)]  # each of them several times
    query = make_embeddings(1, 4, seed=1)[0]
    products = embeddings @ query + random.uniform(-1e-7, 1e-7, 400)  # as rounding does

    def search(count: int, upto: float | None, without: list[int]) -> dict[int, float]:
        assert count <= 40
        allowed = [n for n in range(400) if n not in without and (upto is None or products[n] <= upto)]
        return {n: float(products[n]) for n in sorted(allowed, key=lambda n: -products[n])[:count]}

    exact = (embeddings.astype(np.float64) * query).sum(axis=1)
    wanted = sorted(range(400), key=lambda n: (-exact[n], n))
    read = {n: embeddings[n] for n in range(400)}
    for offset in range(0, 420, 35):
        page = find_nearest(search, lambda ids: {n: read[n] for n in ids}, query, offset, 35)
        assert [n for n, _ in page] == wanted[offset : offset + 35]
        assert [distance for _, distance in page] == pytest.approx(-exact[wanted[offset : offset + 35]], abs=1e-6)


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "kind", "advice"),
    [
        ("server unavailable: dial tcp", StoreUnavailable, "Check the server"),
        ("auth check failure, please check username", StoreError, "Check the user"),
        ("quota exceeded\nstack", StoreError, "refused: quota exceeded"),
    ],
)
def test_refusal_is_one_sentence_with_what_to_do(message: str, kind: type[StoreError], advice: str) -> None:
    error = explain_error(MilvusException(message=message), "milvus://host:19530")
    assert type(error) is kind
    assert advice in str(error)
    assert "\n" not in str(error)


def test_times_are_compared_to_the_microsecond() -> None:
    moment = datetime(2024, 1, 2, 3, 4, 5, 678901)
    assert list(list_conditions(SearchFilter(taken_from=moment))) == ["taken_at >= 1704164645678901"]
