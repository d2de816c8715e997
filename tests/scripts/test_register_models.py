"""A second model of the library, from its first embedding to its being searched with, with real models on the CPU."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
from PIL import Image

import register_images
from image_search.cli.health import check_library
from image_search.cli.search import open_searcher
from image_search.errors import ModelUnavailable
from image_search.library import check_choice, list_choices, make_model_change, make_watcher
from image_search.registration.jobs import Job, JobControl
from image_search.registration.pipeline import ImageReader
from image_search.search.query import Query
from image_search.settings import ROOT, Settings
from image_search.stores import open_store


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


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a new library; three pictures lie in the folder pictures."""
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/library/image_search.db")
    for name in ("DB_USER", "DB_PASSWORD", "DB_DSN", "EMBEDDING_MODEL"):
        monkeypatch.setenv(name, "")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for colour in ("red", "green", "blue"):
        Image.new("RGB", (32, 32), colour).save(tmp_path / "pictures" / f"{colour}.png")
    return Settings.load(env_file=None)


def copy_model(folder: Path) -> Path:
    return Path(shutil.copytree(ROOT / "demo" / "model", folder))


def list_models(settings: Settings) -> dict[str, tuple[int, bool]]:
    with open_store(settings) as store:
        return {model.name: (count, model.is_current) for model, count in store.get_status().models}


def test_model_that_cannot_be_loaded_is_not_one_of_the_library(
    library: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = copy_model(tmp_path / "broken") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500_000])
    assert register_images.main(["--model", str(tmp_path / "broken"), "pictures"]) != 0
    assert "cannot be loaded" in capsys.readouterr().err
    assert list_models(library) == {}
    assert register_images.main(["pictures"]) == 0
    assert list_models(library) == {"demo/model": (3, True)}


def test_current_model_without_embeddings_gives_way_as_the_check_advises(
    library: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_store(library) as store:
        store.get_or_create_model("somebody/broken", "0", 16)
    assert register_images.main(["--model", "demo/model", "pictures"]) == 0
    assert "Searches use demo/model (" in capsys.readouterr().err
    assert list_models(library) == {"somebody/broken": (0, False), "demo/model": (3, True)}
    with open_store(library) as store:
        store.set_current_model(store.get_or_create_model("somebody/broken", "0", 16).model_id)
        [advice] = [finding.remedy for finding in check_library(store) if finding.name == "model 1"]
    assert advice.endswith("if it cannot be loaded, --model demo/model replaces it")
    assert register_images.main(["--model", "demo/model"]) == 0
    assert list_models(library)["demo/model"] == (3, True)


def test_model_in_a_folder_elsewhere_is_found_again_from_any_folder(
    library: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_model(tmp_path / "models" / "my-clip")
    assert register_images.main(["pictures"]) == 0
    told: list[str] = []
    searcher = open_searcher(library)
    follower = make_watcher(searcher, library, told.append)
    follower.look()
    assert register_images.main(["--model", str(folder), "--make-current"]) == 0
    monkeypatch.chdir(tmp_path / "pictures")
    follower.look()
    assert searcher.encoder.name == "my-clip"

    with searcher.store as store:
        assert register_images.main(["--model", "demo/model", "--make-current"]) == 0
        change = make_model_change(store, library, ImageReader(), searcher.use)
        check_choice("my-clip", list_choices(store, library, "demo/model"), library)
        change("my-clip", JobControl(Job(1, "model", "my-clip")))
        assert searcher.encoder.name == "my-clip"

        folder.rename(tmp_path / "moved")
        choices = list_choices(store, library, "demo/model")
        assert {choice.name: choice.obstacle for choice in choices}["my-clip"] == "folder"
        for refuse in (
            lambda: check_choice("my-clip", choices, library),
            lambda: change("my-clip", JobControl(Job(1, "model", "my-clip"))),
        ):
            with pytest.raises(
                ModelUnavailable, match="The folder of the model my-clip is not there any more"
            ) as raised:
                refuse()
            assert raised.value.code == "no_folder"
