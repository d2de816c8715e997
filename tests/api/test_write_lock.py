"""A lock of the database that another program holds keeps writes waiting, and nothing else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from image_search.search import Searcher
from tests.fakes import draw_image_bytes
from tests.fakes.api_library import build_small, open_client, open_colours


@pytest.fixture
def searcher(tmp_path: Path) -> Iterator[Searcher]:
    with open_colours(tmp_path) as searcher:
        yield searcher


@pytest.fixture
def client(searcher: Searcher) -> Iterator[TestClient]:
    with open_client(build_small(searcher)) as client:
        yield client


def test_searches_go_on_while_uploads_and_edits_wait_for_a_lock(
    searcher: Searcher, client: TestClient, tmp_path: Path
) -> None:
    [path] = tmp_path.rglob("*.db")
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    before = searcher.store.count_images()
    with ThreadPoolExecutor(6) as workers:
        try:
            colours = ("navy", "olive", "teal")
            uploads = [
                workers.submit(client.post, "/api/images", files={"picture": ("a.png", draw_image_bytes(colour))})
                for colour in colours
            ]
            edit = workers.submit(client.patch, "/api/images/1", json={"rating": 3})
            for text in ("red", "green", "a dog", "another dog"):  # each embedded again
                assert client.post("/api/search", json={"text": text}).status_code == 200
            assert client.post("/api/search", json={"like": 1}).status_code == 200
            assert not any(waiting.done() for waiting in (*uploads, edit))
        finally:
            holder.rollback()
            holder.close()
        assert [upload.result(60).status_code for upload in uploads] == [201] * 3
        assert edit.result(60).status_code == 200
    assert searcher.store.count_images() == before + 3
