"""A second model of the library, from its first embedding to its being searched with, with real models on the CPU."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
from PIL import Image

import register_images
from image_search.cli.search import open_searcher
from image_search.library import make_watcher
from image_search.search.query import Query
from image_search.settings import ROOT, Settings


def test_another_model_is_embedded_and_made_current_while_searches_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/library/image_search.db")
    for name in ("DB_USER", "DB_PASSWORD", "DB_DSN", "EMBEDDING_MODEL"):
        monkeypatch.setenv(name, "")
    shutil.copytree(ROOT / "demo" / "model", tmp_path / "demo2")
    monkeypatch.chdir(tmp_path)  # models are found from the current directory, too
    (tmp_path / "pictures").mkdir()
    for number in range(20):
        Image.new("RGB", (32, 32), (number * 12, 90, 40)).save(tmp_path / "pictures" / f"{number}.png")
    assert register_images.main(["pictures"]) == 0

    settings, told, wrong, over = Settings.load(env_file=None), [], [], threading.Event()
    searcher = open_searcher(settings)
    follower = make_watcher(searcher, settings, told.append)
    follower.look()

    def search_on() -> None:
        number = 0
        while not over.wait(0.01):
            try:
                number += 1
                if len(searcher.search(Query(f"赤い車 {number}")).hits) != 16:
                    wrong.append("a page is not full")
            except Exception as error:
                wrong.append(error)

    searching = threading.Thread(target=search_on)
    searching.start()
    try:
        shutil.rmtree(tmp_path / "pictures")  # the stored originals are enough
        assert register_images.main(["--model", "demo2"]) == 0
        follower.look()
        assert searcher.encoder.name == "demo/model"
        assert register_images.main(["--model", "demo2", "--make-current"]) == 0
        follower.look()
        assert searcher.encoder.name == "demo2"
        assert len(told) == 1 and told[0].startswith("Searches use demo2 (")
    finally:
        over.set()
        searching.join()
        searcher.store.close()
    assert wrong == []
    assert "embedded 20" in capsys.readouterr().out
